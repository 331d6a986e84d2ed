"""Bitget v2 ("Classic"), USDT-M perpetuals.

Odd here: the heartbeat is the bare text ``ping``, answered by the bare text ``pong``. A real
symbol under a wrong ``instType`` is acked and then silent. Pushes have echoed ``mc`` as
``instType``, so it is never routed on: the wire carries only what was asked for. Sizes are coins.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from perptape.events import MS, NS, Event, Quote
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, perp_name, split_symbol, step
from perptape.venues.venue import (
    Accepted,
    Alive,
    Complaint,
    Control,
    Heartbeat,
    Id,
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

FAMILY = "USDT-FUTURES"
STREAM = "books1"
DATA = b'"action":'
QUOTES = f'"channel":"{STREAM}"'.encode()
ARGS_BYTES = 4096
ARGS = 50
PING, PONG = b"ping", b"pong"
OK = "00000"
T = TypeVar("T")
"""A time that the venue prints as a string: ``Ms`` when read, ``str`` when written."""


class Arg(msgspec.Struct, frozen=True):
    """What names a topic."""

    instType: str
    channel: str
    instId: str


class Echo(msgspec.Struct, frozen=True):
    """A topic as an answer names it; v3 frames name it otherwise, and then these are empty."""

    instType: str = ""
    channel: str = ""
    instId: str = ""


class Book(msgspec.Struct, Generic[P, Q, T], frozen=True, omit_defaults=True):
    """Best ask and bid; a side without orders is ``[]``."""

    asks: Annotated[list[tuple[P, Q]], Meta(max_length=1)]
    bids: Annotated[list[tuple[P, Q]], Meta(max_length=1)]
    ts: T
    """The matching engine's time."""
    seq: Id | None = None
    pseq: int | None = None
    """Always 0 on this channel."""
    checksum: int | None = None
    """0 until 2025, then absent."""


class Push(msgspec.Struct, Generic[P, Q, T], frozen=True):
    """A frame of ``books1``, keys in the venue's order."""

    action: Literal["snapshot"]
    arg: Arg
    data: tuple[Book[P, Q, T]]
    ts: Ms


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    action: str = ""
    arg: Echo = Echo()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ack or an error; ``code`` is a number, unlike in REST."""

    event: str = ""
    arg: Echo = Echo()
    code: int | str = 0
    msg: str = ""
    op: str = ""


class Request(msgspec.Struct, frozen=True):
    """What the client says."""

    op: str
    args: list[Arg]


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the contract list."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    priceEndStep: str
    pricePlace: str
    sizeMultiplier: str
    symbolType: str
    symbolStatus: str
    fundInterval: str = ""
    """Hours."""


class ServerTime(msgspec.Struct, frozen=True):
    serverTime: str


class Rest(msgspec.Struct, frozen=True):
    """The envelope of every REST answer; the data wait for ``code``."""

    code: str
    msg: str
    data: msgspec.Raw
    requestTime: int = 0


heads = msgspec.json.Decoder(Head)
pushes = msgspec.json.Decoder(Push[Price, Qty, Ms], strict=False)
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    marks = (DATA, f'"channel":"{stream}"'.encode(), f'"instId":"{symbol}"'.encode())
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", marks)


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    batches: list[list[Arg]] = [[]]
    size = 0
    for topic in topics:
        arg = Arg(FAMILY, topic.stream, topic.symbol)
        arg_bytes = len(msgspec.json.encode(arg)) + 1
        if size + arg_bytes > ARGS_BYTES or len(batches[-1]) == ARGS:
            batches.append([])
            size = 0
        batches[-1].append(arg)
        size += arg_bytes
    return [msgspec.json.encode(Request("subscribe", args)) for args in batches if args]


def ping(ts: int) -> bytes:
    del ts
    return PING


def is_data(payload: bytes) -> bool:
    return DATA in payload


def control(payload: bytes) -> Control | None:
    if payload == PONG:
        return Alive()
    if payload == PING:  # one client was seen to answer it; the server was never seen to send it
        return Alive(PONG)
    answer = answers.decode(payload)
    key = f"{answer.arg.channel}.{answer.arg.instId}" if answer.arg.instId else ""
    if answer.event == "error":
        return Rejected((key,), answer.msg) if key else Complaint(f"{answer.code} {answer.msg}")
    if answer.event == "subscribe":
        return Accepted((key,) if key else ())
    return None


def decode(payload: bytes) -> list[Event]:
    if not (DATA in payload and QUOTES in payload):
        if payload in {PING, PONG}:
            return []
        head = heads.decode(payload)
        if not (head.action and head.arg.channel == STREAM):
            return []
    push = pushes.decode(payload)
    (book,) = push.data
    bid_price, bid_qty = book.bids[0] if book.bids else (None, None)
    ask_price, ask_qty = book.asks[0] if book.asks else (None, None)
    symbol, ts_event, ts_send = push.arg.instId, book.ts * MS, push.ts * MS
    return [Quote(symbol, ts_event, ts_send, bid_price, bid_qty, ask_price, ask_qty, book.seq)]


def instrument_name(symbol: str) -> str | None:
    if symbol.endswith("PERP"):
        symbol = symbol.removesuffix("PERP") + "USDC"
    pair = split_symbol(symbol, ("USDT", "USDC"))
    return perp_name(*pair) if pair else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = msgspec.json.decode(_data(body), type=list[Contract])
    found = (
        _instrument(row, ts_seen)
        for row in rows
        if row.symbolType == "perpetual" and row.quoteCoin in {"USDT", "USDC"}
    )
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("bitget")
    tick = Decimal(row.priceEndStep).scaleb(-int(row.pricePlace))
    return canonical(
        Instrument(
            venue="bitget",
            name="",
            symbol=row.symbol,
            base=row.baseCoin,
            quote=row.quoteCoin,
            settle=row.quoteCoin,
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            tick_size=step(float(tick)),
            lot_size=step(row.sizeMultiplier),
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=step(row.fundInterval),
            status="trading" if row.symbolStatus == "normal" else row.symbolStatus,
            ts_seen=ts_seen,
        )
    )


def read_time(body: bytes) -> int:
    return int(msgspec.json.decode(_data(body), type=ServerTime).serverTime) * MS


def _data(body: bytes) -> msgspec.Raw:
    answer = rests.decode(body)
    if answer.code != OK:
        raise ValueError(f"{answer.code} {answer.msg}")
    return answer.data


BITGET = Venue(
    name="bitget",
    docs="https://www.bitget.com/api-doc/contract/websocket/public/Order-Book-Channel",
    streams={"quotes": (STREAM,)},
    decode=decode,
    instrument_name=instrument_name,
    url="wss://ws.bitget.com/v2/ws/public",
    rest="https://api.bitget.com",
    topic=topic,
    subscribe=subscribe,
    subscribe_every_ns=150 * MS,
    topics_per_wire=50,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=20 * NS, silence_ns=45 * NS),
    first_data_ns=10 * NS,
    instruments_path=f"/api/v2/mix/market/contracts?productType={FAMILY}",
    read_instruments=read_instruments,
    time_path="/api/v2/public/time",
    read_time=read_time,
)
