"""The vocabulary: a frame is bytes as they came, an event is what they mean.

Times (``ts_*``) are int64 nanoseconds since 1970, UTC. ``None`` is not said; 0 is said zero.
"""

from enum import IntEnum
from typing import NamedTuple

import msgspec

NS = 1_000_000_000  # nanoseconds in a second
MS = 1_000_000  # nanoseconds in a millisecond


class Kind(IntEnum):
    """What a frame is: which side said it, and how."""

    TEXT = 0
    BINARY = 1
    PING = 2
    PONG = 3
    CLOSE = 4
    SENT = 5
    OPENED = 6
    REST = 7
    NOTE = 8


class Frame(NamedTuple):
    """One message as it came, or as it was sent, with the place and time of its arrival."""

    seq: int
    """Strictly increasing on a tape."""
    wire: int
    """Which connection; a number is never used twice on a tape."""
    venue: str
    kind: int
    """A :class:`Kind`."""
    ts_recv: int
    ts_mono: int | None
    """The monotonic clock at arrival, in ns; ``None`` when imported."""
    wire_size: int
    """Bytes on the wire (of a gzip frame: before it was inflated)."""
    payload: bytes


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask as a venue said them: prices and ``qty`` in the venue's own units."""

    symbol: str
    """The venue's spelling."""
    ts_event: int | None
    """When the matching engine (or the book's publisher) made this state, in ns."""
    ts_send: int | None
    """When the venue sent it, in ns."""
    bid_price: float | None
    bid_qty: float | None
    ask_price: float | None
    ask_qty: float | None
    update_id: int | None


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One execution; ``qty`` is one-sided, in the venue's own units."""

    symbol: str
    ts_event: int | None
    ts_send: int | None
    price: float
    qty: float
    side: str
    """The taker's: ``buy`` or ``sell``."""
    trade_id: str | None
    is_history: bool = False
    """The frame itself says that it tells of the past: no row is made of it."""


Level = tuple[float, float]
"""Price and ``qty``, both as the venue prints them; a ``qty`` of 0 removes the price."""


class Book(msgspec.Struct, frozen=True):
    """A whole book, or what changed in it: absolute quantities."""

    symbol: str
    ts_event: int | None
    ts_send: int | None
    bids: list[Level]
    asks: list[Level]
    is_snapshot: bool
    update_id: int | None = None
    """The id of the state that this makes."""
    follows: int | None = None
    """Of a change: the id of the state that it changes. ``None``: the venue does not say."""


class Mark(msgspec.Struct, frozen=True, gc=False):
    """Mark and index price, and open interest in ``qty``; ``None`` is not said in this frame."""

    symbol: str
    ts_event: int | None
    ts_send: int | None
    mark_price: float | None = None
    index_price: float | None = None
    open_interest: float | None = None
    """One-sided, in the venue's own units."""


class Funding(msgspec.Struct, frozen=True, gc=False):
    """A funding rate; ``None`` is not said in this frame."""

    symbol: str
    ts_event: int | None
    ts_send: int | None
    rate: float | None = None
    """A fraction per interval, as the venue prints it: what longs pay shorts."""
    interval_h: float | None = None
    ts_funding: int | None = None
    """When it is, or was, paid."""
    is_settled: bool = False
    """It was paid at ``ts_funding``; else it is what is expected to be."""


Event = Quote | Trade | Book | Mark | Funding
CHANNELS: dict[type, str] = {
    Quote: "quotes",
    Book: "books",
    Trade: "trades",
    Mark: "marks",
    Funding: "funding",
}
"""The channel that each event belongs to."""


class Subscription(msgspec.Struct, frozen=True):
    """What a wire asks for."""

    market: str
    """``bybit:BTC-USDT-PERP``."""
    channel: str
    stream: str
    symbol: str


class Opened(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of an ``opened`` frame, the first of its wire."""

    venue: str
    url: str
    subscriptions: tuple[Subscription, ...]
    imported: bool = False


class RestAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of a ``rest`` frame: one HTTP answer, its arrival is the frame's ``ts_recv``."""

    what: str
    """``instruments``, ``time``, ``turnover`` (of 24 h), ``book`` (a whole book, to begin from), or
    the name of a poll."""
    url: str
    status: int
    t_sent: int
    body: str
    symbol: str = ""
    """Of the venue, where the call was about one."""
    stream: str = ""
    """Of a ``book``: the stream that goes on from it."""


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of a ``note`` frame: what only the recorder could know.

    ``note`` is one of refused, late, silence, closed, unreachable, complaint, shutdown (of one
    wire), resync, delisted (of one topic), not_inflated (of one frame), and restart, clock,
    overload, disk (of the whole tape).
    """

    note: str
    market: str | None = None
    channel: str | None = None
    symbol: str | None = None
    reason: str | None = None
    state: str | None = None
    """``begin`` or ``end``, of overload and disk."""
    deadline_ns: int | None = None
    silence_ns: int | None = None
    step_ns: int | None = None
