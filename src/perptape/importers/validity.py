"""Which time a market's rows are trusted for, when the map says how long a row holds.

A row with a price is trusted from its stamp up to ``valid_ns`` later, that moment not included; a
row without one ends the trust in those before it. What is left is untrusted: ``stale``.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from perptape.errors import BadUsage
from perptape.timeline import Interval, combined

CHANNEL = "quotes"
STALE, SHUTDOWN = "stale", "shutdown"
UNPRICED = "a row without a price"
STRETCHES_AT_MOST = 1_000_000
"""Of all markets together: each is a row of the ledger."""
FOR_EVER = 1 << 62

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Course(msgspec.Struct, eq=False):
    """One market's rows as they pass in order of time."""

    market: str
    valid_ns: int | None
    valid_for: str
    """The same in the user's words."""
    ts_first: int = 0
    ts_last: int = 0
    """Of its last row."""
    is_open: bool = False
    """Its last row has a price."""
    rows: int = 0
    starts: list[Ints] = []
    ends: list[Ints] = []
    unpriced: list[Bools] = []
    """Of each stretch: a row without a price ended it, not its age."""

    def feed(self, ts: Ints, priced: Bools) -> int:
        """Take in the next rows; give how many stretches they ended."""
        if not len(ts):
            return 0
        if not self.rows:
            self.ts_first = int(ts[0])
            self.starts.append(ts[:1][priced[:1]])
        else:
            ts, priced = np.r_[self.ts_last, ts], np.r_[self.is_open, priced]
        self.rows += len(ts)
        ended = self._follow(ts, priced)
        self.ts_last, self.is_open = int(ts[-1]), bool(priced[-1])
        return ended

    def _follow(self, ts: Ints, priced: Bools) -> int:
        age = FOR_EVER if self.valid_ns is None else self.valid_ns
        late = np.diff(ts) > age
        breaks = late | ~priced[1:] | ~priced[:-1]
        closing = breaks & priced[:-1]
        ends = np.where(late, ts[:-1] + min(age, FOR_EVER - int(ts[-1])), ts[1:]) - 1
        self.ends.append(ends[closing])
        self.unpriced.append(~late[closing])
        self.starts.append(ts[1:][breaks & priced[1:]])
        return int(closing.sum())

    def intervals(self) -> list[Interval]:
        """Give all its stretches, when no more rows come."""
        starts, ends = np.concatenate(self.starts), np.concatenate([*self.ends, self._last()])
        unpriced = np.concatenate([*self.unpriced, np.zeros(1, np.bool_)])[: len(ends)]
        spans = [
            self._stretch(int(start), int(end), trusted=True, why=self._why(by_row=is_unpriced))
            for start, end, is_unpriced in zip(starts, ends, unpriced, strict=True)
            if start <= end
        ]
        if spans and self.is_open:
            spans[-1] = replace(spans[-1], reason=SHUTDOWN, detail="")
        return [*self._with_holes(spans)]

    def _stretch(self, start: int, end: int, *, trusted: bool, why: str) -> Interval:
        return Interval(self.market, CHANNEL, start, end, trusted, STALE, why)

    def _last(self) -> Ints:
        if not self.is_open:
            return np.empty(0, np.int64)
        return np.array([self.ts_last + (self.valid_ns - 1 if self.valid_ns else 0)])

    def _why(self, *, by_row: bool) -> str:
        return UNPRICED if by_row else f"no row for {self.valid_for}"

    def _with_holes(self, spans: Sequence[Interval]) -> Iterator[Interval]:
        """Put an untrusted stretch wherever there is none between the first row and the last."""
        begin = spans[0].start if spans else self.ts_last
        if begin > self.ts_first or not spans:
            yield self._stretch(self.ts_first, begin, trusted=False, why=UNPRICED)
        limits = [*(after.start for after in spans[1:]), self.ts_last]
        for span, until in zip(spans, limits, strict=False):
            yield span
            if until > span.end:
                yield self._stretch(span.end, until, trusted=False, why=span.detail)


class Validity:
    """Every market's course, by its number."""

    def __init__(self, valid_ns: int | None, valid_for: str = "") -> None:
        self._valid = valid_ns, valid_for
        self.courses: dict[int, Course] = {}
        self._stretches = 0

    def feed(
        self, market: NDArray[np.int32], ts: Ints, priced: Bools, names: Sequence[str]
    ) -> None:
        """Take in rows in order of time.

        Raises BadUsage if there are too many stretches.
        """
        for place in np.unique(market):
            own = market == place
            course = self.courses.get(int(place))
            if course is None:
                course = self.courses[int(place)] = Course(names[place], *self._valid)
            self._stretches += course.feed(ts[own], priced[own])
        if self._stretches > STRETCHES_AT_MOST:
            raise BadUsage(
                f"The rows fall into more than {STRETCHES_AT_MOST:,} stretches of trust: they are "
                "further apart than the map's valid_for, so make that longer."
            )


def joined(old: Sequence[Interval], new: Sequence[Interval]) -> list[Interval]:
    """Make one course of a market's stretches of two imports whose rows do not overlap.

    The later one's first row ends what the earlier one still trusted.
    """
    first, then = sorted((list(old), list(new)), key=lambda part: part[0].start)
    begin = then[0].start
    cut = [replace(i, end=min(i.end, begin - 1)) for i in first if i.start < begin]
    if not then[0].trusted:
        then[0] = replace(then[0], start=cut[-1].end)
    return combined([*cut, *then])
