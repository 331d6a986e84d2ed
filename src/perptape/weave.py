"""The loops of the gaps: quotes of M markets in receive order -> sums and counts of every pair.

``digest`` takes quotes in chunks of any size, block by block: ``_scan`` lists the versions of each
market's quote, and which of the others' each of them met; of these ``_weave`` makes the ratios of
an ordered pair, ``_tally`` their exact sums and sparse counts, ``_draw`` what a chart shows. Ratios
of a block that the sale changed come before those that the purchase did, for in no sum or count
does their order matter: straight loops, of which a compiler does many steps at once. All memory
between calls is in the arrays handed in.

numba keeps compiled loops by this file's date alone: touch it when :mod:`perptape.kernels` changes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.kernels import (
    BINS_PER_BPS,
    BPS,
    FINE,
    LIMB,
    LOW,
    MOST_BPS,
    MOST_PRICE,
    NEVER,
    NO_KEY,
    SPILLED,
    STEP_NS,
    Chunk,
    Counts,
    Floats,
    Int,
    Ints,
    Trust,
    add_product,
    count,
    first_bin,
    float_key,
)
from perptape.loops import compiled, inlined

MOST_SPAN = 1 << 33
"""ns of a block after its first change, so that a limb times all of it is an int64."""

# The columns of the arrays below.
NOW, ENDING, SOONEST, CHANGED, SINCE, AGE, OPEN_T, BEGUN_T, CLOSE_T, POINTS, GRIDS, ROWS, RUN = (
    range(13)
)
CURSOR, START, END, DEADLINE, EACH = range(5)
BID, BID_SIZE, ASK, ASK_SIZE, TOP = range(5)
N, POSITIVE, EDGE_POSITIVE, TIME_NS, GRID_N, GRID_POSITIVE, WAITING, GRID_WAITING = range(8)
SUM, TIME_SUM, GRID_SUM, INTS = 8, 11, 14, 17
LEAST, MOST, GRID_LEAST, GRID_MOST, FLOATS = range(5)
FIRST, LOWEST, HIGHEST, LAST, BUCKET = range(5)
SPAN, AREA, BUCKET_INTS = 0, 1, 4
NO_NOTIONAL = -1
"""The key of one that is not known: those are counted too, which costs less than leaving them."""
EVENTS, GRID, NOTIONAL, SERIES = range(4)
"""What is counted of each pair."""


class Markets(NamedTuple):
    """The last quote of each market, and who changed at the instant now being read."""

    run: Ints
    each: Ints
    """[M, EACH]"""
    top: Floats
    """[TOP, M]"""
    changed: Ints
    """[M]: the first ``run[CHANGED]`` are the markets changed at ``run[NOW]``."""
    is_changed: NDArray[np.bool_]


class Block(NamedTuple):
    """Versions of each market's quote in a stretch of time; version 0 stands at its opening."""

    t: Ints
    """[M, R + 2] when each begins; after the last, when the block closes"""
    tops: Floats
    """[TOP, M, R + 1]"""
    made: Ints
    """[M] the last version"""
    met: NDArray[np.int32]
    """[M, R, M] the other market's version that version 1, 2, ... met; ~version where the other
    changed at the same instant, and so tells of it"""
    grid_n: Ints
    """[R] so many points of the grid..."""
    grid_met: NDArray[np.int32]
    """[R, M] ...met these versions"""


class Pairs(NamedTuple):
    """What is known of each pair ``sell * M + buy`` so far."""

    ints: Ints
    floats: Floats
    kept: Floats
    """[P] (1 - sell's fee) / (1 + buy's fee)"""
    waiting: NDArray[np.int32]
    """[P, k] keys of notionals; they jump about, so they are counted many of a pair at a time."""
    grid_keys: Ints
    """[P, k] likewise what the grid met..."""
    grid_weights: Ints
    """...so many times"""


class Scratch(NamedTuple):
    """Room for one pair's part of a block, first what the sale changed."""

    x: Floats
    notional: Floats
    length: Ints
    """How long each ratio stood."""
    keys: Ints


class Lines(NamedTuple):
    """Buckets of equal width for a chart; none if ``buckets`` has none."""

    buckets: Floats
    """[S, W, BUCKET] of every pair, then of each market's bid and ask"""
    sums: Ints
    """[P, W, BUCKET_INTS]"""
    axis: Ints
    """(start, width) in ns"""


class State(NamedTuple):
    """All that is remembered between two chunks."""

    markets: Markets
    block: Block
    pairs: Pairs
    scratch: Scratch
    lines: Lines


# ---- quotes to versions -------------------------------------------------------------------------


@inlined
def _price(x: float) -> float:
    return x if 1 / MOST_PRICE < x < MOST_PRICE else np.nan


@inlined
def _scan(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - one loop, see kernels
    chunk: Chunk, i: Int, until: Int, trust: Trust, markets: Markets, block: Block
) -> tuple[Int, bool]:
    """Read rows from ``i`` on, -1 if one is earlier than the one before; tell if the block closes.

    Before a row of a later time is read, what the rows at NOW changed becomes versions, and then,
    one by one in order of time, markets whose deadline has passed become unknown.
    """
    ts_recv, of_market, bids, bid_sizes, asks, ask_sizes = chunk
    starts, ends, first_interval = trust
    run, each, top, changed, is_changed = markets
    times, tops, made, met, grid_n, grid_met = block
    now, ending, soonest, changes = run[NOW], run[ENDING], run[SOONEST], run[CHANGED]
    since, age, points, grids, rows = run[SINCE], run[AGE], run[POINTS], run[GRIDS], run[ROWS]
    width, most = len(made), met.shape[1]
    limit = min(until, run[BEGUN_T] + MOST_SPAN) if rows else until
    closes = False
    while i < len(ts_recv):
        ts, m = ts_recv[i], of_market[i]
        if ts != now:
            if ts < now:
                i = -1
                break
            if changes > 0:
                if now < since:
                    for k in range(width):
                        for side in range(TOP):
                            tops[side, k, 0] = top[side, k]
                else:
                    if now >= limit or rows + changes > most:
                        run[CLOSE_T] = min(now, limit)
                        closes = True
                        break
                    if rows == 0:
                        run[BEGUN_T] = now
                        limit = min(until, now + MOST_SPAN)
                    # Of an end also the point at it: trust and age include their last moment.
                    before = now // STEP_NS + 1 if ending else (now + STEP_NS - 1) // STEP_NS
                    if before > points:
                        grid_n[grids] = before - points
                        for k in range(width):
                            grid_met[grids, k] = made[k]
                        grids += 1
                        points = before
                    for place in range(changes):
                        c = changed[place]
                        e = made[c]
                        made[c] = e + 1
                        times[c, e + 1] = now
                        for side in range(TOP):
                            tops[side, c, e + 1] = top[side, c]
                        for k in range(width):
                            met[c, e, k] = made[k]
                        for k in changed[place + 1 : changes]:
                            met[c, e, k] = ~met[c, e, k]
                    rows += changes
                for place in range(changes):
                    is_changed[changed[place]] = False
                changes = ending = 0
                continue
            if soonest < ts:
                m = np.argmin(each[:, DEADLINE])
                soonest = each[m, DEADLINE]
                if soonest >= ts:
                    continue
                now, ending = soonest, 1
                if not (np.isnan(top[BID, m]) and np.isnan(top[ASK, m])):
                    top[:, m] = np.nan
                    changed[0] = m
                    changes = 1
                if each[m, DEADLINE] == each[m, END]:
                    each[m, CURSOR] += 1
                    more = each[m, CURSOR] < first_interval[m + 1]
                    each[m, START] = starts[each[m, CURSOR]] if more else NEVER
                    each[m, END] = ends[each[m, CURSOR]] if more else NEVER
                each[m, DEADLINE] = each[m, END]
                continue
            now, ending = ts, 0  # of an end that changed nothing, too
        if m >= 0 and ts >= each[m, START]:
            top[BID, m], top[BID_SIZE, m] = _price(bids[i]), bid_sizes[i]
            top[ASK, m], top[ASK_SIZE, m] = _price(asks[i]), ask_sizes[i]
            if age != NEVER:
                each[m, DEADLINE] = min(each[m, END], ts + age)
                soonest = min(soonest, each[m, DEADLINE])
            if not is_changed[m]:
                changed[changes] = m
                changes += 1
                is_changed[m] = True
        i += 1
    run[NOW], run[ENDING], run[SOONEST], run[CHANGED] = now, ending, soonest, changes
    run[POINTS], run[GRIDS], run[ROWS] = points, grids, rows
    return i, closes


@inlined
def _reopen(markets: Markets, block: Block) -> None:
    """Open a block where one closes, with what stands."""
    run, made = markets.run, block.made
    for m in range(len(made)):
        block.t[m, 0] = run[CLOSE_T]
        for side in range(TOP):
            block.tops[side, m, 0] = block.tops[side, m, made[m]]
        made[m] = 0
    run[OPEN_T] = run[CLOSE_T]
    run[GRIDS] = run[ROWS] = 0


# ---- versions to numbers ------------------------------------------------------------------------


@inlined
def _weave(i: Int, j: Int, block: Block, scratch: Scratch) -> Int:
    """List the ratios of a pair that versions of either made, NaN if not known; give how many."""
    xs, notionals, lengths = scratch.x, scratch.notional, scratch.length
    bids, bid_sizes = block.tops[BID, i], block.tops[BID_SIZE, i]
    asks, ask_sizes = block.tops[ASK, j], block.tops[ASK_SIZE, j]
    t_i, t_j, met_j, met_i = block.t[i], block.t[j], block.met[i], block.met[j]
    n: Int = block.made[i]
    for e in range(n):
        v = np.int64(met_j[e, j])
        is_own = v >= 0
        v = v if is_own else ~v
        size, other, ask = bid_sizes[e + 1], ask_sizes[v], asks[v]
        xs[e] = bids[e + 1] / ask if is_own else np.nan
        lengths[e] = min(t_i[e + 2], t_j[v + 1]) - t_i[e + 1]
        notionals[e] = (size if size < other or np.isnan(size) else other) * ask
    for e in range(block.made[j]):
        v = np.int64(met_i[e, i])
        is_own = v >= 0
        v = v if is_own else ~v
        size, other, ask = bid_sizes[v], ask_sizes[e + 1], asks[e + 1]
        xs[n + e] = bids[v] / ask if is_own else np.nan
        lengths[n + e] = min(t_j[e + 2], t_i[v + 1]) - t_j[e + 1]
        notionals[n + e] = (size if size < other or np.isnan(size) else other) * ask
    n += block.made[j]
    return n


@inlined
def _fine(x: float) -> np.int64:
    return np.int64(np.rint(min(BPS * (x - 1.0), MOST_BPS) * FINE))


@inlined
def _key(x: float) -> np.int64:
    return np.int64(np.rint(min(BPS * (x - 1.0), MOST_BPS) * BINS_PER_BPS))


@inlined
def _add(sums: Ints, at: Int, low: Int, middle: Int, high: Int) -> None:
    """Add limbs to a sum's."""
    low += sums[at]
    middle += sums[at + 1] + (low >> LIMB)
    sums[at], sums[at + 1] = low & LOW, middle & LOW
    sums[at + 2] += high + (middle >> LIMB)


@inlined
def _tally(pair: Int, n: Int, pairs: Pairs, scratch: Scratch) -> tuple[Int, Int, Int]:
    """Sum up a block's ratios; give ns in which one was known, and gap times ns in two limbs."""
    xs, notionals, lengths, keys = scratch.x, scratch.notional, scratch.length, scratch.keys
    ints, floats, kept = pairs.ints[pair], pairs.floats[pair], pairs.kept[pair]
    # Ratios are above zero, and so in order as whole numbers too: of those the loop does many at
    # once, which it may not with floats.
    bits = xs.view(np.int64)
    least, most = np.float64(np.inf).view(np.int64), np.int64(0)
    known = positive = edge_positive = time_ns = low = high = area = over = np.int64(0)
    for e in range(n):
        x, length = xs[e], lengths[e]
        is_known = not np.isnan(x)
        fine = _fine(x) if is_known else np.int64(0)
        keys[e] = _key(x) if is_known else NO_KEY
        low += fine & LOW
        high += fine >> LIMB
        area += (fine & LOW) * length
        over += (fine >> LIMB) * length
        time_ns += length if is_known else 0
        known += is_known
        positive += x > 1.0
        edge_positive += x * kept > 1.0
        least = min(least, bits[e])
        most = max(most, bits[e] if is_known else np.int64(0))
    waiting = pairs.waiting[pair, ints[WAITING] :]
    for e in range(n):
        is_known = not np.isnan(xs[e]) and 0 <= notionals[e] < np.inf
        waiting[e] = float_key(notionals[e]) if is_known else NO_NOTIONAL
    ints[WAITING] += n
    ints[N] += known
    ints[POSITIVE] += positive
    ints[EDGE_POSITIVE] += edge_positive
    _add(ints, SUM, low, high, 0)
    if known:
        floats[LEAST] = min(floats[LEAST], np.int64(least).view(np.float64))
        floats[MOST] = max(floats[MOST], np.int64(most).view(np.float64))
    return time_ns, area, over


@inlined
def _sample(i: Int, j: Int, grids: Int, block: Block, pairs: Pairs) -> None:
    """Sum up what the grid met of a pair."""
    pair = i * len(block.made) + j
    ints, floats = pairs.ints[pair], pairs.floats[pair]
    keys, weights = pairs.grid_keys[pair], pairs.grid_weights[pair]
    waits = ints[GRID_WAITING]
    bids, asks, met = block.tops[BID, i], block.tops[ASK, j], block.grid_met
    low = high = known = positive = np.int64(0)
    least, most = np.inf, -np.inf
    for g in range(grids):
        x, n = bids[met[g, i]] / asks[met[g, j]], block.grid_n[g]
        is_known = not np.isnan(x)
        fine = _fine(x) if is_known else np.int64(0)
        keys[waits + g], weights[waits + g] = _key(x) if is_known else NO_KEY, n
        low += (fine & LOW) * n
        high += (fine >> LIMB) * n
        known += n if is_known else 0
        positive += n if x > 1.0 else 0
        least, most = min(least, x), max(most, x)
    ints[GRID_WAITING] = waits + grids
    _add(ints, GRID_SUM, low, high, 0)
    ints[GRID_N] += known
    ints[GRID_POSITIVE] += positive
    floats[GRID_LEAST] = min(floats[GRID_LEAST], least)
    floats[GRID_MOST] = max(floats[GRID_MOST], most)


# ---- what a chart shows -------------------------------------------------------------------------


@inlined
def _bucket(open_t: Int, lines: Lines) -> tuple[Int, Int]:
    """Give the bucket of a block, and where it ends; the last one does not."""
    start, width, last = lines.axis[0], lines.axis[1], lines.buckets.shape[1] - 1
    if last < 0:
        return 0, NEVER
    b = 0 if open_t <= start else min((open_t - start) // width, last)
    return b, NEVER if b == last else start + (b + 1) * width


@inlined
def _draw(  # noqa: C901, PLR0913, PLR0917 - all of the state, by name
    bucket: Floats, opening: float, xs: Floats, split: Int, n: Int, t_first: Ints, t_then: Ints
) -> None:
    """Draw ``opening``, if it stood, and what came: ``split`` of it at one's times, the rest."""
    first: Int = -1
    last: Int = -1
    for e in range(n):
        x = xs[e]
        if not np.isnan(x):
            bucket[LOWEST] = x if np.isnan(bucket[LOWEST]) else min(bucket[LOWEST], x)
            bucket[HIGHEST] = x if np.isnan(bucket[HIGHEST]) else max(bucket[HIGHEST], x)
    if not np.isnan(opening):
        bucket[LOWEST] = opening if np.isnan(bucket[LOWEST]) else min(bucket[LOWEST], opening)
        bucket[HIGHEST] = opening if np.isnan(bucket[HIGHEST]) else max(bucket[HIGHEST], opening)
    p: Int = 0
    q: Int = split
    while p < split and np.isnan(xs[p]):
        p += 1
    while q < n and np.isnan(xs[q]):
        q += 1
    if p < split or q < n:
        is_first = q == n or (p < split and t_first[p + 1] < t_then[q - split + 1])
        first = p if is_first else q
    if np.isnan(bucket[FIRST]):
        bucket[FIRST] = xs[first] if np.isnan(opening) and first >= 0 else opening
    p, q = split - 1, n - 1
    while p >= 0 and np.isnan(xs[p]):
        p -= 1
    while q >= split and np.isnan(xs[q]):
        q -= 1
    if p >= 0 or q >= split:
        is_last = q < split or (p >= 0 and t_first[p + 1] > t_then[q - split + 1])
        last = p if is_last else q
    if last >= 0 or not np.isnan(opening):
        bucket[LAST] = xs[last] if last >= 0 else opening


@inlined
def _draw_sides(m: Int, b: Int, block: Block, lines: Lines) -> None:
    """Draw a market's bid and ask."""
    t, n, width = block.t[m], block.made[m], len(block.made)
    for side in range(2):
        prices = block.tops[ASK if side else BID, m]
        opening = prices[0] if t[1] > t[0] else np.nan
        _draw(lines.buckets[width * width + 2 * m + side, b], opening, prices[1:], n, n, t, t)


# ---- the block ----------------------------------------------------------------------------------


@inlined
def _finish_pair(  # noqa: PLR0913, PLR0917 - all of the state, by name
    i: Int, j: Int, b: Int, grids: Int, state: State, counts: Counts
) -> None:
    """Take in one pair's part of a block."""
    _, block, pairs, scratch, lines = state
    pair = i * len(block.made) + j
    ints = pairs.ints[pair]
    n = _weave(i, j, block, scratch)
    time_ns, low, middle = _tally(pair, n, pairs, scratch)
    high: Int = 0
    count(scratch.keys, None, n, first_bin(SERIES * pair + EVENTS), counts)
    opening = block.tops[BID, i, 0] / block.tops[ASK, j, 0]
    length = min(block.t[i, 1], block.t[j, 1]) - block.t[i, 0]
    if np.isnan(opening) or length == 0:
        opening = np.nan
    else:
        time_ns += length
        of_it = add_product(0, 0, 0, _fine(opening), length)
        low, middle, high = low + of_it[0], middle + of_it[1], of_it[2]
    ints[TIME_NS] += time_ns
    _add(ints, TIME_SUM, low, middle, high)
    if lines.buckets.shape[1] > 0:
        made, t = block.made[i], block.t
        _draw(lines.buckets[pair, b], opening, scratch.x, made, n, t[i], t[j])
        lines.sums[pair, b, SPAN] += time_ns
        _add(lines.sums[pair, b], AREA, low, middle, high)
    if grids:
        _sample(i, j, grids, block, pairs)
    if ints[WAITING] > pairs.waiting.shape[1] - len(scratch.x):
        _count_notionals(pair, pairs, counts)
    if ints[GRID_WAITING] > pairs.grid_keys.shape[1] - len(scratch.x):
        _count_grid(pair, pairs, counts)


@inlined
def _count_notionals(pair: Int, pairs: Pairs, counts: Counts) -> None:
    zero = first_bin(SERIES * pair + NOTIONAL)
    count(pairs.waiting[pair], None, pairs.ints[pair, WAITING], zero, counts)
    pairs.ints[pair, WAITING] = 0


@inlined
def _count_grid(pair: Int, pairs: Pairs, counts: Counts) -> None:
    zero, n = first_bin(SERIES * pair + GRID), pairs.ints[pair, GRID_WAITING]
    count(pairs.grid_keys[pair], pairs.grid_weights[pair], n, zero, counts)
    pairs.ints[pair, GRID_WAITING] = 0


@inlined
def _close(b: Int, state: State, counts: Counts) -> None:
    """Take in a block, and open the next."""
    markets, block, _, _, lines = state
    width = len(block.made)
    for m in range(width):
        block.t[m, block.made[m] + 1] = markets.run[CLOSE_T]
    for i in range(width):
        for j in range(width):
            if i != j:
                _finish_pair(i, j, b, markets.run[GRIDS], state, counts)
    if lines.buckets.shape[1] > 0:
        for m in range(width):
            _draw_sides(m, b, block, lines)
    _reopen(markets, block)


@compiled
def digest(chunk: Chunk, i: Int, trust: Trust, state: State, counts: Counts) -> Int:
    """Take in rows from ``i`` on; gives the first row not taken in, -1 if rows are out of order.

    Stops early when something was spilled: take it away, give more pages, and call again.
    """
    while 0 <= i < len(chunk.ts) and counts.table[SPILLED] == 0:
        b, until = _bucket(state.markets.run[OPEN_T], state.lines)
        i, closes = _scan(chunk, i, until, trust, state.markets, state.block)
        if closes:
            _close(b, state, counts)
    return i


@compiled
def settle(state: State, counts: Counts) -> None:
    """Take in what is left and count all that waits; the spill must have room for it."""
    markets, _, pairs, _, lines = state
    markets.run[CLOSE_T] = markets.run[NOW]
    b, _ = _bucket(markets.run[OPEN_T], lines)
    _close(b, state, counts)
    for pair in range(len(pairs.kept)):
        _count_notionals(pair, pairs, counts)
        _count_grid(pair, pairs, counts)
