"""Events to columns in one set of units: prices per base coin, sizes in base coins.

Event k is converted by ``terms[at[k]]``. Sizes are null where that has no contract size, rates of
funding where nobody says for how long they are.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perptape.decode import Terms
from perptape.events import CHANNELS, Book, Funding, Mark, Quote, Trade

Floats = NDArray[np.float64]
Numbers = Sequence[float | None] | Floats


class Units(NamedTuple):
    """What the events of one column are converted by."""

    price_unit: Floats
    contract_size: Floats
    """NaN where it is not known."""
    is_inverse: NDArray[np.bool_]
    interval_h: Floats

    @classmethod
    def of(cls, terms: Sequence[Terms], at: NDArray[np.int32]) -> "Units":
        return cls(
            np.array([t.price_unit for t in terms])[at],
            np.array([t.contract_size or np.nan for t in terms])[at],
            np.array([t.is_inverse for t in terms])[at],
            np.array([t.interval_h or np.nan for t in terms])[at],
        )

    def repeated(self, counts: NDArray[np.int64]) -> "Units":
        return Units(
            np.repeat(self.price_unit, counts),
            np.repeat(self.contract_size, counts),
            np.repeat(self.is_inverse, counts),
            np.repeat(self.interval_h, counts),
        )

    def price(self, prices: Numbers) -> Floats:
        """``None`` becomes NaN, which no venue can say."""
        return np.array(prices, np.float64) / self.price_unit

    def size(self, qtys: Numbers, price: Floats) -> Floats:
        size: Floats = np.array(qtys, np.float64) * self.contract_size
        np.divide(size, price, out=size, where=self.is_inverse)
        return size


class Quotes(msgspec.Struct, frozen=True, eq=False):
    """Quotes that are columns already, in the venue's own units: [column, quote]."""

    prices: Floats
    """bid_price, bid_qty, ask_price, ask_qty; NaN: not said."""
    wholes: NDArray[np.int64]
    """ts_event, ts_send, update_id."""
    said: NDArray[np.bool_]
    """Which of ``wholes`` are."""

    @classmethod
    def of(cls, events: Sequence[Quote]) -> "Quotes":
        bids = [q.bid_price for q in events], [q.bid_qty for q in events]
        asks = [q.ask_price for q in events], [q.ask_qty for q in events]
        times = [q.ts_event for q in events], [q.ts_send for q in events]
        whole = [pa.array(c, pa.int64()) for c in (*times, [q.update_id for q in events])]
        return cls(
            np.array([*bids, *asks], np.float64),
            np.stack([c.fill_null(0).to_numpy() for c in whole]),
            np.stack([c.is_valid().to_numpy(zero_copy_only=False) for c in whole]),
        )

    @classmethod
    def joined(cls, parts: Sequence["Quotes"]) -> "Quotes":
        return cls(
            np.concatenate([part.prices for part in parts], axis=1),
            np.concatenate([part.wholes for part in parts], axis=1),
            np.concatenate([part.said for part in parts], axis=1),
        )

    def taken(self, order: NDArray[np.int64]) -> "Quotes":
        return Quotes(self.prices[:, order], self.wholes[:, order], self.said[:, order])

    def whole(self, row: int) -> pa.Array:
        return pa.array(self.wholes[row], mask=~self.said[row])


Columns = dict[str, Any]


def quotes(events: Sequence[Quote] | Quotes, units: Units) -> Columns:
    told = events if isinstance(events, Quotes) else Quotes.of(events)
    bid_price, ask_price = units.price(told.prices[0]), units.price(told.prices[2])
    bid_size = units.size(told.prices[1], bid_price)
    ask_size = units.size(told.prices[3], ask_price)
    bid_size[np.isnan(bid_price)] = np.nan
    ask_size[np.isnan(ask_price)] = np.nan
    return {
        "bid_price": bid_price,
        "bid_size": bid_size,
        "ask_price": ask_price,
        "ask_size": ask_size,
        "update_id": told.whole(2),
    }


def trades(events: Sequence[Trade], units: Units) -> Columns:
    price = units.price([t.price for t in events])
    return {
        "price": price,
        "size": units.size([t.qty for t in events], price),
        "side": pa.array([t.side for t in events]),
        "trade_id": pa.array([t.trade_id for t in events], pa.string()),
    }


def books(events: Sequence[Book], units: Units) -> Columns:
    """A row for each level: bids as they came, then asks."""
    counts = levels(events)
    numbers = chain.from_iterable(level for b in events for level in chain(b.bids, b.asks))
    rows = np.fromiter(numbers, np.float64, 2 * counts.sum()).reshape(-1, 2)
    each = units.repeated(counts)
    price = each.price(rows[:, 0])
    of_sides = [count for b in events for count in (len(b.bids), len(b.asks))]
    sides = np.repeat(np.tile(np.array([0, 1], np.int8), len(events)), of_sides)
    ids = pa.array([b.update_id for b in events], pa.int64())
    return {
        "side": pa.DictionaryArray.from_arrays(pa.array(sides), pa.array(["bid", "ask"])),
        "price": price,
        "size": each.size(rows[:, 1], price),
        "update_id": ids.take(pa.array(np.repeat(np.arange(len(events)), counts))),
        "is_snapshot": np.repeat([b.is_snapshot for b in events], counts),
    }


def levels(events: Sequence[Book]) -> NDArray[np.int64]:
    """Rows that each update makes."""
    return np.array([len(b.bids) + len(b.asks) for b in events], np.int64)


def marks(events: Sequence[Mark], units: Units) -> Columns:
    mark = units.price([m.mark_price for m in events])
    index = units.price([m.index_price for m in events])
    known = np.where(np.isnan(mark), index, mark)
    return {
        "mark_price": mark,
        "index_price": index,
        "open_interest": units.size([m.open_interest for m in events], known),
    }


def funding(events: Sequence[Funding], units: Units) -> Columns:
    """A rate is a fraction per hour; the interval that it is printed for stands beside it.

    What was paid long ago was not paid by the interval of now.
    """
    said = np.array([f.interval_h for f in events], np.float64)
    paid = np.array([f.is_settled for f in events], np.bool_)
    interval_h = np.where(np.isnan(said) & ~paid, units.interval_h, said)
    return {
        "rate": np.array([f.rate for f in events], np.float64) / interval_h,
        "interval_h": interval_h,
        "ts_funding": pa.array([f.ts_funding for f in events], pa.int64()),
        "is_settled": paid,
    }


MAKERS: Mapping[str, Callable[[Any, Units], Columns]] = {
    "quotes": quotes,
    "trades": trades,
    "books": books,
    "marks": marks,
    "funding": funding,
}


def columns(
    channel: str, events: Sequence[Any] | Quotes, terms: Sequence[Terms], at: NDArray[np.int32]
) -> tuple[dict[str, pa.Array], NDArray[np.int64] | None]:
    """Give a channel's columns but for those of the frame; and how many rows each event makes.

    ``None``: one row each.
    """
    units = Units.of(terms, at)
    with np.errstate(over="ignore", invalid="ignore"):
        made = MAKERS[channel](events, units)
    counts = None if isinstance(events, Quotes) or channel != CHANNELS[Book] else levels(events)
    times = _times(events)
    if counts is not None:
        take = pa.array(np.repeat(np.arange(len(counts)), counts))
        times = {name: column.take(take) for name, column in times.items()}
    return times | {name: _array(column) for name, column in made.items()}, counts


def _times(events: Sequence[Any] | Quotes) -> dict[str, pa.Array]:
    if isinstance(events, Quotes):
        return {"ts_event": events.whole(0), "ts_send": events.whole(1)}
    return {
        "ts_event": pa.array([e.ts_event for e in events], pa.int64()),
        "ts_send": pa.array([e.ts_send for e in events], pa.int64()),
    }


def _array(column: Any) -> pa.Array:
    """NaN is null."""
    return column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)
