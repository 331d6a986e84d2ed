"""What a report says: numbers with their units in their names, as the JSON has them.

``None`` is not said (absent in the JSON); times are int64 ns UTC; ``*_bps`` are 1e-4 of the price.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from perptape.events import NS
from perptape.series import Series

ABSENT = "not recorded"
BASE = "base"
"""The tier of fees that everybody has."""
FREE = "no fees"
"""The tier of nobody: what fees take can be told from it."""
EXPECTED = frozenset({"start", "shutdown", ABSENT})
"""Reasons of untrusted time that take nothing from what was recorded."""


def is_expected(reason: str) -> bool:
    """Tell whether time untrusted for this takes nothing from what was recorded."""
    return set(reason.split(", ")) <= EXPECTED


class Interval(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch that is not trusted, and why."""

    start: int
    end: int
    reason: str
    """One word of the ledger, or several with commas between."""
    detail: str | None = None

    @property
    def is_expected(self) -> bool:
        return is_expected(self.reason)

    @property
    def length_s(self) -> float:
        return (self.end - self.start) / NS


class Latency(msgspec.Struct, frozen=True):
    """``ts_recv - ts_event``: transit and the offset of two clocks together, so it may be < 0."""

    p50: float
    p99: float


class Heard(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much of one channel of a market is trusted."""

    channel: str
    trusted_s: float
    untrusted_s: float
    missing: tuple[str, ...] = ()
    """Why, for another reason than that it had not begun or was ended."""

    @property
    def trusted_share(self) -> float:
        """0 to 1; 0 where nothing was heard."""
        whole = self.trusted_s + self.untrusted_s
        return self.trusted_s / whole if whole else 0.0


class Expected(msgspec.Struct, frozen=True, omit_defaults=True):
    """The funding that a venue told last, not yet paid."""

    rate_bps_per_h: float
    interval_h: float | None = None
    ts_funding: int | None = None
    """When it is paid next."""


class Timed(msgspec.Struct, frozen=True, omit_defaults=True):
    """By which time a market was analysed, where the venues' own was asked for."""

    on: str
    """``event`` or ``send``: the venue's, put on our clock; ``recv``: when we heard."""
    error_ms: float | None = None
    """How wrong that may be."""
    reason: str | None = None
    """Why it could not be the venue's."""
    unstamped: int = 0
    """Rows on trusted time without a stamp; placed as the row before."""
    early: int = 0
    """Stamped later than they came, by more than the clock may be wrong; placed as they came."""
    late: int = 0
    """Came too late to be put in order; the time they were missing is not trusted."""


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
    channels: tuple[Heard, ...] = ()
    """Those beside quotes."""
    clock_offset_ms: float | None = None
    """The venue's clock less ours, right to ``clock_error_ms``."""
    clock_error_ms: float | None = None
    clock: Timed | None = None
    funding: Expected | None = None

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


class RoundTrip(msgspec.Struct, frozen=True, omit_defaults=True):
    """An edge that pays the two fees of the way back too, in bps."""

    mean_time: float | None = None
    median: float | None = None
    max: float | None = None
    share_positive: float | None = None


class Episodes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stretches in which an edge stood open: those whose opening was seen."""

    count: int
    censored: int
    """Of these: trust or the data ended first."""
    truncated: int = 0
    """Beside these: open when trust began."""
    per_hour: float | None = None
    """Of trusted time."""
    per_hour_low: float | None = None
    """With ``per_hour_high``: holds the rate with 95 %."""
    per_hour_high: float | None = None
    median_s: float | None = None
    max_s: float | None = None


class Lasting(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long episodes last: Kaplan-Meier; the share still open from each ``t_s`` on, its band."""

    episodes: int
    ended: int
    median_s: float | None = None
    median_low_s: float | None = None
    median_high_s: float | None = None
    t_s: tuple[float, ...] = ()
    share: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    reason: str | None = None


class Delayed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an edge that was enough, a delay later; by time."""

    delay_ms: float
    held_s: float
    """How long it was enough, as far as the time after the delay is trusted."""
    share: float | None = None
    """0 to 1: of that time, it still was."""
    mean_bps: float | None = None
    median_bps: float | None = None


class Taken(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one take an episode earned, so much after it opened; in quote currency."""

    delay_ms: float
    takes: int
    unfilled: int
    """The books did not hold the size any more."""
    unknown: int
    """Not trusted then."""
    profit: float
    share_gained: float | None = None
    profit_per_take: float | None = None
    profit_per_day: float | None = None
    low: float | None = None
    """With ``high``: holds the profit per trusted day with 95 %."""
    high: float | None = None
    reason: str | None = None


class Sized(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair at one size: what both books left of the gap after both taker fees."""

    notional: float
    """In the quote currency of the purchase."""
    depth_share: float | None = None
    """Of trusted time: both books held so much."""
    edge_bps: Spread | None = None
    round_trip_bps: RoundTrip | None = None
    episodes: Episodes | None = None
    lasting: Lasting | None = None
    delays: tuple[Delayed, ...] = ()
    takes: tuple[Taken, ...] = ()
    reason: str | None = None

    def delayed(self, delay_ms: float) -> Delayed | None:
        return next((d for d in self.delays if d.delay_ms == delay_ms), None)

    def taken(self, delay_ms: float) -> Taken | None:
        return next((t for t in self.takes if t.delay_ms == delay_ms), None)


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair at other fees than those that the report rests on, by size."""

    name: str
    sizes: tuple[Sized, ...]


class Capacity(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much could be taken at an edge of 0 bps or more, in base coins; and the best moment."""

    share: float | None = None
    """Of trusted time: anything could."""
    median: float | None = None
    max: float | None = None
    best_profit: float | None = None
    """In quote currency, at the best size."""
    best_size: float | None = None
    ts_best: int | None = None


class Carry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Funding of a pair, short the one and long the other, by what was paid."""

    common_h: float
    """Hours that settlements of both paid for."""
    settlements_sell: int
    settlements_buy: int
    sell_bps_per_h: float | None = None
    buy_bps_per_h: float | None = None
    carry_bps_per_h: float | None = None
    carry_apr: float | None = None
    payment: float | None = None
    """In quote currency per base coin."""
    cost_bps: float | None = None
    """Of a round trip: four taker fees."""
    break_even_h: float | None = None
    expected_carry_bps_per_h: float | None = None
    """By the rates that both venues told last, and how long it takes to pay for a round trip."""
    expected_break_even_h: float | None = None
    reason: str | None = None


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
    """The gap after both taker fees: at the default size where books are known, else at the top."""
    edge_notional: float | None = None
    """That size; ``None``: the top of the book."""
    top_notional: float | None = None
    """Median of min(bid size, ask size) x price, in quote currency."""
    depth: str | None = None
    """``books``; ``top`` where the best prices are all that is known of one of the two."""
    rate: str | None = None
    """The market by whose prices one quote currency was turned into the other."""
    episodes: Episodes | None = None
    """At the default size."""
    sizes: tuple[Sized, ...] = ()
    tiers: tuple[Tier, ...] = ()
    """The same at other fees."""
    capacity: Capacity | None = None
    carry: Carry | None = None
    clock_error_ms: float | None = None
    """On the venues' own time: how wrong the two may be against each other."""
    unresolved_delays_ms: tuple[float, ...] = ()
    """Those of the choice that are shorter than that: they cannot be told apart."""
    reason: str | None = None
    """Why there is no number, where there is none."""

    def sized(self, notional: float, tier: str | None = None) -> Sized | None:
        """Give what is known at a size; at other fees if they are named."""
        sizes = self.sizes
        if tier is not None:
            sizes = next((t.sizes for t in self.tiers if t.name == tier), ())
        return next((s for s in sizes if s.notional == notional), None)

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


class Lead(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which of two markets moves first: ``lag_ms`` > 0, the first."""

    first: str
    second: str
    clock: str
    """``event``: by the venues' stamps on our clock; ``recv``: by when we heard."""
    trusted_s: float
    lag_ms: float | None = None
    lag_low_ms: float | None = None
    lag_high_ms: float | None = None
    correlation: float | None = None
    llr: float | None = None
    offset_error_ms: float | None = None
    leader: str | None = None
    reason: str | None = None
    lags_ms: tuple[float, ...] = ()
    """Tried, and the correlation at each."""
    correlations: tuple[float, ...] = ()


class Tie(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the prices of two markets hang together; see ``basis`` and ``price_discovery``.

    The basis is ln mid of the first over that of the second; shares are those of the first.
    """

    first: str
    second: str
    trusted_s: float
    step_s: float
    """Both prices were looked at so often."""
    mean_bps: float | None = None
    std_bps: float | None = None
    last_bps: float | None = None
    last_z: float | None = None
    samples: int = 0
    half_life_s: float | None = None
    half_life_low_s: float | None = None
    half_life_high_s: float | None = None
    """``None`` beside a half-life: any length."""
    ou_mean_bps: float | None = None
    adf_statistic: float | None = None
    adf_p_value: float | None = None
    adf_s: float | None = None
    reason: str | None = None
    """What is not known of the basis, and why."""
    windows: int = 0
    windows_apart: int = 0
    share_low: float | None = None
    """Of information: its bounds, and the middle of them."""
    share_high: float | None = None
    share_mid: float | None = None
    share_error: float | None = None
    component: float | None = None
    correlation: float | None = None
    """Of what neither price foretells: near 1 the bounds are wide."""
    shares_reason: str | None = None


class Clock(msgspec.Struct, frozen=True, omit_defaults=True):
    """A venue's clock beside ours, and how late its messages come; see the measure ``clocks``."""

    venue: str
    samples: int
    offset_ms: float | None = None
    error_ms: float | None = None
    steps: int = 0
    skew_low_ppm: float | None = None
    skew_high_ppm: float | None = None
    skew_ppm: float | None = None
    stamp: str | None = None
    latency_least_ms: float | None = None
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    latency_error_ms: float | None = None
    share_negative: float | None = None
    excess_p50_ms: float | None = None
    excess_p99_ms: float | None = None
    reason: str | None = None


class Contract(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one contract was taken to be worth, from the tape's own instrument list."""

    market: str
    symbol: str | None = None
    kind: str | None = None
    contract_size: float | None = None
    tick_size: float | None = None
    lot_size: float | None = None


class Fee(msgspec.Struct, frozen=True, omit_defaults=True):
    """A taker fee as a fraction of notional, with where it is known from; < 0 is a rebate."""

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
    """Those that the report rests on."""
    tiers: Mapping[str, tuple[Fee, ...]] = {}
    """Others, beside which what was left is told too."""
    notes: tuple[str, ...] = ()
    """Sentences about what is missing and what that means."""
    versions: Mapping[str, str] = {}
    """Of what computed the numbers."""


class Choice(msgspec.Struct, frozen=True):
    """What the page can be asked for, and what it shows first."""

    notionals: tuple[float, ...] = ()
    delays_ms: tuple[float, ...] = ()
    notional: float = 1e4
    delay_ms: float = 20.0
    tiers: tuple[str, ...] = ()
    """Of fees; the first is what all else rests on."""


class Report(msgspec.Struct, frozen=True):
    """All that one page says."""

    ts_from: int
    ts_to: int
    markets: tuple[Market, ...]
    pairs: tuple[Pair, ...]
    provenance: Provenance
    series: tuple[Series, ...]
    """One per coin."""
    choice: Choice = Choice()
    clocks: tuple[Clock, ...] = ()
    leads: tuple[Lead, ...] = ()
    ties: tuple[Tie, ...] = ()

    @property
    def has_sizes(self) -> bool:
        return any(p.sizes for p in self.pairs)

    def lead(self, one: str, other: str) -> Lead | None:
        return next((x for x in self.leads if {x.first, x.second} == {one, other}), None)

    def tie(self, one: str, other: str) -> Tie | None:
        return next((x for x in self.ties if {x.first, x.second} == {one, other}), None)

    def series_of(self, market: str) -> Series | None:
        return next((s for s in self.series if market in s.bids), None)
