"""Which streams are trusted, moment by moment: what each wire carries, and what befell it.

The recorder's time is that of its own frames; imported files have theirs, whenever they came.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import msgspec
import numpy as np
from msgspec.structs import replace

from perptape.events import MS, NS, Event, Kind, Note
from perptape.tape import Batch
from perptape.timeline import Interval, Stream, combined, ended, told_once

MARKET = re.compile(r"[a-z0-9_]{1,64}:[A-Z0-9][A-Z0-9._-]{0,63}")
CHANNEL = re.compile(r"[a-z_]{1,32}")
"""What names on a tape may be, for they become paths and are printed."""
SET_BACK_NS = 1 * MS
"""Time that falls by less is the order in which one pass of the recorder's loop wrote."""
LONG_NS = 1 << 63
"""A tape that is not ours may say anything."""
EXPIRED = "the frames of this time were deleted, as --keep or --max-disk told"
AS_STARTED = ("start",)


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
    asked: set[object] = set()
    """The types of event that it was opened for."""

    def carried(self) -> list[Stream]:
        """Give the streams whose trust hangs on this wire."""
        return [s for s in self.streams.values() if self.imported or s.wire == self.number]

    def clear(self) -> None:
        """Forget what it carried: wires come and go for as long as a tape is."""
        if self.is_over and self.is_known:
            self.streams.clear()


class Asked(msgspec.Struct, frozen=True):
    """What one run of the recorder set out to hear."""

    ts_start: int
    streams: tuple[tuple[str, str], ...]
    """(market, channel)."""


class Trust:
    """Told of every frame of a tape what it means for trust."""

    def __init__(self, asked: Iterable[Asked]) -> None:
        self.wires: dict[int, Wire] = {}
        self.fell = False
        """Time fell before this batch, and the recorder's own was not looked at yet."""
        self._to_come = [run for run in asked if run.streams]
        self._channels = {channel for run in self._to_come for _, channel in run.streams}
        self._live: dict[tuple[str, str], Stream] = {}
        self._pieces: dict[tuple[str, str], list[Stream]] = {}
        """Of an imported market: each file, and each stretch of rising time in it, by itself."""
        self._aside: dict[str, str] = {}
        """Markets that are put aside, and why."""
        self._troubles: dict[str, str] = {}
        """What keeps the recorder from hearing all: overload, disk."""
        self._high = 0
        """The latest time of the recorder. Earlier time that comes again is not trusted."""
        self._own_last = self._last = 0
        """Time of the recorder's last frame, and of the last of all."""

    # Time

    def begin(self, batch: Batch, *, is_first: bool) -> None:
        """Look at the time of a batch before its frames."""
        ts = int(batch.ts_recv[0])
        if is_first:
            for key in self._begun(ts, at_least=int(batch.ts_mono is not None)):
                self.stream(*key, ts)
        self.fell = ts < self._own_last
        if ts < self._last:
            for wire in self.wires.values():
                if wire.imported and wire.last is not None and ts < wire.last:
                    wire.streams.clear()  # what comes now is another piece

    def end(self, batch: Batch) -> None:
        """Go on to the time of a batch's last frames."""
        self._last = int(batch.ts_recv[-1])
        own = [number for number in batch.venues if not self.wires[number].imported]
        times = batch.ts_recv
        if len(own) < len(batch.venues):
            times = times[np.isin(batch.wire, own)]
        if len(times):
            self._own_last = int(times[-1])
            self._high = max(self._high, self._own_last)

    def look_back(self, ts: int) -> None:
        """Take note of the recorder's time; distrust what comes twice."""
        self._high = max(self._high, ts)
        if self.fell:
            self.fell = False
            if self._own_last - ts >= SET_BACK_NS:
                for stream in self._live.values():
                    stream.repeat(ts, "clock", "our clock was set back: this time came twice")

    def _begun(self, ts: int, *, at_least: int) -> dict[tuple[str, str], None]:
        """Take the runs that began by now; give what they were to hear."""
        count = max(at_least, sum(run.ts_start <= ts for run in self._to_come))
        begun, self._to_come = self._to_come[:count], self._to_come[count:]
        return dict.fromkeys(chain.from_iterable(run.streams for run in begun))

    # Which wire carries what

    def stream(self, market: str, channel: str, ts: int) -> Stream:
        """Give what is or was to be recorded of a market."""
        found = self._live.get((market, channel))
        if found is None:
            found = Stream(market, channel, max(ts, self._high))
            self._live[market, channel] = found
        return found

    def known(self, market: str, channel: str) -> Stream | None:
        """Give what is or was to be recorded of a market, if anything."""
        return self._live.get((market, channel))

    def asked(self, wire: Wire, market: str, channel: str, ts: int) -> Stream:
        """Give a stream that a wire was opened for."""
        stream = self.stream(market, channel, ts)
        self._carry(stream, wire, ts)
        return stream

    def met(self, wire: Wire, market: str, channel: str, ts: int) -> Stream:
        """Give a stream that a wire brings without having been opened for it, as files do."""
        if wire.imported:
            stream = Stream(market, channel, ts, wire=wire.number)
            self._pieces.setdefault((market, channel), []).append(stream)
            return stream
        stream = self.stream(market, channel, ts)
        if not wire.is_known:  # its opening is lost, and may have been for this
            self._carry(stream, wire, ts)
        return stream

    def _is_carried(self, stream: Stream) -> bool:
        return stream.wire > 0 and not self.wires[stream.wire].is_over

    def _carry(self, stream: Stream, wire: Wire, ts: int) -> None:
        """Hang a stream on a wire; if still trusted, nobody wrote how its former one ended."""
        if stream.trusted:
            words = "its former connection ended without a word"
            stream.distrust(self._heard_last(stream, ts), "disconnect", words)
        stream.wire = wire.number

    def _heard_last(self, stream: Stream, ts: int) -> int:
        """Give when its wire last brought anything, ``ts`` if never; imported: it itself."""
        wire = self.wires.get(stream.wire)
        if wire is None or wire.last is None:
            return ts
        return stream.last if wire.imported else wire.last

    def is_elsewhere(self, stream: Stream, wire: Wire) -> bool:
        """Tell whether another wire carries it: what this one says of it is told twice."""
        return stream.wire != wire.number and self._is_carried(stream) and not wire.imported

    def may_carry(self, wire: Wire, channel: str) -> bool:
        """Tell whether a wire may have been opened for a channel, though its opening is lost."""
        return wire.imported or not self._channels or channel in self._channels

    @property
    def high(self) -> int:
        """The latest time of the recorder."""
        return self._high

    # What befalls

    def heard(self, stream: Stream, wire: Wire, ts: int) -> None:
        """Trust a stream from its data on, if its own wire brought it in time not heard before."""
        if wire.imported:
            stream.turn(ts, trusted=True)
            return
        if stream.left == wire.number:
            return
        if not (self._is_carried(stream) or wire.is_over):
            self._carry(stream, wire, ts)
        if stream.wire == wire.number and not wire.is_over and ts >= self._high:
            if self._troubles:
                self._distrust(stream, ts, *next(iter(self._troubles.items())))
            else:
                stream.turn(ts, trusted=True)

    def damaged(self, wire: Wire, payload: bytes, ts: int, words: str) -> None:
        """Distrust what a frame names that its decoder cannot read; else all that its wire has."""
        hit = wire.carried()
        named = [s for s in hit if s.marks and all(mark in payload for mark in s.marks)]
        for stream in named or hit:
            stream.forget()
            if stream.trusted:
                stream.distrust(ts, "damage", words)

    def hole(self, words: str, reason: str = "damage") -> None:
        """Distrust everything from before frames that are lost."""
        for stream in self._all():
            stream.forget()
        self._hurt(self._all(), reason, words)

    def expired(self, ts_first: int, ts_last: int) -> None:
        """Begin with time whose frames were deleted, because they were to be."""
        asked: dict[tuple[str, str], None] = {}
        for run in [run for run in self._to_come if run.ts_start <= ts_last]:
            asked = self._begun(run.ts_start, at_least=1)
            for key in asked:
                self.stream(*key, max(ts_first, run.ts_start))
        self.hole(EXPIRED, "expired")
        self._high = max(self._high, ts_last)
        for key, stream in self._live.items():
            if key not in asked:
                stream.distrust(ts_last, "restart", "the recorder was started again without it")

    def unreadable(self, wire: Wire, kind: int) -> None:
        """Fear the worst that a frame of ours may have said."""
        if kind == Kind.OPENED:
            touched: Iterable[Stream] = self._of_venue(wire.venue)
        else:
            touched = wire.carried() if wire.number else self._all()
        self._hurt(touched, "damage", "a remark of the recorder cannot be read")

    def note(self, wire: Wire, note: Note, ts: int) -> bool:
        """Take in what the recorder said; False if it is none of its words."""
        match note.note:
            case "closed" | "silence" | "shutdown":
                self._ended(wire, note, ts)
            case "refused" | "late" if is_named(note.market, note.channel):
                self._about(self.stream(note.market or "", note.channel or "", ts), note, ts)
            case "delisted" if is_named(note.market, note.channel):
                stream = self.stream(note.market or "", note.channel or "", ts)
                self._distrust(stream, ts, "delisted", note.reason or "")
                stream.left, stream.wire = stream.wire or stream.left, 0
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
            case "complaint" | "not_inflated" | "resync":
                pass  # of nobody; a frame that cannot be decoded; what the frames say themselves
            case _:
                return False
        return True

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
            elif stream.reason == "stalled" and reason == "silence":
                stream.explain(reason, detail)  # all of the wire was silent, not this alone
        wire.clear()

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
        for wire in self.wires.values():
            wire.is_over |= wire.is_known or wire.last is not None  # not those of this run
            wire.clear()
        self._troubles.clear()
        for key in asked:
            self.stream(*key, ts)

    def quarantine(self, market: str, words: str) -> None:
        """Put a market aside, for all of the tape."""
        self._aside.setdefault(market, words)

    def acquit(self, market: str) -> None:
        """Take a market back that was put aside."""
        self._aside.pop(market, None)

    def _trouble(self, word: str, detail: str, ts: int) -> None:
        self._troubles[word] = detail
        for stream in self._live.values():
            if stream.trusted:
                self._distrust(stream, ts, word, detail)

    def _distrust(self, stream: Stream, ts: int, reason: str, detail: str) -> None:
        """End trust; time that came before and comes again keeps the reason that it has."""
        stream.distrust(ts if stream.trusted else max(ts, self._high), reason, detail)

    def _hurt(self, streams: Iterable[Stream], reason: str, words: str) -> None:
        """End trust with the last frame that came over each wire, until data comes again."""
        for stream in streams:
            if stream.trusted or stream.reason in AS_STARTED:
                stream.distrust(self._heard_last(stream, self._high), reason, words)

    def _all(self) -> Iterator[Stream]:
        pieces = (w.streams.values() for w in self.wires.values() if w.imported)
        return chain(self._live.values(), chain.from_iterable(pieces))

    def _of_venue(self, venue: str) -> list[Stream]:
        return [s for s in self._live.values() if s.market.startswith(f"{venue}:")]

    # The end

    def finish(self, lost: int, ts_last: int | None) -> list[Stream]:
        """Close every stretch; ``lost`` frames are missing at the end, the last at ``ts_last``."""
        if lost:
            self.hole(lost_frames(lost))
            if not self._pieces:
                self._high = max(self._high, ts_last or 0)
        found = {key: self._finished(stream) for key, stream in self._live.items()}
        for key, pieces in self._pieces.items():
            found[key] = _whole([*pieces, *([found[key]] if key in found else [])])
        for stream in found.values():
            if stream.market in self._aside and stream.past:
                stream.past = [_aside(stream.past, self._aside[stream.market])]
        return [stream for _, stream in sorted(found.items())]

    def _finished(self, stream: Stream) -> Stream:
        if stream.trusted:
            end = self._heard_last(stream, self._high)
            stream.turn(end, trusted=False, reason="shutdown")
        stream.turn(self._high, trusted=False, reason="shutdown")
        if not (stream.frames or stream.is_slow):
            stream.past = told_once(_never_heard(i) for i in stream.past)
        return stream


def _whole(parts: list[Stream]) -> Stream:
    """Make one stream of a market's imported files, and of what was recorded of it."""
    whole = Stream(parts[0].market, parts[0].channel, 0)
    whole.frames = sum(part.frames for part in parts)
    whole.past = combined(interval for part in parts for interval in ended(part))
    return whole


def _aside(past: list[Interval], words: str) -> Interval:
    end = past[-1].end
    return replace(past[0], end=end, trusted=False, reason="quarantine", detail=words)


def is_named(market: str | None, channel: str | None) -> bool:
    return bool(MARKET.fullmatch(market or "") and CHANNEL.fullmatch(channel or ""))


def lost_frames(count: int) -> str:
    return f"{count} frames of the tape cannot be read"


def _seconds(span_ns: int | None) -> float:
    return max(-LONG_NS, min(span_ns or 0, LONG_NS)) / NS


def _never_heard(interval: Interval) -> Interval:
    if interval.reason not in AS_STARTED:
        return interval
    return replace(interval, reason="silence", detail="no data at all")
