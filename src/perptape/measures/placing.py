"""Stamps of rows -> when they were made by our clock, market by market, in the order of the stream.

A row is placed at its stamp less the offset of the venue's clock, and then

- not before a row of its market that came earlier: what a venue says in order stays in order;
- not later than it came, by more than the clock may be wrong: a stamp beyond that is not true;
- not earlier than ``MOST_LATE_NS`` before it came, which bounds how many rows must wait.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.align import Spans
from perptape.events import MS, NS
from perptape.kernels import NEVER, Floats, Ints
from perptape.measures.mids import placed
from perptape.measures.round_trips import Course

MOST_LATE_NS = 10 * NS
"""Rows wait for so long to be put in order. What comes later than this after its stamp is placed
so long before it came, and the time between is not trusted."""
UNITS_NS = (NS, MS, 1000, 1)
"""What stamps may be whole in: by so much less than one of them they may be early."""


Bools = NDArray[np.bool_]


class Rows(NamedTuple):
    """Rows of one market in receive order [n]."""

    ts: Ints
    """When we had them."""
    stamp: Ints
    """By the venue's clock; -NEVER where there is none."""


class Placed(NamedTuple):
    """Where they belong, and what that rests on [n]."""

    at: Ints
    made: Ints
    """The stamp on our clock; -NEVER where there is none."""
    limit: Ints
    """The latest that it may be."""
    is_news: Bools
    """Its stamp is later than all before it."""
    number: Ints
    """Of the trusted stretch that began last before it came."""
    inside: Bools
    """It came in that stretch."""


class Placing:
    """Places the rows of one market of one tape, in parts of any size."""

    def __init__(self, course: Course, spans: Spans, delay_ns: int | None = None) -> None:
        """``delay_ns``: what is known when a stretch begins is from so long before, at most."""
        self._course, self._spans = course, spans
        self._floors = None if delay_ns is None else np.append(-NEVER, spans.starts - delay_ns)
        self._at = self._stamp = -NEVER

    def place(self, rows: Rows) -> Placed:
        """Take the next rows; there is one."""
        offset_ms, error_ms = self._course.at(rows.ts)
        offset, limit = _ns(offset_ms), rows.ts + _ns(error_ms)
        is_stamped = rows.stamp != -NEVER
        made = np.where(is_stamped, np.where(is_stamped, rows.stamp, 0) - offset, -NEVER)
        stamp = np.where(is_stamped, np.minimum(rows.stamp, limit + offset), -NEVER)
        latest = np.maximum.accumulate(np.append(self._stamp, stamp))
        at = np.maximum.accumulate(np.append(self._at, np.minimum(made, limit)))[1:]
        self._stamp, self._at = int(latest[-1]), int(at[-1])
        number, inside = placed(self._spans, rows.ts)
        at = np.maximum(at, rows.ts - MOST_LATE_NS)
        if self._floors is not None:
            at = np.maximum(at, self._floors[number + 1])
        return Placed(at, made, limit, stamp > latest[:-1], number, inside)


def _ns(ms: Floats) -> Ints:
    found: Ints = np.rint(ms * MS).astype(np.int64)
    return found


class Tally:
    """What was seen of one market's stamps on trusted time."""

    def __init__(self, spans: Spans) -> None:
        self.rows = self.unstamped = self.early = self.late = 0
        self.early_ns = 0
        """The most that a stamp was later than its receipt."""
        self.delay_ns = 0
        """The longest that news took, of what began no stretch."""
        self.units = np.ones(len(UNITS_NS), np.bool_)
        """Whether all stamps are whole in each of ``UNITS_NS``."""
        self.first = np.full(len(spans.starts), NEVER)
        """[k]: where the first row of each stretch is placed, and the last."""
        self.last = np.full(len(spans.starts), -NEVER)
        self.missed: list[tuple[int, int]] = []
        """From where each one that came too late belongs to where it is placed."""

    @property
    def unit_ns(self) -> int:
        """What all stamps are whole in."""
        return UNITS_NS[int(np.argmax(self.units))]

    def add(self, rows: Rows, placed: Placed) -> None:
        """Take in rows in the order in which they came."""
        own = placed.inside
        if not own.any():
            return
        is_stamped = own & (placed.made != -NEVER)
        early = is_stamped & (placed.made > placed.limit)
        news = is_stamped & placed.is_news & ~self._begins(placed)
        late = news & (placed.made < placed.at) & (placed.at == rows.ts - MOST_LATE_NS)
        self.rows += int(own.sum())
        self.unstamped += int((own & ~is_stamped).sum())
        self.early += int(early.sum())
        self.late += int(late.sum())
        self.early_ns = max(self.early_ns, _most((placed.made - rows.ts)[early]))
        self.delay_ns = max(self.delay_ns, _most((rows.ts - placed.at)[news]))
        self.missed += zip(placed.made[late].tolist(), placed.at[late].tolist(), strict=True)
        for u, unit in enumerate(UNITS_NS):
            self.units[u] &= not (rows.stamp[is_stamped] % unit).any()
        np.minimum.at(self.first, placed.number[own], placed.at[own])
        np.maximum.at(self.last, placed.number[own], placed.at[own])

    def _begins(self, placed: Placed) -> Bools:
        """Tell which rows are the first of their stretch: they tell of what was there before."""
        found = np.zeros(len(placed.at), np.bool_)
        (own,) = np.nonzero(placed.inside)
        numbers, first = np.unique(placed.number[own], return_index=True)
        found[own[first[self.first[numbers] == NEVER]]] = True
        return found


def _most(ns: Ints) -> int:
    return int(ns.max(initial=0))
