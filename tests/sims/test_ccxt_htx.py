"""ccxt Pro against the simulated HTX: only URLs and documented options are given.

Where it is wrong, the test says so: it prints trades at twice their size, and a lost update stops
its book for ever without an error.
"""

import asyncio

import msgspec
import pytest

from perptape import sims
from perptape.chain import Chain, Verdict
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.exchange import Market
from perptape.sims.htx import HTX as DIALECT
from perptape.sims.htx import MRID, fills
from perptape.sims.market import levels
from perptape.venues.htx import BOOKS, HTX

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDT:USDT", 20
PLAYED = scenario.Scenario(
    seed=7, start="first-subscribe", funding_interval_h={"htx:BTC-USDT-PERP": 4}
)
CONTRACT = DIALECT.contracts["BTC"]


def client_of(origin, **options):
    public = origin.replace("http", "ws") + "/linear-swap-ws"
    families = {"spot": False, "linear": True, "inverse": False}
    return ccxt_pro.htx(
        {
            "enableRateLimit": False,
            "options": {"defaultType": "swap", "fetchMarkets": {"types": families}, **options},
            "urls": {
                "api": {
                    **dict.fromkeys(("contract", "spot"), origin),
                    "ws": {"api": {"swap": {"linear": {"public": public}}}},
                }
            },
        }
    )


def done(use, **options):
    """Run ``use(client)`` against a simulator of its own."""

    async def main():
        running = await sims.serve(["htx"], PLAYED)
        client = client_of(running.urls["htx"], **options)
        try:
            async with asyncio.timeout(WITHIN_S):
                return await use(client)
        finally:
            await client.close()
            await running.close()

    return asyncio.run(main())


async def many(watch, times):
    return [await watch() for _ in range(times)]


@pytest.fixture(scope="module")
def market():
    """The same market, played again: all that the simulator may have published."""
    found = Market(PLAYED, "htx", CONTRACT)
    tops = [found.feed.current, *found.feed.due(WITHIN_S * NS)]
    found.trades.due(WITHIN_S * NS)
    return found, {(top.bid, top.bid_lots, top.ask, top.ask_lots): top for top in tops}


def top_of(market, bid, ask):
    """The published state with these best levels."""
    tick = CONTRACT.tick.value
    words = (bid[0] / tick, bid[1], ask[0] / tick, ask[1])
    return market[1][tuple(round(word) for word in words)]


def book_at(top, depth):
    sides = levels(CONTRACT, top, depth)
    return tuple(
        tuple((float(CONTRACT.tick.text(price)), float(lots)) for price, lots in side)
        for side in sides
    )


def sides_of(book):
    return tuple(
        tuple((float(price), float(qty)) for price, qty in book[side]) for side in ("bids", "asks")
    )


@pytest.mark.parametrize("depth", [150, 20])
def test_the_book_that_ccxt_rebuilds_is_the_simulators(market, depth):
    async def use(client):
        async def watch():
            return sides_of(await client.watch_order_book(BTC, depth))

        return await many(watch, 12)

    books = done(use)
    assert len(set(books)) > 6
    for bids, asks in books:
        assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), depth)


def test_ccxt_prints_trades_at_twice_their_size(market):
    """What it passes on is as printed; ours is half of it, and what the market made."""

    async def use(client):
        return await many(lambda: client.watch_trades(BTC), 4)

    seen = [trade for trades in done(use) for trade in trades]
    made = {one.number: one for one in market[0].trades.recent}
    assert len(seen) >= 4
    for trade in seen:
        order, k = divmod(int(trade["id"]), 10_000)
        one = made[order - MRID + k]
        assert trade["amount"] == 2 * one.lots
        assert trade["price"] == float(CONTRACT.tick.text(one.price))
        assert trade["side"] == ("buy" if one.is_buy else "sell")
        frame = {
            "ch": "market.BTC-USDT.trade.detail",
            "ts": trade["timestamp"],
            "tick": fills(CONTRACT, [one], lambda _: 0),
        }
        (ours,) = HTX.decode(msgspec.json.encode(frame))
        assert (ours.qty, ours.price) == (trade["amount"] / 2, trade["price"])


def test_its_first_trade_is_older_than_the_subscribe():
    async def use(client):
        since = await client.fetch_time()
        (first, *_) = await client.watch_trades(BTC)
        return since, first["timestamp"]

    since, first = done(use)
    assert first < since


@pytest.mark.parametrize("name", ["market.{marketId}.detail", "market.{marketId}.bbo"])
def test_tickers(market, name):
    async def use(client):
        return await many(lambda: client.watch_ticker(BTC), 4)

    tickers = done(use, watchTicker={"name": name})
    for told in tickers:
        assert top_of(market, (told["bid"], told["bidVolume"]), (told["ask"], told["askVolume"]))
    if name.endswith("detail"):
        assert all(60_000 < told["last"] < 68_000 for told in tickers)


def test_what_it_fetches(market):
    async def use(client):
        await client.watch_ticker(BTC)
        return {
            "rate": await client.fetch_funding_rate(BTC),
            "history": await client.fetch_funding_rate_history(BTC, limit=5),
            "interest": await client.fetch_open_interest(BTC),
            "book": await client.fetch_order_book(BTC),
            "trades": await client.fetch_trades(BTC, limit=10),
            "time": await client.fetch_time(),
        }

    found = done(use)
    due, period = found["rate"]["fundingTimestamp"], 4 * 3600 * 1000
    assert due % period == 0 and 0 < due - found["time"] <= period
    assert found["rate"]["nextFundingTimestamp"] == due + period
    paid = [rate["timestamp"] for rate in found["history"]]
    assert paid == [due - n * period for n in (5, 4, 3, 2, 1)]
    assert found["interest"]["openInterestAmount"] > 0
    assert len(found["trades"]) >= 10
    bids, asks = sides_of(found["book"])
    assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), 150)


def test_a_lost_update_stops_its_book_for_ever_without_an_error(market, monkeypatch):
    """It drops every update that does not follow the one it has, and asks for nothing."""
    lost_at = 8

    def lossy(state):
        lost = state.previous is not None and state.nth == lost_at
        return b"" if lost else DIALECT.streams[BOOKS[0]].encode(state)

    stream = msgspec.structs.replace(DIALECT.streams[BOOKS[0]], encode=lossy)
    streams = {**DIALECT.streams, BOOKS[0]: stream}
    monkeypatch.setitem(sims.VENUES, "htx", msgspec.structs.replace(DIALECT, streams=streams))

    async def use(client):
        async def watch():
            return sides_of(await client.watch_order_book(BTC))

        books = await many(watch, 40)
        ticker = await client.watch_ticker(BTC)
        return books, (ticker["bid"], ticker["ask"])

    books, now = done(use, watchTicker={"name": "market.{marketId}.bbo"})
    frozen = books[-1]
    assert len(set(books[:6])) > 3 and set(books[20:]) == {frozen}
    assert now != (frozen[0][0][0], frozen[1][0][0])
    assert frozen == book_at(top_of(market, frozen[0][0], frozen[1][0]), 150)  # right once


def test_a_lost_update_is_a_hole_to_us(table):
    """And the book is whole again after the topic is asked for anew."""
    seat = table("htx")
    talk = seat.connect()
    topic = HTX.topic("books", BOOKS[0], "BTC-USDT")
    (ask,), (leave,) = HTX.subscribe([topic], 0), HTX.unsubscribe([topic], 0)
    first = [frame for frame in seat.say(talk, ask) if HTX.is_data(frame)]
    heard = first + [f for ms in range(10, 410, 10) for f in seat.turn(talk, ms * 10**6)]
    lost = heard.pop(3)

    chain = Chain()
    assert HTX.link(lost).update_id == HTX.link(heard[2]).update_id + 1
    verdicts = [step(chain, frame) for frame in heard]
    after = [Verdict.VOID] * (len(heard) - 4)
    assert verdicts == [Verdict.APPLY] * 3 + [Verdict.HOLE, *after]

    assert [HTX.control(answer) for answer in seat.say(talk, leave, 410 * 10**6)] == [None]
    again = [f for f in seat.say(talk, ask, 420 * 10**6) if HTX.is_data(f)]
    again += [f for ms in range(430, 700, 10) for f in seat.turn(talk, ms * 10**6)]
    assert len(again) > 4 and {step(chain, frame) for frame in again} == {Verdict.APPLY}


def step(chain, frame):
    link = HTX.link(frame)
    return chain.step(link.update_id, link.follows, is_snapshot=link.is_snapshot)
