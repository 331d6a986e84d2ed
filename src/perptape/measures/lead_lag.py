"""Which of two markets moves first, and by how long.

Hayashi & Yoshida (Bernoulli 11(2), 2005) add the products of all increments whose times overlap,
so neither path has to be put on a grid::

    HY = sum over i, j of dX_i dY_j where (s_{i-1}, s_i] and (t_{j-1}, t_j] overlap

With Y's clock moved by minus a lag this is U(lag); the lag is the one where |U| is largest
(Hoffmann, Rosenbaum & Yoshida, Bernoulli 19(2), 2013): above 0, the first market leads.
correlation(lag) = U / sqrt(sum dX^2 sum dY^2); the lead-lag ratio ``llr`` is the sum of its squares
over lags > 0 by that over lags < 0 (Huth & Abergel, J. Empirical Finance 26, 2014): above 1, the
first leads. Increments are those of ln mid at every update, within common trusted stretches. Of
few increments the correlation may come out a little above 1.

Times are only as good as clocks. By our receive time, what a venue's news takes to reach us is in
the lag; by the venues' stamps, the offsets of their clocks are. ``offsets_ms`` takes that out, and
without it no leader is named.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from perptape.errors import BadUsage
from perptape.estimators import add_covariations
from perptape.events import MS, NS
from perptape.kernels import Floats, Ints
from perptape.measures.mids import Mids, Path, Table, joined, mids

MAX_LAG_MS = 1000.0
STEP_MS = 10.0
BLOCK_S = 60.0
LAGS_PER_BLOCK = 5
"""A block is at least so many times as long as the longest lag, and there are"""
MOST_BLOCKS = 2000
RESAMPLES = 400
SEED = 20050401
LEVEL = 0.95
LEAST_UPDATES = 100
LEAST_BLOCKS = 10
"""With fewer of these nothing is said."""
COLUMNS = {
    **dict.fromkeys(("first", "second"), pl.String),
    "trusted_s": pl.Float64,
    **dict.fromkeys(("updates_first", "updates_second", "blocks"), pl.Int64),
    **dict.fromkeys(
        ("lag_ms", "lag_low_ms", "lag_high_ms", "correlation", "llr", "llr_low", "llr_high"),
        pl.Float64,
    ),
    **dict.fromkeys(("offset_ms", "offset_error_ms"), pl.Float64),
    **dict.fromkeys(("leader", "reason"), pl.String),
}
CURVE = {
    **dict.fromkeys(("first", "second"), pl.String),
    **dict.fromkeys(("lag_ms", "correlation"), pl.Float64),
}


class LeadLag(msgspec.Struct, frozen=True):
    """Every pair's lag, and the correlation at each lag that was tried."""

    pairs: pl.DataFrame
    """``lag_ms`` > 0: ``first`` moves first; ``lag_low_ms`` to ``lag_high_ms`` by resampled blocks,
    widened by the clocks' errors. ``offset_ms`` is what was taken off the lag (the second's clock
    minus the first's), null where it is not known; ``leader`` is null where the interval holds 0 or
    the clocks are not known; ``reason`` says what is missing."""
    curve: pl.DataFrame
    """``correlation`` at ``lag_ms``, of pairs that have a lag."""


def lead_lag(  # noqa: PLR0913 - each of them changes the numbers
    quotes: Table | Sequence[Table],
    ledger: Table,
    *,
    base: str | None = None,
    clock: str = "recv",
    offsets_ms: Mapping[str, float] | None = None,
    errors_ms: Mapping[str, float] | None = None,
    max_lag_ms: float = MAX_LAG_MS,
    step_ms: float = STEP_MS,
    block_s: float = BLOCK_S,
    max_age_s: float | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> LeadLag:
    """Tell of every pair of one coin who moves first.

    ``clock``: the times that are compared, ``recv`` or ``event``. ``offsets_ms``: by venue, how
    late these times are: the clock's offset for ``event``, the one-way latency for ``recv``; the
    lag is corrected by their difference. ``errors_ms``: the bound of each, 0 where not given.
    ``max_lag_ms``, ``step_ms``: the lags tried. ``block_s``: length of the blocks resampled.

    Gives a frame of ``pairs``: ``trusted_s``, updates and blocks counted, ``lag_ms`` with its 95 %
    interval, ``correlation`` at it and ``llr`` (no unit), the offset taken out and its bound in ms,
    the ``leader`` (a market) or a ``reason``; and of ``curve``: the correlation at each lag tried.

    Raises BadUsage if the coin, the clock or the lags are not clear.
    """
    lags_ns = _lags(max_lag_ms, step_ms)
    found = mids(
        quotes,
        ledger,
        base=base,
        max_age_s=max_age_s,
        ts_from=ts_from,
        ts_to=ts_to,
        clock=clock,
    )
    block_ns = round(max(block_s * NS, LAGS_PER_BLOCK * max_lag_ms * MS))
    rows, curves = [], [pl.DataFrame(schema=CURVE)]
    for pair in combinations(found.paths, 2):
        offset = _difference(pair, offsets_ms, errors_ms)
        row, curve = _pair(found, pair, offset, lags_ns, block_ns)
        rows.append(row)
        curves.append(curve)
    return LeadLag(pl.DataFrame(rows, schema=COLUMNS), pl.concat(curves))


def _lags(max_lag_ms: float, step_ms: float) -> Ints:
    steps = round(max_lag_ms / step_ms) if step_ms > 0 else 0
    if steps < 1:
        raise BadUsage(f"Lags to {max_lag_ms:g} ms in steps of {step_ms:g} ms are none.")
    return np.arange(-steps, steps + 1) * round(step_ms * MS)


class Offset(NamedTuple):
    """How much later the second's times are than the first's, in ms, and its bound."""

    ms: float
    error_ms: float


def _difference(
    pair: Sequence[str], offsets: Mapping[str, float] | None, errors: Mapping[str, float] | None
) -> Offset | None:
    first, second = (market.split(":", 1)[0] for market in pair)
    if first == second:
        return Offset(0.0, 0.0)  # one clock
    if offsets is None or first not in offsets or second not in offsets:
        return None
    bounds = errors or {}
    error = bounds.get(first, 0.0) + bounds.get(second, 0.0)
    return Offset(offsets[second] - offsets[first], error)


def _pair(
    found: Mids, pair: tuple[str, str], offset: Offset | None, lags_ns: Ints, block_ns: int
) -> tuple[dict[str, object], pl.DataFrame]:
    first, second = pair
    moved = found.paths[second]
    if offset is not None:
        moved = moved._replace(ts=moved.ts - round(offset.ms * MS))
    sums = covariations(found.paths[first], moved, lags_ns, block_ns)
    row: dict[str, object] = {
        "first": first,
        "second": second,
        "trusted_s": found.trusted_s(first, second),
        "updates_first": sums.updates_x,
        "updates_second": sums.updates_y,
        "blocks": len(sums.by_block),
        "offset_ms": None if offset is None else offset.ms,
        "offset_error_ms": None if offset is None else offset.error_ms,
    }
    if reason := _too_little(sums):
        return row | {"reason": reason}, pl.DataFrame(schema=CURVE)
    lags_ms, correlation = lags_ns / MS, sums.correlation
    curve = pl.DataFrame({"lag_ms": lags_ms, "correlation": correlation}).select(
        pl.lit(first).alias("first"), pl.lit(second).alias("second"), "lag_ms", "correlation"
    )
    return row | _estimate(sums.by_block, correlation, lags_ms, offset, pair), curve


class Sums(NamedTuple):
    """What one pair came to."""

    by_block: Floats
    """U of each block and lag [blocks, lags]."""
    squares: tuple[float, float]
    """Sums of squared increments of the first and of the second."""
    updates_x: int
    updates_y: int

    @property
    def correlation(self) -> Floats:
        found: Floats = self.by_block.sum(axis=0) / np.sqrt(self.squares[0] * self.squares[1])
        return found


def covariations(first: Path, second: Path, lags_ns: Ints, block_ns: int) -> Sums:
    """Sum the products of overlapping increments, for each lag and each block of time."""
    parts = [
        (_own(first, s.ts[0], s.until[-1]), _own(second, s.ts[0], s.until[-1]))
        for s in joined(first, second).stretches()
    ]
    parts = [(x, y) for x, y in parts if len(x.ts) > 1 and len(y.ts) > 1]
    span_ns = sum(int(x.ts[-1] - x.ts[0]) for x, _ in parts)
    numbers_of = [x.ts // max(block_ns, span_ns // MOST_BLOCKS) for x, _ in parts]
    numbers = np.unique(np.concatenate([np.empty(0, np.int64), *(n[1:] for n in numbers_of)]))
    by_block = np.zeros((len(numbers), len(lags_ns)))
    squares = np.zeros(2)
    for (x, y), own in zip(parts, numbers_of, strict=True):
        block = np.searchsorted(numbers, own)
        add_covariations(x.ts, x.log_mid, block, y.ts, y.log_mid, lags_ns, by_block)
        squares += [np.sum(np.diff(path.log_mid) ** 2) for path in (x, y)]
    updates = [sum(len(part[k].ts) - 1 for part in parts) for k in (0, 1)]
    return Sums(by_block, (float(squares[0]), float(squares[1])), updates[0], updates[1])


def _own(path: Path, start: int, end: int) -> Path:
    low, high = np.searchsorted(path.ts, (start, end))
    return Path(path.ts[low:high], path.log_mid[low:high], path.stretch[low:high])


def _too_little(sums: Sums) -> str | None:
    if min(sums.updates_x, sums.updates_y) < LEAST_UPDATES:
        return f"fewer than {LEAST_UPDATES} updates of both"
    if len(sums.by_block) < LEAST_BLOCKS:
        return f"fewer than {LEAST_BLOCKS} blocks of time"
    return None if sums.by_block.any() else "they never moved together"


def _estimate(
    by_block: Floats,
    correlation: Floats,
    lags_ms: Floats,
    offset: Offset | None,
    pair: tuple[str, str],
) -> dict[str, object]:
    top = int(_largest(correlation[None, :])[0])
    low, high = _resampled(by_block, lags_ms)
    error = 0.0 if offset is None else offset.error_ms
    found: dict[str, object] = {
        "correlation": float(correlation[top]),
        "llr": _finite(_llr(correlation[None, :])[0]),
        "llr_low": _finite(low[1]),
        "llr_high": _finite(high[1]),
    }
    if top in {0, len(lags_ms) - 1}:
        return found | {"reason": f"the largest is at the end of the lags tried, {lags_ms[top]:g}"}
    lag_low, lag_high = low[0] - error, high[0] + error
    found |= {"lag_ms": float(lags_ms[top]), "lag_low_ms": lag_low, "lag_high_ms": lag_high}
    if offset is None:
        return found | {"reason": "not corrected for clocks: no leader is named"}
    if lag_low <= 0 <= lag_high:
        return found | {"reason": "the interval holds 0: no leader is named"}
    return found | {"leader": pair[0] if lag_low > 0 else pair[1]}


def _largest(curves: Floats) -> Ints:
    """Give the place of the largest |U| of each row; of equal ones the lag nearest to 0."""
    middle = curves.shape[1] // 2
    order = np.argsort(np.abs(np.arange(curves.shape[1]) - middle), kind="stable")
    found: Ints = order[np.argmax(np.abs(curves[:, order]), axis=1)]
    return found


def _llr(curves: Floats) -> Floats:
    middle = curves.shape[1] // 2
    after, before = (curves[:, middle + 1 :] ** 2).sum(1), (curves[:, :middle] ** 2).sum(1)
    found = np.full(len(curves), np.nan)
    np.divide(after, before, out=found, where=before > 0)
    return found


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _resampled(by_block: Floats, lags_ms: Floats) -> tuple[Floats, Floats]:
    """Give the bounds of (lag, ratio) when blocks are drawn anew, each as likely as the other."""
    blocks = len(by_block)
    drawn = np.random.default_rng(SEED).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    curves = drawn @ by_block
    found = np.column_stack([lags_ms[_largest(curves)], _llr(curves)])
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    low, high = np.quantile(found, tails, axis=0, method="inverted_cdf")
    return low, high
