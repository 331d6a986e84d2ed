"""Taking hold of a tape: the lock, the manifest, and what a crash left."""

import fcntl
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from perptape import __version__, records
from perptape.errors import BadUsage, Failed
from perptape.events import MS
from perptape.journal import Bounds, Segments
from perptape.manifest import (
    NAME,
    Manifest,
    Run,
    Segment,
    Unreadable,
    is_of_former_boot,
    load,
    sync_directory,
    this_host,
)
from perptape.playback import sha256_of, unlisted, without_overlaps


class Recovery(msgspec.Struct, frozen=True):
    """What a crash left, and what was taken from it."""

    frames: int
    """Taken from the tail: they were in no segment yet."""
    torn_bytes: int
    """Of batches cut short at the end of a segment; their frames were in the tail."""
    ms: float


def is_lost(path: Path, held: int) -> bool:
    """Tell whether ``path`` is no longer the directory of the lock that is ``held``."""
    try:
        now = (path / "lock").stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # a disk in trouble, which writing to it will tell
    return not os.path.samestat(now, os.fstat(held))


def lock(path: Path) -> int:
    """Make the directory if need be, and become its only writer."""
    try:
        above = [p for p in path.parents if not p.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for parent in above:
            sync_directory(parent.parent)
        ours = {"lock", "raw", f"{NAME}.new"}
        is_new = not (path / NAME).exists()
        if is_new and (any(p.name not in ours for p in path.iterdir()) or any(path.glob("raw/*"))):
            raise BadUsage(f"{path} is not a tape and not empty; give a new directory")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        held = os.open(path / "lock", flags, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise BadUsage(f"{path} is not a directory; give a new one") from None
    except OSError as error:
        raise failed(path, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        pid = os.pread(held, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(held)
        if not isinstance(error, BlockingIOError):
            raise failed(path, error) from error
        raise Failed(
            f"{path} is being recorded by process {pid}; stop it or record into another directory"
        ) from None
    return held


def begin(path: Path, ts: int, config: Mapping[str, Any]) -> Manifest:
    """Read the manifest or make the first, with this run entered."""
    (path / "raw").mkdir(mode=0o700, exist_ok=True)
    run = Run(ts, __version__, os.getpid(), this_host(), dict(config))
    if not (path / NAME).exists():
        sync_directory(path.parent)
        return Manifest(created=ts, runs=(run,))
    manifest = load(path)
    if isinstance(manifest, Unreadable):
        raise Failed(
            f"{path / NAME} is damaged ({manifest.reason}); "
            "verify that tape and record into another directory"
        )
    return replace(manifest, runs=(*manifest.runs, run))


def recover(
    path: Path, manifest: Manifest, bounds: Bounds, held: int
) -> tuple[Segments, Recovery | None, int]:
    """Keep what a crash left: enter torn segments, bring the tail's frames into a new one.

    Nothing is cut or overwritten, so this may be interrupted and done again. A damaged end of the
    tail leaves a hole in seq, by which it is known for ever that frames are gone. A segment that
    was given up, but not yet removed, is.
    """
    started = time.monotonic_ns()
    found = unlisted(path, manifest.segments)
    frames_of = {s.name: s.frames for s in without_overlaps([*manifest.segments, *found])}
    torn = [_as_torn(path / "raw" / s.name, s, frames_of.get(s.name, 0)) for s in found]
    if torn:
        sync_directory(path / "raw")  # who died before the first sync left names without one
    manifest = replace(manifest, segments=(*manifest.segments, *torn))
    segments = Segments(path, manifest, bounds, partial(is_lost, path, held))
    last_seq, frames = segments.synced_seq, 0
    halves = records.read(path / "raw" / "tail")
    if is_of_former_boot(manifest.runs[:-1]):
        halves = records.as_a_disk_had_them(halves)
    for half in halves:
        for batch in half.batches(last_seq):
            segments.write(batch)
            frames += len(batch)
    segments.seal()
    next_seq = segments.synced_seq + (2 if halves and halves[-1].end_is_lost else 1)
    if not torn and not halves:
        return segments, None, next_seq
    ms = (time.monotonic_ns() - started) / MS
    return segments, Recovery(frames, sum(s.torn_bytes for s in torn), ms), next_seq


def _as_torn(path: Path, segment: Segment, frames: int) -> Segment:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return replace(segment, state="torn", frames=frames, sha256=sha256_of(path))


def failed(path: Path, error: OSError) -> Failed:
    return Failed(
        f"cannot write to {path}: {error.strerror or error}; "
        "check its permissions and the space on its disk"
    )
