"""The shape of a venue's half of the conversation: facts and functions, bytes in, bytes out.

A dialect opens nothing and reads no clock; what a connection has said so far is in its Talk.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import msgspec

from perptape.sims.market import Contract, Top
from perptape.sims.scenario import model_of


class Topic(NamedTuple):
    """One stream of one symbol, in one form."""

    stream: str
    symbol: str
    form: str = ""
    """What else tells two forms of a stream apart; the dialect's own word."""


class Print(NamedTuple):
    """One trade; price in ticks, size in lots."""

    at_ns: int
    """Scenario time at which the engine made it, and the venue publishes it (``due_ns``)."""
    due_ns: int
    price: int
    lots: int
    is_buy: bool
    """The taker bought."""
    number: int
    """Counts the market's trades from 1."""


class Ticker(NamedTuple):
    """What a venue says of a market now and then, besides its book and trades."""

    at_ns: int
    """Scenario time at which it was made."""
    mark_price: float
    """Like ``index_price`` per the contract's printed price; round it as the venue does."""
    index_price: float
    last: int
    """Ticks, of the last trade."""
    open_interest: int
    """Lots, one-sided."""
    volume: int
    """Lots traded in the last 24 h, one-sided."""
    rate: float
    """Of funding, a fraction per interval."""
    interval_h: int
    ts_funding_ns: int
    """When it is paid next, on the venue's clock: a whole multiple of the interval since 1970."""


class State(NamedTuple):
    """What there is to say on a topic."""

    contract: Contract
    topic: Topic
    previous: Top | None
    """What this topic said last; ``None``: this is a snapshot, for one who knows nothing."""
    top: Top
    nth: int
    """How many states this topic has told, this one included; not counted up by a repetition."""
    ts_event_ns: int
    """On the venue's clock, as is ``ts_send_ns``."""
    ts_send_ns: int
    ts_made_ns: Callable[[int], int]
    """Scenario time -> the venue's clock: of a trade's ``at_ns``."""
    skipped: tuple[Top, ...] = ()
    """States between the previous and this one, of which this topic says nothing apart."""
    trades: tuple[Print, ...] = ()
    """Of a stream of trades: what is new; to a new listener the last ones before."""
    is_greeting: bool = False
    """This goes to a new listener only, and tells of what was before."""
    ticker: Ticker | None = None
    """As it is now."""
    told: Ticker | None = None
    """As this topic said it last; ``None``: to one who knows nothing."""
    resets: int = 0
    """How often the ids of this topic have started over: ``nth`` and the tops' ids are small."""
    is_reset: bool = False
    """The first since then; ``previous`` still has its old id."""

    def since(self) -> tuple[Top, ...]:
        """All older states that a delta must hold for."""
        return () if self.previous is None else (self.previous, *self.skipped)


class Stream(msgspec.Struct, frozen=True):
    """How a stream is told."""

    encode: Callable[[State], bytes]
    """The frame; an empty one is not sent."""
    tells: Literal["book", "trades", "ticker"] = "book"
    """What its states are of: a change of the book, trades, or the ticker (at ``every_ns``)."""
    every_ns: int = 0
    """0: each state is a frame; else at most one frame in so long, skipping states.

    Of trades 0 is a frame per taker order, with all its fills.
    """
    singly: bool = False
    """Of trades: each fill is a frame of its own."""
    repeat_ns: int = 0
    """After so long without a new state the last one is told again; 0: never."""
    reset: Callable[[State], bytes] | None = None
    """Encodes instead, once ``state.resets``; ``None``: this stream's ids never start over."""
    greets: bool = True
    """Whether a new listener gets the present state at once."""


class Join(NamedTuple):
    """The client now listens to this topic."""

    topic: Topic


class Part(NamedTuple):
    """The client no longer listens to this topic."""

    topic: Topic


class Ping(NamedTuple):
    """The venue pings as the websocket protocol does it."""

    payload: bytes


class Hangup(NamedTuple):
    """The venue ends the connection."""

    code: int | None
    """Of the close frame; ``None``: the TCP connection just ends."""
    reason: str
    reset: bool = False
    """By a TCP reset."""


Act = bytes | Join | Part | Ping | Hangup
"""One thing a venue does in answer; bytes are said."""


class Talk(msgspec.Struct, eq=False):
    """One connection, as its venue remembers it."""

    number: int
    token: str
    """32 hex digits of its own, for connection ids."""
    path: str
    """That it was opened with, one of the dialect's."""
    headers: Mapping[str, str]
    """Of the handshake, names in lower case."""
    opened_ns: int
    heard_ns: int
    """When the client last said anything."""
    pinged_ns: int
    """When it last pinged."""
    beat_ns: int = 0
    """When the venue next looks at this connection's heartbeat."""
    unanswered: list[int] = []
    """What the venue pinged with since the last answer."""
    recent_ns: list[int] = []
    """When the client's last messages came, as far as a limit needs it."""
    topics: dict[Topic, "Span"] = {}
    parted: list[tuple[Topic, "Span"]] = []
    """Those no longer listened to."""
    is_dead: bool = False
    """The venue has forgotten this connection without closing it."""
    outbox: list[tuple[bytes, bytes]] = []
    """Frames to send: the payload, and its form on the wire."""
    pings: list[bytes] = []
    """Protocol pings to send."""
    ponged_ns: int = 0
    """When the client's last protocol pong came."""
    ended: Hangup | None = None


class Span(msgspec.Struct):
    """When data of one topic was first and last sent, and how often."""

    first_ns: int | None = None
    last_ns: int | None = None
    frames: int = 0


class Board(msgspec.Struct):
    """What a venue lists, by symbol, and which of that it refuses just now."""

    contracts: Mapping[str, Contract]
    refused: set[str] = set()

    def find(self, symbol: str) -> Contract | None:
        """The contract that may be subscribed under this symbol."""
        return None if symbol in self.refused else self.contracts.get(symbol)


class Request(NamedTuple):
    """An HTTP GET, or with a body a POST."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    now_ns: int
    """On the venue's clock."""
    tops: Callable[[str], Top]
    """The published state of a symbol."""
    ts_event_ns: Callable[[Top], int]
    """When it was made, on the venue's clock."""
    ts_made_ns: Callable[[int], int]
    """Scenario time -> the venue's clock: of a trade's ``at_ns``."""
    ticker: Callable[[str], Ticker]
    """That of a symbol, as it is now."""
    trades: Callable[[str], tuple[Print, ...]]
    """The last ones of a symbol, the newest last."""
    settled: Callable[[str], tuple[tuple[int, float], ...]]
    """When (venue's clock) funding was last paid and at what rate, the newest last."""
    body: bytes = b""
    """Of a POST."""


class Answer(NamedTuple):
    """An HTTP answer: JSON, unless a header says otherwise."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


def same(payload: bytes) -> bytes:
    """The wire form of a venue that does not compress."""
    return payload


TOO_MANY = 429
Limited = Callable[[int | None, int, int], Answer]
"""(HTTP status, ``None``: the venue's own; seconds to wait; venue's time) -> what is answered."""


def limited_as(body: bytes) -> Limited:
    """How most venues answer one who asks too often: they say when to come again."""

    def limited(status: int | None, wait_s: int, now_ns: int) -> Answer:
        del now_ns
        return Answer(status or TOO_MANY, body, {"Retry-After": str(wait_s)})

    return limited


class Dialect(msgspec.Struct, frozen=True):
    """Everything that differs between the simulated venues."""

    name: str
    paths: tuple[str, ...]
    """Of its websockets; which of them a connection is on is ``talk.path``."""
    contracts: Mapping[str, Contract]
    """By base coin."""
    streams: Mapping[str, Stream]
    hear: Callable[[Talk, bytes, Board, int], list[Act]]
    """(connection, what the client said, listings, venue's time in ns) -> what follows."""
    beat: Callable[[Talk, int], list[Act]]
    """Called at ``talk.beat_ns``, which it must move on."""
    rest: Callable[[Request, Board], Answer]
    farewell: Callable[[int], bytes] | None = None
    """What is said before a planned close, given the venue's time."""
    limited: Limited = limited_as(b'{"code":429,"msg":"Too many requests"}')
    """What REST and handshakes are answered while there is a limit."""
    spoil: Callable[[bytes], bytes] | None = None
    """A frame -> the same with a wrong checksum; ``None``: this venue's have none."""
    wrap: Callable[[bytes], bytes] = same
    """Payload -> its form on the wire."""
    binary: bool = False
    """Frames are binary, not text."""

    def contract(self, base: str) -> Contract:
        """What the venue lists of a coin."""
        if base in self.contracts:
            return self.contracts[base]
        model = self.contracts[model_of(base)]
        instrument, symbol = (
            name.replace(model.base, base) for name in (model.instrument, model.symbol)
        )
        return msgspec.structs.replace(model, instrument=instrument, symbol=symbol, base=base)
