"""What is known of the streams of a batch: records that are followed, and back.

A stream has one record, whichever lanes bring it; others that lanes are compared with have one too.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape import checks
from perptape.checks import Checks
from perptape.course import Course
from perptape.events import Book, Quote
from perptape.follow import FAR, LONG, NOBODY, RECORD, Known
from perptape.timeline import Content, Stream
from perptape.trust import Trust, Wire

NOTHING = Known()


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


class Memory:
    """What is known of all lanes of a batch."""

    def __init__(self, lanes: list[Lane], trust: Trust, found: Checks, first_seq: int) -> None:
        self._lanes, self._trust, self._checks = lanes, trust, found
        self._first_seq = first_seq
        self._places: dict[int, int] = {}
        self._tops: list[Stream | None] = []
        self.known = np.zeros(0, RECORD)
        """Of each lane, then of each stream else that is compared with."""
        self.heard: dict[int, int] = {}
        """By wire: the last time of a frame that was followed."""

    def find(self) -> None:
        """Look for the streams of all lanes, each of which has one record."""
        self._places.clear()
        for place, lane in enumerate(self._lanes):
            lane.find()
            if lane.stream is not None:
                is_first = id(lane.stream) not in self._places
                if is_first or lane.stream.wire == lane.wire.number:
                    self._places[id(lane.stream)] = place
        self._tops = [lane.stream for lane in self._lanes]

    def learn(self) -> None:
        """Take what is known of all lanes, and of what they and others are compared with."""
        facts = [self._fact(place) for place in range(len(self._lanes))]
        facts += [self._fact(place) for place in range(len(facts), len(self._tops))]
        self.known = np.array(facts, RECORD)

    def of_lane(self, place: int) -> list[int]:
        """Give the record of a lane's stream, none if it may be another stream by now."""
        lane = self._lanes[place]
        return [self._places[id(lane.stream)]] if lane.find() else []

    def learn_again(self, places: list[int]) -> bool:
        """Take what is known of some anew; ``False`` if all is to be."""
        for place in places:
            fact = self._fact(place)
            if len(self._tops) > len(self.known):
                return False  # it is compared with what is not there
            self.known[place] = fact
        return bool(places)

    def place(self, stream: Stream | None) -> int:
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
            beside = self.place(quotes)
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

    def remember(self) -> NDArray[np.int32]:
        """Write back what was followed; give the terms of each lane's rows."""
        terms = np.full(len(self._lanes) + 1, -1, np.int32)  # the last: of none
        moved = self.known[: len(self._lanes)]["frames"].nonzero()[0]
        for place, record in zip(moved.tolist(), self.known[moved].tolist(), strict=True):
            lane, known = self._lanes[place], Known._make(record)
            if lane.stream is not None and lane.stream.content is not None:
                _write_back(known, lane.stream, self._first_seq)
                terms[place] = NOBODY if known.idles else lane.stream.terms
                number = lane.wire.number
                lane.wire.last = max(self.heard.get(number, known.last), known.last)
                self.heard[number] = lane.wire.last
        for name in ("frames", "began", "changed"):
            self.known[name][moved] = 0
        return terms


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
