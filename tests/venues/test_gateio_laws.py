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


SEEDS = [
    *(
        book_frame(stream, SaidBook("A_USDT", 1, 2, [(1.5, 2.0)], [(2.5, 0.0)], [3, 7], full))
        for stream in GATEIO.streams["books"]
        for full in (True, False)
    ),
    (
        b'{"time_ms":2,"channel":"futures.trades","event":"update","result":[{"id":9,"size":"-3",'
        b'"create_time":1,"create_time_ms":1,"price":"20.25","contract":"A_USDT"}]}'
    ),
    (
        b'{"time_ms":2,"channel":"futures.tickers","event":"update","result":[{"contract":"A_USDT",'
        b'"mark_price":"1","total_size":"2","funding_rate":"-0.1","funding_interval":28800,'
        b'"funding_next_apply":28800,"t":1}]}'
    ),
    b'{"current":1.5,"update":1.25,"asks":[{"s":3,"p":"2"}],"bids":[{"s":"4","p":"1"}],"id":7}',
    b'{"name":"A_USDT","funding_interval":28800,"funding_next_apply":28800,"position_size":5}',
    b'[{"r":"-0.000007","t":1790352001},{"r":"0.000028","t":1790323200}]',
]
MAY_RAISE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
odd = st.sampled_from([b"null", b"-", b"9" * 30, b"1e308", b"nan", b"[", b'"', b"{}", b'""'])


@st.composite
def mutated(draw):
    """Give a frame with a few bytes changed, cut out or put in."""
    frame = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(frame)))
        frame[start : start + draw(st.integers(0, 6))] = draw(st.binary(max_size=4) | odd)
    return bytes(frame)


def read(reader, *said):
    try:
        return reader(*said)
    except MAY_RAISE:
        return None


@settings(deadline=None, max_examples=300)
@given(mutated())
def test_no_bytes_break_a_reader(frame):
    events = read(GATEIO.decode, frame) or []
    for what in wire.RESTS:
        events += read(GATEIO.read_rest, what, "A_USDT", frame) or []
    for event in events:
        for value in (event.ts_event, event.ts_send, getattr(event, "ts_funding", None)):
            assert value is None or 0 <= value < 2**63
        if isinstance(event, Trade):
            assert event.qty > 0 and event.price > 0
        if isinstance(event, Book):
            assert all(p > 0 and q >= 0 for side in (event.bids, event.asks) for p, q in side)
            assert event.is_snapshot == (event.follows is None)
    linked = read(GATEIO.link, frame)
    assert linked is None or linked.is_snapshot == (linked.follows is None)
