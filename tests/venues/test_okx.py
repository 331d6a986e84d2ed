"""OKX's dialect, frame by frame; our own values in the shapes that the venue sends."""

import json
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.chain import Chain, Verdict
from perptape.events import MS, NS, Book, Funding, Mark, Quote, Trade
from perptape.venues import okx
from perptape.venues.okx import OKX
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Link, Rejected, checksum

T1 = 1_700_000_000_001
SWAP = "ABC-USDT-SWAP"


def frame(channel, *rows, name=SWAP, action=""):
    head = b'{"arg":{"channel":"%b","instId":"%b"},' % (channel.encode(), name.encode())
    told = b'"action":"%b",' % action.encode() if action else b""
    return head + told + b'"data":[%b]}' % b",".join(rows)


ROW = (
    b'{"asks":[["20.5","3","0","2"]],"bids":[["20.25","1.5","0","1"]],"ts":"1700000000001",'
    b'"checksum":0,"seqId":77,"prevSeqId":70}'
)
TOP = ROW.replace(b',"checksum":0', b"").replace(b',"prevSeqId":70', b"")
BIDS, ASKS = [(20.25, 1.5)], [(20.5, 3.0)]
QUOTE = Quote(SWAP, T1 * MS, None, 20.25, 1.5, 20.5, 3.0, 77)
UPDATE = frame("books", ROW, action="update")
SNAPSHOT = frame("books", ROW.replace(b"70}", b"-1}"), action="snapshot")
DEAL = (
    b'{"instId":"ABC-USDT-SWAP","tradeId":"12","px":"20.5","sz":"0.25","side":"sell",'
    b'"ts":"1700000000001","count":"3","source":"0","seqId":77}'
)
MARK = frame(
    "mark-price",
    b'{"instType":"SWAP","instId":"ABC-USDT-SWAP","markPx":"20.3","ts":"1700000000001"}',
)
INDEX = frame(
    "index-tickers",
    b'{"instId":"ABC-USDT","idxPx":"20.2","high24h":"21","low24h":"19","open24h":"20",'
    b'"sodUtc0":"20","sodUtc8":"20","ts":"1700000000001"}',
    name="ABC-USDT",
)
INTEREST = frame(
    "open-interest",
    b'{"instType":"SWAP","instId":"ABC-USDT-SWAP","oi":"123.5","oiCcy":"1.235","oiUsd":"25",'
    b'"ts":"1700000000001"}',
)


def book(*, is_snapshot=False, update_id=77, follows=70, bids=BIDS, asks=ASKS):
    return Book(SWAP, T1 * MS, None, bids, asks, is_snapshot, update_id, follows)


WHOLE = book(is_snapshot=True, follows=None)


@pytest.mark.parametrize(
    ("payload", "events"),
    [
        pytest.param(frame("bbo-tbt", TOP), [QUOTE], id="a-quote-has-no-sending-time"),
        pytest.param(
            frame("bbo-tbt", TOP.replace(b'[["20.5","3","0","2"]]', b"[]")),
            [Quote(SWAP, T1 * MS, None, 20.25, 1.5, None, None, 77)],
            id="an-empty-side-is-an-empty-array",
        ),
        pytest.param(
            frame("bbo-tbt", TOP.replace(b',"seqId":77', b"")),
            [Quote(SWAP, T1 * MS, None, 20.25, 1.5, 20.5, 3.0, None)],
            id="quotes-of-2022-have-no-seq",
        ),
        pytest.param(
            frame("bbo-tbt", TOP).replace(b'":', b'": '),
            [QUOTE],
            id="spaces-after-colons-lose-nothing",
        ),
        pytest.param(SNAPSHOT, [WHOLE], id="a-snapshot-follows-minus-one"),
        pytest.param(
            SNAPSHOT.replace(b',"prevSeqId":-1', b""), [WHOLE], id="or-it-does-not-say"
        ),
        pytest.param(UPDATE, [book()], id="an-update-follows-by-any-step"),
        pytest.param(
            UPDATE.replace(b'"checksum":0', b'"checksum":-855196043'),
            [book()],
            id="the-checksum-is-not-looked-at",
        ),
        pytest.param(
            UPDATE.replace(b"77", b"5"),
            [book(update_id=5)],
            id="a-counter-that-starts-over-follows-all-the-same",
        ),
        pytest.param(
            frame("books", b'{"asks":[],"bids":[],"ts":"1700000000001","checksum":0,"seqId":77,'
                  b'"prevSeqId":77}', action="update"),
            [book(follows=77, bids=[], asks=[])],
            id="a-sign-of-life-follows-itself",
        ),
        pytest.param(
            UPDATE.replace(b',"seqId":77,"prevSeqId":70', b""),
            [book(update_id=None, follows=None)],
            id="updates-of-2022-have-no-seq",
        ),
        pytest.param(
            UPDATE.replace(b'["20.5","3","0","2"]', b'["20.5","0","0","0"]'),
            [book(asks=[(20.5, 0.0)])],
            id="a-size-of-zero-removes",
        ),
        pytest.param(frame("books5", TOP), [WHOLE], id="books5-is-whole-every-time"),
        pytest.param(
            frame("trades", DEAL, DEAL.replace(b'"12"', b'"13"').replace(b"sell", b"buy")),
            [
                Trade(SWAP, T1 * MS, None, 20.5, 0.25, "sell", "12"),
                Trade(SWAP, T1 * MS, None, 20.5, 0.25, "buy", "13"),
            ],
            id="trades-of-one-seq",
        ),
        pytest.param(
            frame("trades", DEAL.partition(b',"count"')[0] + b"}"),
            [Trade(SWAP, T1 * MS, None, 20.5, 0.25, "sell", "12")],
            id="a-trade-of-2022",
        ),
        pytest.param(MARK, [Mark(SWAP, T1 * MS, None, mark_price=20.3)], id="mark"),
        pytest.param(
            INDEX, [Mark(SWAP, T1 * MS, None, index_price=20.2)], id="an-index-is-the-swaps"
        ),
        pytest.param(INTEREST, [Mark(SWAP, T1 * MS, None, open_interest=123.5)], id="contracts"),
        pytest.param(MARK.replace(b"20.3", b""), [], id="an-empty-string-is-not-said"),
        pytest.param(frame("tickers", b'{"instId":"A","askPx":"1"}'), [], id="another-channel"),
        pytest.param(b"pong", [], id="a-pong"),
        pytest.param(
            b'{"event":"subscribe","arg":{"channel":"books","instId":"A"},"connId":"a4d3ae55"}',
            [],
            id="an-ack-is-no-book",
        ),
    ],
)  # fmt: skip
def test_decode(payload, events):
    assert OKX.decode(payload) == events


H = 3_600_000
PLAIN = {
    "instType": "SWAP",
    "instId": SWAP,
    "method": "current_period",
    "fundingRate": "0.0001875391284828",
    "fundingTime": str(T1 + 8 * H),
    "nextFundingRate": "",
    "nextFundingTime": str(T1 + 12 * H),
    "maxFundingRate": "0.00375",
    "settFundingRate": "-0.00005",
    "settState": "settled",
    "ts": str(T1),
}
BEFORE = {"prevFundingTime": str(T1 - 8 * H)}
RATE = 0.0001875391284828


def coming(rate=RATE, interval_h=4.0, hours=8):
    due = None if hours is None else (T1 + hours * H) * MS
    return Funding(SWAP, T1 * MS, None, rate, interval_h, due)


@pytest.mark.parametrize(
    ("row", "events"),
    [
        pytest.param(PLAIN, [coming()], id="interval-from-the-next-two-payments"),
        pytest.param(PLAIN | BEFORE, [coming(interval_h=16.0)], id="or-from-the-one-before"),
        pytest.param(PLAIN | {"prevFundingTime": ""}, [coming()], id="or-not"),
        pytest.param(PLAIN | {"nextFundingTime": ""}, [coming(interval_h=None)], id="no-interval"),
        pytest.param(
            PLAIN | {"nextFundingTime": PLAIN["fundingTime"]},
            [coming(interval_h=None)],
            id="payments-at-one-time",
        ),
        pytest.param(PLAIN | {"fundingRate": ""}, [coming(rate=None)], id="no-rate-yet"),
        pytest.param(PLAIN | {"fundingRate": "0"}, [coming(rate=0.0)], id="zero-is-said"),
        pytest.param(PLAIN | {"fundingRate": "", "fundingTime": ""}, [], id="nothing-said"),
        pytest.param(
            PLAIN | {"settState": "processing"},
            [coming()],
            id="what-was-paid-last-is-the-historys-to-say",
        ),
    ],
)
def test_funding(row, events):
    assert OKX.decode(frame("funding-rate", json.dumps(row).encode())) == events


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(
            frame("bbo-tbt", TOP.replace(b'"1"]]', b'"1"],["20","1","0","1"]]')),
            id="a-second-level-of-a-quote",
        ),
        pytest.param(frame("books", ROW), id="a-book-that-does-not-say-what-it-is"),
        pytest.param(frame("books", ROW, ROW, action="update"), id="two-books-in-a-frame"),
        pytest.param(frame("books", ROW, action="partial"), id="an-unknown-action"),
        pytest.param(UPDATE.replace(b"20.25", b"0"), id="a-price-of-zero"),
        pytest.param(UPDATE.replace(b'"1.5"', b'"-1"'), id="a-signed-size"),
        pytest.param(UPDATE.replace(b'"20.25"', b'""'), id="a-price-that-is-nothing"),
        pytest.param(frame("trades", DEAL.replace(b"sell", b"long")), id="an-unknown-side"),
        pytest.param(MARK.replace(b"20.3", b"nan"), id="a-mark-that-is-nan"),
        pytest.param(UPDATE[:-2], id="cut-off"),
    ],
)
def test_decode_refuses(payload):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        OKX.decode(payload)


def error(code, msg, arg=""):
    return b'{"event":"error",%b"code":"%b","msg":"%b","connId":"a4d3ae55"}' % (
        arg.encode(),
        code.encode(),
        msg.encode(),
    )


GONE = (
    "Wrong URL or channel:bbo-tbt,instId:FOO-USDT-SWAP doesn't exist. Please use the correct "
    "URL, channel and parameters referring to API document."
)
ASKED = (
    r"Illegal request: {\"op\":\"subscribe\",\"args\":[{\"channel\":\"books\",\"instId\":\"A-B\"},"
    r"{\"channel\":\"trades\",\"instId\":\"C-D\"}]}"
)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        pytest.param(b"pong", Alive(), id="a-pong-is-bare-text"),
        pytest.param(
            b'{"id":"s1","event":"subscribe","arg":{"channel":"books","instId":"A-USDT-SWAP"},'
            b'"connId":"a4d3ae55"}',
            Accepted(("books.A-USDT-SWAP",)),
            id="an-ack-per-topic",
        ),
        pytest.param(
            b'{"event":"subscribe","arg":{"channel":"books","instId":"A-USDT-SWAP"}}',
            Accepted(("books.A-USDT-SWAP",)),
            id="an-ack-of-2022",
        ),
        pytest.param(
            error("60018", GONE),
            Rejected(("bbo-tbt.FOO-USDT-SWAP",), f"60018 {GONE}"),
            id="the-topic-is-only-in-the-words",
        ),
        pytest.param(
            error("60018", "gone", '"arg":{"channel":"trades","instId":"FOO-USDT-SWAP"},'),
            Rejected(("trades.FOO-USDT-SWAP",), "60018 gone"),
            id="or-in-an-arg",
        ),
        pytest.param(
            error("60012", ASKED),
            Rejected(("books.A-B", "trades.C-D"), "60012 " + ASKED.replace("\\", "")),
            id="a-whole-request-is-refused",
        ),
        pytest.param(
            error("60012", r"Illegal request: {\"op\":\"subscribe\",\"args\":[\"spot/ticker:A\"]}"),
            Complaint('60012 Illegal request: {"op":"subscribe","args":["spot/ticker:A"]}'),
            id="words-that-name-no-topic",
        ),
        pytest.param(
            error("60014", "Requests too frequent"),
            Complaint("60014 Requests too frequent"),
            id="too-frequent",
        ),
        pytest.param(
            b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a '
            b'service upgrade. Please reconnect.","connId":"a4d3ae55"}',
            Leaving("The connection will soon be closed for a service upgrade. Please reconnect."),
            id="it-warns-before-it-leaves",
        ),
        pytest.param(
            b'{"event":"notice","code":"60001","msg":"hello"}',
            Complaint("notice 60001 hello"),
            id="another-notice-is-no-farewell",
        ),
        pytest.param(
            b'{"event":"channel-conn-count","channel":"orders","connCount":"1","connId":"a"}',
            None,
            id="a-count-of-connections",
        ),
        pytest.param(
            b'{"id":"u1","event":"unsubscribe","arg":{"channel":"books","instId":"A"}}',
            None,
            id="an-unsubscribe",
        ),
    ],
)
def test_control(payload, said):
    assert OKX.control(payload) == said
    assert not OKX.is_data(payload)
    assert OKX.decode(payload) == []


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        pytest.param(SNAPSHOT, Link(f"books.{SWAP}", True, 77, None), id="snapshot"),  # noqa: FBT003
        pytest.param(UPDATE, Link(f"books.{SWAP}", False, 77, 70), id="update"),  # noqa: FBT003
        pytest.param(
            frame("books5", TOP), Link(f"books5.{SWAP}", True, 77, None), id="books5"  # noqa: FBT003
        ),
        pytest.param(frame("books50-l2-tbt", TOP), None, id="another-depth"),
        pytest.param(frame("bbo-tbt", TOP), None, id="a-quote"),
        pytest.param(frame("trades", DEAL), None, id="a-trade"),
        pytest.param(
            b'{"event":"subscribe","arg":{"channel":"books","instId":"A"}}', None, id="an-ack"
        ),
    ],
)  # fmt: skip
def test_link(payload, found):
    assert OKX.link(payload) == found
    if found is not None:
        (told,) = OKX.decode(payload)
        ids = (told.is_snapshot, told.update_id, told.follows)
        assert ids == (found.is_snapshot, found.update_id, found.follows)


def step(before, number):
    row = b'{"asks":[],"bids":[],"ts":"1","seqId":%d,"prevSeqId":%d}' % (number, before)
    found = OKX.link(frame("books", row, action="update"))
    return found.update_id, found.follows


@pytest.mark.parametrize(
    ("updates", "verdicts"),
    [
        pytest.param([(77, 89), (89, 134)], "apply apply", id="steps-of-any-size"),
        pytest.param([(77, 5), (5, 12)], "apply apply", id="a-reset-right-after-the-snapshot"),
        pytest.param([(77, 80), (80, 3), (3, 81)], "apply apply apply", id="a-reset-later"),
        pytest.param([(77, 80), (80, 80), (80, 93)], "apply apply apply", id="a-sign-of-life"),
        pytest.param([(77, 80), (93, 93)], "apply hole", id="a-sign-of-life-of-another-book"),
        pytest.param([(77, 80), (89, 95), (95, 99)], "apply hole void", id="an-update-is-lost"),
        pytest.param([(-1, 99)], "hole", id="an-update-that-follows-nothing"),
    ],
)
def test_the_sequence_of_a_book(updates, verdicts):
    chain = Chain()
    begun = OKX.link(SNAPSHOT)
    assert chain.step(begun.update_id, begun.follows, is_snapshot=True) is Verdict.APPLY
    found = [chain.step(*step(*update), is_snapshot=False).value for update in updates]
    assert found == verdicts.split()


def topics(count=2):
    return [OKX.topic("quotes", "bbo-tbt", f"C{n}-USDT-SWAP") for n in range(count)]


def test_topics_share_one_request():
    (asked,) = OKX.subscribe(topics(), 0)
    assert asked == (
        b'{"op":"subscribe","args":[{"channel":"bbo-tbt","instId":"C0-USDT-SWAP"},'
        b'{"channel":"bbo-tbt","instId":"C1-USDT-SWAP"}]}'
    )
    assert OKX.unsubscribe(topics(1), 0) == [
        b'{"op":"unsubscribe","args":[{"channel":"bbo-tbt","instId":"C0-USDT-SWAP"}]}'
    ]


def test_a_request_stays_under_64_kb():
    longest = [OKX.topic("marks", "index-tickers", f"{'X' * 32}{n}-USDT-SWAP") for n in range(401)]
    asked = OKX.subscribe(longest, 0)
    assert [len(json.loads(one)["args"]) for one in asked] == [400, 1]
    assert max(map(len, asked)) < 64_000


def test_marks_come_by_three_topics_of_one_swap():
    (together,) = OKX.streams["marks"]
    parts = [OKX.topic("marks", part, "BTC-USDT-SWAP") for part in together.split("+")]
    assert [part.key for part in parts] == [
        "mark-price.BTC-USDT-SWAP",
        "index-tickers.BTC-USDT",
        "open-interest.BTC-USDT-SWAP",
    ]
    assert {part.symbol for part in parts} == {"BTC-USDT-SWAP"}
    (asked,) = OKX.subscribe(parts, 0)
    assert [arg["instId"] for arg in json.loads(asked)["args"]] == [
        "BTC-USDT-SWAP",
        "BTC-USDT",
        "BTC-USDT-SWAP",
    ]


FRAMES = {
    "bbo-tbt": frame("bbo-tbt", TOP),
    "books": UPDATE,
    "books5": frame("books5", TOP),
    "trades": frame("trades", DEAL),
    "mark-price": MARK,
    "index-tickers": INDEX,
    "open-interest": INTEREST,
    "funding-rate": frame("funding-rate", json.dumps(PLAIN).encode()),
}


def test_marks_match_the_frames_of_their_own_topic_alone():
    parts = {part for streams in OKX.streams.values() for s in streams for part in s.split("+")}
    assert set(FRAMES) == parts
    for stream, payload in FRAMES.items():
        assert OKX.is_data(payload) and payload.count(OKX.data_mark) == 1
        assert OKX.control(payload) is None
        for other in parts:
            for symbol in (SWAP, "XABC-USDT-SWAP", "ABC-USDT-SWAPX"):
                matched = all(mark in payload for mark in OKX.topic("", other, symbol).marks)
                assert matched == (other == stream and symbol == SWAP)


def test_the_ping_is_bare_text():
    assert OKX.heartbeat.ping(NS) == b"ping"


CONTRACT = {
    "instId": "BTC-USDT-SWAP",
    "instType": "SWAP",
    "ctType": "linear",
    "ctVal": "0.01",
    "ctMult": "1",
    "ctValCcy": "BTC",
    "settleCcy": "USDT",
    "uly": "BTC-USDT",
    "tickSz": "0.1",
    "lotSz": "0.01",
    "minSz": "0.01",
    "state": "live",
}


def listed(**changes):
    body = {"code": "0", "msg": "", "data": [CONTRACT | changes]}
    return OKX.read_instruments(json.dumps(body).encode(), 9).instruments


def test_a_contract_is_a_hundredth_of_a_bitcoin_and_lots_are_fractions_of_it():
    (found,) = listed()
    assert (found.name, found.symbol, found.kind) == ("BTC-USDT-PERP", "BTC-USDT-SWAP", "linear")
    assert (found.contract_size, found.tick_size, found.lot_size) == (0.01, 0.1, 0.0001)
    assert (found.taker_fee, found.maker_fee, found.funding_interval_h) == (0.0005, 0.0002, None)
    assert (found.status, found.ts_seen) == ("trading", 9)


def test_the_multiplier_counts():
    (found,) = listed(ctMult="10")
    assert found.contract_size == 0.1


def test_usdc_swaps_and_states():
    (found,) = listed(instId="BTC-USDC-SWAP", settleCcy="USDC", state="suspend")
    assert (found.name, found.quote, found.status) == ("BTC-USDC-PERP", "USDC", "suspend")


def test_names_hold_no_factor_here():
    (found,) = listed(instId="1000CAT-USDT-SWAP", ctValCcy="1000CAT")
    assert (found.name, found.price_unit) == ("1000CAT-USDT-PERP", 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"instId": "BTC-USD-SWAP", "ctType": "inverse", "ctValCcy": "USD", "settleCcy": "BTC"},
            id="inverse-is-another-venue",
        ),
        pytest.param({"instId": "BTC-USDT"}, id="spot"),
        pytest.param({"instId": "BTC-USD_UM-SWAP"}, id="another-quote"),
        pytest.param({"ctValCcy": "USDT"}, id="a-contract-worth-dollars"),
        pytest.param(
            {k: "" for k in CONTRACT if k not in {"instId", "instType", "state"}},
            id="identity-fields-only",
        ),
    ],
)
def test_what_is_not_listed(changes):
    assert listed(**changes) == []


def test_a_coming_instrument_may_have_nothing_but_a_name():
    body = b'{"code":"0","data":[{"instId":"A-USDT-SWAP","instType":"SWAP"}],"msg":""}'
    assert OKX.read_instruments(body, 0).instruments == []


def test_an_error_body_speaks():
    with pytest.raises(ValueError, match="51001 Instrument ID does not exist"):
        OKX.read_instruments(b'{"code":"51001","data":[],"msg":"Instrument ID does not exist"}', 0)


def test_time():
    assert OKX.read_time(b'{"code":"0","data":[{"ts":"1700000000001"}],"msg":""}') == T1 * MS


def test_funding_history_is_what_was_charged_oldest_first():
    rows = [
        {
            "instType": "SWAP",
            "instId": SWAP,
            "fundingRate": "0.0001515032",
            "realizedRate": rate,
            "fundingTime": str(ms),
        }
        for rate, ms in (("0.00015", T1 + 8 * H), ("", T1 + 4 * H), ("-0.0001", T1))
    ]
    body = json.dumps({"code": "0", "data": rows, "msg": ""}).encode()
    (poll,) = OKX.polls
    assert poll.channel == "funding" and "{symbol}" in poll.path
    assert OKX.read_rest(poll.what, SWAP, body) == [
        Funding(SWAP, None, None, -0.0001, None, T1 * MS, is_settled=True),
        Funding(SWAP, None, None, 0.00015, None, (T1 + 8 * H) * MS, is_settled=True),
    ]
    assert OKX.read_rest("time", SWAP, b"") == []


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("BTC-USDT-SWAP", "BTC-USDT-PERP"),
        ("BTC-USDC-SWAP", "BTC-USDC-PERP"),
        ("BTC-USD-SWAP", None),
        ("BTC-USDT", None),
        ("BTC-USD-220527", None),
    ],
)
def test_name_without_a_list(symbol, name):
    assert OKX.instrument_name(symbol) == name


def test_a_checksum_goes_on_with_one_side_where_the_other_ends():
    bids, asks = [("2", "1.50"), ("1", "5")], [("3", "4")]
    assert checksum(bids, asks) == signed(zlib.crc32(b"2:1.50:3:4:1:5"))
    assert checksum(bids, []) == signed(zlib.crc32(b"2:1.50:1:5"))
    assert checksum([], []) == 0


def test_a_checksum_is_of_25_levels():
    bids = [(str(100 - n), "1") for n in range(30)]
    assert checksum(bids, []) == checksum(bids[:25], []) != checksum(bids[:24], [])


def signed(crc):
    return crc - 2**32 if crc >= 2**31 else crc


# Laws: what the wire types encode, the decoder gives back

numbers = st.floats(1e-12, 1e12, allow_subnormal=False)
sizes = st.just(0.0) | numbers
times = st.integers(1, 4_000_000_000_000)
ids = st.integers(0, 2**63 - 1)
sides = st.lists(st.tuples(numbers, sizes), max_size=5)
bases = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
LAW = settings(deadline=None)


def encoded(channel, name, *rows, action=""):
    return msgspec.json.encode(okx.Push(arg=okx.Arg(channel, name), action=action, data=rows))


def levels(side):
    return [okx.Level(repr(price), repr(size)) for price, size in side]


@LAW
@given(bases, times, st.tuples(sides, sides), st.tuples(ids, ids | st.just(-1)))
def test_books_come_back(base, ms, both, place):
    (bids, asks), (number, before), name = both, place, f"{base}-USDT-SWAP"
    depth = okx.Depth(levels(asks), levels(bids), str(ms), 0, number, before)
    for channel, action in (("books", "update"), ("books", "snapshot"), ("books5", "")):
        payload, whole = encoded(channel, name, depth, action=action), action != "update"
        follows = None if whole else before
        told = Book(name, ms * MS, None, bids, asks, whole, number, follows)
        assert OKX.decode(payload) == [told]
        assert OKX.link(payload) == Link(f"{channel}.{name}", whole, number, follows)


@LAW
@given(bases, times, st.tuples(numbers, sizes), st.sampled_from(["buy", "sell"]), ids)
def test_trades_come_back(base, ms, level, side, number):
    (price, size), name = level, f"{base}-USDT-SWAP"
    deal = okx.Deal(name, str(number), repr(price), repr(size), side, str(ms), "1", "0", number)
    told = Trade(name, ms * MS, None, price, size, side, str(number))
    assert OKX.decode(encoded("trades", name, deal)) == [told]


@LAW
@given(bases, times, numbers, numbers, sizes)
def test_marks_come_back(base, ms, mark, index, interest):
    pair, name, ts = f"{base}-USDT", f"{base}-USDT-SWAP", str(ms)
    gauge = okx.Gauge(name, ts, "SWAP", markPx=repr(mark))
    assert OKX.decode(encoded("mark-price", name, gauge)) == [
        Mark(name, ms * MS, None, mark_price=mark)
    ]
    gauge = okx.Gauge(pair, ts, idxPx=repr(index))
    assert OKX.decode(encoded("index-tickers", pair, gauge)) == [
        Mark(name, ms * MS, None, index_price=index)
    ]
    gauge = okx.Gauge(name, ts, "SWAP", oi=repr(interest))
    assert OKX.decode(encoded("open-interest", name, gauge)) == [
        Mark(name, ms * MS, None, open_interest=interest)
    ]


@LAW
@given(bases, times, st.floats(-1, 1), st.sampled_from([1, 2, 4, 8]), st.booleans())
def test_funding_comes_back(base, ms, rate, hours, is_new):
    name, due = f"{base}-USDT-SWAP", ms + 8 * H
    row = okx.FundingRate(
        instId=name,
        fundingRate=repr(rate),
        fundingTime=str(due),
        ts=str(ms),
        nextFundingTime=str(due + (3 if is_new else hours) * H),
        prevFundingTime=str(due - hours * H) if is_new else "",
        settFundingRate="0.1",
        settState="settled",
    )
    assert OKX.decode(encoded("funding-rate", name, row)) == [
        Funding(name, ms * MS, None, rate, float(hours), due * MS)
    ]
