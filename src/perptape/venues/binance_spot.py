"""Binance spot, ``bookTicker`` of imported recordings only.

Odd here: the frame has neither a time nor an event's name, so a bare one (``/ws``) is known by
its six keys alone, and only the time of arrival can order it.
"""

import msgspec

from perptape.events import Event, Quote
from perptape.instruments import split_symbol, unbundle
from perptape.venues.venue import Id, Price, Qty, Venue

ENVELOPE = b'"stream":"'
STREAM = b'@bookTicker"'
QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD1", "EUR", "TRY", "BTC", "ETH", "BNB")


class BookTicker(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask; sizes in coins."""

    u: Id
    s: str
    b: Price
    B: Qty
    a: Price
    A: Qty


class Push(msgspec.Struct, frozen=True, gc=False):
    """A frame of a combined stream."""

    stream: str
    data: BookTicker


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by: a bare quote is who has ``u`` and ``A`` but no ``e``."""

    stream: str = ""
    e: str = ""
    u: msgspec.Raw = msgspec.Raw()
    A: msgspec.Raw = msgspec.Raw()


heads = msgspec.json.Decoder(Head | list[Head])
pushes = msgspec.json.Decoder(Push, strict=False)
tickers = msgspec.json.Decoder(BookTicker, strict=False)


def decode(payload: bytes) -> list[Event]:
    if payload.find(STREAM) >= 0 and payload.find(ENVELOPE) >= 0:
        return [_quote(pushes.decode(payload).data)]
    head = heads.decode(payload)
    if isinstance(head, list):  # an all-market array of another channel
        return []
    if head.stream.endswith("@bookTicker"):
        return [_quote(pushes.decode(payload).data)]
    if not head.stream and not head.e and bytes(head.u) and bytes(head.A):
        return [_quote(tickers.decode(payload))]
    return []


def _quote(top: BookTicker) -> Quote:
    return Quote(top.s, None, None, top.b, top.B, top.a, top.A, top.u)


def instrument_name(symbol: str) -> str | None:
    pair = split_symbol(symbol, QUOTES)
    return f"{unbundle(pair[0])[0]}-{pair[1]}-SPOT" if pair else None


BINANCE_SPOT = Venue(
    name="binance_spot",
    docs="https://developers.binance.com/docs/binance-spot-api-docs",
    streams={"quotes": ("bookTicker",)},
    decode=decode,
    instrument_name=instrument_name,
    live=False,
)
