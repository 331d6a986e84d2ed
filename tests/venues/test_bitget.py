"""Bitget's dialect, frame by frame; our own values in the shapes that the venue sends."""

import msgspec
import pytest

from perptape.events import MS, Quote
from perptape.venues.bitget import ARGS, ARGS_BYTES, BITGET, FAMILY
from perptape.venues.venue import Accepted, Alive, Complaint, Rejected

ARG = b'{"instType":"USDT-FUTURES","channel":"books1","instId":"ABCUSDT"}'
T1, T2 = 1_700_000_000_001, 1_700_000_000_004


def push(data, arg=ARG, action=b"snapshot"):
    return b'{"action":"%b","arg":%b,"data":[%b],"ts":1700000000004}' % (action, arg, data)


FULL = b'{"asks":[["20.5","3"]],"bids":[["20.25","1.5"]],"ts":"1700000000001","seq":77,"pseq":0}'
QUOTE = Quote("ABCUSDT", T1 * MS, T2 * MS, 20.25, 1.5, 20.5, 3.0, 77)


@pytest.mark.parametrize(
    ("frame", "quotes"),
    [
        pytest.param(push(FULL), [QUOTE], id="prices-and-inner-time-are-strings"),
        pytest.param(
            push(b'{"asks":[["2","3"]],"bids":[],"checksum":0,"ts":"1700000000001"}'),
            [Quote("ABCUSDT", T1 * MS, T2 * MS, None, None, 2.0, 3.0, None)],
            id="2024-form-without-seq-and-an-empty-bid",
        ),
        pytest.param(
            push(FULL, ARG.replace(b"USDT-FUTURES", b"mc")),
            [QUOTE],
            id="the-family-may-be-echoed-as-mc",
        ),
        pytest.param(
            b'{"data":[%b],"arg":%b,"action":"snapshot","ts":1700000000004}' % (FULL, ARG),
            [QUOTE],
            id="keys-in-another-order",
        ),
        pytest.param(
            push(FULL).replace(b'":', b'": '), [QUOTE], id="spaces-after-colons-lose-nothing"
        ),
        pytest.param(
            push(FULL, ARG.replace(b"books1", b"books15")), [], id="books15-is-not-books1"
        ),
        pytest.param(push(FULL, ARG.replace(b"books1", b"trade")), [], id="another-channel"),
        pytest.param(
            b'{"action":"update","arg":{"instType":"usdt-futures","topic":"books1","symbol":"A"},'
            b'"data":[{"a":[],"b":[],"ts":"1"}],"ts":2}',
            [],
            id="v3-names-its-topics-otherwise",
        ),
        pytest.param(b'{"event":"subscribe","arg":%b}' % ARG, [], id="an-ack-is-no-quote"),
        pytest.param(b"pong", [], id="pong-is-not-json"),
    ],
)
def test_decode(frame, quotes):
    assert BITGET.decode(frame) == quotes


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(push(FULL, action=b"update"), id="books1-never-sends-updates"),
        pytest.param(push(FULL + b"," + FULL), id="books1-has-one-element"),
        pytest.param(push(FULL.replace(b"20.25", b"0")), id="a-price-of-zero"),
        pytest.param(push(FULL.replace(b"20.25", b"-1")), id="a-negative-price"),
        pytest.param(push(FULL.replace(b"20.25", b"nan")), id="a-price-that-is-nan"),
        pytest.param(push(FULL.replace(b"20.25", b"1e400")), id="a-price-beyond-floats"),
        pytest.param(push(FULL.replace(b"1.5", b"-1")), id="a-negative-size"),
        pytest.param(push(FULL.replace(b"1700000000001", b"9223372036855")), id="a-time-past-2262"),
        pytest.param(push(FULL.replace(b'["20.25","1.5"]', b'["20.25"]')), id="half-a-level"),
        pytest.param(push(FULL)[:-9], id="cut-off"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_decode_refuses(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError, RecursionError)):
        BITGET.decode(frame)


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b"pong", Alive()),
        pytest.param(b"ping", Alive(b"pong"), id="a-server-ping-would-be-answered"),
        (b'{"event":"subscribe","arg":%b}' % ARG, Accepted(("books1.ABCUSDT",))),
        pytest.param(
            b'{"event":"error","arg":%b,"code":30001,"msg":"ABC doesn\'t exist","op":"subscribe"}'
            % ARG,
            Rejected(("books1.ABCUSDT",), "ABC doesn't exist"),
            id="the-code-is-a-number",
        ),
        pytest.param(
            b'{"event":"error","code":30006,"msg":"request too many"}',
            Complaint("30006 request too many"),
            id="an-error-without-arg-belongs-to-no-topic",
        ),
        (b'{"event":"unsubscribe","arg":%b}' % ARG, None),
    ],
)
def test_control(frame, control):
    assert BITGET.control(frame) == control
    assert not BITGET.is_data(frame)


def test_subscribe_keeps_within_bytes_and_count():
    topics = [BITGET.topic("quotes", "books1", f"{'X' * 60}{n}USDT") for n in range(120)]
    frames = BITGET.subscribe(topics, 0)
    sent = [msgspec.json.decode(frame)["args"] for frame in frames]
    assert [arg["instId"] for args in sent for arg in args] == [topic.symbol for topic in topics]
    assert all(len(msgspec.json.encode(args)) <= ARGS_BYTES and len(args) <= ARGS for args in sent)
    assert {arg["instType"] for args in sent for arg in args} == {FAMILY}
    few = [BITGET.topic("quotes", "books1", f"X{n}USDT") for n in range(ARGS)]
    assert len(BITGET.subscribe(few, 0)) == 1


def test_nothing_to_subscribe_sends_nothing():
    assert BITGET.subscribe([], 0) == []


def test_ping_is_bare_text():
    assert BITGET.heartbeat.ping(5) == b"ping"


def contracts(**changes):
    row = {
        "symbol": "BTCUSDT",
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "priceEndStep": "5",
        "pricePlace": "2",
        "sizeMultiplier": "0.0001",
        "symbolType": "perpetual",
        "symbolStatus": "normal",
        "fundInterval": "4",
    } | changes
    body = {"code": "00000", "msg": "success", "requestTime": 1, "data": [row]}
    return BITGET.read_instruments(msgspec.json.encode(body), 9).instruments


def test_tick_is_the_end_step_at_its_place():
    (found,) = contracts()
    assert (found.name, found.tick_size, found.lot_size) == ("BTC-USDT-PERP", 0.05, 0.0001)
    assert (found.funding_interval_h, found.status, found.ts_seen) == (4.0, "trading", 9)
    assert (found.contract_size, found.price_unit, found.kind) == (1.0, 1.0, "linear")


def test_1000bonk_counts_single_coins():
    (found,) = contracts(symbol="1000BONKUSDT", baseCoin="1000BONK", sizeMultiplier="10")
    assert (found.name, found.contract_size, found.price_unit) == ("BONK-USDT-PERP", 1000, 1000)
    assert (found.tick_size, found.lot_size) == (0.00005, 10_000)


@pytest.mark.parametrize(
    "changes",
    [{"symbolType": "delivery"}, {"quoteCoin": "USD"}, {"baseCoin": "牛来"}, {"baseCoin": "a/b"}],
)
def test_what_is_not_listed(changes):
    assert contracts(**changes) == []


def test_status_is_the_venues_word_unless_it_trades():
    (found,) = contracts(symbolStatus="maintain", fundInterval="")
    assert (found.status, found.funding_interval_h) == ("maintain", None)


def test_an_error_body_speaks():
    body = b'{"code":"40034","msg":"Parameter X does not exist","requestTime":1,"data":null}'
    for read in (lambda: BITGET.read_instruments(body, 0), lambda: BITGET.read_time(body)):
        with pytest.raises(ValueError, match="40034 Parameter X does not exist"):
            read()


def test_time():
    body = b'{"code":"00000","msg":"success","requestTime":1,"data":{"serverTime":"1700000000001"}}'
    assert BITGET.read_time(body) == T1 * MS


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTCUSDT", "BTC-USDT-PERP"),
        ("BTCPERP", "BTC-USDC-PERP"),
        ("1000BONKUSDT", "BONK-USDT-PERP"),
        ("BTCUSD", None),
        ("BTCUSDZ25", None),
        ("牛来USDT", None),
        ("USDT", None),
    ],
)
def test_name_without_a_list(symbol, name):
    assert BITGET.instrument_name(symbol) == name
