"""A third party's client works unchanged: only URLs and documented options are given."""

import asyncio

import pytest

from perptape import sims
from perptape.sims import scenario

ccxt_pro = pytest.importorskip("ccxt.pro", reason="ccxt is not installed")

BTC, WITHIN_S = "BTC/USDT:USDT", 20


def gate(origin):
    rest = origin + "/api/v4"
    return ccxt_pro.gate(
        {
            "options": {"defaultType": "swap", "fetchMarkets": {"types": ["swap"]}},
            "urls": {
                "api": {
                    "public": {"futures": rest, "spot": rest},
                    "swap": {"usdt": origin.replace("http", "ws") + "/v4/ws/usdt"},
                }
            },
        }
    )


async def watched(make, venue, watch, times=5):
    """What the client shows as best bid and ask, so often."""
    running = await sims.serve([venue], scenario.Scenario(start="first-subscribe"))
    client = make(running.urls[venue])
    try:
        async with asyncio.timeout(WITHIN_S):
            return [await watch(client) for _ in range(times)]
    finally:
        await client.close()
        await running.close()


async def best_of_book(client):
    book = await client.watch_order_book(BTC)
    return book["bids"][0], book["asks"][0]


async def best_quote(client):
    ticker = (await client.watch_bids_asks([BTC]))[BTC]
    return (ticker["bid"], ticker["bidVolume"]), (ticker["ask"], ticker["askVolume"])


@pytest.mark.parametrize("watch", [best_of_book, best_quote])
@pytest.mark.parametrize(("make", "venue"), [(gate, "gateio")])
def test_ccxt_reads_the_top_of_the_book(make, venue, watch):
    seen = asyncio.run(watched(make, venue, watch))
    assert len({repr(top) for top in seen}) > 1
    for (bid, bid_size), (ask, ask_size) in seen:
        assert 60_000 < bid < ask < 68_000
        assert ask / bid - 1 < 1e-4
        assert bid_size > 0 and ask_size > 0
