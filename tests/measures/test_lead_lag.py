"""Who moves first: Hayashi and Yoshida's estimator against its definition and planted lags."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.errors import BadUsage
from perptape.estimators import add_covariations
from perptape.measures.lead_lag import covariations
from perptape.measures.mids import Path, mids

from .tape import MS, ledger, quotes
from .test_laws import END, tables

A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"
NS = 10**9


def covariation(x, y, lags=(0,)):
    """((times, values), (times, values)) -> HY at each lag."""
    (ts_x, x), (ts_y, y) = (
        (np.array(ts, np.int64), np.array(values, np.float64)) for ts, values in (x, y)
    )
    found = np.zeros((1, len(lags)))
    block = np.zeros(len(x), np.int64)
    add_covariations(ts_x, x, block, ts_y, y, np.array(lags, np.int64), found)
    return found[0].tolist()


def slowly(x, y, lag=0):
    """Every pair of increments whose half-open intervals overlap."""
    (ts_x, x), (ts_y, y) = x, y
    return sum(
        (x[i] - x[i - 1]) * (y[j] - y[j - 1])
        for i in range(1, len(x))
        for j in range(1, len(y))
        if max(ts_x[i - 1], ts_y[j - 1] - lag) < min(ts_x[i], ts_y[j] - lag)
    )


def test_hand_example_of_the_definitions():
    x, y = ([0, 2, 4, 8], [0, 1, 3, 2]), ([0, 3, 6, 8], [0, 2, 1, 4])  # times doubled
    assert covariation(x, y) == [2] == [slowly(x, y)]


paths = st.lists(st.tuples(st.integers(1, 4), st.integers(-9, 9)), min_size=1, max_size=14).map(
    lambda steps: (np.cumsum([dt for dt, _ in steps]).tolist(), [v for _, v in steps])
)


@settings(max_examples=200, deadline=None)
@given(paths, paths, st.lists(st.integers(-40, 40), min_size=1, max_size=5))
def test_random_paths_equal_brute_force(x, y, lags):
    assert covariation(x, y, lags) == [slowly(x, y, lag) for lag in lags]


@settings(max_examples=100, deadline=None)
@given(paths, paths, st.integers(-20, 20))
def test_to_change_the_two_is_to_turn_the_lag_round(x, y, lag):
    assert covariation(x, y, [lag]) == covariation(y, x, [-lag])


def sums_of(rows, trusted):
    found = mids(quotes(rows), ledger(trusted, [(venue, END, END) for venue in "ab"]))
    lags = np.arange(-3, 4) * 50 * MS
    return covariations(found.paths[A], found.paths[B], lags, NS)


@settings(max_examples=100, deadline=None)
@given(tables(venues=("a", "b")))
def test_what_lies_outside_common_trusted_time_changes_nothing(table):
    rows, trusted = table

    def is_common(t):
        return all(any(v == m and s <= t <= e for m, s, e in trusted) for v in "ab")

    def dearer(row):
        return (*row[:2], *(p and 7 * p for p in row[2:4]), *row[4:])

    found = sums_of(rows, trusted)
    same = sums_of([r if is_common(r[0]) else dearer(r) for r in rows], trusted)
    assert found.by_block.tolist() == same.by_block.tolist()
    assert found[1:] == same[1:]


@settings(max_examples=60, deadline=None)
@given(tables(venues=("a", "b")), st.integers(1, 300))
def test_blocks_add_up(table, block_ms):
    rows, trusted = table
    paths = mids(quotes(rows), ledger(trusted, [(v, END, END) for v in "ab"])).paths
    lags = np.arange(-3, 4) * 50 * MS
    whole = covariations(paths[A], paths[B], lags, 10**18)
    cut = covariations(paths[A], paths[B], lags, block_ms * MS)
    assert cut.by_block.sum(0).tolist() == pytest.approx(whole.by_block.sum(0).tolist(), abs=1e-12)


def walk(seconds, *, lag_ms, seed=1, late=(0, 0), hole=()):
    """Market b is a, ``lag_ms`` later; each is seen at its own moments, by ``late`` clocks."""
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.normal(0, 1e-5, seconds * 1000 + 4000))  # 1 ms each
    rows = []
    for venue, delay, offset in zip("ab", (0, lag_ms), late, strict=True):
        at = np.sort(rng.choice(np.arange(2000, 2000 + seconds * 1000), seconds * 8, replace=False))
        log = steps[at - delay] + rng.normal(0, 3e-6, len(at))
        for t, value in zip(at.tolist(), log.tolist(), strict=True):
            if not any(s <= t <= e for s, e in hole):
                price = 100 * np.exp(value)
                rows.append((t * MS, venue, price, price, 1, 1, (t + offset) * MS))
    return sorted(rows)


def heard_for(seconds, hole=()):
    cuts = [2000, *(edge for span in hole for edge in span), 2000 + seconds * 1000]
    spans = [(a * MS, b * MS) for a, b in zip(cuts[::2], cuts[1::2], strict=True)]
    return ledger([(venue, *span) for venue in "ab" for span in spans])


KNOWN = {"a": 0.0, "b": 0.0}


@pytest.mark.parametrize("lag_ms", [-120, 0, 50, 300])
def test_a_planted_lag_is_found_and_its_leader_named(lag_ms):
    table = walk(900, lag_ms=lag_ms) if lag_ms >= 0 else swapped(walk(900, lag_ms=-lag_ms))
    (row,) = pt.lead_lag(quotes(table), heard_for(900), offsets_ms=KNOWN).pairs.rows(named=True)
    assert row["lag_low_ms"] <= lag_ms <= row["lag_high_ms"]
    assert abs(row["lag_ms"] - lag_ms) <= 20
    assert row["leader"] == ({-120: B, 0: None}.get(lag_ms, A))
    assert (row["llr"] > 1.2) if lag_ms > 0 else (row["llr"] < 1.2)
    assert row["llr_low"] <= row["llr"] <= row["llr_high"]
    assert (row["reason"] is None) == (lag_ms != 0)
    assert (row["offset_ms"], row["offset_error_ms"]) == (0, 0)


def swapped(rows):
    return [(t, "ba"["ab".index(venue)], *rest) for t, venue, *rest in rows]


def test_clocks_that_are_wrong_are_taken_out_of_the_lag():
    """Market b leads by 80 ms; its stamps are 200 ms late: by them alone a seems to lead by 120."""
    rows = swapped(walk(900, lag_ms=80, late=(200, 0)))
    table, heard = quotes(rows), heard_for(900)
    (raw,) = pt.lead_lag(table, heard, clock="event").pairs.rows(named=True)
    assert raw["lag_ms"] == pytest.approx(120, abs=20) and raw["lag_low_ms"] > 0
    assert raw["leader"] is None and raw["offset_ms"] is None
    assert raw["reason"] == "not corrected for clocks: no leader is named"
    offsets, errors = {"a": 0.0, "b": 200.0}, {"a": 5.0, "b": 10.0}
    found = pt.lead_lag(table, heard, clock="event", offsets_ms=offsets, errors_ms=errors)
    (row,) = found.pairs.rows(named=True)
    assert row["lag_ms"] == pytest.approx(-80, abs=20) and row["leader"] == B
    assert (row["offset_ms"], row["offset_error_ms"]) == (200, 15)
    sure = pt.lead_lag(table, heard, clock="event", offsets_ms=offsets).pairs.row(0, named=True)
    assert row["lag_low_ms"] == sure["lag_low_ms"] - 15
    assert row["lag_high_ms"] == sure["lag_high_ms"] + 15
    unsure = pt.lead_lag(
        table, heard, clock="event", offsets_ms=offsets, errors_ms={"a": 0.0, "b": 100.0}
    ).pairs.row(0, named=True)
    assert unsure["leader"] is None and "holds 0" in unsure["reason"]


def test_a_hole_is_left_out():
    hole = ((400_000, 600_000),)
    table = quotes(walk(900, lag_ms=50, hole=hole))
    (row,) = pt.lead_lag(table, heard_for(900, hole), offsets_ms=KNOWN).pairs.rows(named=True)
    assert row["trusted_s"] == 700 and row["blocks"] == pytest.approx(12, abs=2)
    assert row["lag_low_ms"] <= 50 <= row["lag_high_ms"]


def test_what_is_unrelated_has_no_leader():
    rows = [r for r in walk(900, lag_ms=0, seed=2) if r[1] == "a"]
    rows += [r for r in walk(900, lag_ms=0, seed=3) if r[1] == "b"]
    found = pt.lead_lag(quotes(sorted(rows)), heard_for(900), offsets_ms=KNOWN)
    (row,) = found.pairs.rows(named=True)
    assert row["leader"] is None and row["reason"] and abs(row["correlation"]) < 0.1


def test_a_lag_beyond_those_tried_is_not_named():
    table = quotes(walk(900, lag_ms=300))
    found = pt.lead_lag(table, heard_for(900), offsets_ms=KNOWN, max_lag_ms=200).pairs
    (row,) = found.rows(named=True)
    assert row["lag_ms"] is None and row["leader"] is None and "end of the lags" in row["reason"]


def test_too_little_gives_null_and_a_reason():
    few = quotes(walk(10, lag_ms=0)[:150])
    short = quotes(walk(60, lag_ms=0))
    still = quotes([(t, venue, 100.0, 100.0) for t, venue, *_ in walk(900, lag_ms=0)])
    for table, reason in ((few, "updates"), (short, "blocks"), (still, "never moved")):
        found = pt.lead_lag(table, heard_for(900), offsets_ms=KNOWN)
        (row,) = found.pairs.rows(named=True)
        assert row["lag_ms"] is None and row["correlation"] is None and reason in row["reason"]
        assert row["trusted_s"] == 900 and found.curve.height == 0


def test_a_silent_market_changes_no_other_pair():
    table, heard = quotes(walk(900, lag_ms=50)), heard_for(900)
    more = pl.concat([heard, ledger([("c", 0, 9 * NS)])], how="vertical_relaxed")
    alone, both = (pt.lead_lag(table, h, offsets_ms=KNOWN) for h in (heard, more))
    assert both.pairs.filter(first=A, second=B).equals(alone.pairs)
    assert both.curve.equals(alone.curve)
    silent = both.pairs.filter(second="c:BTC-USDT-PERP")
    assert silent["lag_ms"].to_list() == [None, None] and silent["reason"].null_count() == 0


def test_the_curve_is_the_correlation_at_each_lag():
    found = pt.lead_lag(quotes(walk(900, lag_ms=50)), heard_for(900), offsets_ms=KNOWN)
    assert found.curve["lag_ms"].to_list() == [10.0 * k for k in range(-100, 101)]
    top = found.curve.sort(pl.col("correlation").abs()).row(-1, named=True)
    (row,) = found.pairs.rows(named=True)
    assert (top["lag_ms"], top["correlation"]) == (row["lag_ms"], row["correlation"])
    before, after = (
        found.curve.filter(pl.col("lag_ms") * sign > 0)["correlation"].pow(2).sum()
        for sign in (-1, 1)
    )
    assert row["llr"] == pytest.approx(after / before)


@pytest.mark.parametrize("lags", [{"max_lag_ms": 0}, {"step_ms": 0}, {"step_ms": -1}])
def test_lags_that_are_none_are_refused(lags):
    with pytest.raises(BadUsage, match="are none"):
        pt.lead_lag(quotes([]), ledger([("a", 0, 1)]), **lags)


def test_two_contracts_of_one_venue_have_one_clock():
    rows = [(t, f"x:BTC-USD{'TC'['ab'.index(v)]}-PERP", *p) for t, v, *p in walk(900, lag_ms=50)]
    spans = [(f"x:BTC-USD{c}-PERP", 2 * NS, 902 * NS) for c in "TC"]
    (row,) = pt.lead_lag(quotes(rows), ledger(spans)).pairs.rows(named=True)
    assert row["leader"] == "x:BTC-USDT-PERP" and row["offset_ms"] == 0


def test_the_estimator_takes_bare_paths():
    x, y = (
        Path(np.array(ts) * NS, np.array(v, float), np.zeros(4, np.int64))
        for ts, v in (([0, 2, 4, 8], [0, 1, 3, 2]), ([0, 3, 6, 8], [0, 2, 1, 4]))
    )
    x, y = (
        p._replace(
            ts=np.append(p.ts, 9 * NS),
            log_mid=np.append(p.log_mid, np.nan),
            stretch=np.zeros(5, np.int64),
        )
        for p in (x, y)
    )
    sums = covariations(x, y, np.array([0]), NS)
    assert sums.by_block.sum() == 2 and sums.squares == (1 + 4 + 1, 4 + 1 + 9)
    assert sums.correlation == pytest.approx(2 / np.sqrt(6 * 14))
