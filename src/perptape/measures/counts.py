"""Sparse counts that grow, and quantiles of them."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from perptape.kernels import (
    PAGE,
    PAGE_BITS,
    SERIES_BITS,
    SPILLED,
    TABLE,
    USED,
    Counts,
    Floats,
    Ints,
    Scratch,
    recount,
    rehash,
)

FIRST_PAGES = 1 << 8
SLOTS_PER_PAGE = 4
NO_NAME = -1
SERIES_SHIFT = SERIES_BITS + PAGE_BITS
MIDDLE = 1 << (SERIES_SHIFT - 1)
"""Offset of a series' key 0 among its bins."""


class SparseCounts:
    """Exact counts of integer keys, by series; memory follows the number of different pages."""

    def __init__(self, spill: int) -> None:
        """``spill`` is the most that a loop may count before it returns."""
        self.arrays = Counts(
            names=np.full(FIRST_PAGES, NO_NAME, np.int64),
            slots=np.zeros(FIRST_PAGES * SLOTS_PER_PAGE, np.int64),
            pages=np.zeros((FIRST_PAGES, PAGE), np.uint16),
            table=np.zeros(TABLE, np.int64),
            spill=np.empty((spill, 2), np.int64),
        )
        self.arrays.table[USED] = 1  # the page of nowhere
        self._wide: Counter[int] = Counter()
        """What did not fit into the pages."""

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
        names, pages = np.full(more, NO_NAME, np.int64), np.zeros((more, PAGE), np.uint16)
        names[: len(old.names)], pages[: len(old.pages)] = old.names, old.pages
        slots = np.zeros(more * SLOTS_PER_PAGE, np.int64)
        self.arrays = Counts(names, slots, pages, old.table, old.spill)
        rehash(self.arrays)

    def bins(self, series: int) -> tuple[Ints, Ints]:
        """Give the keys of a series, ascending, and how often each came, both [k]."""
        names = self.arrays.names[: self.arrays.table[USED]]
        slots = np.flatnonzero(names >> SERIES_BITS == series)
        keys = ((names[slots] << PAGE_BITS)[:, None] + np.arange(PAGE)).ravel()
        counts = self.arrays.pages[slots].ravel().astype(np.int64)
        wide = {k: n for k, n in self._wide.items() if k >> SERIES_SHIFT == series}
        keys = np.concatenate([keys[counts > 0], np.fromiter(wide, np.int64)])
        counts = np.concatenate([counts[counts > 0], np.fromiter(wide.values(), np.int64)])
        found, places = np.unique(keys, return_inverse=True)
        totals = np.zeros(len(found), np.int64)
        np.add.at(totals, places, counts)
        return found - (series << SERIES_SHIFT) - MIDDLE, totals


def scratch(entries: int, ones: int) -> Scratch:
    """Room for the keys of ``entries``, and ``ones`` weights of one."""
    room = np.empty((3, entries), np.int64)
    return Scratch(room[0], np.ones(max(entries, ones), np.int64), room[1], room[2])


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
