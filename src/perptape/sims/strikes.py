"""How each kind of fault begins, and how it ends."""

from collections.abc import Callable, Iterable

import msgspec

from perptape.events import MS
from perptape.sims.dialect import Dialect, Hangup, Talk, same
from perptape.sims.exchange import Exchange, Limit
from perptape.sims.faults import Ability, Fault
from perptape.sims.market import Step

GONE = 1001  # close code of a disconnect: going away


class Strike(msgspec.Struct, eq=False):
    """A fault that has begun."""

    exchange: Exchange
    fault: Fault
    symbol: str | None
    ts_start: int
    until_ns: int | None
    """When it is planned to end; ``None``: never."""
    talks: list[Talk]
    """The connections that it struck."""
    turned_away: int
    """How many requests had met a limit before."""
    streams: tuple[str, ...]
    """Those that they listened to."""

    @property
    def requests(self) -> int | None:
        """Of a limit: how many it has turned away."""
        if self.fault.kind != "rate_limit":
            return None
        return self.exchange.turned_away - self.turned_away


Undo = Callable[[], None]
"""Ends a fault."""


def begin(
    exchange: Exchange, fault: Fault, now_ns: int, until_ns: int | None
) -> tuple[Strike, Undo]:
    """Let a fault begin; returns what it struck, and how it ends."""
    symbol = None if fault.instrument is None else exchange.symbol(fault.instrument)
    talks = [talk for talk in exchange.listeners(symbol) if not talk.is_dead]
    streams = {t.stream for talk in talks for t in talk.topics if symbol in (None, t.symbol)}
    strike = Strike(
        exchange, fault, symbol, now_ns, until_ns, talks, exchange.turned_away,
        tuple(sorted(streams)),
    )  # fmt: skip
    return strike, KINDS[fault.kind](strike)


def _nothing() -> None:
    """It cannot be undone."""


def _disconnect(strike: Strike) -> Undo:
    exchange = strike.exchange
    exchange.bid_farewell(strike.talks, strike.ts_start)
    exchange.hang_up(strike.talks, Hangup(GONE, "disconnect"))
    exchange.refuse(None)
    return lambda: exchange.admit(None)


def _reset(strike: Strike) -> Undo:
    exchange = strike.exchange
    exchange.hang_up(strike.talks, Hangup(None, "reset", reset=True))
    exchange.refuse(None)
    return lambda: exchange.admit(None)


def _disconnect_24h(strike: Strike) -> Undo:
    exchange = strike.exchange
    exchange.bid_farewell(strike.talks, strike.ts_start)
    return lambda: exchange.hang_up(strike.talks, Hangup(GONE, "after 24 h"))


def _half_open(strike: Strike) -> Undo:
    for talk in strike.talks:
        talk.is_dead = True
    hangup = Hangup(None, "half_open", reset=True)
    return lambda: strike.exchange.hang_up(strike.talks, hangup)


def _silence(strike: Strike) -> Undo:
    strike.exchange.mute(strike.symbol)
    return lambda: strike.exchange.unmute(strike.symbol)


def _refuse(strike: Strike) -> Undo:
    exchange = strike.exchange
    exchange.bid_farewell(strike.talks, strike.ts_start)
    exchange.hang_up(strike.talks, Hangup(GONE, "refused from now on"))
    exchange.refuse(strike.symbol)
    return lambda: exchange.admit(strike.symbol)


def _rate_limit(strike: Strike) -> Undo:
    limit = Limit(strike.fault.status, strike.until_ns)
    strike.exchange.limit(limit)
    return lambda: strike.exchange.unlimit(limit)


def _clock_step(strike: Strike) -> Undo:
    step_ns = round((strike.fault.step_ms or 0.0) * MS)
    strike.exchange.step_clock(step_ns)
    return lambda: strike.exchange.step_clock(-step_ns)


def _sequence_reset(strike: Strike) -> Undo:
    for symbol in _symbols(strike):
        strike.exchange.casts.restart_ids(symbol)
    return _nothing


def _spec_change(strike: Strike) -> Undo:
    exchange, fault = strike.exchange, strike.fault
    exchange.hang_up(strike.talks, Hangup(GONE, "specification changed"))
    steps = {"tick": fault.tick, "lot": fault.lot, "size": fault.size}
    changes = {key: Step.of(text) for key, text in steps.items() if text is not None}
    for symbol in _symbols(strike):
        contract = exchange.markets[symbol].contract
        exchange.specify(msgspec.structs.replace(contract, **changes), strike.ts_start)
    return _nothing


def _funding_interval(strike: Strike) -> Undo:
    exchange, interval_h = strike.exchange, strike.fault.interval_h
    at_ns = exchange.clock.scenario_ns(strike.ts_start)
    if interval_h is not None:
        for symbol in _symbols(strike):
            exchange.markets[symbol].tickers.change_interval(at_ns, interval_h)
    return _nothing


def _delist(strike: Strike) -> Undo:
    for symbol in _symbols(strike):
        strike.exchange.delist(symbol, strike.ts_start)

    def undo() -> None:
        for symbol in _symbols(strike):
            strike.exchange.relist(symbol)

    return undo


def _symbols(strike: Strike) -> Iterable[str]:
    return strike.exchange.markets if strike.symbol is None else (strike.symbol,)


KINDS: dict[str, Callable[[Strike], Undo]] = {
    "disconnect": _disconnect,
    "disconnect_24h": _disconnect_24h,
    "reset": _reset,
    "half_open": _half_open,
    "silence": _silence,
    "refuse": _refuse,
    "rate_limit": _rate_limit,
    "clock_step": _clock_step,
    "sequence_reset": _sequence_reset,
    "spec_change": _spec_change,
    "funding_interval": _funding_interval,
    "delist": _delist,
}


def ability(dialect: Dialect) -> Ability:
    """Which faults a venue can suffer."""
    return Ability(
        {name: stream.tells for name, stream in dialect.streams.items()},
        compresses=dialect.wrap is not same,
        has_checksum=dialect.spoil is not None,
        has_resets=any(stream.reset is not None for stream in dialect.streams.values()),
    )
