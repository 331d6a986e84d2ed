"""A tape at hand in Python: its tables as LazyFrames.

A frame that is collected goes on without a copy: ``to_arrow()``, ``to_pandas()`` (numbers and times
with ``use_pyarrow_extension_array=True``), or by its name in a query of DuckDB.
"""

import html
from pathlib import Path

import polars as pl

from perptape import tables
from perptape.answers import round_trips
from perptape.events import NS
from perptape.instruments import base_of, parse_instrument
from perptape.tabulate import at_hand, fresh
from perptape.tape import Tape
from perptape.wording import percent

TIME = pl.Datetime("ns", "UTC")
ROUND_TRIPS = ("t_sent", "ts_venue", "t_recv")


class Recording:
    """One tape and its tables, which are made when they are first asked for.

    Imported quotes are tables alone. Raises BadUsage if ``path`` is neither.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tape = None if tables.imported(self.path) else Tape(self.path)

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

        ``t_sent`` and ``t_recv`` are when we asked and had the answer, ``ts_venue`` what it said:
        by REST, and where an answer to our ping tells the time (Gate.io) by that too.
        """
        batches = () if self._tape is None else Tape(self.path).batches()
        schema = {"venue": pl.String(), **dict.fromkeys(ROUND_TRIPS, pl.Int64())}
        frame = pl.LazyFrame(list(round_trips(batches)), schema=schema, orient="row")
        return frame.with_columns(pl.col(ROUND_TRIPS).cast(TIME))

    def markets(self) -> pl.DataFrame:
        """One row a market and channel: since when, until when, and how much of that is trusted."""
        return _markets(fresh(self.path))

    def __repr__(self) -> str:
        return f"perptape.open({str(self.path)!r})  # {self._in_words()}"

    def _repr_html_(self) -> str:
        """Show the markets, if the tables are there: to look at a tape makes nothing."""
        said = f"<code>{html.escape(repr(self))}</code>"
        root = at_hand(self.path)
        return said if root is None else said + _html(_markets(root))

    def _in_words(self) -> str:
        if self._tape is None:
            said = "imported quotes"
        else:
            said = f"{sum(s.frames for s in self._tape.segments):,} frames in sealed segments"
        root = at_hand(self.path)
        known = None if root is None else _markets(root)
        if known is None or known.is_empty():
            return said
        spans = known.select(pl.sum("trusted_s"), pl.sum("untrusted_s")).row(0)
        begin, end = known.select(pl.min("ts_start"), pl.max("ts_end")).row(0)
        count = known.select(MARKET).n_unique()
        return (
            f"{said}; {count} market{'' if count == 1 else 's'}, {begin:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} UTC, {_percent(*spans)} trusted"
        )


MARKET = ("venue", "instrument")


def _markets(root: Path) -> pl.DataFrame:
    seconds = (pl.col("ts_end") - pl.col("ts_start")).dt.total_nanoseconds() / NS
    is_trusted = pl.col("state") == "trusted"
    names = pl.col(*MARKET, "channel", "state").cast(pl.String)
    rows = tables.scan(root, "ledger").with_columns(names, seconds=seconds).collect()
    return rows.group_by(*MARKET, "channel").agg(
        pl.min("ts_start"),
        pl.max("ts_end"),
        trusted_s=pl.col("seconds").filter(is_trusted).sum(),
        untrusted_s=pl.col("seconds").filter(~is_trusted).sum(),
    ).sort(*MARKET, "channel")  # fmt: skip


def _html(markets: pl.DataFrame) -> str:
    heads = ("market", "channel", "from (UTC)", "to (UTC)", "trusted")
    rows = [
        (f"{m['venue']}:{m['instrument']}", m["channel"], f"{m['ts_start']:%Y-%m-%d %H:%M:%S}",
         f"{m['ts_end']:%Y-%m-%d %H:%M:%S}", _percent(m["trusted_s"], m["untrusted_s"]))
        for m in markets.iter_rows(named=True)
    ]  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in heads)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _percent(trusted_s: float, untrusted_s: float) -> str:
    whole_s = trusted_s + untrusted_s
    return percent(trusted_s / whole_s if whole_s else None)
