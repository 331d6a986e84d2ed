"""The three Binance families, USD-M with all channels; our own values in the shapes they send."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.events import MS, Book, Funding, Mark, Quote, Trade
from perptape.venues import binance as wire
from perptape.venues.binance import BINANCE
from perptape.venues.binance_coinm import BINANCE_COINM
from perptape.venues.binance_spot import BINANCE_SPOT
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Link

T1, T2 = 1_700_000_000_001, 1_700_000_000_004
SIX = b'"u":77,"s":"ABCUSDT","b":"20.25","B":"1.5","a":"20.5","A":"3"'
TIMES = b',"T":1700000000001,"E":1700000000004'
FUT = b'{"e":"bookTicker",%b%b}' % (SIX, TIMES)
SPOT = b"{%b}" % SIX
CM = FUT.replace(b"ABCUSDT", b"ABCUSD_PERP")
QUOTE = Quote("ABCUSDT", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)
CM_QUOTE = Quote("ABCUSD_PERP", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)
SPOT_QUOTE = Quote("ABCUSDT", None, None, 20.25, 1.5, 20.5, 3.0, 77)
SNAPSHOT = b'{"lastUpdateId":7,"E":1,"T":1,"bids":[["1","2"]],"asks":[]}'
DEPTH = b'{"e":"depthUpdate","E":1,"T":1,"s":"A","U":1,"u":2,"pu":0,"b":[["1","0"]],"a":[]}'
SPOT_DEPTH = b'{"e":"depthUpdate","E":1,"s":"A","U":1,"u":2,"b":[["1","0"]],"a":[]}'
PARTIAL = b'{"lastUpdateId":7,"bids":[["1","2"]],"asks":[]}'


def wrapped(data, stream=b"abcusdt@bookTicker"):
    return b'{"stream":"%b","data":%b}' % (stream, data)


ST2 = FUT[:-1] + b',"ps":"ABCUSDT","st":2}'


@pytest.mark.parametrize(
    ("venue", "frame", "quotes"),
    [
        pytest.param(BINANCE, wrapped(FUT), [QUOTE], id="usdm-combined"),
        pytest.param(BINANCE, FUT, [QUOTE], id="usdm-bare"),
        pytest.param(
            BINANCE, FUT[:-1] + b',"ps":"ABCUSDT","st":1}', [QUOTE], id="usdm-2026-keys-added"
        ),
        pytest.param(BINANCE, wrapped(ST2, b"!bookTicker"), [], id="usdm-all-market-has-coin-m"),
        pytest.param(
            BINANCE, wrapped(FUT, b"!bookTicker"), [QUOTE], id="usdm-all-market-stream-name"
        ),
        pytest.param(
            BINANCE, wrapped(FUT).replace(b'":', b'": '), [QUOTE], id="usdm-spaces-lose-nothing"
        ),
        pytest.param(
            BINANCE, FUT.replace(b'":', b'": '), [QUOTE], id="usdm-bare-spaces-lose-nothing"
        ),
        pytest.param(
            BINANCE,
            wrapped(FUT.replace(b'"20.25","B":"1.5"', b'"0.00","B":"0.000"')),
            [Quote("ABCUSDT", T1 * MS, T2 * MS, None, None, 20.5, 3.0, 77)],
            id="usdm-a-side-without-orders-is-two-zeros",
        ),
        pytest.param(BINANCE, DEPTH, [], id="usdm-bare-depth-is-whole-or-a-change"),
        pytest.param(BINANCE, SNAPSHOT, [], id="usdm-rest-snapshot-line"),
        pytest.param(BINANCE, b'{"result":null,"id":1}', [], id="usdm-ack"),
        pytest.param(BINANCE, b'[{"e":"24hrTicker","s":"A"}]', [], id="usdm-array-of-all"),
        pytest.param(BINANCE_COINM, wrapped(CM), [CM_QUOTE], id="coinm-combined"),
        pytest.param(BINANCE_COINM, CM, [CM_QUOTE], id="coinm-bare"),
        pytest.param(BINANCE_COINM, SNAPSHOT, [], id="coinm-rest-snapshot-line"),
        pytest.param(BINANCE_COINM, wrapped(DEPTH, b"a@depth"), [], id="coinm-depth"),
        pytest.param(BINANCE_COINM, b'[{"e":"x"}]', [], id="coinm-array-of-all"),
        pytest.param(
            BINANCE_COINM, wrapped(CM).replace(b'":', b'": '), [CM_QUOTE], id="coinm-spaces"
        ),
        pytest.param(BINANCE_COINM, CM.replace(b'":', b'": '), [CM_QUOTE], id="coinm-bare-spaces"),
        pytest.param(BINANCE_SPOT, wrapped(SPOT), [SPOT_QUOTE], id="spot-has-no-time"),
        pytest.param(BINANCE_SPOT, SPOT, [SPOT_QUOTE], id="spot-bare-has-no-event-name"),
        pytest.param(
            BINANCE_SPOT, wrapped(SPOT).replace(b'":', b'": '), [SPOT_QUOTE], id="spot-spaces"
        ),
        pytest.param(BINANCE_SPOT, wrapped(SPOT_DEPTH, b"a@depth"), [], id="spot-depth"),
        pytest.param(BINANCE_SPOT, SPOT_DEPTH, [], id="spot-bare-depth"),
        pytest.param(BINANCE_SPOT, PARTIAL, [], id="spot-rest-snapshot-line"),
        pytest.param(BINANCE_SPOT, b'[{"e":"x"}]', [], id="spot-array-of-all"),
    ],
)
def test_decode(venue, frame, quotes):
    assert venue.decode(frame) == quotes


@pytest.mark.parametrize("venue", [BINANCE, BINANCE_COINM, BINANCE_SPOT])
@pytest.mark.parametrize(
    "change",
    [(b'"20.25"', b'"0"'), (b'"20.25"', b'"nan"'), (b'"20.25"', b"[]"), (b'"s":"ABCUSDT",', b"")],
)
def test_decode_refuses(venue, change):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        venue.decode(wrapped(FUT.replace(*change)))


NEWS = (
    b'{"e":"depthUpdate","E":1700000000004,"T":1700000000001,"s":"ABCUSDT","U":50,"u":77,"pu":33,'
    b'"b":[["20.25","1.5"],["20","0.000"]],"a":[]}'
)
SIDES = ([(20.25, 1.5), (20.0, 0.0)], [])
CHANGE = Book("ABCUSDT", T1 * MS, T2 * MS, *SIDES, is_snapshot=False, update_id=77, follows=33)
WHOLE = Book("ABCUSDT", T1 * MS, T2 * MS, *SIDES, is_snapshot=True, update_id=77)


@pytest.mark.parametrize(
    ("stream", "books"),
    [
        (b"abcusdt@depth", [CHANGE]),
        (b"abcusdt@depth@100ms", [CHANGE]),
        (b"abcusdt@depth@0ms", [CHANGE]),
        pytest.param(b"abcusdt@depth20@100ms", [WHOLE], id="a-number-of-levels-makes-it-whole"),
        (b"abcusdt@depth5", [WHOLE]),
        pytest.param(b"abcusdt@rpiDepth@500ms", [], id="the-book-with-rpi-is-another"),
        ("牛来usdt@depth@100ms".encode(), [CHANGE]),
    ],
)
def test_books(stream, books):
    frame = wrapped(NEWS, stream)
    assert BINANCE.decode(frame) == books
    links = [Link(stream.decode(), b.is_snapshot, b.update_id, b.follows) for b in books]
    assert BINANCE.link(frame) == (links[0] if links else None)
    of_coin_m = wrapped(NEWS[:-1] + b',"ps":"ABCUSDT","st":2}', stream)
    assert BINANCE.decode(of_coin_m) == [] and BINANCE.link(of_coin_m) is None


def test_a_book_begins_with_rest_and_shares_its_ids():
    path = "/fapi/v1/depth?symbol={symbol}&limit=1000"
    assert BINANCE.bases == {"depth@100ms": path, "depth@0ms": path}
    body = b'{"lastUpdateId":40,"E":1700000000004,"T":1700000000001,"bids":[["1","2"]],"asks":[]}'
    assert BINANCE.read_rest("book", "ABCUSDT", body) == [
        Book("ABCUSDT", T1 * MS, T2 * MS, [(1.0, 2.0)], [], is_snapshot=True, update_id=40)
    ]


SOLD = (
    b'{"e":"trade","E":1700000000004,"T":1700000000001,"s":"ABCUSDT","t":5,"p":"20.25","q":"1.5",'
    b'"X":"MARKET","m":true}'
)
AGG = (
    b'{"e":"aggTrade","E":1700000000004,"a":5,"s":"ABCUSDT","p":"20.25","q":"1.5","nq":"1",'
    b'"f":8,"l":9,"T":1700000000001,"m":true,"st":1}'
)
TRADE = Trade("ABCUSDT", T1 * MS, T2 * MS, 20.25, 1.5, "sell", "5")


@pytest.mark.parametrize(
    ("frame", "trades"),
    [
        pytest.param(wrapped(SOLD), [TRADE], id="the-buyer-was-the-maker-so-the-taker-sold"),
        (
            wrapped(SOLD.replace(b"true", b"false")),
            [msgspec.structs.replace(TRADE, side="buy")],
        ),
        pytest.param(SOLD, [TRADE], id="bare"),
        pytest.param(SOLD.replace(b'"X":"MARKET",', b""), [TRADE], id="without-its-kind"),
        pytest.param(wrapped(SOLD.replace(b"MARKET", b"INSURANCE_FUND")), [], id="insurance-fund"),
        pytest.param(wrapped(SOLD.replace(b"MARKET", b"ADL")), [], id="auto-deleveraging"),
        pytest.param(
            wrapped(SOLD.replace(b"MARKET", b"NA").replace(b"20.25", b"0")),
            [],
            id="off-book-and-without-a-price",
        ),
        pytest.param(wrapped(AGG), [TRADE], id="aggregate-with-rpi-in-its-size"),
        pytest.param(AGG, [TRADE], id="bare-aggregate"),
        pytest.param(wrapped(AGG.replace(b'"nq":"1",', b"")), [TRADE], id="aggregate-of-2021"),
        pytest.param(wrapped(AGG.replace(b'"st":1', b'"st":2')), [], id="aggregate-of-coin-m"),
        pytest.param(wrapped(SOLD[:-1] + b',"st":2}'), [], id="trade-of-coin-m"),
    ],
)
def test_trades(frame, trades):
    assert BINANCE.decode(frame) == trades


def test_a_trade_of_the_book_has_a_price():
    with pytest.raises(ValueError, match="price of 0"):
        BINANCE.decode(wrapped(SOLD.replace(b"20.25", b"0")))


MARK = (
    b'{"e":"markPriceUpdate","E":1700000001000,"s":"ABCUSDT","p":"20.25","ap":"20.2","P":"20.1",'
    b'"i":"20.5","r":"-0.0003","T":1700006400000,"st":1}'
)
T3, T4 = 1_700_000_001_000, 1_700_006_400_000
BOTH = [
    Mark("ABCUSDT", T3 * MS, None, 20.25, 20.5),
    Funding("ABCUSDT", T3 * MS, None, -0.0003, ts_funding=T4 * MS),
]


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        pytest.param(wrapped(MARK), BOTH, id="its-T-is-when-funding-is-paid-next"),
        pytest.param(MARK, BOTH, id="bare"),
        pytest.param(
            wrapped(b"[%b,%b]" % (MARK, MARK.replace(b'"st":1', b'"st":2')), b"!markPrice@arr@1s"),
            BOTH,
            id="all-markets-of-both-families",
        ),
        pytest.param(
            wrapped(MARK.replace(b'"-0.0003"', b'""').replace(b"1700006400000", b"0")),
            BOTH[:1],
            id="a-dated-future-pays-no-funding",
        ),
        pytest.param(
            wrapped(MARK.replace(b'"20.5"', b'"0.00000000"').replace(b'"-0.0003"', b'"0"')),
            [
                Mark("ABCUSDT", T3 * MS, None, 20.25, None),
                msgspec.structs.replace(BOTH[1], rate=0.0),
            ],
            id="no-index-is-none-but-a-rate-of-0-is-0",
        ),
    ],
)
def test_marks_and_funding(frame, events):
    assert BINANCE.decode(frame) == events


@pytest.mark.parametrize(
    "change", [(b'"20.25"', b'"nan"'), (b'"20.25"', b'"-1"'), (b"-0.0003", b"1e999")]
)
def test_marks_refuse(change):
    with pytest.raises(ValueError, match=r"no number|a price of"):
        BINANCE.decode(wrapped(MARK.replace(*change)))


def rest(what, body):
    return BINANCE.read_rest(what, "ABCUSDT", body)


def test_open_interest_is_polled():
    body = b'{"openInterest":"10659.509","symbol":"ABCUSDT","time":1700000000001}'
    assert rest("open_interest", body) == [Mark("ABCUSDT", T1 * MS, None, open_interest=10659.509)]


def test_only_unusual_funding_intervals_are_told():
    body = (
        b'[{"symbol":"ABCUSDT","adjustedFundingRateCap":"0.02","adjustedFundingRateFloor":"-0.02",'
        b'"fundingIntervalHours":4,"disclaimer":false}]'
    )
    assert rest("funding_info", body) == [Funding("ABCUSDT", None, None, interval_h=4.0)]
    assert rest("funding_info", b"[]") == []


def paid(*times_ms):
    rows = [{"symbol": "ABCUSDT", "fundingRate": "-0.0375", "fundingTime": t} for t in times_ms]
    return [(e.ts_funding // MS, e.interval_h) for e in rest("funding_history", json.dumps(rows))]


def test_paid_rates_tell_their_interval():
    h = 3_600_000
    assert paid(16 * h + 5, 20 * h, 21 * h) == [(20 * h, 4.0), (21 * h, 1.0)]
    assert paid(21 * h, 20 * h) == [(21 * h, 1.0)]
    assert paid(16 * h, 16 * h + h // 2) == [(16 * h + h // 2, None)]
    assert paid() == []
    (row,) = rest(
        "funding_history",
        b'[{"symbol":"ABCUSDT","fundingRate":"-0.0375","fundingTime":1700006400000,'
        b'"markPrice":"34287.5","rateType":"Regular"}]',
    )
    assert row == Funding("ABCUSDT", None, None, -0.0375, ts_funding=T4 * MS, is_settled=True)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        pytest.param(b'{"result":null,"id":1}', Accepted(()), id="an-ack-names-no-topic"),
        pytest.param(b'{"result":true,"id":2000000}', Alive(), id="answers-our-ping"),
        pytest.param(
            b'{"error":{"code":2,"msg":"Invalid request"},"id":2000000}',
            Alive(),
            id="so-does-an-error",
        ),
        (
            b'{"error":{"code":2,"msg":"Invalid request: too many parameters"},"id":1}',
            Complaint("2 Invalid request: too many parameters"),
        ),
        pytest.param(
            b'{"code":3,"msg":"Invalid JSON: expected value"}',
            Complaint("3 Invalid JSON: expected value"),
            id="as-documented-without-an-envelope",
        ),
        pytest.param(
            b'{"e":"serverShutdown","E":1700000000000}',
            Leaving("serverShutdown"),
            id="known-of-spot-only",
        ),
    ],
)
def test_control(frame, said):
    assert BINANCE.control(frame) == said
    assert not BINANCE.is_data(frame) and BINANCE.data_mark not in frame
    assert BINANCE.decode(frame) == []


def test_two_sockets_and_one_stream_for_marks_and_funding():
    streams = {channel: streams[0] for channel, streams in BINANCE.streams.items()}
    topics = [BINANCE.topic(channel, stream, "ABCUSDT") for channel, stream in streams.items()]
    assert [(t.key, t.socket) for t in topics] == [
        ("abcusdt@bookTicker", ""),
        ("abcusdt@depth@100ms", ""),
        ("abcusdt@trade", ""),
        ("abcusdt@markPrice@1s", "market"),
        ("abcusdt@markPrice@1s", "market"),
    ]
    assert BINANCE.topic("trades", "aggTrade", "ABCUSDT").socket == "market"
    assert (BINANCE.url, dict(BINANCE.sockets)) == (
        "wss://fstream.binance.com/public/stream",
        {"market": "wss://fstream.binance.com/market/stream"},
    )
    assert BINANCE.subscribe(topics[3:], 0) == [
        b'{"method":"SUBSCRIBE","params":["abcusdt@markPrice@1s"],"id":1}'
    ]
    assert BINANCE.unsubscribe(topics[:2], 0) == [
        b'{"method":"UNSUBSCRIBE","params":["abcusdt@bookTicker","abcusdt@depth@100ms"],"id":1000}'
    ]


def test_subscribes_are_batches_at_less_than_four_a_second():
    topics = [BINANCE.topic("quotes", "bookTicker", f"S{n}USDT") for n in range(200)]
    frames = [json.loads(frame) for frame in BINANCE.subscribe(topics, 0)]
    assert [(len(frame["params"]), frame["id"]) for frame in frames] == [
        (50, 1), (50, 2), (50, 3), (50, 4),
    ]  # fmt: skip
    assert BINANCE.subscribe_every_ns > 250 * MS


def test_marks_tell_streams_apart():
    frame = wrapped(NEWS, b"abcusdt@depth@100ms")
    hears = [
        stream
        for stream in ("depth@100ms", "depth@0ms", "depth", "depth20@100ms", "bookTicker")
        if all(mark in frame for mark in BINANCE.topic("books", stream, "ABCUSDT").marks)
    ]
    assert hears == ["depth@100ms"]


texts = st.floats(1e-12, 1e12, allow_subnormal=False).map(repr)
times = st.integers(1, 4_000_000_000_000)
ids = st.integers(1, 2**63 - 1)
symbols = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
levels = st.lists(st.tuples(texts, texts | st.just("0")), max_size=5)
LAW = settings(deadline=None)


def pushed(symbol, stream, said):
    frame = msgspec.json.encode(wire.Push(f"{symbol.lower()}@{stream}", said))
    assert BINANCE.is_data(frame) and frame.count(BINANCE.data_mark) == 1
    assert all(mark in frame for mark in BINANCE.topic("", stream, symbol).marks)
    assert BINANCE.decode(frame) == BINANCE.decode(frame.replace(b'":', b'" : '))
    return frame


@LAW
@given(said=st.tuples(symbols, times, times, ids, ids, levels, levels))
@pytest.mark.parametrize("stream", BINANCE.streams["books"])
def test_round_trip_of_books(stream, said):
    symbol, t1, t2, u, pu, bids, asks = said
    depth = wire.Depth(E=t2, T=t1, s=symbol, U=u, u=u, pu=pu, b=bids, a=asks)
    (book,) = BINANCE.decode(frame := pushed(symbol, stream, depth))
    is_snapshot = stream.startswith("depth20")
    read = [[(float(price), float(qty)) for price, qty in side] for side in (bids, asks)]
    follows = None if is_snapshot else pu
    assert book == Book(symbol, t1 * MS, t2 * MS, *read, is_snapshot, u, follows)
    key = BINANCE.topic("books", stream, symbol).key
    assert BINANCE.link(frame) == Link(key, is_snapshot, u, follows)


@LAW
@given(said=st.tuples(symbols, times, times, ids, texts, texts, st.booleans()))
@pytest.mark.parametrize("stream", BINANCE.streams["trades"])
def test_round_trip_of_trades(stream, said):
    symbol, t1, t2, number, price, qty, is_sold = said
    keys = {"E": t2, "T": t1, "s": symbol, "p": price, "q": qty, "m": is_sold}
    made = (
        wire.Execution(t=number, **keys)
        if stream == "trade"
        else wire.AggTrade(a=number, f=number, l=number, **keys)
    )
    side = "sell" if is_sold else "buy"
    assert BINANCE.decode(pushed(symbol, stream, made)) == [
        Trade(symbol, t1 * MS, t2 * MS, float(price), float(qty), side, str(number))
    ]


@LAW
@given(said=st.tuples(symbols, times, times, texts, texts, st.floats(-1, 1).map(repr)))
def test_round_trip_of_marks_and_funding(said):
    symbol, t1, t2, mark, index, rate = said
    push = wire.MarkPrice(E=t1, s=symbol, p=mark, i=index, r=rate, T=t2)
    assert BINANCE.decode(pushed(symbol, "markPrice@1s", push)) == [
        Mark(symbol, t1 * MS, None, float(mark), float(index)),
        Funding(symbol, t1 * MS, None, float(rate), ts_funding=t2 * MS),
    ]


@pytest.mark.parametrize(
    ("venue", "symbol", "name"),
    [
        (BINANCE, "BTCUSDT", "BTC-USDT-PERP"),
        (BINANCE, "1000SHIBUSDC", "SHIB-USDC-PERP"),
        (BINANCE, "1MBABYDOGEUSDT", "BABYDOGE-USDT-PERP"),
        (BINANCE, "BTCUSDT_260327", None),
        (BINANCE, "BTCUSD_PERP", None),
        (BINANCE_COINM, "BTCUSD_PERP", "BTC-USD-PERP"),
        (BINANCE_COINM, "BTCUSD_240927", None),
        (BINANCE_COINM, "BTCUSDT", None),
        (BINANCE_SPOT, "BTCUSDT", "BTC-USDT-SPOT"),
        (BINANCE_SPOT, "ETHBTC", "ETH-BTC-SPOT"),
        (BINANCE_SPOT, "BTCFDUSD", "BTC-FDUSD-SPOT"),
        (BINANCE_SPOT, "1000SATSUSDT", "SATS-USDT-SPOT"),
        (BINANCE_SPOT, "牛来USDT", None),
    ],
)
def test_name_without_a_list(venue, symbol, name):
    assert venue.instrument_name(symbol) == name


ROW = {
    "symbol": "BTCUSDT",
    "contractType": "PERPETUAL",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001"},
    ],
}


def listed(**changes):
    body = msgspec.json.encode({"symbols": [ROW | changes]})
    return BINANCE.read_instruments(body, 9).instruments


def test_exchange_info():
    (found,) = listed()
    assert (found.name, found.tick_size, found.lot_size) == ("BTC-USDT-PERP", 0.1, 0.001)
    assert (found.status, found.funding_interval_h, found.ts_seen) == ("trading", 8.0, 9)


def test_1000sats_counts_single_coins():
    (found,) = listed(symbol="1000SATSUSDT", baseAsset="1000SATS")
    assert (found.name, found.contract_size, found.lot_size) == ("SATS-USDT-PERP", 1000, 1)


def test_filters_may_be_missing_and_status_is_told():
    (found,) = listed(filters=[], status="SETTLING", contractType="TRADIFI_PERPETUAL")
    assert (found.tick_size, found.lot_size, found.status) == (None, None, "SETTLING")


def test_quarterly_contracts_are_left_out():
    assert listed(contractType="CURRENT_QUARTER") == []


def test_contracts_of_coin_m_are_left_out_should_they_be_listed():
    assert listed(symbol="BTCUSD_PERP", quoteAsset="USD", marginAsset="BTC") == []


def test_time_comes_in_milliseconds():
    assert BINANCE.read_time(b'{"serverTime":1700000000001}') == T1 * MS
