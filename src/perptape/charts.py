"""A table in, a matplotlib figure out; computes nothing.

Figures are made without pyplot, so nothing global changes and none is left open.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perptape.events import NS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BPS = 1e4
Times = NDArray[np.datetime64]
COLOURS = {"bid": "#0072b2", "ask": "#d55e00", "ratio": "#12785a", "untrusted": "#8a9097"}
"""Okabe and Ito's blue and vermilion, which every eye tells apart, and a green for the ratio."""


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


def to_png(figure: "Figure") -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    FigureCanvasAgg(figure)
    into = io.BytesIO()
    figure.savefig(into, format="png", metadata={"Software": None})
    return into.getvalue()


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
