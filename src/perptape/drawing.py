"""Findings -> what the page's charts draw: small numbers as they are, lines packed."""

import base64

import msgspec
import numpy as np

from perptape.events import NS
from perptape.findings import FREE, Market, Pair, Report
from perptape.instruments import quote_of
from perptape.sections.completeness import coalesced
from perptape.sections.one_pair import funding_words, pair_words
from perptape.sections.opening import shown_first
from perptape.sections.ties import tie_words
from perptape.sections.timing import lead_words, resolution_words
from perptape.series import Drawn, Series
from perptape.wording import duration, instrument_of, labels, venue_of


def drawing(report: Report) -> dict[str, object]:
    best = shown_first(report)
    known: dict[str, object] = {}
    if report.has_sizes:
        known["choice"] = msgspec.to_builtins(report.choice)
    return known | {
        "axes": [_axis(s) for s in report.series],
        "markets": [_market(m, report) for m in report.markets],
        "pairs": [_pair(p, report) for p in report.pairs],
        "first": report.pairs.index(best) if best else 0,
    }


def _axis(series: Series) -> dict[str, object]:
    start = int(series.ts[0]) if len(series.ts) else 0
    step = {"step_s": series.step_ns / NS, "step": duration(series.step_ns / NS)}
    return {"t0_s": start / NS, "count": len(series.ts), **step}


def _market(market: Market, report: Report) -> dict[str, object]:
    name = market.market
    holes = coalesced((*market.intervals, *market.absent), report.ts_from, report.ts_to)
    known: dict[str, object] = {
        "quote": quote_of(instrument_of(name)),
        "untrusted": [[i.start / NS, i.end / NS, i.reason] for i in holes],
    }
    series = report.series_of(name)
    if series is None:
        return known
    bid, ask = series.bids[name], series.asks[name]
    base = _middle(bid, ask)
    return {
        **known,
        "axis": next(k for k, s in enumerate(report.series) if s is series),
        "base_price": base,
        "bid": _packed(bid, base),
        "ask": _packed(ask, base),
        **_funding(name, series),
    }


def _funding(market: str, series: Series) -> dict[str, object]:
    line = series.funding_bps_per_h.get(market)
    is_known = line is not None and bool(np.isfinite(line.last).any())
    return {"funding": _packed(line, 0.0)} if line is not None and is_known else {}


def _pair(pair: Pair, report: Report) -> dict[str, object]:
    places = {m.market: k for k, m in enumerate(report.markets)}
    series = report.series_of(pair.sell)
    gap = None if series is None else series.gaps_bps.get((pair.sell, pair.buy))
    tie = report.tie(pair.sell, pair.buy)
    return {
        "sell": places[pair.sell],
        "buy": places[pair.buy],
        "labels": labels(pair.sell, pair.buy),
        "words": " ".join(filter(None, (pair_words(pair), resolution_words(pair)))),
        "gap": None if gap is None else _packed(gap, 0.0),
        "mean": pair.gap_bps.mean if pair.gap_bps else None,
        **_at_fees(pair, report),
        **_deep(pair, series),
        **_lead(pair, report),
        **({} if pair.carry is None else {"funding_words": funding_words(pair, report)}),
        **({} if tie is None else {"tie_words": tie_words(tie)}),
    }


def _deep(pair: Pair, series: Series | None) -> dict[str, object]:
    """Give what there is by size and delay, as it is in the JSON, and its lines."""
    if not pair.sizes:
        return {}
    lines = {} if series is None else series.edges_bps
    drawn = [lines.get((pair.sell, pair.buy, sized.notional)) for sized in pair.sizes]
    return {
        "sizes": msgspec.to_builtins(pair.sizes),
        "tiers": [msgspec.to_builtins(tier.sizes) for tier in pair.tiers],
        "edges": [None if line is None else _packed(line, 0.0) for line in drawn],
        "depth": pair.depth,
        "trusted": duration(pair.trusted_s),
    }


def _lead(pair: Pair, report: Report) -> dict[str, object]:
    """Turn a lag so that above 0 the market that is sold moves first."""
    lead = report.lead(pair.sell, pair.buy)
    if lead is None:
        return {}
    sign = 1.0 if lead.first == pair.sell else -1.0
    known = (lead.lag_ms, lead.lag_low_ms, lead.lag_high_ms)
    at, low, high = (None if x is None else sign * x for x in known)
    order = slice(None) if sign > 0 else slice(None, None, -1)
    return {
        "lead": {
            "lags": [sign * x for x in lead.lags_ms[order]],
            "correlations": list(lead.correlations[order]),
            "at": at,
            "zone": None if low is None or high is None else sorted((low, high)),
            "words": lead_words(lead),
        }
    }


def _at_fees(pair: Pair, report: Report) -> dict[str, object]:
    """Give for each tier the gap in bps that pays both taker fees, and by what an edge is scaled.

    Over 1 the edge is (bid / ask) (1 - fee to sell) / (1 + fee to buy): at other fees it is another
    multiple of the same.
    """
    kept = [_kept(pair, tier, report) for tier in report.choice.tiers or (None,)]
    return {
        "break_evens": [None if k is None else 1e4 * (1 / k - 1) for k in kept],
        "scales": [None if k is None or kept[0] is None else k / kept[0] for k in kept],
    }


def _kept(pair: Pair, tier: str | None, report: Report) -> float | None:
    """Give what both taker fees leave of a ratio of bid to ask."""
    if tier == FREE:
        return 1.0
    told = report.provenance
    taker = {f.venue: f.taker for f in told.tiers.get(tier or "", told.fees)}
    sell, buy = taker.get(venue_of(pair.sell)), taker.get(venue_of(pair.buy))
    return None if sell is None or buy is None else (1 - sell) / (1 + buy)


def _middle(*drawn: Drawn) -> float:
    """Give a price near all that are drawn: float32 is exact enough for differences from it."""
    known = [d.last[np.isfinite(d.last)] for d in drawn]
    prices = np.concatenate(known)
    return float(np.median(prices)) if len(prices) else 0.0


def _packed(drawn: Drawn, base: float) -> str:
    """Low, high and last of every bucket: little-endian float32, less ``base``, in base64."""
    values = np.concatenate([drawn.low, drawn.high, drawn.last]) - base
    return base64.b64encode(values.astype("<f4").tobytes()).decode()
