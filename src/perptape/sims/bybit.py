"""Bybit's half of the conversation: the public linear socket and v5 REST.

Odd here: a subscribe frame is all or nothing and the error names one topic, the ack names none and
may come after a book's first snapshot, the pong's op stays ``ping``, ``orderbook.1`` has snapshots
only, repeated after three quiet seconds under the same ``u``, and a ticker's delta holds what
changed alone.
"""

import zlib
from itertools import pairwise

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
    Ticker,
    Topic,
)
from perptape.sims.market import Contract, Levels, Step, Top, delta, levels
from perptape.sims.scenario import COINS
from perptape.venues import bybit as wire

IDLE_NS = 600 * NS
CHECK_EVERY_NS = 30 * NS
U = 31_398_000
SEQ = 764_144_000_000
FAMILIES = ("linear", "inverse", "spot", "option")
ROWS = 500  # of instruments and trades, if the request says nothing
MOST_ROWS = 1000
MOST_PAYMENTS = 200
INTERVALS_MIN = {"5min": 5, "15min": 15, "30min": 30, "1h": 60, "4h": 240, "1d": 1440}
MINUTE_NS = 60 * NS
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
    ack, joins = reply(talk, ask, "", success=True), [Join(topic) for topic in topics]
    return [*joins, ack] if is_hasty(talk, topics[0]) else [ack, *joins]


def is_hasty(talk: Talk, topic: Topic) -> bool:
    """Whether the first snapshot overtakes the ack: of half the deeper books."""
    drawn = zlib.crc32(f"{talk.token}{topic}".encode()) % 2
    return topic.stream in wire.DEPTHS and drawn == 0


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


def deep(state: State, before: int = U) -> bytes:
    """A snapshot, then deltas whose ``u`` counts up by one; prices are padded."""
    contract, depth = state.contract, int(state.topic.stream.partition(".")[2])
    is_whole = state.previous is None or state.is_reset
    if is_whole:
        bids, asks = levels(contract, state.top, depth)
    else:
        bids, asks = delta(contract, state.since(), state.top, depth)
    book: wire.Depth[str, str] = wire.Depth(
        s=contract.symbol,
        b=side(contract, bids),
        a=side(contract, asks),
        u=before + state.nth,
        seq=SEQ + state.top.update_id,
    )
    push = wire.DepthPush(
        topic=f"{state.topic.stream}.{contract.symbol}",
        type="snapshot" if is_whole else "delta",
        ts=state.ts_send_ns // MS,
        data=book,
        cts=state.ts_event_ns // MS,
    )
    return msgspec.json.encode(push)


def restarted(state: State) -> bytes:
    """After a restart of the service ``u`` counts from 1 again, and 1 is a snapshot."""
    return deep(state, before=0)


def side(contract: Contract, book: Levels) -> list[tuple[str, str]]:
    tick, lot = contract.tick, contract.lot
    return [(tick.padded(price), lot.padded(qty) if qty else "0") for price, qty in book]


def public_trade(state: State) -> bytes:
    """All fills of one taker order."""
    prices = [state.trades[0].price, *(trade.price for trade in state.trades)]
    directions = [direction(old, new) for old, new in pairwise(prices)]
    push: wire.TradePush[str, str] = wire.TradePush(
        topic=f"publicTrade.{state.contract.symbol}",
        type="snapshot",
        ts=state.ts_send_ns // MS,
        data=[fill(state, n, words) for n, words in enumerate(directions)],
    )
    return msgspec.json.encode(push)


def fill(state: State, n: int, words: str) -> wire.Print[str, str]:
    trade, contract = state.trades[n], state.contract
    return wire.Print(
        T=state.ts_made_ns(trade.at_ns) // MS,
        s=contract.symbol,
        S="Buy" if trade.is_buy else "Sell",
        v=contract.lot.padded(trade.lots),
        p=contract.tick.padded(trade.price),
        L=words,
        i=trade_id(trade.number),
        BT=False,
        RPI=False,
        seq=SEQ + state.top.update_id,
    )


def direction(old: int, new: int) -> str:
    if old == new:
        return "ZeroPlusTick"
    return "PlusTick" if new > old else "MinusTick"


def trade_id(number: int) -> str:
    return f"{number:08x}-dcc0-58e8-a4c5-{number:012x}"


def tickers(state: State) -> bytes:
    """All there is for a new listener, else what differs from what was told."""
    ticker, told, top = state.ticker, state.told, state.top
    if ticker is None:
        return b""
    fields = told_fields(state.contract, ticker)
    if told is None:
        fields |= best(state.contract, top) | EMPTY
    else:
        before = told_fields(state.contract, told)
        fields = {name: text for name, text in fields.items() if before[name] != text}
        if top.due_ns >= told.at_ns:
            fields |= best(state.contract, top)
    if not fields:
        return b""
    push = {
        "topic": f"tickers.{state.contract.symbol}",
        "type": "delta" if told else "snapshot",
        "data": {"symbol": state.contract.symbol} | fields,
        "cs": SEQ + top.update_id,
        "ts": state.ts_send_ns // MS,
    }
    return msgspec.json.encode(push)


EMPTY = {"preOpenPrice": "", "preQty": "", "curPreListingPhase": ""}


def told_fields(contract: Contract, ticker: Ticker) -> dict[str, str]:
    """What a ticker says beside the best prices; its open interest counts both sides."""
    tick, lot = contract.tick, contract.lot
    last, day = ticker.last * tick.value, f"{contract.price:.{tick.decimals}f}"
    both = 2 * ticker.open_interest
    value = ticker.open_interest * lot.value * ticker.mark_price
    volume = ticker.volume * lot.value
    return {
        "tickDirection": "ZeroPlusTick",
        "price24hPcnt": f"{last / contract.price - 1:.6f}",
        "lastPrice": tick.padded(ticker.last),
        "prevPrice24h": day,
        "highPrice24h": f"{1.02 * contract.price:.{tick.decimals}f}",
        "lowPrice24h": f"{0.98 * contract.price:.{tick.decimals}f}",
        "prevPrice1h": day,
        "markPrice": f"{ticker.mark_price:.{tick.decimals}f}",
        "indexPrice": f"{ticker.index_price:.{tick.decimals}f}",
        "openInterest": lot.padded(both),
        "openInterestValue": f"{2 * value:.2f}",
        "turnover24h": f"{volume * last:.4f}",
        "volume24h": f"{volume:.4f}",
        "fundingIntervalHour": str(ticker.interval_h),
        "fundingCap": "0.005",
        "singleOpenInterest": lot.padded(ticker.open_interest),
        "singleOpenInterestValue": f"{value:.2f}",
        "nextFundingTime": str(ticker.ts_funding_ns // MS),
        "fundingRate": rate_text(ticker.rate),
    }


def best(contract: Contract, top: Top) -> dict[str, str]:
    tick, lot = contract.tick, contract.lot
    return {
        "bid1Price": tick.padded(top.bid),
        "bid1Size": lot.padded(top.bid_lots),
        "ask1Price": tick.padded(top.ask),
        "ask1Size": lot.padded(top.ask_lots),
    }


def rate_text(rate: float) -> str:
    """To eight decimals, without the last zeros."""
    return f"{rate:.8f}".rstrip("0").rstrip(".")


STREAMS = {
    "orderbook.1": Stream(orderbook1, repeat_ns=3 * NS),
    "orderbook.50": Stream(deep, every_ns=20 * MS, reset=restarted),
    "orderbook.200": Stream(deep, every_ns=100 * MS, reset=restarted),
    "orderbook.1000": Stream(deep, every_ns=200 * MS, reset=restarted),
    "publicTrade": Stream(public_trade, tells="trades", greets=False),
    "tickers": Stream(tickers, tells="ticker", every_ns=100 * MS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time and what is said of markets; request errors come with HTTP 200."""
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


def limited(status: int | None, wait_s: int, now_ns: int) -> Answer:
    """Of its own accord the venue says 403, and not for how long."""
    del now_ns
    headers = {} if status is None else {"Retry-After": str(wait_s)}
    return Answer(status or 403, b"access too frequent", {"Content-Type": "text/plain"} | headers)


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
        "list": [
            listing(contract, request.ticker(contract.symbol).interval_h)
            for contract in found[begin:end]
        ],
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


def ticker_list(request: Request, category: str, found: list[Contract]) -> Answer:
    rows = [
        {"symbol": contract.symbol}
        | told_fields(contract, request.ticker(contract.symbol))
        | best(contract, request.tops(contract.symbol))
        | EMPTY
        for contract in found
    ]
    return result(request, {"category": category, "list": rows})


def funding_history(request: Request, category: str, found: list[Contract]) -> Answer:
    """What was paid, the newest first; a begin needs an end."""
    query = request.query
    begin, end, limit = (query.get(name) for name in ("startTime", "endTime", "limit"))
    said = [text for text in (begin, end, limit) if text is not None]
    if "symbol" not in query or not found:
        return failure(request, "params error: symbol invalid")
    if not all(text.isdigit() for text in said) or (begin and not end):
        return failure(request, "params error: time or limit invalid")
    since_ms, until_ms = int(begin or 0), int(end or request.now_ns // MS)
    rows = [
        {
            "symbol": found[0].symbol,
            "fundingRate": rate_text(rate),
            "fundingRateTimestamp": str(paid_ns // MS),
        }
        for paid_ns, rate in reversed(request.settled(found[0].symbol))
        if since_ms <= paid_ns // MS <= until_ms
    ]
    rows = rows[: min(MOST_PAYMENTS, int(limit or MOST_PAYMENTS))]
    return result(request, {"category": category, "list": rows})


def open_interest(request: Request, category: str, found: list[Contract]) -> Answer:
    """The last row alone: the present, at the last whole interval."""
    minutes = INTERVALS_MIN.get(request.query.get("intervalTime", ""))
    if "symbol" not in request.query or not found:
        return failure(request, "params error: symbol invalid")
    if minutes is None:
        return failure(request, "params error: intervalTime invalid")
    (contract,), ticker = found, request.ticker(found[0].symbol)
    row = {
        "openInterest": f"{2 * ticker.open_interest * contract.lot.value:.8f}",
        "singleOpenInterest": contract.lot.padded(ticker.open_interest),
        "timestamp": str(request.now_ns // (minutes * MINUTE_NS) * minutes * 60_000),
    }
    page = {"symbol": contract.symbol, "category": category, "list": [row], "nextPageCursor": ""}
    return result(request, page)


def recent_trades(request: Request, category: str, found: list[Contract]) -> Answer:
    """The newest first."""
    limit = request.query.get("limit", str(ROWS))
    if "symbol" not in request.query or not found:
        return failure(request, "params error: symbol invalid")
    if not limit.isdigit() or not 0 < int(limit) <= MOST_ROWS:
        return failure(request, "params error: limit invalid")
    (contract,) = found
    rows = [
        {
            "execId": trade_id(trade.number),
            "symbol": contract.symbol,
            "price": contract.tick.padded(trade.price),
            "size": contract.lot.padded(trade.lots),
            "side": "Buy" if trade.is_buy else "Sell",
            "time": str(request.ts_made_ns(trade.at_ns) // MS),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(SEQ + trade.number),
        }
        for trade in request.trades(contract.symbol)[: -int(limit) - 1 : -1]
    ]
    return result(request, {"category": category, "list": rows})


MARKET = {
    "/v5/market/instruments-info": instruments,
    "/v5/market/orderbook": book,
    "/v5/market/tickers": ticker_list,
    "/v5/market/funding/history": funding_history,
    "/v5/market/open-interest": open_interest,
    "/v5/market/recent-trade": recent_trades,
}


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


def listing(contract: Contract, interval_h: int) -> dict[str, object]:
    """A row of the instrument list; its funding interval is in minutes."""
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
        "fundingInterval": 60 * interval_h,
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
    limited=limited,
)
