"""The line under one-way delays: how two clocks drift apart, and how late each message was.

What is received at t was stamped y(t) = delay - offset of the venue's clock earlier, and a delay is
never below some least one. The line under all points that is nearest to them (the least sum of
y - line, a linear program: Moon, Skelly & Towsley, INFOCOM 1999) therefore follows the least delay;
its slope is minus the drift. That program's answer is the edge of the points' lower convex hull
that lies under their mean time, so one pass finds it and only the hull is kept.
"""

from typing import NamedTuple

import numpy as np

from perptape.estimators import extend_hull
from perptape.kernels import Floats, Ints


class Line(NamedTuple):
    """``delay_ns`` at ``ts``, and ``slope`` in ns per ns."""

    ts: int
    delay_ns: float
    slope: float

    def at(self, ts: Ints) -> Floats:
        return self.delay_ns + self.slope * (ts - self.ts).astype(np.float64)


class Envelope:
    """The lower hull of points that come in order of time, in pieces of any size."""

    def __init__(self) -> None:
        self._hull: Floats = np.empty((0, 2))
        self._first: int | None = None
        self._sum = 0.0
        self.rows = 0

    def add(self, ts: Ints, delay_ns: Ints) -> None:
        """Take points [n]; ``ts`` never falls."""
        if not len(ts):
            return
        self._first = int(ts[0]) if self._first is None else self._first
        t: Floats = (ts - self._first).astype(np.float64)
        room: Floats = np.concatenate([self._hull, np.empty((len(t), 2))])
        size = extend_hull(t, delay_ns.astype(np.float64), room, len(self._hull))
        self._hull = room[:size].copy()
        self._sum += float(t.sum())
        self.rows += len(t)

    @property
    def span_ns(self) -> int:
        """Time from the first point to the last."""
        return int(self._hull[-1, 0]) if len(self._hull) else 0

    def flat(self) -> Line | None:
        """Give the level of the lowest point; ``None`` where there is none."""
        if self._first is None:
            return None
        return Line(self._first, float(self._hull[:, 1].min()), 0.0)

    def line(self) -> Line | None:
        """Give the line; ``None`` where all is at one time."""
        hull = self._hull
        if len(hull) < 2 or self._first is None:  # noqa: PLR2004 - a line needs two points
            return None
        right = int(np.searchsorted(hull[:, 0], self._sum / self.rows).clip(1, len(hull) - 1))
        (t0, y0), (t1, y1) = hull[right - 1], hull[right]
        return Line(self._first + int(t0), float(y0), float((y1 - y0) / (t1 - t0)))
