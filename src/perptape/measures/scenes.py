"""What the pass over the depth is about: the markets of a coin, their pairs, fees and lots."""

import math
from collections.abc import Mapping
from fractions import Fraction
from itertools import permutations

import msgspec
import numpy as np
import polars as pl

from perptape.align import Coin, Spans, coin, fixed, quote_of
from perptape.sizing import Plan
from perptape.spells import Terms

Table = pl.DataFrame | pl.LazyFrame
Fees = Mapping[str, float] | Mapping[str, Mapping[str, float]]
BASE_TIER = "base"


class Asked(msgspec.Struct, frozen=True):
    """What is asked of every pair."""

    notionals: tuple[float, ...]
    """In the quote currency of the purchase, ascending; likewise the others."""
    enters_bps: tuple[float, ...]
    """Thresholds at which an episode opens, and of each the one below which it closes."""
    leaves_bps: tuple[float, ...]
    delays_ns: tuple[int, ...]


class Entry(msgspec.Struct, frozen=True):
    """An ordered pair under one tier of fees."""

    sell: str
    buy: str
    tier: str
    fee_sell: float
    """NaN if it is not known."""
    fee_buy: float
    lot: float
    """The least step, in base coins, that both contracts have in common; 0 if none is known."""
    rate: str | None = None
    """The market whose prices turn one quote currency into the other."""
    is_turned: bool = False
    """Its bid turns what the sale brings; else its ask what the purchase costs."""
    leader: int = -1
    """The number of the pair beside which this one is laid."""

    @property
    def same_quote(self) -> bool:
        return quote_of(self.sell) == quote_of(self.buy)

    @property
    def back(self) -> float:
        """What the two fees of the way back leave, if both prices have met by then."""
        return (1 - self.fee_buy) / (1 + self.fee_sell)


class Scene(msgspec.Struct, frozen=True):
    """The markets of one coin, with those of exchange rates, and all pairs."""

    coin: Coin
    is_top: Mapping[str, bool]
    """Markets of which only the best prices are known."""
    entries: tuple[Entry, ...]

    def common(self, entry: Entry) -> Spans:
        """Give the time in which all that a pair needs is trusted."""
        spans = self.coin.trusted[entry.sell].common(self.coin.trusted[entry.buy])
        return spans if entry.rate is None else spans.common(self.coin.trusted[entry.rate])

    def depth(self, entry: Entry) -> str:
        """``books``, or ``top`` where one of the two has its best prices alone."""
        return "top" if self.is_top[entry.sell] or self.is_top[entry.buy] else "books"

    def plan(self, asked: Asked) -> Plan:
        places = {market: place for place, market in enumerate(self.coin.markets)}
        legs = [[e.sell, e.buy, *([e.rate] if e.rate else [])] for e in self.entries]
        of_market: list[list[int]] = [[] for _ in places]
        for p, markets in enumerate(legs):
            for market in markets:
                of_market[places[market]].append(p)
        first = np.cumsum([0, *map(len, of_market)])
        touched = [p for own in of_market for p in own]
        after: list[list[int]] = [[] for _ in self.entries]
        for p, entry in enumerate(self.entries):
            if entry.leader >= 0:
                after[entry.leader].append(p)
        return Plan(
            sells=_ints(places[e.sell] for e in self.entries),
            buys=_ints(places[e.buy] for e in self.entries),
            kept=_floats(1 - e.fee_sell for e in self.entries),
            paid=_floats(1 + e.fee_buy for e in self.entries),
            back=_floats(e.back for e in self.entries),
            lots=_floats(e.lot for e in self.entries),
            rates=_ints(-1 if e.rate is None else places[e.rate] for e in self.entries),
            turned=fixed(np.array([e.is_turned for e in self.entries], np.bool_)),
            first=_ints(first.tolist()),
            touched=_ints(touched),
            leaders=_ints(e.leader for e in self.entries),
            first_follower=_ints(np.cumsum([0, *map(len, after)]).tolist()),
            followers=_ints(p for own in after for p in own),
            notionals=_floats(asked.notionals),
            terms=Terms(
                enters=_floats(asked.enters_bps),
                leaves=_floats(asked.leaves_bps),
                delays=_ints(asked.delays_ns),
            ),
        )


def _ints(values: object) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return fixed(np.array(list(values), np.int64))  # type: ignore[call-overload]


def _floats(values: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return fixed(np.array(list(values), np.float64))  # type: ignore[call-overload]


def scene(
    ledger: Table,
    instruments: Table | None,
    fees: Fees,
    *,
    base: str | None = None,
    has_books: bool = True,
) -> Scene:
    """Lay out the pairs of one coin.

    A market with a trusted stretch of books is measured on those, another on its quotes; a rate
    between two quote currencies is used if the ledger has one (``USDC-USDT-SPOT``).

    Raises BadUsage if the coin is not clear.
    """
    rows = ledger.lazy().collect()
    of = _rows_of(rows, base)
    tops = coin(of, base)
    books = coin(of, base, channel="books")
    own = [m for m in books.markets if has_books and len(books.trusted[m].starts)]
    trusted = {**tops.trusted, **{m: books.trusted[m] for m in own}}
    untrusted = {**tops.untrusted, **{m: books.untrusted[m] for m in own}}
    markets = sorted(trusted)
    rates = _rates(rows, {quote_of(market) for market in markets})
    whole = Coin(
        tops.base or books.base,
        {m: trusted[m] for m in markets} | {m: rates[m][0] for m in rates},
        {m: untrusted[m] for m in markets} | {m: rates[m][1] for m in rates},
    )
    lots = _lots(instruments)
    return Scene(
        whole,
        {m: m not in own for m in whole.markets},
        tuple(
            _entry(sell, buy, tier, of_tier, lots, list(rates))
            for tier, of_tier in tiers(fees).items()
            for sell, buy in permutations(markets, 2)
        ),
    )


def tiers(fees: Fees) -> dict[str, Mapping[str, float]]:
    """Give fees by venue of each tier; those of one tier alone may be given as they are."""
    named = {tier: of for tier, of in fees.items() if isinstance(of, Mapping)}
    plain = {venue: fee for venue, fee in fees.items() if isinstance(fee, int | float)}
    return named if named and not plain else {BASE_TIER: plain, **named}


def _rows_of(rows: pl.DataFrame, base: str | None) -> pl.DataFrame:
    """Leave out the markets of stablecoins against each other, if others are there."""
    if base is not None:
        return rows
    name = pl.col("instrument").cast(pl.String).str.split("-")
    quotes = rows.select(name.list.get(1, null_on_oob=True)).to_series().unique()
    others = rows.filter(~name.list.first().is_in(quotes.to_list()))
    return others if len(others) else rows


def _rates(rows: pl.DataFrame, quotes: set[str]) -> dict[str, tuple[Spans, Spans]]:
    """Give trusted and untrusted time of the markets between two of these currencies."""
    found: dict[str, tuple[Spans, Spans]] = {}
    for base in sorted(quotes) if len(quotes) > 1 else ():
        of = coin(rows, base)
        for market in of.markets:
            if quote_of(market) in quotes - {base} and len(of.trusted[market].starts):
                found[market] = (of.trusted[market], of.untrusted[market])
    return found


def _entry(  # noqa: PLR0913, PLR0917 - all that a pair has
    sell: str,
    buy: str,
    tier: str,
    fees: Mapping[str, float],
    lots: Mapping[str, float],
    rates: list[str],
) -> Entry:
    rate, is_turned = _rate(quote_of(sell), quote_of(buy), rates)
    return Entry(
        sell=sell,
        buy=buy,
        tier=tier,
        fee_sell=fees.get(sell.partition(":")[0], math.nan),
        fee_buy=fees.get(buy.partition(":")[0], math.nan),
        lot=common_lot([lots[m] for m in (sell, buy) if m in lots]),
        rate=rate,
        is_turned=is_turned,
    )


def _rate(sell: str, buy: str, rates: list[str]) -> tuple[str | None, bool]:
    """Choose the first market in order of name, spot before perpetuals."""
    if sell != buy:
        for market in sorted(rates, key=lambda m: (not m.endswith("-SPOT"), m)):
            base = market.partition(":")[2].partition("-")[0]
            if (base, quote_of(market)) in {(buy, sell), (sell, buy)}:
                return market, base == sell
    return None, False


def _lots(instruments: Table | None) -> dict[str, float]:
    """Give the lot of each market as last listed; an inverse one's is no number of base coins."""
    if instruments is None:
        return {}
    rows = instruments.lazy().sort("ts_seen", maintain_order=True).select(
        pl.concat_str(pl.col("venue").cast(pl.String), pl.lit(":"),
                      pl.col("instrument").cast(pl.String)),
        pl.col("kind").cast(pl.String) if "kind" in instruments.collect_schema() else pl.lit(""),
        "lot_size",
    )  # fmt: skip
    listed = {market: (kind, lot) for market, kind, lot in rows.collect().iter_rows()}
    return {m: lot for m, (kind, lot) in listed.items() if kind != "inverse" and lot}


def common_lot(lots: list[float]) -> float:
    """Give the least number that is a whole multiple of each; 0 of none."""
    common = Fraction(0)
    for lot in lots:
        exact = Fraction(f"{lot:.12g}")
        common = exact if not common else _lcm(common, exact)
    return float(common)


def _lcm(one: Fraction, other: Fraction) -> Fraction:
    return Fraction(
        math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator)
    )
