"""A packed tape made a tape again, or only looked through.

Frames go back into the batches they came from. They are written by this program's Arrow and zstd:
if those are the ones that wrote the tape, each segment is the same to the byte; else ``tape.json``
gets the new hashes, if every frame is proven.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from msgspec.structs import replace

from perptape import block
from perptape.errors import BadBlock, BadUsage, Failed
from perptape.fingerprint import Fingerprint, of_batches
from perptape.manifest import NAME, Unreadable, load, save, sync_directory, write_all
from perptape.packed import BYTES, FRAMES, TAIL, Closing, File, Packed, Part, named
from perptape.playback import is_segment
from perptape.segment import HEAD, Batch, encode
from perptape.tape import Tape

DAMAGED = 4
"""The exit code, as of ``verify``."""
SLACK = 2
"""Another zstd makes segments of another size, but never so many times as large."""
SLACK_BYTES = 1 << 20
MOST_BYTES = 1 << 40
"""Of a file of which a packed tape that lost its end no more says how large it was."""

Progress = Callable[[int, int], None]


class Unpacked(msgspec.Struct, frozen=True):
    """What a packed tape holds."""

    frames: int
    fingerprint: str
    """Of the frames, as the packed tape has it; empty if its end is missing."""
    is_exact: bool
    """Every file is the same to the byte as the one that was packed."""
    damage: list[str]
    """What is not as it was packed, in words."""


def check(path: Path, progress: Progress | None = None) -> Unpacked:
    """Read all of a packed tape and write nothing. Raises BadUsage if it is none."""
    with Packed.open(path) as packed:
        return _result(packed, _read(packed, None, progress))


def unpack(path: Path, tape: Path, progress: Progress | None = None) -> Unpacked:
    """Make a tape again of a packed one.

    What is damaged is left out and told; ``verify`` finds it missing. Raises BadUsage if ``path``
    is no packed tape or ``tape`` is there already, Failed if there is no room or no manifest.
    """
    if tape.is_symlink() or (tape.exists() and not (tape.is_dir() and not any(tape.iterdir()))):
        raise BadUsage(f"{tape} is there already; give a new directory")
    with Packed.open(path) as packed, _building(tape) as building:
        manifest, closing = packed.manifest, packed.closing
        if manifest is None:
            raise Failed(f"both copies of {NAME} in {path} are lost; unpack another copy of it")
        _has_room(building, closing)
        _put(building / NAME, manifest)
        made = _read(packed, building / "raw", progress)
        result = _result(packed, made)
        if closing is not None and not result.damage:
            _settle(building, closing, made)
        sync_directory(building / "raw")
        sync_directory(building)
        building.rename(tape)
        sync_directory(tape.parent)
    return result


@contextmanager
def _building(tape: Path) -> Iterator[Path]:
    """Give a new directory beside ``tape``, ours alone; it is removed unless it is renamed."""
    tape.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{tape.name}.", dir=tape.parent))
    try:
        (building / "raw").mkdir(mode=0o700)
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _has_room(place: Path, closing: Closing | None) -> None:
    needed = sum(file.bytes for file in closing.files) if closing else 0
    free = shutil.disk_usage(place).free
    if needed > free:
        raise Failed(
            f"the tape takes {needed:,} bytes and {place.parent} has {free:,} left; "
            "free some space or unpack elsewhere"
        )


def _put(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


class _Stretch(NamedTuple):
    """Bytes of a file that were kept as they were."""

    at: int
    data: bytes


def _read(packed: Packed, raw: Path | None, progress: Progress | None) -> dict[str, File]:
    """Make all files in ``raw``, or only find out what they would be; give them by name."""
    closing = packed.closing
    room = {f.name: SLACK * f.bytes + SLACK_BYTES for f in closing.files} if closing else {}
    files: dict[str, File] = {}
    for name, contents in groupby(_contents(packed, progress), key=itemgetter(0)):
        if name in files:
            packed.damage.append(f"raw/{name} is in it twice")
            continue
        made = _Made(name, raw, room.get(name, MOST_BYTES))
        with made:
            for _, part, content in contents:
                try:
                    made.add(content)
                except BadBlock as error:
                    packed.blame(part, str(error))
        files[name] = made.file()
    return files


def _contents(
    packed: Packed, progress: Progress | None
) -> Iterator[tuple[str, Part, list[Batch] | _Stretch]]:
    content: list[Batch] | _Stretch
    for part in packed.parts:
        if part.kind not in {FRAMES, BYTES} or (body := packed.read(part)) is None:
            continue
        try:
            if part.kind == FRAMES:
                name, content = block.decode(body)
            else:
                name, at, data = named(body)
                content = _Stretch(at, data)
        except BadBlock as error:
            packed.blame(part, str(error))
            continue
        if is_segment(name) or name == TAIL:
            yield name, part, content
        else:
            packed.blame(part, "it is of no file of a tape")
        if progress is not None:
            progress(part.stop, packed.bytes)


class _Made:
    """A file of ``raw/`` while it is made, or only hashed."""

    def __init__(self, name: str, raw: Path | None, most: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._name, self._most = name, most
        self._fd = None if raw is None else os.open(raw / name, flags, 0o600)
        self._hash = hashlib.sha256()
        self._found = Fingerprint()
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.fsync(self._fd)
            os.close(self._fd)

    def add(self, content: list[Batch] | _Stretch) -> None:
        """Raises BadBlock if it does not go on where this file ends, or is too much."""
        if isinstance(content, _Stretch):
            # A segment's length may be another than it was; in the tail a place means something.
            self._write(content.data, content.at if self._name == TAIL else self._bytes)
            return
        for batch in content:
            message = encode(batch)
            self._write(message if self._bytes else HEAD + message, self._bytes)
            self._found.add(batch)

    def _write(self, data: bytes, at: int) -> None:
        if not self._bytes <= at <= self._most - len(data):
            raise BadBlock("it does not go on where the one before it ended")
        if self._fd is not None:
            os.lseek(self._fd, at, os.SEEK_SET)
            write_all(self._fd, data)
        self._hash.update(data)
        self._bytes = at + len(data)

    def file(self) -> File:
        found = self._found
        sha256 = self._hash.hexdigest()
        return File(self._name, self._bytes, sha256, found.frames, found.hexdigest())


def _result(packed: Packed, made: dict[str, File]) -> Unpacked:
    """Compare what was made with what was packed."""
    closing = packed.closing
    if closing is None:
        return Unpacked(frames=0, fingerprint="", is_exact=False, damage=packed.damage)
    said = {file.name: file for file in closing.files}
    damage = list(packed.damage)
    for name, file in said.items():
        got = made.get(name)
        if got is None or (got.frames, got.fingerprint) != (file.frames, file.fingerprint):
            frames = file.frames - (got.frames if got else 0)
            damage.append(f"raw/{name} is not whole: {frames} of {file.frames} frames are missing")
        elif file.frames == 0 and got.sha256 != file.sha256:
            damage.append(f"raw/{name} is not what was packed")
    damage += [f"raw/{name} was not packed" for name in made.keys() - said.keys()]
    return Unpacked(
        frames=closing.frames,
        fingerprint=closing.fingerprint,
        is_exact=not damage and made == said,
        damage=damage,
    )


def _settle(building: Path, closing: Closing, made: dict[str, File]) -> None:
    """Enter the new hashes of segments in other bytes, and prove the frames by reading them."""
    manifest = load(building)
    if not isinstance(manifest, Unreadable):
        new = {f.sha256: made[f.name] for f in closing.files if f.sha256 != made[f.name].sha256}
        segments = tuple(
            replace(s, sha256=new[s.sha256].sha256, bytes=new[s.sha256].bytes)
            if s.sha256 in new
            else s
            for s in manifest.segments
        )
        if segments != manifest.segments:
            save(building, replace(manifest, segments=segments))
    found = of_batches(Tape(building).batches())
    if (found.frames, found.hexdigest()) != (closing.frames, closing.fingerprint):
        raise Failed("it does not hold the frames that it says; unpack another copy of it")
