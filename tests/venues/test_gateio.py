"""Gate.io's dialect, frame by frame; our own values in the shapes that the venue sends."""

import msgspec
import pytest

from perptape.events import MS, NS, Quote
from perptape.venues.gateio import GATEIO
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Rejected

TOP = b'{"t":1700000000001,"u":77,"s":"ABC_USDT","b":"20.25","B":"1.5","a":"20.5","A":"3"}'
HEAD = b'{"time":1700000000,"time_ms":1700000000004,"channel":"futures.book_ticker","event":'
FULL = HEAD + b'"update","result":%b}' % TOP
T1, T2 = 1_700_000_000_001, 1_700_000_000_004
QUOTE = Quote("ABC_USDT", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)


@pytest.mark.parametrize(
    ("frame", "quotes"),
    [
        pytest.param(FULL, [QUOTE], id="decimal-sizes-are-strings"),
        pytest.param(
            FULL.replace(b'"1.5"', b"1").replace(b'"3"', b"3"),
            [Quote("ABC_USDT", T1 * MS, T2 * MS, 20.25, 1.0, 20.5, 3.0, 77)],
            id="sizes-without-the-header-are-integers",
        ),
        pytest.param(
            FULL.replace(b'"20.25"', b'""').replace(b'"1.5"', b"0"),
            [Quote("ABC_USDT", T1 * MS, T2 * MS, None, None, 20.5, 3.0, 77)],
            id="an-empty-side-has-the-price-empty-string",
        ),
        pytest.param(
            HEAD + b'"update","result":{"t":0,"u":0,"s":"ABC_USDT","b":"","B":0,"a":"","A":0}}',
            [],
            id="placeholder-of-a-contract-without-a-book",
        ),
        pytest.param(
            b'{"id":null,"time":1700000000,"channel":"futures.book_ticker","event":"update",'
            b'"error":null,"result":%b}' % TOP,
            [Quote("ABC_USDT", T1 * MS, None, 20.25, 1.5, 20.5, 3.0, 77)],
            id="2022-form-does-not-say-when-it-was-sent",
        ),
        pytest.param(
            FULL.replace(b'"b":"20.25"', b'"b":"2.025e1"'), [QUOTE], id="an-exponent-is-a-number"
        ),
        pytest.param(FULL.replace(b'":', b'": '), [QUOTE], id="spaces-after-colons-lose-nothing"),
        pytest.param(
            FULL.replace(b"book_ticker", b"book_ticker_v2"), [], id="a-channel-with-a-longer-name"
        ),
        pytest.param(
            FULL.replace(b"book_ticker", b"trades").replace(TOP, b"[]"), [], id="another-channel"
        ),
        pytest.param(
            HEAD + b'"subscribe","payload":["ABC_USDT"],"result":{"status":"success"}}',
            [],
            id="an-ack-is-no-quote",
        ),
    ],
)
def test_decode(frame, quotes):
    assert GATEIO.decode(frame) == quotes


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(FULL.replace(b"20.25", b"0"), id="a-price-of-zero"),
        pytest.param(FULL.replace(b"20.25", b"nan"), id="a-price-that-is-nan"),
        pytest.param(FULL.replace(b'"20.25"', b"null"), id="a-price-that-is-null"),
        pytest.param(FULL.replace(b'"3"', b'"-3"'), id="a-signed-size"),
        pytest.param(FULL.replace(TOP, b"[%b]" % TOP), id="an-array-is-another-channels-form"),
        pytest.param(FULL[:-2], id="cut-off"),
        pytest.param(b"null", id="null"),
    ],
)
def test_decode_refuses(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError, RecursionError)):
        GATEIO.decode(frame)


KEY = "futures.book_ticker.NO_USDT"


def error(message, *, code=2, payload=b',"payload":["NO_USDT"]', event=b"subscribe"):
    return HEAD + b'"%b"%b,"error":{"code":%d,"message":"%b"},"result":{"status":"fail"}}' % (
        event,
        payload,
        code,
        message,
    )


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        pytest.param(
            HEAD + b'"subscribe","payload":["ABC_USDT"],"result":{"status":"success"}}',
            Accepted(("futures.book_ticker.ABC_USDT",)),
            id="the-echoed-payload-names-the-topic",
        ),
        pytest.param(
            b'{"id":null,"time":1,"time_ms":0,"channel":"futures.book_ticker","event":"subscribe",'
            b'"error":null,"result":{"status":"success"}}',
            Accepted(()),
            id="an-old-ack-names-nothing",
        ),
        pytest.param(
            error(b"unknown currency pair: NO_USDT"),
            Rejected((KEY,), "unknown currency pair: NO_USDT"),
            id="refused-with-payload",
        ),
        pytest.param(
            error(b"unknown currency pair: NO_USDT", payload=b""),
            Rejected((KEY,), "unknown currency pair: NO_USDT"),
            id="named-in-the-text-with-colon",
        ),
        pytest.param(
            error(b"unknown currency pair NO_USDT", payload=b""),
            Rejected((KEY,), "unknown currency pair NO_USDT"),
            id="named-in-the-text-without-colon",
        ),
        pytest.param(
            error(b"request message need json scheme", code=1, payload=b"", event=b""),
            Complaint("request message need json scheme"),
            id="an-error-of-no-topic",
        ),
        (
            (
                b'{"time":1,"time_ms":1,"conn_id":"c","channel":"futures.pong","event":"",'
                b'"result":null}'
            ),
            Alive(),
        ),
        pytest.param(
            b'{"time":1,"time_ms":1,"channel":"futures.system","event":"update",'
            b'"result":{"type":"upgrade","msg":"closing soon"}}',
            Leaving("closing soon"),
            id="the-farewell-has-the-event-of-data",
        ),
        (HEAD + b'"unsubscribe","payload":["A_USDT"],"result":{"status":"success"}}', None),
    ],
)
def test_control(frame, control):
    assert GATEIO.control(frame) == control
    assert not GATEIO.is_data(frame)


def test_each_contract_goes_alone_because_a_frame_is_atomic():
    topics = [GATEIO.topic("quotes", "futures.book_ticker", s) for s in ("A_USDT", "B_USDT")]
    assert GATEIO.subscribe(topics, 1_700_000_000 * NS + 5) == [
        (
            b'{"time":1700000000,"id":1,"channel":"futures.book_ticker","event":"subscribe",'
            b'"payload":["A_USDT"]}'
        ),
        (
            b'{"time":1700000000,"id":2,"channel":"futures.book_ticker","event":"subscribe",'
            b'"payload":["B_USDT"]}'
        ),
    ]


def test_ping_carries_seconds():
    assert GATEIO.heartbeat.ping(12 * NS) == b'{"time":12,"channel":"futures.ping"}'


def test_the_header_that_keeps_fractions():
    assert GATEIO.headers == {"X-Gate-Size-Decimal": "1"}


ROW = {
    "name": "BTC_USDT",
    "type": "direct",
    "quanto_multiplier": "0.0001",
    "order_price_round": "0.1",
    "order_size_min": 1,
    "enable_decimal": False,
    "status": "trading",
    "in_delisting": False,
    "funding_interval": 14400,
    "maker_fee_rate": "-0.0001",
    "taker_fee_rate": "0.00075",
}


def listed(**changes):
    body = msgspec.json.encode([ROW | changes])
    return GATEIO.read_instruments(body, 9).instruments


def test_contracts_are_a_ten_thousandth_and_the_lists_fees_are_not_paid():
    (found,) = listed()
    assert (found.name, found.contract_size, found.lot_size) == ("BTC-USDT-PERP", 0.0001, 0.0001)
    assert (found.tick_size, found.funding_interval_h, found.status) == (0.1, 4.0, "trading")
    assert (found.taker_fee, found.maker_fee) == (0.0005, 0.0002)


def test_pepe_is_ten_million_coins_a_contract_at_the_price_of_one():
    (found,) = listed(
        name="PEPE_USDT", quanto_multiplier="10000000", enable_decimal=True, order_size_min="0.1"
    )
    assert (found.contract_size, found.price_unit, found.lot_size) == (1e7, 1.0, 1e6)


def test_a_decimal_contract_read_without_the_header_has_no_lot():
    (found,) = listed(enable_decimal=True, order_size_min=0)
    assert found.lot_size is None


def test_names_hold_no_factor_here():
    (found,) = listed(name="1000CAT_USDT")
    assert (found.name, found.price_unit) == ("1000CAT-USDT-PERP", 1.0)


def test_2023_rows_have_no_status():
    old = {k: v for k, v in ROW.items() if k not in {"status", "enable_decimal"}}
    body = msgspec.json.encode([old, old | {"in_delisting": True}])
    found = GATEIO.read_instruments(body, 0).instruments
    assert [one.status for one in found] == ["trading", "delisting"]


@pytest.mark.parametrize(
    "changes", [{"quanto_multiplier": "0"}, {"name": "牛来_USDT"}, {"type": "inverse"}]
)
def test_what_is_not_listed(changes):
    assert listed(**changes) == []


def test_an_error_body_speaks():
    with pytest.raises(ValueError, match="TOO_BIG limit 300"):
        GATEIO.read_instruments(b'{"label":"TOO_BIG","message":"limit 300"}', 0)
    with pytest.raises(ValueError, match="CONTRACT_NOT_FOUND"):
        GATEIO.read_instruments(b'{"label":"CONTRACT_NOT_FOUND"}', 0)


def test_time():
    assert GATEIO.read_time(b'{"server_time":1700000000001}') == T1 * MS


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC_USDT", "BTC-USDT-PERP"),
        ("BTC_USD", "BTC-USD-PERP"),
        ("BTC_USDT_20240628", None),
        ("牛来_USDT", None),
        ("BTCUSDT", None),
    ],
)
def test_name_without_a_list(symbol, name):
    assert GATEIO.instrument_name(symbol) == name
