"""HTX's half of the conversation: the market socket of linear swaps, and REST.

Odd here: every frame out is one gzip member, the venue pings and closes on those who do not
answer, a topic's first frame may come before its ack, and sizes are contracts.
"""

import zlib

import msgspec
from zlib_ng import zlib_ng

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
from perptape.sims.market import Contract, Levels, Step, levels
from perptape.sims.scenario import COINS
from perptape.venues import htx as wire

PING_EVERY_NS = 5 * NS
CLOSE_AFTER = 4  # unanswered pings
GRACE_NS = NS  # from the last of them to the close: 20.0 to 21.1 s were seen
MRID = 100_129_125_000_000
DEPTH = 150
STEPS = {  # tick, contract size
    "BTC": ("0.1", "0.001"),
    "ETH": ("0.01", "0.01"),
    "SOL": ("0.001", "0.1"),
    "XRP": ("0.0001", "10"),
    "DOGE": ("0.00001", "100"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}-USDT", base, Step.of(tick), Step.of("1"), Step.of(size),
        COINS[base].price,
    )
    for base, (tick, size) in STEPS.items()
}  # fmt: skip


class Ask(msgspec.Struct):
    """What a client says; one of sub, unsub and pong."""

    sub: str = ""
    unsub: str = ""
    id: str = ""
    pong: int | None = None


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message; a client's ping stays unanswered."""
    now_ms = now_ns // MS
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [error("", now_ms, "not json, is not json string")]
    if ask.pong is not None and ask.pong in talk.unanswered:
        talk.unanswered.clear()
        talk.beat_ns = talk.pinged_ns + PING_EVERY_NS
    if ask.sub:
        return subscribe(talk, ask, board, now_ms)
    if ask.unsub:
        topic = read_topic(ask.unsub, board)
        ack = {"id": ask.id, "status": "ok", "unsubbed": ask.unsub, "ts": now_ms}
        return [*([Part(topic)] if topic else []), msgspec.json.encode(ack)]
    return []


def subscribe(talk: Talk, ask: Ask, board: Board, now_ms: int) -> list[Act]:
    """Also of a topic that is there already: an ack and a fresh snapshot."""
    topic = read_topic(ask.sub, board)
    if topic is None:
        return [error(ask.id, now_ms, f"invalid topic {ask.sub}")]
    acts: list[Act] = [
        msgspec.json.encode({"id": ask.id, "status": "ok", "subbed": ask.sub, "ts": now_ms}),
        Join(topic),
    ]
    data_first = zlib.crc32(f"{talk.token}{ask.sub}".encode()) % 2 == 0
    return acts[::-1] if data_first else acts


def read_topic(name: str, board: Board) -> Topic | None:
    """``market.btc-usdt.bbo``: the code in any case."""
    market, _, rest = name.partition(".")
    code, _, stream = rest.partition(".")
    known = market == "market" and stream in STREAMS and board.find(code.upper()) is not None
    return Topic(stream, code.upper()) if known else None


def error(number: str, now_ms: int, reason: str) -> bytes:
    body = {
        "status": "error",
        "ts": now_ms,
        "id": number,
        "err-code": "bad-request",
        "err-msg": reason,
    }
    return msgspec.json.encode(body)


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """A ping every five seconds; the fourth without an answer is the last."""
    if now_ns == talk.opened_ns:
        talk.beat_ns = now_ns + PING_EVERY_NS
        return []
    if len(talk.unanswered) >= CLOSE_AFTER:
        talk.beat_ns = now_ns + PING_EVERY_NS
        return [Hangup(1003, "ping check expired")]
    talk.unanswered.append(now_ns // MS)
    talk.pinged_ns = now_ns
    last = len(talk.unanswered) == CLOSE_AFTER
    talk.beat_ns = now_ns + (GRACE_NS if last else PING_EVERY_NS)
    return [f'{{"ping":{now_ns // MS}}}'.encode()]


def wrap(payload: bytes) -> bytes:
    """One gzip member."""
    deflate = zlib_ng.compressobj(1, zlib_ng.DEFLATED, 31)
    return deflate.compress(payload) + deflate.flush()


def number(text: str) -> float:
    """As the venue prints it: whole prices without a point."""
    return int(text) if text.isdigit() else float(text)


def bbo(state: State) -> bytes:
    top, tick = state.top, state.contract.tick
    push = wire.BboPush(
        ch=(ch := f"market.{state.contract.symbol}.bbo"),
        ts=state.ts_send_ns // MS,
        tick=wire.Bbo(
            mrid=MRID + top.update_id,
            id=state.ts_event_ns // NS,
            bid=(number(tick.text(top.bid)), top.bid_lots),
            ask=(number(tick.text(top.ask)), top.ask_lots),
            ts=state.ts_event_ns // MS,
            version=MRID + top.update_id,
            ch=ch,
        ),
    )
    return msgspec.json.encode(push)


def step0(state: State) -> bytes:
    """The whole book; its version is the time in seconds, not a sequence."""
    bids, asks = levels(state.contract, state.top, DEPTH)
    push = wire.DepthPush(
        ch=(ch := f"market.{state.contract.symbol}.depth.step0"),
        ts=state.ts_send_ns // MS,
        tick=wire.Depth(
            mrid=MRID + state.top.update_id,
            id=state.ts_event_ns // NS,
            bids=side(state.contract, bids),
            asks=side(state.contract, asks),
            ts=state.ts_event_ns // MS,
            version=state.ts_event_ns // NS,
            ch=ch,
        ),
    )
    return msgspec.json.encode(push)


def side(contract: Contract, book: Levels) -> msgspec.Raw:
    text = ",".join(f"[{contract.tick.text(price)},{lots}]" for price, lots in book)
    return msgspec.Raw(f"[{text}]".encode())


STREAMS = {
    "bbo": Stream(bbo),
    "depth.step0": Stream(step0, every_ns=100 * MS, repeat_ns=NS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time, instruments and books; most errors come with HTTP 200."""
    now_ms = request.now_ns // MS
    code = request.query.get("contract_code", "").upper()
    if request.path == "/api/v1/timestamp":
        return answer({"status": "ok", "ts": now_ms})
    if request.path == "/linear-swap-api/v1/swap_contract_info":
        if code and code not in board.contracts:
            return no_contract(now_ms)
        found = [c for c in board.contracts.values() if code in ("", c.symbol)]
        rows = [listing(contract, request.now_ns) for contract in found]
        return answer({"status": "ok", "data": rows, "ts": now_ms})
    if request.path == "/linear-swap-ex/market/bbo":
        found = [c for c in board.contracts.values() if code in ("", c.symbol)]
        return answer({"status": "ok", "ticks": [quote(request, c) for c in found], "ts": now_ms})
    if request.path == "/linear-swap-ex/market/depth":
        return depth(request, board.contracts.get(code))
    body = {"status": 404, "error": "Not Found", "path": request.path}
    return Answer(404, msgspec.json.encode(body))


def answer(body: dict[str, object]) -> Answer:
    return Answer(200, msgspec.json.encode(body))


def no_contract(now_ms: int) -> Answer:
    reason = "This contract doesnt exist."
    return answer({"status": "error", "err_code": 1014, "err_msg": reason, "ts": now_ms})


def depth(request: Request, contract: Contract | None) -> Answer:
    if contract is None or request.query.get("type") != "step0":
        reason = "invalid contract_code or type"
        body = {"status": "error", "err-code": "invalid-parameter", "err-msg": reason}
        return answer({**body, "ts": request.now_ns // MS})
    top = request.tops(contract.symbol)
    ts_event_ns = request.ts_event_ns(top)
    ch = f"market.{contract.symbol}.depth.step0"
    bids, asks = levels(contract, top, DEPTH)
    tick = {
        "asks": side(contract, asks),
        "bids": side(contract, bids),
        "ch": ch,
        "id": ts_event_ns // NS,
        "mrid": MRID + top.update_id,
        "ts": ts_event_ns // MS,
        "version": ts_event_ns // NS,
    }
    return answer({"ch": ch, "status": "ok", "tick": tick, "ts": request.now_ns // MS})


def quote(request: Request, contract: Contract) -> dict[str, object]:
    top = request.tops(contract.symbol)
    return {
        "contract_code": contract.symbol,
        "ask": [number(contract.tick.text(top.ask)), top.ask_lots],
        "bid": [number(contract.tick.text(top.bid)), top.bid_lots],
        "mrid": MRID + top.update_id,
        "ts": request.ts_event_ns(top) // MS,
    }


def listing(contract: Contract, now_ns: int) -> dict[str, object]:
    """A row of the instrument list."""
    interval_ns = 8 * 3600 * NS
    settlement_ms = (now_ns // interval_ns + 1) * interval_ns // MS
    return {
        "symbol": contract.base,
        "contract_code": contract.symbol,
        "contract_size": contract.size.value,
        "price_tick": contract.tick.value,
        "delivery_date": "",
        "delivery_time": "",
        "create_date": "20201021",
        "contract_status": 1,
        "adjust": [],
        "price_estimated": [],
        "settlement_date": str(settlement_ms),
        "support_margin_mode": "all",
        "open_type": 0,
        "settlement_period": "8",
        "labels": ["hot", "common"],
        "tradfi_labels": [],
        "business_type": "swap",
        "pair": contract.symbol,
        "contract_type": "swap",
        "trade_partition": "USDT",
    }


HTX = Dialect(
    name="htx",
    paths=("/linear-swap-ws",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
    wrap=wrap,
    binary=True,
)
