"""Tables of one base coin -> what the measures' loops read: one receive order, trusted time only.

A market is ``venue:instrument``. A quote stands from its ``ts_recv`` until the market's next row;
a pair quantity exists only where both markets are trusted, and nothing is carried through an
untrusted stretch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from perptape.errors import BadUsage, Failed
from perptape.kernels import NEVER, Chunk, Ints, Trust

ROWS = 1 << 17
"""Rows of quotes in memory at a time, from each tape."""
SIDES = ("bid_price", "bid_size", "ask_price", "ask_size")
TIME = pl.Datetime("ns", "UTC")
LOOK_BACK_NS, LOOK_BACK_TIMES = 1_000_000_000, 8
"""How far to look for the last row of a market at first, and how much further each time."""


class Piece(NamedTuple):
    """Some rows of quotes."""

    chunk: Chunk
    ts_event: Ints
    """-NEVER where the venue does not say."""


class Spans(msgspec.Struct, frozen=True):
    """Stretches of time of one market: closed, disjoint, ascending, int64 ns [k] each."""

    starts: Ints
    ends: Ints

    def within(self, ts_from: int, ts_to: int) -> "Spans":
        """Cut to a closed window."""
        starts, ends = np.maximum(self.starts, ts_from), np.minimum(self.ends, ts_to)
        kept = starts <= ends
        return Spans(starts[kept], ends[kept])

    def common(self, other: "Spans") -> "Spans":
        """Give the time that both have."""
        starts, ends = [self.starts[:0]], [self.ends[:0]]
        for start, end in zip(self.starts, self.ends, strict=True):
            part = other.within(start, end)
            starts.append(part.starts)
            ends.append(part.ends)
        return Spans(np.concatenate(starts), np.concatenate(ends))

    @property
    def total_ns(self) -> int:
        return int((self.ends - self.starts).sum())


def union(intervals: Iterable[tuple[int, int]]) -> Spans:
    """Join intervals that overlap or touch."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(intervals):
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return Spans(np.array(starts, np.int64), np.array(ends, np.int64))


class Coin(msgspec.Struct, frozen=True):
    """The markets of one base coin in order of name, and which time of each is trusted."""

    base: str
    trusted: Mapping[str, Spans]
    untrusted: Mapping[str, Spans]

    @property
    def markets(self) -> Sequence[str]:
        return list(self.trusted)

    def span(self) -> tuple[int, int]:
        """First and last moment that the ledger speaks of; (0, 0) if there is none."""
        spoken = [s for s in (*self.trusted.values(), *self.untrusted.values()) if len(s.starts)]
        if not spoken:
            return 0, 0
        return min(int(s.starts[0]) for s in spoken), max(int(s.ends[-1]) for s in spoken)

    def trust(self, ts_from: int, ts_to: int) -> Trust:
        """Flatten what matters to a window; a start before it is kept, for the quote it knew."""
        kept = [_reaching(s, ts_from, ts_to) for s in self.trusted.values()]
        sizes = np.array([0, *(len(s.starts) for s in kept)], np.int64)
        nothing = np.empty(0, np.int64)
        return Trust(
            fixed(np.concatenate([nothing, *(s.starts for s in kept)])),
            fixed(np.concatenate([nothing, *(s.ends for s in kept)])),
            fixed(np.cumsum(sizes)),
        )


def _reaching(spans: Spans, ts_from: int, ts_to: int) -> Spans:
    kept = (spans.ends >= ts_from) & (spans.starts <= ts_to)
    return Spans(spans.starts[kept], np.minimum(spans.ends[kept], ts_to))


def base_of(instrument: str) -> str:
    """``BTC`` of ``BTC-USDT-PERP``."""
    return instrument.split("-", 1)[0]


def quote_of(market: str) -> str:
    """``USDT`` of ``bybit:BTC-USDT-PERP``; empty if the name says none."""
    return (*market.split(":", 1)[-1].split("-"), "")[1]


def coin(
    ledger: pl.DataFrame | pl.LazyFrame, base: str | None = None, *, channel: str = "quotes"
) -> Coin:
    """Read one channel's rows of a ledger; those of several coins need ``base`` to choose one.

    Raises BadUsage if ``base`` is needed and not given.
    """
    rows = ledger.lazy().filter(pl.col("channel").cast(pl.String) == channel).select(
        market=pl.concat_str(
            pl.col("venue").cast(pl.String), pl.lit(":"), pl.col("instrument").cast(pl.String)
        ),
        base=pl.col("instrument").cast(pl.String).str.split("-").list.first(),
        trusted=pl.col("state").cast(pl.String) == "trusted",
        start=pl.col("ts_start").cast(pl.Int64),
        end=pl.col("ts_end").cast(pl.Int64),
    ).collect()  # fmt: skip
    bases = sorted(rows["base"].unique())
    if base is None and len(bases) > 1:
        raise BadUsage(
            f"A gap is between markets of one base coin and the ledger has {', '.join(bases)}: "
            f'choose one, for example tape.ledger("{bases[0]}-USDT").'
        )
    chosen = base or (bases[0] if bases else "")
    rows = rows.filter(pl.col("base") == chosen)
    stretches: dict[str, dict[bool, list[tuple[int, int]]]] = {
        market: {True: [], False: []} for market in sorted(rows["market"].unique())
    }
    for market, trusted, start, end in rows.select("market", "trusted", "start", "end").iter_rows():
        stretches[market][trusted].append((start, end))
    return Coin(
        chosen,
        {market: union(by[True]) for market, by in stretches.items()},
        {market: union(by[False]) for market, by in stretches.items()},
    )


# Quotes


def pieces(
    quotes: Sequence[pl.DataFrame | pl.LazyFrame],
    coin: Coin,
    *,
    ts_from: int = -NEVER,
    ts_to: int = NEVER,
    rows: int = ROWS,
) -> Iterator[Piece]:
    """Give the quotes of one or several tapes in a closed window, in one receive order.

    Each tape is in order; of rows with the same ``ts_recv`` those of an earlier tape come first.
    Markets that the ledger does not know have no trusted time and become -1.
    """
    places = codes(coin)
    for frame in _frames([_numbers(tape, coin, ts_from, ts_to) for tape in quotes], rows):
        for part in frame.iter_slices(rows):
            yield _piece(part, places)


def _frames(numbers: Sequence[pl.LazyFrame], rows: int) -> Iterator[pl.DataFrame]:
    tapes = [iter(n.collect_batches(chunk_size=rows, maintain_order=True)) for n in numbers]
    return tapes[0] if len(tapes) == 1 else merged(tapes)


def _numbers(
    quotes: pl.DataFrame | pl.LazyFrame, coin: Coin, ts_from: int, ts_to: int
) -> pl.LazyFrame:
    """Turn names into codes and times into ns, so that rows of any tape fit together."""
    return within(quotes, ts_from, ts_to).select(
        pl.col("ts_recv").cast(TIME).cast(pl.Int64).alias("ts"),
        code(coin).alias("code"),
        pl.col("ts_event").cast(TIME).cast(pl.Int64).fill_null(-NEVER),
        *(pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in SIDES),
    )


def within(table: pl.DataFrame | pl.LazyFrame, ts_from: int, ts_to: int) -> pl.LazyFrame:
    """Take the rows of a closed window; of a file only the row groups that may have some."""
    if isinstance(table, pl.DataFrame):
        times = table["ts_recv"].cast(TIME).to_physical()
        start = times.search_sorted(ts_from, side="left")
        stop = times.search_sorted(ts_to, side="right")
        return table.slice(start, max(stop - start, 0)).lazy()
    is_plain = table.collect_schema()["ts_recv"] == TIME
    ts = pl.col("ts_recv") if is_plain else pl.col("ts_recv").cast(TIME)
    if ts_from > -NEVER:
        table = table.filter(ts >= pl.lit(ts_from).cast(TIME))
    return table if ts_to == NEVER else table.filter(ts <= pl.lit(ts_to).cast(TIME))


def standing(
    quotes: Sequence[pl.DataFrame | pl.LazyFrame], coin: Coin, ts_from: int, ts_to: int
) -> pl.DataFrame:
    """Give the last row of each market in ``[ts_from, ts_to)``, of those that trust carries over.

    Read backwards, a longer stretch each time, until all are found.
    """
    trust = coin.trust(ts_to, ts_to)
    starts = [
        min((s for s in trust.starts[a:b].tolist() if s < ts_to), default=ts_to)
        for a, b in pairwise(trust.first)
    ]
    wanted = {place for place, start in enumerate(starts) if start < ts_to}
    ts_from = max(ts_from, min(starts, default=ts_to))
    places, found = codes(coin), _no_rows()
    end, length = ts_to, LOOK_BACK_NS
    while end > ts_from and wanted - set(places[found["code"].to_numpy()].tolist()):
        start = max(ts_from, end - length)
        rows = _no_rows()
        for frame in _frames([_numbers(tape, coin, start, end - 1) for tape in quotes], ROWS):
            rows = later([rows, frame])
        found, end, length = later([rows, found]), start, LOOK_BACK_TIMES * length
    return found


def _no_rows() -> pl.DataFrame:
    whole = dict.fromkeys(("ts", "code", "ts_event"), pl.Int64)
    return pl.DataFrame(schema={**whole, **dict.fromkeys(SIDES, pl.Float64)})


def later(rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Of rows in receive order, keep the last of each market."""
    return pl.concat(rows).unique("code", keep="last", maintain_order=True)


def piece(rows: pl.DataFrame, coin: Coin) -> Piece:
    """Make a piece of what stands."""
    return _piece(rows.sort("ts", maintain_order=True), codes(coin))


def _names(coin: Coin) -> tuple[list[str], list[str]]:
    split = [market.split(":", 1) for market in coin.markets]
    return sorted({venue for venue, _ in split}), sorted({name for _, name in split})


def _code(column: str, known: list[str]) -> pl.Expr:
    enum = pl.Enum(known)
    number = pl.col(column).cast(enum, strict=False).to_physical().cast(pl.Int64)
    return number.fill_null(len(known))


def code(coin: Coin) -> pl.Expr:
    """Number a row's market, without making its name; ``codes`` gives the place of a number."""
    venues, names = _names(coin)
    return _code("venue", venues) * (len(names) + 1) + _code("instrument", names)


def codes(coin: Coin) -> Ints:
    """Give the place of a market by its number, -1 where the coin has none."""
    venues, names = _names(coin)
    places = np.full((len(venues) + 1) * (len(names) + 1), -1, np.int64)
    for place, market in enumerate(coin.markets):
        venue, name = market.split(":", 1)
        places[venues.index(venue) * (len(names) + 1) + names.index(name)] = place
    return places


def _piece(frame: pl.DataFrame, places: Ints) -> Piece:
    columns = [frame[name].to_numpy() for name in ("ts", "code", *SIDES, "ts_event")]
    ts, number, bid, bid_size, ask, ask_size, ts_event = map(fixed, columns)
    return Piece(Chunk(ts, fixed(places[number]), bid, bid_size, ask, ask_size), ts_event)


class _Held:
    """What is in hand of one tape."""

    def __init__(self, tape: Iterator[pl.DataFrame]) -> None:
        self._tape = tape
        self._frame = pl.DataFrame()
        self._done = False

    @property
    def until(self) -> int:
        """Time before which all rows are in hand."""
        return NEVER if self._done else int(self._frame["ts"][-1])

    def read_on(self) -> bool:
        """Have at least two different times in hand, or all that is left; False if that is none.

        Raises Failed if a row is earlier than the one before.
        """
        while not self._done and (
            self._frame.is_empty() or self._frame["ts"][0] == self._frame["ts"][-1]
        ):
            piece = next(self._tape, None)
            if piece is None:
                self._done = True
                break
            self._frame = _joined(self._frame, piece)
            if not self._frame["ts"].is_sorted():
                raise Failed("Rows are not in receive order: sort them by ts_recv and seq first.")
        return not self._frame.is_empty()

    def take(self, until: int) -> pl.DataFrame:
        before = int(self._frame["ts"].search_sorted(until, side="left"))
        taken, self._frame = self._frame[:before], self._frame[before:]
        return taken


def _joined(first: pl.DataFrame, then: pl.DataFrame) -> pl.DataFrame:
    return then if first.is_empty() else pl.concat([first, then])


def merged(tapes: Sequence[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Give rows of several tapes in order of ``ts``: before the earliest end all are in hand."""
    held = [_Held(tape) for tape in tapes]
    while held := [h for h in held if h.read_on()]:
        until = min(h.until for h in held)
        yield pl.concat([h.take(until) for h in held]).sort("ts", maintain_order=True)


def fixed(array: NDArray[Any]) -> NDArray[Any]:
    """Give a read-only view: the loops are compiled once, for such arrays."""
    view = array.view()
    view.setflags(write=False)
    return view
