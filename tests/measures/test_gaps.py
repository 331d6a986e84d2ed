"""The gap of two markets, on tables small enough to check by eye."""

import msgspec
import polars as pl
import pytest

from perptape import kernels, weave
from perptape.errors import BadUsage, Failed
from perptape.measures import gaps

from .tape import ledger, quotes

S = 1_000_000_000
MS = 1_000_000


def pair(result, sell, buy):
    names = f"{sell}:BTC-USDT-PERP", f"{buy}:BTC-USDT-PERP"
    return next(p for p in result.found_pairs if (p.sell, p.buy) == names)


def both(end, *venues):
    return ledger([(venue, 0, end) for venue in venues or ("a", "b")])


def bps(gap):
    """A bid that stands so far above an ask of 10 000."""
    return 10_000.0 + gap


def test_time_mean_weights_by_duration():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), 11_000.0), (S, "a", bps(2), 11_000.0)]
    gap = pair(gaps(quotes(rows), both(4 * S)), "a", "b").gap_bps
    assert gap.mean_time == pytest.approx(1.75, abs=1e-9)
    assert gap.mean == pytest.approx(1.5, abs=1e-9)


def test_gross_and_net_at_the_top_of_the_book():
    rows = [(5, "i", 50_010.0, 50_011.0), (5, "j", 49_989.0, 49_990.0)]
    found = gaps(quotes(rows), both(S, "i", "j"), fees={"i": 6e-4, "j": 5e-4})
    sold = pair(found, "i", "j")
    for name in ("mean_time", "mean", "median", "p5", "p95", "min", "max"):
        assert getattr(sold.gap_bps, name) == pytest.approx(4.000800, abs=5e-7)
        assert getattr(sold.edge_bps, name) == pytest.approx(-6.998101, abs=5e-7)
    assert (sold.gap_bps.share_positive, sold.edge_bps.share_positive) == (1.0, 0.0)


def test_edge_is_counted_where_it_is_more_than_the_fees():
    rows = [(0, "j", 9_000.0, 10_000.0)]
    rows += [(k * S, "i", bps(10 + k), 11_000.0) for k in range(4)]
    edge = pair(gaps(quotes(rows), both(9 * S, "i", "j"), fees={"i": 6e-4, "j": 6e-4}), "i", "j")
    assert edge.edge_bps.share_positive == 0.25  # 13 bps alone pays for 12.007
    assert edge.gap_bps.share_positive == 1.0


def test_zero_gap_is_not_positive():
    rows = [(0, "a", 100.0, 101.0), (0, "b", 99.0, 100.0)]
    found = pair(gaps(quotes(rows), both(S)), "a", "b")
    assert found.gap_bps.share_positive == 0.0 and found.gap_bps.max == 0.0
    assert found.grid.share_positive == 0.0


def test_rows_of_one_time_are_one_event_and_the_last_wins():
    rows = [
        (7, "a", bps(9), 11_000.0),
        (7, "b", 9_000.0, 10_000.0),
        (7, "a", bps(1), 11_000.0),
        (8, "b", 9_000.0, 10_000.0),
        (8, "b", 9_000.0, 10_000.0),
    ]
    gap = pair(gaps(quotes(rows), both(S)), "a", "b").gap_bps
    assert (gap.min, gap.max) == pytest.approx((1.0, 1.0))
    rows.append((9, "a", bps(4), 11_000.0))  # a third event, not a sixth
    assert pair(gaps(quotes(rows), both(S)), "a", "b").gap_bps.mean == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [(0, 300 * MS, 4), (1, 300 * MS - 1, 2), (100 * MS, 100 * MS, 1), (1, 99 * MS, 0)],
)
def test_grid_has_the_ends_of_the_common_interval(start, end, count):
    rows = [(start, "b", 9_000.0, 10_000.0)]
    rows += [(start, "a", 9_500.0, 11_000.0)]
    rows += [(t, "a", bps(1), 11_000.0) for t in (200 * MS,) if start < t <= end]
    trusted = ledger([("a", start, end), ("b", 0, S)])
    grid = pair(gaps(quotes(rows), trusted), "a", "b").grid
    if count == 0:
        assert grid is None
        return
    positive = {4: 2, 2: 1, 1: 0}[count]  # at 200 ms inclusively, and after
    assert grid.share_positive == pytest.approx(positive / count)
    assert grid.step_ms == 100


def test_quote_is_not_carried_into_the_next_trusted_interval():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), 11_000.0), (9 * S, "a", bps(3), 12_000.0)]
    trusted = ledger([("b", 0, 20 * S), ("a", 0, 2 * S), ("a", 5 * S, 10 * S)])
    found = pair(gaps(quotes(rows), trusted), "a", "b")
    assert found.trusted_s == 7.0
    assert found.gap_bps.mean_time == pytest.approx((2 * 1 + 1 * 3) / 3)
    assert found.grid.mean == pytest.approx((21 * 1 + 11 * 3) / 32)


def test_row_outside_trusted_time_says_nothing():
    rows = [(0, "b", 9_000.0, 10_000.0), (1, "a", bps(5), 11_000.0), (4 * S, "a", bps(1), 11_000.0)]
    trusted = ledger([("b", 0, 8 * S), ("a", 2 * S, 8 * S)])
    gap = pair(gaps(quotes(rows), trusted), "a", "b").gap_bps
    assert gap.min == gap.max == pytest.approx(1.0)
    assert gap.mean_time == pytest.approx(1.0)


def test_quote_without_a_side_ends_the_gap_that_needs_it():
    rows = [
        (0, "b", 9_000.0, 10_000.0),
        (0, "a", bps(1), 11_000.0),
        (S, "a", None, 11_000.0),
        (3 * S, "a", bps(5), 11_000.0),
    ]
    found = gaps(quotes(rows), both(4 * S))
    assert pair(found, "a", "b").gap_bps.mean_time == pytest.approx(3.0)  # 1 for 1 s, 5 for 1 s
    assert pair(found, "b", "a").gap_bps.mean_time == pytest.approx(1e4 * (9 / 11 - 1))
    assert pair(found, "a", "b").trusted_s == 4.0


@pytest.mark.parametrize("price", [float("nan"), 0.0, -1.0, float("inf")])
def test_what_is_not_a_price_is_unknown(price):
    rows = [(0, "b", 9_000.0, price), (0, "a", bps(1), 11_000.0)]
    found = gaps(quotes(rows), both(S))
    assert pair(found, "a", "b").gap_bps is None
    assert pair(found, "b", "a").gap_bps is not None


def test_age_limit_ends_the_older_quote_alone():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), 11_000.0)]
    rows += [(3 * S, "a", bps(5), 11_000.0), (6 * S, "b", 9_000.0, 10_000.0)]
    found = pair(gaps(quotes(rows), both(10 * S), max_age_s=2), "a", "b")
    assert found.gap_bps.mean_time == pytest.approx(1.0)  # 0 to 2 s, and nothing after
    assert found.gap_bps.mean == pytest.approx(1.0)
    assert found.grid.share_positive == 1.0
    assert found.trusted_s == 10.0
    found = pair(gaps(quotes(rows), both(10 * S), max_age_s=3), "a", "b")
    assert found.gap_bps.mean_time == pytest.approx(1.0)  # at 3 s, and at 6 s, for an instant
    assert (found.gap_bps.mean, found.grid.max) == pytest.approx(((1 + 5 + 5) / 3, 5.0))


def test_silent_venue_is_listed_without_numbers():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), 11_000.0)]
    found = gaps(quotes(rows), ledger([("a", 0, S), ("b", 0, S)], [("silent", 0, S)]))
    assert len(found.found_pairs) == 6
    mute = msgspec.to_builtins(pair(found, "silent", "b"))
    assert mute == {
        "sell": "silent:BTC-USDT-PERP",
        "buy": "b:BTC-USDT-PERP",
        "same_quote": True,
        "trusted_s": 0.0,
    }
    market = found.found_markets[2]
    assert (market.quotes, market.trusted_s, market.untrusted_s) == (0, 0.0, 1.0)
    assert market.latency_ms is None


def test_nothing_at_all():
    found = gaps(quotes([]), ledger([]))
    assert found.found_markets == () and found.pairs.is_empty() and found.markets.is_empty()


def test_window_keeps_the_quote_from_before_it():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), 11_000.0), (5 * S, "a", bps(3), 11_000.0)]
    found = gaps(quotes(rows), both(20 * S), ts_from=3 * S, ts_to=9 * S)
    a_b = pair(found, "a", "b")
    assert a_b.trusted_s == 6.0
    assert a_b.gap_bps.mean_time == pytest.approx((2 * 1 + 4 * 3) / 6)
    assert a_b.gap_bps.mean == pytest.approx(3.0)
    assert a_b.grid.mean == pytest.approx((20 * 1 + 41 * 3) / 61)
    assert [m.quotes for m in found.found_markets] == [1, 0]


def test_notional_is_the_median_of_the_smaller_size():
    rows = [(0, "j", 9_000.0, 10_000.0, 1.0, 2.0), (1, "i", bps(1), 11_000.0, 3.0, 1.0)]
    rows += [(2, "i", bps(1), 11_000.0, 0.5, 1.0), (3, "i", bps(1), 11_000.0, None, 1.0)]
    found = gaps(quotes(rows), both(S, "i", "j"))
    assert pair(found, "i", "j").top_notional == pytest.approx((20_000 + 5_000) / 2, rel=1e-4)
    none = gaps(quotes([row[:4] for row in rows]), both(S, "i", "j"))
    assert pair(none, "i", "j").top_notional is None


def test_latency_may_be_negative():
    rows = [(k * S, "a", 1.0, 2.0, None, None, k * S + (1000 - 10 * k) * MS) for k in range(101)]
    market = gaps(quotes(rows), both(200 * S)).found_markets[0]
    assert (market.latency_ms.p50, market.latency_ms.p99) == (-500.0, -10.0)


def test_quote_currencies_are_compared_by_name():
    markets = ("binance:BTC-USDT-PERP", "binance_coinm:BTC-USD-PERP", "bybit:BTC-USDT-PERP")
    found = gaps(quotes([]), ledger([(m, 0, S) for m in markets]))
    same = {(p.sell, p.buy) for p in found.found_pairs if p.same_quote}
    assert same == {(markets[0], markets[2]), (markets[2], markets[0])}


def test_json_says_what_was_computed_and_nothing_else():
    rows = [(0, "b", 9_000.0, 10_000.0), (0, "a", bps(1), None)]
    found = gaps(quotes(rows), both(S), fees={"a": 6e-4, "b": 5e-4})
    said = msgspec.json.decode(found.to_json())
    assert set(said) == {"markets", "pairs"}
    first, second = said["pairs"]
    keys = {"mean_time", "mean", "median", "p5", "p95", "min", "max", "share_positive"}
    assert set(first["gap_bps"]) == set(first["edge_bps"]) == keys
    assert set(first["grid"]) == (keys - {"mean_time"}) | {"step_ms"}
    assert set(second) == {"sell", "buy", "same_quote", "trusted_s"}
    assert b"null" not in found.to_json() and b"NaN" not in found.to_json()
    assert found.pairs["gap_mean_bps"].to_list() == [pytest.approx(1.0), None]


def test_price_far_off_does_not_overflow():
    rows = [(0, "b", 1e-90, 1e-90), (0, "a", 1e90, 1e90)]
    found = pair(gaps(quotes(rows), both(10**18)), "a", "b").gap_bps
    assert found.max == pytest.approx(1e184)
    assert found.mean == found.mean_time == kernels.MOST_BPS


def test_several_coins_need_a_choice():
    several = ledger([("a", 0, S), ("a:ETH-USDT-PERP", 0, S)])
    with pytest.raises(BadUsage, match="BTC, ETH"):
        gaps(quotes([]), several)
    assert [m.market for m in gaps(quotes([]), several, base="ETH").found_markets] == [
        "a:ETH-USDT-PERP"
    ]


def test_rows_out_of_order_are_refused():
    with pytest.raises(Failed, match="receive order"):
        gaps(quotes([(2, "a", 1.0, 2.0), (1, "a", 1.0, 2.0)]), both(S))


def test_several_tapes_make_one_order():
    early = [(0, "b", 9_000.0, 10_000.0), (S, "a", bps(1), 11_000.0), (2 * S, "a", bps(3), 1e5)]
    late = [(S, "a", bps(2), 11_000.0), (3 * S, "b", 9_000.0, 10_000.0)]
    whole = gaps(quotes([early[0], early[1], late[0], early[2], late[1]]), both(5 * S))
    apart = gaps([quotes(early).lazy(), quotes(late)], both(5 * S))
    assert apart.to_json() == whole.to_json()
    assert pair(whole, "a", "b").gap_bps.min == pytest.approx(2.0)  # of a tie the later tape


def test_one_compilation_serves_all():
    gaps(quotes([(0, "a", 1.0, 2.0)]), both(S))
    gaps(quotes([(0, "a", 1.0, 2.0)]), both(S), max_age_s=1, buckets=3)
    gaps(quotes([]), ledger([("a", 0, S)]))
    for loop in (weave.digest, weave.settle, kernels.count_latencies):
        assert len(loop.signatures) == 1


def test_frames_have_the_documented_columns():
    found = gaps(quotes([]), both(S))
    assert found.pairs.columns[:6] == [
        *("sell", "buy", "same_quote", "trusted_s", "gap_mean_time_bps", "gap_mean_bps")
    ]
    assert found.pairs.schema["gap_mean_bps"] == pl.Float64
