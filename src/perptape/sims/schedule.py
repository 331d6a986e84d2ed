"""What a scenario plans, done on time and told as it really happened."""

from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from perptape.events import NS
from perptape.sims.exchange import Exchange
from perptape.sims.faults import KINDS, Fault, plan
from perptape.sims.hurt import Hurt, Struck
from perptape.sims.scenario import Episode, Scenario
from perptape.sims.strikes import Strike, Undo, ability, begin
from perptape.sims.truth import Fact

FOREVER_NS = 1 << 62


class Running(msgspec.Struct, eq=False):
    """A fault that has begun."""

    strike: Strike
    undo: Undo


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
        abilities = {name: ability(exchange.dialect) for name, exchange in exchanges.items()}
        self._ahead = plan(
            scenario.faults, scenario.random_faults, scenario.seed, abilities, scenario.instruments
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
        for running in [r for r in self._running if (r.strike.until_ns or FOREVER_NS) <= now_ns]:
            self._end(running, now_ns)
        while self._ahead and self._ahead[0].at_ns <= scenario_ns:
            self._begin(self._ahead.pop(0), now_ns)
        self._watch(now_ns)
        moments = [self._start_ns + fault.at_ns for fault in self._ahead[:1]]
        moments += [r.strike.until_ns for r in self._running if r.strike.until_ns is not None]
        return min(moments, default=now_ns + NS)

    def close(self, now_ns: int) -> None:
        """The run ends: tell what has begun."""
        for running in list(self._running):
            self._end(running, now_ns, cut=running.strike.until_ns is not None)
        for watched in list(self._watched):
            if watched.sent_start is not None:
                self._tell_episode(watched, now_ns, cut=True)

    def _begin(self, fault: Fault, now_ns: int) -> None:
        exchange, form = self._exchanges[fault.venue], KINDS[fault.kind]
        if form.is_of_frames:
            symbol = None if fault.instrument is None else exchange.symbol(fault.instrument)
            told = partial(self._tell_struck, exchange, fault)
            exchange.casts.hurts.append(Hurt(fault, symbol, fault.frames, told))
            return
        lasts_ns = 0 if fault.lasts_ns is None and form.is_once else fault.lasts_ns
        until_ns = None if lasts_ns is None else now_ns + lasts_ns
        running = Running(*begin(exchange, fault, now_ns, until_ns))
        if fault.kind == "clock_step":
            self._tell_clock(exchange, now_ns)
        self._running.append(running)
        if not lasts_ns and form.is_once:
            self._end(running, now_ns)

    def _end(self, running: Running, now_ns: int, *, cut: bool = False) -> None:
        self._running.remove(running)
        running.undo()
        strike, fault = running.strike, running.strike.fault
        if fault.kind == "clock_step" and not cut:
            self._tell_clock(strike.exchange, now_ns)
        self._tell(
            Fact(
                what="fault",
                kind=fault.kind,
                venue=fault.venue,
                market=None
                if strike.symbol is None
                else strike.exchange.market_name(strike.symbol),
                ts_start=strike.ts_start,
                ts_end=now_ns,
                connections=tuple(talk.number for talk in strike.talks),
                streams=strike.streams,
                requests=strike.requests,
                step_ms=fault.step_ms,
                tick=fault.tick,
                lot=fault.lot,
                size=fault.size,
                interval_h=fault.interval_h,
                cut=cut,
            )
        )

    def _market(self, venue: str, instrument: str) -> str:
        """As the venue lists the coin: ``hyperliquid:BTC-USD-PERP``."""
        contract = self._exchanges[venue].dialect.contract(instrument.partition("-")[0])
        return f"{venue}:{contract.instrument}"

    def _tell_struck(self, exchange: Exchange, fault: Fault, struck: Struck) -> None:
        topic = struck.topic
        self._tell(
            Fact(
                what="fault",
                kind=fault.kind,
                venue=fault.venue,
                market=exchange.market_name(topic.symbol),
                stream=topic.stream,
                symbol=topic.symbol,
                ts_start=struck.ts_start,
                ts_end=struck.ts_end,
                connections=struck.connections,
                damage=fault.damage if fault.kind == "corrupt" else None,
                crc32=struck.crc32,
                frames=struck.frames,
                cut=struck.cut,
            )
        )

    def _tell_clock(self, exchange: Exchange, now_ns: int) -> None:
        """The venue's clock has jumped."""
        self._tell(
            Fact(
                what="clock",
                venue=exchange.name,
                ts_start=now_ns,
                ts_end=now_ns,
                offset_ns=exchange.offset_ns,
            )
        )

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
