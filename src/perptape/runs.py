"""Sorted runs of rows on disk, and their merge: memory is bounded whatever the tape's length."""

import itertools
import resource
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perptape.schemas import HEARD, SCHEMAS
from perptape.tables import path_part


def run_schema(channel: str) -> pa.Schema:
    """Give a row's columns while it is sorted: times are plain numbers, words no enums.

    ``terms`` says of which market it is, by the ledger's list.
    """
    own = [field for field in SCHEMAS[channel] if field.name not in {"venue", "instrument"}]
    return pa.schema([pa.field("terms", pa.int32()), *map(_plain, own)])


def _plain(field: pa.Field) -> pa.Field:
    if pa.types.is_timestamp(field.type):
        return pa.field(field.name, pa.int64())
    return pa.field(field.name, pa.string()) if pa.types.is_dictionary(field.type) else field


DAY_NS = 86_400 * 1_000_000_000
END = 1 << 63
"""Later than every time."""
FILES = 1 << 14
"""So many files we would like to have open: five for each coin of every venue."""
FILES_OF_OTHERS = 128


class Stretch(NamedTuple):
    """A file of rows in order of ``ts_recv``, then ``seq``, then position in the frame."""

    path: Path
    first: int
    """``ts_recv`` of its first row."""
    rows: int = 0
    days: tuple[int, ...] = ()
    """Since the epoch (UTC), those that it has rows of."""

    def more(self, ts: NDArray[np.int64]) -> Self:
        """Count rows that were appended."""
        first, last = int(ts[0]) // DAY_NS, int(ts[-1]) // DAY_NS
        new = [first] if first == last else np.unique(ts // DAY_NS).tolist()
        days = self.days + tuple(day for day in new if day not in self.days[-1:])
        return self._replace(rows=self.rows + len(ts), days=days)


class Runs:
    """Writes rows: one file for each channel, coin and stretch of rising time."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._found: dict[tuple[str, str], list[Stretch]] = defaultdict(list)
        self._writers: dict[tuple[str, str], pa.ipc.RecordBatchFileWriter] = {}
        """The one that was written longest ago first."""
        self._most = _files_allowed()

    def write(self, channel: str, base: str, rows: pa.Table) -> None:
        """Append rows that are not earlier than the coin's last, unless :meth:`turn` came."""
        key = (channel, base)
        writer = self._writers.pop(key, None)
        if writer is None:
            while len(self._writers) >= self._most:
                self._writers.pop(next(iter(self._writers))).close()
            name = f"{path_part(base)}-{channel}-{len(self._found[key]):06d}.arrow"
            stretch = Stretch(self._scratch / name, rows["ts_recv"][0].as_py())
            self._found[key].append(stretch)
            writer = pa.ipc.new_file(stretch.path, rows.schema)
        self._found[key][-1] = self._found[key][-1].more(rows["ts_recv"].to_numpy())
        self._writers[key] = writer
        writer.write_table(rows)

    def turn(self) -> None:
        """Finish every file: what comes next may be earlier."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def found(self) -> Iterator[tuple[str, str, Stretch]]:
        """Finish every file; give all, with their channel and coin."""
        self.turn()
        for (channel, base), stretches in self._found.items():
            yield from ((channel, base, stretch) for stretch in stretches)

    def merged(self) -> Iterator[tuple[str, str, Iterator[pa.Table]]]:
        """Give for each channel and coin its rows in order."""
        self.turn()
        for channel in HEARD:
            for base in sorted(base for of, base in self._found if of == channel):
                yield channel, base, merge(self._found[channel, base])


def _files_allowed() -> int:
    """Ask the system for as many open files as we would like; give how many we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(wanted - FILES_OF_OTHERS, 1)


class Run:
    """One sorted file, read a batch at a time."""

    def __init__(self, path: Path) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._at = 0
        self.rows = self._reader.schema.empty_table()
        self.more()

    def more(self) -> None:
        """Append the next batch, if there is one."""
        if not self.ended:
            batch = self._reader.get_batch(self._at)
            self.rows = pa.concat_tables([self.rows, pa.Table.from_batches([batch])])
            self._at += 1

    @property
    def ended(self) -> bool:
        return bool(self._at >= self._reader.num_record_batches)

    @property
    def last(self) -> int:
        """Up to where it is known."""
        return int(self.rows["ts_recv"][-1].as_py()) if self.rows.num_rows else -END

    def take_before(self, ts: int) -> pa.Table:
        """Remove and give the rows before ``ts``."""
        times = self.rows["ts_recv"].to_numpy()
        cut = len(times) if ts >= END else int(np.searchsorted(times, ts, side="left"))
        taken, self.rows = self.rows.slice(0, cut), self.rows.slice(cut)
        return taken


def merge(stretches: Iterable[Stretch]) -> Iterator[pa.Table]:
    """Merge sorted files; only those that overlap in time are open, a batch or so of each."""
    waiting = sorted(stretches, key=lambda stretch: stretch.first, reverse=True)
    active: list[Run] = []
    while active or waiting:
        while waiting and (not active or waiting[-1].first <= min(run.last for run in active)):
            active.append(Run(waiting.pop().path))
        limit = min(_reach(active), waiting[-1].first if waiting else END)
        parts = [part for run in active if (part := run.take_before(limit)).num_rows]
        if parts:
            yield _in_order(parts)
        for run in active:
            if run.last <= limit:
                run.more()
        active = [run for run in active if run.rows.num_rows or not run.ended]


def _reach(active: Iterable[Run]) -> int:
    """Up to where every active run is known: rows before it can be given out."""
    return min((END if run.ended else run.last for run in active), default=END)


def _in_order(parts: list[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    rows = pa.concat_tables(parts)
    order = np.lexsort((rows["seq"].to_numpy(), rows["ts_recv"].to_numpy()))  # it is stable
    return rows.take(pa.array(order))


def by_day(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Cut rows in order of ``ts_recv`` at midnight UTC; give each with its day's begin in ns."""
    days = rows["ts_recv"].to_numpy() // DAY_NS
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    for start, stop in itertools.pairwise([*starts, len(days)]):
        yield int(days[start]) * DAY_NS, rows.slice(start, stop - start)
