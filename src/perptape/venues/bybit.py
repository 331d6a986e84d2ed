"""Bybit v5, linear perpetuals (USDT and USDC).

Odd here: one bad topic spoils its whole subscribe frame, so each topic goes alone and its key is
the ``req_id`` (the ack names no topics). ``orderbook.1`` is always a snapshot since 2025-03-20; in
deeper books ``u`` 1 is a snapshot whatever ``type`` says. A delta of ``tickers`` holds what changed
and nothing else; its open interest counts both sides. The pong's ``op`` stays ``ping``. ``cts``
(matching engine) stands outside ``data``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Literal
from urllib.parse import quote as percent

import msgspec

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
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

DATA = b'"topic":"'
BEGIN = b"{" + DATA
QUOTE = BEGIN + b"orderbook.1."
BOOKS = b"orderbook."
DEPTHS = ("orderbook.50", "orderbook.200", "orderbook.1000", "orderbook.500")
"""500 is refused since 2025-09-11, and in older recordings."""
RESTART = 1
"""A book's ``u`` after a restart of the service: a snapshot."""
TRADING = "Trading"
INSTRUMENTS = "/v5/market/instruments-info?category=linear&limit=1000"
HISTORY = Poll(
    what="funding_history",
    channel="funding",
    path="/v5/market/funding/history?category=linear&limit=10&symbol={symbol}",
    every_ns=600 * NS,
)
"""The rate that was paid; the last one shown before can differ from it."""
SIDES = {"Buy": "buy", "Sell": "sell"}


class Top(msgspec.Struct, Generic[P, Q], frozen=True, gc=False):
    """Best bid and ask; a side without orders is ``[]``."""

    s: str
    b: Best[tuple[P, Q]]
    a: Best[tuple[P, Q]]
    u: Id
    seq: Id


class TopPush(msgspec.Struct, Generic[P, Q], frozen=True, omit_defaults=True, gc=False):
    """A frame of ``orderbook.1``, keys in the venue's order."""

    topic: str
    ts: Ms
    type: Literal["snapshot"]
    data: Top[P, Q]
    cts: Ms | None = None
    """The matching engine's time; absent before mid 2023."""


class Depth(msgspec.Struct, Generic[P, Q], frozen=True):
    """Levels, the best first; a size of 0 removes."""

    s: str
    b: list[tuple[P, Q]]
    a: list[tuple[P, Q]]
    u: Id
    seq: Id


class DepthPush(msgspec.Struct, Generic[P, Q], frozen=True, omit_defaults=True):
    """A frame of a deeper book: its keys stand in another order."""

    topic: str
    type: Literal["snapshot", "delta"]
    ts: Ms
    data: Depth[P, Q]
    cts: Ms | None = None


class Print(msgspec.Struct, Generic[P, Q], frozen=True, kw_only=True):
    """One trade; ``S`` is the taker's side."""

    T: Ms
    s: str
    S: Literal["Buy", "Sell"]
    v: Q
    p: P
    L: str = ""
    i: str
    BT: bool = False
    RPI: bool | None = None
    """Like ``seq``, absent in 2023."""
    seq: Id | None = None


class TradePush(msgspec.Struct, Generic[P, Q], frozen=True):
    """A frame of ``publicTrade``, the oldest first."""

    topic: str
    type: Literal["snapshot"]
    ts: Ms
    data: list[Print[P, Q]]


class Ticker(msgspec.Struct, frozen=True, omit_defaults=True):
    """What we read of a ticker: ``None`` is not said, ``""`` does not apply to this contract."""

    symbol: str
    markPrice: Price | Literal[""] | None = None
    indexPrice: Price | Literal[""] | None = None
    openInterest: Qty | Literal[""] | None = None
    """Of both sides."""
    fundingIntervalHour: Qty | Literal[""] | None = None
    """Absent before 2025-10."""
    singleOpenInterest: Qty | Literal[""] | None = None
    """Absent before 2026-06-11."""
    nextFundingTime: Ms | Literal[""] | None = None
    fundingRate: Rate | Literal[""] | None = None


class TickerPush(msgspec.Struct, frozen=True):
    """A frame of ``tickers``; ``ts`` is the message's time, none tells when a value was made."""

    topic: str
    type: Literal["snapshot", "delta"]
    data: Ticker
    ts: Ms


class Step(msgspec.Struct, frozen=True):
    u: Id


class Place(msgspec.Struct, frozen=True):
    """What ``link`` reads of a book's frame."""

    topic: str = ""
    type: str = ""
    data: Step | None = None


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
    time: Ms | None = None


class Paid(msgspec.Struct, frozen=True):
    """A row of the funding history."""

    symbol: str
    fundingRate: Rate
    fundingRateTimestamp: Ms


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The newest first."""

    category: str = "linear"
    list: tuple[Paid, ...]


class Traded(msgspec.Struct, frozen=True):
    """A row of the tickers by REST: of one day."""

    symbol: str
    turnover24h: Qty | Literal[""] | None = None


class Days(msgspec.Struct, frozen=True):
    list: tuple[Traded, ...]


heads = msgspec.json.Decoder(Head)
tops = msgspec.json.Decoder(TopPush[Price, Qty], strict=False)
depths = msgspec.json.Decoder(DepthPush[Price, Qty], strict=False)
trades = msgspec.json.Decoder(TradePush[Price, Qty], strict=False)
tickers = msgspec.json.Decoder(TickerPush, strict=False)
places = msgspec.json.Decoder(Place)
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)
days = msgspec.json.Decoder(Days, strict=False)
histories = msgspec.json.Decoder(History, strict=False)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    key = f"{stream}.{symbol}"
    return Topic(channel, stream, symbol, key, (f'"topic":"{key}"'.encode(),))


def _ask(op: str, topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    keys = dict.fromkeys(topic.key for topic in topics)  # marks and funding are one topic
    return [msgspec.json.encode(Request(op, req_id=key, args=(key,))) for key in keys]


subscribe = partial(_ask, "subscribe")
unsubscribe = partial(_ask, "unsubscribe")


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
    read = _quote if payload.startswith(QUOTE) else _reader(payload)
    return [] if read is None else read(payload)


def _reader(payload: bytes) -> Callable[[bytes], list[Event]] | None:
    start = len(BEGIN)
    if payload.startswith(BEGIN):
        named = payload[start : payload.find(b'"', start)].rpartition(b".")[0]
        if named in READERS:
            return READERS[named]
    return READERS.get(heads.decode(payload).topic.encode().rpartition(b".")[0])


def _quote(payload: bytes) -> list[Event]:
    push = tops.decode(payload)
    top = push.data
    bid, bid_qty = top.b[0] if top.b else (None, None)
    ask, ask_qty = top.a[0] if top.a else (None, None)
    ts_event = None if push.cts is None else push.cts * MS
    return [Quote(top.s, ts_event, push.ts * MS, bid, bid_qty, ask, ask_qty, top.u)]


def _book(payload: bytes) -> list[Event]:
    push = depths.decode(payload)
    book = push.data
    is_snapshot = _is_snapshot(push.type, book.u)
    follows = None if is_snapshot else book.u - 1
    ts_event, ts_send = _ns(push.cts), push.ts * MS
    return [Book(book.s, ts_event, ts_send, book.b, book.a, is_snapshot, book.u, follows)]


def _is_snapshot(kind: str, update_id: int) -> bool:
    return kind == "snapshot" or update_id == RESTART


def _trades(payload: bytes) -> list[Event]:
    push = trades.decode(payload)
    ts_send = push.ts * MS
    return [Trade(r.s, r.T * MS, ts_send, r.p, r.v, SIDES[r.S], r.i) for r in push.data]


def _ticker(payload: bytes) -> list[Event]:
    push = tickers.decode(payload)
    row, ts_send = push.data, push.ts * MS
    found: list[Event] = []
    mark, index = row.markPrice or None, row.indexPrice or None
    interest = _one_sided(row)
    if (mark, index, interest) != (None, None, None):
        found.append(Mark(row.symbol, None, ts_send, mark, index, interest))
    rate, hours = _said(row.fundingRate), row.fundingIntervalHour or None
    ts_funding = _ns(row.nextFundingTime or None)
    if (rate, hours, ts_funding) != (None, None, None):
        found.append(Funding(row.symbol, None, ts_send, rate, hours, ts_funding))
    return found


def _one_sided(row: Ticker) -> float | None:
    one, both = _said(row.singleOpenInterest), _said(row.openInterest)
    return both / 2 if one is None and both is not None else one


def _said(value: float | Literal[""] | None) -> float | None:
    return None if isinstance(value, str) else value


def _ns(ms: int | None) -> int | None:
    return None if ms is None else ms * MS


READERS: dict[bytes, Callable[[bytes], list[Event]]] = {
    b"orderbook.1": _quote,
    **{depth.encode(): _book for depth in DEPTHS},
    b"publicTrade": _trades,
    b"tickers": _ticker,
}


def link(payload: bytes) -> Link | None:
    if BOOKS not in payload:
        return None
    place = places.decode(payload)
    if place.data is None or place.topic.rpartition(".")[0] not in DEPTHS:
        return None
    u = place.data.u
    is_snapshot = _is_snapshot(place.type, u)
    return Link(place.topic, is_snapshot, u, None if is_snapshot else u - 1)


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


def read_turnover(body: bytes) -> dict[str, float]:
    return {
        row.symbol: row.turnover24h
        for row in days.decode(_result(body)).list
        if isinstance(row.turnover24h, float)
    }


def read_time(body: bytes) -> int:
    return int(msgspec.json.decode(_result(body), type=Clock).timeNano)


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    del symbol  # each row has its own
    if what != HISTORY.what:
        raise ValueError(f"bybit is not asked for {what!r}")
    answer = _answer(body)
    rows = histories.decode(answer.result).list
    return [_paid(row, _ns(answer.time)) for row in reversed(rows)]


def _paid(row: Paid, ts_send: int | None) -> Funding:
    ts_funding = row.fundingRateTimestamp * MS
    return Funding(row.symbol, None, ts_send, row.fundingRate, None, ts_funding, is_settled=True)


def _result(body: bytes) -> msgspec.Raw:
    return _answer(body).result


def _answer(body: bytes) -> Rest:
    answer = rests.decode(body)
    if answer.retCode != 0:
        raise ValueError(f"{answer.retCode} {answer.retMsg}")
    return answer


BYBIT = Venue(
    name="bybit",
    docs="https://bybit-exchange.github.io/docs/v5/ws/connect",
    streams={
        "quotes": ("orderbook.1",),
        "books": ("orderbook.50", "orderbook.200", "orderbook.1000"),
        "trades": ("publicTrade",),
        "marks": ("tickers",),
        "funding": ("tickers",),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://stream.bybit.com/v5/public/linear",
    rest="https://api.bybit.com",
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=10 * MS,
    topics_per_wire=200,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=18 * NS, silence_ns=30 * NS),
    first_data_ns=10 * NS,
    slow={"publicTrade": 600 * NS},
    cadence={"orderbook.1": 3 * NS},
    link=link,
    polls=(HISTORY,),
    read_rest=read_rest,
    instruments_path=INSTRUMENTS,
    read_instruments=read_instruments,
    turnover_path="/v5/market/tickers?category=linear",
    read_turnover=read_turnover,
    time_path="/v5/market/time",
    read_time=read_time,
)
