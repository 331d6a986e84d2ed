"""One venue for as long as a recording lasts: its list, its wires, its clock.

Nothing that it does ends or delays another venue: it refuses, hangs, lies or floods for itself.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
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
from perptape.venues.venue import Venue
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


class Attendance:
    """One venue's part of a recording; :meth:`run` ends only when nothing can come of it."""

    def __init__(self, desk: Desk, venue: Venue, tracks: Mapping[Request, Track]) -> None:
        self._desk, self._venue, self._tracks = desk, venue, tracks
        self._rest = Rest(desk.client, venue, desk.tape, desk.clock)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._ask_time())
            await self._hear()
            asking.cancel()

    async def _ask_time(self) -> None:
        while True:
            await self._rest.time()
            await asyncio.sleep(ASK_TIME_S)

    async def _hear(self) -> None:
        wanted = self._resolve(await self._rest.instruments(self._unreachable))
        each = max(self._venue.topics_per_wire, 1)
        async with asyncio.TaskGroup() as group:
            for start in range(0, len(wanted), each):
                group.create_task(self._keep(wanted[start : start + each]))

    def _unreachable(self, reason: str) -> None:
        for track in self._tracks.values():
            track.state, track.error = "unreachable", reason

    # Names to symbols

    def _resolve(self, listed: Sequence[Instrument]) -> list[tuple[Wanted, Track]]:
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
                topic = self._venue.topic(request.channel, request.stream, one.symbol)
                track.state, track.error = "connecting", None
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

    async def _keep(self, wanted: Sequence[tuple[Wanted, Track]]) -> None:
        waits = delays(self._desk.random)
        while True:
            tally = Tally([track for _, track in wanted], [each for each, _ in wanted])
            wire = self._wire([each for each, _ in wanted], tally)
            try:
                wait_ns = await self._live(wire, tally, waits)
            finally:
                self._desk.wires.pop(wire, None)
                wire.leave()
            if wire.session is not None and wire.session.any_heard:
                waits = delays(self._desk.random)
                wait_ns = next(waits)
            await asyncio.sleep(wait_ns / NS)

    def _wire(self, wanted: Sequence[Wanted], tally: Tally) -> Wire:
        def on_read(payloads: Sequence[bytes], mono: int) -> None:
            tally.count(payloads, mono)
            if self._desk.tape.full:
                self._desk.heed()

        return Wire(self._venue, wanted, self._desk.tape, self._desk.clock, on_read)

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
