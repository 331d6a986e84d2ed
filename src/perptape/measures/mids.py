"""The mids of the markets of one coin: step functions that know where nothing is known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perptape.align import Coin, Spans, coin, pieces
from perptape.errors import BadUsage
from perptape.events import NS
from perptape.kernels import NEVER, Floats, Ints

Table = pl.DataFrame | pl.LazyFrame
CLOCKS = ("recv", "event")


class Path(NamedTuple):
    """A step function: ``log_mid[k]`` stands from ``ts[k]`` until ``ts[k + 1]``; NaN: not known."""

    ts: Ints
    """Ascending, no two alike."""
    log_mid: Floats
    stretch: Ints
    """Number of the trusted stretch: nothing is carried from one into another."""


class Joint(NamedTuple):
    """Two paths where both are known [n]: ``x`` and ``y`` stand from ``ts`` until ``until``."""

    ts: Ints
    until: Ints
    x: Floats
    y: Floats
    stretch: Ints
    """From 0 on; between two, one of the paths was not known or not trusted."""

    def sampled(self, step_ns: int) -> "Joint":
        """Take the values at multiples of a step since the epoch."""
        first = -(-self.ts // step_ns)
        counts = np.maximum((self.until - 1) // step_ns - first + 1, 0)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        points = np.repeat(first, counts) + np.arange(counts.sum()) - before
        return Joint(
            points * step_ns,
            (points + 1) * step_ns,
            np.repeat(self.x, counts),
            np.repeat(self.y, counts),
            np.repeat(self.stretch, counts),
        )

    def stretches(self) -> Iterator["Joint"]:
        """Give each stretch by itself."""
        cuts = np.flatnonzero(np.diff(self.stretch)) + 1
        for arrays in zip(*(np.split(a, cuts) for a in self), strict=True):
            if len(arrays[0]):
                yield Joint(*arrays)


class Mids(NamedTuple):
    """The paths of one coin by market, and the time they stand on."""

    coin: Coin
    paths: Mapping[str, Path]
    trusted: Mapping[str, Spans]

    def trusted_s(self, first: str, second: str) -> float:
        """Time in which both were trusted."""
        return self.trusted[first].common(self.trusted[second]).total_ns / NS

    def joint(self, first: str, second: str) -> Joint:
        """Put two markets side by side at the times of either."""
        return joined(self.paths[first], self.paths[second])


def mids(  # noqa: PLR0913 - each of them changes the paths
    quotes: Table | Sequence[Table],
    ledger: Table,
    *,
    base: str | None = None,
    max_age_s: float | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
    clock: str = "recv",
) -> Mids:
    """Read the mids of every market of a coin on trusted time, from rows in a closed window in ns.

    ``clock``: ``recv`` is ours. ``event`` is each venue's own; quotes without its stamp, or with
    one that is earlier than a stamp before, are left out.

    Raises BadUsage if the coin or the clock is not clear.
    """
    if clock not in CLOCKS:
        raise BadUsage(f"There is no clock {clock!r}: it is {' or '.join(CLOCKS)}.")
    of = coin(ledger, base)
    window = (-NEVER if ts_from is None else ts_from, NEVER if ts_to is None else ts_to)
    trusted = {market: spans.within(*window) for market, spans in of.trusted.items()}
    tapes = [quotes] if isinstance(quotes, Table) else list(quotes)
    age_ns = None if max_age_s is None else round(max_age_s * NS)
    paths = {
        name: closed(heard.stamped() if clock == "event" else heard, age_ns)
        for name, heard in _heard(tapes, of, trusted, window).items()
    }
    return Mids(of, paths, trusted)


class _Heard(NamedTuple):
    """Rows of one market on trusted time, in receive order [n]."""

    ts: Ints
    log_mid: Floats
    stretch: Ints
    ts_event: Ints
    ends: Ints
    """[k]: where each stretch ends."""

    def stamped(self) -> "_Heard":
        """Go over to the venue's stamps, each stretch until the last of them."""
        is_news = self.ts_event != -NEVER
        is_news &= self.ts_event >= np.maximum.accumulate(self.ts_event)
        ts, log_mid, stretch = (a[is_news] for a in (self.ts_event, self.log_mid, self.stretch))
        ends = np.full(len(self.ends), -NEVER)
        np.maximum.at(ends, stretch, ts)
        return _Heard(ts, log_mid, stretch, ts, ends)


def _heard(
    tapes: Sequence[Table], of: Coin, trusted: Mapping[str, Spans], window: tuple[int, int]
) -> dict[str, _Heard]:
    nothing = np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
    parts: list[list[tuple[Ints, Floats, Ints]]] = [[nothing] for _ in trusted]
    for piece in pieces(tapes, of, ts_from=window[0], ts_to=window[1]):
        log_mid = _log_mid(piece.chunk.bid, piece.chunk.ask)
        for place, part in enumerate(parts):
            own = piece.chunk.market == place
            part.append((piece.chunk.ts[own], log_mid[own], piece.ts_event[own]))
    whole = ([np.concatenate(column) for column in zip(*part, strict=True)] for part in parts)
    return {
        name: _rows(trusted[name], *columns) for name, columns in zip(trusted, whole, strict=True)
    }


def _log_mid(bid: Floats, ask: Floats) -> Floats:
    known = (bid > 0) & (ask > 0) & np.isfinite(bid) & np.isfinite(ask)
    found: Floats = np.log(np.where(known, bid + ask, np.nan) / 2)
    return found


def _rows(trusted: Spans, ts: Ints, log_mid: Floats, ts_event: Ints) -> _Heard:
    """Keep what came on trusted time."""
    stretch, inside = placed(trusted, ts)
    return _Heard(ts[inside], log_mid[inside], stretch[inside], ts_event[inside], trusted.ends)


def placed(spans: Spans, ts: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Give the number of the span that began last before each time, and whether it holds it."""
    number = np.searchsorted(spans.starts, ts, side="right") - 1
    inside = number >= 0
    inside[inside] = ts[inside] <= spans.ends[number[inside]]
    return number, inside


def closed(heard: _Heard, age_ns: int | None = None) -> Path:
    """End each value where its stretch ends or it is too old; of one time the last row stands."""
    last = np.diff(heard.ts, append=NEVER) > 0
    ts, log_mid, stretch = heard.ts[last], heard.log_mid[last], heard.stretch[last]
    following = np.append(ts[1:], NEVER)[: len(ts)]
    until = heard.ends[stretch] + 1
    if age_ns is not None:
        until = np.minimum(until, ts + age_ns + 1)
    (at,) = np.nonzero(until < following)
    return Path(
        np.insert(ts, at + 1, until[at]),
        np.insert(log_mid, at + 1, np.nan),
        np.insert(stretch, at + 1, stretch[at]),
    )


def joined(first: Path, second: Path) -> Joint:
    """Put two paths side by side at the times of either, where both are known."""
    ts = np.union1d(first.ts, second.ts)
    (x, of_x), (y, of_y) = (_as_of(path, ts) for path in (first, second))
    known = ~np.isnan(x) & ~np.isnan(y)
    is_new = known.copy()
    is_new[1:] &= ~known[:-1] | (np.diff(of_x) != 0) | (np.diff(of_y) != 0)
    stretch = np.cumsum(is_new, dtype=np.int64) - 1
    until = np.append(ts[1:], ts[-1:])
    return Joint(ts[known], until[known], x[known], y[known], stretch[known])


def _as_of(path: Path, ts: Ints) -> tuple[Floats, Ints]:
    at = np.searchsorted(path.ts, ts, side="right") - 1
    if not len(path.ts):
        return np.full(len(ts), np.nan), at
    return np.where(at >= 0, path.log_mid[at], np.nan), path.stretch[at]
