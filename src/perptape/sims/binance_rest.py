"""Binance's REST of USD-M, as far as it tells of markets."""

from collections.abc import Callable
from typing import Literal

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import Answer, Board, Print, Request
from perptape.sims.market import Contract, Levels, levels
from perptape.venues import binance as wire

U = 5_123_000_000_000
"""Where the ids begin that books, quotes and REST share; likewise ``TRADES``."""
TRADES = 5_266_000_000
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)
USUAL_H = 8
FUNDED_AFTER_MS = 7  # fundingTime is up to so much past the hour
ROWS, MOST_ROWS = {"fundingRate": 100, "trades": 500, "aggTrades": 500}, 1000


def rows(contract: Contract, side: Levels) -> list[tuple[str, str]]:
    tick, lot = contract.tick, contract.lot
    return [(tick.padded(price), lot.padded(lots)) for price, lots in side]


def rest(request: Request, board: Board) -> Answer:
    """Of USD-M; other families have no symbols."""
    if request.path in {"/api/v3/exchangeInfo", "/dapi/v1/exchangeInfo", "/eapi/v1/exchangeInfo"}:
        return _json({"timezone": "UTC", "serverTime": request.now_ns // MS, "symbols": []})
    read = CALLS.get(request.path.removeprefix("/fapi/v1/"))
    if read is None or not request.path.startswith("/fapi/v1/"):
        return _failure(-5000, f"Path {request.path}, Method GET is invalid", status=404)
    symbol = request.query.get("symbol")
    if symbol is not None and symbol not in board.contracts:
        return _failure(-1121, "Invalid symbol.")
    for name in ("limit", "startTime", "endTime"):
        if not request.query.get(name, "1").isdigit():
            return _failure(-1130, f"Data sent for parameter '{name}' is not valid.")
    if not 0 < int(request.query.get("limit", "1")) <= MOST_ROWS:
        return _failure(-1130, "Data sent for parameter 'limit' is not valid.")
    return read(request, board)


def _json(body: object) -> Answer:
    return Answer(200, msgspec.json.encode(body))


def _failure(code: int, words: str, status: int = 400) -> Answer:
    return Answer(status, msgspec.json.encode({"code": code, "msg": words}))


Row = dict[str, object]
Tell = Callable[[Request, Contract], object]


def of_one(tell: Tell) -> Callable[[Request, Board], Answer]:
    """A call that must name a symbol."""

    def call(request: Request, board: Board) -> Answer:
        if "symbol" not in request.query:
            words = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return _failure(-1102, words)
        return _json(tell(request, board.contracts[request.query["symbol"]]))

    return call


def of_one_or_all(tell: Tell) -> Callable[[Request, Board], Answer]:
    """A call that gives a row for a symbol, or else a list for all."""

    def call(request: Request, board: Board) -> Answer:
        if "symbol" in request.query:
            return _json(tell(request, board.contracts[request.query["symbol"]]))
        return _json([tell(request, contract) for contract in board.contracts.values()])

    return call


def clock(request: Request, board: Board) -> Answer:
    del board
    return _json({"serverTime": request.now_ns // MS})


def exchange_info(request: Request, board: Board) -> Answer:
    return _json(
        {
            "timezone": "UTC",
            "serverTime": request.now_ns // MS,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": 2400,
                }
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [listing(contract) for contract in board.contracts.values()],
        }
    )


def listing(contract: Contract) -> Row:
    """A row of the instrument list."""
    tick, lot = contract.tick, contract.lot
    most = lot.padded(1000 * contract.typical_lots)
    return {
        "symbol": contract.symbol,
        "pair": contract.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": tick.decimals,
        "quantityPrecision": lot.decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick.padded(1),
                "maxPrice": tick.padded(round(20 * contract.price / tick.value)),
                "tickSize": tick.padded(1),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": lot.padded(1),
                "maxQty": most,
                "stepSize": lot.padded(1),
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": lot.padded(1),
                "maxQty": most,
                "stepSize": lot.padded(1),
            },
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
        "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }


def depth(request: Request, board: Board) -> Answer:
    """The first levels of the book that is published; it lags what sockets were told."""
    limit = int(request.query.get("limit", "500"))
    if limit not in DEPTHS:
        return _failure(-4021, f"{limit} is not valid depth limit.")
    return of_one(lambda request, contract: _book(request, contract, limit))(request, board)


def _book(request: Request, contract: Contract, limit: int) -> wire.Snapshot[str, str]:
    top = request.tops(contract.symbol)
    bids, asks = levels(contract, top, limit)
    return wire.Snapshot(
        lastUpdateId=U + top.update_id,
        E=request.now_ns // MS,
        T=request.ts_event_ns(top) // MS,
        bids=rows(contract, bids),
        asks=rows(contract, asks),
    )


def book_ticker_row(request: Request, contract: Contract) -> Row:
    top, (tick, lot) = request.tops(contract.symbol), (contract.tick, contract.lot)
    return {
        "symbol": contract.symbol,
        "bidPrice": tick.padded(top.bid),
        "bidQty": lot.padded(top.bid_lots),
        "askPrice": tick.padded(top.ask),
        "askQty": lot.padded(top.ask_lots),
        "time": request.ts_event_ns(top) // MS,
        "lastUpdateId": U + top.update_id,
    }


def day_row(request: Request, contract: Contract) -> Row:
    ticker, ms = request.ticker(contract.symbol), request.now_ns // MS
    last, volume = contract.tick.padded(ticker.last), contract.lot.padded(ticker.volume)
    return {
        "symbol": contract.symbol,
        "priceChange": "0",
        "priceChangePercent": "0.000",
        "weightedAvgPrice": last,
        "lastPrice": last,
        "lastQty": contract.lot.padded(1),
        "openPrice": last,
        "highPrice": last,
        "lowPrice": last,
        "volume": volume,
        "quoteVolume": f"{float(volume) * float(last):.2f}",
        "openTime": ms - 86_400_000,
        "closeTime": ms,
        "firstId": TRADES,
        "lastId": TRADES,
        "count": 1,
    }


def premium_index(request: Request, contract: Contract) -> Row:
    ticker = request.ticker(contract.symbol)
    mark = f"{ticker.mark_price:.8f}"
    return {
        "symbol": contract.symbol,
        "markPrice": mark,
        "indexPrice": f"{ticker.index_price:.8f}",
        "estimatedSettlePrice": mark,
        "lastFundingRate": f"{ticker.rate:.8f}",
        "interestRate": "0.00010000",
        "nextFundingTime": ticker.ts_funding_ns // MS,
        "time": request.now_ns // MS,
    }


def open_interest(request: Request, contract: Contract) -> wire.OpenInterest[str]:
    held = contract.lot.padded(request.ticker(contract.symbol).open_interest)
    return wire.OpenInterest(held, contract.symbol, request.now_ns // MS)


def funding_info(request: Request, board: Board) -> Answer:
    """Of the symbols whose interval is not the usual one, and of no others."""
    hours = {symbol: request.ticker(symbol).interval_h for symbol in board.contracts}
    rows = [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.02000000",
            "adjustedFundingRateFloor": "-0.02000000",
            "fundingIntervalHours": interval_h,
            "disclaimer": False,
        }
        for symbol, interval_h in hours.items()
        if interval_h != USUAL_H
    ]
    return _json(rows)


def funding_rate(request: Request, board: Board) -> Answer:
    """What was paid, the oldest first."""
    symbol = request.query.get("symbol")
    begin_ms = int(request.query.get("startTime", "0"))
    end_ms = int(request.query.get("endTime", str(1 << 62)))
    rows = [
        (ns // MS + ns // NS // 3600 % FUNDED_AFTER_MS, each, rate)
        for each in ([symbol] if symbol else board.contracts)
        for ns, rate in request.settled(each)
    ]
    found = sorted(row for row in rows if begin_ms <= row[0] <= end_ms)
    limit = int(request.query.get("limit", ROWS["fundingRate"]))
    found = found[:limit] if "startTime" in request.query else found[-limit:]
    return _json([_paid(request, *row) for row in found])


def _paid(request: Request, at_ms: int, symbol: str, rate: float) -> Row:
    return {
        "symbol": symbol,
        "fundingTime": at_ms,
        "fundingRate": f"{rate:.8f}",
        "markPrice": f"{request.ticker(symbol).mark_price:.8f}",
        "rateType": "Regular",
    }


def trades(request: Request, contract: Contract) -> list[Row]:
    return [
        {
            "id": TRADES + made.number,
            "price": contract.tick.padded(made.price),
            "qty": contract.lot.padded(made.lots),
            "quoteQty": f"{made.price * contract.tick.value * made.lots * contract.lot.value:.2f}",
            "time": request.ts_made_ns(made.at_ns) // MS,
            "isBuyerMaker": not made.is_buy,
            "isRPITrade": False,
        }
        for made in _last(request, contract, "trades")
    ]


def agg_trades(request: Request, contract: Contract) -> list[Row]:
    return [
        {
            "a": made.number,
            "p": contract.tick.padded(made.price),
            "q": contract.lot.padded(made.lots),
            "nq": contract.lot.padded(made.lots),
            "f": TRADES + made.number,
            "l": TRADES + made.number,
            "T": request.ts_made_ns(made.at_ns) // MS,
            "m": not made.is_buy,
        }
        for made in _last(request, contract, "aggTrades")
    ]


def _last(
    request: Request, contract: Contract, what: Literal["trades", "aggTrades"]
) -> tuple[Print, ...]:
    return request.trades(contract.symbol)[-int(request.query.get("limit", ROWS[what])) :]


CALLS: dict[str, Callable[[Request, Board], Answer]] = {
    "time": clock,
    "exchangeInfo": exchange_info,
    "depth": depth,
    "premiumIndex": of_one_or_all(premium_index),
    "openInterest": of_one(open_interest),
    "fundingInfo": funding_info,
    "fundingRate": funding_rate,
    "trades": of_one(trades),
    "aggTrades": of_one(agg_trades),
    "ticker/bookTicker": of_one_or_all(book_ticker_row),
    "ticker/24hr": of_one_or_all(day_row),
}
