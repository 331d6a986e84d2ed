"""One venue for as long as a recording lasts: its list, its wires, its clock.

Nothing that it does ends or delays another venue: it refuses, hangs, lies or floods for itself.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from random import Random
from typing import Protocol

import httpx2
import msgspec

from perptape.backoff import LONGEST_NS, delays
from perptape.clock import Clock
from perptape.errors import PerptapeError, Refused, Silent, Unreachable
from perptape.events import NS, Note
from perptape.instruments import Instrument, nearest
from perptape.rest import Rest
from perptape.route import Route
from perptape.session import Wanted
from perptape.status import Tally, Track
from perptape.venues.venue import Poll, Topic, Venue
from perptape.wire import Sink, Wire

ASK_TIME_S = 60.0
"""How often a venue is asked for its clock."""


class Desk(Protocol):
    """What all venues of a recording share."""

    clock: Clock
    route: Route
    client: httpx2.AsyncClient
    random: Random
    wires: dict[Wire, Tally]
    """Those that are open, or being opened."""

    @property
    def tape(self) -> Sink: ...

    def heed(self) -> None:
        """Stop all reading if the tape is full."""


class Request(msgspec.Struct, frozen=True):
    """One channel of one instrument, as a plan names it."""

    name: str
    channel: str
    stream: str | None
    """``None``: the venue has no such channel."""


Asked = tuple[Wanted, Track]


class Attendance:
    """One venue's part of a recording; :meth:`run` ends only when nothing can come of it."""

    def __init__(self, desk: Desk, venue: Venue, tracks: Mapping[Request, Track]) -> None:
        self._desk, self._venue, self._tracks = desk, venue, tracks
        self._rest = Rest(desk.client, venue, desk.tape, desk.clock)
        self._asking: set[asyncio.Task[None]] = set()
        """REST calls that go on beside the wires."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._ask_time())
            await self._hear()
            asking.cancel()
            for task in self._asking:
                task.cancel()

    async def _ask_time(self) -> None:
        while True:
            await self._rest.time()
            await asyncio.sleep(ASK_TIME_S)

    async def _hear(self) -> None:
        wanted = self._resolve(await self._rest.instruments(self._unreachable))
        async with asyncio.TaskGroup() as group:
            for poll in self._venue.polls:
                self._asking.add(group.create_task(self._poll(poll, wanted)))
            async with asyncio.TaskGroup() as wires:
                for socket, each in self._shared_out(wanted):
                    wires.create_task(self._keep(socket, each))
            for task in self._asking:
                task.cancel()

    def _shared_out(self, wanted: Sequence[Asked]) -> Iterator[tuple[str, list[Asked]]]:
        """Give what each wire carries, and its socket; what has one key stays together."""
        by_key: dict[tuple[str, str], list[Asked]] = {}
        for each in wanted:
            by_key.setdefault((each[0].topic.socket, each[0].topic.key), []).append(each)
        sockets: dict[str, list[list[Asked]]] = {}
        for (socket, _), group in by_key.items():
            sockets.setdefault(socket, []).append(group)
        most = max(self._venue.topics_per_wire, 1)
        for socket, groups in sockets.items():
            for start in range(0, len(groups), most):
                yield socket, list(chain.from_iterable(groups[start : start + most]))

    async def _poll(self, poll: Poll, wanted: Sequence[Asked]) -> None:
        """Ask again and again for what no stream tells."""
        symbols = [w.topic.symbol for w, _ in wanted if w.topic.channel == poll.channel]
        while symbols:
            await self._rest.poll(poll, list(dict.fromkeys(symbols)))
            await asyncio.sleep(poll.every_ns / NS)

    def _unreachable(self, reason: str) -> None:
        for track in self._tracks.values():
            track.state, track.error = "unreachable", reason

    # Names to symbols

    def _resolve(self, listed: Sequence[Instrument]) -> list[Asked]:
        """Give the topics that can be asked for; the others are refused on the tape."""
        known: dict[str, Instrument] = {}
        for each in sorted(listed, key=lambda each: each.status != "trading"):
            known.setdefault(each.name, each)
        found = []
        for request, track in self._tracks.items():
            one = known.get(request.name)
            if one is None:
                self._refuse(request, track, self._not_listed(request.name, known))
            elif request.stream is None or self._venue.topic is None:
                self._refuse(request, track, f"{self._venue.name} has no {request.channel}")
            else:
                track.state, track.error = "connecting", None
                for stream in request.stream.split("+"):
                    topic = self._venue.topic(request.channel, stream, one.symbol)
                    found.append((Wanted(track.market, topic), track))
        return found

    def _not_listed(self, name: str, known: Mapping[str, Instrument]) -> str:
        near = nearest(name, known)
        return f"not listed on {self._venue.name}" + (f"; nearest: {near}" if near else "")

    def _refuse(self, request: Request, track: Track, reason: str) -> None:
        track.state, track.error = "refused", reason
        self._rest.note(
            Note(note="refused", market=track.market, channel=request.channel, reason=reason)
        )

    # One wire, over and over

    async def _keep(self, socket: str, wanted: Sequence[Asked]) -> None:
        venue, waits = self._venue, delays(self._desk.random)
        if socket:
            venue = msgspec.structs.replace(venue, url=venue.sockets[socket])
        while True:
            tally = Tally([track for _, track in wanted], [each for each, _ in wanted])
            wire = self._wire(venue, [each for each, _ in wanted], tally)
            try:
                wait_ns = await self._live(wire, tally, waits)
            finally:
                self._desk.wires.pop(wire, None)
                wire.leave()
            if wire.session is not None and wire.session.any_heard:
                waits = delays(self._desk.random)
                wait_ns = next(waits)
            await asyncio.sleep(wait_ns / NS)

    def _wire(self, venue: Venue, wanted: Sequence[Wanted], tally: Tally) -> Wire:
        def on_read(payloads: Sequence[bytes], mono: int) -> None:
            tally.count(payloads, mono)
            if self._desk.tape.full:
                self._desk.heed()
            for topic in wire.session.books.bases_due(mono) if wire.session else ():
                self._fetch_base(wire, topic)

        wire = Wire(venue, wanted, self._desk.tape, self._desk.clock, on_read)
        return wire

    def _fetch_base(self, wire: Wire, topic: Topic) -> None:
        """Ask for the book that a stream of changes goes on from."""

        async def fetch() -> None:
            book = await self._rest.book(topic)
            if book is not None and wire.session is not None:
                wire.session.books.base(topic.key, book.update_id, self._desk.clock.mono())

        task = asyncio.get_running_loop().create_task(fetch())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _live(self, wire: Wire, tally: Tally, waits: Iterator[int]) -> int:
        """Live one connection to its end; give how long to wait before the next, in ns."""
        try:
            self._desk.wires[wire] = tally
            await wire.connect(self._desk.route)
            if self._desk.tape.full:
                wire.pause()
        except Unreachable as error:
            self._rest.note(Note(note="unreachable", reason=str(error)))
            for track in tally.tracks:
                track.state, track.error = "unreachable", str(error)
            return max(next(waits), error.wait_ns)
        lost = await wire.over()
        if isinstance(lost, PerptapeError):
            raise lost
        tally.settle()
        if wire.session is not None:
            tally.follow(wire.session.lines)
        for track in tally.tracks:
            if track.state != "refused":
                track.state = "silent" if isinstance(lost, Silent) else "connecting"
                track.error = str(lost)
        return LONGEST_NS if isinstance(lost, Refused) else next(waits)
