"""Tables on the venues' own time, put on our clock, for every measure to be run on.

A row's time (``ts_recv``) becomes its stamp, ``ts_event`` or else ``ts_send``, less the offset of
its venue's clock, as :mod:`perptape.measures.placing` has it, and the rows are put in that order.
How wrong that may be is what the clock's offset may be, and what a stamp in whole milliseconds
hides. A market whose clock or stamps do not allow it stays on receive time, with the reason.

Trusted time goes along. A stretch begins with the first row that came in it, but before its own
begin by no more than news ever took in this table. It ends by so much earlier than by receipt: what
was made later may have been under way. Around a step of its clock, and where news came later than
``placing.MOST_LATE_NS``, a market is not trusted.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import msgspec
import polars as pl

from perptape.align import TIME, Coin, base_of, coin
from perptape.events import MS
from perptape.measures.clocks import Clocks
from perptape.measures.mids import Table
from perptape.measures.placing import Placing, Tally
from perptape.measures.reorder import read, reordered
from perptape.measures.retrust import retrusted, worst_ms
from perptape.measures.round_trips import Course
from perptape.wording import percent

MOST_UNPLACED = 0.01
"""With a larger share of rows without a stamp, or with one later than its receipt by more than the
clock may be wrong, a market stays on receive time."""
COUNTS = ("rows", "unstamped", "early", "late")
MARKETS = {
    "market": pl.String,
    "on": pl.String,
    **dict.fromkeys(("error_ms", "clock_error_ms", "stamp_ms", "delay_ms"), pl.Float64),
    **dict.fromkeys(COUNTS, pl.Int64),
    "reason": pl.String,
}


class Retimed(msgspec.Struct, frozen=True):
    """What ``gaps``, ``edges`` and all others take, on the venues' own time."""

    quotes: tuple[pl.LazyFrame, ...]
    """Like those given, in order of the new ``ts_recv``; ``ts_heard`` is the old one. Of rows that
    were moved ``ts_event`` and ``ts_send`` are null: they are used up."""
    books: tuple[pl.LazyFrame, ...]
    ledger: pl.DataFrame
    """As given, with the trusted time of these tables' channels moved along."""
    markets: pl.DataFrame
    """One row a market. ``on``: ``event``, ``send`` or ``recv``. Its times are wrong by up to
    ``error_ms``, of which ``clock_error_ms`` is the same for all markets of its venue; null, with a
    ``reason``, on receive time. ``delay_ms`` is the longest that news took. Of its ``rows`` on
    trusted time ``unstamped`` had no stamp, ``early`` one that is later than receipt by more than
    the clock may be wrong, ``late`` came too late to be put in order."""

    def error_ms(self, one: str, other: str) -> float | None:
        """Give the bound of how wrong two markets' times are against each other, if there is one.

        Of one venue the clock is the same for both.
        """
        both = [self.markets.row(by_predicate=pl.col("market") == m, named=True)
                for m in (one, other)]  # fmt: skip
        if any(row["error_ms"] is None for row in both):
            return None
        has_one_clock = one.partition(":")[0] == other.partition(":")[0]
        return float(sum(row["stamp_ms" if has_one_clock else "error_ms"] for row in both))


def retimed(
    quotes: Table | Sequence[Table],
    ledger: Table,
    found: Clocks,
    *,
    books: Table | Sequence[Table] = (),
) -> Retimed:
    """Put tables on the venues' own time, as far as ``found`` knows their clocks.

    ``quotes``, ``books``: in receive order, of one or several tapes; ``ledger`` of all of them.
    They are read once now and again whenever a frame of the result is; the memory this takes is
    that of a few seconds of rows.

    Gives :class:`Retimed`: tables of the same columns and units, and ``markets`` with errors in ms.

    Raises Failed if rows are not in receive order.
    """
    rows = _in_words(ledger)
    given = {"quotes": _tables(quotes), "books": _tables(books)}
    looks = {name: _Look(rows, name, tapes, found) for name, tapes in given.items() if tapes}
    markets = _judged(list(looks.values()))
    moved = set(markets.filter(pl.col("on") != "recv")["market"])
    frames = {name: look.frames(moved) for name, look in looks.items()}
    others = rows.filter(~pl.col("channel").is_in(list(looks)))
    parts = pl.concat([others, *(look.ledger(moved) for look in looks.values())])
    return Retimed(
        frames.get("quotes", ()),
        frames.get("books", ()),
        parts.sort("venue", "instrument", "channel", "ts_start", "ts_end", maintain_order=True),
        markets,
    )


def _tables(given: Table | Sequence[Table]) -> list[Table]:
    return [given] if isinstance(given, Table) else list(given)


def _in_words(ledger: Table) -> pl.DataFrame:
    text = pl.col("venue", "instrument", "channel", "state", "reason", "detail").cast(pl.String)
    return ledger.lazy().with_columns(text, pl.col("ts_start", "ts_end").cast(TIME)).collect()


def _streams(ledger: pl.DataFrame, channel: str) -> Coin:
    """Give the markets of a channel, of all coins."""
    names = ledger.filter(pl.col("channel") == channel)["instrument"].unique().to_list()
    each = [coin(ledger, base, channel=channel) for base in sorted({base_of(n) for n in names})]
    trusted = {m: spans for c in each for m, spans in c.trusted.items()}
    untrusted = {m: spans for c in each for m, spans in c.untrusted.items()}
    return Coin("", {m: trusted[m] for m in sorted(trusted)}, untrusted)


class _Look:
    """What was seen of the stamps of one channel's tables, and what follows of it."""

    def __init__(
        self, ledger: pl.DataFrame, channel: str, tapes: Sequence[Table], found: Clocks
    ) -> None:
        self._channel, self._ledger = channel, ledger.filter(pl.col("channel") == channel)
        self._tapes, self.of = tapes, _streams(ledger, channel)
        self.tallies = {m: Tally(spans) for m, spans in self.of.trusted.items()}
        self._courses = {
            m: Course.of(found.windows, _venue(m)).tightened() for m in self.of.markets
        }
        self.by_event = set[str]()
        """Markets with a stamp of the venue's matching time."""
        for tape in tapes:
            self._read(tape)

    def _read(self, tape: Table) -> None:
        markets = self.of.markets
        placings = {
            place: Placing(self._courses[m], self.of.trusted[m])
            for place, m in enumerate(markets)
            if len(self._courses[m].ts)
        }
        for batch, each in read(tape, self.of, "ts_event"):
            is_event = batch["ts_event"].is_not_null().to_numpy()
            for own in each:
                self.by_event |= {markets[own.place]} if is_event[own.at].any() else set()
                if own.place in placings:
                    seen = placings[own.place].place(own.rows)
                    self.tallies[markets[own.place]].add(own.rows, seen)

    def frames(self, moved: AbstractSet[str]) -> tuple[pl.LazyFrame, ...]:
        """Give the tables, with the rows of some markets moved."""
        placings = {
            place: (self._courses[m], self.of.trusted[m], self.tallies[m].delay_ns)
            for place, m in enumerate(self.of.markets)
            if m in moved
        }
        return tuple(reordered(tape, self.of, placings) for tape in self._tapes)

    def ledger(self, moved: AbstractSet[str]) -> pl.DataFrame:
        """Give the channel's rows, with the trusted time of some markets moved."""
        name = pl.concat_str("venue", pl.lit(":"), "instrument")
        kept = self._ledger.filter(~name.is_in(moved))
        rows = [
            retrusted(
                self._ledger.filter(name == m), self.of.trusted[m], self.tallies[m],
                self._courses[m],
            )
            for m in self.of.markets
            if m in moved
        ]  # fmt: skip
        return pl.concat([kept, *rows])

    def why_not(self, market: str) -> str | None:
        """Say why a market stays on receive time; ``None`` if it need not."""
        tally, venue = self.tallies[market], _venue(market)
        if not len(self._courses[market].ts):
            return f"no answer of {venue} about the time: its clock is not known"
        if tally.unstamped == tally.rows > 0:
            return f"its {self._channel} carry no time of {venue}"
        if tally.unstamped > MOST_UNPLACED * tally.rows:
            return f"{percent(tally.unstamped / tally.rows)} of its {self._channel} carry no time"
        if tally.early > MOST_UNPLACED * tally.rows:
            return (
                f"{percent(tally.early / tally.rows)} of its {self._channel} are stamped up to "
                f"{tally.early_ns / MS:.3f} ms after they came: more than the clock may be wrong"
            )
        return None

    def error_ms(self, market: str) -> float:
        """Give the worst that the clock may be wrong on trusted time."""
        return worst_ms(self._courses[market], self.of.trusted[market], self.tallies[market])


def _venue(market: str) -> str:
    return market.partition(":")[0]


def _judged(looks: Sequence[_Look]) -> pl.DataFrame:
    """Tell of every market whether all of its tables can be moved, and how well."""
    markets = sorted({m for look in looks for m in look.of.markets})
    each = [[look for look in looks if m in look.tallies] for m in markets]
    rows = [_row(m, own) for m, own in zip(markets, each, strict=True)]
    return pl.DataFrame(rows, schema=MARKETS)


def _row(market: str, looks: Sequence[_Look]) -> dict[str, object]:
    tallies = [look.tallies[market] for look in looks]
    row: dict[str, object] = {
        "market": market,
        "on": "recv",
        **{name: sum(getattr(t, name) for t in tallies) for name in COUNTS},
    }
    reason = next((why for look in looks if (why := look.why_not(market))), None)
    if reason is None and not row["rows"]:
        reason = "no row on trusted time"
    if reason is not None:
        return row | {"reason": reason}
    clock_ms = max(look.error_ms(market) for look in looks)
    stamp_ms = max(t.unit_ns for t in tallies if t.rows) / MS
    return row | {
        "on": "event" if any(market in look.by_event for look in looks) else "send",
        "error_ms": clock_ms + stamp_ms,
        "clock_error_ms": clock_ms,
        "stamp_ms": stamp_ms,
        "delay_ms": max(t.delay_ns for t in tallies) / MS,
    }
