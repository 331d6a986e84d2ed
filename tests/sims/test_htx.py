"""What the simulated HTX says is what our decoder hears, and what its market was."""

import json

import pytest

from perptape.chain import Chain, Verdict
from perptape.events import MS, NS, Book, Funding, Mark, Quote
from perptape.sims import scenario
from perptape.sims.dialect import Hangup
from perptape.sims.htx import INDEX, MARKET, MRID, NOTIFICATION
from perptape.sims.market import levels
from perptape.venues import htx
from perptape.venues.htx import HTX

SYMBOL = "BTC-USDT"
PATHS = {"": MARKET, "index": INDEX, "notification": NOTIFICATION}


def topic(stream, channel="books"):
    return HTX.topic(channel, stream, SYMBOL)


def asked(seat, stream, at_ns=0, talk=None):
    """Subscribe as we do, where we do; give the connection and the data that came at once."""
    wanted = topic(stream)
    talk = talk or seat.connect(at_ns=at_ns, path=PATHS[wanted.socket])
    (ask,) = HTX.subscribe([wanted], 0)
    said = seat.say(talk, ask, at_ns)
    data = [frame for frame in said if HTX.is_data(frame)]
    (ack,) = [frame for frame in said if not HTX.is_data(frame)]
    assert HTX.control(ack).keys == (wanted.key,)
    assert all(mark in frame for mark in wanted.marks for frame in data)
    return talk, data


def played(seat, talk, until_ns, from_ns=0, step_ns=10 * MS):
    frames = []
    for at_ns in range(from_ns + step_ns, until_ns + 1, step_ns):
        frames += seat.turn(talk, at_ns)
    return [frame for frame in frames if HTX.is_data(frame)]


def events(frames):
    return [event for frame in frames for event in HTX.decode(frame)]


def truth(seat, top, depth):
    contract = seat.exchange.markets[SYMBOL].contract
    sides = levels(contract, top, depth)
    return [[(float(contract.tick.text(p)), float(lots)) for p, lots in side] for side in sides]


def fresh_tops(table):
    """All states of the same market, played again, by the match id."""
    feed = table("htx").exchange.markets[SYMBOL].feed
    return {MRID + top.update_id: top for top in (feed.current, *feed.due(3 * NS))}


def rebuilt(books):
    bids, asks = {}, {}
    for book in books:
        for held, new in ((bids, book.bids), (asks, book.asks)):
            if book.is_snapshot:
                held.clear()
            held.update(new)
            for price in [price for price, qty in held.items() if not qty]:
                del held[price]
    return [sorted(bids.items(), reverse=True), sorted(asks.items())]


def verdicts(chain, frames):
    links = [HTX.link(frame) for frame in frames]
    return [chain.step(x.update_id, x.follows, is_snapshot=x.is_snapshot) for x in links]


@pytest.mark.parametrize(("stream", "depth"), [(htx.BOOKS[0], 150), (htx.BOOKS[1], 20)])
def test_books_grow_by_one_and_rebuild_to_the_market(table, stream, depth):
    seat = table("htx")
    talk, first = asked(seat, stream)
    frames = first + played(seat, talk, NS)
    books, tops = events(frames), fresh_tops(table)
    assert [book.is_snapshot for book in books] == [True] + [False] * (len(books) - 1)
    assert len(books) > 15
    assert [book.update_id for book in books[1:]] == [book.follows + 1 for book in books[1:]]
    assert set(verdicts(Chain(), frames)) == {Verdict.APPLY}
    for count in range(1, len(books) + 1):
        top = tops[json.loads(frames[count - 1])["tick"]["mrid"]]
        assert rebuilt(books[:count]) == truth(seat, top, depth)


def test_a_second_subscribe_gives_a_fresh_snapshot_and_the_chain_goes_on(table):
    seat = table("htx")
    talk, first = asked(seat, htx.BOOKS[0])
    before = first + played(seat, talk, 500 * MS)
    _, again = asked(seat, htx.BOOKS[0], at_ns=501 * MS, talk=talk)
    after = played(seat, talk, NS, 501 * MS)
    (snapshot,) = map(HTX.link, again)
    assert snapshot.is_snapshot and snapshot.update_id == HTX.link(before[-1]).update_id
    assert HTX.link(after[0]).follows == snapshot.update_id
    assert set(verdicts(Chain(), before + again + after)) == {Verdict.APPLY}
    assert len(set(after)) == len(after)


def test_a_book_begun_anew_after_a_hole_is_the_market_again(table):
    seat, chain = table("htx"), Chain()
    talk, first = asked(seat, htx.BOOKS[0])
    *heard, _lost, late = first + played(seat, talk, 500 * MS)
    assert set(verdicts(chain, heard)) == {Verdict.APPLY}
    assert verdicts(chain, [late]) == [Verdict.HOLE]
    (unsub,) = HTX.unsubscribe([topic(htx.BOOKS[0])], 0)
    (ack,) = seat.say(talk, unsub, 510 * MS)
    assert HTX.control(ack) is None
    assert played(seat, talk, 600 * MS, 510 * MS) == []
    _, again = asked(seat, htx.BOOKS[0], at_ns=601 * MS, talk=talk)
    frames = again + played(seat, talk, NS, 601 * MS)
    assert set(verdicts(chain, frames)) == {Verdict.APPLY}
    top = fresh_tops(table)[json.loads(frames[-1])["tick"]["mrid"]]
    assert rebuilt(events(frames)) == truth(seat, top, 150)


def test_without_the_word_incremental_every_frame_is_a_whole_book(table):
    seat, key = table("htx"), topic(htx.BOOKS[1]).key
    talk = seat.connect()
    said = seat.say(talk, json.dumps({"sub": key, "id": "1"}).encode())
    frames = [*filter(HTX.is_data, said), *played(seat, talk, 300 * MS)]
    books = events(frames)
    assert len(books) > 4 and all(book.is_snapshot for book in books)
    _, first = asked(seat, htx.BOOKS[1], at_ns=310 * MS, talk=talk)
    both = events(first + played(seat, talk, 600 * MS, 310 * MS))
    assert {book.is_snapshot for book in both[1:]} == {True, False}


def test_step0_is_a_book_without_a_sequence_and_a_quote(table):
    seat = table("htx")
    talk, first = asked(seat, htx.STEP0)
    heard = events(first + played(seat, talk, NS))
    quotes = [event for event in heard if isinstance(event, Quote)]
    books = [event for event in heard if isinstance(event, Book)]
    tops = fresh_tops(table)
    assert len(quotes) == len(books) > 5
    for quote, book in zip(quotes, books, strict=True):
        assert [book.bids, book.asks] == truth(seat, tops[quote.update_id], 150)
        assert (quote.bid_price, quote.bid_qty) == book.bids[0]
        assert book.update_id is book.follows is None


def test_trades_are_printed_twice_their_size_and_heard_once(table):
    busy = scenario.Character(trades_per_s=30, latency_ms=5, jitter_ms=1)
    seat = table("htx", venues={**scenario.CHARACTERS, "htx": busy})
    talk, first = asked(seat, "trade.detail")
    frames = played(seat, talk, 2 * NS)
    market = seat.exchange.markets[SYMBOL]
    contract, made = market.contract, {one.number: one for one in market.trades.recent}
    heard = events(frames)
    assert len(heard) > 15
    numbers = []
    for trade in heard:
        order, k = divmod(int(trade.trade_id), 10_000)
        one = made[order - MRID + k]
        numbers.append(one.number)
        assert trade.qty == one.lots
        assert trade.price == float(contract.tick.text(one.price))
        assert trade.side == ("buy" if one.is_buy else "sell")
        assert trade.ts_event == (seat.start_ns + one.at_ns) // MS * MS
        assert trade.ts_event < trade.ts_send
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    rows = [json.loads(frame)["tick"]["data"] for frame in frames]
    assert {row["amount"] % 2 for data in rows for row in data} == {0}
    assert any(len(data) > 1 for data in rows)
    for data in rows:
        assert [row["id"] % 10_000 for row in data] == list(range(len(data)))
    (old,) = first  # the last order there was, before anyone listened
    assert all(trade.ts_event < seat.start_ns for trade in events([old]))


def test_marks_come_once_a_second_on_their_own_socket(table):
    seat = table("htx")
    talk, first = asked(seat, htx.MARK)
    _, second = asked(seat, htx.INDEX, talk=talk)
    frames = first + second + played(seat, talk, 5 * NS, step_ns=100 * MS)
    heard = events(frames)
    assert all(isinstance(event, Mark) for event in heard)
    marks = [event.mark_price for event in heard if event.mark_price]
    prices = [event.index_price for event in heard if event.index_price]
    assert len(marks) == len(prices) == 6
    assert len(set(marks)) > 1
    assert all(abs(m / i - 1) < 1e-3 for m, i in zip(marks, prices, strict=True))


def test_funding_is_told_with_when_it_was_computed_and_when_it_is_paid(table):
    seat = table("htx", funding_interval_h={"htx:BTC-USDT-PERP": 4})
    talk, first = asked(seat, htx.FUNDING)
    heard = events(first + played(seat, talk, 11 * NS, step_ns=100 * MS))
    assert len(heard) == 3
    for event in heard:
        assert event.ts_send - NS < event.ts_event <= event.ts_send
        assert event.ts_funding % (4 * 3600 * NS) == 0 and event.ts_funding > event.ts_send


def get(seat, path, **query):
    answer = seat.exchange.rest(path, query, {}, seat.start_ns + 5 * NS)
    assert answer.status == 200
    return answer.body


def polled(seat, what):
    (poll,) = [poll for poll in HTX.polls if poll.what == what]
    path, _, query = poll.path.format(symbol=SYMBOL).partition("?")
    body = get(seat, path, **dict(part.split("=") for part in query.split("&")))
    return HTX.read_rest(what, SYMBOL, body)


def test_polls_tell_what_no_stream_does(table):
    seat = table("htx", funding_interval_h={"htx:BTC-USDT-PERP": 4})
    talk, first = asked(seat, htx.FUNDING)
    seat.turn(talk, 5 * NS)
    (told,) = events(first)
    (interest,) = polled(seat, "open_interest")
    (rate,) = polled(seat, "funding_rate")
    paid = polled(seat, "funding_history")
    assert interest.open_interest > 0 and interest.open_interest == int(interest.open_interest)
    assert (rate.interval_h, rate.ts_funding) == (4.0, told.ts_funding)
    assert rate.rate == pytest.approx(told.rate, rel=0.1)
    assert [event.is_settled for event in paid] == [True] * 20
    assert [(told.ts_funding - e.ts_funding) / (4 * 3600 * NS) for e in paid] == [*range(20, 0, -1)]
    listed = {i.symbol: i for i in HTX.read_instruments(get(seat, LIST), 0).instruments}
    assert listed[SYMBOL].funding_interval_h == 4.0


LIST = HTX.instruments_path.partition("?")[0]


def test_rest_says_where_it_differs_from_the_socket(table):
    seat = table("htx")
    talk, first = asked(seat, htx.FUNDING)
    seat.turn(talk, 5 * NS)
    (frame,) = first
    (row,) = json.loads(frame)["data"]
    batch = get(seat, "/linear-swap-api/v1/swap_batch_funding_rate")
    rest = {one["contract_code"]: one for one in json.loads(batch)["data"]}[SYMBOL]
    assert rest["funding_time"] == row["settlement_time"] != row["funding_time"]
    assert rest["next_funding_time"] is None
    heard = {event.symbol: event for event in HTX.read_rest("funding_rate", "", batch)}
    assert heard[SYMBOL].ts_funding == events(first)[0].ts_funding
    assert heard[SYMBOL].interval_h is None


@pytest.mark.parametrize(
    "path",
    [poll.path.partition("?")[0] for poll in HTX.polls] + ["/linear-swap-ex/market/history/trade"],
)
def test_rest_refuses_an_unknown_contract_with_http_200(table, path):
    body = get(table("htx"), path, contract_code="NOPE-USDT")
    assert json.loads(body)["err_code"] == 1014
    with pytest.raises(ValueError, match="doesnt exist"):
        HTX.read_rest("open_interest", "NOPE-USDT", body)


# The notification socket, and what is said on the wrong one


def said(seat, path, ask):
    (answer,) = seat.say(seat.connect(path=path), json.dumps(ask).encode())
    return answer


@pytest.mark.parametrize(
    ("path", "stream"), [(MARKET, htx.MARK), (MARKET, htx.FUNDING), (INDEX, "bbo")]
)
def test_a_stream_of_another_socket_is_an_invalid_topic(table, path, stream):
    name = f"market.{SYMBOL}.{stream}"
    answer = HTX.control(said(table("htx"), path, {"sub": name, "id": name}))
    assert (answer.keys, answer.reason) == ((name,), f"invalid topic {name}")


@pytest.mark.parametrize(
    ("topic", "code"),
    [("public.NOPE-USDT.funding_rate", 2011), ("public.BTC-USDT.tea", 2010), ("tea", 2010)],
)
def test_notifications_refuse_with_a_code(table, topic, code):
    answer = said(table("htx"), NOTIFICATION, {"op": "sub", "cid": "7", "topic": topic})
    assert json.loads(answer)["err-code"] == code
    assert HTX.control(answer).keys == ("7",)


def test_who_asks_twice_is_told_and_goes_on(table):
    seat = table("htx")
    talk, _ = asked(seat, htx.FUNDING)
    (ask,) = HTX.subscribe([topic(htx.FUNDING)], 0)
    (twice,) = seat.say(talk, ask)
    assert json.loads(twice)["err-code"] == 2014
    assert HTX.control(twice).keys == (topic(htx.FUNDING).key,)
    assert len(played(seat, talk, 6 * NS, step_ns=100 * MS)) == 1
    (unsub,) = HTX.unsubscribe([topic(htx.FUNDING)], 0)
    (gone,) = seat.say(talk, unsub, 6 * NS)
    assert HTX.control(gone) is None
    (again,) = seat.say(talk, unsub, 6 * NS)
    assert json.loads(again)["err-code"] == 2012
    assert played(seat, talk, 12 * NS, 6 * NS, step_ns=100 * MS) == []


def test_a_star_is_every_contract(table):
    seat = table("htx")
    talk = seat.connect(path=NOTIFICATION)
    ask = {"op": "sub", "cid": "1", "topic": "public.*.funding_rate"}
    _, *rates = seat.say(talk, json.dumps(ask).encode())
    assert {event.symbol for event in events(rates)} == {"BTC-USDT", "ETH-USDT"}
    assert {type(event) for event in events(rates)} == {Funding}


def test_notifications_do_not_know_other_ops_nor_other_than_json(table):
    seat = table("htx")
    talk = seat.connect(path=NOTIFICATION)
    for nonsense in (b'{"op":"shout"}', b"hello"):
        (answer,) = seat.say(talk, nonsense)
        assert json.loads(answer)["op"] == "error"


def pings(seat, talk, until_ns, since_ns=0):
    found = []
    for at_ns in range(since_ns + 100 * MS, until_ns + 1, 100 * MS):
        found += [(at_ns, frame) for frame in seat.turn(talk, at_ns) if b'"ping"' in frame]
    return found


def test_notifications_ping_in_their_own_words_and_close_after_five(table):
    seat = table("htx")
    talk = seat.connect(path=NOTIFICATION)
    asked(seat, htx.FUNDING, talk=talk)
    sent = pings(seat, talk, 27_400 * MS)
    assert [at_ns for at_ns, _ in sent] == [k * 5_300 * MS for k in range(1, 6)]
    assert talk.ended is None
    *_, close = seat.turn(talk, 27_500 * MS)
    assert HTX.control(close).reason == "it says that it closes"
    assert talk.ended == Hangup(1003, "ping check expired")


def test_notifications_let_live_who_answers_as_we_do(table):
    seat = table("htx")
    talk, at_ns = seat.connect(path=NOTIFICATION), 0
    for _ in range(8):
        ((at_ns, ping),) = pings(seat, talk, at_ns + 5_300 * MS, at_ns)
        assert seat.say(talk, HTX.control(ping).reply, at_ns) == []
    assert at_ns > 40 * NS and talk.ended is None
