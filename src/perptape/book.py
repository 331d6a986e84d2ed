"""Order books from their updates: one kernel for all venues, arrays in, arrays out.

Which updates may be applied is said by :mod:`perptape.course`. A side is a ladder, a slot for each
step of the last decimal that its prices have, so a change costs the same wherever it is.
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.events import Book, Level
from perptape.loops import compiled

SLOTS = 1 << 16
"""Of each side. A price farther than half of that from where the book was centred is not kept."""
EDGE = SLOTS // 8
"""A best price that comes so near to the end of its ladder centres the book anew."""
SCALES = 12
"""Prices have at most so many decimals."""
CLOSE = 1e-4
"""A price has no more decimals than the ladder if it is off by no more than this part of a step."""
GROW = 4
"""Books that there is room for at first; it doubles. Slots never written take no memory."""
BID, ASK = 0, 1
NOWHERE = -1
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Shelf(NamedTuple):
    """Many books: side ``2 * number`` has the bids of one, the next its asks."""

    sizes: Floats
    """[side, slot]; 0: no such price. Prices rise with the slot on both sides."""
    best: Ints
    """[side]: the slot of the best price, ``NOWHERE`` if there is none."""
    low: Ints
    """[side]: slots below it, and from ``high`` on, were never written since it was cleared."""
    high: Ints
    scales: Floats
    """[book]: steps to a price of 1, a power of ten; 0 before the first price."""
    origin: Ints
    """[book]: the price of slot 0, in steps."""
    spare: Floats
    """[slot]: room to lay a side out anew: callers that count no references make no arrays."""

    @classmethod
    def new(cls, books: int) -> "Shelf":
        sides = 2 * books
        return cls(
            np.zeros((sides, SLOTS)),
            np.full(sides, NOWHERE),
            np.full(sides, SLOTS),
            np.zeros(sides, np.int64),
            np.zeros(books),
            np.zeros(books, np.int64),
            np.empty(SLOTS),
        )


class Books:
    """The books of many markets, by number."""

    def __init__(self) -> None:
        self._last = 0
        self.shelf = Shelf.new(GROW)

    def new(self) -> int:
        """Give the number of one more book."""
        if self._last == len(self.shelf.scales):
            self._grow()
        self._last += 1
        return self._last - 1

    def _grow(self) -> None:
        old, new = self.shelf, Shelf.new(2 * len(self.shelf.scales))
        for side, (low, high) in enumerate(zip(old.low, old.high, strict=True)):
            new.sizes[side, low:high] = old.sizes[side, low:high]  # what is not copied stays free
        for before, after in zip(old[1:], new[1:], strict=True):
            after[: len(before)] = before
        self.shelf = new

    def apply(  # noqa: PLR0913, PLR0917 - arrays in, arrays out
        self,
        starts: Ints,
        books: Ints,
        wholes: NDArray[np.bool_],
        sides: NDArray[np.int8],
        prices: Floats,
        sizes: Floats,
    ) -> Floats:
        """Apply updates in order; give best bid, its size, best ask, its size after each.

        Update k is of book ``books[k]``, its levels are ``starts[k]:starts[k + 1]`` of the last
        three: side (0 bid, 1 ask), price, absolute size (0 removes). ``wholes[k]``: it replaces
        all. Shape (updates, 4); NaN for a side that is empty.
        """
        tops = np.empty((len(books), 4))
        apply_updates(starts, books, wholes, sides, prices, sizes, self.shelf, tops)
        return tops

    def one(self, number: int, update: Book) -> tuple[float, float]:
        """Apply one update; give best bid and ask, NaN for a side that is empty."""
        count = len(update.bids) + len(update.asks)
        numbers = chain.from_iterable(chain(update.bids, update.asks))  # a third of np.array's time
        levels = np.fromiter(numbers, np.float64, 2 * count).reshape(-1, 2)
        sides = np.zeros(len(levels), np.int8)
        sides[len(update.bids) :] = ASK
        tops = self.apply(
            np.array([0, len(levels)]),
            np.array([number]),
            np.array([update.is_snapshot]),
            sides,
            levels[:, 0].copy(),
            levels[:, 1].copy(),
        )
        bid, _, ask, _ = tops[0].tolist()
        return bid, ask

    def change(
        self, number: int, levels: Floats, cuts: tuple[int, int, int], *, is_whole: bool
    ) -> tuple[float, float]:
        """Apply one update: ``levels`` [price or size, level] between three ``cuts``, bids, asks.

        Gives best bid and ask, NaN for a side that is empty.
        """
        return change_book(self.shelf, number, levels, *cuts, int(is_whole))

    def sides(self, number: int) -> tuple[list[Level], list[Level]]:
        """Give bids and asks as (price, size), the best first."""
        return self._side(2 * number + BID), self._side(2 * number + ASK)

    def _side(self, side: int) -> list[Level]:
        prices, sizes = np.empty(SLOTS), np.empty(SLOTS)
        count = best_levels(self.shelf, side, prices, sizes)
        return list(zip(prices[:count].tolist(), sizes[:count].tolist(), strict=True))


@compiled
def price_of(shelf: Shelf, side: int, slot: int) -> float:
    """Give a slot's price, to the bit as it was parsed: one division of two whole numbers."""
    book = side >> 1
    return (shelf.origin[book] + slot) / shelf.scales[book]  # type: ignore[no-any-return]


@compiled
def worse(shelf: Shelf, side: int, slot: int) -> int:
    """Give the next slot after ``slot`` that has a size, away from the best; ``NOWHERE``: none."""
    step = 1 if side & 1 else -1
    slot += step
    while shelf.low[side] <= slot < shelf.high[side]:
        if shelf.sizes[side, slot] != 0.0:
            return slot
        slot += step
    return NOWHERE


@compiled
def best_levels(shelf: Shelf, side: int, prices: Floats, sizes: Floats) -> int:
    """Write the best levels of a side, as many as there is room for; give how many there are."""
    written, slot = 0, shelf.best[side]
    while slot != NOWHERE and written < len(prices):
        prices[written] = price_of(shelf, side, slot)
        sizes[written] = shelf.sizes[side, slot]
        written += 1
        slot = worse(shelf, side, slot)
    return written


@compiled
def clear_side(shelf: Shelf, side: int) -> None:
    for slot in range(shelf.low[side], shelf.high[side]):
        shelf.sizes[side, slot] = 0.0
    shelf.best[side], shelf.low[side], shelf.high[side] = NOWHERE, SLOTS, 0


@compiled
def _in_steps(price: float, scale: float) -> int:
    """Give a price in steps; ``NOWHERE`` if it has more decimals than these."""
    exact = price * scale
    nearest = np.rint(exact)
    return int(nearest) if scale and abs(exact - nearest) <= CLOSE else NOWHERE


@compiled
def _move(shelf: Shelf, side: int, old_origin: int, factor: int) -> None:
    """Lay a side out by the new origin, ``factor`` steps for one of before."""
    low, high, kept = shelf.low[side], shelf.high[side], shelf.spare
    for k in range(low, high):
        kept[k] = shelf.sizes[side, k]
    clear_side(shelf, side)
    for k in range(low, high):
        slot = (old_origin + k) * factor - shelf.origin[side >> 1]
        if kept[k] != 0.0 and 0 <= slot < SLOTS:
            _put(shelf, side, slot, kept[k])


@compiled
def _refine(shelf: Shelf, book: int, price: float) -> None:
    """Make the steps as fine as a new price is."""
    old, most = shelf.scales[book], 10.0**SCALES
    scale = max(old, 1.0)
    while scale < most and abs(price * scale - np.rint(price * scale)) > CLOSE:
        scale *= 10.0
    factor = int(np.rint(scale / old)) if old else 1
    origin, centre = shelf.origin[book], int(np.rint(price * scale))
    for side in (2 * book, 2 * book + 1):
        if shelf.best[side] != NOWHERE:
            centre = (origin + shelf.best[side]) * factor
    shelf.scales[book], shelf.origin[book] = scale, centre - SLOTS // 2
    for side in (2 * book, 2 * book + 1):
        _move(shelf, side, origin, factor)


@compiled
def _centre(shelf: Shelf, book: int, steps: int) -> None:
    """Put a price into the middle of the ladders."""
    origin = shelf.origin[book]
    shelf.origin[book] = steps - SLOTS // 2
    for side in (2 * book, 2 * book + 1):
        _move(shelf, side, origin, 1)


@compiled
def _put(shelf: Shelf, side: int, slot: int, size: float) -> None:
    shelf.sizes[side, slot] = size
    shelf.low[side] = min(shelf.low[side], slot)
    shelf.high[side] = max(shelf.high[side], slot + 1)
    best = shelf.best[side]
    if best == NOWHERE or (slot < best if side & 1 else slot > best):
        shelf.best[side] = slot


@compiled
def _make_room(shelf: Shelf, side: int, price: float) -> int:
    """Give the slot of a new price after what it takes: a finer step, another centre."""
    book = side >> 1
    steps = _in_steps(price, shelf.scales[book])
    if steps == NOWHERE:
        _refine(shelf, book, price)
        steps = int(np.rint(price * shelf.scales[book]))
    slot, best, other = steps - shelf.origin[book], shelf.best[side], shelf.best[side ^ 1]
    is_best = best == NOWHERE or (slot < best if side & 1 else slot > best)
    is_near = other == NOWHERE or abs(slot - other) < SLOTS // 4
    if is_best and is_near and not EDGE <= slot < SLOTS - EDGE:
        _centre(shelf, book, steps)
        slot = steps - shelf.origin[book]
    return int(slot)


@compiled
def _set_levels(  # noqa: C901, PLR0913, PLR0917 - one loop, for speed
    shelf: Shelf, side: int, first: int, last: int, prices: Floats, sizes: Floats
) -> None:
    """Set some prices of one side; a size of 0 removes one."""
    book = side >> 1
    sign = -1 if side & 1 else 1
    at = first
    while at < last:
        scale, origin, best = shelf.scales[book], shelf.origin[book], shelf.best[side]
        low, high = shelf.low[side], shelf.high[side]
        slot, is_new = NOWHERE, False
        while at < last:
            exact = prices[at] * scale - origin
            slot, size = int(np.floor(exact + 0.5)), sizes[at]
            is_new = not (0 <= slot < SLOTS and abs(exact - slot) <= CLOSE)
            if is_new or (size != 0.0 and not EDGE <= slot < SLOTS - EDGE):
                break
            if size != 0.0:
                shelf.sizes[side, slot] = size
                low, high = min(low, slot), max(high, slot + 1)
                if best == NOWHERE or sign * slot > sign * best:
                    best = slot
            elif low <= slot < high:
                shelf.sizes[side, slot] = 0.0
            at += 1
        shelf.low[side], shelf.high[side] = low, high
        while best != NOWHERE and shelf.sizes[side, best] == 0.0:  # it was removed
            best = worse(shelf, side, best)
        shelf.best[side] = best
        if at < last:
            if sizes[at] != 0.0:
                slot = _make_room(shelf, side, prices[at])
                if 0 <= slot < SLOTS:
                    _put(shelf, side, slot, sizes[at])
            elif not is_new:
                shelf.sizes[side, slot] = 0.0
            at += 1


@compiled
def apply_updates(  # noqa: PLR0913, PLR0917 - arrays in, arrays out
    starts: Ints,
    books: Ints,
    wholes: NDArray[np.bool_],
    sides: NDArray[np.int8],
    prices: Floats,
    sizes: Floats,
    shelf: Shelf,
    tops: Floats,
) -> None:
    """Apply all updates; see :meth:`Books.apply`."""
    for k in range(len(books)):
        book = 2 * books[k]
        if wholes[k]:
            clear_side(shelf, book)
            clear_side(shelf, book + 1)
        at, stop = starts[k], starts[k + 1]
        while at < stop:
            until = at + 1
            while until < stop and sides[until] == sides[at]:
                until += 1
            _set_levels(shelf, book + sides[at], at, until, prices, sizes)
            at = until
        for side in range(2):
            best = shelf.best[book + side]
            tops[k, 2 * side] = tops[k, 2 * side + 1] = np.nan
            if best != NOWHERE:
                tops[k, 2 * side] = price_of(shelf, book + side, best)
                tops[k, 2 * side + 1] = shelf.sizes[book + side, best]


@compiled
def change_book(  # noqa: PLR0913, PLR0917 - arrays in
    shelf: Shelf, book: int, levels: Floats, first: int, middle: int, last: int, whole: int
) -> tuple[float, float]:
    """Apply one update; see :meth:`Books.change`."""
    bid, ask = 2 * book, 2 * book + 1
    if whole:
        clear_side(shelf, bid)
        clear_side(shelf, ask)
    if middle > first:
        _set_levels(shelf, bid, first, middle, levels[0], levels[1])
    if last > middle:
        _set_levels(shelf, ask, middle, last, levels[0], levels[1])
    best_bid, best_ask = shelf.best[bid], shelf.best[ask]
    return (
        price_of(shelf, bid, best_bid) if best_bid != NOWHERE else np.nan,
        price_of(shelf, ask, best_ask) if best_ask != NOWHERE else np.nan,
    )
