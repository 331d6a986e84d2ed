"""Gate.io's simulator, heard with our own reader: books, trades, tickers and REST."""

import json
from urllib.parse import parse_qsl, urlsplit

import pytest

from perptape.chain import Chain, Verdict
from perptape.events import MS, NS, Book, Funding, Mark, Trade
from perptape.session import Session, State, Wanted
from perptape.sims import VENUES
from perptape.sims.gateio_frames import TRADE, U
from perptape.sims.gateio_rest import MARKETS
from perptape.sims.market import levels
from perptape.venues.gateio import FORMS, GATEIO

STEP_NS = 20 * MS
DECIMAL = {"x-gate-size-decimal": "1"}
BTC, ETH = (VENUES["gateio"].contracts[base] for base in ("BTC", "ETH"))
OBU = ("futures.obu.50", "futures.obu.400")


def topic(channel, symbol="BTC_USDT", stream=None):
    return GATEIO.topic(channel, stream or GATEIO.streams[channel][0], symbol)


def listen(seat, talk, topics, until_ns=2 * NS):
    """Subscribe, and give the data that comes at each moment until then."""
    said = [each for frame in GATEIO.subscribe(topics, 0) for each in seat.say(talk, frame)]
    yield [frame for frame in said if GATEIO.is_data(frame)]
    for at_ns in range(STEP_NS, until_ns + 1, STEP_NS):
        yield seat.turn(talk, at_ns)


def heard(seat, topics, until_ns=2 * NS, headers=DECIMAL):
    """All events of a connection."""
    moments = listen(seat, seat.connect(headers), topics, until_ns)
    return [event for frames in moments for frame in frames for event in GATEIO.decode(frame)]


def rest(seat, target, at_ns=0, headers=DECIMAL):
    url = urlsplit(target)
    query = dict(parse_qsl(url.query))
    return seat.exchange.rest(url.path, query, headers, seat.start_ns + at_ns)


def true_book(seat, contract, depth):
    """What stands in the book now, as the venue prints it."""
    top = seat.exchange.feeds[contract.symbol].current
    return [
        {float(contract.tick.text(price)): float(contract.lot.text(lots)) for price, lots in side}
        for side in levels(contract, top, depth)
    ]


def put(sides, book):
    """Make a change, or begin anew."""
    for side, changed in zip(sides, (book.bids, book.asks), strict=True):
        if book.is_snapshot:
            side.clear()
        side.update(changed)
        for price in [price for price, qty in changed if not qty]:
            side.pop(price, None)


@pytest.mark.parametrize("stream", OBU)
def test_an_obu_rebuilt_from_its_changes_is_the_market(table, stream):
    seat, sides, last = table("gateio"), ({}, {}), None
    depth = int(stream.rpartition(".")[2])
    told = steps = 0
    for frames in listen(seat, seat.connect(), [topic("books", "ETH_USDT", stream)]):
        for (book,) in map(GATEIO.decode, frames):
            assert isinstance(book, Book) and book.follows == last
            assert book.is_snapshot == (last is None)
            put(sides, book)
            steps += last is not None and book.update_id > last + 1
            last, told = book.update_id, told + 1
        if frames:
            assert list(sides) == true_book(seat, ETH, depth)
    assert told >= 15 and steps  # ids advance by more than one a frame


def test_the_changes_of_an_obu_come_in_no_order(table):
    books = heard(table("gateio"), [topic("books")], NS)
    prices = [[price for price, _ in book.bids] for book in books[1:]]
    assert any(side != sorted(side) and side != sorted(side, reverse=True) for side in prices)


def test_an_obus_book_comes_before_or_after_the_ack(table):
    seat = table("gateio")
    (ask,) = GATEIO.subscribe([topic("books")], 0)
    firsts = {GATEIO.is_data(seat.say(seat.connect(), ask, ms * MS)[0]) for ms in range(4)}
    assert firsts == {True, False}


@pytest.mark.parametrize("at_ns", [0, MS])
def test_a_session_hears_an_obu_whichever_comes_first(table, at_ns):
    seat = table("gateio")
    talk, session = seat.connect(), Session(GATEIO, [Wanted("gateio:x", topic("books"))], 0)
    said = [frame for ask in session.to_send(0, 0) for frame in seat.say(talk, ask, at_ns)]
    assert len(said) == 2 and GATEIO.is_data(said[0]) == (at_ns == 0)
    session.receive(said, at_ns)
    assert session.lines[0].state is State.HEARD and session.books.bases_due(NS) == []


def test_an_obu_that_does_not_exist_is_acknowledged_and_late(table):
    seat = table("gateio")
    asked = [topic("books", "NOPE_USDT"), topic("books")]
    talk, session = seat.connect(), Session(GATEIO, [Wanted("gateio:x", each) for each in asked], 0)
    for now in range(0, 61 * NS, 100 * MS):
        said = [each for ask in session.to_send(now, now) for each in seat.say(talk, ask, now)]
        if said := said + seat.turn(talk, now):
            session.receive(said, now)
        if now == NS:
            assert session.lines[0].state is State.ACCEPTED
    assert [line.state for line in session.lines] == [State.LATE, State.HEARD]
    assert [note.symbol for note in session.notes() if note.note == "late"] == ["NOPE_USDT"]


@pytest.mark.parametrize("stream", FORMS)
def test_updates_go_on_from_the_book_by_rest(table, stream):
    """As the recorder does it: the base comes while changes do, and the chain joins them."""
    seat, chain, sides = table("gateio"), Chain(), ({}, {})
    asked = topic("books", "ETH_USDT", stream)
    path = GATEIO.bases[stream].format(symbol="ETH_USDT")
    early, applied, base = [], 0, None
    for at, frames in enumerate(listen(seat, seat.connect(DECIMAL), [asked])):
        for frame in frames:
            link, (book,) = GATEIO.link(frame), GATEIO.decode(frame)
            assert link.key == asked.key and not link.is_snapshot
            verdict = chain.step(link.update_id, link.follows, is_snapshot=False)
            assert verdict in ((Verdict.VOID,) if base is None else (Verdict.APPLY, Verdict.OLD))
            early.append(book)
        if at == 20:
            (base,) = GATEIO.read_rest("book", "ETH_USDT", rest(seat, path, at * STEP_NS).body)
            assert chain.base(base.update_id)
            put(sides, base)
            early = [change for change in early if change.update_id > base.update_id]
        if base is not None and early:
            for change in early:
                put(sides, change)
                applied += 1
            early.clear()
            assert list(sides) == true_book(seat, ETH, int(stream.rpartition(".")[2]))
    assert applied > 10


def test_the_same_obu_again_is_refused_and_the_first_goes_on(table):
    seat = table("gateio")
    talk, (ask,) = seat.connect(), GATEIO.subscribe([topic("books")], 0)
    seat.say(talk, ask)
    (answer,) = seat.say(talk, ask)
    assert json.loads(answer)["error"] == {"code": 2, "message": "Alert sub ob.BTC_USDT.50"}
    changes = [GATEIO.decode(frame)[0] for frame in seat.turn(talk, NS)]
    assert changes and not any(change.is_snapshot for change in changes)


def test_unsubscribed_and_subscribed_again_an_obu_begins_anew(table):
    seat = table("gateio")
    talk, asked = seat.connect(), [topic("books")]
    *_, last = (frames for frames in listen(seat, talk, asked, NS) if frames)
    (before,) = GATEIO.decode(last[-1])
    (leave,), (ask,) = GATEIO.unsubscribe(asked, 0), GATEIO.subscribe(asked, 0)
    (left,) = seat.say(talk, leave, NS)
    assert GATEIO.control(left) is None and b'"success"' in left
    said = [f for f in seat.say(talk, ask, NS + STEP_NS) if GATEIO.is_data(f)]
    said += seat.turn(talk, 2 * NS)
    snapshot, *changes = (GATEIO.decode(frame)[0] for frame in said)
    assert snapshot.is_snapshot and snapshot.update_id >= before.update_id
    assert changes and changes[0].follows == snapshot.update_id


@pytest.mark.parametrize(
    ("headers", "read"), [(DECIMAL, float), ({}, lambda text: float(text.partition(".")[0]))]
)
def test_every_trade_is_told_once_with_the_takers_side(table, headers, read):
    seat = table("gateio")
    recent = seat.exchange.markets["ETH_USDT"].trades.recent
    before = len(recent)
    told = heard(seat, [topic("trades", "ETH_USDT")], 5 * NS, headers)
    made = list(recent)[before:]
    expected = [
        (
            (seat.start_ns + m.at_ns) // MS,
            float(ETH.tick.text(m.price)),
            read(ETH.lot.text(m.lots)),
            "buy" if m.is_buy else "sell",
            str(TRADE + m.number),
        )
        for m in made
    ]
    assert len(made) > 5
    assert [(t.ts_event // MS, t.price, t.qty, t.side, t.trade_id) for t in told] == [
        row for row in expected if row[2]
    ]
    assert all(isinstance(t, Trade) and t.ts_send > t.ts_event for t in told)


def test_trades_have_no_history_and_fills_of_one_order_share_a_frame(table):
    seat = table("gateio")
    first, *moments = listen(seat, seat.connect(), [topic("trades")], 10 * NS)
    assert first == []
    sizes = [len(json.loads(frame)["result"]) for frames in moments for frame in frames]
    assert max(sizes) > 1


def test_marks_and_funding_of_a_ticker(table):
    seat = table("gateio", funding_interval_h={"gateio:BTC-USDT-PERP": 4})
    events = heard(seat, [topic("marks")], 3 * NS)
    assert [type(event) for event in events] == [Mark, Funding] * 3
    for second, (mark, funding) in enumerate(zip(events[::2], events[1::2], strict=True), start=1):
        at_ns = second * NS
        ticker = seat.exchange.markets["BTC_USDT"].tickers.at(at_ns, seat.start_ns + at_ns)
        assert mark.ts_event == seat.start_ns + at_ns
        assert mark.mark_price == pytest.approx(ticker.mark_price, abs=0.01)
        assert mark.index_price == pytest.approx(ticker.index_price, abs=0.01)
        assert mark.open_interest == float(BTC.lot.text(ticker.open_interest))
        assert (funding.rate, funding.interval_h) == (ticker.rate, 4.0)
        assert funding.ts_funding == ticker.ts_funding_ns


def test_a_funding_interval_that_changes_is_told_by_ticker_and_rest(table):
    seat = table("gateio", funding_interval_h={"gateio:BTC-USDT-PERP": 8})
    seat.exchange.markets["BTC_USDT"].tickers.change_interval(1500 * MS, 1)
    told = [e for e in heard(seat, [topic("funding")], 3 * NS) if isinstance(e, Funding)]
    assert [event.interval_h for event in told] == [8.0, 1.0, 1.0]
    assert told[-1].ts_funding % (3600 * NS) == 0
    (poll,) = [poll for poll in GATEIO.polls if poll.what == "funding_terms"]
    for at_ns, hours in ((NS, 8.0), (2 * NS, 1.0)):
        body = rest(seat, poll.path.format(symbol="BTC_USDT"), at_ns).body
        (terms,) = GATEIO.read_rest(poll.what, "BTC_USDT", body)
        assert terms.interval_h == hours and terms.ts_funding > seat.start_ns


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_what_was_paid_and_how_often(table, hours):
    seat = table("gateio", funding_interval_h={"gateio:BTC-USDT-PERP": hours})
    (poll,) = [poll for poll in GATEIO.polls if poll.what == "funding_paid"]
    answer = rest(seat, poll.path.format(symbol="BTC_USDT"), 5 * NS)  # all is booked by then
    late_s = {row["t"] % 3600 for row in json.loads(answer.body)}
    assert late_s <= {0, 1, 2} and late_s != {0}
    paid = GATEIO.read_rest(poll.what, "BTC_USDT", answer.body)
    interval_ns = hours * 3600 * NS
    last = seat.start_ns // interval_ns * interval_ns
    assert [each.ts_funding for each in paid] == [last - k * interval_ns for k in (2, 1, 0)]
    assert [each.interval_h for each in paid] == [float(hours)] * 3
    truth = seat.exchange.markets["BTC_USDT"].tickers.settled(0, seat.start_ns + 5 * NS)[-3:]
    assert [each.rate for each in paid] == [rate for _, rate in truth]


def test_open_interest_by_rest_is_the_one_sided_half_of_the_tickers(table):
    seat = table("gateio")
    (poll,) = [poll for poll in GATEIO.polls if poll.what == "open_interest"]
    (mark,) = GATEIO.read_rest(
        poll.what, "ETH_USDT", rest(seat, poll.path.format(symbol="ETH_USDT")).body
    )
    (row,) = json.loads(rest(seat, f"{MARKETS}tickers?contract=ETH_USDT").body)
    assert float(row["total_size"]) == 2 * mark.open_interest
    assert float(row["highest_bid"]) < float(row["lowest_ask"])
    assert "funding_interval" not in row


@pytest.mark.parametrize("headers", [DECIMAL, {}])
def test_trades_by_rest_come_the_newest_first_with_seconds_called_milliseconds(table, headers):
    seat = table("gateio")
    rows = json.loads(rest(seat, f"{MARKETS}trades?contract=ETH_USDT&limit=7", 0, headers).body)
    made = list(seat.exchange.markets["ETH_USDT"].trades.recent)[:-8:-1]
    assert [row["id"] for row in rows] == [TRADE + each.number for each in made]
    assert all(row["create_time_ms"] == row["create_time"] < 2e9 for row in rows)
    assert {type(row["size"]) for row in rows} == {str if headers else int}
    assert [float(row["size"]) < 0 for row in rows] == [not each.is_buy for each in made]


@pytest.mark.parametrize("headers", [DECIMAL, {}])
def test_sizes_by_rest_are_as_the_header_asked(table, headers):
    seat = table("gateio")
    target = f"{MARKETS}order_book?contract=ETH_USDT&limit=5&with_id=true"
    book = json.loads(rest(seat, target, 0, headers).body)
    assert {type(row["s"]) for row in book["asks"]} == {str if headers else int}
    assert book["id"] == U + seat.exchange.feeds["ETH_USDT"].current.update_id
    whole = json.loads(rest(seat, f"{MARKETS}contracts", 0, headers).body)
    least = {row["name"]: row["order_size_min"] for row in whole}
    assert least["ETH_USDT"] == ("0.1" if headers else 0)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("trades", "MISSING_REQUIRED_PARAM"),
        ("trades?contract=NOPE_USDT", "CONTRACT_NOT_FOUND"),
        ("trades?contract=BTC_USDT&limit=1001", "TOO_BIG"),
        ("trades?contract=BTC_USDT&limit=x", "INVALID_PARAM_VALUE"),
        ("tickers?contract=NOPE_USDT", "CONTRACT_NOT_FOUND"),
        ("funding_rate", "MISSING_REQUIRED_PARAM"),
        ("funding_rate?contract=BTC_USDT&from=x", "INVALID_PARAM_VALUE"),
        ("funding_rate?contract=BTC_USDT&from=1700000000", "INVALID_PARAM_VALUE"),
    ],
)
def test_errors_are_labels(table, target, label):
    answer = rest(table("gateio"), MARKETS + target)
    assert (answer.status, json.loads(answer.body)["label"]) == (400, label)


def test_funding_history_between_two_times(table):
    seat = table("gateio", funding_interval_h={"gateio:BTC-USDT-PERP": 8})
    end_s = seat.start_ns // NS - 10 * 3600
    span = f"&from={end_s - 24 * 3600}&to={end_s}"
    rows = json.loads(rest(seat, f"{MARKETS}funding_rate?contract=BTC_USDT{span}").body)
    assert len(rows) == 3 and rows == sorted(rows, key=lambda row: -row["t"])
    assert all(end_s - 24 * 3600 <= row["t"] <= end_s for row in rows)


def test_one_unknown_contract_spoils_a_frame_of_any_channel(table):
    seat = table("gateio")
    for channel in ("trades", "tickers"):
        ask = {
            "time": 1,
            "channel": f"futures.{channel}",
            "event": "subscribe",
            "payload": ["BTC_USDT", "NOPE_USDT"],
        }
        talk = seat.connect()
        (answer,) = seat.say(talk, json.dumps(ask).encode())
        message = json.loads(answer)["error"]["message"]
        assert message == "unknown currency pair: NOPE_USDT" and not talk.topics
