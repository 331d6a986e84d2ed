"""What a report says: numbers with their units in their names, and the series to draw.

``None`` is not said (absent in the JSON); times are int64 ns UTC; ``*_bps`` are 1e-4 of the price.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.events import NS

ABSENT = "not recorded"
EXPECTED = frozenset({"start", "shutdown", ABSENT})
"""Reasons of untrusted time that take nothing from what was recorded."""


class Interval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch that is not trusted, and why."""

    start: int
    end: int
    reason: str
    """One word of the ledger, or several with commas between."""
    detail: str | None = None

    @property
    def is_expected(self) -> bool:
        return set(self.reason.split(", ")) <= EXPECTED

    @property
    def length_s(self) -> float:
        return (self.end - self.start) / NS


class Latency(msgspec.Struct, frozen=True):
    """``ts_recv - ts_event``: transit and the offset of two clocks together, so it may be < 0."""

    p50: float
    p99: float


class Market(msgspec.Struct, frozen=True, omit_defaults=True):
    """An instrument on a venue: how much of it was heard."""

    market: str
    quotes: int
    trusted_s: float
    untrusted_s: float
    latency_ms: Latency | None = None
    intervals: tuple[Interval, ...] = ()
    """The untrusted ones."""
    absent: tuple[Interval, ...] = ()
    """Time of the report in which nobody recorded this market."""

    @property
    def trusted_share(self) -> float:
        """0 to 1; 0 where nothing was heard."""
        whole = self.trusted_s + self.untrusted_s
        return self.trusted_s / whole if whole else 0.0

    @property
    def missing(self) -> tuple[Interval, ...]:
        """What is untrusted for another reason than that it had not begun or was ended."""
        return tuple(i for i in self.intervals if not i.is_expected)


class Spread(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a quantity of a pair was distributed over trusted time, in bps."""

    mean_time: float | None = None
    """Weighted by how long each value stood."""
    mean: float | None = None
    """Over update events, like the notebook's mean line."""
    median: float | None = None
    p5: float | None = None
    p95: float | None = None
    min: float | None = None
    max: float | None = None
    share_positive: float | None = None
    """0 to 1."""


class Grid(msgspec.Struct, frozen=True, omit_defaults=True):
    """The gap sampled at multiples of a step, in bps."""

    step_ms: int
    median: float | None = None
    mean: float | None = None
    p5: float | None = None
    p95: float | None = None
    min: float | None = None
    max: float | None = None
    share_positive: float | None = None


class Pair(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sell at the bid of one market, buy at the ask of another."""

    sell: str
    buy: str
    same_quote: bool
    trusted_s: float
    """Time in which both markets were trusted."""
    gap_bps: Spread | None = None
    grid: Grid | None = None
    edge_bps: Spread | None = None
    """The gap after both taker fees, at the top of the book."""
    top_notional: float | None = None
    """Median of min(bid size, ask size) x price, in quote currency."""
    reason: str | None = None
    """Why there is no number, where there is none."""

    @property
    def best_edge_bps(self) -> float:
        """The best moment after fees; minus infinity where it is not known."""
        best = None if self.edge_bps is None else self.edge_bps.max
        return -math.inf if best is None else best


def ranked(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs of one quote currency that have a gap, the highest median first."""
    known = [
        (-p.gap_bps.median, p.sell, p.buy, p)
        for p in pairs
        if p.same_quote and p.gap_bps and p.gap_bps.median is not None
    ]
    return [p for *_, p in sorted(known, key=lambda k: k[:3])]


class Contract(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one contract was taken to be worth, from the tape's own instrument list."""

    market: str
    symbol: str | None = None
    kind: str | None = None
    contract_size: float | None = None
    tick_size: float | None = None


class Fee(msgspec.Struct, frozen=True, omit_defaults=True):
    """A taker fee as a fraction of notional, with where it is known from."""

    venue: str
    taker: float
    source: str | None = None
    date: str | None = None


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tape that was read: its directory's name and the SHA-256 of its ``tape.json``."""

    tape: str
    sha256: str
    recorded_by: str | None = None


class Provenance(msgspec.Struct, frozen=True):
    """Everything needed to make the same report again."""

    perptape: str
    """Version."""
    tapes: tuple[Source, ...]
    parameters: Mapping[str, str]
    contracts: tuple[Contract, ...] = ()
    fees: tuple[Fee, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about what is missing and what that means."""


class Drawn(msgspec.Struct, frozen=True):
    """One quantity per bucket, float64[n], NaN where undefined; low and high keep the extremes."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    last: NDArray[np.float64]


class Series(msgspec.Struct, frozen=True):
    """What is drawn of the markets of one coin, on one time axis."""

    ts: NDArray[np.int64]
    """Start of each bucket, ns, ascending, [n]."""
    step_ns: int
    """Length of each bucket."""
    bids: Mapping[str, Drawn]
    asks: Mapping[str, Drawn]
    gaps_bps: Mapping[tuple[str, str], Drawn]
    """By (sell, buy)."""


class Report(msgspec.Struct, frozen=True):
    """All that one page says."""

    ts_from: int
    ts_to: int
    markets: tuple[Market, ...]
    pairs: tuple[Pair, ...]
    provenance: Provenance
    series: tuple[Series, ...]
    """One per coin."""

    def series_of(self, market: str) -> Series | None:
        return next((s for s in self.series if market in s.bids), None)
