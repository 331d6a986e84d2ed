"""The basis of two markets: z-scores, how fast it returns, whether it returns."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.errors import BadUsage
from perptape.estimators import weigh
from perptape.measures.basis import LEAST_SAMPLES, ornstein_uhlenbeck, stationarity

from .tape import ledger, quotes
from .test_laws import END, tables

A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"
NS = 10**9
# "Calibrating the Ornstein-Uhlenbeck model" (sitmo): 21 points, 0.25 apart.
SITMO = [
    *(3.0, 1.76, 1.2693, 1.196, 0.9468, 0.9532, 0.6252, 0.8604, 1.0984, 1.431, 1.3019),
    *(1.4005, 1.2686, 0.7147, 0.9237, 0.7297, 0.7105, 0.8683, 0.7406, 0.7314, 0.6232),
]


def weighed(ts_s, x, stretch=None, horizon_s=2.0):
    ts = np.array(ts_s, np.float64) * NS
    number = np.zeros(len(x), np.int64) if stretch is None else np.array(stretch)
    return weigh(ts.astype(np.int64), np.array(x, np.float64), number, horizon_s * NS)


def test_irregular_mean_and_variance_of_the_definitions():
    mean, variance, z = weighed([0, 1, 4], [1, 2, 0])
    assert mean == pytest.approx([1, 1.3934693403, 0.3109250371], abs=1e-10)
    assert variance == pytest.approx([0, 0.2386512185, 0.3898404122], abs=1e-10)
    assert np.isnan(z[:2]).all()  # nothing had varied yet
    assert z[2] == pytest.approx((0 - 1.3934693403) / math.sqrt(0.2386512185))


samples = st.lists(st.tuples(st.integers(1, 9), st.integers(-50, 50)), min_size=2, max_size=20)


@settings(max_examples=100, deadline=None)
@given(samples, st.integers(1, 19), st.integers(-50, 50))
def test_no_z_score_knows_what_comes_after(drawn, cut, other):
    ts = np.cumsum([dt for dt, _ in drawn])
    x = [float(v) for _, v in drawn]
    cut = min(cut, len(x) - 1)
    for whole, part in zip(weighed(ts, x), weighed(ts[:cut], x[:cut]), strict=True):
        assert np.array_equal(whole[:cut], part, equal_nan=True)
    changed = weighed(ts, [*x[:cut], float(other), *x[cut + 1 :]])
    unchanged = weighed(ts, x)
    assert np.array_equal(changed[0][:cut], unchanged[0][:cut])
    assert np.array_equal(changed[1][:cut], unchanged[1][:cut])


@settings(max_examples=60, deadline=None)
@given(samples, samples)
def test_a_new_stretch_begins_anew(one, other):
    ts = np.cumsum([dt for dt, _ in one + other])
    x = [float(v) for _, v in one + other]
    stretch = [0] * len(one) + [1] * len(other)
    whole = weighed(ts, x, stretch)
    alone = weighed(ts[len(one) :], x[len(one) :])
    for a, b in zip(whole, alone, strict=True):
        assert np.array_equal(a[len(one) :], b, equal_nan=True)


def test_ornstein_uhlenbeck_of_sitmo():
    fit = ornstein_uhlenbeck(SITMO, 0.25, least_samples=21)
    assert fit.a == pytest.approx(0.4574063821, abs=1e-10)
    assert fit.c == pytest.approx(0.4923971365, abs=1e-10)
    assert fit.rate == pytest.approx(3.1287321781, abs=1e-9)
    assert fit.mean == pytest.approx(0.9074878883, abs=1e-10)
    assert fit.sigma == pytest.approx(0.5830760746, abs=1e-10)
    assert fit.sigma_ml == pytest.approx(0.5531545335, abs=1e-10)
    assert fit.half_life_s == pytest.approx(0.2215425, abs=1e-7)
    assert fit.reason is None


def test_the_shortcut_of_others_is_wrong_by_44_percent_on_it():
    """-ln 2 / slope of dX on X (ArbitrageLab's) would be 0.3193676: the fit must not be it."""
    slope = np.polyfit(SITMO[:-1], np.diff(SITMO), 1)[0]
    shortcut = -math.log(2) * 0.25 / slope
    assert shortcut == pytest.approx(0.3193676, abs=1e-7)
    fit = ornstein_uhlenbeck(SITMO, 0.25, least_samples=21)
    assert shortcut / fit.half_life_s == pytest.approx(1.4416, abs=1e-4)


def returning(n, a, seed, c=0.0):
    rng = np.random.default_rng(seed)
    x = np.zeros(n)
    for k in range(1, n):
        x[k] = a * x[k - 1] + c + rng.normal()
    return x


def test_the_interval_holds_the_half_life_as_often_as_it_says():
    truth = -math.log(2) / math.log(0.9)
    fits = [ornstein_uhlenbeck(returning(600, 0.9, seed), 1.0) for seed in range(200)]
    inside = [f.half_life_low_s <= truth <= f.half_life_high_s for f in fits]
    assert sum(inside) >= 0.9 * len(fits)


def test_steps_over_a_hole_are_not_fitted():
    x = returning(400, 0.8, 1)
    shifted = np.concatenate([x[:200], x[200:] + 1000])
    stretch = np.repeat([0, 1], 200)
    fit = ornstein_uhlenbeck(shifted - 1000 * stretch, 1.0, stretch=stretch)
    assert fit.samples == 398
    whole = ornstein_uhlenbeck(x, 1.0)
    assert fit.a == pytest.approx(whole.a, abs=0.01) and fit.a != whole.a


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (range(LEAST_SAMPLES - 1), "fewer than 100 samples"),
        ([], "fewer than 100 samples"),
        ([5.0] * 200, "it never moved"),
        ([1.0, -1.0] * 100, "not between 0 and 1"),
        (1.01 ** np.arange(200), "not between 0 and 1"),
    ],
)
def test_no_half_life_where_there_is_none(x, reason):
    fit = ornstein_uhlenbeck(np.array(x, float), 1.0)
    assert fit.half_life_s is None and fit.rate is None and reason in fit.reason


def test_stationarity_tells_a_walk_from_what_returns():
    assert stationarity(returning(3000, 1.0, 5)).p_value > 0.1
    assert stationarity(returning(3000, 0.9, 5)).p_value < 0.001


def test_a_half_life_is_not_bounded_where_a_walk_is_not_ruled_out():
    """Least squares finds a bounded one even in a walk: its a is biased below 1."""
    walk = returning(300, 1.0, 5)
    assert ornstein_uhlenbeck(walk, 1.0).half_life_high_s is not None
    (row,) = pt.basis(*table_of(walk)).rows(named=True)
    assert row["half_life_high_s"] is None and "never to return is not ruled out" in row["reason"]
    unbounded = ornstein_uhlenbeck(returning(300, 0.999, 4), 1.0)
    assert unbounded.half_life_high_s is None and unbounded.reason


@pytest.mark.parametrize(
    ("x", "reason"),
    [([1.0] * 9, "fewer than"), ([1.0] * 200, "hardly"), ([1.0] * 200 + [2.0], "hardly")],
)
def test_no_test_of_what_does_not_move(x, reason):
    test = stationarity(x)
    assert test.statistic is None and test.p_value is None and reason in test.reason


def table_of(basis_bps, step_ns=NS):
    """Market b stands at 100; a is so many bps above it, each for a step."""
    rows = [(0, "b", 100.0, 100.0)]
    for k, bps in enumerate(basis_bps):
        price = 100 * math.exp(bps / 1e4)
        rows += [(k * step_ns, "a", price, price), (k * step_ns, "b", 100.0, 100.0)]
    return quotes(rows), ledger([("a", 0, len(basis_bps) * step_ns), ("b", 0, 10**15)])


def test_a_pair_from_its_tables():
    x = returning(2000, 0.9, 3, c=1.0)
    table, heard = table_of(x)
    (row,) = pt.basis(table.lazy(), heard.lazy()).rows(named=True)
    assert (row["first"], row["second"], row["trusted_s"]) == (A, B, 2000)
    assert row["mean_bps"] == pytest.approx(x.mean(), abs=0.01)
    assert row["std_bps"] == pytest.approx(x.std(), abs=0.01)
    assert row["last_bps"] == pytest.approx(x[-1])
    fit = ornstein_uhlenbeck(np.append(x, x[-1]), 1.0)  # trust ends with a grid point
    assert row["half_life_s"] == pytest.approx(fit.half_life_s)
    assert row["half_life_low_s"] < -math.log(2) / math.log(0.9) < row["half_life_high_s"]
    assert row["ou_mean_bps"] == pytest.approx(10, abs=1)
    assert row["adf_p_value"] < 1e-6 and row["adf_s"] == 2001
    assert row["reason"] is None
    followed = pt.zscores(table, heard, A, B)
    assert followed.height == row["updates"] == 2000
    assert followed["z"][-1] == pytest.approx(row["last_z"])
    assert followed["z"][:300].null_count() == 300 and followed["z"][300:].null_count() == 0
    back = pt.zscores(table, heard, B, A)
    assert back["z"].to_list()[300:] == pytest.approx([-z for z in followed["z"][300:]])


def test_a_silent_market_gives_null_and_a_reason():
    table, heard = table_of([1.0, 2.0, 3.0])
    silent = pl.concat([heard, ledger([("c", 0, 2 * NS)])], how="vertical_relaxed")
    found = pt.basis(table, silent)
    numbers = [c for c in found.columns if c.endswith(("_bps", "_z", "_s", "_p_value"))]
    for row in found.filter(pl.col("second").str.starts_with("c:")).rows(named=True):
        assert row["trusted_s"] == 2 and row["reason"] == "fewer than 100 samples"
        assert all(row[c] is None for c in numbers if c != "trusted_s")
    (known,) = found.filter(second=B).rows(named=True)
    assert known["mean_bps"] == pytest.approx(2) and known["half_life_s"] is None
    assert pt.zscores(table, silent, A, "c:BTC-USDT-PERP").height == 0


def test_an_unknown_market_is_named():
    table, heard = table_of([1.0])
    with pytest.raises(BadUsage, match="c:BTC"):
        pt.zscores(table, heard, A, "c:BTC-USDT-PERP")


@settings(max_examples=50, deadline=None)
@given(tables())
def test_another_venue_changes_no_other_pair(table):
    rows, trusted = table
    ends = [(venue, END, END) for venue in "abc"]
    settings_ = {"horizon_s": 0.1, "step_s": 0.05, "least_samples": 3}
    both = pt.basis(quotes(rows), ledger(trusted, ends), **settings_)
    rows = [row for row in rows if row[1] != "c"]
    trusted = [t for t in trusted if t[0] != "c"]
    alone = pt.basis(quotes(rows), ledger(trusted, ends[:2]), **settings_)
    assert both.filter(first=A, second=B).equals(alone)


@settings(max_examples=50, deadline=None)
@given(tables(venues=("a", "b")))
def test_the_mean_is_weighted_by_how_long_each_value_stood(table):
    rows, trusted = table
    heard = ledger(trusted, [(venue, END, END) for venue in "ab"])
    (row,) = pt.basis(quotes(rows), heard).rows(named=True)
    followed = pt.zscores(quotes(rows), heard, A, B)
    assert row["updates"] == followed.height
    assert (row["mean_bps"] is None) == (followed.height == 0)
    if followed.height:
        assert row["last_bps"] == followed["basis_bps"][-1]
        least, most = followed["basis_bps"].min(), followed["basis_bps"].max()
        assert least - 1e-9 <= row["mean_bps"] <= most + 1e-9


def test_weights_of_the_definitions():
    """A value of 1 for 1 s, then 2 for 3 s: 1.75."""
    table, heard = table_of([1.0, 2.0, 2.0, 2.0])
    (row,) = pt.basis(table, heard).rows(named=True)
    assert row["mean_bps"] == pytest.approx(1.75, abs=1e-6)
