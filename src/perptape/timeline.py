"""One market's channel through time: stretches that follow each other, each trusted or not."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from perptape.course import Course
from perptape.events import NS, Funding, Mark

JOIN_NS = 1 * NS
"""Imported files of one market that follow each other this closely are one recording."""
NEVER = 1 << 62
BETWEEN = ("disconnect", "between two recordings")


class Interval(msgspec.Struct, frozen=True):
    """A stretch of one market's channel, both ends included, in ns."""

    market: str
    channel: str
    start: int
    end: int
    trusted: bool
    reason: str
    """Why it is not trusted; of a trusted interval: what ended it."""
    detail: str = ""


class Content(msgspec.Struct):
    """What the checks of a stream's content remember."""

    wire: int
    """All but the cadence is of this wire, and begins anew with the next."""
    first_seq: int
    """Its first frame on that wire."""
    course: Course | None = None
    """Of a book."""
    book: int = -1
    """Of a book: its number."""
    known: Mark | Funding | None = None
    """What was said, put together of partial news."""
    paid_until: int = 0
    """``ts_funding`` of the last payment that was told."""
    bid: float = math.nan
    ask: float = math.nan
    since: int = 0
    """Since when it contradicts another stream of its market, 0 if it does not."""
    against: int = 0
    """How often trades contradicted it while it did not change."""
    against_since: int = 0
    """Since when they do."""


class Stream(msgspec.Struct, eq=False):
    """One market's channel while the tape is read: its past, and the stretch now open."""

    market: str
    channel: str
    since: int
    """Begin of the open stretch; the end of the last of the past."""
    trusted: bool = False
    reason: str = "start"
    detail: str = ""
    past: list[Interval] = []
    frames: int = 0
    seq: int = 0
    """The last frame counted: one frame may hold several events."""
    last: int = 0
    """``ts_recv`` of its last data."""
    wire: int = 0
    """The wire that carries it; its data on another proves nothing."""
    left: int = 0
    """The wire that it was taken off, because it has ended: what still comes there is no more."""
    marks: tuple[bytes, ...] = ()
    terms: int = -1
    """What its rows are made with, by the ledger's list."""
    promised_ns: int = 0
    """How often the venue promises to repeat it, changed or not; 0: it does not."""
    is_slow: bool = False
    """It speaks of news only, and may have none for long."""
    has_base: bool = False
    """Of a book: it begins from a REST call."""
    bound: int = NEVER
    """Time without a frame, in ns, after which it counts as stalled while others speak."""
    pause: int = 2 * NS
    """A time without a frame that is none of its own cadence."""
    awake_since: int = 0
    """When the last pause ended."""
    gaps: int = 0
    """Between its frames while it was trusted: how many, how long together, and the longest."""
    gaps_ns: int = 0
    longest_ns: int = 0
    content: Content | None = None
    """What its own frames say of it so far."""
    told: dict[str, None] = {}
    """The ids of its last trades, the oldest first."""
    doubt: str = ""
    """Why its data is not trusted though it comes: a reason, as long as it stands."""

    def turn(self, ts: int, *, trusted: bool, reason: str = "", detail: str = "") -> None:
        """End the open stretch at ``ts`` and begin another.

        One without length leaves no trace, unless it parts trusted time.
        """
        last = self.past[-1] if self.past else None
        parts = trusted and not self.trusted and last is not None and last.trusted
        if ts > self.since or parts:
            ts = max(ts, self.since)
            why, words = (reason, detail) if self.trusted else (self.reason, self.detail)
            if last is not None and not (self.trusted or last.trusted) and last.reason == why:
                self.past[-1] = replace(last, end=ts)
            else:
                self.past.append(
                    Interval(self.market, self.channel, self.since, ts, self.trusted, why, words)
                )
        self.since, self.trusted = max(ts, self.since), trusted
        self.reason, self.detail = reason, detail

    def distrust(self, ts: int, reason: str, detail: str = "") -> None:
        """End trust at ``ts``; of untrusted time only the reason changes, from ``ts`` on."""
        if self.trusted or self.reason != reason:
            self.turn(ts, trusted=False, reason=reason, detail=detail)

    def forget(self) -> None:
        """Know no more what was put together of its frames: one of them is missing.

        A book goes on where its ids prove that none of its own was.
        """
        if self.content is not None:
            self.content.known = None
            course = self.content.course
            if course is not None and course.chain.last is None:
                course.chain.void()

    def explain(self, reason: str, detail: str) -> None:
        """Give the open untrusted stretch, and what it ended, a better reason."""
        self.reason, self.detail = reason, detail
        if self.past and self.past[-1].trusted and self.past[-1].end == self.since:
            self.past[-1] = replace(self.past[-1], reason=reason, detail=detail)

    def repeat(self, ts: int, reason: str, detail: str) -> None:
        """Forget what was said of the time after ``ts``, which comes again, and trust none of it.

        The stretch before, if trusted, is now ended by ``reason``.
        """
        origin = self.past[0].start if self.past else self.since
        while self.past and self.past[-1].start >= ts:
            self.past.pop()
        if self.past and self.past[-1].end > ts:
            last = self.past[-1]
            cut = replace(last, end=ts)
            self.past[-1] = replace(cut, reason=reason, detail=detail) if last.trusted else cut
        if self.since > ts:
            self.since, self.trusted = max(origin, ts), False
            self.reason, self.detail = reason, detail
        elif self.trusted:
            self.turn(ts, trusted=False, reason=reason, detail=detail)


def ended(piece: Stream) -> list[Interval]:
    """Give an imported file's stretches: trusted from its first to its last frame, both included.

    The end of one that was not trusted at last is a stretch without length: it tells why.
    """
    is_instant = piece.trusted and not piece.past and piece.last <= piece.since
    if piece.trusted:
        piece.turn(piece.last, trusted=False, reason="shutdown")
        if not is_instant:
            return piece.past
    point = Interval(piece.market, piece.channel, piece.since, piece.since, is_instant, "")
    return [*piece.past, replace(point, reason=piece.reason, detail=piece.detail)]


def combined(intervals: Iterable[Interval]) -> list[Interval]:
    """Make one course of time of several that overlap: heard whole by one is heard whole."""
    ordered = sorted(intervals, key=lambda i: (i.start, i.end))
    if not ordered:
        return []
    holes = _apart(i for i in ordered if not i.trusted)
    starts = [hole.start for hole in holes]
    found: list[Interval] = []
    end = ordered[0].start
    for span in _joined([i for i in ordered if i.trusted], holes, starts):
        found += [*_between(span, end, span.start, holes, starts), span]
        end = span.end
    found += _between(ordered[-1], end, max(i.end for i in ordered), holes, starts)
    return told_once(found)


def told_once(intervals: Iterable[Interval]) -> list[Interval]:
    """Join untrusted stretches of one reason; let trusted ones say what ended them."""
    found: list[Interval] = []
    for interval in intervals:
        last = found[-1] if found else None
        if last is None:
            found.append(interval)
        elif last.trusted:
            found[-1] = replace(last, reason=interval.reason, detail=interval.detail)
            found.append(interval)
        elif interval.trusted or interval.reason != last.reason:
            found.append(interval)
        else:
            found[-1] = replace(last, end=interval.end)
    return found


def _apart(holes: Iterable[Interval]) -> list[Interval]:
    """Cut untrusted stretches where the one before still goes on."""
    found: list[Interval] = []
    for hole in holes:
        start = max(hole.start, found[-1].end) if found else hole.start
        if start <= hole.end:
            found.append(replace(hole, start=start))
    return found


def _joined(
    spans: Sequence[Interval], holes: Sequence[Interval], starts: Sequence[int]
) -> list[Interval]:
    """Join trusted stretches that overlap, or follow closely with nothing known between."""
    found: list[Interval] = []
    for span in spans:
        last = found[-1] if found else None
        if last is not None and (
            span.start <= last.end
            or (
                span.start - last.end <= JOIN_NS
                and not any(True for _ in _holes(last.end, span.start, holes, starts))
            )
        ):
            if span.end > last.end:
                found[-1] = replace(last, end=span.end, reason=span.reason, detail=span.detail)
        else:
            found.append(span)
    return found


def _holes(
    start: int, end: int, holes: Sequence[Interval], starts: Sequence[int]
) -> Iterator[Interval]:
    """Give what is known of the time between, cut to it, in order."""
    for at in range(max(bisect_right(starts, start) - 1, 0), len(holes)):
        hole = holes[at]
        if hole.start > end:
            return
        if hole.end >= start:
            yield replace(hole, start=max(hole.start, start), end=min(hole.end, end))


def _between(
    like: Interval, start: int, end: int, holes: Sequence[Interval], starts: Sequence[int]
) -> Iterator[Interval]:
    """Fill the time between two trusted stretches with reasons, leaving none of it out."""
    reason, detail = BETWEEN
    if start >= end:
        return
    for hole in _holes(start, end, holes, starts):
        if hole.start > start:
            yield replace(
                like, start=start, end=hole.start, trusted=False, reason=reason, detail=detail
            )
        if hole.end > hole.start:
            yield hole
        elif hole.start == start:
            reason, detail = hole.reason, hole.detail
        start = max(start, hole.end)
    if start < end:
        yield replace(like, start=start, end=end, trusted=False, reason=reason, detail=detail)
