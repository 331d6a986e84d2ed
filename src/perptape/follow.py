"""Frames of many streams in one loop: what the ledger does for each if nothing is wrong with it.

What is remembered of a stream is here a record, :class:`Known`. The loop stops before the first
frame of which more may come than a row, and what it leaves is as if all before it had been looked
at one by one. Its rules are those of :mod:`perptape.checks` and :mod:`perptape.course`, and a test
compares.
"""

from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from perptape import checks
from perptape.book import Shelf, change_book
from perptape.loops import compiled
from perptape.matching import Floats, Ints
from perptape.templates import Read

Flags = NDArray[np.bool_]
Records = NDArray[np.void]
"""Of :data:`RECORD`."""

FAR = 1 << 61
"""Times beyond it (and sums of gaps beyond half of it) are left to numbers without a bound."""
LONG = 1 << 55
"""Likewise gaps."""
UPDATE_ID, FOLLOWS = 2, 3
NOBODY = -1


class Known(NamedTuple):
    """What is known of a stream. As a record, changed in place."""

    is_regular: bool = False
    """One more frame in time changes nothing but what is here."""
    idles: bool = False
    """It is a book that has not begun: of a change only its ids are remembered."""
    stands: bool = False
    """It is trusted, so others are compared with it."""
    is_file: bool = False
    """It is imported: its cadence is not learned, and it stands for a while only."""
    last: int = 0
    promised: int = 0
    floor: int = 0
    gaps: int = 0
    gaps_ns: int = 0
    longest_ns: int = 0
    pause: int = 0
    bound: int = 0
    awake_since: int = 0
    bid: float = np.nan
    ask: float = np.nan
    against: int = 0
    beside: int = NOBODY
    """Of a book: the record of the quotes that it must not contradict."""
    book: int = NOBODY
    """Its number, if it is a book."""
    is_void: bool = True
    has_id: bool = False
    id: int = 0
    has_first: bool = False
    first: int = 0
    """If it idles, ``id`` is that of the last change, and this what the first follows of those that
    follow each other."""
    since: int = 0
    began: bool = False
    """A whole book was applied,"""
    changed: bool = False
    """and a change after it, or at all."""
    frames: int = 0
    """So many were followed,"""
    row: int = 0
    """and the last of them."""


KINDS = {bool: np.bool_, int: np.int64, float: np.float64}
RECORD = np.dtype([(name, KINDS[kind]) for name, kind in get_type_hints(Known).items()])


class Rules(NamedTuple):
    """What the checks go by. Handed in: what is compiled would keep those of another version."""

    learn_every: int
    gaps: int
    pause_ns: int
    pauses: int
    longest: int
    means: int
    contradicted_ns: int
    new_ns: int
    outside_bps: float

    @classmethod
    def now(cls) -> "Rules":
        return cls(
            checks.LEARN_EVERY,
            checks.GAPS,
            checks.PAUSE_NS,
            checks.PAUSE,
            checks.LONGEST,
            checks.MEAN,
            checks.CONTRADICTED_NS,
            checks.ODD_NS,
            checks.OUTSIDE_BPS,
        )


class Said(NamedTuple):
    """What is the same in all frames of a form: [form]."""

    is_snapshot: Flags
    whole: Flags
    """[form, of ``WHOLES``]: which of them there are."""


class Traded(NamedTuple):
    """Trades between the frames that are followed, and whose best prices each is held against."""

    row: Ints
    place: Ints
    price: Floats

    @classmethod
    def of(cls, trades: list[tuple[int, int, float]]) -> "Traded":
        rows, places, prices = zip(*trades, strict=True) if trades else ((), (), ())
        return cls(np.array(rows, np.int64), np.array(places, np.int64), np.array(prices, float))


@compiled
def follow(  # noqa: C901, PLR0911, PLR0912, PLR0913, PLR0917 - one loop, for speed
    row: int,
    stop: int,
    lane: Ints,
    ts: Ints,
    read: Read,
    said: Said,
    traded: Traded,
    known: Records,
    shelf: Shelf,
    rules: Rules,
) -> tuple[int, bool]:
    """Follow the frames from ``row`` to ``stop``, each that of ``lane[row]``; below 0: of none.

    Gives the first that is not regular, or before which a trade is not; and whether the last that
    was followed is to be looked at again: its book is crossed, or contradicts the quotes too long.
    """
    trade = np.searchsorted(traded.row, row)
    for at in range(row, stop):
        k, now = lane[at], ts[at]
        if k < 0:
            while trade < len(traded.row) and traded.row[trade] == at:
                top = known[traded.place[trade]]
                if _is_outside(top, traded.price[trade], now, rules):
                    return at, False
                trade += 1
            continue
        one = known[k]
        gap = now - one.last
        if not one.last <= now < FAR or gap >= LONG:
            return at, False
        if one.idles and not said.is_snapshot[read.form[at]]:
            _idle(one, at, now, read, said)
            continue
        if not one.is_regular or gap > one.bound:
            return at, False
        form, is_book = read.form[at], one.book != NOBODY
        is_whole, has_id = is_book and said.is_snapshot[form], said.whole[form, UPDATE_ID]
        if is_book and not is_whole:
            is_next = read.wholes[FOLLOWS, at] == one.id
            is_next |= not (one.has_id and has_id and said.whole[form, FOLLOWS])
            if one.is_void or not is_next:
                return at, False
        _beat(one, gap, now, rules)
        one.frames += 1
        one.row = at
        one.against = 0
        if not is_book:
            one.bid, one.ask = read.prices[0, at], read.prices[2, at]
            continue
        one.is_void = False
        one.began, one.changed = one.began or is_whole, not is_whole
        if is_whole or has_id:
            one.has_id, one.id = has_id, read.wholes[UPDATE_ID, at]
        first, middle, last = read.cuts[0, at], read.cuts[1, at], read.cuts[2, at]
        one.bid, one.ask = change_book(
            shelf, one.book, read.levels, first, middle, last, int(is_whole)
        )
        if one.bid >= one.ask:
            return at + 1, True
        if one.beside == NOBODY or not _contradicts(one, known[one.beside], now, rules):
            one.since = 0
        elif one.since == 0:
            one.since = now
        elif now - one.since >= rules.contradicted_ns:
            return at + 1, True
    return stop, False


@compiled
def _idle(one: Any, at: int, now: int, read: Read, said: Said) -> None:
    """Take in a change that nothing is to be changed by."""
    if now - one.last > one.pause:
        one.awake_since = now
    one.last = now
    one.frames += 1
    one.row = at
    has_id, has_follows = said.whole[read.form[at], UPDATE_ID], said.whole[read.form[at], FOLLOWS]
    follows = read.wholes[FOLLOWS, at]
    if not (one.has_id and has_follows and follows == one.id):
        one.has_first, one.first = has_follows, follows
    one.has_id, one.id = has_id, read.wholes[UPDATE_ID, at]


@compiled
def _stands(top: Any, now: int, rules: Rules) -> bool:
    is_new = 0 <= now - top.last <= rules.new_ns
    return top.stands and (is_new or not top.is_file)


@compiled
def _contradicts(one: Any, top: Any, now: int, rules: Rules) -> bool:
    return (one.bid > top.ask or one.ask < top.bid) and _stands(top, now, rules)


@compiled
def _is_outside(top: Any, price: float, now: int, rules: Rules) -> bool:
    """Tell whether a trade is far from best prices, or the last one was."""
    far = price * rules.outside_bps / 1e4
    is_far = price > top.ask + far or price < top.bid - far or top.against != 0
    return is_far and _stands(top, now, rules)


@compiled
def _beat(one: Any, gap: int, now: int, rules: Rules) -> None:
    """Take in the time since a stream's last frame."""
    one.last = now
    if gap > one.pause:
        one.awake_since = now
    if one.is_file:
        return
    one.gaps += 1
    one.gaps_ns += gap
    if gap <= one.longest_ns and one.gaps % rules.learn_every:
        return
    one.longest_ns = max(one.longest_ns, gap)
    if one.promised:
        one.bound = one.promised
    elif one.gaps >= rules.gaps:
        mean = one.gaps_ns // one.gaps
        one.pause = max(rules.pause_ns, rules.pauses * mean)
        most = max(rules.longest * one.longest_ns, rules.means * mean)
        one.bound = max(one.floor, most)
