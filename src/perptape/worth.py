"""What a difference was worth at a size, some time later: one pass over a coin -> findings."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import polars as pl
from msgspec.structs import replace

from perptape.align import TIME
from perptape.findings import (
    FREE,
    Capacity,
    Choice,
    Delayed,
    Episodes,
    Lasting,
    Pair,
    RoundTrip,
    Sized,
    Spread,
    Taken,
    Tier,
)
from perptape.kernels import NEVER
from perptape.measures.capacity import capacity_table
from perptape.measures.edge_lines import Steps, swept_along
from perptape.measures.edges import (
    DELAYS_MS,
    NOTIONALS,
    Swept,
    asking,
    delay_table,
    edge_table,
    size_table,
)
from perptape.measures.episodes import episode_table
from perptape.measures.rates import rate_table
from perptape.measures.scenes import Table, scene
from perptape.measures.survival import survival
from perptape.series import Drawn

MOST_TOP_ROWS = 5_000_000
"""Without books, of so many quotes nothing is asked about sizes: their depth is a level."""
MOST_FREE_ROWS = 20_000_000
"""Of more updates it is not asked what would be left without fees: that never closes for long."""
CURVE_POINTS = 120
"""A curve of survival has at most so many steps on the page."""
CHOICE = Choice(NOTIONALS, tuple(map(float, DELAYS_MS)))
DIGITS = 6
"""Significant ones of what is in a table of the page many times over."""
Rows = Mapping[tuple[object, ...], Sequence[Mapping[str, object]]]
Key = tuple[str, str]
Fees = Mapping[str, Mapping[str, float]]
"""Taker fees by tier and venue; all rests on the first tier."""
Kind = TypeVar("Kind", bound=msgspec.Struct)


class Coin(NamedTuple):
    """The tables of one coin, of all tapes."""

    base: str
    quotes: Sequence[Table]
    books: Sequence[Table]
    ledger: pl.DataFrame
    """Of all channels."""
    instruments: Table | None
    ts_from: int | None
    """The window that was asked for."""
    ts_to: int | None


class Worth(NamedTuple):
    """What the pass came to, by (sell, buy)."""

    pairs: Mapping[Key, Pair]
    """Pairs with what was found of their sizes, and nothing else."""
    edges_bps: Mapping[tuple[str, str, float], Drawn]
    tiers: tuple[str, ...] = ()
    note: str | None = None


NOTHING = Worth({}, {})


def worth(coin: Coin, fees: Fees, steps: Steps) -> Worth:
    """Walk the books of every pair once, for all sizes, delays and fees of the page."""
    has_books = with_books(coin)
    if not (has_books or with_sizes(coin)):
        return NOTHING
    rows = sum(map(_height, coin.quotes))
    if not has_books and rows > MOST_TOP_ROWS:
        return Worth({}, {}, note=_too_many(coin.base, rows))
    if rows + sum(map(_height, coin.books)) <= MOST_FREE_ROWS:
        fees = {**fees, FREE: dict.fromkeys(coin.ledger["venue"].unique().to_list(), 0.0)}
    of = scene(coin.ledger, coin.instruments, fees, base=coin.base, has_books=has_books)
    asked = asking(CHOICE.notionals, [0.0], None, CHOICE.delays_ms)
    first = -NEVER if coin.ts_from is None else coin.ts_from
    last = NEVER if coin.ts_to is None else coin.ts_to
    swept, drawn = swept_along(
        coin.books if has_books else [], coin.quotes, of, asked, steps, ts_from=first, ts_to=last
    )
    pairs = _pairs(swept, tuple(fees))
    lines = {key: line for key, line in drawn.items() if key[:2] in pairs}
    return Worth(pairs, lines, tuple(fees))


def with_books(coin: Coin) -> bool:
    """Tell whether books of any market are trusted at any time."""
    return len(_trusted(coin.ledger, coin.base, "books")) > 0


def with_sizes(coin: Coin) -> bool:
    """Tell whether the quotes say how much could be traded."""
    return any(map(_has_sizes, coin.quotes))


def _too_many(base: str, rows: int) -> str:
    return (
        f"{rows:,} quotes of {base} and no books: what was left at which size and after which "
        f"delay was not asked, as for more than {MOST_TOP_ROWS:,} it takes long. "
        "--from and --to choose a part of the time."
    )


def _trusted(ledger: pl.DataFrame, base: str, channel: str) -> pl.DataFrame:
    name = pl.col("instrument").cast(pl.String).str.split("-").list.first()
    return ledger.filter(pl.col("channel") == channel, pl.col("state") == "trusted", name == base)


def _has_sizes(quotes: Table) -> bool:
    return len(quotes.lazy().filter(pl.col("bid_size").is_not_null()).head(1).collect()) > 0


def _height(quotes: Table) -> int:
    return int(quotes.lazy().select(pl.len()).collect().item())


# ---- rows to findings ---------------------------------------------------------------------------


def _pairs(swept: Swept, tiers: Sequence[str]) -> dict[Key, Pair]:
    heads = _heads(swept, tiers[0])
    found = _sizes(swept)
    told: dict[Key, Pair] = {}
    for pair, head in heads.items():
        of = {tier: tuple(found.get((*pair, tier), ())) for tier in tiers}
        if any(one.edge_bps for sizes in of.values() for one in sizes):
            others = tuple(Tier(tier, of[tier]) for tier in tiers[1:])
            told[pair] = _with_default(replace(head, sizes=of[tiers[0]], tiers=others))
    return told


def _heads(swept: Swept, tier: str) -> dict[Key, Pair]:
    return {
        (row["sell"], row["buy"]): Pair(
            row["sell"], row["buy"], row["same_quote"], row["trusted_s"], depth=row["depth"],
            rate=row["rate"], capacity=_capacity(row),
        )
        for row in size_table(swept).iter_rows(named=True)
        if row["tier"] == tier and row["trusted_s"]
    }  # fmt: skip


def _sizes(swept: Swept) -> dict[tuple[object, ...], list[Sized]]:
    """Give what is known at each size, by (sell, buy, tier)."""
    at = ("sell", "buy", "tier", "notional")
    rates, takes = _by(rate_table(swept), at), _by(capacity_table(swept).sort("delay_ms"), at)
    delays, lasting = _by(delay_table(swept), at), _lasting(swept)
    found: dict[tuple[object, ...], list[Sized]] = defaultdict(list)
    for row in edge_table(swept).iter_rows(named=True):
        key = tuple(row[name] for name in at)
        sized = _sized(row, rates[key][0], delays[key], takes[key], lasting.get(key))
        found[key[:3]].append(sized)
    return found


def _with_default(pair: Pair) -> Pair:
    chosen = pair.sized(CHOICE.notional)
    return pair if chosen is None else replace(pair, episodes=chosen.episodes)


def _by(table: pl.DataFrame, keys: Sequence[str]) -> Rows:
    rows: dict[tuple[object, ...], list[Mapping[str, object]]] = defaultdict(list)
    for row in table.iter_rows(named=True):
        rows[tuple(row[k] for k in keys)].append(row)
    return rows


def _short(value: object) -> float | None:
    """Round to what a person or a chart can tell apart."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _sized(
    row: Mapping[str, object],
    rate: Mapping[str, object],
    delays: Sequence[Mapping[str, object]],
    takes: Sequence[Mapping[str, object]],
    lasting: Lasting | None,
) -> Sized:
    notional, share = row["notional"], row["depth_share"]
    if row["reason"] is not None or row["median_bps"] is None:
        return msgspec.convert(
            {"notional": notional, "depth_share": share, "reason": row["reason"]}, Sized
        )
    return Sized(
        notional=msgspec.convert(notional, float),
        depth_share=msgspec.convert(share, float | None),
        edge_bps=_in_bps(Spread, row, ""),
        round_trip_bps=_in_bps(RoundTrip, row, "round_trip_"),
        episodes=_picked(Episodes, rate),
        lasting=lasting,
        delays=tuple(_picked(Delayed, d) for d in delays if d["held_s"]),
        takes=tuple(_picked(Taken, t) for t in takes if t["takes"] or t["unfilled"]),
    )


def _in_bps(kind: type[Kind], row: Mapping[str, object], prefix: str) -> Kind:
    """Fill a struct from columns in bps, but for the share."""
    names = (name for name in kind.__struct_fields__ if name != "share_positive")
    values = {name: row[f"{prefix}{name}_bps"] for name in names}
    return kind(**values, share_positive=row[f"{prefix}share_positive"])


def _picked(kind: type[Kind], row: Mapping[str, object]) -> Kind:
    """Fill a struct from the columns of its names."""
    values = ((name, row[name]) for name in kind.__struct_fields__)
    return kind(**{n: _short(v) if isinstance(v, float) else v for n, v in values})


def _capacity(row: Mapping[str, object]) -> Capacity:
    best = row["ts_best"]
    return Capacity(
        share=_short(row["share"]),
        median=_short(row["capacity_median"]),
        max=_short(row["capacity_max"]),
        best_profit=_short(row["best_profit"]),
        best_size=_short(row["best_size"]),
        ts_best=None if best is None else pl.Series([best], dtype=TIME).cast(pl.Int64)[0],
    )


def _lasting(swept: Swept) -> dict[tuple[object, ...], Lasting]:
    """Tell of every pair and size with an episode how long they last."""
    rows = episode_table(swept)
    if rows.is_empty():
        return {}
    by = ("sell", "buy", "tier", "notional")
    fit = survival(rows.select(*by, "duration_s", "censored", "truncated"), by=by)
    curves = fit.curve.partition_by(by, as_dict=True)
    found: dict[tuple[object, ...], Lasting] = {}
    for row in fit.summary.iter_rows(named=True):
        key = tuple(row[name] for name in by)
        found[key] = _with_curve(_summary(row), curves.get(key))
    return found


def _summary(row: Mapping[str, object]) -> Lasting:
    names = ("episodes", "ended", "median_s", "median_low_s", "median_high_s", "reason")
    return Lasting(**{n: row[n] for n in names})  # type: ignore[arg-type]


def _with_curve(lasting: Lasting, curve: pl.DataFrame | None) -> Lasting:
    if curve is None or curve.is_empty():
        return lasting
    thinned = curve.gather_every(-(-len(curve) // CURVE_POINTS))
    if thinned["t_s"][-1] != curve["t_s"][-1]:
        thinned = pl.concat([thinned, curve.tail(1)])
    thinned = thinned.with_columns(  # where nothing is left there is no band
        pl.col("low", "high").fill_null(pl.col("survival"))
    )
    names = ("t_s", "survival", "low", "high")
    t_s, share, low, high = (tuple(_short(v) or 0.0 for v in thinned[n].to_list()) for n in names)
    return replace(lasting, t_s=t_s, share=share, low=low, high=high)
