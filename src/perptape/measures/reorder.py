"""Rows of many markets, each placed in time by itself -> one order, in bounded memory."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from perptape.align import TIME, Coin, code, codes
from perptape.errors import Failed
from perptape.kernels import NEVER, Ints
from perptape.measures.mids import Table
from perptape.measures.placing import MOST_LATE_NS, Placing, Rows

ROWS = 1 << 18
"""Rows read at a time; beside these wait those of the last ``placing.MOST_LATE_NS``."""
STAMPS = ("ts_event", "ts_send")
NUMBER, STAMP = "__number", "__stamp"


class Own(NamedTuple):
    """The rows of one market in a batch."""

    place: int
    """Of the market in the coin."""
    at: Ints
    """Which rows."""
    rows: Rows


def read(table: Table, of: Coin, *columns: str) -> Iterator[tuple[pl.DataFrame, list[Own]]]:
    """Give a table in batches, with the rows of each market that the ledger knows.

    Raises Failed if rows are not in receive order.
    """
    stamp = pl.coalesce(pl.col(name).cast(TIME).cast(pl.Int64) for name in STAMPS)
    keyed = table.lazy().with_columns(
        code(of).alias(NUMBER), stamp.fill_null(-NEVER).alias(STAMP), pl.col("ts_recv").cast(TIME)
    )
    wanted = keyed.select("ts_recv", NUMBER, STAMP, *columns) if columns else keyed
    places, until = codes(of), -NEVER
    for batch in wanted.collect_batches(chunk_size=ROWS, maintain_order=True):
        if batch.is_empty():
            continue
        ts = batch["ts_recv"].cast(pl.Int64).to_numpy()
        if ts[0] < until or (np.diff(ts) < 0).any():
            raise Failed("Rows are not in receive order: sort them by ts_recv and seq first.")
        until = int(ts[-1])
        place = places[batch[NUMBER].to_numpy()]
        stamps = batch[STAMP].to_numpy()
        each = ((int(m), np.flatnonzero(place == m)) for m in np.unique(place) if m >= 0)
        yield batch, [Own(m, at, Rows(ts[at], stamps[at])) for m, at in each]


def reordered(table: Table, of: Coin, placings: Mapping[int, tuple[object, ...]]) -> pl.LazyFrame:
    """Give a table with the rows of some markets moved, in the order of the new ``ts_recv``.

    ``placings``: by place, what a :class:`Placing` is made of; others stay where they are.
    """
    schema = dict(table.lazy().collect_schema()) | {"ts_recv": TIME, "ts_heard": TIME}

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        left = limit
        for frame in ordered(table, of, placings):
            part = frame if predicate is None else frame.filter(predicate)
            part = part if columns is None else part.select(columns)
            yield part if left is None else part.head(left)
            left = None if left is None else left - min(left, len(part))
            if left == 0:
                return

    return register_io_source(source, schema=schema)


def ordered(
    table: Table, of: Coin, placings: Mapping[int, tuple[object, ...]]
) -> Iterator[pl.DataFrame]:
    """Hold rows back until no earlier one can come: that is bounded for each by its placing."""
    at_work = {place: Placing(*made_of) for place, made_of in placings.items()}  # type: ignore[arg-type]
    held = pl.DataFrame()
    for batch, each in read(table, of):
        moved = _moved(batch, each, at_work)
        held = (moved if held.is_empty() else pl.concat([held, moved])).sort(
            "ts_recv", maintain_order=True
        )
        until = batch["ts_recv"].cast(pl.Int64)[-1] - MOST_LATE_NS
        ready = int(held["ts_recv"].cast(pl.Int64).search_sorted(until))
        yield held[:ready]
        held = held[ready:]
    if not held.is_empty():
        yield held


def _moved(batch: pl.DataFrame, each: list[Own], at_work: Mapping[int, Placing]) -> pl.DataFrame:
    ts = batch["ts_recv"].cast(pl.Int64).to_numpy().copy()
    is_moved = np.zeros(len(ts), np.bool_)
    for own in each:
        if own.place in at_work:
            ts[own.at] = at_work[own.place].place(own.rows).at
            is_moved[own.at] = True
    used = pl.when(~pl.Series(is_moved)).then(pl.col(STAMPS)).name.keep()
    return batch.with_columns(
        used, pl.Series("ts_recv", ts).cast(TIME), pl.col("ts_recv").alias("ts_heard")
    ).drop(NUMBER, STAMP)
