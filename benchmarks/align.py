"""All ordered pairs of 4 and of 10 venues: ours, and one as-of join after the other by others.

    python benchmarks/align.py [QUOTES] [ROUNDS]

All take quotes that are in memory and give mean, median, max and the share above zero of every
pair over events; ours gives the other quantiles, time means, grid and notional too. pandas and
DuckDB join SOME pairs of all; their time is scaled. The ways take turns; CPU seconds of the
process, the median of the rounds; compilation happens once on a machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice, permutations
from pathlib import Path
from statistics import median

import duckdb
import numpy as np
import pandas as pd
import polars as pl
from machine import append_result

from perptape.measures import gaps

QUOTES, ROUNDS, SOME = 2_000_000, 5, 6
GATES = {"polars join_asof": 4, "pandas merge_asof": 14, "DuckDB ASOF JOIN": 45}
TIME = pl.Datetime("ns", "UTC")
FIRST = """
import time
from align import ledger, quotes
ready = time.perf_counter()
from perptape.measures import gaps
gaps(quotes(1000, 2), ledger(quotes(1000, 2)))
print(f"first use, with compilation: {time.perf_counter() - ready:.1f} s")
"""
SQL = """
with events as (select ts from {sell} union select ts from {buy}),
met as (select s.bid, b.ask from events asof join {sell} s on events.ts >= s.ts
    asof join {buy} b on events.ts >= b.ts),
gaps as (select (bid / ask - 1) * 1e4 as gap from met)
select avg(gap), median(gap), max(gap), avg((gap > 0)::int) from gaps
"""


def quotes(n: int, venues: int) -> pl.DataFrame:
    """A walk of 2e-6 a quote, seen by venues 1 bp apart; 1 ms between quotes on average."""
    rng = np.random.default_rng(1)
    ts = np.cumsum(rng.exponential(1e6, n).astype(np.int64) + 1) + 1_700_000_000 * 10**9
    venue = rng.integers(0, venues, n)
    bid = 60_000 * np.exp(np.cumsum(rng.normal(0, 2e-6, n))) * (1 + 1e-4 * venue)
    names = pl.Enum([f"venue{k}" for k in range(venues)])
    return pl.DataFrame(
        {
            "venue": pl.Series(names.categories).gather(venue).cast(names),
            "instrument": pl.repeat("BTC-USDT-PERP", n, dtype=pl.Categorical, eager=True),
            "seq": np.arange(n),
            "ts_recv": pl.Series(ts).cast(TIME),
            "ts_event": pl.Series(ts - 5_000_000).cast(TIME),
            "bid_price": bid.round(1),
            "bid_size": rng.exponential(1, n).round(3),
            "ask_price": bid.round(1) + 0.1,
            "ask_size": rng.exponential(1, n).round(3),
        }
    )


def ledger(table: pl.DataFrame) -> pl.DataFrame:
    """All of it trusted."""
    return table.select("venue", "instrument").unique().with_columns(
        channel=pl.lit("quotes"),
        ts_start=pl.lit(table["ts_recv"].min(), TIME),
        ts_end=pl.lit(table["ts_recv"].max(), TIME),
        state=pl.lit("trusted"),
    )  # fmt: skip


Found = dict[tuple[str, str], tuple[float, ...]]


def by_polars(by: Mapping[str, pl.DataFrame], pairs: Iterator[tuple[str, str]]) -> Found:
    found = {}
    for sell, buy in pairs:
        bids, asks = by[sell].select("ts", "bid"), by[buy].select("ts", "ask")
        events = pl.concat([bids.select("ts"), asks.select("ts")]).unique().sort("ts")
        both = events.join_asof(bids, on="ts").join_asof(asks, on="ts").drop_nulls()
        gap = (pl.col("bid") / pl.col("ask") - 1) * 1e4
        (found[sell, buy],) = both.select(
            mean=gap.mean(), median=gap.median(), max=gap.max(), positive=(gap > 0).mean()
        ).rows()
    return found


def by_pandas(by: Mapping[str, pd.DataFrame], pairs: Iterator[tuple[str, str]]) -> Found:
    found = {}
    for sell, buy in pairs:
        bids, asks = by[sell][["ts", "bid"]], by[buy][["ts", "ask"]]
        events = pd.DataFrame({"ts": np.union1d(bids["ts"], asks["ts"])})
        both = pd.merge_asof(pd.merge_asof(events, bids, on="ts"), asks, on="ts").dropna()
        gap = (both["bid"] / both["ask"] - 1) * 1e4
        found[sell, buy] = gap.mean(), gap.median(), gap.max(), (gap > 0).mean()
    return found


def by_duckdb(base: duckdb.DuckDBPyConnection, pairs: Iterator[tuple[str, str]]) -> Found:
    answers = {}
    for sell, buy in pairs:
        (answers[sell, buy],) = base.execute(SQL.format(sell=sell, buy=buy)).fetchall()
    return answers


def ours(table: pl.DataFrame, heard: pl.DataFrame) -> Found:
    return {
        tuple(name.partition(":")[0] for name in (p.sell, p.buy)): (
            p.gap_bps.mean, p.gap_bps.median, p.gap_bps.max, p.gap_bps.share_positive
        )
        for p in gaps(table, heard).found_pairs
    }  # fmt: skip


def ways(table: pl.DataFrame) -> dict[str, tuple[Callable[[], Found], float]]:
    """Give each way, and which share of the pairs it measures."""
    heard = ledger(table)
    prices = table.select("venue", ts="ts_recv", bid="bid_price", ask="ask_price")
    parts = prices.with_columns(pl.col("ts").cast(pl.Int64)).partition_by("venue", as_dict=True)
    by = {str(name): part.drop("venue") for (name,), part in parts.items()}
    frames, base = {name: part.to_pandas() for name, part in by.items()}, duckdb.connect()
    for name, part in by.items():
        base.register("part", part)
        base.table("part").create(name)
    n = len(by) * (len(by) - 1)

    def some() -> Iterator[tuple[str, str]]:
        return islice(permutations(by, 2), SOME)

    return {
        "gaps": (lambda: ours(table, heard), 1.0),
        "polars join_asof": (lambda: by_polars(by, permutations(by, 2)), 1.0),
        "pandas merge_asof": (lambda: by_pandas(frames, some()), min(1.0, SOME / n)),
        "DuckDB ASOF JOIN": (lambda: by_duckdb(base, some()), min(1.0, SOME / n)),
    }


def compared(n: int, venues: int, rounds: int) -> Iterator[str]:
    each = ways(quotes(n, venues))
    expected = each["gaps"][0]()
    spent: dict[str, list[float]] = {name: [] for name in each}
    for _ in range(rounds):
        for name, (way, share) in each.items():
            begun = time.process_time()
            found = way()
            spent[name].append((time.process_time() - begun) / share / n * 1e9)
            for pair, numbers in found.items():  # quantiles of ours are right to half a bin
                np.testing.assert_allclose(numbers, expected[pair], atol=5.1e-4)
    least = median(spent["gaps"])
    for name, runs in spent.items():
        ratio, gate = median(runs) / least, GATES.get(name)
        said = "" if gate is None else f"≥ {gate} {'met' if ratio >= gate else 'MISSED'}"
        listed = " ".join(f"{run:.0f}" for run in runs)
        yield f"| {venues} | {name} | {median(runs):.0f} | {ratio:.1f} | {said} | {listed} |"


def first_use() -> str:
    """Compile into an empty cache."""
    with tempfile.TemporaryDirectory() as empty:
        known = {**os.environ, "NUMBA_CACHE_DIR": empty, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", FIRST], env=known, check=True, capture_output=True, text=True
        )
    return done.stdout.strip()


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    n, rounds = [*words, *(QUOTES, ROUNDS)[len(words) :]]
    versions = f"polars {pl.__version__}, pandas {pd.__version__}, DuckDB {duckdb.__version__}"
    lines = [f"{n:,} quotes, {rounds} rounds; {versions}; {first_use()}.", ""]
    lines += ["| venues | way | CPU ns a quote | x ours | gate | all runs |"]
    lines += ["|---|---|---|---|---|---|"]
    for venues in (4, 10):
        lines += compared(n, venues, rounds)
    print("\n".join(lines))
    append_result("All ordered pairs", "\n".join(lines))


if __name__ == "__main__":
    main()
