"""Small books by hand, and the definitions again, slowly: a Python loop over moments."""

import math
from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise

import polars as pl

from .tape import _market

TIME = pl.Datetime("ns", "UTC")
MS = 1_000_000
NS = 1_000_000_000


def books(updates):
    """(ts ns, venue or market, is snapshot, bids, asks) -> the books table; levels best first."""
    rows = []
    for seq, (ts, name, is_snapshot, bids, asks) in enumerate(updates):
        venue, instrument = _market(name)
        for side, levels in (("bid", bids), ("ask", asks)):
            rows += [
                (venue, instrument, seq, ts, side, float(p), s, seq, is_snapshot) for p, s in levels
            ]
    names = ("venue", "instrument", "seq", "ts_recv", "side", "price", "size", "update_id")
    return pl.DataFrame(
        rows,
        schema={
            **dict.fromkeys(names, pl.Int64),
            **dict.fromkeys(("venue", "instrument", "side"), pl.Categorical),
            "seq": pl.UInt64,
            **dict.fromkeys(("price", "size"), pl.Float64),
            "is_snapshot": pl.Boolean,
        },
        orient="row",
    ).with_columns(pl.col("ts_recv").cast(TIME))


def heard(trusted, channels=("quotes", "books")):
    """(venue or market, start, end) each -> the ledger of these channels."""
    rows = [(*_market(name), c, s, e, "trusted") for c in channels for name, s, e in trusted]
    names = ("venue", "instrument", "channel", "ts_start", "ts_end", "state")
    schema = {**dict.fromkeys(names, pl.String), "ts_start": TIME, "ts_end": TIME}
    return pl.DataFrame(rows, schema=schema, orient="row")


def lots(**of):
    """venue=lot -> the instruments table."""
    rows = [(venue, "BTC-USDT-PERP", "linear", lot, 0) for venue, lot in of.items()]
    names = ("venue", "instrument", "kind", "lot_size", "ts_seen")
    schema = {**dict.fromkeys(names, pl.String), "lot_size": pl.Float64, "ts_seen": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def vwap(levels, size):
    """A(Q) of the definitions, or None."""
    left, money = size, 0.0
    for price, held in levels:
        taken = min(held, left)
        money, left = money + taken * price, left - taken
    return None if left > 1e-9 * size else money / size


def edge(bids, asks, size, fees):
    """E(Q) in bps, or minus infinity where a book holds too little."""
    if not size or vwap(bids, size) is None or vwap(asks, size) is None:
        return -math.inf
    sold, bought = vwap(bids, size), vwap(asks, size)
    return 1e4 * (sold * (1 - fees[0]) / (bought * (1 + fees[1])) - 1)


def states(updates, trusted, name):
    """[(ts, bids, asks)] from which each state stands; None where it is not known."""
    spans = [(s, e) for m, s, e in trusted if m == name]
    known, sides, found = False, ({}, {}), []
    own = [u for u in updates if u[1] == name]
    moments = sorted({u[0] for u in own} | {e + Fraction(1, 2) for _, e in spans})
    for t in moments:
        if any(t == e + Fraction(1, 2) for _, e in spans):
            known = False
        for u in (u for u in own if u[0] == t):
            if u[2]:
                sides = ({}, {})
            for side, levels in zip(sides, u[3:], strict=True):
                side.update({p: s for p, s in levels if s})
                for p, s in levels:
                    if not s:
                        side.pop(p, None)
            known = known or any(s <= t <= e for s, e in spans)
        state = sorted(sides[0].items(), reverse=True), sorted(sides[1].items())
        found.append((t, state if known else None))
    return found


class Slow:
    """One pair at one notional, straight from the definitions."""

    def __init__(self, updates, trusted, sell, buy, *, fees=(0, 0), notional=100.0, lot=0.0):  # noqa: PLR0913
        self.fees, self.notional, self.lot = fees, notional, lot
        self.sells, self.buys = (states(updates, trusted, name) for name in (sell, buy))
        self.events = sorted({u[0] for u in updates if u[1] in {sell, buy}})
        moments = sorted({t for t, _ in self.sells + self.buys})
        self.steps = [(t, self._value(t)) for t in moments]
        self.times = [t for t, _ in self.steps]

    def _at(self, found, t):
        k = bisect_right([when for when, _ in found], t) - 1
        return None if k < 0 else found[k][1]

    def _value(self, t):
        i, j = self._at(self.sells, t), self._at(self.buys, t)
        if i is None or j is None:
            return math.nan
        if not i[0] or not j[1]:
            return -math.inf
        size = self.notional / j[1][0][0]
        size = math.floor(size / self.lot + 1e-9) * self.lot if self.lot else size
        return edge(i[0], j[1], size, self.fees)

    def at(self, t):
        k = bisect_right(self.times, t) - 1
        return math.nan if k < 0 else self.steps[k][1]

    def stretches(self):
        """(start, end, edge): whole ns, the half after the end of trust taken away."""
        for (a, x), (b, _) in pairwise(self.steps):
            yield math.floor(a), math.floor(b), x

    def mean_time(self):
        parts = [(b - a, Fraction(x)) for a, b, x in self.stretches() if math.isfinite(x)]
        span = sum(length for length, _ in parts)
        return float(sum(length * x for length, x in parts) / span) if span else None

    def thin_ns(self):
        return sum(b - a for a, b, x in self.stretches() if x == -math.inf)

    def at_events(self):
        return [x for t in self.events if math.isfinite(x := self.at(t))]

    def episodes(self, enter, leave):
        """Give (start, end, is censored, is truncated, peak) of each."""
        found, start, peak, before = [], None, None, math.nan
        truncated = False
        for t, x in self.steps:
            if start is not None and not x >= leave:
                found.append((start, math.floor(t), math.isnan(x), truncated, peak))
                start = None
            if start is None and x >= enter:
                start, truncated, peak = t, math.isnan(before), x
            peak = x if start is not None and x > peak else peak
            before = x
        return found

    def persistence(self, threshold, delay):
        """(held ns, kept ns, mean): by every pair of stretches."""
        held = kept = 0
        area, span = Fraction(0), 0
        for a, b, x in self.stretches():
            if not x >= threshold:
                continue
            for c, d, y in self.stretches():
                length = min(b, d - delay) - max(a, c - delay)
                if length > 0 and not math.isnan(y):
                    held += length
                    kept += length if y >= threshold else 0
                    if math.isfinite(y):
                        area, span = area + Fraction(y) * length, span + length
        return held, kept, float(area / span) if span else None
