"""What each venue charges at its base tier: a dated table in the package, or the user's own."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec


class Fee(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fractions of the notional: 0.0006 is 0.06 %; negative is a rebate."""

    venue: str
    taker: float
    maker: float
    date: str
    """The day of the source, not of the fee's first use."""
    source: str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fee: tuple[Fee, ...]


def read_fees(text: str) -> dict[str, Fee]:
    """Fees by venue from a TOML text of ``[[fee]]`` tables; of two dates the later one counts.

    Raises ``msgspec.MsgspecError`` or ``ValueError`` (TOML) when it is not such a text.
    """
    table = msgspec.toml.decode(text, type=_Table)
    return {fee.venue: fee for fee in sorted(table.fee, key=lambda fee: fee.date)}


@cache
def base_fees() -> Mapping[str, Fee]:
    """The package's own table."""
    return read_fees(files("perptape").joinpath("fees.toml").read_text("utf-8"))


def fee_of(venue: str) -> Fee:
    """The package's fee of a venue; the table knows all of ``VENUES`` (a test compares)."""
    return base_fees()[venue]
