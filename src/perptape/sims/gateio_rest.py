"""Gate.io's REST: server time, contracts, tickers, books, trades and funding of USDT perpetuals.

Odd here: the time of a trade is in seconds under a name that says milliseconds, a payment is booked
up to two seconds after the hour, and a contract's fee fields are not what is paid.
"""

from collections.abc import Callable, Mapping

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import Answer, Board, Request
from perptape.sims.gateio_frames import (
    TRADE,
    Sizes,
    U,
    amount,
    marked,
    rate_text,
    rows,
    terms,
    ticker_row,
)
from perptape.sims.market import Contract, Step, levels
from perptape.venues import gateio as wire

DECIMAL = "x-gate-size-decimal"
MARKETS = f"{wire.MARKETS}/"
MOST_LEVELS = 300
ROWS, MOST_ROWS = 100, 1000  # of trades and payments: if the request says nothing, and ever
HOUR_S, DAY_S, OLDEST_DAYS = 3600, 86_400, 180
EMPTY = {  # product families that this simulator lacks
    "/api/v4/spot/currencies",
    "/api/v4/spot/currency_pairs",
    "/api/v4/margin/currency_pairs",
    "/api/v4/futures/btc/contracts",
    "/api/v4/delivery/usdt/contracts",
    "/api/v4/delivery/btc/contracts",
    "/api/v4/options/underlyings",
}


class Unfit(Exception):
    """A request that is answered with an error: its label and words."""

    def __init__(self, label: str, words: str = "") -> None:
        super().__init__(label)
        self.words = words


def rest(request: Request, board: Board) -> Answer:
    if request.path == "/api/v4/spot/time":
        return Answer(200, f'{{"server_time":{request.now_ns // MS}}}'.encode())
    if request.path in EMPTY:
        return Answer(200, b"[]")
    what, _, name = request.path.removeprefix(MARKETS).partition("/")
    known = request.path.startswith(MARKETS)
    try:
        if known and what == "contracts" and name:
            return said(listing(request, find(board, name)))
        if known and what in CALLS and not name:
            return said(CALLS[what](request, board))
    except Unfit as e:
        return failure(400, str(e), e.words)
    return failure(404, "NOT_FOUND", "no such path")


def said(body: object) -> Answer:
    return Answer(200, msgspec.json.encode(body))


def failure(status: int, label: str, message: str = "") -> Answer:
    body = {"label": label} | ({"message": message} if message else {})
    return Answer(status, msgspec.json.encode(body))


def find(board: Board, name: str | None) -> Contract:
    if name is None:
        raise Unfit("MISSING_REQUIRED_PARAM", "contract")
    if name not in board.contracts:
        raise Unfit("CONTRACT_NOT_FOUND")
    return board.contracts[name]


def limit(query: Mapping[str, str], usual: int, most: int) -> int:
    text = query.get("limit", str(usual))
    if not text.isdigit() or int(text) < 1:
        raise Unfit("INVALID_PARAM_VALUE", "limit")
    if int(text) > most:
        raise Unfit("TOO_BIG", f"limit {most}")
    return int(text)


def sizes_of(request: Request) -> Sizes:
    return "decimal" if request.headers.get(DECIMAL) == "1" else "integer"


def contracts(request: Request, board: Board) -> list[dict[str, object]]:
    return [listing(request, contract) for contract in board.contracts.values()]


def tickers(request: Request, board: Board) -> list[dict[str, str | int]]:
    """As on the socket, with the best prices, without the times of funding."""
    name = request.query.get("contract")
    found = board.contracts.values() if name is None else [find(board, name)]
    return [ticker(request, contract) for contract in found]


def ticker(request: Request, contract: Contract) -> dict[str, str | int]:
    top, sizes = request.tops(contract.symbol), sizes_of(request)
    return ticker_row(contract, request.ticker(contract.symbol)) | {
        "highest_bid": contract.tick.text(top.bid),
        "highest_size": str(amount(contract, top.bid_lots, sizes)),
        "lowest_ask": contract.tick.text(top.ask),
        "lowest_size": str(amount(contract, top.ask_lots, sizes)),
    }


def order_book(request: Request, board: Board) -> dict[str, object]:
    """Of the same id space as the socket's books; ``id`` only when asked for."""
    contract = find(board, request.query.get("contract"))
    depth = limit(request.query, 10, MOST_LEVELS)
    top, sizes = request.tops(contract.symbol), sizes_of(request)
    bids, asks = levels(contract, top, depth)
    with_id = request.query.get("with_id", "").lower() == "true"
    return {
        "current": request.now_ns // MS / 1000,
        "update": request.ts_event_ns(top) // MS / 1000,
        "asks": rows(contract, asks, sizes),
        "bids": rows(contract, bids, sizes),
    } | ({"id": U + top.update_id} if with_id else {})


def trades(request: Request, board: Board) -> list[dict[str, object]]:
    """The newest first."""
    contract = find(board, request.query.get("contract"))
    count, sizes = limit(request.query, ROWS, MOST_ROWS), sizes_of(request)
    found = []
    for made in reversed(request.trades(contract.symbol)[-count:]):
        made_s = request.ts_made_ns(made.at_ns) // MS / 1000
        found.append(
            {
                "id": TRADE + made.number,
                "contract": contract.symbol,
                "create_time": made_s,
                "create_time_ms": made_s,
                "size": amount(contract, made.lots if made.is_buy else -made.lots, sizes),
                "price": contract.tick.text(made.price),
            }
        )
    return found


def funding_rate(request: Request, board: Board) -> list[dict[str, object]]:
    """What was paid, the newest first."""
    contract = find(board, request.query.get("contract"))
    count, now_s = limit(request.query, ROWS, MOST_ROWS), request.now_ns // NS
    begin, end = (request.query.get(name, usual) for name, usual in span(now_s))
    if not begin.isdigit() or not end.isdigit() or now_s - int(begin) > OLDEST_DAYS * DAY_S:
        raise Unfit("INVALID_PARAM_VALUE", "from or to")
    paid = [(booked(ns // NS), rate) for ns, rate in request.settled(contract.symbol)]
    found = [(at_s, rate) for at_s, rate in paid if int(begin) <= at_s <= int(end)]
    return [{"r": rate_text(rate), "t": at_s} for at_s, rate in reversed(found[-count:])]


def span(now_s: int) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("from", str(now_s - OLDEST_DAYS * DAY_S)), ("to", str(now_s))


def booked(due_s: int) -> int:
    """Nought to two seconds late."""
    return due_s + due_s // HOUR_S % 3


def listing(request: Request, contract: Contract) -> dict[str, object]:
    """A row of the contract list."""
    top, ticker = request.tops(contract.symbol), request.ticker(contract.symbol)
    sizes, rate = sizes_of(request), rate_text(ticker.rate)
    return {
        "funding_rate_indicative": rate,
        "mark_price_round": Step(1, contract.tick.decimals + 1).text(1),
        "in_delisting": False,
        "interest_rate": "0.0003",
        "index_price": marked(contract, ticker.index_price),
        "order_price_round": contract.tick.text(1),
        "order_size_min": amount(contract, 1, sizes),
        "enable_decimal": contract.lot.decimals > 0,
        "name": contract.symbol,
        "order_price_deviate": "0.03",
        "maintenance_rate": "0.003",
        "mark_type": "index",
        **terms(ticker),
        "type": "direct",
        "leverage_min": "1",
        "leverage_max": "200",
        "funding_rate": rate,
        "last_price": contract.tick.text(ticker.last),
        "mark_price": marked(contract, ticker.mark_price),
        "order_size_max": amount(contract, 1000 * contract.typical_lots, sizes),
        "position_size": amount(contract, ticker.open_interest, sizes),
        "maker_fee_rate": "-0.0001",
        "taker_fee_rate": "0.00075",
        "trade_id": TRADE + request.trades(contract.symbol)[-1].number,
        "orderbook_id": U + top.update_id,
        "quanto_multiplier": contract.size.text(1),
        "status": "trading",
        "is_pre_market": False,
        "contract_type": "",
        "launch_time": 1_574_035_200,
        "funding_rate_limit": "0.003",
    }


CALLS: Mapping[str, Callable[[Request, Board], object]] = {
    "contracts": contracts,
    "tickers": tickers,
    "order_book": order_book,
    "trades": trades,
    "funding_rate": funding_rate,
}
