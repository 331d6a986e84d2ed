"""Clocks: offsets with bounds that hold, drift, steps, and latencies that may be negative."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import perptape as pt
from perptape.measures.envelope import Envelope
from perptape.measures.round_trips import MOST_SKEW, Course

from .tape import ledger, quotes

NS, MS = 10**9, 10**6
T0 = 1_700_000_000 * NS


def trips(rows, venue="a"):
    """(sent, venue's stamp, received) in ns -> samples."""
    sent, stamp, received = zip(*rows, strict=True) if rows else ((), (), ())
    return pl.DataFrame(
        {"venue": [venue] * len(rows), "t_sent": sent, "ts_venue": stamp, "t_recv": received},
        schema={"venue": pl.String, "t_sent": pl.Int64, "ts_venue": pl.Int64, "t_recv": pl.Int64},
    )


def test_round_trip_of_the_definitions():
    """100.000, 112.040, 112.041, 100.101 s: 11.990 ahead, 0.100 under way."""
    samples = trips([(100_000 * MS, 112_040 * MS, 100_101 * MS)])
    samples = samples.with_columns(ts_venue_sent=pl.lit(112_041 * MS))
    (row,) = pt.clocks(samples).windows.rows(named=True)
    assert row["offset_ms"] == pytest.approx(11_990) and row["delay_ms"] == pytest.approx(100)
    assert row["error_ms"] == 50 + 1.5  # delay / 2, and what whole milliseconds hide of both


def test_one_time_is_both():
    (row,) = pt.clocks(trips([(T0, T0 + 60 * MS + 1, T0 + 100 * MS)])).windows.rows(named=True)
    assert (row["offset_ms"], row["delay_ms"]) == (10 + 1e-6, 100)
    assert row["error_ms"] == 50 + 1e-6  # stamps in ns
    assert row["ts"].timestamp() == pytest.approx((T0 + 50 * MS) / NS)


def test_the_quickest_answer_stands_for_its_window():
    rows = [(T0, T0 + 900 * MS, T0 + 1000 * MS), (T0 + NS, T0 + NS + 12 * MS, T0 + NS + 20 * MS)]
    later = [(T0 + 700 * NS, T0 + 700 * NS + 5 * MS, T0 + 700 * NS + 10 * MS)]
    found = pt.clocks(trips(rows + later)).windows
    assert found["offset_ms"].to_list() == [2, 0] and found["samples"].to_list() == [2, 1]


def test_an_answer_before_its_question_is_rejected():
    late = (T0, T0, T0 - 1)
    found = pt.clocks(trips([late, (T0 + 700 * NS, T0 + 700 * NS, T0 + 700 * NS + 2 * MS)])).windows
    assert found["rejected"].to_list() == [1, 0] and found["offset_ms"].to_list() == [None, -1]
    assert found["reason"].to_list() == ["no answer that makes sense", None]
    (venue,) = pt.clocks(trips([late])).venues.rows(named=True)
    assert venue["offset_ms"] is None and "no round trip" in venue["reason"]


def asked(hours, *, offset_ms, skew_ppm, seed, step=None):
    """Ask once a minute; delays of both ways are heavy-tailed and unlike each other."""
    rng = np.random.default_rng(seed)
    sent = T0 + np.arange(0, round(hours * 60)) * 60 * NS
    there = (2 + 5 * rng.pareto(1.5, len(sent))) * MS
    back = (4 + 20 * rng.pareto(1.5, len(sent))) * MS
    heard = sent + there.astype(np.int64)
    stamp = heard + truth(heard, offset_ms, skew_ppm, step)
    received = heard + back.astype(np.int64)
    return list(zip(sent.tolist(), (stamp // MS * MS).tolist(), received.tolist(), strict=True))


def truth(ts, offset_ms, skew_ppm, step=None):
    """The venue's clock minus ours, ns."""
    drift = (np.asarray(ts) - T0) * skew_ppm * 1e-6
    jump = 0 if step is None else np.where(np.asarray(ts) >= step[0], step[1] * MS, 0)
    return (offset_ms * MS + drift + jump).astype(np.int64)


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_holds_at_minus_37_ms_and_20_ppm_and_heavy_tails(seed):
    found = pt.clocks(trips(asked(24, offset_ms=-37, skew_ppm=20, seed=seed)))
    windows = found.windows
    wrong = windows["offset_ms"].to_numpy() - truth(windows["ts"].cast(pl.Int64), -37, 20) / MS
    inside = np.abs(wrong) <= windows["error_ms"].to_numpy()
    assert len(inside) == 145 and inside.mean() >= 0.95
    assert windows["error_ms"].median() < 10 and windows["step_ms"].null_count() == 145
    (venue,) = found.venues.rows(named=True)
    assert venue["skew_low_ppm"] <= 20 <= venue["skew_high_ppm"]
    assert venue["skew_high_ppm"] - venue["skew_low_ppm"] < 1
    assert venue["offset_ms"] - venue["error_ms"] <= -37
    assert venue["offset_ms"] + venue["error_ms"] >= -37 + 20e-6 * 86_000_000


@pytest.mark.parametrize("seed", range(5))
def test_bounds_that_narrow_each_other_hold_too(seed):
    """A window a minute holds one answer, often a slow one; its neighbours know better."""
    found = pt.clocks(trips(asked(24, offset_ms=-37, skew_ppm=20, seed=seed)), window_s=60)
    course = Course.of(found.windows, "a")
    narrow = course.tightened()
    moments = np.linspace(course.ts[0], course.ts[-1], 5000).astype(np.int64)
    offset_ms, error_ms = narrow.at(moments)
    inside = np.abs(offset_ms - truth(moments, -37, 20) / MS) <= error_ms
    assert inside.mean() >= 0.95
    assert (narrow.error_ms <= course.error_ms + 1e-6).all()
    assert narrow.error_ms.max() < course.error_ms.max() / 5 and narrow.error_ms.max() < 30


def test_bounds_that_contradict_each_other_are_left_alone():
    """A step within one slow answer, which hides it from the windows beside it."""
    rows = [(T0 + s * NS, T0 + s * NS + step * MS, T0 + s * NS + 2 * MS) for s, step in
            ((0, 1), (60, 1), (180, 401), (240, 401))]  # fmt: skip
    rows.insert(2, (T0 + 120 * NS, T0 + 120 * NS + 500 * MS, T0 + 121 * NS))
    found = pt.clocks(trips(rows), window_s=60)
    course = Course.of(found.windows, "a")
    assert found.venues["steps"][0] == 0
    assert np.allclose(course.tightened().error_ms, course.error_ms)


delays_ms = st.floats(0, 500, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(delays_ms, delays_ms), min_size=1, max_size=20),
    st.integers(-(10**13), 10**13),
    st.sampled_from([1, 1000, MS, NS]),
)
def test_the_bound_holds_whatever_the_delays(delays, offset, unit):
    rows = []
    for k, (there, back) in enumerate(delays):
        sent = T0 + k * NS
        heard = sent + int(there * MS)
        rows.append((sent, (heard + offset) // unit * unit, heard + int(back * MS)))
    for row in pt.clocks(trips(rows), window_s=3).windows.rows(named=True):
        assert abs(row["offset_ms"] - offset / MS) <= row["error_ms"] + 1e-6


def test_a_step_is_found_where_neither_error_nor_drift_explains_it():
    at = T0 + 3 * 3600 * NS + 1
    rows = asked(6, offset_ms=5, skew_ppm=-30, seed=1, step=(at, 400))
    found = pt.clocks(trips(rows))
    stepped = found.windows.filter(pl.col("step_ms").is_not_null())
    assert stepped.height == 1 and stepped["step_ms"][0] == pytest.approx(400, abs=40)
    assert stepped["ts_window"].cast(pl.Int64)[0] <= at <= stepped["ts"].cast(pl.Int64)[0]
    (venue,) = found.venues.rows(named=True)
    assert venue["steps"] == 1
    assert venue["skew_low_ppm"] <= -30 <= venue["skew_high_ppm"]  # of one side of the step
    assert MOST_SKEW * 600 * 1000 < 400


def streamed(seconds, *, skew_ppm=20, offset_ms=-37, step=None):
    """Quotes ten times a second, each stamped in whole ms by the venue's clock when sent."""
    rng = np.random.default_rng(1)
    sent = T0 + np.arange(0, seconds * 10) * (NS // 10)
    delay = ((3 + rng.pareto(1.5, len(sent))) * MS).astype(np.int64)
    stamp = (sent + truth(sent, offset_ms, skew_ppm, step)) // MS * MS
    rows = zip((sent + delay).tolist(), stamp.tolist(), strict=True)
    return [(ts, "a", 99.0, 101.0, 1, 1, stamp) for ts, stamp in sorted(rows)], delay / MS


def test_the_stream_tells_drift_and_latency():
    rows, delay_ms = streamed(7200)
    heard = ledger([("a", rows[0][0], rows[-1][0])])
    samples = trips(asked(2, offset_ms=-37, skew_ppm=20, seed=2))
    (row,) = pt.clocks(samples, quotes=quotes(rows).lazy(), ledger=heard).venues.rows(named=True)
    assert row["rows"] == len(rows) and row["stamp"] == "ts_event"
    assert row["trusted_s"] == pytest.approx(7200, abs=1)
    assert row["skew_ppm"] == pytest.approx(20, abs=0.5)
    error = row["latency_error_ms"] + 1
    assert row["latency_least_ms"] == pytest.approx(delay_ms.min(), abs=error)
    assert row["latency_p50_ms"] == pytest.approx(np.median(delay_ms), abs=error)
    assert row["latency_p99_ms"] == pytest.approx(np.quantile(delay_ms, 0.99), abs=error + 1)
    excess = delay_ms - delay_ms.min()
    assert row["excess_p50_ms"] == pytest.approx(np.median(excess), abs=1.1)
    assert row["excess_p99_ms"] == pytest.approx(np.quantile(excess, 0.99), rel=0.05)
    assert row["reason"] is None


def test_without_round_trips_latency_is_only_relative():
    rows, delay_ms = streamed(1200)
    heard = ledger([("a", rows[0][0], rows[-1][0])])
    (row,) = pt.clocks(trips([]), quotes=quotes(rows), ledger=heard).venues.rows(named=True)
    assert row["offset_ms"] is None and row["latency_p50_ms"] is None
    assert row["excess_p50_ms"] == pytest.approx(np.median(delay_ms) - delay_ms.min(), abs=1.5)
    assert "no round trip" in row["reason"]


def test_negative_latency_is_told_and_not_clipped():
    """The stamps are 50 ms later than the messages: they cannot be when these were sent."""
    early, _ = streamed(600, offset_ms=-37 + 50, skew_ppm=0)
    rows = [(ts + 1800 * NS, *rest, stamp + 1800 * NS) for ts, *rest, stamp in early]
    heard = ledger([("a", rows[0][0], rows[-1][0])])
    samples = trips(asked(2, offset_ms=-37, skew_ppm=0, seed=2))
    (row,) = pt.clocks(samples, quotes=quotes(rows), ledger=heard).venues.rows(named=True)
    error = row["latency_error_ms"] + 1
    assert row["latency_least_ms"] == pytest.approx(3 - 50, abs=error) and error < 20
    assert row["latency_least_ms"] < row["latency_p50_ms"] < 0
    assert row["share_negative"] > 0.9 and "after it came" in row["reason"]


def test_no_drift_is_read_from_a_short_stream():
    rows, delay_ms = streamed(60, skew_ppm=0)
    heard = ledger([("a", rows[0][0], rows[-1][0])])
    (row,) = pt.clocks(trips([]), quotes=quotes(rows), ledger=heard).venues.rows(named=True)
    assert row["skew_ppm"] is None
    assert row["excess_p50_ms"] == pytest.approx(np.median(delay_ms) - delay_ms.min(), abs=1)


def test_only_trusted_rows_count_and_a_silent_venue_says_so():
    rows, _ = streamed(100)
    rows += [(ts + 3600 * NS, "a", 99.0, 101.0, 1, 1, ts) for ts, *_ in rows]
    heard = ledger([("a", rows[0][0], rows[999][0]), ("b", T0, T0 + 5 * NS)])
    found = pt.clocks(trips([]), quotes=quotes(rows), ledger=heard).venues
    a, b = found.rows(named=True)
    assert a["rows"] == 1000 and a["excess_p99_ms"] < 1000
    assert b["rows"] == 0 and b["trusted_s"] == 5 and b["excess_p50_ms"] is None
    assert "fewer than 100 stamped rows" in b["reason"]


def test_the_line_is_fitted_where_the_clock_did_not_jump():
    at = T0 + 3600 * NS
    rows, delay_ms = streamed(6000, step=(at, 500))
    heard = ledger([("a", rows[0][0], rows[-1][0])])
    samples = trips(asked(6000 / 3600, offset_ms=-37, skew_ppm=20, seed=3, step=(at, 500)))
    (row,) = pt.clocks(samples, quotes=quotes(rows), ledger=heard).venues.rows(named=True)
    assert row["steps"] == 1 and row["skew_ppm"] == pytest.approx(20, abs=1)
    assert row["excess_p50_ms"] == pytest.approx(np.median(delay_ms) - delay_ms.min(), abs=1.5)


def test_stamps_on_our_clock():
    samples = trips(asked(2, offset_ms=-37, skew_ppm=20, seed=2))
    rows, _ = streamed(7200)
    table = quotes([*rows, (T0, "z", 1.0, 1.0, 1, 1, T0), (T0, "a", 1.0, 1.0)])
    found = pt.on_our_clock(table, pt.clocks(samples))
    known = found.filter(pl.col("venue").cast(pl.String) == "a", pl.col("ts_event").is_not_null())
    sent = T0 + np.arange(0, 72_000) * (NS // 10)
    stamp = known.sort("ts_event")["ts_ours"].cast(pl.Int64).to_numpy()
    wrong = np.abs(np.sort(stamp) - sent)
    assert (wrong <= known["ts_ours_error_ns"].max() + MS).mean() >= 0.95
    others = found.filter(pl.col("venue").cast(pl.String) == "z")
    assert others["ts_ours"].to_list() == [None] == others["ts_ours_error_ns"].to_list()
    unstamped = found.filter(pl.col("ts_event").is_null())
    assert unstamped["ts_ours"].to_list() == [None] == unstamped["ts_ours_error_ns"].to_list()


def test_far_from_any_answer_the_bound_grows():
    samples = trips(asked(1, offset_ms=0, skew_ppm=0, seed=2))
    table = quotes([(T0 + h * 3600 * NS, "a", 1.0, 1.0, 1, 1, T0) for h in (0, 2, 12)])
    near, far, farthest = pt.on_our_clock(table, pt.clocks(samples))["ts_ours_error_ns"]
    assert near < 20 * MS and farthest - far == pytest.approx(36_000 * MOST_SKEW * NS, rel=1e-6)


def test_what_lead_lag_needs():
    both = pl.concat(
        [
            trips(asked(1, offset_ms=100, skew_ppm=0, seed=1), "a"),
            trips(asked(1, offset_ms=-100, skew_ppm=0, seed=2), "b"),
            trips([(T0, T0, T0 - 1)], "c"),
        ]
    )
    found = pt.clocks(both)
    assert set(found.offsets_ms()) == set(found.errors_ms()) == {"a", "b"}
    assert abs(found.offsets_ms()["a"] - 100) <= found.errors_ms()["a"]
    assert abs(found.offsets_ms()["b"] + 100) <= found.errors_ms()["b"]


points = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-1000, 1000)), min_size=1, max_size=40
).map(lambda steps: [(t, y) for t, (_, y) in zip(np.cumsum([s for s, _ in steps]), steps)])  # noqa: B905


@settings(max_examples=150, deadline=None)
@given(points, st.lists(st.integers(0, 40), max_size=3))
def test_the_hull_solves_the_linear_program_of_moon_skelly_and_towsley(drawn, cuts):
    ts, y = (np.array(column, np.int64) for column in zip(*drawn, strict=True))
    envelope = Envelope()
    for part in np.split(np.arange(len(ts)), sorted(min(c, len(ts)) for c in cuts)):
        envelope.add(T0 + ts[part], y[part])
    line = envelope.line()
    assert (line is None) == (ts[0] == ts[-1])
    if line is None:
        return
    under = line.at(T0 + ts)
    assert (under <= y + 1e-9).all()
    sides = np.column_stack([np.ones(len(ts)), ts])
    best = linprog(-sides.sum(0), sides, y, bounds=[(None, None)] * 2)
    assert (y - under).sum() == pytest.approx(y.sum() + best.fun, abs=1e-6)


def test_other_venues_change_nothing():
    a = trips(asked(2, offset_ms=3, skew_ppm=5, seed=1), "a")
    b = trips(asked(2, offset_ms=9, skew_ppm=-5, seed=2), "b")
    alone, both = pt.clocks(a), pt.clocks(pl.concat([b, a]))
    assert both.windows.filter(venue="a").equals(alone.windows)
    assert both.venues.filter(venue="a").equals(alone.venues)
