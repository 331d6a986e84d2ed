"""The one pass over updates of books and quotes: what each pair's edge was, moment by moment.

A stream is the edge of one pair at one notional, a step function of time: NaN where it is not
known (one of its markets is not trusted), THIN where the books do not hold so much. ``sweep`` takes
receive-ordered updates of M markets in chunks of any size and keeps, in the arrays handed in, exact
sums of every stream by time and by update event, the capacities of every pair, and through
:mod:`perptape.spells` what lasts. Stream ``p * N + n`` is pair p at the n-th of N notionals.

A part ``[SINCE, UNTIL)`` of time is measured. Updates before it only build the books; those after
it only answer for its delays. So parts that meet can be added.

Arrays are handed on by few names at a time: a call with all of them costs more than its work.
numba keeps the compiled loop by this file's date alone: touch it when a file that it calls changes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.book import Floats, Ints, Shelf, apply_updates, compiled
from perptape.depth import (
    BPS,
    IS_TOP,
    KNOWN,
    Ladders,
    best_price,
    best_size,
    capacity,
    forget,
    inlined,
    money,
    put_level,
    reach,
    resume,
    rounded,
)
from perptape.kernels import (
    BINS_PER_BPS,
    FINE,
    MANTISSA_SHIFT,
    MOST_BPS,
    NEVER,
    PAGE_BITS,
    SERIES_BITS,
    SPILLED,
    Counts,
    Trust,
    recount,
)
from perptape.spells import (
    BEGUN_CUT,
    BEGUN_UNSURE,
    CLOSED,
    ENDED_CUT,
    HOT,
    IS_LONG,
    LIVELY,
    STATE,
    THIN,
    USED_SPANS,
    USED_TAKES,
    WEIGHT_SHIFT,
    Automata,
    Openings,
    Rings,
    Terms,
    Told,
    Weights,
    added,
    go_on,
    hold,
    lay,
    put_step,
    stand,
    step,
    tell,
    weigh,
)

SELL, BUY = 1, 2
"""Legs, as bits; both, or neither where it was not a price that changed."""

# The columns of the arrays below.
NOW, SOONEST, CHANGED, INSTANT, SINCE, UNTIL, LINGER, HAS_BEGUN, IS_CUT, IS_DONE, RUN = range(11)
CURSOR, START, END, IS_KNOWN, SIDES, EACH = range(6)
T, FINE_X, KEY, SAME, N, POSITIVE, BACK_POSITIVE, DEFINED_NS, THIN_NS, WAITING = range(10)
SUM, TIME_SUM, BESIDE_T, STREAM_INTS = 10, 13, 16, 17
X, GAIN, LEAST, MOST, STREAM_FLOATS = range(5)
PAIR_T, GAIN_NS, BEST_TS, STAMP, PAIR_INTS = range(5)
BEST_SIZE, BEST_GAIN, NOW_SIZE, NOW_GAIN, PAIR_FLOATS = range(5)


class Updates(NamedTuple):
    """Updates in receive order, read-only: update k has levels ``starts[k]:starts[k + 1]``."""

    ts: Ints
    market: Ints
    starts: Ints
    wholes: NDArray[np.bool_]
    sides: NDArray[np.int8]
    prices: Floats
    sizes: Floats


class Plan(NamedTuple):
    """What pairs there are; read-only."""

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
    leaders: Ints
    """[P] the pair beside which this one is laid, as it is laid beside itself of before by a delay;
    -1: none"""
    first_follower: Ints
    followers: Ints
    """Beside pair p are laid the pairs ``followers[first_follower[p]:first_follower[p + 1]]``."""
    notionals: Floats
    """Ascending [N]."""
    terms: Terms


class Streams(NamedTuple):
    """Sums of every stream."""

    ints: Ints
    """[S, STREAM_INTS]"""
    values: Floats
    """[S, STREAM_FLOATS]"""


class Events(NamedTuple):
    """Values of streams that wait to be counted."""

    bins: Ints
    """[S, W]"""
    weights: Ints
    counts: Counts


class Pairs(NamedTuple):
    """Capacities and best sizes."""

    ints: Ints
    """[P, PAIR_INTS]"""
    bests: Floats
    """[P, PAIR_FLOATS]"""
    capacities: Floats
    """[P, H] of now"""
    capacity_ns: Ints
    """[P, H] time with any"""
    capacity_most: Floats
    """[P, H]"""


class State(NamedTuple):
    """All that is remembered between two chunks, and the sums."""

    run: Ints
    each: Ints
    """[M, EACH]"""
    changed: Ints
    tops: Floats
    """[1, 4] of the book at hand"""
    edges: Floats
    """[2, N] of the pair at hand: bps, and what is gained"""
    streams: Streams
    events: Events
    pairs: Pairs
    automata: Automata
    rings: Rings
    openings: Openings
    told: Told
    weights: Weights


@inlined
def _fine(x: float) -> int:
    return int(np.rint(min(x, MOST_BPS) * FINE))


@inlined
def _float_bin(x: float) -> int:
    bits = np.float64(x).view(np.int64)
    return int((bits + (1 << (MANTISSA_SHIFT - 1))) >> MANTISSA_SHIFT)


# ---- sums ---------------------------------------------------------------------------------------


@inlined
def _last(s: int, now: int, x: float, ints: Ints) -> None:
    """Let a stream stand at ``x`` until ``now``, within the part."""
    length = now - ints[s, T]
    if x > THIN:
        ints[s, DEFINED_NS] += length
        ints[s, TIME_SUM], ints[s, TIME_SUM + 1], ints[s, TIME_SUM + 2] = added(
            ints[s, TIME_SUM], ints[s, TIME_SUM + 1], ints[s, TIME_SUM + 2],
            ints[s, FINE_X], length,
        )  # fmt: skip
    elif x == THIN:
        ints[s, THIN_NS] += length


@inlined
def _count(s: int, back: float, ints: Ints, values: Floats, events: Events) -> None:
    """Count the events at which a stream had its present value."""
    same, x, w = ints[s, SAME], values[s, X], ints[s, WAITING]
    ints[s, SAME] = 0
    ints[s, N] += same
    ints[s, POSITIVE] += same if x > 0.0 else 0
    ints[s, BACK_POSITIVE] += same if (1.0 + x / BPS) * back > 1.0 else 0
    ints[s, SUM], ints[s, SUM + 1], ints[s, SUM + 2] = added(
        ints[s, SUM], ints[s, SUM + 1], ints[s, SUM + 2], ints[s, FINE_X], same
    )
    values[s, LEAST] = min(values[s, LEAST], x)
    values[s, MOST] = max(values[s, MOST], x)
    series = (s << SERIES_BITS) + (1 << (SERIES_BITS - 1))
    events.bins[s, w], events.weights[s, w] = (series << PAGE_BITS) + ints[s, KEY], same
    ints[s, WAITING] = w + 1
    if w + 1 == events.bins.shape[1]:
        recount(events.bins[s], events.weights[s], events.counts)
        ints[s, WAITING] = 0


@inlined
def _set(s: int, x: float, gain: float, ints: Ints, values: Floats) -> None:
    values[s, X], values[s, GAIN] = x, gain
    if x > THIN:
        ints[s, FINE_X], ints[s, KEY] = _fine(x), int(np.rint(min(x, MOST_BPS) * BINS_PER_BPS))


@inlined
def _pair_goes_on(p: int, now: int, first: int, pairs: Pairs, weights: Weights) -> None:
    """Let a pair's capacities and best size stand until ``now``, within the part."""
    length, width = now - pairs.ints[p, PAIR_T], pairs.capacities.shape[1]
    series = first + p * (width + 1)
    for h in range(width):
        size = pairs.capacities[p, h]
        if size > 0.0:
            pairs.capacity_ns[p, h] += length
            weigh(weights, ((series + h) << WEIGHT_SHIFT) + _float_bin(size), length)
    gain = pairs.bests[p, NOW_GAIN]
    if gain > 0.0:
        pairs.ints[p, GAIN_NS] += length
        weigh(weights, ((series + width) << WEIGHT_SHIFT) + _float_bin(gain), length)


@inlined
def _look(p: int, now: int, pairs: Pairs) -> None:
    """See whether a pair has never been better."""
    bests = pairs.bests
    if bests[p, NOW_GAIN] > bests[p, BEST_GAIN]:
        bests[p, BEST_GAIN], bests[p, BEST_SIZE] = bests[p, NOW_GAIN], bests[p, NOW_SIZE]
        pairs.ints[p, BEST_TS] = now
    for h in range(pairs.capacities.shape[1]):
        most = max(pairs.capacity_most[p, h], pairs.capacities[p, h])
        pairs.capacity_most[p, h] = most


# ---- a pair's edges -----------------------------------------------------------------------------


@inlined
def _weigh_up(  # noqa: PLR0913, PLR0917 - all that a pair has, by name
    i: int, j: int, kept: float, paid: float, lot: float, notionals: Floats, ladders: Ladders,
    edges: Floats,
) -> float:  # fmt: skip
    """Walk two books for each notional; give the ratio of their best prices after fees."""
    bids, asks = 2 * i, 2 * j + 1
    bid, ask = best_price(ladders, bids), best_price(ladders, asks)
    ratio = bid * kept / (ask * paid)
    if np.isnan(ratio):
        return np.nan
    most = rounded(notionals[-1] / ask, lot)
    reach(ladders, bids, most)
    reach(ladders, asks, most)
    for n in range(len(notionals)):
        size = rounded(notionals[n] / ask, lot)
        if size <= 0.0:
            continue
        brings = money(ladders.levels, ladders.state, bids, size) * kept
        costs = money(ladders.levels, ladders.state, asks, size) * paid
        if np.isnan(brings * costs):
            break  # greater sizes are not there either
        edges[0, n], edges[1, n] = BPS * (brings / costs - 1.0), brings - costs
    return ratio


@inlined
def _stretch(  # noqa: PLR0913, PLR0917 - all that a pair has, by name
    p: int, i: int, j: int, kept: float, paid: float, lot: float, ratio: float, enters: Floats,
    ladders: Ladders, pairs: Pairs,
) -> None:  # fmt: skip
    """Find a pair's capacity at each threshold, and its best size."""
    bids, asks = 2 * i, 2 * j + 1
    for h in range(len(enters)):
        wanted = 1.0 + enters[h] / BPS
        if ratio >= wanted:
            size = capacity(ladders, bids, asks, kept, paid * wanted)
            pairs.capacities[p, h] = rounded(size, lot)
    if ratio > 1.0:
        size = rounded(best_size(ladders, bids, asks, kept, paid), lot)
        reach(ladders, bids, size)
        reach(ladders, asks, size)
        brings = money(ladders.levels, ladders.state, bids, size) * kept
        costs = money(ladders.levels, ladders.state, asks, size) * paid
        if size > 0.0 and brings > costs:
            pairs.bests[p, NOW_SIZE], pairs.bests[p, NOW_GAIN] = size, brings - costs


@inlined
def _weigh_pair(  # noqa: PLR0913, PLR0917 - all of the state, by name
    p: int, each: Ints, plan: Plan, ladders: Ladders, pairs: Pairs, edges: Floats
) -> None:
    """Find all that a pair is worth now: NaN where it is not known."""
    i, j, r = plan.sells[p], plan.buys[p], plan.rates[p]
    kept, paid = plan.kept[p], plan.paid[p]
    pairs.bests[p, NOW_SIZE] = pairs.bests[p, NOW_GAIN] = 0.0
    for h in range(pairs.capacities.shape[1]):
        pairs.capacities[p, h] = 0.0
    is_known = each[i, IS_KNOWN] and each[j, IS_KNOWN] and (r < 0 or each[r, IS_KNOWN])
    for n in range(len(plan.notionals)):
        edges[0, n] = edges[1, n] = THIN if is_known and not np.isnan(kept * paid) else np.nan
    if not is_known:
        return
    if r >= 0 and plan.turned[p]:
        kept *= best_price(ladders, 2 * r)
    elif r >= 0:
        paid *= best_price(ladders, 2 * r + 1)
    ratio = _weigh_up(i, j, kept, paid, plan.lots[p], plan.notionals, ladders, edges)
    enters = plan.terms.enters
    if ratio > 1.0 or ratio >= 1.0 + enters[0] / BPS:
        _stretch(p, i, j, kept, paid, plan.lots[p], ratio, enters, ladders, pairs)


@inlined
def _beside(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, leader: int, now: int, until: int, enters: Floats, streams: Streams, lags: Ints,
    weights: Weights,
) -> None:  # fmt: skip
    """Lay what a stream and its leader are beside each other, before either changes."""
    length = min(now, until) - streams.ints[s, BESIDE_T]
    x, of_leader = streams.values[s, X], streams.values[leader, X]
    if length > 0 and not np.isnan(x):
        lay(s, 0, of_leader, x, length, enters, lags, weights)
    streams.ints[s, BESIDE_T] = now


@inlined
def _all_beside(p: int, n: int, now: int, plan: Plan, state: State) -> None:
    """Lay a pair's stream beside its leader, and its followers beside it."""
    width, enters, until = len(plan.notionals), plan.terms.enters, state.run[UNTIL]
    lags, s = state.rings.lags, p * width + n
    leader = plan.leaders[p]
    if leader >= 0:
        other = leader * width + n
        _beside(s, other, now, until, enters, state.streams, lags, state.weights)
    for k in range(plan.first_follower[p], plan.first_follower[p + 1]):
        other = plan.followers[k] * width + n
        _beside(other, s, now, until, enters, state.streams, lags, state.weights)


@inlined
def _turn(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, now: int, leg: int, x: float, gain: float, back: float, terms: Terms, state: State
) -> None:
    """Let a stream be ``x`` from ``now`` on; it stands open, did so a moment ago, or will."""
    ints, values, run = state.streams.ints, state.streams.values, state.run
    before = values[s, X]
    go_on(
        s, ints[s, T], now, run[UNTIL], before, values[s, GAIN], ints[s, FINE_X], terms,
        state.automata, state.rings, state.openings, state.told, state.weights,
    )  # fmt: skip
    if not run[IS_CUT]:
        _last(s, now, before, ints)
        if ints[s, SAME]:
            _count(s, back, ints, values, state.events)
        step(
            s, now, leg, before, x, terms,
            state.automata, state.rings, state.openings, state.told,
        )  # fmt: skip
    ints[s, T] = now
    put_step(s, now, x, terms, state.rings, state.told)
    _set(s, x, gain, ints, values)


@inlined
def _flush(  # noqa: C901, PLR0912 - one loop, for speed
    now: int, is_event: bool, plan: Plan, state: State, ladders: Ladders  # noqa: FBT001
) -> None:  # fmt: skip
    """Take in what changed at ``now``, once all updates of that time are read."""
    run, each, pairs, edges = state.run, state.each, state.pairs, state.edges
    ints, values, events = state.streams.ints, state.streams.values, state.events
    counts, terms, least = state.rings.ints, plan.terms, plan.terms.enters[0]
    width, is_cut, has_leaders = len(plan.notionals), run[IS_CUT], len(plan.followers) > 0
    weighed = state.rings.lags.shape[0] * state.rings.lags.shape[1]
    run[INSTANT] += 1
    for c in range(run[CHANGED]):
        m = state.changed[c]
        for at in range(plan.first[m], plan.first[m + 1]):
            p = plan.touched[at]
            if pairs.ints[p, STAMP] == run[INSTANT]:
                continue
            pairs.ints[p, STAMP] = run[INSTANT]
            r, back = plan.rates[p], plan.back[p]
            leg = SELL if each[plan.sells[p], SIDES] & 1 else 0
            leg |= BUY if each[plan.buys[p], SIDES] & 2 else 0
            if leg or (r >= 0 and each[r, SIDES]):
                if not is_cut:
                    _pair_goes_on(p, now, weighed, pairs, state.weights)
                    pairs.ints[p, PAIR_T] = now
                _weigh_pair(p, each, plan, ladders, pairs, edges)
                if not is_cut:
                    _look(p, now, pairs)
                for n in range(width):
                    s = p * width + n
                    x, gain = edges[0, n], edges[1, n]
                    old = values[s, X]
                    if x == old and gain == values[s, GAIN]:
                        continue
                    if has_leaders and not is_cut:
                        _all_beside(p, n, now, plan, state)
                    if counts[s, LIVELY] or ints[s, T] < counts[s, HOT] or x >= least:
                        _turn(s, now, leg, x, gain, back, terms, state)
                    else:
                        if not is_cut:
                            _last(s, now, old, ints)
                            if ints[s, SAME]:
                                _count(s, back, ints, values, events)
                        ints[s, T] = now
                        _set(s, x, gain, ints, values)
                if not is_cut:
                    for s in range(p * width, (p + 1) * width):
                        if counts[s, LIVELY]:
                            hold(s, p, pairs.capacities, state.automata)
            if is_event and not is_cut:
                for s in range(p * width, (p + 1) * width):
                    if values[s, X] > THIN:
                        ints[s, SAME] += 1


# ---- the part -----------------------------------------------------------------------------------


@inlined
def _begin(plan: Plan, state: State, ladders: Ladders) -> None:
    """Begin the part with what is known just before it."""
    run, pairs, width, terms = state.run, state.pairs, len(plan.notionals), plan.terms
    run[HAS_BEGUN] = 1
    for p in range(len(plan.sells)):
        pairs.ints[p, PAIR_T] = run[SINCE]
        _weigh_pair(p, state.each, plan, ladders, pairs, state.edges)
        _look(p, run[SINCE], pairs)
        for n in range(width):
            s, x = p * width + n, state.edges[0, n]
            state.streams.ints[s, T] = state.streams.ints[s, BESIDE_T] = run[SINCE]
            put_step(s, run[SINCE], x, terms, state.rings, state.told)
            _set(s, x, state.edges[1, n], state.streams.ints, state.streams.values)
            for h in range(len(terms.enters)):
                a = s * len(terms.enters) + h
                if x >= terms.leaves[h]:
                    begun = BEGUN_CUT if x >= terms.enters[h] else BEGUN_UNSURE
                    stand(a, run[SINCE], begun, 0, x, state.automata)
                    state.rings.ints[s, LIVELY] += 1
            hold(s, p, pairs.capacities, state.automata)


@inlined
def _stand_still(s: int, now: int, terms: Terms, state: State) -> None:
    """Let a stream stand until ``now``."""
    ints, x = state.streams.ints, state.streams.values[s, X]
    if now > ints[s, T]:
        go_on(
            s, ints[s, T], now, state.run[UNTIL], x, state.streams.values[s, GAIN],
            ints[s, FINE_X], terms,
            state.automata, state.rings, state.openings, state.told, state.weights,
        )  # fmt: skip
        if not state.run[IS_CUT]:
            _last(s, now, x, ints)
        ints[s, T] = now


@inlined
def _cut(plan: Plan, state: State) -> None:
    """End the part; delays may still look beyond it."""
    run, width, terms = state.run, len(plan.notionals), plan.terms
    weighed = state.rings.lags.shape[0] * state.rings.lags.shape[1]
    for p in range(len(plan.sells)):
        _pair_goes_on(p, run[UNTIL], weighed, state.pairs, state.weights)
        for s in range(p * width, (p + 1) * width):
            _all_beside(p, s - p * width, run[UNTIL], plan, state)
            _stand_still(s, run[UNTIL], terms, state)
            if state.streams.ints[s, SAME]:
                _count(s, plan.back[p], state.streams.ints, state.streams.values, state.events)
            for a in range(s * len(terms.enters), (s + 1) * len(terms.enters)):
                if state.automata.ints[a, STATE] != CLOSED:
                    tell(a, run[UNTIL], ENDED_CUT, 0, state.automata, state.told)
                    state.rings.ints[s, LIVELY] -= 1
    run[IS_CUT] = 1


@inlined
def _settle(plan: Plan, state: State) -> None:
    ints, events = state.streams.ints, state.events
    until = state.run[UNTIL]
    end = until + state.run[LINGER] if until < NEVER else NEVER
    for s in range(len(ints)):
        _stand_still(s, end, plan.terms, state)
        w = ints[s, WAITING]
        recount(events.bins[s, :w], events.weights[s, :w], events.counts)
        ints[s, WAITING] = 0


# ---- the pass -----------------------------------------------------------------------------------


@inlined
def _apply(updates: Updates, k: int, ladders: Ladders, tops: Floats) -> int:
    """Apply one update to its market's book; give the sides that it may have changed, as bits."""
    levels, known, shelf = ladders
    m, is_whole = updates.market[k], updates.wholes[k]
    touched = 3 if is_whole else 0
    if is_whole:
        known[2 * m, KNOWN] = known[2 * m + 1, KNOWN] = 0
    is_top = known[2 * m, IS_TOP]
    for at in range(updates.starts[k], updates.starts[k + 1]):
        side, price, size = updates.sides[at], updates.prices[at], updates.sizes[at]
        touched |= 1 << side
        if is_top:
            if size > 0.0:
                put_level(levels, known, 2 * m + side, price, size)
        elif known[2 * m + side, KNOWN]:
            forget(levels, known, 2 * m + side, price)
    if not is_top:
        _apply_to_book(updates, k, shelf, known, tops)
        resume(levels, known, shelf, 2 * m)
        resume(levels, known, shelf, 2 * m + 1)
    return touched


@inlined
def _apply_to_book(updates: Updates, k: int, shelf: Shelf, known: Ints, tops: Floats) -> None:
    m = updates.market[k]
    if updates.wholes[k]:  # so that a book follows from what came since its last snapshot
        shelf.scales[m], shelf.origin[m] = 0.0, 0
    scale, origin = shelf.scales[m], shelf.origin[m]
    apply_updates(
        updates.starts[k : k + 2], updates.market[k : k + 1], updates.wholes[k : k + 1],
        updates.sides, updates.prices, updates.sizes, shelf, tops,
    )  # fmt: skip
    if shelf.scales[m] != scale or shelf.origin[m] != origin:  # it was laid out anew
        known[2 * m, KNOWN] = known[2 * m + 1, KNOWN] = 0


@inlined
def _has_room(state: State) -> bool:
    """Tell whether one more instant finds room for all that it may write."""
    told, weights, spans = state.told, state.weights, 3 * len(state.automata.ints)
    return (  # type: ignore[no-any-return]
        told.used[IS_LONG] == 0
        and told.used[USED_SPANS] + spans < len(told.spans)
        and told.used[USED_TAKES] + state.openings.ts.size < len(told.takes)
        and 2 * weights.used[0] < len(weights.names)
        and state.events.counts.table[SPILLED] == 0
    )


@inlined
def _end_trust(m: int, trust: Trust, run: Ints, each: Ints, changed: Ints) -> None:
    """Know nothing of a market from the end of its trust on, until it is heard again."""
    run[NOW] = each[m, END]
    if each[m, IS_KNOWN]:
        each[m, IS_KNOWN], each[m, SIDES] = 0, 3
        changed[0], run[CHANGED] = m, 1
    each[m, CURSOR] += 1
    at = each[m, CURSOR]
    more = at < trust.first[m + 1]
    each[m, START] = trust.starts[at] if more else NEVER
    each[m, END] = trust.ends[at] if more else NEVER
    run[SOONEST] = NEVER
    for other in range(len(each)):
        run[SOONEST] = min(run[SOONEST], each[other, END])


@inlined
def _sweep(  # noqa: C901, PLR0912, PLR0913, PLR0917 - one loop, all of the state by name
    updates: Updates, k: int, trust: Trust, plan: Plan, state: State, ladders: Ladders
) -> int:
    run, each, changed, tops = state.run, state.each, state.changed, state.tops
    is_event = True
    while k < len(updates.ts) and not run[IS_DONE]:
        ts, m = updates.ts[k], updates.market[k]
        if ts != run[NOW]:
            if ts < run[NOW]:
                return -1
            if run[CHANGED]:
                if run[HAS_BEGUN]:
                    _flush(run[NOW], is_event, plan, state, ladders)
                for c in range(run[CHANGED]):
                    each[changed[c], SIDES] = 0
                run[CHANGED] = 0
                if not _has_room(state):
                    return k
            nearest = min(ts, run[SOONEST])
            if not run[HAS_BEGUN] and nearest >= run[SINCE]:
                _begin(plan, state, ladders)
            if not run[IS_CUT] and nearest >= run[UNTIL]:
                _cut(plan, state)
                if not _has_room(state):
                    return k
            if run[IS_CUT] and nearest >= run[UNTIL] + run[LINGER]:
                run[IS_DONE] = 1
                break
            is_event = run[SOONEST] >= ts
            if not is_event:
                over = 0
                while each[over, END] != run[SOONEST]:
                    over += 1
                _end_trust(over, trust, run, each, changed)
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


@compiled
def sweep(  # noqa: PLR0913, PLR0917 - all of the state by name
    updates: Updates, k: int, trust: Trust, plan: Plan, state: State, ladders: Ladders
) -> int:
    """Take in updates from ``k`` on; give the first not taken in, -1 if they are out of order.

    Stops early when something is nearly full: take it away or make room, and call again.
    """
    return _sweep(updates, k, trust, plan, state, ladders)


@compiled
def settle(plan: Plan, state: State) -> None:
    """Answer and count all that waits; nothing comes after it."""
    _settle(plan, state)
