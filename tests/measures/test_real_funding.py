"""Funding that was really paid: the trap of intervals, holes and late stamps."""

import csv
from datetime import UTC, datetime, timedelta, timezone
from statistics import fmean

import msgspec
import polars as pl
import pytest

import perptape as pt

from .tape import TIME

H_MS = 3_600_000
BINANCE, HYPERLIQUID = "binance:BTC-USDT-PERP", "hyperliquid:BTC-USDC-PERP"
TWO = "funding-btc-binance-hyperliquid-2022-2025"
SEVEN = "funding-btc-7venues-2020-2023"
# The README's zones: five were written in UTC+3, two in UTC.
EAST = timezone(timedelta(hours=3))
ZONES = dict.fromkeys(("binance", "bybit", "htx", "mexc", "kucoin"), EAST) | dict.fromkeys(
    ("gate", "dydx"), UTC
)


class Row(msgspec.Struct):
    time: int
    funding_rate: str


def folder(shared, name):
    if not (shared / "data" / name).is_dir():
        pytest.skip(f"the recording {name} is not on this machine")
    return shared / "data" / name


def table(market, interval_h, rows):
    """(ms, fraction per settlement) -> the funding table, all of it paid."""
    venue, instrument = market.split(":")
    times = pl.Series([ms for ms, _ in rows], dtype=pl.Int64) * 1_000_000
    return pl.DataFrame(
        {
            "ts_recv": times.cast(TIME),
            "rate": [rate / interval_h for _, rate in rows],
            "ts_funding": times.cast(TIME),
        }
    ).with_columns(
        venue=pl.lit(venue),
        instrument=pl.lit(instrument),
        interval_h=pl.lit(float(interval_h)),
        is_settled=pl.lit(value=True),
    )


@pytest.fixture(scope="module")
def two(shared):
    """(ms, rate) of every settlement, as stamped."""
    found = {}
    for market, name in ((BINANCE, "binance"), (HYPERLIQUID, "hl")):
        text = (folder(shared, TWO) / f"{name}_BTC_funding_rates.json").read_bytes()
        rows = msgspec.json.decode(text, type=list[Row])
        found[market] = [(row.time, float(row.funding_rate)) for row in rows]
    return found


def hour(ms):
    return round(ms / H_MS)


def together(two):
    tables = [table(BINANCE, 8, two[BINANCE]), table(HYPERLIQUID, 1, two[HYPERLIQUID])]
    return pl.concat(tables).sort("ts_recv")


def test_printed_binance_pays_more_and_per_hour_hyperliquid_does(two):
    eight, one = ({hour(ms): rate for ms, rate in two[m]} for m in (BINANCE, HYPERLIQUID))
    pairs = [(due, due - k) for due in eight for k in range(8) if due - k in one]
    binance, hyperliquid = fmean(eight[due] for due, _ in pairs), fmean(one[h] for _, h in pairs)
    assert binance / hyperliquid == pytest.approx(3.94, abs=0.01)  # the trap
    (row,) = pt.carry(together(two)).filter(sell=HYPERLIQUID, buy=BINANCE).rows(named=True)
    assert row["common_h"] == len(pairs) == 12_192
    assert row["sell_bps_per_h"] == pytest.approx(1e4 * hyperliquid)
    assert row["buy_bps_per_h"] == pytest.approx(1e4 * binance / 8)
    assert row["sell_bps_per_h"] / row["buy_bps_per_h"] == pytest.approx(2.03, abs=0.01)
    assert row["carry_apr"] == pytest.approx(0.08896, abs=1e-5)
    assert row["payment"] is None and "settlement is missing" in row["reason"]  # 26 holes


def test_in_windows_without_a_hole_hyperliquid_pays_more_six_times_of_seven(two):
    found = pt.settlements(together(two))
    eight = found.filter(market=BINANCE).select(due="ts_funding", binance="rate")
    windows = (
        found.filter(market=HYPERLIQUID)
        .join_asof(eight, left_on="ts_funding", right_on="due", strategy="forward")
        .group_by("due", "binance")
        .agg(n=pl.len(), hyperliquid=pl.col("rate").sum(), printed=pl.col("rate").last())
        .filter(pl.col("n") == 8)
    )
    assert windows.height == 1510  # as the recording's README counts them
    more = (windows["hyperliquid"] > windows["binance"]).mean()
    printed = (windows["printed"] > windows["binance"]).mean()
    assert (more, printed) == (pytest.approx(0.863, abs=1e-3), pytest.approx(0.163, abs=1e-3))


def test_stamps_minutes_late_are_of_their_hour(two):
    found = pt.settlements(together(two).with_columns(ts_recv=pl.col("ts_recv").dt.offset_by("1h")))
    assert found.height == len(two[BINANCE]) + len(two[HYPERLIQUID])
    assert (found["ts_funding"].cast(pl.Int64) % (H_MS * 1_000_000) == 0).all()


@pytest.fixture(scope="module")
def seven(shared):
    found = {}
    for path in sorted(folder(shared, SEVEN).glob("*.csv")):
        venue = path.name.split("_")[1]
        with path.open() as file:
            rows = [(row["Date"], float(row["Funding Rate"])) for row in csv.DictReader(file)]
        found[venue] = [
            (round(datetime.fromisoformat(d).replace(tzinfo=ZONES[venue]).timestamp() * 1000), rate)
            for d, rate in rows
        ]
    return found


def funding_of(seven):
    tables = [
        table(f"{venue}:BTC-USDT-PERP", 1 if venue == "dydx" else 8, rows)
        for venue, rows in seven.items()
    ]
    return pl.concat(tables).sort("ts_recv")


def test_seven_venues_settle_at_their_own_hours(seven):
    found = pt.settlements(funding_of(seven)).with_columns(
        pl.col("market").str.split(":").list.first(), hour=pl.col("ts_funding").dt.hour()
    )
    hours = dict(found.group_by("market").agg(pl.col("hour").unique().sort()).iter_rows())
    assert hours["binance"] == hours["bybit"] == hours["mexc"] == hours["gate"] == [0, 8, 16]
    assert hours["kucoin"] == [4, 12, 20] and len(hours["htx"]) == 8 and len(hours["dydx"]) == 24
    five = found.filter(pl.col("market").is_in(["binance", "bybit", "gate", "htx", "mexc"]))
    common = five.group_by("ts_funding").len().filter(pl.col("len") == 5)
    assert common.height == 3277  # as the recording's README counts them


def test_two_recordings_of_binance_agree(seven, two):
    since = 1_640_995_200_000
    until = max(ms for ms, _ in seven["binance"])
    one, other = (
        {hour(ms): rate for ms, rate in rows if since <= ms <= until + H_MS}
        for rows in (seven["binance"], two[BINANCE])
    )
    assert one == other and len(one) == 2190


def test_dydx_hourly_looked_cheapest_and_was_not(seven):
    """Printed, dYdX paid a tenth of Binance; per hour three quarters, and more than Gate."""
    found = pt.carry(funding_of(seven), ts_from=1_640_995_200 * 10**9)

    def of(sell, buy):
        names = {"sell": f"{sell}:BTC-USDT-PERP", "buy": f"{buy}:BTC-USDT-PERP"}
        return found.filter(**names).row(0, named=True)

    row = of("dydx", "binance")
    assert row["sell_bps_per_h"] / (8 * row["buy_bps_per_h"]) == pytest.approx(0.095, abs=1e-3)
    assert row["sell_bps_per_h"] / row["buy_bps_per_h"] == pytest.approx(0.763, abs=1e-3)
    assert of("dydx", "gate")["carry_apr"] == pytest.approx(0.0053, abs=1e-4)
    assert of("kucoin", "binance")["common_h"] == 17_512  # though they never settle together
