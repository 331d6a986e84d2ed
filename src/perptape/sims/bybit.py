"""Bybit's half of the conversation: the public linear socket and v5 REST.

Odd here: a subscribe frame is all or nothing and the error names one topic, the ack names none,
the pong's op stays ``ping``, and ``orderbook.1`` has snapshots only, repeated after three quiet
seconds under the same ``u``.
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
from perptape.venues import bybit as wire

IDLE_NS = 600 * NS
CHECK_EVERY_NS = 30 * NS
U = 31_398_000
SEQ = 764_144_000_000
FAMILIES = ("linear", "inverse", "spot", "option")
ROWS = 500  # of the instrument list, if the request says nothing
MOST_ROWS = 1000
STEPS = {  # tick, lot
    "BTC": ("0.10", "0.001"),
    "ETH": ("0.01", "0.01"),
    "SOL": ("0.010", "0.1"),
    "XRP": ("0.0001", "0.1"),
    "DOGE": ("0.00001", "1"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}USDT", base, Step.of(tick), Step.of(lot), Step.of("1"),
        COINS[base].price,
    )
    for base, (tick, lot) in STEPS.items()
}  # fmt: skip


class Ask(msgspec.Struct):
    """What a client says; one sends its ``req_id`` as a number."""

    op: str
    req_id: str | int = ""
    args: list[str] = []


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    del now_ns
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except msgspec.ValidationError:
        return [reply(talk, Ask("subscribe"), "Params Error")]
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = payload[:1].decode(errors="replace")
        reason = f"readObjectStart: expect {{ or n, but found {found}"
        return [reply(talk, Ask(""), f"Failed to decode incoming data:{reason}")]
    if ask.op == "ping":
        return [reply(talk, ask, "pong", success=True)]
    if ask.op == "subscribe":
        return subscribe(talk, ask, board)
    if ask.op == "unsubscribe":
        parts = [Part(topic) for name in ask.args if (topic := read_topic(name, board))]
        return [*parts, reply(talk, ask, "", success=True)]
    return [reply(talk, ask, "error:invalid op")]


def subscribe(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    """All topics or none."""
    if not ask.args:
        return [reply(talk, ask, "Params Error")]
    topics: list[Topic] = []
    for name in ask.args:
        topic = read_topic(name, board)
        if topic is None or board.find(topic.symbol) is None:
            return [reply(talk, ask, f"error:handler not found,topic:{name}")]
        if topic in talk.topics or topic in topics:
            return [reply(talk, ask, f"error:already subscribed,topic:{name}")]
        topics.append(topic)
    return [reply(talk, ask, "", success=True), *(Join(topic) for topic in topics)]


def read_topic(name: str, board: Board) -> Topic | None:
    """``orderbook.50.BTCUSDT``, case sensitive."""
    stream, _, symbol = name.rpartition(".")
    return Topic(stream, symbol) if stream in STREAMS and symbol in board.contracts else None


def reply(talk: Talk, ask: Ask, reason: str, *, success: bool = False) -> bytes:
    conn_id = f"{talk.token[:20]}-{talk.token[20:24]}"
    return msgspec.json.encode(wire.Answer(success, reason, conn_id, str(ask.req_id), ask.op))


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """Every 30 s: close who listens to nothing and has said nothing for ten minutes."""
    talk.beat_ns = now_ns + CHECK_EVERY_NS
    idle = not talk.topics and now_ns - talk.heard_ns >= IDLE_NS
    return [Hangup(1000, "idle")] if idle else []


def orderbook1(state: State) -> bytes:
    """The quotes, in the wire type that our decoder reads them with; prices are not padded."""
    top, (tick, lot) = state.top, (state.contract.tick, state.contract.lot)
    book: wire.Top[str, str] = wire.Top(
        s=state.contract.symbol,
        b=[(tick.text(top.bid), lot.padded(top.bid_lots))],
        a=[(tick.text(top.ask), lot.padded(top.ask_lots))],
        u=U + state.nth,
        seq=SEQ + top.update_id,
    )
    push = wire.TopPush(
        topic=f"orderbook.1.{state.contract.symbol}",
        ts=state.ts_send_ns // MS,
        type="snapshot",
        data=book,
        cts=state.ts_event_ns // MS,
    )
    return msgspec.json.encode(push)


def deep(state: State) -> bytes:
    """A snapshot, then deltas whose ``u`` counts up by one; prices are padded."""
    depth = int(state.topic.stream.partition(".")[2])
    if state.previous is None:
        action, (bids, asks) = "snapshot", levels(state.contract, state.top, depth)
    else:
        action = "delta"
        bids, asks = delta(state.contract, state.since(), state.top, depth)
    return (
        f'{{"topic":"{state.topic.stream}.{state.contract.symbol}","type":"{action}",'
        f'"ts":{state.ts_send_ns // MS},"data":{{"s":"{state.contract.symbol}",'
        f'"b":{side(state.contract, bids)},"a":{side(state.contract, asks)},'
        f'"u":{U + state.nth},"seq":{SEQ + state.top.update_id}}},'
        f'"cts":{state.ts_event_ns // MS}}}'
    ).encode()


def side(contract: Contract, book: Levels) -> str:
    tick, lot = contract.tick, contract.lot
    rows = (f'["{tick.padded(price)}","{lot.padded(qty) if qty else 0}"]' for price, qty in book)
    return f"[{','.join(rows)}]"


STREAMS = {
    "orderbook.1": Stream(orderbook1, repeat_ns=3 * NS),
    "orderbook.50": Stream(deep, every_ns=20 * MS),
    "orderbook.200": Stream(deep, every_ns=100 * MS),
    "orderbook.1000": Stream(deep, every_ns=200 * MS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time, instruments and books; request errors come with HTTP 200."""
    if request.path == "/v5/market/time":
        seconds, nanos = str(request.now_ns // NS), str(request.now_ns)
        return result(request, {"timeSecond": seconds, "timeNano": nanos})
    if request.path not in MARKET:
        return Answer(404, msgspec.json.encode({"retCode": 10404, "retMsg": "Not Found"}))
    category, symbol = request.query.get("category", ""), request.query.get("symbol")
    if category not in FAMILIES:
        return failure(request, "params error: category invalid")
    known = board.contracts if category == "linear" else {}
    if symbol is not None and symbol not in known:
        return failure(request, "params error: symbol invalid")
    found = [contract for contract in known.values() if symbol in (None, contract.symbol)]
    return MARKET[request.path](request, category, found)


def result(request: Request, found: object) -> Answer:
    body = {
        "retCode": 0,
        "retMsg": "OK",
        "result": found,
        "retExtInfo": {},
        "time": request.now_ns // MS,
    }
    return Answer(200, msgspec.json.encode(body))


def failure(request: Request, reason: str) -> Answer:
    body = {
        "retCode": 10001,
        "retMsg": reason,
        "result": {},
        "retExtInfo": {},
        "time": request.now_ns // MS,
    }
    return Answer(200, msgspec.json.encode(body))


def instruments(request: Request, category: str, found: list[Contract]) -> Answer:
    """One page of those that trade; the cursor is how many went before."""
    if request.query.get("status", "Trading") != "Trading":
        found = []
    limit, cursor = request.query.get("limit", str(ROWS)), request.query.get("cursor") or "0"
    if not (limit.isdigit() and 0 < int(limit) <= MOST_ROWS and cursor.isdigit()):
        return failure(request, "params error: limit or cursor invalid")
    begin, end = int(cursor), int(cursor) + int(limit)
    page = {
        "category": category,
        "list": [listing(contract) for contract in found[begin:end]],
        "nextPageCursor": str(end) if end < len(found) else "",
    }
    return result(request, page)


def book(request: Request, category: str, found: list[Contract]) -> Answer:
    limit = request.query.get("limit", "25")
    if "symbol" not in request.query or category != "linear":
        return failure(request, "params error: symbol invalid")
    if not limit.isdigit() or not 0 < int(limit) <= MOST_ROWS:
        return failure(request, "params error: limit invalid")
    return result(request, depth(request, found[0], int(limit)))


MARKET = {"/v5/market/instruments-info": instruments, "/v5/market/orderbook": book}


def depth(request: Request, contract: Contract, limit: int) -> dict[str, object]:
    top = request.tops(contract.symbol)
    bids, asks = levels(contract, top, limit)
    tick, lot = contract.tick, contract.lot
    return {
        "s": contract.symbol,
        "b": [[tick.text(price), lot.padded(qty)] for price, qty in bids],
        "a": [[tick.text(price), lot.padded(qty)] for price, qty in asks],
        "ts": request.now_ns // MS,
        "u": U + top.update_id,
        "seq": SEQ + top.update_id,
        "cts": request.ts_event_ns(top) // MS,
    }


def listing(contract: Contract) -> dict[str, object]:
    """A row of the instrument list."""
    tick, lot = contract.tick, contract.lot
    return {
        "symbol": contract.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": contract.base,
        "quoteCoin": "USDT",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(tick.decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": tick.padded(1),
            "maxPrice": tick.padded(round(20 * contract.price / tick.value)),
            "tickSize": tick.padded(1),
        },
        "lotSizeFilter": {
            "maxOrderQty": lot.padded(1000 * contract.typical_lots),
            "minOrderQty": lot.padded(1),
            "qtyStep": lot.padded(1),
            "postOnlyMaxOrderQty": lot.padded(1000 * contract.typical_lots),
            "maxMktOrderQty": lot.padded(500 * contract.typical_lots),
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": "USDT",
        "copyTrading": "both",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
    }


BYBIT = Dialect(
    name="bybit",
    paths=("/v5/public/linear",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
)
