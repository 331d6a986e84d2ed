"""HTX's dialect, frame by frame (inflated); our own values in the shapes that the venue sends."""

import base64
import gzip
import json
import tomllib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.events import MS, NS, Book, Funding, Mark, Quote, Trade
from perptape.venues import htx
from perptape.venues.htx import HTX
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Link, Rejected

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
BIDS, ASKS = [(20.25, 15.0), (20.0, 1.0)], [(20.5, 3.0), (21.0, 1.0)]


def whole(bids=BIDS, asks=ASKS):
    """The book of step0: no id, for it has no sequence."""
    return Book("ABC-USDT", T1 * MS, T2 * MS, bids, asks, is_snapshot=True)


def high_freq(event, version, asks="[[20.5,3]]", bids="[[20.25,0]]", size=150):
    ch = f"market.ABC-USDT.depth.size_{size}.high_freq"
    return (
        f'{{"ch":"{ch}","ts":1700000000004,"tick":{{"asks":{asks},"bids":{bids},"ch":"{ch}",'
        f'"event":"{event}","id":77,"mrid":77,"ts":1700000000001,"version":{version}}}}}'
    ).encode()


def change(follows, update_id, asks=((20.5, 3.0),), bids=((20.25, 0.0),)):
    sides = {"bids": list(bids), "asks": list(asks)}
    return Book(
        "ABC-USDT", T1 * MS, T2 * MS, **sides,
        is_snapshot=follows is None, update_id=update_id, follows=follows,
    )  # fmt: skip


TRADES = (
    b'{"ch":"market.ABC-USDT.trade.detail","ts":1700000000004,"tick":{"id":77,'
    b'"ts":1700000000001,"data":[{"amount":20,"quantity":2,"trade_turnover":40.5,'
    b'"ts":1700000000001,"id":770000,"price":20.25,"direction":"sell"},{"amount":14,'
    b'"quantity":1.4,"trade_turnover":28,"ts":1700000000001,"id":770001,"price":20,'
    b'"direction":"sell"}]}}'
)
SOLD = [
    Trade("ABC-USDT", T1 * MS, T2 * MS, 20.25, 10.0, "sell", "770000"),
    Trade("ABC-USDT", T1 * MS, T2 * MS, 20.0, 7.0, "sell", "770001"),
]


def candle(stream):
    return (
        b'{"ch":"market.ABC-USDT.%b","tick":{"id":1699999980,"open":"20.3","close":"20.31",'
        b'"high":"20.4","low":"20.3","amount":"0","vol":"0","count":"0","trade_turnover":"0"},'
        b'"ts":1700000000004}' % stream
    )


NOTICE = (
    b'{"op":"notify","topic":"public.ABC-USDT.funding_rate","ts":1700000000004,"data":[{'
    b'"symbol":"ABC","contract_code":"ABC-USDT","fee_asset":"USDT",'
    b'"funding_time":"1700000000001","funding_rate":"-0.000064355479737646",'
    b'"estimated_rate":null,"settlement_time":"1700006400000","trade_partition":"USDT"}]}'
)


def funding(**changes):
    told = {
        "symbol": "ABC-USDT",
        "ts_event": T1 * MS,
        "ts_send": T2 * MS,
        "rate": -0.000064355479737646,
        "ts_funding": 1_700_006_400 * NS,
    }
    return Funding(**told | changes)


@pytest.mark.parametrize(
    ("frame", "events"),
    [
        pytest.param(BBO, [QUOTE], id="bbo-has-numbers-and-the-match-id"),
        pytest.param(BBO.replace(b"[20.25,15]", b"null"), [NO_BID], id="bbo-null-bid"),
        pytest.param(BBO.replace(b"[20.5,3]", b"null"), [NO_ASK], id="bbo-null-ask"),
        pytest.param(
            STEP0, [QUOTE, whole()], id="step0-takes-the-first-level-and-mrid-not-version"
        ),
        pytest.param(
            STEP0.replace(b"[[20.25,15],[20,1]]", b"[]"), [NO_BID, whole([])], id="step0-empty-bids"
        ),
        pytest.param(
            STEP0.replace(b"[[20.5,3],[21,1]]", b"null"),
            [NO_ASK, whole(BIDS, [])],
            id="step0-asks-may-be-null",
        ),
        pytest.param(
            STEP0.replace(b"[[20.5,3],[21,1]]", b"[[2.05e1,3]]"),
            [QUOTE, whole(BIDS, ASKS[:1])],
            id="step0-one-level",
        ),
        pytest.param(
            STEP0.replace(b"[20.25,15],", b" [ 20.25 , 15 ] ,"),
            [QUOTE, whole()],
            id="step0-with-spaces",
        ),
        pytest.param(STEP0.replace(b"step0", b"step6"), [], id="step6-is-not-step0"),
        pytest.param(
            high_freq("snapshot", 1_700_000_000_777),
            [change(None, 1_700_000_000_777)],
            id="high-freq-version-looks-like-a-time-and-is-a-counter",
        ),
        pytest.param(
            high_freq("update", 8, size=20), [change(7, 8)], id="an-update-follows-version-less-one"
        ),
        pytest.param(
            high_freq("update", 8, "[]", "[]"),
            [change(7, 8, (), ())],
            id="an-update-of-nothing-counts-too",
        ),
        pytest.param(
            high_freq("update", 8, "null", "null"), [change(7, 8, (), ())], id="sides-may-be-null"
        ),
        pytest.param(
            high_freq("update", 8).replace(b"size_150", b"size_400"), [], id="size-400-is-unknown"
        ),
        pytest.param(TRADES, SOLD, id="trade-sizes-count-buyer-and-seller"),
        pytest.param(
            TRADES.replace(b'"amount":14,', b'"amount":7,'),
            [SOLD[0], Trade("ABC-USDT", T1 * MS, T2 * MS, 20.0, 3.5, "sell", "770001")],
            id="half-of-an-odd-amount-is-not-cut-off",
        ),
        pytest.param(
            TRADES.replace(b"770000", b"1000219512747480000"),
            [msgspec.structs.replace(SOLD[0], trade_id="1000219512747480000"), SOLD[1]],
            id="trade-ids-are-past-53-bits",
        ),
        pytest.param(
            candle(b"mark_price.1min"),
            [Mark("ABC-USDT", None, T2 * MS, mark_price=20.31)],
            id="the-mark-is-the-close-of-its-candle",
        ),
        pytest.param(
            candle(b"index.1min"),
            [Mark("ABC-USDT", None, T2 * MS, index_price=20.31)],
            id="so-is-the-index",
        ),
        pytest.param(
            candle(b"index.1min").replace(b'"20.31"', b"20.31"),
            [Mark("ABC-USDT", None, T2 * MS, index_price=20.31)],
            id="its-prices-may-be-numbers",
        ),
        pytest.param(candle(b"premium_index.1min"), [], id="a-premium-is-no-mark"),
        pytest.param(candle(b"kline.1min"), [], id="nor-is-a-candle-of-trades"),
        pytest.param(NOTICE, [funding()], id="settlement-time-is-when-it-is-paid"),
        pytest.param(
            NOTICE.replace(b"-0.000064355479737646", b"0E-18"), [funding(rate=0.0)], id="zero-rate"
        ),
        pytest.param(
            NOTICE.replace(b'"-0.000064355479737646"', b"null"),
            [funding(rate=None)],
            id="a-rate-may-be-null",
        ),
        pytest.param(
            NOTICE.replace(b'"-0.000064355479737646"', b"null").replace(
                b'"settlement_time":"1700006400000",', b""
            ),
            [],
            id="a-row-that-says-nothing",
        ),
        pytest.param(
            NOTICE.replace(b"funding_rate", b"contract_info", 1), [], id="another-notification"
        ),
        pytest.param(NOTICE.replace(b'"op":"notify"', b'"op":"sub"'), [], id="an-ack-is-no-rate"),
        pytest.param(
            b'{"id":"market.ABC-USDT.bbo","status":"ok","subbed":"market.ABC-USDT.bbo","ts":1}',
            [],
            id="an-ack-is-no-quote",
        ),
        pytest.param(b'{"ping":1700000000001}', [], id="a-ping-is-no-quote"),
    ],
)
def test_decode(frame, events):
    assert HTX.decode(frame) == events
    if events:
        assert HTX.decode(frame.replace(b'":', b'" : ')) == events


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
        pytest.param(high_freq("reset", 8), id="an-event-that-was-never-seen"),
        pytest.param(high_freq("update", -1), id="a-version-below-zero"),
        pytest.param(high_freq("update", 8, bids="[[0,1]]"), id="high-freq-a-price-of-zero"),
        pytest.param(TRADES.replace(b'"sell"', b'"none"', 1), id="a-side-that-was-never-seen"),
        pytest.param(TRADES.replace(b"20.25", b"0"), id="trade-a-price-of-zero"),
        pytest.param(candle(b"index.1min").replace(b'"20.31"', b'"NaN"'), id="a-mark-that-is-nan"),
        pytest.param(candle(b"index.1min").replace(b'"20.31"', b'"0"'), id="an-index-of-zero"),
        pytest.param(NOTICE.replace(b"-0.000064355479737646", b"inf"), id="an-infinite-rate"),
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
        pytest.param(
            b'{"op":"ping","ts":"1492420473058"}',
            Alive(b'{"op":"pong","ts":"1492420473058"}'),
            id="the-other-dialect-pings-in-text",
        ),
        pytest.param(
            b'{"op":"ping","ts":1492420473058}',
            Alive(b'{"op":"pong","ts":1492420473058}'),
            id="its-echo-is-verbatim-too",
        ),
        pytest.param(
            b'{"op":"ping","ts":"%b"}' % (b"9" * 99),
            None,
            id="and-has-a-bound",
        ),
        pytest.param(b'{"op":"ping"}', None, id="a-ping-of-nothing"),
        (b'{"op":"sub","cid":"k","topic":"t","ts":1,"err-code":0}', Accepted(("k",))),
        pytest.param(
            b'{"op":"sub","topic":"t","ts":1,"err-code":0}', Accepted(("t",)), id="no-cid"
        ),
        pytest.param(
            b'{"op":"sub","cid":"k","topic":"t","ts":1,"err-code":2014,"err-msg":"repeated"}',
            Accepted(("k",)),
            id="who-asks-twice-is-served-already",
        ),
        (
            b'{"op":"sub","cid":"k","topic":"t","ts":1,"err-code":2011,"err-msg":"no contract"}',
            Rejected(("k",), "no contract"),
        ),
        (b'{"op":"sub","cid":"k","err-code":2040,"ts":1}', Rejected(("k",), "2040")),
        (b'{"op":"sub","err-code":2040,"ts":1}', Complaint("2040")),
        (b'{"op":"unsub","cid":"k","topic":"t","ts":1,"err-code":0}', None),
        pytest.param(
            b'{"op":"unsub","cid":"k","topic":"t","ts":1,"err-code":2012,"err-msg":"not there"}',
            Complaint("not there"),
            id="an-error-to-an-unsubscribe-refuses-nothing",
        ),
        (b'{"op":"error","ts":1}', Complaint("error")),
        (b'{"op":"close","ts":1}', Leaving("it says that it closes")),
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


def topics(*streams):
    return [HTX.topic("books", stream, "ABC-USDT") for stream in streams]


def test_high_freq_is_asked_for_by_its_changes():
    (sub,) = HTX.subscribe(topics("depth.size_150.high_freq"), 0)
    assert sub == (
        b'{"sub":"market.ABC-USDT.depth.size_150.high_freq","data_type":"incremental",'
        b'"id":"market.ABC-USDT.depth.size_150.high_freq"}'
    )


def test_three_sockets_two_dialects():
    marks = [HTX.topic("marks", s, "ABC-USDT") for s in HTX.streams["marks"][0].split("+")]
    (rate,) = [HTX.topic("funding", s, "ABC-USDT") for s in HTX.streams["funding"]]
    assert [topic.socket for topic in (*marks, rate)] == ["index", "index", "notification"]
    assert set(HTX.sockets) == {"index", "notification"}
    assert HTX.subscribe([*marks, rate], 0) == [
        b'{"sub":"market.ABC-USDT.mark_price.1min","id":"market.ABC-USDT.mark_price.1min"}',
        b'{"sub":"market.ABC-USDT.index.1min","id":"market.ABC-USDT.index.1min"}',
        (
            b'{"op":"sub","cid":"public.ABC-USDT.funding_rate",'
            b'"topic":"public.ABC-USDT.funding_rate"}'
        ),
    ]


def test_an_unsubscribe_has_another_id_so_that_an_error_to_it_refuses_no_topic():
    asked = [*topics("depth.size_20.high_freq", "bbo"), HTX.topic("funding", "funding_rate", "A")]
    frames = [json.loads(frame) for frame in HTX.unsubscribe(asked, 0)]
    assert frames == [
        {
            "unsub": "market.ABC-USDT.depth.size_20.high_freq",
            "data_type": "incremental",
            "id": "unsub market.ABC-USDT.depth.size_20.high_freq",
        },
        {"unsub": KEY, "id": f"unsub {KEY}"},
        {
            "op": "unsub",
            "cid": "unsub public.A.funding_rate",
            "topic": "public.A.funding_rate",
        },
    ]
    said = {frame.get("id") or frame["cid"] for frame in frames}
    assert not said & {topic.key for topic in asked}


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (
            high_freq("snapshot", 9),
            Link(
                topics("depth.size_150.high_freq")[0].key,
                is_snapshot=True,
                update_id=9,
                follows=None,
            ),
        ),
        (
            high_freq("update", 10, "[]", "null", size=20),
            Link(
                topics("depth.size_20.high_freq")[0].key, is_snapshot=False, update_id=10, follows=9
            ),
        ),
        (BBO, None),
        (STEP0, None),
        (TRADES, None),
        (b'{"ping":1}', None),
        (
            b'{"id":"1","status":"ok","subbed":"market.A-USDT.depth.size_20.high_freq","ts":1}',
            None,
        ),
    ],
)
def test_link(frame, found):
    """By ``version`` where it is a sequence, and there alone."""
    assert HTX.link(frame) == found


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


def body(data, **more):
    return msgspec.json.encode({"status": "ok", "data": data, "ts": T2} | more)


def test_open_interest_is_contracts_of_one_side():
    row = {"contract_code": "ABC-USDT", "volume": 28808125, "amount": 28808.125}
    mark = Mark("ABC-USDT", None, T2 * MS, open_interest=28808125.0)
    assert HTX.read_rest("open_interest", "ABC-USDT", body([row])) == [mark]
    text = body({k: str(v) for k, v in row.items()}, code=200, message="Success", status="")
    assert HTX.read_rest("open_interest", "ABC-USDT", text) == [mark]


def test_funding_time_over_rest_is_the_payment_and_on_the_socket_the_computation():
    row = {
        "contract_code": "ABC-USDT",
        "funding_rate": "-0.000064355479737646",
        "funding_time": "1700006400000",
        "next_funding_time": "1700020800000",
    }
    (rest,) = HTX.read_rest("funding_rate", "ABC-USDT", body([row]))
    (told,) = HTX.decode(NOTICE)
    assert rest == funding(ts_event=None, interval_h=4.0)
    assert (told.ts_funding, told.rate) == (rest.ts_funding, rest.rate)
    assert (told.ts_event, told.interval_h) == (T1 * MS, None)


@pytest.mark.parametrize(("after", "hours"), [(None, None), (1700006400000, None), (0, None)])
def test_an_interval_that_is_not_told_is_not_guessed(after, hours):
    row = {
        "contract_code": "ABC-USDT",
        "funding_rate": "0.1",
        "funding_time": "1700006400000",
        "next_funding_time": after,
    }
    (event,) = HTX.read_rest("funding_rate", "ABC-USDT", body(row))
    assert event.interval_h is hours


def test_a_rate_of_the_past_was_paid():
    rows = [
        {"contract_code": "ABC-USDT", "funding_rate": rate, "funding_time": f"{ts}"}
        for rate, ts in (("0.0002", 1700006400000), ("0.0001", 1699977600000))
    ]
    page = body({"total_page": 1, "current_page": 1, "data": rows})
    old, new = HTX.read_rest("funding_history", "ABC-USDT", page)
    assert (old.rate, old.ts_funding, old.is_settled) == (0.0001, 1_699_977_600 * NS, True)
    assert (new.rate, new.ts_funding, new.is_settled) == (0.0002, 1_700_006_400 * NS, True)


def test_rest_errors_speak_in_three_spellings():
    for error in (
        b'{"status":"error","err_code":1014,"err_msg":"no such","ts":1}',
        b'{"status":"error","err-code":"x","err-msg":"no such"}',
        b'{"code":1067,"message":"no such","ts":1}',
    ):
        for poll in HTX.polls:
            with pytest.raises(ValueError, match="no such"):
                HTX.read_rest(poll.what, "ABC-USDT", error)


def test_what_no_poll_is_named_says_nothing():
    assert HTX.read_rest("tea_leaves", "ABC-USDT", body([])) == []


# Laws: what the wire types encode, decode gives back.

numbers = st.floats(1e-12, 1e12, allow_subnormal=False)
sides = st.none() | st.lists(st.tuples(numbers, st.just(0.0) | numbers), max_size=4)
times_ms = st.integers(1, 4_000_000_000_000)
ids = st.integers(0, 2**63 - 1)
LAW = settings(deadline=None, max_examples=50)


@LAW
@given(sides, sides, times_ms, ids, st.sampled_from(["snapshot", "update"]))
def test_round_trip_of_books(bids, asks, ts, version, event):
    stream, is_snapshot = htx.BOOKS[version % 2], event == "snapshot"
    topic = HTX.topic("books", stream, "ABC-USDT")
    tick = htx.Change(asks, bids, topic.key, event, 1, 1, ts, version)
    frame = msgspec.json.encode(htx.ChangePush(topic.key, ts + 1, tick))
    follows = None if is_snapshot else version - 1
    assert HTX.decode(frame) == [
        Book(
            "ABC-USDT", ts * MS, (ts + 1) * MS, bids or [], asks or [],
            is_snapshot=is_snapshot, update_id=version, follows=follows,
        )
    ]  # fmt: skip
    assert HTX.link(frame) == Link(topic.key, is_snapshot, version, follows)
    assert_is_data_of(topic, frame)


@LAW
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from(["buy", "sell"]), ids)), times_ms, ids)
def test_round_trip_of_trades(rows, ts, order):
    topic = HTX.topic("trades", "trade.detail", "ABC-USDT")
    data = [htx.Fill(2 * qty, ts, number, price, side) for price, qty, side, number in rows]
    push = htx.FillsPush(topic.key, ts + 1, htx.Fills(order, ts, data))
    frame = msgspec.json.encode(push)
    assert HTX.decode(frame) == [
        Trade("ABC-USDT", ts * MS, (ts + 1) * MS, price, qty, side, str(number))
        for price, qty, side, number in rows
    ]
    assert_is_data_of(topic, frame)


@LAW
@given(numbers, times_ms, st.sampled_from([htx.MARK, htx.INDEX]))
def test_round_trip_of_marks(price, ts, stream):
    topic = HTX.topic("marks", stream, "ABC-USDT")
    push = htx.CandlePush(topic.key, htx.Candle(ts // 60_000 * 60, repr(price)), ts)
    frame = msgspec.json.encode(push)
    told = {"mark_price" if stream == htx.MARK else "index_price": price}
    assert HTX.decode(frame) == [Mark("ABC-USDT", None, ts * MS, **told)]
    assert_is_data_of(topic, frame)


@LAW
@given(st.floats(-1, 1), times_ms, times_ms)
def test_round_trip_of_funding(rate, made, paid):
    topic = HTX.topic("funding", htx.FUNDING, "ABC-USDT")
    row = htx.Rated("ABC-USDT", str(made), repr(rate), str(paid))
    frame = msgspec.json.encode(htx.Notice("notify", topic.key, made + 1, [row]))
    assert HTX.decode(frame) == [
        Funding("ABC-USDT", made * MS, (made + 1) * MS, rate, ts_funding=paid * MS)
    ]
    assert_is_data_of(topic, frame)


def assert_is_data_of(topic, frame):
    assert HTX.is_data(frame) and HTX.control(frame) is None
    assert all(mark in frame for mark in topic.marks)
    other = HTX.topic(topic.channel, topic.stream, "BC-USDT")
    assert not all(mark in frame for mark in other.marks)


# Real frames.

REFUSED = {
    entry["file"]: entry["lines"]
    for entry in tomllib.loads(Path(__file__).with_name("refused.toml").read_text())["refused"]
}
HEARD = {
    "bbo.jsonl": {Quote: 3},
    "depth.step0.jsonl": {Quote: 125, Book: 125},
    "depth.size_150.high_freq.jsonl": {Book: 1},
    "depth.size_20.high_freq.jsonl": {Book: 6},
    "public.funding_rate.jsonl": {Funding: 3},
    "raw_gzip_frames.b64.jsonl": {Trade: 3, Quote: 4, Book: 4},
    "recorded_with_recv_time.SNX-USDT.jsonl": {Trade: 8, Quote: 71, Book: 71},
    "rest_documented.jsonl": {Quote: 1, Book: 1},  # a book over REST looks like step0
    "rest_swap_batch_funding_rate.jsonl": {Funding: 7},  # of 8 rows, one says null
    "rest_swap_historical_funding_rate.jsonl": {Funding: 5},
    "rest_swap_open_interest.jsonl": {Mark: 6},
    "rest_v5_funding_rate.jsonl": {Funding: 1},
    "trade.detail.jsonl": {Trade: 20},
    "ws_index.jsonl": {Mark: 1},
}
"""Events by file."""
SILENT = {
    "ack.jsonl": "control",
    "client_requests.jsonl": "what a client says",
    "detail.jsonl": "24 h statistics, a channel that we do not take: its best prices lag 500 ms",
    "error.jsonl": "control",
    "ping.jsonl": "control",
    "public.contract_info.jsonl": "a channel that we do not take: the instrument list says it",
    "rest_errors.jsonl": "errors",
    "rest_swap_contract_info.jsonl": "instruments",
    "rest_swap_contract_info.2022-02-19.full.jsonl": "instruments",
    "system_status.jsonl": "a socket that we do not open",
}
"""Files that tell of no market, and why."""
POLLED = {
    "rest_swap_batch_funding_rate.jsonl": "funding_rate",
    "rest_swap_historical_funding_rate.jsonl": "funding_history",
    "rest_swap_open_interest.jsonl": "open_interest",
    "rest_v5_funding_rate.jsonl": "funding_rate",
}


def real(shared, name):
    """Give the frames of a file as they stood on the wire, inflated."""
    lines = (shared / "samples/htx" / name).read_bytes().splitlines()
    if name.startswith("raw_gzip"):
        return [gzip.decompress(base64.b64decode(json.loads(x)["gzip_b64"])) for x in lines]
    if name.startswith("recorded"):
        told = [json.loads(line)["frame"] for line in lines]
        return [json.dumps(frame, separators=(",", ":")).encode() for frame in told]
    return lines


def events(shared, name):
    what = POLLED.get(name)
    read = HTX.decode if what is None else lambda frame: HTX.read_rest(what, "", frame)
    return [event for frame in real(shared, name) for event in read(frame)]


@pytest.mark.parametrize("name", sorted(HEARD) + sorted(SILENT))
def test_every_real_frame(shared, name):
    found = Counter(type(event) for event in events(shared, name))
    assert dict(found) == HEARD.get(name, {})


def test_no_real_file_is_forgotten(shared):
    files = {path.name for path in (shared / "samples/htx").iterdir() if path.suffix != ".md"}
    refused = {name.partition("/")[2] for name in REFUSED if name.startswith("htx/")}
    assert files == set(HEARD) | set(SILENT) | refused
    assert refused - files == set()


def test_real_answers_that_are_refused_are_no_polls(shared):
    for name, lines in REFUSED.items():
        if name.startswith("htx/"):
            bodies = (shared / "samples" / name).read_bytes().splitlines()
            for line in lines:
                assert not any(polled(what, bodies[line - 1]) for what in POLLED.values())


def polled(what, answer):
    try:
        return HTX.read_rest(what, "", answer)
    except (msgspec.MsgspecError, ValueError):
        return []


def test_the_raw_gzip_frames_inflate_and_say_what_they_are(shared):
    lines = (shared / "samples/htx/raw_gzip_frames.b64.jsonl").read_bytes().splitlines()
    kinds = {
        "ack": (None, Accepted),
        "ping": (None, Alive),
        "trade.detail": (Trade, type(None)),
        "depth.step0": (Quote, type(None)),
    }
    seen = Counter()
    for line in map(json.loads, lines):
        frame = gzip.decompress(base64.b64decode(line["gzip_b64"]))
        event, said = kinds[line["kind"]]
        seen[line["kind"]] += 1
        assert isinstance(HTX.control(frame), said)
        assert HTX.is_data(frame) == (event is not None)
        assert [type(e) for e in HTX.decode(frame)[:1]] == ([] if event is None else [event])
    assert len(lines) == sum(seen.values()) == 13
    assert set(seen) == set(kinds)


def test_halved_sizes_are_what_left_the_book(shared):
    """Fills that the recording brackets by books: with amounts undivided none of them fits."""
    found, book, open_fills = [], None, []
    for frame in real(shared, "recorded_with_recv_time.SNX-USDT.jsonl"):
        heard = HTX.decode(frame)
        if isinstance(heard[0], Trade):
            open_fills += [(trade, book) for trade in heard if book is not None]
            continue
        quote, after = heard
        for trade, before in open_fills:
            if quote.update_id < int(trade.trade_id) // 10_000:
                continue  # this state was made before it
            left = [dict(b.bids if trade.side == "sell" else b.asks) for b in (before, after)]
            found.append(
                (trade.price, left[0][trade.price], left[1].get(trade.price, 0), trade.qty)
            )
        made = quote.update_id
        open_fills = [(t, b) for t, b in open_fills if int(t.trade_id) // 10_000 > made]
        book = after
    assert found == [
        (4.3389, 147, 0, 46),  # with the next, of one order; the rest of the level was cancelled
        (4.3389, 147, 0, 73),
        (4.3376, 115, 10, 105),
        (4.3341, 10, 0, 10),
        (4.3318, 106, 0, 106),
        (4.3312, 180, 0, 180),
        (4.3308, 128, 121, 7),
    ]
    assert [before - after == qty for _, before, after, qty in found] == [False] * 2 + [True] * 5


def test_the_first_trade_after_a_subscribe_is_an_old_print(shared):
    """Up to 39 minutes old in the recording; only the connection knows that it is the first."""
    lines = (shared / "samples/htx/raw_gzip_frames.b64.jsonl").read_bytes().splitlines()
    ages_s = []
    for line in map(json.loads, lines):
        if line["kind"] == "trade.detail":
            (trade,) = HTX.decode(gzip.decompress(base64.b64decode(line["gzip_b64"])))
            ages_s.append(line["recv_unix_s"] - trade.ts_event / NS)
            assert not trade.is_history
    assert min(ages_s) > 3 and max(ages_s) > 39 * 60
    assert HTX.replays_trades


def test_version_means_three_different_things(shared):
    step0 = [json.loads(f)["tick"] for f in real(shared, "depth.step0.jsonl")]
    assert all(tick["version"] == tick["ts"] // 1000 for tick in step0)
    assert all(e.update_id is None for e in events(shared, "depth.step0.jsonl") if type(e) is Book)
    bbo = [json.loads(f)["tick"] for f in real(shared, "bbo.jsonl")]
    assert all(tick["version"] == tick["mrid"] for tick in bbo)
    books = events(shared, "depth.size_20.high_freq.jsonl")
    assert (books[0].is_snapshot, books[0].update_id) == (True, 1789895280797)
    assert books[1].follows == books[0].update_id
    assert books[0].update_id * MS != books[0].ts_event


def test_golden_values_of_the_sheet(shared):
    first = {name: events(shared, name)[0] for name in HEARD}
    assert first["public.funding_rate.jsonl"] == Funding(
        "BTC-USDT", 1790135110000 * MS, 1790135117894 * MS, 0.000064355479737646,
        ts_funding=1790150400000 * MS,
    )  # fmt: skip
    assert first["ws_index.jsonl"] == Mark("BTC-USDT", None, 1790135117624 * MS, mark_price=86826.6)
    assert first["rest_swap_open_interest.jsonl"].open_interest == 28808125.0
    v5 = events(shared, "rest_swap_open_interest.jsonl")[-1]
    assert v5 == Mark("BTC-USDT", None, 1781327941440 * MS, open_interest=32476092.0)
    assert first["rest_v5_funding_rate.jsonl"] == Funding(
        "BTC-USDT", None, 1781235318758 * MS, 0.000083024939363172, 8.0, 1781251200000 * MS
    )
    empty, thin = events(shared, "depth.size_20.high_freq.jsonl")[2::3]
    assert (empty.bids, empty.asks, empty.follows) == ([], [], 1789895879605)
    assert (thin.symbol, thin.bids, len(thin.asks)) == ("DOT_CW", [], 3)


def test_a_real_rate_is_the_same_over_rest_and_its_payment_a_whole_hour(shared):
    for name in ("rest_swap_batch_funding_rate.jsonl", "rest_v5_funding_rate.jsonl"):
        for event in events(shared, name):
            assert event.ts_funding % (3600 * NS) == 0 and not event.is_settled
    for event in events(shared, "public.funding_rate.jsonl"):
        assert event.ts_event < event.ts_send < event.ts_funding
        assert event.ts_funding % (1800 * NS) == 0
