"""HTX's half of the conversation: the sockets of linear swaps, and REST.

Odd here: every frame out is one gzip member, the venue pings (in two dialects) and closes on those
who do not answer, a topic's first frame may come before its ack, sizes are contracts, and those of
trades count buyer and seller.
"""

import zlib
from collections.abc import Callable, Sequence
from itertools import groupby

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
    Print,
    Request,
    State,
    Stream,
    Talk,
    Ticker,
    Topic,
)
from perptape.sims.market import Contract, Levels, Step, changes, levels
from perptape.sims.scenario import COINS
from perptape.venues import htx as wire

MARKET, INDEX, NOTIFICATION = "/linear-swap-ws", "/ws_index", "/linear-swap-notification"
PING_EVERY_NS = {MARKET: 5 * NS, INDEX: 5 * NS, NOTIFICATION: 5_300 * MS}
CLOSE_AFTER = {MARKET: 4, INDEX: 4, NOTIFICATION: 5}  # unanswered pings
GRACE_NS = NS  # from the last of them to the close: 20.0 to 21.1 s were seen
EXPIRED = Hangup(1003, "ping check expired")
OK = 200  # code of REST v5
NO_TOPIC, NO_CONTRACT, NOT_THERE, TWICE = 2010, 2011, 2012, 2014  # codes of the notifications
MRID = 100_129_125_000_000
VERSION = 1_789_895_280_000  # looks like a time, and is a counter
DEPTH, FEW = 150, 20
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
    """What a client says: one of sub, unsub and pong, or an op on the notification socket."""

    sub: str = ""
    unsub: str = ""
    data_type: str = ""
    id: str = ""
    pong: int | None = None
    op: str = ""
    cid: str = ""
    topic: str = ""
    ts: str = ""


def hear(talk: Talk, payload: bytes, board: Board, now_ns: int) -> list[Act]:
    """One client message; a client's ping stays unanswered."""
    now_ms = now_ns // MS
    try:
        ask = msgspec.json.decode(payload, type=Ask)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if talk.path == NOTIFICATION:
            return [msgspec.json.encode({"op": "error", "ts": now_ms})]
        return [error("", now_ms, "not json, is not json string")]
    answered(talk, ask)
    if talk.path == NOTIFICATION:
        return notice(talk, ask, board, now_ms)
    if ask.sub:
        return subscribe(talk, ask, board, now_ms)
    if ask.unsub:
        ack = {"id": ask.id, "status": "ok", "unsubbed": ask.unsub, "ts": now_ms}
        topic = read_topic(talk.path, ask.unsub, board)
        forms = [topic._replace(form=form) for form in ("", "incremental")] if topic else []
        return [*map(Part, forms), msgspec.json.encode(ack)]
    return []


def answered(talk: Talk, ask: Ask) -> None:
    """A pong to any open ping answers them all."""
    pinged = {str(ms) for ms in talk.unanswered}
    if ask.pong in talk.unanswered or (ask.op == "pong" and ask.ts in pinged):
        talk.unanswered.clear()
        talk.beat_ns = talk.pinged_ns + PING_EVERY_NS[talk.path]


def subscribe(talk: Talk, ask: Ask, board: Board, now_ms: int) -> list[Act]:
    """Also of a topic that is there already: an ack and a fresh snapshot."""
    topic = read_topic(talk.path, ask.sub, board)
    if topic is None:
        return [error(ask.id, now_ms, f"invalid topic {ask.sub}")]
    if topic.stream.endswith(".high_freq"):
        topic = topic._replace(form=ask.data_type)
    acts: list[Act] = [
        msgspec.json.encode({"id": ask.id, "status": "ok", "subbed": ask.sub, "ts": now_ms}),
        Join(topic),
    ]
    data_first = zlib.crc32(f"{talk.token}{ask.sub}".encode()) % 2 == 0
    return acts[::-1] if data_first else acts


def notice(talk: Talk, ask: Ask, board: Board, now_ms: int) -> list[Act]:
    """The other dialect: ``public.BTC-USDT.funding_rate``, or ``*`` for all contracts."""
    if ask.op not in {"sub", "unsub"}:
        return [] if ask.op == "pong" else [msgspec.json.encode({"op": "error", "ts": now_ms})]
    _, _, rest = ask.topic.partition(".")
    code, _, stream = rest.partition(".")
    known = {symbol for symbol in board.contracts if board.find(symbol) is not None}
    topics = [Topic(stream, symbol) for symbol in known if code.upper() in {symbol, "*"}]
    there = any(topic in talk.topics for topic in topics)
    if stream != wire.FUNDING:
        return [noted(ask, now_ms, NO_TOPIC, "Topic error.")]
    if not topics:
        return [noted(ask, now_ms, NO_CONTRACT, "Contract doesn't exist.")]
    if ask.op == "unsub":
        code_there = 0 if there else NOT_THERE
        return [*map(Part, topics), noted(ask, now_ms, code_there, "Not subscribed.")]
    if there and code != "*":
        return [noted(ask, now_ms, TWICE, "Repeated subscription.")]
    return [noted(ask, now_ms, 0, ""), *map(Join, topics)]


def noted(ask: Ask, now_ms: int, code: int, reason: str) -> bytes:
    body: dict[str, object] = {"op": ask.op, "cid": ask.cid, "topic": ask.topic, "ts": now_ms}
    return msgspec.json.encode(body | {"err-code": code} | ({"err-msg": reason} if code else {}))


def read_topic(path: str, name: str, board: Board) -> Topic | None:
    """``market.btc-usdt.bbo``: the code in any case."""
    market, _, rest = name.partition(".")
    code, _, stream = rest.partition(".")
    known = market == "market" and stream in SAID_ON[path] and board.find(code.upper()) is not None
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
    """A ping every five seconds; the last of a few without an answer is the last at all."""
    every_ns, now_ms = PING_EVERY_NS[talk.path], now_ns // MS
    if now_ns == talk.opened_ns:
        talk.beat_ns = now_ns + every_ns
        return []
    if len(talk.unanswered) >= CLOSE_AFTER[talk.path]:
        talk.beat_ns = now_ns + every_ns
        close = msgspec.json.encode({"op": "close", "ts": now_ms})
        return [*([close] if talk.path == NOTIFICATION else []), EXPIRED]
    talk.unanswered.append(now_ms)
    talk.pinged_ns = now_ns
    last = len(talk.unanswered) == CLOSE_AFTER[talk.path]
    talk.beat_ns = now_ns + (GRACE_NS if last else every_ns)
    if talk.path == NOTIFICATION:
        return [f'{{"op":"ping","ts":"{now_ms}"}}'.encode()]
    return [f'{{"ping":{now_ms}}}'.encode()]


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
    push = wire.DepthPush[msgspec.Raw](
        ch=(ch := f"market.{state.contract.symbol}.depth.step0"),
        ts=state.ts_send_ns // MS,
        tick=wire.Depth[msgspec.Raw](
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


def high_freq(state: State) -> bytes:
    """A snapshot, then changes; snapshots alone to whom did not ask for increments."""
    depth = DEPTH if "150" in state.topic.stream else FEW
    bids, asks = levels(state.contract, state.top, depth)
    is_snapshot = state.previous is None or not state.topic.form
    if state.previous is not None and not is_snapshot:
        old_bids, old_asks = levels(state.contract, state.previous, depth)
        bids = sorted(changes(old_bids, bids).items(), reverse=True)
        asks = sorted(changes(old_asks, asks).items())
    push = wire.ChangePush[msgspec.Raw](
        ch=(ch := f"market.{state.contract.symbol}.{state.topic.stream}"),
        ts=state.ts_send_ns // MS,
        tick=wire.Change[msgspec.Raw](
            asks=side(state.contract, asks),
            bids=side(state.contract, bids),
            ch=ch,
            event="snapshot" if is_snapshot else "update",
            id=MRID + state.top.update_id,
            mrid=MRID + state.top.update_id,
            ts=state.ts_event_ns // MS,
            version=VERSION + state.nth,
        ),
    )
    return msgspec.json.encode(push)


def trades(state: State) -> bytes:
    """All fills of a taker order; who is new gets the last order there was."""
    if not state.trades:
        return b""
    orders = by_order(state.trades)
    order = fills(state.contract, orders[-1], state.ts_made_ns)
    ch = f"market.{state.contract.symbol}.trade.detail"
    return msgspec.json.encode(wire.FillsPush(ch, state.ts_send_ns // MS, order))


def by_order(prints: Sequence[Print]) -> list[list[Print]]:
    return [list(made) for _, made in groupby(prints, key=lambda made: made.at_ns)]


def fills(contract: Contract, made: Sequence[Print], clock: Callable[[int], int]) -> wire.Fills:
    """Every size twice, for buyer and seller. The ids are apart from those of the books."""
    order, ts = MRID + made[0].number, clock(made[0].at_ns) // MS
    rows = []
    for k, one in enumerate(made):
        price, coins = number(contract.tick.text(one.price)), number(contract.size.text(one.lots))
        rows.append(
            wire.Fill(
                amount=wire.SIDES * one.lots,
                quantity=round(wire.SIDES * coins, contract.size.decimals),
                trade_turnover=round(wire.SIDES * coins * price, contract.tick.decimals + 4),
                ts=ts,
                id=order * 10_000 + k,
                price=price,
                direction="buy" if one.is_buy else "sell",
            )
        )
    return wire.Fills(order, ts, rows)


class Candle(wire.Candle[str], frozen=True):
    """With what we do not read; a minute here remembers only what was said last."""

    open: str
    high: str
    low: str
    amount: str = "0"
    vol: str = "0"
    count: str = "0"
    trade_turnover: str = "0"


def mark(state: State) -> bytes:
    return candle(state, lambda ticker: ticker.mark_price)


def index(state: State) -> bytes:
    return candle(state, lambda ticker: ticker.index_price)


def candle(state: State, price: Callable[[Ticker], float]) -> bytes:
    now, decimals = present(state), state.contract.tick.decimals + 2
    last = price(state.told or now)
    texts = [f"{value:.{decimals}f}" for value in (price(now), last)]
    low, high = sorted(texts, key=float)
    minute_s = state.ts_event_ns // NS // 60 * 60
    push = wire.CandlePush[str](
        ch=f"market.{state.contract.symbol}.{state.topic.stream}",
        tick=Candle(minute_s, texts[0], open=texts[1], high=high, low=low),
        ts=state.ts_send_ns // MS,
    )
    return msgspec.json.encode(push)


def present(state: State) -> Ticker:
    if state.ticker is None:
        raise ValueError(f"{state.topic.stream} tells of the ticker")
    return state.ticker


def detail(state: State) -> bytes:
    """The last 24 hours, volumes twice; highs and lows are not remembered."""
    now, contract, top = present(state), state.contract, state.top
    last = number(contract.tick.text(now.last))
    tick = {
        "id": state.ts_event_ns // NS // 60 * 60,
        "mrid": MRID + top.update_id,
        **dict.fromkeys(("open", "close", "high", "low"), last),
        "amount": number(contract.size.text(wire.SIDES * now.volume)),
        "vol": wire.SIDES * now.volume,
        "ask": [number(contract.tick.text(top.ask)), top.ask_lots],
        "bid": [number(contract.tick.text(top.bid)), top.bid_lots],
    }
    ch = f"market.{contract.symbol}.detail"
    return msgspec.json.encode({"ch": ch, "ts": state.ts_send_ns // MS, "tick": tick})


def funding(state: State) -> bytes:
    """``funding_time`` is when the rate was computed."""
    now, symbol = present(state), state.contract.symbol
    row = wire.Rated(
        contract_code=symbol,
        funding_time=str(state.ts_event_ns // NS * 1000),
        funding_rate=f"{now.rate:.18f}",
        settlement_time=str(now.ts_funding_ns // MS),
    )
    topic = f"public.{symbol}.{wire.FUNDING}"
    push = wire.Notice[str, str]("notify", topic, state.ts_send_ns // MS, [row])
    return msgspec.json.encode(push)


STREAMS = {
    "bbo": Stream(bbo),
    wire.STEP0: Stream(step0, every_ns=100 * MS, repeat_ns=NS),
    **dict.fromkeys(wire.BOOKS, Stream(high_freq, every_ns=30 * MS)),
    "trade.detail": Stream(trades, tells="trades"),
    "detail": Stream(detail, tells="ticker", every_ns=500 * MS),
    wire.MARK: Stream(mark, tells="ticker", every_ns=NS),
    wire.INDEX: Stream(index, tells="ticker", every_ns=NS),
    wire.FUNDING: Stream(funding, tells="ticker", every_ns=5 * NS),
}
SAID_ON = {
    INDEX: {wire.MARK, wire.INDEX},
    NOTIFICATION: {wire.FUNDING},
    MARKET: set(STREAMS) - {wire.MARK, wire.INDEX, wire.FUNDING},
}


Found = Sequence[Contract]
Row = Callable[[Request, Contract], dict[str, object]]
Call = Callable[[Request, Found], Answer]


def rest(request: Request, board: Board) -> Answer:
    """Most errors come with HTTP 200."""
    call, code = CALLS.get(request.path), request.query.get("contract_code", "").upper()
    if call is None:
        body = {"status": 404, "error": "Not Found", "path": request.path}
        return Answer(404, msgspec.json.encode(body))
    return call(request, [c for c in board.contracts.values() if code in ("", c.symbol)])


def answer(request: Request, **body: object) -> Answer:
    return Answer(200, msgspec.json.encode({"status": "ok", "ts": request.now_ns // MS} | body))


def limited(status: int | None, wait_s: int, now_ns: int) -> Answer:
    """Of its own accord the venue says so with HTTP 200, and not for how long."""
    reason = "Access frequency exceeds the limit"
    body = {"status": "error", "err_code": 1032, "err_msg": reason, "ts": now_ns // MS}
    headers = {} if status is None else {"Retry-After": str(wait_s)}
    return Answer(status or 200, msgspec.json.encode(body), headers)


def answer_v5(request: Request, data: object) -> Answer:
    body = {"code": OK, "message": "Success", "data": data, "ts": request.now_ns // MS}
    return Answer(200, msgspec.json.encode(body))


def no_contract(request: Request) -> Answer:
    reason = "This contract doesnt exist."
    return answer(request, status="error", err_code=1014, err_msg=reason)


def each(row: Row) -> Call:
    """A row for the contract that is asked for, or for each."""

    def call(request: Request, found: Found) -> Answer:
        if not found:
            return no_contract(request)
        return answer(request, data=[row(request, contract) for contract in found])

    return call


def one(tell: Callable[[Request, Contract], Answer]) -> Call:
    """An answer about the contract that must be asked for."""

    def call(request: Request, found: Found) -> Answer:
        if len(found) != 1 or not request.query.get("contract_code"):
            return no_contract(request)
        return tell(request, found[0])

    return call


def depth(request: Request, found: Found) -> Answer:
    if len(found) != 1 or request.query.get("type") != "step0":
        reason = "invalid contract_code or type"
        words = {"err-code": "invalid-parameter", "err-msg": reason}
        return answer(request, status="error", **words)
    contract = found[0]
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
    return answer(request, ch=ch, tick=tick)


def quote(request: Request, contract: Contract) -> dict[str, object]:
    top = request.tops(contract.symbol)
    return {
        "contract_code": contract.symbol,
        "ask": [number(contract.tick.text(top.ask)), top.ask_lots],
        "bid": [number(contract.tick.text(top.bid)), top.bid_lots],
        "mrid": MRID + top.update_id,
        "ts": request.ts_event_ns(top) // MS,
    }


def merged(request: Request, contract: Contract) -> dict[str, object]:
    """The last 24 hours by REST: volumes twice, as text."""
    now, best = request.ticker(contract.symbol), quote(request, contract)
    last, coins = contract.tick.text(now.last), number(contract.size.text(wire.SIDES * now.volume))
    return {
        "id": request.now_ns // NS,
        "ts": request.now_ns // MS,
        "ask": best["ask"],
        "bid": best["bid"],
        "trade_partition": "USDT",
        "business_type": "swap",
        "contract_code": contract.symbol,
        **dict.fromkeys(("open", "close", "low", "high"), last),
        "amount": f"{coins:.{contract.size.decimals}f}",
        "count": now.volume,
        "vol": str(wire.SIDES * now.volume),
        "trade_turnover": f"{coins * number(last):.4f}",
    }


def listing(request: Request, contract: Contract) -> dict[str, object]:
    """A row of the instrument list."""
    ticker = request.ticker(contract.symbol)
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
        "settlement_date": str(ticker.ts_funding_ns // MS),
        "support_margin_mode": "all",
        "open_type": 0,
        "settlement_period": str(ticker.interval_h),
        "labels": ["hot", "common"],
        "tradfi_labels": [],
        "business_type": "swap",
        "pair": contract.symbol,
        "contract_type": "swap",
        "trade_partition": "USDT",
    }


def interest(request: Request, contract: Contract) -> dict[str, object]:
    """Open interest, of one side."""
    ticker = request.ticker(contract.symbol)
    coins = number(contract.size.text(ticker.open_interest))
    return {
        "volume": ticker.open_interest,
        "amount": coins,
        "symbol": contract.base,
        "value": round(coins * ticker.mark_price, 4),
        "contract_code": contract.symbol,
        "business_type": "swap",
        "pair": contract.symbol,
        "contract_type": "swap",
        "trade_partition": "USDT",
    }


def interest_v5(request: Request, contract: Contract) -> Answer:
    row = interest(request, contract)
    numbers = ("amount", "volume", "value", "contract_code")
    return answer_v5(request, {name: str(row[name]) for name in numbers})


def rate(request: Request, contract: Contract) -> dict[str, object]:
    """``funding_time`` is when it is paid, and the payment after that is not told."""
    ticker = request.ticker(contract.symbol)
    return {
        "estimated_rate": None,
        "funding_rate": f"{ticker.rate:.18f}",
        "contract_code": contract.symbol,
        "symbol": contract.base,
        "fee_asset": "USDT",
        "funding_time": str(ticker.ts_funding_ns // MS),
        "next_funding_time": None,
        "trade_partition": "USDT",
    }


def rate_v5(request: Request, contract: Contract) -> Answer:
    ticker = request.ticker(contract.symbol)
    after_ns = ticker.ts_funding_ns + ticker.interval_h * 3600 * NS
    row = {
        "contract_code": contract.symbol,
        "funding_rate": f"{ticker.rate:.18f}",
        "funding_time": str(ticker.ts_funding_ns // MS),
        "next_funding_time": str(after_ns // MS),
        "min_funding_rate": "-0.003750000000000000",
        "max_funding_rate": "0.003750000000000000",
    }
    return answer_v5(request, [row])


def paid(request: Request, contract: Contract) -> list[dict[str, object]]:
    """What was paid, the newest first."""
    return [
        {
            "avg_premium_index": "0.000000000000000000",
            "trade_partition": "USDT",
            "funding_rate": f"{rate:.18f}",
            "realized_rate": None,
            "funding_time": str(ts_ns // MS),
            "contract_code": contract.symbol,
            "symbol": contract.base,
            "fee_asset": "USDT",
        }
        for ts_ns, rate in reversed(request.settled(contract.symbol))
    ]


def history(request: Request, contract: Contract) -> Answer:
    """A page of at most 50."""
    rows, size = paid(request, contract), min(50, count(request, "page_size", 20))
    page = max(1, count(request, "page_index", 1))
    data = {
        "total_page": -(-len(rows) // size),
        "current_page": page,
        "total_size": len(rows),
        "data": rows[(page - 1) * size : page * size],
    }
    return answer(request, data=data)


def count(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, "")[:9]
    return int(text) or default if text.isdecimal() else default


def history_v5(request: Request, contract: Contract) -> Answer:
    return answer_v5(request, paid(request, contract)[: count(request, "limit", 100)])


def traded(request: Request, contract: Contract) -> Answer:
    """The last trades, the newest order first."""
    prints = request.trades(contract.symbol)[-count(request, "size", 1) :]
    orders = [fills(contract, made, request.ts_made_ns) for made in by_order(prints)]
    ch = f"market.{contract.symbol}.trade.detail"
    return answer(request, ch=ch, data=orders[::-1])


def last_index(request: Request, contract: Contract) -> dict[str, object]:
    ticker = request.ticker(contract.symbol)
    return {
        "index_price": round(ticker.index_price, contract.tick.decimals + 2),
        "index_ts": request.now_ns // MS,
        "contract_code": contract.symbol,
        "trade_partition": "USDT",
    }


API = "/linear-swap-api/v1/"
CALLS: dict[str, Call] = {
    "/api/v1/timestamp": lambda r, _: answer(r),
    f"{API}swap_contract_info": each(listing),
    f"{API}swap_open_interest": each(interest),
    f"{API}swap_batch_funding_rate": each(rate),
    f"{API}swap_index": each(last_index),
    f"{API}swap_funding_rate": one(lambda r, c: answer(r, data=rate(r, c))),
    f"{API}swap_historical_funding_rate": one(history),
    "/linear-swap-ex/market/bbo": lambda r, found: answer(r, ticks=[quote(r, c) for c in found]),
    "/linear-swap-ex/market/depth": depth,
    "/linear-swap-ex/market/detail/batch_merged": lambda r, found: answer(
        r, ticks=[merged(r, c) for c in found]
    ),
    "/linear-swap-ex/market/history/trade": one(traded),
    "/v5/market/funding_rate": one(rate_v5),
    "/v5/market/funding_rate_history": one(history_v5),
    "/v5/market/open_interest": one(interest_v5),
    # What is listed of spot and the inverse families, which we do not have.
    "/v1/common/symbols": lambda r, _: answer(r, data=[]),
    "/v2/reference/currencies": lambda r, _: answer(r, code=OK, data=[]),
    "/swap-api/v1/swap_contract_info": lambda r, _: answer(r, data=[]),
    "/api/v1/contract_contract_info": lambda r, _: answer(r, data=[]),
}

HTX = Dialect(
    name="htx",
    paths=(MARKET, INDEX, NOTIFICATION),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
    limited=limited,
    wrap=wrap,
    binary=True,
)
