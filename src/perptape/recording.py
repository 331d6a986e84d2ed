"""A tape at hand in Python: its tables as LazyFrames."""

import html
from pathlib import Path

import polars as pl

from perptape import tables
from perptape.instruments import base_of, parse_instrument
from perptape.tabulate import fresh
from perptape.tape import Tape


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

    def __repr__(self) -> str:
        frames = sum(segment.frames for segment in self._tape.segments)
        return f"perptape.open({str(self.path)!r})  # {frames:,} frames in sealed segments"

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"
