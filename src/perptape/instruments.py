"""What is traded: canonical names, and what one contract is worth."""

import difflib
import math
import re
from collections.abc import Iterable

import msgspec

from perptape.errors import BadUsage

BASE = re.compile(r"[A-Z0-9]{1,32}")
QUOTE = re.compile(r"[A-Z0-9]{2,10}")
WORD = re.compile(r"([A-Z0-9]{1,32})-([A-Z0-9]{2,10})(-PERP|-SPOT)?", re.IGNORECASE | re.ASCII)

BUNDLE = re.compile(r"(1000|10000|100000|1000000)([A-Z][A-Z0-9]+)")
"""``1000PEPE``. Not ``1INCH`` (no thousand) and not ``1000X`` (a coin of that name exists)."""
KILO = re.compile(r"k([A-Z][A-Z0-9]*)")
"""``kPEPE``, a thousand: one venue's spelling."""
ODD_BUNDLES = {"SHIB1000": ("SHIB", 1e3), "1MBABYDOGE": ("BABYDOGE", 1e6)}
NEAR = 8
"""So many similar names are looked at."""
UNIT_WORDS = re.compile(r"1M|10{3,6}|k")


class Instrument(msgspec.Struct, frozen=True):
    """One contract of one venue, everything per base coin."""

    venue: str
    name: str
    """``BTC-USDT-PERP`` (linear), ``BTC-USD-PERP`` (inverse), ``BTC-USDT-SPOT``."""
    symbol: str
    """The venue's spelling."""
    base: str
    quote: str
    settle: str
    kind: str
    """``linear``, ``inverse`` or ``spot``."""
    contract_size: float
    """Base coins per ``qty``; of an inverse contract: quote units per ``qty``."""
    price_unit: float
    """Base coins that one printed price buys: 1000 for ``1000PEPE``, else 1."""
    tick_size: float | None
    """Price step per base coin."""
    lot_size: float | None
    """Size step in base coins (inverse: in quote units)."""
    taker_fee: float | None
    maker_fee: float | None
    funding_interval_h: float | None
    status: str
    """The venue's word; ``trading`` where it trades."""
    ts_seen: int


def parse_instrument(word: str) -> str:
    """Give the canonical name a user means: ``BTC-USDT`` is ``BTC-USDT-PERP``.

    Raises BadUsage.
    """
    match = WORD.fullmatch(word)
    if match is None:
        raise BadUsage(
            f"{word!r} is not an instrument: write BASE-QUOTE in the letters A-Z and digits, "
            "such as BTC-USDT (its perpetual), BTC-USD-PERP or BTC-USDT-SPOT."
        )
    base, quote, kind = match.groups()
    return f"{base}-{quote}{kind or '-PERP'}".upper()


def base_of(name: str) -> str:
    """``BTC-USDT-PERP`` -> ``BTC``."""
    return name.partition("-")[0]


def quote_of(name: str) -> str:
    """``BTC-USDT-PERP`` -> ``USDT``."""
    return name.partition("-")[2].partition("-")[0]


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Give the most similar of ``names``, or ``None`` if nothing is near.

    Of instruments only those count whose coins are alike: all end in the same words.
    """
    near = difflib.get_close_matches(name, names, n=NEAR, cutoff=0.5)
    alike = (each for each in near if _is_near(base_of(name), base_of(each)))
    return next(alike, None)


def _is_near(one: str, other: str) -> bool:
    return bool(difflib.get_close_matches(one, [other], cutoff=0.5))


def unbundle(base: str, *, kilo: bool = False) -> tuple[str, float]:
    """Give the coin and how many of it a bundle holds: ``10000NFT`` -> ``NFT``, 10000.

    ``kilo``: of a venue that writes ``kPEPE`` for a thousand, and bundles in no other way.
    """
    if kilo:
        match = KILO.fullmatch(base)
        return (base, 1.0) if match is None else (match[1], 1e3)
    if base in ODD_BUNDLES:
        return ODD_BUNDLES[base]
    if match := BUNDLE.fullmatch(base):
        return match[2], float(match[1])
    return base, 1.0


def price_unit(symbol: str, name: str) -> float:
    """How many base coins a printed price buys, read off a symbol and its canonical name.

    For recordings without an instrument list: ``1000PEPEUSDT``, ``PEPE-USDT-PERP`` -> 1000.
    """
    before, _, after = symbol.partition(base_of(name))
    match = UNIT_WORDS.match(before or after)
    return 1.0 if match is None else float(match[0].replace("M", "000000").replace("k", "1000"))


def split_symbol(symbol: str, quotes: Iterable[str]) -> tuple[str, str] | None:
    """``BTCUSDT`` -> ``BTC``, ``USDT``, by the first of ``quotes`` that ends it."""
    for quote in quotes:
        if symbol.endswith(quote) and BASE.fullmatch(base := symbol[: -len(quote)]):
            return base, quote
    return None


def perp_name(base: str, quote: str) -> str:
    """Give the perpetual's canonical name, bundle or not: ``1000PEPE`` -> ``PEPE-USDT-PERP``."""
    return f"{unbundle(base)[0]}-{quote}-PERP"


def step(text: str | float | None) -> float | None:
    """Read a tick or lot of a listing; ``None`` where it says nothing (absent, ``""``, ``"0"``).

    Raises ValueError when it is no number.
    """
    value = float(text or 0)
    return value if 0 < value < math.inf else None


def canonical(raw: Instrument, *, bundles: bool = True, kilo: bool = False) -> Instrument | None:
    """Turn a linear perpetual in the venue's own units into one per base coin.

    ``raw`` has the venue's base (``1000PEPE``), contract size and tick per printed price, and its
    lot in ``qty``; its name is not read. ``None`` if base or quote cannot be a canonical name.
    ``bundles=False`` for venues whose names never hold a factor; ``kilo`` as of :func:`unbundle`.
    """
    coin, unit = unbundle(raw.base, kilo=kilo) if bundles else (raw.base, 1.0)
    if not (BASE.fullmatch(coin) and QUOTE.fullmatch(raw.quote)):
        return None
    per_qty = raw.contract_size * unit
    return msgspec.structs.replace(
        raw,
        name=f"{coin}-{raw.quote}-PERP",
        base=coin,
        contract_size=per_qty,
        price_unit=unit,
        tick_size=None if raw.tick_size is None else raw.tick_size / unit,
        lot_size=None if raw.lot_size is None else raw.lot_size * per_qty,
    )
