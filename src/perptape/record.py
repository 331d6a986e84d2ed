"""All wires into one tape, until told to stop."""

import asyncio
import ctypes
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from perptape.attend import Attendance
from perptape.clock import Clock
from perptape.dial import CLOSE_S
from perptape.errors import BadUsage
from perptape.events import MS, NS, Kind, Note
from perptape.names import Loop
from perptape.rest import open_client
from perptape.roster import Request
from perptape.route import Route, tls_context
from perptape.status import MarketStatus, Tally, Track, market_status
from perptape.tape import KEEP_ALL, Retention, TapeWriter
from perptape.universe import Universe
from perptape.venues.venue import Venue
from perptape.wire import Wire

TICK_S = 0.05
CHECK_CLOCK_NS = 250 * MS
TELL_NS = 1 * NS
WHOLE_TAPE = 0
"""The wire number of remarks about all of the tape."""
LARGE_BYTES = 4 << 20
"""More memory than this is given back as soon as it is free; a batch for a segment has less."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Tell = Callable[[Sequence[MarketStatus]], None]


class Plan(msgspec.Struct, frozen=True):
    """What to record, where, and for how long."""

    instruments: tuple[str, ...]
    """Canonical names, each wanted of every venue."""
    venues: tuple[Venue, ...]
    channels: tuple[str, ...] = ("quotes",)
    streams: Mapping[str, Mapping[str, str]] = {}
    """Venue -> channel -> the stream that feeds it, where it is not the venue's first."""
    universe: Universe | None = None
    """Chooses more, each wanted where it is listed; it grows while recording."""
    retention: Retention = KEEP_ALL
    for_ns: int | None = None
    ca_file: Path | None = None
    proxy: str | None = None

    def config(self) -> dict[str, object]:
        """Give what the tape says of itself."""
        chosen = self.universe
        markets = {} if chosen is None else {"markets": chosen.markets()}
        return {
            "instruments": list(self.instruments),
            **markets,
            "venues": [venue.name for venue in self.venues],
            "channels": list(self.channels),
            "streams": {name: dict(chosen) for name, chosen in self.streams.items()},
            "for_ns": self.for_ns,
            "keep_ns": self.retention.keep_ns,
            "max_disk_b": self.retention.max_bytes,
            **({} if chosen is None else {"universe": chosen.config()}),
        }


class Summary(msgspec.Struct, frozen=True):
    """What a recording came to."""

    seconds: float
    markets: tuple[MarketStatus, ...]
    heard: bool
    """Some market gave a data frame; if none did, nothing was recorded."""
    frames: int
    """That this recording put on the tape, its own notes and requests among them."""
    signal: int | None = None
    """What ended it before its time."""


async def record(
    plan: Plan,
    tape: TapeWriter,
    *,
    stop: asyncio.Event,
    status: Tell | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Record until ``stop`` is set or the time is over, then close the tape.

    ``status`` is told of every market once a second. Raises PerptapeError when the plan cannot be
    meant or the tape cannot be written.
    """
    try:
        return await Recorder(plan, tape, clock or Clock(), status).run(stop)
    finally:
        tape.close()


def run(plan: Plan, path: Path, *, sync_ms: int = 1000, status: Tell | None = None) -> Summary:
    """Record into ``path`` until the time is over or a signal comes. Raises PerptapeError.

    Once a signal came the process is to end, and ignores more of them: a second Ctrl-C must not
    cut short what is left to say.
    """
    keep_memory_flat()
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(_until_signalled(plan, path, sync_ms, status))


def keep_memory_flat() -> None:
    """Have glibc give back what is large; other C libraries are left as they are.

    Else the first large block that is freed, be it a list of instruments or what a bomb inflated
    to, moves the bounds up, and from then on as much and more is held (mallopt(3)).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for bound in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(bound, LARGE_BYTES)


async def _until_signalled(plan: Plan, path: Path, sync_ms: int, status: Tell | None) -> Summary:
    stop, clock, loop = asyncio.Event(), Clock(), asyncio.get_running_loop()
    came: list[int] = []

    def on_signal(number: int) -> None:
        came.append(number)
        stop.set()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    is_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for each in SIGNALS[: 2 if is_nohup else 3]:
        loop.add_signal_handler(each, on_signal, each)
    tape = TapeWriter(
        path,
        config={**plan.config(), "sync_ms": sync_ms},
        sync_ms=sync_ms,
        now=clock.now,
        retention=plan.retention,
    )
    summary = await record(plan, tape, stop=stop, status=status, clock=clock)
    return msgspec.structs.replace(summary, signal=came[0] if came else None)


class Recorder:
    """One recording while it runs."""

    def __init__(self, plan: Plan, tape: TapeWriter, clock: Clock, status: Tell | None) -> None:
        self.tape, self.clock = tape, clock
        self.route = Route(tls_context(plan.ca_file), plan.proxy)
        self.random = Random()  # noqa: S311 - jitter
        self.client = open_client(self.route)
        self.wires: dict[Wire, Tally] = {}
        self.universe = plan.universe
        self._plan, self._status = plan, status
        self._tracks = [
            (venue, {r: Track(f"{venue.name}:{r.name}", r.channel) for r in requests(plan, venue)})
            for venue in plan.venues
        ]
        self._full = False
        self._troubles = 0
        self._in_trouble = False
        self._tell_at = self._check_at = clock.mono()

    async def run(self, stop: asyncio.Event) -> Summary:
        begun = self.clock.mono()
        if self.tape.ts_before is not None:
            self._note(Note(note="restart"))
        tasks = [
            asyncio.create_task(self._tick()),
            asyncio.create_task(self._attend()),
            asyncio.create_task(stop.wait()),
        ]
        for_s = None if self._plan.for_ns is None else self._plan.for_ns / NS
        try:
            done, _ = await asyncio.wait(tasks, timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            markets = self._markets()
            await self._end(tasks)
        for task in done:
            _raise_failure(task)
        return Summary(
            seconds=(self.clock.mono() - begun) / NS,
            markets=markets,
            heard=any(market.frames for market in markets),
            frames=self.tape.frames,
        )

    async def _attend(self) -> None:
        async with asyncio.TaskGroup() as group:
            for venue, tracks in self._tracks:
                wanted = partial(requests, self._plan, venue)
                group.create_task(Attendance(self, venue, tracks, wanted).run())

    async def _end(self, tasks: Sequence[asyncio.Task[object]]) -> None:
        """Take leave on every wire, and give the peers no longer than they need for it."""
        wires = list(self.wires)
        for wire in wires:
            wire.shutdown()
        for task in tasks:
            task.cancel()
        going = [*tasks, *(asyncio.create_task(wire.gone()) for wire in wires)]
        await asyncio.wait(going, timeout=CLOSE_S)
        for wire in wires:
            wire.cut()
        await asyncio.wait(going, timeout=CLOSE_S)
        await self.client.aclose()

    # Every 50 ms

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self.clock.mono()
            self.tape.tick(now)
            self.heed()
            if now >= self._check_at:
                self._check_at = now + CHECK_CLOCK_NS
                self._check_clock()
            if now >= self._tell_at and self._status is not None:
                self._tell_at = now + TELL_NS
                self._status(self._markets())

    def _check_clock(self) -> None:
        step_ns = self.clock.check()
        if step_ns is not None:
            self._note(Note(note="clock", step_ns=step_ns))

    def heed(self) -> None:
        """Stop all reading while the tape is full, and say so; note the disk's trouble."""
        trouble, troubles = self.tape.trouble, self.tape.troubles
        if troubles != self._troubles:
            self._troubles, self._in_trouble = troubles, True
            self._note(Note(note="disk", state="begin", reason=trouble))
        if self._in_trouble and trouble is None:
            self._in_trouble = False
            self._note(Note(note="disk", state="end"))
        if self.tape.full:
            for wire in self.wires:
                wire.pause()
        if self.tape.full != self._full:
            self._full = self.tape.full
            self._note(Note(note="overload", state="begin" if self._full else "end"))
            if not self._full:
                for wire in self.wires:
                    wire.resume()

    def _note(self, note: Note) -> None:
        ts, mono = self.clock.now()
        self.tape.append(WHOLE_TAPE, Kind.NOTE, [msgspec.json.encode(note)], ts, mono)

    # Once a second

    def _markets(self) -> tuple[MarketStatus, ...]:
        for wire, tally in self.wires.items():
            tally.settle()
            if wire.session is not None:
                tally.follow(wire.session.lines)
        by_market: dict[str, list[Track]] = {}
        for _, tracks in self._tracks:
            for track in tracks.values():
                by_market.setdefault(track.market, []).append(track)
        (ts, mono), free = self.clock.now(), self._disk_free_b()
        return tuple(
            market_status(
                market,
                tracks,
                ts=ts,
                mono=mono,
                backlog_frames=self.tape.backlog_frames,
                disk_free_b=free,
                trouble=self.tape.trouble,
            )
            for market, tracks in by_market.items()
        )

    def _disk_free_b(self) -> int | None:
        try:
            return shutil.disk_usage(self.tape.path).free
        except OSError:
            return None


def requests(plan: Plan, venue: Venue) -> list[Request]:
    """Give what the plan asks of a venue. Raises BadUsage for a stream that it does not have."""
    if not venue.live:
        raise BadUsage(f"{venue.name} can only be imported; record another venue.")
    chosen = plan.streams.get(venue.name, {})
    for channel, stream in chosen.items():
        known = venue.streams.get(channel, ())
        if stream not in known:
            raise BadUsage(
                f"[venues.{venue.name}] {channel} = {stream!r} is not a stream of it: "
                f"write one of {', '.join(known) or 'another channel'}."
            )
    names = () if plan.universe is None else plan.universe.names(venue.name)
    return [
        Request(
            name, channel, chosen.get(channel) or next(iter(venue.streams.get(channel, ())), None)
        )
        for name in dict.fromkeys((*plan.instruments, *names))
        for channel in plan.channels
    ]


def _raise_failure(task: asyncio.Task[object]) -> None:
    error = None if task.cancelled() else task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
