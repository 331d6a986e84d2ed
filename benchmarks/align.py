"""All ordered pairs of 4 and of 10 venues: ours, and polars' as-of join for each pair.

    python benchmarks/align.py [QUOTES]

Both give the same statistics of every pair over events; ours gives time means, grid, edge and
notional too. CPU seconds of the process, the best of three; compilation happens once on a machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
from machine import append_result

from perptape.measures import gaps

QUOTES = 1_000_000
TIME = pl.Datetime("ns", "UTC")
FIRST = """
import time
from align import ledger, quotes
ready = time.perf_counter()
from perptape.measures import gaps
gaps(quotes(1000, 2), ledger(quotes(1000, 2)), threads=1)
print(f"first use, with compilation: {time.perf_counter() - ready:.1f} s")
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


def joined(table: pl.DataFrame) -> list[pl.DataFrame]:
    """Measure the same pairs with one as-of join after the other."""
    by = {name: part for (name,), part in table.partition_by("venue", as_dict=True).items()}
    found = []
    for sell, buy in permutations(by, 2):
        bids, asks = by[sell].select("ts_recv", "bid_price"), by[buy].select("ts_recv", "ask_price")
        events = (
            pl.concat([bids.select("ts_recv"), asks.select("ts_recv")]).unique().sort("ts_recv")
        )
        both = events.join_asof(bids, on="ts_recv").join_asof(asks, on="ts_recv").drop_nulls()
        gap = (pl.col("bid_price") / pl.col("ask_price") - 1) * 1e4
        found.append(
            both.select(
                mean=gap.mean(),
                median=gap.median(),
                p5=gap.quantile(0.05, "linear"),
                p95=gap.quantile(0.95, "linear"),
                min=gap.min(),
                max=gap.max(),
                share_positive=(gap > 0).mean(),
            )
        )
    return found


def best_of_three(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    spent = []
    for _ in range(3):
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(spent)


def first_use() -> str:
    """Compile into an empty cache."""
    with tempfile.TemporaryDirectory() as empty:
        known = {**os.environ, "NUMBA_CACHE_DIR": empty, "PYTHONPATH": str(Path(__file__).parent)}
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", FIRST], env=known, check=True, capture_output=True, text=True
        )
    return done.stdout.strip()


def compared(n: int, venues: int) -> list[str]:
    table = quotes(n, venues)
    heard = ledger(table)
    gaps(table.head(1000), heard)
    cpu, wall = best_of_three(lambda: gaps(table, heard))
    theirs, their_wall = best_of_three(lambda: joined(table))
    return [
        f"| {venues}, gaps | {cpu / n * 1e9:.0f} | {wall / n * 1e9:.0f} | 1 |",
        (
            f"| {venues}, polars join_asof | {theirs / n * 1e9:.0f} | {their_wall / n * 1e9:.0f} | "
            f"{theirs / cpu:.1f} |"
        ),
    ]


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else QUOTES
    lines = [f"{n} quotes; {first_use()}.", ""]
    lines += ["| venues | CPU ns a quote | wall ns a quote | x ours (CPU) |", "|---|---|---|---|"]
    for venues in (4, 10):
        lines += compared(n, venues)
    print("\n".join(lines))
    append_result("All ordered pairs", "\n".join(lines))


if __name__ == "__main__":
    main()
