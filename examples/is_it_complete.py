"""Is last night complete? What was not heard, and why.

``python examples/is_it_complete.py TAPE``
"""

import sys

import polars as pl

import perptape as pt

ledger = pt.open(sys.argv[1]).ledger().collect()
lost = ledger.filter(pl.col("state") == "untrusted").with_columns(
    seconds=(pl.col("ts_end") - pl.col("ts_start")).dt.total_microseconds() / 1e6
)
print(lost.group_by("venue", "instrument", "reason").agg(pl.sum("seconds"), pl.len()))
