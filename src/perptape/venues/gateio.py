"""Gate.io, USDT-settled perpetuals (futures WebSocket v4).

Odd here: sizes are contracts, and integers (cut off, not rounded) unless the handshake carries
``X-Gate-Size-Decimal: 1``; then they are strings. A subscribe frame is atomic, so each contract
goes alone. ``book_ticker`` says nothing on subscribing, only when the best price or size next
changes; ``obu`` begins with its whole book, maybe before the ack, and acknowledges contracts that
do not exist; ``order_book_update`` goes on from a book that REST gives. One counter of ids runs
through all of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.fees import fee_of
from perptape.instruments import BASE, QUOTE, Instrument, canonical, step
from perptape.venues.venue import (
    FRONT,
    Accepted,
    Alive,
    Complaint,
    Control,
    Echo,
    Heartbeat,
    Id,
    Leaving,
    Link,
    Listing,
    Ms,
    P,
    Poll,
    Price,
    Q,
    Qty,
    Rate,
    Rejected,
    Topic,
    Venue,
)

QUOTES, TRADES, TICKERS = "futures.book_ticker", "futures.trades", "futures.tickers"
OBU, UPDATES = "futures.obu", "futures.order_book_update"
FORMS = (f"{UPDATES}.100ms.100", f"{UPDATES}.20ms.20")  # interval and levels, as they are asked for
TOP = b'"channel":"futures.book_ticker","event":"update"'
CHANNEL = re.compile(rb'"channel":"(futures\.[a-z_]+)","event":"update"')
BOOK_FRAME = re.compile(rb'"channel":"futures\.(?:obu|order_book_update)"')
UPDATE = b'"event":"update"'
SYSTEM = b'"futures.system"'
DATA = b'"result":{"t":'  # what a maintenance notice, an update too, has not
UNKNOWN = re.compile(r"unknown currency pair:? (\S+)")
MARKETS = "/api/v4/futures/usdt"
HOUR_S, DAY_H, BOOKED_S = 3600, 24, 60
SIDES = 2  # of every open position are in ``total_size``

Levels = list[tuple[float, float]]
R = TypeVar("R")
"""What a channel says."""
S = TypeVar("S")
"""A number with a sign, in a wire type."""
Seconds = Annotated[int, Meta(ge=0, le=(2**63 - 1) // NS)]
Fraction = Annotated[float, Meta(ge=0, le=2**63 / NS - 1)]
"""Seconds with the milliseconds behind the point, as REST tells time."""


class Push(msgspec.Struct, Generic[R], frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A frame of data, keys in the venue's order."""

    time: int = 0
    time_ms: Ms = 0
    """The gateway's sending time; absent before about 2022."""
    channel: str
    event: str = ""
    result: R


class BookTicker(msgspec.Struct, Generic[P, Q], frozen=True, gc=False):
    """Best bid and ask; a side without orders has the price ``""`` and the size 0."""

    t: Ms
    """When the state was made; 0 is a placeholder of a contract without a book."""
    u: Id
    s: str
    b: P | Literal[""]
    B: Q
    a: P | Literal[""]
    A: Q


class Depth(msgspec.Struct, Generic[P, Q], frozen=True, kw_only=True, omit_defaults=True):
    """Of ``obu``: a whole book or what changed; a side that is not there did not."""

    t: Ms
    full: bool = False
    s: str
    """The stream, not the contract: ``ob.BTC_USDT.50``."""
    U: Id | None = None
    """The first id in it, ``u`` the last; a whole book has only ``u``."""
    u: Id
    b: list[tuple[P, Q]] | None = None
    a: list[tuple[P, Q]] | None = None


class Level(msgspec.Struct, Generic[P, Q], frozen=True):
    p: P
    s: Q


class Update(msgspec.Struct, Generic[P, Q], frozen=True, kw_only=True, omit_defaults=True):
    """Of ``order_book_update``: what changed; by the documentation a whole book if ``full``."""

    t: Ms
    full: bool = False
    U: Id | None = None
    u: Id
    s: str
    a: list[Level[P, Q]] | None = None
    b: list[Level[P, Q]] | None = None
    l: str = ""  # noqa: E741  the venue's spelling


class RestBook(msgspec.Struct, Generic[P, Q], frozen=True):
    """A whole book by REST; the id is in it because we ask for it."""

    current: Fraction
    """When REST answered; ``update``: when the book last changed."""
    update: Fraction
    asks: list[Level[P, Q]]
    bids: list[Level[P, Q]]
    id: Id


class Print(msgspec.Struct, Generic[P, S], frozen=True, kw_only=True, omit_defaults=True):
    """One execution."""

    id: Id
    size: S
    """Positive: the taker bought."""
    create_time: int = 0
    create_time_ms: Ms
    price: P
    contract: str
    is_internal: bool = False
    """A takeover by the insurance fund or by deleveraging: nobody took anything."""


class Ticker(msgspec.Struct, Generic[Q, S], frozen=True, kw_only=True, omit_defaults=True):
    """What is said of a market now and then, whole every time."""

    contract: str
    total_size: Q | None = None
    """Open interest in contracts, both sides counted."""
    mark_price: Q | None = None
    """0 is none, as of the index."""
    index_price: Q | None = None
    funding_rate: S | None = None
    funding_interval: Seconds = 0
    """With the two below absent in 2023."""
    funding_next_apply: Seconds = 0
    t: Ms = 0


class Problem(msgspec.Struct, frozen=True):
    code: int
    message: str


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    channel: str
    event: str = ""
    error: Problem | None = None


class Place(msgspec.Struct, frozen=True):
    """A book's place in its sequence, without its levels."""

    s: str = ""
    """Missing in an ack."""
    U: Id | None = None
    u: Id | None = None
    full: bool = False


class Status(msgspec.Struct, frozen=True):
    status: str = ""
    """``success`` or ``fail``, of an ack."""
    type: str = ""
    msg: str = ""
    """Why it leaves, of ``futures.system``."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An ack, an error, a pong or word of the system."""

    time: int = 0
    time_ms: int = 0
    id: int | None = None
    conn_id: str = ""
    trace_id: str = ""
    channel: str
    event: str = ""
    payload: tuple[str, ...] | None = ()
    """Absent in 2023."""
    error: Problem | None = None
    result: Status | None = None


class Pong(msgspec.Struct, frozen=True):
    """The answer to a ping, for the time in it."""

    channel: Literal["futures.pong"]
    time_ms: Ms


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the client says."""

    time: int
    id: int
    channel: str
    event: str
    payload: tuple[str, ...]


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the contract list; its fee fields are not what is paid."""

    name: str
    type: str = "direct"
    quanto_multiplier: str
    order_price_round: str
    order_size_min: str | float = 0
    enable_decimal: bool = False
    status: str = ""
    """Absent in 2023."""
    in_delisting: bool = False
    funding_interval: int = 0
    """Seconds."""


class Terms(msgspec.Struct, frozen=True):
    """What else a row of the contract list says."""

    name: str
    funding_interval: Seconds = 0
    funding_next_apply: Seconds = 0
    position_size: Qty | None = None
    """Open interest in contracts, one side."""


class Paid(msgspec.Struct, Generic[S], frozen=True):
    """A funding rate that was paid."""

    r: S
    t: Seconds


class Refusal(msgspec.Struct, frozen=True):
    """A REST error."""

    label: str
    message: str = ""


class Clock(msgspec.Struct, frozen=True):
    server_time: Ms


class Traded(msgspec.Struct, frozen=True):
    """A row of the tickers by REST: of one day."""

    contract: str
    volume_24h_quote: Qty | Literal[""] | None = None


heads = msgspec.json.Decoder(Head)
quotes = msgspec.json.Decoder(Push[BookTicker[Price, Qty]], strict=False)
depths = msgspec.json.Decoder(Push[Depth[Price, Qty]], strict=False)
updates = msgspec.json.Decoder(Push[Update[Price, Qty]], strict=False)
prints = msgspec.json.Decoder(Push[list[Print[Price, Rate]]], strict=False)
tickers = msgspec.json.Decoder(Push[list[Ticker[Qty, Rate]]], strict=False)
bases = msgspec.json.Decoder(RestBook[Price, Qty], strict=False)
places = msgspec.json.Decoder(Push[Place])
answers = msgspec.json.Decoder(Answer)
pongs = msgspec.json.Decoder(Pong)
contracts = msgspec.json.Decoder(list[Contract] | Refusal)
traded = msgspec.json.Decoder(list[Traded], strict=False)
terms = msgspec.json.Decoder(Terms, strict=False)
payments = msgspec.json.Decoder(list[Paid[Rate]], strict=False)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    name, payload = _asked(stream, symbol)
    field = "contract" if name in (TRADES, TICKERS) else "s"
    marks = (f'"channel":"{name}"'.encode(), f'"{field}":"{payload[0]}"'.encode())
    return Topic(channel, stream, symbol, f"{name}.{payload[0]}", marks)


def _asked(stream: str, symbol: str) -> tuple[str, tuple[str, ...]]:
    """Channel and payload of a subscribe."""
    family, name, *form = stream.split(".")
    channel = f"{family}.{name}"
    return channel, (f"ob.{symbol}.{form[0]}",) if channel == OBU else (symbol, *form)


def _requests(event: str, topics: Sequence[Topic], ts: int) -> list[bytes]:
    asked = (_asked(topic.stream, topic.symbol) for topic in topics)
    return [
        msgspec.json.encode(
            Request(time=ts // NS, id=number, channel=channel, event=event, payload=payload)
        )
        for number, (channel, payload) in enumerate(asked, start=1)
    ]


subscribe = partial(_requests, "subscribe")
unsubscribe = partial(_requests, "unsubscribe")


def ping(ts: int) -> bytes:
    return b'{"time":%d,"channel":"futures.ping"}' % (ts // NS)


def read_pong(payload: bytes) -> int:
    """``time_ms`` alone is surely the venue's: whether ``time`` echoes the ping's is not known."""
    return pongs.decode(payload).time_ms * MS


def is_data(payload: bytes) -> bool:
    return UPDATE in payload and SYSTEM not in payload


def control(payload: bytes) -> Control | None:
    answer = answers.decode(payload)
    if answer.channel == "futures.pong":
        return Alive()
    if answer.channel == "futures.system":
        return Leaving(answer.result.msg if answer.result else "")
    if answer.error is not None:
        return _refusal(answer, answer.error.message)
    if answer.event == "subscribe":
        return Accepted(_keys(answer.channel, answer.payload or ()))
    return None


def _keys(channel: str, payload: Sequence[str]) -> tuple[str, ...]:
    names = payload[:1] if channel == UPDATES else payload  # interval and level follow
    return tuple(f"{channel}.{name}" for name in names)


def _refusal(answer: Answer, reason: str) -> Control:
    named = UNKNOWN.search(reason)
    keys = _keys(answer.channel, answer.payload or (named.groups() if named else ()))
    if not keys or answer.event != "subscribe":
        return Complaint(reason)
    if reason.startswith("Alert sub"):  # the first subscription keeps delivering
        return Accepted(keys)
    return Rejected(keys, reason)


def link(payload: bytes) -> Link | None:
    if BOOK_FRAME.search(payload) is None:
        return None
    push = places.decode(payload)
    here = push.result
    if not here.s:
        return None
    follows = -1 if here.U is None else here.U - 1  # -1 follows nothing
    return Link(f"{push.channel}.{here.s}", here.full, here.u, None if here.full else follows)


def decode(payload: bytes) -> list[Event]:
    if payload.find(TOP, 0, FRONT) >= 0:
        return _quote(payload)
    found = CHANNEL.search(payload)
    if found is not None:
        read = READERS.get(found[1].decode())
    else:
        head = heads.decode(payload)
        is_said = head.event in ("update", "") and head.error is None
        read = READERS.get(head.channel) if is_said else None
    return read(payload) if read else []


def _quote(payload: bytes) -> list[Event]:
    push = quotes.decode(payload)
    top = push.result
    if top.t == 0:
        return []
    bid, bid_qty = (top.b, top.B) if top.b else (None, None)
    ask, ask_qty = (top.a, top.A) if top.a else (None, None)
    ts_event, ts_send = top.t * MS, push.time_ms * MS or None
    return [Quote(top.s, ts_event, ts_send, bid, bid_qty, ask, ask_qty, top.u)]


def _ns(ms: int) -> int | None:
    return ms * MS or None


def _depth(payload: bytes) -> list[Event]:
    push = depths.decode(payload)
    book = push.result
    prefix, _, rest = book.s.partition(".")
    symbol, _, level = rest.rpartition(".")
    if prefix != "ob" or not symbol or not level:
        raise ValueError(f"{book.s!r} names no book")
    return [_book(symbol, book, _ns(push.time_ms), book.b or [], book.a or [])]


def _update(payload: bytes) -> list[Event]:
    push = updates.decode(payload)
    book = push.result
    return [_book(book.s, book, _ns(push.time_ms), _levels(book.b), _levels(book.a))]


def _book(
    symbol: str,
    book: Depth[float, float] | Update[float, float],
    ts_send: int | None,
    bids: Levels,
    asks: Levels,
) -> Book:
    if book.U is None and not book.full:
        raise ValueError("a change of a book without the id that it begins with")
    follows = None if book.full or book.U is None else book.U - 1
    return Book(symbol, _ns(book.t), ts_send, bids, asks, book.full, book.u, follows)


def _levels(side: Sequence[Level[float, float]] | None) -> Levels:
    return [(level.p, level.s) for level in side or ()]


def _trades(payload: bytes) -> list[Event]:
    push = prints.decode(payload)
    ts_send = _ns(push.time_ms)
    return [_trade(row, ts_send) for row in push.result if row.size and not row.is_internal]


def _trade(row: Print[float, float], ts_send: int | None) -> Trade:
    side, ts_event = "buy" if row.size > 0 else "sell", row.create_time_ms * MS
    return Trade(row.contract, ts_event, ts_send, row.price, abs(row.size), side, str(row.id))


def _tickers(payload: bytes) -> list[Event]:
    push = tickers.decode(payload)
    ts_send = _ns(push.time_ms)
    return [event for row in push.result for event in _told(row, ts_send)]


def _told(row: Ticker[float, float], ts_send: int | None) -> list[Event]:
    symbol, ts_event, both = row.contract, _ns(row.t), row.total_size
    prices = row.mark_price or None, row.index_price or None
    mark = (*prices, None if both is None else both / SIDES)
    funding = (row.funding_rate, *_schedule(row.funding_interval, row.funding_next_apply))
    told: list[Event] = []
    if mark != (None, None, None):
        told.append(Mark(symbol, ts_event, ts_send, *mark))
    if funding != (None, None, None):
        told.append(Funding(symbol, ts_event, ts_send, *funding))
    return told


def _schedule(interval_s: int, next_s: int) -> tuple[float | None, int | None]:
    return interval_s / HOUR_S or None, next_s * NS or None


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    if what not in RESTS:
        raise ValueError(f"{what!r} is nothing that we ask for")
    return RESTS[what](symbol, body)


def _base(symbol: str, body: bytes) -> list[Event]:
    book = bases.decode(body)
    ts_event, ts_send = (_ns(round(s * 1000)) for s in (book.update, book.current))
    bids, asks = _levels(book.bids), _levels(book.asks)
    return [Book(symbol, ts_event, ts_send, bids, asks, is_snapshot=True, update_id=book.id)]


def _open_interest(symbol: str, body: bytes) -> list[Event]:
    size = terms.decode(body).position_size
    return [] if size is None else [Mark(symbol, None, None, open_interest=size)]


def _funding_terms(symbol: str, body: bytes) -> list[Event]:
    # Not the rate: for a minute after a payment it is still the old one, with the new time.
    row = terms.decode(body)
    said = _schedule(row.funding_interval, row.funding_next_apply)
    return [] if said == (None, None) else [Funding(symbol, None, None, None, *said)]


def _funding_paid(symbol: str, body: bytes) -> list[Event]:
    paid = sorted((_due(row.t), row.r) for row in payments.decode(body))
    times = [t for t, _ in paid]
    told: list[Event] = [
        Funding(symbol, None, None, rate, interval_h, t * NS, is_settled=True)
        for (t, rate), interval_h in zip(paid, _intervals(times), strict=True)
    ]
    return told[1:] or told  # the oldest is there to tell the interval of the next


def _due(t: int) -> int:
    """The full hour that a payment was due at: it is booked a second or two later."""
    return t - t % HOUR_S if t % HOUR_S < BOOKED_S else t


def _intervals(times: Sequence[int]) -> list[float | None]:
    """Hours since the payment before: the interval of today may not be that of then."""
    since = [(after - before) / HOUR_S for before, after in pairwise(times)]
    return [None, *(hours if 0 < hours <= DAY_H else None for hours in since)][: len(times)]


READERS: Mapping[str, Callable[[bytes], list[Event]]] = {
    QUOTES: _quote,
    OBU: _depth,
    UPDATES: _update,
    TRADES: _trades,
    TICKERS: _tickers,
}
RESTS: Mapping[str, Callable[[str, bytes], list[Event]]] = {
    "book": _base,
    "open_interest": _open_interest,
    "funding_terms": _funding_terms,
    "funding_paid": _funding_paid,
}


def instrument_name(symbol: str) -> str | None:
    base, _, quote = symbol.partition("_")
    return f"{base}-{quote}-PERP" if BASE.fullmatch(base) and QUOTE.fullmatch(quote) else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = contracts.decode(body)
    if isinstance(rows, Refusal):
        raise ValueError(f"{rows.label} {rows.message}".strip())  # noqa: TRY004  the venue's word
    found = (_instrument(row, ts_seen) for row in rows if row.type == "direct")
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    base, _, quote = row.name.partition("_")
    contract_size = step(row.quanto_multiplier)
    if contract_size is None:
        return None
    fee = fee_of("gateio")
    return canonical(
        Instrument(
            venue="gateio",
            name="",
            symbol=row.name,
            base=base,
            quote=quote,
            settle=quote,
            kind="linear",
            contract_size=contract_size,
            price_unit=1.0,
            tick_size=step(row.order_price_round),
            lot_size=step(row.order_size_min) if row.enable_decimal else 1.0,
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=row.funding_interval / HOUR_S if row.funding_interval else None,
            status=row.status or ("delisting" if row.in_delisting else "trading"),
            ts_seen=ts_seen,
        ),
        bundles=False,
    )


def read_turnover(body: bytes) -> dict[str, float]:
    return {
        row.contract: row.volume_24h_quote
        for row in traded.decode(body)
        if isinstance(row.volume_24h_quote, float)
    }


def read_time(body: bytes) -> int:
    return msgspec.json.decode(body, type=Clock).server_time * MS


GATEIO = Venue(
    name="gateio",
    docs="https://www.gate.com/docs/developers/futures/ws/en/",
    streams={
        "quotes": (QUOTES,),
        "books": (f"{OBU}.50", f"{OBU}.400", *FORMS),
        "trades": (TRADES,),
        "marks": (TICKERS,),
        "funding": (TICKERS,),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://fx-ws.gateio.ws/v4/ws/usdt",
    rest="https://api.gateio.ws",
    headers={"X-Gate-Size-Decimal": "1"},
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=10 * MS,
    topics_per_wire=200,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(
        ping=ping,
        every_ns=10 * NS,
        silence_ns=30 * NS,
        echo=Echo(b'"futures.ping"', b'"futures.pong"', read_pong),
    ),
    first_data_ns=60 * NS,
    slow={TRADES: 600 * NS, TICKERS: 300 * NS, **dict.fromkeys(FORMS, 300 * NS)},
    link=link,
    bases={
        form: f"{MARKETS}/order_book?contract={{symbol}}&interval=0&limit={form.rpartition('.')[2]}"
        "&with_id=true"
        for form in FORMS
    },
    polls=(
        Poll("open_interest", "marks", f"{MARKETS}/contracts/{{symbol}}", 300 * NS),
        Poll("funding_terms", "funding", f"{MARKETS}/contracts/{{symbol}}", 300 * NS),
        Poll(
            *("funding_paid", "funding"),
            f"{MARKETS}/funding_rate?contract={{symbol}}&limit=4",
            1800 * NS,
        ),
    ),
    read_rest=read_rest,
    instruments_path=f"{MARKETS}/contracts",
    read_instruments=read_instruments,
    turnover_path=f"{MARKETS}/tickers",
    read_turnover=read_turnover,
    time_path="/api/v4/spot/time",
    read_time=read_time,
)
