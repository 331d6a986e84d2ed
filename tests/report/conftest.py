"""Findings made up of four venues, one of which falls silent, and of hostile words."""

import msgspec
import numpy as np
import pytest

from perptape.events import NS
from perptape.findings import (
    Contract,
    Fee,
    Grid,
    Interval,
    Latency,
    Market,
    Pair,
    Provenance,
    Report,
    Source,
    Spread,
)
from perptape.report import Asked, build
from perptape.series import Drawn, Series

from .deep import write

T0 = 1_723_075_200 * NS  # 2024-08-08 00:00:00 UTC
BUCKETS, STEP_NS = 600, 150_000_000
TAKER = {"bitget": 6e-4, "bybit": 5.5e-4, "gateio": 5e-4, "htx": 5e-4}
SILENT = slice(300, 380)  # buckets in which htx is not trusted
LEVELS_BPS = {"bitget": 0.6, "bybit": -0.4, "gateio": 0.1, "htx": -1.5}


def spread(low, high, last):
    known = last[np.isfinite(last)]
    p5, median, p95 = np.quantile(known, [0.05, 0.5, 0.95])
    return Spread(
        mean_time=known.mean(),
        mean=known.mean(),
        median=median,
        p5=p5,
        p95=p95,
        min=np.nanmin(low),
        max=np.nanmax(high),
        share_positive=float((known > 0).mean()),
    )


def prices(rng, venue, common):
    mid = common * (1 + 1e-4 * (LEVELS_BPS[venue] + np.cumsum(rng.normal(0, 0.06, BUCKETS))))
    half = 0.05 + rng.exponential(0.05, BUCKETS)
    wobble = rng.exponential(0.8, BUCKETS)
    bid, ask = (Drawn(p - wobble, p + wobble, p) for p in (mid - half, mid + half))
    if venue == "htx":
        for values in (bid.low, bid.high, bid.last, ask.low, ask.high, ask.last):
            values[SILENT] = np.nan
    return bid, ask


def gap_of(bid, ask):
    low, high, last = (
        1e4 * (b / a - 1)
        for b, a in ((bid.low, ask.high), (bid.high, ask.low), (bid.last, ask.last))
    )
    return Drawn(low, high, last)


def pair_of(sell, buy, gap, *, same_quote=True):
    fee = TAKER[sell.partition(":")[0]] + TAKER[buy.partition(":")[0]]
    gross, net = (
        spread(gap.low, gap.high, gap.last),
        (g - 1e4 * fee for g in (gap.low, gap.high, gap.last)),
    )
    return Pair(
        sell=sell,
        buy=buy,
        same_quote=same_quote,
        trusted_s=float(np.isfinite(gap.last).sum() * STEP_NS / NS),
        gap_bps=gross,
        grid=Grid(100, gross.median, gross.mean, gross.p5, gross.p95, gross.min, gross.max, 0.25),
        edge_bps=spread(*net),
        top_notional=23_456.7,
    )


def market_of(name):
    hole = Interval(T0 + 300 * STEP_NS, T0 + 380 * STEP_NS, "silence", "nothing heard for 10 s")
    start = Interval(T0, T0 + 4 * STEP_NS, "start")
    gone_s = 12.6 if name.startswith("htx") else 0.6
    return Market(
        market=name,
        quotes=12_345,
        trusted_s=90.0 - gone_s,
        untrusted_s=gone_s,
        latency_ms=Latency(-4.5, 12.3) if name.startswith("bybit") else None,
        intervals=(start, hole) if gone_s > 1 else (start,),
    )


def make(instruments=None, *, rename=lambda name: name, notes=()):
    """Report over the four venues; ``rename`` gives their markets other names."""
    rng = np.random.default_rng(7)
    instruments = instruments or dict.fromkeys(TAKER, "BTC-USDT-PERP")
    common = 60_000 * np.exp(np.cumsum(rng.normal(0, 2e-5, BUCKETS)))
    books = {v: prices(rng, v, common) for v in instruments}
    plain = {v: f"{v}:{i}" for v, i in instruments.items()}
    name = {v: rename(n) for v, n in plain.items()}
    ordered = [(s, b) for s in instruments for b in instruments if s != b]
    gaps = {(s, b): gap_of(books[s][0], books[b][1]) for s, b in ordered}
    quotes = {v: i.split("-")[1] for v, i in instruments.items()}
    pairs = [
        msgspec.structs.replace(
            pair_of(plain[s], plain[b], gaps[s, b], same_quote=quotes[s] == quotes[b]),
            sell=name[s],
            buy=name[b],
        )
        for s, b in ordered
    ]
    return Report(
        ts_from=T0,
        ts_to=T0 + BUCKETS * STEP_NS,
        markets=tuple(
            msgspec.structs.replace(market_of(plain[v]), market=name[v]) for v in instruments
        ),
        pairs=tuple(pairs),
        provenance=Provenance(
            perptape="0.1.0",
            tapes=(Source("night-1", "ab" * 32, "perptape 0.1.0"),),
            parameters={"clock": "recv", "max_age_s": "none", "grid_ms": "100"},
            contracts=tuple(Contract(name[v], "BTC", "linear", 0.001, 0.1) for v in instruments),
            fees=tuple(Fee(v, TAKER[v], "its page", "2026-01-05") for v in instruments),
            notes=notes,
        ),
        series=(
            Series(
                ts=T0 + STEP_NS * np.arange(BUCKETS, dtype=np.int64),
                step_ns=STEP_NS,
                bids={name[v]: books[v][0] for v in instruments},
                asks={name[v]: books[v][1] for v in instruments},
                gaps_bps={(name[s], name[b]): gaps[s, b] for s, b in ordered},
            ),
        ),
    )


@pytest.fixture(scope="session")
def made():
    """The function that makes findings."""
    return make


@pytest.fixture(scope="session")
def report():
    return make()


@pytest.fixture(scope="session")
def deep_tape(tmp_path_factory):
    return write(tmp_path_factory.mktemp("deep") / "all-channels")


@pytest.fixture(scope="session")
def deep(deep_tape):
    """Report of a tape with every channel, of which all is known."""
    return build(Asked(tapes=(deep_tape,)))
