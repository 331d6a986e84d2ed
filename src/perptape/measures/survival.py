"""How long an episode lasts: Kaplan-Meier curves with Greenwood's bands.

With d of the n episodes that were still open ending at each time t::

    S(t)      = product over t_k <= t of (1 - d_k / n_k)
    Var S(t)  = S(t)^2 sum over t_k <= t of d_k / (n_k (n_k - d_k))

Kaplan & Meier, JASA 53 (1958); Greenwood (1926). A censored episode (a gap, a stale quote or the
end of the data came before its own end) counts as open until then. One that was open already when
trust began has no known age and is left out. The band is the pointwise one of log(-log S) with
Greenwood's variance, so it stays within 0 and 1 (Kalbfleisch & Prentice, 1980).
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import polars as pl

Frame = pl.DataFrame | pl.LazyFrame

GROUPS = ("sell", "buy", "threshold_bps", "notional", "delay_ms")
"""What episodes are told apart by where ``by`` is not given."""
LEAST_ENDED = 5
"""With fewer ended episodes nothing is said."""
LEVEL = 0.95
COUNTS = dict.fromkeys(("episodes", "ended", "censored", "excluded"), pl.Int64)
NUMBERS = dict.fromkeys(("median_s", "median_low_s", "median_high_s"), pl.Float64)
CURVE = {
    "t_s": pl.Float64,
    "at_risk": pl.Int64,
    "ended": pl.Int64,
    "survival": pl.Float64,
    "std_error": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


class Survival(msgspec.Struct, frozen=True):
    """Curves and what they come to, by group."""

    curve: pl.DataFrame
    """One row for each time at which an episode ended: the group, ``t_s``, ``at_risk`` just before,
    ``ended`` then, ``survival`` (0 to 1) from then on, its ``std_error``, its band ``low`` to
    ``high``; the last three null once nothing is left. No rows for a group without numbers."""
    summary: pl.DataFrame
    """One row for each group: ``episodes`` that count, of them ``ended`` and ``censored``;
    ``excluded`` ones; the median duration and its interval in s, null where it is not reached;
    ``trusted_s`` behind it, and the ``reason`` why there is no median, where there is none."""


def survival(
    episodes: Frame,
    *,
    by: Sequence[str] | None = None,
    exposure: Frame | None = None,
    least_ended: int = LEAST_ENDED,
    level: float = LEVEL,
) -> Survival:
    """Estimate how long episodes last, group by group.

    ``episodes``: a row for each, with ``duration_s``, ``censored`` and, if there are such,
    ``truncated``. ``by``: the columns that tell groups apart; by default those of GROUPS that
    are there. ``exposure``: the columns of ``by`` and ``trusted_s``, the time that was watched;
    rows of one group add up, and a group without an episode is told of too.
    ``level``: coverage of the bands, 0 to 1.

    Gives :class:`Survival`: the frames ``curve`` and ``summary``, times in s, shares 0 to 1.
    """
    rows = episodes.lazy().collect()
    groups = [g for g in GROUPS if g in rows.columns] if by is None else list(by)
    rows = rows.with_columns(_is_kept(rows).alias("kept"))
    watched = _watched(rows, groups, exposure)
    parts = rows.partition_by(groups, as_dict=True) if groups else {(): rows}
    keys = watched.select(groups).rows() if groups else [()]
    found = [_group(parts.get(key, rows.clear()), least_ended, level) for key in keys]
    summary = pl.DataFrame([s for _, s in found], schema=COUNTS | NUMBERS | {"reason": pl.String})
    curves = [_labelled(watched[k], groups, curve) for k, (curve, _) in enumerate(found)]
    return Survival(
        pl.concat([_labelled(watched.clear(), groups, pl.DataFrame(schema=CURVE)), *curves]),
        pl.concat([watched, summary], how="horizontal").select(
            *groups, *COUNTS, *NUMBERS, "trusted_s", "reason"
        ),
    )


def _is_kept(rows: pl.DataFrame) -> pl.Series:
    known = rows["duration_s"].is_finite() & (rows["duration_s"] >= 0)
    if "truncated" in rows.columns:
        known &= ~rows["truncated"].fill_null(value=False)
    return known.fill_null(value=False)


def _watched(rows: pl.DataFrame, groups: Sequence[str], exposure: Frame | None) -> pl.DataFrame:
    """Give every group once, in order, with the trusted time behind it (null: nobody says)."""
    nobody = pl.lit(None, pl.Float64).alias("trusted_s")
    frames = [rows.lazy().select(*groups, nobody)]
    if exposure is not None:
        types = {g: rows.schema[g] for g in groups}
        frames.append(exposure.lazy().select(*groups, "trusted_s").cast(types))  # type: ignore[arg-type]  # polars wants a wider mapping
    total = pl.when(pl.col("trusted_s").is_not_null().any()).then(pl.col("trusted_s").sum())
    whole = pl.concat(frames, how="vertical_relaxed")
    if not groups:
        return whole.select(total).collect()
    return whole.group_by(groups).agg(total).sort(groups).collect()


def _labelled(group: pl.DataFrame, groups: Sequence[str], curve: pl.DataFrame) -> pl.DataFrame:
    return group.select(groups).join(curve, how="cross") if groups else curve


def _group(
    rows: pl.DataFrame, least_ended: int, level: float
) -> tuple[pl.DataFrame, Mapping[str, object]]:
    kept = rows.filter("kept")
    censored = int(kept["censored"].sum())
    ended = kept.height - censored
    counts: dict[str, object] = {
        "episodes": kept.height,
        "ended": ended,
        "censored": censored,
        "excluded": rows.height - kept.height,
    }
    if ended < max(least_ended, 1):
        reason = f"{ended} of {kept.height} episodes ended; a curve needs {max(least_ended, 1)}"
        return pl.DataFrame(schema=CURVE), {**counts, "reason": reason}
    curve, median = _estimate(kept["duration_s"].to_numpy(), ~kept["censored"].to_numpy(), level)
    if median["median_s"] is None:
        counts["reason"] = "more than half outlast the longest time at which one ended"
    return curve, counts | median


def _estimate(
    duration_s: np.ndarray, has_ended: np.ndarray, level: float
) -> tuple[pl.DataFrame, dict[str, object]]:
    from scipy.stats import norm  # noqa: PLC0415 - seconds that `import perptape` need not wait for
    from statsmodels.duration.survfunc import SurvfuncRight  # noqa: PLC0415

    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is left
        fit = SurvfuncRight(duration_s, has_ended.astype(np.int64))
        s, error = fit.surv_prob, fit.surv_prob_se
        spread = norm.ppf((1 + level) / 2) * error / (s * np.log(s))
        low, high = s ** np.exp(-spread), s ** np.exp(spread)
        bounds = fit.quantile_ci(0.5, alpha=1 - level)
    curve = pl.DataFrame(
        [fit.surv_times, fit.n_risk, fit.n_events, s, error, low, high],
        schema=list(CURVE),
        nan_to_null=True,
    ).cast(CURVE)  # type: ignore[arg-type]
    found = zip(NUMBERS, (fit.quantile(0.5), *bounds), strict=True)
    return curve, {name: float(v) if np.isfinite(v) else None for name, v in found}
