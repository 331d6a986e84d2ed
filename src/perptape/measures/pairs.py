"""What is gathered of all ordered pairs of one coin: partial -> merge, so that no cut shows.

A part of the time is measured apart from all others, given the last quotes from before it. Parts
that meet can be added; sums are exact, and so is what a chart shows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from perptape import weave
from perptape.align import Coin, Piece, fixed, piece, pieces
from perptape.errors import Failed
from perptape.kernels import (
    BPS,
    FINE,
    LIMB,
    LOW,
    NEVER,
    STEP_NS,
    Chunk,
    Floats,
    Ints,
    Trust,
    count_latencies,
)
from perptape.measures.counts import Bins, SparseCounts, added

ROWS_OF_BLOCK = 1 << 12
"""Changes of all markets in a block, so that it stays in a core's cache."""
WAITING, WAITING_OF_ALL = 1 << 16, 1 << 23
"""Notionals that are counted together: of a pair and of all, at most."""
GRID_WAITING = 1 << 11
LATENCIES_AT_ONCE = 1 << 13
Table = pl.DataFrame | pl.LazyFrame
DISORDER = "The quotes are not in receive order: sort them by ts_recv and seq first."


class Window(msgspec.Struct, frozen=True):
    """What is measured and drawn: a closed stretch of time, ages up to a maximum, buckets."""

    ts_from: int
    ts_to: int
    max_age_ns: int | None = None
    buckets: int = 0

    def axis(self, of: Coin) -> tuple[int, int]:
        """Give start and length of the buckets, in ns."""
        first, last = of.span()
        start, end = max(first, self.ts_from), min(last, self.ts_to)
        return start, max(1, -(-(end - start) // max(1, self.buckets)))


class Counted(NamedTuple):
    """Exact sums and counts of samples of one pair's ratio bid / ask."""

    n: int
    positive: int
    fine: int
    """Sum of the gaps in 1 / FINE bps."""
    least: float
    most: float
    """Of the ratio; ``least`` > ``most`` if n is 0."""
    keys: Ints
    """Gaps in 1 / BINS_PER_BPS bps, ascending [k]."""
    counts: Ints


class PairSums(NamedTuple):
    """What one ordered pair came to."""

    events: Counted
    grid: Counted
    fine_ns: int
    """Sum of gap times ns, in 1 / FINE bps."""
    defined_ns: int
    edge_positive: int
    notional_keys: Ints
    notional_counts: Ints


class Drawing(NamedTuple):
    """Some of the buckets: of every pair ``sell * M + buy``, then of each market's bid and ask."""

    first: int
    buckets: Floats
    """[S, w, weave.BUCKET]; NaN where nothing was"""
    sums: Ints
    """[P, w, weave.BUCKET_INTS]"""

    @property
    def end(self) -> int:
        return self.first + int(self.buckets.shape[1])


class Part(NamedTuple):
    """What ``[since, until)`` came to."""

    since: int
    until: int
    ints: Ints
    """[P, weave.INTS] of every pair ``sell * M + buy``"""
    floats: Floats
    """[P, weave.FLOATS]"""
    counts: Bins
    quotes: Ints
    """[M] rows of each market"""
    latencies: Bins
    drawing: Drawing

    def sums(self, sell: int, buy: int) -> PairSums:
        """Give what a pair came to, by the places of its markets."""
        pair = sell * len(self.quotes) + buy
        ints, floats, series = self.ints[pair], self.floats[pair], weave.SERIES * pair
        return PairSums(
            Counted(
                int(ints[weave.N]),
                int(ints[weave.POSITIVE]),
                whole(ints[weave.SUM :]),
                float(floats[weave.LEAST]),
                float(floats[weave.MOST]),
                *self.counts.of(series + weave.EVENTS),
            ),
            Counted(
                int(ints[weave.GRID_N]),
                int(ints[weave.GRID_POSITIVE]),
                whole(ints[weave.GRID_SUM :]),
                float(floats[weave.GRID_LEAST]),
                float(floats[weave.GRID_MOST]),
                *self.counts.of(series + weave.GRID),
            ),
            whole(ints[weave.TIME_SUM :]),
            int(ints[weave.TIME_NS]),
            int(ints[weave.EDGE_POSITIVE]),
            *_known(*self.counts.of(series + weave.NOTIONAL)),
        )

    def ratio(self, sell: int, buy: int) -> Floats:
        """Buckets of a pair's bid / ask, [n, weave.BUCKET], and its mean over time, [n, 1]."""
        pair = sell * len(self.quotes) + buy
        buckets, sums = self.drawing.buckets[pair], self.drawing.sums[pair]
        high = (sums[:, weave.AREA + 2] << LIMB) + sums[:, weave.AREA + 1]
        area = high * 2.0**LIMB + sums[:, weave.AREA]
        span = sums[:, weave.SPAN]
        mean = 1 + area / np.maximum(span, 1) / FINE / BPS
        # A value that stood for no time at all is its own mean.
        mean = np.where(span > 0, mean, buckets[:, weave.LAST])
        mean = np.clip(mean, buckets[:, weave.LOWEST], buckets[:, weave.HIGHEST])
        return np.column_stack([buckets, mean])

    def side(self, market: int, side: int) -> Floats:
        """Buckets of a market's bid (0) or ask (1), [n, weave.BUCKET]."""
        buckets: Floats = self.drawing.buckets[len(self.quotes) ** 2 + 2 * market + side]
        return buckets


def _known(keys: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Leave out the notionals that were none."""
    is_known = keys != weave.NO_NOTIONAL
    return keys[is_known], counts[is_known]


def whole(limbs: Ints) -> int:
    """Put an exact sum together."""
    low, middle, high = (int(limb) for limb in limbs[:3])
    return low + (middle << LIMB) + (high << 2 * LIMB)


class PairAccumulator:
    """All pairs of a coin in one part of the time, fed pieces in receive order."""

    def __init__(
        self, coin: Coin, window: Window, kept: Floats, part: tuple[int, int] | None = None
    ) -> None:
        """``kept`` [M, M] is (1 - fee of the sell) / (1 + fee of the buy), NaN if not known.

        ``part``: its begin and the begin of the next; the whole window if not given.
        """
        self._part = (window.ts_from, NEVER) if part is None else part
        self._trust = coin.trust(self._part[0], window.ts_to)
        width, axis = len(coin.markets), window.axis(coin)
        waiting = min(WAITING, WAITING_OF_ALL // max(1, width**2)) + ROWS_OF_BLOCK
        self._state = weave.State(
            _markets(self._trust, window, self._part[0]),
            _block(width, self._part[0]),
            _pairs(kept.ravel(), waiting),
            _scratch(),
            _lines(width, window.buckets, axis),
        )
        self._counts = SparseCounts(
            spill=width**2 * (waiting + GRID_WAITING + 2 * ROWS_OF_BLOCK),
            series=weave.SERIES * width**2,
        )
        self._latencies = SparseCounts(spill=LATENCIES_AT_ONCE, series=width)
        self._room = np.empty((width, LATENCIES_AT_ONCE), np.int64)
        self._quotes = np.zeros(width, np.int64)

    def feed(self, piece: Piece) -> None:
        """Take in the next rows; those from before the part are only remembered.

        Raises Failed if a row is earlier than the one before.
        """
        self._take(piece.chunk)
        since = int(np.searchsorted(piece.chunk.ts, self._part[0]))
        known = piece.chunk.market[since:] + 1
        self._quotes += np.bincount(known, minlength=len(self._quotes) + 1)[1:]
        self._time(piece, since)

    def _take(self, chunk: Chunk) -> None:
        i = 0
        while i < len(chunk.ts):
            i = int(weave.digest(chunk, i, self._trust, self._state, self._counts.arrays))
            if i < 0:
                raise Failed(DISORDER)
            self._counts.absorb()

    def _time(self, piece: Piece, since: int) -> None:
        for i in range(since, len(piece.chunk.ts), LATENCIES_AT_ONCE):
            rows = slice(i, i + LATENCIES_AT_ONCE)
            count_latencies(
                piece.chunk.ts[rows], piece.chunk.market[rows], piece.ts_event[rows],
                self._trust, self._room, self._latencies.arrays,
            )  # fmt: skip
            self._latencies.absorb()

    def finish(self) -> Part:
        """Let nothing be known from the end of the part on; nothing is fed after it."""
        since, until = self._part
        run, _, top, changed, is_changed = self._state.markets
        if until < NEVER:
            self._take(_nothing(until))
            top[:], is_changed[:], changed[:] = np.nan, True, np.arange(len(changed))
            run[weave.CHANGED] = len(changed)
        self._take(_nothing(NEVER))
        weave.settle(self._state, self._counts.arrays)
        self._counts.absorb()
        return Part(
            since, until, self._state.pairs.ints, self._state.pairs.floats, self._counts.told(),
            self._quotes, self._latencies.told(), self._drawn(),
        )  # fmt: skip

    def _drawn(self) -> Drawing:
        """Give the buckets that the part lies in."""
        buckets, sums, (start, width) = self._state.lines
        last = buckets.shape[1] - 1
        first, end = (min(max((t - int(start)) // int(width), 0), last) for t in self._part)
        part = slice(first, end + 1)
        return Drawing(max(first, 0), buckets[:, part].copy(), sums[:, part].copy())


def _nothing(ts: int) -> Chunk:
    """Make a row of no market: it only lets time pass."""
    nothing = fixed(np.full(1, np.nan))
    return Chunk(fixed(np.array([ts])), fixed(np.array([-1])), nothing, nothing, nothing, nothing)


# ---- arrays -------------------------------------------------------------------------------------


def _markets(trust: Trust, window: Window, since: int) -> weave.Markets:
    width = len(trust.first) - 1
    each = np.full((width, weave.EACH), NEVER, np.int64)
    each[:, weave.CURSOR] = trust.first[:-1]
    heard = trust.first[:-1] < trust.first[1:]
    each[heard, weave.START] = trust.starts[trust.first[:-1][heard]]
    each[heard, weave.END] = trust.ends[trust.first[:-1][heard]]
    each[:, weave.DEADLINE] = each[:, weave.END]
    run = np.zeros(weave.RUN, np.int64)
    run[weave.NOW] = -NEVER
    run[weave.SOONEST] = each[:, weave.DEADLINE].min(initial=NEVER)
    run[weave.SINCE] = run[weave.OPEN_T] = since
    run[weave.POINTS] = 0 if since == -NEVER else -(-since // STEP_NS)
    run[weave.AGE] = NEVER if window.max_age_ns is None else window.max_age_ns
    return weave.Markets(
        run,
        each,
        np.full((weave.TOP, width), np.nan),
        np.zeros(width, np.int64),
        np.zeros(width, np.bool_),
    )


def _block(width: int, since: int) -> weave.Block:
    rows = max(ROWS_OF_BLOCK, width)
    return weave.Block(
        np.full((width, rows + 2), since, np.int64),
        np.full((weave.TOP, width, rows + 1), np.nan),
        np.zeros(width, np.int64),
        np.empty((width, rows, width), np.int32),
        np.empty(rows, np.int64),
        np.empty((rows, width), np.int32),
    )


def _pairs(kept: Floats, waiting: int) -> weave.Pairs:
    floats = np.full((len(kept), weave.FLOATS), np.inf)
    floats[:, [weave.MOST, weave.GRID_MOST]] = -np.inf
    ints = np.zeros((len(kept), weave.INTS), np.int64)
    grid_keys, grid_weights = np.empty((2, len(kept), GRID_WAITING + ROWS_OF_BLOCK), np.int64)
    waits = np.empty((len(kept), waiting), np.int32)
    return weave.Pairs(ints, floats, kept, waits, grid_keys, grid_weights)


def _scratch() -> weave.Scratch:
    # One more than can be of use: a loop may write, and not keep it.
    rows = ROWS_OF_BLOCK + 1
    x, notional = np.empty((2, rows))
    length, keys = np.empty((2, rows), np.int64)
    return weave.Scratch(x, notional, length, keys)


def _lines(width: int, buckets: int, axis: tuple[int, int]) -> weave.Lines:
    return weave.Lines(
        np.full((width**2 + 2 * width, buckets, weave.BUCKET), np.nan),
        np.zeros((width**2, buckets, weave.BUCKET_INTS), np.int64),
        np.array(axis, np.int64),
    )


# ---- partial, merge -----------------------------------------------------------------------------


def partial(  # noqa: PLR0913, PLR0917 - sent to a worker, and so by place
    quotes: Sequence[Table], coin: Coin, window: Window, kept: Floats, part: tuple[int, int],
    before: pl.DataFrame,
) -> Part:  # fmt: skip
    """Measure ``[since, until)``; ``before`` is the last row of each market from before it."""
    accumulator = PairAccumulator(coin, window, kept, part)
    since, until = part
    accumulator.feed(piece(before, coin))
    last = window.ts_to if until == NEVER else min(window.ts_to, until - 1)
    for rows in pieces(quotes, coin, ts_from=since, ts_to=last):
        if len(rows.chunk.ts) and not since <= rows.chunk.ts[0] <= rows.chunk.ts[-1] < until:
            raise Failed(DISORDER)
        accumulator.feed(rows)
    return accumulator.finish()


def merge(first: Part, then: Part) -> Part:
    """Add two parts, of which the second begins where the first ends."""
    if first.until != then.since:
        raise ValueError((first.until, then.since))
    ints = first.ints + then.ints
    for at in (weave.SUM, weave.TIME_SUM, weave.GRID_SUM):
        _carry(ints[:, at : at + 3])
    floats = np.minimum(first.floats, then.floats)
    most = [weave.MOST, weave.GRID_MOST]
    floats[:, most] = np.maximum(first.floats, then.floats)[:, most]
    return Part(
        first.since, then.until, ints, floats, added(first.counts, then.counts),
        first.quotes + then.quotes, added(first.latencies, then.latencies),
        _joined(first.drawing, then.drawing),
    )  # fmt: skip


def _carry(limbs: Ints) -> None:
    """Make limbs [..., 3] of a sum of limbs, in place."""
    for k in range(2):
        limbs[..., k + 1] += limbs[..., k] >> LIMB
        limbs[..., k] &= LOW


def _joined(first: Drawing, then: Drawing) -> Drawing:
    """Draw a bucket that both have as if its values had come one after the other."""
    end = max(first.end, then.end)
    a, b = (_widened(drawing, first.first, end) for drawing in (first, then))
    buckets = np.empty_like(a.buckets)
    for column, join in (
        (weave.FIRST, lambda x, y: np.where(np.isnan(x), y, x)),
        (weave.LOWEST, np.fmin),
        (weave.HIGHEST, np.fmax),
        (weave.LAST, lambda x, y: np.where(np.isnan(y), x, y)),
    ):
        buckets[..., column] = join(a.buckets[..., column], b.buckets[..., column])
    sums = a.sums + b.sums
    _carry(sums[..., weave.AREA : weave.AREA + 3])
    return Drawing(first.first, buckets, sums)


def _widened(drawing: Drawing, first: int, end: int) -> Drawing:
    around = ((0, 0), (drawing.first - first, end - drawing.end), (0, 0))
    return Drawing(
        first,
        np.pad(drawing.buckets, around, constant_values=np.nan),
        np.pad(drawing.sums, around),
    )
