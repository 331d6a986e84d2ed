"""The clients that are compared: each takes ``count`` frames and says what CPU time it took.

``python recorders.py NAME URL COUNT FOLDER [CA]`` prints one line of JSON. The time is the whole
process's, all threads, user and system, from the open connection to the closed file.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import picows
import uvloop
from notebook_way import notebook, trust
from took import GO, Stopwatch, Took

from perptape.clock import Clock
from perptape.record import keep_memory_flat
from perptape.route import Route, tls_context
from perptape.session import Wanted
from perptape.status import Tally, Track
from perptape.tape import TapeWriter
from perptape.venues import VENUES
from perptape.venues.venue import Topic, Venue
from perptape.wire import Wire

TICK_S = 0.05
BOOK_TICKER = ("binance", "bookTicker")
SYMBOLS = {"gateio": "BTC_USDT", "htx": "BTC-USDT"}


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
    transport, _ = await picows.ws_connect(lambda: counter, url, ssl_context=trust(ca))
    watch = Stopwatch()
    transport.send(picows.WSMsgType.TEXT, GO)
    await done.wait()
    took = watch.stop(0, counter.reads)
    transport.disconnect(graceful=False)
    return took


def perptape(
    url: str, count: int, folder: Path, ca: Path | None, of: tuple[str, str] = BOOK_TICKER
) -> Took:
    """Record with this project's wire and tape; ``of`` is a venue and its stream of quotes."""
    keep_memory_flat()  # as the recorder does at its start
    return uvloop.run(_perptape(url, count, folder / "tape", ca, of))


async def _perptape(
    url: str, count: int, folder: Path, ca: Path | None, of: tuple[str, str]
) -> Took:
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

    venue, wanted = played(url, of, subscribe)
    tally = Tally([Track(wanted[0].market, "quotes")], wanted)
    clock = Clock()
    tape = TapeWriter(folder, now=clock.now)
    wire = Wire(venue, wanted, tape, clock, on_read)
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


def played(
    url: str, of: tuple[str, str], subscribe: Callable[[Sequence[Topic], int], list[bytes]]
) -> tuple[Venue, list[Wanted]]:
    """Give a venue that is heard at ``url``, and BTC's quotes there as what is wanted of it."""
    name, stream = of
    venue = msgspec.structs.replace(VENUES[name], url=url, subscribe=subscribe)
    if venue.topic is None:
        raise ValueError(f"{name} can only be imported")
    topic = venue.topic("quotes", stream, SYMBOLS.get(name, "BTCUSDT"))
    return venue, [Wanted(f"{name}:BTC-USDT-PERP", topic)]


CLIENTS = {client.__name__: client for client in (count_only, notebook, perptape)}

if __name__ == "__main__":
    name, where, frames, place, *authority = sys.argv[1:]
    result = CLIENTS[name](
        where, int(frames), Path(place), Path(authority[0]) if authority else None
    )
    print(msgspec.json.encode(result).decode())
