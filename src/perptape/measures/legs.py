"""One delay for the sale and another for the purchase: what an edge was when both had arrived.

Of the moments t at which the edge of both books at t was at least the threshold: the edge of the
seller's book at t + its delay and the buyer's at t + its own. Every market is read once more for
each delay, earlier by so much, and the pairs of those are laid beside the pairs of now.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import polars as pl
from msgspec.structs import replace

from perptape.align import TIME, Coin, Spans
from perptape.events import MS
from perptape.kernels import NEVER
from perptape.measures.passes import Part, partial
from perptape.measures.scenes import Asked, Entry, Scene, Table

MARK = "@"
"""Between a market's name and its delay in ns; no canonical name has it."""


def legs(  # noqa: PLR0913 - what to read, and what to ask of it
    books: Sequence[Table],
    quotes: Sequence[Table],
    scene: Scene,
    asked: Asked,
    delays_ns: Sequence[int],
    *,
    ts_from: int,
    ts_to: int,
) -> tuple[Scene, Part]:
    """Lay every pair of delays beside the edge of now: entries with a leader are those pairs."""
    whole = Coin(
        scene.coin.base,
        {m: spans.within(-NEVER, ts_to) for m, spans in scene.coin.trusted.items()},
        scene.coin.untrusted,
    )
    late = [delay for delay in delays_ns if delay]
    there = replace(
        scene,
        coin=_with_late(whole, late),
        is_top={m: scene.is_top[m.partition(MARK)[0]] for m in _names(scene.coin.markets, late)},
        entries=(*scene.entries, *_followers(scene.entries, delays_ns)),
    )
    part = partial(
        [_earlier(table, delay) for table in books for delay in (0, *late)],
        [_earlier(table, delay) for table in quotes for delay in (0, *late)],
        there,
        replace(asked, delays_ns=()),
        since=ts_from,
        ts_to=ts_to,
    )
    return there, part


def named(market: str, delay_ns: int) -> str:
    """Name a market read earlier by a delay."""
    return f"{market}{MARK}{delay_ns}" if delay_ns else market


def _names(markets: Sequence[str], late: Sequence[int]) -> list[str]:
    return [named(market, delay) for delay in (0, *late) for market in markets]


def _with_late(coin: Coin, late: Sequence[int]) -> Coin:
    return Coin(coin.base, _moved(coin.trusted, late), _moved(coin.untrusted, late))


def _moved(spans: Mapping[str, Spans], late: Sequence[int]) -> dict[str, Spans]:
    return {
        named(market, delay): Spans(of.starts - delay, of.ends - delay)
        for delay in (0, *late)
        for market, of in spans.items()
    }


def _followers(entries: Sequence[Entry], delays_ns: Sequence[int]) -> list[Entry]:
    return [
        replace(entry, sell=named(entry.sell, i), buy=named(entry.buy, j), leader=p)
        for p, entry in enumerate(entries)
        for i, j in product(delays_ns, delays_ns)
    ]


def _earlier(table: Table, delay_ns: int) -> pl.LazyFrame:
    """Read a table as if all had come earlier."""
    if not delay_ns:
        return table.lazy()
    return table.lazy().with_columns(
        pl.col("ts_recv").cast(TIME) - pl.duration(nanoseconds=delay_ns),
        pl.col("instrument").cast(pl.String) + f"{MARK}{delay_ns}",
    )


def delays_of(entry: Entry) -> tuple[float, float]:
    """Give the delays of a follower's sale and purchase, in ms."""
    sell, buy = (int(m.partition(MARK)[2] or 0) / MS for m in (entry.sell, entry.buy))
    return sell, buy
