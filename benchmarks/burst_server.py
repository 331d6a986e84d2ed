"""A loopback websocket server that plays frames as fast as the client reads them.

Runs in a process of its own, so that a client's CPU time is the client's alone. All is framed, and
under TLS sealed, before the first byte leaves: whatever the client, the server is faster. Under TLS
each frame is a record of its own, as venues send them.
"""

import gzip
import json
import multiprocessing
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import trustme
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

CHUNK = 256 << 10
SHORT, MEDIUM = 126, 1 << 16


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
    size = len(frame)
    if size < SHORT:
        return bytes((0x81, size)) + frame
    if size < MEDIUM:
        return b"\x81\x7e" + size.to_bytes(2, "big") + frame
    return b"\x81\x7f" + size.to_bytes(8, "big") + frame


class Plain:
    """A socket, and everything to play as it goes over it."""

    def __init__(self, sock: socket.socket, frames: list[bytes]) -> None:
        self._sock, self._frames = sock, frames

    def receive(self) -> bytes:
        return self._sock.recv(CHUNK)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def play(self) -> None:
        self._sock.sendall(b"".join(self._frames))


class Tls:
    """The same under TLS; the burst is sealed before it begins, or we could not keep ahead."""

    def __init__(self, sock: socket.socket, frames: list[bytes], context: ssl.SSLContext) -> None:
        self._sock, self._frames = sock, frames
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)

    def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:  # the handshake too: reading does it
                self._sock.sendall(self._goes.read())
                data = self._sock.recv(CHUNK)
                if not data:
                    return b""
                self._came.write(data)

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._sock.sendall(self._goes.read())

    def play(self) -> None:
        for frame in self._frames:
            self._tls.write(frame)
        self._sock.sendall(self._goes.read())


def _attend(link: Plain | Tls) -> None:
    """Shake hands, play everything at the client's first word, answer its goodbye."""
    protocol, played = ServerProtocol(), False
    while data := link.receive():
        protocol.receive_data(data)
        events = protocol.events_received()
        for request in events:
            if isinstance(request, Request):
                protocol.send_response(protocol.accept(request))
        for answer in protocol.data_to_send():
            if not answer:
                return
            link.send(answer)
        if not played and any(isinstance(e, Frame) and e.opcode is Opcode.TEXT for e in events):
            played = True
            link.play()


def _serve(path: Path | None, count: int, pem: Path | None, ready: Connection) -> None:
    frames = [_on_the_wire(frame) for frame in read_frames(path, count)]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if pem else None
    if context and pem:
        context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            sock, _ = server.accept()
            with sock, suppress(OSError):  # a client may leave when it has heard enough
                _attend(Tls(sock, frames, context) if context else Plain(sock, frames))


@contextmanager
def serving(
    path: Path | None, count: int, folder: Path, *, tls: bool
) -> Iterator[tuple[str, Path]]:
    """Run the server; give its URL, and the file of the authority to trust."""
    authority, pem = trustme.CA(), folder / "server.pem"
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(path, count, pem if tls else None, theirs))
    process.start()
    try:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{ours.recv()}/stream", folder / "ca.pem"
    finally:
        process.terminate()
        process.join()
