"""Which time is trusted, and why the rest is not.

A market's channel is trusted from its first data after a subscribe until its wire ends, falls
silent, is refused, or a frame of it is damaged. Everything else is untrusted, with a reason.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product, repeat
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from perptape.checks import LEARN_EVERY, Checks, promised_bound, spaced
from perptape.decode import Registry, Terms, decoder, is_control, rest_events
from perptape.errors import BadFrame
from perptape.events import CHANNELS, Book, Event, Kind, Note, Opened
from perptape.instruments import Instrument
from perptape.tape import Batch, Segment, Tape
from perptape.timeline import Interval, Stream
from perptape.trust import EXPIRED, MARKET, Asked, Trust, Wire, is_named, lost_frames
from perptape.venues import VENUES

if TYPE_CHECKING:
    from perptape.ahead import Block, Step
    from perptape.lanes import Lanes

TYPES: dict[str, type] = {channel: event for event, channel in CHANNELS.items()}
LAST_DATA, LAST_WIRE_KIND = int(Kind.BINARY), int(Kind.SENT)
LONG = 250_000
"""A tape of so many frames is read in bulk."""

Said = TypeVar("Said", Note, Opened)


class Heard(msgspec.Struct):
    """Events in tape order, as columns: a tuple for each costs a fifth of all tabulating."""

    seq: list[int] = []
    ts_recv: list[int] = []
    terms: list[int] = []
    """Index into ``Ledger.terms``."""
    events: list[Event] = []
    blocks: "list[Block]" = []
    """Rows that were never events, apart from those above."""

    def __len__(self) -> int:
        return len(self.events) + sum(map(len, self.blocks))

    @property
    def rows(self) -> int:
        """How many rows it makes: of a book one for each level."""
        levels = sum(len(e.bids) + len(e.asks) - 1 for e in self.events if isinstance(e, Book))
        return levels + len(self.events) + sum(b.events.rows for b in self.blocks)

    def add(self, seq: int, ts: int, terms: int, event: Event) -> None:
        self.seq.append(seq)
        self.ts_recv.append(ts)
        self.terms.append(terms)
        self.events.append(event)

    def clear(self) -> None:
        for column in (self.seq, self.ts_recv, self.terms, self.events, self.blocks):
            column.clear()


Rows = dict[type, Heard]
"""By type of event."""


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

    def __init__(
        self,
        asked: Iterable[Asked] = (),
        expired: Sequence[Segment] = (),
        *,
        in_bulk: bool = False,
    ) -> None:
        """``in_bulk``: the same result sooner, for many frames; it is half a second to begin."""
        self.registry = Registry()
        self.instruments: list[Instrument] = []
        self.terms: list[Terms] = []
        """What rows are made with, in order of their first use."""
        self._terms_at: dict[Terms, int] = {}
        self._trust = Trust(asked)
        self._checks = Checks(self._trust)
        self._next_seq = 1
        self._expired = expired
        """More may be while a tape is read."""
        if expired:
            first, last = expired[0], expired[-1]
            self._trust.expired(first.ts_first or 0, last.ts_last or 0)
            self._next_seq = last.last_seq + 1
        self.frames = self.bad = self.undecoded = self.unnamed = 0
        self.lanes = self._lanes() if in_bulk else None

    def _lanes(self) -> "Lanes":
        from perptape.lanes import Lanes  # noqa: PLC0415 - numba, half a second

        return Lanes(self._trust, self._checks)

    def batch(self, batch: Batch, rows: Rows | None = None) -> None:
        """Take in one batch of frames; append what becomes rows of its events to ``rows``."""
        if not len(batch):
            return
        self._begin(batch)
        trust = self._trust
        wires, whole = trust.wires, bytes(batch.payload)
        for seq, kind, number, ts, start, stop, told in self._steps(batch, rows):
            wire = wires[number]
            if kind > LAST_WIRE_KIND:
                self._said(kind, wire, whole[start:stop], seq, ts, rows)
                continue
            if trust.fell and not wire.imported:
                trust.look_back(ts)
            if kind <= LAST_DATA:
                wire.last = ts
                try:
                    events = wire.decode(whole[start:stop]) if told is None else told
                except BadFrame as error:
                    self.bad += 1
                    self._late(wire, ts)
                    trust.damaged(wire, whole[start:stop], ts, f"frame {seq}: {error}")
                    continue
                if events:
                    self._heard(events, wire, seq, ts, rows)
                elif not is_control(wire.venue, whole[start:stop]):
                    self.undecoded += 1
            elif kind != LAST_WIRE_KIND:
                wire.last = ts
        trust.end(batch)
        self._look(batch)
        self.frames += len(batch)
        self._next_seq = batch.first_seq + len(batch)

    def _steps(self, batch: Batch, rows: Rows | None) -> "Iterator[Step]":
        """Give the frames to look at one by one: all that the lanes do not take."""
        if self.lanes is not None and not (np.diff(batch.ts_recv) < 0).any():
            return self.lanes.rest(batch, rows)
        cuts, seqs = batch.offsets.tolist(), range(batch.first_seq, batch.last_seq + 1)
        columns = (batch.kind.tolist(), batch.wire.tolist(), batch.ts_recv.tolist())
        return zip(seqs, *columns, cuts, cuts[1:], repeat(None), strict=False)

    def _look(self, batch: Batch) -> None:
        """Look at all streams once a batch: who is late, whose price is another coin's."""
        ts = int(batch.ts_recv[-1])
        if batch.ts_mono is not None:
            self._checks.look(ts)
        self._checks.guard(ts, self._price_unit)

    def _begin(self, batch: Batch) -> None:
        wires, is_imported = self._trust.wires, batch.ts_mono is None
        for number, venue in batch.venues.items():
            if number not in wires:
                wires[number] = Wire(number, venue, decoder(venue), is_imported)
        self._trust.begin(batch, is_first=self._next_seq == 1)
        if lost := batch.first_seq - self._next_seq:
            if any(s.last_seq + 1 == batch.first_seq for s in self._expired):
                self._trust.hole(EXPIRED, "expired")
            else:
                self._trust.hole(lost_frames(lost))

    def _heard(self, events: list[Event], wire: Wire, seq: int, ts: int, rows: Rows | None) -> None:
        checks = self._checks
        for event in events:
            kind = type(event)
            stream = wire.streams.get((event.symbol, kind))
            if stream is None:
                if not self._is_wanted(wire, kind):
                    continue  # another channel that the same frames tell of, and nobody asked for
                stream = self._named(wire, event, ts)
                if stream is None:
                    self.unnamed += 1
                    continue
            if stream.wire != wire.number and self._trust.is_elsewhere(stream, wire):
                continue
            if seq != stream.seq:
                self._beat(stream, wire, ts)
                stream.seq = seq
                stream.frames += 1
                stream.last = ts
            row = checks.take(event, stream, wire, seq, ts)
            if row is not None and rows is not None:
                rows[kind].add(seq, ts, stream.terms, row)

    def _is_wanted(self, wire: Wire, kind: type) -> bool:
        if wire.is_known and not wire.imported:
            return kind in wire.asked
        return self._trust.may_carry(wire, CHANNELS[kind])

    def _price_unit(self, stream: Stream) -> float:
        return self.terms[stream.terms].price_unit if stream.terms >= 0 else 1.0

    def _beat(self, stream: Stream, wire: Wire, ts: int) -> None:
        """Take in the time since a stream's last frame."""
        gap = ts - stream.last
        if gap > stream.pause:
            stream.awake_since = ts
        if gap > stream.bound and self._checks.late(stream, ts):
            return  # what it is not allowed is not learned
        if stream.trusted and not wire.imported:
            stream.gaps += 1
            stream.gaps_ns += gap
            if gap > stream.longest_ns or not stream.gaps % LEARN_EVERY:
                self._checks.learn(stream, gap)

    def _late(self, wire: Wire, ts: int) -> None:
        """Find who is late before something else ends its trust, wherever a batch is cut."""
        if not wire.imported:
            self._checks.look(ts)

    # Which stream an event belongs to

    def _named(self, wire: Wire, event: Event, ts: int) -> Stream | None:
        """Give the stream of a symbol that this wire was not asked for, by its name."""
        name = self.registry.name(wire.venue, event.symbol)
        market, channel = f"{wire.venue}:{name}", CHANNELS[type(event)]
        if name is None or not MARKET.fullmatch(market):
            return None
        self._late(wire, ts)
        stream = self._trust.met(wire, market, channel, ts)
        if not wire.imported and wire.venue in VENUES:  # a file has no calls to begin from
            stream.has_base |= bool(VENUES[wire.venue].bases)
        wire.streams[event.symbol, type(event)] = stream
        stream.terms = self._terms(market, event.symbol)
        return stream

    def _terms(self, market: str, symbol: str) -> int:
        venue = market.partition(":")[0]
        terms = Terms.of(market, symbol, self.registry.find(venue, symbol))
        at = self._terms_at.setdefault(terms, len(self.terms))
        if at == len(self.terms):
            self.terms.append(terms)
        return at

    def _answered(self, wire: Wire, payload: bytes, seq: int, ts: int, rows: Rows | None) -> None:
        """Take in a REST answer: instruments that rows after it are made by, or events."""
        try:
            answer, listed = self.registry.answer(wire.venue, payload, ts)
            events = rest_events(wire.venue, answer)
        except BadFrame:
            self.bad += 1
            return
        self._list(wire.venue, listed)
        for event in spaced(events):
            stream = self._carried_by(wire.venue, event)
            if stream is None:
                continue
            take = self._checks.base if isinstance(event, Book) else self._checks.polled
            row = take(event, stream, ts)
            if row is not None and rows is not None:
                rows[type(event)].add(seq, ts, stream.terms, row)

    def _list(self, venue: str, listed: list[Instrument]) -> None:
        self.instruments += listed
        for each in self._trust.wires.values() if listed else ():
            if each.venue == venue:
                for (symbol, _), stream in each.streams.items():
                    stream.terms = self._terms(stream.market, symbol)

    def _carried_by(self, venue: str, event: Event) -> Stream | None:
        """Give the recorded stream that a REST answer tells of too, be it open yet or not."""
        name, channel = self.registry.name(venue, event.symbol), CHANNELS[type(event)]
        stream = self._trust.known(f"{venue}:{name}", channel)
        if stream is not None:  # between two wires nobody else tells it of a new list
            stream.terms = self._terms(stream.market, event.symbol)
        return stream

    # What the recorder said

    def _said(  # noqa: PLR0913, PLR0917 - a frame has these parts
        self, kind: int, wire: Wire, payload: bytes, seq: int, ts: int, rows: Rows | None
    ) -> None:
        if kind == Kind.REST:
            self._answered(wire, payload, seq, ts, rows)
            return
        opened = _parsed(payload, Opened) if kind == Kind.OPENED else None
        wire.imported = wire.imported if opened is None else opened.imported
        self._late(wire, ts)
        if not wire.imported:
            self._trust.look_back(ts)
        note = _parsed(payload, Note) if kind == Kind.NOTE else None
        if opened is not None and not opened.imported:
            self._opened(wire, opened, ts)
        elif opened is None and not (note is not None and self._trust.note(wire, note, ts)):
            self.bad += 1
            self._trust.unreadable(wire, kind)

    def _opened(self, wire: Wire, opened: Opened, ts: int) -> None:
        wire.is_known = True
        venue = VENUES.get(opened.venue)
        for asked in opened.subscriptions:
            if not is_named(asked.market, asked.channel):
                self.bad += 1
                continue
            stream = self._trust.asked(wire, asked.market, asked.channel, ts)
            stream.terms = self._terms(asked.market, asked.symbol)
            if venue is not None and venue.topic is not None:
                stream.marks = venue.topic(asked.channel, asked.stream, asked.symbol).marks
                stream.promised_ns = venue.cadence.get(asked.stream, 0)
                stream.bound = promised_bound(stream) if stream.promised_ns else stream.bound
                stream.is_slow = asked.stream in venue.slow
                stream.has_base = asked.stream in venue.bases
            kind = TYPES.get(asked.channel, asked.channel)
            wire.asked.add(kind)
            wire.streams[asked.symbol, kind] = stream

    def finish(self, last_seq: int = 0, ts_last: int | None = None) -> Result:
        """Close every open interval at the end of the tape, which is to be frame ``last_seq``."""
        self._checks.look(self._trust.high)
        streams = self._trust.finish(max(0, last_seq + 1 - self._next_seq), ts_last)
        return Result(
            streams=streams,
            intervals=[i for s in streams for i in s.past],
            frames=self.frames,
            bad=self.bad,
            undecoded=self.undecoded,
            unnamed=self.unnamed,
            instruments=self.instruments,
        )


def _parsed(payload: bytes, type_: type[Said]) -> Said | None:
    try:
        return msgspec.json.decode(payload, type=type_)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def read(tape: Tape) -> Result:
    """Read a whole tape once."""
    ledger = Ledger(asked(tape), tape.expired, in_bulk=is_long(tape))
    for batch in tape.batches():
        ledger.batch(batch)
    return ledger.finish(*end_of(tape))


def is_long(tape: Tape) -> bool:
    """Tell whether it has enough frames for the preparation of doing many at once."""
    return sum(segment.frames for segment in tape.segments) >= LONG


def end_of(tape: Tape) -> tuple[int, int | None]:
    """Give the seq and time of the last frame that was written, be it readable or not."""
    return (tape.segments[-1].last_seq, tape.segments[-1].ts_last) if tape.segments else (0, None)


class Config(msgspec.Struct, frozen=True):
    """What a run's config says of its streams."""

    venues: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    markets: tuple[str, ...] = ()
    """Of a universe, which is not the same everywhere: ``bybit:BTC-USDT-PERP``."""


def asked(tape: Tape) -> Iterator[Asked]:
    """Give what each run of the recorder set out to hear; nothing where its config is no such."""
    for run in tape.meta.runs:
        try:
            config = msgspec.convert(run.config, Config)
        except msgspec.ValidationError:
            config = Config()
        named = (f"{venue}:{name}" for venue, name in product(config.venues, config.instruments))
        streams = product(dict.fromkeys((*named, *config.markets)), config.channels)
        yield Asked(run.ts_start, tuple(s for s in streams if is_named(*s)))
