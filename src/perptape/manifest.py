"""``tape.json``: what a tape is, who recorded it on what, and every finished segment's hash.

The file proves itself: ``manifest_sha256`` is the hash of its bytes with these digits zeroed. It is
replaced as a whole (new file, fsync, rename, fsync of the directory), so a crash cannot tear it.
"""

import ctypes
import hashlib
import os
import platform
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from perptape.errors import BadUsage, Failed

FORMAT_VERSION = 1
NAME = "tape.json"
SEGMENT_NAME = re.compile(r"([0-9]{20})(?:-([0-9]+))?\.arrows")
"""A file in ``raw/``: its first seq, and how often one of this name was given up before."""
_ZERO = "0" * 64
_DIGITS = re.compile(rb'"manifest_sha256": ?"([0-9a-f]{64})"')
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
_VERSION = re.compile(rb'"format_version": ?(\d+)')


class Segment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of frames; within it ``seq`` has no hole and ``ts_recv`` never falls."""

    name: str
    """The file in ``raw/``; ``tail`` for what is in no segment yet."""
    first_seq: int
    frames: int
    ts_first: int | None
    ts_last: int | None
    bytes: int
    state: str
    """``sealed``; ``torn``: a crash left it, its last ``torn_bytes`` are no whole batch;
    ``suspect``: the disk failed under it; ``expired``: one of these, deleted as we were asked to;
    ``open``: not in the manifest yet, as is ``tail``."""
    sha256: str = ""
    """Of the whole file; empty of a suspect, open or tail one."""
    torn_bytes: int = 0
    last_wire: int = 0
    """The highest wire number in it."""

    @property
    def last_seq(self) -> int:
        return self.first_seq + self.frames - 1


class ClockState(msgspec.Struct, frozen=True):
    """What the kernel says of its clock."""

    synchronised: bool
    max_error_us: int
    estimated_error_us: int


class Host(msgspec.Struct, frozen=True):
    name: str
    python: str
    platform: str
    clock: ClockState | None
    """``None`` where the kernel does not say."""
    boot: str | None = None
    """The kernel's name for the time since it started."""


class Run(msgspec.Struct, frozen=True):
    """One recorder's life; a tape may have several."""

    ts_start: int
    perptape: str
    pid: int
    host: Host
    config: dict[str, Any]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format_version: int = FORMAT_VERSION
    manifest_sha256: str = _ZERO
    """It stands before all that a user can write, so the first match is this one."""
    created: int
    """In ns."""
    runs: tuple[Run, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """What the latest run was asked for."""
        return self.runs[-1].config if self.runs else {}


class Unreadable(msgspec.Struct, frozen=True):
    """Why a manifest cannot be believed."""

    reason: str


def opened(path: Path) -> BufferedReader:
    """Open a file to read; what is none and might never end raises FileNotFoundError."""
    if path.exists() and not path.is_file():
        raise FileNotFoundError(path)
    return path.open("rb")


def load(tape: Path) -> Manifest | Unreadable:
    """Read and prove ``tape.json``.

    Raises BadUsage if the directory is no tape, Failed if it is newer than this program.
    """
    try:
        with opened(tape / NAME) as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise BadUsage(
            f"{tape} is not a tape (it has no {NAME}); give the directory that record made"
        ) from None
    except OSError as error:
        raise Failed(
            f"cannot read {tape / NAME}: {error.strerror}; check its permissions"
        ) from None
    return _parse(tape, data)


def _parse(tape: Path, data: bytes) -> Manifest | Unreadable:
    proven = _is_proven(data)
    if (version := _newer_version(data, proven=proven)) is not None:
        raise Failed(
            f"{tape} has format version {version}, this perptape reads up to {FORMAT_VERSION}; "
            "install a newer perptape"
        )
    if not proven:
        return Unreadable("its bytes do not match its own hash")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeError) as error:
        return Unreadable(str(error))
    # A tape of somebody else's making must not have us read or hash other files.
    strange = [s.name for s in manifest.segments if not SEGMENT_NAME.fullmatch(s.name)]
    return Unreadable(f"{strange[0]!r} is no name of a segment") if strange else manifest


def _is_proven(data: bytes) -> bool:
    found = _DIGITS.search(data)
    return found is not None and found[1].decode() == _sha256_of(data, found)


def _sha256_of(data: bytes, found: re.Match[bytes]) -> str:
    return hashlib.sha256(
        data[: found.start(1)] + _ZERO.encode() + data[found.end(1) :]
    ).hexdigest()


def _newer_version(data: bytes, *, proven: bool) -> str | None:
    """Tell a newer format from a flipped bit, which may look like one."""
    found = _VERSION.search(data)
    if found is None or int(found[1]) <= FORMAT_VERSION:
        return None
    ours = str(FORMAT_VERSION).encode()
    is_flip = len(found[1]) == len(ours) and (found[1][-1] ^ ours[-1]).bit_count() == 1
    restored = data[: found.start(1)] + ours + data[found.end(1) :]
    if not proven and is_flip and _is_proven(restored):
        return None
    return found[1].decode()


def save(tape: Path, manifest: Manifest) -> None:
    """Replace ``tape.json``; raises OSError, and then the former one is still there."""
    blank = msgspec.structs.replace(manifest, manifest_sha256=_ZERO)
    data = msgspec.json.format(msgspec.json.encode(blank), indent=1) + b"\n"
    data = data.replace(_ZERO.encode(), hashlib.sha256(data).hexdigest().encode(), 1)
    new = tape / f"{NAME}.new"
    fd = os.open(new, _FLAGS, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    new.replace(tape / NAME)
    sync_directory(tape)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however few the system takes at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_of_former_boot(runs: Sequence[Run]) -> bool:
    """Tell whether the latest of these was before this machine last started: its power was cut."""
    boot = runs[-1].host.boot if runs else None
    return boot is not None and boot != this_boot()


def this_boot() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None


def this_host() -> Host:
    return Host(
        name=socket.gethostname(),
        python=platform.python_version(),
        platform=platform.platform(),
        clock=clock_state(),
        boot=this_boot(),
    )


_TIMEX = struct.Struct("@Iqqqqi")
"""``struct timex``, 64 bit: modes, offset, freq, maxerror, esterror, status (man adjtimex)."""
_TIMEX_ROOM = 512
_UNSYNCHRONISED = 0x0040


def clock_state() -> ClockState | None:
    """Ask the kernel; ``None`` where it does not say."""
    timex = ctypes.create_string_buffer(_TIMEX_ROOM)
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(timex)
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    _, _, _, max_error_us, estimated_error_us, status = _TIMEX.unpack_from(timex)
    return ClockState(not status & _UNSYNCHRONISED, max_error_us, estimated_error_us)
