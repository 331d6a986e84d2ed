"""How often episodes open: their number per hour of trusted time, and how sure that is.

Of n openings in T hours the rate is n / T. If openings came independently of each other its
interval would be Garwood's (Biometrika 28, 1936), exact for a Poisson number::

    low = chi2(alpha / 2; 2n) / 2T        high = chi2(1 - alpha / 2; 2n + 2) / 2T

They come in swarms. The trusted time is cut into equal parts, and the variance of the openings in
them over their mean, the dispersion, says by how much: where it is above 1 both n and T are divided
by it (quasi-Poisson: McCullagh & Nelder, Generalized Linear Models, 1989, section 6.2), so that the
interval grows. With too little time for that it is taken as 1 and the interval may be too narrow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from perptape.align import Spans
from perptape.errors import BadUsage
from perptape.events import NS
from perptape.kernels import Ints
from perptape.measures.edges import NOTIONALS, OF_PAIR, Swept, asking, measured, of_pair
from perptape.measures.episodes import found_episodes
from perptape.measures.scenes import Fees, Table

HOUR_NS = 3600 * NS
PARTS = 30
LEAST_PART_NS = 60 * NS
LEAST_PARTS = 10
"""With fewer nothing is said of swarms."""
LEVEL = 0.95
COLUMNS = {
    **OF_PAIR,
    "notional": pl.Float64,
    "threshold_bps": pl.Float64,
    "count": pl.Int64,
    "per_hour": pl.Float64,
    "per_hour_low": pl.Float64,
    "per_hour_high": pl.Float64,
    "dispersion": pl.Float64,
    "median_s": pl.Float64,
    "max_s": pl.Float64,
    "censored": pl.Int64,
    "truncated": pl.Int64,
}


def episode_rate(  # noqa: PLR0913 - each of them changes the numbers
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None = None,
    *,
    fees: Fees | None = None,
    notionals: Sequence[float] = NOTIONALS,
    thresholds_bps: Sequence[float] = (0.0,),
    leaves_bps: Sequence[float] | None = None,
    merge_s: float = 0.0,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Count the episodes of every pair, tier of fees, notional and threshold, per trusted hour.

    Tables, fees, notionals, thresholds and window as of ``episodes``. ``count`` is of those whose
    opening was seen; ``per_hour`` their number per hour of ``trusted_s``, held with 95 % by
    ``per_hour_low`` and ``per_hour_high``, which is above 0 also where none was seen;
    ``dispersion`` is that of the openings, null with less than ten minutes; ``median_s`` is of
    episodes seen whole, ``max_s`` of all that were seen open.

    Gives a frame: ``notional`` in quote currency, ``threshold_bps``, rates per hour, times in s.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    if not merge_s >= 0:
        raise BadUsage("merge_s is a number of seconds from 0 on.")
    swept = measured(
        books, quotes, ledger, instruments, fees=fees, base=base, ts_from=ts_from, ts_to=ts_to,
        asked=asking(notionals, thresholds_bps, leaves_bps, ()),
    )  # fmt: skip
    return rate_table(swept, round(merge_s * NS))


def rate_table(swept: Swept, merge_ns: int = 0) -> pl.DataFrame:
    """One row for each pair, tier, notional and threshold: how often, and how long."""
    rows: list[dict[str, object]] = []
    for entry, notional, h, found in found_episodes(swept, merge_ns):
        opened = [e for e in found if not e.is_truncated]
        ended = [e.end - e.start for e in opened if not e.is_censored]
        starts = np.array([e.start for e in opened], np.int64)
        spans = swept.scene.common(entry).within(swept.ts_from, swept.ts_to)
        row = {
            **of_pair(swept, entry),
            "notional": notional,
            "threshold_bps": swept.asked.enters_bps[h],
            "count": len(opened),
            "censored": sum(e.is_censored for e in opened),
            "truncated": len(found) - len(opened),
            "median_s": float(np.median(ended)) / NS if ended else None,
            "max_s": max((e.end - e.start for e in opened), default=0) / NS if opened else None,
            **rate(starts, spans)._asdict(),
        }
        rows.append(row)
    return pl.DataFrame(rows, schema=COLUMNS)


class Rate(NamedTuple):
    """Openings per hour; ``None`` where there was no time, or too little."""

    per_hour: float | None = None
    per_hour_low: float | None = None
    per_hour_high: float | None = None
    dispersion: float | None = None


def rate(starts: Ints, spans: Spans, *, level: float = LEVEL) -> Rate:
    """Give the rate of openings at ``starts`` [n], ns, each within one of ``spans``."""
    if not spans.total_ns:
        return Rate()
    hours, n = spans.total_ns / HOUR_NS, len(starts)
    dispersion = _dispersion(starts, spans)
    low, high = _garwood(n, hours, max(dispersion or 1.0, 1.0), level)
    return Rate(n / hours, low, high, dispersion)


def _garwood(n: int, hours: float, swarm: float, level: float) -> tuple[float, float]:
    from scipy.special import chdtri  # noqa: PLC0415 - `import perptape` need not wait for it

    tail, whole = (1 - level) / 2, 2 * hours / swarm
    few, many = 2 * n / swarm, 2 * n / swarm + 2
    low = float(chdtri(few, 1 - tail)) / whole if n else 0.0
    return low, float(chdtri(many, tail)) / whole


def _dispersion(starts: Ints, spans: Spans) -> float | None:
    parts = min(spans.total_ns // LEAST_PART_NS, PARTS)
    if parts < LEAST_PARTS or not len(starts):
        return None
    before = np.cumsum(spans.ends - spans.starts) - (spans.ends - spans.starts)
    at = np.searchsorted(spans.starts, starts, side="right") - 1
    passed = before[at] + starts - spans.starts[at]
    part = np.minimum(passed * parts // spans.total_ns, parts - 1)
    counts = np.bincount(part, minlength=parts)
    return float(counts.var(ddof=1) / counts.mean())
