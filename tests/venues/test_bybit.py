"""Bybit's dialect, frame by frame; our own values in the shapes that the venue sends."""

import msgspec
import pytest

from perptape.events import MS, NS, Book, Funding, Mark, Quote, Trade
from perptape.venues.bybit import BYBIT
from perptape.venues.venue import Accepted, Alive, Complaint, Link, Rejected

BOOK = b'{"s":"ABCUSDT","b":[["20.25","1.5"]],"a":[["20.5","3"]],"u":7,"seq":70}'
FULL = (
    b'{"topic":"orderbook.1.ABCUSDT","ts":1700000000004,"type":"snapshot","data":%b'
    b',"cts":1700000000001}' % BOOK
)
T1, T2 = 1_700_000_000_001, 1_700_000_000_004


def whole(bids, asks, u):
    return Book("ABCUSDT", T1 * MS, T2 * MS, bids, asks, is_snapshot=True, update_id=u)


QUOTE = Quote("ABCUSDT", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 7)


@pytest.mark.parametrize(
    ("frame", "quotes"),
    [
        pytest.param(FULL, [QUOTE], id="cts-outside-data-is-the-matching-time"),
        pytest.param(
            FULL.replace(b'[["20.25","1.5"]]', b"[]"),
            [Quote("ABCUSDT", T1 * MS, T2 * MS, None, None, 20.5, 3.0, 7)],
            id="empty-bid",
        ),
        pytest.param(
            FULL.replace(b',"cts":1700000000001', b""),
            [Quote("ABCUSDT", None, T2 * MS, 20.25, 1.5, 20.5, 3.0, 7)],
            id="2023-form-without-cts",
        ),
        pytest.param(FULL.replace(b'":', b'": '), [QUOTE], id="spaces-after-colons-lose-nothing"),
        pytest.param(
            b'{"data":%b,"cts":1700000000001,"type":"snapshot","ts":1700000000004,'
            b'"topic":"orderbook.1.ABCUSDT"}' % BOOK,
            [QUOTE],
            id="keys-in-another-order",
        ),
        pytest.param(
            FULL.replace(b"book.1.", b"book.1000."),
            [whole([(20.25, 1.5)], [(20.5, 3.0)], 7)],
            id="orderbook-1000-is-not-1",
        ),
        pytest.param(
            b'{"topic":"orderbook.rpi.ABCUSDT","type":"delta","ts":1,"data":{"b":[["1","2","0"]]}}',
            [],
            id="levels-of-retail-orders-have-two-sizes",
        ),
        pytest.param(
            b'{"topic":"allLiquidation.ABCUSDT","type":"snapshot","ts":1,"data":[{"T":1}]}',
            [],
            id="another-channel-has-an-array",
        ),
        pytest.param(
            b'{"topic":"priceLimit.ABCUSDT","data":{"symbol":"ABCUSDT","buyLmt":"2"},"ts":1}',
            [],
            id="another-channel-has-no-type",
        ),
        pytest.param(
            b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"orderbook.1.ABCUSDT",'
            b'"op":"subscribe"}',
            [],
            id="an-ack-that-echoes-the-topic-is-no-quote",
        ),
    ],
)
def test_decode(frame, quotes):
    assert BYBIT.decode(frame) == quotes


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(FULL.replace(b"snapshot", b"delta"), id="retired-delta-form"),
        pytest.param(
            FULL.replace(b'"a":[', b'"a":[["20.4","0"],'), id="retired-form-with-two-levels"
        ),
        pytest.param(FULL.replace(b"20.25", b"0"), id="a-price-of-zero"),
        pytest.param(FULL.replace(b"20.25", b"Infinity"), id="a-price-that-is-infinite"),
        pytest.param(FULL.replace(b'"u":7', b'"u":9223372036854775808'), id="an-id-past-64-bits"),
        pytest.param(FULL.replace(b'"s":"ABCUSDT",', b""), id="no-symbol"),
        pytest.param(FULL[:-1], id="cut-off"),
        pytest.param(b"\xff\xfe", id="not-text"),
    ],
)
def test_decode_refuses(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError, RecursionError)):
        BYBIT.decode(frame)


def book_frame(kind="delta", u=8, bids=b'["20.25","0"],["20.00","2"]', stream=b"orderbook.50"):
    return (
        b'{"topic":"%b.ABCUSDT","type":"%b","ts":1700000000004,"data":{"s":"ABCUSDT","b":[%b],'
        b'"a":[["20.50","3"]],"u":%d,"seq":70},"cts":1700000000001}'
    ) % (stream, kind.encode(), bids, u)


@pytest.mark.parametrize("stream", [*BYBIT.streams["books"], "orderbook.500"])
@pytest.mark.parametrize(
    ("kind", "u", "is_snapshot", "follows"),
    [
        pytest.param("snapshot", 7, True, None, id="a-snapshot-follows-nothing"),
        pytest.param("delta", 8, False, 7, id="u-rises-by-one"),
        pytest.param("delta", 1, True, None, id="u-1-is-a-restart-snapshot-whatever-type-says"),
        pytest.param("snapshot", 1, True, None, id="u-1-that-calls-itself-a-snapshot"),
        pytest.param("delta", 2, False, 1, id="u-2-goes-on-from-a-restart"),
    ],
)
def test_books(stream, kind, u, is_snapshot, follows):
    frame = book_frame(kind, u, stream=stream.encode())
    bids, asks = [(20.25, 0.0), (20.0, 2.0)], [(20.5, 3.0)]
    (book,) = BYBIT.decode(frame)
    assert book == Book("ABCUSDT", T1 * MS, T2 * MS, bids, asks, is_snapshot, u, follows)
    assert BYBIT.link(frame) == Link(f"{stream}.ABCUSDT", is_snapshot, u, follows)
    assert BYBIT.topic("books", stream, "ABCUSDT").key == f"{stream}.ABCUSDT"


def test_a_book_of_2023_has_no_matching_time():
    (book,) = BYBIT.decode(book_frame().replace(b',"cts":1700000000001', b""))
    assert (book.ts_event, book.ts_send) == (None, T2 * MS)


def test_a_side_that_did_not_change_is_empty():
    (book,) = BYBIT.decode(book_frame(bids=b""))
    assert (book.bids, book.asks, book.is_snapshot) == ([], [(20.5, 3.0)], False)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(FULL, id="the-quotes-have-ids-of-their-own"),
        pytest.param(
            b'{"success":true,"ret_msg":"","conn_id":"c","req_id":"orderbook.50.ABCUSDT",'
            b'"op":"subscribe"}',
            id="an-ack-that-names-a-book",
        ),
        pytest.param(
            b'{"topic":"orderbook.rpi.ABCUSDT","type":"delta","ts":1,"data":{"u":3}}', id="rpi"
        ),
        pytest.param(
            b'{"topic":"tickers.ABCUSDT","type":"delta","data":{},"cs":1,"ts":1}', id="ticker"
        ),
    ],
)
def test_only_books_have_a_place_in_a_sequence(frame):
    assert BYBIT.link(frame) is None


TRADES = (
    b'{"topic":"publicTrade.ABCUSDT","type":"snapshot","ts":1700000000004,"data":['
    b'{"T":1700000000001,"s":"ABCUSDT","S":"Sell","v":"0.5","p":"20.25","L":"MinusTick",'
    b'"i":"68bc1c35","BT":false,"RPI":false,"seq":9},'
    b'{"T":1700000000002,"s":"ABCUSDT","S":"Buy","v":"2","p":"20.50","L":"PlusTick",'
    b'"i":"ddea3520","BT":true,"RPI":true,"seq":9}]}'
)
SOLD = Trade("ABCUSDT", T1 * MS, T2 * MS, 20.25, 0.5, "sell", "68bc1c35")
BOUGHT = Trade("ABCUSDT", (T1 + 1) * MS, T2 * MS, 20.5, 2.0, "buy", "ddea3520")


@pytest.mark.parametrize(
    ("frame", "trades"),
    [
        pytest.param(TRADES, [SOLD, BOUGHT], id="one-order-fills-many-and-all-are-told"),
        pytest.param(
            TRADES.replace(b',"RPI":false,"seq":9', b"").replace(b',"RPI":true,"seq":9', b""),
            [SOLD, BOUGHT],
            id="2023-form-without-rpi-and-seq",
        ),
        pytest.param(
            b'{"topic":"publicTrade.ABCUSDT","type":"snapshot","ts":1,"data":[]}', [], id="none"
        ),
    ],
)
def test_trades(frame, trades):
    assert BYBIT.decode(frame) == trades


def ticker_frame(kind="delta", symbol="ABCUSDT", **fields):
    row = {"symbol": symbol, **fields}
    push = {"topic": f"tickers.{symbol}", "type": kind, "data": row, "cs": 5, "ts": T2}
    return msgspec.json.encode(push)


WHOLE = {
    "tickDirection": "ZeroPlusTick",
    "lastPrice": "20.50",
    "markPrice": "20.40",
    "indexPrice": "20.43",
    "openInterest": "3000.5",
    "openInterestValue": "61000.11",
    "fundingIntervalHour": "8",
    "singleOpenInterest": "1500.25",
    "nextFundingTime": "1700006400000",
    "fundingRate": "-0.00005013",
    "bid1Price": "20.25",
    "bid1Size": "1.5",
    "preOpenPrice": "",
}
NEXT_NS = 1_700_006_400_000 * MS


def mark(**said):
    return Mark("ABCUSDT", None, T2 * MS, **said)


def funding(**said):
    return Funding("ABCUSDT", None, T2 * MS, **said)


@pytest.mark.parametrize(
    ("fields", "events"),
    [
        pytest.param(
            WHOLE,
            [
                mark(mark_price=20.4, index_price=20.43, open_interest=1500.25),
                funding(rate=-0.00005013, interval_h=8.0, ts_funding=NEXT_NS),
            ],
            id="one-snapshot-feeds-two-channels",
        ),
        pytest.param({"indexPrice": "20.44"}, [mark(index_price=20.44)], id="a-delta-is-partial"),
        pytest.param({"fundingRate": "0.0001"}, [funding(rate=0.0001)], id="only-the-rate"),
        pytest.param({"fundingRate": "0"}, [funding(rate=0.0)], id="a-rate-of-zero-is-said"),
        pytest.param(
            {"nextFundingTime": "1700006400000"},
            [funding(ts_funding=NEXT_NS)],
            id="the-socket-says-when-it-will-be-paid",
        ),
        pytest.param({"bid1Price": "20.25", "ask1Size": "3"}, [], id="the-top-is-not-quotes"),
        pytest.param(
            {"openInterest": "3000.5"},
            [mark(open_interest=1500.25)],
            id="open-interest-counts-both-sides",
        ),
        pytest.param(
            {"openInterest": "7", "singleOpenInterest": "3"},
            [mark(open_interest=3.0)],
            id="one-side-as-the-venue-says-it-goes-first",
        ),
        pytest.param({"openInterest": "0"}, [mark(open_interest=0.0)], id="nothing-is-open"),
        pytest.param(
            {"markPrice": "20.4", "fundingRate": "", "nextFundingTime": "", "indexPrice": ""},
            [mark(mark_price=20.4)],
            id="an-empty-text-does-not-apply",
        ),
        pytest.param(
            {"openInterest": "", "singleOpenInterest": "", "fundingIntervalHour": "", "x": "1"},
            [],
            id="nothing-that-applies",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["snapshot", "delta"])
def test_tickers(kind, fields, events):
    assert BYBIT.decode(ticker_frame(kind, **fields)) == events


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_funding_intervals(hours):
    (heard,) = BYBIT.decode(ticker_frame(fundingIntervalHour=str(hours)))
    assert heard == funding(interval_h=hours)
    (found,) = listed(fundingInterval=60 * hours)
    assert found.funding_interval_h == hours


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ticker_frame(markPrice="0"), id="a-mark-price-of-zero"),
        pytest.param(ticker_frame(fundingRate="NaN"), id="a-rate-that-is-no-number"),
        pytest.param(ticker_frame(openInterest="-1"), id="less-than-nothing-open"),
        pytest.param(ticker_frame(kind="other"), id="neither-snapshot-nor-delta"),
        pytest.param(TRADES.replace(b'"Buy"', b'"None"'), id="a-side-of-no-name"),
        pytest.param(TRADES.replace(b'"20.25"', b'"0"'), id="a-trade-for-nothing"),
        pytest.param(TRADES[:-9], id="trades-cut-off"),
        pytest.param(book_frame(kind="other"), id="a-book-that-is-neither"),
        pytest.param(book_frame(bids=b'["20.25","-1"]'), id="less-than-nothing-bid"),
        pytest.param(book_frame(bids=b'["20.25"]'), id="a-level-without-a-size"),
    ],
)
def test_what_no_frame_shows_is_refused(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        BYBIT.decode(frame)


def answer(*, success, message="", req_id="", op="subscribe"):
    return msgspec.json.encode(
        {"success": success, "ret_msg": message, "conn_id": "c", "req_id": req_id, "op": op}
    )


KEY = "orderbook.1.ABCUSDT"
MISSING = f"error:handler not found,topic:{KEY}"


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        pytest.param(answer(success=True, req_id=KEY), Accepted((KEY,)), id="only-req-id-names"),
        pytest.param(answer(success=True), Accepted(()), id="an-ack-without-req-id"),
        (answer(success=False, message=MISSING, req_id=KEY), Rejected((KEY,), MISSING)),
        pytest.param(
            answer(success=False, message=MISSING),
            Rejected((KEY,), MISSING),
            id="the-text-names-the-topic",
        ),
        pytest.param(
            answer(success=False, message=f"error:already subscribed,topic:{KEY}", req_id=KEY),
            Accepted((KEY,)),
            id="already-subscribed-keeps-delivering",
        ),
        pytest.param(
            answer(success=False, message="error:invalid op", op="shout"),
            Complaint("error:invalid op"),
            id="an-error-of-no-topic",
        ),
        pytest.param(
            answer(success=True, message="pong", op="ping"), Alive(), id="the-op-of-a-pong-is-ping"
        ),
        (b'{"op":"pong","success":true}', Alive()),
        (answer(success=True, req_id="3", op="unsubscribe"), None),
    ],
)
def test_control(frame, control):
    assert BYBIT.control(frame) == control
    assert not BYBIT.is_data(frame)


def test_each_topic_goes_alone_under_its_own_id():
    topics = [BYBIT.topic("quotes", "orderbook.1", symbol) for symbol in ("AUSDT", "BPERP")]
    assert BYBIT.subscribe(topics, 0) == [
        b'{"op":"subscribe","req_id":"orderbook.1.AUSDT","args":["orderbook.1.AUSDT"]}',
        b'{"op":"subscribe","req_id":"orderbook.1.BPERP","args":["orderbook.1.BPERP"]}',
    ]


def test_marks_and_funding_are_one_topic_and_asked_for_once():
    topics = [BYBIT.topic(channel, "tickers", "ABCUSDT") for channel in ("marks", "funding")]
    assert {topic.key for topic in topics} == {"tickers.ABCUSDT"}
    said = b'{"op":"%b","req_id":"tickers.ABCUSDT","args":["tickers.ABCUSDT"]}'
    assert BYBIT.subscribe(topics, 0) == [said % b"subscribe"]
    assert BYBIT.unsubscribe(topics, 0) == [said % b"unsubscribe"]


def test_an_error_in_answer_to_an_unsubscribe_refuses_nothing():
    said = answer(success=False, message=f"error:x,topic:{KEY}", req_id=KEY, op="unsubscribe")
    assert BYBIT.control(said) == Complaint(f"error:x,topic:{KEY}")


def test_what_is_promised_of_time():
    assert BYBIT.cadence == {"orderbook.1": 3 * NS}
    assert BYBIT.slow == {"publicTrade": 600 * NS}


def page(*rows, cursor="", code=0, message="OK"):
    result = {"category": "linear", "list": rows, "nextPageCursor": cursor}
    body = {"retCode": code, "retMsg": message, "result": result, "time": 1}
    return msgspec.json.encode(body)


ROW = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "fundingInterval": 240,
    "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.002"},
}


def listed(**changes):
    return BYBIT.read_instruments(page(ROW | changes), 9).instruments


def test_funding_interval_comes_in_minutes():
    (found,) = listed()
    assert (found.name, found.tick_size, found.lot_size) == ("BTC-USDT-PERP", 0.1, 0.001)
    assert (found.funding_interval_h, found.status) == (4.0, "trading")
    assert (found.taker_fee, found.maker_fee) == (0.00055, 0.0002)


@pytest.mark.parametrize(
    ("symbol", "base", "name", "unit"),
    [
        ("1000PEPEUSDT", "1000PEPE", "PEPE-USDT-PERP", 1e3),
        ("SHIB1000USDT", "SHIB1000", "SHIB-USDT-PERP", 1e3),
        ("10000NFTUSDT", "10000NFT", "NFT-USDT-PERP", 1e4),
        ("1000000BABYDOGEUSDT", "1000000BABYDOGE", "BABYDOGE-USDT-PERP", 1e6),
        ("1INCHUSDT", "1INCH", "1INCH-USDT-PERP", 1.0),
        ("1000XUSDT", "1000X", "1000X-USDT-PERP", 1.0),
    ],
)
def test_bundles_in_names(symbol, base, name, unit):
    (found,) = listed(symbol=symbol, baseCoin=base)
    assert (found.name, found.contract_size, found.price_unit) == (name, unit, unit)
    assert found.tick_size == pytest.approx(0.1 / unit, rel=1e-15)
    assert found.lot_size == pytest.approx(0.001 * unit, rel=1e-15)
    assert BYBIT.instrument_name(symbol) == name


def test_usdc_perpetual_has_another_spelling():
    (found,) = listed(symbol="BTCPERP", quoteCoin="USDC", settleCoin="USDC")
    assert found.name == "BTC-USDC-PERP" == BYBIT.instrument_name("BTCPERP")


def test_dated_futures_are_left_out():
    assert listed(symbol="BTCUSDT-21FEB25", contractType="LinearFutures") == []
    assert BYBIT.instrument_name("BTCUSDT-21FEB25") is None
    assert BYBIT.instrument_name("BTC-26DEC25") is None


def test_prelaunch_is_told_in_the_venues_word():
    (found,) = listed(status="PreLaunch", fundingInterval=0)
    assert (found.status, found.funding_interval_h) == ("PreLaunch", None)


@pytest.mark.parametrize(
    ("cursor", "path"),
    [
        ("", None),
        ("first%3DA%26last%3DB", f"{BYBIT.instruments_path}&cursor=first%3DA%26last%3DB"),
        ("a b&category=spot", f"{BYBIT.instruments_path}&cursor=a%20b%26category%3Dspot"),
    ],
)
def test_next_page(cursor, path):
    assert BYBIT.read_instruments(page(ROW, cursor=cursor), 0).next_path == path


def test_an_error_body_speaks():
    body = page(code=10001, message="params error: symbol invalid")
    for read in (lambda: BYBIT.read_instruments(body, 0), lambda: BYBIT.read_time(body)):
        with pytest.raises(ValueError, match="10001 params error: symbol invalid"):
            read()


def test_time_comes_in_nanoseconds():
    body = (
        b'{"retCode":0,"retMsg":"OK","result":'
        b'{"timeSecond":"1700000000","timeNano":"1700000000000000123"},"time":1}'
    )
    assert BYBIT.read_time(body) == 1_700_000_000_000_000_123


def history(*rows, code=0):
    result = {"category": "linear", "list": rows}
    return msgspec.json.encode({"retCode": code, "retMsg": "no", "result": result, "time": T2})


def paid(rate, ms):
    return {"symbol": "ABCUSDT", "fundingRate": rate, "fundingRateTimestamp": str(ms)}


def test_rest_says_when_it_was_paid_the_oldest_first():
    body = history(paid("-0.002", T1 + 3_600_000), paid("0.0001", T1))
    heard = BYBIT.read_rest("funding_history", "ABCUSDT", body)
    assert heard == [
        funding(rate=0.0001, ts_funding=T1 * MS, is_settled=True),
        funding(rate=-0.002, ts_funding=(T1 + 3_600_000) * MS, is_settled=True),
    ]


def test_rest_refuses_an_error_and_what_it_was_not_asked_for():
    with pytest.raises(ValueError, match="10006 no"):
        BYBIT.read_rest("funding_history", "ABCUSDT", history(code=10006))
    with pytest.raises(ValueError, match="not asked for 'book'"):
        BYBIT.read_rest("book", "ABCUSDT", history())
    assert {poll.what for poll in BYBIT.polls} == {"funding_history"}
