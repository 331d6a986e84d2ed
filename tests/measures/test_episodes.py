"""Episodes, what a late take of them gains, and how much of an edge stays."""

import polars as pl
import pytest

from perptape.errors import BadUsage
from perptape.measures.capacity import capacity
from perptape.measures.edges import asking, measured
from perptape.measures.episodes import episodes
from perptape.measures.persistence import edge_persistence
from perptape.measures.rates import rate_table

from .depth import NS, books, heard
from .tape import quotes

FREE = {"i": 0.0, "j": 0.0}
NONE = quotes([])
HOUR = 3600 * NS


def course(*edges_bps, step_ns=NS, size=9.0):
    """Book updates: i's bid stands so far over j's ask of 100, each for a second; None is thin."""
    rows = [(0, "j", True, [(1, 1)], [(100, size)])]
    for k, bps in enumerate(edges_bps):
        bids = [] if bps is None else [(100 * (1 + bps / 1e4), size)]
        rows.append((k * step_ns, "i", True, bids, [(103, 1)]))
    return rows


def found(rows, trusted, **given):
    table = episodes(books(rows), NONE, heard(trusted), fees=FREE, notionals=[100], **given)
    return table.filter(pl.col("sell") == "i:BTC-USDT-PERP")


def both(end):
    return [("i", 0, end), ("j", 0, end)]


def spans(table):
    """(start s, end s, censored, truncated) of each."""
    times = table.select(pl.col("ts_start", "ts_end").cast(pl.Int64) / NS, "censored", "truncated")
    return times.rows()


def test_one_opens_at_the_threshold_and_closes_below_it():
    table = found(course(-5, 3, 8, 2, 1, -1), both(6 * NS), thresholds_bps=[1.9])
    assert spans(table) == [(1.0, 4.0, False, False)]
    (one,) = table.rows(named=True)
    assert one["duration_s"] == 3.0
    assert one["peak_bps"] == pytest.approx(8)
    assert one["area_bps_s"] == pytest.approx(3 + 8 + 2)
    assert (one["opener"], one["closer"]) == ("sell", "sell")


def test_an_edge_of_the_threshold_itself_is_enough():
    assert spans(found(course(-5, 0, -5), both(3 * NS))) == [(1.0, 2.0, False, False)]


def test_hysteresis_keeps_it_open_between_two_thresholds():
    table = found(course(-5, 3, 1, 5, 1, -1), both(6 * NS), thresholds_bps=[2], leaves_bps=[0.5])
    assert spans(table) == [(1.0, 5.0, False, False)]
    assert table["area_bps_s"].item() == pytest.approx(3 + 1 + 5 + 1)
    # Between the thresholds alone nothing opens, not even where trust begins.
    assert (
        spans(found(course(1, 1.5, -1), both(3 * NS), thresholds_bps=[2], leaves_bps=[0.5])) == []
    )


def test_opened_again_soon_it_is_one():
    rows = course(-1, 4, -1, 4, -1, -1, 4, -1)
    apart = [(1.0, 2.0), (3.0, 4.0), (6.0, 7.0)]
    assert [s[:2] for s in spans(found(rows, both(8 * NS)))] == apart
    table = found(rows, both(8 * NS), merge_s=1.0)
    assert [s[:2] for s in spans(table)] == [(1.0, 4.0), (6.0, 7.0)]
    assert table["area_bps_s"].to_list() == pytest.approx([8, 4])  # not what was between
    assert [s[:2] for s in spans(found(rows, both(8 * NS), merge_s=2.0))] == [(1.0, 7.0)]


def test_nothing_is_merged_over_untrusted_time():
    rows = [*course(-1, 4, -1), (4 * NS, "i", True, [(99.0, 9)], []),
            (5 * NS, "i", True, [(100.1, 9)], [])]  # fmt: skip
    trusted = [("i", 0, 3 * NS), ("i", 4 * NS, 6 * NS), ("j", 0, 6 * NS)]
    table = found(rows, trusted, merge_s=60.0)
    assert spans(table) == [(1.0, 2.0, False, False), (5.0, 6.0, True, False)]


def test_end_of_trust_censors_and_its_begin_truncates():
    """The seller is not trusted from 2 s to 4 s, and open before and after."""
    rows = course(-1, 4, 4, 4, 4, 4, -1, 4)
    trusted = [("i", 0, 2 * NS), ("i", 4 * NS, 8 * NS), ("j", 0, 8 * NS)]
    table = found(rows, trusted)
    assert spans(table) == [
        (1.0, 2.0, True, False),
        (4.0, 6.0, False, True),
        (7.0, 8.0, True, False),
    ]
    assert table["opener"].to_list() == ["sell", None, "sell"]
    assert table["closer"].to_list() == [None, "sell", None]


def test_a_book_that_is_too_thin_closes_and_is_not_unknown():
    table = found(course(None, 4, None, 4, None), both(5 * NS))
    assert spans(table) == [(1.0, 2.0, False, False), (3.0, 4.0, False, False)]


def test_window_truncates_and_censors():
    rows = course(-1, 4, 4, 4, 4, -1)
    table = found(rows, both(6 * NS), ts_from=2 * NS, ts_to=4 * NS)
    assert spans(table) == [(2.0, 4.0, True, True)]


def test_legs_that_opened_and_closed_it_are_named():
    rows = [
        (0, "j", True, [(1, 1)], [(100, 9)]),
        (0, "i", True, [(99, 9)], [(103, 1)]),
        (1 * NS, "j", True, [(1, 1)], [(98, 9)]),  # the purchase got cheap
        (2 * NS, "i", True, [(97, 9)], [(103, 1)]),  # the sale brings less
        (3 * NS, "i", True, [(99, 9)], [(103, 1)]),
        (3 * NS, "j", True, [(1, 1)], [(97, 9)]),
        (4 * NS, "j", False, [], [(97, 0), (100, 9)]),
    ]
    table = found(rows, both(5 * NS))
    assert table["opener"].to_list() == ["buy", "both"]
    assert table["closer"].to_list() == ["sell", "buy"]


def test_capacity_of_an_episode_is_its_greatest():
    rows = [
        (0, "j", True, [(1, 1)], [(100, 50)]),
        (0, "i", True, [(99, 9)], [(103, 1)]),
        (1 * NS, "i", True, [(101, 3)], [(103, 1)]),
        (2 * NS, "i", False, [(100.5, 4)], []),  # deeper: the edge at 100 is as it was
        (3 * NS, "i", False, [(100.5, 0)], []),
        (4 * NS, "i", True, [(99, 9)], [(103, 1)]),
    ]
    assert found(rows, both(5 * NS), thresholds_bps=[50])["capacity"].to_list() == [7.0]


def test_rate_is_per_trusted_hour_and_sets_apart_what_was_open_before():
    rows = course(4, -1, 4, -1, 4, 4, -1, 4, step_ns=900 * NS)
    trusted = both(2 * HOUR)
    swept = measured(
        books(rows), NONE, heard(trusted), None, fees=FREE, asked=asking([100], [0], None, ())
    )
    row = rate_table(swept).filter(pl.col("sell") == "i:BTC-USDT-PERP").row(0, named=True)
    assert (row["count"], row["truncated"], row["censored"]) == (3, 1, 1)
    assert row["per_hour"] == 1.5 and row["trusted_s"] == 7200
    assert (row["median_s"], row["max_s"]) == (1350.0, 1800.0)


def test_share_of_edges_still_there():
    table = edge_persistence(
        books(course(-5, 8, 3, -5)), NONE, heard(both(4 * NS)), fees=FREE, notionals=[100],
        thresholds_bps=[0, 5], delays_ms=[0, 500, 1500],
    ).filter(pl.col("sell") == "i:BTC-USDT-PERP")  # fmt: skip
    shares = {(t, d): s for t, d, s in table.select("threshold_bps", "delay_ms", "share").rows()}
    assert shares == pytest.approx(
        {(0, 0): 1, (0, 500): 0.75, (0, 1500): 1 / 3, (5, 0): 1, (5, 500): 0.5, (5, 1500): 0}
    )


# ---- takes --------------------------------------------------------------------------------------


def taken(rows, trusted, **given):
    table = capacity(
        books(rows), NONE, heard(trusted), **{"fees": FREE, "notionals": [100], **given}
    )
    own = table.filter(pl.col("sell") == "i:BTC-USDT-PERP").sort("delay_ms")
    return own.rows(named=True)


def test_one_take_an_episode_at_what_the_books_are_a_delay_later():
    """10 bps of 100 for a second, 20 for another; the second opening lasts half a second."""
    rows = [*course(-5, 10, 20, -5), (5 * NS, "i", True, [(100.3, 9)], [(103, 1)]),
            (5_500_000_000, "i", True, [(99.9, 9)], [(103, 1)])]  # fmt: skip
    now, later = taken(rows, both(9 * NS), delays_ms=[0, 1000])
    assert (now["episodes"], now["takes"]) == (2, 2)
    assert now["profit"] == pytest.approx(0.1 + 0.3)
    assert later["profit"] == pytest.approx(0.2 - 0.1)  # the second came too late, and loses
    assert later["share_gained"] == 0.5 and later["profit_per_take"] == pytest.approx(0.05)
    assert now["profit_per_day"] is None
    assert now["reason"] == "9 s of trust say nothing of a day: 600 do"


def test_takes_that_found_no_book_or_no_trust_are_told_apart():
    rows = course(-5, 10, None, 10, -5, 10)
    later = taken(rows, both(5_200_000_000), delays_ms=[1000, 1100])[0]
    assert (later["episodes"], later["takes"]) == (3, 1)
    assert (later["unfilled"], later["unknown"]) == (1, 1)


def test_profit_per_day_has_an_interval_of_whole_stretches():
    """An episode of a second in each minute, 0.1 each: 1440 of them a day."""
    rows = [(0, "j", True, [(1, 1)], [(100, 9)]), (0, "i", True, [(99, 9)], [(103, 1)])]
    for minute in range(120):
        start = minute * 60 * NS + 30 * NS
        rows += [(start, "i", False, [(100.1, 9)], []), (start + NS, "i", False, [(100.1, 0)], [])]
    (row,) = taken(rows, both(2 * HOUR), delays_ms=[0])
    assert row["takes"] == 120
    assert row["profit_per_day"] == pytest.approx(144)
    assert row["low"] == pytest.approx(144) and row["high"] == pytest.approx(144)
    # Untrusted time counts in no day: the same takes in half of the time are twice as many a day.
    holed = [("j", 0, 2 * HOUR)]
    holed += [("i", m * 60 * NS + 25 * NS, m * 60 * NS + 55 * NS) for m in range(120)]
    fresh = [(m * 60 * NS + 25 * NS, "i", True, [(99, 9)], [(103, 1)]) for m in range(120)]
    (row,) = taken(sorted([*rows, *fresh], key=lambda r: r[0]), holed, delays_ms=[0])
    assert row["profit_per_day"] == pytest.approx(288)


def test_uneven_takes_have_a_wide_interval_that_holds_the_mean():
    rows = [(0, "j", True, [(1, 1)], [(100, 9)]), (0, "i", True, [(99, 9)], [(103, 1)])]
    for minute in range(0, 120, 7):
        start = minute * 60 * NS + 30 * NS
        price = round(100 + 0.01 * (1 + minute % 5), 2)
        rows += [(start, "i", False, [(price, 9)], []), (start + NS, "i", False, [(price, 0)], [])]
    (row,) = taken(rows, both(2 * HOUR), delays_ms=[0])
    assert row["low"] < row["profit_per_day"] < row["high"]
    (again,) = taken(rows, both(2 * HOUR), delays_ms=[0])
    assert again == row


def test_nothing_to_take_is_nothing_earned_and_not_nothing_known():
    (row,) = taken(course(-5, -6), both(HOUR), delays_ms=[0])
    assert (row["takes"], row["profit_per_day"], row["low"]) == (0, 0.0, None)


def test_the_best_comes_first_and_incomparable_ones_last():
    usd = "k:BTC-USD-PERP"
    rows = [
        (0, "j", True, [(99, 9)], [(100, 9)]),
        (0, "i", True, [(99, 9)], [(101, 9)]),
        (0, usd, True, [(99, 9)], [(101, 9)]),
        (NS, "i", False, [(100.2, 9)], []),
        (NS, usd, False, [(100.9, 9)], []),
        (2 * NS, "j", False, [(100.1, 9)], []),
    ]
    trusted = [*both(HOUR), (usd, 0, HOUR)]
    table = capacity(
        books(rows), NONE, heard(trusted), fees={**FREE, "k": 0.0}, notionals=[50, 100],
        delays_ms=[0],
    )  # fmt: skip
    first = table.row(0, named=True)
    assert (first["sell"][0], first["buy"][0], first["notional"]) == ("i", "j", 100)
    ranked = table.filter("same_quote")
    assert table.head(len(ranked)).equals(ranked)
    assert ranked["profit_per_day"].is_sorted(descending=True)


@pytest.mark.parametrize(
    "given", [{"leaves_bps": [3]}, {"merge_s": -1}, {"thresholds_bps": [1, 2], "leaves_bps": [0]}]
)
def test_what_cannot_be_meant_is_refused(given):
    with pytest.raises(BadUsage):
        found(course(1), both(NS), **given)


def test_takes_need_a_delay():
    with pytest.raises(BadUsage):
        taken(course(1), both(NS), delays_ms=[])
