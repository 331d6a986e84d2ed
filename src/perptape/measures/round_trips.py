"""Round trips to a venue's clock: the best of each window, steps, and the course between them.

See ``clocks`` for the formulas.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from perptape.align import TIME
from perptape.events import MS, NS
from perptape.kernels import Floats, Ints

MOST_SKEW = 1e-4
"""Two clocks drift apart by no more than this (s per s): what is faster is a step."""
LEAST_WINDOWS = 3
"""With fewer nothing is said of the drift."""
UNITS_NS = (NS, MS, 1000)
"""What stamps may be whole in. Of few stamps it may seem coarser than it is, never finer."""
WINDOWS = {
    "venue": pl.String,
    "ts_window": TIME,
    "ts": TIME,
    **dict.fromkeys(("offset_ms", "error_ms", "delay_ms", "step_ms"), pl.Float64),
    **dict.fromkeys(("samples", "rejected"), pl.Int64),
    "reason": pl.String,
}


def windows(samples: pl.DataFrame, window_ns: int) -> pl.DataFrame:
    """Choose the best answer of each window, and find the steps between them."""
    best = _trips(samples, window_ns).sort("venue", "window", "delay", "ts", nulls_last=True)
    is_good = pl.col("delay").is_not_null()
    found = (
        best.group_by("venue", "window", maintain_order=True)
        .agg(
            pl.col("ts", "offset_ms", "error_ms", "delay").first(),
            samples=is_good.sum().cast(pl.Int64),
            rejected=(~is_good).sum().cast(pl.Int64),
        )
        .with_columns(
            pl.col("ts").cast(TIME),
            delay_ms=pl.col("delay") / MS,
            ts_window=(pl.col("window") * window_ns).cast(TIME),
            reason=pl.when(is_good.not_()).then(pl.lit("no answer that makes sense")),
        )
    )
    stepped = found.filter(is_good).with_columns(_step().alias("step_ms"))
    steps = stepped.select("venue", "window", "step_ms")
    found = found.join(steps, on=["venue", "window"], how="left").sort("venue", "window")
    return found.select(*WINDOWS).cast(WINDOWS)  # type: ignore[arg-type]  # polars wants a wider mapping


def _trips(samples: pl.DataFrame, window_ns: int) -> pl.DataFrame:
    """Work out each round trip; without numbers where it makes no sense."""
    has_two = "ts_venue_sent" in samples.columns
    t1, t2, t3, t4 = (
        pl.col(name).cast(TIME).cast(pl.Int64)
        for name in ("t_sent", "ts_venue", "ts_venue_sent" if has_two else "ts_venue", "t_recv")
    )
    unit = pl.lit(1)
    for ns in reversed(UNITS_NS):
        whole = ((t2 % ns == 0) & (t3 % ns == 0)).all().over("venue")
        unit = pl.when(whole).then(ns).otherwise(unit)
    delay = (t4 - t1) - (t3 - t2)
    good = (delay >= 0) & (t4 >= t1)
    return samples.select(
        pl.col("venue").cast(pl.String),
        window=(t1 + (t4 - t1) // 2) // window_ns,
        ts=pl.when(good).then(t1 + (t4 - t1) // 2),
        offset_ms=pl.when(good).then(((t2 - t1) + (t3 - t4)) / (2 * MS)),
        delay=pl.when(good).then(delay),
        error_ms=pl.when(good).then((delay / 2 + unit * (1.5 if has_two else 1)) / MS),
    ).filter(pl.col("window").is_not_null())


def _step() -> pl.Expr:
    """How far the clock jumped since the window before: further than errors and drift explain."""
    offset, error = pl.col("offset_ms"), pl.col("error_ms")
    change = offset - offset.shift().over("venue")
    ms = (pl.col("ts").cast(pl.Int64) - pl.col("ts").cast(pl.Int64).shift().over("venue")) / MS
    allowed = error + error.shift().over("venue") + MOST_SKEW * ms
    return pl.when(change.abs() > allowed).then(change)


class Course(NamedTuple):
    """One venue's clock at its windows [n]."""

    ts: Ints
    offset_ms: Floats
    error_ms: Floats
    number: Ints
    """Of the run without a step."""

    @classmethod
    def of(cls, windows: pl.DataFrame, venue: str) -> "Course":
        known = windows.filter(venue=venue).filter(pl.col("ts").is_not_null())
        return cls(
            known["ts"].cast(pl.Int64).to_numpy(),
            known["offset_ms"].to_numpy(),
            known["error_ms"].to_numpy(),
            known["step_ms"].is_not_null().cum_sum().cast(pl.Int64).to_numpy(),
        )

    def at(self, ts: Ints) -> tuple[Floats, Floats]:
        """Give offset and bound at any times, in ms; NaN where nothing is known."""
        if not len(self.ts):
            return np.full(len(ts), np.nan), np.full(len(ts), np.nan)
        right = np.searchsorted(self.ts, ts).clip(0, len(self.ts) - 1)
        left = np.maximum(right - 1, 0)
        outside_ns = np.maximum(self.ts[0] - ts, 0) + np.maximum(ts - self.ts[-1], 0)
        jump = np.where(
            self.number[left] == self.number[right],
            0.0,
            np.abs(self.offset_ms[left] - self.offset_ms[right]),
        )
        error = np.maximum(self.error_ms[left], self.error_ms[right]) + jump
        offset = np.interp(ts - self.ts[0], self.ts - self.ts[0], self.offset_ms)
        return offset, error + MOST_SKEW * outside_ns / MS

    def tightened(self) -> "Course":
        """Narrow each bound by those of the other windows of its run.

        What was known for sure at one moment is known at another but for ``MOST_SKEW``. Where that
        contradicts itself a step went unseen, and the run stays as it is.
        """
        low, high = self.offset_ms - self.error_ms, self.offset_ms + self.error_ms
        for run in np.unique(self.number):
            own = self.number == run
            least, most = -_spread(self.ts[own], -low[own]), _spread(self.ts[own], high[own])
            if (least <= most).all():
                low[own], high[own] = least, most
        return self._replace(offset_ms=(low + high) / 2, error_ms=(high - low) / 2)

    def longest(self) -> "Course":
        """Give the windows of the longest run."""
        if not len(self.ts):
            return self
        lengths = [np.ptp(self.ts[self.number == n]) for n in range(self.number[-1] + 1)]
        own = self.number == int(np.argmax(lengths))
        return Course(self.ts[own], self.offset_ms[own], self.error_ms[own], self.number[own])

    def run(self) -> tuple[int | None, int | None]:
        """Give the ends of the longest run, ``None`` where no step ends it."""
        run = self.longest()
        if not len(run.ts):
            return None, None
        first, last = run.ts[0], run.ts[-1]
        return (
            None if first == self.ts[0] else int(first),
            None if last == self.ts[-1] else int(last),
        )

    def skew_ppm(self) -> tuple[float, float] | None:
        """Give the least and the most drift that lines within all bounds of a run have."""
        from scipy.optimize import linprog  # noqa: PLC0415 - it takes long to import

        run = self.longest()
        if len(run.ts) < LEAST_WINDOWS:
            return None
        t = (run.ts - run.ts[0]) / NS
        sides = np.column_stack([np.ones(len(t)), t])
        limits = np.concatenate([run.offset_ms + run.error_ms, run.error_ms - run.offset_ms])
        free = (None, None)
        ends = [
            linprog([0, sign], np.vstack([sides, -sides]), limits, bounds=[free, free])
            for sign in (1, -1)
        ]
        if not all(end.success for end in ends):
            return None
        return 1000 * float(ends[0].x[1]), 1000 * float(ends[1].x[1])  # of ms per s


def _spread(ts: Ints, most_ms: Floats) -> Floats:
    """Let each upper bound hold for the others too, wider by what clocks may drift meanwhile."""
    grown = MOST_SKEW * (ts - ts[0]) / MS
    forward = np.minimum.accumulate(most_ms - grown) + grown
    back = np.minimum.accumulate((most_ms + grown)[::-1])[::-1] - grown
    found: Floats = np.minimum(forward, back)
    return found
