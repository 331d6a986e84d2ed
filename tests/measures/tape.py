"""Small tables by hand, and the definitions again, slowly: one Python loop per pair."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl

TIME = pl.Datetime("ns", "UTC")
MS = 1_000_000
STEP_NS = 100 * MS


def quotes(rows):
    """(ts ns, venue or market, bid, ask[, bid size, ask size[, ts_event]]) -> the quotes table."""
    full = [(*row, None, None, None)[:7] for row in rows]
    markets = [_market(row[1]) for row in full]
    return pl.DataFrame(
        {
            "venue": [venue for venue, _ in markets],
            "instrument": [name for _, name in markets],
            "seq": range(len(full)),
            "ts_recv": [row[0] for row in full],
            "ts_event": [row[6] for row in full],
            "ts_send": [None for _ in full],
            "bid_price": [row[2] for row in full],
            "bid_size": [row[4] for row in full],
            "ask_price": [row[3] for row in full],
            "ask_size": [row[5] for row in full],
            "update_id": [None for _ in full],
        },
        schema={
            "venue": pl.Categorical,
            "instrument": pl.Categorical,
            "seq": pl.UInt64,
            "ts_recv": pl.Int64,
            "ts_event": pl.Int64,
            "ts_send": TIME,
            **dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), pl.Float64),
            "update_id": pl.Int64,
        },
    ).with_columns(pl.col("ts_recv", "ts_event").cast(TIME))


def ledger(trusted, untrusted=()):
    """(venue or market, start, end) each -> the ledger table."""
    rows = [(*row, "trusted") for row in trusted] + [(*row, "untrusted") for row in untrusted]
    markets = [_market(row[0]) for row in rows]
    return pl.DataFrame(
        {
            "venue": [venue for venue, _ in markets],
            "instrument": [name for _, name in markets],
            "channel": ["quotes" for _ in rows],
            "ts_start": [row[1] for row in rows],
            "ts_end": [row[2] for row in rows],
            "state": [row[3] for row in rows],
            "reason": ["shutdown" for _ in rows],
            "detail": ["" for _ in rows],
        },
        schema_overrides={"venue": pl.Categorical, "instrument": pl.Categorical},
    ).with_columns(pl.col("ts_start", "ts_end").cast(TIME))


def _market(name):
    venue, _, instrument = name.partition(":")
    return venue, instrument or "BTC-USDT-PERP"


def slowly(  # noqa: C901, PLR0913 - one definition after the other
    rows, trusted, sell, buy, *, fees=(0, 0), max_age=None, ts_from=None, ts_to=None
):
    """Every statistic of one pair, straight from its definition; ``None`` where there is none."""
    lo = -math.inf if ts_from is None else ts_from
    hi = math.inf if ts_to is None else ts_to

    def interval(market, t):
        found = [(s, e) for m, s, e in trusted if m == market and s <= t <= e]
        return found[0] if found else None

    def known(market, t):
        span = interval(market, t)
        heard = [r for r in rows if r[1] == market and span and span[0] <= r[0] <= t]
        if not heard or (max_age is not None and t - heard[-1][0] > max_age):
            return None
        return heard[-1]

    def ratio(t):
        i, j = known(sell, t), known(buy, t)
        if i is None or j is None or i[2] is None or j[3] is None:
            return None
        return i[2] / j[3]

    def notional(t):
        i, j = known(sell, t), known(buy, t)
        sizes = (*i, None, None)[4], (*j, None, None)[5]
        return None if None in sizes else min(sizes) * j[3]

    def share(values, least):
        return sum(v > least for v in values) / len(values)

    def spread(values):
        gaps = [1e4 * (v - 1) for v in values]
        p5, median, p95 = np.quantile(gaps, [0.05, 0.5, 0.95])
        return {
            "mean": math.fsum(gaps) / len(gaps),
            "median": median,
            "p5": p5,
            "p95": p95,
            "min": min(gaps),
            "max": max(gaps),
            "share_positive": share(values, 1),
        }

    own = sorted({r[0] for r in rows if r[1] in {sell, buy} and lo <= r[0] <= hi})
    at_events = [t for t in own if ratio(t) is not None]
    edges = {t for r in rows if r[1] in {sell, buy} for t in (r[0], r[0] + (max_age or 0))}
    edges |= {t for m, s, e in trusted if m in {sell, buy} for t in (s, e)}
    edges = sorted({min(max(t, lo), hi) for t in edges})
    area, span = Fraction(0), 0
    for a, b in pairwise(edges):
        within = ratio(Fraction(a + b, 2))  # nothing changes between two edges
        if within is not None:
            area += Fraction(1e4 * (within - 1)) * (b - a)
            span += b - a
    first = -(-max(edges[0], lo) // STEP_NS) if edges else 0
    points = range(first, min(edges[-1], hi) // STEP_NS + 1) if edges else []
    samples = [x for k in points if (x := ratio(k * STEP_NS)) is not None]
    found = {"gap": None, "grid": spread(samples) if samples else None, "notional": None}
    if at_events:
        found["gap"] = spread([ratio(t) for t in at_events])
        if span:
            found["gap"]["mean_time"] = float(area / span)
        kept = (1 - fees[0]) / (1 + fees[1])
        found["edge_share"] = share([ratio(t) * kept for t in at_events], 1)
        sizes = [x for t in at_events if (x := notional(t)) is not None]
        found["notional"] = float(np.median(sizes)) if sizes else None
    return found
