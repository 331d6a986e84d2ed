"""Where the price is made: published analytic shares, and models with a planted answer."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.measures.price_discovery import information_shares

from .tape import ledger, quotes

A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"
NS = 10**9
RHO = (0, 0.1, 0.5, 0.9)
# Baillie et al., JFM 5(3), 2002, Table 1: (alpha_1, alpha_2), upper, lower, component share.
BAILLIE = [
    ((0.05, 0.05), (0.50, 0.55, 0.75, 0.95), (0.50, 0.45, 0.25, 0.05), 0.50),
    ((0, 0.05), (1, 1, 1, 1), (1, 0.99, 0.75, 0.19), 1),
    ((0.025, 0.05), (0.80, 0.8167, 0.8929, 0.9779), (0.80, 0.7333, 0.4286, 0.0884), 0.6667),
]


@pytest.mark.parametrize(
    ("alphas", "rho", "upper", "lower", "component"),
    [
        (alphas, rho, upper, lower, component)
        for alphas, uppers, lowers, component in BAILLIE
        for rho, upper, lower in zip(RHO, uppers, lowers, strict=True)
    ],
)
def test_the_analytic_table_of_baillie(alphas, rho, upper, lower, component):
    found = information_shares([-alphas[0], alphas[1]], [[1, rho], [rho, 1]])
    assert found.high[0] == pytest.approx(upper, abs=5.1e-5)
    assert found.low[0] == pytest.approx(lower, abs=5.1e-5)
    assert found.mid[0] == pytest.approx((upper + lower) / 2, abs=1e-4)
    assert found.component[0] == pytest.approx(component, abs=5e-5)


numbers = st.floats(-3, 3, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(st.tuples(numbers, numbers), st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-0.95, 0.95))
def test_shares_add_up_and_do_not_know_the_order(alpha, s1, s2, rho):
    omega = np.array([[s1 * s1, rho * s1 * s2], [rho * s1 * s2, s2 * s2]])
    found = information_shares(alpha, omega)
    if not any(alpha):
        assert found.mid is None and found.reason
        return
    back = information_shares(alpha[::-1], omega[::-1, ::-1])
    for name in ("low", "high", "mid", "component"):
        assert getattr(back, name) == pytest.approx(getattr(found, name)[::-1], abs=1e-9)
    assert found.low[0] + found.high[1] == pytest.approx(1)
    assert sum(found.mid) == pytest.approx(1) == sum(found.component)
    assert 0 <= found.low[0] <= found.mid[0] <= found.high[0] <= 1 + 1e-12
    scaled = information_shares(np.multiply(alpha, 8), omega * 9)
    assert scaled.mid == pytest.approx(found.mid)


@pytest.mark.parametrize(
    ("alpha", "omega", "reason"),
    [
        ([0, 0], [[1, 0], [0, 1]], "neither gives way"),
        ([-1, 1], [[1, 1], [1, 1]], "are one"),
        ([-1, 1], [[0, 0], [0, 1]], "are one"),
    ],
)
def test_no_shares_where_there_are_none(alpha, omega, reason):
    found = information_shares(alpha, omega)
    assert found.mid is None and found.component is None and reason in found.reason


def table_of(prices, step_ns=NS, start=0):
    """Prices in bps [n, 2], of both markets at every step."""
    rows = [
        (start + k * step_ns, venue, price, price)
        for k, both in enumerate(100 * np.exp(prices / 1e4))
        for venue, price in zip("ab", both.tolist(), strict=True)
    ]
    return rows, [(venue, start, start + len(prices) * step_ns - 1) for venue in "ab"]


def tied(n, alphas, seed, rho=0.0):
    """Baillie's model: dx1 = -a1 (x1 - x2) + e1, dx2 = a2 (x1 - x2) + e2."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    x = np.zeros((n, 2))
    for k in range(1, n):
        x[k] = x[k - 1] + np.array([-alphas[0], alphas[1]]) * (x[k - 1, 0] - x[k - 1, 1]) + e[k]
    return x


@pytest.mark.parametrize(
    ("alphas", "rho", "low", "high", "component"),
    [
        ((0.2, 0.2), 0, 0.5, 0.5, 0.5),
        ((0.0, 0.2), 0, 1, 1, 1),
        ((0.1, 0.2), 0.5, 0.4286, 0.8929, 0.6667),
    ],
)
def test_a_planted_model_is_found_again(alphas, rho, low, high, component):
    rows, trusted = table_of(tied(20_000, alphas, 7, rho))
    found = pt.price_discovery(quotes(rows).lazy(), ledger(trusted), lags=1, window_s=20_000)
    (row,) = found.rows(named=True)
    assert (row["first"], row["second"], row["windows"]) == (A, B, 1)
    assert row["samples"] == 20_000 and row["trusted_s"] == pytest.approx(20_000)
    assert row["share_low"] == pytest.approx(low, abs=0.06)
    assert row["share_high"] == pytest.approx(high, abs=0.06)
    assert row["share_mid"] == pytest.approx((low + high) / 2, abs=0.06)
    assert row["component"] == pytest.approx(component, abs=0.06)
    assert row["correlation"] == pytest.approx(rho, abs=0.03)
    assert row["share_error"] is None and row["reason"] is None


def test_windows_and_holes_are_estimated_apart_and_averaged():
    rows, trusted = [], []
    for part in range(4):
        more = table_of(tied(1500, (0.1, 0.2), part) + 50 * part, start=part * 2000 * NS)
        rows, trusted = rows + more[0], trusted + more[1]
    (row,) = pt.price_discovery(
        quotes(rows), ledger(trusted), lags=1, window_s=750, least_samples=300
    ).rows(named=True)
    assert row["windows"] == 8 and row["samples"] == 6000
    assert abs(row["share_mid"] - 0.8) < 3 * row["share_error"] + 0.02
    each = [
        pt.price_discovery(quotes(rows), ledger(trusted[2 * k : 2 * k + 2]), lags=1, window_s=1500)[
            "share_mid"
        ][0]
        for k in range(4)
    ]
    (whole,) = pt.price_discovery(quotes(rows), ledger(trusted), lags=1, window_s=1500)["share_mid"]
    assert whole == pytest.approx(np.mean(each))


def test_a_lasting_basis_does_no_harm():
    x = tied(5000, (0.1, 0.2), 3)
    plain, apart = (
        pt.price_discovery(quotes(rows), ledger(trusted), lags=1, window_s=5000)["share_mid"][0]
        for rows, trusted in (table_of(x), table_of(x + np.array([80.0, 0.0])))
    )
    assert apart == pytest.approx(plain, abs=1e-6)


def test_too_little_gives_null_and_a_reason():
    rng = np.random.default_rng(1)
    walks = np.cumsum(rng.normal(size=(3000, 2)), axis=0)
    still = np.column_stack([walks[:, 0], np.zeros(3000)])
    cases = [(walks[:200], "too short"), (walks, "not tied"), (still, "hardly moved")]
    for prices, reason in cases:
        rows, trusted = table_of(prices)
        (row,) = pt.price_discovery(quotes(rows), ledger(trusted)).rows(named=True)
        assert all(row[name] is None for name in row if name.startswith(("share", "comp")))
        assert reason in row["reason"] and row["windows"] == 0


def test_a_silent_market_changes_no_other_pair():
    rows, trusted = table_of(tied(1000, (0.1, 0.2), 5))
    heard = ledger(trusted)
    more = pl.concat([heard, ledger([("c", 0, 9 * NS)])], how="vertical_relaxed")
    alone, both = (pt.price_discovery(quotes(rows), h, lags=1) for h in (heard, more))
    assert both.filter(first=A, second=B).equals(alone)
    silent = both.filter(second="c:BTC-USDT-PERP")
    assert silent["share_mid"].null_count() == 2 and silent["reason"].null_count() == 0
