"""A third party's client hears the simulated OKX as it would the real one: only URLs differ.

What it shows is held against the market's truth, which the scenario's seed makes again.
"""

import asyncio

import pytest

from perptape import sims
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.exchange import Market
from perptape.sims.market import levels
from perptape.sims.okx import OKX

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, ETH, WITHIN_S = "BTC/USDT:USDT", "ETH/USDT:USDT", 20
H = 3_600_000
CONTRACT = OKX.contracts["BTC"]
PLAYED = scenario.Scenario(start="first-subscribe")


def client_at(origin):
    socket = origin.replace("http", "ws") + "/ws/v5"
    urls = {"api": {"rest": origin, "ws": socket}}
    return ccxt_pro.okx({"options": {"defaultType": "swap"}, "urls": urls})


def played(use, times=1):
    """Give what the client shows, so often, on one connection."""

    async def run():
        running = await sims.serve(["okx"], PLAYED)
        client = client_at(running.urls["okx"])
        try:
            async with asyncio.timeout(WITHIN_S):
                await client.load_markets()
                return [await use(client) for _ in range(times)]
        finally:
            await client.close()
            await running.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def truth():
    """The market's states and trades of the scenario's first seconds."""
    market = Market(PLAYED, "okx", CONTRACT)
    tops = [market.feed.current, *market.feed.due(WITHIN_S * NS)]
    market.trades.due(WITHIN_S * NS)
    return tops, {str(made.number): made for made in market.trades.recent}


def price(ticks):
    return float(CONTRACT.tick.text(ticks))


def qty(lots):
    return float(CONTRACT.lot.text(lots))


def best(top):
    return (price(top.bid), qty(top.bid_lots)), (price(top.ask), qty(top.ask_lots))


def whole(top, depth):
    return [[[price(p), qty(n)] for p, n in side] for side in levels(CONTRACT, top, depth)]


def sides(book):
    return [[list(level[:2]) for level in book[side]] for side in ("bids", "asks")]


@pytest.mark.parametrize("depth", [400, 5, 1])
def test_the_book_that_it_shows_is_the_markets(truth, depth):
    """``books`` rebuilt from its changes, ``books5`` and ``bbo-tbt``."""

    async def watch(client):
        return sides(await client.watch_order_book(BTC, depth))

    states = {best(top): top for top in truth[0]}
    books = played(watch, times=12)
    assert len({repr(book) for book in books}) > 5
    for bids, asks in books:
        assert [bids, asks] == whole(states[tuple(bids[0]), tuple(asks[0])], depth)


def test_the_books_of_two_markets_by_one_request(truth):
    async def watch(client):
        return await client.watch_order_book_for_symbols([BTC, ETH])

    states = {best(top): top for top in truth[0]}
    books = played(watch, times=20)
    assert {book["symbol"] for book in books} == {BTC, ETH}
    for bids, asks in (sides(book) for book in books if book["symbol"] == BTC):
        assert [bids, asks] == whole(states[tuple(bids[0]), tuple(asks[0])], 400)


def test_the_best_quote(truth):
    async def watch(client):
        ticker = (await client.watch_bids_asks([BTC]))[BTC]
        return (ticker["bid"], ticker["bidVolume"]), (ticker["ask"], ticker["askVolume"])

    seen = played(watch, times=10)
    assert len(set(seen)) > 3
    assert set(seen) <= {best(top) for top in truth[0]}


def test_trades(truth):
    async def watch(client):
        return list(await client.watch_trades(BTC))

    seen = [trade for trades in played(watch, times=5) for trade in trades]
    assert len({trade["id"] for trade in seen}) >= 5
    for trade in seen:
        made = truth[1][trade["id"]]
        assert (trade["price"], trade["amount"]) == (price(made.price), qty(made.lots))
        assert trade["side"] == ("buy" if made.is_buy else "sell")


def test_the_ticker(truth):
    async def watch(client):
        return await client.watch_ticker(BTC)

    seen, (tops, prints) = played(watch, times=8), truth
    assert len({ticker["timestamp"] for ticker in seen}) == 8
    both, lasts = {best(top) for top in tops}, {price(made.price) for made in prints.values()}
    for ticker in seen:
        assert ((ticker["bid"], ticker["bidVolume"]), (ticker["ask"], ticker["askVolume"])) in both
        assert ticker["last"] in lasts


def test_mark_and_funding(truth):
    async def watch(client):
        return await client.watch_mark_price(BTC), await client.watch_funding_rate(BTC)

    ((mark, funding),) = played(watch)
    assert mark["markPrice"] == pytest.approx(price(truth[0][0].bid), rel=1e-3)
    assert funding["interval"] == "8h" and abs(funding["fundingRate"]) < 1e-3
    assert funding["fundingTimestamp"] % (8 * H) == 0


def test_what_it_fetches():
    async def fetch(client):
        return (
            await client.fetch_funding_rates([BTC, ETH]),
            await client.fetch_funding_rate_history(BTC, limit=5),
            await client.fetch_open_interest(BTC),
            await client.fetch_trades(BTC, limit=5),
            await client.fetch_order_book(BTC, 200),
            await client.fetch_ticker(BTC),
            await client.fetch_mark_price(BTC),
            await client.fetch_time(),
        )

    ((rates, history, interest, trades, book, ticker, mark, now_ms),) = played(fetch)
    rate = rates[BTC]
    assert set(rates) == {BTC, ETH} and rate["interval"] == "8h"
    assert abs(rate["fundingRate"]) < 1e-3
    steps = [each["timestamp"] for each in history]
    assert steps == [steps[0] + k * 8 * H for k in range(5)]
    assert steps[-1] + 8 * H == rate["fundingTimestamp"]
    assert interest["openInterestAmount"] > 1000
    assert len(trades) == 5 and len(book["bids"]) == len(book["asks"]) == 200
    assert book["bids"][0][0] < book["asks"][0][0]
    assert ticker["bid"] < ticker["ask"]
    assert mark["markPrice"] == pytest.approx(ticker["last"], rel=1e-2)
    assert rate["fundingTimestamp"] - 8 * H <= now_ms <= rate["fundingTimestamp"]


def test_its_markets_have_the_contract_size_and_no_family_that_is_not_simulated():
    async def fetch(client):
        return client.markets

    (markets,) = played(fetch)
    assert set(markets) == {BTC, ETH}
    assert markets[BTC]["contractSize"] == 0.01 and markets[BTC]["linear"]
    assert markets[BTC]["precision"] == {"amount": 0.01, "price": 0.1}


def test_one_bad_symbol_ends_all_that_it_watches_there():
    """It takes any error for one of the whole connection.

    Ours reads the topic in its words: test_our_own_session_hears_all_channels_...
    """

    async def watch(client):
        unknown = "NOPE/USDT:USDT"
        client.markets[unknown] = client.markets[BTC] | {"id": "NOPE-USDT-SWAP", "symbol": unknown}
        while True:
            await client.watch_order_book_for_symbols([BTC, unknown])

    with pytest.raises(ccxt_pro.BadRequest, match="60018"):
        played(watch)
