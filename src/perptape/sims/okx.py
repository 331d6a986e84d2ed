"""OKX's half of the conversation: the version 5 public socket and REST of linear swaps.

Odd here: the heartbeat is the bare text ``ping``, an error names its topic only in its words, a
bad topic does not spoil its request, an index is named without the swap's ending, a quiet book
says so by an update without levels, and ``checksum`` is always 0.
"""

from collections.abc import Callable, Sequence

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
    limited_as,
)
from perptape.sims.market import Contract, Levels, Step, Top, delta, levels
from perptape.sims.scenario import COINS
from perptape.venues import okx as wire

IDLE_NS = 30 * NS
HOUR_NS = 3600 * NS
REQUESTS_AN_HOUR = 480
REQUEST_BYTES = 64 * 1024
DEPTH = 400
SEQ = 32_032_000_000
QUIET_NS = 60 * NS
PRIVATE = {"books-l2-tbt": "60029", "books50-l2-tbt": "60030"}
FAMILIES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION")
FULL_DEPTH = 5000
MOST_ROWS = 400
STEPS = {  # tick, lot in contracts, contract size
    "BTC": ("0.1", "0.01", "0.01"),
    "ETH": ("0.01", "0.01", "0.1"),
    "SOL": ("0.01", "0.01", "1"),
    "XRP": ("0.0001", "0.01", "100"),
    "DOGE": ("0.00001", "0.01", "1000"),
}
CONTRACTS = {
    base: Contract(
        f"{base}-USDT-PERP", f"{base}-USDT-SWAP", base, Step.of(tick), Step.of(lot),
        Step.of(size), COINS[base].price,
    )
    for base, (tick, lot, size) in STEPS.items()
}  # fmt: skip


Gauge = wire.Gauge[str, str, str]
Rates = wire.FundingRate[str, str]


class Ask(msgspec.Struct):
    """What a client says."""

    op: str
    args: list[wire.Arg] = []
    id: str = ""


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message."""
    if payload == wire.PING:
        talk.pinged_ns = now_ns
        return [wire.PONG]
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        words = payload.decode(errors="replace")
        return [error(talk, Ask(""), "60012", f"Illegal request: {words}")]
    if too_many(talk, now_ns):
        return [error(talk, ask, "60014", "Requests too frequent")]
    if ask.op not in ("subscribe", "unsubscribe"):
        return [error(talk, ask, "60019", f"Invalid op: {ask.op}")]
    if not ask.args or len(payload) > REQUEST_BYTES:
        return [error(talk, ask, "60013", "Invalid args")]
    one = subscribe if ask.op == "subscribe" else unsubscribe
    return [act for arg in ask.args for act in one(talk, ask, arg, board)]


def too_many(talk: Talk, now_ns: int) -> bool:
    """Whether this request is one more than an hour allows."""
    talk.recent_ns = [t for t in talk.recent_ns if now_ns - t < HOUR_NS] + [now_ns]
    return len(talk.recent_ns) > REQUESTS_AN_HOUR


def subscribe(talk: Talk, ask: Ask, arg: wire.Arg, board: Board) -> list[Act]:
    """A good argument is acknowledged, whatever the others are."""
    topic = read_topic(arg, board)
    if arg.channel in PRIVATE:
        return [error(talk, ask, PRIVATE[arg.channel], f"{arg.channel} needs a login")]
    if topic is None or board.find(topic.symbol) is None:
        words = (
            f"Wrong URL or channel:{arg.channel},instId:{arg.instId} doesn't exist. Please use "
            "the correct URL, channel and parameters referring to API document."
        )
        return [error(talk, ask, "60018", words)]
    return [ack(talk, ask, arg), Join(topic)]


def unsubscribe(talk: Talk, ask: Ask, arg: wire.Arg, board: Board) -> list[Act]:
    topic = read_topic(arg, board)
    return [*([] if topic is None else [Part(topic)]), ack(talk, ask, arg)]


def read_topic(arg: wire.Arg, board: Board) -> Topic | None:
    symbol = arg.instId + wire.SWAP if arg.channel == wire.INDEX else arg.instId
    known = arg.channel in STREAMS and symbol in board.contracts
    return Topic(arg.channel, symbol) if known else None


def ack(talk: Talk, ask: Ask, arg: wire.Arg) -> bytes:
    answer = wire.Answer(id=ask.id, event=ask.op, arg=arg, connId=talk.token[:8])
    return msgspec.json.encode(answer)


def error(talk: Talk, ask: Ask, code: str, msg: str) -> bytes:
    answer = wire.Answer(id=ask.id, event="error", code=code, msg=msg, connId=talk.token[:8])
    return msgspec.json.encode(answer)


def beat(talk: Talk, now_ns: int) -> list[Act]:
    """End a connection on which neither side has said anything for 30 s."""
    last_ns = max([talk.heard_ns, *(span.last_ns or 0 for span in talk.topics.values())])
    talk.beat_ns = last_ns + IDLE_NS
    if now_ns < talk.beat_ns:
        return []
    talk.beat_ns = now_ns + IDLE_NS
    words = "Connection closed as there was no data transmission in the last 30 seconds."
    return [error(talk, Ask(""), "60015", words), Hangup(4004, "no data in 30 s")]


def farewell(now_ns: int) -> bytes:
    """Before a planned close."""
    del now_ns
    words = "The connection will soon be closed for a service upgrade. Please reconnect."
    return msgspec.json.encode(wire.Answer(event="notice", code=wire.LEAVING, msg=words))


def push(state: State, row: object, action: wire.Action = "") -> bytes:
    contract, stream = state.contract, state.topic.stream
    name = index_name(contract) if stream == wire.INDEX else contract.symbol
    return msgspec.json.encode(wire.Push(arg=wire.Arg(stream, name), action=action, data=[row]))


def side(contract: Contract, book: Levels) -> list[wire.Level]:
    """As many orders as the size makes up; none where it is 0."""
    tick, lot = contract.tick, contract.lot
    return [
        wire.Level(tick.text(price), lot.text(lots), "0", str(-(-lots // 25)))
        for price, lots in book
    ]


def whole(
    contract: Contract, top: Top, ts_ns: int, depth: int
) -> wire.Depth[list[wire.Level], str]:
    bids, asks = levels(contract, top, depth)
    return wire.Depth(
        side(contract, asks), side(contract, bids), str(ts_ns // MS), seqId=SEQ + top.update_id
    )


def bbo_tbt(state: State) -> bytes:
    """The quotes, in the wire type that our decoder reads them with."""
    return push(state, whole(state.contract, state.top, state.ts_event_ns, 1))


def books5(state: State) -> bytes:
    return push(state, whole(state.contract, state.top, state.ts_event_ns, 5))


def books(state: State) -> bytes:
    """A snapshot, then updates that follow each other, and a sign of life when nothing changes."""
    contract, top, seq = state.contract, state.top, SEQ + state.top.update_id
    if state.is_greeting:
        depth = whole(contract, top, state.ts_event_ns, DEPTH)
        depth = msgspec.structs.replace(depth, checksum=0, prevSeqId=-1)
        return push(state, depth, "snapshot")
    before = top if state.previous is None else state.previous  # a repetition follows itself
    bids, asks = delta(contract, state.since(), top, DEPTH)
    depth = wire.Depth(
        side(contract, asks),
        side(contract, bids),
        ts=str(state.ts_event_ns // MS),
        checksum=0,
        seqId=seq,
        prevSeqId=SEQ + before.update_id,
    )
    return push(state, depth, "update")


def trades(state: State) -> bytes:
    """One fill; to a new listener the last one before."""
    made = state.trades[-1]
    return push(state, deal(state.contract, made, state.ts_made_ns(made.at_ns)))


def deal(contract: Contract, made: Print, ts_ns: int) -> wire.Deal[str, str, str]:
    return wire.Deal(
        instId=contract.symbol,
        tradeId=str(made.number),
        px=contract.tick.text(made.price),
        sz=contract.lot.text(made.lots),
        side="buy" if made.is_buy else "sell",
        ts=str(ts_ns // MS),
        count="1",
        source="0",
        seqId=SEQ + made.number,
    )


Row = Callable[[Contract, Ticker, Top, int], object]
"""(contract, its ticker, its best prices, venue's time in ns) -> what is said of it."""


def telling(row: Row) -> Callable[[State], bytes]:
    """A stream of the rows that REST gives too."""

    def encode(state: State) -> bytes:
        if state.ticker is None:
            return b""
        return push(state, row(state.contract, state.ticker, state.top, state.ts_event_ns))

    return encode


def statistics(contract: Contract, ticker: Ticker, top: Top, ts_ns: int) -> dict[str, str]:
    """A row of ``tickers``; volumes are contracts, and coins."""
    tick, lot = contract.tick, contract.lot
    day = {name: text(contract, contract.price) for name in ("open24h", "sodUtc0", "sodUtc8")}
    return {
        "instType": "SWAP",
        "instId": contract.symbol,
        "last": tick.text(ticker.last),
        "lastSz": lot.text(1),
        "askPx": tick.text(top.ask),
        "askSz": lot.text(top.ask_lots),
        "bidPx": tick.text(top.bid),
        "bidSz": lot.text(top.bid_lots),
        "high24h": text(contract, 1.02 * contract.price),
        "low24h": text(contract, 0.98 * contract.price),
        **day,
        "volCcy24h": f"{ticker.volume * lot.value * contract.size.value:.4f}",
        "vol24h": lot.text(ticker.volume),
        "ts": str(ts_ns // MS),
    }


def text(contract: Contract, price: float) -> str:
    return contract.tick.text(round(price / contract.tick.value))


def mark_price(contract: Contract, ticker: Ticker, top: Top, ts_ns: int) -> Gauge:
    del top
    ts, price = str(ts_ns // MS), text(contract, ticker.mark_price)
    return wire.Gauge(contract.symbol, ts, "SWAP", markPx=price)


def index_ticker(contract: Contract, ticker: Ticker, top: Top, ts_ns: int) -> Gauge:
    del top
    ts, price = str(ts_ns // MS), text(contract, ticker.index_price)
    return wire.Gauge(index_name(contract), ts, idxPx=price)


def index_name(contract: Contract) -> str:
    return contract.symbol.removesuffix(wire.SWAP)


def open_interest(contract: Contract, ticker: Ticker, top: Top, ts_ns: int) -> dict[str, str]:
    """A row of three units; our decoder reads the contracts."""
    del top
    coins = ticker.open_interest * contract.lot.value * contract.size.value
    return {
        "instId": contract.symbol,
        "instType": "SWAP",
        "oi": contract.lot.text(ticker.open_interest),
        "oiCcy": f"{coins:.8f}",
        "oiUsd": f"{coins * ticker.mark_price:.4f}",
        "ts": str(ts_ns // MS),
    }


def funding_rate(contract: Contract, ticker: Ticker, top: Top, ts_ns: int) -> Rates:
    """The coming payment. What was paid last is left blank; the history has it."""
    del top
    due_ns, interval_ns = ticker.ts_funding_ns, ticker.interval_h * HOUR_NS
    return wire.FundingRate(
        instType="SWAP",
        instId=contract.symbol,
        method="current_period",
        fundingRate=f"{ticker.rate:.8f}",
        fundingTime=str(due_ns // MS),
        nextFundingTime=str((due_ns + interval_ns) // MS),
        prevFundingTime=str((due_ns - interval_ns) // MS),
        ts=str(ts_ns // MS),
    )


STREAMS = {
    wire.BBO: Stream(bbo_tbt, every_ns=10 * MS, repeat_ns=QUIET_NS),
    # After maintenance seqId is below prevSeqId, which still is the last one.
    wire.BOOKS: Stream(books, every_ns=100 * MS, repeat_ns=QUIET_NS, reset=books),
    wire.BOOKS5: Stream(books5, every_ns=100 * MS, repeat_ns=QUIET_NS),
    wire.TRADES: Stream(trades, tells="trades", singly=True),
    "tickers": Stream(telling(statistics), tells="ticker", every_ns=100 * MS),
    wire.MARK: Stream(telling(mark_price), tells="ticker", every_ns=200 * MS),
    wire.INDEX: Stream(telling(index_ticker), tells="ticker", every_ns=100 * MS),
    wire.INTEREST: Stream(telling(open_interest), tells="ticker", every_ns=3 * NS),
    wire.FUNDING: Stream(telling(funding_rate), tells="ticker", every_ns=60 * NS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time and what is said of markets; an error is a code in an answer of HTTP 200."""
    path = request.path
    if path == "/api/v5/public/time":
        return success([{"ts": str(request.now_ns // MS)}])
    if path not in CALLS:
        return failure("404", "Not Found", 404)
    try:
        found = chosen(request, board)
        return success(CALLS[path](request, found))
    except Refused as e:
        return failure(e.code, str(e))


class Refused(Exception):
    """A call that is wrong, with code and words."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def success(rows: Sequence[object]) -> Answer:
    return Answer(200, msgspec.json.encode({"code": "0", "data": rows, "msg": ""}))


def failure(code: str, reason: str, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode({"code": code, "data": [], "msg": reason}))


def chosen(request: Request, board: Board) -> list[Contract]:
    """The contracts that a call is about; raises Refused."""
    query, known = request.query, board.contracts
    family, symbol = query.get("instType"), query.get("instId", "ANY")
    if family is None and "instId" not in query:
        raise Refused("50014", "Parameter instId can not be empty.")
    if family not in (None, *FAMILIES):
        raise Refused("51000", "Parameter instType error")
    if family not in (None, "SWAP"):
        return []
    if request.path == INDEX_PATH:
        symbol += wire.SWAP
    if symbol not in known and symbol != "ANY":
        raise Refused("51001", "Instrument ID or Spread ID doesn't exist.")
    return [contract for contract in known.values() if symbol in ("ANY", contract.symbol)]


def calling(row: Row) -> Callable[[Request, list[Contract]], Sequence[object]]:
    """A call for the rows that a stream tells too."""

    def answer(request: Request, found: list[Contract]) -> Sequence[object]:
        return [
            row(c, request.ticker(c.symbol), request.tops(c.symbol), request.now_ns) for c in found
        ]

    return answer


def count(request: Request, name: str, default: int, most: int) -> int:
    number = request.query.get(name, str(default))
    if not number.isdecimal() or not 0 < int(number) <= most:
        raise Refused("51000", f"Parameter {name} error")
    return int(number)


def book(request: Request, found: list[Contract]) -> Sequence[object]:
    most = FULL_DEPTH if request.path.endswith("books-full") else DEPTH
    depth = count(request, "sz", 1, most)
    (contract,) = one(found)
    top = request.tops(contract.symbol)
    told = whole(contract, top, request.ts_event_ns(top), depth)
    return [msgspec.structs.replace(told, seqId=None)]


def one(found: list[Contract]) -> list[Contract]:
    if len(found) != 1:
        raise Refused("50014", "Parameter instId can not be empty.")
    return found


def last_trades(request: Request, found: list[Contract]) -> Sequence[object]:
    """The newest first."""
    most = count(request, "limit", 100, 500)
    (contract,) = one(found)
    return [
        deal(contract, made, request.ts_made_ns(made.at_ns))
        for made in request.trades(contract.symbol)[: -most - 1 : -1]
    ]


def funding_history(request: Request, found: list[Contract]) -> Sequence[object]:
    """What was paid, the newest first; ``before`` and ``after`` mean newer and older than."""
    most = count(request, "limit", MOST_ROWS, MOST_ROWS)
    newer, older = moment(request, "before", 0), moment(request, "after", 1 << 62)
    (contract,) = one(found)
    rows = [
        {
            "formulaType": "withRate",
            "fundingRate": f"{rate:.8f}",
            "fundingTime": str(paid_ns // MS),
            "instId": contract.symbol,
            "instType": "SWAP",
            "method": "current_period",
            "realizedRate": f"{rate:.8f}",
        }
        for paid_ns, rate in reversed(request.settled(contract.symbol))
        if newer < paid_ns // MS < older
    ]
    return rows[:most]


def moment(request: Request, name: str, default: int) -> int:
    said = request.query.get(name) or str(default)
    if not said.isdecimal():
        raise Refused("51000", f"Parameter {name} error")
    return int(said)


def instruments(request: Request, found: list[Contract]) -> Sequence[object]:
    if "instType" not in request.query:
        raise Refused("50014", "Parameter instType can not be empty.")
    return [listing(contract) for contract in found]


INDEX_PATH = "/api/v5/market/index-tickers"
CALLS: dict[str, Callable[[Request, list[Contract]], Sequence[object]]] = {
    "/api/v5/public/instruments": instruments,
    "/api/v5/public/funding-rate": calling(funding_rate),
    "/api/v5/public/funding-rate-history": funding_history,
    "/api/v5/public/mark-price": calling(mark_price),
    "/api/v5/public/open-interest": calling(open_interest),
    "/api/v5/market/books": book,
    "/api/v5/market/books-full": book,
    "/api/v5/market/ticker": calling(statistics),
    "/api/v5/market/tickers": calling(statistics),
    "/api/v5/market/trades": last_trades,
    INDEX_PATH: calling(index_ticker),
}


def listing(contract: Contract) -> dict[str, object]:
    """A row of the instrument list."""
    blank = ("alias", "baseCcy", "expTime", "maxMktAmt", "optType", "quoteCcy", "stk")
    lot, most = contract.lot, contract.lot.text(1000 * contract.typical_lots)
    sizes = ("maxIcebergSz", "maxLmtSz", "maxStopSz", "maxTriggerSz", "maxTwapSz", "maxMktSz")
    return {
        **dict.fromkeys(blank, ""),
        **dict.fromkeys(sizes, most),
        "category": "1",
        "ctMult": "1",
        "ctType": "linear",
        "ctVal": contract.size.text(1),
        "ctValCcy": contract.base,
        "instFamily": index_name(contract),
        "instId": contract.symbol,
        "instIdCode": 10459,
        "instType": "SWAP",
        "lever": "100",
        "listTime": "1573557408000",
        "lotSz": lot.text(1),
        "maxLmtAmt": "20000000",
        "minSz": lot.text(1),
        "ruleType": "normal",
        "settleCcy": "USDT",
        "state": "live",
        "tickSz": contract.tick.text(1),
        "uly": index_name(contract),
    }


OKX = Dialect(
    name="okx",
    paths=("/ws/v5/public",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
    farewell=farewell,
    limited=limited_as(b'{"code":"50011","msg":"Too Many Requests","data":[]}'),
)
