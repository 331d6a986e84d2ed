"""What our decoders read is the market's truth, in base coins; deeper books follow their ids."""

import itertools
import json
from urllib.parse import parse_qsl

import numpy as np
import pytest

from perptape.columns import columns
from perptape.decode import Terms, decoder
from perptape.events import MS, NS, Quote
from perptape.sims import VENUES as SIMS
from perptape.sims import scenario
from perptape.venues import VENUES

SECONDS = 3
COINS = tuple(scenario.COINS)
UNSENT = {"hyperliquid", "okx"}
"""Those that do not say when they sent it."""


def subscribed(seat, stream):
    """A connection that asks for all coins as our own venue file does."""
    venue = VENUES[seat.exchange.name]
    talk = seat.connect({name.lower(): value for name, value in venue.headers.items()})
    topics = [venue.topic("quotes", stream, symbol) for symbol in seat.exchange.feeds]
    frames = []
    for k, ask in enumerate(venue.subscribe(topics, seat.start_ns)):
        frames += seat.say(talk, ask, k)  # ns apart: all within the first moment
    return talk, frames


def asked(seat, target, body, at_ns=0):
    """What REST answers, by POST where there is a body."""
    path, _, query = target.partition("?")
    headers = {name.lower(): value for name, value in VENUES[seat.exchange.name].headers.items()}
    if body:
        headers["content-type"] = "application/json"
    now_ns = seat.start_ns + at_ns
    return seat.exchange.rest(path, dict(parse_qsl(query)), headers, now_ns, body)


def instruments(seat):
    """The instrument list by symbol, as our venue file reads it from the simulator's REST."""
    venue = VENUES[seat.exchange.name]
    answer = asked(seat, venue.instruments_path, venue.instruments_body)
    assert answer.status == 200
    listing = venue.read_instruments(answer.body, seat.start_ns)
    assert listing.next_path is None
    return {instrument.symbol: instrument for instrument in listing.instruments}


@pytest.mark.parametrize(
    ("venue", "stream"),
    [(name, stream) for name in SIMS for stream in VENUES[name].streams["quotes"]],
)
def test_quotes_decode_to_the_truth(table, venue, stream):
    names = tuple(f"{coin}-USDT-PERP" for coin in COINS)
    seat = table(venue, instruments=names, venues=offset(venue, 250))
    talk, frames = subscribed(seat, stream)
    read = decoder(venue)
    listed = instruments(seat)
    traded = sorted(SIMS[venue].contracts[coin].instrument for coin in COINS)
    assert sorted(instrument.name for instrument in listed.values()) == traded
    told = {symbol: [] for symbol in listed}
    for at_ns in range(0, SECONDS * NS, 20 * MS):
        frames += seat.turn(talk, at_ns)
        for event in itertools.chain.from_iterable(map(read, frames)):
            if isinstance(event, Quote):  # some streams are a book, too
                told[event.symbol].append((at_ns, event))
        frames = []
    for symbol, quotes in told.items():
        assert len(quotes) > 20
        contract = SIMS[venue].contracts[symbol.partition("U")[0].rstrip("-_")]
        possible = {true_row(contract, top) for top in all_tops(seat, symbol)}
        for at_ns, quote in quotes:
            assert rounded(row(quote, listed[symbol])) in possible
            sent = seat.start_ns + at_ns + 250 * MS
            assert quote.ts_send == (None if venue in UNSENT else sent)
            assert 0 <= sent - quote.ts_event < 1100 * MS


def offset(venue, clock_offset_ms):
    wrong = scenario.Character(clock_offset_ms=clock_offset_ms, latency_ms=5, jitter_ms=1)
    return {**scenario.CHARACTERS, venue: wrong}


def all_tops(seat, symbol):
    """Every state of the market again, from its seed."""
    feed = seat.exchange.feeds[symbol]
    again = type(feed)(feed.scenario, seat.exchange.name, feed.contract, feed.path)
    return [again.current, *again.due(SECONDS * NS)]


def true_row(contract, top):
    tick, lot, size = (step.value for step in (contract.tick, contract.lot, contract.size))
    return rounded(
        (top.bid * tick, top.bid_lots * lot * size, top.ask * tick, top.ask_lots * lot * size)
    )


def row(quote, instrument):
    """A quote in base coins: bid price and size, ask price and size."""
    terms = Terms.of(f"{instrument.venue}:{instrument.name}", quote.symbol, instrument)
    made, _ = columns("quotes", [quote], [terms], np.array([0]))
    return [made[name][0].as_py() for name in ("bid_price", "bid_size", "ask_price", "ask_size")]


def rounded(row):
    return tuple(float(f"{value:.9g}") for value in row)


def test_bybit_deep_books_follow_each_other_by_one_and_keep_their_depth(table):
    seat = table("bybit")
    talk = seat.connect()
    said = seat.say(talk, b'{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}')
    frames = [frame for frame in said if b'"topic"' in frame]
    frames += [f for at in range(0, NS, 20 * MS) for f in seat.turn(talk, at)]
    books, last = {"b": {}, "a": {}}, None
    for frame in map(json.loads, frames):
        assert frame["type"] == ("snapshot" if last is None else "delta")
        assert last is None or frame["data"]["u"] == last + 1
        last = frame["data"]["u"]
        for side, book in books.items():
            for price, size in frame["data"][side]:
                book[price] = size
                if size == "0":
                    del book[price]
            assert len(book) == 50
        assert max(map(float, books["b"])) < min(map(float, books["a"]))
    assert len(frames) > 20


def test_gate_deltas_continue_the_rest_book(table):
    seat = table("gateio")
    talk = seat.connect({"x-gate-size-decimal": "1"})
    ask = {
        "time": 1,
        "channel": "futures.order_book_update",
        "event": "subscribe",
        "payload": ["ETH_USDT", "100ms", "20"],
    }
    assert len(seat.say(talk, json.dumps(ask).encode())) == 1
    frames = [f for at in range(0, NS, 50 * MS) for f in seat.turn(talk, at)]
    query = {"contract": "ETH_USDT", "limit": "20", "with_id": "true"}
    headers = {"x-gate-size-decimal": "1"}
    path = "/api/v4/futures/usdt/order_book"
    early = json.loads(seat.exchange.rest(path, query, headers, seat.start_ns + NS).body)
    new, at_ns = [], NS
    while at_ns < 2 * NS or not new:  # the late book is taken right after a delta
        at_ns += 50 * MS
        new = seat.turn(talk, at_ns)
        frames += new
    late = json.loads(seat.exchange.rest(path, query, headers, seat.start_ns + at_ns).body)
    last, books = early["id"], {key: {r["p"]: r["s"] for r in early[key]} for key in SIDES}
    deltas = [json.loads(frame)["result"] for frame in frames]
    kept = [delta for delta in deltas if last + 1 <= delta["u"] <= late["id"]]
    assert kept[0]["U"] <= last + 1 and len(kept) > 5
    for before, after in itertools.pairwise(deltas):
        assert after["U"] == before["u"] + 1
    for delta in kept:
        for key, book in books.items():
            book.update({r["p"]: r["s"] for r in delta[key[0]]})
    assert kept[-1]["u"] == late["id"]
    for key, book in books.items():
        assert {p: s for p, s in book.items() if s != "0"} == {r["p"]: r["s"] for r in late[key]}


SIDES = ("asks", "bids")


def test_gate_obu_begins_with_a_full_book_and_leaves_out_unchanged_sides(table):
    seat = table("gateio")
    talk = seat.connect()
    ask = '{"time":1,"channel":"futures.obu","event":"subscribe","payload":["ob.BTC_USDT.50"]}'
    frames = seat.say(talk, ask.encode())
    frames += [f for at in range(0, NS, 20 * MS) for f in seat.turn(talk, at)]
    full, *deltas = [r for f in map(json.loads, frames) if "s" in (r := f["result"])]
    assert full["full"] is True and len(full["a"]) == len(full["b"]) == 50
    for before, after in itertools.pairwise([full, *deltas]):
        assert after["U"] == before["u"] + 1 and "full" not in after


def test_bitget_books_chain_by_pseq(table):
    seat = table("bitget")
    talk = seat.connect()
    ask = (
        b'{"op":"subscribe","args":[{"instType":"USDT-FUTURES","channel":"books",'
        b'"instId":"BTCUSDT"}]}'
    )
    frames = seat.say(talk, ask)[1:]
    frames += [f for at in range(0, NS, 50 * MS) for f in seat.turn(talk, at)]
    books = [json.loads(frame) for frame in frames]
    assert [book["action"] for book in books] == ["snapshot"] + ["update"] * (len(books) - 1)
    assert books[0]["data"][0]["pseq"] == 0
    for before, after in itertools.pairwise(books):
        assert after["data"][0]["pseq"] == before["data"][0]["seq"] < after["data"][0]["seq"]


CONTRACTS, DEPTH = "/api/v2/mix/market/contracts", "/api/v4/futures/usdt/order_book"


@pytest.mark.parametrize(
    ("venue", "target", "status", "words"),
    [
        ("bitget", f"{CONTRACTS}?productType=NOPE", 400, b'"code":"40019"'),
        (
            "bitget",
            f"{CONTRACTS}?productType=USDT-FUTURES&symbol=NOPEUSDT",
            400,
            b'"msg":"Parameter NOPEUSDT does not exist"',
        ),
        ("bitget", f"{CONTRACTS}?productType=COIN-FUTURES", 200, b'"data":[]'),
        ("bitget", "/nope", 404, b"40404"),
        (
            "htx",
            "/linear-swap-api/v1/swap_contract_info?contract_code=NOPE-USDT",
            200,
            b'"err_code":1014,"err_msg":"This contract doesnt exist."',
        ),
        ("htx", "/linear-swap-ex/market/depth?contract_code=NOPE", 200, b'"err-code"'),
        ("htx", "/nope", 404, b'"error":"Not Found"'),
        ("gateio", "/api/v4/futures/usdt/contracts/NOPE_USDT", 400, b"CONTRACT_NOT_FOUND"),
        ("gateio", DEPTH, 400, b"MISSING_REQUIRED_PARAM"),
        ("gateio", f"{DEPTH}?contract=BTC_USDT&limit=500", 400, b'"message":"limit 300"'),
        ("gateio", "/api/v4/futures/btc/contracts", 200, b"[]"),
        ("gateio", "/nope", 404, b"label"),
        (
            "bybit",
            "/v5/market/orderbook?category=linear&symbol=NOPEUSDT",
            200,
            b'"retCode":10001,"retMsg":"params error: symbol invalid"',
        ),
        ("bybit", "/v5/market/instruments-info?category=option", 200, b'"list":[]'),
        ("bybit", "/nope", 404, b"10404"),
    ],
)
def test_rest_errors_are_the_venues_own(table, venue, target, status, words):
    seat = table(venue)
    path, _, query = target.partition("?")
    answer = seat.exchange.rest(path, dict(parse_qsl(query)), {}, seat.start_ns)
    assert answer.status == status
    assert words in answer.body


@pytest.mark.parametrize("venue", SIMS)
def test_server_time_is_the_venues_clock(table, venue):
    seat = table(venue, venues=offset(venue, -40))
    answer = asked(seat, VENUES[venue].time_path, VENUES[venue].time_body, NS)
    assert VENUES[venue].read_time(answer.body) == seat.start_ns + NS - 40 * MS


def test_bybit_lists_by_pages(table):
    names = tuple(f"{coin}-USDT-PERP" for coin in COINS)
    seat = table("bybit", instruments=names)
    query, found = {"category": "linear", "limit": "2"}, []
    while True:
        answer = seat.exchange.rest("/v5/market/instruments-info", query, {}, seat.start_ns)
        page = json.loads(answer.body)["result"]
        found.append([row["symbol"] for row in page["list"]])
        if not page["nextPageCursor"]:
            break
        query["cursor"] = page["nextPageCursor"]
    assert found == [["BTCUSDT", "ETHUSDT"], ["SOLUSDT", "XRPUSDT"], ["DOGEUSDT"]]
