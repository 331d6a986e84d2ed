"""The notebook's figure, looked at as pixels."""

import io

import numpy as np
import polars as pl
from matplotlib.image import imread

from perptape import charts

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
