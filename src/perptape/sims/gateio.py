"""Gate.io's half of the conversation: the futures v4 socket of USDT perpetuals, and REST.

Odd here: sizes are integers, cut off, unless the handshake asked for decimals; a subscribe frame
is atomic; ``book_ticker`` says nothing until the best price or size changes; ``obu`` acknowledges
what does not exist and then stays silent; idle sockets end without a close frame.
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
from perptape.venues import gateio as wire

IDLE_NS = 30 * NS
U = 126_202_000_000
DECIMAL = "x-gate-size-decimal"
UPDATE, OBU = "futures.order_book_update", "futures.obu"
EVERY_NS = {"20ms": 20 * MS, "100ms": 100 * MS}
LEVELS = {"20ms": ("20",), "100ms": ("20", "50", "100")}
OBU_EVERY_NS = {"50": 20 * MS, "400": 100 * MS}
MOST_LEVELS = 300
MARKETS = "/api/v4/futures/usdt/"
EMPTY = {  # product families that this simulator lacks
    "/api/v4/spot/currencies",
    "/api/v4/spot/currency_pairs",
    "/api/v4/margin/currency_pairs",
    "/api/v4/futures/btc/contracts",
    "/api/v4/delivery/usdt/contracts",
    "/api/v4/delivery/btc/contracts",
    "/api/v4/options/underlyings",
}
STEPS = {  # tick, lot in contracts, contract size
    "BTC": ("0.1", "1", "0.0001"),
    "ETH": ("0.01", "0.1", "0.01"),
    "SOL": ("0.01", "0.1", "1"),
    "XRP": ("0.0001", "1", "10"),
    "DOGE": ("0.00001", "1", "10"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}_USDT", base, Step.of(tick), Step.of(lot), Step.of(size),
        COINS[base].price,
    )
    for base, (tick, lot, size) in STEPS.items()
}  # fmt: skip


class Ask(msgspec.Struct):
    """What a client says."""

    channel: str
    event: str = ""
    id: int | None = None
    payload: list[str] = []


class Refused(Exception):
    """A subscription that fails as a whole, with code and words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except msgspec.ValidationError:
        return [problem(talk, now_ns, 1, "request payload does not follow json schema")]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [problem(talk, now_ns, 1, "request message need json scheme")]
    if ask.channel == "futures.ping":
        return [pong(talk, now_ns)]
    try:
        topics = read_topics(talk, ask, board)
        if ask.event == "subscribe":
            topics = [topic for topic in topics if board.find(topic.symbol)]
            _refuse_twice(talk, ask, topics)
    except Refused as e:
        return [problem(talk, now_ns, e.code, str(e), ask)]
    joins: list[Act] = [
        Join(topic) if ask.event == "subscribe" else Part(topic) for topic in topics
    ]
    ack = _reply(talk, now_ns, ask, {"result": {"status": "success"}})
    full_first = ask.channel == OBU and now_ns // MS % 2 == 0
    return [*joins, ack] if full_first else [ack, *joins]


def read_topics(talk: Talk, ask: Ask, board: Board) -> list[Topic]:
    """All that a request names; raises Refused at the first that is wrong, except on obu."""
    if ask.event not in ("subscribe", "unsubscribe") or not ask.payload:
        raise Refused(1, "request payload does not follow json schema")
    sizes = "decimal" if talk.headers.get(DECIMAL) == "1" else "integer"
    if ask.channel == wire.QUOTES:
        for symbol in ask.payload:
            if board.find(symbol) is None:
                raise Refused(2, f"unknown currency pair: {symbol}")
        return [Topic(wire.QUOTES, symbol, sizes) for symbol in ask.payload]
    if ask.channel == UPDATE:
        return [_update_topic(ask.payload, sizes, board)]
    if ask.channel == OBU:
        return [topic for name in ask.payload if (topic := _obu_topic(name, board))]
    raise Refused(2, f"Unknown channel {ask.channel}")


def _update_topic(payload: list[str], sizes: str, board: Board) -> Topic:
    symbol, *rest = payload
    interval, level = (*rest, "100")[:2] if rest else ("", "")
    if board.find(symbol) is None:
        raise Refused(2, f"unknown currency pair {symbol}")
    if interval not in EVERY_NS:
        raise Refused(1, "request payload does not follow json schema")
    if level not in LEVELS[interval]:
        raise Refused(2, f"provided level not supported: {level}")
    return Topic(f"{UPDATE}@{interval}", symbol, f"{sizes} {level}")


def _obu_topic(name: str, board: Board) -> Topic | None:
    prefix, _, rest = name.partition(".")
    symbol, _, level = rest.rpartition(".")
    known = prefix == "ob" and level in OBU_EVERY_NS and symbol in board.contracts
    return Topic(f"{OBU}@{level}", symbol) if known else None


def _refuse_twice(talk: Talk, ask: Ask, topics: list[Topic]) -> None:
    for topic in topics:
        if ask.channel == OBU and topic in talk.topics:
            raise Refused(2, f"Alert sub ob.{topic.symbol}.{topic.stream.partition('@')[2]}")


def problem(talk: Talk, now_ns: int, code: int, reason: str, ask: Ask | None = None) -> bytes:
    rest = {"error": {"code": code, "message": reason}, "result": {"status": "fail"}}
    return _reply(talk, now_ns, ask or Ask(""), rest)


def _reply(talk: Talk, now_ns: int, ask: Ask, rest: dict[str, object]) -> bytes:
    body: dict[str, object] = {"time": now_ns // NS, "time_ms": now_ns // MS}
    if ask.id is not None:
        body["id"] = ask.id
    body |= {"conn_id": talk.token[:16], "trace_id": talk.token[::-1], "channel": ask.channel}
    body |= {"event": ask.event, "payload": ask.payload, **rest}
    return msgspec.json.encode(body)


def pong(talk: Talk, now_ns: int) -> bytes:
    return (
        f'{{"time":{now_ns // NS},"time_ms":{now_ns // MS},"conn_id":"{talk.token[:16]}",'
        f'"channel":"futures.pong","event":"","result":null}}'
    ).encode()


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """Drop a socket that listens to nothing and has said nothing for 30 s."""
    idle = not talk.topics and now_ns - talk.heard_ns >= IDLE_NS
    talk.beat_ns = now_ns + (NS if now_ns - talk.heard_ns < IDLE_NS else IDLE_NS)
    return [Hangup(None, "idle for 30 s")] if idle else []


def farewell(now_ns: int) -> bytes:
    """Before a planned close."""
    reason = "The connection will soon be closed for a service upgrade. Please reconnect."
    return (
        f'{{"time":{now_ns // NS},"time_ms":{now_ns // MS},"channel":"futures.system",'
        f'"event":"update","result":{{"type":"upgrade","msg":"{reason}"}}}}'
    ).encode()


def book_ticker(state: State) -> bytes:
    """The quotes, in the wire type that our decoder reads them with."""
    top, contract = state.top, state.contract
    sizes = contract.lot.text(top.bid_lots), contract.lot.text(top.ask_lots)
    bid_qty, ask_qty = sizes if state.topic.form == "decimal" else map(_whole, sizes)
    result: wire.BookTicker[str, str | int] = wire.BookTicker(
        t=state.ts_event_ns // MS,
        u=U + top.update_id,
        s=contract.symbol,
        b=contract.tick.text(top.bid),
        B=bid_qty,
        a=contract.tick.text(top.ask),
        A=ask_qty,
    )
    push = wire.Push(
        time=state.ts_send_ns // NS,
        time_ms=state.ts_send_ns // MS,
        channel=wire.QUOTES,
        event="update",
        result=result,
    )
    return msgspec.json.encode(push)


def _whole(text: str) -> int:
    return int(text.partition(".")[0])


def order_book_update(state: State) -> bytes:
    """Deltas that begin anywhere: the snapshot is taken by REST."""
    sizes, _, level = state.topic.form.partition(" ")
    bids, asks = delta(state.contract, state.since(), state.top, int(level))
    first = U + (state.previous or state.top).update_id + 1
    result = (
        f'{{"t":{state.ts_event_ns // MS},"U":{first},"u":{U + state.top.update_id},'
        f'"s":"{state.contract.symbol}","a":{_named(state.contract, asks, sizes)},'
        f'"b":{_named(state.contract, bids, sizes)},"l":"{level}"}}'
    )
    return _push(state, UPDATE, result)


def obu(state: State) -> bytes:
    """A full book, then deltas without the sides that did not change."""
    level = state.topic.stream.partition("@")[2]
    name = f'"s":"ob.{state.contract.symbol}.{level}"'
    if state.previous is None:
        bids, asks = levels(state.contract, state.top, int(level))
        ids = f'"full":true,{name},"u":{U + state.top.update_id}'
    else:
        bids, asks = delta(state.contract, state.since(), state.top, int(level))
        first, last = state.previous.update_id + 1, state.top.update_id
        ids = f'{name},"U":{U + first},"u":{U + last}'
    sides = "".join(
        f',"{key}":{_pairs(state.contract, side)}'
        for key, side in (("b", bids), ("a", asks))
        if side
    )
    return _push(state, OBU, f'{{"t":{state.ts_event_ns // MS},{ids}{sides}}}')


def _push(state: State, channel: str, result: str) -> bytes:
    return (
        f'{{"time":{state.ts_send_ns // NS},"time_ms":{state.ts_send_ns // MS},'
        f'"channel":"{channel}","event":"update","result":{result}}}'
    ).encode()


def _named(contract: Contract, side: Levels, sizes: str) -> str:
    rows = []
    for price, lots in side:
        size = contract.lot.text(lots)
        shown = f'"{size}"' if sizes == "decimal" else str(_whole(size))
        rows.append(f'{{"p":"{contract.tick.text(price)}","s":{shown}}}')
    return f"[{','.join(rows)}]"


def _pairs(contract: Contract, side: Levels) -> str:
    tick, lot = contract.tick, contract.lot
    rows = (f'["{tick.text(price)}","{lot.text(lots)}"]' for price, lots in side)
    return f"[{','.join(rows)}]"


STREAMS = {
    wire.QUOTES: Stream(book_ticker, greets=False),
    **{
        f"{UPDATE}@{interval}": Stream(order_book_update, every_ns=every_ns, greets=False)
        for interval, every_ns in EVERY_NS.items()
    },
    **{
        f"{OBU}@{level}": Stream(obu, every_ns=every_ns) for level, every_ns in OBU_EVERY_NS.items()
    },
}


def rest(request: Request, board: Board) -> Answer:
    """Server time, instruments and books."""
    if request.path == "/api/v4/spot/time":
        return Answer(200, f'{{"server_time":{request.now_ns // MS}}}'.encode())
    if request.path in EMPTY:
        return Answer(200, b"[]")
    what, _, name = request.path.removeprefix(MARKETS).partition("/")
    if not request.path.startswith(MARKETS) or what not in ("contracts", "order_book"):
        return failure(404, "NOT_FOUND", "no such path")
    if what == "order_book":
        return depth(request, board)
    if name and name not in board.contracts:
        return failure(400, "CONTRACT_NOT_FOUND")
    found = [c for c in board.contracts.values() if name in ("", c.symbol)]
    rows = [listing(request, contract) for contract in found]
    return Answer(200, msgspec.json.encode(rows[0] if name else rows))


def failure(status: int, label: str, message: str = "") -> Answer:
    body = {"label": label} | ({"message": message} if message else {})
    return Answer(status, msgspec.json.encode(body))


def depth(request: Request, board: Board) -> Answer:
    """The book by REST: of the same id space as the socket's, ``id`` only when asked for."""
    name, limit = request.query.get("contract"), request.query.get("limit", "10")
    if name is None:
        return failure(400, "MISSING_REQUIRED_PARAM", "contract")
    if name not in board.contracts:
        return failure(400, "CONTRACT_NOT_FOUND")
    if not limit.isdigit() or int(limit) < 1:
        return failure(400, "INVALID_PARAM_VALUE", "limit")
    if int(limit) > MOST_LEVELS:
        return failure(400, "TOO_BIG", f"limit {MOST_LEVELS}")
    contract, top = board.contracts[name], request.tops(name)
    sizes = "decimal" if request.headers.get(DECIMAL) == "1" else "integer"
    bids, asks = levels(contract, top, int(limit))
    with_id = request.query.get("with_id", "").lower() == "true"
    number = f',"id":{U + top.update_id}' if with_id else ""
    now_s, made_s = request.now_ns // MS / 1000, request.ts_event_ns(top) // MS / 1000
    body = (
        f'{{"current":{now_s},"update":{made_s},"asks":{_named(contract, asks, sizes)},'
        f'"bids":{_named(contract, bids, sizes)}{number}}}'
    )
    return Answer(200, body.encode())


def listing(request: Request, contract: Contract) -> dict[str, object]:
    """A row of the contract list; its fee fields are not what is paid."""
    top, interval_s = request.tops(contract.symbol), 28_800
    least, most = contract.lot.text(1), 1000 * contract.typical_lots
    decimal = request.headers.get(DECIMAL) == "1"
    last = contract.tick.text(top.bid)
    return {
        "funding_rate_indicative": "0.0001",
        "mark_price_round": contract.tick.text(1),
        "funding_offset": 0,
        "in_delisting": False,
        "interest_rate": "0.0003",
        "index_price": last,
        "order_price_round": contract.tick.text(1),
        "order_size_min": least if decimal else _whole(least),
        "enable_decimal": contract.lot.decimals > 0,
        "name": contract.symbol,
        "order_price_deviate": "0.03",
        "maintenance_rate": "0.003",
        "mark_type": "index",
        "funding_interval": interval_s,
        "type": "direct",
        "leverage_min": "1",
        "leverage_max": "200",
        "funding_rate": "0.0001",
        "last_price": last,
        "mark_price": last,
        "order_size_max": contract.lot.text(most) if decimal else _whole(contract.lot.text(most)),
        "funding_next_apply": (request.now_ns // NS // interval_s + 1) * interval_s,
        "maker_fee_rate": "-0.0001",
        "taker_fee_rate": "0.00075",
        "orderbook_id": U + top.update_id,
        "quanto_multiplier": contract.size.text(1),
        "status": "trading",
        "is_pre_market": False,
        "contract_type": "",
        "launch_time": 1_574_035_200,
        "funding_rate_limit": "0.003",
    }


GATEIO = Dialect(
    name="gateio",
    paths=("/v4/ws/usdt",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
    farewell=farewell,
)
