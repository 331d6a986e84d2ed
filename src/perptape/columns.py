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
from perptape.events import Book, Event, Funding, Mark, Quote, Trade

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
        wholes, said = _wholes(
            [q.ts_event for q in events], [q.ts_send for q in events], [q.update_id for q in events]
        )
        return cls(np.array([*bids, *asks], np.float64), wholes, said)

    @classmethod
    def joined(cls, parts: Sequence["Quotes"]) -> "Quotes":
        return cls(
            np.concatenate([part.prices for part in parts], axis=1),
            np.concatenate([part.wholes for part in parts], axis=1),
            np.concatenate([part.said for part in parts], axis=1),
        )

    @property
    def rows(self) -> int:
        return int(self.prices.shape[1])

    def taken(self, order: NDArray[np.int64]) -> "Quotes":
        return Quotes(self.prices[:, order], self.wholes[:, order], self.said[:, order])

    def whole(self, row: int) -> pa.Array:
        return pa.array(self.wholes[row], mask=~self.said[row])


class Updates(msgspec.Struct, frozen=True, eq=False):
    """Changes of books that are columns already, in the venue's own units: [column, update]."""

    levels: Floats
    """[price or qty, level]: of each update its bids, then its asks."""
    counts: NDArray[np.int64]
    """[bid or ask, update]: how many levels."""
    wholes: NDArray[np.int64]
    """ts_event, ts_send, update_id."""
    said: NDArray[np.bool_]
    """Which of ``wholes`` are."""
    is_snapshot: NDArray[np.bool_]

    @classmethod
    def of(cls, events: Sequence[Book]) -> "Updates":
        numbers = chain.from_iterable(level for b in events for level in chain(b.bids, b.asks))
        counts = np.array([[len(b.bids), len(b.asks)] for b in events], np.int64).reshape(-1, 2).T
        wholes, said = _wholes(
            [b.ts_event for b in events], [b.ts_send for b in events], [b.update_id for b in events]
        )
        return cls(
            np.fromiter(numbers, np.float64, 2 * int(counts.sum())).reshape(-1, 2).T,
            counts,
            wholes,
            said,
            np.array([b.is_snapshot for b in events], np.bool_),
        )

    @classmethod
    def joined(cls, parts: Sequence["Updates"]) -> "Updates":
        return cls(
            np.concatenate([part.levels for part in parts], axis=1),
            np.concatenate([part.counts for part in parts], axis=1),
            np.concatenate([part.wholes for part in parts], axis=1),
            np.concatenate([part.said for part in parts], axis=1),
            np.concatenate([part.is_snapshot for part in parts]),
        )

    @property
    def rows(self) -> int:
        return int(self.levels.shape[1])

    def taken(self, order: NDArray[np.int64]) -> "Updates":
        counts = self.counts.sum(axis=0)
        levels = ranges((np.cumsum(counts) - counts)[order], counts[order])
        return Updates(
            self.levels[:, levels],
            self.counts[:, order],
            self.wholes[:, order],
            self.said[:, order],
            self.is_snapshot[order],
        )

    def whole(self, row: int) -> pa.Array:
        return pa.array(self.wholes[row], mask=~self.said[row])


Bulk = Quotes | Updates
"""Events that are columns already."""
BULK: dict[str, Any] = {"quotes": Quotes, "books": Updates}


def in_columns(channel: str, parts: Sequence[Bulk], events: Sequence[Event]) -> Bulk:
    """Join what is in columns already, and then events of the same channel."""
    kind = BULK[channel]
    joined: Bulk = kind.joined([*parts, *([kind.of(events)] if events or not parts else [])])
    return joined


def ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the numbers of each range, one range after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + counts, counts)


def _wholes(
    *columns: Sequence[int | None],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give numbers, 0 where there is none, and where there is one."""
    whole = [pa.array(column, pa.int64()) for column in columns]
    return (
        np.stack([c.fill_null(0).to_numpy() for c in whole]),
        np.stack([c.is_valid().to_numpy(zero_copy_only=False) for c in whole]),
    )


Columns = dict[str, Any]


def quotes(told: Quotes, units: Units) -> Columns:
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


def books(told: Updates, units: Units) -> Columns:
    """A row for each level: bids as they came, then asks."""
    counts = told.counts.sum(axis=0)
    price = units.repeated(counts).price(told.levels[0])
    ids = told.whole(2)
    sides = np.repeat(np.tile(np.array([0, 1], np.int8), len(counts)), told.counts.T.ravel())
    return {
        "side": pa.DictionaryArray.from_arrays(pa.array(sides), pa.array(["bid", "ask"])),
        "price": price,
        "size": units.repeated(counts).size(told.levels[1], price),
        "update_id": ids.take(pa.array(np.repeat(np.arange(len(counts)), counts))),
        "is_snapshot": np.repeat(told.is_snapshot, counts),
    }


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
    channel: str,
    events: Sequence[Any] | Bulk,
    terms: Sequence[Terms],
    at: NDArray[np.int32],
) -> tuple[dict[str, pa.Array], NDArray[np.int64] | None]:
    """Give a channel's columns but for those of the frame; and how many rows each event makes.

    ``None``: one row each.
    """
    if channel in BULK and not isinstance(events, Bulk):
        events = in_columns(channel, [], events)
    units = Units.of(terms, at)
    with np.errstate(over="ignore", invalid="ignore"):
        made = MAKERS[channel](events, units)
    counts = events.counts.sum(axis=0) if isinstance(events, Updates) else None
    times = _times(events)
    if counts is not None:
        take = pa.array(np.repeat(np.arange(len(counts)), counts))
        times = {name: column.take(take) for name, column in times.items()}
    return times | {name: _array(column) for name, column in made.items()}, counts


def _times(events: Sequence[Any] | Bulk) -> dict[str, pa.Array]:
    if isinstance(events, Bulk):
        return {"ts_event": events.whole(0), "ts_send": events.whole(1)}
    return {
        "ts_event": pa.array([e.ts_event for e in events], pa.int64()),
        "ts_send": pa.array([e.ts_send for e in events], pa.int64()),
    }


def _array(column: Any) -> pa.Array:
    """NaN is null."""
    return column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)
