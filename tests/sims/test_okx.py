"""OKX's simulator, heard with the recorder's own reader: its words, books, trades and REST."""

import json
from itertools import pairwise
from urllib.parse import parse_qsl, urlsplit

import pytest

from perptape.errors import LostSync
from perptape.events import MS, NS, Book, Funding, Mark
from perptape.session import Session, State, Wanted
from perptape.sims import VENUES, scenario
from perptape.sims.market import levels
from perptape.venues.okx import OKX
from perptape.venues.venue import Accepted, Leaving, Rejected

BTC = VENUES["okx"].contracts["BTC"]
STEP_NS = 20 * MS
H = 3_600_000


def topic(channel, symbol="BTC-USDT-SWAP", stream=None):
    return OKX.topic(channel, stream or OKX.streams[channel][0], symbol)


def marks():
    return [topic("marks", stream=part) for part in OKX.streams["marks"][0].split("+")]


def listen(seat, topics, until_ns=2 * NS):
    """Subscribe, and give the data that comes at each moment until then."""
    talk = seat.connect()
    said = [each for frame in OKX.subscribe(topics, 0) for each in seat.say(talk, frame)]
    yield [frame for frame in said if OKX.is_data(frame)]
    for at_ns in range(STEP_NS, until_ns + 1, STEP_NS):
        yield seat.turn(talk, at_ns)


def heard(seat, topics, until_ns=2 * NS):
    """All events of a connection."""
    moments = listen(seat, topics, until_ns)
    return [event for frames in moments for frame in frames for event in OKX.decode(frame)]


def still():
    """A market that does not move in a test's time."""
    quiet = scenario.Character(updates_per_s=1e-6, latency_ms=5, jitter_ms=1)
    return {**scenario.CHARACTERS, "okx": quiet}


def ask(*args, op="subscribe", **more):
    named = [{"channel": channel, "instId": name} for channel, name in args]
    return json.dumps({"op": op, "args": named, **more}).encode()


BBO = ("bbo-tbt", "BTC-USDT-SWAP")


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(b"ping", b"pong", id="the-heartbeat-is-bare-text"),
        pytest.param(
            ask(("bbo-tbt", "FOO-USDT-SWAP")),
            b'{"event":"error","code":"60018","msg":"Wrong URL or channel:bbo-tbt,'
            b"instId:FOO-USDT-SWAP doesn't exist. Please use the correct URL, channel and "
            b'parameters referring to API document.","connId":"%(conn)b"}',
            id="the-topic-is-only-in-the-words",
        ),
        pytest.param(
            ask(("candle1m", "BTC-USDT-SWAP"), id="c1"),
            b'{"id":"c1","event":"error","code":"60018","msg":"Wrong URL or channel:candle1m,'
            b"instId:BTC-USDT-SWAP doesn't exist. Please use the correct URL, channel and "
            b'parameters referring to API document.","connId":"%(conn)b"}',
            id="candles-are-elsewhere",
        ),
        pytest.param(
            b"hello",
            b'{"event":"error","code":"60012","msg":"Illegal request: hello",'
            b'"connId":"%(conn)b"}',
            id="not-json",
        ),
        pytest.param(
            b'{"op":"subscribe","args":["spot/ticker:BTC-USDT"]}',
            b'{"event":"error","code":"60012","msg":"Illegal request: {\\"op\\":\\"subscribe\\",'
            b'\\"args\\":[\\"spot/ticker:BTC-USDT\\"]}","connId":"%(conn)b"}',
            id="arguments-of-another-shape",
        ),
        pytest.param(
            ask(BBO, op="shout"),
            b'{"event":"error","code":"60019","msg":"Invalid op: shout","connId":"%(conn)b"}',
            id="bad-op",
        ),
        pytest.param(
            ask(("books-l2-tbt", "BTC-USDT-SWAP")),
            b'{"event":"error","code":"60029","msg":"books-l2-tbt needs a login",'
            b'"connId":"%(conn)b"}',
            id="an-account-is-needed",
        ),
    ],
)  # fmt: skip
def test_the_answer_to_one_message(table, said, answer):
    seat = table("okx")
    talk = seat.connect()
    assert seat.say(talk, said) == [answer.replace(b"%(conn)b", talk.token[:8].encode())]
    assert talk.ended is None


def test_one_ack_a_topic_and_a_bad_one_spoils_nothing(table):
    seat = table("okx")
    talk = seat.connect()
    bad, index = ("bbo-tbt", "FOO-USDT-SWAP"), ("index-tickers", "BTC-USDT")
    said = seat.say(talk, ask(BBO, bad, index, id="s1"))
    control = [OKX.control(frame) for frame in said]
    assert control[0] == Accepted(("bbo-tbt.BTC-USDT-SWAP",))
    assert isinstance(control[2], Rejected) and control[2].keys == ("bbo-tbt.FOO-USDT-SWAP",)
    assert control[3] == Accepted(("index-tickers.BTC-USDT",))
    assert [OKX.is_data(frame) for frame in said] == [False, True, False, False, True]
    assert [json.loads(said[n]).get("id") for n in (0, 2, 3)] == ["s1"] * 3


def test_our_own_session_hears_all_channels_and_learns_of_the_refused_one(table):
    seat = table("okx")
    asked = [topic(channel) for channel in ("quotes", "books", "trades", "funding")] + marks()
    asked.append(topic("quotes", "FOO-USDT-SWAP"))
    session = Session(OKX, [Wanted("okx:X", each) for each in asked], 0)
    talk = seat.connect()
    (request,) = session.to_send(0, seat.start_ns)
    session.receive(seat.say(talk, request), 1)
    assert [line.state for line in session.lines] == [State.HEARD] * 7 + [State.REFUSED]
    assert "FOO-USDT-SWAP doesn't exist" in session.lines[-1].reason


@pytest.mark.parametrize("stream", OKX.streams["books"])
def test_a_book_rebuilt_from_its_changes_is_the_markets(table, stream):
    seat = table("okx")
    sides, last, told = ({}, {}), None, 0
    for frames in listen(seat, [topic("books", stream=stream)]):
        for (book,) in map(OKX.decode, frames):
            assert isinstance(book, Book)
            if book.is_snapshot:
                sides = {}, {}
            else:
                assert book.follows == last < book.update_id
            for side, changed in zip(sides, (book.bids, book.asks), strict=True):
                side.update(changed)
                for price in [price for price, qty in changed if not qty]:
                    del side[price]
            last, told = book.update_id, told + 1
        if frames:
            assert list(sides) == true_book(seat, 5 if stream == "books5" else 400)
    assert 10 <= told <= 21


def true_book(seat, depth):
    """What stands in the book now, as the venue prints it."""
    top = seat.exchange.feeds["BTC-USDT-SWAP"].current
    return [
        {float(BTC.tick.text(price)): float(BTC.lot.text(lots)) for price, lots in side}
        for side in levels(BTC, top, depth)
    ]


def test_only_the_snapshot_follows_nothing_and_every_checksum_is_dead(table):
    seat = table("okx")
    said = [json.loads(f) for frames in listen(seat, [topic("books")]) for f in frames]
    rows = [frame["data"][0] for frame in said]
    assert [frame["action"] for frame in said] == ["snapshot"] + ["update"] * (len(said) - 1)
    assert {row["checksum"] for row in rows} == {0}
    assert rows[0]["prevSeqId"] == -1 and len(rows[0]["bids"]) == 400
    steps = {after["seqId"] - after["prevSeqId"] for after in rows[1:]}
    assert len(steps) > 3
    for before, after in pairwise(rows):
        assert after["prevSeqId"] == before["seqId"]


def quiet_minute(seat, stream):
    """What a market that does not move says at once, and after a minute, to one who pings."""
    talk = seat.connect()
    _, first = seat.say(talk, ask((stream, "BTC-USDT-SWAP")))
    for second in (29, 58):
        assert seat.say(talk, b"ping", second * NS) == [b"pong"]
    assert seat.turn(talk, 59 * NS) == []
    (later,) = seat.turn(talk, 60 * NS)
    return first, later


def test_a_quiet_book_says_after_a_minute_that_it_lives(table):
    first, later = quiet_minute(table("okx", venues=still()), "books")
    (snapshot,), (live,) = OKX.decode(first), OKX.decode(later)
    assert (live.bids, live.asks, live.is_snapshot) == ([], [], False)
    assert live.update_id == live.follows == snapshot.update_id


@pytest.mark.parametrize("stream", ["bbo-tbt", "books5"])
def test_a_quiet_quote_is_repeated_after_a_minute(table, stream):
    first, later = quiet_minute(table("okx", venues=still()), stream)
    assert first == later


def test_the_first_trade_is_of_before_and_each_later_one_is_told_once(table):
    seat = table("okx")
    market = seat.exchange.markets["BTC-USDT-SWAP"]
    before = len(market.trades.recent)
    first, *told = heard(seat, [topic("trades")], 5 * NS)
    made = list(market.trades.recent)
    assert len(told) > 5 and OKX.replays_trades
    assert [(t.ts_event // MS, t.price, t.qty, t.side, t.trade_id) for t in (first, *told)] == [
        (
            (seat.start_ns + m.at_ns) // MS,
            float(BTC.tick.text(m.price)),
            float(BTC.lot.text(m.lots)),
            "buy" if m.is_buy else "sell",
            str(m.number),
        )
        for m in made[before - 1 :]
    ]
    assert first.ts_event < seat.start_ns


def test_marks_come_from_three_streams_each_at_its_pace(table):
    seat = table("okx")
    events = heard(seat, marks(), 7 * NS)
    ticker = seat.exchange.markets["BTC-USDT-SWAP"].tickers.at(0, seat.start_ns)
    assert all(isinstance(event, Mark) and event.symbol == "BTC-USDT-SWAP" for event in events)
    told = {
        name: [getattr(e, name) for e in events if getattr(e, name) is not None]
        for name in ("mark_price", "index_price", "open_interest")
    }
    assert {name: len(found) for name, found in told.items()} == {
        "mark_price": 36,
        "index_price": 71,
        "open_interest": 3,
    }
    assert told["mark_price"][0] == pytest.approx(ticker.mark_price, abs=0.051)
    assert told["index_price"][0] == pytest.approx(ticker.index_price, abs=0.051)
    assert told["open_interest"][0] == pytest.approx(ticker.open_interest * 0.01, rel=1e-12)


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_funding_says_its_interval(table, hours):
    seat = table("okx", funding_interval_h={"okx:BTC-USDT-PERP": hours})
    (told,) = heard(seat, [topic("funding")])
    ticker = seat.exchange.markets["BTC-USDT-SWAP"].tickers.at(0, seat.start_ns)
    due_ns = ticker.ts_funding_ns
    name, ts = "BTC-USDT-SWAP", seat.start_ns
    assert told == Funding(name, ts, None, ticker.rate, float(hours), due_ns)


def test_480_requests_an_hour(table):
    seat = table("okx")
    talk = seat.connect()
    for _ in range(480):
        assert len(seat.say(talk, ask(BBO, op="unsubscribe"))) == 1
    assert b'"code":"60014"' in seat.say(talk, ask(BBO))[0]
    assert seat.say(talk, b"ping") == [b"pong"]
    later = 3600 * NS
    assert OKX.control(seat.say(talk, ask(BBO), later)[0]) == Accepted(("bbo-tbt.BTC-USDT-SWAP",))


def test_30_s_without_a_word_end_a_connection(table):
    seat = table("okx")
    talk = seat.connect()
    seat.say(talk, b"ping", 20 * NS)
    assert seat.turn(talk, 49 * NS) == [] and talk.ended is None
    (last,) = seat.turn(talk, 50 * NS)
    assert b'"code":"60015"' in last and talk.ended.code == 4004


def test_its_own_words_keep_a_connection(table):
    seat = table("okx")
    talk = seat.connect()
    seat.say(talk, ask(("index-tickers", "BTC-USDT")))
    for second in range(1, 70):
        seat.turn(talk, second * NS)
    assert talk.ended is None


def test_it_warns_before_it_leaves():
    said = VENUES["okx"].farewell(0)
    assert isinstance(OKX.control(said), Leaving)
    session = Session(OKX, [Wanted("okx:X", topic("quotes"))], 0)
    with pytest.raises(LostSync, match="service upgrade"):
        session.receive([said], 1)


def test_after_an_unsubscribe_there_is_silence(table):
    seat = table("okx")
    talk = seat.connect()
    seat.say(talk, ask(BBO))
    assert seat.turn(talk, NS)
    (gone,) = seat.say(talk, *OKX.unsubscribe([topic("quotes")], 0), NS)
    assert json.loads(gone)["event"] == "unsubscribe"
    assert seat.turn(talk, 2 * NS) == []


def test_a_second_subscription_brings_a_fresh_snapshot(table):
    seat = table("okx")
    talk = seat.connect()
    asked = ask(("books", "BTC-USDT-SWAP"))
    seat.say(talk, asked)
    (before,) = OKX.decode(seat.turn(talk, NS)[-1])
    _, again = seat.say(talk, asked, NS)
    (snapshot,) = OKX.decode(again)
    assert snapshot.is_snapshot and snapshot.update_id == before.update_id
    (after,) = OKX.decode(seat.turn(talk, 2 * NS)[0])
    assert after.follows == snapshot.update_id


def rest(seat, target, at_ns=0):
    url = urlsplit(target)
    answer = seat.exchange.rest(url.path, dict(parse_qsl(url.query)), {}, seat.start_ns + at_ns)
    return answer.status, json.loads(answer.body)


def rows(seat, target, at_ns=0):
    status, body = rest(seat, target, at_ns)
    assert (status, body["code"], body["msg"]) == (200, "0", "")
    return body["data"]


def test_funding_history_is_read_as_what_was_paid(table):
    seat = table("okx")
    (poll,) = OKX.polls
    url = urlsplit(poll.path.format(symbol="BTC-USDT-SWAP"))
    answer = seat.exchange.rest(url.path, dict(parse_qsl(url.query)), {}, seat.start_ns)
    told = OKX.read_rest(poll.what, "BTC-USDT-SWAP", answer.body)
    settled = seat.exchange.markets["BTC-USDT-SWAP"].tickers.settled(0, seat.start_ns)
    assert len(told) == 10 and all(one.is_settled for one in told)
    assert [(one.ts_funding, one.rate) for one in told] == list(settled[-10:])


def test_funding_history_by_time(table):
    seat = table("okx")
    base = "/api/v5/public/funding-rate-history?instId=BTC-USDT-SWAP"
    times = [int(row["fundingTime"]) for row in rows(seat, f"{base}&limit=5")]
    assert times == [times[0] - k * 8 * H for k in range(5)]
    newer = rows(seat, f"{base}&before={times[2]}")
    assert [int(row["fundingTime"]) for row in newer] == times[:2]
    older = rows(seat, f"{base}&after={times[2]}&limit=2")
    assert [int(row["fundingTime"]) for row in older] == times[3:]


def test_rest_says_what_the_streams_say(table):
    seat = table("okx", instruments=("BTC-USDT-PERP", "ETH-USDT-PERP"))
    channels = {
        "/api/v5/public/mark-price?instType=SWAP": "mark-price",
        "/api/v5/market/index-tickers?instId=BTC-USDT": "index-tickers",
        "/api/v5/public/open-interest?instType=SWAP": "open-interest",
        "/api/v5/public/funding-rate?instId=ANY": "funding-rate",
        "/api/v5/market/tickers?instType=SWAP": "tickers",
    }
    for target, channel in channels.items():
        name = "BTC-USDT" if channel == "index-tickers" else "BTC-USDT-SWAP"
        _, told = seat.say(seat.connect(), ask((channel, name)))
        found = rows(seat, target)
        assert len(found) == (1 if channel == "index-tickers" else 2)
        assert found[0] == json.loads(told)["data"][0]


def test_books_and_trades_by_rest(table):
    seat = table("okx")
    for path, depth in (("books", 400), ("books-full", 1000)):
        (book,) = rows(seat, f"/api/v5/market/{path}?instId=BTC-USDT-SWAP&sz={depth}")
        sides = [{float(p): float(q) for p, q, *_ in book[key]} for key in ("bids", "asks")]
        assert sides == true_book(seat, depth) and "seqId" not in book
    trades = rows(seat, "/api/v5/market/trades?instId=BTC-USDT-SWAP&limit=7")
    assert len(trades) == 7
    assert [int(t["tradeId"]) for t in trades] == list(range(30, 23, -1))


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/v5/public/instruments", 200, "50014"),
        ("/api/v5/public/instruments?instId=BTC-USDT-SWAP", 200, "50014"),
        ("/api/v5/public/instruments?instType=NOPE", 200, "51000"),
        ("/api/v5/public/instruments?instType=SWAP&instId=NOPE", 200, "51001"),
        ("/api/v5/public/instruments?instType=SPOT", 200, "0"),
        ("/api/v5/public/funding-rate?instId=NOPE-USDT-SWAP", 200, "51001"),
        ("/api/v5/public/funding-rate-history?instType=SWAP", 200, "50014"),
        (
            "/api/v5/public/funding-rate-history?instId=BTC-USDT-SWAP&before=x",
            200,
            "51000",
        ),
        ("/api/v5/market/books?instId=BTC-USDT-SWAP&sz=401", 200, "51000"),
        ("/api/v5/market/index-tickers?instId=BTC-USDT-SWAP", 200, "51001"),
        ("/nope", 404, "404"),
    ],
)
def test_rest_errors(table, target, status, code):
    found, body = rest(table("okx", instruments=("BTC-USDT-PERP", "ETH-USDT-PERP")), target)
    assert (found, body["code"], body["data"]) == (status, code, [])
