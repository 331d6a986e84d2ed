"""HTX (Huobi), USDT-margined linear swaps.

Odd here: every frame is one gzip member (the wire inflates it; we read the text). Three sockets
with two dialects of pings, which the server sends every 5 s and closes after four unanswered. Data
may come before its ack; a suspended contract is acked and then silent. Sizes are contracts, and
those of trades count both sides. ``version`` is a sequence in ``high_freq`` alone; in ``bbo`` it is
the match id again, in ``step0`` the time in seconds.
"""

import re
from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.fees import fee_of
from perptape.instruments import Instrument, canonical, step
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
    Qty,
    Rate,
    Rejected,
    Topic,
    Venue,
)

BEGIN = b'{"ch":"market.'  # of every data frame of the two market sockets
QUOTE = b'.bbo","ts":'
DATA = b'"tick":'
NOTIFY = b'"op":"notify"'
HIGH_FREQ = b'.high_freq"'
STEP0 = "depth.step0"
BOOKS = ("depth.size_150.high_freq", "depth.size_20.high_freq")
MARK, INDEX, FUNDING = "mark_price.1min", "index.1min", "funding_rate"
SOCKETS = {MARK: "index", INDEX: "index", FUNDING: "notification"}
SYMBOL = re.compile(r"([A-Z0-9]{1,32})-(USDT)")
STATUS = {
    0: "delisted",
    1: "trading",
    2: "pending",
    3: "suspended",
    4: "suspending",
    5: "in settlement",
    6: "delivering",
    7: "settlement completed",
    8: "delivered",
}
PING_LEN = 32  # an echo is bounded, whatever the other side sends
SIDES = 2  # of a trade, both counted in its size
AGAIN = 2014  # code of a repeated subscription
OK, OK_V5 = "ok", 200
HOUR_MS = 3_600_000

Level = tuple[Price, Qty]
Side = list[Level] | None
L = TypeVar("L")
"""A side of a book: ``Side`` when read, ``msgspec.Raw`` when written, or not looked into."""
R = TypeVar("R")
"""A rate in text: ``Rate`` when read, ``str`` when written; likewise ``T``, a time: ``Ms``."""
T = TypeVar("T")
D = TypeVar("D")
"""A row of REST."""


class Bbo(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask, ``[price, contracts]``; a side without orders is ``null``."""

    mrid: Id
    id: int
    bid: Level | None
    ask: Level | None
    ts: Ms
    version: int
    ch: str


class BboPush(msgspec.Struct, frozen=True, gc=False):
    """A frame of ``bbo``, keys in the venue's order."""

    ch: str
    ts: Ms
    tick: Bbo


class Depth(msgspec.Struct, Generic[L], frozen=True):
    """A whole book of up to 150 levels a side, best first."""

    mrid: Id
    id: int
    bids: L
    asks: L
    ts: Ms
    version: int
    ch: str


class DepthPush(msgspec.Struct, Generic[L], frozen=True):
    """A frame of ``depth.step0``."""

    ch: str
    ts: Ms
    tick: Depth[L]


class Change(msgspec.Struct, Generic[L], frozen=True):
    """A book or what changed in it, be it nothing."""

    asks: L
    bids: L
    ch: str
    event: Literal["snapshot", "update"]
    id: Id
    mrid: Id
    ts: Ms
    version: Id
    """One more than the update before, of this topic on this connection."""


class ChangePush(msgspec.Struct, Generic[L], frozen=True):
    """A frame of ``depth.size_N.high_freq``."""

    ch: str
    ts: Ms
    tick: Change[L]


class Fill(msgspec.Struct, frozen=True):
    """One execution; ``amount``, ``quantity`` (coins) and turnover count buyer and seller."""

    amount: Qty
    ts: Ms
    id: int
    """The order's id x 10,000 and a number within it: since 2022 more than 53 bits."""
    price: Price
    direction: Literal["buy", "sell"]
    quantity: Qty | None = None
    trade_turnover: Qty | None = None


class Fills(msgspec.Struct, frozen=True):
    """All executions of one taker order."""

    id: Id
    ts: Ms
    data: list[Fill]


class FillsPush(msgspec.Struct, frozen=True):
    """A frame of ``trade.detail``."""

    ch: str
    ts: Ms
    tick: Fills


class Candle(msgspec.Struct, Generic[P], frozen=True):
    """The minute so far, of the mark or index price; the last is in ``close``."""

    id: int
    """When the minute began, in seconds."""
    close: P


class CandlePush(msgspec.Struct, Generic[P], frozen=True):
    """A frame of ``mark_price.1min`` or ``index.1min``."""

    ch: str
    tick: Candle[P]
    ts: Ms


class Rated(msgspec.Struct, Generic[R, T], frozen=True, omit_defaults=True):
    """A funding rate, of the notification socket or of a REST call."""

    contract_code: str
    funding_time: T | None
    """Over REST when it is paid; on the socket when it was computed."""
    funding_rate: R | None
    settlement_time: T | None = None
    """On the socket: when it is paid."""
    next_funding_time: T | None = None
    """Over REST: the payment after that; the older call has ``null``."""


class Notice(msgspec.Struct, Generic[R, T], frozen=True):
    """A frame of the notification socket."""

    op: Literal["notify"]
    topic: str
    ts: Ms
    data: list[Rated[R, T]]


class Head(msgspec.Struct, frozen=True):
    """What every frame can be sorted by."""

    ch: str = ""
    op: str = ""
    topic: str = ""


class Answer(msgspec.Struct, frozen=True, rename={"err_msg": "err-msg", "err_code": "err-code"}):
    """A ping, an ack or an error: of the market sockets, or with an ``op`` of the notifications."""

    ping: msgspec.Raw = msgspec.Raw()
    id: str = ""
    status: str = ""
    subbed: str = ""
    op: str = ""
    cid: str = ""
    topic: str = ""
    ts: msgspec.Raw = msgspec.Raw()
    err_code: str | int = ""
    err_msg: str = ""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the client says on the market sockets: ``sub`` or ``unsub``."""

    sub: str = ""
    unsub: str = ""
    data_type: str = ""
    id: str = ""


class Wish(msgspec.Struct, frozen=True):
    """What the client says on the notification socket."""

    op: str
    cid: str
    topic: str


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """A row of swap_contract_info."""

    symbol: str
    contract_code: str
    contract_size: float
    price_tick: float
    contract_status: int
    settlement_period: str = ""
    """Hours; absent in 2022."""
    business_type: str = "swap"
    trade_partition: str = "USDT"


class Interest(msgspec.Struct, frozen=True):
    """A row of swap_open_interest, in contracts."""

    contract_code: str
    volume: Qty


class Payments(msgspec.Struct, frozen=True):
    """A page of swap_historical_funding_rate, the newest first."""

    data: list[Rated[Rate, Ms]]


class Rest(msgspec.Struct, frozen=True, rename={"err_msg_": "err-msg"}):
    """The envelope of every REST answer, with ``status`` or (v5) ``code``.

    Errors come in three spellings.
    """

    status: str | int = ""
    code: int = 0
    data: msgspec.Raw = msgspec.Raw(b"null")
    ts: Ms = 0
    message: str = ""
    err_msg: str = ""
    err_msg_: str = ""
    error: str = ""


class Traded(msgspec.Struct, frozen=True):
    """A row of the merged tickers: of one day, both sides counted."""

    contract_code: str
    trade_turnover: Qty | None = None


class Days(msgspec.Struct, frozen=True):
    ticks: list[Traded]


heads = msgspec.json.Decoder(Head)
bbos = msgspec.json.Decoder(BboPush)
depths = msgspec.json.Decoder(DepthPush[Side])
changes = msgspec.json.Decoder(ChangePush[Side])
places = msgspec.json.Decoder(ChangePush[msgspec.Raw])
fills = msgspec.json.Decoder(FillsPush)
candles = msgspec.json.Decoder(CandlePush[Price], strict=False)
notices = msgspec.json.Decoder(Notice[Rate, Ms], strict=False)
days = msgspec.json.Decoder(Days, strict=False)
answers = msgspec.json.Decoder(Answer)
rests = msgspec.json.Decoder(Rest)
listed = msgspec.json.Decoder(list[Contract] | None)
interests = msgspec.json.Decoder(list[Interest] | Interest, strict=False)
rated = msgspec.json.Decoder(list[Rated[Rate, Ms]] | Rated[Rate, Ms], strict=False)
payments = msgspec.json.Decoder(Payments, strict=False)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    if stream == FUNDING:
        key = f"public.{symbol}.{stream}"
        marks = (f'"topic":"{key}"'.encode(), NOTIFY)
    else:
        key = f"market.{symbol}.{stream}"
        marks = (f'"ch":"{key}"'.encode(), DATA)
    return Topic(channel, stream, symbol, key, marks, SOCKETS.get(stream, ""))


def subscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    """One topic a frame. Of a topic that is there already it brings a fresh snapshot."""
    del ts
    return [msgspec.json.encode(_asked(topic)) for topic in topics]


def _asked(topic: Topic) -> Request | Wish:
    if topic.stream == FUNDING:
        return Wish("sub", topic.key, topic.key)
    return Request(sub=topic.key, data_type=_form(topic), id=topic.key)


def unsubscribe(topics: Sequence[Topic], ts: int) -> list[bytes]:
    """Under another id: an error to it refuses no topic."""
    del ts
    return [msgspec.json.encode(_ended(topic)) for topic in topics]


def _ended(topic: Topic) -> Request | Wish:
    number = f"unsub {topic.key}"
    if topic.stream == FUNDING:
        return Wish("unsub", number, topic.key)
    return Request(unsub=topic.key, data_type=_form(topic), id=number)


def _form(topic: Topic) -> str:
    """Without this word every frame is a whole book."""
    return "incremental" if topic.stream in BOOKS else ""


def is_data(payload: bytes) -> bool:
    return DATA in payload or NOTIFY in payload


def control(payload: bytes) -> Control | None:
    answer = answers.decode(payload)
    if answer.op:
        return _notified(answer)
    if echo := bytes(answer.ping):
        return Alive(b'{"pong":%b}' % echo) if len(echo) <= PING_LEN else None
    if answer.status == "error":
        reason = answer.err_msg or str(answer.err_code)
        return Rejected((answer.id,), reason) if answer.id else Complaint(reason)
    return Accepted((answer.subbed,)) if answer.subbed else None


def _notified(answer: Answer) -> Control | None:
    """The other dialect."""
    key, reason = answer.cid or answer.topic, answer.err_msg or str(answer.err_code or answer.op)
    match answer.op:
        case "ping":
            echo = bytes(answer.ts)
            return Alive(b'{"op":"pong","ts":%b}' % echo) if 0 < len(echo) <= PING_LEN else None
        case "close":
            return Leaving("it says that it closes")
        case "sub" if answer.err_code in {0, "", AGAIN}:  # who asks twice is served already
            return Accepted((key,))
        case "sub" if key:
            return Rejected((key,), reason)
        case "notify":
            return None
    return Complaint(reason) if answer.err_code or answer.op == "error" else None


def link(payload: bytes) -> Link | None:
    if HIGH_FREQ not in payload or DATA not in payload:
        return None
    push = places.decode(payload)
    version = push.tick.version
    is_snapshot = push.tick.event == "snapshot"
    return Link(push.ch, is_snapshot, version, None if is_snapshot else version - 1)


def decode(payload: bytes) -> list[Event]:
    if payload.startswith(BEGIN):
        if payload.find(QUOTE, 0, FRONT) >= 0:
            return _bbo(payload)
        name = payload[len(BEGIN) : payload.find(b'"', len(BEGIN))].decode()
    else:
        head = heads.decode(payload)
        if head.op == "notify" and head.topic.endswith(f".{FUNDING}"):
            return _told(payload)
        name = head.ch.partition(".")[2]
    read = READERS.get(name.partition(".")[2])
    return [] if read is None else read(payload)


def _bbo(payload: bytes) -> list[Event]:
    push = bbos.decode(payload)
    tick = push.tick
    symbol, ts_event, ts_send = _symbol(push.ch), tick.ts * MS, push.ts * MS
    bid, bid_qty = tick.bid or (None, None)
    ask, ask_qty = tick.ask or (None, None)
    return [Quote(symbol, ts_event, ts_send, bid, bid_qty, ask, ask_qty, tick.mrid)]


def _step0(payload: bytes) -> list[Event]:
    push = depths.decode(payload)
    tick = push.tick
    symbol, ts_event, ts_send = _symbol(push.ch), tick.ts * MS, push.ts * MS
    bids, asks = tick.bids or [], tick.asks or []
    bid_price, bid_qty = bids[0] if bids else (None, None)
    ask_price, ask_qty = asks[0] if asks else (None, None)
    return [
        Quote(symbol, ts_event, ts_send, bid_price, bid_qty, ask_price, ask_qty, tick.mrid),
        Book(symbol, ts_event, ts_send, bids, asks, is_snapshot=True),
    ]


def _change(payload: bytes) -> list[Event]:
    push = changes.decode(payload)
    tick = push.tick
    is_snapshot = tick.event == "snapshot"
    return [
        Book(
            symbol=_symbol(push.ch),
            ts_event=tick.ts * MS,
            ts_send=push.ts * MS,
            bids=tick.bids or [],
            asks=tick.asks or [],
            is_snapshot=is_snapshot,
            update_id=tick.version,
            follows=None if is_snapshot else tick.version - 1,
        )
    ]


def _trades(payload: bytes) -> list[Event]:
    push = fills.decode(payload)
    symbol, ts_send = _symbol(push.ch), push.ts * MS
    return [
        Trade(symbol, f.ts * MS, ts_send, f.price, f.amount / SIDES, f.direction, str(f.id))
        for f in push.tick.data
    ]


def _mark(payload: bytes) -> list[Event]:
    push = candles.decode(payload)
    return [Mark(_symbol(push.ch), None, push.ts * MS, mark_price=push.tick.close)]


def _index(payload: bytes) -> list[Event]:
    push = candles.decode(payload)
    return [Mark(_symbol(push.ch), None, push.ts * MS, index_price=push.tick.close)]


def _told(payload: bytes) -> list[Event]:
    push = notices.decode(payload)
    return [
        Funding(
            symbol=row.contract_code,
            ts_event=_ns(row.funding_time),
            ts_send=push.ts * MS,
            rate=row.funding_rate,
            ts_funding=_ns(row.settlement_time),
        )
        for row in push.data
        if row.funding_rate is not None or row.settlement_time is not None
    ]


READERS = {
    "bbo": _bbo,
    STEP0: _step0,
    **dict.fromkeys(BOOKS, _change),
    "trade.detail": _trades,
    MARK: _mark,
    INDEX: _index,
}


def _symbol(ch: str) -> str:
    return ch.split(".", 2)[1]


def _ns(ms: int | None) -> int | None:
    return None if ms is None else ms * MS


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    """Rows name their contract themselves."""
    del symbol
    answer, read = _ok(body), POLLED.get(what)
    return [] if read is None else read(answer.data, _ns(answer.ts or None))


def _open_interest(data: msgspec.Raw, ts_send: int | None) -> list[Event]:
    return [
        Mark(row.contract_code, None, ts_send, open_interest=row.volume)
        for row in _rows(interests.decode(data))
    ]


def _expected(data: msgspec.Raw, ts_send: int | None) -> list[Event]:
    return [
        Funding(
            symbol=row.contract_code,
            ts_event=None,
            ts_send=ts_send,
            rate=row.funding_rate,
            interval_h=_interval_h(row),
            ts_funding=_ns(row.funding_time),
        )
        for row in _rows(rated.decode(data))
        if row.funding_rate is not None or row.funding_time is not None
    ]


def _paid(data: msgspec.Raw, ts_send: int | None) -> list[Event]:
    return [
        Funding(
            symbol=row.contract_code,
            ts_event=None,
            ts_send=ts_send,
            rate=row.funding_rate,
            ts_funding=_ns(row.funding_time),
            is_settled=True,
        )
        for row in reversed(payments.decode(data).data)
        if row.funding_rate is not None and row.funding_time is not None
    ]


POLLED = {"open_interest": _open_interest, "funding_rate": _expected, "funding_history": _paid}


def _rows(data: list[D] | D) -> list[D]:
    """Of one contract the newer calls give a row without its list."""
    return data if isinstance(data, list) else [data]


def _interval_h(row: Rated[Rate, Ms]) -> float | None:
    """Hours between the next payment and the one after."""
    if row.funding_time is None or row.next_funding_time is None:
        return None
    hours = (row.next_funding_time - row.funding_time) / HOUR_MS
    return hours if hours > 0 else None


def instrument_name(symbol: str) -> str | None:
    match = SYMBOL.fullmatch(symbol)
    return f"{match[1]}-{match[2]}-PERP" if match else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = listed.decode(_ok(body).data) or []
    found = (_instrument(row, ts_seen) for row in rows if row.business_type == "swap")
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Contract, ts_seen: int) -> Instrument | None:
    fee = fee_of("htx")
    return canonical(
        Instrument(
            venue="htx",
            name="",
            symbol=row.contract_code,
            base=row.contract_code.removesuffix(f"-{row.trade_partition}"),
            quote=row.trade_partition,
            settle=row.trade_partition,
            kind="linear",
            contract_size=row.contract_size,
            price_unit=1.0,
            tick_size=step(row.price_tick),
            lot_size=1.0,
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=step(row.settlement_period),
            status=STATUS.get(row.contract_status, str(row.contract_status)),
            ts_seen=ts_seen,
        ),
        bundles=False,
    )


def read_turnover(body: bytes) -> dict[str, float]:
    _ok(body)
    rows = days.decode(body).ticks
    return {
        row.contract_code: row.trade_turnover / SIDES
        for row in rows
        if row.trade_turnover is not None
    }


def read_time(body: bytes) -> int:
    return _ok(body).ts * MS


def _ok(body: bytes) -> Rest:
    answer = rests.decode(body)
    if answer.status != OK and answer.code != OK_V5:
        reason = answer.err_msg or answer.err_msg_ or answer.error or answer.message
        raise ValueError(f"{answer.status or answer.code} {reason}".strip())
    return answer


HTX = Venue(
    name="htx",
    docs="https://huobiapi.github.io/docs/usdt_swap/v1/en/",
    streams={
        "quotes": ("bbo", STEP0),
        "books": (*BOOKS, STEP0),
        "trades": ("trade.detail",),
        "marks": (f"{MARK}+{INDEX}",),
        "funding": (FUNDING,),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://api.hbdm.com/linear-swap-ws",
    sockets={
        "index": "wss://api.hbdm.com/ws_index",
        "notification": "wss://api.hbdm.com/linear-swap-notification",
    },
    rest="https://api.hbdm.com",
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=30 * MS,
    topics_per_wire=150,
    is_data=is_data,
    data_mark=DATA,
    control=control,
    heartbeat=Heartbeat(silence_ns=15 * NS),
    first_data_ns=30 * NS,
    slow={"trade.detail": 600 * NS, FUNDING: 120 * NS},
    cadence={STEP0: NS},
    link=link,
    polls=(
        Poll(
            what="open_interest",
            channel="marks",
            path="/linear-swap-api/v1/swap_open_interest?contract_code={symbol}",
            every_ns=30 * NS,
        ),
        Poll(
            what="funding_rate",
            channel="funding",
            path="/v5/market/funding_rate?contract_code={symbol}",
            every_ns=300 * NS,
        ),
        Poll(
            what="funding_history",
            channel="funding",
            path="/linear-swap-api/v1/swap_historical_funding_rate"
            "?contract_code={symbol}&page_index=1&page_size=20",
            every_ns=3600 * NS,
        ),
    ),
    read_rest=read_rest,
    replays_trades=True,
    inflates=True,
    instruments_path="/linear-swap-api/v1/swap_contract_info?business_type=swap",
    read_instruments=read_instruments,
    turnover_path="/linear-swap-ex/market/detail/batch_merged?business_type=swap",
    read_turnover=read_turnover,
    time_path="/api/v1/timestamp",
    read_time=read_time,
)
