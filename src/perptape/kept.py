"""What long work has done so far, in files that a later process believes only if they are whole."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec
from zlib_ng import zlib_ng

SEAL_BYTES = 4
T = TypeVar("T")


def keep(path: Path, value: msgspec.Struct) -> None:
    """Write it, whole or not at all."""
    data = msgspec.msgpack.encode(value)
    with (new := path.with_suffix(".new")).open("wb") as file:
        file.write(zlib_ng.crc32(data).to_bytes(SEAL_BYTES) + data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def kept(path: Path, kind: type[T]) -> T | None:
    """Give what was kept; ``None`` if it is not there, or not as it was written."""
    try:
        whole = path.read_bytes()
        data = whole[SEAL_BYTES:]
        if zlib_ng.crc32(data).to_bytes(SEAL_BYTES) != whole[:SEAL_BYTES]:
            return None
        return msgspec.msgpack.decode(data, type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def crc32(path: Path) -> int:
    """Give a file's checksum, -1 if it is not there."""
    try:
        return zlib_ng.crc32(path.read_bytes())
    except FileNotFoundError:
        return -1
