"""Binance USD-M futures, ``bookTicker`` of imported recordings only.

Odd here: the same frame comes in an envelope with its stream's name (``/stream``) or bare
(``/ws``). Key order changed between years; ``ps`` and ``st`` came in 2026, when all-market streams
began to carry COIN-M symbols too (``st`` 2): those are not ours.
"""

import msgspec

from perptape.events import MS, Event, Quote
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, perp_name, split_symbol, step
from perptape.venues.venue import Id, Listing, Ms, Price, Qty, Venue

ENVELOPE = b'"stream":"'
STREAM = b'@bookTicker"'
BARE = b'"e":"bookTicker"'
QUOTES = ("USDT", "USDC", "BUSD")
PERPETUAL = {"PERPETUAL", "TRADIFI_PERPETUAL"}
USD_M = 1


class BookTicker(msgspec.Struct, frozen=True):
    """Best bid and ask; sizes in coins."""

    u: Id
    s: str
    b: Price
    B: Qty
    a: Price
    A: Qty
    T: Ms
    """Matching time."""
    E: Ms
    """Sending time."""
    st: int = USD_M


class Push(msgspec.Struct, frozen=True):
    """A frame of a combined stream."""

    stream: str
    data: BookTicker


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    stream: str = ""
    e: str = ""


class Filter(msgspec.Struct, frozen=True):
    filterType: str
    tickSize: str = ""
    stepSize: str = ""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of exchangeInfo."""

    symbol: str
    contractType: str
    status: str
    baseAsset: str
    quoteAsset: str
    marginAsset: str
    filters: list[Filter]


class ExchangeInfo(msgspec.Struct, frozen=True):
    symbols: list[Contract]


heads = msgspec.json.Decoder(Head | list[Head])
pushes = msgspec.json.Decoder(Push, strict=False)
tickers = msgspec.json.Decoder(BookTicker, strict=False)


def decode(payload: bytes) -> list[Event]:
    if STREAM in payload and ENVELOPE in payload:
        return _quotes(pushes.decode(payload).data)
    if BARE in payload and ENVELOPE not in payload:
        return _quotes(tickers.decode(payload))
    head = heads.decode(payload)
    if isinstance(head, list):  # an all-market array of another channel
        return []
    if head.stream.endswith("@bookTicker") or head.stream == "!bookTicker":
        return _quotes(pushes.decode(payload).data)
    return _quotes(tickers.decode(payload)) if head.e == "bookTicker" else []


def _quotes(top: BookTicker) -> list[Event]:
    if top.st != USD_M:
        return []
    return [Quote(top.s, top.T * MS, top.E * MS, top.b, top.B, top.a, top.A, top.u)]


def instrument_name(symbol: str) -> str | None:
    pair = split_symbol(symbol, QUOTES)
    return perp_name(*pair) if pair else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = msgspec.json.decode(body, type=ExchangeInfo).symbols
    found = (_instrument(row, ts_seen) for row in rows if row.contractType in PERPETUAL)
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("binance")
    filters = {rule.filterType: rule for rule in row.filters}
    return canonical(
        Instrument(
            venue="binance",
            name="",
            symbol=row.symbol,
            base=row.baseAsset,
            quote=row.quoteAsset,
            settle=row.marginAsset,
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            tick_size=step(filters["PRICE_FILTER"].tickSize) if "PRICE_FILTER" in filters else None,
            lot_size=step(filters["LOT_SIZE"].stepSize) if "LOT_SIZE" in filters else None,
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=None,  # another call tells, and only of those that are not 8 h
            status="trading" if row.status == "TRADING" else row.status,
            ts_seen=ts_seen,
        )
    )


BINANCE = Venue(
    name="binance",
    docs="https://developers.binance.com/docs/derivatives/usds-margined-futures",
    streams={"quotes": ("bookTicker",)},
    decode=decode,
    instrument_name=instrument_name,
    live=False,
    read_instruments=read_instruments,
)
