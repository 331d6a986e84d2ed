"""The writing thread's work: records become batches in segments, are synced, and leave the tail.

What has been handed over stays in the tail until it is synced in a segment. When the disk fails,
that segment is given up and all that was not synced is written again, in a new one: after a failed
sync the system may have dropped what it says it holds.
"""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from perptape.events import NS
from perptape.manifest import Manifest, Segment, save, sync_directory, write_all
from perptape.segment import HEAD, Batch, encode
from perptape.tail import Chunk, Tail

SEGMENT_BYTES = 256 << 20
SEGMENT_NS = 15 * 60 * NS
SHARE = 8
"""A segment takes no more than this part of a bounded disk."""


class Retention(msgspec.Struct, frozen=True):
    """How much of a tape is kept. Beyond it the oldest finished segments are deleted."""

    keep_ns: int | None = None
    """A segment whose last frame is so much older than the newest is not."""
    max_bytes: int | None = None
    """All of ``raw/``, with the tail, and the open segment at its full size."""


KEEP_ALL = Retention()


class Bounds(NamedTuple):
    """How large the parts of a tape become."""

    segment_bytes: int
    retention: Retention
    tail_bytes: int

    def open_bytes(self) -> int:
        """Give the size at which a segment is finished: where room is short, several have some."""
        most = self.retention.max_bytes
        return self.segment_bytes if most is None else min(self.segment_bytes, most // SHARE)


class Segments:
    """The segments of a tape and their manifest, for the one who writes. May raise OSError."""

    def __init__(
        self, tape: Path, manifest: Manifest, bounds: Bounds, is_lost: Callable[[], bool]
    ) -> None:
        self.is_lost = is_lost
        """Tells whether another directory is in the place of ours: then nothing is written."""
        self.manifest = manifest
        self.synced_seq = max((s.last_seq for s in manifest.segments), default=0)
        self._tape = tape
        self._retention = bounds.retention
        self._segment_bytes = bounds.open_bytes()
        self._reserved_bytes = bounds.tail_bytes + self._segment_bytes
        ordered = sorted(manifest.segments, key=lambda s: s.first_seq)
        self._there = deque(s for s in ordered if s.state != "expired")
        """What is finished and still there, the oldest first."""
        files = {path.name for path in (tape / "raw").glob("*.arrows")}
        self._doomed = [s.name for s in ordered if s.state == "expired" and s.name in files]
        """Files that the manifest, once it is saved, says are gone."""
        self._open: _Open | None = None
        self._manifest_is_saved = False

    def write(self, batch: Batch) -> None:
        if self._open is not None and not self._open.goes_on_with(batch):
            self.seal()
        if self._open is None:
            self._hold()
            self._open = _Open(self._tape / "raw", batch.first_seq)
        self._open.write(batch)

    def sync(self) -> None:
        """Make all that was written survive a power loss; finish a segment that has its size."""
        if self._open is not None:
            self._open.sync()
            self.synced_seq = self._open.synced_seq
            if self._open.bytes >= self._segment_bytes or self._open.age_ns >= SEGMENT_NS:
                self._finish("sealed")
        self._expire()
        self.save()

    def seal(self) -> None:
        """Finish the open segment, if there is one, and enter it in the manifest."""
        if self._open is not None:
            self._open.sync()
            self.synced_seq = self._open.synced_seq
            self._finish("sealed")
        self._expire()
        self.save()

    def give_up(self) -> None:
        """Leave the open segment to what was synced in it; all of it if that is nothing."""
        if self._open is None:
            return
        if self._open.synced_seq >= self._open.first_seq:
            self._finish("suspect")
        else:
            self._open.discard()
            self._open = None

    def _finish(self, state: str) -> None:
        if self._open is not None:
            entry = self._open.close(state)
            self.manifest = replace(self.manifest, segments=(*self.manifest.segments, entry))
            self._there.append(entry)
            self._open = None
            self._manifest_is_saved = False

    def _expire(self) -> None:
        """Enter in the manifest that the oldest are gone, as far as they are beyond the bounds."""
        gone = {segment.name for segment in self._beyond()}
        if gone:
            self.manifest = replace(
                self.manifest,
                segments=tuple(
                    replace(s, state="expired") if s.name in gone else s
                    for s in self.manifest.segments
                ),
            )
            self._doomed += gone
            self._manifest_is_saved = False

    def _beyond(self) -> Iterator[Segment]:
        """Take the finished segments that are too old, or for which there is no room."""
        keep_ns, most = self._retention.keep_ns, self._retention.max_bytes
        size = self._reserved_bytes + sum(s.bytes for s in self._there) if most else 0
        while len(self._there) > (self._open is None):
            oldest, newest = self._there[0], self._open or self._there[-1]
            age_ns = (newest.ts_last or 0) - (oldest.ts_last or 0)
            is_old = keep_ns is not None and age_ns > keep_ns
            if not is_old and (most is None or size <= most):
                return
            size -= oldest.bytes
            yield self._there.popleft()

    def save(self) -> None:
        """Save the manifest, and only then remove the files that it says are gone."""
        if not self._manifest_is_saved:
            self._hold()
            save(self._tape, self.manifest)
            self._manifest_is_saved = True
        while self._doomed:
            with suppress(OSError):  # else it is tried again at the next start
                (self._tape / "raw" / self._doomed[-1]).unlink(missing_ok=True)
            self._doomed.pop()

    def _hold(self) -> None:
        if self.is_lost():
            raise OSError(errno.ESTALE, "it was deleted, moved or replaced")


class _Open:
    """The segment that takes batches."""

    def __init__(self, raw: Path, first_seq: int) -> None:
        self._fd, self._path = _create(raw, first_seq)
        self._hash = hashlib.sha256()
        self._ts_first = self.ts_last = self._ts_synced = 0
        self._last_seq = self.synced_seq = first_seq - 1
        self._last_wire = 0
        self._mono_first: int | None = None
        self.first_seq = first_seq
        self.bytes = 0
        self.age_ns = 0
        """By the monotonic clock; 0 of what was imported."""

    def goes_on_with(self, batch: Batch) -> bool:
        return batch.first_seq == self._last_seq + 1 and int(batch.ts_recv[0]) >= self.ts_last

    def write(self, batch: Batch) -> None:
        message = encode(batch)
        if not self.bytes:
            message = HEAD + message
            self._ts_first = int(batch.ts_recv[0])
            self._mono_first = None if batch.ts_mono is None else int(batch.ts_mono[0])
        write_all(self._fd, message)
        self._hash.update(message)
        self.bytes += len(message)
        self._last_seq = batch.last_seq
        self.ts_last = int(batch.ts_recv[-1])
        self._last_wire = max(self._last_wire, *batch.venues)
        if batch.ts_mono is not None and self._mono_first is not None:
            self.age_ns = int(batch.ts_mono[-1]) - self._mono_first

    def sync(self) -> None:
        if self.synced_seq == self._last_seq:
            return
        os.fdatasync(self._fd)
        if self.synced_seq < self.first_seq:
            sync_directory(self._path.parent)
        self.synced_seq, self._ts_synced = self._last_seq, self.ts_last

    def close(self, state: str) -> Segment:
        _close(self._fd)
        return Segment(
            name=self._path.name,
            first_seq=self.first_seq,
            frames=self.synced_seq - self.first_seq + 1,
            ts_first=self._ts_first,
            ts_last=self._ts_synced,
            bytes=self.bytes,
            state=state,
            sha256=self._hash.hexdigest() if state == "sealed" else "",
            last_wire=self._last_wire,
        )

    def discard(self) -> None:
        """Remove a file whose every frame is still held elsewhere: a full disk needs the room."""
        _close(self._fd)
        try:
            self._path.unlink()
        except OSError:
            return  # it stays as a file without use; the next one gets another name


def _create(raw: Path, first_seq: int) -> tuple[int, Path]:
    """Make a new file; a given-up one of the same first frame keeps its name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    path = raw / f"{first_seq:020d}.arrows"
    again = 0
    while True:
        try:
            return os.open(path, flags, 0o600), path
        except FileExistsError:
            again += 1
            path = raw / f"{first_seq:020d}-{again}.arrows"


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # what counts was synced before; what was not is written again


class _Sync(NamedTuple):
    """A place in the queue: all before it is to be synced, and then this half is free."""

    half: int | None


class Journal:
    """Brings what the tail holds to the disk: ``work`` on one thread, the rest from another."""

    def __init__(self, segments: Segments, tail: Tail) -> None:
        self._segments = segments
        self._tail = tail
        self._queue: deque[Chunk | _Sync] = deque()
        self._unsynced: deque[Chunk] = deque()
        self.written_seq = segments.synced_seq
        """The last frame in a segment."""
        self.trouble: str | None = None
        """What is wrong with the disk; ``None`` when well."""
        self.troubles = 0
        """How often it became so."""

    @property
    def has_work(self) -> bool:
        return bool(self._queue)

    def hand_over(self, chunk: Chunk) -> None:
        self._queue.append(chunk)

    def ask_sync(self, waiting_half: int | None = None) -> None:
        """Have all that was handed over so far synced, and then the half that waits freed."""
        self._queue.append(_Sync(waiting_half))

    def work(self) -> None:
        """Empty the queue, or find out that the disk does not let it."""
        try:
            while self._queue:
                self._step(self._queue[0])
                self._queue.popleft()
            self.trouble = None
        except OSError as error:
            self._give_up(error)

    def _step(self, item: Chunk | _Sync) -> None:
        if isinstance(item, Chunk):
            self._write(item)
            self._unsynced.append(item)
        else:
            self._segments.sync()
            self._unsynced.clear()
            if item.half is not None:
                self._tail.free(item.half)

    def _write(self, chunk: Chunk) -> None:
        for batch in self._tail.gather(chunk):
            if batch.last_seq > self._segments.synced_seq:
                self._segments.write(batch)
        self.written_seq = chunk.last_seq

    def _give_up(self, error: OSError) -> None:
        self._segments.give_up()
        self._queue.extendleft(reversed(self._unsynced))
        self._unsynced.clear()
        self.written_seq = self._segments.synced_seq
        self.troubles += self.trouble is None
        self.trouble = f"cannot write to the tape: {error.strerror or error}"
