"""The one pass over updates of books and quotes: what each pair's edge was, moment by moment.

A stream is the edge of one pair at one notional, a step function of time: NaN where it is not
known (one of its markets is not trusted), THIN where the books do not hold so much. ``sweep`` takes
receive-ordered updates of M markets in chunks of any size and keeps, in the arrays handed in:

- exact sums of every stream, by time and by update event;
- spans: stretches in which an edge stood open, from a threshold to enter to one to leave;
- for every opening, what one take would have gained some delays later;
- how much of an edge was left after some delays;
- for every pair, the capacity at each threshold, and the most that could be gained.

A part ``[SINCE, UNTIL)`` of time is measured. Updates before it only build the books; those after
it only answer for its delays. So parts that meet can be added: what crosses the border is told as
spans that are CUT there, or UNSURE where hysteresis leaves open whether they were open.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.book import Floats, Ints, apply_updates, compiled
from perptape.depth import (
    BPS,
    IS_TOP,
    KNOWN,
    Ladders,
    best_price,
    best_size,
    capacity,
    forget,
    money,
    put_level,
    resume,
    rounded,
)
from perptape.kernels import (
    BINS_PER_BPS,
    FINE,
    LIMB,
    LOW,
    MANTISSA_SHIFT,
    MOST_BPS,
    MOST_PRICE,
    NEVER,
    PAGE_BITS,
    SERIES_BITS,
    SPILLED,
    Counts,
    Trust,
    recount,
)

THIN = -np.inf
COARSE_PER_BPS = 100.0
"""Bins of what is weighted by time."""
WEIGHT_SHIFT = 40
"""Names of weights: a series above, a bin or the upper bits of a float below."""
WEIGHT_MIDDLE = 1 << (WEIGHT_SHIFT - 1)
HASH = 0x2545F4914F6CDD1D
SLACK = 8
"""Entries that an instant may add to a ring."""

SELL, BUY = 1, 2
"""Legs, as bits; both, or neither where it was not a price that changed."""
CLOSED, OPEN, UNSURE = range(3)
BEGUN_OPENED, BEGUN_TRUNCATED, BEGUN_CUT, BEGUN_UNSURE, BEGUN_JOINT = range(5)
ENDED_CLOSED, ENDED_CENSORED, ENDED_CUT, ENDED_OPENED = range(4)
"""How spans begin and end. JOINT follows an UNSURE one that ENDED_OPENED: it is an opening only
if it was not open before."""

# The columns of the arrays below.
NOW, SOONEST, CHANGED, INSTANT, SINCE, UNTIL, LINGER, HAS_BEGUN, IS_CUT, IS_DONE, ROOM, RUN = range(
    12
)
USED_SPANS, USED_TAKES, USED_WEIGHTS, USED = range(4)
CURSOR, START, END, IS_KNOWN, SIDES, EACH = range(6)
T, VALUE, KEY, SAME, N, POSITIVE, BACK_POSITIVE, DEFINED_NS, THIN_NS, WAITING = range(10)
STEPS, HOT, BUSY, SUM, TIME_SUM, STREAM_INTS = 10, 11, 12, 13, 16, 19
X, GAIN, LEAST, MOST, STREAM_FLOATS = range(5)
STATE, SPAN_START, BEGUN, OPENER, OPENED, AREA, AUTOMATON_INTS = 0, 1, 2, 3, 4, 5, 8
PEAK, SPAN_CAPACITY, AUTOMATON_FLOATS = range(3)
HELD_NS, KEPT_NS, LAGGED_NS, LAG_SUM, LAG_INTS = 0, 1, 2, 3, 6
PAIR_T, GAIN_NS, BEST_TS, STAMP, PAIR_INTS = range(5)
BEST_SIZE, BEST_GAIN, NOW_SIZE, NOW_GAIN, PAIR_FLOATS = range(5)
SPAN_INTS = 10
"""Automaton, start, end, begun, ended, opener, closer, area in three limbs."""


class Updates(NamedTuple):
    """Updates in receive order, read-only: update k has levels ``starts[k]:starts[k + 1]``."""

    ts: Ints
    market: Ints
    """-1 is not analysed."""
    starts: Ints
    wholes: NDArray[np.bool_]
    sides: NDArray[np.int8]
    prices: Floats
    sizes: Floats


class Plan(NamedTuple):
    """What is asked of every pair; read-only."""

    sells: Ints
    buys: Ints
    kept: Floats
    """[P] 1 - fee of the sell, NaN if it is not known"""
    paid: Floats
    """[P] 1 + fee of the buy"""
    back: Floats
    """[P] what the two fees of the way back leave"""
    lots: Floats
    rates: Ints
    """[P] the market whose prices turn one quote currency into the other; -1: none is needed"""
    turned: NDArray[np.bool_]
    """[P] the rate's bid turns what the sale brings; else its ask what the purchase costs"""
    first: Ints
    touched: Ints
    """Market m is of the pairs ``touched[first[m]:first[m + 1]]``."""
    notionals: Floats
    """Ascending [N]."""
    enters: Floats
    """Thresholds [H] in bps; likewise ``leaves``, not above them."""
    leaves: Floats
    delays: Ints
    """Ascending [D], ns."""


class State(NamedTuple):
    """All that is remembered between two chunks, and the sums."""

    run: Ints
    each: Ints
    """[M, EACH]"""
    changed: Ints
    streams: Ints
    """[S, STREAM_INTS], S = pairs x notionals"""
    values: Floats
    """[S, STREAM_FLOATS]"""
    automata: Ints
    """[S x H, AUTOMATON_INTS]"""
    peaks: Floats
    """[S x H, AUTOMATON_FLOATS]"""
    lags: Ints
    """[S x H, D, LAG_INTS]"""
    ring_ts: Ints
    """[S, R]: the last steps of each stream, as long as a delay may ask for them"""
    ring_x: Floats
    cursors: Ints
    """[S, D]: the step that stood so long ago"""
    opened_ts: Ints
    """[S x H, R]: openings that wait for their delays"""
    opened_gain: Floats
    """[S x H, R, D]"""
    answered: Ints
    """[S x H, D]: openings that this delay has answered"""
    pairs: Ints
    """[P, PAIR_INTS]"""
    bests: Floats
    """[P, PAIR_FLOATS]"""
    capacities: Floats
    """[P, H] of now"""
    capacity_ns: Ints
    """[P, H] time with any"""
    capacity_most: Floats
    """[P, H]"""


class Found(NamedTuple):
    """What leaves the loop: it stops before any of it is full."""

    used: Ints
    spans: Ints
    """[k, SPAN_INTS]"""
    span_peaks: Floats
    """[k, AUTOMATON_FLOATS]"""
    takes: Ints
    """[k, 2]: automaton, when it opened"""
    gains: Floats
    """[k, D]: NaN not known, THIN not so much there"""
    waiting_bins: Ints
    """[S, W]"""
    waiting_weights: Ints
    counts: Counts
    names: Ints
    """Open hash of weights by time: -1 is free."""
    weights: Ints


@compiled
def _added(a0: int, a1: int, a2: int, x: int, weight: int) -> tuple[int, int, int]:
    """Add ``x * weight`` to limbs; |x| < 2**58, 0 <= weight < 2**60."""
    x0, x1 = x & LOW, x >> LIMB
    w0, w1 = weight & LOW, weight >> LIMB
    low = a0 + x0 * w0
    middle = a1 + x1 * w0 + x0 * w1 + (low >> LIMB)
    return low & LOW, middle & LOW, a2 + x1 * w1 + (middle >> LIMB)


@compiled
def _fine(x: float) -> int:
    return int(np.rint(min(x, MOST_BPS) * FINE))


@compiled
def _float_bin(x: float) -> int:
    bits = np.float64(x).view(np.int64)
    return int((bits + (1 << (MANTISSA_SHIFT - 1))) >> MANTISSA_SHIFT)


@compiled
def weigh(used: Ints, names: Ints, weights: Ints, name: int, weight: int) -> None:
    """Add a weight to a name; there is always room, the loop stops at half."""
    mask = len(names) - 1
    mixed = name * HASH
    at = (mixed ^ (mixed >> 29)) & mask
    while names[at] != name:
        if names[at] == -1:
            names[at] = name
            used[USED_WEIGHTS] += 1
        else:
            at = (at + 1) & mask
    weights[at] += weight


@compiled
def rehash(used: Ints, names: Ints, weights: Ints, of: Ints, amounts: Ints) -> None:
    """Fill an empty table."""
    for k in range(len(of)):
        weigh(used, names, weights, of[k], amounts[k])


# ---- time goes on -------------------------------------------------------------------------------


@compiled
def _answer(s: int, until: int, plan: Plan, state: State, found: Found) -> None:
    """Answer the delays of openings that are over before ``until`` with what the stream says."""
    enters, delays = plan.enters, plan.delays
    gain = state.values[s, GAIN]
    opened_ts, opened_gain, answered = state.opened_ts, state.opened_gain, state.answered
    mask, used = opened_ts.shape[1] - 1, found.used
    for a in range(s * len(enters), (s + 1) * len(enters)):
        opened = state.automata[a, OPENED]
        for d in range(len(delays)):
            k = answered[a, d]
            while k < opened and opened_ts[a, k & mask] + delays[d] < until:
                opened_gain[a, k & mask, d] = gain
                k += 1
                if d == len(delays) - 1:
                    row, at = used[USED_TAKES], (k - 1) & mask
                    found.takes[row, 0], found.takes[row, 1] = a, opened_ts[a, at]
                    found.gains[row] = opened_gain[a, at]
                    used[USED_TAKES] = row + 1
                    state.streams[s, BUSY] -= 1
            answered[a, d] = k


@compiled
def _remember(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, since: int, until: int, plan: Plan, state: State, found: Found
) -> None:
    """Lay what a stream was some delays ago beside what it is from ``since`` until ``until``."""
    enters, delays = plan.enters, plan.delays
    ring_ts, ring_x, lags = state.ring_ts, state.ring_x, state.lags
    x, stop_at = state.values[s, X], state.run[UNTIL]
    mask, last = ring_ts.shape[1] - 1, state.streams[s, STEPS] - 1
    is_known, is_thin = not np.isnan(x), x == THIN
    fine, coarse = 0, 0
    if is_known and not is_thin:
        fine = _fine(x)
        coarse = int(np.rint(min(x, MOST_BPS) * COARSE_PER_BPS)) + WEIGHT_MIDDLE
    for d in range(len(delays)):
        k = state.cursors[s, d]
        at, end = max(since - delays[d], ring_ts[s, k & mask]), until - delays[d]
        while at < end:
            stop = end if k == last else min(end, ring_ts[s, (k + 1) & mask])
            weight = min(stop, stop_at) - at
            if weight > 0 and is_known:
                before = ring_x[s, k & mask]
                for h in range(len(enters)):
                    if before >= enters[h]:
                        a = s * len(enters) + h
                        lags[a, d, HELD_NS] += weight
                        lags[a, d, KEPT_NS] += weight if x >= enters[h] else 0
                        if not is_thin:
                            lags[a, d, LAGGED_NS] += weight
                            lag = lags[a, d]
                            lag[LAG_SUM], lag[LAG_SUM + 1], lag[LAG_SUM + 2] = _added(
                                lag[LAG_SUM], lag[LAG_SUM + 1], lag[LAG_SUM + 2], fine, weight
                            )
                            name = ((a * len(delays) + d) << WEIGHT_SHIFT) + coarse
                            weigh(found.used, found.names, found.weights, name, weight)
            at = stop
            if k < last and stop == ring_ts[s, (k + 1) & mask]:
                k += 1
        state.cursors[s, d] = k


@compiled
def _go_on(s: int, now: int, plan: Plan, state: State, found: Found) -> None:
    """Let a stream stand as it is until ``now``."""
    ints, since = state.streams[s], state.streams[s, T]
    if now == since:
        return
    x = state.values[s, X]
    if since < ints[HOT]:
        _remember(s, since, now, plan, state, found)
    if ints[BUSY]:
        _answer(s, now, plan, state, found)
    ints[T] = now
    if np.isnan(x) or state.run[IS_CUT]:
        return
    if x == THIN:
        ints[THIN_NS] += now - since
        return
    ints[DEFINED_NS] += now - since
    ints[TIME_SUM], ints[TIME_SUM + 1], ints[TIME_SUM + 2] = _added(
        ints[TIME_SUM], ints[TIME_SUM + 1], ints[TIME_SUM + 2], ints[VALUE], now - since
    )
    for a in range(s * len(plan.enters), (s + 1) * len(plan.enters)):
        span = state.automata[a]
        if span[STATE] != CLOSED:
            span[AREA], span[AREA + 1], span[AREA + 2] = _added(
                span[AREA], span[AREA + 1], span[AREA + 2], ints[VALUE], now - since
            )


@compiled
def _pair_goes_on(p: int, now: int, plan: Plan, state: State, found: Found) -> None:
    """Let a pair's capacities and best size stand until ``now``."""
    since, bests = state.pairs[p, PAIR_T], state.bests
    state.pairs[p, PAIR_T] = now
    if now == since or state.run[IS_CUT]:
        return
    first = len(state.automata) * len(plan.delays) + p * (len(plan.enters) + 1)
    for h in range(len(plan.enters)):
        size = state.capacities[p, h]
        if size > 0.0:
            state.capacity_ns[p, h] += now - since
            name = ((first + h) << WEIGHT_SHIFT) + _float_bin(size)
            weigh(found.used, found.names, found.weights, name, now - since)
    if bests[p, NOW_GAIN] > 0.0:
        state.pairs[p, GAIN_NS] += now - since
        name = ((first + len(plan.enters)) << WEIGHT_SHIFT) + _float_bin(bests[p, NOW_GAIN])
        weigh(found.used, found.names, found.weights, name, now - since)


# ---- an edge changes ----------------------------------------------------------------------------


@compiled
def _tell(  # noqa: PLR0913, PLR0917 - all of the state, by name
    a: int, now: int, ended: int, closer: int, state: State, found: Found
) -> None:
    """Write a span down."""
    row, span = found.used[USED_SPANS], state.automata[a]
    told = found.spans[row]
    told[0], told[1], told[2], told[3], told[4] = a, span[SPAN_START], now, span[BEGUN], ended
    told[5], told[6] = span[OPENER], closer
    told[7], told[8], told[9] = span[AREA], span[AREA + 1], span[AREA + 2]
    found.span_peaks[row] = state.peaks[a]
    found.used[USED_SPANS] = row + 1


@compiled
def _open(  # noqa: PLR0913, PLR0917 - all of the state, by name
    a: int, now: int, begun: int, opener: int, x: float, state: State
) -> None:
    span = state.automata[a]
    span[STATE] = UNSURE if begun == BEGUN_UNSURE else OPEN
    span[SPAN_START], span[BEGUN], span[OPENER] = now, begun, opener
    span[AREA] = span[AREA + 1] = span[AREA + 2] = 0
    state.peaks[a, PEAK], state.peaks[a, SPAN_CAPACITY] = x, 0.0


@compiled
def _await(a: int, s: int, now: int, state: State) -> None:
    """Let an opening wait for its delays."""
    if state.answered.shape[1] == 0:
        return
    mask, opened = state.opened_ts.shape[1] - 1, state.automata[a, OPENED]
    state.opened_ts[a, opened & mask] = now
    state.automata[a, OPENED] = opened + 1
    state.streams[s, BUSY] += 1
    if opened - state.answered[a, -1] > mask - SLACK:
        state.run[ROOM] = 1


@compiled
def _step(  # noqa: PLR0913, PLR0917 - all of the state, by name
    a: int, s: int, now: int, leg: int, x: float, plan: Plan, state: State, found: Found
) -> None:
    """Take an automaton from what its stream was to ``x``."""
    h = a - s * len(plan.enters)
    is_open = state.automata[a, STATE]
    if is_open != CLOSED and np.isnan(x):
        _tell(a, now, ENDED_CENSORED, 0, state, found)
        state.automata[a, STATE] = CLOSED
    elif is_open != CLOSED and x < plan.leaves[h]:
        _tell(a, now, ENDED_CLOSED, leg, state, found)
        state.automata[a, STATE] = CLOSED
    elif is_open == CLOSED and x >= plan.enters[h]:
        was_known = not np.isnan(state.values[s, X])
        _open(a, now, BEGUN_OPENED if was_known else BEGUN_TRUNCATED, leg, x, state)
        if was_known:
            _await(a, s, now, state)
    elif is_open == UNSURE and x >= plan.enters[h]:
        _tell(a, now, ENDED_OPENED, 0, state, found)
        _open(a, now, BEGUN_JOINT, leg, x, state)
        _await(a, s, now, state)
    if state.automata[a, STATE] != CLOSED:
        state.peaks[a, PEAK] = max(state.peaks[a, PEAK], x)


@compiled
def _hold(s: int, p: int, plan: Plan, state: State) -> None:
    """Note the capacity of a pair in the spans that are open."""
    width = len(plan.enters)
    for h in range(width):
        a = s * width + h
        if state.automata[a, STATE] != CLOSED:
            most = max(state.peaks[a, SPAN_CAPACITY], state.capacities[p, h])
            state.peaks[a, SPAN_CAPACITY] = most


@compiled
def _put_step(s: int, now: int, x: float, plan: Plan, state: State) -> None:
    """Keep a step for the delays, if any of them may ask for it."""
    ints, delays = state.streams[s], plan.delays
    if len(delays) == 0:
        return
    least = plan.enters.min()
    mask = state.ring_ts.shape[1] - 1
    if now >= ints[HOT]:
        ints[STEPS] = 0
        state.cursors[s] = 0
    if x >= least:
        ints[HOT] = NEVER
    elif ints[HOT] == NEVER:
        ints[HOT] = now + delays[-1]
    if now < ints[HOT]:
        state.ring_ts[s, ints[STEPS] & mask], state.ring_x[s, ints[STEPS] & mask] = now, x
        ints[STEPS] += 1
        if ints[STEPS] - state.cursors[s, -1] > mask - SLACK:
            state.run[ROOM] = 1


@compiled
def _count(s: int, state: State, found: Found) -> None:
    """Count the events at which a stream had its present value."""
    ints, same, x = state.streams[s], state.streams[s, SAME], state.values[s, X]
    if same == 0:
        return
    ints[SAME] = 0
    ints[N] += same
    ints[POSITIVE] += same if x > 0.0 else 0
    ints[SUM], ints[SUM + 1], ints[SUM + 2] = _added(
        ints[SUM], ints[SUM + 1], ints[SUM + 2], ints[VALUE], same
    )
    state.values[s, LEAST] = min(state.values[s, LEAST], x)
    state.values[s, MOST] = max(state.values[s, MOST], x)
    w = ints[WAITING]
    series = (s << SERIES_BITS) + (1 << (SERIES_BITS - 1))
    found.waiting_bins[s, w] = (series << PAGE_BITS) + ints[KEY]
    found.waiting_weights[s, w] = same
    ints[WAITING] = w + 1
    if w + 1 == found.waiting_bins.shape[1]:
        recount(found.waiting_bins[s], found.waiting_weights[s], found.counts)
        ints[WAITING] = 0


@compiled
def _turn(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, now: int, leg: int, x: float, gain: float, back: float,
    plan: Plan, state: State, found: Found,
) -> None:  # fmt: skip
    """Let a stream be ``x`` from ``now`` on."""
    ints, values = state.streams[s], state.values
    _go_on(s, now, plan, state, found)
    if not state.run[IS_CUT]:
        if ints[SAME]:
            ints[BACK_POSITIVE] += ints[SAME] if (1 + values[s, X] / BPS) * back > 1.0 else 0
            _count(s, state, found)
        for a in range(s * len(plan.enters), (s + 1) * len(plan.enters)):
            _step(a, s, now, leg, x, plan, state, found)
    _put_step(s, now, x, plan, state)
    values[s, X], values[s, GAIN] = x, gain
    if x > THIN:
        ints[VALUE], ints[KEY] = _fine(x), int(np.rint(min(x, MOST_BPS) * BINS_PER_BPS))


# ---- a pair's edges -----------------------------------------------------------------------------


@compiled
def _weigh_up(  # noqa: C901, PLR0913, PLR0917 - all of the state, by name
    p: int, now: int, plan: Plan, state: State, ladders: Ladders, found: Found, edges: Floats
) -> None:  # fmt: skip
    """Walk a pair's books; give its edges in bps and what they gain, [2, N]."""
    i, j, r = plan.sells[p], plan.buys[p], plan.rates[p]
    each, bests, capacities = state.each, state.bests, state.capacities
    kept, paid = plan.kept[p], plan.paid[p]
    if now > state.pairs[p, PAIR_T]:
        _pair_goes_on(p, now, plan, state, found)
    is_known = each[i, IS_KNOWN] and each[j, IS_KNOWN] and (r < 0 or each[r, IS_KNOWN])
    is_known = is_known and not np.isnan(kept * paid)
    bests[p, NOW_SIZE] = bests[p, NOW_GAIN] = 0.0
    capacities[p] = 0.0
    edges[:] = np.nan
    if not is_known:
        return
    edges[:] = THIN
    if r >= 0 and plan.turned[p]:
        kept *= best_price(ladders, 2 * r)
    elif r >= 0:
        paid *= best_price(ladders, 2 * r + 1)
    bid, ask = best_price(ladders, 2 * i), best_price(ladders, 2 * j + 1)
    ratio = bid * kept / (ask * paid)
    if np.isnan(ratio):
        return
    for n in range(len(plan.notionals)):
        size = rounded(plan.notionals[n] / ask, plan.lots[p])
        if size <= 0.0:
            continue
        brings = money(ladders, 2 * i, size) * kept
        costs = money(ladders, 2 * j + 1, size) * paid
        if np.isnan(brings * costs):
            break  # greater sizes are not there either
        edges[0, n], edges[1, n] = BPS * (brings / costs - 1.0), brings - costs
    for h in range(len(plan.enters)):
        wanted = 1.0 + plan.enters[h] / BPS
        if ratio >= wanted:
            size = capacity(ladders, 2 * i, 2 * j + 1, kept, paid * wanted)
            capacities[p, h] = rounded(size, plan.lots[p])
    if ratio > 1.0:
        size = rounded(best_size(ladders, 2 * i, 2 * j + 1, kept, paid), plan.lots[p])
        brings, costs = money(ladders, 2 * i, size) * kept, money(ladders, 2 * j + 1, size) * paid
        if size > 0.0 and brings > costs:
            bests[p, NOW_SIZE], bests[p, NOW_GAIN] = size, brings - costs


@compiled
def _look(p: int, now: int, plan: Plan, state: State) -> None:
    """See whether a pair has never been better."""
    bests = state.bests
    if bests[p, NOW_GAIN] > bests[p, BEST_GAIN]:
        bests[p, BEST_GAIN], bests[p, BEST_SIZE] = bests[p, NOW_GAIN], bests[p, NOW_SIZE]
        state.pairs[p, BEST_TS] = now
    for h in range(len(plan.enters)):
        most = max(state.capacity_most[p, h], state.capacities[p, h])
        state.capacity_most[p, h] = most


@compiled
def _flush(  # noqa: C901, PLR0913, PLR0917 - all of the state, by name
    now: int, is_event: bool, plan: Plan, state: State, ladders: Ladders, found: Found,  # noqa: FBT001
    edges: Floats,
) -> None:  # fmt: skip
    """Take in what changed at ``now``, once all updates of that time are read."""
    run, each, width = state.run, state.each, len(plan.notionals)
    run[INSTANT] += 1
    for c in range(run[CHANGED]):
        m = state.changed[c]
        for k in range(plan.first[m], plan.first[m + 1]):
            p = plan.touched[k]
            if state.pairs[p, STAMP] == run[INSTANT]:
                continue
            state.pairs[p, STAMP] = run[INSTANT]
            i, j, r = plan.sells[p], plan.buys[p], plan.rates[p]
            leg = (SELL if each[i, SIDES] & 1 else 0) | (BUY if each[j, SIDES] & 2 else 0)
            if leg or (r >= 0 and each[r, SIDES]):
                _weigh_up(p, now, plan, state, ladders, found, edges)
                if not run[IS_CUT]:
                    _look(p, now, plan, state)
                for n in range(width):
                    s = p * width + n
                    x, gain = edges[0, n], edges[1, n]
                    old, was = state.values[s, X], state.values[s, GAIN]
                    is_same = x == old and (gain == was or (np.isnan(gain) and np.isnan(was)))
                    if not (is_same or (np.isnan(x) and np.isnan(old))):
                        _turn(s, now, leg, x, gain, plan.back[p], plan, state, found)
                    if not run[IS_CUT]:
                        _hold(s, p, plan, state)
            if is_event and not run[IS_CUT]:
                for s in range(p * width, (p + 1) * width):
                    if state.values[s, X] > THIN:
                        state.streams[s, SAME] += 1
    for c in range(run[CHANGED]):
        each[state.changed[c], SIDES] = 0
    run[CHANGED] = 0


@compiled
def _begin(plan: Plan, state: State, ladders: Ladders, found: Found, edges: Floats) -> None:
    """Begin the part with what is known just before it."""
    run, width = state.run, len(plan.notionals)
    run[HAS_BEGUN] = 1
    for p in range(len(plan.sells)):
        state.pairs[p, PAIR_T] = run[SINCE]
        _weigh_up(p, run[SINCE], plan, state, ladders, found, edges)
        _look(p, run[SINCE], plan, state)
        for n in range(width):
            s, x = p * width + n, edges[0, n]
            state.streams[s, T] = run[SINCE]
            _put_step(s, run[SINCE], x, plan, state)
            state.values[s, X], state.values[s, GAIN] = x, edges[1, n]
            if x > THIN:
                state.streams[s, VALUE] = _fine(x)
                state.streams[s, KEY] = int(np.rint(min(x, MOST_BPS) * BINS_PER_BPS))
            for h in range(len(plan.enters)):
                a = s * len(plan.enters) + h
                if x >= plan.enters[h]:
                    _open(a, run[SINCE], BEGUN_CUT, 0, x, state)
                elif x >= plan.leaves[h]:
                    _open(a, run[SINCE], BEGUN_UNSURE, 0, x, state)
            _hold(s, p, plan, state)


@compiled
def _cut(plan: Plan, state: State, found: Found) -> None:
    """End the part; delays may still look beyond it."""
    run, width = state.run, len(plan.notionals)
    for p in range(len(plan.sells)):
        _pair_goes_on(p, run[UNTIL], plan, state, found)
        for s in range(p * width, (p + 1) * width):
            _go_on(s, run[UNTIL], plan, state, found)
            if state.streams[s, SAME] and (1 + state.values[s, X] / BPS) * plan.back[p] > 1.0:
                state.streams[s, BACK_POSITIVE] += state.streams[s, SAME]
            _count(s, state, found)
            for a in range(s * len(plan.enters), (s + 1) * len(plan.enters)):
                if state.automata[a, STATE] != CLOSED:
                    _tell(a, run[UNTIL], ENDED_CUT, 0, state, found)
                    state.automata[a, STATE] = CLOSED
    run[IS_CUT] = 1


@compiled
def settle(plan: Plan, state: State, found: Found) -> None:
    """Answer and count all that waits; nothing comes after it."""
    end = min(NEVER, state.run[UNTIL] + state.run[LINGER]) if state.run[UNTIL] < NEVER else NEVER
    for s in range(len(state.streams)):
        _go_on(s, max(end, state.streams[s, T]), plan, state, found)
        w = state.streams[s, WAITING]
        recount(found.waiting_bins[s, :w], found.waiting_weights[s, :w], found.counts)
        state.streams[s, WAITING] = 0


# ---- the pass -----------------------------------------------------------------------------------


@compiled
def _apply(updates: Updates, k: int, ladders: Ladders, tops: Floats) -> int:
    """Apply one update to its market's book; give the sides that it may have changed, as bits."""
    levels, known, shelf = ladders
    m, first, last = updates.market[k], updates.starts[k], updates.starts[k + 1]
    is_top, is_whole = known[2 * m, IS_TOP], updates.wholes[k]
    touched = 3 if is_whole else 0
    if is_whole:
        known[2 * m, KNOWN] = known[2 * m + 1, KNOWN] = 0
    for at in range(first, last):
        side = updates.sides[at]
        touched |= 1 << side
        if is_top:
            if 1 / MOST_PRICE < updates.prices[at] < MOST_PRICE and updates.sizes[at] > 0.0:
                put_level(levels, known, 2 * m + side, updates.prices[at], updates.sizes[at])
        elif not is_whole:
            forget(levels, known, 2 * m + side, updates.prices[at])
    if not is_top:
        if is_whole:  # so that a book follows from what came since its last snapshot
            shelf.scales[m], shelf.origin[m] = 0.0, 0
        scale, origin = shelf.scales[m], shelf.origin[m]
        apply_updates(
            updates.starts[k : k + 2], updates.market[k : k + 1], updates.wholes[k : k + 1],
            updates.sides, updates.prices, updates.sizes, shelf, tops,
        )  # fmt: skip
        if shelf.scales[m] != scale or shelf.origin[m] != origin:
            known[2 * m, KNOWN] = known[2 * m + 1, KNOWN] = 0
        resume(ladders, 2 * m)
        resume(ladders, 2 * m + 1)
    return touched


@compiled
def _has_room(state: State, found: Found) -> bool:
    """Tell whether one more instant finds room for all that it may write."""
    used, entries = found.used, state.opened_ts.size
    return (  # type: ignore[no-any-return]
        state.run[ROOM] == 0
        and used[USED_SPANS] + 3 * len(state.automata) < len(found.spans)
        and used[USED_TAKES] + entries < len(found.takes)
        and 2 * used[USED_WEIGHTS] < len(found.names)
        and found.counts.table[SPILLED] == 0
    )


@compiled
def sweep(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one loop, all of the state by name
    updates: Updates, k: int, trust: Trust, plan: Plan, state: State, ladders: Ladders, found: Found
) -> int:
    """Take in updates from ``k`` on; give the first not taken in, -1 if they are out of order.

    Stops early when something is nearly full: take it away or make room, and call again.
    """
    run, each, changed = state.run, state.each, state.changed
    edges, tops = np.empty((2, len(plan.notionals))), np.empty((1, 4))
    is_event = True
    while k < len(updates.ts) and not run[IS_DONE]:
        ts, m = updates.ts[k], updates.market[k]
        if ts != run[NOW]:
            if ts < run[NOW]:
                return -1
            if run[CHANGED]:
                if run[HAS_BEGUN]:
                    _flush(run[NOW], is_event, plan, state, ladders, found, edges)
                for c in range(run[CHANGED]):
                    each[changed[c], SIDES] = 0
                run[CHANGED] = 0
                is_event = True
                if not _has_room(state, found):
                    return k
            nearest = min(ts, run[SOONEST])
            if not run[HAS_BEGUN] and nearest >= run[SINCE]:
                _begin(plan, state, ladders, found, edges)
            if not run[IS_CUT] and nearest >= run[UNTIL]:
                _cut(plan, state, found)
                if not _has_room(state, found):
                    return k
            if run[IS_CUT] and nearest >= run[UNTIL] + run[LINGER]:
                run[IS_DONE] = 1
                break
            if run[SOONEST] < ts:
                over = np.argmin(each[:, END])
                run[NOW] = each[over, END]
                is_event = False
                if each[over, IS_KNOWN]:
                    each[over, IS_KNOWN], each[over, SIDES] = 0, 3
                    changed[0], run[CHANGED] = over, 1
                each[over, CURSOR] += 1
                at = each[over, CURSOR]
                more = at < trust.first[over + 1]
                each[over, START] = trust.starts[at] if more else NEVER
                each[over, END] = trust.ends[at] if more else NEVER
                run[SOONEST] = each[:, END].min()
                continue
            run[NOW] = ts
        if m >= 0:
            touched = _apply(updates, k, ladders, tops)
            if ts >= each[m, START]:
                if not each[m, IS_KNOWN]:
                    each[m, IS_KNOWN], touched = 1, 3
                if each[m, SIDES] == 0:
                    changed[run[CHANGED]] = m
                    run[CHANGED] += 1
                each[m, SIDES] |= touched | 4
        k += 1
    return k
