"""The tail: a mapped file that holds what is not yet safe in a segment.

It has two halves of records. One takes them, while the other waits until all it held is synced in
a segment; then it is zeroed and takes its turn. Its space is set aside at the start, so neither a
full disk nor a slow one can stop a record from being written.
"""

import mmap
import os
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zlib_ng import zlib_ng

from perptape.errors import Failed
from perptape.records import (
    COMMIT,
    HAS_SIZES,
    HEAD,
    KEYS,
    NO_MONO,
    STEP_BYTES,
    TAG,
    U32,
    gather,
    proving,
)
from perptape.segment import Batch

HALF_BYTES = 32 << 20
ROOM_BYTES = 12 << 20
"""What is kept free for reads that came before the sockets could be stopped."""

READY_BYTES = 8 << 20
"""What of each half is made ready at the start: its first use costs 8 us a page otherwise."""
MADV_POPULATE_WRITE = 23

# Names that the hot path finds in one step.
_COMMIT_BYTES = COMMIT.size
_put_commit = COMMIT.pack_into
_pack_head = HEAD.pack
_crc32 = zlib_ng.crc32
_ZEROS = bytes(STEP_BYTES)
_PACKED = 65
_PACK_U32: list[Callable[..., bytes]] = [struct.Struct(f"<{n}I").pack for n in range(_PACKED)]
_PACK_ONE = _PACK_U32[1]


class Chunk(NamedTuple):
    """Records of one half that go to the segment together."""

    half: int
    offsets: "array[int]"
    last_seq: int


class Tail:
    """The writer's end: records go in, halves take turns."""

    def __init__(self, path: Path, half_bytes: int = HALF_BYTES) -> None:
        self._path = path
        self._half_bytes = half_bytes
        self._room = min(ROOM_BYTES, half_bytes // 2)
        self._map = _allocate(path, 2 * half_bytes)
        _make_ready(self._map, half_bytes)
        self._tags: dict[int, bytes] = {}
        self._filled = [0, 0]
        self._half = 0
        self.other_is_free = True
        self._begin()

    def _begin(self) -> None:
        self._base = self._half * self._half_bytes
        self._end = self._base + self._half_bytes
        self._key = int.from_bytes(os.urandom(U32), "little") | 1
        KEYS.pack_into(self._map, self._base, proving(self._key), proving(self._key))
        self._at = self._cut_at = self._base + KEYS.size
        self._offsets = array("Q")

    @property
    def used(self) -> int:
        """Bytes taken in the half whose turn it is."""
        return self._at - self._base

    @property
    def holds_records(self) -> bool:
        return self.used > KEYS.size

    @property
    def is_full(self) -> bool:
        return not self.other_is_free and self._end - self._at < self._room

    @property
    def has_open(self) -> bool:
        return bool(self._offsets)

    def name_wire(self, wire: int, venue: str) -> None:
        name = venue.encode()
        self._tags[wire] = TAG.pack(wire, len(name)) + name

    def forget_wire(self, wire: int) -> None:
        self._tags.pop(wire, None)

    def append(  # noqa: PLR0913, PLR0917 - a record has so many parts, and this is the hot path
        self,
        seq: int,
        wire: int,
        kind: int,
        payloads: Sequence[bytes],
        ts_recv: int,
        ts_mono: int | None,
        wire_sizes: Sequence[int] | None,
    ) -> int:
        """Copy one read into the tail, without a system call.

        Gives the bytes since the last cut; 0 if the half has no room, and then nothing is copied.
        """
        n = len(payloads)
        if n == 1:
            lengths = _PACK_ONE(len(payloads[0]))
        elif n < _PACKED:
            lengths = _PACK_U32[n](*map(len, payloads))
        else:
            lengths = _u32(map(len, payloads))
        flags = 0
        if wire_sizes is not None:
            lengths += _u32(wire_sizes)
            flags = HAS_SIZES
        mono = NO_MONO if ts_mono is None else ts_mono
        head = _pack_head(seq, ts_recv, mono, n, kind, flags)
        body = b"".join((head, self._tags[wire], lengths, *payloads))
        at = self._at
        stop = at + _COMMIT_BYTES + len(body)
        if stop > self._end:
            return 0
        key = self._key
        self._map[at + _COMMIT_BYTES : stop] = body
        _put_commit(self._map, at, _crc32(body, key), len(body), key)
        self._offsets.append(at)
        self._at = stop
        return stop - self._cut_at

    def cut(self, last_seq: int) -> Chunk:
        """Give the records since the last cut; ``last_seq`` is that of their last frame."""
        chunk = Chunk(self._half, self._offsets, last_seq)
        self._offsets = array("Q")
        self._cut_at = self._at
        return chunk

    def swap(self) -> int:
        """Let the free half take its turn; give the number of the one that waits from now on."""
        waiting = self._half
        self._filled[waiting] = self.used
        self._half = 1 - waiting
        self.other_is_free = False
        self._begin()
        return waiting

    def gather(self, chunk: Chunk) -> list[Batch]:
        return gather(self._map, chunk.offsets)

    def free(self, half: int) -> None:
        """Empty the half that waits: all it holds is synced in segments."""
        base = half * self._half_bytes
        KEYS.pack_into(self._map, base, 0, 0)
        for at in range(base, base + self._filled[half], STEP_BYTES):
            stop = min(at + STEP_BYTES, base + self._filled[half])
            self._map[at:stop] = _ZEROS[: stop - at]
        self.other_is_free = True

    def close(self, *, remove: bool) -> None:
        self._map.close()
        if remove:
            self._path.unlink(missing_ok=True)


def _make_ready(mapped: mmap.mmap, half_bytes: int) -> None:
    page = mmap.PAGESIZE
    for base in (0, half_bytes // page * page):
        with suppress(OSError):  # a kernel before 5.14: pages are made when they are met
            mapped.madvise(MADV_POPULATE_WRITE, base, min(READY_BYTES, half_bytes) // page * page)


def _u32(numbers: Iterable[int]) -> bytes:
    return array("I", numbers).tobytes()


def _allocate(path: Path, size: int) -> mmap.mmap:
    """Make the file ready under another name; until then a former tail stays as it is."""
    new = path.with_name(path.name + ".new")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(new, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
            mapped = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        new.rename(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise Failed(
            f"cannot set {size >> 20} MiB aside at {path} ({error.strerror}); "
            "free some space or record elsewhere"
        ) from error
    return mapped
