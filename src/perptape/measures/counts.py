"""Sparse counts that grow and can be added, and quantiles of them."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.kernels import (
    PAGE,
    PAGE_BITS,
    SERIES_BITS,
    SERIES_SHIFT,
    SPILLED,
    SPREAD,
    TABLE,
    UNSET,
    USED,
    Counts,
    Floats,
    Ints,
    add_pages,
    recount,
)

PAGES_OF_SERIES, FIRST_PAGES = 1 << 6, 1 << 16
"""Pages at first: for each series, and at most. Until something is counted there they are free."""
MIDDLE = 1 << (SERIES_SHIFT - 1)
"""Offset of a series' key 0 among its bins."""


class Bins(NamedTuple):
    """What was counted, of any number of series."""

    names: Ints
    """[k] of pages, ascending"""
    pages: NDArray[np.integer[Any]]
    """[k, PAGE]"""
    wide: Counter[int]
    """What did not fit into pages, by bin."""

    def of(self, series: int) -> tuple[Ints, Ints]:
        """Give the keys of a series, ascending, and how often each came, both [k]."""
        own = slice(*np.searchsorted(self.names, [s << SERIES_BITS for s in (series, series + 1)]))
        every = self.pages[own].ravel()
        heard = np.flatnonzero(every)
        keys = (self.names[own][heard >> PAGE_BITS] << PAGE_BITS) + (heard & (PAGE - 1))
        counts: Ints = every[heard].astype(np.int64)
        zero = (series << SERIES_SHIFT) + MIDDLE
        wide = {k: n for k, n in self.wide.items() if k >> SERIES_SHIFT == series}
        if not wide:
            return keys - zero, counts
        keys = np.concatenate([keys, np.fromiter(wide, np.int64)])
        counts = np.concatenate([counts, np.fromiter(wide.values(), np.int64)])
        found, places = np.unique(keys, return_inverse=True)
        totals = np.zeros(len(found), np.int64)
        np.add.at(totals, places, counts)
        return found - zero, totals


def added(first: Bins, then: Bins) -> Bins:
    """Add what was counted."""
    names = np.union1d(first.names, then.names)
    pages = np.zeros((len(names), PAGE), np.int64)
    for part in (first, then):
        add_pages(pages, part.pages, np.searchsorted(names, part.names))
    return Bins(names, pages, first.wide + then.wide)


class SparseCounts:
    """Exact counts of integer keys, by series; memory follows the number of different pages."""

    def __init__(self, spill: int, series: int) -> None:
        """``spill`` is the most that a loop may count before it returns."""
        pages = min(series * PAGES_OF_SERIES + 1, FIRST_PAGES)
        self.arrays = Counts(
            names=np.zeros(pages, np.int64),
            first=np.full(series, UNSET, np.int64),
            places=np.zeros((series, SPREAD), np.int32),
            pages=np.zeros((pages, PAGE), np.uint16),
            table=np.zeros(TABLE, np.int64),
            spill=np.empty((spill, 2), np.int64),
        )
        self.arrays.table[USED] = 1  # the page of nowhere
        self._wide: Counter[int] = Counter()

    def absorb(self) -> None:
        """Take away what was spilled: into more pages if they ran out, else it is too wide."""
        table = self.arrays.table
        while spilled := int(table[SPILLED]):
            bins, weights = self.arrays.spill[:spilled].T.copy()
            table[SPILLED] = 0
            if table[USED] < len(self.arrays.names):
                for of_bin, weight in zip(bins.tolist(), weights.tolist(), strict=True):
                    self._wide[of_bin] += weight
            else:
                self._double()
                recount(bins, weights, self.arrays)

    def _double(self) -> None:
        old = self.arrays
        more = 2 * len(old.names)
        names, pages = np.zeros(more, np.int64), np.zeros((more, PAGE), np.uint16)
        names[: len(old.names)], pages[: len(old.pages)] = old.names, old.pages
        self.arrays = old._replace(names=names, pages=pages)

    def told(self) -> Bins:
        used = slice(1, int(self.arrays.table[USED]))
        order = np.argsort(self.arrays.names[used])
        return Bins(
            self.arrays.names[used][order], self.arrays.pages[used][order], self._wide.copy()
        )

    def bins(self, series: int) -> tuple[Ints, Ints]:
        """Give the keys of a series, ascending, and how often each came, both [k]."""
        return self.told().of(series)


def quantiles(values: Floats, counts: Ints, at: Sequence[Fraction]) -> list[float]:
    """Interpolate linearly between order statistics: rank (n - 1) q of n values, n > 0.

    ``values`` [k] ascend and came ``counts`` [k] times. The same as numpy's ``linear``.
    """
    below = np.cumsum(counts)
    found = []
    for q in at:
        place = (int(below[-1]) - 1) * q
        rank = int(place)
        low, high = (
            values[min(int(np.searchsorted(below, r, side="right")), len(values) - 1)]
            for r in (rank, rank + 1)
        )
        found.append(float(low + float(place - rank) * (high - low)))
    return found
