"""The numba loops the measures call: arrays in, arrays out, no Python per row.

A helper that is handed arrays inside a loop costs more than its work (numba counts references), so
the loops are written out and each takes its arrays apart once.

``digest`` takes receive-ordered quotes of M markets in chunks of any size, block by block:
``_scan`` makes one stream of ratios per ordered pair, ``_tally`` makes exact sums and sparse counts
of it, ``_envelop`` keeps what a chart shows. All memory between calls is in the arrays handed in.

Unknown numbers are NaN, times int64 ns. Sums are integers in three limbs of 30 bits, so neither
the chunks nor the order of additions can be seen in a result.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int = int | np.int64
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Loop = TypeVar("Loop", bound=Callable[..., object])

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
NOWHERE = 0
"""The slot of no page: its page stays zero, its name is no name."""
MOST_COUNT = 2**16 - 1
MANTISSA_SHIFT = 39
"""Notionals are counted by the upper bits of their float64: right to 6.2e-5 of it."""
MOST_US = 1 << 47
"""Latencies beyond it, four years, count as this much."""
HASH = 0x2545F4914F6CDD1D

# The columns of the arrays below.
NOW, ENDING, SOONEST, CHANGED, INSTANTS, OLD, SINCE, AGE, FIRST_SELL, LAST_SELL, RUN = range(11)
CURSOR, START, END, DEADLINE, EACH = range(5)
BID, BID_SIZE, ASK, ASK_SIZE, TOP = range(5)
N, POSITIVE, EDGE_POSITIVE, TIME_NS, GRID_N, GRID_POSITIVE = range(6)
OPEN_FINE, OPEN_KEY, OPEN_T, OPEN_C, WAITING, SUM, TIME_SUM, GRID_SUM, INTS = (
    *range(6, 12),
    14,
    17,
    20,
)
OPEN_X, LEAST, MOST, GRID_LEAST, GRID_MOST, FLOATS = range(6)
FIRST, LOWEST, HIGHEST, LAST, AREA, SPAN, BUCKET = range(7)
USED, SPILLED, TABLE = range(3)
EVENTS, GRID, NOTIONAL, SERIES = range(4)
"""What is counted of each pair."""


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


class Markets(NamedTuple):
    """The last quote of each market, and who changed at the instant now being read."""

    run: Ints
    each: Ints
    """[M, EACH]"""
    top: Floats
    """[M, TOP]"""
    changed: Ints
    """[M]: the first ``run[CHANGED]`` are the markets changed at ``run[NOW]``."""
    rank: Ints
    """[M]: place in ``changed`` plus one, or 0."""


class Streams(NamedTuple):
    """One block: instants, and what happened to each of S streams at some of them.

    Stream ``(sell - first sell) * M + buy`` is a pair; then each sell's bid and ask.
    """

    t: Ints
    c: Ints
    """Grid points before each instant (of an end: also the one at it)."""
    filled: Ints
    at: NDArray[np.int32]
    x: Floats
    notional: Floats


class Pairs(NamedTuple):
    """What is known of each pair so far."""

    ints: Ints
    floats: Floats
    kept: Floats
    """[P] (1 - sell's fee) / (1 + buy's fee)"""
    waiting: NDArray[np.int32]
    """[P, k] keys of notionals; they jump about, so they are counted many of a pair at a time."""


class Counts(NamedTuple):
    """Sparse counts in pages of PAGE bins, found by name: small, to stay in a core's cache.

    What finds no page left, or its bin full, is spilled.
    """

    names: Ints
    slots: Ints
    """Open hash of ``names``: a power of two, larger than the pages."""
    pages: NDArray[np.uint16]
    table: Ints
    spill: Ints
    """[k, 2]: bin, weight"""


class Scratch(NamedTuple):
    """Room for what one pair has to count of a block."""

    keys: Ints
    ones: Ints
    """All 1."""
    grid_keys: Ints
    grid_weights: Ints


class Lines(NamedTuple):
    """Buckets of equal width for a chart; none if ``buckets`` has none."""

    buckets: Floats
    """[S, W, BUCKET]"""
    open_x: Floats
    open_t: Ints
    axis: Ints
    """(start, width) in ns"""


def _compiled(loop: Loop) -> Loop:
    return cast("Loop", njit(cache=True, nogil=True, error_model="numpy")(loop))


def _inlined(loop: Loop) -> Loop:
    """Compile as part of its callers only."""
    return cast("Loop", njit(nogil=True, error_model="numpy")(loop))


@_inlined
def _bin(series: Int, key: Int) -> Int:
    return ((series << SERIES_BITS) + (1 << (SERIES_BITS - 1)) << PAGE_BITS) + key


@_inlined
def _float_key(x: float) -> Int:
    bits: Int = np.float64(x).view(np.int64)
    return (bits + (1 << (MANTISSA_SHIFT - 1))) >> MANTISSA_SHIFT


@_inlined
def _add_product(a0: Int, a1: Int, a2: Int, x: Int, weight: Int) -> tuple[Int, Int, Int]:
    """Add ``x * weight`` to limbs; |x| < 2**58, 0 <= weight < 2**60."""
    x0, x1 = x & LOW, x >> LIMB
    w0, w1 = weight & LOW, weight >> LIMB
    low = a0 + x0 * w0
    middle = a1 + x1 * w0 + x0 * w1 + (low >> LIMB)
    return low & LOW, middle & LOW, a2 + x1 * w1 + (middle >> LIMB)


# Counting


@_inlined
def _count(keys: Ints, weights: Ints, n: Int, first_bin: Int, counts: Counts) -> None:
    """Add the first ``n`` of ``weights`` to the bins ``first_bin`` + ``keys``."""
    names, slots, pages, table, spill = counts
    mask = len(slots) - 1
    used, spilled = table[USED], table[SPILLED]
    for k in range(n):
        of_bin = first_bin + keys[k]
        name, column = of_bin >> PAGE_BITS, of_bin & (PAGE - 1)
        mixed = name * HASH
        at = (mixed ^ (mixed >> 32)) & mask
        slot = slots[at]
        while names[slot] != name:
            if slot != NOWHERE:
                at = (at + 1) & mask
                slot = slots[at]
            elif used < len(names):
                slot = slots[at] = used
                names[used] = name
                used += 1
            else:
                break
        total = pages[slot, column] + weights[k]
        if slot == NOWHERE or total > MOST_COUNT:
            spill[spilled, 0], spill[spilled, 1] = of_bin, total
            spilled += 1
            total = 0
        pages[slot, column] = total
    table[USED], table[SPILLED] = used, spilled


@_compiled
def recount(bins: Ints, weights: Ints, counts: Counts) -> None:
    """Count what was spilled, after more pages were given."""
    _count(bins, weights, len(bins), 0, counts)


@_compiled
def rehash(counts: Counts) -> None:
    """Fill empty ``slots`` from the pages in use."""
    names, slots = counts.names, counts.slots
    mask = len(slots) - 1
    for slot in range(1, counts.table[USED]):
        mixed = names[slot] * HASH
        at = (mixed ^ (mixed >> 32)) & mask
        while slots[at] != NOWHERE:
            at = (at + 1) & mask
        slots[at] = slot


@_compiled
def count_latencies(  # noqa: PLR0913, PLR0917 - all of the state, by name
    times: Ints,
    markets: Ints,
    ts_event: Ints,
    trust: Trust,
    cursors: Ints,
    scratch: Scratch,
    counts: Counts,
) -> None:
    """Count ``ts_recv - ts_event`` in us of trusted rows; scratch and spill have room for all.

    An unknown ``ts_event`` is -NEVER. ``cursors`` [M] are places in ``trust``, ``first`` at first.
    """
    starts, ends, first = trust
    keys = scratch.keys
    n = 0
    for i in range(len(times)):
        ts, m = times[i], markets[i]
        if m >= 0:
            while cursors[m] < first[m + 1] and ends[cursors[m]] < ts:
                cursors[m] += 1
            heard = cursors[m] < first[m + 1] and starts[cursors[m]] <= ts
            if heard and ts_event[i] != -NEVER:
                us = (ts - ts_event[i] + 500) // 1000
                keys[n] = _bin(m, max(-MOST_US, min(MOST_US, us)))
                n += 1
    _count(keys, scratch.ones, n, 0, counts)


# Quotes to streams


@_inlined
def _price(x: float) -> float:
    return x if 1 / MOST_PRICE < x < MOST_PRICE else np.nan


@_inlined
def _lesser(x: float, y: float) -> float:
    """NaN if either is."""
    return x if x < y or np.isnan(x) else y


@_inlined
def _scan(  # noqa: C901, PLR0912, PLR0915 - one loop, see above
    chunk: Chunk, i: Int, trust: Trust, markets: Markets, streams: Streams
) -> Int:
    """Read rows from ``i`` until the block is full; -1 if a row is earlier than the one before.

    Before a row of a later time is read, what the rows at NOW changed is put into the streams, and
    then, one by one in order of time, markets whose deadline has passed change to unknown.
    """
    ts_recv, of_market, bids, bid_sizes, asks, ask_sizes = chunk
    starts, ends, first_interval = trust
    run, each, top, changed, rank = markets
    times, grids, filled, ats, xs, notionals = streams
    now, ending, soonest, changes = run[NOW], run[ENDING], run[SOONEST], run[CHANGED]
    since, age, first, last = run[SINCE], run[AGE], run[FIRST_SELL], run[LAST_SELL]
    width = len(top)
    sides = (last - first) * width
    instants = old = 0
    filled[:] = 0
    while i < len(ts_recv):
        ts, m = ts_recv[i], of_market[i]
        if ts != now:
            if ts < now:
                i = -1
                break
            if changes > 0:
                r = instants
                if r == len(times):
                    break
                instants += 1
                times[r] = now
                grids[r] = now // STEP_NS + 1 if ending else (now + STEP_NS - 1) // STEP_NS
                if now < since:
                    times[r], grids[r] = since, (since + STEP_NS - 1) // STEP_NS
                    old += 1
                for place in range(changes):
                    c = changed[place]
                    bid, bid_size = top[c, BID], top[c, BID_SIZE]
                    ask, ask_size = top[c, ASK], top[c, ASK_SIZE]
                    sells = first <= c < last
                    for k in range(width):
                        if k == c or 0 < rank[k] <= place:
                            continue
                        if sells:
                            s = (c - first) * width + k
                            n = filled[s]
                            ats[s, n] = r
                            xs[s, n] = bid / top[k, ASK]
                            notionals[s, n] = _lesser(bid_size, top[k, ASK_SIZE]) * top[k, ASK]
                            filled[s] = n + 1
                        if first <= k < last:
                            s = (k - first) * width + c
                            n = filled[s]
                            ats[s, n] = r
                            xs[s, n] = top[k, BID] / ask
                            notionals[s, n] = _lesser(top[k, BID_SIZE], ask_size) * ask
                            filled[s] = n + 1
                    if sells:
                        for side, price in ((0, bid), (1, ask)):
                            s = sides + 2 * (c - first) + side
                            ats[s, filled[s]], xs[s, filled[s]] = r, price
                            filled[s] += 1
                for place in range(changes):
                    rank[changed[place]] = 0
                changes = ending = 0
                continue
            if soonest < ts:
                m = np.argmin(each[:, DEADLINE])
                soonest = each[m, DEADLINE]
                if soonest >= ts:
                    continue
                now, ending = soonest, 1
                if not (np.isnan(top[m, BID]) and np.isnan(top[m, ASK])):
                    top[m, :] = np.nan
                    changed[0] = m
                    changes = 1
                if each[m, DEADLINE] == each[m, END]:
                    each[m, CURSOR] += 1
                    more = each[m, CURSOR] < first_interval[m + 1]
                    each[m, START] = starts[each[m, CURSOR]] if more else NEVER
                    each[m, END] = ends[each[m, CURSOR]] if more else NEVER
                each[m, DEADLINE] = each[m, END]
                continue
            now = ts
        if m >= 0 and ts >= each[m, START]:
            top[m, BID], top[m, BID_SIZE] = _price(bids[i]), bid_sizes[i]
            top[m, ASK], top[m, ASK_SIZE] = _price(asks[i]), ask_sizes[i]
            if age != NEVER:
                each[m, DEADLINE] = min(each[m, END], ts + age)
                soonest = min(soonest, each[m, DEADLINE])
            if rank[m] == 0:
                changed[changes] = m
                changes += 1
                rank[m] = changes
        i += 1
    run[NOW], run[ENDING], run[SOONEST], run[CHANGED] = now, ending, soonest, changes
    run[INSTANTS], run[OLD] = instants, old
    return i


# Streams to numbers


@_inlined
def _tally(  # noqa: PLR0913, PLR0915, PLR0917 - one loop, see above
    pair: Int, streams: Streams, old: Int, pairs: Pairs, scratch: Scratch, counts: Counts
) -> None:
    """Take in one pair's part of a block."""
    keys, ones, grid_keys, grid_weights = scratch
    times, grids = streams.t, streams.c
    ats, xs, notionals = streams.at[pair], streams.x[pair], streams.notional[pair]
    ints, floats, kept = pairs.ints[pair], pairs.floats[pair], pairs.kept[pair]
    x, fine, key = floats[OPEN_X], ints[OPEN_FINE], ints[OPEN_KEY]
    t, c = ints[OPEN_T], ints[OPEN_C]
    a0, a1, a2 = ints[TIME_SUM], ints[TIME_SUM + 1], ints[TIME_SUM + 2]
    g0, g1, g2 = ints[GRID_SUM], ints[GRID_SUM + 1], ints[GRID_SUM + 2]
    least, most, grid_least, grid_most = floats[LEAST:]
    n = positive = edge_positive = time_ns = grid_n = grid_positive = sampled = 0
    low: Int = 0
    high: Int = 0
    waiting, waits = pairs.waiting[pair], ints[WAITING]
    for e in range(streams.filled[pair]):
        r = ats[e]
        t1, c1 = times[r], grids[r]
        if not np.isnan(x):
            a0, a1, a2 = _add_product(a0, a1, a2, fine, t1 - t)
            time_ns += t1 - t
            if c1 > c:
                g0, g1, g2 = _add_product(g0, g1, g2, fine, c1 - c)
                grid_n += c1 - c
                grid_positive += c1 - c if x > 1.0 else 0
                grid_least, grid_most = min(grid_least, x), max(grid_most, x)
                grid_keys[sampled], grid_weights[sampled] = key, c1 - c
                sampled += 1
        x, t, c = xs[e], t1, c1
        if np.isnan(x):
            continue
        gap_bps = min(BPS * (x - 1.0), MOST_BPS)
        fine, key = np.int64(np.rint(gap_bps * FINE)), np.int64(np.rint(gap_bps * BINS_PER_BPS))
        if r < old:
            continue
        low += fine & LOW
        high += fine >> LIMB
        positive += x > 1.0
        edge_positive += x * kept > 1.0
        least, most = min(least, x), max(most, x)
        keys[n] = key
        n += 1
        if 0 <= notionals[e] < np.inf:
            waiting[waits] = _float_key(notionals[e])
            waits += 1
    floats[OPEN_X], ints[OPEN_FINE], ints[OPEN_KEY] = x, fine, key
    ints[OPEN_T], ints[OPEN_C], ints[WAITING] = t, c, waits
    low += ints[SUM]
    high += ints[SUM + 1] + (low >> LIMB)
    ints[SUM], ints[SUM + 1], ints[SUM + 2] = low & LOW, high & LOW, ints[SUM + 2] + (high >> LIMB)
    ints[TIME_SUM], ints[TIME_SUM + 1], ints[TIME_SUM + 2] = a0, a1, a2
    ints[GRID_SUM], ints[GRID_SUM + 1], ints[GRID_SUM + 2] = g0, g1, g2
    floats[LEAST], floats[MOST] = least, most
    floats[GRID_LEAST], floats[GRID_MOST] = grid_least, grid_most
    ints[N] += n
    ints[POSITIVE] += positive
    ints[EDGE_POSITIVE] += edge_positive
    ints[TIME_NS] += time_ns
    ints[GRID_N] += grid_n
    ints[GRID_POSITIVE] += grid_positive
    _count(keys, ones, n, _bin(SERIES * pair + EVENTS, 0), counts)
    _count(grid_keys, grid_weights, sampled, _bin(SERIES * pair + GRID, 0), counts)


@_inlined
def _count_waiting(pair: Int, pairs: Pairs, ones: Ints, counts: Counts) -> None:
    first_bin = _bin(SERIES * pair + NOTIONAL, 0)
    _count(pairs.waiting[pair], ones, pairs.ints[pair, WAITING], first_bin, counts)
    pairs.ints[pair, WAITING] = 0


@_compiled
def settle(pairs: Pairs, scratch: Scratch, counts: Counts) -> None:
    """Count all that waits; the spill must have room for it."""
    for pair in range(len(pairs.kept)):
        _count_waiting(pair, pairs, scratch.ones, counts)


@_inlined
def _envelop(s: Int, streams: Streams, old: Int, lines: Lines) -> None:
    """Draw one stream's part of a block: a step function, closed by NaN."""
    times, ats, xs = streams.t, streams.at[s], streams.x[s]
    buckets, start, width = lines.buckets[s], lines.axis[0], lines.axis[1]
    last = len(buckets) - 1
    x, t = lines.open_x[s], lines.open_t[s]
    for e in range(streams.filled[s]):
        r = ats[e]
        while not np.isnan(x) and t < times[r]:
            b = min((t - start) // width, last)
            until = times[r] if b == last else min(times[r], start + (b + 1) * width)
            _draw(buckets, b, x, until - t)
            t = until
        x, t = xs[e], times[r]
        if r >= old and not np.isnan(x):
            _draw(buckets, min((t - start) // width, last), x, 0)
    lines.open_x[s], lines.open_t[s] = x, t


@_inlined
def _draw(buckets: Floats, b: Int, x: float, span_ns: Int) -> None:
    if np.isnan(buckets[b, FIRST]):
        buckets[b, FIRST] = buckets[b, LOWEST] = buckets[b, HIGHEST] = x
    buckets[b, LOWEST] = min(buckets[b, LOWEST], x)
    buckets[b, HIGHEST] = max(buckets[b, HIGHEST], x)
    buckets[b, LAST] = x
    buckets[b, AREA] += x * span_ns
    buckets[b, SPAN] += span_ns


@_compiled
def digest(  # noqa: PLR0913, PLR0917 - all of the state, by name
    chunk: Chunk,
    i: Int,
    trust: Trust,
    markets: Markets,
    streams: Streams,
    pairs: Pairs,
    scratch: Scratch,
    counts: Counts,
    lines: Lines,
) -> Int:
    """Take in rows from ``i`` on; gives the first row not taken in, -1 if rows are out of order.

    Stops early when something was spilled: take it away, give more pages, and call again.
    """
    most_waiting = pairs.waiting.shape[1] - len(streams.t)
    while 0 <= i < len(chunk.ts) and counts.table[SPILLED] == 0:
        i = _scan(chunk, i, trust, markets, streams)
        old = markets.run[OLD]
        for pair in range(len(pairs.kept)):
            if streams.filled[pair] > 0:
                _tally(pair, streams, old, pairs, scratch, counts)
                if pairs.ints[pair, WAITING] > most_waiting:
                    _count_waiting(pair, pairs, scratch.ones, counts)
        if lines.buckets.shape[1] > 0:
            for s in range(len(streams.filled)):
                _envelop(s, streams, old, lines)
    return i
