"""Findings -> pictures: the notebook's figure of every pair, one for both directions."""

import re
from collections.abc import Iterator
from itertools import combinations

import polars as pl

from perptape import charts
from perptape.findings import Drawn, Report


def pictures(report: Report) -> Iterator[tuple[str, bytes]]:
    """Give the file name and the PNG of every pair that has a gap."""
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
        yield f"{_file_name(f'{i}__{j}')}.png", charts.to_png(figure)


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
