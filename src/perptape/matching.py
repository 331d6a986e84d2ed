"""Frames held against forms: the loops of :mod:`perptape.templates`, arrays in, arrays out.

All that is read is exact: a number whose float64 is not one division of two exact ones is no match,
and a frame with a byte too many is none.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.loops import compiled, written_out

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

PRICES = ("bid_price", "bid_qty", "ask_price", "ask_qty")
WHOLES = ("ts_event", "ts_send", "update_id", "follows")
SIDES = 2
END, FLOAT, WHOLE, ANY, LIST, FORK = range(6)
"""What follows a literal: nothing, a number of ``PRICES``, of ``WHOLES``, or one without effect, or
a book's levels of one side; or nothing, but here literals begin to differ."""
MINUS, POINT, BEFORE, FOLLOWED = 1, 2, 4, 8
"""What a number without effect may be too; ``BEFORE``: the number less 1 is meant; ``FOLLOWED``: it
is an ``update_id``, and less 1 what this follows."""
MOST = 2**63 - 1
MOST_DIGIT = 9
EXACT = 2**53
"""Whole numbers below it are float64."""
TENS = 10.0 ** np.arange(23)
"""The powers of ten that are float64."""
DIGITS = 18
"""So many always fit into 64 bits."""
SHORTEST = 6
"""Bytes of a level: ``[1,1],``."""
OP, DEST, SCALE, LIMIT, LEAST, FLAGS = range(6)


class Trie(NamedTuple):
    """All forms: a node is a literal and what follows it; alternatives are ``sibling``s.

    Those with a literal begin with different bytes, so that one of many symbols is soon found.
    """

    text: Bytes
    begin: Ints
    """[node]: where its literal lies in ``text``."""
    stop: Ints
    field: Ints
    """[node, part of a Field]; of a list ``SCALE`` is the first node of its element."""
    child: Ints
    """[node]: its first child; of an end: the number of its form."""
    sibling: Ints
    """[node]: -1 for the last."""


@written_out
def _is_there(data: Bytes, at: int, text: Bytes, begin: int, stop: int) -> bool:
    """Tell whether a literal stands at a place."""
    k = begin
    while k < stop and data[at + k - begin] == text[k]:
        k += 1
    return k == stop


@written_out
def _number(data: Bytes, at: int, stop: int) -> tuple[np.int64, int, int]:
    """Read a plain number: its digits as a whole one, how many are decimals, and where it ends.

    It ends at -1 if there is none, or none that fits.
    """
    begin, whole, decimals = at, np.int64(0), 0
    while at < stop:
        digit = np.int64(data[at]) - ord("0")
        if digit < 0 or digit > MOST_DIGIT:
            break
        whole = whole * 10 + digit
        at += 1
    digits = at - begin
    is_good = digits == 1 or (digits > 0 and data[begin] != ord("0"))
    if at < stop and data[at] == ord("."):
        at += 1
        point = at
        while at < stop:
            digit = np.int64(data[at]) - ord("0")
            if digit < 0 or digit > MOST_DIGIT:
                break
            whole = whole * 10 + digit
            at += 1
        decimals = at - point
        is_good = is_good and decimals > 0
    if digits + decimals > DIGITS:
        is_good = is_good and _fits(data, begin, at)
    return whole, decimals, (at if is_good else -1)


@compiled
def _fits(data: Bytes, at: int, stop: int) -> bool:
    """Tell whether the digits of a number are no more than 64 bits hold."""
    whole = np.int64(0)
    while at < stop:
        if data[at] != ord("."):
            digit = np.int64(data[at]) - ord("0")
            if whole > (MOST - digit) // 10:
                return False
            whole = whole * 10 + digit
        at += 1
    return True


@written_out
def _float(data: Bytes, at: int, stop: int, least: int) -> tuple[float, int]:
    """Read a plain number that is one exact division; and where it ends, -1 if there is none."""
    whole, decimals, here = _number(data, at, stop)
    is_good = here >= 0 and least <= whole < EXACT and decimals < len(TENS)
    value = whole / TENS[decimals] if is_good else 0.0
    return value, (here if is_good else -1)


@written_out
def _any(  # noqa: PLR0913, PLR0917 - a field has these parts
    data: Bytes, at: int, stop: int, limit: int, least: int, flags: int
) -> int:
    """Tell where a number without effect ends, -1 if it is none that is allowed."""
    if flags & MINUS and at < stop and data[at] == ord("-"):
        at += 1
    whole, decimals, here = _number(data, at, stop)
    is_good = here >= 0 and least <= whole <= limit and (decimals == 0 or flags & POINT != 0)
    return here if is_good else -1


@compiled
def _levels(  # noqa: PLR0913, PLR0917 - one loop, for speed
    data: Bytes, at: int, stop: int, first: int, trie: Trie, levels: Floats, used: int
) -> tuple[int, int]:
    """Read one side's levels; give where they end, -1 if they are no such, and how many there are.

    An element's nodes follow each other: no form has two kinds of levels.
    """
    text, begins, stops, fields, _, _ = trie
    if at < stop and data[at] == ord("]"):
        return at, used
    while True:
        node = first
        while True:
            width = stops[node] - begins[node]
            if at + width > stop or not _is_there(data, at, text, begins[node], stops[node]):
                return -1, used
            at += width
            op = fields[node, OP]
            if op == END:
                break
            least = fields[node, LEAST]
            if op == FLOAT:
                levels[fields[node, DEST] & 1, used], at = _float(data, at, stop, least)
            else:
                limit, flags = fields[node, LIMIT], fields[node, FLAGS]
                at = _any(data, at, stop, limit, least, flags)
            if at < 0:
                return -1, used
            node += 1
        used += 1
        if at >= stop or data[at] != ord(","):
            return at, used
        at += 1


@compiled
def _swap(levels: Floats, first: int, middle: int, last: int) -> None:
    """Put what comes second before what comes first."""
    for low, high in ((first, last), (first, first + last - middle), (first + last - middle, last)):
        a, b = low, high - 1
        while a < b:
            for row in range(2):
                levels[row, a], levels[row, b] = levels[row, b], levels[row, a]
            a, b = a + 1, b - 1


@compiled
def read_frames(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - one loop, for speed
    payload: Bytes,
    offsets: Ints,
    whose: Ints,
    roots: Ints,
    trie: Trie,
    form: Ints,
    prices: Floats,
    wholes: Ints,
    cuts: Ints,
    levels: Floats,
) -> None:
    """Read all frames; see :meth:`perptape.templates.Forms.match`."""
    text, begins, stops, fields, children, siblings = trie
    used = cuts[2].max() if len(whose) else 0
    for k in range(len(whose)):
        node = roots[whose[k]] if whose[k] >= 0 and form[k] < 0 else -1
        at, end = offsets[k], offsets[k + 1]
        first_side, begin, middle = -1, used, used
        now = used
        while node >= 0:
            here = at + stops[node] - begins[node]
            if here > end or not _is_there(payload, at, text, begins[node], stops[node]):
                node = siblings[node]
                continue
            op, dest = fields[node, OP], fields[node, DEST]
            least, flags = fields[node, LEAST], fields[node, FLAGS]
            if op == FORK:
                at, node = here, children[node]
                continue
            if op == END:
                if here != end:
                    node = siblings[node]
                    continue
                form[k] = children[node]
                if first_side >= 0:
                    if first_side == 1:
                        _swap(levels, begin, middle, now)
                        middle = begin + now - middle
                    cuts[0, k], cuts[1, k], cuts[2, k] = begin, middle, now
                    used = now
                break
            if op == FLOAT:
                prices[dest, k], here = _float(payload, here, end, least)
            elif op == LIST:
                here, more = _levels(payload, here, end, fields[node, SCALE], trie, levels, now)
                if here >= 0:
                    if first_side < 0:
                        first_side, middle = dest, more
                    now = more
            elif op == ANY:
                here = _any(payload, here, end, fields[node, LIMIT], least, flags)
            else:
                whole, decimals, here = _number(payload, here, end)
                if here >= 0 and decimals == 0 and least <= whole <= fields[node, LIMIT]:
                    wholes[dest, k] = whole * fields[node, SCALE] - (1 if flags & BEFORE else 0)
                    if flags & FOLLOWED:
                        wholes[dest + 1, k] = whole - 1
                else:
                    here = -1
            if here >= 0:
                at, node = here, children[node]
            else:
                node = siblings[node]
