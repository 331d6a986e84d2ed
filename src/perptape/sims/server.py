"""The simulated exchanges on real sockets, of this machine only: one port a venue, REST too."""

import asyncio
import contextlib
import time
from functools import partial
from pathlib import Path

from perptape.errors import BadUsage, Failed
from perptape.events import MS, NS
from perptape.sims import websocket
from perptape.sims.connection import LINGER_S, Connection
from perptape.sims.dialect import Answer, Dialect, Hangup, Span, Talk, Topic
from perptape.sims.exchange import Exchange
from perptape.sims.scenario import Scenario
from perptape.sims.schedule import Schedule
from perptape.sims.truth import Fact, Header, SendLog, Truth

HOST = "127.0.0.1"
TURN_NS = 2 * MS  # least time between two turns: what is due in between is one write
LOG_FLUSH_NS = NS // 4
GONE = 1001  # close code: going away
SHUT = Answer(503, b"no new connections now", {"Content-Type": "text/plain"})


class Clock:
    """True time: the wall at one moment, and the monotonic clock since."""

    def __init__(self) -> None:
        self._anchor_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        return self._anchor_ns + time.monotonic_ns()


class Server:
    """All venues of one run, in one event loop."""

    def __init__(
        self, dialects: list[Dialect], scenario: Scenario, truth: Truth, log_dir: Path | None
    ) -> None:
        self.scenario = scenario
        self.truth = truth
        self.clock = Clock()
        self.exchanges = {
            dialect.name: Exchange(dialect, scenario, self.start) for dialect in dialects
        }
        self.urls: dict[str, str] = {}
        self._log_dir = log_dir
        try:
            self._schedule = Schedule(scenario, self.exchanges, truth.tell)
        except BadUsage:
            truth.close()
            raise
        self._started = False
        self._flushed_ns = 0
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.Handle | None = None

    async def listen(self, port: int) -> None:
        """Open the doors: venue k on port + k, or each on a free one if port is 0."""
        for k, exchange in enumerate(self.exchanges.values()):
            await self._open(exchange, port and port + k)
        if self.scenario.start == "serve":
            self.start(self.clock.now_ns())
        self._turn()

    async def _open(self, exchange: Exchange, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(partial(Connection, self, exchange), HOST, port)
        except OSError as e:
            reason = f"Port {port} for {exchange.name} cannot be listened on ({e.strerror})"
            raise Failed(f"{reason}; choose another with --port, or 0 for free ones.") from e
        self._servers.append(server)
        self.urls[exchange.name] = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def start(self, now_ns: int) -> None:
        """Let scenario time begin, once."""
        if self._started:
            return
        self._started = True
        self._schedule.start(now_ns)
        self.truth.tell(Fact(what="start", ts_start=now_ns, ts_end=now_ns, seed=self.scenario.seed))
        for exchange in self.exchanges.values():
            exchange.start(now_ns)
            self.truth.tell(
                Fact(
                    what="clock",
                    venue=exchange.name,
                    ts_start=now_ns,
                    ts_end=now_ns,
                    offset_ns=exchange.offset_ns,
                    latency_ns=round(self.scenario.venues[exchange.name].latency_ms * MS),
                )
            )

    async def close(self) -> None:
        """End all connections and tell what is left to tell."""
        if self._timer is not None:
            self._timer.cancel()
        now_ns = self.clock.now_ns()
        if self._started:
            self._schedule.close(now_ns)
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.finish(Hangup(GONE, "the simulation ends"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S / 2):
                for connection in list(self._connections):
                    await connection.gone.wait()
        for connection in list(self._connections):  # those who read no more
            connection.abort()
            await connection.gone.wait()
        self.truth.close()

    def answer(self, exchange: Exchange, request: websocket.Request) -> Answer | None:
        """The answer to an HTTP request; ``None``: it opens a websocket."""
        if limited := exchange.limited(self.clock.now_ns()):
            return limited
        if request.path in exchange.dialect.paths and request.upgrades:
            return SHUT if exchange.shut else None
        _, path, query, headers, body = request
        return exchange.rest(path, query, headers, self.clock.now_ns(), body)

    def came(self, connection: Connection) -> None:
        self._connections.add(connection)

    def joined(self, connection: Connection, now_ns: int) -> SendLog | None:
        if self._log_dir is None or connection.talk is None:
            return None
        name, talk = connection.exchange.name, connection.talk
        header = Header(name, talk.number, connection.port, talk.path, now_ns)
        return SendLog(self._log_dir, header)

    def left(self, connection: Connection, now_ns: int) -> None:
        self._connections.discard(connection)
        exchange, talk = connection.exchange, connection.talk
        if talk is None:
            return
        self.truth.tell(
            Fact(
                what="connection",
                venue=exchange.name,
                connection=talk.number,
                port=connection.port,
                ts_start=connection.opened_ns,
                ts_end=now_ns,
                reason=connection.reason,
            )
        )
        for topic, span in exchange.leave(talk, now_ns):
            if fact := _heard(connection, talk, topic, span):
                self.truth.tell(fact)

    def _turn(self) -> None:
        now_ns = self.clock.now_ns()
        wake_ns = now_ns + NS
        if self._started:
            wake_ns = min(wake_ns, self._schedule.turn(now_ns))
        for exchange in self.exchanges.values():
            wake_ns = min(wake_ns, exchange.turn(now_ns))
        for connection in list(self._connections):
            connection.flush(now_ns)
        if now_ns - self._flushed_ns >= LOG_FLUSH_NS:
            self._flushed_ns = now_ns
            for connection in self._connections:
                connection.flush_log()
        delay_ns = max(TURN_NS, wake_ns - self.clock.now_ns())
        self._timer = asyncio.get_running_loop().call_later(delay_ns / NS, self._turn)

    def soon(self) -> None:
        """Something has changed that the timer does not know of."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(TURN_NS / NS, self._turn)


def _heard(connection: Connection, talk: Talk, topic: Topic, span: Span) -> Fact | None:
    """What was sent of one topic on one connection."""
    if span.first_ns is None or span.last_ns is None:
        return None
    exchange = connection.exchange
    return Fact(
        what="heard",
        venue=exchange.name,
        market=exchange.market_name(topic.symbol),
        stream=topic.stream,
        symbol=topic.symbol,
        connection=talk.number,
        ts_start=span.first_ns,
        ts_end=span.last_ns,
        frames=span.frames,
    )
