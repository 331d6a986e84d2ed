"""A tape to tables: its events become sorted runs, and the runs are merged.

The ledger reads the tape from its first to its last frame, in one process, for what it knows of one
venue it holds against all. Workers make the rest: columns and runs of what it hears, a group at a
time (``gather``), and at the end the files, each by itself (``partitions``).

Memory is bounded whatever the tape's length. Where the tape is read: one batch of frames,
``ROWS_HELD`` rows, and ``GROUP_ROWS`` packed for each worker that is waited for. In each worker: a
group as it was packed and ``ROWS_HELD`` rows of it; or a batch of rows for each run that overlaps
in time, and one row group of the partition being written. Without workers nothing is packed.
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
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
import polars as pl
import pyarrow as pa

from perptape import __version__, tables
from perptape.crew import ALONE, Hands, Job, crew, results
from perptape.decode import Terms
from perptape.errors import BadUsage, Failed
from perptape.gather import BOOKS_HELD, GROUP_ROWS, ROWS_HELD, Changed, Group, Rows, directory
from perptape.instruments import Instrument, base_of
from perptape.kept import keep, kept
from perptape.ledger import Ledger, Result, asked, end_of, is_long
from perptape.partitions import Partitions
from perptape.schemas import SCHEMAS
from perptape.tables import Manifest, PartitionWriter, TableFile, date_of
from perptape.tape import Tape
from perptape.timeline import Interval

NOT_OURS = {errno.EROFS, errno.EACCES, errno.EPERM}
"""What a tape on a disk that is not ours to write answers."""
LOCK = "lock"
BUILDING = ".new-"
TABLES, READING = "tables", "reading"

Progress = Callable[[int, int], None]
"""Told how much is done, and how much there is: frames to read, and rows to write as such."""


class Reading(msgspec.Struct, frozen=True):
    """What the tape came to, read once from its first to its last frame."""

    terms: list[Terms]
    """What rows are made with."""
    intervals: list[Interval]
    instruments: list[Instrument]
    frames: int
    bad: int
    undecoded: int
    unnamed: int
    in_bulk: int
    groups: int
    """So many directories of sorted runs hold its rows."""
    kept: int
    """Of them a killed one had made so many."""


class Tabulated(msgspec.Struct, frozen=True):
    """What was made, and where."""

    root: Path
    manifest: Manifest
    result: Reading
    partitions_kept: int = 0
    """Files that a killed one had made."""

    @property
    def in_bulk(self) -> int:
        """Quotes and books that needed no parser: they were exactly of a form that was learned."""
        return self.result.in_bulk


def tabulate(
    tape_path: Path,
    out: Path | None = None,
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tabulated:
    """Make all tables of a tape, in ``out`` or ``TAPE/tables``.

    By ``workers`` processes (a short tape is not worth them), or those of an ``executor`` that see
    the same disk; else in this process. The same tape gives the same bytes, whoever makes them.

    Until all are made those that were there stay, and another process that makes them waits. What
    was made before the end of a killed or interrupted process is not made again. Raises BadUsage
    for workers that cannot be, Failed where the directory cannot be written or a worker died.
    """
    root = out or tape_path / "tables"
    if tables.imported(tape_path):
        raise BadUsage(
            f"{tape_path} holds imported tables and no tape to make any from: they are ready, "
            f"as in perptape report {tape_path}."
        )
    try:
        with crew(executor, workers, is_worth_it=lambda: is_long(Tape(tape_path))) as hands:
            return _tabulate(tape_path, root, progress, hands)
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
        _tabulate(tape_path, root, progress, ALONE)
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


def _tabulate(tape_path: Path, root: Path, progress: Progress | None, hands: Hands) -> Tabulated:
    tape = Tape(tape_path)
    mark = _fingerprint(tape)
    with alone(root, _workplace(tape, mark)) as place:
        told = _Told(tape, progress)
        try:
            reading, partitions = _read(tape, place, told, hands)
        except Changed:  # it is another tape, though its names and hashes do not tell
            shutil.rmtree(place)
            place.mkdir()
            reading, partitions = _read(tape, place, told, hands)
        fresh_root = place / TABLES
        made = _written(partitions, reading.terms, told, hands)
        made += write_ledger(fresh_root, reading.intervals)
        made += write_instruments(fresh_root, reading.instruments)
        counts = {name: getattr(reading, name) for name in ("bad", "undecoded", "unnamed")}
        manifest = Manifest(source=mark, files=sorted(made, key=lambda f: f.path), notes=counts)
        sealed = tables.replace_all(root, fresh_root, manifest)
    return Tabulated(root, sealed, reading, partitions.kept)


def _workplace(tape: Tape, mark: str) -> str:
    """Name where work on a finished tape is, so that who comes after a killed one finds it."""
    if not mark:
        return ""
    how = [mark, GROUP_ROWS, ROWS_HELD, BOOKS_HELD, *tape.meta.runs]
    return f"{BUILDING}{hashlib.sha256(msgspec.json.encode(how)).hexdigest()[:32]}"


@contextmanager
def alone(root: Path, name: str = "") -> Iterator[Path]:
    """Make the directory, be its only writer, and clear what a killed one left.

    Give a place to work in, gone afterwards. One with a ``name`` is what was left under this name,
    and stays when the work ends before it is done, unless there is no room for it.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stays = False
    place = root / (name or f"{BUILDING}{os.getpid()}")
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        for left in root.glob(f"{BUILDING}*"):
            if left.name != name:
                shutil.rmtree(left, ignore_errors=True)
        place.mkdir(exist_ok=True, mode=0o700)
        yield place
    except BaseException as error:
        stays = bool(name) and not isinstance(error, OSError)
        raise
    finally:
        if not stays:
            shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def _read(tape: Tape, place: Path, told: "_Told", hands: Hands) -> tuple[Reading, Partitions]:
    """Follow the ledger through the tape while workers make groups of what it hears."""
    partitions = Partitions(place / TABLES)
    runs, mark = place / "runs", place / READING
    runs.mkdir(exist_ok=True)
    if reading := kept(mark, Reading):
        for number in range(reading.groups):
            group = Group.kept(at := directory(runs, number))
            if group is None:
                mark.unlink()
                raise Changed
            partitions.add(group.stretches(at))
        return msgspec.structs.replace(reading, kept=reading.groups), partitions
    ledger = Ledger(asked(tape), tape.expired, in_bulk=is_long(tape))
    rows = Rows(ledger.terms, runs, is_sent=hands.executor is not None)
    jobs = _groups(tape, ledger, rows, told)
    for number, group in enumerate(results(jobs, hands)):
        partitions.add(group.stretches(directory(runs, number)))
    reading = _reading(ledger, ledger.finish(*end_of(tape)), rows)
    keep(mark, reading)
    return reading, partitions


def _groups(tape: Tape, ledger: Ledger, rows: Rows, told: "_Told") -> Iterator[Job]:
    for batch in tape.batches():
        yield from rows.follow(batch)
        ledger.batch(batch, rows.heard)
        told.read(ledger.frames)
    yield from rows.flush()


def _reading(ledger: Ledger, result: Result, rows: Rows) -> Reading:
    return Reading(
        terms=ledger.terms,
        intervals=result.intervals,
        instruments=result.instruments,
        frames=result.frames,
        bad=result.bad,
        undecoded=result.undecoded,
        unnamed=result.unnamed,
        in_bulk=ledger.lanes.taken if ledger.lanes else 0,
        groups=rows.groups,
        kept=rows.kept,
    )


def _written(
    partitions: Partitions, terms: Sequence[Terms], told: "_Told", hands: Hands
) -> list[TableFile]:
    made = []
    for file in results(partitions.jobs(terms), hands, look=lambda: told.written(partitions)):
        made.append(file)
        told.written(partitions)
    return made


class _Told:
    """Tells how far it is: writing takes about so much as a part of reading."""

    PART = 8

    def __init__(self, tape: Tape, progress: Progress | None) -> None:
        self._frames = sum(segment.frames for segment in tape.segments)
        self._progress = progress

    def read(self, frames: int) -> None:
        if self._progress is not None:
            self._progress(frames, self._frames + self._frames // self.PART)

    def written(self, partitions: Partitions) -> None:
        part = self._frames // self.PART
        if self._progress is not None and partitions.rows:
            done = part * partitions.done() // partitions.rows
            self._progress(self._frames + done, self._frames + part)


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
