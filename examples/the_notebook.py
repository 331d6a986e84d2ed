"""The old notebook in a dozen lines: one's bid against the other's ask, for every pair.

``python examples/the_notebook.py TAPE PICTURES``
"""

import sys
from pathlib import Path

import perptape as pt
from perptape import report

if not sys.argv[2:]:
    sys.exit(__doc__)
tape, pictures = Path(sys.argv[1]), Path(sys.argv[2])

recording = pt.open(tape)
found = pt.gaps(recording.quotes("BTC-USDT"), recording.ledger("BTC-USDT"))
print(found.pairs.select("sell", "buy", "gap_mean_bps", "gap_median_bps", "trusted_s"))

for picture in report.pngs(report.build(report.Asked(tapes=(tape,))), pictures):
    print(picture)
