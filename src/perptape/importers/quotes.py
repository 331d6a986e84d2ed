"""Anybody's quotes straight to tables: there is no tape, for what the venue sent is not known.

Every file is read to its end before the tables that were there are touched. Rows become sorted
runs on disk and are merged with those of earlier imports; memory is bounded as in ``tabulate``.
"""

import hashlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from perptape import __version__, tables
from perptape.errors import BadUsage
from perptape.importers.importer import check_file, printable
from perptape.importers.quote_files import Markets, Quotes, Tally, gathered, read
from perptape.importers.quote_map import Market, QuoteMap, load, to_json
from perptape.importers.validity import CHANNEL, Validity, joined
from perptape.instruments import Instrument, base_of, quote_of
from perptape.manifest import NAME as TAPE
from perptape.runs import DAY_NS, Runs, by_day, run_schema
from perptape.schemas import SCHEMAS
from perptape.tables import Imported, Manifest, PartitionWriter, TableFile, date_of
from perptape.tabulate import BUILDING, alone, read_ledger, write_instruments, write_ledger
from perptape.timeline import Interval
from perptape.wording import utc

ROWS_SORTED = 1 << 18
"""Rows that are sorted together: the more, the fewer runs of a file in no order."""
ROWS_PER_BATCH = 1 << 14
"""Of a run: so much of every run that overlaps in time is in memory at once."""
NEW = 1 << 40
"""Rows are numbered as they are read, to keep their order at one moment: earlier imports' from 0,
new ones from here."""
SCHEMA = run_schema(CHANNEL)

Progress = Callable[[int, int], None]
"""Told (bytes read, bytes in all)."""


class Summary(NamedTuple):
    """What an import put into the tables, and what it could not."""

    quotes: int
    markets: int
    files: int
    ts_first: int
    ts_last: int
    tally: Tally


def run(
    paths: Sequence[Path],
    directory: Path,
    *,
    map_: str | None,
    venue: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Add the quotes in ``paths`` to the tables of ``directory``, made if they are not there.

    ``map_`` is a TOML file or the name of a map that is built in. Raises BadUsage or Failed before
    the tables are touched if anything in map or files cannot be believed, or if a market's rows
    overlap in time with those that were imported before.
    """
    found = load(map_, venue)
    _former(directory)
    if not paths:
        raise BadUsage("no file to import: name one or more.")
    hashes = _hashes(paths)
    is_new = not directory.exists()
    try:
        return _import(found, hashes, directory, progress)
    except BaseException:
        if is_new:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _import(
    found: QuoteMap, hashes: Mapping[str, Path], directory: Path, progress: Progress | None
) -> Summary:
    root = directory / "tables"
    with ExitStack() as stack:
        stack.enter_context(alone(root))
        former = _former(directory)
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=BUILDING, dir=root)))
        taken = _Taken(found, place / "runs")
        imports = _take_all(taken, hashes, progress)
        _refuse_nothing(taken, len(hashes))
        return _add(taken, root, place / "tables", former, imports)


def _former(directory: Path) -> Manifest | None:
    """Give what was imported into a directory before.

    Raises BadUsage if it is a tape, or something else that is not ours.
    """
    if (directory / TAPE).exists():
        raise BadUsage(
            f"{directory} is a tape, and its tables are made from its frames: import quotes into a "
            "directory of their own, and name both for the report."
        )
    manifest = tables.imported(directory)
    left = {"lock"} | {path.name for path in (directory / "tables").glob(f"{BUILDING}*")}
    strange = directory.exists() and (
        not directory.is_dir() or any(path.name != "tables" for path in directory.iterdir())
    )
    foreign = manifest is None and any(
        path.name not in left for path in (directory / "tables").glob("*")
    )
    if strange or foreign:
        raise BadUsage(f"{directory} is not empty, and not of an import: give a new directory.")
    return manifest


def _hashes(paths: Sequence[Path]) -> dict[str, Path]:
    """Give the files by SHA-256, in their order. Raises BadUsage for one that is there twice."""
    found: dict[str, Path] = {}
    for path in paths:
        check_file(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 in found:
            raise BadUsage(f"{path} and {found[sha256]} are the same file: name it once.")
        found[sha256] = path
    return found


# ---- take ---------------------------------------------------------------------------------------


class _Taken:
    """Rows of all files as sorted runs, and what they are of."""

    def __init__(self, found: QuoteMap, scratch: Path) -> None:
        scratch.mkdir(parents=True)
        self.map, self.tally, self.markets = found, Tally(), Markets(found)
        self.runs, self.rows = Runs(scratch), 0
        self.days: dict[str, set[int]] = defaultdict(set)
        """By coin, those that have new rows."""
        self.spans: dict[int, tuple[int, int]] = {}
        """First and last new row of each market."""
        self._last: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        return [market.market for market in self.markets.known]

    def take(self, quotes: Quotes) -> None:
        """Write a batch, sorted; begin new runs where its time falls."""
        order = np.argsort(quotes.ts_recv, kind="stable")
        market, ts = quotes.market[order], quotes.ts_recv[order]
        if not len(ts):
            return
        for place in np.unique(market):
            own = ts[market == place]
            low, high = self.spans.get(int(place), (own[0], own[-1]))
            self.spans[int(place)] = int(min(low, own[0])), int(max(high, own[-1]))
        numbers = {name: pa.array(x[order], from_pandas=True) for name, x in quotes.numbers.items()}
        rows = pa.table(
            {
                "terms": pa.array(market),
                "seq": pa.array(NEW + self.rows + np.arange(len(ts)), pa.uint64()),
                "ts_recv": pa.array(ts),
                "ts_event": quotes.ts_event.gather(order).to_arrow(),
                "ts_send": pa.nulls(len(ts), pa.int64()),
                **numbers,
                "update_id": pa.nulls(len(ts), pa.int64()),
            }
        ).select(SCHEMA.names).cast(SCHEMA)  # fmt: skip
        self.rows += len(ts)
        self.write(rows, [known.base for known in self.markets.known])

    def write(self, rows: pa.Table, bases: Sequence[str]) -> None:
        """Put rows in order of time with each coin's own."""
        of_rows = np.array([sorted(set(bases)).index(base) for base in bases])[
            rows["terms"].to_numpy()
        ]
        for number, base in enumerate(sorted(set(bases))):
            own = np.flatnonzero(of_rows == number)
            if not len(own):
                continue
            part = rows.take(pa.array(own))
            ts = part["ts_recv"].to_numpy()
            if ts[0] < self._last.get(base, ts[0]):
                self.runs.turn()
            self._last[base] = int(ts[-1])
            self.days[base].update(np.unique(ts // DAY_NS).tolist())
            self.runs.write(CHANNEL, base, _in_batches(part))


def _in_batches(rows: pa.Table) -> pa.Table:
    return pa.Table.from_batches(rows.combine_chunks().to_batches(max_chunksize=ROWS_PER_BATCH))


def _take_all(
    taken: _Taken, hashes: Mapping[str, Path], progress: Progress | None
) -> list[Imported]:
    imports = []
    total, before = sum(path.stat().st_size for path in hashes.values()), 0
    for sha256, path in hashes.items():

        def told(done: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        rows, first, last = 0, 1 << 63, 0
        found = read(path, taken.map, taken.markets, taken.tally, told)
        for quotes in gathered(found, ROWS_SORTED):
            taken.take(quotes)
            if len(quotes.ts_recv):
                rows += len(quotes.ts_recv)
                first = min(first, int(quotes.ts_recv.min()))
                last = max(last, int(quotes.ts_recv.max()))
        before += path.stat().st_size
        name = printable(path)
        if rows:
            imports.append(Imported(name, sha256, rows, first, last, to_json(taken.map)))
    return imports


def _refuse_nothing(taken: _Taken, files: int) -> None:
    if taken.rows:
        return
    tally = taken.tally
    raise BadUsage(
        f"Not one row to import in {files} files: {tally.filtered:,} are left out by the map's "
        f"where, {tally.undated:,} have no time, {tally.unnamed:,} name no market; mend the map."
    )


# ---- add ----------------------------------------------------------------------------------------


def _add(
    taken: _Taken, root: Path, made: Path, former: Manifest | None, imports: list[Imported]
) -> Summary:
    old = _Old(root, former)
    old.refuse_overlap(taken)
    new = dict(taken.spans)
    kept = [file for file in old.files if not old.is_changed(file, taken)]
    old.take_back(taken)
    validity = Validity(taken.map.valid_ns, taken.map.valid_for or "")
    written = list(_write_quotes(made, taken, validity))
    courses = {course.market: course.intervals() for course in validity.courses.values()}
    written += write_ledger(made, old.with_new(courses))
    written += write_instruments(made, _instruments(taken, new))
    notes = msgspec.structs.asdict(taken.tally)
    for name, count in (former.notes if former else {}).items():
        notes[name] += count
    manifest = Manifest(
        source=f"perptape {__version__}",
        files=kept,
        notes=notes,
        imports=[*(former.imports if former else []), *imports],
    )
    tables.add(root, made, written, manifest)
    return Summary(
        quotes=taken.rows - taken.tally.unpriced,
        markets=len(new),
        files=len(imports),
        ts_first=min(first for first, _ in new.values()),
        ts_last=max(last for _, last in new.values()),
        tally=taken.tally,
    )


def _write_quotes(made: Path, taken: _Taken, validity: Validity) -> Iterator[TableFile]:
    """Merge all runs, follow what is new in them, and write what has a price."""
    for _, base, parts in taken.runs.merged():
        day, writer = None, None
        for part in parts:
            is_priced = _is_priced(part)
            is_new = part["seq"].to_numpy() >= NEW
            taken.tally.unpriced += int((is_new & ~is_priced).sum())
            validity.feed(
                part["terms"].to_numpy()[is_new],
                part["ts_recv"].to_numpy()[is_new],
                is_priced[is_new],
                taken.names,
            )
            priced = part.filter(pa.array(is_priced))
            for begin, rows in by_day(priced) if priced.num_rows else ():
                if writer is None or begin != day:
                    if writer is not None:
                        yield writer.close()
                    day = begin
                    writer = PartitionWriter(made, CHANNEL, base=base, date=date_of(begin))
                writer.write(_named(rows, taken.names, base))
        if writer is not None:
            yield writer.close()


def _is_priced(rows: pa.Table) -> NDArray[np.bool_]:
    priced: NDArray[np.bool_] = (
        rows["bid_price"].is_valid().to_numpy() | rows["ask_price"].is_valid().to_numpy()
    )
    return priced


def _named(rows: pa.Table, names: Sequence[str], base: str) -> pa.Table:
    """Name the markets by dictionaries that are the same in every part of a coin's files."""
    at = rows["terms"].to_numpy()
    split = [name.split(":", 1) for name in names]
    named = {name: rows[name] for name in rows.schema.names if name != "terms"}
    named["seq"] = pa.nulls(rows.num_rows, pa.uint64())
    for k, name in enumerate(("venue", "instrument")):
        words = sorted({one[k] for one in split if base_of(one[1]) == base})
        codes = np.array([words.index(w[k]) if w[k] in words else -1 for w in split], np.int32)
        named[name] = pa.DictionaryArray.from_arrays(pa.array(codes[at]), pa.array(words))
    schema = SCHEMAS[CHANNEL]
    return pa.table({name: named[name] for name in schema.names}).cast(schema)


def _instruments(taken: _Taken, spans: Mapping[int, tuple[int, int]]) -> Iterator[Instrument]:
    """List what the map knows the sizes of, as seen with the market's first row."""
    if taken.map.bid_size is None and taken.map.ask_size is None:
        return
    for place, (first, _) in sorted(spans.items()):
        market = taken.markets.known[place]
        if market.contract_size is not None:
            yield _instrument(market, market.contract_size, first)


def _instrument(market: Market, contract_size: float, ts_seen: int) -> Instrument:
    venue, _, name = market.market.partition(":")
    return Instrument(
        venue=venue,
        name=name,
        symbol=market.symbol,
        base=base_of(name),
        quote=quote_of(name),
        settle=quote_of(name),
        kind="spot" if name.endswith("-SPOT") else "linear",
        contract_size=contract_size,
        price_unit=market.price_unit,
        tick_size=None,
        lot_size=None,
        taker_fee=None,
        maker_fee=None,
        funding_interval_h=None,
        status="imported",
        ts_seen=ts_seen,
    )


class _Old:
    """What earlier imports put into the tables."""

    def __init__(self, root: Path, former: Manifest | None) -> None:
        self.root = root
        self.files = [] if former is None else former.files
        self._intervals = _intervals(root) if former else {}
        self._last = _last_rows(root) if former else {}

    def refuse_overlap(self, taken: _Taken) -> None:
        for place, (first, last) in taken.spans.items():
            name = taken.names[place]
            if name not in self._intervals:
                continue
            begin, end = self._intervals[name][0].start, self._end(name)
            if first <= end and last >= begin:
                raise BadUsage(
                    f"{name} is in these tables from {utc(begin)} to {utc(end)} already, and the "
                    f"files have it from {utc(first)} to {utc(last)}: import into a new "
                    "directory, all files of that time at once."
                )

    def _end(self, name: str) -> int:
        """Give the last row's time: untrusted time ends with it, trusted time later."""
        ends = [i.end for i in self._intervals[name] if not i.trusted]
        return max([*ends, self._last.get(name, 0)])

    def is_changed(self, file: TableFile, taken: _Taken) -> bool:
        """Tell whether a file has to be written anew."""
        table, *keys = Path(file.path).parts
        if table != CHANNEL:
            return table == "ledger"
        base, date = (key.partition("=")[2] for key in keys[:2])
        return date in {date_of(day * DAY_NS) for day in taken.days.get(base, ())}

    def take_back(self, taken: _Taken) -> None:
        """Put the rows of changed partitions with the new ones, each file as a run."""
        changed = [
            f for f in self.files if f.path.startswith(CHANNEL) and self.is_changed(f, taken)
        ]
        number = 0
        for file in changed:
            taken.runs.turn()
            with pq.ParquetFile(self.root / file.path) as parquet:
                for batch in parquet.iter_batches(1 << 17):
                    taken.write(self._numbered(batch, number, taken), _bases(taken))
                    number += batch.num_rows
        taken.runs.turn()

    def _numbered(self, batch: pa.RecordBatch, number: int, taken: _Taken) -> pa.Table:
        frame = pl.DataFrame(batch)
        market = pl.concat_str(
            pl.col("venue").cast(pl.String), pl.lit(":"), pl.col("instrument").cast(pl.String)
        )
        names = frame.select(market=market)["market"]
        places = {
            name: taken.markets.place(Market(name, "", 1.0, None)) for name in names.unique().sort()
        }
        rows = {name: batch[name] for name in SCHEMA.names if name in batch.schema.names}
        rows["terms"] = names.replace_strict(places, return_dtype=pl.Int32).to_arrow()
        rows["seq"] = pa.array(number + np.arange(batch.num_rows), pa.uint64())
        return pa.table({name: rows[name] for name in SCHEMA.names}).cast(SCHEMA)

    def with_new(self, courses: Mapping[str, Sequence[Interval]]) -> Iterable[Interval]:
        """Give the ledger of all imports together."""
        for name in sorted({*self._intervals, *courses}):
            old, new = self._intervals.get(name), courses.get(name)
            yield from joined(old, new) if old and new else (old or new or ())


def _bases(taken: _Taken) -> list[str]:
    return [market.base for market in taken.markets.known]


def _intervals(root: Path) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = defaultdict(list)
    for interval in read_ledger(root):
        found[interval.market].append(interval)
    return dict(found)


def _last_rows(root: Path) -> dict[str, int]:
    last = pl.col("ts_recv").max().cast(pl.Int64)
    rows = tables.scan(root, CHANNEL).group_by("venue", "instrument").agg(last).collect()
    return {f"{venue}:{instrument}": ts for venue, instrument, ts in rows.iter_rows()}
