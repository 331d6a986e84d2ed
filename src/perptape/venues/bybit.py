"""Bybit v5, linear perpetuals (USDT and USDC).

Odd here: one bad topic spoils its whole subscribe frame, so each topic goes alone and its key is
the ``req_id`` (the ack names no topics). ``orderbook.1`` is always a snapshot since 2025-03-20.
The pong's ``op`` stays ``ping``. ``cts`` (matching engine) stands outside ``data``.
"""

from collections.abc import Sequence
from typing import Annotated, Generic, Literal
from urllib.parse import quote as percent

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

STREAM = "orderbook.1."
DATA = b'"topic":"'
QUOTES = DATA + STREAM.encode()
TRADING = "Trading"
INSTRUMENTS = "/v5/market/instruments-info?category=linear&limit=1000"


class Book(msgspec.Struct, Generic[P, Q], frozen=True):
    """Best bid and ask; a side without orders is ``[]``."""

    s: str
    b: Annotated[list[tuple[P, Q]], Meta(max_length=1)]
    a: Annotated[list[tuple[P, Q]], Meta(max_length=1)]
    u: Id
    seq: Id


class Push(msgspec.Struct, Generic[P, Q], frozen=True, omit_defaults=True):
    """A frame of ``orderbook.1``, keys in the venue's order."""

    topic: str
    ts: Ms
    type: Literal["snapshot"]
    data: Book[P, Q]
    cts: Ms | None = None
    """The matching engine's time; absent before mid 2023."""


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    topic: str = ""


class Answer(msgspec.Struct, frozen=True):
    """An ack, an error or a pong."""

    success: bool
    ret_msg: str = ""
    conn_id: str = ""
    req_id: str = ""
    op: str = ""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client says."""

    op: str
    req_id: str = ""
    args: tuple[str, ...] = ()


class PriceFilter(msgspec.Struct, frozen=True):
    tickSize: str = ""


class LotSizeFilter(msgspec.Struct, frozen=True):
    qtyStep: str = ""
    minOrderQty: str = ""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of instruments-info."""

    symbol: str
    contractType: str
    status: str
    baseCoin: str
    quoteCoin: str
    priceFilter: PriceFilter
    lotSizeFilter: LotSizeFilter
    fundingInterval: int = 0
    """Minutes."""
    settleCoin: str


class Contracts(msgspec.Struct, frozen=True, kw_only=True):
    category: str = "linear"
    list: tuple[Contract, ...] = ()
    nextPageCursor: str = ""


class Clock(msgspec.Struct, frozen=True):
    timeSecond: str
    timeNano: str


class Rest(msgspec.Struct, frozen=True):
    """The envelope of every REST answer; the result waits for ``retCode``."""

    retCode: int
    retMsg: str
    result: msgspec.Raw


heads = msgspec.json.Decoder(Head)
pushes = msgspec.json.Decoder(Push[Price, Qty], strict=False)
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    key = f"{stream}.{symbol}"
    return Topic(channel, stream, symbol, key, (f'"topic":"{key}"'.encode(),))


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    return [
        msgspec.json.encode(Request("subscribe", req_id=topic.key, args=(topic.key,)))
        for topic in topics
    ]


def ping(ts: int) -> bytes:
    del ts
    return b'{"op":"ping"}'


def is_data(payload: bytes) -> bool:
    return DATA in payload


def control(payload: bytes) -> Control | None:
    answer = answers.decode(payload)
    if answer.op == "pong" or answer.ret_msg == "pong":
        return Alive()
    if answer.success:
        keys = (answer.req_id,) if answer.req_id else ()
        return Accepted(keys) if answer.op == "subscribe" else None
    return _refusal(answer)


def _refusal(answer: Answer) -> Control:
    named = answer.req_id or answer.ret_msg.partition(",topic:")[2]
    if not named or answer.op not in {"subscribe", ""}:
        return Complaint(answer.ret_msg)
    if "already subscribed" in answer.ret_msg:  # the first subscription keeps delivering
        return Accepted((named,))
    return Rejected((named,), answer.ret_msg)


def decode(payload: bytes) -> list[Event]:
    if QUOTES not in payload and not heads.decode(payload).topic.startswith(STREAM):
        return []
    push = pushes.decode(payload)
    book = push.data
    bid_price, bid_qty = book.b[0] if book.b else (None, None)
    ask_price, ask_qty = book.a[0] if book.a else (None, None)
    ts_event = None if push.cts is None else push.cts * MS
    return [Quote(book.s, ts_event, push.ts * MS, bid_price, bid_qty, ask_price, ask_qty, book.u)]


def instrument_name(symbol: str) -> str | None:
    if symbol.endswith("PERP"):
        symbol = symbol.removesuffix("PERP") + "USDC"
    pair = split_symbol(symbol, ("USDT", "USDC"))
    return perp_name(*pair) if pair else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    page = msgspec.json.decode(_result(body), type=Contracts)
    found = (
        _instrument(row, ts_seen) for row in page.list if row.contractType == "LinearPerpetual"
    )
    cursor = percent(page.nextPageCursor, safe="%")  # it comes percent-encoded
    return Listing(
        [instrument for instrument in found if instrument],
        f"{INSTRUMENTS}&cursor={cursor}" if cursor else None,
    )


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("bybit")
    return canonical(
        Instrument(
            venue="bybit",
            name="",
            symbol=row.symbol,
            base=row.baseCoin,
            quote=row.quoteCoin,
            settle=row.settleCoin,
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            tick_size=step(row.priceFilter.tickSize),
            lot_size=step(row.lotSizeFilter.qtyStep),
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=row.fundingInterval / 60 if row.fundingInterval else None,
            status="trading" if row.status == TRADING else row.status,
            ts_seen=ts_seen,
        )
    )


def read_time(body: bytes) -> int:
    return int(msgspec.json.decode(_result(body), type=Clock).timeNano)


def _result(body: bytes) -> msgspec.Raw:
    answer = rests.decode(body)
    if answer.retCode != 0:
        raise ValueError(f"{answer.retCode} {answer.retMsg}")
    return answer.result


BYBIT = Venue(
    name="bybit",
    docs="https://bybit-exchange.github.io/docs/v5/ws/connect",
    streams={"quotes": ("orderbook.1",)},
    decode=decode,
    instrument_name=instrument_name,
    url="wss://stream.bybit.com/v5/public/linear",
    rest="https://api.bybit.com",
    topic=topic,
    subscribe=subscribe,
    subscribe_every_ns=10 * MS,
    topics_per_wire=200,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=18 * NS, silence_ns=30 * NS),
    first_data_ns=10 * NS,
    instruments_path=INSTRUMENTS,
    read_instruments=read_instruments,
    time_path="/v5/market/time",
    read_time=read_time,
)
