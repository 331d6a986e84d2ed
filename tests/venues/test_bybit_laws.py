"""Bybit: what the wire types encode the decoder gives back, and no bytes at all break a reader."""

from contextlib import suppress

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.decode import PARSER_ERRORS
from perptape.events import MS, Book, Funding, Mark, Trade
from perptape.venues import bybit
from perptape.venues.bybit import BYBIT
from perptape.venues.venue import Link

LAW = settings(deadline=None)  # a busy machine is no failure
numbers = st.floats(1e-12, 1e12, allow_subnormal=False)
texts = numbers.map(repr)
levels = st.lists(st.tuples(texts, st.just("0") | texts), max_size=5)
times_ms = st.integers(1, 4_000_000_000_000)
ids = st.integers(1, 2**63 - 1)
symbols = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
depths = st.builds(bybit.Depth, symbols, levels, levels, ids, ids)
prints = st.builds(
    bybit.Print, T=times_ms, s=symbols, S=st.sampled_from(["Buy", "Sell"]), v=texts, p=texts,
    i=symbols, seq=ids,
)  # fmt: skip
maybe = st.none() | numbers
tickers = st.builds(
    bybit.Ticker, symbols, maybe, maybe, maybe, maybe, maybe, st.none() | times_ms,
    st.none() | st.floats(-1, 1),
)  # fmt: skip


def heard(push, channel, symbol):
    """Check what holds for every data frame, and decode it."""
    frame, stream = msgspec.json.encode(push), push.topic.removesuffix(f".{symbol}")
    assert BYBIT.is_data(frame) and frame.count(BYBIT.data_mark) == 1
    topic = BYBIT.topic(channel, stream, symbol)
    assert all(mark in frame for mark in topic.marks)
    for other in (f"X{symbol}", f"{symbol}X"):
        marks = BYBIT.topic(channel, stream, other).marks
        assert not all(mark in frame for mark in marks)
    return BYBIT.decode(frame)


def read(side):
    return [(float(price), float(qty)) for price, qty in side]


@LAW
@given(st.sampled_from(bybit.DEPTHS), depths, st.sampled_from(["snapshot", "delta"]), times_ms)
def test_round_trip_of_books(stream, depth, kind, t1):
    push = bybit.DepthPush(f"{stream}.{depth.s}", kind, t1 + 3, depth, t1)
    is_snapshot = kind == "snapshot" or depth.u == 1
    follows = None if is_snapshot else depth.u - 1
    times, sides = (t1 * MS, (t1 + 3) * MS), (read(depth.b), read(depth.a))
    (book,) = heard(push, "books", depth.s)
    assert book == Book(depth.s, *times, *sides, is_snapshot, depth.u, follows)
    place = BYBIT.link(msgspec.json.encode(push))
    assert place == Link(push.topic, is_snapshot, depth.u, follows)


@LAW
@given(symbols, st.lists(prints), times_ms)
def test_round_trip_of_trades(symbol, rows, t2):
    push = bybit.TradePush(f"publicTrade.{symbol}", "snapshot", t2, rows)
    assert heard(push, "trades", symbol) == [
        Trade(r.s, r.T * MS, t2 * MS, float(r.p), float(r.v), r.S.lower(), r.i) for r in rows
    ]


@LAW
@given(tickers, st.sampled_from(["snapshot", "delta"]), times_ms)
def test_round_trip_of_tickers(row, kind, t2):
    one, both = row.singleOpenInterest, row.openInterest
    interest = both / 2 if one is None and both is not None else one
    marks = (row.markPrice, row.indexPrice, interest)
    ts_funding = None if row.nextFundingTime is None else row.nextFundingTime * MS
    paid = (row.fundingRate, row.fundingIntervalHour, ts_funding)
    expected = [Mark(row.symbol, None, t2 * MS, *marks)] if marks != (None, None, None) else []
    if paid != (None, None, None):
        expected.append(Funding(row.symbol, None, t2 * MS, *paid))
    push = bybit.TickerPush(f"tickers.{row.symbol}", kind, row, t2)
    assert heard(push, "marks", row.symbol) == heard(push, "funding", row.symbol) == expected


def sample(kind, **fields):
    level = ("1.5", "2")
    book = {"s": "A", "b": [level], "a": [level], "u": 7, "seq": 1}
    trade = {"T": 5, "s": "A", "S": "Buy", "v": "1", "p": "2", "L": "", "i": "x", "BT": False}
    ticker = {"symbol": "A", "markPrice": "1.5", "openInterest": "4", "fundingRate": "-0.1"}
    row = {"orderbook.50": book, "publicTrade": [trade], "tickers": ticker}[kind]
    push = {"topic": f"{kind}.A", "type": "snapshot", "ts": 5, "data": row, "cts": 4}
    return msgspec.json.encode(push | fields)


PAID = {"symbol": "A", "fundingRate": "0.1", "fundingRateTimestamp": "5"}
HISTORY = {"retCode": 0, "retMsg": "OK", "result": {"list": [PAID]}, "time": 6}
FRAMES = (
    sample("orderbook.50"),
    sample("orderbook.50", type="delta"),
    sample("publicTrade"),
    sample("tickers"),
    msgspec.json.encode(HISTORY),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=6)


@st.composite
def altered(draw):
    """Give a frame with a value replaced by anything JSON can say, or cut off."""
    frame = draw(st.sampled_from(FRAMES))
    if draw(st.booleans()):
        return frame[: draw(st.integers(0, len(frame)))]
    root = part = msgspec.json.decode(frame)
    while True:
        key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], dict | list) or not part[key] or draw(st.booleans()):
            part[key] = draw(values)
            return msgspec.json.encode(root)
        part = part[key]


def told(payload):
    """What any reader makes of these bytes, field by field."""
    events = []
    with suppress(*PARSER_ERRORS):
        events += BYBIT.decode(payload)
    with suppress(*PARSER_ERRORS):
        events += BYBIT.read_rest("funding_history", "A", payload)
    with suppress(*PARSER_ERRORS):
        assert isinstance(BYBIT.link(payload), Link | None)
    return events


def test_the_frames_to_alter_are_whole():
    assert [len(told(frame)) for frame in FRAMES] == [1, 1, 1, 2, 1]


@LAW
@given(altered() | st.binary(max_size=40))
def test_no_bytes_break_a_reader_and_no_number_is_infinite(payload):
    for event in told(payload):
        fields = msgspec.structs.asdict(event)
        sides = fields.pop("bids", []) + fields.pop("asks", [])
        for number in [*fields.values(), *(n for level in sides for n in level)]:
            assert not isinstance(number, float) or abs(number) < float("inf")
        for name in ("ts_event", "ts_send", "ts_funding", "update_id"):
            assert fields.get(name) is None or 0 <= fields[name] < 2**63
        if isinstance(event, Mark):
            assert (event.mark_price, event.index_price, event.open_interest) != (None,) * 3
        if isinstance(event, Funding):
            assert (event.rate, event.interval_h, event.ts_funding) != (None,) * 3
