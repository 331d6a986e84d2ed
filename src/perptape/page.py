"""Findings -> one HTML page that needs no server and trusts nothing that a tape said.

The page holds one script and one style sheet, each allowed by its hash; the data is a block that
no browser executes. There is no time of making in it: the same findings give the same bytes.
"""

import base64
import hashlib
import html
import json
from functools import cache
from importlib.resources import files

import numpy as np

from perptape.events import NS
from perptape.findings import Drawn, Market, Pair, Report, Series, ranked
from perptape.instruments import quote_of
from perptape.sections import SECTIONS
from perptape.sections.completeness import coalesced
from perptape.sections.one_pair import pair_words
from perptape.sections.opening import title
from perptape.wording import duration, instrument_of, labels, venue_of

ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def to_html(report: Report) -> str:
    """Make the whole page: one string, self-contained."""
    body = "".join(section(report) for section in SECTIONS)
    script, style = _script(), _style()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(script, style)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{html.escape(title(report))} \N{MIDDLE DOT} perptape</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n<main>{body}</main>\n"
        f'<script type="application/json" id="series">{script_json(_drawing(report))}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def policy(script: str, style: str) -> str:
    """Write the content security policy: this script, this style sheet, nothing from anywhere."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def script_json(value: object) -> str:
    """Write JSON that can stand inside a script element: no character of it can end the element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(
        ESCAPES
    )


@cache
def _asset(name: str) -> str:
    return (files("perptape") / "assets" / name).read_text(encoding="utf-8")


def _script() -> str:
    licence = f"/*\nuPlot 1.6.32\n{_asset('uplot.LICENSE')}\n*/\n"
    return licence + _asset("uPlot.iife.min.js") + "\n" + _asset("report.js")


def _style() -> str:
    return _asset("uPlot.min.css") + "\n" + _asset("report.css")


# ---- what the charts draw -----------------------------------------------------------------------


def _drawing(report: Report) -> dict[str, object]:
    best = next(iter(ranked(report.pairs)), None)
    return {
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
    }


def _pair(pair: Pair, report: Report) -> dict[str, object]:
    places = {m.market: k for k, m in enumerate(report.markets)}
    series = report.series_of(pair.sell)
    gap = None if series is None else series.gaps_bps.get((pair.sell, pair.buy))
    return {
        "sell": places[pair.sell],
        "buy": places[pair.buy],
        "labels": labels(pair.sell, pair.buy),
        "words": pair_words(pair),
        "gap": None if gap is None else _packed(gap, 0.0),
        "mean": pair.gap_bps.mean if pair.gap_bps else None,
        "break_even": _break_even(pair, report),
    }


def _break_even(pair: Pair, report: Report) -> float | None:
    """Give the gap in bps that pays both taker fees: (1 + buyer's) / (1 - seller's) - 1."""
    taker = {f.venue: f.taker for f in report.provenance.fees}
    sell, buy = taker.get(venue_of(pair.sell)), taker.get(venue_of(pair.buy))
    return None if sell is None or buy is None else 1e4 * ((1 + buy) / (1 - sell) - 1)


def _middle(*drawn: Drawn) -> float:
    """Give a price near all that are drawn: float32 is exact enough for differences from it."""
    known = [d.last[np.isfinite(d.last)] for d in drawn]
    prices = np.concatenate(known)
    return float(np.median(prices)) if len(prices) else 0.0


def _packed(drawn: Drawn, base: float) -> str:
    """Low, high and last of every bucket: little-endian float32, less ``base``, in base64."""
    values = np.concatenate([drawn.low, drawn.high, drawn.last]) - base
    return base64.b64encode(values.astype("<f4").tobytes()).decode()
