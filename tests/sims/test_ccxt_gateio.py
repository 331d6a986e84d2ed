"""ccxt Pro against the simulated Gate.io: only URLs and documented options are given."""

import asyncio
import itertools

import pytest

from perptape import sims
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.exchange import Market
from perptape.sims.gateio import GATEIO as DIALECT
from perptape.sims.gateio_frames import TRADE, U
from perptape.sims.market import levels
from perptape.venues.gateio import GATEIO

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, ETH, WITHIN_S, DEPTH = "BTC/USDT:USDT", "ETH/USDT:USDT", 20, 100
PLAYED = scenario.Scenario(
    seed=7, start="first-subscribe", funding_interval_h={"gateio:BTC-USDT-PERP": 4}
)


def client_of(origin):
    rest = origin + "/api/v4"
    return ccxt_pro.gate(
        {
            "enableRateLimit": False,
            "options": {"defaultType": "swap", "fetchMarkets": {"types": ["swap"]}},
            "urls": {
                "api": {
                    "public": {"futures": rest, "spot": rest},
                    "swap": {"usdt": origin.replace("http", "ws") + "/v4/ws/usdt"},
                }
            },
        }
    )


def done(use):
    """Run ``use(client)`` against a simulator of its own."""

    async def main():
        running = await sims.serve(["gateio"], PLAYED)
        client = client_of(running.urls["gateio"])
        try:
            async with asyncio.timeout(WITHIN_S):
                return await use(client)
        finally:
            await client.close()
            await running.close()

    return asyncio.run(main())


async def many(watch, times):
    return [await watch() for _ in range(times)]


def played(base):
    """The same market, played again: states by their ids, trades by their numbers."""
    market = Market(PLAYED, "gateio", DIALECT.contracts[base])
    tops = [market.feed.current, *market.feed.due(WITHIN_S * NS)]
    market.trades.due(WITHIN_S * NS)
    trades = {TRADE + made.number: made for made in market.trades.recent}
    return {U + top.update_id: top for top in tops}, trades


def true_sides(base, top, depth=DEPTH):
    tick, lot = DIALECT.contracts[base].tick, DIALECT.contracts[base].lot
    sides = levels(DIALECT.contracts[base], top, depth)
    return [[(float(tick.text(p)), float(lot.text(q))) for p, q in side] for side in sides]


async def copied(client, symbol):
    book = await client.watch_order_book(symbol)
    return book["nonce"], sides_of(book)


def sides_of(book):
    return [[tuple(level[:2]) for level in book[side]] for side in ("bids", "asks")]


def test_the_book_that_ccxt_rebuilds_is_the_simulators():
    """By ``order_book_update`` over REST; it has no ``obu`` of futures."""
    tops, _ = played("BTC")
    seen = done(lambda client: many(lambda: copied(client, BTC), 12))
    assert len({nonce for nonce, _ in seen}) == 12
    for nonce, sides in seen:
        assert sides == true_sides("BTC", tops[nonce])


def test_without_the_header_ccxt_loses_the_fractions_and_the_levels_below_one():
    """The one at hand does not send it, later ones do: 0.4 contracts read 0. Ours sends it."""
    assert GATEIO.headers == {"X-Gate-Size-Decimal": "1"}
    tops, _ = played("ETH")
    seen = done(lambda client: many(lambda: copied(client, ETH), 3))
    for nonce, sides in seen:
        whole = true_sides("ETH", tops[nonce])
        cut = [[(price, size // 1) for price, size in side if size >= 1] for side in whole]
        kept = [[level for level in side if level[1]] for side in sides]
        assert kept == cut != whole


def test_trades():
    _, made = played("BTC")
    tick, lot = DIALECT.contracts["BTC"].tick, DIALECT.contracts["BTC"].lot
    seen = done(lambda client: many(lambda: client.watch_trades(BTC), 4))
    for trade in [trade for trades in seen for trade in trades]:
        told = made[int(trade["id"])]
        assert trade["symbol"] == BTC and trade["timestamp"] > 1.6e12
        assert (trade["price"], trade["amount"]) == (
            float(tick.text(told.price)),
            float(lot.text(told.lots)),
        )
        assert trade["side"] == ("buy" if told.is_buy else "sell")


def test_best_prices():
    tops, _ = played("BTC")
    for best in done(lambda client: many(lambda: client.watch_bids_asks([BTC]), 5)):
        told = best[BTC]
        ((bid,), (ask,)) = true_sides("BTC", tops[told["info"]["u"]], 1)
        assert (told["bid"], told["bidVolume"]) == bid
        assert (told["ask"], told["askVolume"]) == ask


def test_ticker():
    for told in done(lambda client: many(lambda: client.watch_ticker(BTC), 2)):
        assert told["symbol"] == BTC and 60_000 < told["last"] < 68_000
        assert told["markPrice"] == pytest.approx(told["indexPrice"], rel=1e-3)
        assert told["info"]["funding_interval"] == 4 * 3600
        assert told["info"]["funding_next_apply"] % (4 * 3600) == 0


def test_what_it_fetches():
    tops, made = played("BTC")

    async def use(client):
        await client.watch_bids_asks([BTC])
        return {
            "rate": await client.fetch_funding_rate(BTC),
            "rates": await client.fetch_funding_rates([BTC, ETH]),
            "history": await client.fetch_funding_rate_history(BTC, limit=5),
            "ticker": await client.fetch_ticker(BTC),
            "tickers": await client.fetch_tickers([BTC, ETH]),
            "book": await client.fetch_order_book(BTC, 50),
            "trades": await client.fetch_trades(BTC, limit=10),
            "time": await client.fetch_time(),
        }

    found = done(use)
    due, period = found["rate"]["fundingTimestamp"], 4 * 3600 * 1000
    assert due % period == 0 and 0 < due - found["time"] <= period
    assert found["rate"]["interval"] == "4h"
    assert {symbol: rate["interval"] for symbol, rate in found["rates"].items()} == {
        BTC: "4h",
        ETH: "8h",
    }
    paid = [rate["timestamp"] for rate in found["history"]]
    hours = [ms - ms % 3_600_000 for ms in paid]  # booked a second or two later
    assert {after - before for before, after in itertools.pairwise(hours)} == {period}
    assert (due - hours[-1]) % period == 0 and len(hours) == 5
    assert found["ticker"]["bid"] < found["ticker"]["ask"]
    assert set(found["tickers"]) == {BTC, ETH}
    assert {int(trade["id"]) for trade in found["trades"]} <= set(made)
    assert len(found["trades"]) == 10
    assert sides_of(found["book"]) == true_sides("BTC", tops[found["book"]["nonce"]], 50)
