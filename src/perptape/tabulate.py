"""Events to tables: each stretch of rising time becomes a sorted run, and the runs are merged.

Memory is bounded whatever the tape's length: one batch of frames, ``ROWS_HELD`` rows, a batch of
rows for each run that overlaps in time, and one row group of the partition being written.
"""

import atexit
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from perptape import __version__, tables
from perptape.columns import Quotes, columns
from perptape.decode import Terms
from perptape.errors import BadUsage, Failed
from perptape.events import CHANNELS, Book, Event, Quote
from perptape.instruments import Instrument, base_of
from perptape.ledger import Heard, Ledger, Result, asked, end_of, is_long
from perptape.runs import Runs, by_day, run_schema
from perptape.schemas import SCHEMAS
from perptape.tables import Manifest, PartitionWriter, TableFile, date_of
from perptape.tape import Batch, Tape
from perptape.timeline import Interval

ROWS_HELD = 1 << 12
"""Rows of all coins collected before they become columns, few enough to stay in the processor's
cache; a batch may add to it."""
BOOKS_HELD = 1 << 8
"""Likewise updates of books, each of which makes many rows."""
SIDES = {"trades": ("buy", "sell"), "books": ("bid", "ask")}
NOT_OURS = {errno.EROFS, errno.EACCES, errno.EPERM}
"""What a tape on a disk that is not ours to write answers."""
LOCK = "lock"
BUILDING = ".new-"

Progress = Callable[[int, int], None]
"""Told how many frames are read, and how many there are."""


class Tabulated(msgspec.Struct, frozen=True):
    """What was made, and where."""

    root: Path
    manifest: Manifest
    result: Result
    in_bulk: int = 0
    """Quotes that needed no parser: they were exactly of a form that was learned."""


def tabulate(
    tape_path: Path, out: Path | None = None, *, progress: Progress | None = None
) -> Tabulated:
    """Make all tables of a tape, in ``out`` or ``TAPE/tables``.

    The same tape gives the same bytes. Until all are made those that were there stay, and another
    process that makes them waits. Raises Failed where the directory cannot be written.
    """
    root = out or tape_path / "tables"
    if tables.imported(tape_path):
        raise BadUsage(
            f"{tape_path} holds imported tables and no tape to make any from: they are ready, "
            f"as in perptape report {tape_path}."
        )
    try:
        return _tabulate(tape_path, root, progress)
    except OSError as error:
        raise _failed(root, error) from error


def fresh(tape_path: Path, *, progress: Progress | None = None) -> Path:
    """Give the directory of the tape's tables, making them if they are not those of the tape.

    Where the tape cannot be written they are made in a temporary directory, which is said.
    Raises Failed if imported tables, which cannot be made again, are not what was written.
    """
    root = tape_path / "tables"
    if manifest := tables.imported(tape_path):
        if not _is_whole(root, manifest.manifest_sha256):
            raise Failed(
                f"The imported tables in {root} are not what was written: "
                f"see where with perptape verify {tape_path}, and import again."
            )
        return root
    if _is_fresh(root, Tape(tape_path)):
        return root
    try:
        _tabulate(tape_path, root, progress)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise _failed(root, error) from error
        return _fresh_elsewhere(tape_path, progress)
    return root


def at_hand(tape_path: Path) -> Path | None:
    """Give the tables if they are there and of the tape as it is; nothing is made or hashed."""
    root = tape_path / "tables"
    if tables.imported(tape_path):
        return root
    mark, manifest = _fingerprint(Tape(tape_path)), _manifest(root)
    return root if mark and manifest and manifest.source == mark else None


def _fresh_elsewhere(tape_path: Path, progress: Progress | None) -> Path:
    root = _elsewhere(tape_path.resolve())
    if not _is_fresh(root, Tape(tape_path)):
        words = "%s cannot be written: its tables are made in %s, until this program ends"
        logging.getLogger(__name__).warning(words, tape_path, root)
        tabulate(tape_path, root, progress=progress)
    return root


@lru_cache
def _elsewhere(tape_path: Path) -> Path:
    root = Path(tempfile.mkdtemp(prefix="perptape-")) / tape_path.name / "tables"
    atexit.register(shutil.rmtree, root.parent.parent, ignore_errors=True)
    return root


def _failed(root: Path, error: OSError) -> Failed:
    return Failed(
        f"The tables cannot be written in {root} ({error.strerror or error}): "
        "free the space or choose another place with --out."
    )


def _is_fresh(root: Path, tape: Tape) -> bool:
    mark, manifest = _fingerprint(tape), _manifest(root)
    if not mark or manifest is None or manifest.source != mark:
        return False
    return _is_whole(root, manifest.manifest_sha256)


def _manifest(root: Path) -> Manifest | None:
    try:
        return tables.read_manifest(root)
    except Failed:
        return None  # its tables can be made again


@lru_cache
def _is_whole(root: Path, manifest_sha256: str) -> bool:
    """Compare every file with its hash, once in a process for one making of the tables."""
    manifest = _manifest(root)
    return (
        manifest is not None
        and manifest.manifest_sha256 == manifest_sha256
        and not tables.damaged(root, manifest)
    )


def _fingerprint(tape: Tape) -> str:
    """Name a finished tape by what it holds and by our version; empty while it still grows."""
    if any(segment.state in {"open", "tail"} for segment in tape.segments):
        return ""
    text = [f"{s.name} {s.sha256} {s.frames} {s.bytes}" for s in tape.segments]
    return hashlib.sha256("\n".join([__version__, *text]).encode()).hexdigest()


def _tabulate(tape_path: Path, root: Path, progress: Progress | None) -> Tabulated:
    tape = Tape(tape_path)
    with alone(root), tempfile.TemporaryDirectory(prefix=BUILDING, dir=root) as place:
        fresh_root, scratch = Path(place, "tables"), Path(place, "runs")
        scratch.mkdir()
        runs = Runs(scratch)
        ledger = _read(tape, runs, progress)
        result = ledger.finish(*end_of(tape))
        made = [
            *_write_heard(fresh_root, runs, ledger.terms),
            *write_ledger(fresh_root, result.intervals),
            *write_instruments(fresh_root, result.instruments),
        ]
        counts = {"bad": result.bad, "undecoded": result.undecoded, "unnamed": result.unnamed}
        manifest = Manifest(
            source=_fingerprint(tape), files=sorted(made, key=lambda f: f.path), notes=counts
        )
        sealed = tables.replace_all(root, fresh_root, manifest)
        return Tabulated(root, sealed, result, ledger.lanes.taken if ledger.lanes else 0)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Make the directory, be its only writer, and clear what a killed one left."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for left in root.glob(f"{BUILDING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(held)


def _read(tape: Tape, runs: Runs, progress: Progress | None) -> Ledger:
    ledger = Ledger(asked(tape), tape.expired, in_bulk=is_long(tape))
    rows = Rows(ledger.terms, runs)
    total = sum(segment.frames for segment in tape.segments)
    for batch in tape.batches():
        rows.follow(batch)
        ledger.batch(batch, rows.heard)
        if progress is not None:
            progress(ledger.frames, total)
    rows.flush()
    return ledger


class Rows:
    """Collects events and writes them as columns, every channel and coin to its run."""

    def __init__(self, terms: Sequence[Terms], runs: Runs) -> None:
        self._terms, self._runs = terms, runs
        self.heard = {event: Heard() for event in CHANNELS}
        """Where the ledger puts what it hears."""
        self._last = 0

    def follow(self, batch: Batch) -> None:
        """Make room for a batch; begin new runs where time falls."""
        for event, heard in self.heard.items():
            if len(heard) >= (BOOKS_HELD if event is Book else ROWS_HELD):
                self._write(CHANNELS[event], heard)
        if len(batch):
            if int(batch.ts_recv[0]) < self._last:
                self.flush()
                self._runs.turn()
            self._last = int(batch.ts_recv[-1])

    def flush(self) -> None:
        """Write what is held."""
        for event, heard in self.heard.items():
            self._write(CHANNELS[event], heard)

    def _write(self, channel: str, heard: Heard) -> None:
        if not len(heard):
            return
        seq, ts_recv, at, events = _in_columns(heard)
        made, counts = columns(channel, events, self._terms, at)
        whose = {"terms": pa.array(at), "seq": pa.array(seq), "ts_recv": pa.array(ts_recv)}
        if counts is not None:
            of_rows = np.repeat(np.arange(len(at)), counts)
            at = at[of_rows]
            whose = {name: column.take(pa.array(of_rows)) for name, column in whose.items()}
        heard.clear()
        schema = run_schema(channel)
        named = whose | made
        rows = pa.table([named[f.name].cast(f.type) for f in schema], schema=schema)
        if rows.num_rows:
            self._share_out(channel, rows, at)

    def _share_out(self, channel: str, rows: pa.Table, at: NDArray[np.int32]) -> None:
        bases = [base_of(t.market.partition(":")[2]) for t in self._terms]
        numbers = {base: number for number, base in enumerate(dict.fromkeys(bases))}
        of_rows = np.array([numbers[base] for base in bases])[at]
        for base, number in numbers.items():
            own = np.flatnonzero(of_rows == number)
            if len(own):
                part = rows if len(own) == len(at) else rows.take(pa.array(own))
                self._runs.write(channel, base, part)


def _in_columns(
    heard: Heard,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32], Sequence[Event] | Quotes]:
    """Give what is held: (seq, ts_recv, terms, events), in the order of the tape."""
    seq, ts_recv = np.array(heard.seq, np.uint64), np.array(heard.ts_recv, np.int64)
    at = np.array(heard.terms, np.int32)
    blocks = heard.blocks
    if not blocks:
        return seq, ts_recv, at, heard.events
    told = [q for q in heard.events if isinstance(q, Quote)]
    quotes = Quotes.joined([*(b.quotes for b in blocks), *([Quotes.of(told)] if told else [])])
    seq = np.concatenate([*(b.seq for b in blocks), seq])
    ts_recv = np.concatenate([*(b.ts_recv for b in blocks), ts_recv])
    at = np.concatenate([*(b.terms for b in blocks), at])
    if told:
        order = np.argsort(seq, kind="stable")
        return seq[order], ts_recv[order], at[order], quotes.taken(order)
    return seq, ts_recv, at, quotes


def _write_heard(root: Path, runs: Runs, terms: Sequence[Terms]) -> Iterator[TableFile]:
    for channel, base, parts in runs.merged():
        day, writer = None, None
        for part in parts:
            for begin, rows in by_day(part):
                if writer is None or begin != day:
                    if writer is not None:
                        yield writer.close()
                    day = begin
                    writer = PartitionWriter(root, channel, base=base, date=date_of(begin))
                writer.write(_rows(channel, rows, terms, base))
        if writer is not None:
            yield writer.close()


def _rows(channel: str, rows: pa.Table, terms: Sequence[Terms], base: str) -> pa.Table:
    """Name the markets, by dictionaries that are the same in every part of a coin's files."""
    split = [t.market.split(":", 1) for t in terms]
    at = rows["terms"].to_numpy()
    named = {name: rows[name] for name in rows.schema.names if name != "terms"}
    for k, name in enumerate(("venue", "instrument")):
        words = sorted({one[k] for one in split if base_of(one[1]) == base})
        codes = np.array([words.index(w[k]) if w[k] in words else -1 for w in split], np.int32)
        named[name] = pa.DictionaryArray.from_arrays(pa.array(codes[at]), pa.array(words))
    if "side" in named:
        named["side"] = _sides(channel, named["side"])
    schema = SCHEMAS[channel]
    return pa.table({name: named[name] for name in schema.names}).cast(schema)


def _sides(channel: str, column: pa.ChunkedArray) -> pa.Array:
    """Code both words whether they are there or not, so that files do not depend on the cut."""
    words = pa.array(SIDES[channel])
    codes = pc.index_in(column.combine_chunks(), value_set=words)
    return pa.DictionaryArray.from_arrays(codes, words)


def write_ledger(root: Path, intervals: Iterable[Interval]) -> Iterator[TableFile]:
    by_part: dict[tuple[str, str], list[Interval]] = defaultdict(list)
    for interval in intervals:
        name = interval.market.split(":", 1)[1]
        by_part[base_of(name), date_of(interval.start)].append(interval)
    for (base, date), rows in sorted(by_part.items()):
        rows.sort(key=lambda i: (i.start, i.end, i.market, i.channel))
        writer = PartitionWriter(root, "ledger", base=base, date=date)
        writer.write(_table("ledger", [_ledger_row(i) for i in rows]))
        yield writer.close()


def _ledger_row(interval: Interval) -> dict[str, object]:
    venue, _, instrument = interval.market.partition(":")
    return {
        "venue": venue,
        "instrument": instrument,
        "channel": interval.channel,
        "ts_start": interval.start,
        "ts_end": interval.end,
        "state": "trusted" if interval.trusted else "untrusted",
        "reason": interval.reason,
        "detail": interval.detail,
    }


def read_ledger(root: Path) -> Iterator[Interval]:
    """Give back what :func:`write_ledger` wrote, in order of time."""
    rows = tables.scan(root, "ledger").sort("ts_start", "ts_end", maintain_order=True)
    times = pl.col("ts_start", "ts_end").cast(pl.Int64)
    for row in rows.with_columns(times).collect().iter_rows(named=True):
        yield Interval(
            market=f"{row['venue']}:{row['instrument']}",
            channel=row["channel"],
            start=row["ts_start"],
            end=row["ts_end"],
            trusted=row["state"] == "trusted",
            reason=row["reason"],
            detail=row["detail"] or "",
        )


def write_instruments(root: Path, listed: Iterable[Instrument]) -> Iterator[TableFile]:
    by_date: dict[str, dict[Instrument, dict[str, object]]] = defaultdict(dict)
    for item in listed:
        key = msgspec.structs.replace(item, ts_seen=0)
        row = msgspec.structs.asdict(item)
        row["instrument"] = row.pop("name")
        by_date[date_of(item.ts_seen)].setdefault(key, row)
    for date, rows in sorted(by_date.items()):
        ordered = sorted(
            rows.values(), key=lambda r: (str(r["venue"]), str(r["symbol"]), str(r["ts_seen"]))
        )
        writer = PartitionWriter(root, "instruments", date=date)
        writer.write(_table("instruments", ordered))
        yield writer.close()


def _table(table: str, rows: Sequence[dict[str, object]]) -> pa.Table:
    columns = {}
    for field in SCHEMAS[table]:
        values = [row[field.name] for row in rows]
        if pa.types.is_dictionary(field.type):
            columns[field.name] = pa.array(values, pa.string()).dictionary_encode()
        elif pa.types.is_timestamp(field.type):
            columns[field.name] = pa.array(values, pa.int64()).cast(field.type)
        else:
            columns[field.name] = pa.array(values, field.type)
    return pa.table(columns).cast(SCHEMAS[table])
