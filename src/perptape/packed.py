"""The file of a packed tape: parts one after the other, each proven by itself.

::

    mark | number u32 | kind u8 | stored u64 | size u64 | CRC-32 of the body u32 | of all before u32
    body, ``stored`` bytes: LZMA2 of ``size`` bytes

Numbers count from 0. The first part is ``tape.json``, which comes again before the last; the last
is what all others come to. A part whose checksums do not hold costs itself and no other.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from zlib_ng import zlib_ng

from perptape import block
from perptape.errors import BadBlock, BadUsage, Failed
from perptape.manifest import write_all

MARK = b"\x89PTPACK1"
"""The last byte is the format's version."""
MANIFEST, FRAMES, BYTES, CLOSING = range(4)
TAIL = "tail"
"""The one file in ``raw/`` that is no segment."""
_HEAD = struct.Struct("<8sIBQQII")
_CRC = struct.Struct("<I")
_WHERE = struct.Struct("<QH")


class File(msgspec.Struct, frozen=True):
    """A file of ``raw/``, as it was when it was packed."""

    name: str
    bytes: int
    sha256: str
    frames: int
    """Of those that are in blocks; and their fingerprint."""
    fingerprint: str


class Closing(msgspec.Struct, frozen=True):
    """The last part."""

    frames: int
    """That a reader of the tape is shown; and their fingerprint."""
    fingerprint: str
    files: list[File]


class Part(NamedTuple):
    """A part whose head is as written."""

    number: int
    kind: int
    start: int
    stop: int
    size: int
    """Of its body, expanded."""
    crc32: int


class Writer:
    """Appends parts to a file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._number = 0

    def add(self, kind: int, raw: bytes) -> None:
        body = block.compress(raw)
        crc32 = zlib_ng.crc32(body)
        head = _HEAD.pack(MARK, self._number, kind, len(body), len(raw), crc32, 0)[: -_CRC.size]
        write_all(self._fd, head + _CRC.pack(zlib_ng.crc32(head)) + body)
        self._number += 1


def with_name(name: str, at: int, data: bytes) -> bytes:
    """Make the body of a stretch of a file that is kept as it is."""
    return _WHERE.pack(at, len(name)) + name.encode() + data


def named(raw: bytes) -> tuple[str, int, bytes]:
    """Undo :func:`with_name`. Raises BadBlock."""
    try:
        at, length = _WHERE.unpack_from(raw)
        stop = _WHERE.size + int(length)
        return raw[_WHERE.size : stop].decode(), int(at), raw[stop:]
    except (struct.error, UnicodeError) as error:
        raise BadBlock("it does not say whose bytes it has") from error


class Packed:
    """A packed tape, open for reading: which parts there are, and where something is not one.

    Raises BadUsage if the file is something else, Failed if its format is newer.
    """

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._data = data
        self.bytes = len(data)
        self.damage: list[str] = []
        """In words; more when parts are read that are not what was written."""
        self.parts = list(self._walk())
        if not self.parts and data[: len(MARK)] != MARK:
            raise BadUsage(f"{path} is not a packed tape; give the file that pack made")
        if [part.kind for part in self.parts[-1:]] != [CLOSING]:
            self.damage.append("its end is missing")
        copies = [self.read(part) for part in self.parts if part.kind == MANIFEST]
        self.manifest = next((copy for copy in copies if copy is not None), None)
        """``tape.json``, of the first of its copies that is whole."""
        self.closing = self._closing()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        try:
            with path.open("rb") as file:
                start = file.read(len(MARK))
                if start[:-1] == MARK[:-1] and start[-1:] > MARK[-1:]:
                    raise Failed(f"{path} was packed by a newer perptape; install that")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, IsADirectoryError, ValueError):
            raise BadUsage(f"{path} is not a packed tape; give the file that pack made") from None
        with mapped:
            yield cls(path, mapped)

    def _walk(self) -> Iterator[Part]:
        at = number = 0
        while at < len(self._data):
            part = self._part(at)
            if part is None:
                stop = self._next(at)
                self.damage.append(f"bytes {at} to {stop - 1} are altered")
                at = stop
                continue
            if part.number != number and not self.damage:
                self.damage.append(f"parts {number} to {part.number - 1} are missing")
            yield part
            at, number = part.stop, part.number + 1

    def _part(self, at: int) -> Part | None:
        if at + _HEAD.size > len(self._data):
            return None
        head = self._data[at : at + _HEAD.size]
        mark, number, kind, stored, size, body, crc32 = _HEAD.unpack(head)
        start = at + _HEAD.size
        is_head = mark == MARK and zlib_ng.crc32(head[: -_CRC.size]) == crc32
        if not is_head or stored > len(self._data) - start or size > block.MOST_BYTES:
            return None
        return Part(number, kind, start, start + stored, size, body)

    def _next(self, at: int) -> int:
        """Find where the next part begins after what is none."""
        place = self._data.find(MARK, at + 1)
        while place != -1 and self._part(place) is None:
            place = self._data.find(MARK, place + 1)
        return len(self._data) if place == -1 else place

    def read(self, part: Part) -> bytes | None:
        """Give a part's body; ``None``, and an entry in ``damage``, if it is not as written."""
        stored = self._data[part.start : part.stop]
        if zlib_ng.crc32(stored) != part.crc32:
            self.blame(part, "it is altered")
            return None
        try:
            return block.expand(stored, part.size)
        except BadBlock as error:
            self.blame(part, str(error))
            return None

    def blame(self, part: Part, why: str) -> None:
        where = f"bytes {part.start} to {part.stop - 1}"
        self.damage.append(f"part {part.number} ({where}) is no part of a tape: {why}")

    def _closing(self) -> Closing | None:
        for part in self.parts[-1:]:
            raw = self.read(part) if part.kind == CLOSING else None
            try:
                return None if raw is None else msgspec.json.decode(raw, type=Closing)
            except (msgspec.MsgspecError, UnicodeError):
                self.blame(part, "it cannot be read")
        return None
