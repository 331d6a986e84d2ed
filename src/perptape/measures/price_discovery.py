"""In which of two markets the common price is made: information share and component share.

Two mids of one coin are tied together; an error-correction model tells which of them gives way::

    dp_t = alpha beta' p_{t-1} + sum of Gamma_k dp_{t-k} + e_t        Omega = cov(e)

(statsmodels' VECM, one relation, its constant within it, so a lasting basis does no harm). With
gamma orthogonal to alpha, and Omega = M M' by Cholesky in one order of the markets::

    component share k   = |gamma_k| / sum |gamma|              (Gonzalo & Granger, JBES 13(1), 1995)
    information share k = ([gamma' M]_k)^2 / (gamma' Omega gamma)    (Hasbrouck, JF 50(4), 1995)

The information share depends on the order: both orders give its bounds, and their mean is the
midpoint (Baillie, Booth, Tse & Zabotina, JFM 5(3), 2002). The more the residuals correlate, the
wider apart they are: sample finely. They are no bounds in general (Lien, Shrestha & Lee, FRL 49,
2022), and by our receive times a slow feed looks like a market that follows.
"""

import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from perptape.events import NS
from perptape.kernels import BPS, Floats
from perptape.measures.mids import Joint, Table, mids

STEP_S = 1.0
LAGS = 10
WINDOW_S = 3600.0
"""Longer stretches are cut, each part estimated by itself."""
LEAST_SAMPLES = 300
SURE = 1
"""Column of Johansen's critical values: 90, 95, 99 %."""
SHARES = ("share_low", "share_high", "share_mid", "share_error", "component", "correlation")
COLUMNS = {
    **dict.fromkeys(("first", "second"), pl.String),
    "trusted_s": pl.Float64,
    **dict.fromkeys(("windows", "windows_apart", "samples"), pl.Int64),
    **dict.fromkeys(SHARES, pl.Float64),
    "reason": pl.String,
}


class Shares(msgspec.Struct, frozen=True):
    """Shares of (the first, the second), 0 to 1; ``None`` where there are none, and why."""

    low: tuple[float, float] | None = None
    high: tuple[float, float] | None = None
    mid: tuple[float, float] | None = None
    component: tuple[float, float] | None = None
    reason: str | None = None


def price_discovery(  # noqa: PLR0913 - each of them changes the numbers
    quotes: Table | Sequence[Table],
    ledger: Table,
    *,
    base: str | None = None,
    step_s: float = STEP_S,
    lags: int = LAGS,
    window_s: float = WINDOW_S,
    least_samples: int = LEAST_SAMPLES,
    max_age_s: float | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Tell of every pair of one coin how much of the price is made in the first of the two.

    The mids are sampled each ``step_s`` on common trusted stretches, which are cut into windows of
    about ``window_s``; a window needs ``least_samples``. One row a pair: ``share_low``,
    ``share_high``, ``share_mid`` and ``component`` are means over ``windows``, weighted by
    ``samples``; ``share_error`` the standard error of the midpoint over windows (null of one);
    ``correlation`` that of the residuals. The second has the rest of each. ``windows_apart`` were
    left out: there Johansen's trace test did not find the two tied together (5 %).

    Gives that as a frame: ``trusted_s`` in seconds, shares from 0 to 1.
    """
    found = mids(quotes, ledger, base=base, max_age_s=max_age_s, ts_from=ts_from, ts_to=ts_to)
    rows = []
    for first, second in combinations(found.paths, 2):
        samples = found.joint(first, second).sampled(round(step_s * NS))
        windows = _windows(samples, round(window_s / step_s), max(least_samples, 10 * lags))
        rows.append(
            {
                "first": first,
                "second": second,
                "trusted_s": found.trusted_s(first, second),
                **_mean([(len(w), _model(w, lags)) for w in windows]),
            }
        )
    return pl.DataFrame(rows, schema=COLUMNS)


def _windows(samples: Joint, longest: int, least: int) -> list[Floats]:
    """Give ln mids in bps of each window [n, 2], from where they began."""
    prices = BPS * np.column_stack([samples.x, samples.y])
    cuts = np.flatnonzero(np.diff(samples.stretch)) + 1
    found = []
    for stretch in np.split(prices, cuts):
        parts = np.array_split(stretch, max(1, round(len(stretch) / max(longest, least))))
        found += [part - part[0] for part in parts if len(part) >= least]
    return found


class Model(NamedTuple):
    """What one window says."""

    shares: Shares
    correlation: float


def _model(prices: Floats, lags: int) -> Model:
    from statsmodels.tsa.vector_ar.vecm import VECM, coint_johansen  # noqa: PLC0415 - seconds

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            test = coint_johansen(prices, 0, lags)
            if not test.lr1[0] > test.cvt[0, SURE]:
                return Model(Shares(reason="apart"), np.nan)
            fit = VECM(prices, k_ar_diff=lags, coint_rank=1, deterministic="ci").fit()
            alpha, omega = fit.alpha[:, 0], fit.sigma_u
            correlation = omega[0, 1] / np.sqrt(omega[0, 0] * omega[1, 1])
    except (np.linalg.LinAlgError, ValueError, UserWarning, RuntimeWarning):
        return Model(Shares(reason="a market hardly moved"), np.nan)  # singular
    return Model(information_shares(alpha, omega), float(correlation))


def information_shares(alpha: ArrayLike, omega: ArrayLike) -> Shares:
    """Give the shares of two markets from ``alpha`` [2] and the residuals' covariance [2, 2].

    Both orders of the Cholesky factors give ``low`` and ``high``.
    """
    first, second = np.asarray(alpha, np.float64)
    gamma = np.array([second, -first])
    cov = np.asarray(omega, np.float64)
    if not gamma.any():
        return Shares(reason="neither gives way to the other")
    gamma /= np.abs(gamma).max()
    gamma /= np.abs(gamma).sum()  # in two steps, for the least of numbers have no inverse
    try:
        orders = [_shares_in_order(gamma, cov, order) for order in ([0, 1], [1, 0])]
    except np.linalg.LinAlgError:
        return Shares(reason="the residuals are one")
    return Shares(
        low=_both(np.min(orders, axis=0)),
        high=_both(np.max(orders, axis=0)),
        mid=_both(np.mean(orders, axis=0)),
        component=_both(np.abs(gamma)),
    )


def _both(shares: Floats) -> tuple[float, float]:
    return float(shares[0]), float(shares[1])


def _shares_in_order(gamma: Floats, cov: Floats, order: list[int]) -> Floats:
    parts = gamma[order] @ np.linalg.cholesky(cov[np.ix_(order, order)])
    shares = np.empty(2)
    shares[order] = parts**2 / (gamma @ cov @ gamma)
    return shares


def _mean(windows: Sequence[tuple[int, Model]]) -> dict[str, float | int | str | None]:
    told = [(n, m) for n, m in windows if m.shares.reason is None]
    apart = sum(m.shares.reason == "apart" for _, m in windows)
    counts: dict[str, float | int | str | None] = {
        "windows": len(told),
        "windows_apart": apart,
        "samples": sum(n for n, _ in told),
    }
    if not told:
        reasons = [m.shares.reason for _, m in windows] or ["too short a common stretch"]
        reason = "the two are not tied together (Johansen, 5 %)" if apart else reasons[0]
        return counts | {"reason": reason}
    values = np.array([[*_first(m.shares), m.correlation] for _, m in told])
    weights = np.array([n for n, _ in told], np.float64)
    low, high, mid, component, correlation = (float(v) for v in weights @ values / weights.sum())
    error = float(values[:, 2].std(ddof=1) / np.sqrt(len(told))) if len(told) > 1 else None
    numbers = (low, high, mid, error, component, correlation)
    return counts | dict(zip(SHARES, numbers, strict=True))


def _first(shares: Shares) -> list[float]:
    pairs = (shares.low, shares.high, shares.mid, shares.component)
    return [np.nan if pair is None else pair[0] for pair in pairs]
