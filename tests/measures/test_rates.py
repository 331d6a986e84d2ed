"""How often: published intervals of a Poisson number, swarms, and the table of a small tape."""

import numpy as np
import polars as pl
import pytest

import perptape as pt
from perptape.align import Spans
from perptape.events import NS
from perptape.measures.rates import rate

from .depth import books, heard
from .tape import quotes

HOUR = 3600 * NS


def spans(*cuts_h):
    ends = np.array(cuts_h, np.float64).reshape(-1, 2) * HOUR
    return Spans(ends[:, 0].astype(np.int64), ends[:, 1].astype(np.int64))


def evenly(n, hours=1.0):
    return np.linspace(0, hours * HOUR, n, endpoint=False).astype(np.int64)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [
        (0, 0, 3.689),
        (1, 0.02532, 5.572),
        (5, 1.623, 11.668),
        (10, 4.795, 18.39),
        (100, 81.36, 121.63),
    ],
)
def test_the_interval_is_garwoods(n, low, high):
    found = rate(evenly(n), spans(0, 1))
    assert found.per_hour == n
    assert (found.per_hour_low, found.per_hour_high) == pytest.approx((low, high), rel=1e-3)


def test_swarms_widen_it_and_hours_divide_it():
    alone = rate(evenly(40, 2), spans(0, 2))
    swarm = rate(np.concatenate([evenly(20, 0.01), HOUR + evenly(20, 0.01)]), spans(0, 2))
    assert alone.per_hour == swarm.per_hour == 20
    assert alone.dispersion < 1 and swarm.dispersion == pytest.approx(19.3, abs=0.1)
    assert swarm.per_hour_low < 8 < alone.per_hour_low
    assert swarm.per_hour_high > 50 > alone.per_hour_high


def test_only_trusted_time_counts_and_where_there_is_little_nothing_is_said_of_swarms():
    holed = rate(evenly(6, 0.05), spans(0, 0.05, 5, 5.05))
    assert holed.per_hour == pytest.approx(60) and holed.dispersion is None
    assert rate(evenly(0), spans()).per_hour_high is None


def test_it_holds_the_truth_of_openings_that_come_in_swarms():
    rng, hours, held = np.random.default_rng(1), 20, 0
    for _ in range(200):
        swarms = rng.integers(0, hours * HOUR, rng.poisson(2 * hours))
        sizes = rng.poisson(4, len(swarms))
        starts = np.sort(np.repeat(swarms, sizes) + rng.integers(0, 60 * NS, sizes.sum()))
        found = rate(np.minimum(starts, hours * HOUR), spans(0, hours))
        held += found.per_hour_low <= 8 <= found.per_hour_high
    assert held >= 0.9 * 200


def test_the_table_counts_openings_that_were_seen_and_is_above_zero_without_any():
    rows = [(0, "j", True, [(1, 1)], [(100, 9)])]
    for k, bid in enumerate((99.0, 100.5, 99.0, 100.5)):
        rows.append((k * NS, "i", True, [(bid, 9)], [(103, 1)]))
    trusted = [(m, 0, 4 * NS) for m in "ij"]
    table = pt.episode_rate(
        books(rows), quotes([]), heard(trusted), fees={"i": 0, "j": 0}, notionals=[100]
    )
    there, back = (table.filter(sell=f"{m}:BTC-USDT-PERP").row(0, named=True) for m in "ij")
    assert (there["count"], there["censored"], there["median_s"]) == (2, 1, 1.0)
    assert there["per_hour"] == pytest.approx(1800)
    assert there["per_hour_low"] < 1800 < there["per_hour_high"]
    assert back["count"] == 0 and back["per_hour_low"] == 0 < back["per_hour_high"]
    assert table.schema["dispersion"] == pl.Float64
