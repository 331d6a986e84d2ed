"""Hyperliquid's dialect, message by message, and what our own venue file makes of it."""

import itertools
import json

import pytest

from perptape.events import MS, NS, Book, Funding, Mark, Quote, Trade
from perptape.sims import scenario
from perptape.sims.hyperliquid import HYPERLIQUID as DIALECT
from perptape.sims.hyperliquid import REPLAY, SERVED_NS
from perptape.sims.market import levels
from perptape.sims.schedule import Schedule
from perptape.venues.hyperliquid import HYPERLIQUID
from perptape.venues.venue import Accepted

BTC = DIALECT.contracts["BTC"]
JSON = {"content-type": "application/json"}


def asking(kind, coin="BTC", method="subscribe", **more):
    asked = {"type": kind, "coin": coin, **more}
    return json.dumps({"method": method, "subscription": asked}, separators=(",", ":")).encode()


def echo(method, subscription):
    return (
        b'{"channel":"subscriptionResponse","data":{"method":"%b","subscription":%b}}'
        % (method, subscription)
    )  # fmt: skip


def error(words):
    return json.dumps({"channel": "error", "data": words}, separators=(",", ":")).encode()


SLOW = b'{"type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":false}'
QUICK = SLOW.replace(b"false", b"true")
BBO = b'{"type":"bbo","coin":"BTC"}'
UNREAD = "Error parsing JSON into valid websocket request: "


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        pytest.param(b'{"method":"ping"}', b'{"channel":"pong"}', id="a-pong-has-no-data"),
        pytest.param(asking("bbo"), echo(b"subscribe", BBO), id="ack"),
        pytest.param(asking("l2Book"), echo(b"subscribe", SLOW), id="defaults-are-filled-in"),
        pytest.param(asking("l2Book", fast=True), echo(b"subscribe", QUICK), id="fast"),
        pytest.param(
            asking("bbo", method="unsubscribe"),
            error('Already unsubscribed: {"type":"bbo","coin":"BTC"}'),
            id="never-subscribed",
        ),
        pytest.param(
            asking("noSuchType"), error(UNREAD + asking("noSuchType").decode()), id="type"
        ),
        pytest.param(
            asking("bbo", method="shout"),
            error(UNREAD + asking("bbo", method="shout").decode()),
            id="method",
        ),
        pytest.param(
            asking("bbo", ["BTC", "ETH"]),
            error(UNREAD + asking("bbo", ["BTC", "ETH"]).decode()),
            id="one-coin-a-frame",
        ),
        pytest.param(b"hello", error(UNREAD + "hello"), id="no-json"),
    ],
)
def test_the_answer_to_one_message(table, asked, said):
    seat = table("hyperliquid")
    talk = seat.connect()
    assert seat.say(talk, asked)[0] == said
    assert talk.ended is None


@pytest.mark.parametrize("held", [SLOW, QUICK, BBO])
def test_a_second_subscription_is_an_error_and_the_first_goes_on(table, held):
    seat = table("hyperliquid")
    talk = seat.connect()
    ask = b'{"method":"subscribe","subscription":%b}' % held
    seat.say(talk, ask)
    (answer,) = seat.say(talk, ask)
    assert answer == error(f"Already subscribed: {held.decode()}")
    (key,) = HYPERLIQUID.control(answer).keys
    assert HYPERLIQUID.control(echo(b"subscribe", held)) == Accepted((key,))
    assert seat.turn(talk, 10 * NS)
    leave = b'{"method":"unsubscribe","subscription":%b}' % held
    assert seat.say(talk, leave, 10 * NS) == [echo(b"unsubscribe", held)]
    assert seat.turn(talk, 20 * NS) == []


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(asking("bbo", "NOPE"), id="unknown-coin"),
        pytest.param(asking("bbo", "btc"), id="lower-case"),
        pytest.param(asking("l2Book", nSigFigs=6), id="bad-parameter"),
        pytest.param(asking("trades", "xyz:SP500"), id="a-builders-coin"),
    ],
)
def test_what_is_not_known_ends_the_socket_without_a_word(table, asked):
    seat = table("hyperliquid")
    talk = seat.connect()
    seat.say(talk, asking("bbo"))
    assert seat.say(talk, asked) == []
    assert talk.ended is not None
    assert (talk.ended.code, talk.ended.reset) == (None, False)


def test_a_minute_of_our_silence_ends_the_socket_and_a_ping_does_not(table):
    seat = table("hyperliquid")
    quiet, pinging, listening = (seat.connect() for _ in range(3))
    seat.say(listening, asking("bbo"))
    seat.say(pinging, b'{"method":"ping"}', 30 * NS)
    for second in range(0, 61, 5):
        seat.turn(listening, second * NS)
    assert quiet.ended is not None and quiet.ended.code is None
    assert pinging.ended is None and listening.ended is None
    seat.turn(listening, 91 * NS)
    assert pinging.ended is not None


def heard(seat, stream, *, seconds, step_ns=10 * MS):
    """What our decoder makes of a stream of BTC, with the time of each frame."""
    talk = seat.connect()
    (ask,) = HYPERLIQUID.subscribe([HYPERLIQUID.topic("any", stream, "BTC")], 0)
    ack, *frames = seat.say(talk, ask)
    assert HYPERLIQUID.control(ack) == Accepted((f"{stream}.BTC",))
    told = [(0, HYPERLIQUID.decode(frame)) for frame in frames]
    for at_ns in range(step_ns, seconds * NS + 1, step_ns):
        told += [(at_ns, HYPERLIQUID.decode(frame)) for frame in seat.turn(talk, at_ns)]
    return told


def tops(seat):
    """All states that were ever published, from the seed."""
    again = type(seat)("hyperliquid", scenario.Scenario(seed=5, venues=EXACT)).exchange
    feed = again.feeds["BTC"]
    return [feed.current, *feed.due(20 * NS)]


EXACT = {
    name: scenario.Character(updates_per_s=50, latency_ms=5, jitter_ms=1)
    for name in scenario.VENUES
}


def level(price, lots):
    return float(BTC.tick.text(price)), float(BTC.lot.text(lots))


def test_quotes_are_the_markets_one_a_block(table):
    seat = table("hyperliquid")
    told = heard(seat, "bbo", seconds=3)
    made = {
        Quote("BTC", (seat.start_ns + top.at_ns) // MS * MS, None,
              *level(top.bid, top.bid_lots), *level(top.ask, top.ask_lots), None)
        for top in tops(seat)
    }  # fmt: skip
    assert len(told) > 25 and {quote for _, (quote,) in told} <= made
    times = [at_ns for at_ns, _ in told]
    assert all(after - before >= 70 * MS for before, after in itertools.pairwise(times[1:]))


@pytest.mark.parametrize(
    ("stream", "every_ms", "depth"), [("l2Book.fast", 540, 5), ("l2Book", 5000, 20)]
)
def test_books_are_whole_and_come_again_and_again(table, stream, every_ms, depth):
    seat = table("hyperliquid")
    told = heard(seat, stream, seconds=12)
    whole = {
        tuple(tuple(level(*row) for row in side) for side in levels(BTC, top, depth))
        for top in tops(seat)
    }
    for at_ns, (book,) in told:
        assert isinstance(book, Book) and book.is_snapshot and book.follows is None
        assert (tuple(book.bids), tuple(book.asks)) in whole
        assert 0 <= seat.start_ns + at_ns - book.ts_event <= SERVED_NS + MS
    times = [at_ns for at_ns, _ in told]
    gaps_ms = {(after - before) / MS for before, after in itertools.pairwise(times[1:])}
    assert len(told) >= 12_000 // every_ms and max(gaps_ms) <= every_ms + 10
    stamps = [book.ts_event for _, (book,) in told]
    assert stamps == sorted(stamps)


def test_a_quiet_book_is_told_again_with_a_newer_block(table):
    quiet = {**EXACT, "hyperliquid": scenario.Character(updates_per_s=1e-6)}
    seat = table("hyperliquid", venues=quiet)
    books = [book for _, (book,) in heard(seat, "l2Book.fast", seconds=6)]
    assert len(books) > 10
    assert len({tuple(book.bids) for book in books}) == 1
    assert len({book.ts_event for book in books[1:]}) == len(books) - 1


def test_the_first_trades_are_the_last_thirty_and_old(table):
    seat = table("hyperliquid")
    (_, replay), *rest = heard(seat, "trades", seconds=10)
    assert len(replay) == REPLAY == 30
    assert all(trade.ts_event < seat.start_ns for trade in replay)
    fresh = [trade for _, trades in rest for trade in trades]
    assert len(fresh) > 10 and all(isinstance(trade, Trade) for trade in fresh)
    assert all(trade.ts_event >= seat.start_ns for trade in fresh)
    assert {trade.side for trade in fresh} == {"buy", "sell"}
    ids = [int(trade.trade_id) for trade in replay + fresh]
    assert len(set(ids)) == len(ids) and max(ids) < 2**50 and ids != sorted(ids)
    again = seat.connect(at_ns=10 * NS)
    _, frame = seat.say(again, asking("trades"), 10 * NS)
    assert HYPERLIQUID.decode(frame) == (replay + fresh)[-30:]


def test_marks_and_funding_are_one_frame_a_second(table):
    seat = table("hyperliquid")
    told = heard(seat, "activeAssetCtx", seconds=5)
    assert len(told) == 6
    rates = set()
    for at_ns, (mark, funding) in told:
        now = seat.exchange.markets["BTC"].tickers.at(at_ns, seat.start_ns + at_ns)
        assert (mark.ts_event, mark.ts_send) == (None, None)
        assert mark.mark_price == round(now.mark_price)
        assert mark.index_price == round(now.index_price)
        assert mark.open_interest == pytest.approx(now.open_interest * 1e-5, rel=1e-12)
        assert isinstance(mark, Mark) and isinstance(funding, Funding)
        assert (funding.rate, funding.interval_h) == (pytest.approx(now.rate, abs=1e-10), 1.0)
        rates.add(funding.rate)
    assert rates


def posted(seat, body, headers=None, path="/info"):
    given = JSON if headers is None else headers
    return seat.exchange.rest(path, {}, given, seat.start_ns, body)


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [
        pytest.param(b"", 405, b"", id="get"),
        pytest.param(b"{", 400, None, id="no-json"),
        pytest.param(b"{}", 422, None, id="no-type"),
        pytest.param(b'{"type":"nope"}', 422, None, id="type"),
        pytest.param(b'{"type":"fundingHistory","coin":"BTC"}', 422, None, id="no-start"),
        pytest.param(
            b'{"type":"fundingHistory","coin":"NOPE","startTime":0}', 500, b"null", id="coin"
        ),
        pytest.param(b'{"type":"meta","dex":"nope"}', 500, b"null", id="dex"),
        pytest.param(b'{"type":"l2Book","coin":"NOPE"}', 200, b"null", id="book-of-nothing"),
        pytest.param(
            b'{"type":"exchangeStatus"}',
            200,
            b'{"specialStatuses":null,"time":1800000000000}',
            id="time",
        ),
    ],
)
def test_the_answer_to_one_question(table, body, status, answer):
    found = posted(table("hyperliquid"), body)
    assert found.status == status
    assert answer is None or found.body == answer


def test_rest_takes_json_on_one_path(table):
    seat = table("hyperliquid")
    assert posted(seat, b'{"type":"meta"}', headers={}).status == 415
    assert posted(seat, b'{"type":"meta"}', path="/else").status == 404


def test_its_list_and_history(table):
    seat = table("hyperliquid", venues=scenario.CHARACTERS)
    listed = HYPERLIQUID.read_instruments(
        posted(seat, HYPERLIQUID.instruments_body).body, 1
    ).instruments
    assert [each.name for each in listed] == ["BTC-USD-PERP", "ETH-USD-PERP"]
    assert [each.lot_size for each in listed] == [1e-5, 1e-4]
    for each in listed:
        tick = DIALECT.contracts[each.base].tick.value
        assert tick / each.tick_size == pytest.approx(round(tick / each.tick_size))
    seat.start(seat.start_ns)
    found = json.loads(posted(seat, b'{"type":"fundingHistory","coin":"BTC","startTime":0}').body)
    hours = [row["time"] // 3_600_000 for row in found]
    assert len(hours) > 20 and hours == list(range(hours[0], hours[0] + len(hours)))
    assert all(float(row["fundingRate"]) != 0 for row in found)


def test_a_scenarios_coin_is_told_by_the_venues_own_name(table):
    seats = {name: table(name) for name in ("hyperliquid", "bybit")}
    facts, coin = [], "BTC-USDT-PERP"
    fault = scenario.Fault(NS, "hyperliquid", "silence", NS, coin)
    planted = scenario.Episode(NS, NS, coin, "hyperliquid", "bybit", 5.0)
    played = scenario.Scenario(faults=(fault,), episodes=(planted,))
    exchanges = {name: seat.exchange for name, seat in seats.items()}
    schedule = Schedule(played, exchanges, facts.append)
    start_ns = seats["bybit"].start_ns
    schedule.start(start_ns)
    for seat in seats.values():
        seat.start(start_ns)
    for tenth in range(40):
        for exchange in exchanges.values():
            exchange.turn(start_ns + tenth * NS // 10)
        schedule.turn(start_ns + tenth * NS // 10)
    told = {fact.what: fact for fact in facts}
    assert told["fault"].market == told["episode"].market == "hyperliquid:BTC-USD-PERP"
    assert told["episode"].buy == "bybit:BTC-USDT-PERP"
