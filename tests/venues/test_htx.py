"""HTX's dialect, frame by frame (inflated); our own values in the shapes that the venue sends."""

import msgspec
import pytest

from perptape.events import MS, Quote
from perptape.venues.htx import HTX
from perptape.venues.venue import Accepted, Alive, Complaint, Rejected

T1, T2 = 1_700_000_000_001, 1_700_000_000_004
BBO = (
    b'{"ch":"market.ABC-USDT.bbo","ts":1700000000004,"tick":{"mrid":77,"id":1700000000,'
    b'"bid":[20.25,15],"ask":[20.5,3],"ts":1700000000001,"version":77,'
    b'"ch":"market.ABC-USDT.bbo"}}'
)
STEP0 = (
    b'{"ch":"market.ABC-USDT.depth.step0","ts":1700000000004,"tick":{"mrid":77,"id":1700000000,'
    b'"bids":[[20.25,15],[20,1]],"asks":[[20.5,3],[21,1]],"ts":1700000000001,'
    b'"version":1700000000,"ch":"market.ABC-USDT.depth.step0"}}'
)
QUOTE = Quote("ABC-USDT", T1 * MS, T2 * MS, 20.25, 15.0, 20.5, 3.0, 77)
NO_BID = Quote("ABC-USDT", T1 * MS, T2 * MS, None, None, 20.5, 3.0, 77)
NO_ASK = Quote("ABC-USDT", T1 * MS, T2 * MS, 20.25, 15.0, None, None, 77)


@pytest.mark.parametrize(
    ("frame", "quotes"),
    [
        pytest.param(BBO, [QUOTE], id="bbo-has-numbers-and-the-match-id"),
        pytest.param(BBO.replace(b"[20.25,15]", b"null"), [NO_BID], id="bbo-null-bid"),
        pytest.param(BBO.replace(b"[20.5,3]", b"null"), [NO_ASK], id="bbo-null-ask"),
        pytest.param(STEP0, [QUOTE], id="step0-takes-the-first-level-and-mrid-not-version"),
        pytest.param(STEP0.replace(b"[[20.25,15],[20,1]]", b"[]"), [NO_BID], id="step0-empty-bids"),
        pytest.param(
            STEP0.replace(b"[[20.5,3],[21,1]]", b"null"), [NO_ASK], id="step0-asks-may-be-null"
        ),
        pytest.param(
            STEP0.replace(b"[[20.5,3],[21,1]]", b"[[2.05e1,3]]"), [QUOTE], id="step0-one-level"
        ),
        pytest.param(
            STEP0.replace(b"[20.25,15],", b" [ 20.25 , 15 ] ,"), [QUOTE], id="step0-with-spaces"
        ),
        pytest.param(STEP0.replace(b"step0", b"step6"), [], id="step6-is-not-step0"),
        pytest.param(
            b'{"ch":"market.ABC-USDT.depth.size_20.high_freq","ts":1,"tick":{"asks":[],"bids":[],'
            b'"event":"update","id":1,"mrid":1,"ts":1,"version":1}}',
            [],
            id="another-channel",
        ),
        pytest.param(
            b'{"id":"market.ABC-USDT.bbo","status":"ok","subbed":"market.ABC-USDT.bbo","ts":1}',
            [],
            id="an-ack-is-no-quote",
        ),
        pytest.param(b'{"ping":1700000000001}', [], id="a-ping-is-no-quote"),
    ],
)
def test_decode(frame, quotes):
    assert HTX.decode(frame) == quotes
    if quotes:
        assert HTX.decode(frame.replace(b'":', b'" : ')) == quotes


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(BBO.replace(b"20.25", b"0"), id="a-price-of-zero"),
        pytest.param(BBO.replace(b"20.25", b"NaN"), id="a-price-that-is-nan"),
        pytest.param(BBO.replace(b"20.25", b"1e999"), id="a-price-beyond-floats"),
        pytest.param(BBO.replace(b"20.25", b'"20.25"'), id="a-price-as-string-was-never-seen"),
        pytest.param(BBO.replace(b'"bid":[20.25,15],', b""), id="a-side-left-out-was-never-seen"),
        pytest.param(BBO.replace(b"[20.25,15]", b"[]"), id="an-empty-pair-was-never-seen"),
        pytest.param(STEP0.replace(b"20.25", b"-1"), id="step0-a-negative-price"),
        pytest.param(STEP0.replace(b"[[20.25,15],[20,1]]", b"[[[20.25,15]]]"), id="step0-nested"),
        pytest.param(STEP0.replace(b"[[20.25,15],[20,1]]", b'{"a":[20.25,15]}'), id="step0-object"),
        pytest.param(STEP0.replace(b"[[20.25,15],[20,1]]", b"5"), id="step0-number"),
        pytest.param(STEP0[:-2], id="cut-off"),
        pytest.param(b"\x1f\x8b\x08", id="not-inflated"),
    ],
)
def test_decode_refuses(frame):
    with pytest.raises((msgspec.MsgspecError, ValueError, RecursionError)):
        HTX.decode(frame)


KEY = "market.ABC-USDT.bbo"


@pytest.mark.parametrize(
    ("frame", "control"),
    [
        (b'{"ping":1700000000001}', Alive(b'{"pong":1700000000001}')),
        pytest.param(
            b'{"ping":9007199254740993}',
            Alive(b'{"pong":9007199254740993}'),
            id="the-echo-is-verbatim-past-2-to-the-53",
        ),
        pytest.param(b'{"ping":"%b"}' % (b"9" * 99), None, id="an-echo-has-a-bound"),
        (
            b'{"id":"%b","status":"ok","subbed":"%b","ts":1}' % (KEY.encode(), KEY.encode()),
            Accepted((KEY,)),
        ),
        pytest.param(
            b'{"id":"1","subbed":"%b","ts":1,"status":"ok"}' % KEY.encode(),
            Accepted((KEY,)),
            id="the-ack-in-its-2022-order",
        ),
        (
            b'{"status":"error","ts":1,"id":"%b","err-code":"bad-request",'
            b'"err-msg":"invalid topic %b"}' % (KEY.encode(), KEY.encode()),
            Rejected((KEY,), f"invalid topic {KEY}"),
        ),
        pytest.param(
            b'{"status":"error","ts":1,"id":"","err-code":"bad-request","err-msg":"not json"}',
            Complaint("not json"),
            id="an-error-of-no-topic",
        ),
        (b'{"id":"2","status":"ok","unsubbed":"%b","ts":1}' % KEY.encode(), None),
    ],
)
def test_control(frame, control):
    assert HTX.control(frame) == control
    assert not HTX.is_data(frame)


def test_one_topic_a_frame_named_by_itself():
    topics = [HTX.topic("quotes", stream, "ABC-USDT") for stream in HTX.streams["quotes"]]
    assert HTX.subscribe(topics, 0) == [
        b'{"sub":"market.ABC-USDT.bbo","id":"market.ABC-USDT.bbo"}',
        b'{"sub":"market.ABC-USDT.depth.step0","id":"market.ABC-USDT.depth.step0"}',
    ]


def test_the_server_pings_and_the_client_does_not():
    assert HTX.heartbeat.ping is None
    assert HTX.inflates


ROW = {
    "symbol": "BTC",
    "contract_code": "BTC-USDT",
    "contract_size": 0.001,
    "price_tick": 0.1,
    "contract_status": 1,
    "settlement_period": "4",
    "business_type": "swap",
    "trade_partition": "USDT",
}


def listed(**changes):
    body = msgspec.json.encode({"status": "ok", "data": [ROW | changes], "ts": 1})
    return HTX.read_instruments(body, 9).instruments


def test_contract_is_a_thousandth_of_a_bitcoin():
    (found,) = listed()
    assert (found.name, found.contract_size, found.lot_size) == ("BTC-USDT-PERP", 0.001, 0.001)
    assert (found.tick_size, found.funding_interval_h, found.status) == (0.1, 4.0, "trading")


def test_a_million_pepe_a_contract_at_the_price_of_one():
    (found,) = listed(contract_code="PEPE-USDT", contract_size=1_000_000, price_tick=1e-10)
    assert (found.contract_size, found.price_unit, found.tick_size) == (1e6, 1.0, 1e-10)


def test_2022_rows_have_no_settlement_period():
    row = {k: v for k, v in ROW.items() if k != "settlement_period"}
    body = msgspec.json.encode({"status": "ok", "data": [row], "ts": 1})
    assert HTX.read_instruments(body, 0).instruments[0].funding_interval_h is None


@pytest.mark.parametrize(("code", "word"), [(3, "suspended"), (5, "in settlement"), (9, "9")])
def test_status(code, word):
    assert listed(contract_status=code)[0].status == word


@pytest.mark.parametrize(
    "changes",
    [{"business_type": "futures"}, {"contract_code": "BTC-USDT-260918"}, {"contract_code": "牛来"}],
)
def test_what_is_not_listed(changes):
    assert listed(**changes) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"status":"error","err_code":1014,"err_msg":"no such contract","ts":1}', "no such"),
        (b'{"status":"error","err-code":"bad","err-msg":"invalid size"}', "error invalid size"),
        (b'{"status":"maintain"}', "maintain"),
        (b'{"timestamp":"2026","status":404,"error":"Not Found","path":"/x"}', "404 Not Found"),
    ],
)
def test_errors_come_in_two_spellings(body, words):
    for read in (lambda: HTX.read_instruments(body, 0), lambda: HTX.read_time(body)):
        with pytest.raises(ValueError, match=words):
            read()


def test_time():
    assert HTX.read_time(b'{"status":"ok","ts":1700000000001}') == T1 * MS


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC-USDT", "BTC-USDT-PERP"),
        ("BTC-USD", None),
        ("BTC-USDT-260918", None),
        ("TRX211224", None),
        ("牛来-USDT", None),
    ],
)
def test_name_without_a_list(symbol, name):
    assert HTX.instrument_name(symbol) == name
