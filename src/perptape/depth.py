"""What a size costs: ladders of the best levels of many books, and walks along two of them.

For base quantity Q, A(Q) is the mean price of taking Q from the asks, level by level, and B(Q)
likewise of the bids; neither is defined where the book does not hold so much. Here is Q times that
mean: the money that changes hands.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.book import NOWHERE, Floats, Ints, Shelf, apply_updates, price_of, worse
from perptape.loops import inlined

DEEPEST = 4096
"""Levels of a side that are looked at; what lies behind them counts as not there."""
PRICE, SIZE, SUM, MONEY, FIELDS = range(5)
KNOWN, SLOT, IS_TOP, STATE = range(4)
BPS = 1e4
ALMOST = 1e-9
"""A size that misses a whole lot by no more than this part of one is that lot."""


class Updates(NamedTuple):
    """Updates in receive order, read-only: update k has levels ``starts[k]:starts[k + 1]``."""

    ts: Ints
    market: Ints
    starts: Ints
    wholes: NDArray[np.bool_]
    sides: NDArray[np.int8]
    prices: Floats
    sizes: Floats


class Ladders(NamedTuple):
    """The best levels of each side, read off its book when asked, and kept until they change.

    Side ``2 * market`` is the market's bids, the next its asks.
    """

    levels: Floats
    """[side, FIELDS, rank]: price and size; sizes and money summed from the best on."""
    state: Ints
    """[side, STATE]: levels known, the slot of the last; is there one level and no book?"""
    shelf: Shelf

    @classmethod
    def new(cls, is_top: NDArray[np.bool_]) -> "Ladders":
        """``is_top`` [M]: markets of which the best prices alone are known."""
        sides = 2 * len(is_top)
        state = np.zeros((sides, STATE), np.int64)
        state[:, IS_TOP] = np.repeat(is_top, 2)
        # Pages never written take no memory.
        return cls(np.zeros((sides, FIELDS, DEEPEST)), state, Shelf.new(len(is_top)))


@inlined
def put_level(levels: Floats, state: Ints, side: int, price: float, size: float) -> None:
    """Append one level to what is known of a side."""
    rank = state[side, KNOWN]
    before = rank > 0
    levels[side, PRICE, rank], levels[side, SIZE, rank] = price, size
    levels[side, SUM, rank] = size + (levels[side, SUM, rank - 1] if before else 0.0)
    levels[side, MONEY, rank] = size * price + (levels[side, MONEY, rank - 1] if before else 0.0)
    state[side, KNOWN] = rank + 1


@inlined
def read_on(ladders: Ladders, side: int) -> bool:
    """Read one more level off the book; False if there is none."""
    levels, state, shelf = ladders
    rank = state[side, KNOWN]
    if state[side, IS_TOP] or rank == levels.shape[2]:
        return False
    slot = worse(shelf, side, state[side, SLOT]) if rank else shelf.best[side]
    if slot == NOWHERE:
        return False
    state[side, SLOT] = slot
    put_level(levels, state, side, price_of(shelf, side, slot), shelf.sizes[side, slot])
    return True


@inlined
def forget(levels: Floats, state: Ints, side: int, price: float) -> None:
    """Forget the levels from a price on, away from the best: it changed."""
    low, high = 0, state[side, KNOWN]
    sign = -1.0 if side & 1 else 1.0
    while low < high:
        middle = (low + high) >> 1
        if sign * levels[side, PRICE, middle] > sign * price:
            low = middle + 1
        else:
            high = middle
    state[side, KNOWN] = low


@inlined
def resume(levels: Floats, state: Ints, shelf: Shelf, side: int) -> None:
    """Find the slot of the last level that is still known."""
    known, book = state[side, KNOWN], side >> 1
    if known:
        steps = int(np.rint(levels[side, PRICE, known - 1] * shelf.scales[book]))
        state[side, SLOT] = steps - shelf.origin[book]


@inlined
def apply(updates: Updates, k: int, ladders: Ladders, tops: Floats) -> int:
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
def best_price(ladders: Ladders, side: int) -> float:
    """Give the best price, NaN if the side is empty."""
    if ladders.state[side, KNOWN] or read_on(ladders, side):
        return ladders.levels[side, PRICE, 0]  # type: ignore[no-any-return]
    return np.nan


@inlined
def reach(ladders: Ladders, side: int, size: float) -> None:
    """Read on until a size is there, or no more is."""
    levels, state, _ = ladders
    while not state[side, KNOWN] or levels[side, SUM, state[side, KNOWN] - 1] < size:
        if not read_on(ladders, side):
            return


@inlined
def money(levels: Floats, state: Ints, side: int, size: float) -> float:
    """Give what ``size`` base coins bring or cost, NaN if no so much was reached."""
    if not state[side, KNOWN] or levels[side, SUM, state[side, KNOWN] - 1] < size:
        return np.nan
    low, high = 0, state[side, KNOWN] - 1
    while low < high:
        middle = (low + high) >> 1
        if levels[side, SUM, middle] < size:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return size * levels[side, PRICE, 0]  # type: ignore[no-any-return]
    rest = size - levels[side, SUM, low - 1]
    return float(levels[side, MONEY, low - 1] + rest * levels[side, PRICE, low])


@inlined
def rounded(size: float, lot: float) -> float:
    """Round down to whole lots; a lot of 0 is no lot."""
    return float(np.floor(size / lot + ALMOST) * lot) if lot > 0.0 else size


@inlined
def capacity(ladders: Ladders, bids: int, asks: int, kept: float, paid: float) -> float:
    """Give the greatest size that still brings at least what it costs, in base coins.

    ``kept``: what the sale leaves of its money; ``paid``: what the purchase takes for its own,
    with the least profit that is wanted: (1 + fee) (1 + threshold). What is gained is concave in
    the size, so the walk ends where all of the gain of the first levels is lost. All that both
    books hold may be too little to get there: then that is the answer.
    """
    levels, state, _ = ladders
    i, j, gained, size, left_i, left_j = 0, 0, 0.0, 0.0, 0.0, 0.0
    while True:
        if left_i == 0.0:
            if i == state[bids, KNOWN] and not read_on(ladders, bids):
                return size
            left_i = levels[bids, SIZE, i]
            i += 1
        if left_j == 0.0:
            if j == state[asks, KNOWN] and not read_on(ladders, asks):
                return size
            left_j = levels[asks, SIZE, j]
            j += 1
        margin = levels[bids, PRICE, i - 1] * kept - levels[asks, PRICE, j - 1] * paid
        step = min(left_i, left_j)
        if gained + margin * step < 0.0:
            return float(size - gained / margin)
        gained += margin * step
        size += step
        left_i -= step
        left_j -= step


@inlined
def best_size(ladders: Ladders, bids: int, asks: int, kept: float, paid: float) -> float:
    """Give the size of the greatest profit: while the next coin brings more than it costs."""
    levels, state, _ = ladders
    i, j, size, left_i, left_j = 0, 0, 0.0, 0.0, 0.0
    while True:
        if left_i == 0.0:
            if i == state[bids, KNOWN] and not read_on(ladders, bids):
                return size
            left_i = levels[bids, SIZE, i]
            i += 1
        if left_j == 0.0:
            if j == state[asks, KNOWN] and not read_on(ladders, asks):
                return size
            left_j = levels[asks, SIZE, j]
            j += 1
        if levels[bids, PRICE, i - 1] * kept <= levels[asks, PRICE, j - 1] * paid:
            return size
        step = min(left_i, left_j)
        size += step
        left_i -= step
        left_j -= step
