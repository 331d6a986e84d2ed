"""Bitget's half of the conversation: v2 public socket and REST of USDT-FUTURES.

Odd here: the heartbeat is the text ``ping``, a connection without one for two minutes is dropped
without a close frame, and a real symbol under a wrong instType is acknowledged and then silent.
The first push of trades tells of those before it; in every push the newest stands first.
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
)
from perptape.sims.market import Contract, Levels, Step, Top, delta, levels
from perptape.sims.scenario import COINS
from perptape.venues import bitget as wire

PING_WITHIN_NS = 120 * NS
MESSAGES_PER_S = 10
FAMILIES = (wire.FAMILY, "USDC-FUTURES", "COIN-FUTURES", "SPOT")
DEMO = ("SUSDT-FUTURES", "SUSDC-FUTURES", "SCOIN-FUTURES")
BOOKS_DEPTH = 200
SEQ = 427_583_000_000
TRADE_ID = 1_352_182_127_000_000_000
RATE_CAP = "0.003"
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
    # After the server's own reset an update follows nothing.
    follows = 0 if state.is_reset else SEQ + state.previous.update_id
    return push(state, "update", asks, bids, follows)


def trade(state: State) -> bytes:
    """The newest first; what a new listener is told is a snapshot."""
    action = "snapshot" if state.is_greeting else "update"
    rows = [execution(state.contract, made, state.ts_made_ns) for made in reversed(state.trades)]
    return data(state, action, rows)


def execution(
    contract: Contract, made: Print, ts_made_ns: Callable[[int], int]
) -> wire.Trade[str, str, str]:
    return wire.Trade(
        ts=str(ts_made_ns(made.at_ns) // MS),
        price=contract.tick.text(made.price),
        size=contract.lot.text(made.lots),
        side="buy" if made.is_buy else "sell",
        tradeId=str(TRADE_ID + made.number),
    )


def ticker(state: State) -> bytes:
    """All of it every time, changed or not."""
    if state.ticker is None:
        return b""
    symbol = state.contract.symbol
    row = {
        "instId": symbol,
        **day(state.contract, state.top, state.ticker),
        "nextFundingTime": str(state.ticker.ts_funding_ns // MS),
        "symbolType": "1",
        "symbol": symbol,
        "deliveryPrice": "0",
        "ts": str(state.ts_event_ns // MS),
    }
    return data(state, "snapshot", (row,))


def data(state: State, action: str, rows: object) -> bytes:
    arg = wire.Arg(wire.FAMILY, state.topic.stream, state.contract.symbol)
    return msgspec.json.encode(wire.Push(action, arg, rows, state.ts_send_ns // MS))


def day(contract: Contract, top: Top, told: Ticker) -> dict[str, str]:
    """What the socket's ticker and that of REST have in common."""
    tick, lot = contract.tick, contract.lot
    began = round(contract.price / contract.unit / tick.value)
    low, high = sorted((began, told.last))
    volume = told.volume * lot.value
    return {
        "lastPr": tick.text(told.last),
        "bidPr": tick.text(top.bid),
        "askPr": tick.text(top.ask),
        "bidSz": lot.text(top.bid_lots),
        "askSz": lot.text(top.ask_lots),
        "open24h": tick.text(began),
        "high24h": tick.text(high),
        "low24h": tick.text(low),
        "change24h": decimal(told.last / began - 1, 5),
        "fundingRate": decimal(told.rate, 8),
        "markPrice": tick.text(round(told.mark_price / tick.value)),
        "indexPrice": decimal(told.index_price, tick.decimals + 8),
        "holdingAmount": lot.text(told.open_interest),
        "baseVolume": lot.text(told.volume),
        "quoteVolume": decimal(volume * told.last * tick.value, 5),
        "openUtc": tick.text(began),
    }


def decimal(number: float, places: int) -> str:
    return f"{number:.{places}f}".rstrip("0").rstrip(".")


STREAMS = {
    "books1": Stream(books1),
    "books5": Stream(books5, every_ns=150 * MS),
    "books15": Stream(books15, every_ns=150 * MS),
    "books": Stream(books, every_ns=100 * MS, reset=books),
    "trade": Stream(trade, tells="trades"),
    "ticker": Stream(ticker, tells="ticker", every_ns=100 * MS),
}


def rest(request: Request, board: Board) -> Answer:
    """Server time, instruments, books, trades, tickers and funding."""
    now_ms = request.now_ns // MS
    if request.path == wire.BITGET.time_path:
        return success(now_ms, {"serverTime": str(now_ms)})
    if request.path in EMPTY:
        return success(now_ms, [])
    if request.path not in MARKET | ONE:
        return failure(404, now_ms, "40404", "Request URL NOT FOUND")
    return market(request, board, now_ms)


def market(request: Request, board: Board, now_ms: int) -> Answer:
    """A wrong family is refused, one that nothing is listed of is empty."""
    product = request.query.get("productType", "").upper()
    if product not in FAMILIES[:3] + DEMO:
        return failure(400, now_ms, "40019", f"Parameter {product} cannot be empty")
    symbol = request.query.get("symbol")
    if symbol is None and request.path in ONE:
        return failure(400, now_ms, "40019", "Parameter symbol cannot be empty")
    if product != wire.FAMILY:
        return success(now_ms, [])
    if symbol is not None and symbol not in board.contracts:
        return failure(400, now_ms, "40034", f"Parameter {symbol} does not exist")
    found = [c for c in board.contracts.values() if symbol in (None, c.symbol)]
    if request.path in ONE:
        return success(now_ms, ONE[request.path](request, found[0]))
    return success(now_ms, [MARKET[request.path](request, contract) for contract in found])


def success(now_ms: int, found: object) -> Answer:
    body = {"code": "00000", "msg": "success", "requestTime": now_ms, "data": found}
    return Answer(200, msgspec.json.encode(body))


def failure(status: int, now_ms: int, code: str, reason: str) -> Answer:
    body = {"code": code, "msg": reason, "requestTime": now_ms, "data": None}
    return Answer(status, msgspec.json.encode(body))


def merge_depth(request: Request, contract: Contract) -> dict[str, object]:
    """The book by REST: numbers, not text, and without a seq."""
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


def rest_ticker(request: Request, contract: Contract) -> dict[str, object]:
    """As the socket has it, but without the next funding time."""
    told, top = request.ticker(contract.symbol), request.tops(contract.symbol)
    row = day(contract, top, told)
    return {
        "symbol": contract.symbol,
        **row,
        "ts": str(request.ts_made_ns(told.at_ns) // MS),
        "usdtVolume": row["quoteVolume"],
        "changeUtc24h": row["change24h"],
        "deliveryStartTime": None,
        "deliveryTime": None,
        "deliveryStatus": "",
    }


def symbol_price(request: Request, contract: Contract) -> list[dict[str, object]]:
    row = rest_ticker(request, contract)
    names = ("symbol", "indexPrice", "markPrice", "ts")
    return [{"price": row["lastPr"], **{name: row[name] for name in names}}]


def open_interest(request: Request, contract: Contract) -> dict[str, object]:
    told = request.ticker(contract.symbol)
    held = {"symbol": contract.symbol, "size": contract.lot.text(told.open_interest)}
    return {"openInterestList": [held], "ts": str(request.now_ns // MS)}


def fund_rate(request: Request, contract: Contract) -> wire.FundRate[str, str, str]:
    told = request.ticker(contract.symbol)
    return wire.FundRate(
        symbol=contract.symbol,
        fundingRate=decimal(told.rate, 8),
        fundingRateInterval=str(told.interval_h),
        nextUpdate=str(told.ts_funding_ns // MS),
        minFundingRate=f"-{RATE_CAP}",
        maxFundingRate=RATE_CAP,
    )


def funding_time(request: Request, contract: Contract) -> list[dict[str, str]]:
    told = request.ticker(contract.symbol)
    due = str(told.ts_funding_ns // MS)
    row = {"symbol": contract.symbol, "nextFundingTime": due, "ratePeriod": str(told.interval_h)}
    return [row]


def paid_rates(request: Request, contract: Contract) -> list[wire.PaidRate[str, str]]:
    """The newest first, in pages."""
    size = min(100, counted(request, "pageSize", 20))
    begin = size * (counted(request, "pageNo", 1) - 1)
    paid = request.settled(contract.symbol)[::-1][begin : begin + size]
    return [
        wire.PaidRate(contract.symbol, decimal(rate, 8), str(ts_ns // MS)) for ts_ns, rate in paid
    ]


def counted(request: Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return max(1, int(text)) if text.isdecimal() else default


def fills(request: Request, contract: Contract) -> list[dict[str, str]]:
    return filled(request, contract, min(100, counted(request, "limit", 100)))


def fills_history(request: Request, contract: Contract) -> list[dict[str, str]]:
    """The same, only more of them, and the sides are capitalised."""
    rows = filled(request, contract, min(1000, counted(request, "limit", 500)))
    return [row | {"side": row["side"].capitalize()} for row in rows]


def filled(request: Request, contract: Contract, count: int) -> list[dict[str, str]]:
    made: Sequence[Print] = request.trades(contract.symbol)[-count:]
    rows = (execution(contract, each, request.ts_made_ns) for each in reversed(made))
    return [msgspec.structs.asdict(row) | {"symbol": contract.symbol} for row in rows]


def listing(request: Request, contract: Contract) -> dict[str, object]:
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
        "fundInterval": str(request.ticker(contract.symbol).interval_h),
        "minLever": "1",
        "maxLever": "125",
        "posLimit": "0.1",
    }


EMPTY = ("/api/v2/spot/public/coins", "/api/v2/spot/public/symbols", "/api/v2/margin/currencies")
"""Lists of what this venue trades besides, and here does not."""
MARKET: dict[str, Callable[[Request, Contract], object]] = {
    f"{wire.MARKET}/contracts": listing,
    f"{wire.MARKET}/current-fund-rate": fund_rate,
    f"{wire.MARKET}/tickers": rest_ticker,
}
"""A row of each contract, or of one."""
ONE: dict[str, Callable[[Request, Contract], object]] = {
    f"{wire.MARKET}/merge-depth": merge_depth,
    f"{wire.MARKET}/ticker": lambda request, contract: [rest_ticker(request, contract)],
    f"{wire.MARKET}/symbol-price": symbol_price,
    f"{wire.MARKET}/open-interest": open_interest,
    f"{wire.MARKET}/funding-time": funding_time,
    f"{wire.MARKET}/history-fund-rate": paid_rates,
    f"{wire.MARKET}/fills": fills,
    f"{wire.MARKET}/fills-history": fills_history,
}
"""Of one contract, which must be named."""


BITGET = Dialect(
    name="bitget",
    paths=("/v2/ws/public",),
    contracts=CONTRACTS,
    streams=STREAMS,
    hear=hear,
    beat=beat,
    rest=rest,
)
