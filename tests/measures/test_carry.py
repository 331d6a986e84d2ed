"""Funding: settlements counted once and whole, rates compared per hour."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perptape as pt
from perptape.errors import BadUsage

from .tape import TIME

NS = 10**9
H = 3600 * NS
DAY = 19_000 * 24 * H
A, B = "a:BTC-USDT-PERP", "b:BTC-USDT-PERP"


def funding(rows):
    """(heard at h, venue, fraction per interval, interval h, due at h[, settled]) -> the table."""
    full = [(*row, False)[:6] for row in rows]
    names = [row[1].split(":") for row in full]
    return pl.DataFrame(
        {
            "venue": [name[0] for name in names],
            "instrument": [(*name, "BTC-USDT-PERP")[1] for name in names],
            "ts_recv": [DAY + round(row[0] * H) for row in full],
            "rate": [row[2] and row[2] / row[3] for row in full],
            "interval_h": [row[3] for row in full],
            "ts_funding": [None if row[4] is None else DAY + round(row[4] * H) for row in full],
            "is_settled": [row[5] for row in full],
        },
        schema_overrides={
            "venue": pl.Categorical,
            "instrument": pl.Categorical,
            "ts_recv": TIME,
            "rate": pl.Float64,
            "interval_h": pl.Float64,
            "ts_funding": TIME,
            "is_settled": pl.Boolean,
        },
    )


def marks(rows):
    """(h, venue, mark price) -> the table."""
    return pl.DataFrame(
        {
            "venue": [row[1] for row in rows],
            "instrument": ["BTC-USDT-PERP" for _ in rows],
            "ts_recv": [DAY + round(row[0] * H) for row in rows],
            "mark_price": [row[2] for row in rows],
        },
        schema_overrides={"ts_recv": TIME, "mark_price": pl.Float64},
    )


def ledger(rows):
    """(channel, venue, from h, to h), trusted -> the table."""
    return pl.DataFrame(
        {
            "venue": [row[1] for row in rows],
            "instrument": ["BTC-USDT-PERP" for _ in rows],
            "channel": [row[0] for row in rows],
            "ts_start": [DAY + round(row[2] * H) for row in rows],
            "ts_end": [DAY + round(row[3] * H) for row in rows],
            "state": ["trusted" for _ in rows],
        }
    ).with_columns(pl.col("ts_start", "ts_end").cast(TIME))


def paid(venue, rate, interval_h, hours):
    """A settlement every interval over so many hours, heard as paid."""
    dues = range(interval_h, hours + 1, interval_h)
    return [(due + 0.01, venue, rate, interval_h, due, True) for due in dues]


def pair(found, sell=A, buy=B):
    (row,) = found.filter(sell=sell, buy=buy).rows(named=True)
    return row


def hours_of(found):
    return ((found["ts_funding"].cast(pl.Int64) - DAY) / H).to_list()


def test_coinglass_apr_of_the_definitions():
    """-0.994 % per 4 h against +0.005 % per 4 h: 0.999 % x 6 x 365 = 2187.81 %."""
    table = funding([*paid("a", 5e-5, 4, 24), *paid("b", -994e-5, 4, 24)])
    row = pair(pt.carry(table))
    assert row["carry_apr"] == pytest.approx(21.8781)
    assert row["common_h"] == 24 and row["settlements_sell"] == 6
    assert pair(pt.carry(table), B, A)["carry_apr"] == pytest.approx(-21.8781)


def test_interval_trap_of_the_definitions():
    """2.234e-5 per 8 h looks like more than 1.25e-5 per hour, and is 4.48 times less."""
    table = funding([*paid("a", 2.234e-5, 8, 48), *paid("b", 1.25e-5, 1, 48)])
    row = pair(pt.carry(table))
    assert row["sell_bps_per_h"] == pytest.approx(2.7925e-2)
    assert row["buy_bps_per_h"] == pytest.approx(0.125)
    assert row["buy_bps_per_h"] / row["sell_bps_per_h"] == pytest.approx(4.48, abs=0.005)
    assert row["carry_bps_per_h"] < 0 < pair(pt.carry(table), B, A)["carry_bps_per_h"]


def test_break_even_is_the_round_trip_over_the_carry():
    table = funding([*paid("a", 8e-4, 8, 24), *paid("b", 0.0, 8, 24)])
    row = pair(pt.carry(table, fees={"a": 6e-4, "b": 5e-4}))
    assert row["cost_bps"] == pytest.approx(22) and row["carry_bps_per_h"] == pytest.approx(1)
    assert row["break_even_h"] == pytest.approx(22)
    assert row["reason"] == "a mark price is missing"
    mine = pair(pt.carry(table, fees={"a": 6e-4}, costs_bps={(A, B): 11}))
    assert mine["break_even_h"] == pytest.approx(11)
    back = pair(pt.carry(table, fees={"a": 6e-4, "b": 5e-4}), B, A)
    assert back["break_even_h"] is None and "does not earn" in back["reason"]
    unknown = pair(pt.carry(table, fees={"a": 6e-4}))
    assert unknown["break_even_h"] is None and "no fees" in unknown["reason"]


def both():
    """Market a pays 1e-4 at 8 and 16 h, b 2e-5 each hour; marks are 100 and 50."""
    table = funding([*paid("a", 1e-4, 8, 24), *paid("b", 2e-5, 1, 24)])
    return table, marks(
        [(h - 0.001, v, p) for h in range(1, 25) for v, p in (("a", 100), ("b", 50))]
    )


@pytest.mark.parametrize(
    ("start", "end", "a", "b"),
    [
        (0, 24, 3, 24),
        (7, 8, 1, 1),
        (8, 15, 0, 7),
        (7.9, 8.1, 1, 1),
        (8.1, 8.9, 0, 0),
        (8, 16, 1, 8),
    ],
)
def test_only_settlements_inside_the_window_count_and_whole(start, end, a, b):
    table, prices = both()
    found = pt.carry(table, prices, ts_from=DAY + int(start * H), ts_to=DAY + int(end * H))
    row = pair(found)
    assert (row["settlements_sell"], row["settlements_buy"]) == (a, b)
    assert row["payment"] == pytest.approx(a * 1e-4 * 100 - b * 2e-5 * 50)


def test_a_window_that_was_not_all_seen_has_no_payment():
    table, prices = both()
    for start, end in ((-1, 24), (0, 25), (20, 33)):
        row = pair(pt.carry(table, prices, ts_from=DAY + start * H, ts_to=DAY + end * H))
        assert row["payment"] is None and "settlement is missing" in row["reason"]
    holed = table.filter(pl.col("ts_funding").cast(pl.Int64) != DAY + 5 * H)
    row = pair(pt.carry(holed, prices))
    assert row["payment"] is None and "settlement is missing" in row["reason"]
    assert row["common_h"] == 23
    unmarked = prices.filter(pl.col("ts_recv").cast(pl.Int64) > DAY + 2 * H)
    assert "mark price" in pair(pt.carry(table, unmarked))["reason"]


def test_settlements_told_again_are_one():
    rows = [*paid("a", 1e-4, 8, 24), *paid("a", 1e-4, 8, 24)]
    rows += [(30, "a", 1e-4, 8, due + late, True) for due in (8, 16) for late in (1e-6, 0.03)]
    found = pt.settlements(funding(sorted(rows, key=lambda r: r[0])))
    assert hours_of(found) == [8, 16, 24] and found["rate"].to_list() == pytest.approx([1e-4] * 3)


def test_what_was_paid_counts_before_what_was_expected():
    rows = [
        (7.0, "a", 1e-4, 8, 8),
        (7.9, "a", 2e-4, 8, 8),
        (8.1, "a", 9e-4, 8, 8),  # too late to be expected of it
        (8.2, "a", 3e-4, 8, 16),
        (15.0, "a", 4e-4, 8, 16),
        (16.1, "a", 5e-4, 8, 16, True),
        (20.0, "a", 6e-4, 8, 24),  # yet to come
    ]
    found = pt.settlements(funding(rows))
    assert hours_of(found) == [8, 16] and found["rate"].to_list() == pytest.approx([2e-4, 5e-4])
    assert found["is_settled"].to_list() == [False, True]
    assert found["rate_per_h"].to_list() == pytest.approx([0.25e-4, 0.625e-4])


def test_partial_news_is_put_together():
    """A delta that says only the rate, and one that says only the next time."""
    rows = [
        (1.0, "a", 1e-4, 8, 8),
        (2.0, "a", 2e-4, 8, None),
        (8.0, "a", None, None, 16),
        (17.0, "a", 3e-4, 8, 24),
    ]
    found = pt.settlements(funding(rows))
    assert hours_of(found) == [8, 16] and found["rate"].to_list() == pytest.approx([2e-4, 2e-4])


def test_an_expected_rate_needs_trust_until_it_was_due():
    rows = [(h, "a", h * 1e-5, 8, 8 * (h // 8 + 1)) for h in range(33)]
    trusted = [("funding", "a", 0, 10), ("funding", "a", 20, 23.5), ("funding", "a", 30, 33)]
    found = pt.settlements(funding(rows), None, ledger([*trusted, ("quotes", "a", 0, 40)]))
    assert hours_of(found) == [8, 32]
    assert found["rate"].to_list() == pytest.approx([7e-5, 31e-5])


def test_a_mark_price_is_fresh_and_trusted():
    table = funding(paid("a", 1e-4, 8, 32))
    prices = marks([(7.99, "a", 100), (15.9, "a", 110), (23.99, "a", 120), (32.0, "a", 130)])
    found = pt.settlements(table, prices)
    assert found["mark_price"].to_list() == [100, None, 120, 130]
    assert found["payment"].to_list() == pytest.approx([0.01, None, 0.012, 0.013])
    trusted = ledger([("funding", "a", 0, 40), ("marks", "a", 0, 20), ("marks", "a", 23.995, 40)])
    assert pt.settlements(table, prices, trusted)["mark_price"].to_list() == [100, None, None, 130]


def test_an_interval_that_changes():
    rows = [
        *paid("a", 8e-4, 8, 16),
        (18.01, "a", 2e-4, 2, 18, True),
        (20.01, "a", 2e-4, 2, 20, True),
    ]
    rows += paid("b", 0.0, 4, 20)
    row = pair(pt.carry(funding(sorted(rows, key=lambda r: r[0]))))
    assert row["common_h"] == 20 and row["carry_bps_per_h"] == pytest.approx(1)


def test_too_little_gives_null_and_a_reason():
    table = funding([*paid("a", 1e-4, 8, 24), (1.0, "b", 1e-4, 8, 8)])
    heard = ledger([("funding", v, 0, h) for v, h in (("a", 24), ("b", 2), ("c", 1))])
    found = pt.carry(table, ledger=heard)
    assert found.height == 6
    for other, trusted_s in ((B, 7200), ("c:BTC-USDT-PERP", 3600)):
        row = pair(found, A, other)
        assert row["trusted_s"] == trusted_s and row["carry_apr"] is None is row["payment"]
        assert row["reason"].startswith("no hours") and row["settlements_buy"] == 0
    assert pt.carry(table.clear()).height == 0


def test_coins_are_not_mixed():
    table = funding([*paid("a:BTC-USDT-PERP", 1e-4, 8, 24), *paid("a:ETH-USDT-PERP", 1e-4, 8, 24)])
    with pytest.raises(BadUsage, match="BTC, ETH"):
        pt.carry(table)
    assert pt.settlements(table, base="ETH")["market"].unique().to_list() == ["a:ETH-USDT-PERP"]


rates = st.lists(st.integers(-50, 50).map(lambda k: k * 1e-6), min_size=24, max_size=24)


@settings(max_examples=60, deadline=None)
@given(rates, rates, st.sampled_from([1, 2, 4, 8]), st.integers(0, 24), st.integers(0, 24))
def test_holding_one_after_the_other_pays_the_sum(one, other, interval_h, cut, middle):
    dues = range(interval_h, 25, interval_h)
    rows = [(h + 1.01, "a", r, 1, h + 1, True) for h, r in enumerate(one)]
    rows += [(h + 0.01, "b", other[h - 1], interval_h, h, True) for h in dues]
    table = funding(sorted(rows, key=lambda r: r[0]))
    prices = marks([(h, v, 100.0 + h) for h in range(25) for v in "ab"])

    def payment(start, end, sell=A, buy=B):
        found = pt.carry(table, prices, ts_from=DAY + start * H, ts_to=DAY + end * H)
        return pair(found, sell, buy)["payment"]

    start, end = sorted((cut, middle))
    whole = payment(0, 24)
    assert payment(0, start) + payment(start, end) + payment(end, 24) == pytest.approx(whole)
    assert payment(0, 24, B, A) == pytest.approx(-whole)
    row = pair(pt.carry(table, prices))
    assert row["sell_bps_per_h"] == pytest.approx(1e4 * sum(one) / 24, abs=1e-9)
    paid_b = sum(other[h - 1] for h in dues)
    assert row["buy_bps_per_h"] == pytest.approx(1e4 * paid_b / 24, abs=1e-9)
