"""What Gate.io's wire types encode, its decoder gives back: books, trades and tickers."""

from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.events import MS, NS, Book, Funding, Mark, Trade
from perptape.venues import gateio as wire
from perptape.venues.gateio import GATEIO
from perptape.venues.venue import Link


class SaidBook(NamedTuple):
    symbol: str
    t1: int
    t2: int
    bids: list
    asks: list
    ids: list
    full: bool


class SaidTicker(NamedTuple):
    symbol: str
    t1: int
    t2: int
    next_s: int
    mark: float
    index: float
    lots: float
    rate: float
    hours: int


LAW = settings(deadline=None)
numbers = st.floats(1e-12, 1e12, allow_subnormal=False)
signed = numbers | numbers.map(lambda x: -x)
sizes = st.just(0.0) | numbers
sides = st.lists(st.tuples(numbers, sizes), max_size=4)
times = st.integers(1, 4_000_000_000_000)
seconds = st.integers(1, 4_000_000_000)
ids = st.integers(1, 2**63 - 1)
symbols = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12).map(
    "{}_USDT".format
)
pairs = st.lists(ids, min_size=2, max_size=2).map(sorted)
books = st.builds(SaidBook, symbols, times, times, sides, sides, pairs, st.booleans())
hours = st.sampled_from((1, 2, 4, 8))
tickers = st.builds(
    SaidTicker, symbols, times, times, seconds, numbers, numbers, sizes, signed, hours
)


def pushed(channel, ms, result):
    push = wire.Push(time=ms // 1000, time_ms=ms, channel=channel, event="update", result=result)
    return msgspec.json.encode(push)


def printed(side):
    return [(repr(price), repr(size)) for price, size in side]


def is_marked(frame, channel, stream, symbol):
    return all(mark in frame for mark in GATEIO.topic(channel, stream, symbol).marks)


def is_told_apart(frame, channel, stream, symbol):
    """By its bytes alone a frame is data, and of no other topic that could be on its wire."""
    others = {(c, s) for c, streams in GATEIO.streams.items() for s in streams if s != stream}
    if stream in wire.FORMS:
        others -= {("books", form) for form in wire.FORMS}  # one channel, one form of it
    assert GATEIO.is_data(frame) and is_marked(frame, channel, stream, symbol)
    assert not any(is_marked(frame, c, s, symbol) for c, s in others)
    assert not is_marked(frame, channel, stream, f"X{symbol}")


def book_frame(stream, said):
    first, last = said.ids
    ids = {"full": True, "u": last} if said.full else {"U": first, "u": last}
    if stream in wire.FORMS:
        bids, asks = ([wire.Level(*row) for row in printed(s)] for s in (said.bids, said.asks))
        told = wire.Update(t=said.t1, s=said.symbol, a=asks, b=bids, l="20", **ids)
        return pushed(wire.UPDATES, said.t2, told)
    bids, asks = (printed(side) or None for side in (said.bids, said.asks))
    name = f"ob.{said.symbol}.{stream.rpartition('.')[2]}"
    return pushed(wire.OBU, said.t2, wire.Depth(t=said.t1, s=name, b=bids, a=asks, **ids))


@pytest.mark.parametrize("stream", GATEIO.streams["books"])
@LAW
@given(said=books)
def test_a_book_comes_back(stream, said):
    frame = book_frame(stream, said)
    place = (said.full, said.ids[1], None if said.full else said.ids[0] - 1)
    times = said.t1 * MS, said.t2 * MS
    assert GATEIO.decode(frame) == [Book(said.symbol, *times, said.bids, said.asks, *place)]
    is_told_apart(frame, "books", stream, said.symbol)
    assert GATEIO.link(frame) == Link(GATEIO.topic("books", stream, said.symbol).key, *place)
    assert frame.count(GATEIO.data_mark) == 1


@LAW
@given(symbols, times, st.lists(st.tuples(times, ids, numbers, signed), min_size=1, max_size=4))
def test_trades_come_back(symbol, t2, rows):
    said = [
        wire.Print(
            id=n, size=repr(size), create_time=t // 1000, create_time_ms=t, price=repr(price),
            contract=symbol,
        )
        for t, n, price, size in rows
    ]  # fmt: skip
    frame = pushed(wire.TRADES, t2, said)
    assert GATEIO.decode(frame) == [
        Trade(symbol, t * MS, t2 * MS, price, abs(size), "buy" if size > 0 else "sell", str(n))
        for t, n, price, size in rows
    ]
    is_told_apart(frame, "trades", wire.TRADES, symbol)
    assert GATEIO.link(frame) is None and GATEIO.data_mark not in frame


@LAW
@given(tickers)
def test_a_ticker_comes_back(said):
    row = wire.Ticker(
        contract=said.symbol,
        total_size=repr(2 * said.lots),
        mark_price=repr(said.mark),
        index_price=repr(said.index),
        funding_rate=repr(said.rate),
        funding_interval=said.hours * 3600,
        funding_next_apply=said.next_s,
        t=said.t1,
    )
    frame = pushed(wire.TICKERS, said.t2, [row])
    times = said.t1 * MS, said.t2 * MS
    assert GATEIO.decode(frame) == [
        Mark(said.symbol, *times, said.mark, said.index, said.lots),
        Funding(said.symbol, *times, said.rate, float(said.hours), said.next_s * NS),
    ]
    assert is_marked(frame, "funding", wire.TICKERS, said.symbol)
    assert not is_marked(frame, "trades", wire.TRADES, said.symbol)
    assert GATEIO.is_data(frame) and GATEIO.link(frame) is None
