"""Bybit's simulator, heard with the recorder's own reader: books, trades, tickers and REST."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest

from perptape.events import MS, NS, Book, Funding, Mark, Trade
from perptape.session import Session, State, Wanted
from perptape.sims import VENUES
from perptape.sims import bybit as sim
from perptape.sims.market import levels
from perptape.venues.bybit import BYBIT

BTC = VENUES["bybit"].contracts["BTC"]
STEP_NS = 20 * MS


def topic(channel, symbol="BTCUSDT", stream=None):
    return BYBIT.topic(channel, stream or BYBIT.streams[channel][0], symbol)


def listen(seat, talk, topics, until_ns=2 * NS):
    """Subscribe, and give the data that comes at each moment until then."""
    said = [each for frame in BYBIT.subscribe(topics, 0) for each in seat.say(talk, frame)]
    yield [frame for frame in said if BYBIT.is_data(frame)]
    for at_ns in range(STEP_NS, until_ns + 1, STEP_NS):
        yield seat.turn(talk, at_ns)


def heard(seat, topics, until_ns=2 * NS):
    """All events of a connection."""
    moments = listen(seat, seat.connect(), topics, until_ns)
    return [event for frames in moments for frame in frames for event in BYBIT.decode(frame)]


def true_book(seat, depth):
    """What stands in the book now, as the venue prints it."""
    top = seat.exchange.feeds["BTCUSDT"].current
    return [
        {float(BTC.tick.padded(price)): float(BTC.lot.padded(lots)) for price, lots in side}
        for side in levels(BTC, top, depth)
    ]


@pytest.mark.parametrize("stream", BYBIT.streams["books"])
def test_a_book_rebuilt_from_its_changes_is_the_markets(table, stream):
    seat = table("bybit")
    depth, last, told = int(stream.partition(".")[2]), None, 0
    sides = {}, {}
    for frames in listen(seat, seat.connect(), [topic("books", stream=stream)]):
        for (book,) in map(BYBIT.decode, frames):
            assert isinstance(book, Book) and book.follows == last
            assert book.is_snapshot == (last is None)
            for side, changed in zip(sides, (book.bids, book.asks), strict=True):
                side.update(changed)
                for price in [price for price, qty in changed if not qty]:
                    del side[price]
            last, told = book.update_id, told + 1
        if frames:
            assert list(sides) == true_book(seat, depth)
    assert told >= 8


def test_a_new_subscription_begins_with_a_snapshot_where_the_changes_go_on(table):
    seat = table("bybit")
    talk, asked = seat.connect(), [topic("books")]
    *_, last = (frames for frames in listen(seat, talk, asked, NS) if frames)
    (before,) = BYBIT.decode(last[-1])
    (gone,) = BYBIT.unsubscribe(asked, 0)
    seat.say(talk, gone, NS)
    (begun,) = BYBIT.subscribe(asked, 0)
    said = [frame for frame in seat.say(talk, begun, 2 * NS) if BYBIT.is_data(frame)]
    said += seat.turn(talk, 3 * NS)
    snapshot, *changes = (BYBIT.decode(frame)[0] for frame in said)
    assert snapshot.is_snapshot and snapshot.update_id > before.update_id
    assert changes and changes[0].follows == snapshot.update_id


def test_a_first_snapshot_may_overtake_the_ack(table):
    seat = table("bybit")
    firsts = {
        BYBIT.is_data(seat.say(seat.connect(), *BYBIT.subscribe([topic("books")], 0))[0])
        for _ in range(20)
    }
    assert firsts == {True, False}


def test_every_trade_is_told_once_with_the_takers_side_and_its_time(table):
    seat = table("bybit")
    before = len(seat.exchange.markets["BTCUSDT"].trades.recent)
    told = heard(seat, [topic("trades")], 5 * NS)
    made = list(seat.exchange.markets["BTCUSDT"].trades.recent)[before:]
    assert len(made) > 5 and len({trade.trade_id for trade in told}) == len(told)
    assert [(t.ts_event // MS, t.price, t.qty, t.side) for t in told] == [
        (
            (seat.start_ns + m.at_ns) // MS,
            float(BTC.tick.padded(m.price)),
            float(BTC.lot.padded(m.lots)),
            "buy" if m.is_buy else "sell",
        )
        for m in made
    ]
    assert all(isinstance(t, Trade) and t.ts_send > t.ts_event for t in told)


def test_fills_of_one_order_share_a_frame(table):
    seat = table("bybit")
    moments = listen(seat, seat.connect(), [topic("trades")], 10 * NS)
    rows = [json.loads(frame)["data"] for frames in moments for frame in frames]
    assert max(map(len, rows)) > 1
    for fills in rows:
        assert len({(fill["T"], fill["S"], fill["seq"]) for fill in fills}) == 1


def test_a_tickers_delta_holds_what_changed_alone_and_merged_it_is_the_whole(table):
    seat = table("bybit")
    first, *deltas = [
        json.loads(frame)
        for frames in listen(seat, seat.connect(), [topic("marks")])
        for frame in frames
    ]
    whole = dict(first["data"])
    assert first["type"] == "snapshot" and {"fundingRate", "preOpenPrice"} <= set(whole)
    for push in deltas:
        assert push["type"] == "delta"
        assert not {"fundingIntervalHour", "nextFundingTime", "preQty"} & set(push["data"])
        whole |= push["data"]
    request = rest(seat, "/v5/market/tickers?category=linear&symbol=BTCUSDT", 2 * NS)
    assert request["result"]["list"] == [whole]
    assert len(deltas) == 20


def test_marks_and_funding_of_a_ticker(table):
    seat = table("bybit", funding_interval_h={"bybit:BTC-USDT-PERP": 4})
    events = heard(seat, [topic("marks"), topic("funding")])
    mark, funding, *_ = events
    ticker = seat.exchange.markets["BTCUSDT"].tickers.at(0, seat.start_ns)
    assert isinstance(mark, Mark) and isinstance(funding, Funding)
    assert mark.mark_price == pytest.approx(ticker.mark_price, abs=0.01)
    assert mark.index_price == pytest.approx(ticker.index_price, abs=0.01)
    assert mark.open_interest == pytest.approx(ticker.open_interest * BTC.lot.value, rel=1e-12)
    assert (funding.rate, funding.interval_h) == (ticker.rate, 4)
    assert funding.ts_funding == ticker.ts_funding_ns
    later = [event for event in events[2:] if isinstance(event, Funding)]
    assert later and {(e.interval_h, e.ts_funding) for e in later} == {(None, None)}


def test_one_bad_topic_never_costs_a_good_one(table):
    seat = table("bybit")
    talk = seat.connect()
    topics = [
        topic("books"), topic("trades", "NOPEUSDT"), topic("quotes", "ETHUSDT"),
        topic("books", stream="orderbook.500"), topic("marks", "ETHUSDT"),
    ]  # fmt: skip
    session = Session(BYBIT, [Wanted("bybit:x", each) for each in topics], 0)
    for step in range(1, 200):
        now = step * 10 * MS
        said = [each for f in session.to_send(now, now) for each in seat.say(talk, f, now)]
        if said := said + seat.turn(talk, now):
            session.receive(said, now)
    states = {line.wanted.topic.key: line.state for line in session.lines}
    assert states == {
        "orderbook.50.BTCUSDT": State.HEARD,
        "publicTrade.NOPEUSDT": State.REFUSED,
        "orderbook.1.ETHUSDT": State.HEARD,
        "orderbook.500.BTCUSDT": State.REFUSED,
        "tickers.ETHUSDT": State.HEARD,
    }
    reasons = [note.reason for note in session.notes() if note.note == "refused"]
    assert reasons == [
        "error:handler not found,topic:publicTrade.NOPEUSDT",
        "error:handler not found,topic:orderbook.500.BTCUSDT",
    ]


def test_a_lost_change_is_healed_by_subscribing_anew(table):
    seat = table("bybit")
    talk, asked = seat.connect(), topic("books")
    session = Session(BYBIT, [Wanted("bybit:x", asked)], 0)
    sent, snapshots, lost = [], [], False
    for step in range(1, 150):
        now = step * STEP_NS
        frames = session.to_send(now, now)
        sent += frames
        said = [each for frame in frames for each in seat.say(talk, frame, now)]
        said += seat.turn(talk, now)
        if not lost and step > 50 and b'"delta"' in b"".join(said):
            lost, said = True, []
        snapshots += [(step, frame) for frame in said if b'"type":"snapshot"' in frame]
        session.receive(said, now)
    asking, leaving = BYBIT.subscribe([asked], 0), BYBIT.unsubscribe([asked], 0)
    assert lost and sent == asking + leaving + asking
    assert len(snapshots) == 2
    (note,) = (note for note in session.notes() if note.note == "resync")
    assert note.market == "bybit:x" and "follows" in note.reason


def rest(seat, target, at_ns=0):
    url = urlsplit(target)
    answer = seat.exchange.rest(url.path, dict(parse_qsl(url.query)), {}, seat.start_ns + at_ns)
    assert answer.status == 200
    return json.loads(answer.body)


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_what_was_paid_and_how_often(table, hours):
    seat = table("bybit", funding_interval_h={"bybit:BTC-USDT-PERP": hours})
    (poll,) = BYBIT.polls
    url = urlsplit(poll.path.format(symbol="BTCUSDT").replace("limit=10&", "limit=3&"))
    query = dict(parse_qsl(url.query))
    body = seat.exchange.rest(url.path, query, {}, seat.start_ns).body
    paid = BYBIT.read_rest(poll.what, "BTCUSDT", body)
    interval_ns = hours * 3600 * NS
    last = seat.start_ns // interval_ns * interval_ns
    assert [each.ts_funding for each in paid] == [last - k * interval_ns for k in (2, 1, 0)]
    assert all(each.is_settled and each.rate for each in paid)
    body = seat.exchange.rest(
        "/v5/market/instruments-info", {"category": "linear"}, {}, seat.start_ns
    ).body
    listed = {one.symbol: one for one in BYBIT.read_instruments(body, 0).instruments}
    assert listed["BTCUSDT"].funding_interval_h == hours


def test_open_interest_by_rest_counts_both_sides(table):
    target = "/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=5min"
    (row,) = rest(table("bybit"), target)["result"]["list"]
    assert float(row["openInterest"]) == pytest.approx(2 * float(row["singleOpenInterest"]))


def test_recent_trades_come_the_newest_first(table):
    seat = table("bybit")
    target = "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=7"
    rows = rest(seat, target)["result"]["list"]
    made = [sim.trade_id(m.number) for m in seat.exchange.markets["BTCUSDT"].trades.recent]
    assert [row["execId"] for row in rows] == made[:-8:-1]


@pytest.mark.parametrize(
    "target",
    [
        "/v5/market/funding/history?category=linear&symbol=BTCUSDT&startTime=5",
        "/v5/market/funding/history?category=linear",
        "/v5/market/funding/history?category=linear&symbol=BTCUSDT&limit=x",
        "/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=3min",
        "/v5/market/open-interest?category=linear",
        "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1001",
        "/v5/market/recent-trade?category=linear",
        "/v5/market/tickers?category=linear&symbol=NOPEUSDT",
        "/v5/market/tickers?category=nope",
    ],
)
def test_errors_come_with_http_200(table, target):
    answer = rest(table("bybit"), target)
    assert (answer["retCode"], answer["result"]) == (10001, {})
    assert answer["retMsg"].startswith("params error: ")


@pytest.mark.parametrize("category", ["inverse", "spot", "option"])
def test_families_that_are_not_there_are_empty(table, category):
    answer = rest(table("bybit"), f"/v5/market/tickers?category={category}")
    assert answer["result"] == {"category": category, "list": []}
