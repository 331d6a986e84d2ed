"""A fast way through the frames of a batch, for those of which nothing can come but a row.

A **lane** is what one wire says of one symbol's quotes. Its frames are read in bulk, by forms; of
their stream the same is remembered as if each had been looked at by itself. The ledger handles all
other frames one by one: before each of them everything earlier has been done, so nothing that it
sees tells how. A frame is taken only while its stream is trusted and in no doubt, if it comes in
time and its bid is below its ask; the rest is as ever the ledger's.
"""

import re
from collections.abc import Callable, Iterator
from typing import cast

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from perptape import checks
from perptape.columns import Quotes
from perptape.events import Kind, Quote
from perptape.tape import Batch
from perptape.templates import LONGEST, Forms, Ints, Loop, Read, learn
from perptape.timeline import Stream
from perptape.trust import Trust, Wire

LAST_DATA, LAST_WIRE_KIND = int(Kind.BINARY), int(Kind.SENT)
FEW = 32
"""Of fewer frames (and a few more for each lane) each is taken by itself: that costs less."""
A_LANE = 4
SHORT, WIDE = 16, 1 << 20
"""After a frame that is not taken so few are tried together, then twice as many, and so on."""
SAMPLES, ROUNDS = 16, 8
"""So many of a batch's misses are looked at for new forms, again while some are found."""
HOPELESS = 1 << 12
"""So many forms that cannot be learned are remembered; after them nothing is learned."""
ANY_NUMBER = re.compile(rb"[0-9]+")
FAR = 1 << 62
"""Times beyond it (and sums of gaps beyond half of it) are left to numbers without a bound."""
LONG = 1 << 55
"""Likewise gaps."""

REGULAR, LAST, LEARNS, PROMISED, FLOOR, GAPS, GAPS_NS, LONGEST_NS = range(8)
PAUSE, BOUND, AWAKE, COUNT, ROW, STATE = range(8, 14)
"""What :func:`follow` knows of a lane's stream: its columns, and how many."""
RULES = np.array(
    [
        *(checks.LEARN_EVERY, checks.GAPS, checks.PAUSE_NS, checks.PAUSE),
        *(checks.LONGEST, checks.MEAN),
    ]
)
"""What the checks go by. Handed in: what is compiled would keep those of another version."""

Step = tuple[int, int, int, int, int, int]
"""A frame for the ledger: seq, kind, wire, ts_recv, begin and end of its payload."""
Beat = Callable[[Stream, Wire, int], None]


class Block(msgspec.Struct, frozen=True, eq=False):
    """Quotes that became rows without having been events."""

    seq: NDArray[np.uint64]
    ts_recv: Ints
    terms: NDArray[np.int32]
    quotes: Quotes

    def __len__(self) -> int:
        return len(self.seq)


class Lane(msgspec.Struct, eq=False):
    """One symbol's quotes on one wire, in one batch."""

    wire: Wire
    symbol: str
    stream: Stream | None = None

    def find(self) -> None:
        """Look for its stream: an opening may have given it another."""
        self.stream = self.wire.streams.get((self.symbol, Quote))

    def is_regular(self, trust: Trust) -> bool:
        """Tell whether one more quote can change nothing but the quote."""
        if self.stream is None:
            self.find()  # its first frame may have been this batch's
        stream = self.stream
        if stream is None or not stream.trusted or stream.doubt or stream.content is None:
            return False
        is_here = stream.wire == stream.content.wire == self.wire.number
        return is_here and (self.wire.imported or not trust.fell)


class Lanes:
    """The forms learned from a tape, and what went the fast way."""

    def __init__(self, trust: Trust, beat: Beat) -> None:
        self._trust, self._beat = trust, beat
        self._forms = Forms()
        self._hopeless: set[tuple[str, bytes]] = set()
        self.taken = 0
        """Frames that went the fast way."""

    def rest(self, batch: Batch, blocks: list[Block] | None) -> Iterator[Step]:
        """Give the frames that are the ledger's, one by one; do all others between them."""
        numbers = sorted(batch.venues)
        known = np.array([-1, *numbers], np.int64)
        whose = np.searchsorted(known, batch.wire, side="right") - 2
        is_ours = (known[whose + 1] == batch.wire) & (batch.kind <= LAST_DATA)
        whose = np.where(is_ours, whose, -1)
        read = self._read(batch, numbers, whose)
        ahead = Ahead(batch, self._trust, self._beat, read, *self._lanes(read, whose, numbers))
        yield from ahead.steps()
        self.taken += ahead.count
        if blocks is not None and ahead.count:
            blocks.append(ahead.block(self._forms))

    def _read(self, batch: Batch, numbers: list[int], whose: Ints) -> Read:
        payload = np.frombuffer(batch.payload, np.uint8)
        payload.flags.writeable = False  # one type for all is compiled once
        venues = [self._trust.wires[number].venue for number in numbers]
        read = Read.empty(len(batch))
        for _ in range(ROUNDS):
            self._forms.match(payload, batch.offsets, whose, venues, read)
            if not self._learned(batch, whose, read):
                break
        return read

    def _learned(self, batch: Batch, whose: Ints, read: Read) -> bool:
        """Look at some frames that no form fits; tell whether there are new forms."""
        if len(self._hopeless) >= HOPELESS:
            return False
        is_short = np.diff(batch.offsets) <= LONGEST
        misses = np.flatnonzero((read.form < 0) & (whose >= 0) & is_short)
        tried = misses[:: max(1, len(misses) // SAMPLES)].tolist()
        return any([self._learn(batch, row) for row in tried])  # noqa: C419 - all of them

    def _learn(self, batch: Batch, row: int) -> bool:
        wire = self._trust.wires[int(batch.wire[row])]
        payload = bytes(batch.payload[batch.offsets[row] : batch.offsets[row + 1]])
        shape = (wire.venue, ANY_NUMBER.sub(b"0", payload))
        if shape in self._hopeless:
            return False
        form = learn(wire.decode, payload)
        if form is not None and self._forms.add(wire.venue, form):
            return True
        self._hopeless.add(shape)
        return False

    def _lanes(self, read: Read, whose: Ints, numbers: list[int]) -> tuple[Ints, list[Lane]]:
        """Give the lane of each frame, -1 of those that have none; and the lanes."""
        lane = np.full(len(whose), -1, np.int64)
        bid, _, ask, _ = read.prices
        rows = np.flatnonzero((read.form >= 0) & (bid < ask))
        symbols = list(self._forms.symbols)
        keys = whose[rows] * len(symbols)
        keys += self._forms.symbol_of()[read.form[rows]] if symbols else 0
        found, lane[rows] = np.unique(keys, return_inverse=True)
        wires = self._trust.wires
        pairs = (divmod(key, len(symbols)) for key in found.tolist())
        return lane, [Lane(wires[numbers[wire]], symbols[symbol]) for wire, symbol in pairs]


class Ahead:
    """One batch on its way."""

    def __init__(  # noqa: PLR0913, PLR0917 - what there is to go by
        self, batch: Batch, trust: Trust, beat: Beat, read: Read, lane: Ints, lanes: list[Lane]
    ) -> None:
        self._batch, self._trust, self._beat, self._read = batch, trust, beat, read
        self._lane, self._lanes = lane, lanes
        self._taken = np.zeros(len(batch), np.bool_)
        self._terms = np.full(len(batch), -1, np.int64)
        self._width = WIDE
        self._views = (lane.data, batch.ts_recv.data, read.prices[0].data, read.prices[2].data)
        self._columns = (batch.kind.data, batch.wire.data, batch.ts_recv.data, batch.offsets.data)
        self._state = np.zeros((len(lanes), STATE), np.int64)

    def steps(self) -> Iterator[Step]:
        """Take what can be taken; give the rest."""
        row = 0
        for lane in self._lanes:
            lane.find()
        for step in (*self._slow(np.flatnonzero(self._lane < 0)), None):
            stop = len(self._batch) if step is None else step[0] - self._batch.first_seq
            while row < stop:
                reached = self._take(row, stop)
                if reached == row:
                    yield self._step(row)
                    reached += 1
                row = reached
            if step is not None:
                yield step
                row = stop + 1
                if step[1] > LAST_WIRE_KIND:
                    for lane in self._lanes:
                        lane.find()

    def _slow(self, rows: Ints) -> Iterator[Step]:
        batch = self._batch
        columns = (batch.kind, batch.wire, batch.ts_recv, batch.offsets[:-1], batch.offsets[1:])
        seqs = (rows + batch.first_seq).tolist()
        return zip(seqs, *(column[rows].tolist() for column in columns), strict=True)

    def _step(self, row: int) -> Step:
        kinds, wires, times, cuts = self._columns
        seq = self._batch.first_seq + row
        return seq, kinds[row], wires[row], times[row], cuts[row], cuts[row + 1]

    def _take(self, row: int, stop: int) -> int:
        """Take frames from ``row`` on; give the first that was not."""
        stop = min(stop, row + self._width)
        is_much = stop - row >= FEW + A_LANE * len(self._lanes)
        reached = self._run(row, stop) if is_much else self._walk(row, stop)
        self._width = SHORT if reached < stop else min(2 * self._width, WIDE)
        self._taken[row:reached] = True
        return reached

    def _walk(self, row: int, stop: int) -> int:
        """Take one by one."""
        lane_of, times, bids, asks = self._views
        for at in range(row, stop):
            lane, ts = self._lanes[lane_of[at]], times[at]
            is_regular = lane.is_regular(self._trust)
            stream = lane.stream
            if not is_regular or stream is None or stream.content is None:
                return at
            if not 0 <= ts - stream.last <= stream.bound:
                return at
            self._beat(stream, lane.wire, ts)
            stream.seq = self._batch.first_seq + at
            stream.frames += 1
            stream.last = lane.wire.last = ts
            stream.content.bid, stream.content.ask, stream.content.against = bids[at], asks[at], 0
            self._terms[at] = stream.terms
        return stop

    def _run(self, row: int, stop: int) -> int:
        """Take all at once."""
        lane_of = self._lane[row:stop]
        present = np.flatnonzero(np.bincount(lane_of, minlength=len(self._lanes))).tolist()
        for number in present:
            self._state[number] = self._known(self._lanes[number])
        reached = row + follow(lane_of, self._batch.ts_recv[row:stop], self._state, RULES)
        terms = np.full(len(self._lanes), -1, np.int64)
        last: dict[int, int] = {}
        for number in present:
            lane, state = self._lanes[number], self._state[number].tolist()
            if lane.stream is not None and state[COUNT]:
                self._remember(lane.stream, state, row + state[ROW])
                terms[number] = lane.stream.terms
                last[lane.wire.number] = max(last.get(lane.wire.number, 0), row + state[ROW])
        for wire, at in last.items():
            self._trust.wires[wire].last = int(self._batch.ts_recv[at])
        self._terms[row:reached] = terms[self._lane[row:reached]]
        return reached

    def _known(self, lane: Lane) -> tuple[int, ...]:
        is_regular = lane.is_regular(self._trust)  # it may find the stream
        stream = lane.stream
        if stream is None or not is_regular:
            return (0,) * STATE
        is_small = 0 <= stream.last < FAR
        is_small = is_small and stream.gaps_ns < FAR // 2 and stream.longest_ns < LONG
        return (
            int(is_small),
            stream.last if is_small else 0,
            int(not lane.wire.imported),
            checks.promised_bound(stream) if stream.promised_ns else 0,
            checks.FLOOR_NS.get(stream.channel, checks.FLOOR_OTHER_NS),
            stream.gaps,
            stream.gaps_ns if is_small else 0,
            stream.longest_ns if is_small else 0,
            stream.pause,
            stream.bound,
            stream.awake_since if is_small else 0,
            0,
            0,
        )

    def _remember(self, stream: Stream, state: list[int], row: int) -> None:
        stream.frames += state[COUNT]
        stream.seq = self._batch.first_seq + row
        stream.last = state[LAST]
        stream.gaps, stream.gaps_ns, stream.longest_ns = (
            state[GAPS],
            state[GAPS_NS],
            state[LONGEST_NS],
        )
        stream.pause, stream.bound, stream.awake_since = state[PAUSE], state[BOUND], state[AWAKE]
        if stream.content is not None:
            _, _, bids, asks = self._views
            stream.content.bid, stream.content.ask, stream.content.against = bids[row], asks[row], 0

    @property
    def count(self) -> int:
        """How many frames were taken."""
        return int(np.count_nonzero(self._taken))

    def block(self, forms: Forms) -> Block:
        """Give the rows of all frames that were taken."""
        rows = np.flatnonzero(self._taken)
        said = forms.said()[self._read.form[rows]].T
        quotes = Quotes(self._read.prices[:, rows], self._read.wholes[:, rows], said)
        times = self._batch.ts_recv[rows]
        seqs = (rows + self._batch.first_seq).astype(np.uint64)
        return Block(seqs, times, self._terms[rows].astype(np.int32), quotes)


def compiled(loop: Loop) -> Loop:
    return cast("Loop", njit(cache=True, nogil=True, error_model="numpy")(loop))


@compiled
def follow(lane: Ints, ts: Ints, state: Ints, rules: Ints) -> int:
    """Do for many frames what the ledger does for one when it comes in time.

    ``state`` is [lane, column], and changed. Gives how many frames were taken: all before the first
    that is not regular.
    """
    learn_every, least, pause_ns, pauses, longest, means = rules
    for row in range(len(lane)):
        k, now = lane[row], ts[row]
        if not state[k, REGULAR] or not state[k, LAST] <= now < FAR:
            return row
        gap = now - state[k, LAST]
        if gap > state[k, BOUND] or gap >= LONG:
            return row
        if gap > state[k, PAUSE]:
            state[k, AWAKE] = now
        state[k, LAST], state[k, ROW] = now, row
        state[k, COUNT] += 1
        if not state[k, LEARNS]:
            continue
        state[k, GAPS] += 1
        state[k, GAPS_NS] += gap
        if gap <= state[k, LONGEST_NS] and state[k, GAPS] % learn_every:
            continue
        state[k, LONGEST_NS] = max(state[k, LONGEST_NS], gap)
        if state[k, PROMISED]:
            state[k, BOUND] = state[k, PROMISED]
        elif state[k, GAPS] >= least:
            mean = state[k, GAPS_NS] // state[k, GAPS]
            state[k, PAUSE] = max(pause_ns, pauses * mean)
            most = max(longest * state[k, LONGEST_NS], means * mean)
            state[k, BOUND] = max(state[k, FLOOR], most)
    return len(lane)
