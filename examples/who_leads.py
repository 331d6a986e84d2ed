"""Who leads? Which market moved first, by how long, and how sure that is.

``python examples/who_leads.py TAPE``

The venues' own stamps are compared, less what their clocks were ahead of ours. Without that no
leader is named, and ``reason`` says so.
"""

import sys

import perptape as pt

if not sys.argv[1:]:
    sys.exit(__doc__)

tape = pt.open(sys.argv[1])
clocks = pt.clocks(tape.clock_samples())
print(clocks.venues.select("venue", "offset_ms", "error_ms", "reason"))

found = pt.lead_lag(
    tape.quotes("BTC-USDT"),
    tape.ledger("BTC-USDT"),
    clock="event",
    offsets_ms=clocks.offsets_ms(),
    errors_ms=clocks.errors_ms(),
)
print(found.pairs.select("first", "second", "lag_ms", "lag_low_ms", "lag_high_ms", "leader"))
for pair in found.pairs.iter_rows(named=True):
    print(f"{pair['first']}, {pair['second']}: {pair['leader'] or pair['reason'] or 'neither'}")
