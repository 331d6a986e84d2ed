"""The ledger on any story a tape can tell, against a second, slower opinion of what is trusted.

The opinion keeps, for each market's quotes and books, the set of ticks that are trusted, and adds
to or takes from it frame by frame; it knows no intervals.
"""

from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape import ledger
from perptape.chain import OLD_IN_A_ROW
from perptape.checks import LATE_NS, PROMISED
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.ledger import Asked, Ledger
from perptape.tape import Batch
from perptape.timeline import JOIN_NS
from perptape.venues import VENUES

TICK = 10 * JOIN_NS
T0 = 1_790_000_000 * NS
NAMES = ("BTC", "ETH")
STREAMS = {"quotes": "orderbook.1", "books": "orderbook.50"}
KEYS = tuple((name, channel) for name in NAMES for channel in STREAMS)
REASONS = {
    *("start", "silence", "disconnect", "refused", "overload", "disk", "clock", "damage"),
    *("restart", "shutdown", "sequence", "crossed", "stalled"),
}
INSTANTS = REASONS - {"start", "shutdown"}
"""Of these a stretch without length may part trusted time."""


@pytest.fixture(autouse=True, scope="module")
def promises():
    """Quotes are to be repeated often enough that three ticks without any are a stall."""
    with pytest.MonkeyPatch.context() as patch:
        promise_ns = (3 * TICK - LATE_NS - 1) // PROMISED
        quiet = msgspec.structs.replace(VENUES["bybit"], cadence={"orderbook.1": promise_ns})
        patch.setattr(ledger, "VENUES", VENUES | {"bybit": quiet})
        yield


def market(name):
    return f"bybit:{name}-USDT-PERP"


def quote(name, bid=1):
    return book(name, 1, bid, stream="orderbook.1")


def book(name, u, bid=1, *, kind="snapshot", stream="orderbook.50"):
    """Give a book, or change ``u`` of it, which follows ``u - 1``."""
    bids = "" if kind == "delta" else f'["{bid}","1"]'
    return (
        f'{{"topic":"{stream}.{name}USDT","ts":1790000000000,"type":"{kind}","data":{{"s":'
        f'"{name}USDT","b":[{bids}],"a":[["2","2"]],"u":{u},"seq":1}},"cts":1790000000000}}'
    ).encode()


def told_of(payload):
    """Of what a frame tells, be it whole or not."""
    return [(n, c) for n, c in KEYS if f'"{STREAMS[c]}.{n}USDT"'.encode() in payload]


class Known(msgspec.Struct):
    """What the frames of one wire say of a stream."""

    wire: int
    last: int | None = None
    applied: int = 0
    """Tick of the last update that was."""
    old: int = 0
    """Updates in a row that the book has already."""
    crossed: bool = False
    doubt: str = ""


class Told(NamedTuple):
    """One frame of a story; ``tick`` is its time."""

    wire: int
    kind: int
    payload: bytes
    tick: int
    lost: int = 0
    """Frames before it that are not there."""
    imported: bool = False

    def __repr__(self):
        what = Kind(self.kind).name.lower()
        payload = self.payload[:45] + b".." + self.payload[-14:]
        return f"{self.tick}: {what} on {self.wire} {payload!r} {self.lost or ''}"


def batches(frames, cuts):
    """Batches as a tape gives them: no hole, no falling time and no two origins within one."""
    groups, seq = [], 0
    for at, frame in enumerate(frames):
        last = frames[at - 1] if at else None
        seq += 1 + frame.lost
        if (
            (last is None or frame.lost or frame.tick < last.tick)
            or (frame.imported != last.imported or at in cuts)
        ):  # fmt: skip
            groups.append((seq, []))
        groups[-1][1].append(frame)
    for first_seq, group in groups:
        sizes = [len(frame.payload) for frame in group]
        times = np.array([T0 + frame.tick * TICK for frame in group], np.int64)
        yield Batch(
            first_seq=first_seq,
            wire=np.array([frame.wire for frame in group], np.uint32),
            kind=np.array([frame.kind for frame in group], np.uint8),
            ts_recv=times,
            ts_mono=None if group[0].imported else times,
            wire_size=np.array(sizes, np.uint32),
            offsets=np.cumsum([0, *sizes]),
            payload=memoryview(b"".join(frame.payload for frame in group)),
            venues={frame.wire: "bybit" if frame.wire else "" for frame in group},
        )


class Opinion:
    """Which ticks of each market are trusted, thought through tick by tick."""

    def __init__(self):
        self.trusted = defaultdict(set)
        self.ok, self.since = defaultdict(bool), {}
        self.carrier, self.known = {}, {}
        self.promised, self.told = set(), {}  # keys; key: tick of its last data
        self.asked = defaultdict(set)  # wire: keys; absent: nobody knows
        self.marked, self.seen = set(), set()  # keys; (key, wire)
        self.over, self.last = set(), {}
        self.troubles = set()
        self.files = {}  # (wire, key): [trusted now, tick of the last data]
        self.imported = set()
        self.now = self.high = None

    def move(self, tick):
        if self.now is not None and tick < self.now:
            for key in KEYS:
                self.forget(key, tick)
        for key in KEYS:
            if self.ok[key] and key in self.promised and tick - self.told[key] >= 3:
                self.forget(key, self.told[key])
            if self.ok[key]:
                self.trusted[key] |= set(range(self.now, tick))
        self.now = tick
        self.high = tick if self.high is None else max(self.high, tick)

    def forget(self, key, tick):
        if self.ok[key] or tick < self.now:
            self.trusted[key] -= set(range(tick, self.high + 1))
        self.ok[key] = False

    def heard_last(self, key):
        return self.last.get(self.carrier.get(key), self.now)

    def hurt(self, keys):
        for key in keys:
            if self.ok[key]:
                self.forget(key, self.heard_last(key))

    def carried(self, wire):
        return [key for key in KEYS if self.carrier.get(key) == wire]

    def take(self, frame):
        if frame.lost:
            self.hurt(KEYS)
            for file in self.files.values():
                file[0] = False
        {
            Kind.OPENED: self.opened,
            Kind.NOTE: self.note,
            Kind.TEXT: self.text,
            Kind.PING: self.text,
            Kind.SENT: lambda frame: self.move(frame.tick),
        }[frame.kind](frame)

    def opened(self, frame):
        try:
            said = msgspec.json.decode(frame.payload, type=Opened)
        except msgspec.MsgspecError:
            self.move(frame.tick)
            self.hurt(KEYS)
            return
        if said.imported:
            self.imported.add(frame.wire)
            return
        self.move(frame.tick)
        self.asked[frame.wire] = {(s.market[6:9], s.channel) for s in said.subscriptions}
        self.marked |= self.asked[frame.wire]
        self.promised |= {key for key in self.asked[frame.wire] if key[1] == "quotes"}
        self.seen |= {(key, frame.wire) for key in self.asked[frame.wire]}
        for key in self.asked[frame.wire]:
            self.hurt([key])
            self.carrier[key] = frame.wire

    def text(self, frame):
        if frame.wire in self.imported:
            self.file(frame)
            return
        self.move(frame.tick)
        self.last[frame.wire] = frame.tick
        keys = told_of(frame.payload)
        if frame.kind == Kind.PING or frame.payload == PONG:
            return
        if not frame.payload.endswith(b"}"):
            mine = self.carried(frame.wire)
            for key in [k for k in mine if k in keys and k in self.marked] or mine:
                self.ok[key] = False
            return
        for key in keys:
            self.data(key, frame.wire, frame.payload)

    def data(self, key, wire, payload):
        if wire in self.asked and key[1] not in {channel for _, channel in self.asked[wire]}:
            return
        if wire not in self.asked and (key, wire) not in self.seen:
            self.hurt([key])
            self.carrier[key] = wire
        self.seen.add((key, wire))
        carrier = self.carrier.get(key)
        if carrier not in {None, wire} and carrier not in self.over:
            return
        if key not in self.known or self.known[key].wire != wire:
            self.known[key] = Known(wire)
        known, self.told[key] = self.known[key], self.now
        (self.quote if key[1] == "quotes" else self.book)(key, known, payload)
        if known.doubt or self.ok[key]:
            return
        if wire not in self.over and (carrier is None or carrier in self.over):
            carrier = self.carrier[key] = wire
        if carrier == wire and wire not in self.over and self.now >= self.high:
            self.ok[key], self.since[key] = not self.troubles, self.now

    def quote(self, key, known, payload):
        known.doubt = "crossed" if b'["3","1"]' in payload else ""
        if known.doubt:
            self.ok[key] = False

    def book(self, key, known, payload):
        u, is_whole = int(payload.split(b'"u":')[1].split(b",")[0]), b'"snapshot"' in payload
        if is_whole or u == 1:
            known.crossed = b'["3","1"]' in payload
        elif known.last is None:
            known.doubt = known.doubt or "start"
            return
        elif u <= known.last and known.old < OLD_IN_A_ROW:
            known.old += 1
            return
        elif u != known.last + 1:
            if self.ok[key]:
                self.forget(key, max(known.applied, self.since[key]))
            known.last, known.doubt = None, "sequence"
            return
        known.last, known.applied, known.old = u, self.now, 0
        known.doubt = "crossed" if known.crossed else ""
        if known.crossed:
            self.ok[key] = False

    def file(self, frame):
        keys, is_whole = told_of(frame.payload), frame.payload.endswith(b"}")
        for key in keys if is_whole else KEYS:
            file = self.files.get((frame.wire, key))
            if file is None and not is_whole:
                continue
            file = self.files.setdefault((frame.wire, key), [False, frame.tick])
            if file[0]:
                self.trusted[*key, frame.wire] |= set(range(file[1], frame.tick))
            file[:] = [is_whole, frame.tick if is_whole else file[1]]

    def note(self, frame):  # noqa: C901 - a case for each word
        self.move(frame.tick)
        try:
            said = msgspec.json.decode(frame.payload, type=Note)
        except msgspec.MsgspecError:
            said = Note("?")
        mine = self.carried(frame.wire) if frame.wire else KEYS
        match said.note:
            case "closed" | "shutdown" | "silence":
                self.over.add(frame.wire)
                if said.note == "silence":
                    self.hurt(mine)
                for key in mine:
                    self.ok[key] = False
            case "refused":
                self.ok[said.market[6:9], said.channel] = False
            case "restart":
                self.hurt(KEYS)
                self.over |= set(self.asked) | set(self.last)
                self.troubles.clear()
            case "clock":
                self.hurt(KEYS)
            case "overload" | "disk" if said.state == "end":
                self.troubles.discard(said.note)
            case "overload" | "disk":
                self.troubles.add(said.note)
                for key in KEYS:
                    self.ok[key] = False
            case "late" | "unreachable" | "complaint":
                pass
            case _:
                self.hurt(mine)

    def ticks(self):
        self.hurt(KEYS)
        found = {key: set(self.trusted[key]) for key in KEYS}
        for key, ticks in self.trusted.items():
            found[key[:2]] |= ticks
        return found


PONG = b'{"op":"pong","args":["1"]}'


def said(note, **words):
    return msgspec.json.encode(Note(note, **words))


def opening(keys, *, imported=False):
    asked = [Subscription(market(n), c, STREAMS[c], f"{n}USDT") for n, c in keys]
    return msgspec.json.encode(Opened("bybit", "ws://x", tuple(asked), imported))


OPENINGS = [opening(KEYS), opening(KEYS), opening(KEYS[:2]), opening(KEYS[2:3]), b"{"]
TORN = [*(quote(name)[:-20] for name in NAMES), book("BTC", 7)[:-20]]
BLOTS = [(Kind.NOTE, payload) for payload in (b"", b"[]", b'{"note":7}', said("prophecy"))]
ON_A_WIRE = [
    *[(Kind.TEXT, quote(name)) for name in NAMES * 5],
    *[(Kind.TEXT, quote(name, 3)) for name in NAMES],
    *[(Kind.TEXT, book("BTC", u)) for u in (5, 5, 9)],
    *[(Kind.TEXT, book("BTC", 6, 3)), (Kind.TEXT, book("ETH", 5))],
    *[(Kind.TEXT, book("BTC", u, kind="delta")) for u in (1, *(5, 6, 7, 8, 9, 10, 11) * 2)],
    *[(Kind.TEXT, book("ETH", u, kind="delta")) for u in (6, 7)],
    *[(Kind.TEXT, payload) for payload in (*TORN, b"\x00\xff", PONG)],
    *[(Kind.PING, b""), (Kind.SENT, b"")],
    *[(Kind.NOTE, said(word)) for word in ("closed", "silence", "shutdown", "complaint")],
    *[
        (Kind.NOTE, said(word, market=market(name), channel=channel))
        for word in ("refused", "late")
        for name, channel in KEYS
    ],
    *BLOTS,
]
ON_THE_TAPE = [
    *[(Kind.NOTE, said(word)) for word in ("restart", "restart", "clock", "unreachable")],
    *[
        (Kind.NOTE, said(word, state=state))
        for word in ("overload", "disk")
        for state in ("begin", "end", "end")
    ],
    *BLOTS,
]
LOST = st.sampled_from([0] * 5 + [2])


@st.composite
def stories(draw):
    """Frames of a tape on which everything happens that can."""
    frames, wires, tick, u = [], 0, 0, 200
    places = ["new", *["wire"] * 7, "tape", "tape", "back", "files"]
    if draw(st.booleans()):
        places = [*["book"] * 25, *["wire"] * 2, "new", "tape"]  # a calm one
    for _ in range(draw(st.integers(2, 40))):
        tick += draw(st.integers(0, 3))
        where = draw(st.sampled_from(places))
        lost = draw(LOST)
        if where == "new" or not wires:
            wires += 1
            opening = OPENINGS[0] if wires == 1 else draw(st.sampled_from(OPENINGS))
            frames.append(Told(wires, Kind.OPENED, opening, tick, lost))
        elif where == "files":
            told = draw(files(wires))
            frames += told
            wires = max(frame.wire for frame in told)
        elif where == "book":
            u += draw(st.sampled_from([*[1] * 7, 0, 0, 2, -2]))
            payload = book("BTC", u, kind="delta")
            if not draw(st.integers(0, 5)):
                payload = book("BTC", u, draw(st.sampled_from([1, 1, 3])))
            frames.append(Told(wires, Kind.TEXT, payload, tick))
        elif where == "wire":
            kind, payload = draw(st.sampled_from(ON_A_WIRE))
            frames.append(Told(draw(st.integers(1, wires)), kind, payload, tick, lost))
        else:
            tick = max(0, tick - draw(st.integers(1, 8))) if where == "back" else tick
            frames.append(Told(0, *draw(st.sampled_from(ON_THE_TAPE)), tick, lost))
    of_files = {frame.wire for frame in frames if frame.imported}
    return [f for f in frames if f.imported == (f.wire in of_files)]


@st.composite
def files(draw, wires):
    """Frames of one import, of one or two files; its time is its own."""
    tick, numbers = draw(st.integers(0, 30)), range(wires + 1, wires + 1 + draw(st.integers(1, 2)))
    opened = opening((), imported=True)
    told = [Told(number, Kind.OPENED, opened, tick, imported=True) for number in numbers]
    for _ in range(draw(st.integers(1, 6))):
        tick += draw(st.integers(0, 3))
        payload = draw(st.sampled_from([quote("BTC"), quote("ETH"), TORN[0]]))
        number = draw(st.sampled_from(numbers))
        told.append(Told(number, Kind.TEXT, payload, tick, imported=True))
    return told


def read(frames, cuts=frozenset()):
    found = Ledger([Asked(T0, tuple((market("BTC"), channel) for channel in STREAMS))])
    for batch in batches(frames, cuts):
        found.batch(batch)
    return found.finish()


def says(interval):
    return interval.trusted or interval.reason


@settings(max_examples=500, deadline=None)
@given(stories(), st.sets(st.integers(0, 60)))
def test_every_story_makes_a_course_of_time_that_a_second_opinion_shares(frames, cuts):
    result = read(frames, cuts)
    opinion = Opinion()
    for frame in frames:
        opinion.take(frame)
    expected = opinion.ticks()
    for key in KEYS:
        found = [i for i in result.intervals if (i.market, i.channel) == (market(key[0]), key[1])]
        for before, after in pairwise(found):
            assert before.end == after.start, "a gap or an overlap"
            assert says(before) != says(after), "one stretch told as two"
        trusted = set()
        for interval in found:
            assert interval.reason in REASONS
            if interval.start == interval.end:
                assert opinion.files if interval.trusted else interval.reason in INSTANTS
            if interval.trusted:
                trusted |= set(range(interval.start, interval.end, TICK))
        assert {(t - T0) // TICK for t in trusted} == expected[key]
    assert result.frames == len(frames)


@settings(max_examples=60, deadline=None)
@given(stories(), st.sets(st.integers(0, 60)))
def test_where_batches_are_cut_changes_nothing(frames, cuts):
    assert (
        read(frames, cuts).intervals
        == read(frames).intervals
        == (read(frames, set(range(100))).intervals)
    )
