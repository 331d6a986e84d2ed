"""Which column of somebody's file is what: a small TOML, or one that is built in.

A word with ``{column}`` in it is filled from that column, row by row.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from perptape.config import duration_ns
from perptape.errors import BadUsage
from perptape.events import NS
from perptape.instruments import WORD, base_of, nearest, price_unit, unbundle
from perptape.venues import VENUES

PLACE = re.compile(r"\{([^{}]+)\}")
VENUE = re.compile(r"[a-z0-9_]{1,64}")
KILO = re.compile(r"k[A-Z]")
UNITS_NS = {"s": NS, "ms": NS // 1000, "us": NS // 1_000_000, "ns": 1}
GUIDE = "docs/import-quotes.md shows a map"

Cell = str | int | float | bool
Unit = Literal["s", "ms", "us", "ns", "iso"]


class QuoteMap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of a map; names on the right are columns, or words with ``{column}`` in them."""

    time: str
    """When the row became known: it becomes ``ts_recv``."""
    unit: Unit | None = None
    """Of the stamps; a column that is of a type of times needs none."""
    time_event: str | None = None
    """The venue's own time."""
    unit_event: Unit | None = None
    """Where it is not ``unit``."""
    venue: str = ""
    """``bybit``, or ``{exchange}``."""
    instrument: str
    """``{base}-USDT-PERP``, or the symbol of a venue that perptape knows."""
    bid_price: str
    ask_price: str
    bid_size: str | None = None
    ask_size: str | None = None
    valid_for: str | None = None
    """How long a row is trusted from its stamp; else until the market's next."""
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    venues: dict[str, str] = {}
    """The file's name of a venue -> ours."""
    instruments: dict[str, str] = {}
    """By venue (ours), where it is not ``instrument``."""
    contract_size: dict[str, Annotated[float, Meta(gt=0)]] = {}
    """Coins that a size of 1 stands for, by venue or market (``okx:BTC-USDT-PERP``); else 1."""
    contracts: tuple[str, ...] = ()
    """Venues whose sizes count contracts: not known where ``contract_size`` does not say."""
    where: dict[str, Cell | list[Cell]] = {}
    """Only rows whose column is this, or one of these; ``""`` is an empty cell."""

    @property
    def valid_ns(self) -> int | None:
        return None if self.valid_for is None else duration_ns(self.valid_for, "--map: valid_for")

    @property
    def named_by(self) -> tuple[str, ...]:
        """Columns that a row's market is told by."""
        words = (self.venue, self.instrument, *self.instruments.values())
        return tuple(dict.fromkeys(name for word in words for name in PLACE.findall(word)))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        maybe = (self.time_event, self.bid_size, self.ask_size)
        certain = (self.time, self.bid_price, self.ask_price, *self.named_by, *self.where)
        return tuple(dict.fromkeys((*certain, *(name for name in maybe if name))))


TARDIS = QuoteMap(
    time="local_timestamp",
    time_event="timestamp",
    unit="us",
    venue="{exchange}",
    instrument="{symbol}",
    bid_price="bid_price",
    bid_size="bid_amount",
    ask_price="ask_price",
    ask_size="ask_amount",
    venues={
        "binance": "binance_spot",
        "binance-futures": "binance",
        "binance-delivery": "binance_coinm",
        "bitget-futures": "bitget",
        "gate-io-futures": "gateio",
        "huobi-dm-linear-swap": "htx",
        "okex-swap": "okx",
    },
    contracts=("binance_coinm", "gateio", "htx", "okx"),
)
"""Tardis's downloadable ``quotes``: amounts are in the venue's own unit (docs.tardis.dev)."""
BUILT_IN = {"tardis": TARDIS}


def load(word: str | None, venue: str | None = None) -> QuoteMap:
    """Give the map that ``--map`` names; ``venue`` goes before what it says.

    Raises BadUsage.
    """
    if word is None:
        raise BadUsage(
            "quotes of anybody need --map FILE, which says what their columns are, or --map "
            f"{' or '.join(BUILT_IN)}: {GUIDE}."
        )
    found = BUILT_IN.get(word) or _read(Path(word))
    if venue is not None:
        found = msgspec.structs.replace(found, venue=venue)
    _check(found)
    return found


def _read(path: Path) -> QuoteMap:
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(_extended(said), QuoteMap)
    except OSError as error:
        known = ", ".join(BUILT_IN)
        raise BadUsage(
            f"--map {path}: {error.strerror or error}; name a TOML file or one of {known}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        keys = ", ".join(QuoteMap.__struct_fields__)
        raise BadUsage(f"--map {path}: {error}; the keys are {keys}, and {GUIDE}.") from error


def _extended(said: dict[str, Any]) -> dict[str, Any]:
    """Let ``like = "tardis"`` give what the file does not say."""
    like = said.pop("like", None)
    if like is None:
        return said
    if like not in BUILT_IN:
        raise msgspec.ValidationError(f"like = {like!r} is none of {', '.join(BUILT_IN)}")
    built_in: dict[str, Any] = msgspec.to_builtins(BUILT_IN[like])
    return built_in | said


def _check(found: QuoteMap) -> None:
    if not found.venue:
        raise BadUsage(
            'The map does not say whose quotes these are: add venue = "bybit" or venue = '
            '"{column}" to it, or --venue to the command.'
        )
    if found.valid_for is not None:
        duration_ns(found.valid_for, "--map: valid_for")


def to_json(found: QuoteMap) -> str:
    """Write what a map says, without its defaults."""
    said = {
        field.name: value
        for field in msgspec.structs.fields(QuoteMap)
        if (value := getattr(found, field.name)) not in (None, {}, (), field.default)
    }
    return msgspec.json.encode(said).decode()


# ---- markets ------------------------------------------------------------------------------------


class Market(NamedTuple):
    """What a row's words name, and what its numbers are worth."""

    market: str
    symbol: str
    price_unit: float
    """Coins that one printed price buys."""
    contract_size: float | None
    """Coins that a size of 1 stands for; ``None``: not known."""

    @property
    def base(self) -> str:
        return base_of(self.market.partition(":")[2])


def market_of(found: QuoteMap, cells: Mapping[str, str]) -> Market | None:
    """Name the market of a row by its ``named_by`` cells; ``None`` where one of them is empty.

    Raises BadUsage for words that are no venue or no instrument.
    """
    told = _filled(found.venue, cells)
    if not told:
        return None
    venue = _venue(found, told)
    symbol = _filled(found.instruments.get(venue, found.instrument), cells)
    if not symbol:
        return None
    name, unit = _instrument(venue, symbol)
    market = f"{venue}:{name}"
    coins = None if venue in found.contracts else unit
    size = found.contract_size.get(market, found.contract_size.get(venue, coins))
    return Market(market, symbol, unit, size)


def _filled(word: str, cells: Mapping[str, str]) -> str:
    """Fill a word from a row; nothing at all where a cell is empty."""
    if not all(cells[name] for name in PLACE.findall(word)):
        return ""
    return PLACE.sub(lambda match: cells[match[1]], word)


def _venue(found: QuoteMap, told: str) -> str:
    venue = found.venues.get(told, told.lower())
    if VENUE.fullmatch(venue) is None:
        raise BadUsage(
            f"{told!r} cannot be the name of a venue (letters a-z, digits and _ can): give it one "
            f'in the map, such as venues = {{ {json.dumps(told)} = "name" }}.'
        )
    return venue


def _instrument(venue: str, symbol: str) -> tuple[str, float]:
    """Give the canonical name, and how many coins the printed price is of."""
    match = WORD.fullmatch(symbol)
    if match is not None:
        base, quote, kind = match.groups()
        coin, unit = unbundle(base, kilo=True) if KILO.match(base) else unbundle(base.upper())
        return f"{coin}-{quote}{kind or '-PERP'}".upper(), unit
    name = VENUES[venue].instrument_name(symbol) if venue in VENUES else None
    if name is None:
        known = nearest(venue, VENUES)
        hint = f", or is the venue {known}?" if known and venue not in VENUES else "."
        raise BadUsage(
            f"{symbol!r} of {venue} is no instrument: let the map's instrument make BASE-QUOTE of "
            f'it, such as "{{base}}-USDT-PERP" or BTC-USDT-SPOT{hint}'
        )
    return name, price_unit(symbol, name)
