"""The notebook's figure, looked at as pixels."""

import io

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

import perptape as pt
from perptape import charts
from perptape.measures.lead_lag import LeadLag

N, NS = 500, 1_000_000_000
T0 = 1_723_075_200 * NS


def table(**changed):
    steps = np.arange(N)
    lines = {"bid_i": 100.0, "ask_i": 100.1, "bid_j": 100.2, "ask_j": 100.3, "ratio": 0.999}
    columns = {
        f"{line}_{part}": value + 0.01 * np.sin(steps / 30)
        for line, value in lines.items()
        for part in ("low", "high", "last")
    }
    ts = T0 + steps * NS
    return pl.DataFrame({"ts_start": ts, "ts_end": ts + NS, **columns, **changed})


def pixels(figure):
    return imread(io.BytesIO(charts.to_png(figure)))[:, :, :3]


def inside(image, axes):
    box = axes.get_window_extent()
    height = image.shape[0]
    return image[int(height - box.y1) + 2 : int(height - box.y0) - 2, int(box.x0) + 2 : int(box.x1)]


def test_three_panels_with_ink_in_each():
    figure = charts.pair(table(), "a:X", "b:X", mean_ratio=0.9995)
    image = pixels(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == [
        "bid of a:X against ask of b:X",
        "bid of b:X against ask of a:X",
        "bid of a:X / ask of b:X",
    ]
    for axes in figure.axes[:3]:
        panel = inside(image, axes)
        assert np.ptp(panel) > 0.5 and (panel.min(axis=2) < 0.6).sum() > 300


def test_an_extreme_of_one_step_is_seen():
    high = table()["ratio_high"].to_numpy().copy()
    high[250] = 1.5
    figure = charts.pair(table(ratio_high=high), "a", "b")
    panel = inside(pixels(figure), figure.axes[2])
    top = panel[: panel.shape[0] // 3]
    inked = np.flatnonzero((np.ptp(top, axis=2) > 0.05).sum(axis=0) > top.shape[0] * 0.5)
    assert len(inked) and abs(inked.mean() / panel.shape[1] - 0.5) < 0.01


def test_the_last_step_before_a_hole_keeps_its_extreme():
    last, high = (table()[f"ratio_{part}"].to_numpy().copy() for part in ("last", "high"))
    high[99] = 1.5
    last[100:], high[100:] = np.nan, np.nan
    figure = charts.pair(table(ratio_last=last, ratio_high=high), "a", "b")
    band = figure.axes[2].collections[0].get_paths()[0]
    assert band.get_extents().height > 0.4


def test_nothing_is_drawn_where_nothing_is_known_and_untrusted_time_is_grey():
    hole = slice(200, 300)
    lost = {}
    for name in table().columns[2:]:
        values = table()[name].to_numpy().copy()
        values[hole] = np.nan
        lost[name] = values
    spans = [(T0 + 200 * NS, T0 + 300 * NS)]
    figure = charts.pair(table(**lost), "a", "b", untrusted=spans)
    for axes in figure.axes[:2]:
        panel = inside(pixels(figure), axes)
        width = panel.shape[1]
        middle = panel[: panel.shape[0] // 2, int(width * 0.42) : int(width * 0.58)]
        assert np.ptp(middle, axis=2).max() < 0.1 and middle.mean() < 0.95


def test_time_is_real_and_utc():
    figure = charts.pair(table(), "a", "b")
    pixels(figure)
    bottom = figure.axes[2]
    labels = [label.get_text() for label in bottom.get_xticklabels()]
    assert "00:02" in labels and "UTC" in bottom.get_xlabel()


def test_a_name_with_dollar_signs_is_no_formula():
    assert pixels(charts.pair(table(), "$\\frac{$", "b$x$")).shape[0] == 900


def test_the_same_figure_gives_the_same_bytes():
    one, two = (charts.to_png(charts.pair(table(), "a", "b")) for _ in range(2))
    assert one == two


def test_nothing_known_at_all_still_draws():
    nothing = {name: np.full(N, np.nan) for name in table().columns[2:]}
    assert pixels(charts.pair(table(**nothing), "a", "b")).shape[0] == 900


# ---- curves -------------------------------------------------------------------------------------


A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"


def delays(*notionals):
    rows = [
        (A, B, "base", n, 0.0, float(ms), 10.0, 5.0 - ms / 100 - k, 5.0, 1.0 - ms / 2000)
        for k, n in enumerate(notionals)
        for ms in (0, 20, 1000)
    ]
    names = ("sell", "buy", "tier", "notional", "threshold_bps", "delay_ms", "held_s", "mean_bps",
             "median_bps", "share")  # fmt: skip
    return pl.DataFrame(rows, schema=names, orient="row")


def test_an_edge_by_delay_draws_a_line_for_each_size():
    figure = charts.edge_by_delay(delays(1e3, 1e4), A, B)
    above, below = figure.axes
    assert [line.get_label() for line in above.lines][:2] == ["1000", "10000"]
    assert above.lines[0].get_ydata().tolist() == [5.0, 4.8, -5.0]
    assert below.lines[0].get_ydata().tolist() == [1.0, 0.99, 0.5]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["0", "20", "1000"]
    one = charts.edge_by_delay(delays(1e3, 1e4), A, B, notional=1e4)
    assert one.axes[0].lines[0].get_ydata().tolist() == [4.0, 3.8, -6.0]
    assert np.ptp(inside(pixels(figure), above)) > 0.5


def test_an_edge_by_size_leaves_out_what_no_book_held():
    rows = [(A, B, "base", 1e3, -2.0, -3.0, -1.0, 4.0), (A, B, "base", 1e4, *4 * [None])]
    names = ("sell", "buy", "tier", "notional", "median_bps", "p5_bps", "p95_bps", "max_bps")
    figure = charts.edge_by_size(pl.DataFrame(rows, schema=names, orient="row"), A, B)
    median, best = figure.axes[0].lines[:2]
    assert median.get_ydata()[0] == -2 and np.isnan(median.get_ydata()[1])
    assert best.get_ydata()[0] == 4
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["1000", "10000"]


def test_a_delay_of_which_nothing_is_known_leaves_no_shift():
    rows = [(A, B, 1e3, 0.0, d, 5.0 - d, 0.5) for d in (0.0, 5.0, 20.0)]
    rows += [(A, B, 1e4, 0.0, d, 4.0, 0.5) for d in (5.0, 20.0)]
    names = ("sell", "buy", "notional", "threshold_bps", "delay_ms", "mean_bps", "share")
    figure = charts.edge_by_delay(pl.DataFrame(rows, schema=names, orient="row"), A, B)
    whole, short = figure.axes[0].lines[:2]
    assert list(whole.get_xdata()) == [0, 1, 2] and list(short.get_xdata()) == [1, 2]


def test_survival_begins_at_one_and_has_a_band():
    episodes = pl.DataFrame(
        {"duration_s": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "censored": [False] * 5 + [True]}
    )
    figure = charts.survival(pt.survival(episodes).curve)
    (axes,) = figure.axes
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 4, 5]
    assert line.get_ydata()[0] == 1 and line.get_ydata()[-1] == pytest.approx(1 / 6)
    assert axes.collections[0].get_paths()[0].get_extents().height > 0.5


def test_a_lead_shows_its_lag_and_the_interval_of_it():
    names = ("first", "second", "lag_ms", "lag_low_ms", "lag_high_ms")
    rows = pl.DataFrame([(A, B, 40.0, 20.0, 60.0)], schema=names, orient="row")
    lags = np.arange(-100.0, 101, 20)
    curve = pl.DataFrame({"lag_ms": lags, "correlation": np.exp(-abs(lags - 40) / 50)})
    curve = curve.with_columns(first=pl.lit(A), second=pl.lit(B))
    figure = charts.lead_lag(LeadLag(rows, curve), A, B)
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata()[axes.lines[0].get_ydata().argmax()] == 40
    assert axes.lines[1].get_xdata() == [40, 40]
    assert axes.patches[0].get_extents().width > 10
    assert A in axes.get_title(loc="left")


def test_funding_tells_what_was_paid_from_what_was_expected():
    ts = pl.Series([T0, T0 + NS, T0 + 2 * NS]).cast(pl.Datetime("ns", "UTC"))
    rows = pl.DataFrame(
        {"venue": "a", "instrument": "BTC-USDT-PERP", "ts_recv": ts, "ts_funding": ts,
         "rate": [1e-5, 2e-5, 3e-5], "is_settled": [False, False, True]}
    )  # fmt: skip
    figure = charts.funding(rows, [A])
    expected, paid = figure.axes[0].lines[:2]
    assert expected.get_ydata() == pytest.approx([0.1, 0.2]) and expected.get_label() == A
    assert paid.get_ydata() == pytest.approx([0.3]) and paid.get_marker() == "o"
