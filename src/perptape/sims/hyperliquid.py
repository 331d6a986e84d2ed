"""Hyperliquid's half of the conversation: the socket, and the one path of its REST.

Odd here: a coin that is not listed, or a parameter that is none, ends the socket without a word; an
ack says again what was asked, with its defaults; every new listener of trades is told the last 30
first. REST takes POST alone. Left out: aggregated books (which end the socket like what is not
known), ``post``, and candles; ``allMids`` tells each coin in a frame of its own.
"""

import hashlib
from collections.abc import Callable

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import (
    Act,
    Answer,
    Board,
    Dialect,
    Hangup,
    Join,
    Part,
    Print,
    Request,
    State,
    Stream,
    Talk,
    Ticker,
    Topic,
)
from perptape.sims.market import Contract, Levels, Step, Top, levels
from perptape.sims.scenario import COINS
from perptape.venues import hyperliquid as wire

SILENCE_NS = 60 * NS
BLOCK_NS = 70 * MS
SERVED_NS = 200 * MS  # a book that is sent again shows the state of a block so long ago
DEPTH, FAST_DEPTH = 20, 5
REPLAY = 30  # trades told to a new listener
MOST_ROWS = 500  # of funding history
SETTLED_MS = 40  # after the hour
MIDS = "allMids"
TID = 0x2_7D4E_B2F1_65A7  # odd, so that no two of the first 2**50 are the same
TID_BITS = 50
UNREAD = "Error parsing JSON into valid websocket request: "
STEPS = {  # tick (five significant figures), lot
    "BTC": ("1", "0.00001"),
    "ETH": ("0.1", "0.0001"),
    "SOL": ("0.01", "0.01"),
    "XRP": ("0.00001", "1"),
    "DOGE": ("0.00001", "1"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USD-PERP", base, base, Step.of(tick), Step.of(lot), Step.of("1"),
        COINS[base].price,
    )
    for base, (tick, lot) in STEPS.items()
}  # fmt: skip


class Ask(msgspec.Struct):
    """What a client says."""

    method: str
    subscription: wire.Subscription | None = None


class Fill(wire.Fill[str, str], frozen=True):
    """A trade as the venue says it."""

    hash: str
    users: tuple[str, str]


class Ctx(wire.Ctx[str, str, str], frozen=True):
    """All that is said of a coin now and then."""

    prevDayPx: str = ""
    dayNtlVlm: str = ""
    premium: str = ""
    midPx: str = ""
    impactPxs: tuple[str, str] = ("", "")
    dayBaseVlm: str = ""


class Info(msgspec.Struct):
    """What REST is asked for."""

    type: str
    coin: str = ""
    dex: str = ""
    startTime: int | None = None
    endTime: int | None = None


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return [unread(payload)]
    if ask.method == "ping":
        talk.pinged_ns = now_ns
        return [msgspec.json.encode({"channel": "pong"})]
    asked = ask.subscription
    if asked is None or ask.method not in METHODS or asked.type not in KINDS:
        return [unread(payload)]
    topics = read_topics(asked, board)
    if not topics:
        return [Hangup(None, f"no such coin or parameter: {payload.decode()}")]
    return METHODS[ask.method](talk, filled(asked), topics)


def read_topics(asked: wire.Subscription, board: Board) -> list[Topic]:
    """None if the coin is not listed, or the book is to be one that is not simulated."""
    if asked.type == MIDS:
        return [Topic(MIDS, symbol) for symbol in board.contracts]
    if board.find(asked.coin) is None or asked.nSigFigs or asked.mantissa:
        return []
    fast = wire.FAST if asked.fast is True and asked.type == "l2Book" else ""
    return [Topic(asked.type + fast, asked.coin)]


def filled(asked: wire.Subscription) -> wire.Subscription:
    """With the defaults that only a book has."""
    if asked.type != "l2Book":
        return asked
    fast = asked.fast is True
    return wire.Subscription(asked.type, asked.coin, nSigFigs=None, mantissa=None, fast=fast)


def subscribe(talk: Talk, asked: wire.Subscription, topics: list[Topic]) -> list[Act]:
    if topics[0] in talk.topics:
        return [error(f"Already subscribed: {msgspec.json.encode(asked).decode()}")]
    return [echo("subscribe", asked), *(Join(topic) for topic in topics)]


def unsubscribe(talk: Talk, asked: wire.Subscription, topics: list[Topic]) -> list[Act]:
    if topics[0] not in talk.topics:
        return [error(f"Already unsubscribed: {msgspec.json.encode(asked).decode()}")]
    return [*(Part(topic) for topic in topics), echo("unsubscribe", asked)]


METHODS = {"subscribe": subscribe, "unsubscribe": unsubscribe}


def echo(method: str, asked: wire.Subscription) -> bytes:
    return push("subscriptionResponse", wire.Request(method, asked))


def error(words: str) -> bytes:
    return push("error", words)


def unread(payload: bytes) -> bytes:
    return error(UNREAD + payload.decode(errors="replace"))


def push(channel: str, data: object) -> bytes:
    return msgspec.json.encode(wire.Push(channel, data))


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """Close the connection to which nothing was said for a minute: all it says is answered."""
    said = [span.last_ns for span in talk.topics.values() if span.last_ns is not None]
    talk.beat_ns = max(talk.heard_ns, *said, 0) + SILENCE_NS
    return [Hangup(None, "quiet")] if talk.beat_ns <= now_ns else []


# What the market says


def bbo(state: State) -> bytes:
    bids, asks = book_levels(state.contract, state.top, 1)
    best: list[wire.Level[str, str] | None] = [*bids, *asks]
    return push("bbo", wire.Bbo(state.contract.symbol, state.ts_event_ns // MS, best))


def l2book(state: State) -> bytes:
    """The whole book; sent again unchanged it has the time of a newer block."""
    fast = state.topic.stream.endswith(wire.FAST)
    sides = book_levels(state.contract, state.top, FAST_DEPTH if fast else DEPTH)
    time_ns = max(state.ts_event_ns, state.ts_send_ns - SERVED_NS)
    book: wire.L2Book[str, str] = wire.L2Book(
        state.contract.symbol, time_ns // MS, sides, fast=fast
    )
    return push("l2Book", book)


Side = list[wire.Level[str, str]]


def book_levels(contract: Contract, top: Top, depth: int) -> tuple[Side, Side]:
    bids, asks = levels(contract, top, depth)
    return side(contract, bids), side(contract, asks)


def side(contract: Contract, book: Levels) -> Side:
    return [
        wire.Level(number(contract.tick.text(price)), number(contract.lot.text(lots)), 1 + lots % 7)
        for price, lots in book
    ]


def trades(state: State) -> bytes:
    made = state.trades[-REPLAY:] if state.is_greeting else state.trades
    fills = [fill(state.contract, one, state.ts_made_ns(one.at_ns) // MS) for one in made]
    return push("trades", fills) if fills else b""


def fill(contract: Contract, made: Print, time_ms: int) -> Fill:
    """``tid`` and the rest are hashes of the trade's number; like the venue's they do not grow."""
    digest = hashlib.blake2b(f"{contract.symbol} {made.number}".encode()).hexdigest()
    return Fill(
        coin=contract.symbol,
        side="B" if made.is_buy else "A",
        px=number(contract.tick.text(made.price)),
        sz=number(contract.lot.text(made.lots)),
        time=time_ms,
        tid=made.number * TID % (1 << TID_BITS),
        hash=f"0x{digest[:64]}",
        users=(f"0x{digest[64:104]}", f"0x{digest[88:128]}"),
    )


def active_asset_ctx(state: State) -> bytes:
    if state.ticker is None:
        return b""
    ctx = context(state.contract, state.top, state.ticker)
    return push("activeAssetCtx", wire.ActiveAssetCtx(state.contract.symbol, ctx))


def context(contract: Contract, top: Top, told: Ticker) -> Ctx:
    tick, lot = contract.tick, contract.lot
    impact = number(tick.text(top.bid)), number(tick.text(top.ask))
    return Ctx(
        funding=decimal(told.rate, 10),
        openInterest=number(lot.text(told.open_interest)),
        oraclePx=number(tick.text(round(told.index_price / tick.value))),
        markPx=number(tick.text(round(told.mark_price / tick.value))),
        prevDayPx=number(tick.text(round(contract.price / tick.value))),
        dayNtlVlm=decimal(told.volume * lot.value * told.index_price, 10),
        premium=decimal(told.mark_price / told.index_price - 1, 10),
        midPx=mid(contract, top),
        impactPxs=impact,
        dayBaseVlm=number(lot.text(told.volume)),
    )


def all_mids(state: State) -> bytes:
    return push(MIDS, {"mids": {state.contract.symbol: mid(state.contract, state.top)}})


def mid(contract: Contract, top: Top) -> str:
    tick = contract.tick
    return decimal((top.bid + top.ask) / 2 * tick.value, tick.decimals + 1)


def number(text: str) -> str:
    """With a point, as all numbers are: ``64000.0``."""
    return text if "." in text else f"{text}.0"


def decimal(value: float, places: int) -> str:
    return number(f"{value:.{places}f}".rstrip("0").rstrip("."))


STREAMS = {
    "bbo": Stream(bbo, every_ns=BLOCK_NS),
    "l2Book": Stream(l2book, every_ns=5 * NS, repeat_ns=5 * NS),
    "l2Book.fast": Stream(l2book, every_ns=540 * MS, repeat_ns=540 * MS),
    "trades": Stream(trades, tells="trades", every_ns=BLOCK_NS),
    "activeAssetCtx": Stream(active_asset_ctx, tells="ticker", every_ns=NS),
    MIDS: Stream(all_mids, every_ns=5 * NS),
}
KINDS = {stream.removesuffix(wire.FAST) for stream in STREAMS}


# REST


def rest(request: Request, board: Board) -> Answer:
    """What is asked for stands in the body."""
    if request.path != wire.INFO or not request.body:
        return Answer(405 if request.path == wire.INFO else 404, b"")
    if "application/json" not in request.headers.get("content-type", ""):
        return Answer(415, b"Expected request with `Content-Type: application/json`")
    try:
        info = msgspec.json.decode(request.body, type=Info)
    except msgspec.ValidationError:
        return unprocessable()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Answer(400, b"Failed to parse the request body as JSON")
    found = INFOS.get(info.type)
    return unprocessable() if found is None else found(request, board, info)


def unprocessable() -> Answer:
    return Answer(422, b"Failed to deserialize the JSON body into the target type")


def answer(found: object) -> Answer:
    return Answer(200, msgspec.json.encode(found))


def meta(request: Request, board: Board, info: Info) -> Answer:
    del request
    return answer(universe(board)) if not info.dex else Answer(500, b"null")


def universe(board: Board) -> dict[str, object]:
    coins = [
        {
            "szDecimals": contract.lot.decimals,
            "name": contract.symbol,
            "maxLeverage": 40,
            "marginTableId": 56,
        }
        for contract in board.contracts.values()
    ]
    return {"universe": coins, "marginTables": [], "collateralToken": 0}


def contexts(request: Request, board: Board, info: Info) -> Answer:
    if info.dex:
        return Answer(500, b"null")
    found = [
        context(contract, request.tops(symbol), request.ticker(symbol))
        for symbol, contract in board.contracts.items()
    ]
    return answer([universe(board), found])


def status(request: Request, board: Board, info: Info) -> Answer:
    del board, info
    return answer({"specialStatuses": None, "time": request.now_ns // MS})


def book(request: Request, board: Board, info: Info) -> Answer:
    contract = board.contracts.get(info.coin)
    if contract is None:
        return answer(None)
    top = request.tops(info.coin)
    sides = book_levels(contract, top, DEPTH)
    found: wire.L2Book[str, str] = wire.L2Book(
        info.coin, max(request.ts_event_ns(top), request.now_ns - SERVED_NS) // MS, sides
    )
    return answer(found)


def mids(request: Request, board: Board, info: Info) -> Answer:
    del info
    return answer({s: mid(c, request.tops(s)) for s, c in board.contracts.items()})


def funding_history(request: Request, board: Board, info: Info) -> Answer:
    """The oldest first, from ``startTime`` on."""
    if info.startTime is None:
        return unprocessable()
    if info.coin not in board.contracts:
        return Answer(500, b"null")
    rows = [
        {
            "coin": info.coin,
            "fundingRate": decimal(rate, 10),
            "premium": decimal(rate, 10),
            "time": paid_ns // MS + SETTLED_MS,
        }
        for paid_ns, rate in request.settled(info.coin)
        if info.startTime <= paid_ns // MS + SETTLED_MS <= (info.endTime or 1 << 62)
    ]
    return answer(rows[:MOST_ROWS])


def tokens(request: Request, board: Board, info: Info) -> Answer:
    del request, board, info
    return answer(SPOT)


def spot(request: Request, board: Board, info: Info) -> Answer:
    del request, board, info
    return answer([SPOT, []])


def dexs(request: Request, board: Board, info: Info) -> Answer:
    del request, board, info
    return answer([None])


USDC = {
    "name": "USDC",
    "szDecimals": 8,
    "weiDecimals": 8,
    "index": 0,
    "tokenId": "0x6d1e7cde53ba9467b783cb7c530ce054",
    "isCanonical": True,
    "evmContract": None,
    "fullName": None,
}
SPOT = {"tokens": [USDC], "universe": []}
INFOS: dict[str, Callable[[Request, Board, Info], Answer]] = {
    "meta": meta,
    "metaAndAssetCtxs": contexts,
    "exchangeStatus": status,
    "l2Book": book,
    "allMids": mids,
    "fundingHistory": funding_history,
    "spotMeta": tokens,
    "spotMetaAndAssetCtxs": spot,
    "perpDexs": dexs,
}

HYPERLIQUID = Dialect(
    name="hyperliquid",
    paths=("/ws",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
)
