"""Wall time for a whole recording: one anchor on the monotonic clock, checked for steps."""

import time
from collections.abc import Callable

from perptape.events import MS

STEP_NS = 1 * MS
"""A wall clock that has moved this far from its anchor has been stepped."""
READINGS = 5


class Clock:
    """``ts = mono + offset``, both in ns; ``offset`` changes only in :meth:`check`."""

    def __init__(
        self,
        wall: Callable[[], int] = time.time_ns,
        mono: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall, self.mono = wall, mono
        self.offset = self._measure()

    def now(self) -> tuple[int, int]:
        """Give the wall time and the monotonic time of this moment."""
        mono = self.mono()
        return mono + self.offset, mono

    def check(self) -> int | None:
        """Compare with the wall clock; on a step take a new anchor and give the step in ns."""
        step = self._measure() - self.offset
        if abs(step) <= STEP_NS:
            return None
        self.offset += step
        return step

    def _measure(self) -> int:
        """Read the wall clock between two monotonic readings, as close as they come."""
        readings = ((self.mono(), self._wall(), self.mono()) for _ in range(READINGS))
        before, wall, after = min(readings, key=lambda r: r[2] - r[0])
        return wall - (before + after) // 2
