"""Binance USD-M futures (perpetuals in USDT, USDC), on the split endpoints of 2026.

Odd here: an ack names no topic and proves nothing: a wrong symbol, speed or path is acknowledged
and silent for ever. ``markPrice`` and ``aggTrade`` have another socket than the rest. A change of
a book names the one before it (``pu``); ids rise with holes, all symbols share them, and so do
``bookTicker`` and REST, where a book begins. Key order changed between years; ``ps`` and ``st``
came in 2026, when all-market streams began to carry COIN-M symbols (``st`` 2): those are not ours.
Recordings hold bare frames too (``/ws``), without their stream's name: a depth among them may be a
change or a whole book, so it is not read.
"""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, Literal, TypeVar

import msgspec

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, perp_name, split_symbol, step
from perptape.venues.venue import (
    FRONT,
    Accepted,
    Alive,
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
    Topic,
    Venue,
)

DATA = b'"stream":"'
QUOTE = b'"e":"bookTicker"'
WORD = re.compile(rb'"e"\s*:\s*"(\w+)"')
ENVELOPE = b'"stream"'
DEPTH = b"@depth"
DEPTH_NAME = re.compile(r"[^@]+@depth(\d*)(?:@\d+ms)?")
PARAMS = 50
"""Streams in one frame: how many it may hold is not published, 100 were seen to be taken."""
UNSUBSCRIBED, PING_ID = 1_000, 2_000_000
"""Ids of our frames: subscribes count from 1, unsubscribes from the first of these."""
SOCKETS = {"markPrice@1s": "market", "aggTrade": "market"}
QUOTES = ("USDT", "USDC", "BUSD")
PERPETUAL = {"PERPETUAL", "TRADIFI_PERPETUAL"}
USD_M = 1
MARKET = "MARKET"
USUAL_INTERVAL_H = 8.0
HOUR_MS, NEAR_MS = 3_600_000, 60_000
DEPTH_PATH = "/fapi/v1/depth?symbol={symbol}&limit=1000"

D = TypeVar("D")


class Said(msgspec.Struct, frozen=True, gc=False, tag_field="e"):
    """What a stream says: ``e`` names it."""


class BookTicker(Said, Generic[P, Q], frozen=True, kw_only=True, tag="bookTicker"):
    """Best bid and ask; sizes in coins."""

    u: Id
    s: str
    ps: str = ""
    b: P
    B: Q
    a: P
    A: Q
    T: Ms
    """Matching time."""
    E: Ms
    """Sending time."""
    st: int = USD_M


class Depth(Said, Generic[P, Q], frozen=True, kw_only=True, tag="depthUpdate"):
    """What changed in a book, or its first levels: absolute sizes, 0 removes."""

    E: Ms
    T: Ms
    s: str
    U: Id
    u: Id
    pu: Id
    b: list[tuple[P, Q]]
    a: list[tuple[P, Q]]
    ps: str = ""
    st: int = USD_M


class Execution(Said, Generic[P, Q], frozen=True, kw_only=True, tag="trade"):
    """One trade, or what the venue settled off its book (``X``)."""

    E: Ms
    T: Ms
    s: str
    t: Id
    p: P
    q: Q
    X: str = MARKET
    m: bool
    """The buyer was the maker: the taker sold."""
    st: int = USD_M


class AggTrade(Said, Generic[P, Q], frozen=True, kw_only=True, tag="aggTrade"):
    """Trades of one taker at one price within 100 ms."""

    E: Ms
    a: Id
    s: str
    p: P
    q: Q
    nq: Q | None = None
    """Without retail price improvement."""
    f: Id
    l: Id  # noqa: E741 - the venue's spelling
    T: Ms
    m: bool
    st: int = USD_M


class MarkPrice(Said, frozen=True, kw_only=True, tag="markPriceUpdate"):
    """Mark, index, and the running interval's funding rate, which a dated future has not."""

    E: Ms
    s: str
    p: str
    ap: str = ""
    P: str = ""
    i: str = ""
    r: str = ""
    T: Ms = 0
    """When funding is paid next."""
    st: int = USD_M


class Push(msgspec.Struct, Generic[D], frozen=True, gc=False):
    """A frame of a combined stream."""

    stream: str
    data: D


class Head(msgspec.Struct, frozen=True):
    """A frame without an event, of which only the form counts."""


class Place(msgspec.Struct, frozen=True):
    """A depth without its levels."""

    u: Id
    pu: Id
    st: int = USD_M


class Request(msgspec.Struct, frozen=True):
    """What the client says."""

    method: str
    params: tuple[str, ...]
    id: int


class Error(msgspec.Struct, frozen=True):
    code: int
    msg: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An ack or an error."""

    id: int | str | None = None
    error: Error | None = None
    code: int | None = None
    msg: str = ""
    e: str = ""


class Snapshot(msgspec.Struct, Generic[P, Q], frozen=True, kw_only=True):
    """The answer of REST depth."""

    lastUpdateId: Id
    E: Ms | None = None
    T: Ms | None = None
    bids: list[tuple[P, Q]]
    asks: list[tuple[P, Q]]


class OpenInterest(msgspec.Struct, Generic[Q], frozen=True):
    openInterest: Q
    symbol: str
    time: Ms


class FundingInfo(msgspec.Struct, frozen=True):
    """A symbol whose interval or caps are not the usual ones."""

    symbol: str
    fundingIntervalHours: int


class FundingRate(msgspec.Struct, frozen=True):
    """A rate that was paid."""

    symbol: str
    fundingRate: str
    fundingTime: Ms


class Filter(msgspec.Struct, frozen=True):
    filterType: str
    tickSize: str = ""
    stepSize: str = ""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of exchangeInfo."""

    symbol: str
    contractType: str
    status: str
    baseAsset: str
    quoteAsset: str
    marginAsset: str
    filters: list[Filter]


class ExchangeInfo(msgspec.Struct, frozen=True):
    symbols: list[Contract]


class Clock(msgspec.Struct, frozen=True):
    serverTime: Ms


class Traded(msgspec.Struct, frozen=True):
    """A row of the tickers by REST: of one day."""

    symbol: str
    quoteVolume: Qty | Literal[""] | None = None


heads = msgspec.json.Decoder(Head | list[Head])
places = msgspec.json.Decoder(Push[Place])
answers = msgspec.json.Decoder(Answer)
quote_pushes = msgspec.json.Decoder(Push[BookTicker[Qty, Qty]], strict=False)
bare_quotes = msgspec.json.Decoder(BookTicker[Qty, Qty], strict=False)
depth_pushes = msgspec.json.Decoder(Push[Depth[Price, Qty]], strict=False)
trade_pushes = msgspec.json.Decoder(Push[Execution[Qty, Qty]], strict=False)
bare_trades = msgspec.json.Decoder(Execution[Qty, Qty], strict=False)
agg_trade_pushes = msgspec.json.Decoder(Push[AggTrade[Price, Qty]], strict=False)
bare_agg_trades = msgspec.json.Decoder(AggTrade[Price, Qty], strict=False)
mark_pushes = msgspec.json.Decoder(Push[MarkPrice | list[MarkPrice]])
bare_marks = msgspec.json.Decoder(MarkPrice | list[MarkPrice])
snapshots = msgspec.json.Decoder(Snapshot[Price, Qty], strict=False)
interests = msgspec.json.Decoder(OpenInterest[Qty], strict=False)
infos = msgspec.json.Decoder(list[FundingInfo])
rates = msgspec.json.Decoder(list[FundingRate])
traded = msgspec.json.Decoder(list[Traded], strict=False)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    key = f"{symbol.lower()}@{stream}"
    return Topic(
        channel, stream, symbol, key, (DATA + key.encode() + b'"',), SOCKETS.get(stream, "")
    )


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    return _requests("SUBSCRIBE", topics, 1)


def unsubscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    return _requests("UNSUBSCRIBE", topics, UNSUBSCRIBED)


def _requests(method: str, topics: Sequence[Topic], first: int) -> list[bytes]:
    keys = tuple(dict.fromkeys(topic.key for topic in topics))
    parts = [keys[at : at + PARAMS] for at in range(0, len(keys), PARAMS)]
    return [msgspec.json.encode(Request(method, part, n)) for n, part in enumerate(parts, first)]


def ping(ts: int) -> bytes:
    """Ask for something short: the venue's own pings come every three minutes only."""
    del ts
    return msgspec.json.encode(Request("GET_PROPERTY", ("combined",), PING_ID))


def is_data(payload: bytes) -> bool:
    return DATA in payload


def control(payload: bytes) -> Control | None:
    answer = answers.decode(payload)
    if answer.id == PING_ID:
        return Alive()
    if answer.error is not None:
        return Complaint(f"{answer.error.code} {answer.error.msg}")
    if answer.code is not None:  # as the documentation has it, without the envelope
        return Complaint(f"{answer.code} {answer.msg}")
    if answer.e == "serverShutdown":  # known of spot only
        return Leaving(answer.e)
    return None if answer.id is None else Accepted(())


def decode(payload: bytes) -> list[Event]:
    if payload.find(QUOTE, 0, FRONT) >= 0:
        return quotes(payload)
    found = WORD.search(payload)
    if found is None:
        heads.decode(payload)
        return []
    read = READERS.get(found[1])
    return read(payload) if read else []


def _is_bare(payload: bytes) -> bool:
    return payload.find(ENVELOPE) < 0


def quotes(payload: bytes) -> list[Event]:
    top = bare_quotes.decode(payload) if _is_bare(payload) else quote_pushes.decode(payload).data
    if top.st != USD_M:
        return []
    bid, bid_qty = (top.b, top.B) if top.b else _no_side(top.B)
    ask, ask_qty = (top.a, top.A) if top.a else _no_side(top.A)
    return [Quote(top.s, top.T * MS, top.E * MS, bid, bid_qty, ask, ask_qty, top.u)]


def _no_side(qty: float) -> tuple[None, None]:
    """A side without orders can only be two zeros; no captured frame shows one."""
    if qty:
        raise ValueError("a size at a price of 0")
    return None, None


def books(payload: bytes) -> list[Event]:
    if _is_bare(payload):
        return []
    push = depth_pushes.decode(payload)
    is_snapshot, depth = _is_snapshot(push.stream), push.data
    if is_snapshot is None or depth.st != USD_M:
        return []
    follows = None if is_snapshot else depth.pu
    return [
        Book(depth.s, depth.T * MS, depth.E * MS, depth.b, depth.a, is_snapshot, depth.u, follows)
    ]


def _is_snapshot(stream: str) -> bool | None:
    """``@depth20@100ms`` is whole, ``@depth@100ms`` is not; ``None``: of another book, or none."""
    name = DEPTH_NAME.fullmatch(stream)
    return None if name is None else bool(name[1])


def trades(payload: bytes) -> list[Event]:
    trade = bare_trades.decode(payload) if _is_bare(payload) else trade_pushes.decode(payload).data
    if trade.st != USD_M or trade.X != MARKET:
        return []
    if not trade.p:
        raise ValueError("a trade at a price of 0")
    return [_trade(trade, trade.t)]


def agg_trades(payload: bytes) -> list[Event]:
    is_bare = _is_bare(payload)
    trade = bare_agg_trades.decode(payload) if is_bare else agg_trade_pushes.decode(payload).data
    return [_trade(trade, trade.a)] if trade.st == USD_M else []


def _trade(trade: Execution[Qty, Qty] | AggTrade[Price, Qty], number: int) -> Trade:
    side = "sell" if trade.m else "buy"
    return Trade(trade.s, trade.T * MS, trade.E * MS, trade.p, trade.q, side, str(number))


def marks(payload: bytes) -> list[Event]:
    is_bare = _is_bare(payload)
    told = bare_marks.decode(payload) if is_bare else mark_pushes.decode(payload).data
    rows = told if isinstance(told, list) else [told]
    return [event for row in rows if row.st == USD_M for event in _mark(row)]


def _mark(row: MarkPrice) -> list[Event]:
    ts = row.E * MS  # of the value: it stands on the whole second, whenever it is sent
    mark, index = _price(row.p), _price(row.i)
    rate, ts_funding = _number(row.r), row.T * MS or None
    events: list[Event] = []
    if mark is not None or index is not None:
        events.append(Mark(row.s, ts, None, mark, index))
    if rate is not None or ts_funding is not None:
        events.append(Funding(row.s, ts, None, rate, ts_funding=ts_funding))
    return events


def _price(text: str) -> float | None:
    """Read a mark or index price; 0 where there is none."""
    value = _number(text)
    if value is not None and value < 0:
        raise ValueError(f"a price of {text}")
    return value or None


def _number(text: str) -> float | None:
    value = float(text) if text else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


READERS = {
    b"bookTicker": quotes,
    b"depthUpdate": books,
    b"trade": trades,
    b"aggTrade": agg_trades,
    b"markPriceUpdate": marks,
}


def link(payload: bytes) -> Link | None:
    if DEPTH not in payload:
        return None
    push = places.decode(payload)
    is_snapshot = _is_snapshot(push.stream)
    if is_snapshot is None or push.data.st != USD_M:
        return None
    return Link(push.stream, is_snapshot, push.data.u, None if is_snapshot else push.data.pu)


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    match what:
        case "book":
            return [_snapshot(symbol, snapshots.decode(body))]
        case "open_interest":
            said = interests.decode(body)
            ts = said.time * MS
            return [Mark(said.symbol, ts, None, open_interest=said.openInterest)]
        case "funding_info":
            return [
                Funding(row.symbol, None, None, interval_h=float(row.fundingIntervalHours))
                for row in infos.decode(body)
            ]
        case "funding_history":
            return _paid(rates.decode(body))
    return []


def _snapshot(symbol: str, book: Snapshot[Price, Qty]) -> Book:
    ts_event = None if book.T is None else book.T * MS
    ts_send = None if book.E is None else book.E * MS
    return Book(
        symbol, ts_event, ts_send, book.bids, book.asks,
        is_snapshot=True, update_id=book.lastUpdateId,
    )  # fmt: skip


def _paid(rows: Sequence[FundingRate]) -> list[Event]:
    """The rates that were paid, and per how long: the oldest only dates the next."""
    rows = sorted(rows, key=lambda row: row.fundingTime)
    told: list[Event] = [_payment(row, None) for row in rows[:1]]
    for before, row in pairwise(rows):
        told.append(_payment(row, _interval_h(before.fundingTime, row.fundingTime)))
    return told[1:] or told


def _payment(row: FundingRate, interval_h: float | None) -> Funding:
    ts, rate = row.fundingTime * MS, _number(row.fundingRate)
    return Funding(row.symbol, None, None, rate, interval_h, ts, is_settled=True)


def _interval_h(one_ms: int, other_ms: int) -> float | None:
    """Whole hours; the times are a few ms off. ``None`` where it is no such thing."""
    hours = round((other_ms - one_ms) / HOUR_MS)
    is_near = abs(other_ms - one_ms - hours * HOUR_MS) < NEAR_MS
    return float(hours) if hours > 0 and is_near else None


def instrument_name(symbol: str) -> str | None:
    pair = split_symbol(symbol, QUOTES)
    return perp_name(*pair) if pair else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = msgspec.json.decode(body, type=ExchangeInfo).symbols
    found = (_instrument(row, ts_seen) for row in rows if _is_ours(row))
    return Listing([instrument for instrument in found if instrument])


def _is_ours(row: Contract) -> bool:
    """A perpetual, and not of COIN-M, should the list hold those too one day."""
    return row.contractType in PERPETUAL and row.marginAsset != row.baseAsset


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("binance")
    filters = {rule.filterType: rule for rule in row.filters}
    return canonical(
        Instrument(
            venue="binance",
            name="",
            symbol=row.symbol,
            base=row.baseAsset,
            quote=row.quoteAsset,
            settle=row.marginAsset,
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            tick_size=step(filters["PRICE_FILTER"].tickSize) if "PRICE_FILTER" in filters else None,
            lot_size=step(filters["LOT_SIZE"].stepSize) if "LOT_SIZE" in filters else None,
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=USUAL_INTERVAL_H,  # a poll tells of those that have another
            status="trading" if row.status == "TRADING" else row.status,
            ts_seen=ts_seen,
        )
    )


def read_turnover(body: bytes) -> dict[str, float]:
    return {
        row.symbol: row.quoteVolume
        for row in traded.decode(body)
        if isinstance(row.quoteVolume, float)
    }


def read_time(body: bytes) -> int:
    return msgspec.json.decode(body, type=Clock).serverTime * MS


BINANCE = Venue(
    name="binance",
    docs="https://developers.binance.com/docs/derivatives/usds-margined-futures",
    streams={
        "quotes": ("bookTicker",),
        "books": ("depth@100ms", "depth@0ms", "depth20@100ms"),
        "trades": ("trade", "aggTrade"),
        "marks": ("markPrice@1s",),
        "funding": ("markPrice@1s",),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://fstream.binance.com/public/stream",
    sockets={"market": "wss://fstream.binance.com/market/stream"},
    rest="https://fapi.binance.com",
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=300 * MS,
    topics_per_wire=200,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=20 * NS, silence_ns=30 * NS),
    first_data_ns=20 * NS,
    slow={"trade": 600 * NS, "aggTrade": 600 * NS},
    cadence={"markPrice@1s": 1 * NS},
    link=link,
    bases={"depth@100ms": DEPTH_PATH, "depth@0ms": DEPTH_PATH},
    polls=(
        Poll("open_interest", "marks", "/fapi/v1/openInterest?symbol={symbol}", 30 * NS),
        Poll("funding_info", "funding", "/fapi/v1/fundingInfo", 300 * NS),
        Poll(
            "funding_history", "funding", "/fapi/v1/fundingRate?symbol={symbol}&limit=3", 900 * NS
        ),
    ),
    read_rest=read_rest,
    instruments_path="/fapi/v1/exchangeInfo",
    read_instruments=read_instruments,
    turnover_path="/fapi/v1/ticker/24hr",
    read_turnover=read_turnover,
    time_path="/fapi/v1/time",
    read_time=read_time,
)
