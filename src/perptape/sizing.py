"""What a pair is worth at one moment: its edge at every notional, its capacities, its best size."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.book import Floats, Ints
from perptape.depth import (
    BPS,
    Ladders,
    best_price,
    best_size,
    capacity,
    money,
    reach,
    rounded,
)
from perptape.kernels import MANTISSA_SHIFT
from perptape.loops import inlined
from perptape.spells import THIN, WEIGHT_SHIFT, Terms, Weights, weigh

IS_KNOWN, SIDES, CURSOR, START, END, EACH = range(6)
"""Of a market: is its book trusted, which of its sides have changed, and its interval of trust."""
PAIR_T, GAIN_NS, BEST_TS, STAMP, PAIR_INTS = range(5)
BEST_SIZE, BEST_GAIN, NOW_SIZE, NOW_GAIN, PAIR_FLOATS = range(5)


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


@inlined
def _float_bin(x: float) -> int:
    bits = np.float64(x).view(np.int64)
    return int((bits + (1 << (MANTISSA_SHIFT - 1))) >> MANTISSA_SHIFT)


@inlined
def pair_goes_on(p: int, now: int, first: int, pairs: Pairs, weights: Weights) -> None:
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
def look(p: int, now: int, pairs: Pairs) -> None:
    """See whether a pair has never been better."""
    bests = pairs.bests
    if bests[p, NOW_GAIN] > bests[p, BEST_GAIN]:
        bests[p, BEST_GAIN], bests[p, BEST_SIZE] = bests[p, NOW_GAIN], bests[p, NOW_SIZE]
        pairs.ints[p, BEST_TS] = now
    for h in range(pairs.capacities.shape[1]):
        most = max(pairs.capacity_most[p, h], pairs.capacities[p, h])
        pairs.capacity_most[p, h] = most


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
def weigh_pair(  # noqa: PLR0913, PLR0917 - all of the state, by name
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
