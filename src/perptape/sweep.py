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

from perptape.book import Floats, Ints
from perptape.depth import BPS, Ladders, Updates, apply
from perptape.kernels import (
    BINS_PER_BPS,
    FINE,
    MOST_BPS,
    NEVER,
    PAGE_BITS,
    SERIES_BITS,
    SPILLED,
    Counts,
    Trust,
    recount,
)
from perptape.loops import compiled, inlined
from perptape.sizing import (
    CURSOR,
    END,
    IS_KNOWN,
    PAIR_T,
    SIDES,
    STAMP,
    START,
    Pairs,
    Plan,
    look,
    pair_goes_on,
    weigh_pair,
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
)

SELL, BUY = 1, 2
"""Legs, as bits; both, or neither where it was not a price that changed."""

# The columns of the arrays below.
NOW, SOONEST, CHANGED, INSTANT, SINCE, UNTIL, LINGER, HAS_BEGUN, IS_CUT, IS_DONE, RUN = range(11)
T, FINE_X, KEY, SAME, N, POSITIVE, BACK_POSITIVE, DEFINED_NS, THIN_NS, WAITING = range(10)
SUM, TIME_SUM, BESIDE_T, STREAM_INTS = 10, 13, 16, 17
X, GAIN, LEAST, MOST, STREAM_FLOATS = range(5)


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


# ---- an edge changes ----------------------------------------------------------------------------


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
                    pair_goes_on(p, now, weighed, pairs, state.weights)
                    pairs.ints[p, PAIR_T] = now
                weigh_pair(p, each, plan, ladders, pairs, edges)
                if not is_cut:
                    look(p, now, pairs)
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
        weigh_pair(p, state.each, plan, ladders, pairs, state.edges)
        look(p, run[SINCE], pairs)
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
        pair_goes_on(p, run[UNTIL], weighed, state.pairs, state.weights)
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
            touched = apply(updates, k, ladders, tops)
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
