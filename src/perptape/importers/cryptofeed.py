r"""cryptofeed's raw recordings (``*.ws.*``): a line of text for each thing that happened.

``<url> <-> <time>`` opened a connection, ``<url> <- <time>: <text>`` was sent, and
``<time>: <text>`` came; times are seconds since 1970. Bytes that came stand there as Python shows
them (``b'\x1f\x8b...'``); they are read back by rule, nothing is evaluated.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from perptape.errors import Failed
from perptape.events import NS, Kind
from perptape.guard import inflate
from perptape.importers.importer import Heard, Importer, Tally
from perptape.venues import VENUES

LINE_AT_MOST = 64 << 20  # bytes; a byte of a frame is up to four of its line
TIME = rb"([1-9]\d{9})(?:\.(\d{1,9}))?"
OPENED = re.compile(rb"(wss?://\S+) <-> " + TIME)
SENT = re.compile(rb"(wss?://\S+) <- " + TIME + rb": (.*)", re.DOTALL)
CAME = re.compile(TIME + rb": (.*)", re.DOTALL)
ESCAPED = rb"\\(?:[\\'\"tnr]|x[0-9a-f]{2})"
LITERAL = re.compile(
    rb"b(?:'((?:[ -&(-\[\]-~]|%b)*+)'|\"((?:[ !#-\[\]-~]|%b)*+)\")" % (ESCAPED, ESCAPED)
)
NS_AT_MOST = 2**63 - 1
URLS = (
    ("wss://api.hbdm.com/linear-swap-", "htx"),
    ("wss://api.hbdm.com/ws_index", "htx"),
    ("wss://ws.bitget.com/", "bitget"),
    ("wss://fx-ws.gateio.ws/v4/ws/usdt", "gateio"),
    ("wss://stream.bybit.com/v5/public/linear", "bybit"),
    ("wss://fstream.binance.com/", "binance"),
    ("wss://dstream.binance.com/", "binance_coinm"),
    ("wss://stream.binance.com", "binance_spot"),
    ("wss://ws.okx.com", "okx"),
    ("wss://api.hyperliquid.xyz/", "hyperliquid"),
)
"""How the addresses of a venue begin; other product families of it have other ones."""


class Place(NamedTuple):
    """The connection that the lines are of."""

    number: int
    """Counts those of the file from 1; 0: none was opened yet."""
    venue: str | None


def read(path: Path, venue: str | None, tally: Tally) -> Iterator[Heard]:
    """Yield what one file's connections heard and sent; ``venue`` where no address says it.

    Raises Failed at a line that is none of these, and at one that is too long.
    """
    place, number = Place(0, venue), 0
    with path.open("rb") as file:
        while line := file.readline(LINE_AT_MOST + 1):
            number += 1
            body = line.removesuffix(b"\n")
            if opened := OPENED.fullmatch(body):
                place = Place(place.number + 1, venue_at(opened[1]) or venue)
                continue
            heard = _heard(body, place) if len(line) <= LINE_AT_MOST else None
            if not line.endswith(b"\n") and len(line) <= LINE_AT_MOST and not _is_whole(heard):
                tally.torn += 1
            elif heard is None:
                raise Failed(_refusal(path, number, line))
            elif place.venue is None:
                tally.skipped += 1
            else:
                yield heard


def venue_at(url: bytes) -> str | None:
    """Name the venue that listens at this address."""
    text = url.decode("latin-1")
    return next((venue for begin, venue in URLS if text.startswith(begin)), None)


def _heard(body: bytes, place: Place) -> Heard | None:
    """Give the frame that a line tells of, ``None`` if it tells of none."""
    match = SENT.fullmatch(body) or CAME.fullmatch(body)
    if match is None:
        return None
    *_, seconds, fraction, payload = match.groups()
    ts = int(seconds) * NS + int((fraction or b"").ljust(9, b"0"))
    if ts > NS_AT_MOST:
        return None
    heard = Heard(ts, place.venue or "", payload, connection=place.number)
    if match.re is SENT:
        return heard._replace(kind=Kind.SENT)
    return _binary(heard) if payload[:2] in {b"b'", b'b"'} else heard


def _binary(heard: Heard) -> Heard | None:
    """Give the bytes that a literal means, inflated where the venue gzips them."""
    literal = LITERAL.fullmatch(heard.payload)
    if literal is None:
        return None
    shown = literal[1] if literal[1] is not None else literal[2]
    # ASCII with Python's own escapes and no others: the pattern has seen to that.
    came = shown.decode("unicode_escape").encode("latin-1")
    heard = heard._replace(kind=Kind.BINARY, payload=came, wire_size=len(came))
    if heard.venue not in VENUES or not VENUES[heard.venue].inflates:
        return heard
    try:
        return heard._replace(payload=inflate(came))
    except ValueError as error:
        return heard._replace(trouble=str(error))


def _is_whole(heard: Heard | None) -> bool:
    """Tell whether the last line of a file, which has no end, lost nothing."""
    if heard is None or heard.kind == Kind.BINARY:
        return heard is not None
    try:
        msgspec.json.decode(heard.payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _refusal(path: Path, number: int, line: bytes) -> str:
    why = (
        f"is longer than {LINE_AT_MOST >> 20} MiB"
        if len(line) > LINE_AT_MOST
        else "tells neither of a connection nor of a frame"
    )
    return (
        f"{path.name}, line {number} {why}: nothing was imported; "
        "mend the line or choose the format that wrote it"
    )


CRYPTOFEED = Importer(name="cryptofeed", read=read, needs_venue=False)
