"""OKX version 5, linear perpetual swaps (USDT and USDC).

Odd here: the heartbeat is the bare text ``ping``. An error names its topic only inside the words
of ``msg``, and the socket stays open. Sizes are contracts. The ``checksum`` of a book is dead (0
in every frame since 2026-06-23), its sequence is ``prevSeqId``. Empty strings stand for null. No
frame says when it was sent. An index is named without the swap's ending: ``BTC-USDT``.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Literal, TypeVar

import msgspec

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, step
from perptape.venues.venue import (
    FRONT,
    Accepted,
    Alive,
    Best,
    Complaint,
    Control,
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

BBO, BOOKS, BOOKS5, TRADES = "bbo-tbt", "books", "books5", "trades"
MARK, INDEX, INTEREST, FUNDING = "mark-price", "index-tickers", "open-interest", "funding-rate"
DATA = b'"data":['
QUOTE = b'{"arg":{"channel":"bbo-tbt",'
DEPTH = b'"channel":"books'
PING, PONG = b"ping", b"pong"
SWAP = "-SWAP"
LINEAR = re.compile(r"([A-Z0-9]{1,32})-(USDT|USDC)-SWAP")
NAMED = re.compile(r'channel"?:"?([\w-]+)"?,"?instId"?:"?([\w-]+)')
"""A topic in the words of an error: ``channel:books,instId:BTC-USDT-SWAP``, or as we asked."""
LEAVING = "64008"
ARGS = 400  # in one request, which may have 64 KB; and 480 requests an hour are allowed
OK = "0"
HOUR_NS = 3600 * NS
HISTORY = "funding_history"

S = TypeVar("S")
"""A side of a book."""
T = TypeVar("T")
"""A time that the venue prints as a string: ``Ms`` when read, ``str`` when written."""
R = TypeVar("R")
"""A rate in a wire type: ``Rate`` when read, ``str`` when written."""
D = TypeVar("D")
"""What a frame tells: rows of its channel."""
Blank = Literal[""]
Side = Literal["buy", "sell"]
Action = Literal["snapshot", "update", ""]


class Arg(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What names a topic."""

    channel: str = ""
    instId: str = ""


class Push(msgspec.Struct, Generic[D], frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """A frame of data."""

    arg: Arg
    action: Action = ""
    """Of ``books`` alone."""
    data: D


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    arg: Arg = Arg()
    data: msgspec.Raw = msgspec.Raw(b"")
    """Of data frames alone; likewise ``event`` of control frames."""
    event: str = ""


class Priced(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is read of a :class:`Level`."""

    px: Price
    sz: Qty


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A price of a book; the third place is deprecated, the fourth counts its orders."""

    px: str
    sz: str
    liquidated: str = "0"
    orders: str = "0"


class Depth(msgspec.Struct, Generic[S, T], frozen=True, omit_defaults=True, gc=False):
    """A book, its best level or its changes; a side without orders is ``[]``."""

    asks: S
    bids: S
    ts: T
    """When the state was made."""
    checksum: int | None = None
    """See :func:`perptape.venues.venue.checksum`; 0 since 2026-06-23, never looked at."""
    seqId: Id | None = None
    """Absent in 2022, as is ``prevSeqId``."""
    prevSeqId: int | None = None
    """-1 or absent in a snapshot."""


class Place(msgspec.Struct, frozen=True):
    """A book's ids, without its levels."""

    seqId: int | None = None
    prevSeqId: int | None = None


class Placed(msgspec.Struct, frozen=True):
    """A frame of a book, without its levels."""

    arg: Arg = Arg()
    action: str = ""
    data: tuple[Place, ...] = ()


class Deal(msgspec.Struct, Generic[P, Q, T], frozen=True, omit_defaults=True):
    """A trade: what one taker order took at one price."""

    instId: str
    tradeId: str
    px: P
    sz: Q
    side: Side
    ts: T
    count: str = ""
    source: str = ""
    seqId: Id | None = None
    """Shared by several trades: no counter of them."""


class Gauge(msgspec.Struct, Generic[P, Q, T], frozen=True, omit_defaults=True):
    """Of ``mark-price``, ``index-tickers`` or ``open-interest``: each says one of the three."""

    instId: str
    """Of ``index-tickers`` the index: ``BTC-USDT``."""
    ts: T
    instType: str = ""
    markPx: P | Blank = ""
    idxPx: P | Blank = ""
    oi: Q | Blank = ""
    """Contracts, one-sided."""


class FundingRate(msgspec.Struct, Generic[R, T], frozen=True, kw_only=True):
    """The rate to be paid at ``fundingTime``.

    ``settFundingRate``, the one paid last, is not taken: nothing says for how long it was. The
    funding history does, and has what was charged.
    """

    instType: str = ""
    instId: str
    method: str = ""
    fundingRate: R | Blank
    fundingTime: T | Blank
    nextFundingRate: str = ""
    nextFundingTime: T | Blank = ""
    prevFundingTime: T | Blank = ""
    """Of newer frames."""
    settFundingRate: str = ""
    settState: str = ""
    ts: T


class Paid(msgspec.Struct, frozen=True):
    """A row of the funding history."""

    instId: str
    fundingTime: Ms
    realizedRate: Rate | Blank = ""
    """What was charged; ``fundingRate`` is what was foretold."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ack, an error or a notice."""

    id: str = ""
    event: str = ""
    arg: Arg = Arg()
    code: str = ""
    msg: str = ""
    connId: str = ""


class Request(msgspec.Struct, frozen=True):
    """What the client says."""

    op: str
    args: list[Arg]


class Contract(msgspec.Struct, frozen=True):
    """A row of the instrument list; a coming one may have nothing but its name."""

    instId: str
    ctType: str = ""
    ctVal: str = ""
    ctMult: str = ""
    ctValCcy: str = ""
    settleCcy: str = ""
    tickSz: str = ""
    lotSz: str = ""
    state: str = ""


class Clock(msgspec.Struct, frozen=True):
    ts: Ms


class Rest(msgspec.Struct, frozen=True):
    """The envelope of every REST answer; the data wait for ``code``."""

    code: str
    data: msgspec.Raw = msgspec.Raw(b"[]")
    msg: str = ""


class Traded(msgspec.Struct, frozen=True):
    """A row of the tickers: of one day, in coins."""

    instId: str
    last: Price | Blank = ""
    volCcy24h: Qty | Blank = ""


heads = msgspec.json.Decoder(Head)
placed = msgspec.json.Decoder(Placed, strict=False)
answers = msgspec.json.Decoder(Answer, strict=False)
rests = msgspec.json.Decoder(Rest)
depths = msgspec.json.Decoder(Push[tuple[Depth[list[Priced], Ms]]], strict=False)
tops = msgspec.json.Decoder(Push[tuple[Depth[Best[Priced], Ms]]], strict=False)
deals = msgspec.json.Decoder(Push[list[Deal[Price, Qty, Ms]]], strict=False)
gauges = msgspec.json.Decoder(Push[list[Gauge[Price, Qty, Ms]]], strict=False)
funding_rates = msgspec.json.Decoder(Push[list[FundingRate[Rate, Ms]]], strict=False)
payments = msgspec.json.Decoder(list[Paid], strict=False)
traded = msgspec.json.Decoder(list[Traded], strict=False)
clocks = msgspec.json.Decoder(tuple[Clock], strict=False)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    name = symbol.removesuffix(SWAP) if stream == INDEX else symbol
    marks = (f'"channel":"{stream}"'.encode(), f'"instId":"{name}"'.encode())
    return Topic(channel, stream, symbol, f"{stream}.{name}", marks)


def _requests(op: str, topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    args = [Arg(topic.stream, topic.key.partition(".")[2]) for topic in topics]
    return [
        msgspec.json.encode(Request(op, args[start : start + ARGS]))
        for start in range(0, len(args), ARGS)
    ]


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
    answer = answers.decode(payload)
    match answer.event:
        case "subscribe":
            return Accepted(_keys(answer))
        case "error":
            keys = _keys(answer)
            words = f"{answer.code} {answer.msg}"
            return Rejected(keys, words) if keys else Complaint(words)
        case "notice" if answer.code == LEAVING:
            return Leaving(answer.msg)
        case "notice" | "channel-conn-count-error":
            return Complaint(f"{answer.event} {answer.code} {answer.msg}".rstrip())
        case _:
            return None


def _keys(answer: Answer) -> tuple[str, ...]:
    if answer.arg.instId:
        return (f"{answer.arg.channel}.{answer.arg.instId}",)
    return tuple(f"{channel}.{name}" for channel, name in NAMED.findall(answer.msg))


def link(payload: bytes) -> Link | None:
    if DEPTH not in payload:
        return None
    frame = placed.decode(payload)
    if frame.arg.channel not in {BOOKS, BOOKS5} or not frame.data:
        return None
    (place,) = frame.data
    is_snapshot = frame.arg.channel == BOOKS5 or frame.action == "snapshot"
    follows = None if is_snapshot else place.prevSeqId
    return Link(f"{frame.arg.channel}.{frame.arg.instId}", is_snapshot, place.seqId, follows)


def decode(payload: bytes) -> list[Event]:
    if payload.startswith(QUOTE) and payload.find(DATA, 0, FRONT) >= 0:
        return _quote(payload)
    if payload == PONG:
        return []
    head = heads.decode(payload)
    read = READERS.get(head.arg.channel)
    return read(payload) if read is not None and head.data and not head.event else []


def _quote(payload: bytes) -> list[Event]:
    push = tops.decode(payload)
    (top,) = push.data
    bid, bid_qty = (top.bids[0].px, top.bids[0].sz) if top.bids else (None, None)
    ask, ask_qty = (top.asks[0].px, top.asks[0].sz) if top.asks else (None, None)
    return [Quote(push.arg.instId, top.ts * MS, None, bid, bid_qty, ask, ask_qty, top.seqId)]


def _book(payload: bytes) -> list[Event]:
    """Give a whole book or a change.

    A change whose id is less than the one it follows is the venue's counter starting over: it
    follows all the same. One without levels follows itself, and says that nothing changed.
    """
    push = depths.decode(payload)
    is_snapshot = push.arg.channel == BOOKS5 or push.action == "snapshot"
    if not is_snapshot and not push.action:
        raise ValueError("a book that does not say whether it is whole")
    (depth,) = push.data
    bids, asks = ([(level.px, level.sz) for level in side] for side in (depth.bids, depth.asks))
    follows = None if is_snapshot else depth.prevSeqId
    ts_event = depth.ts * MS
    return [Book(push.arg.instId, ts_event, None, bids, asks, is_snapshot, depth.seqId, follows)]


def _trades(payload: bytes) -> list[Event]:
    return [
        Trade(deal.instId, deal.ts * MS, None, deal.px, deal.sz, deal.side, deal.tradeId)
        for deal in deals.decode(payload).data
    ]


def _mark(payload: bytes) -> list[Event]:
    push = gauges.decode(payload)
    ending = SWAP if push.arg.channel == INDEX else ""
    found: list[Event] = []
    for row in push.data:
        said = [None if one == "" else one for one in (row.markPx, row.idxPx, row.oi)]
        if any(one is not None for one in said):
            found.append(Mark(row.instId + ending, row.ts * MS, None, *said))
    return found


def _funding(payload: bytes) -> list[Event]:
    found: list[Event] = []
    for row in funding_rates.decode(payload).data:
        due, before = _ns(row.fundingTime), _ns(row.prevFundingTime)
        rate = None if row.fundingRate == "" else row.fundingRate
        # An interval may change at a payment, so the one before it tells more than the next.
        interval_h = _hours(before, due) or _hours(due, _ns(row.nextFundingTime))
        if rate is not None or due is not None:
            found.append(Funding(row.instId, row.ts * MS, None, rate, interval_h, due))
    return found


def _ns(ms: int | Blank) -> int | None:
    return None if ms == "" else ms * MS


def _hours(start: int | None, end: int | None) -> float | None:
    if start is None or end is None or start >= end:
        return None
    return (end - start) / HOUR_NS


READERS: dict[str, Callable[[bytes], list[Event]]] = {
    BBO: _quote,
    BOOKS: _book,
    BOOKS5: _book,
    TRADES: _trades,
    MARK: _mark,
    INDEX: _mark,
    INTEREST: _mark,
    FUNDING: _funding,
}


def instrument_name(symbol: str) -> str | None:
    match = LINEAR.fullmatch(symbol)
    return f"{match[1]}-{match[2]}-PERP" if match else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = msgspec.json.decode(_data(body), type=list[Contract])
    found = (_instrument(row, ts_seen) for row in rows)
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    """Give a linear swap; what a contract is worth must be said, in the coin of its name."""
    match, value, times = LINEAR.fullmatch(row.instId), step(row.ctVal), step(row.ctMult)
    if match is None or row.ctType != "linear" or value is None or times is None:
        return None
    base, quote = match.groups()
    if row.ctValCcy != base or row.settleCcy != quote:
        return None
    fee = fee_of("okx")
    return canonical(
        Instrument(
            venue="okx",
            name="",
            symbol=row.instId,
            base=base,
            quote=quote,
            settle=row.settleCcy,
            kind="linear",
            contract_size=value * times,
            price_unit=1.0,
            tick_size=step(row.tickSz),
            lot_size=step(row.lotSz),
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=None,  # the funding-rate channel has it
            status="trading" if row.state == "live" else row.state,
            ts_seen=ts_seen,
        ),
        bundles=False,
    )


def read_turnover(body: bytes) -> dict[str, float]:
    """Coins at the last price: the turnover itself is not said."""
    return {
        row.instId: row.volCcy24h * row.last
        for row in traded.decode(_data(body))
        if row.volCcy24h != "" and row.last != ""
    }


def read_time(body: bytes) -> int:
    (clock,) = clocks.decode(_data(body))
    return clock.ts * MS


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    """Give what was paid, the oldest first."""
    del symbol  # each row has it
    if what != HISTORY:
        return []
    return [
        Funding(row.instId, None, None, row.realizedRate, None, row.fundingTime * MS, True)  # noqa: FBT003  as events have it
        for row in reversed(payments.decode(_data(body)))
        if row.realizedRate != ""
    ]


def _data(body: bytes) -> msgspec.Raw:
    answer = rests.decode(body)
    if answer.code != OK:
        raise ValueError(f"{answer.code} {answer.msg}")
    return answer.data


OKX = Venue(
    name="okx",
    docs="https://www.okx.com/docs-v5/en/",
    streams={
        "quotes": (BBO,),
        "books": (BOOKS, BOOKS5),
        "trades": (TRADES,),
        "marks": (f"{MARK}+{INDEX}+{INTEREST}",),
        "funding": (FUNDING,),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://ws.okx.com:8443/ws/v5/public",
    rest="https://www.okx.com",
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=1 * NS,
    topics_per_wire=200,  # 28 markets with all their channels; fewer than 30 books are advised
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=18 * NS, silence_ns=30 * NS),
    first_data_ns=10 * NS,
    slow={
        TRADES: 600 * NS,
        FUNDING: 120 * NS,
        INDEX: 90 * NS,
        MARK: 30 * NS,
        INTEREST: 30 * NS,
    },
    cadence={BBO: 60 * NS, BOOKS: 60 * NS, BOOKS5: 60 * NS, FUNDING: 90 * NS},
    link=link,
    polls=(
        Poll(
            HISTORY,
            "funding",
            "/api/v5/public/funding-rate-history?instId={symbol}&limit=10",
            600 * NS,
        ),
    ),
    read_rest=read_rest,
    replays_trades=True,
    instruments_path="/api/v5/public/instruments?instType=SWAP",
    read_instruments=read_instruments,
    turnover_path="/api/v5/market/tickers?instType=SWAP",
    read_turnover=read_turnover,
    time_path="/api/v5/public/time",
    read_time=read_time,
)
