"""How two markets' mids differ, how unusual that is now, and how fast it goes away.

The basis of a pair is ln mid_i - ln mid_j, in bps (1e-4 of the price).

``zscores``: with a share a_k = 1 - exp(-dt_k / horizon) for a sample x_k after dt_k, and
d = x_k - mean::

    mean <- mean + a d        variance <- (1 - a)(variance + a d^2)
    z_k   = (x_k - mean before) / sqrt(variance before)

so nothing of the sample itself is in what it is judged by. ``ornstein_uhlenbeck``: the process
dX = rate (mean - X) dt + sigma dW seen at steps D is X' = a X + c + e with a = exp(-rate D)::

    rate = -ln a / D    mean = c / (1 - a)    half-life = ln 2 / rate
    sigma = sd(e) sqrt(-2 ln a / (D (1 - a^2)))

fitted by least squares over neighbouring samples of one trusted stretch. The shortcut
-ln 2 / slope of dX on X is right only for a near 1. Noise that is not in the price (a mid that
jumps between ticks) makes a smaller and the half-life shorter. Dickey & Fuller's augmented test
(statsmodels, lags by AIC) tells how sure it is that the basis returns at all.
"""

import math
import warnings
from collections.abc import Sequence
from itertools import combinations

import msgspec
import numpy as np
import polars as pl

from perptape.errors import BadUsage
from perptape.estimators import weigh
from perptape.events import NS
from perptape.kernels import BPS, Floats, Ints
from perptape.measures.mids import Joint, Table, mids

HORIZON_S = 300.0
STEP_S = 1.0
LEAST_SAMPLES = 100
"""With fewer nothing is said."""
MOST_TESTED = 500
"""More samples than these are thinned before the test of stationarity, whose cost grows fast;
what it can tell depends on how long they last, not on how many they are."""
LEVEL = 0.95
SURE = 0.05
"""Where the test's p-value is not below, the half-life has no upper bound."""
COLUMNS = {
    **dict.fromkeys(("first", "second"), pl.String),
    "trusted_s": pl.Float64,
    "updates": pl.Int64,
    **dict.fromkeys(("mean_bps", "std_bps", "last_bps", "last_z"), pl.Float64),
    "samples": pl.Int64,
    **dict.fromkeys(
        ("half_life_s", "half_life_low_s", "half_life_high_s", "ou_mean_bps"), pl.Float64
    ),
    **dict.fromkeys(("adf_statistic", "adf_p_value", "adf_s"), pl.Float64),
    "reason": pl.String,
}


class OrnsteinUhlenbeck(msgspec.Struct, frozen=True):
    """A fitted process; ``None`` where it is not defined, and why."""

    samples: int
    """Steps that were fitted."""
    a: float | None = None
    a_low: float | None = None
    a_high: float | None = None
    c: float | None = None
    rate: float | None = None
    """Per s."""
    mean: float | None = None
    sigma: float | None = None
    """Per square root of a second, from n - 2 degrees of freedom."""
    sigma_ml: float | None = None
    """The same from n: maximum likelihood."""
    half_life_s: float | None = None
    half_life_low_s: float | None = None
    half_life_high_s: float | None = None
    """``None``: any length."""
    reason: str | None = None


class Stationarity(msgspec.Struct, frozen=True):
    """The augmented Dickey-Fuller test: a small ``p_value`` says that the series returns."""

    statistic: float | None = None
    p_value: float | None = None
    lags: int | None = None
    samples: int = 0
    reason: str | None = None


def basis(  # noqa: PLR0913 - each of them changes the numbers
    quotes: Table | Sequence[Table],
    ledger: Table,
    *,
    base: str | None = None,
    horizon_s: float = HORIZON_S,
    step_s: float = STEP_S,
    max_age_s: float | None = None,
    least_samples: int = LEAST_SAMPLES,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Tell of every pair of one coin how its basis lies, and whether and how fast it returns.

    One row a pair, ``first`` over ``second``: ``trusted_s`` of both together; ``updates`` of
    either; the basis' mean and deviation weighted by time, its last value and that one's z-score;
    ``samples`` each ``step_s``, the half-life with its interval, the mean it returns to; the
    statistic and p-value of the test, on the longest stretch (``adf_s``); null where there is
    too little, and the ``reason``.

    Gives that as a frame: ``*_bps`` are 1e-4 of the price, ``*_s`` seconds; ``last_z``,
    ``adf_statistic`` and ``adf_p_value`` have no unit.
    """
    found = mids(quotes, ledger, base=base, max_age_s=max_age_s, ts_from=ts_from, ts_to=ts_to)
    rows = [
        {
            "first": first,
            "second": second,
            "trusted_s": found.trusted_s(first, second),
            **_moments(joint := found.joint(first, second), horizon_s),
            **_returning(joint.sampled(round(step_s * NS)), step_s, least_samples),
        }
        for first, second in combinations(found.paths, 2)
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


def zscores(  # noqa: PLR0913 - each of them changes the numbers
    quotes: Table | Sequence[Table],
    ledger: Table,
    first: str,
    second: str,
    *,
    horizon_s: float = HORIZON_S,
    max_age_s: float | None = None,
) -> pl.DataFrame:
    """Follow one pair's basis: a row for each update of either market on common trusted time.

    ``ts_recv``, ``basis_bps``; ``mean_bps``, ``std_bps`` from here on; ``z`` by those before, null
    until a stretch of trusted time has lasted a horizon. Markets are named as in ``gaps``.

    Raises BadUsage if the ledger does not know a market.
    """
    bases = {market.split(":")[-1].split("-")[0] for market in (first, second)}
    found = mids(quotes, ledger, base=min(bases), max_age_s=max_age_s)
    if unknown := [market for market in (first, second) if market not in found.paths]:
        raise BadUsage(f"The ledger does not know {unknown[0]}: {', '.join(found.paths)}.")
    joint = found.joint(first, second)
    x = BPS * (joint.x - joint.y)
    mean, variance, z = weigh(joint.ts, x, joint.stretch, horizon_s * NS)
    columns = (joint.ts, x, mean, np.sqrt(variance), _warm(joint, z, horizon_s))
    names = ("ts_recv", "basis_bps", "mean_bps", "std_bps", "z")
    return pl.DataFrame(dict(zip(names, columns, strict=True)), nan_to_null=True).with_columns(
        pl.col("ts_recv").cast(pl.Datetime("ns", "UTC"))
    )


def _warm(joint: Joint, z: Floats, horizon_s: float) -> Floats:
    """Leave out what is judged by less than a horizon."""
    (begins,) = np.nonzero(np.diff(joint.stretch, prepend=-1))
    begun = joint.ts[begins][np.searchsorted(begins, np.arange(len(z)), side="right") - 1]
    return np.where(joint.ts - begun >= horizon_s * NS, z, np.nan)


def _moments(joint: Joint, horizon_s: float) -> dict[str, float | int | None]:
    x = BPS * (joint.x - joint.y)
    if not len(x):
        return {"updates": 0}
    z = float(_warm(joint, weigh(joint.ts, x, joint.stretch, horizon_s * NS)[2], horizon_s)[-1])
    weights = (joint.until - joint.ts).astype(np.float64)
    mean = float(np.average(x, weights=weights))
    return {
        "updates": len(x),
        "mean_bps": mean,
        "std_bps": math.sqrt(np.average((x - mean) ** 2, weights=weights)),
        "last_bps": float(x[-1]),
        "last_z": z if math.isfinite(z) else None,
    }


def _returning(samples: Joint, step_s: float, least: int) -> dict[str, float | int | str | None]:
    x = BPS * (samples.x - samples.y)
    fit = ornstein_uhlenbeck(x, step_s, stretch=samples.stretch, least_samples=least)
    longest = x[samples.stretch == np.bincount(samples.stretch).argmax()] if len(x) else x
    test = stationarity(longest, least_samples=least)
    returns = test.p_value is not None and test.p_value < SURE
    doubt = None if returns or test.reason else "that it is never to return is not ruled out"
    reasons = dict.fromkeys(r for r in (fit.reason, test.reason, doubt) if r)
    return {
        "samples": len(x),
        "half_life_s": fit.half_life_s,
        "half_life_low_s": fit.half_life_low_s,
        "half_life_high_s": fit.half_life_high_s if returns else None,
        "ou_mean_bps": fit.mean,
        "adf_statistic": test.statistic,
        "adf_p_value": test.p_value,
        "adf_s": None if test.statistic is None else len(longest) * step_s,
        "reason": "; ".join(reasons) or None,
    }


def ornstein_uhlenbeck(
    x: Floats | Sequence[float],
    step_s: float,
    *,
    stretch: Ints | None = None,
    least_samples: int = LEAST_SAMPLES,
    level: float = LEVEL,
) -> OrnsteinUhlenbeck:
    """Fit the process to samples ``x`` [n], ``step_s`` apart within each ``stretch`` [n].

    The interval is that of a by least squares (Student's t), carried over to the half-life. Of a
    walk it comes out too short (Dickey & Fuller, JASA 74, 1979): see :func:`stationarity`.
    """
    series = np.asarray(x, np.float64)
    same = np.ones(max(len(series) - 1, 0), bool) if stretch is None else np.diff(stretch) == 0
    before, after = series[:-1][same], series[1:][same]
    if len(before) + 1 < least_samples:
        return OrnsteinUhlenbeck(len(before), reason=f"fewer than {least_samples} samples")
    if not np.ptp(before):
        return OrnsteinUhlenbeck(len(before), reason="it never moved")
    return _fitted(before, after, step_s, level)


def _fitted(before: Floats, after: Floats, step_s: float, level: float) -> OrnsteinUhlenbeck:
    from statsmodels.regression.linear_model import OLS  # noqa: PLC0415 - seconds to import

    fit = OLS(after, np.column_stack([np.ones(len(before)), before])).fit()
    c, a = (float(p) for p in fit.params)
    low, high = (float(p) for p in fit.conf_int(alpha=1 - level)[1])
    found = OrnsteinUhlenbeck(len(before), a=a, a_low=low, a_high=high, c=c)
    if not 0 < a < 1:
        return msgspec.structs.replace(found, reason=f"a = {a:.4g} is not between 0 and 1")
    scale = math.sqrt(-2 * math.log(a) / (step_s * (1 - a * a)))
    return msgspec.structs.replace(
        found,
        rate=-math.log(a) / step_s,
        mean=c / (1 - a),
        sigma=math.sqrt(fit.scale) * scale,
        sigma_ml=math.sqrt(fit.ssr / len(before)) * scale,
        half_life_s=_half_life_s(a, step_s),
        half_life_low_s=_half_life_s(low, step_s) if low > 0 else 0.0,
        half_life_high_s=_half_life_s(high, step_s) if high < 1 else None,
        reason=None if high < 1 else "the interval of a reaches 1: it may not return",
    )


def _half_life_s(a: float, step_s: float) -> float:
    return -math.log(2) * step_s / math.log(a)


def stationarity(
    x: Floats | Sequence[float], *, least_samples: int = LEAST_SAMPLES
) -> Stationarity:
    """Test whether a regular series without holes returns to a level."""
    from statsmodels.tsa.stattools import adfuller  # noqa: PLC0415 - seconds to import

    series = np.asarray(x, np.float64)
    series = series[:: -(-len(series) // MOST_TESTED) or 1]
    if len(series) < least_samples:
        return Stationarity(samples=len(series), reason=f"fewer than {least_samples} samples")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            test = adfuller(series, regression="c", autolag="AIC", result_object=True)
    except (ValueError, UserWarning, RuntimeWarning):  # rank-deficient: next to nothing happens
        return Stationarity(samples=len(series), reason="it hardly moved")
    return Stationarity(
        statistic=float(test.statistic),
        p_value=float(test.pvalue),
        lags=int(test.lags),
        samples=len(series),
    )
