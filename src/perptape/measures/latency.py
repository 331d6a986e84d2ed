"""What the stamps of a stream tell of latency and drift: its least delay, and all above it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from perptape.align import Coin, pieces
from perptape.events import MS, NS
from perptape.kernels import NEVER, SERIES_SHIFT, Floats, Ints, recount
from perptape.measures.counts import MIDDLE, SparseCounts, quantiles
from perptape.measures.envelope import Envelope
from perptape.measures.mids import Table, placed

AT_ONCE = 1 << 16
US_PER_MS = 1000
NS_PER_US = 1000
HALF, MOST = Fraction(1, 2), Fraction(99, 100)
LEAST_ROWS = 100
"""With fewer stamped rows nothing is said."""
LEAST_DRIFT_S = 600
"""In less than this a delay that wanders looks like drift: the least delay is taken as level."""
Run = tuple[int | None, int | None]
"""Ends of the time in which a clock did not jump; ``None``: none that is known."""
Offsets = Callable[[Ints], tuple[Floats, Floats]]
"""Times -> a clock's offset and its bound, in ms; NaN where they are not known."""


class Delays(NamedTuple):
    """What one venue's stamps say; ``None`` where nothing, and why."""

    rows: int = 0
    skew_ppm: float | None = None
    """How fast the venue's clock gains on ours; ``None`` before LEAST_DRIFT_S."""
    least_ms: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    error_ms: float | None = None
    """The worst bound of the offsets that these three were corrected by."""
    share_negative: float | None = None
    excess_p50_ms: float | None = None
    """Above the line under all; above the least of all where time is too short for drift."""
    excess_p99_ms: float | None = None
    reason: str | None = None

    def columns(self) -> dict[str, float | None]:
        return {
            "skew_ppm": self.skew_ppm,
            "latency_least_ms": self.least_ms,
            "latency_p50_ms": self.p50_ms,
            "latency_p99_ms": self.p99_ms,
            "latency_error_ms": self.error_ms,
            "share_negative": self.share_negative,
            "excess_p50_ms": self.excess_p50_ms,
            "excess_p99_ms": self.excess_p99_ms,
        }


NOTHING = Delays(reason=f"fewer than {LEAST_ROWS} stamped rows on trusted time")


def delays(
    tapes: Sequence[Table], of: Coin, clocks: Mapping[str, tuple[Run, Offsets]]
) -> dict[str, Delays]:
    """Tell of each venue how late its stamped quotes came, on trusted time.

    The line is fitted to the run without a step; the excess is of that run's rows too. Two passes.
    """
    envelopes = {venue: Envelope() for venue in clocks}
    for venue, ts, delay_ns in _stamped(tapes, of):
        within = _within(ts, clocks[venue][0])
        envelopes[venue].add(ts[within], delay_ns[within])
    counts = {venue: _Counted(clocks[venue], envelopes[venue]) for venue in clocks}
    for venue, ts, delay_ns in _stamped(tapes, of):
        counts[venue].add(ts, delay_ns)
    return {venue: counted.finish() for venue, counted in counts.items()}


def _stamped(tapes: Sequence[Table], of: Coin) -> Iterator[tuple[str, Ints, Ints]]:
    """Give (venue, ts_recv, ts_recv - ts_event) of trusted rows, in order of time."""
    venue_of = np.array([*(market.split(":", 1)[0] for market in of.markets), ""])  # of -1, none
    for piece in pieces(tapes, of):
        ts, market = piece.chunk.ts, piece.chunk.market
        is_told = piece.ts_event != -NEVER
        for place, spans in enumerate(of.trusted.values()):
            own = is_told & (market == place)
            is_told[own] = placed(spans, ts[own])[1]
        is_told &= market >= 0
        for venue in np.unique(venue_of[:-1]):
            own = is_told & (venue_of[market] == venue)
            for k in range(0, int(own.sum()), AT_ONCE):
                part = slice(k, k + AT_ONCE)
                yield str(venue), ts[own][part], (ts[own] - piece.ts_event[own])[part]


def _within(ts: Ints, run: Run) -> np.ndarray:
    start, end = (-NEVER if run[0] is None else run[0]), (NEVER if run[1] is None else run[1])
    return (ts >= start) & (ts <= end)


class _Counted:
    """One venue's delays in whole us: corrected by its clock's offset, and above the line."""

    def __init__(self, clock: tuple[Run, Offsets], envelope: Envelope) -> None:
        self._run, self._offsets = clock
        self._drifts = envelope.span_ns >= LEAST_DRIFT_S * NS
        self._line = envelope.line() if self._drifts else envelope.flat()
        self._counts = SparseCounts(spill=AT_ONCE, series=2)
        self.rows = 0
        self._error_ms = 0.0

    def add(self, ts: Ints, delay_ns: Ints) -> None:
        """Take at most AT_ONCE rows."""
        self.rows += len(ts)
        offset_ms, error_ms = self._offsets(ts)
        if not np.isnan(offset_ms).any():
            self._count(0, delay_ns + offset_ms * MS)
            self._error_ms = max(self._error_ms, float(error_ms.max()))
        if self._line is not None:
            within = _within(ts, self._run)
            self._count(1, delay_ns[within] - self._line.at(ts[within]))

    def _count(self, series: int, delay_ns: Floats) -> None:
        us = np.rint(delay_ns / NS_PER_US).astype(np.int64)
        bins = us + (series << SERIES_SHIFT) + MIDDLE
        recount(bins, np.ones(len(bins), np.int64), self._counts.arrays)
        self._counts.absorb()

    def finish(self) -> Delays:
        if self.rows < LEAST_ROWS:
            return NOTHING._replace(rows=self.rows)
        found = Delays(self.rows)
        if self._line is not None:
            p50, p99 = _quantiles_ms(*self._counts.bins(1))
            skew = -1e6 * self._line.slope if self._drifts else None
            found = found._replace(skew_ppm=skew, excess_p50_ms=p50, excess_p99_ms=p99)
        us, counts = self._counts.bins(0)
        if not len(us):
            return found
        p50, p99 = _quantiles_ms(us, counts)
        least = float(us[0]) / US_PER_MS
        early = least + self._error_ms < 0
        return found._replace(
            least_ms=least,
            p50_ms=p50,
            p99_ms=p99,
            error_ms=self._error_ms,
            share_negative=float(counts[us < 0].sum() / counts.sum()),
            reason=f"stamped up to {-least:.3f} ms after it came" if early else None,
        )


def _quantiles_ms(us: Ints, counts: Ints) -> tuple[float, float]:
    p50, p99 = quantiles(us / US_PER_MS, counts, (HALF, MOST))
    return p50, p99
