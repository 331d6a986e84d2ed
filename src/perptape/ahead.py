"""One batch on the fast way: what is remembered of its streams, as if frame by frame.

Quotes are followed many at once where many come, books one by one: their levels are arrays, but
whether each may be applied, and what it contradicts, is for the checks to say as ever.
"""

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape import checks
from perptape.checks import Checks
from perptape.columns import Quotes, Updates, ranges
from perptape.events import Book, Kind, Quote
from perptape.matching import Ints, compiled
from perptape.tape import Batch
from perptape.templates import Forms, Read
from perptape.timeline import Content, Stream
from perptape.trust import Trust, Wire

LAST_WIRE_KIND = int(Kind.SENT)
FEW = 32
"""Of fewer frames (and a few more for each lane) each is taken by itself: that costs less."""
A_LANE = 4
SHORT, WIDE = 16, 1 << 20
"""After a frame that is not taken so few are tried together, then twice as many, and so on."""
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
    """Quotes, or changes of books, that became rows without having been events."""

    seq: NDArray[np.uint64]
    ts_recv: Ints
    terms: NDArray[np.int32]
    events: Quotes | Updates

    def __len__(self) -> int:
        return len(self.seq)


class Lane(msgspec.Struct, eq=False):
    """One symbol's quotes, or its book, on one wire, in one batch."""

    wire: Wire
    symbol: str
    is_book: bool
    stream: Stream | None = None

    def find(self) -> None:
        """Look for its stream: an opening may have given it another."""
        self.stream = self.wire.streams.get((self.symbol, Book if self.is_book else Quote))

    def is_regular(self, trust: Trust) -> bool:
        """Tell whether one more can change nothing but what is quoted."""
        if self.stream is None:
            self.find()  # its first frame may have been this batch's
        stream = self.stream
        if stream is None or not stream.trusted or stream.doubt or stream.content is None:
            return False
        is_here = stream.wire == stream.content.wire == self.wire.number
        return is_here and (self.wire.imported or not trust.fell)


class Ahead:
    """One batch on its way."""

    def __init__(  # noqa: PLR0913, PLR0917 - what there is to go by
        self,
        batch: Batch,
        trust: Trust,
        found: Checks,
        beat: Beat,
        forms: Forms,
        read: Read,
        lane: Ints,
        lanes: list[Lane],
    ) -> None:
        self._batch, self._trust, self._checks, self._beat = batch, trust, found, beat
        self._forms, self._read, self._lane, self._lanes = forms, read, lane, lanes
        is_book = np.array([one.is_book for one in lanes] + [False])[lane]
        places = np.where(is_book, np.arange(len(lane)), len(lane))
        self._is_book = is_book
        self._next_book = np.minimum.accumulate(places[::-1])[::-1].copy().data
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
        book = self._next_book[row]
        if book == row:
            self._taken[row] = is_taken = self._change(row)
            return row + is_taken
        stop = min(stop, row + self._width, book)
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
            content = self._content(lane, ts)
            if content is None:
                return at
            self._count(lane, at, ts)
            content.bid, content.ask, content.against = bids[at], asks[at], 0
        return stop

    def _content(self, lane: Lane, ts: int) -> Content | None:
        """Give what is known of a lane's stream, if one more in time changes no more than that."""
        is_regular, stream = lane.is_regular(self._trust), lane.stream
        if not is_regular or stream is None or not 0 <= ts - stream.last <= stream.bound:
            return None
        return stream.content

    def _count(self, lane: Lane, row: int, ts: int) -> None:
        stream = lane.stream
        assert stream is not None  # noqa: S101 - it has content
        self._beat(stream, lane.wire, ts)
        stream.seq = self._batch.first_seq + row
        stream.frames += 1
        stream.last = lane.wire.last = ts
        self._terms[row] = stream.terms

    def _change(self, row: int) -> bool:
        """Apply a change to its book, if that is all there is to do with it."""
        lane, ts, read = self._lanes[self._lane[row]], int(self._batch.ts_recv[row]), self._read
        content = self._content(lane, ts)
        course = None if content is None else content.course
        if content is None or course is None or content.book < 0:
            return False
        form = self._forms.forms[read.form[row]]
        *_, update_id, follows = form.whole(read.wholes[:, row].tolist())
        if not course.is_next(update_id, follows, is_snapshot=form.is_snapshot):
            return False
        self._count(lane, row, ts)
        course.chain.step(update_id, follows, is_snapshot=form.is_snapshot)
        course.last = ts
        first, middle, last = read.cuts[:, row].tolist()
        content.bid, content.ask = self._checks.books.change(
            content.book, read.levels, (first, middle, last), is_whole=form.is_snapshot
        )
        if lane.stream is not None:
            self._checks.moved(lane.stream, content, ts)
        return True

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

    def blocks(self) -> Iterator[tuple[type, Block]]:
        """Give the rows of all frames that were taken, by type of event."""
        for kind, is_ in ((Quote, ~self._is_book), (Book, self._is_book)):
            rows = np.flatnonzero(self._taken & is_)
            if len(rows):
                times, terms = self._batch.ts_recv[rows], self._terms[rows].astype(np.int32)
                seqs = (rows + self._batch.first_seq).astype(np.uint64)
                told = self._updates(rows) if kind is Book else self._quotes(rows)
                yield kind, Block(seqs, times, terms, told)

    def _quotes(self, rows: Ints) -> Quotes:
        said = self._forms.said()[self._read.form[rows]].T
        return Quotes(self._read.prices[:, rows], self._read.wholes[:3, rows], said[:3])

    def _updates(self, rows: Ints) -> Updates:
        forms, read = self._read.form[rows], self._read
        first, middle, last = read.cuts[:, rows]
        return Updates(
            read.levels[:, ranges(first, last - first)],
            np.stack([middle - first, last - middle]),
            read.wholes[:3, rows],
            self._forms.said()[forms].T[:3],
            self._forms.is_snapshot()[forms],
        )


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
