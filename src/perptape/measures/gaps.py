"""How far apart two markets were: the gap of every ordered pair, and what fees leave of it.

For a pair (sell i, buy j), with b the best bid and a the best ask per base coin::

    gap_bps  = 1e4 (b_i / a_j - 1)
    edge_bps = 1e4 (b_i (1 - fee_i) / (a_j (1 + fee_j)) - 1)

Both exist only where both markets are trusted, both prices are known and neither quote is older
than the maximum age. ``mean``, ``median``, ``p5``, ``p95``, ``min``, ``max`` and
``share_positive`` (> 0) are over events: the distinct ``ts_recv`` at which either market had a row,
after all rows of that time. ``mean_time`` weights each value by how long it stood: the sum of
x dt over the sum of dt. The grid samples the last known values, inclusively, at multiples of
100 ms since the epoch.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from fractions import Fraction
from itertools import accumulate, permutations

import msgspec
import numpy as np
import polars as pl

from perptape import kernels, weave
from perptape.align import Coin, coin, later, quote_of, standing
from perptape.crew import Job, results
from perptape.events import NS
from perptape.findings import Grid, Latency, Market, Pair, Spread
from perptape.kernels import BINS_PER_BPS, BPS, FINE, NEVER, Floats
from perptape.measures import parts
from perptape.measures.counts import quantiles
from perptape.measures.pairs import Counted, PairSums, Part, Window, merge, partial
from perptape.measures.parts import Progress
from perptape.series import Drawn, Series

QUANTILES = {"median": Fraction(1, 2), "p5": Fraction(5, 100), "p95": Fraction(95, 100)}
LATENCY_QUANTILES = (Fraction(1, 2), Fraction(99, 100))
STEP_MS = kernels.STEP_NS // 1_000_000
Quotes = pl.DataFrame | pl.LazyFrame


class Result(msgspec.Struct, frozen=True):
    """What ``gaps`` found, as structs for programs and pages, and as frames for a notebook."""

    found_markets: tuple[Market, ...]
    found_pairs: tuple[Pair, ...]
    """Every ordered pair, by name; without numbers where there were no samples."""
    series: Series
    """To draw; empty unless buckets were asked for."""
    series_ratios: Mapping[tuple[str, str], Floats]
    """[n, 5] by (sell, buy): first, least, most, last and time mean of bid / ask in each bucket."""

    @property
    def markets(self) -> pl.DataFrame:
        """One row a market."""
        return pl.DataFrame(
            [
                {
                    "market": m.market,
                    "quotes": m.quotes,
                    "trusted_s": m.trusted_s,
                    "untrusted_s": m.untrusted_s,
                    "latency_p50_ms": m.latency_ms and m.latency_ms.p50,
                    "latency_p99_ms": m.latency_ms and m.latency_ms.p99,
                }
                for m in self.found_markets
            ],
            schema=MARKET_COLUMNS,
        )

    @property
    def pairs(self) -> pl.DataFrame:
        """One row a pair; null where there were no samples."""
        return pl.DataFrame([_row(p) for p in self.found_pairs], schema=PAIR_COLUMNS)

    def to_json(self) -> bytes:
        """``{"markets": [...], "pairs": [...]}``; what was not computed is absent."""
        return msgspec.json.encode({"markets": self.found_markets, "pairs": self.found_pairs})


MARKET_COLUMNS = {
    "market": pl.String,
    "quotes": pl.Int64,
    **{f"{name}_s": pl.Float64 for name in ("trusted", "untrusted")},
    **{f"latency_{name}_ms": pl.Float64 for name in ("p50", "p99")},
}
IN_BPS = ("mean_time", "mean", "median", "p5", "p95", "min", "max")
GRID_IN_BPS = IN_BPS[1:]
PAIR_COLUMNS = {
    "sell": pl.String,
    "buy": pl.String,
    "same_quote": pl.Boolean,
    "trusted_s": pl.Float64,
    **{f"gap_{name}_bps": pl.Float64 for name in IN_BPS},
    "gap_share_positive": pl.Float64,
    **{f"grid_{name}_bps": pl.Float64 for name in GRID_IN_BPS},
    "grid_share_positive": pl.Float64,
    **{f"edge_{name}_bps": pl.Float64 for name in IN_BPS},
    "edge_share_positive": pl.Float64,
    "top_notional": pl.Float64,
}


def _row(pair: Pair) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(pair, name)
        for name in ("sell", "buy", "same_quote", "trusted_s", "top_notional")
    }
    found = {"gap": pair.gap_bps, "grid": pair.grid, "edge": pair.edge_bps}
    for prefix, spread in found.items():
        for name in GRID_IN_BPS if prefix == "grid" else IN_BPS:
            row[f"{prefix}_{name}_bps"] = None if spread is None else getattr(spread, name)
        row[f"{prefix}_share_positive"] = None if spread is None else spread.share_positive
    return row


def gaps(  # noqa: PLR0913 - each of them changes the numbers
    quotes: Quotes | Sequence[Quotes],
    ledger: Quotes,
    *,
    fees: Mapping[str, float] | None = None,
    base: str | None = None,
    max_age_s: float | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
    buckets: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure every ordered pair of one base coin, in one pass and bounded memory.

    ``quotes``: the table of that name, in receive order; of several tapes in their order.
    ``ledger``: the table of that name; its markets are those that are paired.
    ``fees``: taker fee by venue, a fraction; without both there is no edge.
    ``base``: which coin, if the ledger has several. ``ts_from``, ``ts_to``: a closed window in ns.
    ``buckets``: how many ``series`` has, over the window. ``executor``: who measures the parts of
    a long tape; if not given, processes where the tables are files, else threads. ``progress`` is
    called with how many parts are done, of how many. Neither changes a number.

    Gives ``markets`` (quotes, trusted time in s, latency in ms) and ``pairs`` (``gap_*_bps`` over
    events, ``grid_*_bps`` each 100 ms, ``edge_*_bps`` after fees at the best prices, the shares
    above 0, ``top_notional`` in quote currency) as frames, and the same as structs.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    of = coin(ledger, base)
    window = Window(
        ts_from=-NEVER if ts_from is None else ts_from,
        ts_to=NEVER if ts_to is None else ts_to,
        max_age_ns=None if max_age_s is None else round(max_age_s * NS),
        buckets=buckets,
    )
    kept = _kept(of, fees or {})
    tapes = [quotes] if isinstance(quotes, Quotes) else list(quotes)
    found = _found(tapes, of, window, kept, executor, progress)
    return Result(
        tuple(_market(of, window, found, place) for place in range(len(of.markets))),
        tuple(
            _pair(of, window, float(kept[i, j]), found.sums(i, j), (i, j))
            for i, j in permutations(range(len(of.markets)), 2)
        ),
        _series(of, window, found),
        _ratios(of, found),
    )


def _found(  # noqa: PLR0913, PLR0917 - what to measure, and how
    tapes: Sequence[Quotes],
    of: Coin,
    window: Window,
    kept: Floats,
    executor: Executor | None,
    progress: Progress | None,
) -> Part:
    length = parts.rows(tapes)
    cuts = parts.cuts(window.ts_from, NEVER, of.span(), 1 + length // parts.ROWS_OF_PART)
    with parts.hands(executor, tapes, length) as crew:
        # What stands where a part begins was said in the part before it, or in one before that.
        begins = [(-NEVER, cuts[0][0]), *cuts[:-1]]
        jobs = (Job(standing, (tapes, of, *stretch)) for stretch in begins)
        heads = accumulate(results(jobs, crew), lambda old, new: later([old, new]))
        given = [
            (tapes, of, window, kept, part, before)
            for part, before in zip(cuts, heads, strict=True)
        ]
        return parts.added(partial, given, merge, crew, progress)


def _kept(of: Coin, fees: Mapping[str, float]) -> Floats:
    """What both fees leave of a ratio, [M, M]; NaN where one is not known."""
    fee = np.array([fees.get(market.split(":", 1)[0], np.nan) for market in of.markets])
    kept: Floats = (1 - fee)[:, None] / (1 + fee)[None, :]
    return kept


def _market(of: Coin, window: Window, found: Part, place: int) -> Market:
    name = of.markets[place]
    us, counts = found.latencies.of(place)
    latency = None
    if len(us):
        latency = Latency(*quantiles(us / 1000, counts, LATENCY_QUANTILES))
    return Market(
        market=name,
        quotes=int(found.quotes[place]),
        trusted_s=of.trusted[name].within(window.ts_from, window.ts_to).total_ns / NS,
        untrusted_s=of.untrusted[name].within(window.ts_from, window.ts_to).total_ns / NS,
        latency_ms=latency,
    )


def _pair(of: Coin, window: Window, kept: float, sums: PairSums, places: tuple[int, int]) -> Pair:
    sell, buy = (of.markets[place] for place in places)
    common = of.trusted[sell].within(window.ts_from, window.ts_to).common(of.trusted[buy])
    gap = _spread(sums)
    return Pair(
        sell=sell,
        buy=buy,
        same_quote=quote_of(sell) == quote_of(buy),
        trusted_s=common.total_ns / NS,
        gap_bps=gap,
        grid=_grid(sums.grid),
        edge_bps=None if gap is None or np.isnan(kept) else _edge(gap, kept, sums),
        top_notional=_notional(sums),
    )


def _spread(sums: PairSums) -> Spread | None:
    if not sums.events.n:
        return None
    mean_time = sums.fine_ns / (sums.defined_ns * int(FINE)) if sums.defined_ns else None
    return Spread(mean_time=mean_time, **_numbers(sums.events))


def _grid(samples: Counted) -> Grid | None:
    return Grid(step_ms=STEP_MS, **_numbers(samples)) if samples.n else None


def _numbers(samples: Counted) -> dict[str, float]:
    """Quantiles are right to half a bin and never outside the extremes, which are exact."""
    least, most = (BPS * (ratio - 1) for ratio in (samples.least, samples.most))
    values = np.clip(samples.keys / BINS_PER_BPS, least, most)
    found = quantiles(values, samples.counts, list(QUANTILES.values()))
    return {
        **dict(zip(QUANTILES, found, strict=True)),
        "mean": samples.fine / (samples.n * int(FINE)),
        "min": least,
        "max": most,
        "share_positive": samples.positive / samples.n,
    }


def _edge(gap: Spread, kept: float, sums: PairSums) -> Spread:
    """The edge is a line in the gap: only the share of those > 0 is its own."""
    found = {
        name: None if (x := getattr(gap, name)) is None else kept * x + BPS * (kept - 1)
        for name in IN_BPS
    }
    return Spread(**found, share_positive=sums.edge_positive / sums.events.n)


def _notional(sums: PairSums) -> float | None:
    if not len(sums.notional_keys):
        return None
    values = (sums.notional_keys << kernels.MANTISSA_SHIFT).view(np.float64)
    return quantiles(values, sums.notional_counts, [QUANTILES["median"]])[0]


def _series(of: Coin, window: Window, found: Part) -> Series:
    start, step_ns = window.axis(of)
    places = range(len(of.markets))
    return Series(
        ts=start + step_ns * np.arange(window.buckets),
        step_ns=step_ns,
        bids={of.markets[m]: _drawn(found.side(m, 0)) for m in places},
        asks={of.markets[m]: _drawn(found.side(m, 1)) for m in places},
        gaps_bps={
            (of.markets[i], of.markets[j]): _drawn(BPS * (found.ratio(i, j) - 1))
            for i, j in permutations(places, 2)
        },
    )


def _drawn(buckets: Floats) -> Drawn:
    columns = (weave.LOWEST, weave.HIGHEST, weave.LAST)
    return Drawn(*(np.ascontiguousarray(buckets[:, column]) for column in columns))


def _ratios(of: Coin, found: Part) -> dict[tuple[str, str], Floats]:
    return {
        (of.markets[i], of.markets[j]): found.ratio(i, j)
        for i, j in permutations(range(len(of.markets)), 2)
    }
