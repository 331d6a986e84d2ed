"""Gate.io, USDT-settled perpetuals (futures WebSocket v4).

Odd here: sizes are contracts, and integers (cut off, not rounded) unless the handshake carries
``X-Gate-Size-Decimal: 1``; then they are strings. A subscribe frame is atomic, so each contract
goes alone. There is no quote on subscribing, only when the best price or size next changes.
"""

import re
from collections.abc import Sequence
from typing import Generic, Literal

import msgspec

from perptape.events import MS, NS, Event, Quote
from perptape.fees import fee_of
from perptape.instruments import BASE, QUOTE, Instrument, canonical, step
from perptape.venues.venue import (
    Accepted,
    Alive,
    Complaint,
    Control,
    Heartbeat,
    Id,
    Leaving,
    Listing,
    Ms,
    P,
    Price,
    Q,
    Qty,
    Rejected,
    Topic,
    Venue,
)

STREAM = "futures.book_ticker"
QUOTES = f'"channel":"{STREAM}"'.encode()
UPDATE = b'"event":"update"'
SYSTEM = b'"futures.system"'
BOOK = b'"result":{"t":'  # what a maintenance notice, an update too, has not
UNKNOWN = re.compile(r"unknown currency pair:? (\S+)")
HOUR_S = 3600


class BookTicker(msgspec.Struct, Generic[P, Q], frozen=True):
    """Best bid and ask; a side without orders has the price ``""`` and the size 0."""

    t: Ms
    """When the state was made; 0 is a placeholder of a contract without a book."""
    u: Id
    s: str
    b: P | Literal[""]
    B: Q
    a: P | Literal[""]
    A: Q


class Push(msgspec.Struct, Generic[P, Q], frozen=True, kw_only=True, omit_defaults=True):
    """A frame of ``futures.book_ticker``, keys in the venue's order."""

    time: int
    time_ms: Ms = 0
    """The gateway's sending time; absent before about 2022."""
    channel: str
    event: str
    result: BookTicker[P, Q]


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    channel: str
    event: str = ""


class Status(msgspec.Struct, frozen=True):
    status: str = ""
    """``success`` or ``fail``, of an ack."""
    type: str = ""
    msg: str = ""
    """Why it leaves, of ``futures.system``."""


class Problem(msgspec.Struct, frozen=True):
    code: int
    message: str


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


class Refusal(msgspec.Struct, frozen=True):
    """A REST error."""

    label: str
    message: str = ""


class Clock(msgspec.Struct, frozen=True):
    server_time: Ms


heads = msgspec.json.Decoder(Head)
pushes = msgspec.json.Decoder(Push[Price, Qty], strict=False)
answers = msgspec.json.Decoder(Answer)
contracts = msgspec.json.Decoder(list[Contract] | Refusal)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    marks = (f'"channel":"{stream}"'.encode(), UPDATE, f'"s":"{symbol}"'.encode())
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", marks)


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            Request(
                time=ts // NS,
                id=number,
                channel=topic.stream,
                event="subscribe",
                payload=(topic.symbol,),
            )
        )
        for number, topic in enumerate(topics, start=1)
    ]


def ping(ts: int) -> bytes:
    return b'{"time":%d,"channel":"futures.ping"}' % (ts // NS)


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
        return Accepted(tuple(f"{answer.channel}.{name}" for name in answer.payload or ()))
    return None


def _refusal(answer: Answer, reason: str) -> Control:
    named = UNKNOWN.search(reason)
    names = answer.payload or (named.groups() if named else ())
    if not names or answer.event != "subscribe":
        return Complaint(reason)
    return Rejected(tuple(f"{answer.channel}.{name}" for name in names), reason)


def decode(payload: bytes) -> list[Event]:
    if not (QUOTES in payload and UPDATE in payload):
        head = heads.decode(payload)
        if head.channel != STREAM or head.event != "update":
            return []
    push = pushes.decode(payload)
    top = push.result
    if top.t == 0:
        return []
    bid_price, bid_qty = (top.b, top.B) if top.b else (None, None)
    ask_price, ask_qty = (top.a, top.A) if top.a else (None, None)
    ts_send = push.time_ms * MS if push.time_ms else None
    return [Quote(top.s, top.t * MS, ts_send, bid_price, bid_qty, ask_price, ask_qty, top.u)]


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


def read_time(body: bytes) -> int:
    return msgspec.json.decode(body, type=Clock).server_time * MS


GATEIO = Venue(
    name="gateio",
    docs="https://www.gate.com/docs/developers/futures/ws/en/",
    streams={"quotes": (STREAM,)},
    decode=decode,
    instrument_name=instrument_name,
    url="wss://fx-ws.gateio.ws/v4/ws/usdt",
    rest="https://api.gateio.ws",
    headers={"X-Gate-Size-Decimal": "1"},
    topic=topic,
    subscribe=subscribe,
    subscribe_every_ns=10 * MS,
    topics_per_wire=200,
    is_data=is_data,
    data_mark=BOOK,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=10 * NS, silence_ns=30 * NS),
    first_data_ns=60 * NS,
    instruments_path="/api/v4/futures/usdt/contracts",
    read_instruments=read_instruments,
    time_path="/api/v4/spot/time",
    read_time=read_time,
)
