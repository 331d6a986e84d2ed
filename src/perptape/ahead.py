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

from perptape import checks
from perptape.checks import Checks
from perptape.columns import Quotes, Updates, ranges
from perptape.course import Course
from perptape.errors import BadFrame
from perptape.events import Book, Event, Funding, Kind, Mark, Quote, Trade
from perptape.follow import FAR, LONG, NOBODY, RECORD, Known, Rules, Said, Traded, follow
from perptape.matching import Ints
from perptape.tape import Batch
from perptape.templates import Forms, Read
from perptape.timeline import Content, Stream
from perptape.trust import Trust, Wire

LAST_DATA, LAST_WIRE_KIND = int(Kind.BINARY), int(Kind.SENT)
APART = {Trade, Mark, Funding}
"""Events that lanes do not tell of, and do not look at."""
NOTHING = Known()

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


class Lane(msgspec.Struct, eq=False):
    """One symbol's quotes, or its book, on one wire, in one batch."""

    wire: Wire
    symbol: str
    is_book: bool
    stream: Stream | None = None
    content: Content | None = None
    """Of its stream. Both are others after some frames of the ledger's."""

    def find(self) -> bool:
        """Look for its stream; tell whether it is the one that was known."""
        stream, content = self.stream, self.content
        self.stream = self.wire.streams.get((self.symbol, Book if self.is_book else Quote))
        self.content = None if self.stream is None else self.stream.content
        return content is not None and self.stream is stream and self.content is content

    def is_here(self, trust: Trust) -> bool:
        """Tell whether this wire carries it, in time that is known."""
        stream = self.stream
        if stream is None or stream.content is None:
            return False
        is_here = stream.wire == stream.content.wire == self.wire.number
        return is_here and (self.wire.imported or not trust.fell)

    def is_regular(self, trust: Trust) -> bool:
        """Tell whether one more can change nothing but what is quoted."""
        stream = self.stream
        is_well = stream is not None and stream.trusted and not stream.doubt
        return is_well and self.is_here(trust)

    def idles(self) -> bool:
        """Tell whether it is a book that has not begun, and that no change can make begin."""
        stream, content = self.stream, self.content
        course = None if content is None else content.course
        if stream is None or course is None or stream.trusted or not stream.doubt:
            return False
        return course.chain.is_void and not course.has_base


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
        self._heard: dict[int, int] = {}
        """By wire: the last time of a frame that was followed."""

    def steps(self) -> Iterator[Step]:
        """Follow what can be followed; give the rest."""
        row, end = 0, len(self._batch)
        while row < end:
            self._find()
            stop, is_known = self._reach(), True
            self._learn()
            self._traded = Traded.of(self._trades)
            while row < end and is_known:
                reached = self._run(row, stop)
                yield from self._passed(reached)
                if reached < end:
                    yield self._single(reached)
                    is_known = reached < stop and self._learn_again(reached)
                row = reached + 1

    # What is known

    def _find(self) -> None:
        """Look for the streams of all lanes, each of which has one record."""
        self._places: dict[int, int] = {}
        for place, lane in enumerate(self._lanes):
            lane.find()
            if lane.stream is not None:
                is_first = id(lane.stream) not in self._places
                if is_first or lane.stream.wire == lane.wire.number:
                    self._places[id(lane.stream)] = place
        self._tops = [lane.stream for lane in self._lanes]

    def _learn(self) -> None:
        """Take what is known of all lanes, and of what they and others are compared with."""
        facts = [self._fact(place) for place in range(len(self._lanes))]
        facts += [self._fact(place) for place in range(len(facts), len(self._tops))]
        self._known = np.array(facts, RECORD)

    def _learn_again(self, row: int) -> bool:
        """Take what a frame may have changed that the ledger had; ``False``: that may be all."""
        place = self._lane_of[row]
        if place >= 0:
            lane = self._lanes[place]
            places = [self._places[id(lane.stream)]] if lane.find() else []
        else:
            places = self._traded.place[self._traded.row == row].tolist()
        for place in places:
            fact = self._fact(place)
            if len(self._tops) > len(self._known):
                return False  # it is compared with what is not there
            self._known[place] = fact
        return bool(places)

    def _place(self, stream: Stream | None) -> int:
        """Give the record of a stream that others are compared with."""
        if stream is None:
            return NOBODY
        place = self._places.setdefault(id(stream), len(self._tops))
        if place == len(self._tops):
            self._tops.append(stream)
        return place

    def _top(self, stream: Stream) -> Known:
        content = stream.content
        if content is None or not stream.trusted:
            return NOTHING
        wire = self._trust.wires.get(content.wire)
        return NOTHING._replace(
            stands=True,
            is_file=wire is not None and wire.imported,
            last=max(-FAR, min(stream.last, FAR)),
            bid=content.bid,
            ask=content.ask,
            against=content.against,
        )

    def _fact(self, place: int) -> Known:
        stream = self._tops[place]
        if stream is None or self._places[id(stream)] != place:
            return NOTHING
        if place >= len(self._lanes):
            return self._top(stream)
        lane = self._lanes[place]
        content = stream.content
        if content is None or not lane.is_here(self._trust) or not _is_small(stream):
            return self._top(stream)
        course, beside = content.course, NOBODY
        if not lane.is_regular(self._trust):
            return _idle(stream, course) if lane.idles() and course else self._top(stream)
        if lane.is_book:
            if course is None or content.book < 0 or course.newest is not None:
                return self._top(stream)
            quotes = self._checks.own(stream.market, "quotes", is_file=lane.wire.imported)
            beside = self._place(quotes)
        at = None if course is None else course.chain.last
        return Known(
            True,  # noqa: FBT003 - of a record
            False,  # noqa: FBT003
            True,  # noqa: FBT003
            lane.wire.imported,
            stream.last,
            checks.promised_bound(stream) if stream.promised_ns else 0,
            checks.FLOOR_NS.get(stream.channel, checks.FLOOR_OTHER_NS),
            stream.gaps,
            stream.gaps_ns,
            stream.longest_ns,
            stream.pause,
            stream.bound,
            stream.awake_since,
            content.bid,
            content.ask,
            content.against,
            beside,
            content.book if lane.is_book else NOBODY,
            course is not None and course.chain.is_void,
            at is not None,
            at or 0,
            since=content.since,
        )

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
                    self._trades.append((row, self._place(top), event.price))
        return kind in APART

    def _passed(self, row: int) -> Iterator[Step]:
        """Give the frames of others before a row."""
        waiting, seq = self._waiting, self._batch.first_seq + row
        self._checks.compared = True
        while waiting and waiting[0][0] < seq:
            yield waiting.popleft()
        self._checks.compared = False
        for number, ts in self._heard.items():
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
            *(self._traded, self._known, self._checks.books.shelf, self._rules),
        )
        terms = self._remember()
        self._terms[row:reached] = terms[self._lane[row:reached]]
        if is_odd:
            self._look(self._lane_of[reached - 1])
        return reached

    def _look(self, place: int) -> None:
        stream = self._lanes[place].stream
        if stream is not None and stream.content is not None:
            self._checks.moved(stream, stream.content, stream.last)
        self._known[place] = self._fact(place)

    def _remember(self) -> NDArray[np.int32]:
        """Write back what was followed; give the terms of each lane's rows."""
        terms = np.full(len(self._lanes) + 1, -1, np.int32)  # the last: of none
        moved = self._known[: len(self._lanes)]["frames"].nonzero()[0]
        for place, record in zip(moved.tolist(), self._known[moved].tolist(), strict=True):
            lane, known = self._lanes[place], Known._make(record)
            if lane.stream is not None and lane.stream.content is not None:
                _write_back(known, lane.stream, self._batch.first_seq)
                terms[place] = NOBODY if known.idles else lane.stream.terms
                number = lane.wire.number
                lane.wire.last = max(self._heard.get(number, known.last), known.last)
                self._heard[number] = lane.wire.last
        for name in ("frames", "began", "changed"):
            self._known[name][moved] = 0
        return terms

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


def _is_small(stream: Stream) -> bool:
    """Tell whether its numbers are such that those of a record hold what they become."""
    content = stream.content
    course = None if content is None else content.course
    is_small = 0 <= stream.last < FAR and stream.gaps_ns < FAR // 2 and stream.longest_ns < LONG
    if course is None:
        return is_small
    ids = (course.chain.last, course.chain.run_first, course.chain.run_last)
    return is_small and all(abs(at or 0) < FAR for at in ids)


def _idle(stream: Stream, course: Course) -> Known:
    first, last = course.chain.run_first, course.chain.run_last
    return NOTHING._replace(
        idles=True,
        last=stream.last,
        pause=stream.pause,
        bound=stream.bound,
        awake_since=stream.awake_since,
        gaps=stream.gaps,
        gaps_ns=stream.gaps_ns,
        longest_ns=stream.longest_ns,
        book=0,
        has_id=last is not None,
        id=last or 0,
        has_first=first is not None,
        first=first or 0,
    )


def _write_back(known: Known, stream: Stream, first_seq: int) -> None:
    stream.frames += known.frames
    stream.seq = first_seq + known.row
    stream.last = known.last
    stream.gaps, stream.gaps_ns, stream.longest_ns = known.gaps, known.gaps_ns, known.longest_ns
    stream.pause, stream.bound, stream.awake_since = known.pause, known.bound, known.awake_since
    content = stream.content
    assert content is not None  # noqa: S101 - it was regular
    if known.idles and content.course is not None:
        chain = content.course.chain
        chain.run_first = known.first if known.has_first else None
        chain.run_last = known.id if known.has_id else None
        return
    content.bid, content.ask, content.against = known.bid, known.ask, 0
    if content.course is not None:
        content.since = known.since
        update_id = known.id if known.has_id else None
        content.course.go_on(update_id, known.last, began=known.began, changed=known.changed)
