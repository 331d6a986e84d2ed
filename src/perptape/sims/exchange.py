"""One simulated exchange without its sockets: it is told what comes in and what time it is."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from perptape.events import MS, NS
from perptape.sims.casts import Casts
from perptape.sims.dialect import (
    Act,
    Answer,
    Board,
    Dialect,
    Hangup,
    Join,
    Part,
    Ping,
    Request,
    Span,
    Talk,
    Topic,
)
from perptape.sims.market import Contract
from perptape.sims.markets import Clock, Market
from perptape.sims.scenario import Scenario

LIMITED_S = 60  # what a client is told to wait if the limit never ends


class Limit(NamedTuple):
    """Requests are turned away for now."""

    status: int | None
    """``None``: the venue's own."""
    until_ns: int | None


class Exchange:
    """The venue's side of all its connections. Times are true wall time in ns.

    ``on_start`` is called with the time of the first accepted subscription, before its data.
    """

    def __init__(
        self, dialect: Dialect, scenario: Scenario, on_start: Callable[[int], None]
    ) -> None:
        self.dialect = dialect
        self.name = dialect.name
        listed = [dialect.contract(name.partition("-")[0]) for name in scenario.instruments]
        self.board = Board({contract.symbol: contract for contract in listed})
        self.markets = {c.symbol: Market(scenario, dialect.name, c) for c in listed}
        self.feeds = {symbol: market.feed for symbol, market in self.markets.items()}
        self.talks: list[Talk] = []
        self.connections = 0
        self.turned_away = 0
        """How many requests met a limit."""
        offset_ms = scenario.venues[dialect.name].clock_offset_ms
        self.clock = Clock(round(offset_ms * MS))
        self.casts = Casts(dialect, self.markets, self.clock)
        self._shut: list[str | None] = []
        """Symbols that are refused; ``None``: new connections are."""
        self._limits: list[Limit] = []
        self._on_start = on_start

    @property
    def offset_ns(self) -> int:
        """The venue's clock minus true time."""
        return self.clock.offset_ns

    def start(self, now_ns: int) -> None:
        """Let scenario time run from here."""
        self.clock.start_ns = now_ns

    def symbol(self, instrument: str) -> str:
        return self.dialect.contract(instrument.partition("-")[0]).symbol

    def connect(self, path: str, headers: Mapping[str, str], now_ns: int) -> Talk:
        """A client's websocket is open."""
        self.connections += 1
        token = hashlib.blake2b(f"{self.name} {self.connections}".encode(), digest_size=16)
        there_ns = now_ns + self.offset_ns
        name = token.hexdigest()
        talk = Talk(self.connections, name, path, headers, there_ns, there_ns, there_ns)
        self._act(talk, self.dialect.beat(talk, there_ns), now_ns)
        self.talks.append(talk)
        return talk

    def leave(self, talk: Talk, now_ns: int) -> list[tuple[Topic, Span]]:
        """The connection is gone; returns what was sent on it."""
        if talk in self.talks:
            self.talks.remove(talk)
        for topic in list(talk.topics):
            self.casts.part(talk, topic, now_ns)
        return talk.parted

    def hear(self, talk: Talk, payload: bytes, now_ns: int) -> None:
        """A client's message; what follows is in ``talk.outbox`` and ``talk.ended``."""
        if talk.is_dead:
            return
        there_ns = now_ns + self.offset_ns
        acts = self.dialect.hear(talk, payload, self.board, there_ns)
        talk.heard_ns = there_ns
        self._act(talk, acts, now_ns)

    def touch(self, talk: Talk, now_ns: int, *, is_pong: bool = False) -> None:
        """A client's protocol-level ping or pong."""
        talk.heard_ns = now_ns + self.offset_ns
        if is_pong:
            talk.ponged_ns = talk.heard_ns

    def rest(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        now_ns: int,
        body: bytes = b"",
    ) -> Answer:
        """Answer an HTTP GET, or a POST."""
        clock, markets = self.clock, self.markets
        there_ns, at_ns = clock.there_ns(now_ns), clock.scenario_ns(now_ns)
        request = Request(
            path,
            query,
            headers,
            there_ns,
            tops=lambda symbol: markets[symbol].feed.current,
            ts_event_ns=lambda top: clock.made_ns(top.at_ns),
            ts_made_ns=clock.made_ns,
            ticker=lambda symbol: markets[symbol].tickers.at(at_ns, there_ns),
            trades=lambda symbol: tuple(markets[symbol].trades.recent),
            settled=lambda symbol: markets[symbol].tickers.settled(at_ns, there_ns),
            body=body,
        )
        return self.dialect.rest(request, self.board)

    def turn(self, now_ns: int) -> int:
        """Say everything that is due; returns when to come again."""
        wake = [now_ns + NS]
        for talk in self.talks:
            if self.is_deaf(talk):
                continue
            there_ns = now_ns + self.offset_ns
            if talk.beat_ns <= there_ns and talk.ended is None:
                self._act(talk, self.dialect.beat(talk, there_ns), now_ns)
            wake.append(talk.beat_ns - self.offset_ns)
        if self.clock.start_ns is not None:
            wake += self.casts.publish(now_ns)
        return max(now_ns, min(wake))

    @property
    def silent(self) -> bool:
        """Whether the whole venue says nothing at all."""
        return None in self.casts.muted

    @property
    def shut(self) -> bool:
        """Whether new connections are refused."""
        return None in self._shut

    def is_deaf(self, talk: Talk) -> bool:
        """Whether nothing is said on this connection, not even in answer."""
        return self.silent or talk.is_dead

    def market_name(self, symbol: str) -> str:
        """``bybit:BTC-USDT-PERP``."""
        return f"{self.name}:{self.markets[symbol].contract.instrument}"

    def mute(self, symbol: str | None) -> None:
        """From now on say nothing of a symbol; of ``None``, nothing at all."""
        self.casts.muted.append(symbol)

    def unmute(self, symbol: str | None) -> None:
        self.casts.muted.remove(symbol)

    def refuse(self, symbol: str | None) -> None:
        """From now on refuse a symbol; of ``None``, new connections."""
        self._shut.append(symbol)
        self.board.refused = {shut for shut in self._shut if shut is not None}

    def admit(self, symbol: str | None) -> None:
        self._shut.remove(symbol)
        self.board.refused = {shut for shut in self._shut if shut is not None}

    def limit(self, limit: Limit) -> None:
        """From now on turn away REST calls and new connections."""
        self._limits.append(limit)

    def unlimit(self, limit: Limit) -> None:
        self._limits.remove(limit)

    def limited(self, now_ns: int) -> Answer | None:
        """What a request is answered while there is a limit."""
        if not self._limits:
            return None
        self.turned_away += 1
        status, until_ns = self._limits[-1]
        wait_s = LIMITED_S if until_ns is None else max(1, math.ceil((until_ns - now_ns) / NS))
        return self.dialect.limited(status, wait_s, self.clock.there_ns(now_ns))

    def step_clock(self, step_ns: int) -> None:
        """The venue's clock jumps; what it waits for still takes as long as it does."""
        self.clock.offset_ns += step_ns
        for talk in self.talks:
            for name in ("opened_ns", "heard_ns", "pinged_ns", "ponged_ns", "beat_ns"):
                setattr(talk, name, getattr(talk, name) + step_ns)
            talk.recent_ns = [heard_ns + step_ns for heard_ns in talk.recent_ns]

    def specify(self, contract: Contract, now_ns: int) -> None:
        """A symbol's specification is another from now on; who listens must ask again."""
        self.casts.end(contract.symbol, now_ns)
        self.markets[contract.symbol].change(contract)
        self.board.contracts = {**self.board.contracts, contract.symbol: contract}

    def delist(self, symbol: str, now_ns: int) -> None:
        """A symbol leaves the instrument list, and its streams end."""
        self.casts.end(symbol, now_ns)
        self.board.contracts = {
            name: contract for name, contract in self.board.contracts.items() if name != symbol
        }

    def relist(self, symbol: str) -> None:
        contract = self.markets[symbol].contract
        self.board.contracts = {**self.board.contracts, symbol: contract}

    def bid_farewell(self, talks: Iterable[Talk], now_ns: int) -> None:
        """Say that the connection will end, where the venue has words for it."""
        if self.dialect.farewell is not None:
            for talk in talks:
                self._act(talk, [self.dialect.farewell(now_ns + self.offset_ns)], now_ns)

    def hang_up(self, talks: Iterable[Talk], hangup: Hangup) -> None:
        """End these connections."""
        for talk in talks:
            talk.ended = talk.ended or hangup

    def listeners(self, symbol: str | None) -> list[Talk]:
        """The connections that listen to a symbol; of ``None`` all."""
        return [
            talk
            for talk in self.talks
            if symbol is None or any(topic.symbol == symbol for topic in talk.topics)
        ]

    def _act(self, talk: Talk, acts: Sequence[Act], now_ns: int) -> None:
        for act in acts:
            if isinstance(act, Join):
                self._join(talk, act.topic, now_ns)
            elif isinstance(act, Part):
                self.casts.part(talk, act.topic, now_ns)
            elif self.is_deaf(talk):
                continue
            elif isinstance(act, Ping):
                talk.pings.append(act.payload)
            elif isinstance(act, Hangup):
                talk.ended = talk.ended or act
            else:
                talk.outbox.append((act, self.dialect.wrap(act)))

    def _join(self, talk: Talk, topic: Topic, now_ns: int) -> None:
        if self.clock.start_ns is None:
            self._on_start(now_ns)
        self.casts.join(talk, topic, now_ns)
