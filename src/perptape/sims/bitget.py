"""Bitget's half of the conversation: v2 public socket and REST of USDT-FUTURES.

Odd here: the heartbeat is the text ``ping``, a connection without one for two minutes is dropped
without a close frame, and a real symbol under a wrong instType is acknowledged and then silent.
"""

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
    Request,
    State,
    Stream,
    Talk,
    Topic,
)
from perptape.sims.market import Contract, Levels, Step, delta, levels
from perptape.sims.scenario import COINS
from perptape.venues import bitget as wire

PING_WITHIN_NS = 120 * NS
MESSAGES_PER_S = 10
FAMILIES = (wire.FAMILY, "USDC-FUTURES", "COIN-FUTURES", "SPOT")
BOOKS_DEPTH = 200
SEQ = 427_583_000_000
STEPS = {  # tick, lot
    "BTC": ("0.1", "0.0001"),
    "ETH": ("0.01", "0.01"),
    "SOL": ("0.001", "0.1"),
    "XRP": ("0.0001", "1"),
    "DOGE": ("0.00001", "1"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}USDT", base, Step.of(tick), Step.of(lot), Step.of("1"),
        COINS[base].price,
    )
    for base, (tick, lot) in STEPS.items()
}  # fmt: skip


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    if too_many(talk, now_ns):
        return [error(30006, "request too many"), Hangup(None, "30006 request too many")]
    if payload == b"ping":
        talk.pinged_ns = now_ns
        return [b"pong"]
    try:
        ask = msgspec.json.decode(payload, type=wire.Request)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [error(30002, f"Unrecognized request:{payload.decode(errors='replace')}")]
    if ask.op == "subscribe":
        return [act for arg in ask.args for act in subscribe(arg, board)]
    if ask.op == "unsubscribe":
        return [act for arg in ask.args for act in unsubscribe(arg)]
    return [error(30003, f"Invalid op:{ask.op}")]


def too_many(talk: Talk, now_ns: int) -> bool:
    """Whether this message is one more than a second allows."""
    talk.recent_ns = [t for t in talk.recent_ns if now_ns - t < NS] + [now_ns]
    return len(talk.recent_ns) > MESSAGES_PER_S


def subscribe(arg: wire.Arg, board: Board) -> list[Act]:
    """One bad argument does not spoil its neighbours."""
    ack = msgspec.json.encode(wire.Answer("subscribe", echo(arg)))
    if arg.instType not in FAMILIES or board.find(arg.instId) is None:
        what = f"instType:{arg.instType},channel:{arg.channel},instId:{arg.instId},precision:null"
        return [refusal(arg, 30001, f"{what} doesn't exist")]
    if arg.channel not in STREAMS:
        return [refusal(arg, 30016, "Param error")]
    if arg.instType != wire.FAMILY:
        return [ack]
    return [ack, Join(Topic(arg.channel, arg.instId))]


def unsubscribe(arg: wire.Arg) -> list[Act]:
    topic = Topic(arg.channel, arg.instId)
    return [Part(topic), msgspec.json.encode(wire.Answer("unsubscribe", echo(arg)))]


def echo(arg: wire.Arg) -> wire.Echo:
    return wire.Echo(arg.instType, arg.channel, arg.instId)


def error(code: int, reason: str) -> bytes:
    return msgspec.json.encode(wire.Answer("error", code=code, msg=reason))


def refusal(arg: wire.Arg, code: int, reason: str) -> bytes:
    return msgspec.json.encode(wire.Answer("error", echo(arg), code, reason, "subscribe"))


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """Drop who has not pinged for two minutes, whatever else they said."""
    talk.beat_ns = talk.pinged_ns + PING_WITHIN_NS
    if now_ns - talk.pinged_ns < PING_WITHIN_NS:
        return []
    talk.beat_ns = now_ns + PING_WITHIN_NS
    return [Hangup(None, "no ping for 120 s")]


def push(state: State, action: str, asks: Levels, bids: Levels, pseq: int) -> bytes:
    tick, lot = state.contract.tick, state.contract.lot
    ask = ",".join(f'["{tick.text(price)}","{lot.text(qty)}"]' for price, qty in asks)
    bid = ",".join(f'["{tick.text(price)}","{lot.text(qty)}"]' for price, qty in bids)
    return (
        f'{{"action":"{action}","arg":{{"instType":"USDT-FUTURES",'
        f'"channel":"{state.topic.stream}","instId":"{state.contract.symbol}"}},'
        f'"data":[{{"asks":[{ask}],"bids":[{bid}],"ts":"{state.ts_event_ns // MS}",'
        f'"seq":{SEQ + state.top.update_id},"pseq":{pseq}}}],"ts":{state.ts_send_ns // MS}}}'
    ).encode()


def books1(state: State) -> bytes:
    """The quotes, in the wire type that our decoder reads them with."""
    top, (tick, lot) = state.top, (state.contract.tick, state.contract.lot)
    book: wire.Book[str, str, str] = wire.Book(
        asks=[(tick.text(top.ask), lot.text(top.ask_lots))],
        bids=[(tick.text(top.bid), lot.text(top.bid_lots))],
        ts=str(state.ts_event_ns // MS),
        seq=SEQ + top.update_id,
        pseq=0,
    )
    arg = wire.Arg(wire.FAMILY, state.topic.stream, state.contract.symbol)
    return msgspec.json.encode(wire.Push("snapshot", arg, (book,), state.ts_send_ns // MS))


def books5(state: State) -> bytes:
    bids, asks = levels(state.contract, state.top, 5)
    return push(state, "snapshot", asks, bids, 0)


def books15(state: State) -> bytes:
    bids, asks = levels(state.contract, state.top, 15)
    return push(state, "snapshot", asks, bids, 0)


def books(state: State) -> bytes:
    """A snapshot, then updates that follow each other by ``pseq``."""
    if state.previous is None:
        bids, asks = levels(state.contract, state.top, BOOKS_DEPTH)
        return push(state, "snapshot", asks, bids, 0)
    bids, asks = delta(state.contract, state.since(), state.top, BOOKS_DEPTH)
    return push(state, "update", asks, bids, SEQ + state.previous.update_id)


STREAMS = {
    "books1": Stream(books1),
    "books5": Stream(books5, every_ns=150 * MS),
    "books15": Stream(books15, every_ns=150 * MS),
    "books": Stream(books, every_ns=100 * MS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time, instruments and books."""
    now_ms = request.now_ns // MS
    if request.path == "/api/v2/public/time":
        return success(now_ms, {"serverTime": str(now_ms)})
    if request.path not in MARKET:
        return failure(404, now_ms, "40404", "Request URL NOT FOUND")
    product = request.query.get("productType", "").upper()
    if product not in FAMILIES[:3]:
        return failure(400, now_ms, "40019", f"Parameter {product} cannot be empty")
    if product != wire.FAMILY:
        return success(now_ms, [])
    symbol = request.query.get("symbol")
    if symbol is not None and symbol not in board.contracts:
        return failure(400, now_ms, "40034", f"Parameter {symbol} does not exist")
    return MARKET[request.path](request, board, symbol)


def contracts(request: Request, board: Board, symbol: str | None) -> Answer:
    found = [c for c in board.contracts.values() if symbol in (None, c.symbol)]
    return success(request.now_ns // MS, [listing(contract) for contract in found])


def merge_depth(request: Request, board: Board, symbol: str | None) -> Answer:
    now_ms = request.now_ns // MS
    if symbol is None:
        return failure(400, now_ms, "40019", "Parameter symbol cannot be empty")
    return success(now_ms, depth(request, board.contracts[symbol]))


MARKET = {
    "/api/v2/mix/market/contracts": contracts,
    "/api/v2/mix/market/merge-depth": merge_depth,
}


def success(now_ms: int, found: object) -> Answer:
    body = {"code": "00000", "msg": "success", "requestTime": now_ms, "data": found}
    return Answer(200, msgspec.json.encode(body))


def failure(status: int, now_ms: int, code: str, reason: str) -> Answer:
    body = {"code": code, "msg": reason, "requestTime": now_ms, "data": None}
    return Answer(status, msgspec.json.encode(body))


def depth(request: Request, contract: Contract) -> dict[str, object]:
    """The book by REST: numbers, not text."""
    top = request.tops(contract.symbol)
    count = {"1": 1, "5": 5, "15": 15, "50": 50}.get(request.query.get("limit", ""), 100)
    bids, asks = levels(contract, top, count)
    tick, lot = contract.tick, contract.lot
    return {
        "asks": [[float(tick.text(p)), float(lot.text(q))] for p, q in asks],
        "bids": [[float(tick.text(p)), float(lot.text(q))] for p, q in bids],
        "ts": str(request.ts_event_ns(top) // MS),
        "scale": tick.text(1),
        "precision": "scale0",
        "isMaxPrecision": "NO",
    }


def listing(contract: Contract) -> dict[str, object]:
    """A row of the instrument list."""
    blank = ("deliveryTime", "deliveryStartTime", "deliveryPeriod", "launchTime", "maintainTime")
    return {
        "symbol": contract.symbol,
        "baseCoin": contract.base,
        "quoteCoin": "USDT",
        "buyLimitPriceRatio": "0.05",
        "sellLimitPriceRatio": "0.05",
        "feeRateUpRatio": "0.005",
        "makerFeeRate": "0.0002",
        "takerFeeRate": "0.0006",
        "openCostUpRatio": "0.01",
        "supportMarginCoins": ["USDT"],
        "minTradeNum": contract.lot.text(1),
        "priceEndStep": str(contract.tick.step),
        "volumePlace": str(contract.lot.decimals),
        "pricePlace": str(contract.tick.decimals),
        "sizeMultiplier": contract.lot.text(1),
        "symbolType": "perpetual",
        "minTradeUSDT": "5",
        "maxSymbolOrderNum": "200",
        "maxProductOrderNum": "1000",
        "maxPositionNum": "150",
        "symbolStatus": "normal",
        "offTime": "-1",
        "limitOpenTime": "-1",
        **dict.fromkeys(blank, ""),
        "fundInterval": "8",
        "minLever": "1",
        "maxLever": "125",
        "posLimit": "0.1",
    }


BITGET = Dialect(
    name="bitget",
    paths=("/v2/ws/public",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
)
