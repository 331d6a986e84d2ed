"""Books and quotes of one coin -> updates in one receive order, for the pass over the depth."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from perptape.align import TIME, Coin, code, codes, fixed, merged
from perptape.depth import Updates
from perptape.kernels import MOST_PRICE, NEVER

Table = pl.DataFrame | pl.LazyFrame
ROWS = 1 << 18
"""Rows in memory at a time, from each table."""
KEY = ("number", "ts", "seq", "update_id", "is_snapshot")
"""Rows of a book that have these alike, one after the other, are one update."""
QUOTE = ("bid_price", "bid_size", "ask_price", "ask_size")


def updates(  # noqa: PLR0913 - what to read, and which of it
    books: Sequence[Table],
    quotes: Sequence[Table],
    of: Coin,
    is_top: Mapping[str, bool],
    *,
    ts_from: int = -NEVER,
    ts_to: int = NEVER,
) -> Iterator[Updates]:
    """Give all updates in a closed window: of markets that ``is_top`` their quotes, else books.

    Each table is in receive order; of rows with the same ``ts_recv`` those of an earlier table
    come first.
    """
    places = codes(of)
    tops = np.array([is_top[market] for market in of.markets], np.bool_)
    place = pl.col("number").map_batches(lambda n: pl.Series(places[n]), return_dtype=pl.Int64)
    window = pl.col("ts").is_between(ts_from, ts_to)
    tables = [
        _levels(_book_rows(table, of).filter(window), place, set(np.flatnonzero(~tops).tolist()))
        for table in books
    ] + [
        _tops(_quote_rows(table, of).filter(window), place, set(np.flatnonzero(tops).tolist()))
        for table in quotes
    ]
    for frame in tables[0] if len(tables) == 1 else merged(tables):  # of none: none
        for part in frame.iter_slices(ROWS) if len(frame) else ():
            yield _updates(part)


def _time() -> pl.Expr:
    return pl.col("ts_recv").cast(TIME).cast(pl.Int64).alias("ts")


def _book_rows(table: Table, of: Coin) -> pl.LazyFrame:
    return table.lazy().select(
        _time(),
        code(of).alias("number"),
        pl.col("seq").cast(pl.Int64).fill_null(-1),
        pl.col("update_id").fill_null(-1),
        pl.col("is_snapshot").fill_null(value=False),
        side=(pl.col("side").cast(pl.String) == "ask").cast(pl.Int8),
        price=pl.col("price").cast(pl.Float64).fill_null(np.nan),
        size=pl.col("size").cast(pl.Float64).fill_null(np.nan),
    )


def _quote_rows(table: Table, of: Coin) -> pl.LazyFrame:
    prices = (pl.col(name).cast(pl.Float64).fill_null(np.nan) for name in QUOTE)
    return table.lazy().select(_time(), code(of).alias("number"), *prices)


def _levels(rows: pl.LazyFrame, place: pl.Expr, wanted: set[int]) -> Iterator[pl.DataFrame]:
    """Mark where each update of a book begins; a batch may end within one."""
    before: tuple[object, ...] | None = None
    for batch in rows.collect_batches(chunk_size=ROWS, maintain_order=True):
        if batch.is_empty():
            continue
        key = pl.struct(KEY)
        begins = batch.select(key != key.shift(1)).to_series().fill_null(value=True).to_numpy()
        begins = begins.copy()
        begins[0] = batch.select(KEY).row(0) != before
        before = batch.select(KEY).row(-1)
        yield batch.select(
            "ts", place.alias("market"), pl.Series("begins", begins),
            whole="is_snapshot", side="side", price="price", size="size",
        ).filter(pl.col("market").is_in(wanted))  # fmt: skip


def _tops(rows: pl.LazyFrame, place: pl.Expr, wanted: set[int]) -> Iterator[pl.DataFrame]:
    """Make a whole book of each quote: a row for either side."""
    for batch in rows.collect_batches(chunk_size=ROWS, maintain_order=True):
        own = batch.with_columns(place.alias("market")).filter(pl.col("market").is_in(wanted))
        if own.is_empty():
            continue
        yield pl.DataFrame(
            {
                "ts": np.repeat(own["ts"].to_numpy(), 2),
                "market": np.repeat(own["market"].to_numpy(), 2),
                "begins": np.tile([True, False], len(own)),
                "whole": np.full(2 * len(own), fill_value=True),
                "side": np.tile(np.array([0, 1], np.int8), len(own)),
                "price": own.select("bid_price", "ask_price").to_numpy().ravel(),
                "size": own.select("bid_size", "ask_size").to_numpy().ravel(),
            }
        )


def _updates(rows: pl.DataFrame) -> Updates:
    """Leave out levels that say nothing, but not the updates that they are of."""
    begins = rows["begins"].to_numpy().copy()
    goes_on = not begins[0]
    begins[0] = True
    heads = np.flatnonzero(begins)
    wholes = rows["whole"].to_numpy()[heads].copy()
    wholes[0] &= not goes_on
    price, size = rows["price"].to_numpy(), rows["size"].to_numpy()
    valid = (price > 1 / MOST_PRICE) & (price < MOST_PRICE) & (size >= 0) & (size < np.inf)
    count = np.concatenate([[0], np.cumsum(valid)])
    return Updates(
        *map(
            fixed,
            (
                rows["ts"].to_numpy()[heads],
                rows["market"].to_numpy()[heads],
                count[np.append(heads, len(rows))],
                wholes,
                rows["side"].to_numpy()[valid],
                price[valid],
                size[valid],
            ),
        )
    )


def needed(
    books: Sequence[Table], of: Coin, is_top: Mapping[str, bool], ts_from: int, ts_to: int
) -> int:
    """Give the time from which rows matter to a window: books as of its begin need their past.

    A market's quotes matter from where its trust began, a book's updates from its last snapshot.
    """
    if ts_from == -NEVER:
        return ts_from
    first = min([ts_from, *of.trust(ts_from, ts_to).starts.tolist()])
    past = [_book_rows(table, of).filter(pl.col("ts") < ts_from) for table in books]
    for rows in past:
        last = rows.group_by("number").agg(pl.col("ts").filter("is_snapshot").max()).collect()
        places = codes(of)
        for number, ts in last.iter_rows():
            if places[number] >= 0 and not is_top[of.markets[places[number]]]:
                first = min(first, -NEVER if ts is None else ts)
    return int(first)
