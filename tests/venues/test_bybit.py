"""Bybit's dialect, frame by frame; our own values in the shapes that the venue sends."""

import msgspec
import pytest

from perptape.events import MS, Quote
from perptape.venues.bybit import BYBIT
from perptape.venues.venue import Accepted, Alive, Complaint, Rejected

BOOK = b'{"s":"ABCUSDT","b":[["20.25","1.5"]],"a":[["20.5","3"]],"u":7,"seq":70}'
FULL = (
    b'{"topic":"orderbook.1.ABCUSDT","ts":1700000000004,"type":"snapshot","data":%b'
    b',"cts":1700000000001}' % BOOK
)
T1, T2 = 1_700_000_000_001, 1_700_000_000_004
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
        pytest.param(FULL.replace(b"book.1.", b"book.1000."), [], id="orderbook-1000-is-not-1"),
        pytest.param(
            b'{"topic":"publicTrade.ABCUSDT","type":"snapshot","ts":1,"data":[{"T":1}]}',
            [],
            id="another-channel-has-an-array",
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
