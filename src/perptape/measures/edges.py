"""What was left of a gap at a size: after both taker fees, from both books, some time later.

For a pair (sell i, buy j) and a notional, with Q = notional / best ask of j rounded down to the
least step that both contracts have in common, in base coins, B_i(Q) the mean price of selling Q
into i's bids and A_j(Q) that of buying Q from j's asks::

    edge_bps       = 1e4 (B_i (1 - fee_i) / (A_j (1 + fee_j)) - 1)
    round trip     = 1e4 (B_i (1 - fee_i) (1 - fee_j) / (A_j (1 + fee_j) (1 + fee_i)) - 1)

so a round trip pays four fees, if both prices have met by the time of the way back. An edge exists
where both markets are trusted and both books hold Q; ``depth_share`` is the share of the trusted
time in which they do. Of a market without books the best prices are all its depth (``top``).
Statistics are as those of :mod:`perptape.measures.gaps`: over update events, and ``mean_time`` over
time. Delays are the same for both legs: of the moments at which the edge was at least the
threshold, weighted by how long they stood, what it was so much later.

Capacity is the greatest Q at which the edge is at least the threshold, the best size that of the
greatest profit; both are found by walking both books, and rounded down to whole lots.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from fractions import Fraction

import msgspec
import numpy as np
import polars as pl

from perptape import kernels
from perptape.crew import processors
from perptape.errors import BadUsage
from perptape.events import MS, NS
from perptape.fees import base_fees
from perptape.kernels import BINS_PER_BPS, BPS, FINE, NEVER, Floats
from perptape.measures import parts
from perptape.measures.counts import quantiles
from perptape.measures.legs import delays_of, legs
from perptape.measures.parts import Progress
from perptape.measures.passes import Part, Sums, median, merge, of_series, partial
from perptape.measures.scenes import Asked, Entry, Fees, Scene, Table, scene
from perptape.spells import COARSE_PER_BPS, WEIGHT_MIDDLE

NOTIONALS = (1e3, 1e4, 5e4, 2.5e5)
DELAYS_MS = (0, 5, 20, 50, 100, 250, 1000)
QUANTILES = {"median": Fraction(1, 2), "p5": Fraction(5, 100), "p95": Fraction(95, 100)}
TIME = pl.Datetime("ns", "UTC")
Schema = dict[str, pl.DataType | type[pl.DataType]]
PAIR = {"sell": pl.String, "buy": pl.String, "tier": pl.String}
OF_PAIR = {
    **PAIR,
    "same_quote": pl.Boolean,
    "rate": pl.String,
    "depth": pl.String,
    "trusted_s": pl.Float64,
}
IN_BPS = ("mean_time", "mean", "median", "p5", "p95", "min", "max")
EDGE_COLUMNS = {
    **OF_PAIR,
    "notional": pl.Float64,
    "depth_share": pl.Float64,
    **{f"{name}_bps": pl.Float64 for name in IN_BPS},
    "share_positive": pl.Float64,
    **{f"round_trip_{name}_bps": pl.Float64 for name in ("mean_time", "median", "max")},
    "round_trip_share_positive": pl.Float64,
    "reason": pl.String,
}
DELAY_COLUMNS = {
    **PAIR,
    "notional": pl.Float64,
    "threshold_bps": pl.Float64,
    "delay_ms": pl.Float64,
    "held_s": pl.Float64,
    "mean_bps": pl.Float64,
    "median_bps": pl.Float64,
    "share": pl.Float64,
}
LEG_COLUMNS = {
    **PAIR,
    "notional": pl.Float64,
    "threshold_bps": pl.Float64,
    "sell_delay_ms": pl.Float64,
    "buy_delay_ms": pl.Float64,
    **dict.fromkeys(("held_s", "mean_bps", "median_bps", "share"), pl.Float64),
}
SIZE_COLUMNS: Schema = {
    **OF_PAIR,
    "threshold_bps": pl.Float64,
    "share": pl.Float64,
    "capacity_median": pl.Float64,
    "capacity_max": pl.Float64,
    "profit_share": pl.Float64,
    "profit_median": pl.Float64,
    "best_profit": pl.Float64,
    "best_size": pl.Float64,
    "ts_best": TIME,
}


class Swept(msgspec.Struct, frozen=True):
    """What one pass came to, and what it was asked."""

    scene: Scene
    asked: Asked
    part: Part
    ts_from: int
    ts_to: int

    def trusted_ns(self, entry: Entry) -> int:
        """Time in which all that the pair needs is trusted."""
        return self.scene.common(entry).within(self.ts_from, self.ts_to).total_ns


class Edges(msgspec.Struct, frozen=True):
    """What ``edges`` found, as frames."""

    edges: pl.DataFrame
    """One row for each pair, tier of fees and notional; null, with a ``reason``, where there is
    none. ``rate`` is the market by whose prices one quote currency was turned into the other; a
    pair of different ones without it compares them as if they were worth the same."""
    delays: pl.DataFrame
    """For each of those and each delay: ``held_s``, how long the edge was at least the threshold;
    mean and median of what it then was a delay later; ``share`` of the time in which it was still
    enough. Weighted by time."""
    sizes: pl.DataFrame
    """One row for each pair and tier: ``share`` of trusted time with any capacity at the threshold,
    its median over that time and its most, in base coins; likewise for profit in quote currency at
    the best size; the best moment, and the best size then."""
    legs: pl.DataFrame
    """Like ``delays``, with one delay of either leg; empty unless asked for."""

    def _repr_html_(self) -> str:
        return str(self.edges._repr_html_())


def edges(  # noqa: PLR0913 - each of them changes the numbers
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None = None,
    *,
    fees: Fees | None = None,
    notionals: Sequence[float] = NOTIONALS,
    delays_ms: Sequence[float] = DELAYS_MS,
    threshold_bps: float = 0.0,
    leg_delays_ms: Sequence[float] = (),
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Edges:
    """Measure what could be taken of every ordered pair of one base coin, in one pass.

    ``books``, ``quotes``: the tables of those names, in receive order; of several tapes in their
    order. A market that the ledger trusts books of is measured on these, another on its quotes.
    ``ledger``, ``instruments``: likewise; without instruments nothing is rounded to lots.
    ``fees``: taker fee by venue, a fraction, or such a table for each tier; the base tiers of the
    package if not given. ``notionals`` in quote currency. ``leg_delays_ms``: also measure every
    combination of one delay for each leg. ``ts_from``, ``ts_to``: a closed window in ns.
    ``executor``, ``progress``: as of :func:`perptape.measures.gaps`.

    Gives frames: ``edges`` by pair, tier and notional (quote currency): edge and round trip in bps,
    shares 0 to 1; ``delays`` with ``held_s`` and what the edge was ``delay_ms`` later, in bps;
    ``sizes``: capacity in base coins, profit in quote currency; ``legs`` if they were asked for.

    Raises BadUsage if the coin is not clear, Failed if rows are not in receive order.
    """
    swept = measured(
        books, quotes, ledger, instruments, fees=fees, base=base, ts_from=ts_from, ts_to=ts_to,
        asked=asking(notionals, [threshold_bps], None, delays_ms),
        executor=executor, progress=progress,
    )  # fmt: skip
    return Edges(
        edges=edge_table(swept),
        delays=delay_table(swept),
        sizes=size_table(swept),
        legs=_legs(swept, _tables(books), _tables(quotes), leg_delays_ms),
    )


def asking(
    notionals: Sequence[float],
    enters_bps: Sequence[float],
    leaves_bps: Sequence[float] | None,
    delays_ms: Sequence[float],
) -> Asked:
    """Put in order what is asked; raises BadUsage for what cannot be meant."""
    enters, leaves = list(enters_bps), list(enters_bps if leaves_bps is None else leaves_bps)
    if not all(0 < n < np.inf for n in notionals) or not notionals:
        raise BadUsage("A notional is a positive number of quote units.")
    if len(enters) != len(leaves) or any(x < y for x, y in zip(enters, leaves, strict=True)):
        raise BadUsage("An episode closes below a threshold that is not above the one to open.")
    if any(not 0 <= delay < np.inf for delay in delays_ms):
        raise BadUsage("A delay is a number of ms from 0 on.")
    both = sorted(set(zip(map(float, enters), map(float, leaves), strict=True)))
    return Asked(
        notionals=tuple(sorted({float(n) for n in notionals})),
        enters_bps=tuple(enter for enter, _ in both),
        leaves_bps=tuple(leave for _, leave in both),
        delays_ns=tuple(sorted({round(delay * MS) for delay in delays_ms})),
    )


def measured(  # noqa: PLR0913 - what to read, and what to ask of it
    books: Table | Sequence[Table] | None,
    quotes: Table | Sequence[Table],
    ledger: Table,
    instruments: Table | None,
    *,
    fees: Fees | None,
    asked: Asked,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Swept:
    """Read books and quotes for all that is asked: once, but for what a part's books began with."""
    books_of, quotes_of = _tables(books), _tables(quotes)
    of = scene(
        ledger, instruments, base_taker_fees() if fees is None else fees,
        base=base, has_books=bool(books_of),
    )  # fmt: skip
    first, last = (-NEVER if ts_from is None else ts_from), (NEVER if ts_to is None else ts_to)
    tables = [*books_of, *quotes_of]
    length = parts.rows(tables)
    # Each part reads anew what its books were made of, so there are no more than can go at once.
    most = processors() if length > parts.ROWS_OF_PART else 1
    given = [
        (books_of, quotes_of, of, asked, part, last)
        for part in parts.cuts(first, NEVER, of.coin.span(), most)
    ]
    with parts.hands(executor, tables, length) as crew:
        found = parts.added(_part, given, merge, crew, progress)
    return Swept(of, asked, found, first, last)


def _part(  # noqa: PLR0913, PLR0917 - sent to a worker, and so by place
    books: Sequence[Table], quotes: Sequence[Table], of: Scene, asked: Asked,
    part: tuple[int, int], ts_to: int,
) -> Part:  # fmt: skip
    return partial(books, quotes, of, asked, since=part[0], until=part[1], ts_to=ts_to)


def base_taker_fees() -> dict[str, float]:
    """What each venue charges at its base tier, by the package's own table."""
    return {venue: fee.taker for venue, fee in base_fees().items()}


def _tables(given: Table | Sequence[Table] | None) -> list[Table]:
    if given is None:
        return []
    return [given] if isinstance(given, Table) else list(given)


# ---- tables -------------------------------------------------------------------------------------


def of_pair(swept: Swept, entry: Entry) -> dict[str, object]:
    """What every row says of its pair."""
    return {
        "sell": entry.sell,
        "buy": entry.buy,
        "tier": entry.tier,
        "same_quote": entry.same_quote,
        "rate": entry.rate,
        "depth": swept.scene.depth(entry),
        "trusted_s": swept.trusted_ns(entry) / NS,
    }


def streams(scene: Scene, asked: Asked) -> Iterable[tuple[int, Entry, float]]:
    """Give number, pair and notional of every stream."""
    width = len(asked.notionals)
    for p, entry in enumerate(scene.entries):
        for n, notional in enumerate(asked.notionals):
            yield p * width + n, entry, notional


def edge_table(swept: Swept) -> pl.DataFrame:
    """One row for each pair, tier and notional."""
    rows = [
        {
            **of_pair(swept, entry),
            "notional": notional,
            **_edge_row(swept, s, entry),
        }
        for s, entry, notional in streams(swept.scene, swept.asked)
    ]
    return pl.DataFrame(rows, schema=EDGE_COLUMNS)


def _edge_row(swept: Swept, s: int, entry: Entry) -> dict[str, object]:
    sums, trusted_ns = swept.part.sums[s], swept.trusted_ns(entry)
    share = sums.defined_ns / trusted_ns if trusted_ns else None
    if not sums.n:
        return {"depth_share": share, "reason": _why_none(swept, entry, sums)}
    found = spread(swept.part, s)
    found["mean_time"] = sums.fine_ns / (sums.defined_ns * int(FINE)) if sums.defined_ns else None
    back = {
        name: None if (x := found[name]) is None else entry.back * x + BPS * (entry.back - 1)
        for name in ("mean_time", "median", "max")
    }
    return {
        "depth_share": share,
        **{f"{name}_bps": found[name] for name in IN_BPS},
        "share_positive": sums.positive / sums.n,
        **{f"round_trip_{name}_bps": x for name, x in back.items()},
        "round_trip_share_positive": sums.back_positive / sums.n,
    }


def _why_none(swept: Swept, entry: Entry, sums: Sums) -> str:
    unpriced = [
        market.partition(":")[0]
        for market, fee in ((entry.sell, entry.fee_sell), (entry.buy, entry.fee_buy))
        if np.isnan(fee)
    ]
    if unpriced:
        return f"no fee is known of {', '.join(unpriced)}"
    if not swept.trusted_ns(entry):
        return "never trusted at the same time"
    if sums.thin_ns:
        return "the books never held so much"
    return "no prices at the same time"


def spread(part: Part, s: int) -> dict[str, float | None]:
    """Give a stream's statistics over events, in bps; there are some.

    Quantiles are right to half a bin and never outside the extremes, which are exact.
    """
    sums, least, most = part.sums[s], float(part.least[s]), float(part.most[s])
    keys, counts = of_series(part.keys, part.counts, s, middle=WEIGHT_MIDDLE)
    values = np.clip(keys / BINS_PER_BPS, least, most)
    found = quantiles(values, counts, list(QUANTILES.values()))
    return {
        **dict(zip(QUANTILES, found, strict=True)),
        "mean": sums.fine / (sums.n * int(FINE)),
        "min": least,
        "max": most,
    }


def delay_table(swept: Swept) -> pl.DataFrame:
    """One row for each pair, tier, notional, threshold and delay."""
    asked, part = swept.asked, swept.part
    rows: list[dict[str, object]] = []
    for s, entry, notional in streams(swept.scene, swept.asked):
        for h, threshold in enumerate(asked.enters_bps):
            for d, delay_ns in enumerate(asked.delays_ns):
                at = (s * len(asked.enters_bps) + h) * len(asked.delays_ns) + d
                of = {"sell": entry.sell, "buy": entry.buy, "tier": entry.tier}
                where = {"notional": notional, "threshold_bps": threshold}
                rows.append({**of, **where, "delay_ms": delay_ns / MS, **_lag_row(part, at)})
    return pl.DataFrame(rows, schema=DELAY_COLUMNS)


def _lag_row(part: Part, at: int) -> dict[str, object]:
    lag = part.lags[at]
    row: dict[str, object] = {"held_s": lag.held_ns / NS}
    if lag.held_ns:
        row["share"] = lag.kept_ns / lag.held_ns
    if lag.lagged_ns:
        bins, weights = of_series(part.names, part.weights, at, middle=WEIGHT_MIDDLE)
        row["mean_bps"] = lag.fine_ns / (lag.lagged_ns * int(FINE))
        row["median_bps"] = median(bins / COARSE_PER_BPS, weights)
    return row


def _legs(
    swept: Swept, books: list[Table], quotes: list[Table], delays_ms: Sequence[float]
) -> pl.DataFrame:
    """One row for each pair, tier, notional, threshold, and delay of either leg."""
    rows: list[dict[str, object]] = []
    if len(delays_ms):
        asked = asking(swept.asked.notionals, swept.asked.enters_bps, None, delays_ms)
        scene, part = legs(
            books, quotes, swept.scene, asked, asked.delays_ns,
            ts_from=swept.ts_from, ts_to=swept.ts_to,
        )  # fmt: skip
        rows = [
            {
                "sell": scene.entries[entry.leader].sell,
                "buy": scene.entries[entry.leader].buy,
                "tier": entry.tier,
                "notional": notional,
                "threshold_bps": threshold,
                **dict(zip(("sell_delay_ms", "buy_delay_ms"), delays_of(entry), strict=True)),
                **_lag_row(part, s * len(asked.enters_bps) + h),
            }
            for s, entry, notional in streams(scene, asked)
            if entry.leader >= 0
            for h, threshold in enumerate(asked.enters_bps)
        ]
    return pl.DataFrame(rows, schema=LEG_COLUMNS)


def size_table(swept: Swept) -> pl.DataFrame:
    """One row for each pair, tier and threshold."""
    asked, part = swept.asked, swept.part
    rows: list[dict[str, object]] = []
    first, width = len(part.lags), len(asked.enters_bps) + 1
    for p, entry in enumerate(swept.scene.entries):
        trusted_ns, best = swept.trusted_ns(entry), part.bests[p]
        gained: dict[str, object] = {
            "profit_share": best.gain_ns / trusted_ns if trusted_ns else None
        }
        if best.gain > 0:
            gained |= {
                "profit_median": _middle(part, first + p * width + width - 1),
                "best_profit": best.gain,
                "best_size": best.size,
                "ts_best": best.ts,
            }
        for h, threshold in enumerate(asked.enters_bps):
            time_ns, most = int(part.capacity_ns[p, h]), float(part.capacity_most[p, h])
            rows.append(
                {
                    **of_pair(swept, entry),
                    "threshold_bps": threshold,
                    "share": time_ns / trusted_ns if trusted_ns else None,
                    "capacity_median": _middle(part, first + p * width + h),
                    "capacity_max": most if trusted_ns or most else None,
                    **gained,
                }
            )
    return pl.DataFrame(rows, schema=SIZE_COLUMNS)


def _middle(part: Part, series: int) -> float | None:
    """Give the median over time of numbers that were weighed by their upper bits."""
    keys, weights = of_series(part.names, part.weights, series, middle=0)
    values: Floats = (keys << kernels.MANTISSA_SHIFT).view(np.float64)
    return median(values, weights)
