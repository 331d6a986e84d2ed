"""Hyperliquid perpetuals (HyperCore's own exchange, not those that builders deploy).

Odd here: subscribing a coin that does not exist ends the whole socket without a word, so only
listed names are ever sent. Nothing has a sequence or a checksum; each book is whole, and since
2026 slow: every 5 s with 20 levels, or ``fast`` every 0.5 s with 5. Sizes are in the coin that the
name says, which for ``kPEPE`` is a thousand. Times are those of the block; no other is said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from perptape.events import MS, NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.fees import fee_of
from perptape.instruments import BASE, Instrument, canonical, unbundle
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
    Poll,
    Price,
    Q,
    Qty,
    Rate,
    Rejected,
    Topic,
    Venue,
)

QUOTE = b'{"channel":"bbo"'
DATA = (QUOTE, b'{"channel":"l2Book"', b'{"channel":"trades"', b'{"channel":"activeAssetCtx"')
FAST = ".fast"
ASKED = re.compile(r'"type": ?"(\w+)", ?"coin": ?"([^"]+)"')
IS_FAST = re.compile(r'"fast": ?true')
SIDES = {"B": "buy", "A": "sell"}
PRICE_DECIMALS = 6
"""Of a price, less ``szDecimals``; and no more than five significant figures."""
HOURLY = 1.0
HOUR_NS = 3600 * NS
INFO = "/info"

D = TypeVar("D")
R = TypeVar("R")


class Subscription(msgspec.Struct, frozen=True):
    """What is asked for; an echo of ``l2Book`` has all its fields filled in."""

    type: str
    coin: str = ""
    nSigFigs: int | UnsetType | None = UNSET
    mantissa: int | UnsetType | None = UNSET
    fast: bool | UnsetType = UNSET


class Request(msgspec.Struct, frozen=True):
    """What the client says, and what an acknowledgement says again."""

    method: str
    subscription: Subscription


class Head(msgspec.Struct, frozen=True):
    """Every frame; a pong has no ``data``."""

    channel: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class Push(msgspec.Struct, Generic[D], frozen=True, gc=False):
    """A frame of data, keys in the venue's order."""

    channel: str
    data: D


class Level(msgspec.Struct, Generic[P, Q], frozen=True, gc=False):
    """A price, its size, and the number of orders."""

    px: P
    sz: Q
    n: int


class Bbo(msgspec.Struct, Generic[P, Q], frozen=True, gc=False):
    """Best bid and ask; a side without orders is ``null``, or the last one is left out."""

    coin: str
    time: Ms
    """Of the block."""
    bbo: Annotated[list[Level[P, Q] | None], Meta(max_length=2)]


class L2Book(msgspec.Struct, Generic[P, Q], frozen=True, omit_defaults=True):
    """Bids and asks, the best first."""

    coin: str
    time: Ms
    levels: tuple[list[Level[P, Q]], list[Level[P, Q]]]
    fast: bool = False


class Fill(msgspec.Struct, Generic[P, Q], frozen=True):
    """One trade. ``tid`` is a hash, unique together with coin and time."""

    coin: str
    side: Literal["A", "B"]
    """The aggressor's: ``B`` bought."""
    px: P
    sz: Q
    time: Ms
    tid: Id


class Ctx(msgspec.Struct, Generic[P, Q, R], frozen=True):
    """What is not said of a coin is ``null``."""

    funding: R | None = None
    """A fraction per hour."""
    openInterest: Q | None = None
    oraclePx: P | None = None
    markPx: P | None = None


class ActiveAssetCtx(msgspec.Struct, Generic[D], frozen=True):
    """The context of one coin, without a time."""

    coin: str
    ctx: D


class Coin(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the instrument list."""

    szDecimals: Annotated[int, Meta(ge=0, le=PRICE_DECIMALS)]
    name: str
    isDelisted: bool = False


class Universe(msgspec.Struct, frozen=True):
    universe: tuple[Coin, ...]


class Paid(msgspec.Struct, Generic[R], frozen=True):
    """A row of the funding history."""

    coin: str
    fundingRate: R
    time: Ms
    """Of the block that paid, up to 118 ms after the hour."""


class Status(msgspec.Struct, frozen=True):
    time: Ms


class Day(msgspec.Struct, frozen=True):
    """What a context says of one day, in dollars."""

    dayNtlVlm: Qty | None = None


heads = msgspec.json.Decoder(Head)
bbos = msgspec.json.Decoder(Push[Bbo[Price, Qty]], strict=False)
books = msgspec.json.Decoder(Push[L2Book[Price, Qty]], strict=False)
fills = msgspec.json.Decoder(Push[list[Fill[Price, Qty]]], strict=False)
ctxs = msgspec.json.Decoder(Push[ActiveAssetCtx[Ctx[Price, Qty, Rate]]], strict=False)
days = msgspec.json.Decoder(tuple[Universe, list[Day]], strict=False)
payments = msgspec.json.Decoder(list[Paid[Rate]], strict=False)
echoes = msgspec.json.Decoder(Request)
texts = msgspec.json.Decoder(str)


def topic(channel: str, stream: str, symbol: str) -> Topic:
    # Nothing in the marks says whether a book is the fast one: of a coin we ask for one of them.
    kind = stream.removesuffix(FAST)
    marks = (f'"channel":"{kind}"'.encode(), f'"coin":"{symbol}"'.encode())
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", marks)


def _requests(method: str, topics: Sequence[Topic], ts: int) -> list[bytes]:
    del ts
    return [_request(method, topic) for topic in topics]


subscribe = partial(_requests, "subscribe")
unsubscribe = partial(_requests, "unsubscribe")


def _request(method: str, topic: Topic) -> bytes:
    kind = topic.stream.removesuffix(FAST)
    fast = True if kind != topic.stream else UNSET
    return msgspec.json.encode(Request(method, Subscription(kind, topic.symbol, fast=fast)))


def ping(ts: int) -> bytes:
    del ts
    return b'{"method":"ping"}'


def is_data(payload: bytes) -> bool:
    return payload.startswith(DATA)


def control(payload: bytes) -> Control | None:
    head = heads.decode(payload)
    if head.channel == "pong":
        return Alive()
    if head.channel == "subscriptionResponse":
        echo = echoes.decode(head.data)
        return Accepted((_key(echo.subscription),)) if echo.method == "subscribe" else None
    return _refusal(texts.decode(head.data)) if head.channel == "error" else None


def _key(asked: Subscription) -> str:
    return f"{asked.type}{FAST if asked.fast is True else ''}.{asked.coin}"


def _refusal(reason: str) -> Control:
    """An error has no code and names nothing: it quotes what we asked for."""
    asked = ASKED.search(reason)
    if asked is None or reason.startswith("Already unsubscribed"):
        return Complaint(reason)
    fast = FAST if IS_FAST.search(reason) else ""
    keys = (f"{asked[1]}{fast}.{asked[2]}",)
    # The first subscription keeps delivering.
    return Accepted(keys) if reason.startswith("Already subscribed") else Rejected(keys, reason)


def decode(payload: bytes) -> list[Event]:
    if payload.startswith(QUOTE):
        return _quote(payload)
    read = READERS.get(heads.decode(payload).channel)
    return [] if read is None else read(payload)


def _quote(payload: bytes) -> list[Event]:
    said = bbos.decode(payload).data
    best_bid, best_ask = said.bbo if len(said.bbo) > 1 else (*said.bbo, None, None)[:2]
    bid, bid_qty = (best_bid.px, best_bid.sz) if best_bid else (None, None)
    ask, ask_qty = (best_ask.px, best_ask.sz) if best_ask else (None, None)
    return [Quote(said.coin, said.time * MS, None, bid, bid_qty, ask, ask_qty, None)]


def _book(payload: bytes) -> list[Event]:
    said = books.decode(payload).data
    bids, asks = ([(level.px, level.sz) for level in side] for side in said.levels)
    return [Book(said.coin, said.time * MS, None, bids, asks, is_snapshot=True)]


def _trades(payload: bytes) -> list[Event]:
    return [
        Trade(fill.coin, fill.time * MS, None, fill.px, fill.sz, SIDES[fill.side], str(fill.tid))
        for fill in fills.decode(payload).data
    ]


def _ctx(payload: bytes) -> list[Event]:
    said = ctxs.decode(payload).data
    ctx = said.ctx
    found: list[Event] = []
    if (ctx.markPx, ctx.oraclePx, ctx.openInterest) != (None, None, None):
        found.append(Mark(said.coin, None, None, ctx.markPx, ctx.oraclePx, ctx.openInterest))
    if ctx.funding is not None:
        found.append(Funding(said.coin, None, None, ctx.funding, HOURLY))
    return found


READERS: Mapping[str, Callable[[bytes], list[Event]]] = {
    "bbo": _quote,
    "l2Book": _book,
    "trades": _trades,
    "activeAssetCtx": _ctx,
}


def ask_paid(symbol: str, ts: int) -> bytes:
    """Ask for what was paid lately; a row that was there before says the same again."""
    since_ms = (ts - 2 * HOUR_NS) // MS
    return b'{"type":"fundingHistory","coin":"%b","startTime":%d}' % (symbol.encode(), since_ms)


HISTORY = Poll("funding_history", "funding", INFO, HOUR_NS // 2, ask_paid)


def read_rest(what: str, symbol: str, body: bytes) -> list[Event]:
    del symbol  # each row has its own
    if what != HISTORY.what:
        raise ValueError(f"hyperliquid is not asked for {what!r}")
    rows = payments.decode(body)
    return [_paid(row) for row in rows]


def _paid(row: Paid[float]) -> Funding:
    # The interval is not said: before the middle of 2023 it was eight hours.
    ts_funding = row.time * MS // HOUR_NS * HOUR_NS
    return Funding(row.coin, None, None, row.fundingRate, ts_funding=ts_funding, is_settled=True)


def instrument_name(symbol: str) -> str | None:
    coin, _ = unbundle(symbol, kilo=True)
    return f"{coin}-USD-PERP" if BASE.fullmatch(coin) else None


def read_instruments(body: bytes, ts_seen: int) -> Listing:
    rows = msgspec.json.decode(body, type=Universe).universe
    found = (_instrument(row, ts_seen) for row in rows)
    return Listing([instrument for instrument in found if instrument])


def _instrument(row: Coin, ts_seen: int) -> Instrument | None:
    fee = fee_of("hyperliquid")
    return canonical(
        Instrument(
            venue="hyperliquid",
            name="",
            symbol=row.name,
            base=row.name,
            quote="USD",
            settle="USDC",
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            # The finest that may be; at most prices five significant figures allow less.
            tick_size=float(f"1e-{PRICE_DECIMALS - row.szDecimals}"),
            lot_size=float(f"1e-{row.szDecimals}"),
            taker_fee=fee.taker,
            maker_fee=fee.maker,
            funding_interval_h=HOURLY,
            status="delisted" if row.isDelisted else "trading",
            ts_seen=ts_seen,
        ),
        kilo=True,
    )


def read_turnover(body: bytes) -> dict[str, float]:
    listed, said = days.decode(body)
    return {
        coin.name: day.dayNtlVlm
        for coin, day in zip(listed.universe, said, strict=True)
        if day.dayNtlVlm is not None
    }


def read_time(body: bytes) -> int:
    return msgspec.json.decode(body, type=Status).time * MS


HYPERLIQUID = Venue(
    name="hyperliquid",
    docs="https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket",
    streams={
        "quotes": ("bbo",),
        "books": ("l2Book.fast", "l2Book"),
        "trades": ("trades",),
        "marks": ("activeAssetCtx",),
        "funding": ("activeAssetCtx",),
    },
    decode=decode,
    instrument_name=instrument_name,
    url="wss://api.hyperliquid.xyz/ws",
    rest="https://api.hyperliquid.xyz",
    topic=topic,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    subscribe_every_ns=50 * MS,
    topics_per_wire=100,
    is_data=is_data,
    data_mark=b'"data":{"coin":"',  # not of trades, which then are asked about one by one
    control=control,
    heartbeat=Heartbeat(ping=ping, every_ns=18 * NS, silence_ns=30 * NS),
    first_data_ns=15 * NS,
    slow={"bbo": 120 * NS, "trades": 600 * NS},
    cadence={"l2Book": 6 * NS, "l2Book.fast": NS},
    polls=(HISTORY,),
    read_rest=read_rest,
    drops_unknown=True,
    replays_trades=True,
    instruments_path=INFO,
    instruments_body=b'{"type":"meta"}',
    read_instruments=read_instruments,
    turnover_path=INFO,
    turnover_body=b'{"type":"metaAndAssetCtxs"}',
    read_turnover=read_turnover,
    time_path=INFO,
    time_body=b'{"type":"exchangeStatus"}',
    read_time=read_time,
)
