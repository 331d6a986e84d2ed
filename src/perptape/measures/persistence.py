"""What is left of an edge E after a delay: H(theta, d) = P(E(t + d) >= theta | E(t) >= theta).

The probability is over trusted time: of the moments t at which the edge was at least the threshold,
weighted by how long they stood, the share at which it still was a delay later. Moments whose later
one is not trusted are left out (``held_s`` is of those that are not); one whose later book holds
too little counts as lost. Survival of an edge against latency: Hautsch, Scheuch & Voigt,
arXiv:1812.00595, for what limits arbitrage between venues.
"""

from collections.abc import Sequence

import polars as pl

from perptape.measures.edges import DELAYS_MS, NOTIONALS, asking, delay_table, measured
from perptape.measures.scenes import Fees, Table


def edge_persistence(  # noqa: PLR0913 - each of them changes the numbers
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None = None,
    *,
    fees: Fees | None = None,
    notionals: Sequence[float] = NOTIONALS,
    thresholds_bps: Sequence[float] = (0.0,),
    delays_ms: Sequence[float] = DELAYS_MS,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Give the share of edges that are still there after a delay, a row for each combination.

    Tables, fees, notionals and window as of ``edges``. ``share`` is H, ``mean_bps`` and
    ``median_bps`` what the edge was after the delay, null where it never was at least the
    threshold; ``delay_ms`` is the same for both legs.

    Gives a frame: ``notional`` in quote currency, ``threshold_bps``, ``delay_ms``, ``held_s``,
    both edges in bps, ``share`` from 0 to 1.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    return delay_table(
        measured(
            books, quotes, ledger, instruments, fees=fees, base=base, ts_from=ts_from, ts_to=ts_to,
            asked=asking(notionals, thresholds_bps, None, delays_ms),
        )
    )  # fmt: skip
