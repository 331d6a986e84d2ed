"""A small venue of our own, a server that says whatever bytes it is told, and a tape in memory."""

import asyncio
import base64
import contextlib
import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import uvloop

from perptape.clock import Clock
from perptape.events import MS, NS, Kind, Note
from perptape.instruments import Instrument
from perptape.route import Route, tls_context
from perptape.session import Wanted
from perptape.venues.venue import (
    Accepted,
    Alive,
    Complaint,
    Heartbeat,
    Leaving,
    Listing,
    Rejected,
    Topic,
    Venue,
)
from perptape.wire import Wire

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def acme_control(payload):
    verdict = None
    match msgspec.json.decode(payload):
        case {"ok": keys}:
            verdict = Accepted(tuple(keys))
        case {"no": keys, "why": why}:
            verdict = Rejected(tuple(keys), why)
        case {"oops": why}:
            verdict = Complaint(why)
        case {"ping": number}:
            verdict = Alive(b'{"pong":%d}' % number)
        case {"pong": _}:
            verdict = Alive()
        case {"bye": why}:
            verdict = Leaving(why)
    return verdict


def acme_topic(channel, stream, symbol):
    return Topic(channel, stream, symbol, f"{stream}.{symbol}", (b'"s":"%b"' % symbol.encode(),))


def acme_instruments(body, ts_seen):
    page = msgspec.json.decode(body)
    listed = [
        Instrument(
            venue="acme",
            name=f"{coin}-USDT-PERP",
            symbol=f"{coin}_USDT",
            base=coin,
            quote="USDT",
            settle="USDT",
            kind="linear",
            contract_size=1.0,
            price_unit=1.0,
            tick_size=None,
            lot_size=None,
            taker_fee=None,
            maker_fee=None,
            funding_interval_h=None,
            status="trading",
            ts_seen=ts_seen,
        )
        for coin in page["coins"]
    ]
    return Listing(listed, page.get("next"))


ACME = Venue(
    name="acme",
    docs="",
    streams={"quotes": ("bbo",)},
    decode=lambda _: [],
    instrument_name=lambda _: None,
    url="wss://acme.example/v3",
    rest="https://rest.acme.example",
    headers={"X-Acme": "1"},
    topic=acme_topic,
    subscribe=lambda topics, ts: [
        msgspec.json.encode({"sub": each.key, "ts": ts}) for each in topics
    ],
    topics_per_wire=10,
    is_data=lambda payload: b'"px"' in payload,
    control=acme_control,
    heartbeat=Heartbeat(silence_ns=30 * NS),
    first_data_ns=10 * NS,
    instruments_path="/instruments",
    read_instruments=acme_instruments,
    time_path="/time",
    read_time=int,
)


def wanted(*symbols):
    return [
        Wanted(f"acme:{symbol}-USDT-PERP", acme_topic("quotes", "bbo", symbol))
        for symbol in symbols
    ]


def data(symbol, number=1):
    return b'{"px":%d,"s":"%b"}' % (number, symbol.encode())


class MemoryTape:
    """What a tape was given, in order; it takes nothing after its end."""

    def __init__(self, path=Path("/")):
        self.records = []
        self.venues = {0: ""}
        self.ended = []
        self.full = self.closed = False
        self.ts_before, self.troubles = None, 0
        self.trouble = None
        self.backlog_frames = self.ticks = 0
        self.path = path

    def new_wire(self, venue):
        self.venues[len(self.venues)] = venue
        return len(self.venues) - 1

    def end_wire(self, wire):
        assert wire in self.venues
        self.ended.append(wire)

    def append(  # noqa: PLR0913, PLR0917 - the tape's own signature
        self,
        wire: int,
        kind: int,
        payloads: Sequence[bytes],
        ts_recv: int,
        ts_mono: int | None,
        wire_sizes: Sequence[int] | None = None,
    ):
        assert not self.closed and payloads and wire in self.venues
        assert wire not in self.ended
        assert all(type(payload) is bytes for payload in payloads)
        self.records.append(
            SimpleNamespace(
                wire=wire,
                kind=Kind(kind),
                payloads=list(payloads),
                ts=ts_recv,
                mono=ts_mono,
                sizes=wire_sizes,
            )
        )
        return len(self.records)

    def tick(self, ts_mono):
        assert ts_mono > 0
        self.ticks += 1

    def close(self):
        self.closed = True

    def frames(self, *kinds, venue=None):
        return [
            payload
            for record in self.records
            if record.kind in kinds and venue in {None, self.venues[record.wire]}
            for payload in record.payloads
        ]

    def notes(self, word=None, venue=None):
        found = [
            msgspec.json.decode(each, type=Note) for each in self.frames(Kind.NOTE, venue=venue)
        ]
        return [note for note in found if word in {None, note.note}]


def frame(opcode, payload=b"", *, fin=True, rsv=0, mask=None, length=None):  # noqa: PLR0913
    """Give one websocket frame, lawful or not; ``length`` may lie."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload) if length is None else length
    bit = 0 if mask is None else 0x80
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.request = b""

    async def answer(self, pages):
        """Answer a REST call from ``pages``; give whether it was one, not a websocket."""
        self.request = await self.reader.readuntil(b"\r\n\r\n")
        if b"sec-websocket-key" in self.request.lower():
            return False
        path = self.request.split()[1].decode()
        page = pages.get(path, (404, b""))
        status, body, *more = page(self.request) if callable(page) else page
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        self.writer.write(head.encode() + b"".join(more) + b"\r\n" + body)
        await self.writer.drain()
        return True

    async def handshake(self):
        self.request = self.request or await self.reader.readuntil(b"\r\n\r\n")
        key = self.request.lower().split(b"sec-websocket-key: ")[1]
        at = self.request.lower().index(key)
        key = self.request[at:].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    async def send(self, *frames):
        if self.writer.is_closing():
            raise ConnectionError
        self.writer.write(b"".join(frames))
        await self.writer.drain()

    async def said(self):
        """Give (opcode, payload) of the client's next frame."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self.reader.readexactly(2))
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(size)
        return first & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(payload))

    async def until(self, opcode):
        """Give the payload of the client's next frame of this kind."""
        while True:
            got, payload = await self.said()
            if got == opcode:
                return payload

    async def gone(self):
        """Wait until the client has hung up."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@contextlib.asynccontextmanager
async def serving(script, *, tls=None, handshake=True):
    """Run ``script(peer)`` for each connection on loopback; give the port and the errors."""
    errors, tasks = [], set()

    async def on_connection(reader, writer):
        tasks.add(asyncio.current_task())
        peer = Peer(reader, writer)
        try:
            if handshake:
                await peer.handshake()
            await script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - the test raises it
            errors.append(error)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if errors:
        raise errors[0]


@contextlib.asynccontextmanager
async def exchange(script, pages=None):
    """Run REST ``pages`` and, for each websocket, ``script(peer)``; give the origin."""
    told = {"/instruments": (200, b'{"coins":["BTC","ETH"]}'), "/time": (200, b"1")} | (pages or {})

    async def either(peer):
        if not await peer.answer(told):
            await peer.handshake()
            await script(peer)

    async with serving(either, handshake=False) as port:
        yield f"http://127.0.0.1:{port}"


async def live(script, *, venue=ACME, symbols=("BTC",), tape=None):
    """Live one wire against ``script``; give what ended it, and the tape."""
    tape = tape or MemoryTape()
    async with serving(script) as port:
        there = msgspec.structs.replace(venue, url=f"ws://127.0.0.1:{port}/v3")
        wire = Wire(there, wanted(*symbols), tape, Clock(), lambda *_: None)
        await wire.connect(Route(tls_context()))
        async with asyncio.timeout(5):
            lost = await wire.over()
        wire.cut()
    return lost, tape


@pytest.fixture
def wires():
    """Give the tools of this file; a test module cannot import its neighbours."""
    return SimpleNamespace(
        ACME=ACME,
        MemoryTape=MemoryTape,
        data=data,
        exchange=exchange,
        file=__file__,
        frame=frame,
        live=live,
        serving=serving,
        wanted=wanted,
        run=uvloop.run,
        silence=lambda ns: msgspec.structs.replace(ACME, heartbeat=Heartbeat(silence_ns=ns)),
        MS=MS,
    )
