"""What is left of a wire that has ended: nothing, and at once, without waiting for a collection."""

import asyncio
import gc
import os
import platform
import subprocess
import sys
import weakref
from types import SimpleNamespace

import msgspec
import pytest
from picows import WSTransport

from perptape import backoff
from perptape.clock import Clock
from perptape.errors import Unreachable
from perptape.events import MS
from perptape.guard import INFLATED_BYTES
from perptape.listener import Listener
from perptape.record import Plan, record
from perptape.route import Route, at, tls_context
from perptape.session import Session
from perptape.status import Tally
from perptape.tape import TapeWriter
from perptape.wire import Wire

TEXT, CLOSE = 1, 8
RECONNECTS, FIRST = 500, 50
LITTLE = 20
"""Objects; a race of addresses alone leaves more than twice as many."""
OF_A_WIRE = (Wire, Session, Listener, Tally, WSTransport)


@pytest.fixture
def no_collection():
    """Leave it to the counts of references alone to free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def reset(peer, _):
    peer.writer.transport.abort()


async def closed(peer, wires):
    await peer.send(wires.frame(CLOSE, b"\x03\xe8bye"))
    await peer.gone()


async def too_long(peer, wires):
    await peer.send(wires.frame(TEXT, b"x", length=9 << 20))
    await peer.gone()


async def no_utf8(peer, wires):
    await peer.send(wires.frame(TEXT, b"\xff"))
    await peer.gone()


async def leaving(peer, wires):
    await peer.send(wires.frame(TEXT, b'{"bye":"soon"}'))
    await peer.gone()


async def turned_away(peer, _):
    await peer.reader.readuntil(b"\r\n\r\n")
    await peer.send(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
    await peer.gone()


async def lived(wires, end):
    """Give a weak reference to a wire that lived until this end."""

    async def script(peer):
        if end is not turned_away:
            await peer.said()
            await peer.send(wires.frame(TEXT, wires.data("BTC")))
        await end(peer, wires)

    async with wires.serving(script, handshake=end is not turned_away) as port:
        there = msgspec.structs.replace(wires.ACME, url=f"ws://127.0.0.1:{port}/v3")
        wire = Wire(there, wires.wanted("BTC"), wires.MemoryTape(), Clock(), lambda *_: None)
        try:
            await wire.connect(Route(tls_context()))
            await wire.over()
        except Unreachable:
            assert end is turned_away
        wire.leave()
        ref = weakref.ref(wire)
        del wire
        return ref, ref() is None


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("end", [reset, closed, too_long, no_utf8, leaving, turned_away])
def test_a_wire_is_gone_as_soon_as_it_is_left(wires, end):
    _, is_gone = wires.run(lived(wires, end))
    assert is_gone


@pytest.mark.usefixtures("no_collection")
def test_a_race_of_addresses_leaves_nothing(wires):
    async def main():
        await lived(wires, reset)  # what is made once is made by now
        gc.collect()
        await lived(wires, reset)
        return gc.collect()

    assert wires.run(main()) < LITTLE


@pytest.mark.usefixtures("no_collection")
def test_five_hundred_wires_leave_no_more_than_one(wires, monkeypatch, tmp_path):
    monkeypatch.setattr(backoff, "FIRST_NS", MS)
    monkeypatch.setattr(backoff, "LONGEST_NS", MS)
    # What a collection after each dialling would hide is to be seen here.
    monkeypatch.setattr("perptape.dial.gc", SimpleNamespace(collect=lambda _: None))
    descriptors, left, stop = [], [], asyncio.Event()

    async def script(peer):
        await peer.said()
        descriptors.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - counted, often
        await peer.send(wires.frame(TEXT, wires.data("BTC")))
        if len(descriptors) > RECONNECTS:
            stop.set()
            await peer.gone()

    async def main():
        tape = TapeWriter(tmp_path / "t")
        async with wires.exchange(script) as origin:
            plan = Plan(instruments=("BTC-USDT-PERP",), venues=(at(wires.ACME, origin),))
            recording = asyncio.create_task(record(plan, tape, stop=stop))
            await stop.wait()
            everything = gc.get_objects()
            left.extend(sum(isinstance(o, kind) for o in everything) for kind in OF_A_WIRE)
            left.append(len(tape._tail._tags))  # noqa: SLF001 - nobody is told of these
            del everything
            await recording

    wires.run(main())
    *alive, named = left
    assert alive[0] == 1 and max(alive) <= 2, dict(zip(OF_A_WIRE, alive, strict=True))
    assert named == 3  # the tape's own number, that of the venue's REST calls, and the wire
    assert max(descriptors[-FIRST:]) <= max(descriptors[:FIRST]) + 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_memory_is_given_back_though_something_lies_above_it():
    """Twice what a bomb takes: the second time glibc would keep it. In a process of its own."""
    code = f"""
from pathlib import Path
from perptape.record import keep_memory_flat

def own_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

keep_memory_flat()
bomb = b"x" * {INFLATED_BYTES}
del bomb
before = own_kb()
bomb = b"x" * {INFLATED_BYTES}
above = [b"x" * 100_000 for _ in range(20)]
del bomb
print(own_kb() - before)
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(done.stdout) << 10 < INFLATED_BYTES // 2
