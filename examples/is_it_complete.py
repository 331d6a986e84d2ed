"""Is last night complete? How much of each market was heard, and why the rest was not.

``python examples/is_it_complete.py TAPE``
"""

import sys

import polars as pl

import perptape as pt

if not sys.argv[1:]:
    sys.exit(__doc__)

tape = pt.open(sys.argv[1])
markets = tape.markets()
print(tape)
print(markets.select("venue", "instrument", "channel", "trusted_s", "untrusted_s"))

lost = tape.ledger().filter(pl.col("state") == "untrusted")
seconds = (pl.col("ts_end") - pl.col("ts_start")).dt.total_nanoseconds().sum() / 1e9
whys = lost.group_by("venue", "instrument", "channel", "reason").agg(pl.len(), seconds=seconds)
print(whys.sort("seconds", descending=True, nulls_last=True).collect())
