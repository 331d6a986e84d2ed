"""Binance's half of the conversation: USD-M's split websockets; REST has a file of its own.

Odd here: whatever is subscribed is acknowledged, and what does not exist, or belongs to the other
path, stays silent. Nothing greets a new listener: a book begins with REST. All symbols share one
sequence of ids, so a change's first id lies somewhere after the last one's, which it names in
``pu``. The book is as deep as prices go; REST shows its first levels. What happened in the day
before is not simulated: a day's open, high and low are the last price.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from perptape.events import MS, NS
from perptape.sims.binance_rest import TRADES, U, rest, rows
from perptape.sims.dialect import (
    Act,
    Board,
    Dialect,
    Hangup,
    Join,
    Part,
    Ping,
    State,
    Stream,
    Talk,
    Ticker,
    Topic,
)
from perptape.sims.market import Contract, Levels, Step, Top, levels
from perptape.sims.scenario import COINS
from perptape.venues import binance as wire

LOOK_EVERY_NS = 60 * NS  # at the heartbeat
PING_EVERY_NS = 180 * NS
PONG_WITHIN_NS = 600 * NS
LIFE_NS = 24 * 3600 * NS
MESSAGES_A_S = 5
MOST_STREAMS = 1024
TOO_MANY = 1008
CCXT_SOCKETS = 50
PATHS = tuple(
    path
    for side in ("/public", "/market", "")
    # ccxt numbers its sockets where a stream may stand: one that never speaks.
    for path in (
        f"{side}/stream", f"{side}/ws", *(f"{side}/ws/{n}" for n in range(CCXT_SOCKETS)),
    )
)  # fmt: skip
COMBINED, RAW = "", "raw"
NO_SUCH = "expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"  # noqa: E501 - its own words
STEPS = {  # tick, lot
    "BTC": ("0.10", "0.001"),
    "ETH": ("0.01", "0.001"),
    "SOL": ("0.0100", "0.01"),
    "XRP": ("0.0001", "0.1"),
    "DOGE": ("0.000010", "1"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}USDT", base, Step.of(tick), Step.of(lot), Step.of("1"),
        COINS[base].price,
    )
    for base, (tick, lot) in STEPS.items()
}  # fmt: skip

D = TypeVar("D")


class Ask(msgspec.Struct):
    """What a client says."""

    method: str
    id: int
    params: list[str | bool | float | None] = []


class DayTicker(msgspec.Struct, frozen=True, kw_only=True, tag_field="e", tag="24hrTicker"):
    """A frame of ``ticker``."""

    E: int
    s: str
    ps: str
    p: str = "0"
    P: str = "0.000"
    w: str
    c: str
    Q: str
    o: str
    h: str
    l: str  # noqa: E741 - the venue's spelling
    v: str
    q: str
    O: int  # noqa: E741 - likewise
    C: int
    F: int
    L: int
    n: int
    st: int = wire.USD_M


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    talk.recent_ns = [at for at in talk.recent_ns if now_ns - at < NS] + [now_ns]
    if len(talk.recent_ns) > MESSAGES_A_S:
        return [Hangup(TOO_MANY, "Too many requests")]
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except msgspec.ValidationError as e:
        return [problem(None, 2, _misses(str(e)))]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [problem(None, 3, "Invalid JSON: expected value at line 1 column 1")]
    if ask.id < 0:
        return [problem(None, 2, "Invalid request: request ID must be an unsigned integer")]
    if ask.method not in METHODS:
        words = f"Invalid request: unknown variant `{ask.method}`, {NO_SUCH}"
        return [problem(ask.id, 2, words)]
    return METHODS[ask.method](talk, ask, board)


def _misses(reason: str) -> str:
    if "`method`" in reason:
        return "Invalid request: missing field `method`"
    return "Invalid request: request ID must be an unsigned integer"


def problem(number: int | None, code: int, words: str) -> bytes:
    error = {"error": {"code": code, "msg": words}}
    return msgspec.json.encode(error if number is None else error | {"id": number})


def result(ask: Ask, found: object = None) -> bytes:
    return msgspec.json.encode({"result": found, "id": ask.id})


def subscribe(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    """Acknowledge all, join what exists and belongs here."""
    found = [topic for name in ask.params if (topic := read_topic(talk, str(name)))]
    new = [topic for topic in dict.fromkeys(found) if topic not in talk.topics]
    room = MOST_STREAMS - len(talk.topics)
    return [result(ask), *(Join(topic) for topic in new[:room] if board.find(topic.symbol))]


def unsubscribe(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    del board
    found = [topic for name in ask.params if (topic := read_topic(talk, str(name)))]
    return [*(Part(topic) for topic in found), result(ask)]


def subscriptions(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    del board
    return [result(ask, [_name(topic) for topic in talk.topics])]


def get_property(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    del board
    if ask.params != ["combined"]:
        return [problem(ask.id, 0, "Unknown property")]
    return [result(ask, _form(talk) == COMBINED)]


def set_property(talk: Talk, ask: Ask, board: Board) -> list[Act]:
    """The form of what is heard already, and with it of what comes."""
    del board
    match ask.params:
        case ["combined", bool(combined)]:
            form = COMBINED if combined else RAW
            topics = list(talk.topics)
            parts = [Part(topic) for topic in topics]
            return [*parts, *(Join(t._replace(form=form)) for t in topics), result(ask)]
        case ["combined", *_]:
            return [problem(ask.id, 1, "Invalid value type: expected Boolean")]
    return [problem(ask.id, 0, "Unknown property")]


METHODS: dict[str, Callable[[Talk, Ask, Board], list[Act]]] = {
    "SUBSCRIBE": subscribe,
    "UNSUBSCRIBE": unsubscribe,
    "LIST_SUBSCRIPTIONS": subscriptions,
    "GET_PROPERTY": get_property,
    "SET_PROPERTY": set_property,
}


def read_topic(talk: Talk, name: str) -> Topic | None:
    """``btcusdt@depth@100ms``, the symbol in lower case; ``None`` if this path never tells it."""
    symbol, _, stream = name.partition("@")
    side = "market" if talk.path.startswith("/market") else "public"
    is_here = stream in STREAMS and (stream in MARKET) == (side == "market")
    return Topic(stream, symbol.upper(), _form(talk)) if is_here and symbol.islower() else None


def _form(talk: Talk) -> str:
    for topic in talk.topics:
        return topic.form
    return COMBINED if talk.path.endswith("/stream") else RAW


def _name(topic: Topic) -> str:
    return f"{topic.symbol.lower()}@{topic.stream}"


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """Ping every three minutes; drop who gives no pong in ten, and everybody after a day."""
    age_ns = now_ns - talk.opened_ns
    talk.beat_ns = now_ns + LOOK_EVERY_NS
    if age_ns >= LIFE_NS:
        return [Hangup(1001, "a day is over")]
    if now_ns - max(talk.ponged_ns, talk.opened_ns) >= PONG_WITHIN_NS:
        return [Hangup(None, "no pong within 10 min")]
    is_due = age_ns // PING_EVERY_NS > (age_ns - LOOK_EVERY_NS) // PING_EVERY_NS and age_ns > 0
    return [Ping(str(now_ns // MS).encode())] if is_due else []


def push(state: State, data: D) -> bytes:
    """A frame, in the envelope or bare."""
    if state.topic.form == RAW:
        return msgspec.json.encode(data)
    return msgspec.json.encode(wire.Push(_name(state.topic), data))


def book_ticker(state: State) -> bytes:
    """The quotes, in the wire type that our decoder reads them with, as are the others."""
    top, (tick, lot) = state.top, (state.contract.tick, state.contract.lot)
    quote: wire.BookTicker[str, str] = wire.BookTicker(
        u=U + top.update_id,
        s=state.contract.symbol,
        ps=state.contract.symbol,
        b=tick.padded(top.bid),
        B=lot.padded(top.bid_lots),
        a=tick.padded(top.ask),
        A=lot.padded(top.ask_lots),
        T=state.ts_event_ns // MS,
        E=state.ts_send_ns // MS,
    )
    return push(state, quote)


def diff_depth(state: State) -> bytes:
    """What changed since this stream's last frame, for whoever began at any state after it."""
    first = (*state.skipped, state.top)[0]
    bids, asks = moved(state.contract, state.since(), state.top)
    return _depth(state, first.update_id, bids, asks)


def partial_depth(state: State) -> bytes:
    """The first levels, whole every time."""
    count = int(state.topic.stream.partition("@")[0].removeprefix("depth"))
    first = (*state.skipped, state.top)[0]
    return _depth(state, first.update_id, *levels(state.contract, state.top, count))


def _depth(state: State, first_id: int, bids: Levels, asks: Levels) -> bytes:
    previous = state.previous or state.top
    depth: wire.Depth[str, str] = wire.Depth(
        E=state.ts_send_ns // MS,
        T=state.ts_event_ns // MS,
        s=state.contract.symbol,
        U=U + first_id,
        u=U + state.top.update_id,
        pu=U + previous.update_id,
        b=rows(state.contract, bids),
        a=rows(state.contract, asks),
        ps=state.contract.symbol,
    )
    return push(state, depth)


def moved(contract: Contract, olds: tuple[Top, ...], new: Top) -> tuple[Levels, Levels]:
    """Bids and asks between the best prices of old and now, in a book that goes on and on.

    What stands behind the best price depends on the price alone, so nothing else can differ.
    """
    lowest = min(top.bid for top in (new, *olds))
    highest = max(top.ask for top in (new, *olds))
    bids, asks = levels(contract, new, max(new.bid - lowest, highest - new.ask) + 1)
    gone_bids = [(price, 0) for price in range(max(t.bid for t in (new, *olds)), new.bid, -1)]
    gone_asks = [(price, 0) for price in range(min(t.ask for t in (new, *olds)), new.ask)]
    return (
        [*gone_bids, *((price, lots) for price, lots in bids if price >= lowest)],
        [*gone_asks, *((price, lots) for price, lots in asks if price <= highest)],
    )


def trade(state: State) -> bytes:
    (made,) = state.trades
    execution: wire.Execution[str, str] = wire.Execution(
        E=state.ts_send_ns // MS,
        T=state.ts_made_ns(made.at_ns) // MS,
        s=state.contract.symbol,
        t=TRADES + made.number,
        p=state.contract.tick.padded(made.price),
        q=state.contract.lot.padded(made.lots),
        m=not made.is_buy,
    )
    return push(state, execution)


def agg_trade(state: State) -> bytes:
    """Each fill is at a price of its own, so it is an aggregate of itself."""
    (made,) = state.trades
    size = state.contract.lot.padded(made.lots)
    aggregate: wire.AggTrade[str, str] = wire.AggTrade(
        E=state.ts_send_ns // MS,
        a=made.number,
        s=state.contract.symbol,
        p=state.contract.tick.padded(made.price),
        q=size,
        nq=size,
        f=TRADES + made.number,
        l=TRADES + made.number,
        T=state.ts_made_ns(made.at_ns) // MS,
        m=not made.is_buy,
    )
    return push(state, aggregate)


def mark_price(state: State) -> bytes:
    ticker = _told(state)
    mark = f"{ticker.mark_price:.8f}"
    price = wire.MarkPrice(
        E=state.ts_send_ns // NS * 1000,
        s=state.contract.symbol,
        p=mark,
        ap=mark,
        P=mark,
        i=f"{ticker.index_price:.8f}",
        r=f"{ticker.rate:.8f}",
        T=ticker.ts_funding_ns // MS,
    )
    return push(state, price)


def day_ticker(state: State) -> bytes:
    ticker, contract, ms = _told(state), state.contract, state.ts_send_ns // MS
    last, volume = contract.tick.padded(ticker.last), contract.lot.padded(ticker.volume)
    day = DayTicker(
        E=ms, s=contract.symbol, ps=contract.symbol, w=last, c=last, Q=contract.lot.padded(1),
        o=last, h=last, l=last, v=volume, q=f"{float(volume) * float(last):.2f}",
        O=ms - 86_400_000, C=ms, F=TRADES, L=TRADES, n=1,
    )  # fmt: skip
    return push(state, day)


def _told(state: State) -> Ticker:
    if state.ticker is None:
        raise ValueError(f"{state.topic.stream} is told without a ticker")
    return state.ticker


SPEEDS = {"": 250 * MS, "@500ms": 500 * MS, "@100ms": 100 * MS, "@0ms": 50 * MS}
MARKET = {
    "aggTrade": Stream(agg_trade, "trades", every_ns=100 * MS, singly=True, greets=False),
    "markPrice": Stream(mark_price, "ticker", every_ns=3 * NS, greets=False),
    "markPrice@1s": Stream(mark_price, "ticker", every_ns=NS, greets=False),
    "ticker": Stream(day_ticker, "ticker", every_ns=2 * NS, greets=False),
}
STREAMS = {
    "bookTicker": Stream(book_ticker, greets=False),
    "trade": Stream(trade, "trades", singly=True, greets=False),
    **{
        f"depth{speed}": Stream(diff_depth, every_ns=every_ns, greets=False)
        for speed, every_ns in SPEEDS.items()
    },
    **{
        f"depth{count}{speed}": Stream(partial_depth, every_ns=every_ns, greets=False)
        for count in (5, 10, 20)
        for speed, every_ns in SPEEDS.items()
    },
    **MARKET,
}


BINANCE = Dialect(
    name="binance",
    paths=PATHS,
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
)
