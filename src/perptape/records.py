"""Records: how one socket read lies in the tail.

A half of the tail begins with its key, a random number that is new at each turn, twice. Then come
the records::

    crc32 u32 | size u32 | key u32
    seq u64 | ts_recv i64 | ts_mono i64 | count u32 | kind u8 | flags u8
    wire u32 | venue's length u8 | venue
    lengths u32[count] | wire sizes u32[count], if flagged | payloads

The first line is written last, and its key last of all. So a copy that ``kill -9`` cut short has
no key; a record that was altered has a key and a wrong CRC, or a wrong key and a right CRC. The CRC
begins from the key: neither what a venue sent nor a former turn's bytes can pose as a record.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from perptape.segment import Batch

KEYS = struct.Struct("<QQ")
COMMIT = struct.Struct("<III")
HEAD = struct.Struct("<QqqIBB")
TAG = struct.Struct("<IB")
U32 = 4
HAS_SIZES = 1
NO_MONO = -(1 << 63)
STEP_BYTES = 1 << 20
"""What is read, gathered or zeroed at a time."""

_KEY_AT = 2 * U32
_NO_KEY = bytes(U32)
"""Where a record is not, or the process died before the very last store: no flipped bit."""
_LEAST = HEAD.size + TAG.size
_RECORD = np.dtype(
    [
        ("crc", "<u4"),
        ("size", "<u4"),
        ("key", "<u4"),
        ("seq", "<i8"),
        ("ts_recv", "<i8"),
        ("ts_mono", "<i8"),
        ("count", "<u4"),
        ("kind", "u1"),
        ("flags", "u1"),
        ("wire", "<u4"),
        ("venue_size", "u1"),
    ]
)


def proving(key: int) -> int:
    """Make a key that proves itself: one store of eight bytes, so it is never half there."""
    return key | zlib_ng.crc32(key.to_bytes(U32, "little")) << 32


def gather(data: mmap.mmap | bytes, offsets: "array[int]") -> list[Batch]:
    """Turn records into batches: most often one; see :func:`_cut` for when they are more."""
    starts = np.frombuffer(offsets, np.uint64).astype(np.int64)
    raw = np.frombuffer(data, np.uint8)
    heads = sliding_window_view(raw, _RECORD.itemsize)[starts].view(_RECORD).ravel()
    words = sliding_window_view(raw, U32)
    count = heads["count"].astype(np.int64)
    stops = np.cumsum(count)
    sized = heads["flags"] == HAS_SIZES
    lengths_at = starts + _RECORD.itemsize + heads["venue_size"]
    frame_at = np.repeat(lengths_at - U32 * (stops - count), count) + U32 * np.arange(stops[-1])
    lengths = words[frame_at].view(np.uint32).ravel()
    sizes_at = frame_at + np.repeat(U32 * count * sized, count)
    payload_at = lengths_at + U32 * count * (1 + sized)
    payload_end = starts + COMMIT.size + heads["size"]
    cuts = zip(payload_at.tolist(), payload_end.tolist(), strict=True)
    batch = Batch(
        first_seq=int(heads["seq"][0]),
        wire=np.repeat(heads["wire"], count),
        kind=np.repeat(heads["kind"], count),
        ts_recv=np.repeat(heads["ts_recv"], count),
        ts_mono=np.repeat(heads["ts_mono"], count),
        wire_size=words[sizes_at].view(np.uint32).ravel() if sized.any() else lengths,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        payload=memoryview(_joined(data, cuts)),
        venues=_venues(data, starts, heads),
    )
    return list(_cut(batch, heads, np.concatenate([[0], stops])))


def _joined(data: mmap.mmap | bytes, cuts: Iterable[tuple[int, int]]) -> bytes:
    with memoryview(data) as whole:  # released, so that the map can be closed
        return b"".join([whole[a:b] for a, b in cuts])


def _venues(
    data: mmap.mmap | bytes, starts: NDArray[np.int64], heads: np.ndarray
) -> dict[int, str]:
    wires, first = np.unique(heads["wire"], return_index=True)
    names = {}
    for wire, k in zip(wires.tolist(), first.tolist(), strict=True):
        at = int(starts[k]) + _RECORD.itemsize
        names[wire] = data[at : at + int(heads["venue_size"][k])].decode()
    return names


def _cut(batch: Batch, heads: np.ndarray, stops: NDArray[np.int64]) -> Iterator[Batch]:
    """Cut so that within a batch seq has no hole, time never falls, and is of one kind."""
    seq, ts, imported = heads["seq"], heads["ts_recv"], heads["ts_mono"] == NO_MONO
    breaks = ts[1:] < ts[:-1]
    breaks |= imported[1:] != imported[:-1]
    breaks |= seq[1:] != seq[:-1] + heads["count"][:-1]
    for a, b in pairwise([0, *(np.flatnonzero(breaks) + 1).tolist(), len(heads)]):
        piece = batch.rows(int(stops[a]), int(stops[b]))
        mono = None if imported[a] else piece.ts_mono
        yield replace(piece, first_seq=int(seq[a]), ts_mono=mono)


class Half(NamedTuple):
    """What is in a half: its bytes, its whole records, and the stretches that were altered."""

    data: bytes
    offsets: "array[int]"
    damaged: list[tuple[int, int]]

    @property
    def first_seq(self) -> int:
        return int(HEAD.unpack_from(self.data, self.offsets[0] + COMMIT.size)[0])

    @property
    def end_is_lost(self) -> bool:
        """Tell whether no whole record follows the last damage."""
        return bool(self.damaged) and (not self.offsets or self.damaged[-1][0] > self.offsets[-1])

    def ts_around(self, start: int, stop: int) -> tuple[int | None, int | None]:
        """Give the times of the whole records before and after a stretch."""
        before = [at for at in self.offsets if at < start]
        after = [at for at in self.offsets if at >= stop]
        return self._ts(before[-1:]), self._ts(after[:1])

    def _ts(self, offsets: "array[int] | list[int]") -> int | None:
        found = [HEAD.unpack_from(self.data, at + COMMIT.size) for at in offsets]
        return int(found[0][1]) if found else None

    def batches(self, after_seq: int) -> Iterator[Batch]:
        """Give the frames above ``after_seq``, about 1 MiB at a time."""
        for low, high in pairwise(_steps(self.offsets)):
            for batch in gather(self.data, self.offsets[low:high]):
                skip = max(0, after_seq + 1 - batch.first_seq)
                if skip < len(batch):
                    yield batch.rows(skip, len(batch))


def _steps(offsets: "array[int]") -> list[int]:
    if not offsets:
        return []
    steps = np.frombuffer(offsets, np.uint64) // STEP_BYTES
    return [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(offsets)]


def read(path: Path) -> list[Half]:
    """Read what a tail holds, in order; that of a running recorder too."""
    try:
        if not path.is_file():
            return []
        with path.open("rb") as file:
            half_bytes = os.fstat(file.fileno()).st_size // 2
            halves = [_read_half(file.fileno(), k * half_bytes, half_bytes) for k in range(2)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    halves = [half for half in halves if half.offsets or half.damaged]
    return sorted(halves, key=lambda half: half.first_seq if half.offsets else 0)


def as_a_disk_had_them(halves: list[Half]) -> list[Half]:
    """Call no record altered: nobody syncs a tail, so a power cut leaves parts of many moments.

    What is whole in it is proven; what is missing between is known by its seq.
    """
    return [half._replace(damaged=[]) for half in halves if half.offsets]


def _read_half(fd: int, base: int, size: int, tries: int = 3) -> Half:
    """Read a half; again if it seems damaged, for it may just be written or emptied."""
    half = walk(os.pread(fd, size, base))
    return _read_half(fd, base, size, tries - 1) if half.damaged and tries > 1 else half


def walk(data: bytes) -> Half:
    """Find the records in a copy of a half."""
    key, intact = _key(data)
    half = Half(data, array("Q"), [] if intact else [(0, KEYS.size)])
    at = KEYS.size
    while key and at < len(data):
        found_key = data[at + _KEY_AT : at + COMMIT.size]
        if size := _record_size(data, at, key):
            follows = at + size
            is_damaged = found_key not in {key, _NO_KEY}
            half.offsets.append(at)
        else:
            follows = _next_record(data, at, key)
            is_damaged = found_key == key or follows < len(data)
            if not is_damaged:
                break
        if is_damaged:
            half.damaged.append((at, follows))
        at = follows
    return half._replace(data=data[:at])


def _key(data: bytes) -> tuple[bytes, bool]:
    """Give the key of a half, empty when the half is; and whether both copies agree."""
    copies = KEYS.unpack_from(data) if len(data) >= KEYS.size else (0, 0)
    keys = [c & 0xFFFFFFFF for c in copies if c and c == proving(c & 0xFFFFFFFF)]
    key = keys[0].to_bytes(U32, "little") if keys else b""
    return key, len(keys) == sum(map(bool, copies)) and len(set(keys)) <= 1


def _record_size(data: bytes, at: int, key: bytes) -> int:
    """Give the bytes of the whole record at ``at``, 0 if there is none."""
    if at + COMMIT.size > len(data):
        return 0
    crc, size, _ = COMMIT.unpack_from(data, at)
    start, stop = at + COMMIT.size, at + COMMIT.size + size
    if size < _LEAST or stop > len(data):
        return 0
    is_whole = zlib_ng.crc32(memoryview(data)[start:stop], int.from_bytes(key, "little")) == crc
    return stop - at if is_whole else 0


def _next_record(data: bytes, at: int, key: bytes) -> int:
    """Find the next whole record after a damaged one; the end if there is none."""
    place = data.find(key, at + COMMIT.size)
    while place != -1:
        if _record_size(data, place - _KEY_AT, key):
            return place - _KEY_AT
        place = data.find(key, place + 1)
    return len(data)
