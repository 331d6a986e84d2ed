"""What was left after costs? For 50,000 of quote currency, and 20 ms later than it was seen.

``python examples/after_costs.py TAPE``

Both taker fees are taken off, and so is what walking both books costs. Of a market without books on
the tape the best prices are all its depth: what they do not hold has no edge.
"""

import sys

import polars as pl

import perptape as pt

if not sys.argv[1:]:
    sys.exit(__doc__)

NOTIONAL, LATE_MS = 50_000, 20

tape, coin = pt.open(sys.argv[1]), "BTC-USDT"
found = pt.edges(
    tape.books(coin),
    tape.quotes(coin),
    tape.ledger(coin),
    tape.instruments(),
    notionals=[NOTIONAL],
    delays_ms=[0, LATE_MS],
)
print(found.edges.select("sell", "buy", "depth_share", "median_bps", "max_bps", "share_positive"))
late = found.delays.filter(pl.col("delay_ms") == LATE_MS)
print(late.select("sell", "buy", "held_s", "mean_bps", "median_bps", "share"))
