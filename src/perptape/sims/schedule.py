"""What a scenario plans, done on time and told as it really happened."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from perptape.events import NS
from perptape.sims.dialect import Hangup, Talk
from perptape.sims.exchange import Exchange, Hurt
from perptape.sims.scenario import Episode, Fault, Scenario
from perptape.sims.truth import Fact

FOREVER_NS = 1 << 62
GONE = 1001  # close code of a disconnect: going away


class Running(msgspec.Struct, eq=False):
    """A fault that has begun."""

    fault: Fault
    ts_start: int
    struck: tuple[int, ...]
    undo: Callable[[], None]
    end_ns: int
    """Scenario time."""


class Watched(msgspec.Struct, eq=False):
    """An episode, and when the selling venue said so."""

    episode: Episode
    sent_start: int | None = None
    sent_end: int | None = None


class Schedule:
    """Faults and episodes of one run; ``tell`` is given every fact once it is over."""

    def __init__(
        self, scenario: Scenario, exchanges: Mapping[str, Exchange], tell: Callable[[Fact], None]
    ) -> None:
        self._exchanges = exchanges
        self._tell = tell
        self._ahead = sorted(
            (fault for fault in scenario.faults if fault.venue in exchanges),
            key=lambda fault: fault.at_ns,
        )
        self._running: list[Running] = []
        self._watched = [
            Watched(e) for e in scenario.episodes if e.sell in exchanges and e.buy in exchanges
        ]
        self._start_ns = 0

    def start(self, now_ns: int) -> None:
        """Scenario time begins."""
        self._start_ns = now_ns

    def turn(self, now_ns: int) -> int:
        """Begin and end what is due; returns when to come again."""
        scenario_ns = now_ns - self._start_ns
        for running in [r for r in self._running if r.end_ns <= scenario_ns]:
            self._end(running, now_ns)
        while self._ahead and self._ahead[0].at_ns <= scenario_ns:
            self._begin(self._ahead.pop(0), now_ns)
        self._watch(now_ns)
        moments = [fault.at_ns for fault in self._ahead[:1]]
        moments += [running.end_ns for running in self._running]
        return self._start_ns + min(moments, default=scenario_ns + NS)

    def close(self, now_ns: int) -> None:
        """The run ends: tell what has begun."""
        for running in list(self._running):
            self._end(running, now_ns, cut=running.end_ns != FOREVER_NS)
        for watched in list(self._watched):
            if watched.sent_start is not None:
                self._tell_episode(watched, now_ns, cut=True)

    def _begin(self, fault: Fault, now_ns: int) -> None:
        exchange = self._exchanges[fault.venue]
        symbol = None if fault.instrument is None else exchange.symbol(fault.instrument)
        if fault.kind == "corrupt":
            self._hurt(fault, exchange, symbol)
            return
        struck = exchange.listeners(symbol)
        undo = _strike(fault, exchange, symbol, struck, now_ns)
        lasts_ns = fault.lasts_ns
        if lasts_ns is None:
            lasts_ns = 0 if fault.kind in ("disconnect", "reset") else FOREVER_NS - fault.at_ns
        running = Running(
            fault, now_ns, tuple(talk.number for talk in struck), undo, fault.at_ns + lasts_ns
        )
        if lasts_ns:
            self._running.append(running)
        else:
            undo()
            self._tell_fault(running, now_ns)

    def _end(self, running: Running, now_ns: int, *, cut: bool = False) -> None:
        self._running.remove(running)
        running.undo()
        self._tell_fault(running, now_ns, cut=cut)

    def _tell_fault(self, running: Running, now_ns: int, *, cut: bool = False) -> None:
        fault, name = running.fault, running.fault.instrument
        self._tell(
            Fact(
                what="fault",
                kind=fault.kind,
                venue=fault.venue,
                market=None if name is None else self._market(fault.venue, name),
                ts_start=running.ts_start,
                ts_end=now_ns,
                connections=running.struck,
                cut=cut,
            )
        )

    def _market(self, venue: str, instrument: str) -> str:
        """As the venue lists the coin: ``hyperliquid:BTC-USD-PERP``."""
        contracts = self._exchanges[venue].dialect.contracts
        return f"{venue}:{contracts[instrument.partition('-')[0]].instrument}"

    def _hurt(self, fault: Fault, exchange: Exchange, symbol: str | None) -> None:
        def done(symbol: str, crc32: int, now_ns: int) -> None:
            self._tell(
                Fact(
                    what="fault",
                    kind="corrupt",
                    venue=fault.venue,
                    market=f"{fault.venue}:{exchange.board.contracts[symbol].instrument}",
                    ts_start=now_ns,
                    ts_end=now_ns,
                    connections=tuple(talk.number for talk in exchange.listeners(symbol)),
                    damage=fault.damage,
                    crc32=crc32,
                )
            )

        exchange.hurt.append(Hurt(symbol, fault.damage, done))

    def _watch(self, now_ns: int) -> None:
        for watched in list(self._watched):
            episode = watched.episode
            exchange = self._exchanges[episode.sell]
            published = exchange.markets[exchange.symbol(episode.instrument)].feed.current.at_ns
            if watched.sent_start is None and published >= episode.at_ns:
                watched.sent_start = now_ns
            if published >= episode.end_ns:
                watched.sent_end = now_ns
                self._tell_episode(watched, now_ns)

    def _tell_episode(self, watched: Watched, now_ns: int, *, cut: bool = False) -> None:
        self._watched.remove(watched)
        episode = watched.episode
        self._tell(
            Fact(
                what="episode",
                market=self._market(episode.sell, episode.instrument),
                buy=self._market(episode.buy, episode.instrument),
                edge_bps=episode.edge_bps,
                ts_start=self._start_ns + episode.at_ns,
                ts_end=min(now_ns, self._start_ns + episode.end_ns),
                ts_sent_start=watched.sent_start,
                ts_sent_end=watched.sent_end,
                cut=cut,
            )
        )


def _strike(
    fault: Fault, exchange: Exchange, symbol: str | None, struck: Iterable[Talk], now_ns: int
) -> Callable[[], None]:
    """Let a fault begin; returns how it ends."""
    if fault.kind == "silence":
        exchange.mute(symbol)
        return lambda: exchange.unmute(symbol)
    if fault.kind == "refuse":
        exchange.hang_up(struck, Hangup(GONE, "refused from now on"), now_ns)
        exchange.refuse(symbol)
        return lambda: exchange.admit(symbol)
    reset = fault.kind == "reset"
    exchange.hang_up(struck, Hangup(None if reset else GONE, fault.kind, reset), now_ns)
    exchange.refuse(None)
    return lambda: exchange.admit(None)
