"""What the simulated Binance says is what our decoder hears, and what its market was."""

import asyncio
import json
from bisect import bisect_right
from itertools import pairwise

import msgspec
import pytest

from perptape.chain import Chain, Verdict
from perptape.clock import Clock
from perptape.errors import Silent
from perptape.events import MS, NS, Book, Funding, Kind, Mark, Quote, Trade
from perptape.record import Plan, record
from perptape.route import at
from perptape.session import Session, State, Wanted
from perptape.sims import VENUES, scenario
from perptape.sims.binance import PONG_WITHIN_NS
from perptape.sims.binance_rest import TRADES, U
from perptape.sims.dialect import Ping
from perptape.sims.exchange import Market
from perptape.sims.market import levels
from perptape.sims.server import Server
from perptape.sims.truth import Truth
from perptape.tape import Tape, TapeWriter
from perptape.venues.binance import BINANCE
from perptape.venues.venue import Accepted, Alive, Complaint

SYMBOL = "BTCUSDT"
PUBLIC, SPLIT_MARKET = "/public/stream", "/market/stream"


def asked(seat, *streams, path=PUBLIC, at_ns=0):
    """Subscribe as we do; every subscribe is acknowledged, and nothing comes at once."""
    talk = seat.connect(path=path, at_ns=at_ns)
    for ask in BINANCE.subscribe([BINANCE.topic("", s, SYMBOL) for s in streams], 0):
        (ack,) = seat.say(talk, ask, at_ns)
        assert BINANCE.control(ack) == Accepted(())
    return talk


def played(seat, talk, until_ns, from_ns=0, step_ns=10 * MS):
    return [
        frame
        for at_ns in range(from_ns + step_ns, until_ns + 1, step_ns)
        for frame in seat.turn(talk, at_ns)
    ]


def events(frames):
    return [event for frame in frames for event in BINANCE.decode(frame)]


def fetched(seat, path, at_ns=0):
    path, _, query = path.partition("?")
    pairs = dict(pair.split("=") for pair in query.split("&") if pair)
    answer = seat.exchange.rest(path, pairs, {}, seat.start_ns + at_ns)
    return answer.status, answer.body


def polled(seat, what, at_ns=0):
    (path,) = [poll.path for poll in BINANCE.polls if poll.what == what]
    status, body = fetched(seat, path.format(symbol=SYMBOL), at_ns)
    assert status == 200
    return BINANCE.read_rest(what, SYMBOL, body)


def told(seat, top, depth):
    contract = seat.exchange.markets[SYMBOL].contract
    tick, lot = contract.tick, contract.lot
    sides = levels(contract, top, depth)
    return [[(float(tick.text(p)), float(lot.text(q))) for p, q in side] for side in sides]


def states(seat, until_ns):
    """The same market, played again: by the id of each state."""
    contract = seat.exchange.markets[SYMBOL].contract
    feed = Market(scenario_of(seat), "binance", contract).feed
    return {U + top.update_id: top for top in (feed.current, *feed.due(until_ns))}


def scenario_of(seat):
    return seat.exchange.feeds[SYMBOL].scenario


@pytest.mark.parametrize("stream", ["depth@100ms", "depth@0ms"])
@pytest.mark.parametrize("base_ms", [0, 35, 730])
def test_a_book_over_rest_is_the_market_and_its_top_the_last_quote(table, stream, base_ms):
    seat = table("binance")
    talk = asked(seat, stream, "bookTicker")
    frames = played(seat, talk, base_ms * MS, step_ns=5 * MS)
    path = BINANCE.bases[stream].format(symbol=SYMBOL)
    _, body = fetched(seat, path, base_ms * MS)
    frames += played(seat, talk, 2 * NS, base_ms * MS, step_ns=5 * MS)

    (base,) = BINANCE.read_rest("book", SYMBOL, body)
    chain, sides, applied = Chain(), [dict(base.bids), dict(base.asks)], 0
    assert chain.step(base.update_id, None, is_snapshot=True) is Verdict.APPLY
    heard, truth = events(frames), states(seat, 2 * NS)
    quotes = [event for event in heard if isinstance(event, Quote)]
    ids = [quote.update_id for quote in quotes]
    assert ids == sorted(ids)
    for change in [event for event in heard if isinstance(event, Book)]:
        verdict = chain.step(change.update_id, change.follows, is_snapshot=False)
        assert verdict is (Verdict.OLD if change.update_id <= base.update_id else Verdict.APPLY)
        if verdict is Verdict.OLD:
            continue
        applied += 1
        for side, news in zip(sides, (change.bids, change.asks), strict=True):
            side.update(news)
            for price in [price for price, qty in news if not qty]:
                del side[price]
        book = [sorted(sides[0].items(), reverse=True)[:300], sorted(sides[1].items())[:300]]
        assert book == told(seat, truth[change.update_id], 300)
        if ids[0] > change.update_id:
            continue  # no quote yet
        top = quotes[bisect_right(ids, change.update_id) - 1]
        assert [book[0][0], book[1][0]] == [
            (top.bid_price, top.bid_qty),
            (top.ask_price, top.ask_qty),
        ]
    assert applied > 10


def test_ids_of_a_change_do_not_begin_where_the_last_ended(table):
    seat = table("binance")
    frames = played(seat, asked(seat, "depth@100ms"), 2 * NS)
    ids = [(d["U"], d["u"], d["pu"]) for d in (json.loads(f)["data"] for f in frames)]
    assert all(pu < first <= last for first, last, pu in ids)
    assert all(two[2] == one[1] for one, two in pairwise(ids))
    holes = sum(first != pu + 1 for first, _, pu in ids)
    assert 2 * holes > len(ids) > 15


def test_the_first_twenty_levels_are_whole_every_time(table):
    seat = table("binance")
    books = events(played(seat, asked(seat, "depth20@100ms"), NS))
    truth = states(seat, NS)
    assert len(books) >= 9
    for book in books:
        assert book.is_snapshot and book.follows is None
        assert [book.bids, book.asks] == told(seat, truth[book.update_id], 20)


@pytest.mark.parametrize(("stream", "path"), [("trade", PUBLIC), ("aggTrade", SPLIT_MARKET)])
def test_each_trade_is_a_frame_and_none_is_lost(table, stream, path):
    seat = table("binance")
    frames = played(seat, asked(seat, stream, path=path), 10 * NS)
    trades = events(frames)
    made = seat.exchange.markets[SYMBOL].trades.recent
    contract = seat.exchange.markets[SYMBOL].contract
    tick, lot = contract.tick, contract.lot
    offset = TRADES if stream == "trade" else 0
    assert len(trades) == len(frames) > 20
    assert trades == [
        Trade(
            SYMBOL,
            (seat.start_ns + one.at_ns) // MS * MS,
            trade.ts_send,
            float(tick.text(one.price)),
            float(lot.text(one.lots)),
            "buy" if one.is_buy else "sell",
            str(offset + one.number),
        )
        for one, trade in zip(list(made)[-len(trades) :], trades, strict=True)
    ]


def test_marks_and_funding_come_every_second_with_the_next_payment(table):
    seat = table("binance", funding_interval_h={"binance:BTC-USDT-PERP": 4})
    frames = played(seat, asked(seat, "markPrice@1s", path=SPLIT_MARKET), 5 * NS)
    heard = events(frames)
    marks = [event for event in heard if isinstance(event, Mark)]
    funding = [event for event in heard if isinstance(event, Funding)]
    assert [mark.ts_event for mark in marks] == [seat.start_ns + n * NS for n in range(1, 6)]
    ticker = seat.exchange.markets[SYMBOL].tickers.at(5 * NS, seat.start_ns + 5 * NS)
    assert marks[-1].mark_price == round(ticker.mark_price, 8)
    assert marks[-1].index_price == round(ticker.index_price, 8)
    assert funding[-1].rate == ticker.rate
    assert funding[-1].ts_funding == ticker.ts_funding_ns
    assert ticker.ts_funding_ns % (4 * 3600 * NS) == 0


def test_what_is_polled(table):
    seat = table("binance", funding_interval_h={"binance:BTC-USDT-PERP": 4})
    seat.start(seat.start_ns)
    (held,) = polled(seat, "open_interest")
    ticker = seat.exchange.markets[SYMBOL].tickers.at(0, seat.start_ns)
    lot = seat.exchange.markets[SYMBOL].contract.lot
    assert held.open_interest == float(lot.text(ticker.open_interest)) > 0
    assert polled(seat, "funding_info") == [Funding(SYMBOL, None, None, interval_h=4.0)]
    paid = polled(seat, "funding_history", NS)
    assert [row.interval_h for row in paid] == [4.0, 4.0]
    assert all(row.is_settled and row.ts_funding <= seat.start_ns + NS for row in paid)
    assert seat.start_ns - paid[-1].ts_funding < 4 * 3600 * NS
    assert fetched(table("binance"), "/fapi/v1/fundingInfo") == (200, b"[]")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (PUBLIC, "nopeusdt@bookTicker"),
        pytest.param(PUBLIC, "BTCUSDT@bookTicker", id="wrong-case"),
        pytest.param(PUBLIC, "btcusdt@depth@50ms", id="wrong-speed"),
        pytest.param(PUBLIC, "btcusdt@depth30", id="wrong-depth"),
        pytest.param(PUBLIC, "btcusdt@markPrice@1s", id="wrong-path"),
        pytest.param(PUBLIC, "btcusdt@aggTrade", id="wrong-path-of-trades"),
        pytest.param(SPLIT_MARKET, "btcusdt@bookTicker", id="wrong-path-of-quotes"),
        pytest.param("/stream", "btcusdt@markPrice@1s", id="the-old-path-is-public"),
    ],
)
def test_what_does_not_exist_here_is_acknowledged_and_silent(table, path, name):
    seat = table("binance")
    talk = seat.connect(path=path)
    ask = json.dumps({"method": "SUBSCRIBE", "params": [name], "id": 7}).encode()
    assert seat.say(talk, ask) == [b'{"result":null,"id":7}']
    assert played(seat, talk, 3 * NS) == []


def wanted(*streams):
    market = "binance:BTC-USDT-PERP"
    return [Wanted(market, BINANCE.topic(CHANNELS[s], s, SYMBOL)) for s in streams]


CHANNELS = {stream: channel for channel, (stream, *_) in BINANCE.streams.items()}


def lived(seat, path, *streams, until_s):
    """A session of ours on this path, once each 100 ms; give it, and what it noted."""
    talk, session, notes = seat.connect(path=path), Session(BINANCE, wanted(*streams), 0), []
    for at_ns in range(0, until_s * NS, 100 * MS):
        for ask in session.to_send(at_ns, at_ns):
            session.receive(seat.say(talk, ask, at_ns), at_ns)
        if frames := seat.turn(talk, at_ns):
            session.receive(frames, at_ns)
        notes += session.notes()
    return session, notes


def test_the_silent_wrong_path_is_late_though_it_was_acknowledged(table):
    session, notes = lived(table("binance"), "/stream", "bookTicker", "markPrice@1s", until_s=21)
    assert [line.state for line in session.lines] == [State.HEARD, State.LATE]
    assert [(n.note, n.channel, n.deadline_ns) for n in notes] == [("late", "funding", 20 * NS)]


def test_a_socket_that_only_acknowledges_is_left(table):
    with pytest.raises(Silent, match="acknowledged but silent"):
        lived(table("binance"), SPLIT_MARKET, "bookTicker", until_s=21)


def test_a_refused_symbol_is_acknowledged_and_silent_too(table):
    seat = table("binance")
    seat.exchange.refuse(SYMBOL)
    assert played(seat, asked(seat, "bookTicker"), NS) == []


def test_the_raw_path_tells_bare_frames_and_no_stream_after_unsubscribing(table):
    seat = table("binance")
    talk = asked(seat, "bookTicker", path="/public/ws")
    (quote, *_) = frames = played(seat, talk, NS)
    assert b'"stream"' not in quote and all(map(BINANCE.decode, frames))
    listed = b'{"method":"LIST_SUBSCRIPTIONS","id":3}'
    assert seat.say(talk, listed, NS) == [b'{"result":["btcusdt@bookTicker"],"id":3}']
    (part,) = BINANCE.unsubscribe([BINANCE.topic("quotes", "bookTicker", SYMBOL)], 0)
    assert seat.say(talk, part, NS) == [b'{"result":null,"id":1000}']
    assert played(seat, talk, 2 * NS, NS) == []


def test_its_form_is_a_property(table):
    seat = table("binance")
    talk = asked(seat, "bookTicker")
    ping = BINANCE.heartbeat.ping(0)
    assert BINANCE.control(seat.say(talk, ping)[0]) == Alive()
    bare = b'{"method":"SET_PROPERTY","params":["combined",false],"id":5}'
    assert seat.say(talk, bare, NS) == [b'{"result":null,"id":5}']
    assert not any(b'"stream"' in frame for frame in played(seat, talk, 2 * NS, NS))
    assert seat.say(talk, ping, 3 * NS) == [b'{"result":false,"id":2000000}']


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (b"ping", Complaint("3 Invalid JSON: expected value at line 1 column 1")),
        (b'{"id":1}', Complaint("2 Invalid request: missing field `method`")),
        (
            b'{"method":"SUBSCRIBE","params":[],"id":"a"}',
            Complaint("2 Invalid request: request ID must be an unsigned integer"),
        ),
        (
            b'{"method":"SUBSCRIBE","params":[],"id":-1}',
            Complaint("2 Invalid request: request ID must be an unsigned integer"),
        ),
        (b'{"method":"GET_PROPERTY","params":["x"],"id":1}', Complaint("0 Unknown property")),
        (
            b'{"method":"SET_PROPERTY","params":["combined",1],"id":1}',
            Complaint("1 Invalid value type: expected Boolean"),
        ),
    ],
)
def test_errors(table, ask, said):
    seat = table("binance")
    talk = seat.connect()
    (frame,) = seat.say(talk, ask)
    assert BINANCE.control(frame) == said
    assert not BINANCE.is_data(frame) and talk.ended is None


def test_an_unknown_method_is_answered_with_those_known(table):
    seat = table("binance")
    (frame,) = seat.say(seat.connect(), b'{"method":"FOO","id":20}')
    assert json.loads(frame)["id"] == 20
    assert BINANCE.control(frame).reason.startswith("2 Invalid request: unknown variant `FOO`")


def test_more_than_five_messages_a_second_end_it(table):
    seat = table("binance")
    ours, theirs = seat.connect(), seat.connect()
    ask = b'{"method":"LIST_SUBSCRIPTIONS","id":1}'
    for n in range(30):
        seat.say(ours, ask, n * BINANCE.subscribe_every_ns)
    for n in range(6):
        seat.say(theirs, ask, n * 190 * MS)
    assert ours.ended is None
    assert (theirs.ended.code, theirs.ended.reason) == (1008, "Too many requests")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fapi/v1/depth?symbol=NOPEUSDT", 400, -1121),
        ("/fapi/v1/depth", 400, -1102),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=30", 400, -4021),
        ("/fapi/v1/trades?symbol=BTCUSDT&limit=0", 400, -1130),
        ("/fapi/v1/fundingRate?startTime=x", 400, -1130),
        ("/fapi/v9/depth", 404, -5000),
    ],
)
def test_rest_errors(table, path, status, code):
    seat = table("binance")
    found, body = fetched(seat, path)
    assert (found, json.loads(body)["code"]) == (status, code)


def test_rest_lists_and_other_families_are_empty(table):
    seat = table("binance")
    seat.start(seat.start_ns)
    _, body = fetched(seat, BINANCE.instruments_path)
    listed = BINANCE.read_instruments(body, 7).instruments
    assert [(i.name, i.tick_size, i.lot_size) for i in listed] == [
        ("BTC-USDT-PERP", 0.1, 0.001),
        ("ETH-USDT-PERP", 0.01, 0.001),
    ]
    assert BINANCE.read_time(fetched(seat, BINANCE.time_path, 5 * NS)[1]) == seat.start_ns + 5 * NS
    for family in ("/api/v3", "/dapi/v1", "/eapi/v1"):
        assert json.loads(fetched(seat, f"{family}/exchangeInfo")[1])["symbols"] == []
    for call in ("premiumIndex", "ticker/bookTicker", "ticker/24hr"):
        rows = json.loads(fetched(seat, f"/fapi/v1/{call}")[1])
        assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT"]
        assert json.loads(fetched(seat, f"/fapi/v1/{call}?symbol=BTCUSDT")[1]) == rows[0]


def test_it_pings_every_three_minutes_and_drops_who_gives_no_pong(table):
    seat = table("binance")
    good, bad = seat.connect(), seat.connect()
    pings = []
    for at_s in range(60, 3601, 60):
        seat.turn(good, at_s * NS)
        if good.pings:
            pings.append((at_s, int(good.pings.pop())))
            seat.exchange.touch(good, seat.start_ns + at_s * NS, is_pong=True)
        if bad.ended is None:
            seat.say(bad, b'{"method":"LIST_SUBSCRIPTIONS","id":1}', at_s * NS)
            dropped_s = at_s
    assert pings == [(s, seat.start_ns // MS + s * 1000) for s in range(180, 3601, 180)]
    assert good.ended is None and bad.ended.code is None
    assert dropped_s + 60 == PONG_WITHIN_NS // NS
    seat.turn(good, 86_400 * NS)
    assert good.ended.code == 1001


def pings_often(talk, now_ns):
    talk.beat_ns = now_ns + 100 * MS
    return [Ping(b"%d" % (now_ns // MS))]


def test_recorded_over_both_sockets_with_every_channel_and_every_ping_answered(tmp_path):
    """The venue of the code as it is, but for the host and how often it pings."""
    tape_path, answered = tmp_path / "tape", []

    async def main():
        dialect = msgspec.structs.replace(VENUES["binance"], beat=pings_often)
        server = Server([dialect], scenario.Scenario(seed=3), Truth(None), None)
        await server.listen(0)
        exchange = server.exchanges["binance"]
        touch = exchange.touch

        def watch(talk, now_ns, *, is_pong=False):
            answered.append((talk.path, is_pong))
            touch(talk, now_ns, is_pong=is_pong)

        exchange.touch = watch
        plan = Plan(
            instruments=("BTC-USDT-PERP", "ETH-USDT-PERP"),
            venues=(at(BINANCE, server.urls["binance"]),),
            channels=tuple(BINANCE.streams),
            for_ns=3 * NS,
        )
        clock = Clock()
        tape = TapeWriter(tape_path, config=plan.config(), now=clock.now)
        summary = await record(plan, tape, stop=asyncio.Event(), clock=clock)
        await server.close()
        return summary

    summary = asyncio.run(main())
    assert {market.state for market in summary.markets} == {"live"}
    frames = list(Tape(tape_path).frames())
    pings = [frame for frame in frames if frame.kind == Kind.PING]
    assert len(pings) > 20
    assert {path for path, is_pong in answered if is_pong} == {PUBLIC, SPLIT_MARKET}
    assert abs(sum(is_pong for _, is_pong in answered) - len(pings)) <= 2
    heard = events(frame.payload for frame in frames if frame.kind == Kind.TEXT)
    kinds = {type(event) for event in heard}
    assert kinds == {Quote, Book, Trade, Mark, Funding}
    notes = [json.loads(frame.payload)["note"] for frame in frames if frame.kind == Kind.NOTE]
    assert set(notes) == {"shutdown"}
