"""A report's tables on the venues' own time, and what it then says of how sure that is.

The moved tables are written beside each other as Parquet, once, because a report reads them often.
Funding and marks stay on receive time: they are compared over hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl
from msgspec.structs import replace

from perptape import tables
from perptape.findings import Market, Pair, Report, Timed
from perptape.instruments import base_of
from perptape.measures.clocks import clocks
from perptape.measures.retimed import Retimed, retimed
from perptape.recording import Recording
from perptape.wording import listed, number

WINDOW_S = 60.0
"""Clocks are known so closely in time: a recorder asks each venue once a minute."""
MOVED = ("quotes", "books")


class Moved(msgspec.Struct, frozen=True):
    """The tables of quotes and books on the venues' own time."""

    frames: Mapping[tuple[str, str], Sequence[pl.LazyFrame]]
    """By table and coin."""
    ledger: pl.DataFrame
    """Of all channels."""
    ledger_heard: pl.DataFrame
    """The same by receipt."""
    samples: pl.DataFrame
    """What the venues answered about time."""
    coins: Mapping[str, Retimed]

    def error_ms(self, one: str, other: str) -> float | None:
        """Give how wrong two markets of one coin may be against each other, if that is known."""
        return self._of(one).error_ms(one, other)

    def errors_ms(self) -> Mapping[str, float]:
        """By venue, how wrong its times may be; of one that stays on receive time nothing."""
        every = pl.concat(of.markets for of in self.coins.values())
        venue = pl.col("market").str.split(":").list.first().alias("venue")
        error = pl.col("error_ms")
        known = every.group_by(venue).agg(pl.when(error.is_not_null().all()).then(error.max()))
        return dict(known.drop_nulls().sort("venue").iter_rows())

    def timed(self, market: str) -> Timed:
        (row,) = self._of(market).markets.filter(pl.col("market") == market).to_dicts()
        return Timed(**{name: row[name] for name in Timed.__struct_fields__})

    def _of(self, market: str) -> Retimed:
        return self.coins[base_of(market.partition(":")[2])]


def moved(tapes: Sequence[Path], roots: Sequence[Path], ledger: pl.DataFrame, place: Path) -> Moved:
    """Put the tapes' tables on the venues' own time, into files in ``place``.

    ``roots``: the directories of the tables; ``ledger`` of all of them and all channels.
    """
    samples = pl.concat([Recording(tape).clock_samples().collect() for tape in tapes])
    found = clocks(samples, window_s=WINDOW_S)
    name = pl.col("instrument").str.split("-").list.first()
    frames: dict[tuple[str, str], list[pl.LazyFrame]] = {}
    coins: dict[str, Retimed] = {}
    for base, own in ledger.group_by(name.alias("base"), maintain_order=True):
        coin = str(base[0])
        quotes, books = ([tables.scan(root, t, base=coin) for root in roots] for t in MOVED)
        part = coins[coin] = retimed(quotes, own, found, books=books)
        for table in MOVED:
            where = place / f"{len(coins)}-{table}"
            frames[table, coin] = list(_written(getattr(part, table), where))
    whole = pl.concat([part.ledger for part in coins.values()])
    return Moved(frames, whole, ledger, samples, coins)


def _written(frames: Sequence[pl.LazyFrame], where: Path) -> Iterator[pl.LazyFrame]:
    where.mkdir()
    for place, frame in enumerate(frames):
        path = where / f"{place}.parquet"
        frame.sink_parquet(path, compression="zstd", compression_level=1)
        yield pl.scan_parquet(path)


# ---- what is said -------------------------------------------------------------------------------


def with_errors(report: Report, of: Moved) -> Report:
    """Say of every market which time it was analysed on, of every pair how sure that is."""
    markets = tuple(replace(m, clock=of.timed(m.market)) for m in report.markets)
    pairs = tuple(_with_error(p, of, report) for p in report.pairs)
    known = report.provenance
    notes = (*known.notes, *_notes(markets))
    return replace(report, markets=markets, pairs=pairs, provenance=replace(known, notes=notes))


def _with_error(pair: Pair, of: Moved, report: Report) -> Pair:
    error_ms = of.error_ms(pair.sell, pair.buy)
    if error_ms is None:
        return pair
    short = tuple(d for d in report.choice.delays_ms if d < error_ms)
    return replace(pair, clock_error_ms=error_ms, unresolved_delays_ms=short)


def _notes(markets: Sequence[Market]) -> Iterator[str]:
    if any(m.clock and m.clock.error_ms is not None for m in markets):
        yield (
            "Quotes and books were put in the order of the venues' own stamps, on our clock: what "
            "depends on less time than the bound of a pair is not resolved."
        )
    for market in markets:
        timed = market.clock
        if timed is None:
            continue
        if timed.reason is not None:
            yield f"{market.market} stays on receive time: {timed.reason}."
        elif odd := [
            f"{number(count, 0)} {words}"
            for count, words in (
                (timed.unstamped, "had no stamp"),
                (timed.early, "had one from after they came"),
                (timed.late, "came too late to be put in order"),
            )
            if count
        ]:
            yield f"Of the rows of {market.market} on trusted time {listed(odd)}."
