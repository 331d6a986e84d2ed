"""What could have been earned: one take an episode, so much after it opened.

At the opening of an episode an order for both legs is sent; it is filled from both books a delay
later, at whatever they are then, so a take may lose. Nothing more is taken until the episode
closes. If a book does not hold the size then nothing is taken (``unfilled``); if it is not trusted
nobody knows (``unknown``), and nothing is counted. Episodes that were open when trust began are not
taken. Profit is in the quote currency in which the pair is settled, before funding and without the
way back; per day it is over the trusted time of the pair.

The interval is of a block bootstrap: stretches of trusted time that do not overlap are drawn with
replacement, so that takes that come together stay together (Carlstein, Annals of Statistics 14,
1986). With too few of them nothing is said.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from perptape.align import Spans
from perptape.errors import BadUsage
from perptape.events import MS, NS
from perptape.kernels import Floats, Ints
from perptape.measures.edges import (
    DELAYS_MS,
    NOTIONALS,
    OF_PAIR,
    Swept,
    asking,
    measured,
    of_pair,
)
from perptape.measures.episodes import found_episodes
from perptape.measures.scenes import Entry, Fees, Table
from perptape.spells import THIN

DAY_NS = 86_400 * NS
LEAST_BLOCKS = 10
LEAST_BLOCK_NS, MOST_BLOCK_NS, USUAL_BLOCKS = 60 * NS, 3600 * NS, 30
DRAWS = 2000
LEVEL = 0.95
COLUMNS = {
    **OF_PAIR,
    "notional": pl.Float64,
    "threshold_bps": pl.Float64,
    "delay_ms": pl.Float64,
    "episodes": pl.Int64,
    "takes": pl.Int64,
    "unfilled": pl.Int64,
    "unknown": pl.Int64,
    "share_gained": pl.Float64,
    "profit": pl.Float64,
    "profit_per_take": pl.Float64,
    "profit_per_day": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "reason": pl.String,
}


def capacity(  # noqa: PLR0913 - each of them changes the numbers
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None = None,
    *,
    fees: Fees | None = None,
    notionals: Sequence[float] = NOTIONALS,
    delays_ms: Sequence[float] = DELAYS_MS,
    threshold_bps: float = 0.0,
    leave_bps: float | None = None,
    merge_s: float = 0.0,
    seed: int = 0,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Rank every pair, tier of fees, notional and delay by what it earned per trusted day.

    Tables, fees, notionals and window as of ``edges``; ``fees`` may be a table of several tiers,
    ``{"base": {"bybit": 0.00055, ...}, "vip 3": {...}}``. ``low`` and ``high`` hold the profit per
    day with 95 %. The most profitable comes first; pairs of different quote currencies without a
    rate between them, then those without a number, come last.

    Gives a frame, a row each: ``notional`` and all of ``profit`` in quote currency, ``delay_ms``;
    counts of ``episodes``, ``takes``, ``unfilled`` and ``unknown``; ``share_gained``, 0 to 1, of
    takes with a profit; null where there is no number, and the ``reason``.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    if not merge_s >= 0:
        raise BadUsage("merge_s is a number of seconds from 0 on.")
    if not delays_ms:
        raise BadUsage("A take needs at least one delay, which may be 0 ms.")
    leaves = None if leave_bps is None else [leave_bps]
    swept = measured(
        books, quotes, ledger, instruments, fees=fees, base=base, ts_from=ts_from, ts_to=ts_to,
        asked=asking(notionals, [threshold_bps], leaves, delays_ms),
    )  # fmt: skip
    return capacity_table(swept, round(merge_s * NS), seed=seed)


def capacity_table(swept: Swept, merge_ns: int = 0, *, seed: int = 0) -> pl.DataFrame:
    """One row for each pair, tier, notional, threshold and delay; the best first."""
    takes = {(a, ts): k for k, (a, ts) in enumerate(swept.part.takes.ints.tolist())}
    rows: list[dict[str, object]] = []
    for a, (entry, notional, h, found) in enumerate(found_episodes(swept, merge_ns)):
        starts = [e.start for e in found if not e.is_truncated]
        gains = swept.part.takes.gains[[takes[a, ts] for ts in starts]]
        for d, delay_ns in enumerate(swept.asked.delays_ns):
            rows.append(
                {
                    **of_pair(swept, entry),
                    "notional": notional,
                    "threshold_bps": swept.asked.enters_bps[h],
                    "delay_ms": delay_ns / MS,
                    **_row(swept, entry, np.array(starts, np.int64), gains[:, d], seed),
                }
            )
    return _ranked(pl.DataFrame(rows, schema=COLUMNS))


def _ranked(table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(
        ~(pl.col("same_quote") | pl.col("rate").is_not_null()),
        -pl.col("profit_per_day"),
        -pl.col("profit"),
        nulls_last=True,
        maintain_order=True,
    )


def _row(
    swept: Swept, entry: Entry, starts: Ints,
    gains: Floats, seed: int,
) -> dict[str, object]:  # fmt: skip
    is_thin, is_filled = gains == THIN, np.isfinite(gains)
    filled = gains[is_filled]
    profit = math.fsum(filled)
    blocks = _blocks(swept, entry)
    row: dict[str, object] = {
        "episodes": len(gains),
        "takes": len(filled),
        "unfilled": int(is_thin.sum()),
        "unknown": int(np.isnan(gains).sum()),
        "share_gained": float((filled > 0).mean()) if len(filled) else None,
        "profit": profit,
        "profit_per_take": profit / len(filled) if len(filled) else None,
    }
    if len(blocks.starts) < LEAST_BLOCKS:
        trusted_s = blocks.trusted_ns.sum() / NS
        least_s = LEAST_BLOCKS * LEAST_BLOCK_NS // NS
        return row | {"reason": f"{trusted_s:.0f} s of trust say nothing of a day: {least_s} do"}
    row["profit_per_day"] = profit * DAY_NS / int(blocks.trusted_ns.sum())
    return row | _interval(blocks, starts[is_filled], filled, seed)


class Blocks(NamedTuple):
    """Stretches of trusted time of about the same length, in order."""

    starts: Ints
    trusted_ns: Ints


def _blocks(swept: Swept, entry: Entry) -> Blocks:
    """Cut the trusted time of a pair; what is not trusted has no length."""
    spans = swept.scene.common(entry).within(swept.ts_from, swept.ts_to)
    total = spans.total_ns
    length = min(max(total // USUAL_BLOCKS, LEAST_BLOCK_NS), MOST_BLOCK_NS)
    count = total // length
    passed = [length * k if k else 0 for k in range(count)]
    starts = np.array([_moment(spans, ns) for ns in passed], np.int64)
    lengths = np.diff([*passed, total]) if count else np.array([total])
    return Blocks(starts, lengths.astype(np.int64))


def _moment(spans: Spans, passed_ns: int) -> int:
    """Give the moment by which so much of the trusted time has passed."""
    before = np.concatenate([[0], np.cumsum(spans.ends - spans.starts)])
    at = int(np.searchsorted(before, passed_ns, side="right")) - 1
    at = min(at, len(spans.starts) - 1)
    return int(spans.starts[at]) + passed_ns - int(before[at])


def _interval(
    blocks: Blocks, starts: Ints,
    gains: Floats, seed: int,
) -> dict[str, object]:  # fmt: skip
    block_of = np.maximum(np.searchsorted(blocks.starts, starts, side="right") - 1, 0)
    if len(np.unique(block_of)) < LEAST_BLOCKS // 2:
        return {"reason": f"takes in fewer than {LEAST_BLOCKS // 2} stretches: no interval"}
    earned = np.array([math.fsum(gains[block_of == k]) for k in range(len(blocks.starts))])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(earned), (DRAWS, len(earned)))
    per_day = earned[drawn].sum(axis=1) * DAY_NS / blocks.trusted_ns[drawn].sum(axis=1)
    low, high = np.quantile(per_day, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high)}
