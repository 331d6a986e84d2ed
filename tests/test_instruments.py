"""Names and units: what one contract is worth in base coins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.columns import columns
from perptape.decode import Terms
from perptape.errors import BadUsage
from perptape.events import Quote
from perptape.instruments import (
    Instrument,
    base_of,
    canonical,
    nearest,
    parse_instrument,
    perp_name,
    price_unit,
    quote_of,
    split_symbol,
    step,
    unbundle,
)


def instrument(**changes):
    facts = {
        "venue": "acme",
        "name": "BTC-USDT-PERP",
        "symbol": "BTCUSDT",
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT",
        "kind": "linear",
        "contract_size": 1.0,
        "price_unit": 1.0,
        "tick_size": None,
        "lot_size": None,
        "taker_fee": None,
        "maker_fee": None,
        "funding_interval_h": None,
        "status": "trading",
        "ts_seen": 0,
    }
    return Instrument(**facts | changes)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("BTC-USDT", "BTC-USDT-PERP"),
        ("btc-usdt", "BTC-USDT-PERP"),
        ("BTC-USDT-PERP", "BTC-USDT-PERP"),
        ("BTC-USD-PERP", "BTC-USD-PERP"),
        ("BTC-USDT-SPOT", "BTC-USDT-SPOT"),
        ("1INCH-USDT", "1INCH-USDT-PERP"),
    ],
)
def test_parse_instrument(word, name):
    assert parse_instrument(word) == name


@pytest.mark.parametrize(
    "word",
    [
        "",
        "BTC",
        "BTCUSDT",
        "BTC/USDT",
        "BTC-USDT-",
        "BTC-USDT-FUT",
        "BTC-USDT\n",
        "牛来-USDT",
        "ſ-USDT",  # noqa: RUF001  a long s, which ignoring case would fold to S
        "../x-USDT",
        "A" * 33 + "-USDT",
    ],
)
def test_parse_refuses_in_one_sentence(word):
    with pytest.raises(BadUsage) as refusal:
        parse_instrument(word)
    message = str(refusal.value)
    assert repr(word) in message and "BTC-USDT" in message
    assert "\n" not in message and message.endswith(".")


def test_parts_of_a_name():
    assert (base_of("BTC-USDT-PERP"), quote_of("BTC-USDT-PERP")) == ("BTC", "USDT")


def test_nearest_name():
    names = ["BTC-USDT-PERP", "ETH-USDT-PERP", "PEPE-USDT-PERP"]
    assert nearest("BTCC-USDT-PERP", names) == "BTC-USDT-PERP"
    assert nearest("1000PEPE-USDT-PERP", names) == "PEPE-USDT-PERP"
    assert nearest("zzz", names) is None
    assert nearest("FOOBAR-USDT-PERP", names) is None
    assert nearest("BTC-USDT-PERP", []) is None


BUNDLES = [
    ("1000PEPE", "PEPE", 1e3),
    ("SHIB1000", "SHIB", 1e3),
    ("10000NFT", "NFT", 1e4),
    ("1000000BABYDOGE", "BABYDOGE", 1e6),
    ("1MBABYDOGE", "BABYDOGE", 1e6),
    ("1INCH", "1INCH", 1.0),
    ("1000X", "1000X", 1.0),
    ("100ABC", "100ABC", 1.0),
    ("JP225", "JP225", 1.0),
    ("US1000", "US1000", 1.0),
    ("1000", "1000", 1.0),
    ("BTC", "BTC", 1.0),
]


@pytest.mark.parametrize(("base", "coin", "unit"), BUNDLES)
def test_bundles(base, coin, unit):
    assert unbundle(base) == (coin, unit)
    assert price_unit(f"{base}USDT", perp_name(base, "USDT")) == unit


def test_price_unit_reads_other_spellings():
    assert price_unit("BTC_USDT", "BTC-USDT-PERP") == 1.0
    assert price_unit("BTCPERP", "BTC-USDC-PERP") == 1.0
    assert price_unit("1000X_USDT", "1000X-USDT-PERP") == 1.0


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("USDCUSDT", ("USDC", "USDT")),
        ("USDT", None),
        ("BTCEUR", None),
        ("btcUSDT", None),
    ],
)
def test_split_symbol(symbol, pair):
    assert split_symbol(symbol, ("USDT", "USDC")) == pair


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("", None),
        (None, None),
        ("0", None),
        ("-1", None),
        ("inf", None),
        (1e-10, 1e-10),
    ],
)
def test_step_says_nothing_where_the_listing_does(text, value):
    assert step(text) == value


def test_step_refuses_words():
    with pytest.raises(ValueError, match="could not convert"):
        step("small")


def test_a_bundle_has_all_its_units_turned():
    raw = instrument(base="1000PEPE", contract_size=10.0, tick_size=0.001, lot_size=5.0)
    found = canonical(raw)
    assert (found.name, found.base, found.price_unit) == ("PEPE-USDT-PERP", "PEPE", 1000.0)
    assert (found.contract_size, found.lot_size) == (10_000.0, 50_000.0)
    assert found.tick_size == pytest.approx(1e-6, rel=1e-12)


def test_names_without_factors_are_left_alone():
    assert canonical(instrument(base="1000PEPE"), bundles=False).name == "1000PEPE-USDT-PERP"


@pytest.mark.parametrize(
    "changes", [{"base": "牛来"}, {"base": ""}, {"base": "a"}, {"quote": "U/"}]
)
def test_what_cannot_be_a_name_is_none(changes):
    assert canonical(instrument(**changes)) is None


def row_of(instrument, qty, price):
    """(price per base coin, size in base coins) as the tables have them."""
    quote = Quote("S", None, None, price, qty, None, None, None)
    terms = Terms.of("acme:BTC-USDT-PERP", "S", instrument)
    made, _ = columns("quotes", [quote], [terms], np.array([0], np.int32))
    return made["bid_price"][0].as_py(), made["bid_size"][0].as_py()


def test_size_of_a_linear_contract():
    _, size = row_of(instrument(contract_size=0.001), 6172.0, 86859.8)
    assert size == pytest.approx(6.172)


def test_size_and_price_of_a_bundle():
    one = instrument(contract_size=1000.0, price_unit=1000.0)
    assert row_of(one, 2.0, 0.01) == pytest.approx((0.00001, 2000.0))


def test_size_of_an_inverse_contract():
    """35 contracts of 100 USD at 61804.7."""
    one = instrument(kind="inverse", contract_size=100.0)
    assert row_of(one, 35.0, 61804.7)[1] == pytest.approx(0.0566300, rel=1e-6)


def test_size_on_spot():
    assert row_of(instrument(kind="spot"), 0.25, 61804.7) == (61804.7, 0.25)


@settings(deadline=None)  # a busy machine is no failure
@given(
    qty=st.floats(1e-6, 1e9),
    price=st.floats(1e-9, 1e6),
    unit=st.sampled_from([1.0, 1e3, 1e4, 1e6]),
)
def test_notional_is_the_same_in_every_unit(qty, price, unit):
    """Qty x printed price is what is paid, whatever the bundle."""
    per_coin, size = row_of(instrument(contract_size=unit, price_unit=unit), qty, price)
    assert size * per_coin == pytest.approx(qty * price, rel=1e-12)
