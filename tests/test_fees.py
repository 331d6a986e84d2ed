"""The fee table: dated, sourced, plausible, and there for every venue."""

from datetime import date

import msgspec
import pytest

from perptape.fees import base_fees, fee_of, read_fees
from perptape.venues import VENUES

IMPORTED = {"aster", "dydx", "kraken", "kucoin", "lighter"}
"""Not recorded; others' quotes of them can be imported."""


def test_every_venue_has_a_fee_and_every_fee_a_venue():
    assert set(base_fees()) == set(VENUES) | IMPORTED


@pytest.mark.parametrize("venue", sorted(IMPORTED))
def test_a_fee_of_others_is_dated_and_sourced(venue):
    fee = fee_of(venue)
    assert date(2026, 1, 1) <= date.fromisoformat(fee.date) and len(fee.source) > 20
    assert 0 <= fee.maker <= fee.taker < 0.002


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_fee_is_dated_sourced_and_a_fraction(venue):
    fee = fee_of(venue)
    assert date(2026, 1, 1) <= date.fromisoformat(fee.date)
    assert len(fee.source) > 20
    assert -0.001 < fee.maker <= fee.taker < 0.002
    assert fee.taker >= 0.0002


@pytest.mark.parametrize(
    ("venue", "taker", "maker"),
    [
        ("bitget", 0.0006, 0.0002),
        ("htx", 0.0006, 0.0002),
        ("gateio", 0.0005, 0.0002),
        ("bybit", 0.00055, 0.0002),
        ("binance", 0.0005, 0.0002),
    ],
)
def test_base_tier(venue, taker, maker):
    fee = fee_of(venue)
    assert (fee.taker, fee.maker) == (taker, maker)


OWN = """
[[fee]]
venue = "acme"
taker = {taker}
maker = -0.0001
date = "{day}"
source = "my contract"
"""


def test_of_two_dates_the_later_counts():
    newer, older = OWN.format(taker=0.0003, day="2026-02-01"), OWN.format(taker=1, day="2025-02-01")
    assert read_fees(newer + older)["acme"].taker == 0.0003


@pytest.mark.parametrize("text", ["fee = 3", "[[fee]]\nvenue = 'a'", OWN + "x = 1", "[["])
def test_a_broken_table_is_refused(text):
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        read_fees(text)
