"""ccxt Pro against the simulated Hyperliquid: only URLs and documented options are given.

ccxt knows neither ``bbo`` nor ``activeAssetCtx``: its best prices are those of the book, its mark
price and funding come by REST.
"""

import asyncio

import pytest

from perptape import sims
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.exchange import Market
from perptape.sims.hyperliquid import DEPTH, FAST_DEPTH
from perptape.sims.hyperliquid import HYPERLIQUID as DIALECT
from perptape.sims.market import levels

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDC:USDC", 20
FAST = {"subscription": {"type": "l2Book", "coin": "BTC", "fast": True}}
PLAYED = scenario.Scenario(seed=11, start="first-subscribe")
CONTRACT = DIALECT.contracts["BTC"]
HOUR_MS = 3_600_000


def done(use):
    """Run ``use(client)`` against a simulator of its own."""

    async def main():
        running = await sims.serve(["hyperliquid"], PLAYED)
        origin = running.urls["hyperliquid"]
        socket = {"public": origin.replace("http", "ws") + "/ws"}
        client = ccxt_pro.hyperliquid(
            {
                "enableRateLimit": False,
                "urls": {"api": {"public": origin, "private": origin, "ws": socket}},
            }
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                return await use(client)
        finally:
            await client.close()
            await running.close()

    return asyncio.run(main())


@pytest.fixture(scope="module")
def market():
    """The same market, played again: all that the simulator may have published."""
    found = Market(PLAYED, "hyperliquid", CONTRACT)
    tops = [found.feed.current, *found.feed.due(WITHIN_S * NS)]
    found.trades.due(WITHIN_S * NS)
    return found, tops


def books(market, depth):
    tick, lot = CONTRACT.tick, CONTRACT.lot
    return {
        tuple(
            tuple((float(tick.text(price)), float(lot.text(lots))) for price, lots in side)
            for side in levels(CONTRACT, top, depth)
        )
        for top in market[1]
    }


def sides_of(book):
    return tuple(
        tuple((price, size) for price, size, *_ in book[side]) for side in ("bids", "asks")
    )


def test_the_slow_book_is_the_simulators(market):
    async def use(client):
        return sides_of(await client.watch_order_book(BTC))

    book = done(use)
    assert len(book[0]) == len(book[1]) == DEPTH
    assert book in books(market, DEPTH)


def test_the_fast_book_is_the_simulators_whenever_it_comes(market):
    async def use(client):
        async def watch():
            return sides_of(await client.watch_order_book(BTC, params=FAST))

        return [await watch() for _ in range(5)]

    seen = done(use)
    assert len(set(seen)) == 5
    assert set(seen) <= books(market, FAST_DEPTH)


def test_trades(market):
    made = [
        (float(CONTRACT.tick.text(t.price)), float(CONTRACT.lot.text(t.lots)), t.is_buy)
        for t in market[0].trades.recent
    ]

    async def use(client):
        first = list(await client.watch_trades(BTC))
        return first, list(await client.watch_trades(BTC))

    first, later = done(use)
    told = [(t["price"], t["amount"], t["side"] == "buy") for t in first + later]
    assert len(first) == 30 and later  # it takes the replay for news
    assert told == made[: len(told)]
    assert all(trade["symbol"] == BTC for trade in first + later)


def test_ticker(market):
    async def use(client):
        await client.load_markets()  # which this method of ccxt forgets
        return await client.watch_ticker(BTC, {"channel": "allMids"})

    ticker = done(use)
    tick = CONTRACT.tick.value
    assert ticker["symbol"] == BTC
    assert ticker["last"] in {(top.bid + top.ask) / 2 * tick for top in market[1]}


def test_what_it_fetches(market):
    async def use(client):
        await client.watch_order_book(BTC)
        return {
            "rates": await client.fetch_funding_rates([BTC]),
            "history": await client.fetch_funding_rate_history(BTC, limit=5),
            "interest": await client.fetch_open_interest(BTC),
            "ticker": (await client.fetch_tickers([BTC]))[BTC],
            "book": await client.fetch_order_book(BTC),
            "time": await client.fetch_time(),
            "status": await client.fetch_status(),
        }

    found = done(use)
    rate = found["rates"][BTC]
    assert (rate["symbol"], rate["interval"]) == (BTC, "1h")
    assert 0 < rate["fundingRate"] < 1e-3
    assert 60_000 < rate["markPrice"] < 68_000
    assert rate["markPrice"] == pytest.approx(rate["indexPrice"], rel=1e-3)
    assert 0 < rate["fundingTimestamp"] - found["time"] <= HOUR_MS
    paid = [row["timestamp"] // HOUR_MS for row in found["history"]]
    assert paid == [paid[0] + n for n in range(5)]
    assert found["interest"]["openInterestAmount"] > 0
    assert found["ticker"]["bid"] < found["ticker"]["ask"]
    assert found["status"]["status"] == "ok"
    assert sides_of(found["book"]) in books(market, DEPTH)


def test_its_instruments():
    async def use(client):
        return await client.load_markets()

    listed = done(use)
    assert sorted(listed) == ["BTC/USDC:USDC", "ETH/USDC:USDC"]
    assert listed[BTC]["linear"] and listed[BTC]["contractSize"] == 1
    assert listed[BTC]["precision"] == {"amount": 1e-5, "price": 1}
