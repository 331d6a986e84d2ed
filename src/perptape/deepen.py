"""A report of gaps -> one of what they were worth: sizes, delays, clocks, leads and funding."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl
from msgspec.structs import replace

from perptape import tables
from perptape.event_time import Moved
from perptape.events import NS
from perptape.findings import Heard, Lead, Market, Pair, Report, Tie, is_expected
from perptape.instruments import base_of
from perptape.measures.clocks import Clocks
from perptape.measures.edge_lines import Steps
from perptape.progress import Stages, unheard
from perptape.recording import Recording
from perptape.series import Series
from perptape.surroundings import (
    MOST_QUOTES,
    carries,
    compared_clocks,
    expected,
    leads,
    most_to_lead,
    recent,
    ties,
    told_clocks,
    with_expected,
)
from perptape.wording import instrument_of
from perptape.worth import CHOICE, Coin, Fees, Worth, worth

MOST_RAW_BYTES = 1_000_000_000
"""Of a larger tape the answers about time are not looked for: that reads all of it."""


class Told(msgspec.Struct, frozen=True):
    """Where to read on."""

    tapes: tuple[Path, ...]
    roots: tuple[Path, ...]
    ledger: pl.DataFrame
    """Of all channels."""
    ts_from: int | None
    ts_to: int | None
    moved: Moved | None = None
    """Where quotes and books are to be read instead, on the venues' own time."""

    def as_heard(self) -> "Told":
        """Read by receipt."""
        if self.moved is None:
            return self
        return replace(self, ledger=self.moved.ledger_heard, moved=None)

    def coin(self, base: str) -> Coin:
        return Coin(
            base,
            self.scans("quotes", base),
            self.scans("books", base),
            self.ledger,
            pl.concat([tables.scan(root, "instruments") for root in self.roots]),
            self.ts_from,
            self.ts_to,
        )

    def scans(self, table: str, base: str) -> list[pl.LazyFrame]:
        if self.moved is not None and (table, base) in self.moved.frames:
            return list(self.moved.frames[table, base])
        return [tables.scan(root, table, base=base) for root in self.roots]

    def has(self, channel: str, base: str) -> bool:
        name = pl.col("instrument").str.split("-").list.first()
        return len(self.ledger.filter(pl.col("channel") == channel, name == base)) > 0


def deepened(report: Report, told: Told, fees: Fees, progress: Stages = unheard) -> Report:
    """Add to a report all that the tapes say beyond quotes; what they do not say stays absent."""
    report = replace(report, markets=tuple(_with_channels(m, report, told) for m in report.markets))
    if not report.pairs:
        return report
    edges_told = progress("edges")
    for place, series in enumerate(report.series):
        report = _with_worth(report, place, series, told, fees)
        report = _with_funding(report, place, told, fees)
        edges_told(place + 1, len(report.series))
    progress("clocks")
    return _with_clocks(report, told)


def _base(series: Series) -> str:
    return base_of(instrument_of(min(series.bids)))


def _noted(report: Report, *notes: str) -> Report:
    known = report.provenance
    return replace(report, provenance=replace(known, notes=(*known.notes, *notes)))


def _with_series(report: Report, place: int, series: Series) -> Report:
    every = list(report.series)
    every[place] = series
    return replace(report, series=tuple(every))


# ---- sizes and delays ---------------------------------------------------------------------------


def _with_worth(report: Report, place: int, series: Series, told: Told, fees: Fees) -> Report:
    found = worth(told.coin(_base(series)), fees, Steps(series.ts, series.step_ns))
    if found.note:
        return _noted(report, found.note)
    if not found.pairs:
        return report
    report = _with_series(report, place, replace(series, edges_bps=found.edges_bps))
    pairs = tuple(_with_sizes(pair, found) for pair in report.pairs)
    tiers = max(found.tiers, report.choice.tiers, key=len)
    return replace(report, pairs=pairs, choice=replace(CHOICE, tiers=tiers))


def _with_sizes(pair: Pair, found: Worth) -> Pair:
    deep = found.pairs.get((pair.sell, pair.buy))
    if deep is None:
        return pair
    names = ("depth", "rate", "episodes", "sizes", "tiers", "capacity")
    pair = replace(pair, **{name: getattr(deep, name) for name in names})
    if deep.depth != "books":
        return pair
    sized = deep.sized(CHOICE.notional)
    edge = None if sized is None else sized.edge_bps
    return replace(pair, edge_bps=edge, edge_notional=None if edge is None else CHOICE.notional)


# ---- channels -----------------------------------------------------------------------------------


def _with_channels(market: Market, report: Report, told: Told) -> Market:
    venue, _, instrument = market.market.partition(":")
    own = told.ledger.filter(
        pl.col("venue") == venue, pl.col("instrument") == instrument, pl.col("channel") != "quotes"
    )
    start = pl.max_horizontal(pl.col("ts_start").cast(pl.Int64), report.ts_from)
    end = pl.min_horizontal(pl.col("ts_end").cast(pl.Int64), report.ts_to)
    length = pl.max_horizontal(end - start, 0)
    is_trusted = pl.col("state") == "trusted"
    found = (
        own.group_by("channel")
        .agg(
            length.filter(is_trusted).sum() / NS,
            untrusted_s=length.filter(~is_trusted).sum() / NS,
            reasons=pl.col("reason").filter(~is_trusted & (length > 0)).unique(maintain_order=True),
        )
        .sort("channel")
    )
    heard = (
        Heard(channel, trusted_s, untrusted_s, tuple(r for r in reasons if not is_expected(r)))
        for channel, trusted_s, untrusted_s, reasons in found.iter_rows()
    )
    return replace(market, channels=tuple(heard))


# ---- funding ------------------------------------------------------------------------------------


def _with_funding(report: Report, place: int, told: Told, fees: Fees) -> Report:
    series = report.series[place]
    base = _base(series)
    funding = told.scans("funding", base)
    if not told.has("funding", base) or not any(len(f.head(1).collect()) for f in funding):
        return report
    of = told.coin(base)
    last, drawn = expected(of, funding, Steps(series.ts, series.step_ns))
    paid = carries(of, funding, told.scans("marks", base), next(iter(fees.values())))
    report = _with_series(report, place, replace(series, funding_bps_per_h=drawn))
    markets = tuple(replace(m, funding=last.get(m.market, m.funding)) for m in report.markets)
    known = {m.market: m for m in markets}
    pairs = tuple(
        with_expected(replace(p, carry=paid.get((p.sell, p.buy), p.carry)), known)
        for p in report.pairs
    )
    return replace(report, markets=markets, pairs=pairs)


# ---- clocks and leads ---------------------------------------------------------------------------


def _with_clocks(report: Report, told: Told) -> Report:
    quotes = {m.market: m.quotes for m in report.markets}
    busiest = max(report.series, key=lambda s: sum(quotes[m] for m in s.bids))
    moved = told.moved
    samples, too_large = _samples(told.tapes) if moved is None else (moved.samples, [])
    report = _noted(report, *too_large)
    found: Clocks | None = None
    if len(samples):
        coin = told.as_heard().coin(_base(busiest))
        found = compared_clocks(samples, coin, recent(coin.quotes)[0])
        report = _with_offsets(report, found)
    every: list[Lead] = []
    tied: list[Tie] = []
    for series in report.series:
        coin = told.coin(_base(series))
        most, errors = most_to_lead(coin), None if moved is None else moved.errors_ms()
        every += leads(coin, found, since := recent(coin.quotes, most)[1], errors)
        tied += ties(coin, recent(coin.quotes)[1])
        if since is not None:
            report = _noted(report, _of_the_last(coin.base, most))
    return _with_steps(replace(report, leads=tuple(every), ties=tuple(tied)))


def _of_the_last(base: str, most: int) -> str:
    return (
        f"Who leads in {base} is told from its last {most:,} quotes; clocks, the basis, and where "
        f"its price is made from the last {MOST_QUOTES:,} at most."
    )


def _with_steps(report: Report) -> Report:
    """Say how often the prices were looked at that basis and shares are told from."""
    steps = {base_of(instrument_of(tie.first)): tie.step_s for tie in report.ties}
    if not steps:
        return report
    said = ", ".join(f"{base} every {step_s:g} s" for base, step_s in steps.items())
    known = report.provenance
    parameters = {**known.parameters, "basis and shares of the price": said}
    return replace(report, provenance=replace(known, parameters=parameters))


def _samples(tapes: Sequence[Path]) -> tuple[pl.DataFrame, list[str]]:
    """Read what the venues answered about time."""
    found, notes = [], []
    for tape in tapes:
        size = sum(path.stat().st_size for path in tape.glob("raw/*"))
        if size > MOST_RAW_BYTES:
            notes.append(
                f"{tape.resolve().name} has {size / 1e9:.0f} GB of frames: the answers of its "
                "venues about time were not looked for, so clocks are not compared."
            )
        else:
            found.append(Recording(tape).clock_samples().collect())
    return (pl.concat(found) if found else pl.DataFrame()), notes


def _with_offsets(report: Report, found: Clocks) -> Report:
    offsets, errors = found.offsets_ms(), found.errors_ms()
    markets = tuple(
        replace(
            m,
            clock_offset_ms=offsets.get(m.market.partition(":")[0]),
            clock_error_ms=errors.get(m.market.partition(":")[0]),
        )
        for m in report.markets
    )
    return replace(report, markets=markets, clocks=told_clocks(found))
