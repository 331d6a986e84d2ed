"""What stands around a pair: clocks, who moves first, funding, and the basis -> findings."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from msgspec.structs import replace

from perptape.align import TIME, coin
from perptape.events import NS
from perptape.findings import Carry, Clock, Expected, Lead, Market, Pair, Tie
from perptape.kernels import BPS, NEVER, Floats
from perptape.measures.basis import basis
from perptape.measures.carry import carry
from perptape.measures.clocks import Clocks, clocks
from perptape.measures.edge_lines import Steps
from perptape.measures.lead_lag import lead_lag
from perptape.measures.mids import Table, placed
from perptape.measures.price_discovery import price_discovery
from perptape.series import Drawn
from perptape.worth import Coin

MOST_QUOTES = 2_000_000
"""Clocks, leads and the basis are told from so many of a coin's quotes at most: the last ones."""
USUAL_PAIRS = 6
"""Of more pairs who leads is told from fewer: each costs as much as its quotes are many."""
SIDES = ("first", "second")
MAX_LAG_MS, STEP_MS = 500.0, 5.0
STEPS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 300.0, 3600.0)
WINDOW, MOST_WINDOWS = 3600, 12
"""Steps in which it is told once where the price is made, and how often at most."""
BLOCKS, LEAST_BLOCK_S, MOST_BLOCK_S = 15, 2.5, 60.0


def most_to_lead(of: Coin) -> int:
    """Give of how many quotes who leads is told."""
    count = len(coin(of.ledger, of.base).markets)
    return MOST_QUOTES * USUAL_PAIRS // max(count * (count - 1) // 2, USUAL_PAIRS)


def recent(
    quotes: Sequence[Table], most: int = MOST_QUOTES
) -> tuple[list[pl.LazyFrame], int | None]:
    """Give the last quotes of one coin, and from when they are if these are not all."""
    frames = [table.lazy() for table in quotes]
    heights = [int(f.select(pl.len()).collect().item()) for f in frames]
    if sum(heights) <= most:
        return frames, None
    share = most / sum(heights)
    firsts = [
        f.slice(height - int(height * share), 1).select(pl.col("ts_recv").cast(pl.Int64)).collect()
        for f, height in zip(frames, heights, strict=True)
    ]
    since = max(int(first.item()) for first in firsts if len(first))
    return [f.filter(pl.col("ts_recv").cast(pl.Int64) >= since) for f in frames], since


def told_clocks(found: Clocks) -> tuple[Clock, ...]:
    """One of each venue."""
    names = Clock.__struct_fields__
    return tuple(
        Clock(**{name: row[name] for name in names}) for row in found.venues.iter_rows(named=True)
    )


def compared_clocks(samples: pl.DataFrame, of: Coin, quotes: Sequence[pl.LazyFrame]) -> Clocks:
    """Compare clocks by round trips and by the stamps of one coin's quotes."""
    return clocks(samples, quotes=quotes, ledger=of.ledger, base=of.base)


def leads(
    of: Coin, known: Clocks | None, since: int | None, moved: Mapping[str, float] | None = None
) -> tuple[Lead, ...]:
    """Tell who moves first, by the venues' stamps if all clocks of the coin are known.

    ``moved``: the coin's quotes are on the venues' own time, each wrong by up to so much (ms);
    those that are not named here are on receive time.
    """
    names = coin(of.ledger, of.base)
    heard = [m for m, spans in names.trusted.items() if spans.total_ns]
    venues = {m.partition(":")[0] for m in heard}
    by_stamp = moved is None and known is not None and venues <= _stamped(known)
    offsets: Mapping[str, float] | None = None
    errors: Mapping[str, float] | None = None
    if moved is not None:
        offsets, errors = dict.fromkeys(moved, 0.0), moved
    elif known is not None and by_stamp:
        offsets, errors = known.offsets_ms(), known.errors_ms()
    ts_from = since if of.ts_from is None or (since or 0) > of.ts_from else of.ts_from
    window = (-NEVER if ts_from is None else ts_from, NEVER if of.ts_to is None else of.ts_to)
    total_s = sum(names.trusted[m].within(*window).total_ns for m in heard) / NS
    block_s = min(max(total_s / max(len(heard), 1) / BLOCKS, LEAST_BLOCK_S), MOST_BLOCK_S)
    found = lead_lag(
        list(of.quotes),
        of.ledger,
        base=of.base,
        clock="event" if by_stamp else "recv",
        offsets_ms=offsets,
        errors_ms=errors,
        max_lag_ms=MAX_LAG_MS,
        step_ms=STEP_MS,
        block_s=block_s,
        ts_from=ts_from,
        ts_to=of.ts_to,
    )
    curves = found.curve.partition_by("first", "second", as_dict=True)
    return tuple(
        _lead(
            row,
            curves.get((row["first"], row["second"])),
            by_stamp=by_stamp
            or (moved is not None and {row[m].partition(":")[0] for m in SIDES} <= set(moved)),
        )
        for row in found.pairs.iter_rows(named=True)
        if row["trusted_s"]
    )


def _stamped(known: Clocks) -> set[str]:
    """Venues whose stamps can be put on our clock."""
    usable = pl.col("offset_ms").is_not_null() & (pl.col("rows") > 0)
    return set(known.venues.filter(usable)["venue"])


def _lead(row: Mapping[str, object], curve: pl.DataFrame | None, *, by_stamp: bool) -> Lead:
    names = set(Lead.__struct_fields__) & set(row)
    lags, correlations = (
        ((), ())
        if curve is None
        else (
            tuple(curve["lag_ms"].to_list()),
            tuple(float(f"{c:.4g}") for c in curve["correlation"].to_list()),
        )
    )
    return Lead(
        **{name: row[name] for name in names},  # type: ignore[arg-type]
        clock="event" if by_stamp else "recv",
        lags_ms=lags,
        correlations=correlations,
    )


# ---- funding ------------------------------------------------------------------------------------


def carries(
    of: Coin, funding: Sequence[Table], marks: Sequence[Table], fees: Mapping[str, float]
) -> Mapping[tuple[str, str], Carry]:
    """Compare what funding paid, by (sell, buy); pairs of which nothing is known are left out."""
    both = [pl.concat([t.lazy() for t in tables]) for tables in (funding, marks)]
    found = carry(
        both[0], both[1], of.ledger, fees=fees, base=of.base, ts_from=of.ts_from, ts_to=of.ts_to
    )
    names = set(Carry.__struct_fields__)
    return {
        (row["sell"], row["buy"]): Carry(**{n: v for n, v in row.items() if n in names})
        for row in found.iter_rows(named=True)
    }


def expected(
    of: Coin, funding: Sequence[Table], steps: Steps
) -> tuple[Mapping[str, Expected], Mapping[str, Drawn]]:
    """Give what each market's venue told last of its funding, and what it told step by step."""
    rows = pl.concat([t.lazy() for t in funding]).filter(
        ~pl.col("is_settled").fill_null(value=False), pl.col("rate").is_not_null()
    )
    name = pl.concat_str(
        pl.col("venue").cast(pl.String), pl.lit(":"), pl.col("instrument").cast(pl.String)
    )
    told = rows.select(
        name.alias("market"),
        pl.col("ts_recv").cast(TIME).cast(pl.Int64),
        pl.col("rate").cast(pl.Float64) * BPS,
        pl.col("interval_h").cast(pl.Float64).forward_fill().over(name),
        pl.col("ts_funding").cast(TIME).cast(pl.Int64).forward_fill().over(name),
    ).collect()
    if of.ts_from is not None:
        told = told.filter(pl.col("ts_recv") >= of.ts_from)
    if of.ts_to is not None:
        told = told.filter(pl.col("ts_recv") <= of.ts_to)
    trusted = coin(of.ledger, of.base, channel="funding").trusted
    last: dict[str, Expected] = {}
    drawn: dict[str, Drawn] = {}
    for (market,), own in sorted(told.partition_by("market", as_dict=True).items()):
        last[market] = Expected(*own.select("rate", "interval_h", "ts_funding").row(-1))
        if market in trusted:
            line = _stepped(own, steps)
            known = placed(trusted[market], steps.ends - 1)[1]
            line = np.where(known, line, np.nan)
            drawn[market] = Drawn(line, line, line)
    return last, drawn


def _stepped(own: pl.DataFrame, steps: Steps) -> Floats:
    """Give the last value known at the end of each step."""
    at = np.searchsorted(own["ts_recv"].to_numpy(), steps.ends) - 1
    return np.where(at >= 0, own["rate"].to_numpy()[np.maximum(at, 0)], np.nan)


def with_expected(pair: Pair, markets: Mapping[str, Market]) -> Pair:
    """Add the carry by the rates told last, which nobody has paid yet."""
    sell, buy = markets[pair.sell].funding, markets[pair.buy].funding
    if pair.carry is None or sell is None or buy is None:
        return pair
    difference = sell.rate_bps_per_h - buy.rate_bps_per_h
    cost = pair.carry.cost_bps
    told = {
        "expected_carry_bps_per_h": difference,
        "expected_break_even_h": cost / difference if cost is not None and difference > 0 else None,
    }
    return replace(pair, carry=replace(pair.carry, **told))


# ---- ties ---------------------------------------------------------------------------------------


def ties(of: Coin, since: int | None) -> tuple[Tie, ...]:
    """Tell how the prices of each two markets hang together, and in which the price is made."""
    first = since if of.ts_from is None or (since or 0) > of.ts_from else of.ts_from
    ts_from, ts_to = (-NEVER if first is None else first), (NEVER if of.ts_to is None else of.ts_to)
    step_s = _step_s(of, ts_from, ts_to)
    quotes = [thinned(table, round(step_s * NS), ts_from, ts_to) for table in of.quotes]
    window = {"base": of.base, "step_s": step_s, "ts_from": ts_from, "ts_to": ts_to}
    lying = basis(quotes, of.ledger, **window)  # type: ignore[arg-type]
    made = price_discovery(quotes, of.ledger, window_s=WINDOW * step_s, **window)  # type: ignore[arg-type]
    shares = made.rename({"reason": "shares_reason"}).drop("trusted_s", "samples")
    both = lying.join(shares, on=["first", "second"], how="left", maintain_order="left")
    rows = both.drop("updates").iter_rows(named=True)
    return tuple(Tie(**row, step_s=step_s) for row in rows if row["trusted_s"])


def thinned(quotes: Table, step_ns: int, ts_from: int, ts_to: int) -> pl.DataFrame:
    """Keep each market's last quote before every step: at the steps the same is known."""
    ts = pl.col("ts_recv").cast(pl.Int64)
    step = (ts + (step_ns - 1)) // step_ns
    return (
        quotes.lazy()
        .filter(ts.is_between(ts_from, ts_to))
        .group_by("venue", "instrument", step.alias("step"), maintain_order=True)
        .last()
        .sort("ts_recv", maintain_order=True)
        .drop("step")
        .collect()
    )


def _step_s(of: Coin, ts_from: int, ts_to: int) -> float:
    """Choose how often prices are looked at: finely, but not when nothing can have changed.

    A step is no shorter than a market's usual time between two quotes, and so long that there are
    ``WINDOW`` of them (up to a second), in ``MOST_WINDOWS`` windows at most.
    """
    names = coin(of.ledger, of.base)
    heard_s = {m: s.within(ts_from, ts_to).total_ns / NS for m, s in names.trusted.items()}
    counts = _counts(of.quotes, ts_from, ts_to)
    waits = [s / counts[m] for m, s in heard_s.items() if s and counts.get(m)]
    if not waits:
        return STEPS_S[-1]
    longest = max(heard_s.values())
    enough = max(min(longest / WINDOW, 1.0), longest / (MOST_WINDOWS * WINDOW))
    least = max(float(np.median(waits)), enough)
    return next((step for step in STEPS_S if step >= 0.99 * least), STEPS_S[-1])


def _counts(quotes: Sequence[Table], ts_from: int, ts_to: int) -> dict[str, int]:
    """Count the quotes of each market."""
    at = pl.col("ts_recv").cast(pl.Int64)
    name = pl.concat_str(
        pl.col("venue").cast(pl.String), pl.lit(":"), pl.col("instrument").cast(pl.String)
    )
    parts = [
        table.lazy().filter(at.is_between(ts_from, ts_to)).group_by("venue", "instrument").len()
        for table in quotes
    ]
    found = pl.concat(part.select(name.alias("market"), "len").collect() for part in parts)
    return dict(found.group_by("market").agg(pl.col("len").sum()).iter_rows())
