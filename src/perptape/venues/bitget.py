"""Bitget v2 ("Classic"), USDT-M perpetuals.

Odd here: the heartbeat is the bare text ``ping``, answered by the bare text ``pong``. A real
symbol under a wrong ``instType`` is acked and then silent. Pushes have echoed ``mc`` as
``instType``, so it is never routed on: the wire carries only what was asked for. Sizes are coins.
An update's ``pseq`` is the ``seq`` before it, not one less; 0 there says that the server began
anew. One ``ticker`` tells marks and funding, but not the funding interval: that comes by REST.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Generic, Literal, TypeVar

import msgspec

from perptape import events
from perptape.events import MS, NS, Event, Quote
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, perp_name, split_symbol, step
from perptape.venues.venue import (
    Accepted,
    Alive,
    Best,
    Complaint,
    Control,
    Heartbeat,
    Id,
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

FAMILY = "USDT-FUTURES"
DATA = b'"action":'
ROWS_V1 = b'"data":[["'
CHANNEL = b'"channel":"'
BOOKS = CHANNEL + b'books"'
QUOTE = b'{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books1"'
ARGS_BYTES = 4096
ARGS = 50
PING, PONG = b"ping", b"pong"
OK = "00000"
BEGUN_ANEW = -1
"""Follows no state there is: of an update with ``pseq`` 0, after which only a snapshot helps."""
RATES, PAID = "funding_rate", "funding_history"
MARKET = "/api/v2/mix/market"

Action = Literal["snapshot", "update"]
Blank = Literal["", "-1", "null"] | None
"""How the venue spells that there is nothing to say; of prices and times also ``0``."""
A = TypeVar("A")
"""What a channel's action may be."""
R = TypeVar("R")
"""A push's data, of its channel; a rate in a wire type."""
T = TypeVar("T")
"""A time that the venue prints as a string: ``Ms`` when read, ``str`` when written."""


class Arg(msgspec.Struct, frozen=True, gc=False):
    """What names a topic."""

    instType: str
    channel: str
    instId: str


class Echo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic as an answer names it; v3 frames name it otherwise: by ``topic`` and a symbol."""

    instType: str = ""
    channel: str = ""
    instId: str = ""
    topic: str = ""


class Book(msgspec.Struct, Generic[P, Q, T], frozen=True, omit_defaults=True, gc=False):
    """Best ask and bid; a side without orders is ``[]``."""

    asks: Best[tuple[P, Q]]
    bids: Best[tuple[P, Q]]
    ts: T
    """The matching engine's time."""
    seq: Id | None = None
    pseq: Id | None = None
    """Always 0 on this channel."""
    checksum: int | None = None
    """0 until 2025, then absent."""


class Depth(msgspec.Struct, Generic[P, Q, T], frozen=True, omit_defaults=True):
    """A whole book, or the absolute sizes of what changed; a size of 0 removes the price."""

    asks: list[tuple[P, Q]]
    bids: list[tuple[P, Q]]
    ts: T
    """The matching engine's time; of a snapshot, of the last change before it."""
    seq: Id | None = None
    pseq: Id | None = None
    """Of an update, the ``seq`` that it follows; 0: the server began anew. Absent until 2025."""
    checksum: int | None = None
    """See :func:`perptape.venues.venue.checksum`; of updates until 2025, 0 elsewhere."""


class Trade(msgspec.Struct, Generic[P, Q, T], frozen=True):
    """One execution, counted once."""

    ts: T
    price: P
    size: Q
    side: Literal["buy", "sell"]
    """The taker's."""
    tradeId: str


class Ticker(msgspec.Struct, Generic[Q, R, T], frozen=True, omit_defaults=True):
    """What of a ticker is read: its best prices and its last trade have channels of their own."""

    ts: T | None = None
    """When it was made; not said to be the matching engine's time. Absent in v1, of 2022."""
    fundingRate: R | None = None
    """Of the running interval, not final before ``nextFundingTime``."""
    nextFundingTime: T | None = None
    """``0``: a contract without funding."""
    markPrice: Q | None = None
    indexPrice: Q | None = None
    holdingAmount: Q | None = None
    """Open interest in coins; that it is one-sided is nowhere said, and is what we take it for."""


class Push(msgspec.Struct, Generic[A, R], frozen=True, omit_defaults=True, gc=False):
    """A frame of data, keys in the venue's order."""

    action: A
    arg: Arg
    data: R
    ts: Ms | None = None
    """When the socket's server sent it; absent in v1, of 2022."""


class Place(msgspec.Struct, frozen=True):
    """A :class:`Depth` without its levels."""

    seq: Id | None = None
    pseq: Id | None = None


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


class FundRate(msgspec.Struct, Generic[Q, R, T], frozen=True):
    """A row of current-fund-rate; the ticker says all of this but the interval."""

    symbol: str
    fundingRate: R
    fundingRateInterval: Q
    """Hours; it changes by announcement, and no stream says it."""
    nextUpdate: T
    minFundingRate: str | None = ""
    """``null``: a test, or not listed yet; the tickers do not know it."""
    maxFundingRate: str | None = ""


class PaidRate(msgspec.Struct, Generic[R, T], frozen=True):
    """A row of history-fund-rate."""

    symbol: str
    fundingRate: R
    fundingTime: T


class ServerTime(msgspec.Struct, frozen=True):
    serverTime: str


class Rest(msgspec.Struct, frozen=True):
    """The envelope of every REST answer; the data wait for ``code``."""

    code: str
    msg: str
    data: msgspec.Raw
    requestTime: Ms = 0


class Traded(msgspec.Struct, frozen=True):
    """A row of the tickers by REST: of one day."""

    symbol: str
    quoteVolume: Qty | Blank = None


heads = msgspec.json.Decoder(Head)
bests = msgspec.json.Decoder(Push[Literal["snapshot"], tuple[Book[Price, Qty, Ms]]], strict=False)
depths = msgspec.json.Decoder(Push[Action, tuple[Depth[Price, Qty, Ms]]], strict=False)
trades = msgspec.json.Decoder(Push[Action, list[Trade[Price, Qty, Ms]]], strict=False)
trades_v1 = msgspec.json.Decoder(
    Push[Action, list[tuple[Ms, Price, Qty, Literal["buy", "sell"]]]], strict=False
)
tickers = msgspec.json.Decoder(
    Push[Action, tuple[Ticker[Qty | Blank, Rate | Blank, Ms | Blank]]], strict=False
)
places = msgspec.json.Decoder(Push[Action, tuple[Place]], strict=False)
fund_rates = msgspec.json.Decoder(
    list[FundRate[Qty | Blank, Rate | Blank, Ms | Blank]], strict=False
)
paid_rates = msgspec.json.Decoder(list[PaidRate[Rate, Ms]], strict=False)
traded = msgspec.json.Decoder(list[Traded], strict=False)
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    marks = (DATA, f'"channel":"{stream}"'.encode(), f'"instId":"{symbol}"'.encode())
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", marks)


def _requests(op: str, topics: Sequence[Topic], ts: int) -> list[bytes]:
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
    return [msgspec.json.encode(Request(op, args)) for args in batches if args]


subscribe = partial(_requests, "subscribe")
unsubscribe = partial(_requests, "unsubscribe")


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
        is_refusal = key and answer.op != "unsubscribe"
        return (
            Rejected((key,), answer.msg) if is_refusal else Complaint(f"{answer.code} {answer.msg}")
        )
    if answer.event == "subscribe":
        return Accepted((key,) if key else ())
    return None


def decode(payload: bytes) -> list[Event]:
    if payload.startswith(QUOTE):
        return _quote(payload)
    read = READERS.get(_spelled(payload)) or READERS.get(_parsed(payload))
    return read(payload) if read else []


def _spelled(payload: bytes) -> str:
    """The channel of a push, as its bytes usually have it."""
    begin = payload.find(CHANNEL) + len(CHANNEL)
    if begin < len(CHANNEL) or DATA not in payload:
        return ""
    return payload[begin : payload.find(b'"', begin)].decode()


def _parsed(payload: bytes) -> str:
    """The channel of a push however it is spelled, "" of anything else."""
    if payload in {PING, PONG}:
        return ""
    head = heads.decode(payload)
    if head.action and head.arg.topic:
        raise ValueError("a push of v3")
    return head.arg.channel if head.action else ""


def _quote(payload: bytes) -> list[Event]:
    push = bests.decode(payload)
    (book,) = push.data
    bid, bid_qty = book.bids[0] if book.bids else (None, None)
    ask, ask_qty = book.asks[0] if book.asks else (None, None)
    symbol, ts_event, ts_send = push.arg.instId, book.ts * MS, push.ts * MS if push.ts else None
    return [Quote(symbol, ts_event, ts_send, bid, bid_qty, ask, ask_qty, book.seq)]


def _book(payload: bytes) -> list[Event]:
    push = depths.decode(payload)
    (book,) = push.data
    is_snapshot = push.action == "snapshot"
    return [
        events.Book(
            push.arg.instId,
            book.ts * MS,
            _ns(push.ts),
            book.bids,
            book.asks,
            is_snapshot=is_snapshot,
            update_id=book.seq,
            follows=None if is_snapshot else _follows(book.pseq),
        )
    ]


def _follows(pseq: int | None) -> int | None:
    return BEGUN_ANEW if pseq == 0 else pseq


def _trades(payload: bytes) -> list[Event]:
    """What the first push after a subscribe tells was before it. The newest comes first."""
    if ROWS_V1 in payload:
        return _trades_v1(payload)
    push = trades.decode(payload)
    symbol, ts_send, is_history = push.arg.instId, _ns(push.ts), push.action == "snapshot"
    return [
        events.Trade(symbol, t.ts * MS, ts_send, t.price, t.size, t.side, t.tradeId, is_history)
        for t in reversed(push.data)
    ]


def _trades_v1(payload: bytes) -> list[Event]:
    """The form of 2022: rows of time, price, size and side, without an id."""
    push = trades_v1.decode(payload)
    symbol, ts_send, is_history = push.arg.instId, _ns(push.ts), push.action == "snapshot"
    return [
        events.Trade(symbol, ts * MS, ts_send, price, size, side, None, is_history)
        for ts, price, size, side in reversed(push.data)
    ]


def _ticker(payload: bytes) -> list[Event]:
    push = tickers.decode(payload)
    (ticker,) = push.data
    symbol, ts_event, ts_send = push.arg.instId, _ns(ticker.ts), _ns(push.ts)
    mark_price, index_price = _number(ticker.markPrice) or None, _number(ticker.indexPrice) or None
    held, rate = _number(ticker.holdingAmount), _number(ticker.fundingRate)
    ts_funding = _ns(ticker.nextFundingTime)
    found: list[Event] = []
    if (mark_price, index_price, held) != (None, None, None):
        found.append(events.Mark(symbol, ts_event, ts_send, mark_price, index_price, held))
    if (rate, ts_funding) != (None, None):
        found.append(events.Funding(symbol, ts_event, ts_send, rate, None, ts_funding))
    return found


def _number(said: float | Blank) -> float | None:
    return said if isinstance(said, float) else None


def _ns(said: int | Blank) -> int | None:
    return said * MS if isinstance(said, int) and said else None


READERS: dict[str, Callable[[bytes], list[Event]]] = {
    "books1": _quote,
    "books5": _book,
    "books15": _book,
    "books": _book,
    "trade": _trades,
    "ticker": _ticker,
}


def link(payload: bytes) -> Link | None:
    if BOOKS not in payload or DATA not in payload:
        return None
    push = places.decode(payload)
    (place,) = push.data
    is_snapshot = push.action == "snapshot"
    follows = None if is_snapshot else _follows(place.pseq)
    return Link(f"books.{push.arg.instId}", is_snapshot, place.seq, follows)


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


def read_turnover(body: bytes) -> dict[str, float]:
    said = {row.symbol: _number(row.quoteVolume) for row in traded.decode(_data(body))}
    return {symbol: quote for symbol, quote in said.items() if quote is not None}


def read_time(body: bytes) -> int:
    return int(msgspec.json.decode(_data(body), type=ServerTime).serverTime) * MS


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    del symbol  # the rows have it
    ts_send = _ns(rests.decode(body).requestTime)
    if what == RATES:
        rows = fund_rates.decode(_data(body))
        return [_expected(row, ts_send) for row in rows if row.minFundingRate is not None]
    if what == PAID:
        return [_paid(row, ts_send) for row in paid_rates.decode(_data(body))]
    raise ValueError(f"{what} is not asked for here")


def _expected(
    row: FundRate[float | Blank, float | Blank, int | Blank], ts_send: int | None
) -> Event:
    rate, ts_funding = _number(row.fundingRate), _ns(row.nextUpdate)
    interval_h = _number(row.fundingRateInterval) or None
    return events.Funding(row.symbol, None, ts_send, rate, interval_h, ts_funding)


def _paid(row: PaidRate[float, int], ts_send: int | None) -> Event:
    at = row.fundingTime * MS
    return events.Funding(row.symbol, None, ts_send, row.fundingRate, None, at, is_settled=True)


def _data(body: bytes) -> msgspec.Raw:
    answer = rests.decode(body)
    if answer.code != OK:
        raise ValueError(f"{answer.code} {answer.msg}")
    return answer.data


BITGET = Venue(
    name="bitget",
    docs="https://www.bitget.com/api-doc/contract/websocket/public/Order-Book-Channel",
    streams={
        "quotes": ("books1",),
        "books": ("books", "books15", "books5"),
        "trades": ("trade",),
        "marks": ("ticker",),
        "funding": ("ticker",),
    },
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
    slow={"trade": 600 * NS},
    cadence={"ticker": 5 * NS},
    unsubscribe=unsubscribe,
    link=link,
    polls=(
        Poll(RATES, "funding", f"{MARKET}/current-fund-rate?productType={FAMILY}", 60 * NS),
        Poll(
            PAID,
            "funding",
            f"{MARKET}/history-fund-rate?symbol={{symbol}}&productType={FAMILY}&pageSize=10",
            600 * NS,
        ),
    ),
    read_rest=read_rest,
    instruments_path=f"{MARKET}/contracts?productType={FAMILY}",
    read_instruments=read_instruments,
    turnover_path=f"{MARKET}/tickers?productType={FAMILY}",
    read_turnover=read_turnover,
    time_path="/api/v2/public/time",
    read_time=read_time,
)
