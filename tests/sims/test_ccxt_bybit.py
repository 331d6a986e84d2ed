"""A third party's client hears the simulated Bybit as it would the real one: only URLs differ.

What it shows is held against the market's truth, which the scenario's seed makes again.
"""

import asyncio

import pytest

from perptape import sims
from perptape.events import NS
from perptape.sims import scenario
from perptape.sims.bybit import BYBIT, trade_id
from perptape.sims.exchange import Market
from perptape.sims.market import levels

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDT:USDT", 20
CONTRACT = BYBIT.contracts["BTC"]
PLAYED = scenario.Scenario(start="first-subscribe")


def client_at(origin):
    return ccxt_pro.bybit(
        {
            "options": {"defaultType": "swap", "fetchMarkets": {"types": ["linear"]}},
            "urls": {
                "api": {
                    "public": origin,
                    "ws": {
                        "public": {"linear": origin.replace("http", "ws") + "/v5/public/linear"}
                    },
                }
            },
        }
    )


def played(use, times=1):
    """Give what the client shows, so often, on one connection."""

    async def run():
        running = await sims.serve(["bybit"], PLAYED)
        client = client_at(running.urls["bybit"])
        try:
            async with asyncio.timeout(WITHIN_S):
                return [await use(client) for _ in range(times)]
        finally:
            await client.close()
            await running.close()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def truth():
    """The market's states and trades of the scenario's first seconds."""
    market = Market(PLAYED, "bybit", CONTRACT)
    tops = [market.feed.current, *market.feed.due(WITHIN_S * NS)]
    market.trades.due(WITHIN_S * NS)
    return tops, {trade_id(made.number): made for made in market.trades.recent}


def price(ticks):
    return float(CONTRACT.tick.padded(ticks))


def qty(lots):
    return float(CONTRACT.lot.padded(lots))


def best(top):
    return (price(top.bid), qty(top.bid_lots)), (price(top.ask), qty(top.ask_lots))


def whole(top, depth):
    return [[[price(p), qty(n)] for p, n in side] for side in levels(CONTRACT, top, depth)]


@pytest.mark.parametrize("depth", [50, 200, 1000])
def test_the_book_that_it_rebuilds_is_the_markets(truth, depth):
    async def watch(client):
        book = await client.watch_order_book(BTC, depth)
        return [[list(level) for level in book[side]] for side in ("bids", "asks")]

    tops, _ = truth
    states = {best(top): top for top in tops}
    books = played(watch, times=12)
    assert len({repr(book) for book in books}) > 5
    for bids, asks in books:
        assert [bids, asks] == whole(states[tuple(bids[0]), tuple(asks[0])], depth)


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
    sides = {best(top) for top in tops}
    lasts = {price(made.price) for made in prints.values()}
    for ticker in seen:
        assert ((ticker["bid"], ticker["bidVolume"]), (ticker["ask"], ticker["askVolume"])) in sides
        assert ticker["last"] in lasts
        assert ticker["markPrice"] == pytest.approx(ticker["indexPrice"], rel=1e-3)
        info = ticker["info"]  # the deltas merged into the snapshot
        assert float(info["openInterest"]) == pytest.approx(2 * float(info["singleOpenInterest"]))
        assert info["fundingIntervalHour"] == "8"
        assert int(info["nextFundingTime"]) % (8 * 3_600_000) == 0


def test_what_it_fetches():
    async def fetch(client):
        return (
            await client.fetch_funding_rates([BTC]),
            await client.fetch_funding_rate_history(BTC, limit=5),
            await client.fetch_open_interest(BTC),
            await client.fetch_trades(BTC, limit=5),
            await client.fetch_order_book(BTC, 200),
            await client.fetch_ticker(BTC),
        )

    ((rates, history, interest, trades, book, ticker),) = played(fetch)
    rate = rates[BTC]
    assert rate["interval"] == "8h" and abs(rate["fundingRate"]) < 1e-3
    assert rate["fundingTimestamp"] % (8 * 3_600_000) == 0
    steps = [each["timestamp"] for each in history]
    assert steps == [steps[0] + k * 8 * 3_600_000 for k in range(5)]
    assert steps[-1] + 8 * 3_600_000 == rate["fundingTimestamp"]
    assert interest["openInterestAmount"] == pytest.approx(
        float(ticker["info"]["openInterest"]), rel=1e-2
    )
    assert [trade["timestamp"] for trade in trades] == sorted(t["timestamp"] for t in trades)
    assert len(trades) == 5 and len(book["bids"]) == len(book["asks"]) == 200
    assert book["bids"][0][0] < book["asks"][0][0]


def test_one_bad_symbol_silences_its_whole_frame_there():
    """It asks for all in one frame, and does not connect the refusal to those who wait.

    Ours asks for each topic alone: test_one_bad_topic_never_costs_a_good_one.
    """

    async def watch(client):
        await client.load_markets()
        unknown = "NOPE/USDT:USDT"
        client.markets[unknown] = client.markets[BTC] | {"id": "NOPEUSDT", "symbol": unknown}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # a snapshot comes at once, or never
                await client.watch_order_book_for_symbols([BTC, unknown])
        return dict(client.orderbooks)

    assert played(watch) == [{}]
