"""Frames of one form read in bulk, without a parser: forms are learned, and exact or refused.

A venue prints the same message again and again; only its numbers change. :func:`learn` takes a
frame of one quote apart by asking the venue's own decoder what each number in it does: it puts
others in its place and looks at what comes out. What is a price, a time or an id wherever it was
tried becomes a field, what has no effect may be any number, and all else is to stay as it is, byte
for byte. So a form is of one stream and one symbol, in one order of keys.

:meth:`Forms.match` then reads all frames of a batch by all forms, which share what they begin with.
A frame that is not exactly of a form is a miss, and goes to the decoder; so does every number whose
float64 is not one division of two exact ones.
"""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self, TypeVar, cast

import numpy as np
from msgspec.structs import replace
from numba import njit
from numpy.typing import NDArray

from perptape.errors import BadFrame
from perptape.events import Event, Quote

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Loop = TypeVar("Loop", bound=Callable[..., object])
Decode = Callable[[bytes], list[Event]]

PRICES = ("bid_price", "bid_qty", "ask_price", "ask_qty")
WHOLES = ("ts_event", "ts_send", "update_id")
END, FLOAT, WHOLE, ANY = range(4)
"""What follows a literal: nothing, a number of ``PRICES``, of ``WHOLES``, or one without effect."""
ZERO, MINUS, POINT = 1, 2, 4
"""What a number without effect may be too, and (``ZERO``) one of ``WHOLES``."""
LONGEST = 1024
"""Longer frames are not looked at: they are no quotes."""
MOST = 2**63 - 1
EXACT = 2**53
"""Whole numbers below it are float64."""
TENS = 10.0 ** np.arange(23)
"""The powers of ten that are float64."""
DIGITS = 18
"""So many always fit into 64 bits."""
FORMS = 4096
"""More are not learned."""

TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')
PLAIN = re.compile(rb"(?:0|[1-9][0-9]{0,18})(?:\.[0-9]+)?")
TRIED = (b"1", b"7", b"90", b"1234567", b"1690000000123")
TRIED_FLOATS = (*TRIED, b"0.5", b"1.50", b"61800.25", b"9007199254740991", b"0." + b"0" * 21 + b"1")
LIMITS = (MOST, MOST // 10**3, MOST // 10**6, MOST // 10**9)
SCALES = (1, 10**3, 10**6, 10**9)
VARIATIONS = 12
"""So many frames with all numbers changed must be read alike before a form is believed."""


class Field(NamedTuple):
    """What a number of a form is."""

    op: int
    dest: int = 0
    """Which of ``PRICES`` or ``WHOLES``."""
    scale: int = 1
    """By what a whole number is multiplied."""
    limit: int = MOST
    flags: int = 0


class Form(NamedTuple):
    """Frames that differ in their numbers only."""

    symbol: str
    literals: tuple[bytes, ...]
    fields: tuple[Field, ...]
    """One after each literal, the last of them ``END``."""
    said: tuple[bool, ...]
    """Which of ``WHOLES`` there are."""


# Learning


def learn(decode: Decode, payload: bytes) -> Form | None:
    """Give the form of a frame, if it is one quote whose every part is known; else ``None``."""
    quote = _quote(decode, payload)
    if quote is None or len(payload) > LONGEST or None in _numbers(quote)[: len(PRICES)]:
        return None
    found: list[tuple[int, int, Field]] = []
    for begin, stop in _plain(payload):
        field = _field(decode, payload, begin, stop, quote)
        if field is not None:
            found.append((begin, stop, field))
    cuts = [0, *(cut for begin, stop, _ in found for cut in (begin, stop)), len(payload)]
    literals = tuple(payload[a:b] for a, b in zip(cuts[::2], cuts[1::2], strict=True))
    fields = (*(field for *_, field in found), Field(END))
    said = tuple(getattr(quote, name) is not None for name in WHOLES)
    form = Form(quote.symbol, literals, fields, said)
    return form if _is_whole(form) and _is_true(form, decode) else None


def _quote(decode: Decode, payload: bytes) -> Quote | None:
    """Give what a frame says if that is one quote."""
    try:
        events = decode(payload)
    except BadFrame:
        return None
    return events[0] if len(events) == 1 and isinstance(events[0], Quote) else None


def _numbers(quote: Quote) -> list[float | None]:
    return [getattr(quote, name) for name in (*PRICES, *WHOLES)]


def _plain(payload: bytes) -> Iterable[tuple[int, int]]:
    """Find the numbers of a frame, in quotes or not, that are written without a sign or ``e``."""
    for token in TOKEN.finditer(payload):
        quotes = int(token[0].startswith(b'"'))
        begin, stop = token.start() + quotes, token.end() - quotes
        is_key = quotes and payload[token.end() : token.end() + 1] == b":"
        if not is_key and PLAIN.fullmatch(payload, begin, stop):
            yield begin, stop


def _field(decode: Decode, payload: bytes, begin: int, stop: int, quote: Quote) -> Field | None:
    """Tell what a number is by what the decoder makes of others in its place."""

    def told(text: bytes) -> Quote | None:
        return _quote(decode, payload[:begin] + text + payload[stop:])

    was = payload[begin:stop]
    other = told(next(text for text in TRIED if float(text) != float(was)))
    if other is None:
        return None
    pairs = zip((*PRICES, *WHOLES), _numbers(quote), _numbers(other), strict=True)
    changed = [name for name, before, after in pairs if before != after]
    if not changed:
        return _without_effect(told, quote) if other == quote else None
    if len(changed) > 1:
        return None
    (name,) = changed
    if name in PRICES:
        is_float = all(told(t) == replace(quote, **{name: float(t)}) for t in TRIED_FLOATS)
        return Field(FLOAT, PRICES.index(name)) if is_float else None
    return _whole(told, quote, name)


Told = Callable[[bytes], Quote | None]


def _whole(told: Told, quote: Quote, name: str) -> Field | None:
    for scale in SCALES:

        def is_so(value: int, scale: int = scale) -> bool:
            return told(b"%d" % value) == replace(quote, **{name: value * scale})

        if all(is_so(int(text)) for text in TRIED):
            limit = next((m for m in LIMITS if m * scale <= MOST and is_so(m)), 0)
            flags = ZERO if is_so(0) else 0
            return Field(WHOLE, WHOLES.index(name), scale, limit, flags) if limit else None
    return None


def _without_effect(told: Told, quote: Quote) -> Field | None:
    if not all(told(text) == quote for text in TRIED):
        return None
    limit = next((most for most in LIMITS if told(b"%d" % most) == quote), 0)
    flags = ZERO if told(b"0") == quote else 0
    if all(told(b"%d" % value) == quote for value in (-1, -limit)):
        flags |= MINUS
    if all(told(text) == quote for text in TRIED_FLOATS):
        flags |= POINT
    return Field(ANY, limit=limit, flags=flags) if limit else None


def _is_whole(form: Form) -> bool:
    """Tell whether everything that a quote says comes from one number each."""
    floats = sorted(f.dest for f in form.fields if f.op == FLOAT)
    wholes = sorted(f.dest for f in form.fields if f.op == WHOLE)
    return floats == [*range(len(PRICES))] and wholes == [
        k for k, is_ in enumerate(form.said) if is_
    ]


def _is_true(form: Form, decode: Decode) -> bool:
    """Read some frames of the form both ways: numbers may have an effect on each other."""
    forms = Forms()
    forms.add("", form)
    dice = random.Random(0)  # noqa: S311 - the same for every learning of a form
    frames = [written(form, dice) for _ in range(VARIATIONS)]
    read = Read.empty(len(frames))
    offsets = np.cumsum([0, *map(len, frames)])
    payload = np.frombuffer(b"".join(frames), np.uint8)
    forms.match(payload, offsets, np.zeros(len(frames), np.int64), [""], read)
    return all(read.quote(k, forms) == _quote(decode, frame) for k, frame in enumerate(frames))


def written(form: Form, dice: random.Random) -> bytes:
    """Write a frame of a form, with numbers that it allows."""
    parts = []
    for literal, field in zip(form.literals, form.fields, strict=True):
        parts.append(literal)
        if field.op == FLOAT:
            places = dice.randint(0, 9)
            parts.append(b"%.*f" % (places, dice.randint(1, 10**6) / 10**places + 1))
        elif field.op != END:
            parts.append(b"%d" % dice.randint(1, min(field.limit, 10 ** dice.randint(1, 18))))
    return b"".join(parts)


# Reading


class Trie(NamedTuple):
    """All forms: a node is a literal and what follows it; alternatives are ``sibling``s."""

    text: Bytes
    begin: Ints
    """[node]: where its literal lies in ``text``."""
    stop: Ints
    field: Ints
    """[node, part of a Field]."""
    child: Ints
    """[node]: its first child; of an end: the number of its form."""
    sibling: Ints
    """[node]: -1 for the last."""


class Read(NamedTuple):
    """What the forms made of frames: [frame]."""

    form: Ints
    """-1: a miss, and what stands beside it means nothing."""
    prices: Floats
    """[of ``PRICES``, frame]."""
    wholes: Ints
    """[of ``WHOLES``, frame]; 0 where the form does not say."""

    @classmethod
    def empty(cls, frames: int) -> Self:
        """Make room for so many, all misses."""
        prices, wholes = np.empty((len(PRICES), frames)), np.zeros((len(WHOLES), frames), np.int64)
        return cls(np.full(frames, -1, np.int64), prices, wholes)

    def quote(self, at: int, forms: "Forms") -> Quote | None:
        """Give one of them as an event, ``None`` of a miss."""
        if self.form[at] < 0:
            return None
        form = forms.forms[self.form[at]]
        wholes = [int(self.wholes[k, at]) if is_ else None for k, is_ in enumerate(form.said)]
        bid, bid_qty, ask, ask_qty = self.prices[:, at].tolist()
        return Quote(form.symbol, wholes[0], wholes[1], bid, bid_qty, ask, ask_qty, wholes[2])


class Forms:
    """The forms that are known, of all venues."""

    def __init__(self) -> None:
        self.forms: list[Form] = []
        self.symbols: dict[str, int] = {}
        """Of all forms, numbered as they came."""
        self._root: dict[str, int] = {}
        """By venue: its first node."""
        self._literals: list[bytes] = []
        self._fields: list[Field] = []
        self._child: list[int] = []
        self._sibling: list[int] = []
        self._trie: Trie | None = None

    def add(self, venue: str, form: Form) -> bool:
        """Take in a form; False if it is known."""
        self._trie, is_new, above = None, False, -1
        for literal, field in zip(form.literals, form.fields, strict=True):
            first = self._root.get(venue, -1) if above < 0 else self._child[above]
            node = first
            while node >= 0 and (self._literals[node], self._fields[node]) != (literal, field):
                node = self._sibling[node]
            if node < 0:
                is_new, node = True, self._new(literal, field, first)
                if above < 0:
                    self._root[venue] = node
                else:
                    self._child[above] = node
            above = node
        if is_new:
            self._child[above] = len(self.forms)
            self.forms.append(form)
            self.symbols.setdefault(form.symbol, len(self.symbols))
        return is_new

    def _new(self, literal: bytes, field: Field, sibling: int) -> int:
        self._literals.append(literal)
        self._fields.append(field)
        self._child.append(-1)
        self._sibling.append(sibling)
        return len(self._literals) - 1

    def match(
        self, payload: Bytes, offsets: Ints, whose: Ints, venues: Sequence[str], read: Read
    ) -> None:
        """Read frames that are not read yet: k is ``payload[offsets[k]:offsets[k + 1]]``.

        It is of ``venues[whose[k]]``; below 0: of none.
        """
        roots = np.array([self._root.get(venue, -1) for venue in venues], np.int64)
        if self.forms:
            read_frames(payload, offsets, whose, roots, self._laid_out(), *read)

    def symbol_of(self) -> Ints:
        """[form]: the number of its symbol in ``symbols``."""
        return np.array([self.symbols[form.symbol] for form in self.forms], np.int64)

    def said(self) -> NDArray[np.bool_]:
        """[form, of ``WHOLES``]: which of them there are."""
        return np.array([form.said for form in self.forms], np.bool_).reshape(-1, len(WHOLES))

    def _laid_out(self) -> Trie:
        if self._trie is None:
            stops = np.cumsum([0, *map(len, self._literals)])
            self._trie = Trie(
                np.frombuffer(b"".join(self._literals), np.uint8),
                stops[:-1].copy(),
                stops[1:].copy(),
                np.array(self._fields, np.int64),
                np.array(self._child, np.int64),
                np.array(self._sibling, np.int64),
            )
        return self._trie


def compiled(loop: Loop) -> Loop:
    return cast("Loop", njit(cache=True, nogil=True, error_model="numpy")(loop))


@compiled
def _is_there(data: Bytes, at: int, text: Bytes, begin: int, stop: int) -> bool:
    """Tell whether a literal stands at a place."""
    for k in range(stop - begin):  # noqa: SIM110 - a generator is not compiled
        if data[at + k] != text[begin + k]:
            return False
    return True


@compiled
def _number(data: Bytes, at: int, stop: int) -> tuple[int | np.int64, int, int]:
    """Read a plain number: its digits as a whole one, how many are decimals, and where it ends.

    It ends at -1 if there is none, or none that fits.
    """
    whole: int | np.int64 = 0
    digits, point, begin = 0, -1, at
    while at < stop:
        digit = np.int64(data[at]) - ord("0")
        if 0 <= digit <= 9:  # noqa: PLR2004
            digits += int(whole > 0 or digit > 0)
            if digits > DIGITS and (digits > DIGITS + 1 or whole > (MOST - digit) // 10):
                return 0, 0, -1
            whole = whole * 10 + digit
        elif digit == ord(".") - ord("0") and point < 0 and at > begin:
            point = at
        else:
            break
        at += 1
    is_odd = at == begin or at == point + 1
    if is_odd or (data[begin] == ord("0") and at > begin + 1 and point != begin + 1):
        return 0, 0, -1
    return whole, (at - point - 1 if point >= 0 else 0), at


@compiled
def read_frames(  # noqa: C901, PLR0913, PLR0917 - one loop, for speed
    payload: Bytes,
    offsets: Ints,
    whose: Ints,
    roots: Ints,
    trie: Trie,
    form: Ints,
    prices: Floats,
    wholes: Ints,
) -> None:
    """Read all frames; see :meth:`Forms.match`."""
    text, begins, stops, fields, children, siblings = trie
    for k in range(len(whose)):
        node = roots[whose[k]] if whose[k] >= 0 and form[k] < 0 else -1
        at, end = offsets[k], offsets[k + 1]
        while node >= 0:
            here = at + stops[node] - begins[node]
            if here > end or not _is_there(payload, at, text, begins[node], stops[node]):
                node = siblings[node]
                continue
            op, dest, flags = fields[node, 0], fields[node, 1], fields[node, 4]
            if op == END:
                if here == end:
                    form[k] = children[node]
                    break
                node = siblings[node]
                continue
            if op == ANY and flags & MINUS and here < end and payload[here] == ord("-"):
                here += 1
            whole, decimals, here = _number(payload, here, end)
            is_good: bool | np.bool_ = here >= 0
            if op == FLOAT:
                is_good = is_good and 0 < whole < EXACT and decimals < len(TENS)
                if is_good:
                    prices[dest, k] = whole / TENS[decimals] if decimals else float(whole)
            else:
                is_good = is_good and whole <= fields[node, 3]
                is_good = is_good and (whole > 0 or flags & ZERO != 0)
                is_good = is_good and (decimals == 0 or flags & POINT != 0)
                if op == WHOLE and is_good:
                    wholes[dest, k] = whole * fields[node, 2]
            if is_good:
                at, node = here, children[node]
            else:
                node = siblings[node]
