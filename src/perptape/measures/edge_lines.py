"""Edges along time, to draw: the pass of :mod:`perptape.measures.edges`, looked at step by step.

The pass is the same and so are its numbers; at the end of each step it is asked what every edge
is then, and what its extremes were since the step before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from perptape import sweep
from perptape.align import fixed
from perptape.depth import Updates
from perptape.kernels import NEVER, Floats, Ints
from perptape.measures.edges import Swept
from perptape.measures.passes import Accumulator, Part
from perptape.measures.scenes import Asked, Scene, Table
from perptape.measures.updates import needed, updates
from perptape.series import Drawn


class Steps(NamedTuple):
    """Equal steps of time: ``starts`` ascending, ns [n]."""

    starts: Ints
    step_ns: int

    @property
    def ends(self) -> Ints:
        return self.starts + self.step_ns


class Followed(Accumulator):
    """An accumulator that is looked at now and then; what it comes to stays the same."""

    def __init__(self, scene: Scene, asked: Asked, *, part: tuple[int, int], ts_to: int) -> None:
        super().__init__(scene, asked, part=part, ts_to=ts_to)
        values = self._state.streams.values
        self._least, self._most = values[:, sweep.LEAST].copy(), values[:, sweep.MOST].copy()

    def look(self, ts: int) -> tuple[Floats, Floats, Floats]:
        """Give least, most and last edge [S] since the look before; NaN where there is none.

        All updates before ``ts`` are in, and none of a later time.
        """
        self.feed(_nothing(ts))
        values = self._state.streams.values
        last = values[:, sweep.X]
        last = np.where(np.isfinite(last), last, np.nan)
        low = np.fmin(last, _known(values[:, sweep.LEAST]))
        high = np.fmax(last, _known(values[:, sweep.MOST]))
        self._keep()
        values[:, sweep.LEAST], values[:, sweep.MOST] = np.inf, -np.inf
        return low, high, last

    def _keep(self) -> None:
        values = self._state.streams.values
        self._least = np.minimum(self._least, values[:, sweep.LEAST])
        self._most = np.maximum(self._most, values[:, sweep.MOST])

    def _told(self) -> Part:
        self._keep()
        return super()._told()._replace(least=self._least, most=self._most)


def _known(extreme: Floats) -> Floats:
    return np.where(np.isfinite(extreme), extreme, np.nan)


def _nothing(ts: int) -> Updates:
    """An update of no market: it only lets time pass."""
    empty = np.empty(0)
    arrays = (
        np.array([ts]), np.array([-1]), np.zeros(2, np.int64), np.zeros(1, np.bool_),
        np.empty(0, np.int8), empty, empty,
    )  # fmt: skip
    return Updates(*map(fixed, arrays))


def _cut(chunk: Updates, start: int, stop: int) -> Updates:
    """Take some updates with their levels."""
    low, high = int(chunk.starts[start]), int(chunk.starts[stop])
    return Updates(
        *map(
            fixed,
            (
                chunk.ts[start:stop], chunk.market[start:stop],
                chunk.starts[start : stop + 1] - low, chunk.wholes[start:stop],
                chunk.sides[low:high], chunk.prices[low:high], chunk.sizes[low:high],
            ),
        )
    )  # fmt: skip


def swept_along(  # noqa: PLR0913 - what to read, and what to ask of it
    books: Sequence[Table],
    quotes: Sequence[Table],
    scene: Scene,
    asked: Asked,
    steps: Steps,
    *,
    ts_from: int = -NEVER,
    ts_to: int = NEVER,
) -> tuple[Swept, Mapping[tuple[str, str, float], Drawn]]:
    """Sweep once; give what it came to, and every edge by (sell, buy, notional) along ``steps``.

    Of several tiers of fees the first is drawn.

    Raises Failed if rows are not in receive order.
    """
    accumulator = Followed(scene, asked, part=(ts_from, NEVER), ts_to=ts_to)
    ends, looks = steps.ends, list[tuple[Floats, Floats, Floats]]()
    first = needed(books, scene.coin, scene.is_top, ts_from, ts_to)
    for chunk in updates(books, quotes, scene.coin, scene.is_top, ts_from=first, ts_to=ts_to):
        start = 0
        while len(looks) < len(ends) and chunk.ts[-1] >= ends[len(looks)]:
            end = int(ends[len(looks)])
            stop = int(np.searchsorted(chunk.ts, end))
            accumulator.feed(_cut(chunk, start, stop))
            looks.append(accumulator.look(end))
            start = stop
        accumulator.feed(_cut(chunk, start, len(chunk.ts)))
    looks += [accumulator.look(int(end)) for end in ends[len(looks) :]]
    swept = Swept(scene, asked, accumulator.finish(), ts_from, ts_to)
    low, high, last = np.array(looks).reshape(len(ends), 3, -1).transpose(1, 2, 0)
    drawn: dict[tuple[str, str, float], Drawn] = {}
    names = [(e.sell, e.buy, size) for e in scene.entries for size in asked.notionals]
    for s, name in enumerate(names):
        drawn.setdefault(name, Drawn(low[s], high[s], last[s]))
    return swept, drawn
