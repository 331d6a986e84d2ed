"""The market: the same for a seed, never crossed, and the planted edges are there."""

import bisect
import functools
import itertools

import msgspec
import pytest

from perptape.errors import BadUsage
from perptape.events import MS, NS
from perptape.sims import VENUES, market, scenario
from perptape.sims.markets import Market
from perptape.sims.trades import BEFORE

DEMO = scenario.demo()


def feed(venue, base="BTC", played=DEMO):
    contract = VENUES[venue].contracts[base]
    return market.Feed(played, venue, contract, market.Path(played.seed, contract.base))


def fresh(venue, base="BTC", played=DEMO, seconds=40):
    made = feed(venue, base, played)
    return [made.current, *made.due(seconds * NS)]


@functools.cache
def states(venue, base="BTC"):
    return fresh(venue, base)


@pytest.mark.parametrize("venue", VENUES)
def test_there_are_as_many_coins_as_a_load_wants(venue):
    names = [f"COIN{n}-USDT" for n in (1, 9999)]
    played = scenario.parse(f"instruments = {names}")
    one, other = (VENUES[venue].contract(name.partition("-")[0]) for name in names)
    model = VENUES[venue].contracts[scenario.MODEL]
    assert one.symbol == model.symbol.replace("SOL", "COIN1") != other.symbol
    assert other.instrument == model.instrument.replace("SOL", "COIN9999")
    begun, elsewhere = (Market(played, venue, each).feed.due(2 * NS) for each in (one, other))
    assert begun and begun != elsewhere, "each has a path of its own"
    with pytest.raises(BadUsage, match="COIN1-USDT to COIN9999-USDT"):
        scenario.parse('instruments = ["COIN0-USDT"]')


def test_a_seed_fixes_the_market_in_whatever_steps_it_is_asked():
    stepped = feed("htx")
    in_steps = [stepped.current]
    for now_ns in range(0, 5 * NS, 7_777_777):
        in_steps += stepped.due(now_ns)
    assert in_steps == [top for top in states("htx") if top.due_ns <= now_ns]
    assert fresh("htx") == states("htx")


def test_another_seed_is_another_market():
    other = msgspec.structs.replace(DEMO, seed=8)
    assert fresh("htx", seconds=2) != fresh("htx", played=other, seconds=2)


@pytest.mark.parametrize("venue", VENUES)
def test_states_come_in_order_and_are_never_crossed(venue):
    tops = states(venue)
    for before, after in itertools.pairwise(tops):
        assert before.at_ns < after.at_ns
        assert before.due_ns <= after.due_ns
        assert before.update_id < after.update_id
    assert all(0 < top.bid < top.ask and min(top.bid_lots, top.ask_lots) > 0 for top in tops)
    assert tops[0].due_ns == 0
    assert all(top.due_ns >= top.at_ns for top in tops)


@pytest.mark.parametrize("venue", VENUES)
def test_rates_are_as_asked(venue):
    rate = DEMO.venues[venue].updates_per_s
    assert len(states(venue)) == pytest.approx(40 * rate, rel=0.15)


def edge_bps(sell, buy, at_ns, base):
    """The edge after fees between the last states made by then, in bps."""
    prices = []
    for venue in (sell, buy):
        tops = states(venue, base)
        last = tops[bisect.bisect_right([top.at_ns for top in tops], at_ns) - 1]
        tick = VENUES[venue].contracts[base].tick.value
        prices.append((last.bid * tick, last.ask * tick))
    sell_fee, buy_fee = (DEMO.venues[venue].taker_fee for venue in (sell, buy))
    return 1e4 * (prices[0][0] * (1 - sell_fee) / (prices[1][1] * (1 + buy_fee)) - 1)


@pytest.mark.parametrize("episode", DEMO.episodes, ids=lambda e: f"{e.sell}-{e.buy}")
def test_a_planted_edge_is_there_from_its_first_moment_to_its_last(episode):
    base = episode.instrument.partition("-")[0]
    for tenth in range(10):
        at_ns = episode.at_ns + episode.lasts_ns * tenth // 10
        assert edge_bps(episode.sell, episode.buy, at_ns, base) == pytest.approx(
            episode.edge_bps, abs=0.9
        )
    for outside in (episode.at_ns - 1, episode.end_ns):
        assert edge_bps(episode.sell, episode.buy, outside, base) < -5


def traded(venue, base="BTC", played=DEMO, seconds=40, step_ns=20 * MS):
    """(states, trades) of a market, each in the order of publication."""
    made = Market(played, venue, VENUES[venue].contracts[base])
    tops, trades = [made.feed.current], list(made.trades.recent)
    for now_ns in range(0, seconds * NS + 1, step_ns):
        news = made.due(now_ns)
        tops += news.tops
        trades += news.trades
    return tops, trades


@pytest.mark.parametrize("venue", VENUES)
def test_trades_are_at_the_best_price_of_the_book_in_force_and_go_through_its_levels(venue):
    tops, trades = traded(venue)
    contract = VENUES[venue].contracts["BTC"]
    assert [trade.number for trade in trades] == list(range(1, len(trades) + 1))
    past, trades = trades[:BEFORE], trades[BEFORE:]
    assert all(trade.at_ns < 0 for trade in past) and all(trade.at_ns > 0 for trade in trades)
    made, sweeps = [top.at_ns for top in tops], 0
    for _, order in itertools.groupby(trades, key=lambda trade: trade.at_ns):
        fills = list(order)
        top = tops[bisect.bisect_right(made, fills[0].at_ns) - 1]
        side = market.levels(contract, top, len(fills))[fills[0].is_buy]
        assert [fill.price for fill in fills] == [price for price, _ in side]
        assert all(0 < fill.lots <= lots for fill, (_, lots) in zip(fills, side, strict=True))
        assert all(fill.due_ns >= top.due_ns for fill in fills), "not before its state"
        sweeps += len(fills) > 1
    orders = len({trade.at_ns for trade in trades})
    assert 0 < sweeps < orders / 3
    assert orders == pytest.approx(40 * DEMO.venues[venue].trades_per_s, rel=0.35)
    assert [t.due_ns for t in trades] == sorted(t.due_ns for t in trades)
    assert {trade.is_buy for trade in trades} == {True, False}


def test_a_seed_fixes_the_trades_in_whatever_steps_they_are_asked():
    assert traded("htx", seconds=5, step_ns=7 * MS)[1] == traded("htx", seconds=5, step_ns=NS)[1]
    other = msgspec.structs.replace(DEMO, seed=8)
    assert traded("htx", seconds=5)[1] != traded("htx", seconds=5, played=other)[1]


def test_takers_buy_more_often_before_a_rise():
    _, trades = traded("bybit", seconds=240)
    path = market.Path(DEMO.seed, "BTC")
    hits = []
    for trade in trades[BEFORE:]:
        end_ns = (trade.at_ns // market.BLOCK_NS + 1) * market.BLOCK_NS - 1
        rises = path.price(end_ns) > path.price(trade.at_ns)
        hits.append(rises == trade.is_buy)
    assert 0.6 < sum(hits) / len(hits) < 0.85


def ticker(made, at_ns, there_ns=0):
    return made.tickers.at(at_ns, there_ns + at_ns)


def test_a_ticker_is_a_function_of_time_and_near_the_efficient_price():
    contract = VENUES["htx"].contracts["BTC"]
    once, again = (Market(DEMO, "htx", contract) for _ in range(2))
    path = market.Path(DEMO.seed, "BTC")
    moments = range(0, 3600 * NS, 97 * NS)
    found = [ticker(once, at_ns) for at_ns in moments]
    assert [ticker(again, at_ns) for at_ns in reversed(moments)] == found[::-1]
    for told in found:
        assert told.index_price == path.price(told.at_ns)
        premium_bps = 1e4 * (told.mark_price / told.index_price - 1)
        assert abs(premium_bps - DEMO.venues["htx"].premium_bps) <= 0.51
        assert told.rate == pytest.approx(1e-4 + premium_bps / 1e4 / 2, abs=1e-8)
    assert len({told.rate for told in found}) > 20, "it drifts"
    opened = [told.open_interest for told in found]
    assert len(set(opened)) == len(opened) and max(opened) < 1.2 * min(opened)


def test_a_tickers_volume_and_last_price_are_of_the_trades():
    made = Market(DEMO, "okx", VENUES["okx"].contracts["ETH"])
    before = ticker(made, 0)
    new = made.due(30 * NS).trades
    after = ticker(made, 30 * NS)
    assert after.volume - before.volume == sum(trade.lots for trade in new) > 0
    assert after.last == new[-1].price == made.trades.last(1)[0].price


@pytest.mark.parametrize("interval_h", [1, 4, 8])
def test_funding_is_paid_at_whole_multiples_of_its_interval_as_was_foretold(interval_h):
    played = msgspec.structs.replace(DEMO, funding_interval_h={"bybit:BTC-USDT-PERP": interval_h})
    made = Market(played, "bybit", VENUES["bybit"].contracts["BTC"])
    every_ns = interval_h * 3600 * NS
    start_ns = 1_800_000_000 * NS - 20 * NS  # a whole multiple is 20 s away
    before = ticker(made, 19 * NS, start_ns)
    assert (before.interval_h, before.ts_funding_ns) == (interval_h, start_ns + 20 * NS)
    after = ticker(made, 20 * NS, start_ns)
    assert after.ts_funding_ns == before.ts_funding_ns + every_ns
    paid = made.tickers.settled(20 * NS, start_ns + 20 * NS)
    assert paid[-1] == (start_ns + 20 * NS, after.rate)
    assert len(paid) == 100 and made.tickers.settled(19 * NS, start_ns + 19 * NS)[-1] == paid[-2]
    for (was_ns, _), (now_ns, rate) in itertools.pairwise(paid):
        assert now_ns - was_ns == every_ns
        assert rate == pytest.approx(after.rate, rel=0.5)


def test_a_coin_in_thousands_costs_a_thousand_times_as_much_and_as_much_stands_there():
    single = VENUES["bybit"].contracts["DOGE"]
    thousand = msgspec.structs.replace(
        single, price=single.price * 1000, unit=1000, tick=market.Step.of("0.01")
    )
    prices = [ticker(Market(DEMO, "bybit", c), 0).index_price for c in (single, thousand)]
    assert prices[1] == pytest.approx(1000 * prices[0])
    top = Market(DEMO, "bybit", thousand).feed.current
    assert top.bid * 0.01 == pytest.approx(124, rel=0.01)
    assert thousand.typical_lots == single.typical_lots


@pytest.mark.parametrize(
    ("text", "count", "trimmed", "padded"),
    [
        ("0.1", 639_973, "63997.3", "63997.3"),
        ("0.10", 639_970, "63997", "63997.00"),
        ("1", 120, "120", "120"),
        ("0.05", 3, "0.15", "0.15"),
        ("0.0001", 20, "0.002", "0.0020"),
        ("10", 12, "120", "120"),
    ],
)
def test_numbers_are_printed_exactly(text, count, trimmed, padded):
    step = market.Step.of(text)
    assert step.text(count) == trimmed
    assert step.padded(count) == padded


def test_a_delta_turns_any_of_the_older_books_into_the_new_one():
    contract = VENUES["bybit"].contracts["BTC"]
    *olds, new = states("bybit")[:12]
    patches = market.delta(contract, olds, new, 50)
    assert [price for price, _ in patches[0]] == sorted(dict(patches[0]), reverse=True)
    assert [price for price, _ in patches[1]] == sorted(dict(patches[1]))
    wanted = [dict(side) for side in market.levels(contract, new, 50)]
    for old in olds:
        for patch, side, after in zip(
            patches, market.levels(contract, old, 50), wanted, strict=True
        ):
            book = dict(side) | dict(patch)
            assert {price: lots for price, lots in book.items() if lots} == after
