"""How long an edge stands: spans, what a late take would have gained, what is left after a delay.

The loops of :mod:`perptape.sweep` come here while an edge is, or was a moment ago, above a
threshold. Stream s has an automaton ``s * H + h`` for each of H thresholds, which opens at the one
to enter and closes below the one to leave. At the borders of a part of time hysteresis may leave
open whether an edge stands: spans are CUT there, or UNSURE.
"""

from typing import NamedTuple

import numpy as np

from perptape.book import Floats, Ints
from perptape.kernels import FINE, LIMB, LOW, MOST_BPS, NEVER
from perptape.loops import compiled, inlined

THIN = -np.inf
"""The edge where the books do not hold so much."""
COARSE_PER_BPS = 100.0
"""Bins of what is weighed by time."""
WEIGHT_SHIFT = 40
"""Names of weights: a series above, a bin or the upper bits of a float below."""
WEIGHT_MIDDLE = 1 << (WEIGHT_SHIFT - 1)
HASH = 0x2545F4914F6CDD1D
SLACK = 8
"""Entries that an instant may add to a ring."""

CLOSED, OPEN, UNSURE = range(3)
BEGUN_OPENED, BEGUN_TRUNCATED, BEGUN_CUT, BEGUN_UNSURE = range(4)
ENDED_CLOSED, ENDED_CENSORED, ENDED_CUT, ENDED_OPENED = range(4)
"""How spans begin and end. What follows an UNSURE one that ENDED_OPENED is an opening only if it
was not open before."""
SINCE, STATE, BEGUN, OPENER, OPENED, AREA, AUTOMATON_INTS = 0, 1, 2, 3, 4, 5, 8
PEAK, SPAN_CAPACITY, AUTOMATON_FLOATS = range(3)
SPAN_INTS = 10
"""Automaton, start, end, begun, ended, opener, closer, area in three limbs."""
STEPS, HOT, LIVELY, RING_INTS = range(4)
"""Of a stream: steps in its ring, until when they are asked for, how much stands or waits."""
HELD_NS, KEPT_NS, LAGGED_NS, LAG_SUM, LAG_INTS = 0, 1, 2, 3, 6
USED_SPANS, USED_TAKES, IS_LONG, USED = range(4)


class Terms(NamedTuple):
    """What is asked of every stream; read-only."""

    enters: Floats
    """Thresholds [H] in bps; likewise ``leaves``, not above them."""
    leaves: Floats
    delays: Ints
    """Ascending [D], ns."""


class Automata(NamedTuple):
    """What stands open."""

    ints: Ints
    """[A, AUTOMATON_INTS], A = streams x H"""
    peaks: Floats
    """[A, AUTOMATON_FLOATS]"""


class Rings(NamedTuple):
    """The last steps of each stream, as long as a delay may ask for them."""

    ints: Ints
    """[S, RING_INTS]"""
    ts: Ints
    """[S, R]; step k lies at k modulo R, a power of two"""
    x: Floats
    cursors: Ints
    """[S, D]: the step that stood so long ago"""
    lags: Ints
    """[A, D, LAG_INTS]"""


class Openings(NamedTuple):
    """Openings that wait for their delays."""

    ts: Ints
    """[A, R]"""
    gain: Floats
    """[A, R, D]"""
    answered: Ints
    """[A, D]: openings that this delay has answered"""


class Told(NamedTuple):
    """What leaves the loops; they stop before any of it is full."""

    used: Ints
    """[USED]; IS_LONG: a ring is nearly full"""
    spans: Ints
    """[k, SPAN_INTS]"""
    peaks: Floats
    """[k, AUTOMATON_FLOATS]"""
    takes: Ints
    """[k, 2]: automaton, when it opened"""
    gains: Floats
    """[k, D]: NaN not known, THIN not so much there"""


class Weights(NamedTuple):
    """Open hash of what is weighed by time; the name -1 is free."""

    used: Ints
    """[1]"""
    names: Ints
    weights: Ints


@inlined
def added(a0: int, a1: int, a2: int, x: int, weight: int) -> tuple[int, int, int]:
    """Add ``x * weight`` to limbs; |x| < 2**58, 0 <= weight < 2**60."""
    x0, x1 = x & LOW, x >> LIMB
    w0, w1 = weight & LOW, weight >> LIMB
    low = a0 + x0 * w0
    middle = a1 + x1 * w0 + x0 * w1 + (low >> LIMB)
    return low & LOW, middle & LOW, a2 + x1 * w1 + (middle >> LIMB)


@inlined
def weigh(table: Weights, name: int, weight: int) -> None:
    """Add a weight to a name; there is always room, the loop stops at half."""
    names = table.names
    mask = len(names) - 1
    mixed = name * HASH
    at = (mixed ^ (mixed >> 29)) & mask
    while names[at] != name:
        if names[at] == -1:
            names[at] = name
            table.used[0] += 1
        else:
            at = (at + 1) & mask
    table.weights[at] += weight


@compiled
def weigh_again(table: Weights, names: Ints, weights: Ints) -> None:
    """Fill an empty table."""
    for k in range(len(names)):
        weigh(table, names[k], weights[k])


# ---- an edge stands -----------------------------------------------------------------------------


@inlined
def go_on(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, since: int, now: int, until: int, x: float, gain: float, fine: int, terms: Terms,
    automata: Automata, rings: Rings, openings: Openings, told: Told, table: Weights,
) -> None:  # fmt: skip
    """Let a stream stand as it is from ``since`` to ``now``; the part ends at ``until``."""
    if since < rings.ints[s, HOT]:
        _remember(s, since, now, until, x, terms, rings, table)
    if not rings.ints[s, LIVELY]:
        return
    _answer(s, now, gain, terms, automata.ints, rings.ints, openings, told)
    spans, length = automata.ints, min(now, until) - since
    for a in range(s * len(terms.enters), (s + 1) * len(terms.enters)):
        if spans[a, STATE] != CLOSED and length > 0:
            spans[a, AREA], spans[a, AREA + 1], spans[a, AREA + 2] = added(
                spans[a, AREA], spans[a, AREA + 1], spans[a, AREA + 2], fine, length
            )


@inlined
def _remember(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, since: int, now: int, until: int, x: float, terms: Terms, rings: Rings, table: Weights
) -> None:
    """Lay what a stream was some delays ago beside what it is from ``since`` to ``now``."""
    mask, last = rings.ts.shape[1] - 1, rings.ints[s, STEPS] - 1
    for d in range(len(terms.delays)):
        k, delay = rings.cursors[s, d], terms.delays[d]
        at, end = max(since - delay, rings.ts[s, k & mask]), now - delay
        while at < end:
            stop = end if k == last else min(end, rings.ts[s, (k + 1) & mask])
            weight = min(stop, until) - at
            if weight > 0 and not np.isnan(x):
                lay(s, d, rings.x[s, k & mask], x, weight, terms.enters, rings.lags, table)
            at = stop
            if k < last and stop == rings.ts[s, (k + 1) & mask]:
                k += 1
        rings.cursors[s, d] = k


@inlined
def lay(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, d: int, before: float, x: float, weight: int, enters: Floats, lags: Ints,
    table: Weights,
) -> None:  # fmt: skip
    """Note for how long a stream was ``x``, and of that, what it was when it was enough."""
    for h in range(len(enters)):
        if before >= enters[h]:
            a = s * len(enters) + h
            lags[a, d, HELD_NS] += weight
            lags[a, d, KEPT_NS] += weight if x >= enters[h] else 0
            if x != THIN:
                bps = min(x, MOST_BPS)
                lags[a, d, LAGGED_NS] += weight
                lags[a, d, LAG_SUM], lags[a, d, LAG_SUM + 1], lags[a, d, LAG_SUM + 2] = added(
                    lags[a, d, LAG_SUM], lags[a, d, LAG_SUM + 1], lags[a, d, LAG_SUM + 2],
                    int(np.rint(bps * FINE)), weight,
                )  # fmt: skip
                name = (a * lags.shape[1] + d) << WEIGHT_SHIFT
                coarse = int(np.rint(bps * COARSE_PER_BPS)) + WEIGHT_MIDDLE
                weigh(table, name + coarse, weight)


@inlined
def _answer(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, now: int, gain: float, terms: Terms, spans: Ints, counts: Ints, openings: Openings,
    told: Told,
) -> None:  # fmt: skip
    """Answer the delays of openings that are over before ``now`` with what the stream says."""
    mask, last = openings.ts.shape[1] - 1, len(terms.delays) - 1
    for a in range(s * len(terms.enters), (s + 1) * len(terms.enters)):
        for d in range(last + 1):
            k = openings.answered[a, d]
            while k < spans[a, OPENED] and openings.ts[a, k & mask] + terms.delays[d] < now:
                openings.gain[a, k & mask, d] = gain
                if d == last:
                    row = told.used[USED_TAKES]
                    told.takes[row, 0], told.takes[row, 1] = a, openings.ts[a, k & mask]
                    for each in range(last + 1):
                        told.gains[row, each] = openings.gain[a, k & mask, each]
                    told.used[USED_TAKES] = row + 1
                    counts[s, LIVELY] -= 1
                k += 1
            openings.answered[a, d] = k


# ---- an edge changes ----------------------------------------------------------------------------


@inlined
def tell(a: int, now: int, ended: int, closer: int, automata: Automata, told: Told) -> None:  # noqa: PLR0913, PLR0917
    """Write a span down, and close it."""
    row, spans, rows = told.used[USED_SPANS], automata.ints, told.spans
    rows[row, 0], rows[row, 1], rows[row, 2] = a, spans[a, SINCE], now
    rows[row, 3], rows[row, 4] = spans[a, BEGUN], ended
    rows[row, 5], rows[row, 6] = spans[a, OPENER], closer
    for limb in range(3):
        rows[row, 7 + limb] = spans[a, AREA + limb]
    told.peaks[row, PEAK] = automata.peaks[a, PEAK]
    told.peaks[row, SPAN_CAPACITY] = automata.peaks[a, SPAN_CAPACITY]
    told.used[USED_SPANS] = row + 1
    spans[a, STATE] = CLOSED


@inlined
def stand(a: int, now: int, begun: int, opener: int, x: float, automata: Automata) -> None:  # noqa: PLR0913, PLR0917
    """Let a span begin."""
    spans = automata.ints
    spans[a, STATE] = UNSURE if begun == BEGUN_UNSURE else OPEN
    spans[a, SINCE], spans[a, BEGUN], spans[a, OPENER] = now, begun, opener
    spans[a, AREA] = spans[a, AREA + 1] = spans[a, AREA + 2] = 0
    automata.peaks[a, PEAK], automata.peaks[a, SPAN_CAPACITY] = x, 0.0


@inlined
def step(  # noqa: PLR0913, PLR0917 - all of the state, by name
    s: int, now: int, leg: int, before: float, x: float, terms: Terms,
    automata: Automata, rings: Rings, openings: Openings, told: Told,
) -> None:  # fmt: skip
    """Take a stream's automata from what it was to ``x``."""
    spans, counts = automata.ints, rings.ints
    for h in range(len(terms.enters)):
        a = s * len(terms.enters) + h
        was, opens = spans[a, STATE], x >= terms.enters[h]
        if was != CLOSED and not x >= terms.leaves[h]:
            tell(a, now, ENDED_CENSORED if np.isnan(x) else ENDED_CLOSED, leg, automata, told)
            counts[s, LIVELY] -= 1
        elif was == CLOSED and opens:
            is_seen = not np.isnan(before)
            stand(a, now, BEGUN_OPENED if is_seen else BEGUN_TRUNCATED, leg, x, automata)
            counts[s, LIVELY] += 1
            if is_seen:
                _await(a, s, now, spans, counts, openings, told)
        elif was == UNSURE and opens:
            tell(a, now, ENDED_OPENED, 0, automata, told)
            stand(a, now, BEGUN_OPENED, leg, x, automata)
            _await(a, s, now, spans, counts, openings, told)
        if spans[a, STATE] != CLOSED:
            automata.peaks[a, PEAK] = max(automata.peaks[a, PEAK], x)


@inlined
def _await(  # noqa: PLR0913, PLR0917 - all of the state, by name
    a: int, s: int, now: int, spans: Ints, counts: Ints, openings: Openings, told: Told
) -> None:
    """Let an opening wait for its delays."""
    if openings.answered.shape[1] == 0:
        return
    mask, opened = openings.ts.shape[1] - 1, spans[a, OPENED]
    openings.ts[a, opened & mask] = now
    spans[a, OPENED] = opened + 1
    counts[s, LIVELY] += 1
    if opened - openings.answered[a, -1] > mask - SLACK:
        told.used[IS_LONG] = 1


@inlined
def put_step(s: int, now: int, x: float, terms: Terms, rings: Rings, told: Told) -> None:  # noqa: PLR0913, PLR0917
    """Keep a step for the delays, if any of them may ask for it."""
    if len(terms.delays) == 0:
        return
    counts, mask = rings.ints, rings.ts.shape[1] - 1
    if now >= counts[s, HOT]:
        counts[s, STEPS] = 0
        for d in range(len(terms.delays)):
            rings.cursors[s, d] = 0
    if x >= terms.enters[0]:
        counts[s, HOT] = NEVER
    elif counts[s, HOT] == NEVER:
        counts[s, HOT] = now + terms.delays[-1]
    if now < counts[s, HOT]:
        k = counts[s, STEPS]
        rings.ts[s, k & mask], rings.x[s, k & mask] = now, x
        counts[s, STEPS] = k + 1
        if k - rings.cursors[s, -1] > mask - SLACK:
            told.used[IS_LONG] = 1


@inlined
def hold(s: int, p: int, capacities: Floats, automata: Automata) -> None:
    """Note the capacities that pair p has now [P, H] in the spans that stand."""
    for h in range(capacities.shape[1]):
        a = s * capacities.shape[1] + h
        if automata.ints[a, STATE] != CLOSED:
            most = max(automata.peaks[a, SPAN_CAPACITY], capacities[p, h])
            automata.peaks[a, SPAN_CAPACITY] = most
