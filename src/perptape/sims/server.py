"""The simulated exchanges on real sockets, of this machine only: one port a venue, REST too."""

import asyncio
import contextlib
import itertools
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from perptape.errors import Failed
from perptape.events import MS, NS
from perptape.sims.dialect import Dialect, Hangup, Talk
from perptape.sims.exchange import Exchange
from perptape.sims.scenario import Scenario
from perptape.sims.schedule import Schedule
from perptape.sims.truth import Fact, Header, SendLog, Truth

HOST = "127.0.0.1"
TURN_NS = 2 * MS  # least time between two turns: what is due in between is one write
LOG_FLUSH_NS = NS // 4
MOST_BUFFERED = 64 << 20  # bytes that wait for a slow reader before it is cut off
GONE = 1001  # close code: going away
LINGER_S = 1.0  # for clients to take what was sent before the end
HTTP_OK, HTTP_SHUT = 200, 503
TEXT, BINARY = 0x81, 0x82  # first byte of a whole websocket message


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
        self._schedule = Schedule(scenario, self.exchanges, truth.tell)
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
        def accept(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
            return self._accept(exchange, request)

        try:
            server = await ws_create_server(
                accept, HOST, port, enable_auto_pong=False, logger_name="sims"
            )
        except OSError as e:
            reason = f"Port {port} for {exchange.name} cannot be listened on ({e.strerror})"
            raise Failed(f"{reason}; choose another with --port, or 0 for free ones.") from e
        self._servers.append(server)
        self.urls[exchange.name] = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"

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
            async with asyncio.timeout(LINGER_S):
                for connection in list(self._connections):
                    await connection.transport.wait_disconnected()
        for connection in list(self._connections):  # those who read no more
            connection.transport.disconnect(graceful=False)
            await connection.transport.wait_disconnected()
        self.truth.close()

    def _accept(
        self, exchange: Exchange, request: WSUpgradeRequest
    ) -> WSListener | WSUpgradeResponseWithListener:
        path, query = _target(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        if path in exchange.dialect.paths and "upgrade" in headers.get("connection", "").lower():
            if not exchange.shut:
                return Connection(self, exchange, path, headers)
            return _http(HTTP_SHUT, b"no new connections now")
        answer = exchange.rest(path, query, headers, self.clock.now_ns())
        return _http(answer.status, answer.body)

    def joined(self, connection: "Connection", port: int, now_ns: int) -> SendLog | None:
        self._connections.add(connection)
        if self._log_dir is None:
            return None
        exchange, number = connection.exchange, connection.talk.number
        header = Header(exchange.name, number, port, connection.talk.path, now_ns)
        return SendLog(self._log_dir, header)

    def left(self, connection: "Connection") -> None:
        self._connections.discard(connection)

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


class Connection(WSListener):
    """One client's websocket: bytes to the exchange and back, nothing else."""

    def __init__(
        self, server: Server, exchange: Exchange, path: str, headers: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.exchange = exchange
        self.transport: WSTransport
        self.talk: Talk
        self._server = server
        self._path, self._headers = path, headers
        self._log: SendLog | None = None
        self._port = 0
        self._opened_ns = 0
        self._reason = "the client left"

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._opened_ns = self._server.clock.now_ns()
        self._port = transport.underlying_transport.get_extra_info("peername")[1]
        self.talk = self.exchange.connect(self._path, self._headers, self._opened_ns)
        self._log = self._server.joined(self, self._port, self._opened_ns)
        self._server.soon()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now_ns = self._server.clock.now_ns()
        payload, kind = frame.get_payload_as_bytes(), frame.msg_type
        if kind == WSMsgType.CLOSE:
            self._closed(transport, payload)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY) and frame.fin:
            self.exchange.hear(self.talk, payload, now_ns)
            self._server.soon()
        elif kind in (WSMsgType.PING, WSMsgType.PONG):
            self.exchange.touch(self.talk, now_ns)
            if kind == WSMsgType.PING and not self.exchange.silent:
                self.flush(now_ns)
                transport.send_pong(payload)
        else:
            self.exchange.hang_up([self.talk], Hangup(1003, "fragments"), now_ns)
        self.flush(now_ns)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        now_ns = self._server.clock.now_ns()
        self._server.left(self)
        self._tell(now_ns)
        if self._log is not None:
            self._log.close()

    def pause_writing(self) -> None:
        """Nothing: what is published does not wait; ``flush`` cuts off who reads too slowly."""

    def resume_writing(self) -> None:
        """Nothing, likewise."""

    def flush(self, now_ns: int) -> None:
        """Send what the exchange has said on this connection, in one write."""
        outbox, self.talk.outbox = self.talk.outbox, []
        if outbox and not self.transport.is_disconnected:
            first = BINARY if self.exchange.dialect.binary else TEXT
            parts = [(_head(first, len(wire)), wire) for _, wire in outbox]
            self.transport.underlying_transport.write(b"".join(itertools.chain(*parts)))
            if self._log is not None:
                for payload, _ in outbox:
                    self._log.add(now_ns, payload)
            if self.transport.underlying_transport.get_write_buffer_size() > MOST_BUFFERED:
                self.talk.ended = Hangup(None, "reads too slowly", reset=True)
        if self.talk.ended is not None:
            self.finish(self.talk.ended)

    def flush_log(self) -> None:
        if self._log is not None:
            self._log.flush()

    def finish(self, hangup: Hangup) -> None:
        """End this connection as the venue does it."""
        if self.transport.is_disconnected:
            return
        self._reason = hangup.reason
        if hangup.reset:
            sock = self.transport.underlying_transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif hangup.code is not None:
            self.transport.send_close(WSCloseCode(hangup.code), hangup.reason.encode())
        self.transport.disconnect(graceful=not hangup.reset)

    def _closed(self, transport: WSTransport, payload: bytes) -> None:
        if self.exchange.silent:
            return
        if not transport.is_close_frame_sent:
            transport.send(WSMsgType.CLOSE, payload[:2])
        transport.disconnect()

    def _tell(self, now_ns: int) -> None:
        name, number = self.exchange.name, self.talk.number
        self._server.truth.tell(
            Fact(
                what="connection",
                venue=name,
                connection=number,
                port=self._port,
                ts_start=self._opened_ns,
                ts_end=now_ns,
                reason=self._reason,
            )
        )
        for topic, span in self.exchange.leave(self.talk).items():
            if span.first_ns is None or span.last_ns is None:
                continue
            instrument = self.exchange.board.contracts[topic.symbol].instrument
            self._server.truth.tell(
                Fact(
                    what="heard",
                    venue=name,
                    market=f"{name}:{instrument}",
                    stream=topic.stream,
                    symbol=topic.symbol,
                    connection=number,
                    ts_start=span.first_ns,
                    ts_end=span.last_ns,
                    frames=span.frames,
                )
            )


def _head(first: int, size: int) -> bytes:
    """The header of an unmasked websocket message."""
    if size < 126:  # noqa: PLR2004  RFC 6455, 5.2
        return bytes((first, size))
    if size < 1 << 16:
        return struct.pack(">BBH", first, 126, size)
    return struct.pack(">BBQ", first, 127, size)


def _target(request: WSUpgradeRequest) -> tuple[str, dict[str, str]]:
    parts = urlsplit(request.path.decode("latin-1"))
    return parts.path, dict(parse_qsl(parts.query))


def _http(status: int, body: bytes) -> WSUpgradeResponseWithListener:
    headers = {"Content-Type": "application/json"}
    if status == HTTP_OK:
        response = WSUpgradeResponse.create_ok_response(body, headers)
    else:
        response = WSUpgradeResponse.create_error_response(status, body, headers)
    return WSUpgradeResponseWithListener(response, None)
