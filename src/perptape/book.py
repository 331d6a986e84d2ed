"""Order books from their updates: one kernel for all venues, arrays in, arrays out.

Which updates may be applied is said by :mod:`perptape.course`.
"""

import numba
import numpy as np
from numpy.typing import NDArray

from perptape.events import Book, Level

DEPTH = 8192
"""Prices kept a side; of more the worst are forgotten."""
GROW = 4
"""Books that there is room for at first; it doubles."""
BID, ASK = 0, 1
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Books:
    """The books of many markets, by number: arrays in, arrays out."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._prices = np.zeros((2 * GROW, depth))
        self._sizes = np.zeros((2 * GROW, depth))
        self._counts = np.zeros(2 * GROW, np.int64)
        self._last = 0

    def new(self) -> int:
        """Give the number of one more book."""
        if 2 * self._last + 2 > len(self._counts):
            self._prices = np.concatenate([self._prices, np.zeros_like(self._prices)])
            self._sizes = np.concatenate([self._sizes, np.zeros_like(self._sizes)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._last += 1
        return self._last - 1

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
        apply_updates(
            starts, books, wholes, sides, prices, sizes,
            self._prices, self._sizes, self._counts, tops,
        )  # fmt: skip
        return tops

    def one(self, number: int, update: Book) -> tuple[float, float]:
        """Apply one update; give best bid and ask, NaN for a side that is empty."""
        levels = np.array([*update.bids, *update.asks], np.float64).reshape(-1, 2)
        sides = np.zeros(len(levels), np.int8)
        sides[len(update.bids) :] = ASK
        tops = self.apply(
            np.array([0, len(levels)]),
            np.array([number]),
            np.array([update.is_snapshot]),
            sides,
            levels[:, 0],
            levels[:, 1],
        )
        return tops[0, 0], tops[0, 2]

    def sides(self, number: int) -> tuple[list[Level], list[Level]]:
        """Give bids and asks as (price, size), the best first."""
        found = []
        for side in (2 * number, 2 * number + 1):
            count = self._counts[side]
            pairs = zip(
                self._prices[side, :count].tolist(), self._sizes[side, :count].tolist(), strict=True
            )
            found.append(list(pairs)[::-1])
        return found[BID], found[ASK]


@numba.njit(cache=True, nogil=True)
def apply_updates(  # noqa: PLR0913, PLR0917 - arrays in, arrays out
    starts: Ints,
    books: Ints,
    wholes: NDArray[np.bool_],
    sides: NDArray[np.int8],
    prices: Floats,
    sizes: Floats,
    book_prices: Floats,
    book_sizes: Floats,
    counts: Ints,
    tops: Floats,
) -> None:
    """Keep each side sorted with its best price last, where nearly all of the changes are."""
    for k in range(len(books)):
        book = 2 * books[k]
        first, step = starts[k], 1
        if wholes[k]:  # the best price comes first, and is to come last
            counts[book] = 0
            counts[book + 1] = 0
            first, step = starts[k + 1] - 1, -1
        for at in range(first, first + step * (starts[k + 1] - starts[k]), step):
            side = book + sides[at]
            counts[side] = set_level(
                book_prices[side], book_sizes[side], counts[side],
                prices[at], sizes[at], 1.0 if sides[at] == BID else -1.0,
            )  # fmt: skip
        for side in range(2):
            count = counts[book + side]
            tops[k, 2 * side] = book_prices[book + side, count - 1] if count else np.nan
            tops[k, 2 * side + 1] = book_sizes[book + side, count - 1] if count else np.nan


@numba.njit(cache=True, nogil=True)
def set_level(  # noqa: PLR0913, PLR0917
    prices: Floats, sizes: Floats, count: int, price: float, size: float, sign: float
) -> int:
    """Set one price of one side; give how many the side has then.

    ``sign`` is -1 for asks, whose prices fall towards the best.
    """
    at = place(prices, count, price, sign)
    is_there = at < count and prices[at] == price
    if size == 0.0:
        if is_there:
            count -= 1
            prices[at:count] = prices[at + 1 : count + 1]
            sizes[at:count] = sizes[at + 1 : count + 1]
        return count
    if not is_there:
        if count < len(prices):
            for k in range(count, at, -1):
                prices[k] = prices[k - 1]
                sizes[k] = sizes[k - 1]
            count += 1
        elif at == 0:  # no room, and it is the worst
            return count
        else:
            at -= 1
            prices[:at] = prices[1 : at + 1]
            sizes[:at] = sizes[1 : at + 1]
        prices[at] = price
    sizes[at] = size
    return count


@numba.njit(cache=True, nogil=True)
def place(prices: Floats, count: int, price: float, sign: float) -> int:
    """Give the index of the first price that is not worse."""
    low, high = 0, count
    if count and sign * price > sign * prices[count - 1]:
        return count
    while low < high:
        middle = (low + high) >> 1
        if sign * prices[middle] < sign * price:
            low = middle + 1
        else:
            high = middle
    return low
