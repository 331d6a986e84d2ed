"""What Gate.io's socket says of markets: quotes, books, trades and tickers as bytes.

Sizes are integers, cut off, unless the client's handshake asked for decimals; then they are text.
"""

from typing import Literal, TypeVar

import msgspec

from perptape.events import MS, NS
from perptape.sims.dialect import Print, State, Stream, Ticker
from perptape.sims.market import Contract, Levels, delta, levels
from perptape.venues import gateio as wire

Sizes = Literal["decimal", "integer"]
U = 126_202_000_000
TRADE = 842_235_000
EVERY_NS = {"20ms": 20 * MS, "100ms": 100 * MS}
LEVELS = {"20ms": ("20",), "100ms": ("20", "50", "100")}
OBU_EVERY_NS = {"50": 20 * MS, "400": 100 * MS}
R = TypeVar("R")


def amount(contract: Contract, lots: int, sizes: str) -> str | int:
    """A size as this client sees it; below zero a taker sold."""
    text = contract.lot.text(abs(lots))
    sign = -1 if lots < 0 else 1
    if sizes == "integer":
        return sign * int(text.partition(".")[0])
    return f"-{text}" if sign < 0 else text


def push(state: State, channel: str, result: R) -> bytes:
    said: wire.Push[R] = wire.Push(
        time=state.ts_send_ns // NS,
        time_ms=state.ts_send_ns // MS,
        channel=channel,
        event="update",
        result=result,
    )
    return msgspec.json.encode(said)


def book_ticker(state: State) -> bytes:
    top, contract, sizes = state.top, state.contract, state.topic.form
    result: wire.BookTicker[str, str | int] = wire.BookTicker(
        t=state.ts_event_ns // MS,
        u=U + top.update_id,
        s=contract.symbol,
        b=contract.tick.text(top.bid),
        B=amount(contract, top.bid_lots, sizes),
        a=contract.tick.text(top.ask),
        A=amount(contract, top.ask_lots, sizes),
    )
    return push(state, wire.QUOTES, result)


def order_book_update(state: State) -> bytes:
    """Changes that begin anywhere: the book is taken by REST."""
    contract = state.contract
    sizes, _, level = state.topic.form.partition(" ")
    bids, asks = delta(contract, state.since(), state.top, int(level))
    result: wire.Update[str, str | int] = wire.Update(
        t=state.ts_event_ns // MS,
        U=U + (state.previous or state.top).update_id + 1,
        u=U + state.top.update_id,
        s=contract.symbol,
        a=rows(contract, asks, sizes),
        b=rows(contract, bids, sizes),
        l=level,
    )
    return push(state, wire.UPDATES, result)


def rows(contract: Contract, side: Levels, sizes: str) -> list[wire.Level[str, str | int]]:
    return [
        wire.Level(contract.tick.text(price), amount(contract, lots, sizes)) for price, lots in side
    ]


def obu(state: State) -> bytes:
    """A full book, then changes in no order, without the sides that did not change."""
    contract, level = state.contract, state.topic.stream.partition("@")[2]
    is_full = state.previous is None or state.is_reset
    if is_full:
        bids, asks = levels(contract, state.top, int(level))
    else:
        bids, asks = map(_mixed, delta(contract, state.since(), state.top, int(level)))
    result: wire.Depth[str, str] = wire.Depth(
        t=state.ts_event_ns // MS,
        full=is_full,
        s=f"ob.{contract.symbol}.{level}",
        U=None if is_full or state.previous is None else U + state.previous.update_id + 1,
        u=U + state.top.update_id,
        b=_pairs(contract, bids) or None,
        a=_pairs(contract, asks) or None,
    )
    return push(state, wire.OBU, result)


def _mixed(side: Levels) -> Levels:
    return sorted(side, key=lambda level: level[0] * 7919 % 101)


def _pairs(contract: Contract, side: Levels) -> list[tuple[str, str]]:
    return [(contract.tick.text(price), contract.lot.text(lots)) for price, lots in side]


def trades(state: State) -> bytes:
    """All fills of one taker order."""
    return push(state, wire.TRADES, [_fill(state, made) for made in state.trades])


def _fill(state: State, made: Print) -> wire.Print[str, str | int]:
    contract, ms = state.contract, state.ts_made_ns(made.at_ns) // MS
    return wire.Print(
        id=TRADE + made.number,
        size=amount(contract, made.lots if made.is_buy else -made.lots, state.topic.form),
        create_time=ms // 1000,
        create_time_ms=ms,
        price=contract.tick.text(made.price),
        contract=contract.symbol,
    )


def tickers(state: State) -> bytes:
    """All of it every time, the best prices not."""
    if state.ticker is None:
        return b""
    row = ticker_row(state.contract, state.ticker) | terms(state.ticker)
    row |= {"price_type": "last", "change_from": "24h", "t": state.ts_event_ns // MS}
    return push(state, wire.TICKERS, [row])


def ticker_row(contract: Contract, ticker: Ticker) -> dict[str, str | int]:
    """What socket and REST say alike; ``total_size`` counts both sides."""
    coins = ticker.volume * contract.lot.value * contract.size.value
    last = ticker.last * contract.tick.value
    rate = rate_text(ticker.rate)
    return {
        "contract": contract.symbol,
        "last": contract.tick.text(ticker.last),
        "change_percentage": f"{100 * (last / contract.price - 1):.4f}",
        "total_size": contract.lot.text(2 * ticker.open_interest),
        "volume_24h": contract.lot.text(ticker.volume),
        "volume_24h_base": f"{coins:.4f}",
        "volume_24h_quote": f"{coins * last:.0f}",
        "volume_24h_settle": f"{coins * last:.0f}",
        "mark_price": marked(contract, ticker.mark_price),
        "funding_rate": rate,
        "funding_rate_indicative": rate,
        "index_price": marked(contract, ticker.index_price),
        "quanto_base_rate": "",
        "low_24h": f"{0.98 * contract.price:.{contract.tick.decimals}f}",
        "high_24h": f"{1.02 * contract.price:.{contract.tick.decimals}f}",
    }


def terms(ticker: Ticker) -> dict[str, str | int]:
    """When and how often funding is paid, in seconds."""
    return {
        "funding_interval": ticker.interval_h * 3600,
        "funding_offset": 0,
        "funding_next_apply": ticker.ts_funding_ns // NS,
    }


def marked(contract: Contract, price: float) -> str:
    """A mark or index price: a digit finer than the tick."""
    return f"{price:.{contract.tick.decimals + 1}f}"


def rate_text(rate: float) -> str:
    """To eight decimals, without the last zeros."""
    return f"{rate:.8f}".rstrip("0").rstrip(".")


STREAMS = {
    wire.QUOTES: Stream(book_ticker, greets=False),
    wire.TRADES: Stream(trades, tells="trades", greets=False),
    wire.TICKERS: Stream(tickers, tells="ticker", every_ns=NS, greets=False),
    **{
        f"{wire.UPDATES}@{interval}": Stream(order_book_update, every_ns=every_ns, greets=False)
        for interval, every_ns in EVERY_NS.items()
    },
    **{
        f"{wire.OBU}@{level}": Stream(obu, every_ns=every_ns, reset=obu)
        for level, every_ns in OBU_EVERY_NS.items()
    },
}
