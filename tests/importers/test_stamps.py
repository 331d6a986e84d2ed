"""Stamps of any unit, to the digit."""

from datetime import UTC, datetime

import polars as pl
import pytest

from perptape.importers.stamps import Wrong, to_ns

T = 1_770_925_080
NS = 10**9


@pytest.mark.parametrize(
    ("stamp", "unit", "ns"),
    [
        (str(T), "s", T * NS),
        (f"{T}.123456789", "s", T * NS + 123456789),
        (f" {T}.1234567891 ", "s", T * NS + 123456789),
        (f"{T}.", "s", T * NS),
        (f"{T}001", "ms", T * NS + 1_000_000),
        (f"{T}001.25", "ms", T * NS + 1_250_000),
        (f"{T}000001", "us", T * NS + 1000),
        (f"{T}000000001", "ns", T * NS + 1),
        (T, "s", T * NS),
        (float(T) + 0.689628, "s", T * NS + 689_628_000),
        (float(T) * 1000 + 0.25, "ms", T * NS + 250_000),
        (T * 1_000_000 + 1, "us", T * NS + 1000),
        (T * NS + 1, "ns", T * NS + 1),
        ("2026-02-12T19:38:00Z", "iso", T * NS),
        ("2026-02-12T19:38:00z", "iso", T * NS),
        ("2026-02-12 19:38:00", "iso", T * NS),
        ("2026-02-12T20:38:00.000000001+01:00", "iso", T * NS + 1),
        ("2026-02-12T20:38+0100", "iso", T * NS),
        ("2026-02-12", "iso", 1_770_854_400 * NS),
        (datetime(2026, 2, 12, 19, 38, tzinfo=UTC), None, T * NS),
        (datetime(2026, 2, 12, 19, 38), "ms", T * NS),  # noqa: DTZ001 - a column without a zone
        (datetime(2026, 2, 12, tzinfo=UTC).date(), None, 1_770_854_400 * NS),
    ],
)
def test_to_the_digit(stamp, unit, ns):
    assert to_ns(pl.Series("t", [stamp, None]), unit).to_list() == [ns, None]


def test_a_mixture_of_zones_and_fractions():
    texts = ["2026-02-12T19:38:00Z", None, "2026-02-12 19:38:00.5", "2026-02-12T18:38:00-01"]
    assert to_ns(pl.Series("t", texts), "iso").to_list() == [
        *(T * NS, None),
        *(T * NS + NS // 2, T * NS),
    ]


@pytest.mark.parametrize(
    ("stamp", "unit", "words"),
    [
        (f"{T}000", "s", 'unit = "ms"'),
        (T, "ms", 'unit = "s"'),
        (T * NS, "us", 'unit = "ns"'),
        (float(T) * 1e6, "s", 'unit = "us"'),
        (2**63 - 1, "ns", "no time between"),
        (-1, "s", "no time between"),
        ("9" * 19, "s", "no time between"),
        ("9" * 40, "s", "no time between"),
        ("1e9", "s", "no time between"),
        ("", "s", "no time between"),
        ("12.2.2026", "iso", "no ISO time"),
        ("1970-01-01T00:00:00Z", "iso", "no time between"),
        (float("nan"), "s", "no time between"),
        (T, None, "the map has no unit"),
        (T, "iso", "this is a number"),
    ],
)
def test_what_is_no_time_is_told_with_the_unit_that_would_be(stamp, unit, words):
    with pytest.raises(Wrong, match=words) as told:
        to_ns(pl.Series("t", [None, stamp]), unit)
    assert told.value.column == "t"
    assert told.value.row == 1 or unit in {None, "iso"}


def test_a_column_without_stamps_needs_no_unit():
    assert to_ns(pl.Series("t", [None, None], dtype=pl.Int64), None).null_count() == 2
