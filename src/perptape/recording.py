"""A tape at hand in Python: its tables as LazyFrames."""

import html
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from perptape import tables
from perptape.errors import CONTROL_ERRORS
from perptape.events import Kind, RestAnswer
from perptape.instruments import base_of, parse_instrument
from perptape.tabulate import fresh
from perptape.tape import Batch, Tape
from perptape.venues import VENUES

OK = 200
TIME = pl.Datetime("ns", "UTC")
ROUND_TRIPS = ("t_sent", "ts_venue", "t_recv")
LAST_NS = (1 << 63) - 1


class Recording:
    """One tape and its tables, which are made when they are first asked for.

    Raises BadUsage if ``path`` is not a tape.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tape = Tape(self.path)

    def _scan(self, table: str, instrument: str | None) -> pl.LazyFrame:
        root = fresh(self.path)
        if instrument is None:
            return tables.scan(root, table)
        name = parse_instrument(instrument)
        rows = tables.scan(root, table, base=base_of(name))
        return rows.filter(pl.col("instrument") == name)

    def quotes(self, instrument: str | None = None) -> pl.LazyFrame:
        """Best bids and asks in receive order: prices per base coin, sizes in base coins.

        ``instrument`` is ``BTC-USDT`` (the perpetual) or a full name; of one coin only, the rows
        of all venues are in order of ``ts_recv``.
        """
        return self._scan("quotes", instrument)

    def books(self, instrument: str | None = None) -> pl.LazyFrame:
        """Order books as updates, a row for each level: absolute sizes in base coins, 0 removes.

        Rows of one frame (``seq``) belong together; those of a snapshot replace the whole book.
        """
        return self._scan("books", instrument)

    def trades(self, instrument: str | None = None) -> pl.LazyFrame:
        """Trades: price per base coin, one-sided size in base coins, the taker's side."""
        return self._scan("trades", instrument)

    def marks(self, instrument: str | None = None) -> pl.LazyFrame:
        """Mark and index price per base coin, open interest in base coins (one-sided)."""
        return self._scan("marks", instrument)

    def funding(self, instrument: str | None = None) -> pl.LazyFrame:
        """Funding: ``rate`` is a fraction per hour, paid each ``interval_h`` at ``ts_funding``."""
        return self._scan("funding", instrument)

    def ledger(self, instrument: str | None = None) -> pl.LazyFrame:
        """Which time is trusted (both ends included), and why the rest is not."""
        return self._scan("ledger", instrument)

    def instruments(self) -> pl.LazyFrame:
        """What the venues listed: contract size, tick, lot, fees, with the time seen."""
        return tables.scan(fresh(self.path), "instruments")

    def clock_samples(self) -> pl.LazyFrame:
        """Give what each venue's clock said when it was asked: the input of ``clocks``.

        ``t_sent`` and ``t_recv`` are when we asked and had the answer, ``ts_venue`` what it said.
        """
        found = [row for batch in Tape(self.path).batches() for row in _round_trips(batch)]
        schema = {"venue": pl.String(), **dict.fromkeys(ROUND_TRIPS, pl.Int64())}
        frame = pl.LazyFrame(found, schema=schema, orient="row")
        return frame.with_columns(pl.col(ROUND_TRIPS).cast(TIME))

    def __repr__(self) -> str:
        frames = sum(segment.frames for segment in self._tape.segments)
        return f"perptape.open({str(self.path)!r})  # {frames:,} frames in sealed segments"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


def _round_trips(batch: Batch) -> Iterator[tuple[str, int, int, int]]:
    for row in np.flatnonzero(batch.kind == Kind.REST).tolist():
        start, stop = batch.offsets[row : row + 2].tolist()
        venue = batch.venues[int(batch.wire[row])]
        read_time = VENUES[venue].read_time if venue in VENUES else None
        try:
            answer = msgspec.json.decode(batch.payload[start:stop], type=RestAnswer)
            if answer.what == "time" and answer.status == OK and read_time is not None:
                times = (answer.t_sent, read_time(answer.body.encode()), int(batch.ts_recv[row]))
                if all(0 <= ts <= LAST_NS for ts in times):
                    yield venue, *times
        except CONTROL_ERRORS:
            continue  # what nobody can read stays on the tape
