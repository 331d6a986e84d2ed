"""ccxt Pro against the simulated Bitget: only URLs and documented options are given."""

import asyncio
import json

import pytest

from perptape import sims
from perptape.chain import Chain, Verdict
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.bitget import BITGET as DIALECT
from perptape.sims.bitget import BOOKS_DEPTH
from perptape.sims.exchange import Market
from perptape.sims.market import levels
from perptape.venues.bitget import BITGET

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDT:USDT", 20
PLAYED = scenario.Scenario(
    seed=7, start="first-subscribe", funding_interval_h={"bitget:BTC-USDT-PERP": 4}
)
CONTRACT = DIALECT.contracts["BTC"]


def client_of(origin):
    families = ("spot", "mix", "margin", "common", "user")
    return ccxt_pro.bitget(
        {
            "enableRateLimit": False,
            "options": {"defaultType": "swap", "fetchMarkets": {"types": ["swap"]}},
            "urls": {
                "api": {
                    **dict.fromkeys(families, origin),
                    "ws": {"public": origin.replace("http", "ws") + "/v2/ws/public"},
                }
            },
        }
    )


def done(use):
    """Run ``use(client)`` against a simulator of its own."""

    async def main():
        running = await sims.serve(["bitget"], PLAYED)
        client = client_of(running.urls["bitget"])
        try:
            async with asyncio.timeout(WITHIN_S):
                return await use(client)
        finally:
            await client.close()
            await running.close()

    return asyncio.run(main())


def book_at(top, depth=BOOKS_DEPTH):
    tick, lot = CONTRACT.tick, CONTRACT.lot
    sides = levels(CONTRACT, top, depth)
    return tuple(
        tuple((float(tick.text(p)), float(lot.text(q))) for p, q in side) for side in sides
    )


@pytest.fixture(scope="module")
def market():
    """The same market, played again: all that the simulator may have published."""
    found = Market(PLAYED, "bitget", CONTRACT)
    tops = [found.feed.current, *found.feed.due(WITHIN_S * NS)]
    found.trades.due(WITHIN_S * NS)
    return found, {(top.bid, top.bid_lots, top.ask, top.ask_lots): top for top in tops}


def top_of(market, bid, ask):
    """The published state with these best levels."""
    tick, lot = CONTRACT.tick.value, CONTRACT.lot.value
    words = (bid[0] / tick, bid[1] / lot, ask[0] / tick, ask[1] / lot)
    return market[1][tuple(round(word) for word in words)]


async def many(watch, times):
    return [await watch() for _ in range(times)]


def sides_of(book):
    return tuple(
        tuple((price, size) for price, size, *_ in book[side]) for side in ("bids", "asks")
    )


def test_the_book_that_ccxt_rebuilds_is_the_simulators(market):
    async def use(client):
        return await many(lambda: copied(client, BTC), 12)

    async def copied(client, symbol):
        return sides_of(await client.watch_order_book(symbol))

    books = done(use)
    assert len(set(books)) == 12
    for bids, asks in books:
        assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]))


@pytest.mark.parametrize("depth", [1, 5, 15])
def test_books_that_are_whole_every_time(market, depth):
    async def use(client):
        async def watch():
            return sides_of(await client.watch_order_book(BTC, depth))

        return await many(watch, 4)

    for bids, asks in done(use):
        assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), depth)


def test_trades(market):
    made = {made.number: made for made in market[0].trades.recent}

    async def use(client):
        return await many(lambda: client.watch_trades(BTC), 4)

    seen = [trade for trades in done(use) for trade in trades]
    numbers = [int(trade["id"]) % 10**9 for trade in seen]
    assert len(numbers) >= 4 and set(numbers) <= set(made)
    for trade, number in zip(seen, numbers, strict=True):
        told = made[number]
        assert trade["symbol"] == BTC
        assert trade["price"] == float(CONTRACT.tick.text(told.price))
        assert trade["amount"] == float(CONTRACT.lot.text(told.lots))
        assert trade["side"] == ("buy" if told.is_buy else "sell")


def test_ticker_and_best_prices(market):
    async def use(client):
        bests = await many(lambda: client.watch_bids_asks([BTC]), 3)
        return bests, await many(lambda: client.watch_ticker(BTC), 3)

    bests, tickers = done(use)
    for told in [best[BTC] for best in bests] + tickers:
        bid, ask = (told["bid"], told["bidVolume"]), (told["ask"], told["askVolume"])
        assert top_of(market, bid, ask)
    for told in tickers:
        info = told["info"]
        assert float(info["markPrice"]) == pytest.approx(float(info["indexPrice"]), rel=1e-3)
        assert 60_000 < told["last"] < 68_000 and float(info["holdingAmount"]) > 0
        assert int(info["nextFundingTime"]) % (4 * 3600 * 1000) == 0


def test_what_it_fetches(market):
    async def use(client):
        await client.watch_ticker(BTC)
        return {
            "rate": await client.fetch_funding_rate(BTC),
            "rates": await client.fetch_funding_rates([BTC]),
            "interval": await client.fetch_funding_interval(BTC),
            "intervals": await client.fetch_funding_intervals([BTC]),
            "history": await client.fetch_funding_rate_history(BTC, limit=5),
            "interest": await client.fetch_open_interest(BTC),
            "mark": await client.fetch_mark_price(BTC),
            "ticker": await client.fetch_ticker(BTC),
            "tickers": await client.fetch_tickers([BTC]),
            "book": await client.fetch_order_book(BTC, 50),
            "trades": await client.fetch_trades(BTC, limit=10),
            "time": await client.fetch_time(),
        }

    found = done(use)
    due, period = found["rate"]["fundingTimestamp"], 4 * 3600 * 1000
    assert due % period == 0 and 0 < due - found["time"] <= period
    assert found["rate"]["interval"] == found["interval"]["interval"] == "4h"
    assert found["intervals"][BTC]["interval"] == "4h"
    assert found["rates"][BTC]["fundingRate"] == pytest.approx(
        found["rate"]["fundingRate"], rel=0.1
    )
    paid = [rate["timestamp"] for rate in found["history"]]
    assert paid == [due - n * period for n in (5, 4, 3, 2, 1)]
    assert found["interest"]["openInterestAmount"] > 0
    assert 60_000 < found["mark"]["markPrice"] < 68_000
    assert found["ticker"]["bid"] < found["ticker"]["ask"]
    assert set(found["tickers"]) == {BTC}
    assert len(found["trades"]) == 10
    bids, asks = sides_of(found["book"])
    assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), 50)


class Heard:
    """As much of ccxt's connection as its book needs."""

    def resolve(self, *_): ...


def test_a_lost_update_is_a_hole_to_us_and_nothing_to_ccxt(table):
    """It looks for a checksum, which ended in 2025, and not at pseq: its book goes on, wrong.

    Nor does a new snapshot help: it is put over the old levels as if it were an update.
    """
    seat = table("bitget")
    talk = seat.connect()
    (ask,) = BITGET.subscribe([BITGET.topic("books", "books", "BTCUSDT")], 0)
    _, snapshot = seat.say(talk, ask)
    first, second, _, *later = [
        frame for ms in range(10, 410, 10) for frame in seat.turn(talk, ms * 10**6)
    ]
    frames = [snapshot, first, second, *later]

    chain, verdicts = Chain(), []
    for frame in frames:
        x = BITGET.link(frame)
        verdicts.append(chain.step(x.update_id, x.follows, is_snapshot=x.is_snapshot))
    assert verdicts == [Verdict.APPLY] * 3 + [Verdict.HOLE] + [Verdict.VOID] * (len(frames) - 4)

    client = ccxt_pro.bitget()
    for frame in frames:
        client.handle_order_book(Heard(), json.loads(frame))
    assert sides_of(client.orderbooks["BTCUSDT"]) not in published(table)
    _, again = seat.say(seat.connect(), ask)
    client.handle_order_book(Heard(), json.loads(again))
    assert sides_of(client.orderbooks["BTCUSDT"]) not in published(table)

    (ours,) = BITGET.decode(again)
    assert (tuple(ours.bids), tuple(ours.asks)) in published(table)


def published(table):
    """All books of that market, played again."""
    feed = table("bitget").exchange.markets["BTCUSDT"].feed
    return {book_at(top) for top in (feed.current, *feed.due(NS))}
