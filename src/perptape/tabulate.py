"""Events to tables: each segment becomes a sorted run, and the runs are merged by time.

Memory is bounded whatever the tape's length: one batch of frames, one batch of rows for each run
that overlaps in time, and one row group for each partition being written.
"""

import hashlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perptape import __version__, tables
from perptape.decode import quote_row
from perptape.errors import Failed
from perptape.events import Event
from perptape.instruments import base_of, price_unit
from perptape.ledger import Interval, Ledger, Result, planned
from perptape.tables import Manifest, PartitionWriter, TableFile, date_of
from perptape.tape import Batch, Tape

ROWS_HELD = 1 << 16
"""Rows of all coins collected before they are written to their runs."""
Progress = Callable[[int, int], None]
"""Told how many frames are read, and how many there are."""


class Tabulated(msgspec.Struct, frozen=True):
    """What was made, and where."""

    root: Path
    manifest: Manifest
    result: Result


def tabulate(
    tape_path: Path, out: Path | None = None, *, progress: Progress | None = None
) -> Tabulated:
    """Make all tables of a tape, in ``out`` or ``TAPE/tables``.

    The same tape gives the same bytes. Raises Failed where the directory cannot be written.
    """
    tape = Tape(tape_path)
    root = out or tape_path / "tables"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".runs-", dir=root) as scratch:
            return _tabulate(tape, root, Path(scratch), progress)
    except OSError as error:
        raise Failed(
            f"The tables cannot be written in {root} ({error.strerror or error}): "
            "free the space or choose another place with --out."
        ) from error


def fresh(tape_path: Path, *, progress: Progress | None = None) -> Path:
    """Give the directory of the tape's tables, making them if they are not those of the tape."""
    root = tape_path / "tables"
    tape = Tape(tape_path)
    mark = _fingerprint(tape)
    manifest = tables.read_manifest(root)
    if not mark or manifest is None or manifest.source != mark:
        tabulate(tape_path, progress=progress)
    return root


def _fingerprint(tape: Tape) -> str:
    """Name a finished tape by what it holds and by our version; empty while it still grows."""
    if any(segment.state in {"open", "tail"} for segment in tape.segments):
        return ""
    text = [f"{s.name} {s.sha256} {s.frames} {s.bytes}" for s in tape.segments]
    return hashlib.sha256("\n".join([__version__, *text]).encode()).hexdigest()


def _tabulate(tape: Tape, root: Path, scratch: Path, progress: Progress | None) -> Tabulated:
    runs = Runs(scratch)
    ledger = Ledger(planned(tape))
    rows = QuoteRows(ledger, runs)
    total = sum(segment.frames for segment in tape.segments)
    for batch in tape.batches():
        runs.follow(batch)
        ledger.batch(batch, rows.add)
        if progress is not None:
            progress(ledger.frames, total)
    rows.flush()
    runs.close()
    result = ledger.finish()
    for table in tables.SCHEMAS:
        shutil.rmtree(root / table, ignore_errors=True)
    made = [
        *_write_quotes(root, runs),
        *_write_ledger(root, result.intervals),
        *_write_instruments(root, result),
    ]
    counts = {"bad": result.bad, "undecoded": result.undecoded, "unnamed": result.unnamed}
    manifest = Manifest(
        source=_fingerprint(tape), files=sorted(made, key=lambda f: f.path), notes=counts
    )
    tables.write_manifest(root, manifest)
    return Tabulated(root, manifest, result)


class Runs:
    """Sorted stretches of rows on disk, one file for each coin and stretch of rising time."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._files: dict[str, list[Path]] = defaultdict(list)
        self._writers: dict[str, pa.ipc.RecordBatchFileWriter] = {}
        self._last = -(1 << 63)
        self._on_turn: list[Callable[[], None]] = []

    def before_turn(self, call: Callable[[], None]) -> None:
        """Have ``call`` write what belongs to this run before the next one begins."""
        self._on_turn.append(call)

    def follow(self, batch: Batch) -> None:
        """Begin new runs where time falls."""
        if not len(batch):
            return
        if int(batch.ts_recv[0]) < self._last:
            for call in self._on_turn:
                call()
            self.close()
        self._last = int(batch.ts_recv[-1])

    def write(self, base: str, rows: pa.Table) -> None:
        if base not in self._writers:
            number = len(self._files[base])
            path = self._scratch / f"{base}-{number:06d}.arrow"
            self._files[base].append(path)
            self._writers[base] = pa.ipc.new_file(path, rows.schema)
        self._writers[base].write_table(rows)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def merged(self) -> Iterator[tuple[str, Iterator[pa.Table]]]:
        """Give for each coin its rows in order of ``ts_recv``, then ``seq``, then position."""
        for base in sorted(self._files):
            yield base, merge([Run(path) for path in self._files[base]])


RUN_SCHEMA = pa.schema(
    [
        ("venue", pa.string()),
        ("instrument", pa.string()),
        ("seq", pa.uint64()),
        *[(name, pa.int64()) for name in ("ts_recv", "ts_event", "ts_send")],
        *[(name, pa.float64()) for name in ("bid_price", "bid_size", "ask_price", "ask_size")],
        ("update_id", pa.int64()),
    ]
)
"""Plain columns, in the order of :func:`QuoteRows.add`."""


class QuoteRows:
    """Collects quotes as columns, a coin at a time."""

    def __init__(self, ledger: Ledger, runs: Runs) -> None:
        self._registry = ledger.registry
        self._runs = runs
        self._held: dict[str, list[tuple[object, ...]]] = defaultdict(list)
        self._count = 0
        self._names: dict[str, tuple[str, str, float, list[tuple[object, ...]]]] = {}
        runs.before_turn(self.flush)

    def add(self, seq: int, ts_recv: int, quote: Event, market: str) -> None:
        known = self._names.get(market)
        if known is None:
            venue, name = market.split(":", 1)
            unit = price_unit(quote.symbol, name)
            known = self._names[market] = (venue, name, unit, self._held[base_of(name)])
        venue, name, unit, held = known
        row = quote_row(quote, self._registry.find(venue, quote.symbol), unit)
        held.append(
            (
                venue,
                name,
                seq,
                ts_recv,
                quote.ts_event,
                quote.ts_send,
                *row,
                quote.update_id,
            )
        )
        self._count += 1
        if self._count >= ROWS_HELD:
            self.flush()

    def flush(self) -> None:
        """Write what is held, every coin to its run."""
        self._count = 0
        for base in self._held:
            self._write(base)

    def _write(self, base: str) -> None:
        held = self._held[base]
        if held:
            columns = [
                pa.array(values, field.type)
                for values, field in zip(zip(*held, strict=True), RUN_SCHEMA, strict=True)
            ]
            self._runs.write(base, pa.Table.from_arrays(columns, schema=RUN_SCHEMA))
            held.clear()


class Run:
    """One sorted file, read a batch at a time."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._at = 0
        self.rows = RUN_SCHEMA.empty_table()
        self.first = 0
        if self.more():
            self.first = self.rows["ts_recv"][0].as_py()

    def more(self) -> bool:
        """Append the next batch; False at the end."""
        if self._at >= self._reader.num_record_batches:
            return False
        fresh_rows = pa.Table.from_batches([self._reader.get_batch(self._at)])
        self.rows = pa.concat_tables([self.rows, fresh_rows])
        self._at += 1
        return True

    @property
    def ended(self) -> bool:
        return bool(self._at >= self._reader.num_record_batches)

    def take_before(self, ts: int) -> pa.Table:
        """Remove and give the rows before ``ts``."""
        times = self.rows["ts_recv"].to_numpy()
        cut = int(np.searchsorted(times, ts, side="left"))
        taken, self.rows = self.rows.slice(0, cut), self.rows.slice(cut)
        return taken


END = (1 << 63) - 1


def merge(runs: list[Run]) -> Iterator[pa.Table]:
    """Merge sorted runs; only those that overlap in time are held, a batch or so of each."""
    waiting = sorted(runs, key=lambda run: run.first, reverse=True)
    active: list[Run] = []
    while active or waiting:
        while waiting and (not active or waiting[-1].first <= _reach(active)):
            active.append(waiting.pop())
        limit = min(_reach(active), waiting[-1].first if waiting else END)
        parts = [part for run in active if (part := run.take_before(limit)).num_rows]
        if parts:
            yield _sorted(parts)
        for run in active:
            if not run.ended and _last(run) <= limit:
                run.more()
        active = [run for run in active if run.rows.num_rows or not run.ended]


def _last(run: Run) -> int:
    return int(run.rows["ts_recv"][-1].as_py()) if run.rows.num_rows else -END


def _reach(active: Iterable[Run]) -> int:
    """Up to where every active run is known: rows before it can be given out."""
    return min((END if run.ended else _last(run) for run in active), default=END)


def _sorted(parts: list[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    rows = pa.concat_tables(parts)
    order = np.lexsort((rows["seq"].to_numpy(), rows["ts_recv"].to_numpy()))
    return rows.take(pa.array(order))


def _write_quotes(root: Path, runs: Runs) -> Iterator[TableFile]:
    for base, parts in runs.merged():
        yield from _write_dated(root, "quotes", base, parts)


def _write_dated(
    root: Path, table: str, base: str, parts: Iterable[pa.Table]
) -> Iterator[TableFile]:
    """Write rows that come in order of time, a file for each UTC day."""
    day, writer = "", None
    for part in parts:
        for date, rows in _by_day(part):
            if date != day:
                if writer is not None:
                    yield writer.close()
                day, writer = date, PartitionWriter(root, table, base=base, date=date)
            if writer is not None:
                writer.write(_encoded(table, rows))
    if writer is not None:
        yield writer.close()


DAY_NS = 86_400 * 1_000_000_000


def _by_day(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    days = rows["ts_recv"].to_numpy() // DAY_NS
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    for start, stop in zip(starts, [*starts[1:], len(days)], strict=True):
        yield date_of(int(days[start]) * DAY_NS), rows.slice(start, stop - start)


def _encoded(table: str, rows: pa.Table) -> pa.Table:
    schema = tables.SCHEMAS[table]
    columns = []
    for field in schema:
        column = rows[field.name]
        if pa.types.is_dictionary(field.type):
            column = pc.dictionary_encode(column)
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _write_ledger(root: Path, intervals: list[Interval]) -> Iterator[TableFile]:
    by_part: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for interval in intervals:
        name = interval.market.split(":", 1)[1]
        by_part[base_of(name), date_of(interval.start)].append(interval)
    for (base, date), rows in sorted(by_part.items()):
        rows.sort(key=lambda i: (i.start, i.end, i.market, i.channel))
        writer = PartitionWriter(root, "ledger", base=base, date=date)
        writer.write(_ledger_rows(rows))
        yield writer.close()


def _ledger_rows(rows: list[Interval]) -> pa.Table:
    markets = [i.market.split(":", 1) for i in rows]
    columns: dict[str, list[object]] = {
        "venue": [venue for venue, _ in markets],
        "instrument": [name for _, name in markets],
        "channel": [i.channel for i in rows],
        "ts_start": [i.start for i in rows],
        "ts_end": [i.end for i in rows],
        "state": ["trusted" if i.trusted else "untrusted" for i in rows],
        "reason": [i.reason for i in rows],
        "detail": [i.detail for i in rows],
    }
    return _table("ledger", columns)


def _table(table: str, columns: dict[str, list[object]]) -> pa.Table:
    plain = {}
    for field in tables.SCHEMAS[table]:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = pa.string()
        elif pa.types.is_timestamp(kind):
            kind = pa.int64()
        plain[field.name] = pa.array(columns[field.name], kind)
    return _encoded(table, pa.table(plain))


def _write_instruments(root: Path, result: Result) -> Iterator[TableFile]:
    by_date: dict[str, dict[tuple[object, ...], dict[str, object]]] = defaultdict(dict)
    for item in result.instruments:
        row = msgspec.structs.asdict(item)
        row["instrument"] = row.pop("name")
        key = tuple(value for name, value in sorted(row.items()) if name != "ts_seen")
        by_date[date_of(item.ts_seen)].setdefault(key, row)
    for date, rows in sorted(by_date.items()):
        ordered = sorted(
            rows.values(), key=lambda r: (str(r["venue"]), str(r["symbol"]), str(r["ts_seen"]))
        )
        writer = PartitionWriter(root, "instruments", date=date)
        names = tables.SCHEMAS["instruments"].names
        writer.write(_table("instruments", {n: [r[n] for r in ordered] for n in names}))
        yield writer.close()
