"""ccxt Pro against the simulated Binance: only URLs and documented options are given.

It connects to raw sockets (``/public/ws/0``, ``/market/ws/1``) and numbers them where a stream's
name may stand.
"""

import asyncio
import json

import pytest

from perptape import sims
from perptape.chain import Chain, Verdict
from perptape.events import MS, NS
from perptape.sims import scenario
from perptape.sims.binance import BINANCE as DIALECT
from perptape.sims.binance_rest import TRADES
from perptape.sims.exchange import Market
from perptape.sims.market import levels
from perptape.venues.binance import BINANCE

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDT:USDT", 20
PLAYED = scenario.Scenario(
    seed=7, start="first-subscribe", funding_interval_h={"binance:BTC-USDT-PERP": 4}
)
CONTRACT = DIALECT.contracts["BTC"]
HOURS_4 = 4 * 3600 * 1000


def client_of(origin):
    return ccxt_pro.binanceusdm(
        {
            "enableRateLimit": False,
            "urls": {
                "api": {
                    "fapiPublic": f"{origin}/fapi/v1",
                    "ws": {"future": origin.replace("http", "ws") + "/ws"},
                }
            },
        }
    )


def done(use):
    """Run ``use(client)`` against a simulator of its own."""

    async def main():
        running = await sims.serve(["binance"], PLAYED)
        client = client_of(running.urls["binance"])
        try:
            async with asyncio.timeout(WITHIN_S):
                return await use(client)
        finally:
            await client.close()
            await running.close()

    return asyncio.run(main())


def book_at(top, depth):
    tick, lot = CONTRACT.tick, CONTRACT.lot
    sides = levels(CONTRACT, top, depth)
    return tuple(
        tuple((float(tick.text(p)), float(lot.text(q))) for p, q in side) for side in sides
    )


@pytest.fixture(scope="module")
def market():
    """The same market, played again: all that the simulator may have published."""
    found = Market(PLAYED, "binance", CONTRACT)
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


def sides_of(book, depth=None):
    return tuple(
        tuple((price, size) for price, size, *_ in book[side][:depth]) for side in ("bids", "asks")
    )


def test_the_book_that_ccxt_rebuilds_is_the_simulators(market):
    async def use(client):
        return await many(lambda: copied(client), 15)

    async def copied(client):
        return sides_of(await client.watch_order_book(BTC), 400)

    books = done(use)
    assert len(set(books)) == 15
    for bids, asks in books:
        assert len(bids) == len(asks) == 400
        assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), 400)


@pytest.mark.parametrize("name", ["trade", "aggTrade"])
def test_trades(market, name):
    made = {made.number: made for made in market[0].trades.recent}

    async def use(client):
        return await many(lambda: client.watch_trades(BTC, params={"name": name}), 4)

    seen = {trade["id"]: trade for trades in done(use) for trade in trades}
    assert len(seen) >= 4
    for number, trade in seen.items():
        one = made[int(number) - (TRADES if name == "trade" else 0)]
        assert trade["symbol"] == BTC
        assert trade["price"] == float(CONTRACT.tick.text(one.price))
        assert trade["amount"] == float(CONTRACT.lot.text(one.lots))
        assert trade["side"] == ("buy" if one.is_buy else "sell")


def test_best_prices_mark_price_and_ticker(market):
    async def use(client):
        bests = await many(lambda: client.watch_bids_asks([BTC]), 5)
        return bests, await client.watch_mark_price(BTC), await client.watch_ticker(BTC)

    bests, mark, ticker = done(use)
    for best in bests:
        told = best[BTC]
        assert top_of(market, (told["bid"], told["bidVolume"]), (told["ask"], told["askVolume"]))
    info = mark["info"]
    assert mark["markPrice"] == pytest.approx(mark["indexPrice"], rel=1e-3)
    assert int(info["T"]) % HOURS_4 == 0 < int(info["T"]) - int(info["E"]) <= HOURS_4
    assert 60_000 < ticker["last"] < 68_000 and ticker["baseVolume"] > 0


def test_what_it_fetches(market):
    async def use(client):
        await client.watch_bids_asks([BTC])
        return {
            "rate": await client.fetch_funding_rate(BTC),
            "rates": await client.fetch_funding_rates([BTC]),
            "intervals": await client.fetch_funding_intervals([BTC]),
            "history": await client.fetch_funding_rate_history(BTC, limit=5),
            "interest": await client.fetch_open_interest(BTC),
            "mark": await client.fetch_mark_price(BTC),
            "ticker": await client.fetch_ticker(BTC),
            "tickers": await client.fetch_tickers([BTC]),
            "best": await client.fetch_bids_asks([BTC]),
            "book": await client.fetch_order_book(BTC, 50),
            "trades": await client.fetch_trades(BTC, limit=10),
            "time": await client.fetch_time(),
        }

    found = done(use)
    due = found["rate"]["fundingTimestamp"]
    assert due % HOURS_4 == 0 and 0 < due - found["time"] <= HOURS_4
    assert found["rates"][BTC]["fundingTimestamp"] == due
    assert found["intervals"][BTC]["interval"] == "4h"
    paid = [rate["timestamp"] for rate in found["history"]]
    assert [ms // HOURS_4 * HOURS_4 for ms in paid] == [due - n * HOURS_4 for n in (5, 4, 3, 2, 1)]
    assert max(ms % HOURS_4 for ms in paid) < 10
    assert found["interest"]["openInterestAmount"] > 0
    assert 60_000 < found["mark"]["markPrice"] < 68_000
    assert 60_000 < found["ticker"]["last"] < 68_000 and set(found["tickers"]) == {BTC}
    assert found["best"][BTC]["bid"] < found["best"][BTC]["ask"]
    assert len(found["trades"]) == 10
    bids, asks = sides_of(found["book"])
    assert (bids, asks) == book_at(top_of(market, bids[0], asks[0]), 50)


class Heard:
    """As much of ccxt's connection as its book needs."""

    def __init__(self):
        self.url = "ws://localhost/public/ws/0"
        self.subscriptions = {"orderbook::BTCUSDT": True}
        self.refusals = []

    def resolve(self, *_): ...

    def reject(self, error, *_):
        self.refusals.append(type(error).__name__)


def test_a_lost_change_is_a_hole_to_us_and_an_error_to_ccxt(table):
    """It has the rule of the venue: it drops the book and tells its user, who asks again."""
    seat = table("binance")
    talk = seat.connect(path="/public/ws")
    (ask,) = BINANCE.subscribe([BINANCE.topic("books", "depth@100ms", "BTCUSDT")], 0)
    seat.say(talk, ask)
    first, second, _, fourth, *_ = [
        f for ms in range(10, 610, 10) for f in seat.turn(talk, ms * MS)
    ]
    chain, client, heard = Chain(), ccxt_pro.binanceusdm(), Heard()
    begin = json.loads(first)["pu"]
    chain.step(begin, None, is_snapshot=True)
    book = client.order_book({})
    book["nonce"] = begin
    client.orderbooks["BTCUSDT"] = book
    verdicts = []
    for frame in (first, second, fourth):
        news = json.loads(frame)
        verdicts.append(chain.step(news["u"], news["pu"], is_snapshot=False))
        client.handle_order_book(heard, news)
    assert verdicts == [Verdict.APPLY, Verdict.APPLY, Verdict.HOLE]
    assert heard.refusals == ["ChecksumError"] and not client.orderbooks
