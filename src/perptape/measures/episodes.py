"""Episodes: stretches of trusted time in which an edge stood open.

One opens at the first moment at which the edge is at least the threshold, and closes at the first
later one at which it is below the threshold to leave (not above the other). Closed and opened again
within ``merge_s``, it is one. If trust or the data ends first it is ``censored``; if it was open
when trust began it is ``truncated``: nobody knows since when, so it counts in no duration and no
rate. Books that no longer hold the size close it; they are known, and there is nothing to take.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from perptape import spells
from perptape.align import Spans
from perptape.errors import BadUsage
from perptape.events import NS
from perptape.kernels import FINE, NEVER
from perptape.measures.edges import (
    NOTIONALS,
    PAIR,
    TIME,
    Schema,
    Swept,
    asking,
    measured,
    streams,
)
from perptape.measures.pairs import whole
from perptape.measures.scenes import Entry, Fees, Table
from perptape.sweep import BUY, SELL

LEGS = {SELL: "sell", BUY: "buy", SELL | BUY: "both"}
COLUMNS: Schema = {
    **PAIR,
    "notional": pl.Float64,
    "threshold_bps": pl.Float64,
    "leave_bps": pl.Float64,
    "ts_start": TIME,
    "ts_end": TIME,
    "duration_s": pl.Float64,
    "peak_bps": pl.Float64,
    "area_bps_s": pl.Float64,
    "capacity": pl.Float64,
    "opener": pl.String,
    "closer": pl.String,
    "censored": pl.Boolean,
    "truncated": pl.Boolean,
}


class Episode(NamedTuple):
    """A stretch in which an edge stood open; times in ns."""

    start: int
    end: int
    peak_bps: float
    area: int
    """Exact, in 1 / FINE bps times ns."""
    capacity: float
    opener: int
    closer: int
    is_censored: bool
    is_truncated: bool


def episodes(  # noqa: PLR0913 - each of them changes the numbers
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None = None,
    *,
    fees: Fees | None = None,
    notionals: Sequence[float] = NOTIONALS,
    thresholds_bps: Sequence[float] = (0.0,),
    leaves_bps: Sequence[float] | None = None,
    merge_s: float = 0.0,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
) -> pl.DataFrame:
    """Find the episodes of every ordered pair of one base coin, a row each.

    Tables, fees, notionals and window as of ``edges``. ``thresholds_bps`` open an episode,
    ``leaves_bps`` are those below which it closes, one for each; the same if not given.

    ``peak_bps`` is the greatest edge, ``area_bps_s`` its integral over the time that it stood open,
    ``capacity`` the greatest size at the threshold, in base coins; ``opener`` and ``closer`` name
    the leg whose change crossed the threshold.

    Gives a frame: ``sell``, ``buy``, ``notional`` in quote currency, both thresholds in bps,
    ``ts_start`` and ``ts_end`` (UTC), ``duration_s`` and, as above, the rest; ``area_bps_s`` is in
    bps times seconds.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    if not merge_s >= 0:
        raise BadUsage("merge_s is a number of seconds from 0 on.")
    swept = measured(
        books, quotes, ledger, instruments, fees=fees, base=base, ts_from=ts_from, ts_to=ts_to,
        asked=asking(notionals, thresholds_bps, leaves_bps, ()),
    )  # fmt: skip
    return episode_table(swept, round(merge_s * NS))


def episode_table(swept: Swept, merge_ns: int = 0) -> pl.DataFrame:
    """One row for each episode, in order of pair, notional, threshold and time."""
    rows = [
        {
            "sell": entry.sell,
            "buy": entry.buy,
            "tier": entry.tier,
            "notional": notional,
            "threshold_bps": swept.asked.enters_bps[h],
            "leave_bps": swept.asked.leaves_bps[h],
            **_row(episode),
        }
        for entry, notional, h, found in found_episodes(swept, merge_ns)
        for episode in found
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


def _row(episode: Episode) -> dict[str, object]:
    return {
        "ts_start": episode.start,
        "ts_end": episode.end,
        "duration_s": (episode.end - episode.start) / NS,
        "peak_bps": episode.peak_bps,
        "area_bps_s": episode.area / (int(FINE) * NS),
        "capacity": episode.capacity,
        "opener": LEGS.get(episode.opener),
        "closer": LEGS.get(episode.closer),
        "censored": episode.is_censored,
        "truncated": episode.is_truncated,
    }


# ---- spans to episodes --------------------------------------------------------------------------


def found_episodes(
    swept: Swept, merge_ns: int = 0
) -> Iterator[tuple[Entry, float, int, list[Episode]]]:
    """Give the episodes of every pair, notional and number of a threshold, in order of time."""
    spans = swept.part.spans
    by_automaton: dict[int, list[int]] = defaultdict(list)
    for row, automaton in enumerate(spans.ints[:, 0].tolist()):
        by_automaton[automaton].append(row)
    width = len(swept.asked.enters_bps)
    for s, entry, notional in streams(swept.scene, swept.asked):
        common = swept.scene.common(entry)
        for h in range(width):
            found = list(_resolved(swept, by_automaton[s * width + h]))
            yield entry, notional, h, _merged(found, common, merge_ns)


def _resolved(swept: Swept, rows: Sequence[int]) -> Iterator[Episode]:
    """Put spans together where the time was cut, and drop those that were not open after all."""
    ints, floats = swept.part.spans
    now: Episode | None = None
    for row in rows:
        start, end, begun, ended, opener, closer = (int(k) for k in ints[row, 1:7])
        if now is None and begun == spells.BEGUN_UNSURE:
            continue
        part = Episode(
            start,
            end,
            float(floats[row, spells.PEAK]),
            whole(ints[row, 7:]),
            float(floats[row, spells.SPAN_CAPACITY]),
            opener,
            closer if ended == spells.ENDED_CLOSED else 0,
            is_censored=ended == spells.ENDED_CENSORED,
            is_truncated=begun in {spells.BEGUN_TRUNCATED, spells.BEGUN_CUT},
        )
        now = part if now is None else _together(now, part)
        if ended in {spells.ENDED_CLOSED, spells.ENDED_CENSORED}:
            yield now if not now.is_truncated else now._replace(opener=0)
            now = None
    if now is not None:
        yield now._replace(is_censored=True)


def _together(first: Episode, then: Episode) -> Episode:
    return then._replace(
        start=first.start,
        peak_bps=max(first.peak_bps, then.peak_bps),
        area=first.area + then.area,
        capacity=max(first.capacity, then.capacity),
        opener=first.opener,
        is_truncated=first.is_truncated,
    )


def _merged(found: Sequence[Episode], common: Spans, merge_ns: int) -> list[Episode]:
    """Join those that opened again soon, with nothing untrusted between."""
    kept: list[Episode] = []
    for episode in found:
        last = kept[-1] if kept else None
        if (
            last is not None
            and not last.is_censored
            and not episode.is_truncated
            and episode.start - last.end <= merge_ns < NEVER
            and _is_within(common, last.end, episode.start)
        ):
            kept[-1] = _together(last, episode)
        else:
            kept.append(episode)
    return kept


def _is_within(spans: Spans, start: int, end: int) -> bool:
    at = int(np.searchsorted(spans.starts, start, side="right")) - 1
    return at >= 0 and end <= int(spans.ends[at])
