"""The shape of a venue: facts and pure functions, no I/O, no clock, no memory."""

import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from perptape.events import Event
from perptape.instruments import Instrument

# What a number on a wire may be; the parser refuses the rest (NaN, 1e400, a price of zero).
Price = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
Qty = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Rate = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Ms = Annotated[int, Meta(ge=0, le=(2**63 - 1) // 1_000_000)]
"""Milliseconds since 1970, so that nanoseconds fit into 64 bits."""
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]

FRONT = 128
"""Among so many of its first bytes a frame says which it is, as venues usually spell it. What is
found there by its bytes needs no parser to tell; ``find``, for ``in`` costs more."""

P = TypeVar("P")
"""A price in a wire type: ``Price`` when read, ``str`` when written as the venue writes it."""
Q = TypeVar("Q")
"""A quantity in a wire type: ``Qty`` when read, ``str`` or ``int`` when written."""
L = TypeVar("L")
"""A level of a book."""
Best = Annotated[list[L], Meta(max_length=1)]
"""A side of which the best level is told, or that there is none."""


class Topic(msgspec.Struct, frozen=True):
    """One channel of one symbol, as a venue names it."""

    channel: str
    """Ours: ``quotes``, ``books``, ``trades``, ``marks`` or ``funding``."""
    stream: str
    """The venue's name of the channel: ``orderbook.1``."""
    symbol: str
    key: str
    """What :class:`Accepted` and :class:`Rejected` name it by. Two channels that one stream feeds
    have one key, and are asked for once."""
    marks: tuple[bytes, ...]
    """Byte strings that every data frame of this topic contains."""
    socket: str = ""
    """Which of the venue's ``sockets`` it is heard on; empty: the one at ``url``."""


class Accepted(msgspec.Struct, frozen=True):
    """The venue acknowledged these topics, which proves nothing about data."""

    keys: tuple[str, ...]


class Rejected(msgspec.Struct, frozen=True):
    """The venue refused these topics, in its own words."""

    keys: tuple[str, ...]
    reason: str


class Complaint(msgspec.Struct, frozen=True):
    """An error that belongs to no topic."""

    reason: str


class Alive(msgspec.Struct, frozen=True):
    """A heartbeat of the other side; ``reply`` goes back at once."""

    reply: bytes | None = None


class Leaving(msgspec.Struct, frozen=True):
    """The venue says that it will close: reconnect now."""

    reason: str


Control = Accepted | Rejected | Complaint | Alive | Leaving


class Echo(msgspec.Struct, frozen=True):
    """How a venue tells its time when it answers our ping."""

    asked: bytes
    """Stands in every ping of ours and in nothing else that we send."""
    told: bytes
    """Stands in every answer to a ping and in no data."""
    read: Callable[[bytes], int]
    """An answer -> the venue's clock in ns."""


class Heartbeat(msgspec.Struct, frozen=True):
    """How a wire is kept alive, and when it counts as dead."""

    silence_ns: int
    """A wire on which no frame at all came for so long is dead."""
    ping: Callable[[int], bytes] | None = None
    """The client's ping, given the wall time in ns; ``None`` if the venue pings."""
    every_ns: int = 0
    echo: Echo | None = None
    """``None``: an answer to a ping tells no time."""


class Listing(msgspec.Struct, frozen=True):
    """One page of a venue's instrument list."""

    instruments: list[Instrument]
    next_path: str | None = None


class Link(msgspec.Struct, frozen=True):
    """What a frame of a book says of its place in the sequence, read without its levels."""

    key: str
    """Of its topic."""
    is_snapshot: bool
    update_id: int | None
    follows: int | None


class Poll(msgspec.Struct, frozen=True):
    """A REST call made again and again, for what no stream of the venue tells."""

    what: str
    """Its name on the tape."""
    channel: str
    """It is made while this channel is recorded."""
    path: str
    """With ``{symbol}``: a call for each symbol; else one for all."""
    every_ns: int
    body: Callable[[str, int], bytes] | None = None
    """(symbol, wall time in ns) -> the JSON of a POST, for each symbol; ``None``: it is a GET."""


class Venue(msgspec.Struct, frozen=True):
    """Everything that differs between venues."""

    name: str
    docs: str
    streams: Mapping[str, tuple[str, ...]]
    """Our channel -> the venue's streams that can feed it, the default first. ``a+b``: both
    together feed it."""
    decode: Callable[[bytes], list[Event]]
    """What a frame says about the market; ``[]`` for control frames and other channels."""
    instrument_name: Callable[[str], str | None]
    """The canonical name of a symbol when no instrument list is at hand."""
    live: bool = True
    """False: decodes imported recordings only."""
    url: str = ""
    rest: str = ""
    """REST origin, without a path."""
    headers: Mapping[str, str] = {}
    """Sent with the websocket handshake and every REST call."""
    topic: Callable[[str, str, str], Topic] | None = None
    """(channel, stream, symbol) -> Topic."""
    subscribe: Callable[[Sequence[Topic], int], list[bytes]] | None = None
    """(topics, wall time in ns) -> the frames to send, each within the venue's size limits."""
    subscribe_every_ns: int = 0
    """Least time between two frames that we send."""
    topics_per_wire: int = 1
    is_data: Callable[[bytes], bool] = bool
    """A cheap byte test: true rules out that the frame is control."""
    data_mark: bytes = b""
    """Bytes that stand once in each data frame and in no control frame: of a whole socket read,
    a mark in what all begin with, or as many marks as frames, rules all of them out at once. Else
    ``is_data`` is asked frame by frame."""
    control: Callable[[bytes], Control | None] | None = None
    heartbeat: Heartbeat | None = None
    first_data_ns: int = 0
    """The deadline for a topic's first data after its subscribe."""
    slow: Mapping[str, int] = {}
    """Streams whose first data may take longer (ns), by name: those that speak only of news."""
    cadence: Mapping[str, int] = {}
    """Streams that the venue promises to repeat at least so often (ns), changed or not."""
    sockets: Mapping[str, str] = {}
    """Further websockets, by the name that topics use: their URLs."""
    unsubscribe: Callable[[Sequence[Topic], int], list[bytes]] | None = None
    """(topics, wall time in ns) -> the frames to send."""
    link: Callable[[bytes], Link | None] | None = None
    """The place of a book's frame in its sequence; ``None`` for all other frames. It is called
    by the recorder, for every data frame of a wire that carries books: it must be cheap."""
    bases: Mapping[str, str] = {}
    """Streams of changes alone -> path of the REST call that gives the book to begin from, with
    ``{symbol}``. The others send a snapshot of their own on every subscribe."""
    polls: tuple[Poll, ...] = ()
    read_rest: Callable[[str, str, bytes], list[Event]] | None = None
    """(what, symbol, REST body) -> what it says about the market: a ``book``, or a poll's."""
    drops_unknown: bool = False
    """It ends the connection that asks for a symbol it does not know, without a word."""
    replays_trades: bool = False
    """The first frame of trades after a subscribe is history."""
    inflates: bool = False
    """Every frame is one gzip member."""
    instruments_path: str = ""
    instruments_body: bytes = b""
    """Where it is not empty, the list is asked for by POST, with this JSON."""
    read_instruments: Callable[[bytes, int], Listing] | None = None
    """(REST body, ts_seen in ns) -> one page. The path of the next page comes with it."""
    turnover_path: str = ""
    turnover_body: bytes = b""
    """As ``instruments_body``."""
    read_turnover: Callable[[bytes], dict[str, float]] | None = None
    """REST body -> what each symbol turned over in the last 24 h, in quote currency, one-sided."""
    time_path: str = ""
    time_body: bytes = b""
    """As ``instruments_body``."""
    read_time: Callable[[bytes], int] | None = None
    """REST body -> the venue's clock in ns."""


CHECKED_LEVELS = 25


def checksum(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> int:
    """What Bitget's and OKX's books once said of themselves: a signed CRC-32.

    Both sides best first, each level its price and size as the wire spelled them.
    """
    sides = zip_longest(bids[:CHECKED_LEVELS], asks[:CHECKED_LEVELS])
    texts = [text for pair in sides for level in pair if level for text in level]
    crc = zlib.crc32(":".join(texts).encode())
    return crc - 2**32 if crc >= 2**31 else crc
