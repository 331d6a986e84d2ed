"""One venue for as long as a recording lasts: its list, its wires, its clock.

Nothing that it does ends or delays another venue: it refuses, hangs, lies or floods for itself.
"""

import asyncio
import itertools
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Protocol

import httpx2
import msgspec

from perptape.backoff import LONGEST_NS, delays
from perptape.clock import Clock
from perptape.errors import PerptapeError, Refused, Silent, Unreachable
from perptape.events import NS, Note
from perptape.instruments import Instrument
from perptape.rest import Rest
from perptape.resync import Resync
from perptape.roster import Asked, News, Request, Roster, Verdict
from perptape.route import Route
from perptape.session import State, Wanted
from perptape.status import Tally, Track
from perptape.universe import Universe
from perptape.venues.venue import Poll, Topic, Venue
from perptape.wire import Sink, Wire

STIR_S = 5.0
ASK_TIME_FIRST, ASK_TIME_FIRST_S = 5, 2.0
"""The first questions to a venue's clock come quickly: the fastest answer of several bounds it."""
ASK_TIME_S = 60.0
"""How often a venue is asked for its clock."""
LIST_AGAIN_S = 600.0
"""How often it is asked for its instruments: what changes applies from the answer on."""
LIST_AGAIN_LOST_S = 60.0
"""A venue that ends a connection may have changed something: then it is asked sooner, but at most
so often."""
MISSING_AGAIN_S = 5.0
"""A market ends only if so much later, too, it is not on the list."""


class Desk(Protocol):
    """What all venues of a recording share."""

    clock: Clock
    route: Route
    client: httpx2.AsyncClient
    random: Random
    wires: dict[Wire, Tally]
    """Those that are open, or being opened."""
    universe: Universe | None
    """The rule that chooses markets, where there is one."""

    @property
    def tape(self) -> Sink: ...

    def heed(self) -> None:
        """Stop all reading if the tape is full."""


class Attendance:
    """One venue's part of a recording; :meth:`run` ends only when nothing can come of it."""

    def __init__(
        self,
        desk: Desk,
        venue: Venue,
        tracks: dict[Request, Track],
        requests: Callable[[], Iterable[Request]] = tuple,
    ) -> None:
        """``requests`` tells, after each list, what is wanted: its tracks are added."""
        self._desk, self._venue, self._tracks = desk, venue, tracks
        self._requests = requests
        self._roster = Roster(venue, tracks)
        self._rest = Rest(desk.client, venue, desk.tape, desk.clock)
        self._groups: list[list[Asked]] = []
        """What each wire is to carry, this one and those that take its place."""
        self._wires: dict[Wire, set[str]] = {}
        """Those that are open or being opened, and what has ended before they were."""
        self._lost = asyncio.Event()
        """A connection was lost since the list was asked for."""
        self._asking: set[asyncio.Task[None]] = set()
        """REST calls that go on beside the wires."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(each()) for each in (self._ask_time, self._stir)]
            try:
                await self._hear()
            finally:
                for task in (*asking, *self._asking):
                    task.cancel()

    async def _ask_time(self) -> None:
        for number in itertools.count():
            await self._rest.time()
            await asyncio.sleep(ASK_TIME_FIRST_S if number < ASK_TIME_FIRST else ASK_TIME_S)

    async def _stir(self) -> None:
        """Ask again for what says nothing: a venue may have forgotten one topic of a wire."""
        while True:
            await asyncio.sleep(STIR_S)
            for wire in list(self._wires):
                tally = self._desk.wires.get(wire)
                if wire.session is not None and tally is not None:
                    now = self._desk.clock.mono()
                    wire.ask_anew(tally.quiet(wire.session.lines, self._venue.slow, now))

    async def _hear(self) -> None:
        news = await self._read(await self._rest.instruments(self._unreachable))
        if not news.opened and self._desk.universe is None:
            return
        async with asyncio.TaskGroup() as wires:
            self._tasks = wires
            self._open(wires, news.opened)
            for poll in self._venue.polls:
                self._asking.add(wires.create_task(self._poll(poll)))
            while True:
                await self._until_list_is_due()
                self._open(wires, (await self._list_again()).opened)

    def _open(self, wires: asyncio.TaskGroup, wanted: Sequence[Asked]) -> None:
        """Open as many wires as these need; those that are open carry on."""
        for socket, each in shared_out(wanted, self._venue.topics_per_wire):
            self._groups.append(each)
            wires.create_task(self._keep(socket, each))

    async def _poll(self, poll: Poll) -> None:
        """Ask again and again for what no stream tells."""
        while True:
            if symbols := self._roster.symbols(poll.channel):
                await self._rest.poll(poll, symbols)
            await asyncio.sleep(poll.every_ns / NS)

    def _unreachable(self, reason: str) -> None:
        for track in self._tracks.values():
            track.state, track.error = "unreachable", reason

    # The venue's list

    async def _until_list_is_due(self) -> None:
        await asyncio.sleep(LIST_AGAIN_LOST_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(LIST_AGAIN_S - LIST_AGAIN_LOST_S):
                await self._lost.wait()
        self._lost.clear()

    async def _list_again(self) -> News:
        """Ask for the list again; what is missing from it is asked for twice."""
        listed = await self._rest.instruments(lambda _: None)
        if self._roster.would_end(listed):
            await asyncio.sleep(MISSING_AGAIN_S)
            listed += await self._rest.instruments(lambda _: None)
        return await self._read(listed)

    async def _read(self, listed: Sequence[Instrument]) -> News:
        """Note what is refused and what has ended; let go what has."""
        await self._grow(listed)
        for request in self._requests():
            if request not in self._tracks:
                market = f"{self._venue.name}:{request.name}"
                self._tracks[request] = Track(market, request.channel)
        news = self._roster.read(listed)
        for verdict in news.refused:
            self._say("refused", verdict)
        for verdict in news.ended:
            self._say("delisted", verdict)
        for _, track in news.opened:
            track.state, track.error = "connecting", None
        self._let_go({verdict.symbol for verdict in news.ended if verdict.symbol})
        return news

    async def _grow(self, listed: Sequence[Instrument]) -> None:
        """Let the universe take in the list, and by what is traded choose of what is new."""
        universe, name = self._desk.universe, self._venue.name
        if universe is None:
            return
        universe.listed(name, listed)
        try:
            if universe.has_news and universe.rule.top is not None:
                universe.traded(name, await self._rest.turnover())
        except Unreachable as error:
            self._rest.note(Note(note="unreachable", reason=str(error)))
        universe.grow()

    def _say(self, word: str, verdict: Verdict) -> None:
        track, reason = verdict.track, verdict.reason
        track.state, track.error = word, reason
        self._rest.note(
            Note(
                note=word,
                market=track.market,
                channel=track.channel,
                symbol=verdict.symbol,
                reason=reason,
            )
        )

    def _let_go(self, symbols: Collection[str]) -> None:
        """Take what has ended off the wires, which carry on with the rest."""
        for group in self._groups if symbols else ():
            group[:] = [asked for asked in group if asked[0].topic.symbol not in symbols]
        for wire, late in self._wires.items():
            if wire.session is None:
                late.update(symbols)
            else:
                _end(wire, symbols)

    # One wire, over and over

    async def _keep(self, socket: str, group: list[Asked]) -> None:
        """Keep a wire open for what is in the group, as long as anything is."""
        venue, waits, suspects = self._venue, delays(self._desk.random), [""]
        if socket:
            venue = msgspec.structs.replace(venue, url=venue.sockets[socket])
        while group:
            wanted = [each for each, _ in group]
            tally = Tally([track for _, track in group], wanted, self._desk.clock.mono())
            wire = self._wire(venue, wanted, tally)
            self._wires[wire] = set()
            try:
                wait_ns = await self._live(wire, tally, waits)
            finally:
                self._wires.pop(wire, None)
                self._desk.wires.pop(wire, None)
                wire.leave()
            if wire.session is not None and wire.session.any_heard:
                waits = delays(self._desk.random)
                wait_ns = next(waits)
            suspects.append(_suspect(wire) if venue.drops_unknown else "")
            if suspects[-1] and suspects[-1] == suspects[-2]:
                self._isolate(socket, group, suspects[-1])
            await asyncio.sleep(wait_ns / NS if group else 0)
        self._groups = [each for each in self._groups if each is not group]

    def _isolate(self, socket: str, group: list[Asked], symbol: str) -> None:
        """Give a symbol that costs the others their wire one of its own."""
        alone = [asked for asked in group if asked[0].topic.symbol == symbol]
        if len(alone) < len(group):
            group[:] = [asked for asked in group if asked[0].topic.symbol != symbol]
            self._groups.append(alone)
            self._tasks.create_task(self._keep(socket, alone))

    def _wire(self, venue: Venue, wanted: Sequence[Wanted], tally: Tally) -> Wire:
        def on_read(payloads: Sequence[bytes], mono: int) -> None:
            tally.count(payloads, mono)
            if self._desk.tape.full:
                self._desk.heed()
            wire = own()
            if wire is not None and wire.session is not None:
                for topic in wire.session.books.bases_due(mono):
                    self._fetch_base(wire, topic)

        wire = Wire(venue, wanted, self._desk.tape, self._desk.clock, on_read)
        own = weakref.ref(wire)  # else a wire that has ended would stay until the next collection
        return wire

    def _fetch_base(self, wire: Wire, topic: Topic) -> None:
        """Ask for the book that a stream of changes goes on from."""

        async def fetch(books: Resync) -> None:
            def is_needed() -> bool:
                return wire in self._wires and books.needs_base(topic.key)

            book = None
            try:
                book = await self._rest.book(topic, is_needed)
            finally:
                now = self._desk.clock.mono()
                if book is None:
                    books.no_base(topic.key, now)
                else:
                    books.base(topic.key, book.update_id, now)

        if wire.session is None:
            return
        task = asyncio.get_running_loop().create_task(fetch(wire.session.books))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _live(self, wire: Wire, tally: Tally, waits: Iterator[int]) -> int:
        """Live one connection to its end; give how long to wait before the next, in ns."""
        try:
            self._desk.wires[wire] = tally
            await wire.connect(self._desk.route)
            _end(wire, self._wires[wire])
            if self._desk.tape.full:
                wire.pause()
        except Unreachable as error:
            self._rest.note(Note(note="unreachable", reason=str(error)))
            for track in tally.tracks:
                if track.state != "delisted":
                    track.state, track.error = "unreachable", str(error)
            return max(next(waits), error.wait_ns)
        lost = await wire.over()
        self._lost.set()
        if isinstance(lost, PerptapeError):
            raise lost
        tally.settle()
        if wire.session is not None:
            tally.follow(wire.session.lines)
        for track in tally.tracks:
            if track.state not in {"refused", "delisted"}:
                track.state = "silent" if isinstance(lost, Silent) else "connecting"
                track.error = str(lost)
        return LONGEST_NS if isinstance(lost, Refused) else next(waits)


def shared_out(wanted: Sequence[Asked], most: int) -> Iterator[tuple[str, list[Asked]]]:
    """Give what each wire carries, and its socket: what a symbol has there stays together.

    ``most``: keys a wire may carry.
    """
    symbols: dict[tuple[str, str], list[Asked]] = {}
    for each in wanted:
        topic = each[0].topic
        symbols.setdefault((topic.socket, topic.symbol), []).append(each)
    carried: dict[str, list[Asked]] = {}
    for (socket, _), group in symbols.items():
        together = [*carried.get(socket, ()), *group]
        if len({each.topic.key for each, _ in together}) > most:
            if socket in carried:
                yield socket, carried[socket]
            together = group
        carried[socket] = together
    yield from carried.items()


def _suspect(wire: Wire) -> str:
    """Give the symbol of the first topic that a lost wire did not acknowledge, if there is one."""
    lines = wire.session.lines if wire.session is not None else []
    return next((line.wanted.topic.symbol for line in lines if line.state is State.ASKED), "")


def _end(wire: Wire, symbols: Collection[str]) -> None:
    """Let a wire go on without these; end one that has nothing else."""
    if wire.session is not None and symbols:
        wire.session.end(symbols)
        if wire.session.is_over:
            wire.shutdown()
