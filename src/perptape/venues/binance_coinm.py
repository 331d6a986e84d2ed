"""Binance COIN-M futures (inverse), ``bookTicker`` of imported recordings only.

Odd here: sizes are contracts of a fixed worth in USD, which no captured listing shows, so there
is no instrument list and sizes stay unknown.
"""

import re

import msgspec

from perptape.events import MS, Event, Quote
from perptape.venues.venue import Id, Ms, Price, Qty, Venue

ENVELOPE = b'"stream":"'
STREAM = b'@bookTicker"'
BARE = b'"e":"bookTicker"'
SYMBOL = re.compile(r"([A-Z0-9]{1,32})(USD)_PERP")


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask; sizes in contracts."""

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


class Push(msgspec.Struct, frozen=True, gc=False):
    """A frame of a combined stream."""

    stream: str
    data: BookTicker


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    stream: str = ""
    e: str = ""


heads = msgspec.json.Decoder(Head | list[Head])
pushes = msgspec.json.Decoder(Push, strict=False)
tickers = msgspec.json.Decoder(BookTicker, strict=False)


def decode(payload: bytes) -> list[Event]:
    is_bare = payload.find(ENVELOPE) < 0
    if not is_bare and payload.find(STREAM) >= 0:
        return _quotes(pushes.decode(payload).data)
    if is_bare and payload.find(BARE) >= 0:
        return _quotes(tickers.decode(payload))
    head = heads.decode(payload)
    if isinstance(head, list):  # an all-market array of another channel
        return []
    if head.stream.endswith("@bookTicker"):
        return _quotes(pushes.decode(payload).data)
    return _quotes(tickers.decode(payload)) if head.e == "bookTicker" else []


def _quotes(top: BookTicker) -> list[Event]:
    return [Quote(top.s, top.T * MS, top.E * MS, top.b, top.B, top.a, top.A, top.u)]


def instrument_name(symbol: str) -> str | None:
    match = SYMBOL.fullmatch(symbol)
    return f"{match[1]}-{match[2]}-PERP" if match else None


BINANCE_COINM = Venue(
    name="binance_coinm",
    docs="https://developers.binance.com/docs/derivatives/coin-margined-futures",
    streams={"quotes": ("bookTicker",)},
    decode=decode,
    instrument_name=instrument_name,
    live=False,
)
