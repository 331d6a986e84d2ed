"""What holds for all venues: the facts are there, and two laws of their decoders.

Round trip: what the wire types encode, the decoder gives back. And no bytes at all make a decoder
or ``control`` raise anything but what ``decode.py`` catches.
"""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.decode import PARSER_ERRORS, decoder
from perptape.errors import BadFrame
from perptape.events import MS, NS, Quote
from perptape.venues import LIVE, VENUES, binance, bitget, bybit, gateio, htx, hyperliquid, okx
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Rejected

PAGES = Path(__file__).resolve().parents[2] / "docs" / "venues"
CONTROLS = (Accepted, Rejected, Complaint, Alive, Leaving, type(None))


@pytest.mark.parametrize("name", sorted(VENUES))
def test_facts_of_every_venue(name):
    venue = VENUES[name]
    assert venue.name == name
    assert venue.docs.startswith("https://")
    assert venue.streams["quotes"]
    assert (PAGES / f"{name}.md").read_text().startswith("# ")


def test_live_venues():
    assert LIVE == ("bitget", "htx", "gateio", "bybit", "binance", "okx", "hyperliquid")


@pytest.mark.parametrize("name", LIVE)
def test_facts_of_live_venues(name):
    venue = VENUES[name]
    assert venue.url.startswith("wss://") and venue.rest.startswith("https://")
    assert not venue.rest.endswith("/")
    assert venue.instruments_path.startswith("/") and venue.time_path.startswith("/")
    heartbeat = venue.heartbeat
    assert heartbeat.silence_ns > heartbeat.every_ns + 5 * NS
    assert (heartbeat.ping is None) == (heartbeat.every_ns == 0)
    assert venue.subscribe_every_ns > 0 and venue.topics_per_wire >= 50
    assert venue.first_data_ns >= 10 * NS


@pytest.mark.parametrize("name", LIVE)
def test_a_page_names_what_the_code_does(name):
    page, venue = (PAGES / f"{name}.md").read_text(), VENUES[name]
    words = [venue.url, venue.rest, venue.instruments_path, venue.time_path, venue.docs]
    words += [stream for streams in venue.streams.values() for stream in streams]
    words += [f"{venue.heartbeat.silence_ns // NS} s", f"{venue.first_data_ns // NS} s"]
    assert [word for word in words if word not in page] == []


class Said(NamedTuple):
    """What a venue has to say, before it is spelled its way."""

    base: str
    t1: int
    t2: int
    bid: tuple[float, float] | None
    ask: tuple[float, float] | None
    number: int


numbers = st.floats(1e-12, 1e12, allow_subnormal=False)
sides = st.none() | st.tuples(numbers, st.just(0.0) | numbers)
times_ms = st.integers(1, 4_000_000_000_000)
ids = st.integers(1, 2**63 - 1)
bases = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
sayings = st.builds(Said, bases, times_ms, times_ms, sides, sides, ids)
LAW = settings(deadline=None)  # a busy machine is no failure


def text_level(side):
    return [] if side is None else [(repr(side[0]), repr(side[1]))]


def bitget_frame(said):
    arg = bitget.Arg(bitget.FAMILY, "books1", f"{said.base}USDT")
    book = bitget.Book(text_level(said.ask), text_level(said.bid), str(said.t1), said.number, 0)
    return f"{said.base}USDT", bitget.Push("snapshot", arg, (book,), said.t2)


def bybit_frame(said):
    symbol = f"{said.base}USDT"
    book = bybit.Top(symbol, text_level(said.bid), text_level(said.ask), said.number, 1)
    return symbol, bybit.TopPush(f"orderbook.1.{symbol}", said.t2, "snapshot", book, said.t1)


def gateio_frame(said):
    symbol = f"{said.base}_USDT"
    (b, bq), (a, aq) = (("", "0") if s is None else text_level(s)[0] for s in (said.bid, said.ask))
    top = gateio.BookTicker(said.t1, said.number, symbol, b, bq, a, aq)
    return symbol, gateio.Push(
        time=said.t2 // 1000,
        time_ms=said.t2,
        channel="futures.book_ticker",
        event="update",
        result=top,
    )


def bbo_frame(said):
    ch = f"market.{said.base}-USDT.bbo"
    return f"{said.base}-USDT", htx.BboPush(
        ch,
        said.t2,
        htx.Bbo(said.number, said.t1 // 1000, said.bid, said.ask, said.t1, said.number, ch),
    )


def step0_frame(said):
    ch = f"market.{said.base}-USDT.depth.step0"
    bids, asks = (
        msgspec.Raw(msgspec.json.encode([] if side is None else [side, (1.5, 2)]))
        for side in (said.bid, said.ask)
    )
    tick = htx.Depth(said.number, said.t1 // 1000, bids, asks, said.t1, said.t1 // 1000, ch)
    return f"{said.base}-USDT", htx.DepthPush(ch, said.t2, tick)


def binance_frame(said):
    symbol = f"{said.base}USDT"
    (b, bq), (a, aq) = (("0", "0") if s is None else text_level(s)[0] for s in (said.bid, said.ask))
    top = binance.BookTicker(u=said.number, s=symbol, b=b, B=bq, a=a, A=aq, T=said.t1, E=said.t2)
    return symbol, binance.Push(f"{symbol.lower()}@bookTicker", top)


def hyperliquid_frame(said):
    levels = [
        None if side is None else hyperliquid.Level(*text_level(side)[0], 1)
        for side in (said.bid, said.ask)
    ]
    return said.base, hyperliquid.Push("bbo", hyperliquid.Bbo(said.base, said.t1, levels))


def okx_frame(said):
    symbol = f"{said.base}-USDT-SWAP"
    sides = ([okx.Level(*level) for level in text_level(side)] for side in (said.ask, said.bid))
    top = okx.Depth(*sides, str(said.t1), seqId=said.number)
    return symbol, okx.Push(arg=okx.Arg("bbo-tbt", symbol), data=[top])


WRITERS = {
    ("binance", "bookTicker"): binance_frame,
    ("bitget", "books1"): bitget_frame,
    ("bybit", "orderbook.1"): bybit_frame,
    ("gateio", "futures.book_ticker"): gateio_frame,
    ("htx", "bbo"): bbo_frame,
    ("htx", "depth.step0"): step0_frame,
    ("hyperliquid", "bbo"): hyperliquid_frame,
    ("okx", "bbo-tbt"): okx_frame,
}
UNSAID = {"hyperliquid": {"ts_send": None, "update_id": None}, "okx": {"ts_send": None}}
"""What a venue has no word for."""


def test_every_live_stream_has_a_round_trip():
    live = {(name, s) for name in LIVE for s in VENUES[name].streams["quotes"]}
    assert set(WRITERS) == live


@pytest.mark.parametrize(("name", "stream"), sorted(WRITERS))
@LAW
@given(said=sayings)
def test_round_trip(name, stream, said):
    venue = VENUES[name]
    symbol, push = WRITERS[name, stream](said)
    frame = msgspec.json.encode(push)
    bid, ask = said.bid or (None, None), said.ask or (None, None)
    quote = Quote(symbol, said.t1 * MS, said.t2 * MS, *bid, *ask, said.number)
    heard = [event for event in venue.decode(frame) if isinstance(event, Quote)]
    assert heard == [msgspec.structs.replace(quote, **UNSAID.get(name, {}))]
    assert venue.is_data(frame) and frame.count(venue.data_mark) == 1
    topic = venue.topic("quotes", stream, symbol)
    assert all(mark in frame for mark in topic.marks)


@pytest.mark.parametrize(("name", "stream"), sorted(WRITERS))
def test_marks_tell_topics_apart(name, stream):
    venue = VENUES[name]
    symbol, push = WRITERS[name, stream](Said("AB", 1, 1, (1.0, 1.0), (2.0, 1.0), 1))
    frame = msgspec.json.encode(push)
    for other in (f"X{symbol}", f"{symbol}X", symbol.replace("AB", "A")):
        marks = venue.topic("quotes", stream, other).marks
        assert not all(mark in frame for mark in marks)


TICKER = (
    b'{"stream":"a@bookTicker","data":{"e":"bookTicker","u":1,"s":"A","b":"1","B":"1","a":"2",'
    b'"A":"1","T":1,"E":1}}'
)
SAYINGS = (
    b"pong",
    b'{"event":"error","arg":{"instType":"x","channel":"books1","instId":"A"},"code":1,"msg":"no"}',
    b'{"ping":1645289389594}',
    b'{"status":"error","ts":1,"id":"a","err-code":"b","err-msg":"invalid topic"}',
    (
        b'{"time":1,"channel":"futures.book_ticker","event":"subscribe","payload":["A_USDT"],'
        b'"error":{"code":2,"message":"unknown currency pair: A_USDT"},"result":{"status":"fail"}}'
    ),
    b'{"success":false,"ret_msg":"error:handler not found,topic:a","req_id":"a","op":"subscribe"}',
    TICKER,
    TICKER[33:-1],
)
SEEDS = SAYINGS + tuple(
    msgspec.json.encode(write(Said("ABC", 1, 2, (1.25, 2.0), (1.5, 3.0), 7))[1])
    for write in WRITERS.values()
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def mutated(draw):
    """Give a frame of some venue with a few bytes changed, cut out or put in."""
    frame = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(frame)))
        length = draw(st.integers(0, 6))
        frame[start : start + length] = draw(
            st.binary(max_size=4) | st.sampled_from([b"null", b"-", b"9" * 30, b"[", b'"', b"{}"])
        )
    return bytes(frame)


@st.composite
def rehung(draw):
    """Give a frame of some venue with a value replaced by anything JSON can say."""
    frame = msgspec.json.decode(draw(st.sampled_from([s for s in SEEDS if s[:1] == b"{"])))
    part = frame
    while True:
        key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], dict | list) or not part[key] or draw(st.booleans()):
            part[key] = draw(values)
            return msgspec.json.encode(frame)
        part = part[key]


def survives(name, payload):
    venue = VENUES[name]
    try:
        events = decoder(name)(payload)
    except BadFrame:
        events = []
    for quote in filter(lambda event: isinstance(event, Quote), events):
        for price in (quote.bid_price, quote.ask_price):
            assert price is None or 0 < price < float("inf")
        for qty in (quote.bid_qty, quote.ask_qty):
            assert qty is None or 0 <= qty < float("inf")
        for whole in (quote.ts_event, quote.ts_send, quote.update_id):
            assert whole is None or 0 <= whole < 2**63
    if venue.control is not None:
        venue.is_data(payload)
        with suppress(*PARSER_ERRORS):
            assert isinstance(venue.control(payload), CONTROLS)


@pytest.mark.parametrize("name", sorted(VENUES))
@LAW
@given(payload=st.binary(max_size=60) | values.map(msgspec.json.encode) | mutated() | rehung())
def test_no_bytes_break_a_decoder(name, payload):
    survives(name, payload)


HOSTILE = {
    "deep-arrays": b"[" * 200_000,
    "deep-objects": b'{"a":' * 200_000,
    "deep-in-a-frame": SEEDS[-1][:-1] + b',"x":' + b"[" * 200_000,
    "long-number": b'{"ping":' + b"9" * 100_000 + b"}",
    "nul": b"\x00" * 50,
    "lone-surrogate": b'{"topic":"\\ud800"}',
    "bad-utf8": b'{"topic":"orderbook.1.\xff"}',
    "duplicate-keys": b'{"topic":"a","topic":"orderbook.1.A","ts":1,"ts":"x"}',
}


@pytest.mark.parametrize("name", sorted(VENUES))
@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_hostile_frames(name, payload):
    survives(name, payload)


@pytest.mark.parametrize("name", sorted(n for n, v in VENUES.items() if v.read_instruments))
@LAW
@given(body=st.binary(max_size=40) | values.map(msgspec.json.encode))
def test_no_bytes_break_a_listing(name, body):
    with suppress(*PARSER_ERRORS):
        assert VENUES[name].read_instruments(body, 0).next_path is None
