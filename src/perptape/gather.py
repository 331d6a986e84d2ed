"""Events to sorted runs on disk, a **group** of them at a time: what one worker does, and keeps.

Groups are cut where the events say, whoever makes them, and each is a directory that comes into
being whole: one that a killed process has made need not be made again.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perptape.columns import Bulk, columns, in_columns
from perptape.crew import Job
from perptape.decode import Terms
from perptape.events import CHANNELS, Book, Event
from perptape.instruments import base_of
from perptape.kept import crc32, keep, kept
from perptape.ledger import Heard
from perptape.runs import Runs, Stretch, run_schema
from perptape.tape import Batch

ROWS_HELD = 1 << 12
"""Rows of all coins collected before they become columns, few enough to stay in the processor's
cache; a batch may add to it."""
BOOKS_HELD = 1 << 8
"""Likewise updates of books, each of which makes many rows."""
GROUP_ROWS = 1 << 19
"""Rows of a group: what is sent to a worker at once, and done again after a kill."""
INDEX = "index"

Seqs = NDArray[np.uint64]
Times = NDArray[np.int64]
Places = NDArray[np.int32]
Chunk = tuple[bytes | Bulk, Seqs, Times, Places]
"""Events of one channel on their way to a worker, with their seq, ts_recv and terms."""
Parts = list[tuple[str, Chunk]]


class Changed(Exception):
    """A group that was kept is not of these events."""


class Found(NamedTuple):
    """A run of a group."""

    channel: str
    base: str
    name: str
    first: int
    rows: int
    days: tuple[int, ...]
    crc32: int


class Group(msgspec.Struct, frozen=True):
    """What was made of a group."""

    events: dict[str, int]
    """How many of each channel went in."""
    found: list[Found]

    @classmethod
    def kept(cls, place: Path) -> "Group | None":
        """Give what lies in its directory; ``None`` if that is not there, or not whole."""
        group = kept(place / INDEX, cls)
        is_whole = group and all(crc32(path) == f.crc32 for path, f in group.paths(place))
        return group if is_whole else None

    def stretches(self, place: Path) -> Iterator[tuple[str, str, Stretch]]:
        for path, f in self.paths(place):
            yield f.channel, f.base, Stretch(path, f.first, f.rows, f.days)

    def paths(self, place: Path) -> Iterator[tuple[Path, Found]]:
        return ((place / Path(f.name).name, f) for f in self.found)


def directory(place: Path, number: int) -> Path:
    """Name where a group lies, a thousand of them in a directory."""
    return place / f"{number // 1000:06d}" / f"{number:09d}"


# ---- in the process that reads ------------------------------------------------------------------


class Rows:
    """Collects events; makes a group of them, or has it made, when it is large enough.

    ``terms`` grows as the ledger meets markets. With ``is_sent`` groups are for other workers.
    """

    def __init__(self, terms: Sequence[Terms], place: Path, *, is_sent: bool) -> None:
        self._terms, self._place, self._is_sent = terms, place, is_sent
        self.heard = {event: Heard() for event in CHANNELS}
        """Where the ledger puts what it hears."""
        self.groups = self.kept = 0
        """How many there are, and how many of them were there before."""
        self._last = 0
        self._begin()

    def follow(self, batch: Batch) -> Iterator[Job]:
        """Make room for a batch; end the group where time falls, or if it is large enough."""
        for event, heard in self.heard.items():
            if len(heard) >= (BOOKS_HELD if event is Book else ROWS_HELD):
                self._put(CHANNELS[event], heard)
        falls = len(batch) > 0 and int(batch.ts_recv[0]) < self._last
        if falls or self._rows >= GROUP_ROWS:
            yield from self.flush()
        if len(batch):
            self._last = int(batch.ts_recv[-1])

    def flush(self) -> Iterator[Job]:
        """End the group, with what is held."""
        for event, heard in self.heard.items():
            self._put(CHANNELS[event], heard)
        if self._rows:
            yield self._end()
            self._begin()

    def _begin(self) -> None:
        self._rows, self._events = 0, Counter[str]()
        self._parts: Parts = []
        self._shaper: Shaper | None = None
        self._kept = Group.kept(directory(self._place, self.groups))

    def _put(self, channel: str, heard: Heard) -> None:
        if not len(heard):
            return
        self._events[channel] += len(heard)
        self._rows += heard.rows
        if self._kept is not None:
            pass  # it was made before
        elif self._is_sent:
            self._parts.append((channel, _packed(channel, heard)))
        else:
            self._shaper = self._shaper or Shaper(self._place, self.groups, self._terms)
            self._shaper.add(channel, *_in_columns(channel, heard))
        heard.clear()

    def _end(self) -> Job:
        events, kept = dict(self._events), self._kept
        place, number = self._place, self.groups
        self.groups += 1
        if kept is not None:
            if kept.events != events:
                raise Changed
            self.kept += 1
            return Job(_same, (kept,), is_here=True)
        if self._shaper is not None:
            return Job(_same, (self._shaper.close(events),), is_here=True)
        return Job(gather, (place, number, self._parts, list(self._terms), events))


def _same(group: Group) -> Group:
    return group


def _in_columns(channel: str, heard: Heard) -> tuple[Sequence[Event] | Bulk, Seqs, Times, Places]:
    """Give what is held: (events, seq, ts_recv, terms), in the order of the tape."""
    seq, ts_recv = np.array(heard.seq, np.uint64), np.array(heard.ts_recv, np.int64)
    at = np.array(heard.terms, np.int32)
    blocks = heard.blocks
    if not blocks:
        return heard.events, seq, ts_recv, at
    joined = in_columns(channel, [b.events for b in blocks], heard.events)
    seq = np.concatenate([*(b.seq for b in blocks), seq])
    ts_recv = np.concatenate([*(b.ts_recv for b in blocks), ts_recv])
    at = np.concatenate([*(b.terms for b in blocks), at])
    if heard.events:
        order = np.argsort(seq, kind="stable")
        return joined.taken(order), seq[order], ts_recv[order], at[order]
    return joined, seq, ts_recv, at


def _packed(channel: str, heard: Heard) -> Chunk:
    """Put events into bytes: that costs a fifth of pickling them, and they take a fifth of room."""
    events, seq, ts_recv, at = _in_columns(channel, heard)
    packed = events if isinstance(events, Bulk) else msgspec.msgpack.encode(events)
    return packed, seq, ts_recv, at


# ---- in a worker --------------------------------------------------------------------------------


def gather(
    place: Path, number: int, parts: Parts, terms: Sequence[Terms], events: dict[str, int]
) -> Group:
    """Make a group of what was sent."""
    shaper = Shaper(place, number, terms)
    for channel, (told, seq, ts_recv, at) in parts:
        heard = _reader(channel)(told) if isinstance(told, bytes) else told
        shaper.add(channel, heard, seq, ts_recv, at)
    return shaper.close(events)


@cache
def _reader(channel: str) -> Callable[[bytes], Sequence[Event]]:
    kind = next(event for event, name in CHANNELS.items() if name == channel)
    return msgspec.msgpack.Decoder(list[kind]).decode  # type: ignore[valid-type]


class Shaper:
    """Writes the events of a group as columns, those of every channel and coin to its run."""

    def __init__(self, place: Path, number: int, terms: Sequence[Terms]) -> None:
        self._end = directory(place, number)
        self._end.parent.mkdir(parents=True, exist_ok=True)
        self._at = Path(tempfile.mkdtemp(prefix=".", dir=place))
        self._runs, self._terms = Runs(self._at), terms

    def add(
        self,
        channel: str,
        events: Sequence[Event] | Bulk,
        seq: Seqs,
        ts_recv: Times,
        at: Places,
    ) -> None:
        made, counts = columns(channel, events, self._terms, at)
        whose = {"terms": pa.array(at), "seq": pa.array(seq), "ts_recv": pa.array(ts_recv)}
        if counts is not None:
            of_rows = np.repeat(np.arange(len(at)), counts)
            at = at[of_rows]
            whose = {name: column.take(pa.array(of_rows)) for name, column in whose.items()}
        schema = run_schema(channel)
        named = whose | made
        rows = pa.table([named[f.name].cast(f.type) for f in schema], schema=schema)
        if rows.num_rows:
            self._share_out(channel, rows, at)

    def _share_out(self, channel: str, rows: pa.Table, at: Places) -> None:
        bases = [base_of(t.market.partition(":")[2]) for t in self._terms]
        numbers = {base: number for number, base in enumerate(dict.fromkeys(bases))}
        of_rows = np.array([numbers[base] for base in bases])[at]
        for base, number in numbers.items():
            own = np.flatnonzero(of_rows == number)
            if len(own):
                part = rows if len(own) == len(at) else rows.take(pa.array(own))
                self._runs.write(channel, base, part)

    def close(self, events: dict[str, int]) -> Group:
        """Finish the group and put it where it belongs."""
        found = [
            Found(channel, base, s.path.name, s.first, s.rows, s.days, crc32(s.path))
            for channel, base, s in self._runs.found()
        ]
        group = Group(events, found)
        keep(self._at / INDEX, group)
        shutil.rmtree(self._end, ignore_errors=True)
        self._at.rename(self._end)
        return group
