"""What could be taken of a gap: the worked numbers, and books small enough to check by eye."""

import math

import polars as pl
import pytest

from perptape.errors import BadUsage, Failed
from perptape.measures.edges import edges
from perptape.measures.scenes import common_lot

from .depth import MS, NS, books, heard, lots
from .tape import quotes

ASKS = [(100, 1), (100.5, 2), (101, 5)]
BIDS = [(101, 2), (100.8, 3), (100.5, 5)]
FEES = {"i": 6e-4, "j": 5e-4}
FREE = {"i": 0.0, "j": 0.0}
NONE = quotes([])


def only(table, sell="i", **where):
    """The one row of a pair that sells on a venue."""
    own = table.filter(pl.col("sell") == f"{sell}:BTC-USDT-PERP")
    for name, value in where.items():
        own = own.filter(pl.col(name) == value)
    assert len(own) == 1, own
    return own.row(0, named=True)


def two(bids=BIDS, asks=ASKS, **given):
    """Bids of i against asks of j, standing for nine of ten trusted seconds."""
    table = books([(NS, "j", True, [], asks), (NS, "i", True, bids, [])])
    trusted = heard([("i", NS, 10 * NS), ("j", NS, 10 * NS)])
    return edges(table, NONE, trusted, **{"fees": FEES, **given})


@pytest.mark.parametrize(
    ("size", "bps"), [(1, 88.8956), (2, 63.7362), (3, 48.7404), (5, 16.8079), (8, -12.2338)]
)
def test_edge_is_the_worked_one_at_every_size(size, bps):
    found = only(two(notionals=[100.0 * size]).edges)
    for name in ("mean_time", "mean", "median", "p5", "p95", "min", "max"):
        assert found[f"{name}_bps"] == pytest.approx(bps, abs=5e-5)
    assert found["depth"] == "books" and found["depth_share"] == 1.0


def test_gross_and_net_at_the_top_of_the_book():
    found = only(two(bids=[(50_010, 9)], asks=[(49_990, 9)], notionals=[1_000]).edges)
    assert found["median_bps"] == pytest.approx(-6.998101, abs=5e-4)
    assert found["mean_bps"] == pytest.approx(-6.998101, abs=5e-7)
    gross = two(bids=[(50_010, 9)], asks=[(49_990, 9)], notionals=[1_000], fees=FREE)
    assert only(gross.edges)["max_bps"] == pytest.approx(4.000800, abs=5e-7)


@pytest.mark.parametrize(("size", "price"), [(2.5, 100.30), (8, 100.75)])
def test_price_of_a_size_is_the_worked_one(size, price):
    found = only(two(bids=[(100, 50)], notionals=[100.0 * size], fees=FREE).edges)
    assert 100 / (1 + found["max_bps"] / 1e4) == pytest.approx(price, abs=1e-9)


def test_more_than_the_book_holds_has_no_price():
    found = only(two(notionals=[810.0]).edges)
    assert found["median_bps"] is None and found["depth_share"] == 0.0
    assert found["reason"] == "the books never held so much"


def test_best_size_and_capacity_are_found_by_walking_both_books():
    found = only(two().sizes)
    assert found["best_size"] == 3.0
    assert found["best_profit"] == pytest.approx(1.467820, abs=5e-7)
    assert found["profit_share"] == found["share"] == 1.0
    # At that size the edge is 0, and a little beyond it is less.
    there, beyond = (found["capacity_max"] * k * 100 for k in (1, 1.001))
    assert only(two(notionals=[there]).edges)["max_bps"] == pytest.approx(0, abs=1e-9)
    assert only(two(notionals=[beyond]).edges)["max_bps"] < 0
    assert found["capacity_median"] == pytest.approx(found["capacity_max"], rel=1e-4)


def test_capacity_is_asked_at_a_threshold():
    found = only(two(threshold_bps=48.74041).sizes)
    assert found["capacity_max"] == pytest.approx(3.0, abs=1e-5)
    assert only(two(threshold_bps=90).sizes)["capacity_max"] == 0.0


def test_capacity_is_all_of_a_book_that_is_too_thin_to_spoil_it():
    found = only(two(bids=[(200, 2)]).sizes)
    assert found["capacity_max"] == found["best_size"] == 2.0


def test_round_trip_pays_four_fees():
    found = only(two(bids=[(101, 9)], asks=[(100, 9)], notionals=[100]).edges)
    four = 1.01 * (1 - 6e-4) * (1 - 5e-4) / ((1 + 6e-4) * (1 + 5e-4))
    assert found["round_trip_max_bps"] == pytest.approx(1e4 * (four - 1), abs=1e-9)
    small = two(bids=[(100.15, 9)], asks=[(100, 9)], notionals=[100])
    assert only(small.edges)["share_positive"] == 1.0  # 15 bps pays 11, not 22
    assert only(small.edges)["round_trip_share_positive"] == 0.0


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [(0.001, 0.0001, 0.001), (0.01, 0.015, 0.03), (0.1, 0.1, 0.1), (1.0, 0.3, 3.0)],
)
def test_sizes_are_whole_lots_of_both_contracts(one, other, common):
    assert common_lot([one, other]) == common
    found = two(notionals=[250.0], instruments=lots(i=1.0, j=0.5))
    assert only(found.edges)["max_bps"] == pytest.approx(63.7362, abs=5e-5)  # 2 of 2.5
    assert only(found.sizes)["capacity_max"] == 6.0


def test_less_than_a_lot_is_nothing():
    found = only(two(notionals=[50.0], instruments=lots(i=1.0)).edges)
    assert found["max_bps"] is None and found["depth_share"] == 0.0


def test_a_market_without_books_has_the_depth_of_its_top():
    table = books([(NS, "j", True, [], ASKS)])
    tops = quotes([(NS, "i", 101.0, 102.0, 2.0, 2.0), (NS, "j", 1.0, 2.0, 1.0, 1.0)])
    span = (NS, 9 * NS)
    of_quotes = heard([("i", *span), ("j", *span)], ["quotes"])
    trusted = pl.concat([of_quotes, heard([("j", *span)], ["books"])])
    found = edges(table, tops, trusted, fees=FEES, notionals=[100, 200, 300]).edges
    assert [only(found, notional=100 * k)["depth"] for k in (1, 2, 3)] == ["top"] * 3
    assert only(found, notional=100)["max_bps"] == pytest.approx(88.8956, abs=5e-5)
    assert only(found, notional=200)["max_bps"] == pytest.approx(63.7362, abs=5e-5)
    assert only(found, notional=300)["max_bps"] is None
    alone = edges(None, tops, trusted, fees=FEES, notionals=[1]).edges
    assert only(alone)["max_bps"] == pytest.approx(1e4 * (101 * 0.9994 / (2 * 1.0005) - 1))


def test_updates_change_levels_and_snapshots_replace_all():
    table = books(
        [
            (0, "j", True, [], [(100, 1)]),
            (0, "i", True, [(101, 5)], [(103, 1)]),
            (1 * NS, "j", False, [], [(100, 0), (100.5, 2)]),
            (2 * NS, "j", False, [], [(100, 3)]),
            (3 * NS, "j", True, [], [(100.2, 1)]),
        ]
    )
    trusted = heard([("i", 0, 4 * NS), ("j", 0, 4 * NS)])
    found = only(edges(table, NONE, trusted, fees=FREE, notionals=[100]).edges)
    by_second = [1e4 * (101 / ask - 1) for ask in (100, 100.5, 100, 100.2)]
    assert found["mean_time_bps"] == pytest.approx(sum(by_second) / 4, abs=1e-8)
    assert found["mean_bps"] == pytest.approx(sum(by_second) / 4, abs=1e-8)
    assert (found["min_bps"], found["max_bps"]) == pytest.approx((by_second[1], by_second[0]))


def test_update_of_many_rows_at_one_time_is_one_event():
    table = books([(0, "j", True, [], ASKS), (0, "i", True, BIDS, [(103, 1)])])
    more = books([(NS, "j", False, [], [(100, 0), (100.5, 0), (101, 4), (102, 1)])])
    trusted = heard([("i", 0, 2 * NS), ("j", 0, 2 * NS)])
    both = pl.concat([table, more])
    found = only(edges(both, NONE, trusted, fees=FREE, notionals=[101]).edges)
    first = 1e4 * (101 / ((100 + 0.01 * 100.5) / 1.01) - 1)
    assert found["mean_bps"] == pytest.approx(first / 2, abs=1e-8)  # and 0 at 101


def test_nothing_rests_on_a_market_that_is_not_trusted():
    """A seller is silent for some seconds; its old book must not stand in them."""
    table = books(
        [
            (0, "j", True, [(99, 9)], [(100, 9)]),
            (0, "i", True, [(101, 9)], [(102, 9)]),
            (2 * NS, "j", False, [], [(100.5, 9)]),
            (3 * NS, "i", True, [(100.6, 9)], [(102, 9)]),
            (4 * NS, "i", False, [(100.6, 8)], []),
        ]
    )
    trusted = heard([("i", 0, NS), ("i", 4 * NS, 5 * NS), ("j", 0, 5 * NS)])
    found = edges(table, NONE, trusted, fees=FREE, notionals=[100], delays_ms=[0, 500, 1500])
    row = only(found.edges)
    assert row["trusted_s"] == 2.0
    assert row["mean_time_bps"] == pytest.approx((100 + 60) / 2, abs=1e-9)
    assert [only(found.delays, delay_ms=d)["held_s"] for d in (0, 500, 1500)] == [2.0, 1.0, 0.0]
    assert only(found.delays, delay_ms=1500)["share"] is None


def test_edge_some_time_later():
    """100 bps for a second, then 50, then -50 for two: at a threshold of 60 the first counts."""
    table = books(
        [
            (0, "j", True, [(1, 1)], [(100, 9)]),
            (0, "i", True, [(101, 9)], [(102, 9)]),
            (1 * NS, "i", True, [(100.5, 9)], [(102, 9)]),
            (2 * NS, "i", True, [(99.5, 9)], [(102, 9)]),
        ]
    )
    trusted = heard([("i", 0, 4 * NS), ("j", 0, 4 * NS)])
    found = edges(
        table, NONE, trusted, fees=FREE, notionals=[100], threshold_bps=60.0,
        delays_ms=[0, 250, 1000, 1600],
    ).delays  # fmt: skip
    rows = {d: only(found, delay_ms=d) for d in (0, 250, 1000, 1600)}
    assert all(row["held_s"] == 1.0 for row in rows.values())
    assert [rows[d]["share"] for d in rows] == [1.0, 0.75, 0.0, 0.0]
    assert [rows[d]["mean_bps"] for d in rows] == pytest.approx([100, 87.5, 50, -10])
    assert [rows[d]["median_bps"] for d in rows] == pytest.approx([100, 100, 50, -50])


def test_each_leg_may_have_its_own_delay():
    """The seller's bid falls after a second, the buyer's ask after two."""
    table = books(
        [
            (0, "j", True, [(1, 1)], [(100, 9)]),
            (0, "i", True, [(101, 9)], [(103, 9)]),
            (1 * NS, "i", True, [(100.5, 9)], [(103, 9)]),
            (2 * NS, "j", True, [(1, 1)], [(99, 9)]),
        ]
    )
    trusted = heard([("i", 0, 4 * NS), ("j", 0, 4 * NS)])
    found = edges(
        table, NONE, trusted, fees=FREE, notionals=[90], threshold_bps=100.0,
        delays_ms=[0, 500], leg_delays_ms=[0, 500],
    )  # fmt: skip
    later = 1e4 * (100.5 / 99 - 1)
    # It is enough in the first second, and from the third on.
    expected = {
        (0, 0): (3.0, 1.0, (1 * 100 + 2 * later) / 3),
        (500, 0): (2.5, 2.0 / 2.5, (0.5 * 100 + 0.5 * 50 + 1.5 * later) / 2.5),
        (0, 500): (2.5, 1.0, (1 * 100 + 1.5 * later) / 2.5),
        (500, 500): (2.5, 2.0 / 2.5, (0.5 * 100 + 0.5 * 50 + 1.5 * later) / 2.5),
    }
    for (sell, buy), (held, share, mean) in expected.items():
        row = only(found.legs, sell_delay_ms=sell, buy_delay_ms=buy)
        assert (row["held_s"], row["share"]) == pytest.approx((held, share)), (sell, buy)
        assert row["mean_bps"] == pytest.approx(mean)
    for delay in (0, 500):
        same = only(found.legs, sell_delay_ms=delay, buy_delay_ms=delay)
        assert same | {"delay_ms": delay} == same | only(found.delays, delay_ms=delay)


def test_quote_currencies_stay_apart_unless_a_rate_was_recorded():
    usdc = "j:BTC-USDC-PERP"
    table = books([(0, usdc, True, [(99, 9)], [(100, 9)]), (0, "i", True, [(101, 9)], [(102, 9)])])
    trusted = [(usdc, 0, 2 * NS), ("i", 0, 2 * NS)]
    apart = only(edges(table, NONE, heard(trusted), fees=FREE, notionals=[100]).edges)
    assert (apart["same_quote"], apart["rate"]) == (False, None)
    assert apart["max_bps"] == pytest.approx(100)
    rate = "k:USDC-USDT-SPOT"
    tops = quotes([(0, rate, 0.998, 1.002, 9.0, 9.0), (NS, rate, 1.0, 1.001, 9.0, 9.0)])
    with_rate = pl.concat([heard(trusted), heard([(rate, 0, 2 * NS)], ["quotes"])])
    found = edges(table, tops, with_rate, fees={**FREE, "k": 0.0}, notionals=[100]).edges
    there = only(found)
    assert (there["same_quote"], there["rate"]) == (False, rate)
    # 100 USDC must be bought at the ask; what a sale brings in USDC is sold at the bid.
    assert there["min_bps"] == pytest.approx(1e4 * (101 / 100.2 - 1))
    assert there["max_bps"] == pytest.approx(1e4 * (101 / 100.1 - 1))
    back = (
        only(found, sell="j") if False else found.filter(pl.col("sell") == usdc).row(0, named=True)
    )
    assert back["max_bps"] == pytest.approx(1e4 * (99 * 1.0 / 102 - 1))


def test_fees_of_several_tiers_are_measured_at_once():
    tiers = {"base": FEES, "vip": {"i": 1e-4, "j": 1e-4}}
    found = two(notionals=[100], fees=tiers).edges
    assert only(found, tier="base")["max_bps"] == pytest.approx(88.8956, abs=5e-5)
    assert only(found, tier="vip")["max_bps"] == pytest.approx(1e4 * (1.01 * 0.9999 / 1.0001 - 1))


def test_a_venue_without_a_fee_has_no_edge():
    found = only(two(fees={"i": 1e-4}).edges, notional=1e3)
    assert found["median_bps"] is None and found["reason"] == "no fee is known of j"


def test_sizes_that_are_not_known_are_none():
    tops = quotes([(0, "i", 101.0, 102.0), (0, "j", 99.0, 100.0)])
    found = edges(None, tops, heard([("i", 0, NS), ("j", 0, NS)], ["quotes"]), fees=FREE).edges
    assert found["median_bps"].null_count() == len(found)


@pytest.mark.parametrize(
    "given",
    [{"notionals": []}, {"notionals": [0]}, {"notionals": [math.inf]}, {"delays_ms": [-1]}],
)
def test_what_cannot_be_meant_is_refused(given):
    with pytest.raises(BadUsage):
        two(**given)


def test_rows_out_of_order_are_refused():
    table = books([(NS, "j", True, [], ASKS), (0, "i", True, BIDS, [])])
    with pytest.raises(Failed, match="receive order"):
        edges(table, NONE, heard([("i", 0, NS), ("j", 0, NS)]), fees=FEES)
    with pytest.raises(Failed, match="receive order"):
        edges(table, [], heard([("i", 0, NS), ("j", 0, NS)]), fees=FEES)


def test_several_tapes_are_read_as_one():
    first = books([(0, "j", True, [], ASKS), (0, "i", True, BIDS, [])])
    then = books([(5 * MS, "j", True, [], [(102, 9)]), (7 * MS, "i", True, BIDS, [])])
    trusted = heard([("i", 0, 3 * MS), ("j", 0, 3 * MS), ("i", 5 * MS, NS), ("j", 5 * MS, NS)])
    found = edges([first, then], NONE, trusted, fees=FREE, notionals=[100]).edges
    assert found.equals(
        edges(pl.concat([first, then]), NONE, trusted, fees=FREE, notionals=[100]).edges
    )
    assert only(found)["min_bps"] == pytest.approx(1e4 * (101 / 102 - 1))


def test_result_shows_itself_in_a_notebook():
    assert "<table" in two()._repr_html_()
