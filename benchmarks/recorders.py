"""The clients that are compared: each takes ``count`` frames and says what CPU time it took.

``python recorders.py NAME URL COUNT FOLDER [CA]`` prints one line of JSON. The time is the whole
process's, all threads, user and system, from the open connection to the closed file.
"""

import asyncio
import json
import pickle
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import picows
import uvloop
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as websockets_connect

from perptape.clock import Clock
from perptape.events import NS
from perptape.route import Route, tls_context
from perptape.session import Wanted
from perptape.status import Tally, Track
from perptape.tape import TapeWriter
from perptape.venues.binance import BINANCE
from perptape.venues.venue import Heartbeat, Topic, Venue
from perptape.wire import Wire

WRITE_EVERY_S = 5
TICK_S = 0.05
GO = b'{"method":"SUBSCRIBE"}'  # the server plays from here on


class Took(msgspec.Struct):
    """What one client used."""

    cpu_s: float
    wall_s: float
    bytes_on_disk: int
    reads: int | None = None


class Stopwatch:
    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def stop(self, on_disk: int, reads: int | None = None) -> Took:
        return Took(time.process_time() - self.cpu, time.perf_counter() - self.wall, on_disk, reads)


def count_only(url: str, count: int, folder: Path, ca: Path | None) -> Took:
    """Count the frames with picows: what receiving alone costs."""
    del folder
    return uvloop.run(_count_only(url, count, ca))


async def _count_only(url: str, count: int, ca: Path | None) -> Took:
    done = asyncio.Event()

    class Counter(picows.WSListener):
        seen = reads = 0

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            del transport
            self.seen += 1
            if frame.last_in_buffer:
                self.reads += 1
                if self.seen >= count:
                    done.set()

    counter = Counter()
    transport, _ = await picows.ws_connect(lambda: counter, url, ssl_context=_trust(ca))
    watch = Stopwatch()
    transport.send(picows.WSMsgType.TEXT, GO)
    await done.wait()
    took = watch.stop(0, counter.reads)
    transport.disconnect(graceful=False)
    return took


def notebook(url: str, count: int, folder: Path, ca: Path | None) -> Took:
    """Record the old way: a thread, json.loads, a queue, pickles every five seconds."""
    with websockets_connect(url, ssl=_trust(ca), max_size=None) as socket:
        return _notebook(socket, count, folder / "notebook.pkl")


def _notebook(socket: ClientConnection, count: int, path: Path) -> Took:
    heard: queue.Queue[dict[str, object]] = queue.Queue()
    watch = Stopwatch()
    socket.send(GO.decode())

    def listen() -> None:
        for _ in range(count):
            message = json.loads(socket.recv())
            message["local_ts"] = time.time()
            heard.put(message)

    listener = threading.Thread(target=listen)
    listener.start()
    while listener.is_alive() or not heard.empty():
        listener.join(WRITE_EVERY_S)
        with path.open("ab") as file:
            while not heard.empty():
                pickle.dump(heard.get(), file)
    return watch.stop(path.stat().st_size)


def perptape(url: str, count: int, folder: Path, ca: Path | None) -> Took:
    """Record with this project's wire and tape."""
    return uvloop.run(_perptape(url, count, folder / "tape", ca))


async def _perptape(url: str, count: int, folder: Path, ca: Path | None) -> Took:
    done = asyncio.Event()
    seen = reads = 0
    watches: list[Stopwatch] = []

    def subscribe(_topics: Sequence[Topic], _now: int) -> list[bytes]:
        watches.append(Stopwatch())
        return [GO]

    def on_read(payloads: Sequence[bytes], mono: int) -> None:
        nonlocal seen, reads
        tally.count(payloads, mono)
        if tape.full:
            wire.pause()
        reads += 1
        seen += len(payloads)
        if seen >= count:
            done.set()

    topic = Topic("quotes", "bookTicker", "BTCUSDT", "btcusdt@bookTicker", (b"@bookTicker",))
    wanted = [Wanted("binance:BTC-USDT-PERP", topic)]
    tally = Tally([Track("binance:BTC-USDT-PERP", "quotes")], wanted)
    clock = Clock()
    tape = TapeWriter(folder, now=clock.now)
    wire = Wire(_venue(url, subscribe), wanted, tape, clock, on_read)
    await wire.connect(Route(tls_context(ca)))
    await _tick_until(done, tape, wire, clock)
    wire.shutdown()
    await wire.gone()
    tape.close()
    return watches[0].stop(sum(p.stat().st_size for p in (folder / "raw").glob("*.arrows")), reads)


async def _tick_until(done: asyncio.Event, tape: TapeWriter, wire: Wire, clock: Clock) -> None:
    """Do what the recorder does every 50 ms."""
    while not done.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), TICK_S)
        tape.tick(clock.mono())
        if not tape.full:
            wire.resume()


def _venue(url: str, subscribe: Callable[[Sequence[Topic], int], list[bytes]]) -> Venue:
    """Make Binance, whose frames these are, a venue that can be recorded."""
    return msgspec.structs.replace(
        BINANCE,
        live=True,
        url=url,
        subscribe=subscribe,
        is_data=lambda payload: b'"stream":"' in payload,
        data_mark=b'"stream":"',
        control=lambda _payload: None,
        heartbeat=Heartbeat(silence_ns=30 * NS),
        first_data_ns=10 * NS,
    )


def _trust(ca: Path | None) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=ca) if ca else None


CLIENTS = {client.__name__: client for client in (count_only, notebook, perptape)}

if __name__ == "__main__":
    name, where, frames, place, *authority = sys.argv[1:]
    result = CLIENTS[name](
        where, int(frames), Path(place), Path(authority[0]) if authority else None
    )
    print(msgspec.json.encode(result).decode())
