"""What each venue answers, as bytes: acks, errors in its own words, its quotes."""

import itertools
import json

import pytest

from perptape.events import MS, NS
from perptape.sims import VENUES, scenario

GATE_HEAD = (
    '{"time":1800000000,"time_ms":1800000000000,%s"conn_id":"7fd5955162597bf6",'
    '"trace_id":"8e33f1574f54c1686fb7952615595df7","channel":"%s","event":"%s","payload":%s,'
)


def gate(channel, payload, rest, event="subscribe", number='"id":1,'):
    return ((GATE_HEAD % (number, channel, event, payload)) + rest + "}").encode()


def gate_error(channel, payload, code, words, **head):
    rest = f'"error":{{"code":{code},"message":"{words}"}},"result":{{"status":"fail"}}'
    return gate(channel, payload, rest, **head)


def gate_ask(channel, payload, event="subscribe"):
    ask = {"time": 1800000000, "id": 1, "channel": channel, "event": event, "payload": payload}
    return json.dumps(ask).encode()


def bitget(channel, symbol, family="USDT-FUTURES", op="subscribe"):
    arg = {"instType": family, "channel": channel, "instId": symbol}
    return json.dumps({"op": op, "args": [arg]}).encode()


def bybit(ret_msg, success="false", number="e1", op="subscribe"):
    return (
        f'{{"success":{success},"ret_msg":"{ret_msg}","conn_id":"1e35949a8d486c53e682-6bd9",'
        f'"req_id":"{number}","op":"{op}"}}'
    ).encode()


def bybit_ask(*topics, op="subscribe"):
    return json.dumps({"req_id": "e1", "op": op, "args": topics}).encode()


@pytest.mark.parametrize(
    ("venue", "said", "answer"),
    [
        pytest.param("bitget", b"ping", b"pong", id="bitget-ping"),
        pytest.param(
            "bitget",
            bitget("books1", "NOPEUSDT"),
            b'{"event":"error","arg":{"instType":"USDT-FUTURES","channel":"books1",'
            b'"instId":"NOPEUSDT"},"code":30001,"msg":"instType:USDT-FUTURES,channel:books1,'
            b'instId:NOPEUSDT,precision:null doesn\'t exist","op":"subscribe"}',
            id="bitget-unknown-symbol",
        ),
        pytest.param(
            "bitget",
            bitget("books50", "BTCUSDT"),
            b'{"event":"error","arg":{"instType":"USDT-FUTURES","channel":"books50",'
            b'"instId":"BTCUSDT"},"code":30016,"msg":"Param error","op":"subscribe"}',
            id="bitget-unknown-channel",
        ),
        pytest.param(
            "bitget",
            bitget("books1", "BTCUSDT", "USDC-FUTURES"),
            b'{"event":"subscribe","arg":{"instType":"USDC-FUTURES","channel":"books1",'
            b'"instId":"BTCUSDT"}}',
            id="bitget-wrong-family-is-acknowledged",
        ),
        pytest.param(
            "bitget",
            b'{"ping":1}',
            b'{"event":"error","code":30002,"msg":"Unrecognized request:{\\"ping\\":1}"}',
            id="bitget-json-ping",
        ),
        pytest.param(
            "htx",
            b'{"sub":"market.NOPE-USDT.bbo","id":"e1"}',
            b'{"status":"error","ts":1800000000000,"id":"e1","err-code":"bad-request",'
            b'"err-msg":"invalid topic market.NOPE-USDT.bbo"}',
            id="htx-unknown-contract",
        ),
        pytest.param(
            "htx",
            b'{"sub":"market.BTC-USDT.depth.size_400.high_freq","id":"e2"}',
            b'{"status":"error","ts":1800000000000,"id":"e2","err-code":"bad-request",'
            b'"err-msg":"invalid topic market.BTC-USDT.depth.size_400.high_freq"}',
            id="htx-unknown-channel",
        ),
        pytest.param(
            "htx",
            b"hello",
            b'{"status":"error","ts":1800000000000,"id":"","err-code":"bad-request",'
            b'"err-msg":"not json, is not json string"}',
            id="htx-not-json",
        ),
        pytest.param("htx", b'{"ping":1800000000000}', None, id="htx-client-ping-is-ignored"),
        pytest.param(
            "gateio",
            b'{"time":1800000000,"channel":"futures.ping"}',
            b'{"time":1800000000,"time_ms":1800000000000,"conn_id":"7fd5955162597bf6",'
            b'"channel":"futures.pong","event":"","result":null}',
            id="gateio-ping",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.book_ticker", ["BTC_USDT", "ETH_USDT"]),
            gate(
                "futures.book_ticker",
                '["BTC_USDT","ETH_USDT"]',
                '"result":{"status":"success"}',
            ),
            id="gateio-ack-and-no-snapshot",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.book_ticker", ["BTC_USDT", "NOPE_USDT"]),
            gate_error(
                "futures.book_ticker",
                '["BTC_USDT","NOPE_USDT"]',
                2,
                "unknown currency pair: NOPE_USDT",
            ),
            id="gateio-one-bad-contract-spoils-the-frame",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.order_book_update", ["NOPE_USDT", "100ms", "100"]),
            gate_error(
                "futures.order_book_update",
                '["NOPE_USDT","100ms","100"]',
                2,
                "unknown currency pair NOPE_USDT",
            ),
            id="gateio-the-other-wording",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.order_book_update", ["BTC_USDT", "100ms", "30"]),
            gate_error(
                "futures.order_book_update",
                '["BTC_USDT","100ms","30"]',
                2,
                "provided level not supported: 30",
            ),
            id="gateio-bad-level",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.nope", ["BTC_USDT"]),
            gate_error("futures.nope", '["BTC_USDT"]', 2, "Unknown channel futures.nope"),
            id="gateio-unknown-channel",
        ),
        pytest.param(
            "gateio",
            gate_ask("futures.obu", ["ob.NOPE_USDT.50"]),
            gate("futures.obu", '["ob.NOPE_USDT.50"]', '"result":{"status":"success"}'),
            id="gateio-obu-acknowledges-what-does-not-exist",
        ),
        pytest.param(
            "gateio",
            b"hello",
            gate_error("", "[]", 1, "request message need json scheme", number="", event=""),
            id="gateio-not-json",
        ),
        pytest.param(
            "bybit",
            b'{"op":"ping","req_id":"p1"}',
            bybit("pong", "true", "p1", "ping"),
            id="bybit-ping",
        ),
        pytest.param(
            "bybit", b'{"op":"ping"}', bybit("pong", "true", "", "ping"), id="bybit-ping-no-id"
        ),
        pytest.param(
            "bybit",
            bybit_ask("orderbook.1.BTCUSDT", "orderbook.1.NOPEUSDT"),
            bybit("error:handler not found,topic:orderbook.1.NOPEUSDT"),
            id="bybit-all-or-nothing",
        ),
        pytest.param(
            "bybit",
            bybit_ask("orderbook.500.BTCUSDT"),
            bybit("error:handler not found,topic:orderbook.500.BTCUSDT"),
            id="bybit-removed-depth",
        ),
        pytest.param(
            "bybit",
            bybit_ask("orderbook.1.btcusdt"),
            bybit("error:handler not found,topic:orderbook.1.btcusdt"),
            id="bybit-lower-case",
        ),
        pytest.param(
            "bybit", bybit_ask(op="nope"), bybit("error:invalid op", op="nope"), id="bybit-bad-op"
        ),
        pytest.param(
            "bybit",
            b"hello",
            bybit(
                "Failed to decode incoming data:readObjectStart: expect { or n, but found h",
                number="",
                op="",
            ),
            id="bybit-not-json",
        ),
    ],
)
def test_the_answer_to_one_message(table, venue, said, answer):
    seat = table(venue)
    talk = seat.connect()
    assert seat.say(talk, said) == ([] if answer is None else [answer])
    assert talk.ended is None


@pytest.mark.parametrize(
    ("venue", "said", "ack", "data"),
    [
        pytest.param(
            "bitget",
            bitget("books1", "BTCUSDT"),
            b'{"event":"subscribe","arg":{"instType":"USDT-FUTURES","channel":"books1",'
            b'"instId":"BTCUSDT"}}',
            b'{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books1",'
            b'"instId":"BTCUSDT"},"data":[{"asks":[["%(ask)s","%(ask_qty)s"]],'
            b'"bids":[["%(bid)s","%(bid_qty)s"]],"ts":"1800000000000",'
            b'"seq":%(seq)d,"pseq":0}],"ts":1800000000000}',
            id="bitget",
        ),
        pytest.param(
            "htx",
            b'{"sub":"market.btc-usdt.bbo","id":"7"}',
            b'{"id":"7","status":"ok","subbed":"market.btc-usdt.bbo","ts":1800000000000}',
            b'{"ch":"market.BTC-USDT.bbo","ts":1800000000000,"tick":{"mrid":%(seq)d,'
            b'"id":1800000000,"bid":[%(bid)s,%(bid_qty)s],"ask":[%(ask)s,%(ask_qty)s],'
            b'"ts":1800000000000,"version":%(seq)d,"ch":"market.BTC-USDT.bbo"}}',
            id="htx",
        ),
        pytest.param(
            "bybit",
            bybit_ask("orderbook.1.BTCUSDT"),
            bybit("", "true"),
            b'{"topic":"orderbook.1.BTCUSDT","ts":1800000000000,"type":"snapshot",'
            b'"data":{"s":"BTCUSDT","b":[["%(bid)s","%(bid_qty)s"]],'
            b'"a":[["%(ask)s","%(ask_qty)s"]],"u":31398001,"seq":%(seq)d},'
            b'"cts":1800000000000}',
            id="bybit",
        ),
    ],
)
def test_a_subscription_is_acknowledged_and_greeted(table, venue, said, ack, data):
    seat = table(venue)
    answers = seat.say(seat.connect(), said)
    assert len(answers) == 2
    assert set(answers) == {ack, data % first_state(seat, "BTC")}


def first_state(seat, base):
    """The first state of a market as its venue prints it."""
    contract = VENUES[seat.exchange.name].contracts[base]
    top = seat.exchange.feeds[contract.symbol].current
    lots = contract.lot.padded if seat.exchange.name == "bybit" else contract.lot.text
    first_seq = {
        "bitget": 427_583_000_000,
        "htx": 100_129_125_000_000,
        "bybit": 764_144_000_000,
        "gateio": 126_202_000_000,
    }
    return {
        b"bid": contract.tick.text(top.bid).encode(),
        b"ask": contract.tick.text(top.ask).encode(),
        b"bid_qty": lots(top.bid_lots).encode(),
        b"ask_qty": lots(top.ask_lots).encode(),
        b"seq": first_seq[seat.exchange.name] + top.update_id,
    }


@pytest.mark.parametrize(
    ("headers", "shown"),
    [({}, b'"B":%(bid_qty)s'), ({"x-gate-size-decimal": "1"}, b'"B":"%(bid_qty)s"')],
    ids=["integers", "decimals"],
)
def test_gate_prints_sizes_as_the_handshake_asked(table, headers, shown):
    seat = table("gateio")
    talk = seat.connect(headers)
    seat.say(talk, gate_ask("futures.book_ticker", ["ETH_USDT"]))
    data = seat.turn(talk, NS)[-1]
    size = first_state(seat, "ETH")[b"bid_qty"]
    whole = size if headers else size.partition(b".")[0]
    assert shown % {b"bid_qty": whole} in data


def test_gate_quotes_are_told_only_when_they_change_and_skip_ids(table):
    seat = table("gateio")
    talk = seat.connect()
    assert len(seat.say(talk, gate_ask("futures.book_ticker", ["BTC_USDT"]))) == 1
    ids = [json.loads(frame)["result"]["u"] for frame in seat.turn(talk, NS)]
    steps = {after - before for before, after in itertools.pairwise(ids)}
    assert len(steps) > 3 and min(steps) >= 1 < max(steps)


def test_htx_sends_the_first_frame_before_or_after_the_ack(table):
    orders = set()
    for base in ("BTC", "ETH", "SOL", "XRP", "DOGE"):
        seat = table("htx", instruments=tuple(f"{b}-USDT-PERP" for b in VENUES["htx"].contracts))
        for stream in ("bbo", "depth.step0"):
            talk = seat.connect()
            first, _ = seat.say(talk, f'{{"sub":"market.{base}-USDT.{stream}","id":"1"}}'.encode())
            orders.add(b'"tick"' in first)
    assert orders == {True, False}


def test_htx_answers_a_second_subscription_with_a_fresh_snapshot(table):
    seat = table("htx")
    talk = seat.connect()
    ask = b'{"sub":"market.BTC-USDT.bbo","id":"1"}'
    assert len(seat.say(talk, ask)) == len(seat.say(talk, ask)) == 2
    told = [json.loads(frame)["tick"]["mrid"] for frame in seat.turn(talk, NS)]
    assert len(told) == len(set(told)) > 20


def test_htx_step0_is_a_whole_book_and_comes_once_a_second_when_nothing_changes(table):
    seat = table("htx", venues=slow("htx"))
    talk = seat.connect()
    frames = seat.say(talk, b'{"sub":"market.BTC-USDT.depth.step0","id":"1"}')
    for tenth in range(1, 31):
        frames += seat.turn(talk, tenth * 100 * MS)
    books = [json.loads(frame) for frame in frames if b'"tick"' in frame]
    assert len(books) == 4
    assert len({book["tick"]["mrid"] for book in books}) == 1
    for book in books:
        tick = book["tick"]
        assert tick["version"] == tick["id"] == tick["ts"] // 1000
        assert len(tick["bids"]) == len(tick["asks"]) == 150
        assert tick["bids"] == sorted(tick["bids"], reverse=True)
        assert tick["asks"] == sorted(tick["asks"])


def slow(venue):
    """A market that does not move in a test's time."""
    return {**scenario.CHARACTERS, venue: scenario.Character(updates_per_s=1e-6)}


def test_bybit_repeats_a_quiet_quote_after_three_seconds_under_the_same_u(table):
    seat = table("bybit", venues=slow("bybit"))
    talk = seat.connect()
    first = json.loads(seat.say(talk, bybit_ask("orderbook.1.BTCUSDT"))[1])
    assert seat.turn(talk, 2_999 * MS) == []
    (again,) = map(json.loads, seat.turn(talk, 3 * NS))
    assert again["data"] == first["data"]
    assert again["ts"] == first["ts"] + 3000
    assert seat.turn(talk, 3_001 * MS) == []


def test_bybit_refuses_a_topic_that_is_there_and_keeps_telling_it(table):
    seat = table("bybit")
    talk = seat.connect()
    seat.say(talk, bybit_ask("orderbook.1.BTCUSDT"))
    answer = seat.say(talk, bybit_ask("orderbook.1.ETHUSDT", "orderbook.1.BTCUSDT"))
    assert answer == [bybit("error:already subscribed,topic:orderbook.1.BTCUSDT")]
    assert {json.loads(f)["topic"] for f in seat.turn(talk, NS)} == {"orderbook.1.BTCUSDT"}


@pytest.mark.parametrize(
    ("venue", "join", "part"),
    [
        ("bitget", bitget("books1", "BTCUSDT"), bitget("books1", "BTCUSDT", op="unsubscribe")),
        (
            "htx",
            b'{"sub":"market.BTC-USDT.bbo","id":"1"}',
            b'{"unsub":"market.BTC-USDT.bbo","id":"2"}',
        ),
        (
            "gateio",
            gate_ask("futures.book_ticker", ["BTC_USDT"]),
            gate_ask("futures.book_ticker", ["BTC_USDT"], "unsubscribe"),
        ),
        (
            "bybit",
            bybit_ask("orderbook.1.BTCUSDT"),
            bybit_ask("orderbook.1.BTCUSDT", op="unsubscribe"),
        ),
    ],
)
def test_after_an_unsubscribe_there_is_silence(table, venue, join, part):
    seat = table(venue)
    talk = seat.connect()
    seat.say(talk, join)
    assert seat.turn(talk, NS)
    assert len(seat.say(talk, part, NS)) == 1
    assert seat.turn(talk, 2 * NS) == []
