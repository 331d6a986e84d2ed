"""One client of a simulated exchange: bytes to the exchange and back, nothing else."""

import asyncio
import itertools
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from perptape.sims import websocket
from perptape.sims.dialect import Answer, Hangup, Talk
from perptape.sims.exchange import Exchange
from perptape.sims.truth import SendLog
from perptape.sims.websocket import BINARY, CLOSE, PING, PONG, TEXT, BadRequest, Violation

MOST_BUFFERED = 64 << 20  # bytes that wait for a slow reader before it is cut off
HANDSHAKE_S = 5.0  # for a client to say what it wants
LINGER_S = 1.0  # for a client to take what was sent before the end


class Host(Protocol):
    """What a connection needs of its server."""

    def now_ns(self) -> int: ...
    def answer(self, exchange: Exchange, request: websocket.Request) -> Answer | None: ...
    def came(self, connection: "Connection") -> None: ...
    def joined(self, connection: "Connection", now_ns: int) -> SendLog | None: ...
    def left(self, connection: "Connection", now_ns: int) -> None: ...
    def soon(self) -> None: ...


class Connection(asyncio.Protocol):
    """HTTP until the handshake, a websocket from then on."""

    def __init__(self, host: Host, exchange: Exchange) -> None:
        self.exchange = exchange
        self.talk: Talk | None = None
        """Since the handshake."""
        self.port = 0
        self.opened_ns = 0
        self.reason = "the client left"
        self.gone = asyncio.Event()
        self._host = host
        self._held = bytearray()
        self._log: SendLog | None = None
        self._ends = False
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods
        self.port = transport.get_extra_info("peername")[1]
        self._deadline = self._later(HANDSHAKE_S, self.abort)
        self._host.came(self)

    def data_received(self, data: bytes) -> None:
        if self._ends:
            return
        self._held += data
        if self.talk is None:
            self._open()
        if self.talk is not None:
            self._read(self.talk)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ends = True
        self._deadline.cancel()
        self._host.left(self, self._host.now_ns())
        if self._log is not None:
            self._log.close()
        self.gone.set()

    def _open(self) -> None:
        try:
            request = websocket.read_request(self._held)
            refusal = None if request is None else self._host.answer(self.exchange, request)
            if request is not None and refusal is None:
                self._transport.write(websocket.accept(request))
                self._join(request)
        except BadRequest as e:
            refusal = Answer(e.status, str(e).encode(), {"Content-Type": "text/plain"})
        if refusal is not None:
            self._transport.write(websocket.answer(*refusal))
            self._end()

    def _join(self, request: websocket.Request) -> None:
        self._deadline.cancel()
        self.opened_ns = self._host.now_ns()
        self.talk = self.exchange.connect(request.path, request.headers, self.opened_ns)
        self._log = self._host.joined(self, self.opened_ns)
        self._host.soon()

    def _read(self, talk: Talk) -> None:
        now_ns = self._host.now_ns()
        try:
            while not self._ends and (message := websocket.read_message(self._held)) is not None:
                self._take(talk, *message, now_ns)
        except Violation as e:
            self.exchange.hang_up([talk], Hangup(e.code, str(e)))
        self.flush(now_ns)

    def _take(self, talk: Talk, opcode: int, payload: bytes, now_ns: int) -> None:
        deaf = self.exchange.is_deaf(talk)
        if opcode in (TEXT, BINARY):
            self.exchange.hear(talk, payload, now_ns)
            self._host.soon()
        elif opcode == CLOSE and not deaf:
            self.flush(now_ns)
            self._transport.write(websocket.head(CLOSE, len(payload[:2])) + payload[:2])
            self._end()
        elif opcode in (PING, PONG):
            self.exchange.touch(talk, now_ns, is_pong=opcode == PONG)
            if opcode == PING and not deaf:
                self.flush(now_ns)
                self._transport.write(websocket.head(PONG, len(payload)) + payload)

    def flush(self, now_ns: int) -> None:
        """Send what the exchange has said on this connection, in one write."""
        talk = self.talk
        if talk is None or self._ends:
            return
        outbox, talk.outbox = talk.outbox, []
        if outbox:
            opcode = BINARY if self.exchange.dialect.binary else TEXT
            parts = [(websocket.head(opcode, len(wire)), wire) for _, wire in outbox]
            self._transport.write(b"".join(itertools.chain(*parts)))
            if self._log is not None:
                for payload, _ in outbox:
                    self._log.add(now_ns, payload)
            # What is published does not wait for anybody.
            if self._transport.get_write_buffer_size() > MOST_BUFFERED:
                talk.ended = Hangup(None, "reads too slowly", reset=True)
        pings, talk.pings = talk.pings, []
        for payload in pings:
            self._transport.write(websocket.head(PING, len(payload)) + payload)
        if talk.ended is not None:
            self.finish(talk.ended)

    def flush_log(self) -> None:
        if self._log is not None:
            self._log.flush()

    def finish(self, hangup: Hangup) -> None:
        """End this connection as the venue does it."""
        if self._ends:
            return
        self.reason = hangup.reason
        if hangup.reset:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._ends = True
            self._transport.abort()
            return
        if hangup.code is not None:
            self._transport.write(websocket.close(hangup.code, hangup.reason))
        self._end()

    def abort(self) -> None:
        """Wait no longer for the client."""
        self._transport.abort()

    def _end(self) -> None:
        """Say no more. The client closes; closing first could tear down what it has not read."""
        self._ends = True
        self._deadline.cancel()
        self._transport.write_eof()
        self._deadline = self._later(LINGER_S, self.abort)

    @staticmethod
    def _later(seconds: float, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, then)
