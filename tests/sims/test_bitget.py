"""What the simulated Bitget says is what our decoder hears, and what its market was."""

import itertools
import json

import pytest

from perptape.chain import Chain, Verdict
from perptape.events import MS, NS, Funding, Mark, Trade
from perptape.sims.bitget import BOOKS_DEPTH, SEQ, TRADE_ID
from perptape.sims.market import levels
from perptape.venues.bitget import BITGET

SYMBOL = "BTCUSDT"
MARKET = "/api/v2/mix/market"


def asked(seat, stream, channel="books", at_ns=0, talk=None):
    """Subscribe as we do; give the connection and what came at once, without the ack."""
    talk = talk or seat.connect(at_ns=at_ns)
    (ask,) = BITGET.subscribe([BITGET.topic(channel, stream, SYMBOL)], 0)
    ack, *first = seat.say(talk, ask, at_ns)
    assert BITGET.control(ack).keys == (f"{stream}.{SYMBOL}",)
    return talk, first


def played(seat, talk, until_ns, from_ns=0, step_ns=10 * MS):
    frames = []
    for at_ns in range(from_ns + step_ns, until_ns + 1, step_ns):
        frames += seat.turn(talk, at_ns)
    return [frame for frame in frames if BITGET.is_data(frame)]


def events(frames):
    return [event for frame in frames for event in BITGET.decode(frame)]


def truth(seat, top, depth=BOOKS_DEPTH):
    contract = seat.exchange.markets[SYMBOL].contract
    tick, lot = contract.tick, contract.lot
    sides = levels(contract, top, depth)
    return [[(float(tick.text(p)), float(lot.text(q))) for p, q in side] for side in sides]


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


def test_books_chain_by_pseq_and_rebuild_to_the_market(table):
    seat = table("bitget")
    talk, first = asked(seat, "books")
    frames = first + played(seat, talk, NS)
    books = events(frames)
    assert [book.is_snapshot for book in books] == [True] + [False] * (len(books) - 1)
    assert len(books) > 8
    chain = Chain()
    links = [BITGET.link(frame) for frame in frames]
    steps = {chain.step(x.update_id, x.follows, is_snapshot=x.is_snapshot) for x in links}
    assert steps == {Verdict.APPLY}
    assert any(book.update_id > book.follows + 1 for book in books[1:])
    tops = {top.update_id: top for top in fresh_tops(table)}
    assert rebuilt(books) == truth(seat, tops[books[-1].update_id - SEQ])


def fresh_tops(table):
    """All states of the same market, played again."""
    feed = table("bitget").exchange.markets[SYMBOL].feed
    return [feed.current, *feed.due(3 * NS)]


def test_a_book_begun_anew_begins_with_a_snapshot_and_goes_on(table):
    seat = table("bitget")
    talk, _ = asked(seat, "books")
    played(seat, talk, 300 * MS)
    topic = BITGET.topic("books", "books", SYMBOL)
    (ack,) = [seat.say(talk, frame, 310 * MS) for frame in BITGET.unsubscribe([topic], 0)]
    assert json.loads(ack[0])["event"] == "unsubscribe" and BITGET.control(ack[0]) is None
    assert played(seat, talk, 600 * MS, 310 * MS) == []
    _, first = asked(seat, "books", at_ns=610 * MS, talk=talk)
    frames = first + played(seat, talk, NS, 610 * MS)
    links = [BITGET.link(frame) for frame in frames]
    assert [x.is_snapshot for x in links] == [True] + [False] * (len(links) - 1)
    assert [x.follows for x in links[1:]] == [x.update_id for x in links[:-1]]


def test_who_joins_later_gets_a_snapshot_that_the_next_update_follows(table):
    seat = table("bitget")
    one, _ = asked(seat, "books")
    played(seat, one, 250 * MS)
    two, first = asked(seat, "books", at_ns=255 * MS)
    ids = [BITGET.link(frame) for frame in first + played(seat, two, 600 * MS, 255 * MS)]
    assert ids[0].is_snapshot and [x.follows for x in ids[1:]] == [x.update_id for x in ids[:-1]]


@pytest.mark.parametrize(("stream", "depth"), [("books5", 5), ("books15", 15)])
def test_shallow_books_are_whole_every_time(table, stream, depth):
    seat = table("bitget")
    talk, first = asked(seat, stream)
    books = events(first + played(seat, talk, NS))
    assert len(books) > 4 and all(book.is_snapshot for book in books)
    tops = {top.update_id: top for top in fresh_tops(table)}
    for book in books:
        assert [book.bids, book.asks] == truth(seat, tops[book.update_id - SEQ], depth)


def test_trades_begin_with_history_and_then_none_is_missing(table):
    seat = table("bitget")
    talk, first = asked(seat, "trade", "trades")
    frames = played(seat, talk, 9 * NS, step_ns=50 * MS)
    past, new = events(first), events(frames)
    assert all(isinstance(event, Trade) for event in past + new)
    assert {trade.is_history for trade in past} == {True}
    assert {trade.is_history for trade in new} == {False}
    numbers = [int(trade.trade_id) - TRADE_ID for trade in past + new]
    assert len(past) > 5 and len(new) > 5
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    made = {p.number: p for p in seat.exchange.markets[SYMBOL].trades.recent}
    contract = seat.exchange.markets[SYMBOL].contract
    for trade, number in zip(past + new, numbers, strict=True):
        told = made[number]
        assert trade.price == float(contract.tick.text(told.price))
        assert trade.qty == float(contract.lot.text(told.lots))
        assert trade.side == ("buy" if told.is_buy else "sell")
        assert trade.ts_event == (seat.start_ns + told.at_ns) // MS * MS
    rows = [len(json.loads(frame)["data"]) for frame in frames]
    assert max(rows) > 1, "a taker order that walks through several levels is one push"


def test_the_newest_trade_of_a_push_stands_first(table):
    _, (first,) = asked(table("bitget"), "trade", "trades")
    stamps = [int(row["ts"]) for row in json.loads(first)["data"]]
    assert stamps == sorted(stamps, reverse=True) and len(set(stamps)) > 1


def test_one_ticker_tells_marks_and_funding(table):
    seat = table("bitget", funding_interval_h={"bitget:BTC-USDT-PERP": 4})
    talk, first = asked(seat, "ticker", "marks")
    frames = first + played(seat, talk, 2 * NS)
    assert len(frames) == 21, "every 100 ms, changed or not"
    for frame in frames:
        mark, funding = BITGET.decode(frame)
        at_ns = mark.ts_event - seat.start_ns
        told = seat.exchange.markets[SYMBOL].tickers.at(at_ns, mark.ts_event)
        assert isinstance(mark, Mark) and isinstance(funding, Funding)
        assert mark.mark_price == pytest.approx(told.mark_price, abs=0.051)
        assert mark.index_price == pytest.approx(told.index_price, rel=1e-7)
        lot = seat.exchange.markets[SYMBOL].contract.lot.value
        assert mark.open_interest == pytest.approx(told.open_interest * lot, rel=1e-9)
        assert funding.rate == pytest.approx(told.rate, abs=1e-8)
        assert funding.ts_funding % (4 * 3600 * NS) == 0
        assert 0 < funding.ts_funding - mark.ts_event <= 4 * 3600 * NS
        assert (funding.interval_h, funding.is_settled) == (None, False)


def get(seat, path, at_ns=0, **query):
    answer = seat.exchange.rest(path, query, {}, seat.start_ns + at_ns)
    return answer.status, answer.body


def polled(seat, what, at_ns=0):
    """Make one of our polls."""
    (path,) = [poll.path for poll in BITGET.polls if poll.what == what]
    path, _, query = path.format(symbol=SYMBOL).partition("?")
    answer = get(seat, path, at_ns, **dict(word.split("=") for word in query.split("&")))
    assert answer[0] == 200
    return BITGET.read_rest(what, SYMBOL, answer[1])


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_the_funding_interval_by_rest_and_in_the_list(table, hours):
    seat = table("bitget", funding_interval_h={"bitget:BTC-USDT-PERP": hours})
    found = {told.symbol: told for told in polled(seat, "funding_rate")}
    assert {s: told.interval_h for s, told in found.items()} == {SYMBOL: hours, "ETHUSDT": 8}
    assert found[SYMBOL].ts_funding % (hours * 3600 * NS) == 0
    body = get(seat, f"{MARKET}/contracts", productType="USDT-FUTURES")[1]
    listed = {i.symbol: i.funding_interval_h for i in BITGET.read_instruments(body, 0).instruments}
    assert listed == {SYMBOL: hours, "ETHUSDT": 8}


def test_an_interval_that_changes_is_told_by_the_next_poll(table):
    seat = table("bitget")
    asked(seat, "ticker", "marks")
    seat.exchange.markets[SYMBOL].tickers.change_interval(10 * NS, 1)
    found = [polled(seat, "funding_rate", at_ns) for at_ns in (9 * NS, 11 * NS)]
    assert [told.interval_h for rates in found for told in rates if told.symbol == SYMBOL] == [8, 1]


def test_what_was_paid(table):
    seat = table("bitget")
    asked(seat, "ticker", "marks")
    paid = polled(seat, "funding_history")
    want = seat.exchange.markets[SYMBOL].tickers.settled(0, seat.start_ns)[::-1][:10]
    assert [(told.ts_funding, told.rate) for told in paid] == [
        (ts, pytest.approx(rate, abs=1e-9)) for ts, rate in want
    ]
    assert len(paid) == 10 and all(told.is_settled for told in paid)
    steps = {a.ts_funding - b.ts_funding for a, b in itertools.pairwise(paid)}
    assert steps == {8 * 3600 * NS}


def test_pages_of_what_was_paid(table):
    seat = table("bitget")
    asked(seat, "ticker", "marks")

    def page(**query):
        query |= {"symbol": SYMBOL, "productType": "usdt-futures"}
        return json.loads(get(seat, f"{MARKET}/history-fund-rate", **query)[1])["data"]

    assert len(page()) == 20
    assert page(pageSize="4")[2:] + page(pageSize="4", pageNo="2")[:2] == page(pageSize="6")[2:6]


@pytest.mark.parametrize(
    ("path", "query", "status", "words"),
    [
        ("fills", {}, 400, b'"40019"'),
        ("fills", {"symbol": "NOPEUSDT"}, 400, b'"40034"'),
        ("current-fund-rate", {"symbol": "NOPEUSDT"}, 400, b'"40034"'),
        ("current-fund-rate", {"productType": "NOPE"}, 400, b'"40019"'),
        ("tickers", {"productType": "susdc-futures"}, 200, b'"data":[]'),
    ],
)
def test_rest_errors(table, path, query, status, words):
    seat = table("bitget")
    answer = get(seat, f"{MARKET}/{path}", **({"productType": "USDT-FUTURES"} | query))
    assert answer[0] == status and words in answer[1]


@pytest.mark.parametrize("path", ["v2/spot/public/coins", "v2/spot/public/symbols"])
def test_what_it_does_not_trade_is_an_empty_list(table, path):
    status, body = get(table("bitget"), f"/api/{path}")
    assert (status, json.loads(body)["data"]) == (200, [])
