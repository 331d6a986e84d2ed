"""Which time is trusted, and why the rest is not.

A market's channel is trusted from its first data after a subscribe until its wire ends, falls
silent, is refused, or a frame of it is damaged. Everything else is untrusted, with a reason.
"""

from collections.abc import Callable, Iterable
from itertools import product

import msgspec

from perptape.decode import Registry, decoder
from perptape.errors import BadFrame
from perptape.events import CHANNELS, NS, Event, Kind, Note, Opened
from perptape.instruments import Instrument
from perptape.tape import Batch, Tape
from perptape.venues import VENUES

JOIN_NS = 1 * NS
"""Imported files of one market that follow each other this closely are one recording."""


class Interval(msgspec.Struct, frozen=True):
    """A stretch of one market's channel, both ends included, in ns."""

    market: str
    channel: str
    start: int
    end: int
    trusted: bool
    reason: str
    """Why it is not trusted; of a trusted interval: what ended it."""
    detail: str = ""


class Stream(msgspec.Struct):
    """One market's channel while the tape is read: its past, and the interval now open."""

    market: str
    channel: str
    symbol: str
    since: int
    trusted: bool = False
    reason: str = "start"
    detail: str = ""
    frames: int = 0
    last: int = 0
    """``ts_recv`` of its last data."""
    wire: int = 0
    marks: tuple[bytes, ...] = ()
    past: list[Interval] = []

    def heard(self, ts: int) -> None:
        self.frames += 1
        self.last = ts
        if not self.trusted:
            self.turn(ts, trusted=True, reason="")

    def turn(self, ts: int, *, trusted: bool, reason: str, detail: str = "") -> None:
        """End the open interval at ``ts`` and begin another."""
        if ts > self.since or self.trusted:
            why, words = (reason, detail) if self.trusted else (self.reason, self.detail)
            self.past.append(
                Interval(self.market, self.channel, self.since, ts, self.trusted, why, words)
            )
        self.since, self.trusted, self.reason, self.detail = ts, trusted, reason, detail

    def distrust(self, ts: int, reason: str, detail: str = "") -> None:
        """End trust at ``ts``; of untrusted time only the reason changes, from ``ts`` on."""
        if not self.trusted and self.reason == reason:
            return
        self.turn(max(ts, self.since), trusted=False, reason=reason, detail=detail)

    def retract(self, ts: int) -> None:
        """Forget all that was said of the time after ``ts``."""
        while self.past and self.past[-1].end > ts:
            last = self.past.pop()
            if last.start < ts:
                self.past.append(msgspec.structs.replace(last, end=ts))
                break
        self.since = min(self.since, ts)


class Result(msgspec.Struct, frozen=True):
    """What one reading of a tape gave."""

    streams: list[Stream]
    intervals: list[Interval]
    frames: int
    bad: int
    """Frames that their venue's decoder could not read."""
    undecoded: int
    """Data frames of channels that are not decoded."""
    unnamed: int
    """Events whose symbol has no name here."""
    instruments: list[Instrument]


Sink = Callable[[int, int, Event, str], None]
"""(seq, ts_recv, event, market) for each event, in tape order."""


class Ledger:
    """Fed every frame of a tape in order of ``seq``; gives the intervals."""

    def __init__(self, planned: Iterable[tuple[str, str]] = ()) -> None:
        self.streams: dict[tuple[str, str], Stream] = {}
        self.registry = Registry()
        self.instruments: list[Instrument] = []
        self._planned = list(planned)
        self._wires: dict[int, dict[tuple[str, str], Stream]] = {}
        self._imported: set[int] = set()
        self._pieces: dict[tuple[str, str], list[Stream]] = {}
        """Of an imported market: each file by itself, for files come in any order of time."""
        self._wire_last: dict[int, int] = {}
        self._next_seq: int | None = None
        self._last = 0
        self.frames = self.bad = self.undecoded = self.unnamed = 0

    # What the tape says of itself

    def batch(self, batch: Batch, sink: Sink | None) -> None:
        """Take in one batch of frames."""
        if not len(batch):
            return
        self._continuity(batch)
        decoders = {wire: decoder(venue) for wire, venue in batch.venues.items()}
        whole, cuts = bytes(batch.payload), batch.offsets.tolist()
        seq, ts = batch.first_seq, self._last
        for kind, wire, ts, start, stop in zip(
            batch.kind.tolist(), batch.wire.tolist(), batch.ts_recv.tolist(), cuts, cuts[1:],
            strict=False,
        ):  # fmt: skip
            payload = whole[start:stop]
            if kind <= Kind.BINARY:
                try:
                    events = decoders[wire](payload)
                except BadFrame as error:
                    self._damaged(wire, payload, ts, f"frame {seq}: {error}")
                else:
                    self._events(events, wire, batch.venues[wire], seq, ts, sink)
            elif kind >= Kind.OPENED:
                self._said(kind, wire, batch.venues.get(wire, ""), payload, ts)
            if kind <= Kind.CLOSE:
                self._wire_last[wire] = ts
            seq += 1
        self.frames += len(batch)
        self._last = ts

    def _continuity(self, batch: Batch) -> None:
        if self._next_seq is None:
            start = int(batch.ts_recv[0])
            for market, channel in self._planned:
                self._stream(market, channel, "", start)
        elif batch.first_seq != self._next_seq:
            lost = batch.first_seq - self._next_seq
            self._everyone(self._last, "damage", f"{lost} frames of the tape cannot be read")
        self._next_seq = batch.first_seq + len(batch)

    def _events(  # noqa: PLR0913, PLR0917 - where and when the events were heard
        self, events: list[Event], wire: int, venue: str, seq: int, ts: int, sink: Sink | None
    ) -> None:
        if not events:
            self.undecoded += 1
            return
        streams = self._wires.setdefault(wire, {})
        for event in events:
            stream = streams.get((event.symbol, CHANNELS[type(event)]))
            if stream is None:
                stream = self._named(wire, venue, event, ts)
                if stream is None:
                    self.unnamed += 1
                    continue
            stream.heard(ts)
            if sink is not None:
                sink(seq, ts, event, stream.market)

    def _said(self, kind: int, wire: int, venue: str, payload: bytes, ts: int) -> None:
        if kind == Kind.NOTE:
            self._note(wire, venue, msgspec.json.decode(payload, type=Note), ts)
        elif kind == Kind.OPENED:
            self._opened(wire, msgspec.json.decode(payload, type=Opened), ts)
        elif kind == Kind.REST:
            try:
                self.instruments += self.registry.answer(venue, payload, ts)
            except BadFrame:
                self.bad += 1

    def _stream(self, market: str, channel: str, symbol: str, ts: int) -> Stream:
        found = self.streams.get((market, channel))
        if found is None:
            found = Stream(market, channel, symbol, since=ts, past=[])
            self.streams[market, channel] = found
        return found

    def _named(self, wire: int, venue: str, event: Event, ts: int) -> Stream | None:
        name = self.registry.name(venue, event.symbol)
        if name is None:
            return None
        market, channel = f"{venue}:{name}", CHANNELS[type(event)]
        if wire in self._imported:
            stream = Stream(market, channel, event.symbol, since=ts, past=[])
            self._pieces.setdefault((market, channel), []).append(stream)
        else:
            stream = self._stream(market, channel, event.symbol, ts)
        stream.wire = wire
        self._wires[wire][event.symbol, channel] = stream
        return stream

    # What the recorder said

    def _opened(self, wire: int, opened: Opened, ts: int) -> None:
        streams = self._wires.setdefault(wire, {})
        if opened.imported:
            self._imported.add(wire)
        venue = VENUES.get(opened.venue)
        for asked in opened.subscriptions:
            stream = self._stream(asked.market, asked.channel, asked.symbol, ts)
            if stream.trusted:  # the end of its former wire was never written
                stream.distrust(self._wire_last.get(stream.wire, ts), "disconnect")
            stream.wire, stream.symbol = wire, asked.symbol
            if venue is not None and venue.topic is not None:
                stream.marks = venue.topic(asked.channel, asked.stream, asked.symbol).marks
            streams[asked.symbol, asked.channel] = stream

    def _note(self, wire: int, venue: str, note: Note, ts: int) -> None:
        match note.note:
            case "closed" | "silence" | "shutdown":
                self._ended(wire, note, ts)
            case "refused" | "late":
                self._about_market(note, ts)
            case "unreachable":
                self._unreachable(venue, note.reason or "", ts)
            case "restart":
                self._restarted()
            case "clock":
                self._clock(note.step_ns or 0, ts)
            case "overload" | "disk" if note.state != "end":
                self._everyone(ts, note.note, note.reason or "")

    def _ended(self, wire: int, note: Note, ts: int) -> None:
        if note.note == "closed":
            self._on_wire(wire, ts, "disconnect", note.reason or "", causes=("start",))
        elif note.note == "silence":
            heard_at = self._wire_last.get(wire, ts)
            words = f"nothing heard for {(note.silence_ns or 0) / NS:g} s"
            self._on_wire(wire, heard_at, "silence", words, causes=("start",))
        else:
            for stream in self._wires.get(wire, {}).values():
                stream.distrust(ts, "shutdown")

    def _restarted(self) -> None:
        for stream in self.streams.values():
            end = self._wire_last.get(stream.wire, self._last)
            stream.distrust(end, "restart", "the recorder was stopped and started again")

    def _on_wire(
        self, wire: int, ts: int, reason: str, detail: str, *, causes: tuple[str, ...]
    ) -> None:
        """End the trust of a wire's streams; what is untrusted already keeps its own reason."""
        for stream in self._wires.get(wire, {}).values():
            if stream.wire == wire and (stream.trusted or stream.reason in causes):
                stream.distrust(ts, reason, detail)

    def _everyone(self, ts: int, reason: str, detail: str) -> None:
        for stream in self.streams.values():
            if stream.trusted:
                stream.distrust(ts, reason, detail)

    def _about_market(self, note: Note, ts: int) -> None:
        stream = self._stream(note.market or "", note.channel or "", note.symbol or "", ts)
        if note.note == "refused":
            if stream.reason == "start" and not stream.trusted:
                stream.reason, stream.detail = "refused", note.reason or ""
            else:
                stream.distrust(ts, "refused", note.reason or "")
        elif not stream.trusted and stream.reason == "start":
            stream.reason = "silence"
            stream.detail = f"no data within {(note.deadline_ns or 0) / NS:g} s of its subscribe"

    def _unreachable(self, venue: str, reason: str, ts: int) -> None:
        for stream in self.streams.values():
            if stream.market.startswith(f"{venue}:") and not stream.trusted:
                if stream.reason == "start":
                    stream.reason, stream.detail = "disconnect", reason
                elif stream.reason != "disconnect":
                    stream.distrust(ts, "disconnect", reason)

    def _clock(self, step_ns: int, ts: int) -> None:
        """Distrust the time that the step skipped, or that it made happen twice."""
        before = min(self._last, ts)
        words = f"our clock stepped by {step_ns / NS:+.6f} s"
        for stream in self.streams.values():
            stream.retract(before)
            stream.trusted &= stream.since < before
            stream.distrust(before, "clock", words)
            stream.turn(max(self._last, ts), trusted=False, reason="clock", detail=words)

    def _damaged(self, wire: int, payload: bytes, ts: int, words: str) -> None:
        self.bad += 1
        hit = [s for s in self._wires.get(wire, {}).values() if s.wire == wire]
        named = [s for s in hit if s.marks and all(mark in payload for mark in s.marks)]
        for stream in named or hit:
            if stream.trusted:
                stream.distrust(ts, "damage", words)

    def finish(self) -> Result:
        """Close every open interval at the end of the tape."""
        for stream in self.streams.values():
            if stream.trusted:
                end = self._wire_last.get(stream.wire, self._last)
                stream.turn(end, trusted=False, reason="shutdown")
            stream.turn(max(self._last, stream.since), trusted=False, reason="shutdown")
            if not stream.frames:
                stream.past = [_never_heard(i) for i in stream.past]
        whole = [_joined(pieces) for pieces in self._pieces.values()]
        streams = sorted([*self.streams.values(), *whole], key=lambda s: (s.market, s.channel))
        return Result(
            streams=streams,
            intervals=[i for s in streams for i in s.past],
            frames=self.frames,
            bad=self.bad,
            undecoded=self.undecoded,
            unnamed=self.unnamed,
            instruments=self.instruments,
        )


def _joined(pieces: list[Stream]) -> Stream:
    """Make one stream of a market's imported files, each trusted from first to last frame."""
    for piece in pieces:
        if piece.trusted:
            piece.turn(piece.last, trusted=False, reason="shutdown")
    past = sorted((i for p in pieces for i in p.past), key=lambda i: (i.start, i.end))
    first = pieces[0]
    whole = Stream(first.market, first.channel, first.symbol, since=past[0].start, past=[])
    whole.frames = sum(piece.frames for piece in pieces)
    for interval in past:
        if interval.trusted:
            _append(whole.past, interval, [i for i in past if i.reason == "damage"])
    return whole


def _append(past: list[Interval], new: Interval, damage: list[Interval]) -> None:
    """Add trusted time at the end, joined to what it touches; what lies between has a reason."""
    if not past:
        past.append(new)
        return
    last = past[-1]
    hurt = [i for i in damage if not i.trusted and last.end <= i.start < i.end <= new.start]
    if new.start - last.end <= JOIN_NS and not hurt:
        past[-1] = msgspec.structs.replace(last, end=max(last.end, new.end), reason=new.reason)
        return
    reason, detail = "disconnect", "between two imported files"
    if hurt:
        reason, detail = hurt[0].reason, hurt[0].detail
    between = msgspec.structs.replace(
        last, start=last.end, end=new.start, trusted=False, reason=reason, detail=detail
    )
    past += [msgspec.structs.replace(last, reason=reason), between, new]
    del past[-4]


def _never_heard(interval: Interval) -> Interval:
    if interval.reason != "start":
        return interval
    return msgspec.structs.replace(interval, reason="silence", detail="no data at all")


def read(tape: Tape, *, sink: Sink | None = None) -> Result:
    """Read a whole tape once: the ledger, and each event to ``sink`` on the way."""
    ledger = Ledger(planned(tape))
    for batch in tape.batches():
        ledger.batch(batch, sink)
    return ledger.finish()


def planned(tape: Tape) -> list[tuple[str, str]]:
    """List the (market, channel) pairs that the recorder set out to hear."""
    found: dict[tuple[str, str], None] = {}
    for run in tape.meta.runs:
        venues, names = run.config.get("venues", []), run.config.get("instruments", [])
        pairs = product(venues, names, run.config.get("channels", []))
        found.update({(f"{venue}:{name}", channel): None for venue, name, channel in pairs})
    return list(found)
