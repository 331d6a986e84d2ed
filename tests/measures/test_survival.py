"""How long episodes last, against published tables and the definition."""

import math
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.measures.survival import LEAST_ENDED

# Freireich et al., Blood 21 (1963): weeks of remission under 6-MP; + is censored.
FREIREICH = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"


def episodes(text, **columns):
    """``6 6+`` -> the frame; a + is censored."""
    durations = text.split()
    return pl.DataFrame(
        {
            "duration_s": [float(d.rstrip("+")) for d in durations],
            "censored": [d.endswith("+") for d in durations],
            **{name: [value] * len(durations) for name, value in columns.items()},
        },
        schema_overrides={"duration_s": pl.Float64, "censored": pl.Boolean},
    )


def test_freireich_1963_as_published():
    found = pt.survival(episodes(FREIREICH))
    assert found.curve["t_s"].to_list() == [6, 7, 10, 13, 16, 22, 23]
    assert found.curve["at_risk"].to_list() == [21, 17, 15, 12, 11, 7, 6]
    survival = [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    error = [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346]
    assert found.curve["survival"].to_list() == pytest.approx(survival, abs=5e-5)
    assert found.curve["std_error"].to_list() == pytest.approx(error, abs=5.1e-5)
    (row,) = found.summary.rows(named=True)
    assert (row["median_s"], row["ended"], row["censored"]) == (23, 9, 12)
    assert row["reason"] is None


def test_the_band_of_freireich_is_that_of_log_log():
    """exp(+-1.96 x 0.0764 / (0.8571 ln 0.8571)) by hand."""
    low, high = pt.survival(episodes(FREIREICH)).curve.row(0)[-2:]
    assert (low, high) == pytest.approx((0.6197, 0.9516), abs=1e-4)


def test_one_that_was_open_before_trust_began_has_no_duration():
    known = episodes(FREIREICH).with_columns(truncated=False)
    before = episodes("1 2+").with_columns(truncated=True)
    unsaid = episodes("3").with_columns(pl.lit(None).alias("duration_s"), truncated=None)
    found = pt.survival(pl.concat([known, before, unsaid], how="vertical_relaxed"))
    assert found.curve.equals(pt.survival(known).curve)
    assert found.summary["excluded"].to_list() == [3]


def test_groups_with_nothing_in_them_are_told_of():
    rows = pl.concat([episodes(FREIREICH, delay_ms=0), episodes("1 2", delay_ms=5)])
    watched = pl.DataFrame({"delay_ms": [0, 0, 20], "trusted_s": [60.0, 40.0, 7.0]})
    found = pt.survival(rows.lazy(), exposure=watched)
    assert found.summary["delay_ms"].to_list() == [0, 5, 20]
    assert found.summary["trusted_s"].to_list() == [100, None, 7]
    assert found.summary["median_s"].to_list() == [23, None, None]
    assert found.summary["reason"].to_list() == [
        None,
        f"2 of 2 episodes ended; a curve needs {LEAST_ENDED}",
        f"0 of 0 episodes ended; a curve needs {LEAST_ENDED}",
    ]
    assert found.curve["delay_ms"].unique().to_list() == [0]


def test_a_median_that_is_not_reached_is_null_with_a_reason():
    (row,) = pt.survival(episodes("1 1 1 1 1" + " 9+" * 9)).summary.rows(named=True)
    assert row["median_s"] is None and "outlast" in row["reason"]


def test_no_episode_at_all():
    (row,) = pt.survival(episodes("")).summary.rows(named=True)
    assert row["episodes"] == 0 and row["median_s"] is None and row["reason"]


def test_when_all_have_ended_nothing_is_left_and_the_band_is_null():
    last = pt.survival(episodes("1 2 3 4 5")).curve.rows(named=True)[-1]
    assert last["survival"] == 0
    assert (last["std_error"], last["low"], last["high"]) == (None, None, None)


def text_of(drawn):
    return " ".join(f"{t}{'+' * censored}" for t, censored in drawn)


rows = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_every_number_is_its_definition(drawn):
    found = pt.survival(episodes(text_of(drawn)), least_ended=1)
    survival, error = Fraction(1), Fraction(0)
    for row in found.curve.rows(named=True):
        at_risk = sum(t >= row["t_s"] for t, _ in drawn)
        ended = sum(t == row["t_s"] and not censored for t, censored in drawn)
        assert (row["at_risk"], row["ended"]) == (at_risk, ended)
        survival *= 1 - Fraction(ended, at_risk)
        assert row["survival"] == pytest.approx(float(survival), abs=1e-12)
        if survival:
            error += Fraction(ended, at_risk * (at_risk - ended))
            assert row["std_error"] == pytest.approx(float(survival) * math.sqrt(error))
            assert 0 <= row["low"] <= row["survival"] <= row["high"] <= 1
    assert found.curve["t_s"].to_list() == sorted({t for t, censored in drawn if not censored})


@settings(max_examples=30, deadline=None)
@given(rows, rows)
def test_another_group_changes_no_other(one, other):
    a, b = (episodes(text_of(drawn), delay_ms=delay) for delay, drawn in enumerate((one, other)))
    alone, both = pt.survival(a, least_ended=1), pt.survival(pl.concat([b, a]), least_ended=1)
    assert both.curve.filter(pl.col("delay_ms") == 0).equals(alone.curve)
    assert both.summary.filter(pl.col("delay_ms") == 0).equals(alone.summary)
