"""What the loops of the measures share: their arrays, exact sums, sparse counts.

Loops are numba: arrays in, arrays out, no Python per row. A helper that is handed arrays inside a
loop costs more than its work (numba counts references), so loops are written out and each takes its
arrays apart once.

Unknown numbers are NaN, times int64 ns. Sums are integers in three limbs of 30 bits, so the order
of additions cannot be seen in a result.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.loops import compiled, inlined

Int = int | np.int64
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NEVER: int = 2**63 - 1
STEP_NS = 100_000_000
"""Step of the sampling grid: its points are the multiples since the epoch."""
BPS = 1e4
BINS_PER_BPS = 1000.0
FINE = 2.0**30
"""Parts of a bp in which gaps are summed."""
MOST_BPS = 2.0**27
"""A gap beyond it (prices 13,000 times apart) enters sums and counts as this much."""
MOST_PRICE = 1e100
"""A price outside (1 / MOST_PRICE, MOST_PRICE) is unknown."""
LIMB = 30
LOW = (1 << LIMB) - 1
PAGE_BITS = 10
PAGE = 1 << PAGE_BITS
SERIES_BITS = 39
SERIES_SHIFT = SERIES_BITS + PAGE_BITS
SPREAD = 1 << 15
"""Pages that a series may have around its first; a key beyond them is spilled."""
NOWHERE = 0
"""The slot of no page: its page stays zero."""
UNSET = -1
NO_KEY = -(1 << 62)
"""Not to be counted."""
MOST_COUNT = 2**16 - 1
MANTISSA_SHIFT = 39
"""Notionals are counted by the upper bits of their float64: right to 6.2e-5 of it."""
MOST_US = 1 << 47
"""Latencies beyond it, four years, count as this much."""
USED, SPILLED, TABLE = range(3)


class Chunk(NamedTuple):
    """Rows in receive order, read-only [n]; market -1 is not analysed."""

    ts: Ints
    market: Ints
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats


class Trust(NamedTuple):
    """Closed intervals, disjoint and ascending; market m has ``first[m]:first[m + 1]``."""

    starts: Ints
    ends: Ints
    first: Ints


class Counts(NamedTuple):
    """Sparse counts in pages of PAGE bins: small, to stay in a core's cache.

    What finds no page left, or its bin full, or is too far from its series' first, is spilled.
    """

    names: Ints
    """What page lies in each slot."""
    first: Ints
    """[S] name of the page at place 0, UNSET before any"""
    places: NDArray[np.int32]
    """[S, SPREAD] slots"""
    pages: NDArray[np.uint16]
    table: Ints
    spill: Ints
    """[k, 2]: bin, weight"""


@inlined
def first_bin(series: Int) -> Int:
    """Give the bin of key 0."""
    return (series << SERIES_BITS) + (1 << (SERIES_BITS - 1)) << PAGE_BITS


@inlined
def float_key(x: float) -> Int:
    """Give the upper bits, rounded."""
    bits: Int = np.float64(x).view(np.int64)
    return (bits + (1 << (MANTISSA_SHIFT - 1))) >> MANTISSA_SHIFT


@inlined
def add_product(a0: Int, a1: Int, a2: Int, x: Int, weight: Int) -> tuple[Int, Int, Int]:
    """Add ``x * weight`` to limbs; |x| < 2**58, 0 <= weight < 2**60."""
    x0, x1 = x & LOW, x >> LIMB
    w0, w1 = weight & LOW, weight >> LIMB
    low = a0 + x0 * w0
    middle = a1 + x1 * w0 + x0 * w1 + (low >> LIMB)
    return low & LOW, middle & LOW, a2 + x1 * w1 + (middle >> LIMB)


@inlined
def count(
    keys: NDArray[np.signedinteger[Any]], weights: Ints | None, n: Int, zero: Int, counts: Counts
) -> None:
    """Add the first ``n`` of ``weights``, or 1, to bins of one series: ``zero`` + ``keys``."""
    names, firsts, places, pages, table, spill = counts
    used, spilled = table[USED], table[SPILLED]
    series = zero >> SERIES_SHIFT
    slots, first = places[series], firsts[series]
    for k in range(n):
        if keys[k] == NO_KEY:
            continue
        of_bin = zero + keys[k]
        name, column = of_bin >> PAGE_BITS, of_bin & (PAGE - 1)
        place = name - first
        is_near = 0 <= place < SPREAD
        slot = np.int64(slots[place]) if is_near else NOWHERE
        total = pages[slot, column] + (1 if weights is None else weights[k])
        if slot == NOWHERE or total > MOST_COUNT:
            if first == UNSET:
                place, is_near = SPREAD // 2, True
                first = firsts[series] = name - place
            if slot == NOWHERE and is_near and used < len(names) and total <= MOST_COUNT:
                slot = slots[place] = used
                names[used] = name
                used += 1
            else:
                spill[spilled, 0], spill[spilled, 1] = of_bin, total
                spilled += 1
                total = 0
        pages[slot, column] = total
    table[USED], table[SPILLED] = used, spilled


@compiled
def recount(bins: Ints, weights: Ints, counts: Counts) -> None:
    """Count by whole bins, those of a series together, which uses them up.

    The spill must have room for all.
    """
    begin = 0
    for k in range(1, len(bins) + 1):
        if k == len(bins) or bins[k] >> SERIES_SHIFT != bins[begin] >> SERIES_SHIFT:
            zero = first_bin(bins[begin] >> SERIES_SHIFT)
            for i in range(begin, k):
                bins[i] -= zero  # in place: who walks the books can make no array
            count(bins[begin:k], weights[begin:k], k - begin, zero, counts)
            begin = k


@compiled
def count_latencies(  # noqa: PLR0913, PLR0917 - all of the state, by name
    times: Ints, markets: Ints, ts_event: Ints, trust: Trust, keys: Ints, counts: Counts
) -> None:  # fmt: skip
    """Count ``ts_recv - ts_event`` in us of trusted rows.

    An unknown ``ts_event`` is -NEVER. The spill, and each of ``keys`` [M, k], has room for all.
    """
    starts, ends, first = trust
    at, n = first[:-1].copy(), np.zeros(len(first) - 1, np.int64)
    for i in range(len(times)):
        ts, m = times[i], markets[i]
        if m >= 0 and ts_event[i] != -NEVER:
            while at[m] < first[m + 1] and ends[at[m]] < ts:
                at[m] += 1
            if at[m] < first[m + 1] and starts[at[m]] <= ts:
                us = (ts - ts_event[i] + 500) // 1000
                keys[m, n[m]] = max(-MOST_US, min(MOST_US, us))
                n[m] += 1
    for m in range(len(n)):
        count(keys[m], None, n[m], first_bin(m), counts)


@compiled
def add_pages(pages: NDArray[np.int64], of_more: NDArray[np.integer[Any]], at: Ints) -> None:
    """Add page k of ``of_more`` to page ``at[k]``."""
    for k in range(len(at)):
        for column in range(PAGE):
            pages[at[k], column] += of_more[k, column]
