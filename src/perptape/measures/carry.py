"""What funding does to a pair: short one market, long the other.

Over a holding window (t, t + H], with F the rate of a settlement and P the mark price at it::

    C = sum over the short's settlements of F P - sum over the long's of F P

Only settlements inside the window count, whole. Markets settle each 1, 4 or 8 h, so rates are
compared per hour, f = F / interval: printed rates of different intervals are not comparable.
APR = 8760 f. A round trip pays four taker fees, so the position must be held for

    break-even = cost / (f_short - f_long)

hours before funding has paid for them.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import NamedTuple

import numpy as np
import polars as pl

from perptape.align import Coin, coin, quote_of, union
from perptape.events import NS
from perptape.kernels import BPS, NEVER, Floats, Ints
from perptape.measures.mids import Table
from perptape.measures.settlements import HOUR_NS, MARK_AGE_S, settlements

HOURS_PER_YEAR = 8760
NO_HOURS = "no hours that settlements of both paid for"
COLUMNS = {
    **dict.fromkeys(("sell", "buy"), pl.String),
    "same_quote": pl.Boolean,
    **dict.fromkeys(("trusted_s", "common_h"), pl.Float64),
    **dict.fromkeys(
        ("settlements_sell", "settlements_buy", "expected_sell", "expected_buy"), pl.Int64
    ),
    **dict.fromkeys(("sell_bps_per_h", "buy_bps_per_h", "carry_bps_per_h"), pl.Float64),
    **dict.fromkeys(("sell_apr", "buy_apr", "carry_apr"), pl.Float64),
    **dict.fromkeys(("payment", "cost_bps", "break_even_h"), pl.Float64),
    "reason": pl.String,
}


def carry(  # noqa: PLR0913 - each of them changes the numbers
    funding: Table,
    marks: Table | None = None,
    ledger: Table | None = None,
    *,
    fees: Mapping[str, float] | None = None,
    costs_bps: Mapping[tuple[str, str], float] | None = None,
    base: str | None = None,
    ts_from: int | None = None,
    ts_to: int | None = None,
    mark_age_s: float = MARK_AGE_S,
) -> pl.DataFrame:
    """Compare the funding of every ordered pair of one coin: short ``sell``, long ``buy``.

    ``funding``, ``marks``, ``ledger``: as in ``settlements``. ``fees``: taker fee by venue, a
    fraction; a round trip costs twice both. ``costs_bps``: the round trip by (sell, buy) instead.
    ``ts_from``, ``ts_to``: the holding window (from, to] in ns; without, all that is there.

    One row a pair: ``trusted_s`` of both markets' funding; ``common_h``, the hours that settlements
    of both paid for; how many ``settlements`` lie in the window and how many of them are
    ``expected`` rates, not paid ones; both rates over the common hours in bps per hour, what the
    pair carries, and as APR (a fraction); ``payment``, C in quote currency per base coin, null
    where a settlement or a mark price is missing; ``cost_bps`` and ``break_even_h``; null where
    there is no number, and the ``reason``.

    Raises BadUsage if the coin is not clear.
    """
    found = settlements(funding, marks, ledger, base=base, mark_age_s=mark_age_s)
    window = (-NEVER if ts_from is None else ts_from, NEVER if ts_to is None else ts_to)
    of = None if ledger is None else coin(ledger, base, channel="funding")
    names = {*found["market"], *(of.markets if of else ())}
    paid = {name: Paid.of(found.filter(market=name), window) for name in sorted(names)}
    rows = [
        {
            "sell": sell,
            "buy": buy,
            "same_quote": quote_of(sell) == quote_of(buy),
            "trusted_s": _trusted_s(of, sell, buy, window),
            **_pair(paid[sell], paid[buy], _cost_bps((sell, buy), fees, costs_bps)),
        }
        for sell, buy in permutations(paid, 2)
    ]
    return pl.DataFrame(rows, schema=COLUMNS)


class Paid(NamedTuple):
    """One market's settlements in a window, in order [n]."""

    ends: Ints
    starts: Ints
    """From where on each pays for its time: its interval, where the one before leaves it."""
    per_h: Floats
    payment: Floats
    """NaN without a mark price."""
    expected: int
    is_whole: bool
    """No settlement of the window can be missing, by the intervals of those known."""

    @classmethod
    def of(cls, rows: pl.DataFrame, window: tuple[int, int]) -> "Paid":
        ends = rows["ts_funding"].cast(pl.Int64).to_numpy()
        begun = ends - np.rint(rows["interval_h"].to_numpy() * HOUR_NS).astype(np.int64)
        starts = np.maximum(begun, np.append(-NEVER, ends)[:-1])
        inside = (ends > window[0]) & (ends <= window[1])
        return cls(
            ends[inside],
            starts[inside],
            rows["rate_per_h"].to_numpy()[inside],
            rows["payment"].fill_null(np.nan).to_numpy()[inside],
            int((~rows["is_settled"].to_numpy())[inside].sum()),
            _is_whole(starts, ends, ends - begun, window),
        )

    def rates(self, edges: Ints) -> Floats:
        """Give the rate per hour between neighbouring edges; NaN where none is known."""
        at = np.searchsorted(self.ends, edges[1:])
        place = np.minimum(at, len(self.ends) - 1)
        known = (at < len(self.ends)) & (self.starts[place] <= edges[:-1])
        return np.where(known, self.per_h[place], np.nan)


def _is_whole(starts: Ints, ends: Ints, lengths: Ints, window: tuple[int, int]) -> bool:
    """Tell whether one settlement after the other leads through the window."""
    if not len(ends):
        return False
    until_due = ends + lengths - 1
    known = union(zip(starts.tolist(), until_due.tolist(), strict=True))
    first = int(starts[0]) if window[0] == -NEVER else window[0]
    last = int(ends[-1]) if window[1] == NEVER else window[1]
    return bool(((known.starts <= first) & (last <= known.ends)).any())


def _trusted_s(of: Coin | None, sell: str, buy: str, window: tuple[int, int]) -> float | None:
    if of is None:
        return None
    if sell not in of.trusted or buy not in of.trusted:
        return 0.0
    return of.trusted[sell].within(*window).common(of.trusted[buy]).total_ns / NS


def _cost_bps(
    pair: tuple[str, str],
    fees: Mapping[str, float] | None,
    costs_bps: Mapping[tuple[str, str], float] | None,
) -> float | None:
    if costs_bps is not None and pair in costs_bps:
        return costs_bps[pair]
    venues = [market.split(":", 1)[0] for market in pair]
    if fees is None or any(venue not in fees for venue in venues):
        return None
    return BPS * 2 * sum(fees[venue] for venue in venues)


def _pair(sell: Paid, buy: Paid, cost_bps: float | None) -> dict[str, float | int | str | None]:
    row: dict[str, float | int | str | None] = {
        "common_h": 0.0,
        "settlements_sell": len(sell.ends),
        "settlements_buy": len(buy.ends),
        "expected_sell": sell.expected,
        "expected_buy": buy.expected,
        "cost_bps": cost_bps,
    }
    rates = _common_rates(sell, buy)
    payment, missing = _payment(sell, buy)
    if rates is None:
        return row | {"payment": payment, "reason": _joined(NO_HOURS, missing)}
    hours, short, long = rates
    per_h = {"sell": BPS * short, "buy": BPS * long, "carry": BPS * (short - long)}
    row |= {"common_h": hours}
    row |= {f"{name}_bps_per_h": value for name, value in per_h.items()}
    row |= {f"{name}_apr": value * HOURS_PER_YEAR / BPS for name, value in per_h.items()}
    break_even, why = _break_even(cost_bps, per_h["carry"])
    reason = _joined(why, missing)
    return row | {"break_even_h": break_even, "payment": payment, "reason": reason}


def _joined(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None


def _common_rates(sell: Paid, buy: Paid) -> tuple[float, float, float] | None:
    """Give the hours that both paid for, and the mean rate per hour of each over them."""
    if not len(sell.ends) or not len(buy.ends):
        return None
    edges = np.unique(np.concatenate([sell.starts, sell.ends, buy.starts, buy.ends]))
    short, long = sell.rates(edges), buy.rates(edges)
    hours = np.diff(edges) / HOUR_NS
    hours[np.isnan(short) | np.isnan(long)] = 0
    total = float(hours.sum())
    if total <= 0:
        return None
    weighted = [float(hours @ np.nan_to_num(rates)) / total for rates in (short, long)]
    return total, weighted[0], weighted[1]


def _break_even(cost_bps: float | None, carry_bps: float) -> tuple[float | None, str | None]:
    if cost_bps is None:
        return None, "no fees: no break-even"
    if carry_bps <= 0:
        return None, "it pays, it does not earn: no break-even"
    return cost_bps / carry_bps, None


def _payment(sell: Paid, buy: Paid) -> tuple[float | None, str | None]:
    if not (sell.is_whole and buy.is_whole):
        return None, "a settlement is missing"
    found = float(sell.payment.sum() - buy.payment.sum())
    return (None, "a mark price is missing") if np.isnan(found) else (found, None)
