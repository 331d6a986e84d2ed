"""Frames of one form read in bulk, without a parser: exact, or refused.

A venue prints the same message again and again; only its numbers change, and how many levels a book
has. A :class:`Form` (learned from a frame by :mod:`perptape.learning`) is what stays as it is, byte
for byte, and what each number between means. :meth:`Forms.match` reads all frames of a batch by all
forms, which share what they begin with. A frame that is not exactly of a form is a miss, and goes
to the decoder; so does every number whose float64 is not one division of two exact ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from perptape.events import Book, Event, Quote
from perptape.matching import (
    END,
    FLAGS,
    FORK,
    LIST,
    MOST,
    PRICES,
    SCALE,
    SHORTEST,
    WHOLES,
    Bytes,
    Floats,
    Ints,
    Trie,
    read_frames,
)


class Field(NamedTuple):
    """What a number of a form is."""

    op: int
    dest: int = 0
    """Which of ``PRICES`` or ``WHOLES``; of a list: which side."""
    scale: int = 1
    """By what a whole number is multiplied."""
    limit: int = MOST
    least: int = 1
    flags: int = 0
    element: "tuple[tuple[bytes, Field], ...]" = ()
    """Of a list: what a level is, to its ``END``."""


Part = tuple[bytes, Field]
"""A literal, and what follows it."""
Alternative = tuple[bytes, int]
"""A literal, or what is left of it, and the number of its part."""


class Form(NamedTuple):
    """Frames that differ in their numbers only, and in how many levels they have."""

    is_book: bool
    symbol: str
    is_snapshot: bool
    parts: tuple[Part, ...]
    """The field of the last is ``END``."""
    said: tuple[bool, ...]
    """Which of ``WHOLES`` there are."""

    def whole(self, numbers: Sequence[int]) -> list[int | None]:
        """Give ``WHOLES``, ``None`` of what it does not say."""
        return [number if is_ else None for number, is_ in zip(numbers, self.said, strict=True)]


class Read(NamedTuple):
    """What the forms made of frames: [frame]."""

    form: Ints
    """-1: a miss, and what stands beside it means nothing."""
    prices: Floats
    """[of ``PRICES``, frame]: of a quote."""
    wholes: Ints
    """[of ``WHOLES``, frame]; 0 where the form does not say."""
    cuts: Ints
    """[3, frame]: of a book: where its bids begin in ``levels``, its asks, and where they end."""
    levels: Floats
    """[price or qty, level]."""

    @classmethod
    def empty(cls, frames: int, payload_bytes: int) -> Self:
        """Make room for so many, all misses."""
        return cls(
            np.full(frames, -1, np.int64),
            np.empty((len(PRICES), frames)),
            np.zeros((len(WHOLES), frames), np.int64),
            np.zeros((3, frames), np.int64),
            np.empty((2, payload_bytes // SHORTEST + 1)),
        )

    def event(self, at: int, forms: "Forms") -> Event | None:
        """Give one of them as an event, ``None`` of a miss."""
        if self.form[at] < 0:
            return None
        form = forms.forms[self.form[at]]
        ts_event, ts_send, update_id, follows = form.whole(self.wholes[:, at].tolist())
        if not form.is_book:
            bid, bid_qty, ask, ask_qty = self.prices[:, at].tolist()
            return Quote(form.symbol, ts_event, ts_send, bid, bid_qty, ask, ask_qty, update_id)
        first, middle, last = self.cuts[:, at].tolist()
        bids, asks = (
            [(price, qty) for price, qty in self.levels[:, a:b].T.tolist()]
            for a, b in ((first, middle), (middle, last))
        )
        return Book(
            form.symbol, ts_event, ts_send, bids, asks, form.is_snapshot, update_id, follows
        )


class Forms:
    """The forms that are known, of all venues."""

    def __init__(self) -> None:
        self.forms: list[Form] = []
        self.streams: dict[tuple[str, bool], int] = {}
        """Of all forms (symbol, is_book), numbered as they came."""
        self._root: dict[str, int] = {}
        """By venue: its first part."""
        self._parts: list[Part] = []
        self._child: list[int] = []
        self._sibling: list[int] = []
        self._laid: tuple[Trie, dict[str, int]] | None = None
        """All of it in arrays; and by venue its first node there."""

    def add(self, venue: str, form: Form) -> bool:
        """Take in a form; False if it is known."""
        self._laid, is_new, above = None, False, -1
        for part in form.parts:
            first = self._root.get(venue, -1) if above < 0 else self._child[above]
            node = first
            while node >= 0 and self._parts[node] != part:
                node = self._sibling[node]
            if node < 0:
                is_new, node = True, self._new(part, first)
                if above < 0:
                    self._root[venue] = node
                else:
                    self._child[above] = node
            above = node
        if is_new:
            self._child[above] = len(self.forms)
            self.forms.append(form)
            self.streams.setdefault((form.symbol, form.is_book), len(self.streams))
        return is_new

    def _new(self, part: Part, sibling: int) -> int:
        self._parts.append(part)
        self._child.append(-1)
        self._sibling.append(sibling)
        return len(self._parts) - 1

    def match(
        self, payload: Bytes, offsets: Ints, whose: Ints, venues: Sequence[str], read: Read
    ) -> None:
        """Read frames that are not read yet: k is ``payload[offsets[k]:offsets[k + 1]]``.

        It is of ``venues[whose[k]]``; below 0: of none.
        """
        if self.forms:
            trie, first = self._laid = self._laid or self._laid_out()
            roots = np.array([first.get(venue, -1) for venue in venues], np.int64)
            read_frames(payload, offsets, whose, roots, trie, *read)

    def stream_of(self) -> Ints:
        """[form]: the number of its stream in ``streams``."""
        return np.array([self.streams[f.symbol, f.is_book] for f in self.forms], np.int64)

    def is_book(self) -> NDArray[np.bool_]:
        return np.array([form.is_book for form in self.forms], np.bool_)

    def is_snapshot(self) -> NDArray[np.bool_]:
        return np.array([form.is_snapshot for form in self.forms], np.bool_)

    def said(self) -> NDArray[np.bool_]:
        """[form, of ``WHOLES``]: which of them there are."""
        return np.array([form.said for form in self.forms], np.bool_).reshape(-1, len(WHOLES))

    def _alternatives(self, part: int) -> Iterator[Alternative]:
        while part >= 0:
            yield self._parts[part][0], part
            part = self._sibling[part]

    def _laid_out(self) -> tuple[Trie, dict[str, int]]:
        """Make nodes of all parts; where several literals begin alike, one of what they share."""
        nodes, child, sibling = list[Part](), list[int](), list[int]()
        roots = [-1] * len(self._root)
        to_do = [
            (roots, k, [*self._alternatives(part)]) for k, part in enumerate(self._root.values())
        ]
        while to_do:
            above, at, alternatives = to_do.pop()
            for literal, rest in _parted(alternatives):
                above[at] = at_new = len(nodes)
                above, at = sibling, at_new
                field, number, below = self._node(rest)
                nodes.append((literal, field))
                sibling.append(-1)
                child.append(number)
                to_do += [(child, at_new, below)] if below else []
        return _in_arrays(nodes, child, sibling), dict(zip(self._root, roots, strict=True))

    def _node(self, rest: list[Alternative]) -> tuple[Field, int, list[Alternative]]:
        """Give what follows a literal, its form if that ends there, and what is below."""
        if len(rest) > 1:
            return Field(FORK), -1, rest
        ((_, part),) = rest
        field, child = self._parts[part][1], self._child[part]
        return field, child, [] if field.op == END else [*self._alternatives(child)]


def _parted(alternatives: Iterable[Alternative]) -> Iterator[tuple[bytes, list[Alternative]]]:
    """Put those together that begin alike: what they share, and what is left of each."""
    groups: dict[bytes | int, list[Alternative]] = {}
    for literal, part in alternatives:
        groups.setdefault(literal[:1] or part, []).append((literal, part))
    for begin in sorted(groups, key=lambda begin: isinstance(begin, int)):
        literals = [literal for literal, _ in groups[begin]]
        low, high = min(literals), max(literals)
        pairs = enumerate(zip(low, high, strict=False))
        same = next((at for at, (a, b) in pairs if a != b), len(low))
        yield low[:same], [(literal[same:], part) for literal, part in groups[begin]]


def _in_arrays(parts: list[Part], child: list[int], sibling: list[int]) -> Trie:
    """Put nodes into arrays, and those of a list's element after them."""
    rows = [list(field[: FLAGS + 1]) for _, field in parts]
    for row, (_, field) in zip(rows, tuple(parts), strict=True):
        if field.op == LIST:
            row[SCALE] = len(parts)
            parts += field.element
    within = range(len(rows), len(parts))
    rows += [list(parts[node][1][: FLAGS + 1]) for node in within]
    child += [node + 1 for node in within]
    sibling += [-1 for _ in within]
    stops = np.cumsum([0, *(len(literal) for literal, _ in parts)])
    return Trie(
        np.frombuffer(b"".join(literal for literal, _ in parts), np.uint8),
        stops[:-1].copy(),
        stops[1:].copy(),
        np.array(rows, np.int64),
        np.array(child, np.int64),
        np.array(sibling, np.int64),
    )
