"""Which time is trusted, and why the rest is not.

A market's channel is trusted from its first data after a subscribe until its wire ends, falls
silent, is refused, or a frame of it is damaged. Everything else is untrusted, with a reason.

The recorder's time is that of its own frames; imported files have theirs, whenever they came.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, product
from typing import TypeVar

import msgspec
import numpy as np
from msgspec.structs import replace

from perptape.decode import Registry, Terms, decoder, is_control
from perptape.errors import BadFrame
from perptape.events import CHANNELS, MS, NS, Event, Kind, Note, Opened
from perptape.instruments import Instrument
from perptape.tape import Batch, Tape
from perptape.timeline import Interval, Stream, combined, ended, told_once
from perptape.venues import VENUES

MARKET = re.compile(r"[a-z0-9_]{1,64}:[A-Z0-9][A-Z0-9._-]{0,63}")
CHANNEL = re.compile(r"[a-z_]{1,32}")
"""What names on a tape may be, for they become paths and are printed."""
SET_BACK_NS = 1 * MS
"""Time that falls by less is the order in which one pass of the recorder's loop wrote."""
TYPES: dict[str, type] = {channel: event for event, channel in CHANNELS.items()}
LAST_DATA, LAST_WIRE_KIND = int(Kind.BINARY), int(Kind.SENT)
LONG_NS = 1 << 63
"""A tape that is not ours may say anything."""
AS_STARTED = ("start",)

Said = TypeVar("Said", Note, Opened)


class Heard(msgspec.Struct):
    """Events in tape order, as columns: a tuple for each costs a fifth of all tabulating."""

    seq: list[int] = []
    ts_recv: list[int] = []
    terms: list[int] = []
    """Index into ``Ledger.terms``."""
    events: list[Event] = []

    def __len__(self) -> int:
        return len(self.events)


class Wire(msgspec.Struct):
    """One connection while the tape is read."""

    number: int
    venue: str
    decode: Callable[[bytes], list[Event]]
    imported: bool
    is_known: bool = False
    """Its opening was read, so that what it was asked for is known."""
    is_over: bool = False
    last: int | None = None
    """``ts_recv`` of the last frame that came over it."""
    streams: dict[tuple[str, object], Stream] = {}
    """By symbol and type of event."""

    def carried(self) -> list[Stream]:
        """Give the streams whose trust hangs on this wire."""
        return [s for s in self.streams.values() if self.imported or s.wire == self.number]


class Asked(msgspec.Struct, frozen=True):
    """What one run of the recorder set out to hear."""

    ts_start: int
    streams: tuple[tuple[str, str], ...]
    """(market, channel)."""


class Result(msgspec.Struct, frozen=True):
    """What one reading of a tape gave."""

    streams: list[Stream]
    intervals: list[Interval]
    frames: int
    bad: int
    """Frames that could not be read: a venue's, or our own of a shape that we do not know."""
    undecoded: int
    """Data frames of channels that are not decoded."""
    unnamed: int
    """Events whose symbol has no name here."""
    instruments: list[Instrument]


class Ledger:
    """Fed every frame of a tape in order of ``seq``; gives the intervals."""

    def __init__(self, asked: Iterable[Asked] = ()) -> None:
        self.registry = Registry()
        self.instruments: list[Instrument] = []
        self.terms: list[Terms] = []
        """What rows are made with, in order of their first use."""
        self._terms_at: dict[Terms, int] = {}
        self._to_come = [run for run in asked if run.streams]
        self._live: dict[tuple[str, str], Stream] = {}
        self._pieces: dict[tuple[str, str], list[Stream]] = {}
        """Of an imported market: each file, and each stretch of rising time in it, by itself."""
        self._wires: dict[int, Wire] = {}
        self._troubles: dict[str, str] = {}
        """What keeps the recorder from hearing all: overload, disk."""
        self._next_seq = 1
        self._high = 0
        """The latest time of the recorder. Earlier time that comes again is not trusted."""
        self._own_last = 0
        """Time of the recorder's last frame."""
        self._last = 0
        self._fell = False
        """Time fell before this batch; the recorder's own was not looked at yet."""
        self.frames = self.bad = self.undecoded = self.unnamed = 0

    def batch(self, batch: Batch, heard: Heard | None = None) -> None:
        """Take in one batch of frames; append its events to ``heard``."""
        if not len(batch):
            return
        self._begin(batch)
        wires, whole, cuts = self._wires, bytes(batch.payload), batch.offsets.tolist()
        for seq, (kind, number, ts, start, stop) in enumerate(
            zip(
                batch.kind.tolist(), batch.wire.tolist(), batch.ts_recv.tolist(), cuts, cuts[1:],
                strict=False,
            ), batch.first_seq,
        ):  # fmt: skip
            wire = wires[number]
            if kind > LAST_WIRE_KIND:
                self._said(kind, wire, whole[start:stop], ts)
                continue
            if self._fell and not wire.imported:
                self._set_back(ts)
            if kind <= LAST_DATA:
                wire.last = ts
                try:
                    events = wire.decode(whole[start:stop])
                except BadFrame as error:
                    self._damaged(wire, whole[start:stop], ts, f"frame {seq}: {error}")
                    continue
                if events:
                    self._heard(events, wire, seq, ts, heard)
                elif not is_control(wire.venue, whole[start:stop]):
                    self.undecoded += 1
            elif kind != LAST_WIRE_KIND:
                wire.last = ts
        self._end(batch)

    def _begin(self, batch: Batch) -> None:
        for number, venue in batch.venues.items():
            if number not in self._wires:
                is_imported = batch.ts_mono is None
                self._wires[number] = Wire(number, venue, decoder(venue), is_imported)
        ts = int(batch.ts_recv[0])
        if self._next_seq == 1:
            self._ask(self._begun(ts, at_least=int(batch.ts_mono is not None)), ts)
        if batch.first_seq != self._next_seq:
            self._hole(f"{batch.first_seq - self._next_seq} frames of the tape cannot be read")
        self._fell = ts < self._own_last
        if ts < self._last:
            for wire in self._wires.values():
                if wire.imported and wire.last is not None and ts < wire.last:
                    wire.streams.clear()  # what comes now is another piece

    def _end(self, batch: Batch) -> None:
        self.frames += len(batch)
        self._next_seq = batch.first_seq + len(batch)
        self._last = int(batch.ts_recv[-1])
        own = [number for number in batch.venues if not self._wires[number].imported]
        times = batch.ts_recv
        if len(own) < len(batch.venues):
            times = times[np.isin(batch.wire, own)]
        if len(times):
            self._own_last = int(times[-1])
            self._high = max(self._high, self._own_last)

    def _heard(
        self, events: list[Event], wire: Wire, seq: int, ts: int, heard: Heard | None
    ) -> None:
        for event in events:
            stream = wire.streams.get((event.symbol, type(event)))
            if stream is None:
                stream = self._named(wire, event, ts)
                if stream is None:
                    self.unnamed += 1
                    continue
            if seq != stream.seq:
                stream.seq = seq
                stream.frames += 1
                stream.last = ts
            if not stream.trusted:
                self._trust(stream, wire, ts)
            if heard is not None:
                heard.seq.append(seq)
                heard.ts_recv.append(ts)
                heard.terms.append(stream.terms)
                heard.events.append(event)

    # Which stream an event belongs to

    def _named(self, wire: Wire, event: Event, ts: int) -> Stream | None:
        """Give the stream of a symbol that this wire was not asked for, by its name."""
        name = self.registry.name(wire.venue, event.symbol)
        market, channel = f"{wire.venue}:{name}", CHANNELS[type(event)]
        if name is None or not MARKET.fullmatch(market):
            return None
        if wire.imported:
            stream = Stream(market, channel, ts, wire=wire.number)
            self._pieces.setdefault((market, channel), []).append(stream)
        else:
            stream = self._stream(market, channel, ts)
            if not wire.is_known:  # its opening is lost, and may have been to carry this
                self._carry(stream, wire, ts)
        wire.streams[event.symbol, type(event)] = stream
        stream.terms = self._terms(market, event.symbol)
        return stream

    def _stream(self, market: str, channel: str, ts: int) -> Stream:
        found = self._live.get((market, channel))
        if found is None:
            found = Stream(market, channel, max(ts, self._high))
            self._live[market, channel] = found
        return found

    def _is_carried(self, stream: Stream) -> bool:
        return stream.wire > 0 and not self._wires[stream.wire].is_over

    def _carry(self, stream: Stream, wire: Wire, ts: int) -> None:
        """Hang a stream on a wire; if still trusted, nobody wrote how its former one ended."""
        if stream.trusted:
            words = "its former connection ended without a word"
            stream.distrust(self._heard_last(stream, ts), "disconnect", words)
        stream.wire = wire.number

    def _heard_last(self, stream: Stream, ts: int) -> int:
        """Give when its wire last brought anything, ``ts`` if never; imported: it itself."""
        wire = self._wires.get(stream.wire)
        if wire is None or wire.last is None:
            return ts
        return stream.last if wire.imported else wire.last

    def _terms(self, market: str, symbol: str) -> int:
        venue = market.partition(":")[0]
        terms = Terms.of(market, symbol, self.registry.find(venue, symbol))
        at = self._terms_at.setdefault(terms, len(self.terms))
        if at == len(self.terms):
            self.terms.append(terms)
        return at

    def _list(self, wire: Wire, payload: bytes, ts: int) -> None:
        """Take in a REST answer; rows after it are made by the instruments that it lists."""
        try:
            listed = self.registry.answer(wire.venue, payload, ts)
        except BadFrame:
            self.bad += 1
            return
        self.instruments += listed
        for each in self._wires.values() if listed else ():
            if each.venue == wire.venue:
                for (symbol, _), stream in each.streams.items():
                    stream.terms = self._terms(stream.market, symbol)

    # What the recorder said

    def _said(self, kind: int, wire: Wire, payload: bytes, ts: int) -> None:
        if kind == Kind.REST:
            self._list(wire, payload, ts)
            return
        opened = _parsed(payload, Opened) if kind == Kind.OPENED else None
        wire.imported = wire.imported if opened is None else opened.imported
        if not wire.imported:
            self._look_back(ts)
        note = _parsed(payload, Note) if kind == Kind.NOTE else None
        if note is not None:
            self._note(wire, note, ts)
        elif opened is None:
            self._unreadable(self._touched(wire, kind))
        elif not opened.imported:
            self._opened(wire, opened, ts)

    def _look_back(self, ts: int) -> None:
        if self._fell:
            self._set_back(ts)
        self._high = max(self._high, ts)

    def _opened(self, wire: Wire, opened: Opened, ts: int) -> None:
        wire.is_known = True
        venue = VENUES.get(opened.venue)
        for asked in opened.subscriptions:
            if not _is_named(asked.market, asked.channel):
                self.bad += 1
                continue
            stream = self._stream(asked.market, asked.channel, ts)
            self._carry(stream, wire, ts)
            stream.terms = self._terms(asked.market, asked.symbol)
            if venue is not None and venue.topic is not None:
                stream.marks = venue.topic(asked.channel, asked.stream, asked.symbol).marks
            wire.streams[asked.symbol, TYPES.get(asked.channel, asked.channel)] = stream

    def _note(self, wire: Wire, note: Note, ts: int) -> None:
        match note.note:
            case "closed" | "silence" | "shutdown":
                self._ended(wire, note, ts)
            case "refused" | "late" if _is_named(note.market, note.channel):
                self._about(self._stream(note.market or "", note.channel or "", ts), note, ts)
            case "unreachable":
                self._unreachable(wire.venue, note.reason or "")
            case "restart":
                self._restarted(ts)
            case "clock":
                words = f"our clock stepped by {_seconds(note.step_ns):+.6f} s"
                self._hurt(self._live.values(), "clock", words)
            case "overload" | "disk" if note.state == "end":
                self._troubles.pop(note.note, None)
            case "overload" | "disk":
                self._trouble(note.note, note.reason or "", ts)
            case "complaint" | "not_inflated":
                pass  # the first belongs to nobody, the second is a frame that cannot be decoded
            case _:
                self._unreadable(self._touched(wire, Kind.NOTE))

    def _ended(self, wire: Wire, note: Note, ts: int) -> None:
        wire.is_over = True
        reason, detail = "disconnect", note.reason or ""
        if note.note == "silence":
            reason, detail = "silence", f"nothing heard for {_seconds(note.silence_ns):g} s"
            ts = ts if wire.last is None else wire.last
        elif note.note == "shutdown":
            reason, detail = "shutdown", ""
        for stream in wire.carried():
            if stream.trusted or stream.reason in AS_STARTED or reason == "shutdown":
                self._distrust(stream, ts, reason, detail)

    def _about(self, stream: Stream, note: Note, ts: int) -> None:
        is_starting = not stream.trusted and stream.reason in AS_STARTED
        if note.note == "refused" and not is_starting:
            self._distrust(stream, ts, "refused", note.reason or "")
        elif note.note == "refused":
            stream.reason, stream.detail = "refused", note.reason or ""
        elif is_starting:
            words = f"no data within {_seconds(note.deadline_ns):g} s of its subscribe"
            stream.reason, stream.detail = "silence", words

    def _unreachable(self, venue: str, reason: str) -> None:
        for stream in self._of_venue(venue):
            is_starting = not stream.trusted and stream.reason in AS_STARTED
            if is_starting and not self._is_carried(stream):
                stream.reason, stream.detail = "disconnect", reason

    def _restarted(self, ts: int) -> None:
        """End all of the run before; if it did not say its end, with the last frame it heard."""
        words = "the recorder was stopped and started again"
        asked = self._begun(ts, at_least=1)
        for key, stream in self._live.items():
            if stream.trusted:
                stream.distrust(self._heard_last(stream, ts), "restart", words)
            elif stream.reason != "shutdown":
                self._distrust(stream, ts, "restart", words)
            elif not asked or key in asked:
                stream.reason, stream.detail = "restart", words
        for wire in self._wires.values():
            wire.is_over |= wire.is_known or wire.last is not None  # not those of this run
        self._troubles.clear()
        self._ask(asked, ts)

    def _trouble(self, word: str, detail: str, ts: int) -> None:
        self._troubles[word] = detail
        for stream in self._live.values():
            if stream.trusted:
                self._distrust(stream, ts, word, detail)

    def _set_back(self, ts: int) -> None:
        """Distrust the time that comes twice."""
        self._fell = False
        if self._own_last - ts < SET_BACK_NS:
            return
        for stream in self._live.values():
            stream.repeat(ts, "clock", "our clock was set back: this time came twice")

    # Trust

    def _trust(self, stream: Stream, wire: Wire, ts: int) -> None:
        if wire.imported:
            stream.turn(ts, trusted=True)
            return
        if not (self._is_carried(stream) or wire.is_over):
            self._carry(stream, wire, ts)
        if stream.wire == wire.number and not wire.is_over and ts >= self._high:
            if self._troubles:
                self._distrust(stream, ts, *next(iter(self._troubles.items())))
            else:
                stream.turn(ts, trusted=True)

    def _distrust(self, stream: Stream, ts: int, reason: str, detail: str) -> None:
        """End trust; time that came before and comes again keeps the reason that it has."""
        stream.distrust(ts if stream.trusted else max(ts, self._high), reason, detail)

    def _damaged(self, wire: Wire, payload: bytes, ts: int, words: str) -> None:
        self.bad += 1
        hit = wire.carried()
        named = [s for s in hit if s.marks and all(mark in payload for mark in s.marks)]
        for stream in named or hit:
            if stream.trusted:
                stream.distrust(ts, "damage", words)

    def _hole(self, words: str) -> None:
        self._hurt(self._all(), "damage", words)

    def _unreadable(self, streams: Iterable[Stream]) -> None:
        """Count a frame of ours that cannot be read, and fear the worst that it may have said."""
        self.bad += 1
        self._hurt(streams, "damage", "a remark of the recorder cannot be read")

    def _hurt(self, streams: Iterable[Stream], reason: str, words: str) -> None:
        """End trust with the last frame that came over each wire, until data comes again."""
        for stream in streams:
            if stream.trusted or stream.reason in AS_STARTED:
                stream.distrust(self._heard_last(stream, self._high), reason, words)

    def _touched(self, wire: Wire, kind: int) -> Iterable[Stream]:
        """Give what a frame of ours that cannot be read may have been about."""
        if kind == Kind.OPENED:
            return self._of_venue(wire.venue)
        return wire.carried() if wire.number else self._all()

    def _all(self) -> Iterator[Stream]:
        pieces = (w.streams.values() for w in self._wires.values() if w.imported)
        return chain(self._live.values(), chain.from_iterable(pieces))

    def _of_venue(self, venue: str) -> list[Stream]:
        return [s for s in self._live.values() if s.market.startswith(f"{venue}:")]

    # What was set out for

    def _begun(self, ts: int, *, at_least: int) -> dict[tuple[str, str], None]:
        """Take the runs that began by now; give what they were to hear."""
        count = max(at_least, sum(run.ts_start <= ts for run in self._to_come))
        begun, self._to_come = self._to_come[:count], self._to_come[count:]
        return dict.fromkeys(chain.from_iterable(run.streams for run in begun))

    def _ask(self, asked: Iterable[tuple[str, str]], ts: int) -> None:
        for market, channel in asked:
            self._stream(market, channel, ts)

    def finish(self, last_seq: int = 0, ts_last: int | None = None) -> Result:
        """Close every open interval at the end of the tape, which is to be frame ``last_seq``."""
        if last_seq >= self._next_seq:
            self._hole(f"{last_seq + 1 - self._next_seq} frames of the tape cannot be read")
            if not self._pieces:
                self._high = max(self._high, ts_last or 0)
        found = [self._finished(stream) for stream in self._live.values()]
        for key, pieces in self._pieces.items():
            found.append(self._whole(pieces, self._live.get(key)))
        ordered = {(s.market, s.channel): s for s in found}
        streams = [stream for _, stream in sorted(ordered.items())]
        return Result(
            streams=streams,
            intervals=[i for s in streams for i in s.past],
            frames=self.frames,
            bad=self.bad,
            undecoded=self.undecoded,
            unnamed=self.unnamed,
            instruments=self.instruments,
        )

    def _finished(self, stream: Stream) -> Stream:
        if stream.trusted:
            end = self._heard_last(stream, self._high)
            stream.turn(end, trusted=False, reason="shutdown")
        stream.turn(self._high, trusted=False, reason="shutdown")
        if not stream.frames:
            stream.past = told_once(_never_heard(i) for i in stream.past)
        return stream

    def _whole(self, pieces: list[Stream], recorded: Stream | None) -> Stream:
        """Make one stream of a market's imported files, and of what was recorded of it."""
        parts = [*pieces, *([recorded] if recorded else [])]
        whole = Stream(pieces[0].market, pieces[0].channel, 0)
        whole.frames = sum(part.frames for part in parts)
        past = [interval for piece in pieces for interval in ended(piece)]
        whole.past = combined([*past, *(recorded.past if recorded else [])])
        return whole


def _parsed(payload: bytes, type_: type[Said]) -> Said | None:
    try:
        return msgspec.json.decode(payload, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _seconds(span_ns: int | None) -> float:
    return max(-LONG_NS, min(span_ns or 0, LONG_NS)) / NS


def _is_named(market: str | None, channel: str | None) -> bool:
    return bool(MARKET.fullmatch(market or "") and CHANNEL.fullmatch(channel or ""))


def _never_heard(interval: Interval) -> Interval:
    if interval.reason not in AS_STARTED:
        return interval
    return replace(interval, reason="silence", detail="no data at all")


def read(tape: Tape) -> Result:
    """Read a whole tape once."""
    ledger = Ledger(asked(tape))
    for batch in tape.batches():
        ledger.batch(batch)
    return ledger.finish(*end_of(tape))


def end_of(tape: Tape) -> tuple[int, int | None]:
    """Give the seq and time of the last frame that was written, be it readable or not."""
    return (tape.segments[-1].last_seq, tape.segments[-1].ts_last) if tape.segments else (0, None)


class Config(msgspec.Struct, frozen=True):
    """What a run's config says of its streams."""

    venues: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


def asked(tape: Tape) -> Iterator[Asked]:
    """Give what each run of the recorder set out to hear; nothing where its config is no such."""
    for run in tape.meta.runs:
        try:
            config = msgspec.convert(run.config, Config)
        except msgspec.ValidationError:
            config = Config()
        pairs = product(config.venues, config.instruments, config.channels)
        streams = ((f"{venue}:{name}", channel) for venue, name, channel in pairs)
        yield Asked(run.ts_start, tuple(s for s in streams if _is_named(*s)))
