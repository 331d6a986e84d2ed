"""What the venues' clocks say beside ours, how sure that is, and how late their messages come.

Of one question and answer (RFC 5905), sent at T1 and received at T4 by our clock, heard at T2 and
answered at T3 by the venue's (T2 = T3 where it says one time)::

    offset = ((T2 - T1) + (T3 - T4)) / 2      delay = (T4 - T1) - (T3 - T2)
    |true offset - offset| <= delay / 2

whatever way the delay is shared between the two directions. The answer with the least delay stands
for its window. Stamps in whole milliseconds widen the bound by one, two stamps by half of one
more. An offset above 0 is a clock ahead of ours.

What a message took is ts_recv - (ts_event - offset). It comes out below 0 where a stamp is not what
it claims to be: that is told, never clipped.
"""

from collections.abc import Mapping, Sequence
from itertools import chain

import msgspec
import numpy as np
import polars as pl

from perptape.align import TIME, Coin, coin, union
from perptape.events import MS, NS
from perptape.measures.latency import NOTHING, Delays, delays
from perptape.measures.mids import Table
from perptape.measures.round_trips import LEAST_WINDOWS, Course, windows

WINDOW_S = 600.0
VENUES = {
    "venue": pl.String,
    "trusted_s": pl.Float64,
    **dict.fromkeys(("windows", "samples"), pl.Int64),
    **dict.fromkeys(("offset_ms", "error_ms"), pl.Float64),
    "steps": pl.Int64,
    **dict.fromkeys(("skew_low_ppm", "skew_high_ppm", "skew_ppm"), pl.Float64),
    "stamp": pl.String,
    "rows": pl.Int64,
    **{f"latency_{name}_ms": pl.Float64 for name in ("least", "p50", "p99", "error")},
    "share_negative": pl.Float64,
    **{f"excess_{name}_ms": pl.Float64 for name in ("p50", "p99")},
    "reason": pl.String,
}


class Clocks(msgspec.Struct, frozen=True):
    """Each venue's clock over time and altogether."""

    windows: pl.DataFrame
    """One row a venue and window: at ``ts`` (ours) its clock was ahead by ``offset_ms``, right to
    ``error_ms``; ``delay_ms`` of that answer, the best of ``samples``; ``rejected`` ones make no
    sense; ``step_ms`` where the clock jumped since the window before."""
    venues: pl.DataFrame
    """One row a venue. ``offset_ms`` and ``error_ms`` hold for all windows. Drift is how fast the
    clock gains on ours: ``skew_low_ppm`` to ``skew_high_ppm`` is what all answers of the longest
    time without a step allow, ``skew_ppm`` what a stream of 10 min or more shows. ``stamp`` is the
    field that the rest is about, in ``rows`` of trusted time: latencies by the corrected stamp, all
    wrong by up to ``latency_error_ms``, the share of them below 0, and the excess over the least
    that was possible then, which needs no offset."""

    def offsets_ms(self) -> Mapping[str, float]:
        """By venue, as ``lead_lag`` takes them for the venues' stamps."""
        return self._known("offset_ms")

    def errors_ms(self) -> Mapping[str, float]:
        """By venue, the bounds of ``offsets_ms``."""
        return self._known("error_ms")

    def _known(self, column: str) -> Mapping[str, float]:
        known = self.venues.filter(pl.col(column).is_not_null())
        return dict(known.select("venue", column).iter_rows())


def clocks(
    samples: Table,
    *,
    quotes: Table | Sequence[Table] | None = None,
    ledger: Table | None = None,
    base: str | None = None,
    window_s: float = WINDOW_S,
) -> Clocks:
    """Compare the venues' clocks with ours.

    ``samples``: ``venue``, ``t_sent``, ``ts_venue``, ``t_recv`` of each round trip, and
    ``ts_venue_sent`` where a venue says two times; see ``Recording.clock_samples``. ``quotes`` and
    ``ledger`` together add what their stamps tell of drift and latency.

    Gives :class:`Clocks`: the frames ``windows`` and ``venues``, in ms and ppm.

    Raises BadUsage if the coin is not clear.
    """
    found = windows(samples.lazy().collect(), round(window_s * NS))
    of = None if ledger is None else coin(ledger, base)
    clock_of = {venue: Course.of(found, venue) for venue in sorted(_names(found, of))}
    streams: Mapping[str, Delays] = {}
    if of is not None and quotes is not None:
        tapes = [quotes] if isinstance(quotes, Table) else list(quotes)
        streams = delays(tapes, of, {name: (c.run(), c.at) for name, c in clock_of.items()})
    rows = [
        _venue(name, found, course, of, streams.get(name, NOTHING))
        for name, course in clock_of.items()
    ]
    return Clocks(found, pl.DataFrame(rows, schema=VENUES))


def on_our_clock(rows: Table, found: Clocks) -> pl.DataFrame:
    """Put the venues' stamps on our clock.

    ``rows``: any table with ``venue``, ``ts_recv`` and ``ts_event``. Adds ``ts_ours``, the stamp
    less its clock's offset at that time, and ``ts_ours_error_ns``; null where either is not known.
    Between two windows the clock is taken to drift evenly, outside them by at most
    ``round_trips.MOST_SKEW``.
    """
    frame = rows.lazy().collect()
    venue = frame["venue"].cast(pl.String).to_numpy()
    ts = frame["ts_recv"].cast(TIME).cast(pl.Int64).to_numpy()
    offset_ms, error_ms = np.full(len(ts), np.nan), np.full(len(ts), np.nan)
    for name in np.unique(venue):
        own = venue == name
        offset_ms[own], error_ms[own] = Course.of(found.windows, str(name)).at(ts[own])
    known = pl.Series(offset_ms * MS, nan_to_null=True).round().cast(pl.Int64)
    error = pl.Series(error_ms * MS, nan_to_null=True).ceil().cast(pl.Int64)
    ours = frame["ts_event"].cast(TIME).cast(pl.Int64) - known
    return frame.with_columns(
        ours.cast(TIME).alias("ts_ours"),
        pl.when(ours.is_not_null()).then(error).alias("ts_ours_error_ns"),
    )


def _names(found: pl.DataFrame, of: Coin | None) -> set[str]:
    markets = () if of is None else of.markets
    return {*found["venue"], *(market.split(":", 1)[0] for market in markets)}


def _venue(
    name: str, found: pl.DataFrame, course: Course, of: Coin | None, stream: Delays
) -> dict[str, object]:
    own = found.filter(venue=name)
    row: dict[str, object] = {
        "venue": name,
        "trusted_s": None if of is None else _trusted_s(of, name),
        "windows": len(course.ts),
        "samples": int(own["samples"].sum()),
        "steps": own.height - own["step_ms"].null_count(),
        "rows": stream.rows,
        "stamp": "ts_event" if stream.rows else None,
    }
    reasons = []
    if len(course.ts):
        low = float((course.offset_ms - course.error_ms).min())
        high = float((course.offset_ms + course.error_ms).max())
        row |= {"offset_ms": (low + high) / 2, "error_ms": (high - low) / 2}
    else:
        reasons.append("no round trip: the offset is not known")
    skew = course.skew_ppm()
    if skew is not None:
        row |= dict(zip(("skew_low_ppm", "skew_high_ppm"), skew, strict=True))
    elif len(course.longest().ts) < LEAST_WINDOWS:
        reasons.append(f"fewer than {LEAST_WINDOWS} windows without a step: drift is not bounded")
    else:
        reasons.append("the clock does not drift evenly")
    row |= stream.columns()
    reasons += [stream.reason] if stream.reason and of is not None else []
    return row | {"reason": "; ".join(reasons) or None}


def _trusted_s(of: Coin, venue: str) -> float:
    own = [spans for market, spans in of.trusted.items() if market.split(":", 1)[0] == venue]
    ends = (zip(s.starts.tolist(), s.ends.tolist(), strict=True) for s in own)
    return union(chain.from_iterable(ends)).total_ns / NS
