"""Learn the form of a frame by asking the venue's own decoder what each number in it does.

Others are put in its place, and what comes out is looked at. What is a price, a time or an id
wherever it was tried becomes a field, what has no effect may be any number, and all else is to stay
as it is. Of a book's levels one a side is left to learn from, so a book is taken apart as a quote
is; that its levels repeat is tried too. So a form is of one stream and one symbol, in one order of
keys.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from perptape.errors import BadFrame
from perptape.events import Book, Event, Quote
from perptape.matching import (
    ANY,
    BEFORE,
    END,
    FLOAT,
    FOLLOWED,
    LIST,
    MINUS,
    MOST,
    POINT,
    PRICES,
    SIDES,
    WHOLE,
    WHOLES,
)
from perptape.templates import Field, Form, Forms, Part, Read

Decode = Callable[[bytes], list[Event]]
LONGEST = 1024
"""Frames that are longer, with one level a side, are not looked at."""
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')
PLAIN = re.compile(rb"(?:0|[1-9][0-9]{0,18})(?:\.[0-9]+)?")
LEVEL = rb"(?:\[[^\[\]{}]*\]|\{[^\[\]{}]*\})"
LEVELS = re.compile(rb"\[(" + LEVEL + rb")(?:," + LEVEL + rb")*\]")
TRIED = (b"7", b"2", b"90", b"1234567", b"1690000000123")
TRIED_FLOATS = (
    *(b"1", *TRIED),
    *(b"0.5", b"1.50", b"61800.25", b"9007199254740991", b"0." + b"0" * 21 + b"1"),
)
LIMITS = (MOST, MOST // 10**3, MOST // 10**6, MOST // 10**9)
SCALES = (1, 10**3, 10**6, 10**9)
VARIATIONS = 12
"""So many frames with all numbers changed must be read alike before a form is believed."""
UPDATE_ID, FOLLOWS = (WHOLES.index(name) for name in ("update_id", "follows"))


class Told(NamedTuple):
    """What a frame says, as a quote: a book of one level a side is such."""

    is_book: bool
    symbol: str
    is_snapshot: bool
    numbers: tuple[float | None, ...]
    """``PRICES``, then ``WHOLES``."""

    def put(self, numbers: dict[int, float]) -> "Told":
        """Give the same with other numbers."""
        return self._replace(
            numbers=tuple(numbers.get(at, was) for at, was in enumerate(self.numbers))
        )


Ask = Callable[[bytes], Told | None]
"""What a frame says with another text in the place of a number."""
Found = tuple[int, int, Field]
"""Where a number begins and ends, and what it is."""


def learn(decode: Decode, payload: bytes) -> Form | None:
    """Give the form of a frame, if it is one quote or book whose every part is known."""
    told = _told(decode, payload)
    if told is None:
        payload = shortened(payload)
        told = _told(decode, payload)
    if len(payload) > LONGEST:
        return None
    if told is None or None in told.numbers[: len(PRICES)]:
        return None
    found = []
    for begin, stop in _plain(payload):
        field = _field(decode, payload, begin, stop, told)
        if field is not None:
            found.append((begin, stop, field))
    if told.is_book:
        found = list(_with_lists(payload, found))
    said = tuple(number is not None for number in told.numbers[len(PRICES) :])
    parts = tuple(_parts(payload, 0, len(payload), found))
    form = Form(told.is_book, told.symbol, told.is_snapshot, parts, said)
    return form if _is_whole(form) and _is_true(form, decode) else None


def shortened(payload: bytes) -> bytes:
    """Leave one level of each side of a book."""
    return LEVELS.sub(rb"[\1]", payload)


def _told(decode: Decode, payload: bytes) -> Told | None:
    """Give what a frame says, if that is one quote, or one book of a level a side."""
    try:
        (event,) = decode(payload)
    except (BadFrame, ValueError):
        return None
    if isinstance(event, Quote):
        prices = (event.bid_price, event.bid_qty, event.ask_price, event.ask_qty)
        times = (event.ts_event, event.ts_send)
        return Told(False, event.symbol, False, (*prices, *times, event.update_id, None))  # noqa: FBT003 - of a row
    if not isinstance(event, Book) or (len(event.bids), len(event.asks)) != (1, 1):
        return None
    ids = (event.update_id, event.follows)
    numbers = (*event.bids[0], *event.asks[0], event.ts_event, event.ts_send, *ids)
    return Told(True, event.symbol, event.is_snapshot, numbers)  # noqa: FBT003


def _plain(payload: bytes) -> Iterable[tuple[int, int]]:
    """Find the numbers of a frame, in quotes or not, that are written without a sign or ``e``."""
    for token in TOKEN.finditer(payload):
        quotes = int(token[0].startswith(b'"'))
        begin, stop = token.start() + quotes, token.end() - quotes
        is_key = quotes and payload[token.end() : token.end() + 1] == b":"
        if not is_key and PLAIN.fullmatch(payload, begin, stop):
            yield begin, stop


def _field(decode: Decode, payload: bytes, begin: int, stop: int, told: Told) -> Field | None:
    """Tell what a number is by what the decoder makes of others in its place."""

    def ask(text: bytes) -> Told | None:
        return _told(decode, payload[:begin] + text + payload[stop:])

    was = payload[begin:stop]
    other = ask(next(text for text in TRIED if float(text) != float(was)))
    if other is None or other[:3] != told[:3]:
        return None
    pairs = enumerate(zip(told.numbers, other.numbers, strict=True))
    changed = [at for at, (before, after) in pairs if before != after]
    if not changed:
        return _without_effect(ask, told)
    if changed[0] < len(PRICES):
        return _price(ask, told, changed[0]) if len(changed) == 1 else None
    return _whole(ask, told, [at - len(PRICES) for at in changed])


def _price(ask: Ask, told: Told, at: int) -> Field | None:
    if not all(ask(text) == told.put({at: float(text)}) for text in TRIED_FLOATS):
        return None
    is_zero = all(ask(text) == told.put({at: 0.0}) for text in (b"0", b"0.00"))
    return Field(FLOAT, at, least=int(not is_zero))


def _whole(ask: Ask, told: Told, changed: list[int]) -> Field | None:
    """Tell of a number that is a time or an id, or the id before it too."""
    if changed not in ([UPDATE_ID, FOLLOWS], changed[:1]):
        return None
    dest, flags = changed[0], FOLLOWED if len(changed) > 1 else 0
    for scale in SCALES:
        for field in (Field(WHOLE, dest, scale, flags=flags), _before(dest)):

            def is_so(value: int, field: Field = field) -> bool:
                return ask(b"%d" % value) == told.put(_meant(field, value))

            if all(is_so(int(text)) for text in TRIED):
                limit = next((m for m in LIMITS if m * scale <= MOST and is_so(m)), 0)
                return field._replace(limit=limit, least=_least(is_so)) if limit else None
    return None


def _before(dest: int) -> Field:
    return Field(WHOLE, dest, flags=BEFORE if dest == FOLLOWS else 0)


def _meant(field: Field, value: int) -> dict[int, float]:
    """Give what a whole number says: which numbers, by their place."""
    at = len(PRICES) + field.dest
    told: dict[int, float] = {at: value * field.scale - (1 if field.flags & BEFORE else 0)}
    return told | {at + 1: value - 1} if field.flags & FOLLOWED else told


def _least(is_so: Callable[[int], bool]) -> int:
    """Some venues mean something else by 0, or by 1."""
    return 2 if not is_so(1) else 1 if not is_so(0) else 0


def _without_effect(ask: Ask, told: Told) -> Field | None:
    def is_so(value: int) -> bool:
        return ask(b"%d" % value) == told

    if not all(ask(text) == told for text in TRIED):
        return None
    limit = next(filter(is_so, LIMITS), 0)
    flags = MINUS if is_so(-1) and is_so(-limit) else 0
    flags |= POINT if all(ask(text) == told for text in TRIED_FLOATS) else 0
    return Field(ANY, limit=limit, least=_least(is_so), flags=flags) if limit else None


# Putting it together


def _with_lists(payload: bytes, found: list[Found]) -> Iterator[Found]:
    """Take the numbers of each side's level together: they may come again and again."""
    at = 0
    for levels in LEVELS.finditer(payload):
        begin, stop = levels.span(1)
        own = [each for each in found if begin <= each[0] < stop]
        sides = {field.dest // SIDES for *_, field in own if field.op == FLOAT}
        if len(sides) == 1:
            yield from (each for each in found if at <= each[0] < begin)
            level = tuple(_parts(payload, begin, stop, own))
            yield begin, stop, Field(LIST, sides.pop(), element=level)
            at = stop
    yield from (each for each in found if each[0] >= at)


def _parts(payload: bytes, begin: int, stop: int, found: list[Found]) -> Iterator[Part]:
    for first, last, field in found:
        yield payload[begin:first], field
        begin = last
    yield payload[begin:stop], Field(END)


def _is_whole(form: Form) -> bool:
    """Tell whether everything that a frame says comes from one number each."""
    fields = [field for _, field in form.parts]
    levels = [[f for _, f in field.element] for field in fields if field.op == LIST]
    is_full = all(
        sorted(f.op for f in own if f.op in {FLOAT, WHOLE}) == [FLOAT] * 2 for own in levels
    )
    floats = sorted(f.dest for own in [fields, *levels] for f in own if f.op == FLOAT)
    wholes = [f.dest for f in fields if f.op == WHOLE]
    wholes += [FOLLOWS for f in fields if f.op == WHOLE and f.flags & FOLLOWED]
    is_said = sorted(wholes) == [at for at, is_ in enumerate(form.said) if is_]
    return len(levels) == SIDES * form.is_book and is_full and floats == [0, 1, 2, 3] and is_said


def _is_true(form: Form, decode: Decode) -> bool:
    """Read some frames of the form both ways: numbers may have an effect on each other."""
    forms = Forms()
    forms.add("", form)
    dice = random.Random(0)  # noqa: S311 - the same for every learning of a form
    frames = [written(form, dice) for _ in range(VARIATIONS)]
    payload = np.frombuffer(b"".join(frames), np.uint8)
    read = Read.empty(len(frames), len(payload))
    offsets = np.cumsum([0, *map(len, frames)])
    forms.match(payload, offsets, np.zeros(len(frames), np.int64), [""], read)
    try:
        return all(decode(frame) == [read.event(k, forms)] for k, frame in enumerate(frames))
    except BadFrame:
        return False


def written(form: Form, dice: random.Random) -> bytes:
    """Write a frame of a form, with numbers that it allows."""
    return _written(form.parts, dice)


def _written(parts: Iterable[Part], dice: random.Random) -> bytes:
    text = []
    for literal, field in parts:
        text.append(literal)
        if field.op == FLOAT:
            places = dice.randint(0, 9)
            is_none = field.least == 0 and dice.random() < 1 / 4
            number = 0.0 if is_none else dice.randint(1, 10**6) / 10**places + 1
            text.append(b"%.*f" % (places, number))
        elif field.op == LIST:
            levels = (_written(field.element, dice) for _ in range(dice.choice((0, 1, 2, 3, 50))))
            text.append(b",".join(levels))
        elif field.op != END:
            most = min(field.limit, 10 ** dice.randint(1, 18))
            text.append(b"%d" % dice.randint(max(field.least, 1), most))
    return b"".join(text)
