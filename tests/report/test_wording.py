import pytest

from perptape.wording import (
    NONE,
    THIN,
    bps,
    duration,
    listed,
    money,
    names_of,
    number,
    percent,
    utc,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NONE),
        (float("nan"), NONE),
        (1.23456, "1.23"),
        (-3.1, "\N{MINUS SIGN}3.10"),
        (0.0235, "0.024"),
        (-0.0001, "0.000"),
        (12345.678, f"12{THIN}345.68"),
    ],
)
def test_bps_have_a_real_minus_and_a_third_decimal_only_below_one(value, text):
    assert bps(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.99999, "> 99.99 %"),
        (0.00001, "< 0.01 %"),
        (0.9933, "99.33 %"),
        (0.5, "50.0 %"),
        (None, NONE),
    ],
)
def test_a_share_is_never_rounded_to_all_or_none(share, text):
    assert percent(share).replace(THIN, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25 s"),
        (0, "0 s"),
        (42, "42.0 s"),
        (59.96, "1 min 00 s"),
        (90, "1 min 30 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (270_000, "3 d 03 h"),
    ],
)
def test_durations_carry_over(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (950, "950"), (999.9, "1k"), (12_345, "12.3k"), (999_900, "1M"), (None, NONE)],
)
def test_money_carries_over(value, text):
    assert money(value) == text


def test_times_are_cut_not_rounded():
    assert utc(1_723_075_200_999_999_999) == "2024-08-08 00:00:00.999"
    assert utc(1_723_075_200_999_999_999, 0) == "2024-08-08 00:00:00"


def test_a_venue_with_two_markets_is_not_enough_of_a_name():
    names = names_of(["a:BTC-USDT-PERP", "a:BTC-USDC-PERP", "b:BTC-USDT-PERP"])
    assert list(names.values()) == ["a:BTC-USDT-PERP", "a:BTC-USDC-PERP", "b"]


def test_lists_read_as_sentences():
    assert [listed(w) for w in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_numbers_without_decimals():
    assert number(1234, 0) == f"1{THIN}234"
