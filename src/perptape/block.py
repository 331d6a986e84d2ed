"""A block: some megabytes of frames as columns of numbers, each by itself easy to compress.

Payloads are taken apart into words (``numerals``). The numbers that follow one shape on one wire
are a column: prices with prices, times with times. Columns are kept as bytes (``planes``), and all
of a block's bytes are compressed together by LZMA2.

A block that comes from elsewhere may say anything, so what it declares is bounded before it is
believed.
"""

import lzma
import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.errors import BadBlock
from perptape.numerals import NONE, Bytes, Ints, Words, put_together, take_apart
from perptape.planes import FORM, Columns, keep
from perptape.segment import VENUE, Batch

BLOCK_BYTES = 8 << 20
"""A block is full when its payloads, or its frames at ``FRAME_BYTES`` each, have reached it."""
FRAME_BYTES = 16
MOST_BYTES = 128 << 20
"""No block is larger, expanded or not."""
MOST_WORDS = 1 << 24
"""Nor has it more words or frames: memory is bounded by this."""
MOST_SEQ = 1 << 62
FEW = 64
"""Shorter columns share one."""

_LENGTH = struct.Struct("<I")
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0, "dict_size": 8 << 20}]
"""Bytes of numbers are no text: of the next one, the one before tells nothing (``lc``)."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """What a batch was, beside its frames."""

    first_seq: int
    frames: int
    has_mono: bool
    venues: dict[int, str]


class Head(msgspec.Struct, frozen=True):
    """What stands before the columns."""

    segment: str
    """The file in ``raw/`` that its batches are of."""
    pieces: list[Piece]
    payload: int
    """Bytes of all payloads."""
    words: int
    shapes: int
    text: int
    """Bytes of all shapes' texts."""
    columns: int
    """Of numbers in payloads."""


class _Frames(NamedTuple):
    """The columns of all frames of a block; ``mono`` only of those that have it."""

    wire: Ints
    kind: Ints
    ts_recv: Ints
    mono: Ints
    """``ts_mono - ts_recv``"""
    wire_size: Ints
    offsets: Ints
    payload: Bytes


def compress(raw: bytes) -> bytes:
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=_FILTERS)


def expand(stored: bytes | memoryview, size: int) -> bytes:
    """Undo :func:`compress`; never makes more than ``size`` bytes. Raises BadBlock."""
    if not 0 <= size <= MOST_BYTES:
        raise BadBlock(f"it declares {size} bytes")
    opened = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        raw = opened.decompress(stored, size)
        rest = b"" if opened.eof else opened.decompress(b"", 1)
    except lzma.LZMAError as error:
        raise BadBlock(str(error)) from error
    if len(raw) != size or rest or not opened.eof or opened.unused_data:
        raise BadBlock("it does not hold what it declares")
    return raw


def encode(segment: str, batches: Sequence[Batch]) -> bytes:
    """Give a block of batches, not yet compressed. Raises BadBlock if they are too much for one."""
    lengths = np.concatenate([np.diff(b.offsets) for b in batches])
    payload = np.frombuffer(b"".join(b.payload for b in batches), np.uint8)
    words = take_apart(payload, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))
    if len(words.shape) > MOST_WORDS or len(payload) > MOST_BYTES:
        raise BadBlock("it would be too large")
    wire = _joined([b.wire for b in batches])
    numbers = [words.number[at] for at in _places(words.shape, words.decimals, wire)]
    forms, columns = keep([
        _joined([b.ts_mono - b.ts_recv for b in batches if b.ts_mono is not None]),
        wire,
        _joined([b.kind for b in batches]),
        _joined([b.ts_recv for b in batches]),
        _joined([b.wire_size for b in batches]) - lengths,
        _joined([words.shape]),
        _joined([words.decimals]),
        np.diff(words.offsets),
        *numbers,
    ])  # fmt: skip
    head = Head(
        segment=segment,
        pieces=[Piece(b.first_seq, len(b), b.ts_mono is not None, b.venues) for b in batches],
        payload=len(payload),
        words=len(words.shape),
        shapes=len(words.decimals),
        text=len(words.text),
        columns=len(numbers),
    )
    said = msgspec.json.encode(head)
    raw = b"".join([_LENGTH.pack(len(said)), said, forms, words.text.tobytes(), *columns])
    if len(raw) > MOST_BYTES:
        raise BadBlock("it would be too large")
    return raw


def _joined(parts: Sequence[NDArray[np.integer]]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64, copy=False)


def _places(shape: NDArray[np.int32], decimals: NDArray[np.int8], wire: Ints) -> list[Ints]:
    """Give the words whose numbers are a column, column by column.

    Columns are in the order of their wire, then of their shape; first of all is what rare ones
    share, in the order of the words.
    """
    is_last = decimals[shape] == NONE
    frame = np.cumsum(is_last) - is_last
    numbered = np.flatnonzero(~is_last)
    key = wire[frame[numbered]] * np.int64(len(decimals)) + shape[numbered]
    _, column, counts = np.unique(key, return_inverse=True, return_counts=True)
    column = np.where(counts[column] < FEW, -1, column)
    order = np.argsort(column, kind="stable")
    cuts = np.flatnonzero(np.diff(column[order]))
    return np.split(numbered[order], cuts + 1) if len(order) else []


def decode(raw: bytes) -> tuple[str, list[Batch]]:
    """Give the name of the segment, and its batches as they were. Raises BadBlock."""
    head, at = _head(raw)
    frames = sum(piece.frames for piece in head.pieces)
    text_at = at + (8 + head.columns) * FORM.itemsize
    columns_at = text_at + head.text
    # A number takes a byte at least, so no count is larger than the bytes that are here.
    if max(frames, head.words, head.shapes, head.columns, columns_at) > len(raw):
        raise BadBlock("it declares more than it holds")
    forms = np.frombuffer(raw, FORM, 8 + head.columns, at)
    columns = Columns(raw, columns_at, iter(forms.tolist()))
    mono = columns.take(sum(piece.frames for piece in head.pieces if piece.has_mono))
    wire, kind, ts_recv, extra = (columns.take(frames) for _ in range(4))
    text = np.frombuffer(raw, np.uint8, head.text, text_at)
    made = put_together(_words(head, columns, text, wire), frames, head.payload)
    if made is None or columns.at != len(raw):
        raise BadBlock("its words are no frames")
    payload, offsets = made
    _within(extra, -(2**31), 2**31 - 1)
    size = extra + np.diff(offsets)
    return head.segment, _batches(head, _Frames(wire, kind, ts_recv, mono, size, offsets, payload))


def _head(raw: bytes) -> tuple[Head, int]:
    try:
        (length,) = _LENGTH.unpack_from(raw)
        at = _LENGTH.size + int(length)
        head = msgspec.json.decode(memoryview(raw)[_LENGTH.size : at], type=Head)
    except (struct.error, msgspec.MsgspecError, UnicodeError) as error:
        raise BadBlock(f"its head cannot be read: {error}") from error
    counts = (head.payload, head.words, head.shapes, head.text, head.columns)
    is_bounded = all(0 <= count <= MOST_BYTES for count in counts) and head.words <= MOST_WORDS
    if not is_bounded or not head.pieces:
        raise BadBlock("its head cannot be meant")
    for piece in head.pieces:
        names = all(VENUE.fullmatch(name) for name in piece.venues.values())
        if not (0 < piece.frames <= MOST_BYTES and 0 < piece.first_seq < MOST_SEQ and names):
            raise BadBlock("a batch in it cannot be meant")
    return head, at


def _words(head: Head, columns: Columns, text: Bytes, wire: Ints) -> Words:
    shape, decimals = columns.take(head.words), columns.take(head.shapes)
    lengths = columns.take(head.shapes)
    _within(decimals, NONE, 127)
    _within(shape, 0, head.shapes - 1)
    _within(lengths, 0, head.text)
    ends = int(np.count_nonzero(decimals[shape] == NONE))
    if ends != len(wire) or (len(shape) and decimals[shape[-1]] != NONE):
        raise BadBlock("its words are of other frames")
    narrow, scale = shape.astype(np.int32), decimals.astype(np.int8)
    number = np.zeros(head.words, np.int64)
    for at in _places(narrow, scale, wire):
        number[at] = columns.take(len(at))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return Words(narrow, number, scale, offsets, text)


def _within(values: Ints, low: int, high: int) -> None:
    if len(values) and not low <= values.min() <= values.max() <= high:
        raise BadBlock("a number in it is out of range")


def _batches(head: Head, f: _Frames) -> list[Batch]:
    _within(f.wire, 0, 2**32 - 1)
    _within(f.kind, 0, 2**8 - 1)
    _within(f.wire_size, 0, 2**32 - 1)
    made, at, mono_at = [], 0, 0
    for piece in head.pieces:
        stop, mono_stop = at + piece.frames, mono_at + piece.frames * piece.has_mono
        wire, ts_recv = f.wire[at:stop].astype(np.uint32), f.ts_recv[at:stop]
        if not set(np.unique(wire).tolist()) <= piece.venues.keys():
            raise BadBlock("a wire in it has no venue")
        cuts = f.offsets[at : stop + 1]
        made.append(
            Batch(
                first_seq=piece.first_seq,
                wire=wire,
                kind=f.kind[at:stop].astype(np.uint8),
                ts_recv=ts_recv,
                ts_mono=f.mono[mono_at:mono_stop] + ts_recv if piece.has_mono else None,
                wire_size=f.wire_size[at:stop].astype(np.uint32),
                offsets=cuts - cuts[0],
                payload=f.payload.data[int(cuts[0]) : int(cuts[-1])],
                venues=piece.venues,
            )
        )
        at, mono_at = stop, mono_stop
    return made
