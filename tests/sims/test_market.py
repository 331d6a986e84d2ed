"""The market: the same for a seed, never crossed, and the planted edges are there."""

import bisect
import functools
import itertools

import msgspec
import pytest

from perptape.events import NS
from perptape.sims import VENUES, market, scenario

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
