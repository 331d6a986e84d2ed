"""A segment: an Arrow IPC stream of batches, each proven whole before Arrow may read it.

A batch holds about 1 MiB of frames in columns; steps instead of times, lengths instead of
offsets, and all payloads back to back in the first row, so that zstd finds little to keep.
Its mark, one line of JSON in ``custom_metadata``, carries a CRC-32 over the whole message (taken
with the CRC's own digits zeroed) and one over the head of the file, so no bit is left uncovered:
Arrow alone reads most flipped bits back as other data without an error.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from perptape.events import Frame

VENUE = re.compile(r"[a-z0-9_]{0,64}")
"""What a venue's name may look like on a tape."""

SCHEMA = pa.schema(
    [
        ("wire", pa.uint32()),
        ("kind", pa.uint8()),
        ("ts_recv_step", pa.int64()),
        ("ts_mono_step", pa.int64()),
        ("length", pa.uint32()),
        ("wire_extra", pa.int32()),
        ("payload", pa.large_binary()),
    ],
    metadata={
        "perptape": "seq = first_seq + row; ts_recv = running sum of ts_recv_step; "
        "ts_mono = ts_recv + running sum of ts_mono_step; wire_size = length + wire_extra; "
        "row 0 holds the payloads of all rows, cut by length"
    },
)
_OPTIONS = pa.ipc.IpcWriteOptions(
    compression=pa.Codec("zstd", compression_level=1), use_threads=False
)
_READ_OPTIONS = pa.ipc.IpcReadOptions(use_threads=False)
_PREFIX = struct.Struct("<II")
_CONTINUES = b"\xff\xff\xff\xff"
_END = _CONTINUES + b"\0\0\0\0"
_LENGTH = struct.Struct("<I")
_ALIGN = 8
_SECTOR = 512
"""What a disk writes as a whole."""
_OPENS = b'{"crc32":"'
_BLANK = "0" * 8
_MARK_WITHIN = 4096
"""A mark begins within so many bytes after its message's first."""
_LOOK = 1 << 20


class Batch(msgspec.Struct, frozen=True, eq=False):
    """Frames in columns: row k is frame ``first_seq + k``, its payload ``offsets[k:k+2]``."""

    first_seq: int
    wire: NDArray[np.uint32]
    kind: NDArray[np.uint8]
    ts_recv: NDArray[np.int64]
    ts_mono: NDArray[np.int64] | None
    """``None`` when imported."""
    wire_size: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    payload: memoryview
    """All payloads back to back."""
    venues: dict[int, str]
    """The venue of each wire in this batch."""

    def __len__(self) -> int:
        return len(self.wire)

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self) - 1

    def rows(self, start: int, stop: int) -> Self:
        """Give the frames ``start`` to ``stop`` (rows, not seq) without copying them."""
        cut = self.offsets[start : stop + 1]
        return type(self)(
            first_seq=self.first_seq + start,
            wire=self.wire[start:stop],
            kind=self.kind[start:stop],
            ts_recv=self.ts_recv[start:stop],
            ts_mono=None if self.ts_mono is None else self.ts_mono[start:stop],
            wire_size=self.wire_size[start:stop],
            offsets=cut - cut[0],
            payload=self.payload[int(cut[0]) : int(cut[-1])],
            venues=self.venues,
        )

    def frames(self) -> Iterator[Frame]:
        n = len(self)
        mono = [None] * n if self.ts_mono is None else self.ts_mono.tolist()
        cuts = self.offsets.tolist()
        columns = (self.wire, self.kind, self.ts_recv, self.wire_size)
        rows = zip(*(column.tolist() for column in columns), mono, cuts, cuts[1:], strict=False)
        for seq, (wire, kind, ts, size, ts_mono, a, b) in enumerate(rows, self.first_seq):
            payload = bytes(self.payload[a:b])
            yield Frame(seq, wire, self.venues[wire], kind, ts, ts_mono, size, payload)


class Mark(msgspec.Struct, frozen=True):
    """What a batch says of itself; the first four are as wide in the placeholder as filled in."""

    crc32: str
    """Over the message, these digits zeroed."""
    own: str
    """CRC-32 of this line, both digits zeroed: tells a torn batch from a damaged one."""
    bytes: str
    """Length of the message."""
    head: str
    """CRC-32 of the head of the file."""
    first_seq: int
    frames: int
    ts_first: int
    ts_last: int
    wires: dict[int, str]

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.frames - 1


def _message(columns: list[pa.Array], mark: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA, options=_OPTIONS) as stream:
        batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
        stream.write_batch(batch, custom_metadata={"perptape": mark})
    return bytes(memoryview(sink.getvalue())[len(HEAD) : -len(_END)])


def _head() -> bytes:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, SCHEMA, options=_OPTIONS).close()
    return bytes(memoryview(sink.getvalue())[: -len(_END)])


HEAD = _head()
"""The first bytes of a segment: Arrow's message that describes the columns."""


def hex_crc32(data: bytes | bytearray | memoryview) -> str:
    return f"{zlib_ng.crc32(data):08x}"


def encode(batch: Batch) -> bytes:
    """Make the message that holds ``batch``, its mark filled in."""
    mark = Mark(
        crc32=_BLANK,
        own=_BLANK,
        bytes="0" * 10,
        head=hex_crc32(HEAD),
        first_seq=batch.first_seq,
        frames=len(batch),
        ts_first=int(batch.ts_recv[0]),
        ts_last=int(batch.ts_recv[-1]),
        wires=batch.venues,
    )
    text = msgspec.json.encode(mark)
    message = bytearray(_message(_columns(batch), text))
    at = message.index(text)
    mark = msgspec.structs.replace(mark, bytes=f"{len(message):010d}")
    mark = msgspec.structs.replace(mark, own=hex_crc32(msgspec.json.encode(mark)))
    message[at : at + len(text)] = msgspec.json.encode(mark)
    digits = at + len(_OPENS)
    message[digits : digits + len(_BLANK)] = hex_crc32(message).encode()
    return bytes(message)


def _columns(batch: Batch) -> list[pa.Array]:
    n = len(batch)
    lengths = np.diff(batch.offsets)
    cuts = np.full(n + 1, len(batch.payload), np.int64)
    cuts[0] = 0
    mono = (
        pa.nulls(n, pa.int64())
        if batch.ts_mono is None
        else _column(np.diff(batch.ts_mono - batch.ts_recv, prepend=np.int64(0)))
    )
    return [
        _column(batch.wire),
        _column(batch.kind),
        _column(np.diff(batch.ts_recv, prepend=np.int64(0))),
        mono,
        _column(lengths.astype(np.uint32)),
        _column((batch.wire_size - lengths).astype(np.int32)),
        pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), n, [None, pa.py_buffer(cuts), pa.py_buffer(batch.payload)]
        ),
    ]


def _column(values: NDArray[np.integer]) -> pa.Array:
    """Take an array as it lies in memory: ``pa.array`` would import pandas to rule it out."""
    whole = np.ascontiguousarray(values)
    type_ = pa.from_numpy_dtype(whole.dtype)
    return pa.Array.from_buffers(type_, len(whole), [None, pa.py_buffer(whole)])


def decode(message: memoryview, mark: Mark) -> Batch:
    """Read a message that :func:`scan` found whole."""
    # As a stream: of a batch read by itself threads inflate the columns, at a third more.
    with pa.ipc.open_stream(pa.py_buffer(HEAD + message), options=_READ_OPTIONS) as stream:
        wire, kind, step, mono_step, length, extra, payload = stream.read_next_batch().columns
    ts_recv = np.cumsum(step.to_numpy())
    lengths = length.to_numpy().astype(np.int64)
    whole = payload.buffers()[2]
    return Batch(
        first_seq=mark.first_seq,
        wire=wire.to_numpy(),
        kind=kind.to_numpy(),
        ts_recv=ts_recv,
        ts_mono=None if mono_step.null_count else ts_recv + np.cumsum(mono_step.to_numpy()),
        wire_size=(lengths + extra.to_numpy()).astype(np.uint32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        payload=memoryview(whole if whole is not None else b""),
        venues=mark.wires,
    )


class Found(NamedTuple):
    """A stretch of a segment: a whole batch if it has a mark, else what cannot be believed."""

    start: int
    stop: int
    mark: Mark | None
    torn: bool = False
    """The file's end, of which something was not written yet: no damage by itself."""


def scan(data: memoryview) -> Iterator[Found]:
    """Walk a segment's bytes: every whole batch, and every stretch between that is not one."""
    at = _head_bytes(data)
    if at > len(data):
        at = 0
    while at < len(data):
        if (mark := _whole(data, at)) is not None:
            stop = at + int(mark.bytes)
            yield Found(at, stop, mark)
        else:
            stop = _next_whole(data, at)
            yield Found(at, stop, None, torn=stop == len(data) and _is_torn(data, at))
        at = stop


def head_is_damaged(data: memoryview, first: Found) -> bool:
    """Compare the head of the file with what the first whole batch says of it."""
    return first.mark is not None and hex_crc32(data[: _head_bytes(data)]) != first.mark.head


def _head_bytes(data: memoryview) -> int:
    """Give the length of the head; another release of Arrow may write it longer or shorter."""
    if len(data) >= _PREFIX.size and _whole(data, len(HEAD)) is None:
        said = _PREFIX.size + int(_PREFIX.unpack_from(data)[1])
        if _whole(data, said) is not None:
            return said
    return len(HEAD)


def _whole(data: memoryview, at: int) -> Mark | None:
    if (found := _mark(data, at)) is None:
        return None
    mark, digits = found
    stop = at + int(mark.bytes)
    if stop > len(data):
        return None
    crc = zlib_ng.crc32(data[at:digits])
    crc = zlib_ng.crc32(_BLANK.encode(), crc)
    crc = zlib_ng.crc32(data[digits + len(_BLANK) : stop], crc)
    return mark if f"{crc:08x}" == mark.crc32 else None


def _mark(data: memoryview, at: int) -> tuple[Mark, int] | None:
    """Read the mark of the message at ``at`` if it agrees with its own CRC; and where its CRC is.

    The length that Arrow gives is not needed, so it may be wrong.
    """
    near = bytes(data[at : at + _MARK_WITHIN])
    place = near.find(_OPENS)
    if place < _LENGTH.size or not near.startswith(_CONTINUES):
        return None
    (length,) = _LENGTH.unpack_from(near, place - _LENGTH.size)
    try:
        mark = msgspec.json.decode(data[at + place : at + place + length], type=Mark)
    except (msgspec.DecodeError, UnicodeError):
        return None
    blank = msgspec.structs.replace(mark, crc32=_BLANK, own=_BLANK)
    if hex_crc32(msgspec.json.encode(blank)) != mark.own or not mark.bytes.isdecimal():
        return None
    return mark, at + place + len(_OPENS)


def _next_whole(data: memoryview, at: int) -> int:
    """Find where the next whole batch begins after a damaged one; the end if there is none."""
    for low in range(at + _ALIGN, len(data), _LOOK):
        high = min(low + _LOOK, len(data)) // _ALIGN * _ALIGN
        words = np.frombuffer(data[low:high], np.dtype("<u8"))
        for k in np.flatnonzero((words & 0xFFFFFFFF) == 0xFFFFFFFF):  # noqa: PLR2004
            if _whole(data, low + int(k) * _ALIGN) is not None:
                return low + int(k) * _ALIGN
    return len(data)


def is_unwritten(data: memoryview, start: int, stop: int) -> bool:
    """Tell whether a sector of this never reached the disk: a power cut leaves zeros for it."""
    first, last = -(-start // _SECTOR) * _SECTOR, stop // _SECTOR * _SECTOR
    edges = (start, min(first, stop)), (max(last, start), stop)
    # So many zeros are at no edge of a batch: it begins with ones, and ends on 8 bytes.
    if any(b - a > _ALIGN and not any(data[a:b]) for a, b in edges):
        return True
    sectors = np.frombuffer(data[first : max(first, last)], np.uint8).reshape(-1, _SECTOR)
    return not sectors.any(axis=1).all()


def _is_torn(data: memoryview, at: int) -> bool:
    """Tell a message that lacks its end or another part from one that was altered."""
    if is_unwritten(data, at, len(data)):
        return True
    if (found := _mark(data, at)) is not None:
        return at + int(found[0].bytes) > len(data)
    rest = bytes(data[at : at + _MARK_WITHIN])
    if len(data) - at < _PREFIX.size:
        return rest.startswith(_CONTINUES[: len(rest)])
    continues, metadata = _PREFIX.unpack_from(rest)
    short = continues == 0xFFFFFFFF and _PREFIX.size + metadata > len(data) - at  # noqa: PLR2004
    return short or not np.frombuffer(data[at:], np.uint8).any()
