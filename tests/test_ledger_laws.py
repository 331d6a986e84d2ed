"""The ledger on any story a tape can tell, against a second, slower opinion of what is trusted.

The opinion keeps, for each market, the set of ticks that are trusted, and adds to or takes from it
frame by frame; it knows no intervals.
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
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.ledger import Asked, Ledger
from perptape.tape import Batch
from perptape.timeline import JOIN_NS
from perptape.venues import VENUES

TICK = 10 * JOIN_NS
T0 = 1_790_000_000 * NS
NAMES = ("BTC", "ETH")
REASONS = {
    *("start", "silence", "disconnect", "refused", "overload", "disk", "clock", "damage"),
    *("restart", "shutdown"),
}
INSTANTS = REASONS - {"start", "shutdown"}
"""Of these a stretch without length may part trusted time."""


@pytest.fixture(autouse=True, scope="module")
def no_promises():
    """No stream is to be repeated: these stories are long and tell little."""
    with pytest.MonkeyPatch.context() as patch:
        quiet = msgspec.structs.replace(VENUES["bybit"], cadence={})
        patch.setattr(ledger, "VENUES", VENUES | {"bybit": quiet})
        yield


def market(name):
    return f"bybit:{name}-USDT-PERP"


def quote(name):
    return (
        f'{{"topic":"orderbook.1.{name}USDT","ts":1790000000000,"type":"snapshot","data":{{"s":'
        f'"{name}USDT","b":[["1","1"]],"a":[["2","2"]],"u":1,"seq":1}},"cts":1790000000000}}'
    ).encode()


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
        self.ok = defaultdict(bool)
        self.carrier = {}
        self.asked = defaultdict(set)  # wire: names; absent: nobody knows
        self.marked, self.seen = set(), set()  # names; (name, wire)
        self.over, self.last = set(), {}
        self.troubles = set()
        self.files = {}  # (wire, name): [trusted now, tick of the last data]
        self.imported = set()
        self.now = self.high = None

    def move(self, tick):
        if self.now is not None and tick < self.now:
            for name in NAMES:
                self.forget(name, tick)
        for name in NAMES:
            if self.ok[name]:
                self.trusted[name] |= set(range(self.now, tick))
        self.now = tick
        self.high = tick if self.high is None else max(self.high, tick)

    def forget(self, name, tick):
        if self.ok[name] or tick < self.now:
            self.trusted[name] -= set(range(tick, self.high + 1))
        self.ok[name] = False

    def heard_last(self, name):
        return self.last.get(self.carrier.get(name), self.now)

    def hurt(self, names):
        for name in names:
            if self.ok[name]:
                self.forget(name, self.heard_last(name))

    def carried(self, wire):
        return [n for n in NAMES if self.carrier.get(n) == wire]

    def take(self, frame):
        if frame.lost:
            self.hurt(NAMES)
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
            self.hurt(NAMES)
            return
        if said.imported:
            self.imported.add(frame.wire)
            return
        self.move(frame.tick)
        self.asked[frame.wire] = {s.market[6:9] for s in said.subscriptions}
        self.marked |= self.asked[frame.wire]
        self.seen |= {(name, frame.wire) for name in self.asked[frame.wire]}
        for name in self.asked[frame.wire]:
            self.hurt([name])
            self.carrier[name] = frame.wire

    def text(self, frame):
        if frame.wire in self.imported:
            self.file(frame)
            return
        self.move(frame.tick)
        self.last[frame.wire] = frame.tick
        names = [n for n in NAMES if n.encode() in frame.payload]
        if frame.kind == Kind.PING or frame.payload == PONG:
            return
        if not frame.payload.endswith(b"}"):
            mine = self.carried(frame.wire)
            for name in [n for n in mine if n in names and n in self.marked] or mine:
                self.ok[name] = False
            return
        for name in names:
            self.data(name, frame.wire)

    def data(self, name, wire):
        known = self.carrier.get(name)
        is_lost = known is None or (known in self.over and wire not in self.over)
        if is_lost or (wire not in self.asked and (name, wire) not in self.seen):
            self.hurt([name])
            self.carrier[name] = wire
        self.seen.add((name, wire))
        if self.carrier[name] != wire or wire in self.over or self.now < self.high:
            return
        self.ok[name] = not self.troubles or self.ok[name]

    def file(self, frame):
        names = [n for n in NAMES if n.encode() in frame.payload]
        is_whole = frame.payload.endswith(b"}")
        for name in names if is_whole else NAMES:
            file = self.files.get((frame.wire, name))
            if file is None and not is_whole:
                continue
            file = self.files.setdefault((frame.wire, name), [False, frame.tick])
            if file[0]:
                self.trusted[name, frame.wire] |= set(range(file[1], frame.tick))
            file[:] = [is_whole, frame.tick if is_whole else file[1]]

    def note(self, frame):  # noqa: C901 - a case for each word
        self.move(frame.tick)
        try:
            said = msgspec.json.decode(frame.payload, type=Note)
        except msgspec.MsgspecError:
            said = Note("?")
        mine = self.carried(frame.wire) if frame.wire else NAMES
        match said.note:
            case "closed" | "shutdown" | "silence":
                self.over.add(frame.wire)
                if said.note == "silence":
                    self.hurt(mine)
                for name in mine:
                    self.ok[name] = False
            case "refused":
                self.ok[said.market[6:9]] = False
            case "restart":
                self.hurt(NAMES)
                self.over |= set(self.asked) | set(self.last)
                self.troubles.clear()
            case "clock":
                self.hurt(NAMES)
            case "overload" | "disk" if said.state == "end":
                self.troubles.discard(said.note)
            case "overload" | "disk":
                self.troubles.add(said.note)
                for name in NAMES:
                    self.ok[name] = False
            case "late" | "unreachable" | "complaint":
                pass
            case _:
                self.hurt(mine)

    def ticks(self):
        self.hurt(NAMES)
        found = {name: set(self.trusted[name]) for name in NAMES}
        for key, ticks in self.trusted.items():
            if isinstance(key, tuple):
                found[key[0]] |= ticks
        return found


PONG = b'{"op":"pong","args":["1"]}'


def said(note, **words):
    return msgspec.json.encode(Note(note, **words))


def opening(names, *, imported=False):
    asked = [Subscription(market(n), "quotes", "orderbook.1", f"{n}USDT") for n in names]
    return msgspec.json.encode(Opened("bybit", "ws://x", tuple(asked), imported))


OPENINGS = [opening(NAMES), opening(NAMES[:1]), opening(NAMES[1:]), b"{"]
TORN = [quote(name)[:-20] for name in NAMES]
BLOTS = [(Kind.NOTE, payload) for payload in (b"", b"[]", b'{"note":7}', said("prophecy"))]
ON_A_WIRE = [
    *[(Kind.TEXT, quote(name)) for name in NAMES * 5],
    *[(Kind.TEXT, payload) for payload in (*TORN, b"\x00\xff", PONG)],
    *[(Kind.PING, b""), (Kind.SENT, b"")],
    *[(Kind.NOTE, said(word)) for word in ("closed", "silence", "shutdown", "complaint")],
    *[
        (Kind.NOTE, said(word, market=market(name), channel="quotes"))
        for word in ("refused", "late")
        for name in NAMES
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
    frames, wires, tick = [], 0, 0
    for _ in range(draw(st.integers(2, 40))):
        tick += draw(st.integers(0, 3))
        where = draw(st.sampled_from(["new", *["wire"] * 7, "tape", "tape", "back", "files"]))
        lost = draw(LOST)
        if where == "new" or not wires:
            wires += 1
            frames.append(Told(wires, Kind.OPENED, draw(st.sampled_from(OPENINGS)), tick, lost))
        elif where == "files":
            told = draw(files(wires))
            frames += told
            wires = max(frame.wire for frame in told)
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
    found = Ledger([Asked(T0, ((market("BTC"), "quotes"),))])
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
    for name in NAMES:
        found = [i for i in result.intervals if i.market == market(name)]
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
        assert {(t - T0) // TICK for t in trusted} == expected[name]
    assert result.frames == len(frames)


@settings(max_examples=60, deadline=None)
@given(stories(), st.sets(st.integers(0, 60)))
def test_where_batches_are_cut_changes_nothing(frames, cuts):
    assert (
        read(frames, cuts).intervals
        == read(frames).intervals
        == (read(frames, set(range(100))).intervals)
    )
