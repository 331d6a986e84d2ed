"""Text taken apart into its numbers and what stands between them, and put together again.

``{"p":"0.50","q":12}`` is three **words**: ``{"p":"`` and a number 50 with 2 decimals, ``","q":``
and 12 with none, ``}`` and no number. A word's **shape** is its text and its number's decimals;
shapes are few, numbers are many. It is exact for any bytes: a number has no leading zero and at
most 18 digits, and all that is not so is text.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perptape.loops import compiled

Int = int | np.int64
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

ZERO, NINE, POINT = b"09."
DIGITS = 18
"""So that any number of so many is an int64, and so is the difference of two."""
NONE = -1
"""The decimals of a word that ends its frame, without a number."""
FEW = 1 << 12


class Words(NamedTuple):
    """Frames taken apart, all words in order; each frame's last is the one without a number."""

    shape: NDArray[np.int32]
    number: Ints
    """Digits without their point; 0 where there is none."""
    decimals: NDArray[np.int8]
    """Of each shape."""
    offsets: Ints
    """Shape k has the text ``text[offsets[k]:offsets[k + 1]]``."""
    text: Bytes


def take_apart(data: Bytes, offsets: Ints) -> Words:
    """Give the words of the frames ``data[offsets[k]:offsets[k + 1]]``."""
    room = FEW
    while True:
        table = np.full(4 * room, -1, np.int32)
        shape, number, starts, stops, decimals = _take_apart(data, offsets, table, room)
        if len(starts) < room:
            cuts = np.concatenate([[0], np.cumsum(stops - starts)])
            texts = [data[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
            text = np.concatenate(texts) if texts else data[:0]
            return Words(shape, number, decimals, cuts, text)
        room *= 16


def put_together(words: Words, frames: int, size: int) -> tuple[Bytes, Ints] | None:
    """Give the bytes of so many frames of ``size`` bytes in all, and their offsets.

    ``None`` if the words are not those of such frames. Their arrays may say anything.
    """
    data, ends = np.empty(size, np.uint8), np.empty(frames, np.int64)
    count = len(words.decimals)
    if len(words.offsets) != count + 1 or words.offsets[0] or words.offsets[-1] != len(words.text):
        return None
    if (np.diff(words.offsets) < 0).any() or len(words.shape) != len(words.number):
        return None
    if len(words.shape) and not 0 <= words.shape.min() <= words.shape.max() < count:
        return None
    if not _put_together(*words, data, ends):
        return None
    return data, np.concatenate([np.zeros(1, np.int64), ends])


@compiled
def _take_apart(
    data: Bytes, offsets: Ints, table: NDArray[np.int32], room: int
) -> tuple[NDArray[np.int32], Ints, Ints, Ints, NDArray[np.int8]]:
    """``table`` is an empty hash table of shapes; when there are ``room`` of them this gives up."""
    most = len(data) + len(offsets)
    shape, number = np.empty(most, np.int32), np.empty(most, np.int64)
    starts, stops = np.empty(room, np.int64), np.empty(room, np.int64)
    decimals = np.empty(room, np.int8)
    known = words = 0
    for frame in range(len(offsets) - 1):
        at, end = offsets[frame], offsets[frame + 1]
        scale: Int = 0
        while scale != NONE:
            start = at
            hashed = np.uint64(0xCBF29CE484222325)  # FNV-1a
            while at < end:
                byte = data[at]
                if ZERO < byte <= NINE or (byte == ZERO and not _is_digit(data, at + 1, end)):
                    break
                hashed = (hashed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                at += 1
            stop = at
            at, number[words], scale = _number(data, at, end)
            hashed = (hashed ^ np.uint64(scale + 1)) * np.uint64(0x100000001B3)
            slot = np.int64((hashed ^ (hashed >> np.uint64(29))) & np.uint64(len(table) - 1))
            k = table[slot]
            while k >= 0 and not (
                decimals[k] == scale and _same(data, starts[k], stops[k], start, stop)
            ):
                slot = (slot + 1) & (len(table) - 1)
                k = table[slot]
            if k < 0:
                k = table[slot] = known
                starts[k], stops[k], decimals[k] = start, stop, scale
                known += 1
                if known == room:
                    return shape[:0], number[:0], starts, stops, decimals
            shape[words] = k
            words += 1
    return shape[:words], number[:words], starts[:known], stops[:known], decimals[:known]


@compiled
def _is_digit(data: Bytes, at: Int, end: Int) -> bool:
    return bool(at < end and ZERO <= data[at] <= NINE)


@compiled
def _number(data: Bytes, at: Int, end: Int) -> tuple[Int, Int, Int]:
    """Read the number at ``at``; give where it ends, its digits, and how many are decimals."""
    if at == end:
        return at, 0, NONE
    value = digits = 0
    while digits < DIGITS and _is_digit(data, at, end):
        value = value * 10 + (data[at] - ZERO)
        digits += 1
        at += 1
    if not (at < end and data[at] == POINT):
        return at, value, 0
    whole, point = value, at
    at += 1
    while digits < DIGITS and _is_digit(data, at, end):
        value = value * 10 + (data[at] - ZERO)
        digits += 1
        at += 1
    if at == point + 1 or _is_digit(data, at, end):
        return point, whole, 0
    return at, value, at - point - 1


@compiled
def _same(data: Bytes, start: Int, stop: Int, other: Int, other_stop: Int) -> bool:
    if stop - start != other_stop - other:
        return False
    for k in range(stop - start):  # noqa: SIM110 - faster than a generator
        if data[start + k] != data[other + k]:
            return False
    return True


@compiled
def _put_together(  # noqa: PLR0913, PLR0917 - arrays in, arrays out
    shape: NDArray[np.int32],
    number: Ints,
    decimals: NDArray[np.int8],
    offsets: Ints,
    text: Bytes,
    data: Bytes,
    ends: Ints,
) -> bool:
    """Fill ``data`` and ``ends``; False if the words do not fill them exactly."""
    at = frame = 0
    for word in range(len(shape)):
        k = shape[word]
        start, size, scale = offsets[k], offsets[k + 1] - offsets[k], decimals[k]
        value = number[word]
        width = 0 if scale == NONE else _width(value, scale)
        if frame == len(ends) or scale < NONE or value < 0 or at + size + width > len(data):
            return False
        for j in range(size):
            data[at + j] = text[start + j]
        at += size + width
        if scale == NONE:
            ends[frame] = at
            frame += 1
            continue
        for j in range(width):
            if scale and j == scale:
                data[at - 1 - j] = POINT
            else:
                data[at - 1 - j] = ZERO + value % 10
                value //= 10
    return frame == len(ends) and at == len(data)


@compiled
def _width(value: Int, scale: Int) -> Int:
    """Count the characters of a number: its digits, a zero before the point, the point."""
    digits = 1
    while value >= 10:  # noqa: PLR2004
        value //= 10
        digits += 1
    return max(digits, scale + 1) + (1 if scale else 0)
