"""A loopback websocket server that plays frames as fast as the client reads them, or at a pace.

Runs in a process of its own, so that a client's CPU time is the client's alone. All is framed, and
under TLS sealed, before the first byte leaves: whatever the client, the server is faster. Under TLS
each frame is a record of its own, as venues send them. At a pace each frame is a call of its own,
and the time just before it is noted.
"""

import gc
import gzip
import json
import mmap
import multiprocessing
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import trustme
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event
from websockets.server import ServerProtocol

CHUNK = 256 << 10
SHORT, MEDIUM = 126, 1 << 16
GZIP, TEXT_FRAME, BINARY_FRAME = b"\x1f\x8b", b"\x81", b"\x82"
QUIET_S = 0.2
"""A client that says nothing for so long after the handshake has all it wants in its URL."""
SPIN_NS = 150_000
"""So much before a frame is due the server stops sleeping: no sleep ends on time."""
WARM_UP_NS = 50_000_000


class Pace(NamedTuple):
    """How fast to play, and where to note when: one int64 a frame, in ns of the wall clock."""

    per_s: int
    log: Path


def read_frames(path: Path | None, count: int) -> list[bytes]:
    """Give ``count`` bookTicker frames: those of a recording over and over, or made ones."""
    if path is None:
        return [_made(n) for n in range(count)]
    with gzip.open(path) as file:
        real = [line.split(b" ", 1)[1].rstrip() for line in file if b"@bookTicker" in line]
    return list(islice(cycle(real), count))


def _made(n: int) -> bytes:
    price, ms = 6_180_000 + n * 7919 % 1009, 1_723_161_256_313 + n
    data = {
        "e": "bookTicker",
        "u": 5_123_107_839_020 + 3 * n,
        "s": "BTCUSDT",
        "b": f"{price / 100:.2f}",
        "B": f"{n * 31 % 9973 / 1000:.3f}",
        "a": f"{price / 100 + 0.1:.2f}",
        "A": f"{n * 17 % 9973 / 1000:.3f}",
        "T": ms,
        "E": ms,
    }
    return json.dumps(
        {"stream": "btcusdt@bookTicker", "data": data}, separators=(",", ":")
    ).encode()


def _on_the_wire(frame: bytes) -> bytes:
    size, kind = len(frame), BINARY_FRAME if frame.startswith(GZIP) else TEXT_FRAME
    if size < SHORT:
        return kind + bytes((size,)) + frame
    if size < MEDIUM:
        return kind + b"\x7e" + size.to_bytes(2, "big") + frame
    return kind + b"\x7f" + size.to_bytes(8, "big") + frame


class Plain:
    """A socket, and everything to play as it goes over it."""

    def __init__(self, sock: socket.socket, frames: list[bytes]) -> None:
        self.sock, self._frames = sock, frames

    def receive(self) -> bytes:
        return self.sock.recv(CHUNK)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def sealed(self) -> list[bytes]:
        """Give each frame as it goes over the socket."""
        return self._frames


class Tls:
    """The same under TLS; all is sealed before it begins, or we could not keep ahead."""

    def __init__(self, sock: socket.socket, frames: list[bytes], context: ssl.SSLContext) -> None:
        self.sock, self._frames = sock, frames
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)

    def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:  # the handshake too: reading does it
                self.sock.sendall(self._goes.read())
                data = self.sock.recv(CHUNK)
                if not data:
                    return b""
                self._came.write(data)

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self.sock.sendall(self._goes.read())

    def sealed(self) -> list[bytes]:
        return [self._seal(frame) for frame in self._frames]

    def _seal(self, frame: bytes) -> bytes:
        self._tls.write(frame)
        return self._goes.read()


def _burst(link: Plain | Tls) -> None:
    link.sock.sendall(b"".join(link.sealed()))


def _paced(link: Plain | Tls, pace: Pace) -> None:
    """Send each frame when it is due; one that is late is sent at once, and noted as it was."""
    records, step_ns = link.sealed(), 1_000_000_000 // pace.per_s
    pace.log.write_bytes(bytes(8 * len(records)))
    with (
        pace.log.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as mapped,
        memoryview(mapped) as view,
        view.cast("q") as sent,
    ):
        due = time.perf_counter_ns() + WARM_UP_NS
        for n, record in enumerate(records):
            _until(due + n * step_ns)
            sent[n] = time.time_ns()
            link.sock.sendall(record)


def _until(due_ns: int) -> None:
    while (left := due_ns - time.perf_counter_ns()) > 0:
        if left > SPIN_NS:
            time.sleep((left - SPIN_NS) / 1e9)


def _attend(link: Plain | Tls, pace: Pace | None) -> None:
    """Shake hands, play everything at the client's first word, answer its goodbye."""
    protocol, opened, played = ServerProtocol(), False, False
    while True:
        is_quiet = opened and not played and not select.select([link.sock], [], [], QUIET_S)[0]
        events = [] if is_quiet else _heard(link, protocol)
        if events is None:
            return
        opened = opened or any(isinstance(event, Request) for event in events)
        asked = any(isinstance(e, Frame) and e.opcode is Opcode.TEXT for e in events)
        if not played and (is_quiet or asked):
            played = True
            if pace is None:
                _burst(link)
            else:
                _paced(link, pace)


def _heard(link: Plain | Tls, protocol: ServerProtocol) -> list[Event] | None:
    """Take in what came and answer it; ``None`` at the end."""
    data = link.receive()
    if not data:
        return None
    protocol.receive_data(data)
    events = protocol.events_received()
    for request in events:
        if isinstance(request, Request):
            protocol.send_response(protocol.accept(request))
    for answer in protocol.data_to_send():
        if not answer:
            return None
        link.send(answer)
    return events


def _serve(
    made: Callable[[], list[bytes]], pem: Path | None, pace: Pace | None, ready: Connection
) -> None:
    frames = [_on_the_wire(frame) for frame in made()]
    gc.disable()  # nothing here is a cycle, and a pause would be the client's latency
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if pem else None
    if context and pem:
        context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            sock, _ = server.accept()
            with sock, suppress(OSError):  # a client may leave when it has heard enough
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _attend(Tls(sock, frames, context) if context else Plain(sock, frames), pace)


@contextmanager
def serving(
    made: Callable[[], list[bytes]], folder: Path, *, tls: bool, pace: Pace | None = None
) -> Iterator[tuple[str, Path]]:
    """Run the server; give its URL, and the file of the authority to trust.

    ``made`` gives the frames, in the server's process.
    """
    authority, pem = trustme.CA(), folder / "server.pem"
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(made, pem if tls else None, pace, theirs))
    process.start()
    try:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{ours.recv()}/stream", folder / "ca.pem"
    finally:
        process.terminate()
        process.join()
