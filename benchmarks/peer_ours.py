"""perptape, and the notebook's way, as clients of the comparison."""

import asyncio
from collections.abc import Callable, Sequence

import recorders
import uvloop
from peer_frames import STREAMS
from peer_job import Job, Ran, Watch, peak_mb, ran_of, taker
from recorders import GO

from perptape.clock import Clock
from perptape.decode import decoder
from perptape.events import Kind, Quote
from perptape.route import Route, tls_context
from perptape.tape import Tape
from perptape.venues.venue import Topic
from perptape.wire import Wire

FEW = 32
"""Of fewer frames in a read each is decoded by itself: that costs less."""
LAST_DATA = int(Kind.BINARY)
Take = Callable[[Sequence[bytes], int], None]


# Socket to disk


def record_count_only(job: Job) -> Ran:
    """Count the frames with picows: what receiving alone costs."""
    took = recorders.count_only(job.url, job.count, job.folder, job.ca)
    return Ran(took.cpu_s, took.wall_s, peak_mb(), job.count)


def record_perptape(job: Job) -> Ran:
    """The recorder's own wire, session, tally and tape, with its 50 ms timer."""
    of = (job.venue, STREAMS[job.venue])
    took = recorders.perptape(job.url, job.count, job.folder, job.ca, of)
    ran, watch = ran_of(took), Watch(job)
    for batch in Tape(job.folder / "tape").batches():
        watch.stamps.extend(batch.ts_recv[batch.kind <= LAST_DATA].tolist())
    ran.got = len(watch.stamps)
    return watch.with_latency(ran)


# Socket to typed quote


def quotes_perptape(job: Job) -> Ran:
    """The recorder's wire without a tape; each frame decoded when its read is over."""
    watch = Watch(job)
    take, decode = taker(watch), decoder(job.venue)

    def on_read(payloads: Sequence[bytes], _mono: int) -> None:
        for payload in payloads:
            for event in decode(payload):
                if type(event) is Quote:
                    take(event)

    return uvloop.run(listen(job, watch, on_read))


class Nowhere:
    """A sink that keeps nothing: the peers keep nothing either."""

    full = False

    def new_wire(self, _venue: str) -> int:
        return 1

    def end_wire(self, _wire: int) -> None:
        pass

    def append(self, *_record: object) -> int:
        return 0


async def listen(job: Job, watch: Watch, take: Take) -> Ran:
    done, seen = asyncio.Event(), 0

    def on_read(payloads: Sequence[bytes], mono: int) -> None:
        nonlocal seen
        take(payloads, mono)
        seen += len(payloads)
        if seen >= job.count:
            done.set()

    def subscribe(_topics: Sequence[Topic], _now: int) -> list[bytes]:
        watch.begin()
        return [GO]

    venue, wanted = recorders.played(job.url, (job.venue, STREAMS[job.venue]), subscribe)
    wire = Wire(venue, wanted, Nowhere(), Clock(), on_read)
    await wire.connect(Route(tls_context(job.ca)))
    await done.wait()
    ran = watch.stop()
    wire.shutdown()
    await wire.gone()
    return ran


CLIENTS = {
    ("record", "count_only"): record_count_only,
    ("record", "perptape"): record_perptape,
    ("quotes", "perptape"): quotes_perptape,
}
