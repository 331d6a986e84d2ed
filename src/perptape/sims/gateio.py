"""Gate.io's half of the conversation: the futures v4 socket of USDT perpetuals.

What it says of markets is in ``gateio_frames``, REST in ``gateio_rest``. Odd here: a subscribe
frame is atomic; ``book_ticker`` says nothing until the best price or size changes; ``obu`` may send
its book before the ack, and acknowledges what does not exist and then stays silent; idle sockets
end without a close frame.
"""

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import (
    Act,
    Board,
    Dialect,
    Hangup,
    Join,
    Part,
    Talk,
    Topic,
    limited_as,
)
from perptape.sims.gateio_frames import EVERY_NS, LEVELS, OBU_EVERY_NS, STREAMS
from perptape.sims.gateio_rest import DECIMAL, rest
from perptape.sims.market import Contract, Step
from perptape.sims.scenario import COINS
from perptape.venues import gateio as wire

IDLE_NS = 30 * NS
WHOLE = (wire.QUOTES, wire.TRADES, wire.TICKERS)
"""Channels whose payload is contracts alone."""
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
    full_first = ask.channel == wire.OBU and now_ns // MS % 2 == 0
    return [*joins, ack] if full_first else [ack, *joins]


def read_topics(talk: Talk, ask: Ask, board: Board) -> list[Topic]:
    """All that a request names; raises Refused at the first that is wrong, except on obu."""
    if ask.event not in ("subscribe", "unsubscribe") or not ask.payload:
        raise Refused(1, "request payload does not follow json schema")
    sizes = "decimal" if talk.headers.get(DECIMAL) == "1" else "integer"
    if ask.channel in WHOLE:
        for symbol in ask.payload:
            if board.find(symbol) is None:
                raise Refused(2, f"unknown currency pair: {symbol}")
        form = "" if ask.channel == wire.TICKERS else sizes  # text whatever the handshake
        return [Topic(ask.channel, symbol, form) for symbol in ask.payload]
    if ask.channel == wire.UPDATES:
        return [_update_topic(ask.payload, sizes, board)]
    if ask.channel == wire.OBU:
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
    return Topic(f"{wire.UPDATES}@{interval}", symbol, f"{sizes} {level}")


def _obu_topic(name: str, board: Board) -> Topic | None:
    prefix, _, rest = name.partition(".")
    symbol, _, level = rest.rpartition(".")
    known = prefix == "ob" and level in OBU_EVERY_NS and symbol in board.contracts
    return Topic(f"{wire.OBU}@{level}", symbol) if known else None


def _refuse_twice(talk: Talk, ask: Ask, topics: list[Topic]) -> None:
    for topic in topics:
        if ask.channel == wire.OBU and topic in talk.topics:
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


GATEIO = Dialect(
    name="gateio",
    paths=("/v4/ws/usdt",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
    farewell=farewell,
    limited=limited_as(b'{"label":"TOO_MANY_REQUESTS"}'),
)
