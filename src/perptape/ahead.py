"""One batch on the fast way: what is remembered of its streams, as if frame by frame.

Frames of lanes are followed many at once (:mod:`perptape.follow`), past frames of others that
neither change nor look at what is known of the lanes. These are the ledger's, and it has them
before anything that would tell.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.checks import Checks
from perptape.columns import Quotes, Updates, ranges
from perptape.errors import BadFrame
from perptape.events import Book, Event, Funding, Kind, Mark, Quote, Trade
from perptape.follow import Rules, Said, Traded, follow
from perptape.matching import Ints
from perptape.memory import Lane, Memory
from perptape.tape import Batch
from perptape.templates import Forms, Read
from perptape.trust import Trust, Wire

LAST_DATA, LAST_WIRE_KIND = int(Kind.BINARY), int(Kind.SENT)
APART = {Trade, Mark, Funding}
"""Events that lanes do not tell of, and do not look at."""

Step = tuple[int, int, int, int, int, int, list[Event] | None]
"""A frame for the ledger: seq, kind, wire, ts_recv, begin and end of its payload, and what it says
if it was decoded."""


class Block(msgspec.Struct, frozen=True, eq=False):
    """Quotes, or changes of books, that became rows without having been events."""

    seq: NDArray[np.uint64]
    ts_recv: Ints
    terms: NDArray[np.int32]
    events: Quotes | Updates

    def __len__(self) -> int:
        return len(self.seq)


class Ahead:
    """One batch, whose time does not fall, on its way."""

    def __init__(  # noqa: PLR0913, PLR0917 - what there is to go by
        self,
        batch: Batch,
        trust: Trust,
        found: Checks,
        forms: Forms,
        read: Read,
        lane: Ints,
        lanes: list[Lane],
    ) -> None:
        self._batch, self._trust, self._checks = batch, trust, found
        self._forms, self._read, self._lane, self._lanes = forms, read, lane, lanes
        self._said = Said(forms.is_snapshot(), forms.said())
        self._lane_of = lane.data
        self._columns = (batch.kind.data, batch.wire.data, batch.ts_recv.data, batch.offsets.data)
        self._rules = Rules.now()
        self._terms = np.full(len(batch), -1, np.int32)
        """By row, -1 of those that were not taken."""
        self._others = self._decoded(np.flatnonzero(lane < 0))
        self._waiting = deque[Step]()
        """Frames of others, decoded, that the ledger has not had yet."""
        self._memory = Memory(lanes, trust, found, batch.first_seq)

    def steps(self) -> Iterator[Step]:
        """Follow what can be followed; give the rest."""
        row, end = 0, len(self._batch)
        while row < end:
            self._memory.find()
            stop, is_known = self._reach(), True
            self._memory.learn()
            self._traded = Traded.of(self._trades)
            while row < end and is_known:
                reached = self._run(row, stop)
                yield from self._passed(reached)
                if reached < end:
                    yield self._single(reached)
                    is_known = reached < stop and self._learn_again(reached)
                row = reached + 1

    def _learn_again(self, row: int) -> bool:
        """Take what a frame may have changed that the ledger had; ``False``: that may be all."""
        place = self._lane_of[row]
        if place >= 0:
            return self._memory.learn_again(self._memory.of_lane(place))
        return self._memory.learn_again(self._traded.place[self._traded.row == row].tolist())

    # What is in the way

    def _reach(self) -> int:
        """Give the next frame of others for which all before it must be done."""
        self._trades: list[tuple[int, int, float]] = []
        for step in chain(tuple(self._waiting), self._others):
            row = step[0] - self._batch.first_seq
            if not self._is_apart(step, row):
                return row
        return len(self._batch)

    def _decoded(self, rows: Ints) -> Iterator[Step]:
        """Decode frames that are no lane's, as far as they are asked for."""
        batch, wires, keep = self._batch, self._trust.wires, self._waiting.append
        columns = (batch.kind, batch.wire, batch.ts_recv, batch.offsets[:-1], batch.offsets[1:])
        seqs = (rows + batch.first_seq).tolist()
        for step in zip(seqs, *(column[rows].tolist() for column in columns), strict=True):
            _, kind, number, _, begin, end = step
            events = None
            if kind <= LAST_DATA:
                with suppress(BadFrame):  # the ledger will see it
                    events = wires[number].decode(bytes(batch.payload[begin:end]))
            keep(whole := (*step, events))
            yield whole

    def _is_apart(self, step: Step, row: int) -> bool:
        """Tell whether a frame neither changes nor looks at what is known of lanes.

        A trade looks at best prices: these are compared with it on the way.
        """
        _, kind, number, _, _, _, events = step
        wire = self._trust.wires[number]
        if self._trust.fell and not wire.imported:
            return False
        if not events:
            return events is not None or LAST_DATA < kind <= LAST_WIRE_KIND
        return all([self._is_of_others(event, wire, row) for event in events])  # noqa: C419

    def _is_of_others(self, event: Event, wire: Wire, row: int) -> bool:
        kind = type(event)
        stream = wire.streams.get((event.symbol, kind))
        if stream is None:
            return wire.is_known and not wire.imported and kind not in wire.asked
        if isinstance(event, Trade):
            for channel in ("quotes", "books"):
                top = self._checks.own(stream.market, channel, is_file=wire.imported)
                if top is not None:
                    self._trades.append((row, self._memory.place(top), event.price))
        return kind in APART

    def _passed(self, row: int) -> Iterator[Step]:
        """Give the frames of others before a row."""
        waiting, seq = self._waiting, self._batch.first_seq + row
        self._checks.compared = True
        while waiting and waiting[0][0] < seq:
            yield waiting.popleft()
        self._checks.compared = False
        for number, ts in self._memory.heard.items():
            wire = self._trust.wires[number]
            wire.last = max(wire.last or ts, ts)

    def _single(self, row: int) -> Step:
        if self._waiting and self._waiting[0][0] == self._batch.first_seq + row:
            return self._waiting.popleft()
        kinds, wires, times, cuts = self._columns
        seq, begin, end = self._batch.first_seq + row, cuts[row], cuts[row + 1]
        return seq, kinds[row], wires[row], times[row], begin, end, None

    # On the way

    def _run(self, row: int, stop: int) -> int:
        """Follow frames from a row on; give the first that was not."""
        place = self._lane_of[row]
        lane = self._lanes[place] if place >= 0 else None
        if row == stop or not (lane is None or lane.is_regular(self._trust) or lane.idles()):
            return row
        reached, is_odd = follow(
            *(row, stop, self._lane, self._batch.ts_recv, self._read, self._said),
            *(self._traded, self._memory.known, self._checks.books.shelf, self._rules),
        )
        terms = self._memory.remember()
        self._terms[row:reached] = terms[self._lane[row:reached]]
        if is_odd:
            self._look(self._lane_of[reached - 1])
        return reached

    def _look(self, place: int) -> None:
        stream = self._lanes[place].stream
        if stream is not None and stream.content is not None:
            self._checks.moved(stream, stream.content, stream.last)
        self._memory.learn_again([place])

    # What came of it

    @property
    def count(self) -> int:
        """How many frames were taken."""
        return int(np.count_nonzero(self._terms >= 0))

    def blocks(self) -> Iterator[tuple[type, Block]]:
        """Give the rows of all frames that were taken, by type of event."""
        is_book = np.array([*(one.is_book for one in self._lanes), False])[self._lane]
        for kind, is_ in ((Quote, ~is_book), (Book, is_book)):
            rows = np.flatnonzero((self._terms >= 0) & is_)
            if len(rows):
                seqs = (rows + self._batch.first_seq).astype(np.uint64)
                told = self._updates(rows) if kind is Book else self._quotes(rows)
                yield kind, Block(seqs, self._batch.ts_recv[rows], self._terms[rows], told)

    def _quotes(self, rows: Ints) -> Quotes:
        said = self._said.whole[self._read.form[rows]].T
        return Quotes(self._read.prices[:, rows], self._read.wholes[:3, rows], said[:3])

    def _updates(self, rows: Ints) -> Updates:
        forms, read = self._read.form[rows], self._read
        first, middle, last = read.cuts[:, rows]
        return Updates(
            read.levels[:, ranges(first, last - first)],
            np.stack([middle - first, last - middle]),
            read.wholes[:3, rows],
            self._said.whole[forms].T[:3],
            self._said.is_snapshot[forms],
        )
