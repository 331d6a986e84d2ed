"""What each contract paid at each of its own settlements.

At a settlement the long pays the short rate x interval x mark price per base coin (less than 0: it
receives), and only who holds the position at that moment. The rate that was paid counts where the
venue told it; else the last one it expected before. A settlement that is told twice is one.
"""

import numpy as np
import polars as pl

from perptape.align import TIME, Coin, base_of, coin
from perptape.errors import BadUsage
from perptape.events import NS
from perptape.kernels import NEVER
from perptape.measures.mids import Table, placed

HOUR_NS = 3600 * NS
NEAR_NS = 600 * NS
"""A stamp so near to a full hour means the hour: venues stamp up to two minutes late."""
MINUTE_NS = 60 * NS
MARK_AGE_S = 60.0
SETTLEMENTS = {
    "market": pl.String,
    "ts_funding": TIME,
    "rate": pl.Float64,
    "interval_h": pl.Float64,
    "rate_per_h": pl.Float64,
    "is_settled": pl.Boolean,
    "mark_price": pl.Float64,
    "payment": pl.Float64,
}


def settlements(
    funding: Table,
    marks: Table | None = None,
    ledger: Table | None = None,
    *,
    base: str | None = None,
    mark_age_s: float = MARK_AGE_S,
) -> pl.DataFrame:
    """List the settlements of one coin's markets, each once, in order.

    ``funding``, ``marks``: the tables of these names; ``rate`` in ``funding`` is per hour.
    ``ledger``: with it, an expected rate counts only if its market's funding was trusted from when
    it was heard to the settlement, and a mark price likewise. Without it an expected rate counts if
    anything about funding was heard of the market after the settlement.

    Columns: ``market``; ``ts_funding``, a full hour where it is near one; ``rate``, the fraction
    paid for the whole ``interval_h``, and ``rate_per_h``; ``is_settled``, whether it is what was
    paid or what was expected; ``mark_price``, at most ``mark_age_s`` old, and ``payment`` by the
    long in quote currency per base coin, null without a mark price.

    Raises BadUsage if the coin is not clear.
    """
    rows = _rows(funding, base)
    expected = _expected(rows.filter(~pl.col("is_settled")), rows, ledger, base)
    paid = rows.filter("is_settled").drop_nulls(["at", "rate_per_h"])
    found = (
        pl.concat([expected, paid], how="diagonal")
        .sort("market", "at", "is_settled", maintain_order=True)
        .unique(["market", "at"], keep="last", maintain_order=True)
        .with_columns(rate=pl.col("rate_per_h") * pl.col("interval_h"))
    )
    priced = _priced(found, marks, ledger, base, round(mark_age_s * NS))
    return priced.with_columns(
        pl.col("at").cast(TIME).alias("ts_funding"),
        payment=pl.col("rate") * pl.col("mark_price"),
    ).select(*SETTLEMENTS)


def _rows(funding: Table, base: str | None) -> pl.DataFrame:
    """Read the funding of one coin, each settlement at its nominal time (``at``)."""
    rows = _of_markets(funding, base).select(
        "market",
        _ns("ts_recv"),
        _nominal(_ns("ts_funding")).alias("at"),
        pl.col("rate").cast(pl.Float64).alias("rate_per_h"),
        pl.col("interval_h").cast(pl.Float64),
        pl.col("is_settled").fill_null(value=False),
    )
    return rows.with_columns(pl.col("rate_per_h", "interval_h").fill_nan(None))


def _of_markets(table: Table, base: str | None) -> pl.DataFrame:
    name = pl.col("instrument").cast(pl.String)
    rows = table.lazy().with_columns(
        market=pl.concat_str(pl.col("venue").cast(pl.String), pl.lit(":"), name)
    )
    if base is not None:
        rows = rows.filter(name.str.split("-").list.first() == base)
    found = rows.collect()
    bases = sorted({base_of(market.split(":", 1)[1]) for market in found["market"].unique()})
    if len(bases) > 1:
        raise BadUsage(f"Funding is compared within one coin, and here are {', '.join(bases)}.")
    return found


def _ns(column: str) -> pl.Expr:
    return pl.col(column).cast(TIME).cast(pl.Int64)


def _nominal(ts: pl.Expr) -> pl.Expr:
    hour = (ts + HOUR_NS // 2) // HOUR_NS * HOUR_NS
    return pl.when((ts - hour).abs() <= NEAR_NS).then(hour).otherwise(ts // MINUTE_NS * MINUTE_NS)


def _expected(
    said: pl.DataFrame, rows: pl.DataFrame, ledger: Table | None, base: str | None
) -> pl.DataFrame:
    """Give the last rate expected before each settlement that has been."""
    last_heard = rows.group_by("market").agg(pl.col("ts_recv").max().alias("heard_until"))
    news = ("at", "rate_per_h", "interval_h")
    merged = said.sort("ts_recv", maintain_order=True).with_columns(
        pl.col(news).forward_fill().over("market")  # what is not said again goes on
    )
    found = (
        merged.filter(pl.col("ts_recv") <= pl.col("at"))
        .drop_nulls(["at", "rate_per_h"])
        .unique(["market", "at"], keep="last", maintain_order=True)
        .join(last_heard, on="market")
    )
    if ledger is None:
        kept = found.filter(pl.col("at") <= pl.col("heard_until"))
    else:
        kept = found.filter(_trusted(found, coin(ledger, base, channel="funding"), "ts_recv", "at"))
    return kept.drop("heard_until")


def _trusted(rows: pl.DataFrame, of: Coin, start: str, end: str) -> pl.Series:
    """Tell of each row whether its market was trusted from ``start`` to ``end``."""
    trusted = np.zeros(rows.height, np.bool_)
    for market, spans in of.trusted.items():
        own = (rows["market"] == market).to_numpy()
        number, holds = placed(spans, rows[end].to_numpy()[own])
        holds[holds] &= spans.starts[number[holds]] <= rows[start].to_numpy()[own][holds]
        trusted[own] = holds
    return pl.Series(trusted)


def _priced(
    found: pl.DataFrame, marks: Table | None, ledger: Table | None, base: str | None, age_ns: int
) -> pl.DataFrame:
    if marks is None:
        return found.with_columns(mark_price=pl.lit(None, pl.Float64))
    prices = _of_markets(marks, base).select(
        "market", _ns("ts_recv").alias("marked"), pl.col("mark_price").cast(pl.Float64)
    )
    priced = found.sort("at").join_asof(
        prices.drop_nulls().sort("marked", maintain_order=True),
        left_on="at",
        right_on="marked",
        by="market",
        tolerance=age_ns,
        check_sortedness=False,
    )
    if ledger is not None:
        told = priced.with_columns(pl.col("marked").fill_null(NEVER))
        known = _trusted(told, coin(ledger, base, channel="marks"), "marked", "at")
        priced = priced.with_columns(pl.when(known).then("mark_price").alias("mark_price"))
    return priced.sort("market", "at")
