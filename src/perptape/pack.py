"""The cold form of a tape: one file, at less than half of the bytes, and proven before it counts.

Everything in ``raw/`` is kept: whole batches as blocks of columns (``block``), all else byte by
byte, what is damaged too, so that an unpacked tape is what the tape was.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from perptape import block, packed
from perptape.errors import BadBlock, BadUsage, Failed
from perptape.fingerprint import Fingerprint, of_batches
from perptape.manifest import NAME, sync_directory
from perptape.packed import BYTES, CLOSING, FRAMES, MANIFEST, TAIL, Closing, File, Writer
from perptape.playback import is_segment, mapped, sha256_of
from perptape.segment import Batch, decode, head_is_damaged, scan
from perptape.tape import Tape
from perptape.unpack import check

STRETCH_BYTES = 8 << 20
"""What is kept as it is goes in parts of so many bytes."""
SUFFIX = ".packed"
Progress = Callable[[int, int], None]


class Summary(msgspec.Struct, frozen=True):
    """What packing came to."""

    path: Path
    bytes: int
    tape_bytes: int
    """Of the tape's segments and its manifest."""
    frames: int
    fingerprint: str
    is_exact: bool
    """It was read back to the same bytes; else to the same frames in other bytes."""
    damage: list[str]
    """Of the tape itself; it is packed as it is."""


def pack(
    tape: Path, out: Path | None = None, *, remove: bool = False, progress: Progress | None = None
) -> Summary:
    """Pack a tape into ``out`` (else ``TAPE.packed`` beside it), and read it back.

    With ``remove`` the tape, and its tables, are deleted then. Raises BadUsage if ``tape`` is none
    or ``out`` is there already, Failed if it is being recorded, or if what was written does not
    read back as the same frames.
    """
    path = Path(f"{tape.resolve()}{SUFFIX}") if out is None else out
    if path.exists() or path.is_symlink():
        raise BadUsage(f"{path} is there already; give --out another name")
    with _unchanging(tape), _building(path) as building:
        opened = Tape(tape)
        closing = _write(opened, building, progress or (lambda _done, _total: None))
        is_exact = _proven(building, closing)
        building.rename(path)
        sync_directory(path.parent)
        summary = Summary(
            path=path,
            bytes=path.stat().st_size,
            tape_bytes=sum(f.bytes for f in closing.files if is_segment(f.name))
            + (tape / NAME).stat().st_size,
            frames=closing.frames,
            fingerprint=closing.fingerprint,
            is_exact=is_exact,
            damage=[str(each) for each in opened.damage()],
        )
        if remove:
            _remove(tape, closing)
    return summary


@contextmanager
def _unchanging(tape: Path) -> Iterator[None]:
    """Keep recorders away from a tape. Raises Failed if there is one."""
    try:
        held = os.open(tape / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # a copy without its lock, or no tape, as reading it will tell
        yield
        return
    try:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        pid = os.pread(held, 32, 0).decode(errors="replace").strip() or "unknown"
        raise Failed(
            f"{tape} is being recorded by process {pid}; stop it, then pack the tape"
        ) from None
    finally:
        os.close(held)


@contextmanager
def _building(path: Path) -> Iterator[Path]:
    """Give a new file beside ``path`` that only we may read; it is removed unless it is renamed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(fd)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _write(tape: Tape, building: Path, progress: Progress) -> Closing:
    fd = os.open(building, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writer = Writer(fd)
        manifest = (tape.path / NAME).read_bytes()
        writer.add(MANIFEST, manifest)
        expired = {segment.name for segment in tape.meta.segments if segment.state == "expired"}
        raw = tape.path / "raw"
        paths = sorted(p for p in raw.iterdir() if is_segment(p.name) and p.name not in expired)
        paths += [raw / TAIL] if (raw / TAIL).exists() else []
        total, done, files = sum(path.stat().st_size for path in paths), 0, []
        for path in paths:
            files.append(_file(writer, path))
            done += files[-1].bytes
            progress(done, total)
        shown = of_batches(tape.batches())
        closing = Closing(shown.frames, shown.hexdigest(), files)
        writer.add(MANIFEST, manifest)
        writer.add(CLOSING, msgspec.json.encode(closing))
        os.fsync(fd)
    finally:
        os.close(fd)
    return closing


def _file(writer: Writer, path: Path) -> File:
    if path.is_symlink() or not path.is_file():
        raise Failed(f"{path} is no plain file; move it out of the tape")
    found = Fingerprint()
    with mapped(path) as data:
        for kind, part in _parts(path.name, data, found):
            writer.add(kind, part)
        return File(path.name, len(data), sha256_of(path), found.frames, found.hexdigest())


def _parts(name: str, data: memoryview, found: Fingerprint) -> Iterator[tuple[int, bytes]]:
    """Take a file apart: whole batches into blocks, everything else as it is."""
    stretches = list(scan(data)) if is_segment(name) else []
    if not stretches or stretches[0].mark is None or head_is_damaged(data, stretches[0]):
        yield from _as_it_is(name, data)
        return
    held: list[Batch] = []
    start = 0  # with the head, which unpacking writes anew before a block
    for each in stretches:
        if each.mark is None or _weight(held) >= block.BLOCK_BYTES:
            yield from _block(name, held, data[start : each.start], found)
            held, start = [], each.start
        if each.mark is None:
            yield from _as_it_is(name, data[each.start : each.stop])
            start = each.stop
        else:
            held.append(decode(data[each.start : each.stop], each.mark))
    yield from _block(name, held, data[start:], found)


def _weight(batches: Iterable[Batch]) -> int:
    return sum(len(b.payload) + len(b) * block.FRAME_BYTES for b in batches)


def _block(
    name: str, batches: list[Batch], written: memoryview, found: Fingerprint
) -> Iterator[tuple[int, bytes]]:
    """Make a block; of what is too much for one, keep the bytes as they were ``written``."""
    if not batches:
        return
    try:
        made = block.encode(name, batches)
    except BadBlock:
        yield from _as_it_is(name, written)
        return
    for batch in batches:
        found.add(batch)
    yield FRAMES, made


def _as_it_is(name: str, data: memoryview) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data) or 1, STRETCH_BYTES):
        yield BYTES, packed.with_name(name, at, bytes(data[at : at + STRETCH_BYTES]))


def _proven(path: Path, closing: Closing) -> bool:
    """Read back what was written; tell whether it is the same to the byte."""
    found = check(path)
    if found.damage or found.fingerprint != closing.fingerprint:
        raise Failed(
            f"{path.parent} gave back other bytes than were written to it; "
            "check that disk, and pack to another one"
        )
    return found.is_exact


def _remove(tape: Path, closing: Closing) -> None:
    """Delete what was packed, and the tables, which can be made again; nothing of others."""
    for file in closing.files:
        (tape / "raw" / file.name).unlink()
    for name in (NAME, "lock"):
        (tape / name).unlink(missing_ok=True)
    shutil.rmtree(tape / "tables", ignore_errors=True)
    with suppress(OSError):  # somebody's files are in it
        (tape / "raw").rmdir()
        tape.rmdir()
