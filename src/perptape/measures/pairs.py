"""What is gathered of all ordered pairs of one coin in one pass, in pieces of any size."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from perptape import kernels
from perptape.align import Coin, Piece
from perptape.errors import Failed
from perptape.kernels import NEVER, Chunk, Floats, Ints, Trust
from perptape.measures.counts import SparseCounts, scratch

BLOCK_ENTRIES = 1 << 15
"""Entries of all streams of a block, so that they stay in a core's cache together."""
WAITING = (1 << 16) + 16
"""Notionals of a pair that are counted together."""
LEAST_BLOCK, MOST_BLOCK = 201, 5001
MOST_THREADS = 4
LATENCIES_AT_ONCE = 1 << 16


class Window(msgspec.Struct, frozen=True):
    """What is measured and drawn: a closed stretch of time, ages up to a maximum, buckets."""

    ts_from: int
    ts_to: int
    max_age_ns: int | None = None
    buckets: int = 0


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


class _Sells:
    """The pairs that sell on some of the markets: one thread's share."""

    def __init__(
        self, sells: range, kept: Floats, trust: Trust, window: Window, axis: tuple[int, int]
    ) -> None:
        self.sells, self._width = sells, len(kept)
        pairs = len(sells) * self._width
        entries = max(1, 2 * (self._width - 1))
        block = min(max(BLOCK_ENTRIES // entries | 1, LEAST_BLOCK), MOST_BLOCK)
        self._trust = trust
        self._markets = _markets(sells, trust, window)
        self._streams = _streams(pairs, pairs + 2 * len(sells), block)
        self._pairs = _pairs(np.ascontiguousarray(kept[sells.start : sells.stop].ravel()))
        self._counts = SparseCounts(spill=pairs * (WAITING + 2 * block))
        self._scratch = scratch(block, WAITING)
        self.lines = _lines(pairs + 2 * len(sells), window.buckets, axis)

    def take(self, chunk: Chunk) -> None:
        i = 0
        while i < len(chunk.ts):
            i = int(
                kernels.digest(
                    chunk,
                    i,
                    self._trust,
                    self._markets,
                    self._streams,
                    self._pairs,
                    self._scratch,
                    self._counts.arrays,
                    self.lines,
                )
            )
            if i < 0:
                raise Failed(
                    "The quotes are not in receive order: sort them by ts_recv and seq first."
                )
            self._counts.absorb()

    def settle(self) -> None:
        kernels.settle(self._pairs, self._scratch, self._counts.arrays)
        self._counts.absorb()

    def sums(self, sell: int, buy: int) -> PairSums:
        pair = (sell - self.sells.start) * self._width + buy
        ints, floats = self._pairs.ints[pair], self._pairs.floats[pair]
        series = kernels.SERIES * pair
        return PairSums(
            Counted(
                int(ints[kernels.N]),
                int(ints[kernels.POSITIVE]),
                _whole(ints[kernels.SUM :]),
                float(floats[kernels.LEAST]),
                float(floats[kernels.MOST]),
                *self._counts.bins(series + kernels.EVENTS),
            ),
            Counted(
                int(ints[kernels.GRID_N]),
                int(ints[kernels.GRID_POSITIVE]),
                _whole(ints[kernels.GRID_SUM :]),
                float(floats[kernels.GRID_LEAST]),
                float(floats[kernels.GRID_MOST]),
                *self._counts.bins(series + kernels.GRID),
            ),
            _whole(ints[kernels.TIME_SUM :]),
            int(ints[kernels.TIME_NS]),
            int(ints[kernels.EDGE_POSITIVE]),
            *self._counts.bins(series + kernels.NOTIONAL),
        )


def _markets(sells: range, trust: Trust, window: Window) -> kernels.Markets:
    width = len(trust.first) - 1
    each = np.full((width, kernels.EACH), NEVER, np.int64)
    each[:, kernels.CURSOR] = trust.first[:-1]
    heard = trust.first[:-1] < trust.first[1:]
    each[heard, kernels.START] = trust.starts[trust.first[:-1][heard]]
    each[heard, kernels.END] = trust.ends[trust.first[:-1][heard]]
    each[:, kernels.DEADLINE] = each[:, kernels.END]
    run = np.zeros(kernels.RUN, np.int64)
    run[kernels.NOW] = -NEVER
    run[kernels.SOONEST] = each[:, kernels.DEADLINE].min(initial=NEVER)
    run[kernels.SINCE] = window.ts_from
    run[kernels.AGE] = NEVER if window.max_age_ns is None else window.max_age_ns
    run[kernels.FIRST_SELL], run[kernels.LAST_SELL] = sells.start, sells.stop
    return kernels.Markets(
        run,
        each,
        np.full((width, kernels.TOP), np.nan),
        np.zeros(width, np.int64),
        np.zeros(width, np.int64),
    )


def _streams(pairs: int, streams: int, block: int) -> kernels.Streams:
    return kernels.Streams(
        np.empty(block, np.int64),
        np.empty(block, np.int64),
        np.zeros(streams, np.int64),
        np.empty((streams, block), np.int32),
        np.empty((streams, block)),
        np.empty((pairs, block)),
    )


def _pairs(kept: Floats) -> kernels.Pairs:
    floats = np.full((len(kept), kernels.FLOATS), np.nan)
    floats[:, [kernels.LEAST, kernels.GRID_LEAST]] = np.inf
    floats[:, [kernels.MOST, kernels.GRID_MOST]] = -np.inf
    ints = np.zeros((len(kept), kernels.INTS), np.int64)
    return kernels.Pairs(ints, floats, kept, np.empty((len(kept), WAITING), np.int32))


def _lines(streams: int, width: int, axis: tuple[int, int]) -> kernels.Lines:
    buckets = np.full((streams, width, kernels.BUCKET), np.nan)
    buckets[:, :, [kernels.AREA, kernels.SPAN]] = 0.0
    return kernels.Lines(
        buckets,
        np.full(streams, np.nan),
        np.zeros(streams, np.int64),
        np.array(axis, np.int64),
    )


def _whole(limbs: Ints) -> int:
    low, middle, high = (int(limb) for limb in limbs[:3])
    return low + (middle << kernels.LIMB) + (high << 2 * kernels.LIMB)


def _axis(coin: Coin, window: Window) -> tuple[int, int]:
    first, last = coin.span()
    start, end = max(first, window.ts_from), min(last, window.ts_to)
    return start, max(1, -(-(end - start) // max(1, window.buckets)))


class PairAccumulator:
    """All pairs of a coin, fed pieces in receive order; what it gives does not show the pieces."""

    def __init__(
        self, coin: Coin, window: Window, kept: Floats, *, threads: int | None = None
    ) -> None:
        """``kept`` [M, M] is (1 - fee of the sell) / (1 + fee of the buy), NaN if not known.

        ``threads`` share the pairs; the default is the cores, at most MOST_THREADS.
        """
        width = len(coin.markets)
        trust = coin.trust(window.ts_from, window.ts_to)
        shares = max(1, min(threads or os.cpu_count() or 1, MOST_THREADS, width))
        cuts = [round(k * width / shares) for k in range(shares + 1)]
        self._since = window.ts_from
        self.axis = _axis(coin, window)
        """Start and length of the buckets, in ns."""
        self.ts_needed = min([window.ts_from, *trust.starts.tolist()])
        """The time from which rows matter: a quote from before the window may stand in it."""
        self._shares = [
            _Sells(range(a, b), kept, trust, window, self.axis) for a, b in pairwise(cuts)
        ]
        self._threads = ThreadPoolExecutor(shares) if shares > 1 else None
        self._trust, self._cursors = trust, trust.first[:-1].copy()
        self._latencies = SparseCounts(spill=LATENCIES_AT_ONCE)
        self._scratch = scratch(LATENCIES_AT_ONCE, LATENCIES_AT_ONCE)
        self.quotes = np.zeros(width, np.int64)
        """Rows of each market in the window."""

    def feed(self, piece: Piece) -> None:
        """Take in the next rows.

        Raises Failed if a row is earlier than the one before.
        """
        self._take(piece.chunk)
        since = int(np.searchsorted(piece.chunk.ts, self._since))
        known = piece.chunk.market[since:] + 1
        self.quotes += np.bincount(known, minlength=len(self.quotes) + 1)[1:]
        self._time(piece, since)

    def _take(self, chunk: Chunk) -> None:
        run = map if self._threads is None else self._threads.map
        for _ in run(_Sells.take, self._shares, [chunk] * len(self._shares)):
            pass

    def _time(self, piece: Piece, since: int) -> None:
        for i in range(since, len(piece.chunk.ts), LATENCIES_AT_ONCE):
            part = slice(i, i + LATENCIES_AT_ONCE)
            kernels.count_latencies(
                piece.chunk.ts[part],
                piece.chunk.market[part],
                piece.ts_event[part],
                self._trust,
                self._cursors,
                self._scratch,
                self._latencies.arrays,
            )
            self._latencies.absorb()

    def finish(self) -> None:
        """Close what is open at the end of trust; nothing is fed after it."""
        nothing = np.full(1, np.nan)
        end = Chunk(np.array([NEVER]), np.array([-1]), nothing, nothing, nothing, nothing)
        for array in end:
            array.setflags(write=False)
        self._take(end)
        for share in self._shares:
            share.settle()
        if self._threads is not None:
            self._threads.shutdown()

    def sums(self, sell: int, buy: int) -> PairSums:
        """Give what a pair came to, by the places of its markets."""
        return self._share(sell).sums(sell, buy)

    def ratio(self, sell: int, buy: int) -> Floats:
        """Buckets of a pair's bid / ask, [n, BUCKET]."""
        share = self._share(sell)
        buckets: Floats = share.lines.buckets[(sell - share.sells.start) * len(self.quotes) + buy]
        return buckets

    def side(self, market: int, side: int) -> Floats:
        """Buckets of a market's bid (0) or ask (1), [n, BUCKET]."""
        share = self._share(market)
        first = len(share.sells) * len(self.quotes)
        buckets: Floats = share.lines.buckets[first + 2 * (market - share.sells.start) + side]
        return buckets

    def latencies(self, market: int) -> tuple[Ints, Ints]:
        """Give ``ts_recv - ts_event`` in us, ascending, and how often each came."""
        return self._latencies.bins(market)

    def _share(self, sell: int) -> _Sells:
        return next(s for s in self._shares if sell in s.sells)
