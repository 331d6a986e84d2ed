"""A table in, a matplotlib figure out; computes nothing.

Figures are made without pyplot, so nothing global changes and none is left open.
"""

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perptape.events import NS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from perptape.measures.lead_lag import LeadLag

BPS = 1e4
Times = NDArray[np.datetime64]
COLOURS = {"bid": "#0072b2", "ask": "#d55e00", "ratio": "#12785a", "untrusted": "#8a9097"}
"""Okabe and Ito's blue and vermilion, which every eye tells apart, and a green for the ratio."""
LINES = ("#0072b2", "#d55e00", "#12785a", "#cc79a7", "#e69f00", "#56b4e9", "#191c1f")
MARKERS = "osD^vP*"
"""Of one line after the other: told apart without colour too."""


def pair(
    table: pl.DataFrame,
    i: str,
    j: str,
    *,
    mean_ratio: float | None = None,
    untrusted: Sequence[tuple[int, int]] = (),
) -> "Figure":
    """Draw bid of i against ask of j, bid of j against ask of i, and the ratio bid i / ask j.

    ``table`` has a row per stretch of time: ``ts_start`` and ``ts_end`` (ns or Datetime, UTC) and
    ``bid_i``, ``ask_i``, ``bid_j``, ``ask_j`` (quote units per base coin) and ``ratio``, each as
    ``_low``, ``_high``, ``_last``; null or NaN where nothing is known. The line is the last value,
    the band around it reaches from the lowest to the highest. ``untrusted`` (ns) is shaded.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - 1.5 s that only figures need

    figure = Figure(figsize=(11, 9), dpi=100, layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True)
    edges = _edges(table)
    _against(above, table, edges, (f"bid of {i}", "bid_i"), (f"ask of {j}", "ask_j"))
    _against(middle, table, edges, (f"bid of {j}", "bid_j"), (f"ask of {i}", "ask_i"))
    _ratio(below, table, edges, (i, j), mean_ratio)
    for axes in (above, middle, below):
        _shade(axes, untrusted, edges)
        axes.grid(color="#e4e6e8", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _time_axis(below, edges)
    return figure


def edge_by_delay(
    delays: pl.DataFrame,
    sell: str,
    buy: str,
    *,
    notional: float | None = None,
    threshold_bps: float | None = None,
) -> "Figure":
    """Draw what became of a pair's edge after a delay, and how often it was still there.

    ``delays``: the table of that name of ``edges``, or what ``edge_persistence`` gives; of several
    sizes or thresholds each has a line, unless one is named.
    """
    rows = _chosen(delays, sell, buy, notional=notional, threshold_bps=threshold_bps)
    figure, (above, below) = _panels(2, (8, 7))
    ticks = rows["delay_ms"].unique().sort().to_list()
    for k, (label, line) in enumerate(_lines(rows, "notional", "threshold_bps")):
        line = line.sort("delay_ms")  # noqa: PLW2901 - the same line, in order
        places = [ticks.index(ms) for ms in line["delay_ms"]]
        for axes, column in ((above, "mean_bps"), (below, "share")):
            _marked(axes, places, line[column], label, k)
    below.set_xticks(range(len(ticks)), [f"{ms:g}" for ms in ticks])
    below.set_xlabel("delay of both legs, ms")
    below.set_ylim(-0.02, 1.02)
    _titled(above, f"edge left: sell {sell}, buy {buy}", "mean edge, bps")
    _titled(below, "still at the threshold", "share of the time")
    above.axhline(0, color="#191c1f", linestyle=":", linewidth=1)
    return figure


def edge_by_size(edges: pl.DataFrame, sell: str, buy: str) -> "Figure":
    """Draw a pair's edge at each size: its median, from p5 to p95, and its best moment.

    ``edges``: the table of that name of ``edges``; of several tiers of fees each has its lines. The
    size is in the quote currency of the purchase, the edge in bps.
    """
    rows = _chosen(edges, sell, buy)
    figure, (axes,) = _panels(1, (8, 5))
    sizes = rows["notional"].unique().sort().to_list()
    for k, (label, line) in enumerate(_lines(rows, "tier")):
        line = line.sort("notional")  # noqa: PLW2901
        places = [sizes.index(size) for size in line["notional"]]
        low, high = (_floats(line[name]) for name in ("p5_bps", "p95_bps"))
        axes.fill_between(places, low, high, color=_colour(k), alpha=0.2, linewidth=0)
        _marked(axes, places, line["median_bps"], f"{label} median, p5 to p95".strip(), k)
        best = _floats(line["max_bps"])
        axes.plot(places, best, color=_colour(k), linestyle="--", label=f"{label} at best".strip())
    axes.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
    axes.set_xlabel("size, in the quote currency of the purchase")
    axes.axhline(0, color="#191c1f", linestyle=":", linewidth=1)
    _titled(axes, f"edge by size: sell {sell}, buy {buy}", "edge, bps, after fees")
    return figure


def survival(curve: pl.DataFrame, sell: str | None = None, buy: str | None = None) -> "Figure":
    """Draw how long episodes last, with bands: ``curve`` of what ``survival`` gives.

    Each group has a line; name a pair, or take few with ``filter`` first.
    """
    if sell is not None and buy is not None:
        curve = _chosen(curve, sell, buy)
    figure, (axes,) = _panels(1, (8, 5))
    groups = [c for c in curve.columns if c in {"sell", "buy", "threshold_bps", "notional"}]
    for k, (label, line) in enumerate(_lines(curve, *groups)):
        t_s = np.concatenate([[0.0], _floats(line["t_s"])])
        share, low, high = (
            np.concatenate([[1.0], _floats(line[name])]) for name in ("survival", "low", "high")
        )
        axes.fill_between(t_s, low, high, step="post", color=_colour(k), alpha=0.2, linewidth=0)
        axes.step(t_s, share, where="post", color=_colour(k), label=label)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("s after it opened")
    whose = "" if sell is None or buy is None else f": sell {sell}, buy {buy}"
    _titled(axes, f"how long an episode lasts{whose}", "share still open, 95 % band")
    return figure


def lead_lag(found: "LeadLag", first: str, second: str) -> "Figure":
    """Draw the correlation of two markets by lag, with the lag and its interval.

    Right of 0 the first moves before the second.
    """
    figure, (axes,) = _panels(1, (8, 5))
    is_pair = (pl.col("first") == first) & (pl.col("second") == second)
    curve, rows = found.curve.filter(is_pair), found.pairs.filter(is_pair)
    axes.plot(
        _floats(curve["lag_ms"]),
        _floats(curve["correlation"]),
        color=COLOURS["ratio"],
        linewidth=1.5,
    )
    for row in rows.iter_rows(named=True):
        if row["lag_low_ms"] is not None:
            span = (row["lag_low_ms"], row["lag_high_ms"])
            axes.axvspan(*span, color=COLOURS["untrusted"], alpha=0.25, linewidth=0)
        if row["lag_ms"] is not None:
            axes.axvline(row["lag_ms"], color="#191c1f", linewidth=1, label=f"{row['lag_ms']:g} ms")
    axes.axvline(0, color="#191c1f", linestyle=":", linewidth=1)
    axes.set_xlabel("lag, ms; grey: its interval")
    _titled(axes, f"right of 0 {first} moves before {second}", "correlation")
    return figure


def funding(rows: pl.DataFrame, markets: Sequence[str]) -> "Figure":
    """Draw funding per hour of some markets along time.

    ``rows``: the table ``funding``; what was paid is a dot where it was paid, what was expected a
    step from when it was heard.
    """
    figure, (axes,) = _panels(1, (9, 5))
    name = pl.concat_str(
        pl.col("venue").cast(pl.String), pl.lit(":"), pl.col("instrument").cast(pl.String)
    )
    own = rows.with_columns(name.alias("market"), pl.col("rate") * BPS)
    for k, market in enumerate(markets):
        line = own.filter(market=market).sort("ts_recv", maintain_order=True)
        paid = line["is_settled"].fill_null(value=False)
        looks: tuple[tuple[pl.DataFrame, str, dict[str, Any]], ...] = (
            (line.filter(~paid), "ts_recv", {"drawstyle": "steps-post", "label": _plain(market)}),
            (line.filter(paid), "ts_funding", {"marker": "o", "linestyle": "none"}),
        )
        for part, column, look in looks:
            if len(part):
                times = part[column].cast(pl.Int64).to_numpy().astype("datetime64[ns]")
                axes.plot(times, _floats(part["rate"]), color=_colour(k), **look)
    axes.axhline(0, color="#191c1f", linestyle=":", linewidth=1)
    axes.set_xlabel("UTC; a dot: paid")
    _titled(axes, "funding: longs pay shorts", "bps per hour")
    return figure


def to_png(figure: "Figure") -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    FigureCanvasAgg(figure)
    into = io.BytesIO()
    figure.savefig(into, format="png", metadata={"Software": None})
    return into.getvalue()


# ---- curves -------------------------------------------------------------------------------------


def _panels(count: int, size: tuple[float, float]) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    found = np.atleast_1d(figure.subplots(count, 1, sharex=True)).tolist()
    for axes in found:
        axes.grid(color="#e4e6e8", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def _titled(axes: "Axes", title: str, y_label: str) -> None:
    axes.set_title(_plain(title), loc="left", fontsize=11)
    axes.set_ylabel(y_label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False, fontsize=9)


def _chosen(table: pl.DataFrame, sell: str, buy: str, **others: float | None) -> pl.DataFrame:
    """Take one pair's rows, in the order of the table."""
    only = {name: value for name, value in others.items() if value is not None}
    return table.filter(sell=sell, buy=buy, **only)


def _lines(rows: pl.DataFrame, *names: str) -> Iterator[tuple[str, pl.DataFrame]]:
    """Give the rows of each line with its label: what differs between them."""
    differ = [name for name in names if rows[name].n_unique() > 1]
    if not differ:
        yield "", rows
        return
    for key, part in rows.partition_by(differ, as_dict=True, maintain_order=True).items():
        said = (f"{x:g}" if isinstance(x, float) else str(x) for x in key)
        yield _plain(" ".join(said)), part


def _colour(k: int) -> str:
    return LINES[k % len(LINES)]


def _floats(column: pl.Series) -> NDArray[np.float64]:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _marked(axes: "Axes", places: Sequence[int], column: pl.Series, label: str, k: int) -> None:
    marker = MARKERS[k % len(MARKERS)]
    axes.plot(places, _floats(column), color=_colour(k), marker=marker, label=label or None)


# ---- a pair -------------------------------------------------------------------------------------


def _edges(table: pl.DataFrame) -> Times:
    """Each stretch as its two ends, [2n] of datetime64[ns]."""
    ends = [table[name].cast(pl.Int64).to_numpy() for name in ("ts_start", "ts_end")]
    return np.column_stack(ends).ravel().astype("datetime64[ns]")


def _against(
    axes: "Axes",
    table: pl.DataFrame,
    edges: Times,
    bid: tuple[str, str],
    ask: tuple[str, str],
) -> None:
    for (label, line), colour in ((bid, COLOURS["bid"]), (ask, COLOURS["ask"])):
        _line(axes, table, edges, line, (_plain(label), colour))
    axes.set_title(_plain(f"{bid[0]} against {ask[0]}"), loc="left", fontsize=11)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.legend(loc="best", frameon=False, fontsize=9)


def _ratio(
    axes: "Axes",
    table: pl.DataFrame,
    edges: Times,
    names: tuple[str, str],
    mean_ratio: float | None,
) -> None:
    _line(axes, table, edges, "ratio", ("ratio", COLOURS["ratio"]))
    if mean_ratio is not None:
        label = f"mean {mean_ratio:.6f} ({BPS * (mean_ratio - 1):.3f} bps)"
        axes.axhline(mean_ratio, color="#191c1f", linestyle="--", linewidth=1, label=label)
    axes.set_title(_plain(f"bid of {names[0]} / ask of {names[1]}"), loc="left", fontsize=11)
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    bps = axes.secondary_yaxis("right", functions=(_to_bps, _from_bps))
    bps.set_ylabel("gap, bps")
    axes.legend(loc="best", frameon=False, fontsize=9)


def _to_bps(ratio: Any) -> Any:
    return BPS * (ratio - 1)


def _from_bps(bps: Any) -> Any:
    return bps / BPS + 1


def _line(
    axes: "Axes", table: pl.DataFrame, edges: Times, line: str, drawn: tuple[str, str]
) -> None:
    label, colour = drawn
    low, high, last = (
        np.repeat(table[f"{line}_{part}"].cast(pl.Float64).fill_null(np.nan).to_numpy(), 2)
        for part in ("low", "high", "last")
    )
    axes.fill_between(edges, low, high, color=colour, alpha=0.3, linewidth=0.6)
    axes.plot(edges, last, color=colour, linewidth=1, label=label)


def _shade(axes: "Axes", untrusted: Sequence[tuple[int, int]], edges: Times) -> None:
    if not len(edges):
        return
    first, last = edges[0], edges[-1]
    spans = np.array(untrusted, np.int64).reshape(-1, 2).astype("datetime64[ns]")
    spans = np.clip(spans, first, last)
    for start, end in spans[spans[:, 1] > spans[:, 0]]:
        axes.axvspan(start, end, color=COLOURS["untrusted"], alpha=0.25, linewidth=0)


def _time_axis(axes: "Axes", edges: Times) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415

    locator = AutoDateLocator(tz="UTC")  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz="UTC")  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    axes.set_xlabel("receive time, UTC; grey: not trusted")
    if len(edges) and edges[-1] - edges[0] > np.timedelta64(NS // 1000):
        axes.set_xlim(edges[0], edges[-1])


def _plain(text: str) -> str:
    """A dollar sign would start a formula."""
    return text.replace("$", r"\$")
