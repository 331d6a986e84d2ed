"""Findings -> pictures: the notebook's figure of every two markets, and what a pair was worth."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING

import polars as pl

from perptape import charts
from perptape.findings import Lasting, Pair, Report, Sized
from perptape.series import Drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Named = tuple[str, "Figure"]


def pictures(report: Report) -> Iterator[tuple[str, bytes]]:
    """Give file names and PNGs: of every pair that has a gap, and more of those with an edge.

    The notebook's figure is one for both directions; edge by size and by delay, and survival, are
    of each direction in which an edge was ever at zero or above after fees.
    """
    for name, figure in chain(_notebook(report), *map(_worth, report.pairs)):
        yield f"{_file_name(name)}.png", charts.to_png(figure)


def _notebook(report: Report) -> Iterator[Named]:
    found = {(p.sell, p.buy): p for p in report.pairs}
    holes = {
        m.market: [(i.start, i.end) for i in (*m.intervals, *m.absent)] for m in report.markets
    }
    for i, j in combinations([m.market for m in report.markets], 2):
        pair = found.get((i, j))
        if pair is None or pair.gap_bps is None:
            continue
        mean = pair.gap_bps.mean
        figure = charts.pair(
            _drawn_table(report, i, j),
            i,
            j,
            mean_ratio=None if mean is None else 1 + mean / charts.BPS,
            untrusted=holes[i] + holes[j],
        )
        yield f"{i}__{j}", figure


# ---- what a pair was worth ----------------------------------------------------------------------


def _worth(pair: Pair) -> Iterator[Named]:
    opened = [s for s in pair.sizes if s.delays]
    if not opened:
        return
    names = {"sell": pair.sell, "buy": pair.buy}
    of, stem = (pair.sell, pair.buy), f"{pair.sell}__{pair.buy}"
    yield f"{stem}__edge_by_size", charts.edge_by_size(_sizes(pair, names), *of)
    yield f"{stem}__edge_by_delay", charts.edge_by_delay(_delays(opened, names), *of)
    lasting = [(s.notional, s.lasting) for s in opened if s.lasting and s.lasting.t_s]
    if lasting:
        yield f"{stem}__survival", charts.survival(_curves(lasting, names), *of)


def _sizes(pair: Pair, names: Mapping[str, str]) -> pl.DataFrame:
    tiers = [("", pair.sizes), *((tier.name, tier.sizes) for tier in pair.tiers)]
    return pl.DataFrame(
        [
            {**names, "tier": tier, "notional": s.notional}
            | {f"{part}_bps": getattr(s.edge_bps, part) for part in ("median", "p5", "p95", "max")}
            for tier, sizes in tiers
            for s in sizes
            if s.edge_bps
        ]
    )


def _delays(sizes: Sequence[Sized], names: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {**names, "notional": s.notional, "threshold_bps": 0.0, "delay_ms": d.delay_ms,
             "mean_bps": d.mean_bps, "share": d.share}
            for s in sizes
            for d in s.delays
        ]
    )  # fmt: skip


def _curves(found: Sequence[tuple[float, Lasting]], names: Mapping[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {**names, "notional": notional, "t_s": t_s, "survival": share, "low": low, "high": high}
            for notional, one in found
            for t_s, share, low, high in zip(one.t_s, one.share, one.low, one.high, strict=True)
        ]
    )


# ---- the notebook's -----------------------------------------------------------------------------


def _drawn_table(report: Report, i: str, j: str) -> pl.DataFrame:
    series = report.series_of(i)
    if series is None:
        raise KeyError(i)
    gap = series.gaps_bps[i, j]
    lines = {
        "bid_i": series.bids[i],
        "ask_i": series.asks[i],
        "bid_j": series.bids[j],
        "ask_j": series.asks[j],
        "ratio": Drawn(*(1 + part / charts.BPS for part in (gap.low, gap.high, gap.last))),
    }
    columns = {
        f"{name}_{part}": getattr(drawn, part)
        for name, drawn in lines.items()
        for part in ("low", "high", "last")
    }
    return pl.DataFrame({"ts_start": series.ts, "ts_end": series.ts + series.step_ns, **columns})


def _file_name(text: str) -> str:
    """Keep what a path can hold anywhere: nothing of it can leave the directory."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)[:200]
