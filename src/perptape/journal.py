"""The writing thread's work: records become batches in segments, are synced, and leave the tail.

What has been handed over stays in the tail until it is synced in a segment. When the disk fails,
that segment is given up and all that was not synced is written again, in a new one: after a failed
sync the system may have dropped what it says it holds.
"""

import hashlib
import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from perptape.events import NS
from perptape.manifest import Manifest, Segment, save, sync_directory, write_all
from perptape.segment import HEAD, Batch, encode
from perptape.tail import Chunk, Tail

SEGMENT_BYTES = 256 << 20
SEGMENT_NS = 15 * 60 * NS


class Segments:
    """The segments of a tape and their manifest, for the one who writes. May raise OSError."""

    def __init__(self, tape: Path, manifest: Manifest, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.manifest = manifest
        self.synced_seq = max((s.last_seq for s in manifest.segments), default=0)
        self._tape = tape
        self._segment_bytes = segment_bytes
        self._open: _Open | None = None
        self._manifest_is_saved = False

    def write(self, batch: Batch) -> None:
        if self._open is not None and not self._open.goes_on_with(batch):
            self.seal()
        if self._open is None:
            self._open = _Open(self._tape / "raw", batch.first_seq)
        self._open.write(batch)

    def sync(self) -> None:
        """Make all that was written survive a power loss; finish a segment that has its size."""
        if self._open is not None:
            self._open.sync()
            self.synced_seq = self._open.synced_seq
            if self._open.bytes >= self._segment_bytes or self._open.age_ns >= SEGMENT_NS:
                self._finish("sealed")
        self.save()

    def seal(self) -> None:
        """Finish the open segment, if there is one, and enter it in the manifest."""
        if self._open is not None:
            self._open.sync()
            self.synced_seq = self._open.synced_seq
            self._finish("sealed")
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
            self._open = None
            self._manifest_is_saved = False

    def save(self) -> None:
        if not self._manifest_is_saved:
            save(self._tape, self.manifest)
            self._manifest_is_saved = True


class _Open:
    """The segment that takes batches."""

    def __init__(self, raw: Path, first_seq: int) -> None:
        self._fd, self._path = _create(raw, first_seq)
        self._hash = hashlib.sha256()
        self._ts_first = self._ts_last = self._ts_synced = 0
        self._last_seq = self.synced_seq = first_seq - 1
        self._last_wire = 0
        self._mono_first: int | None = None
        self.first_seq = first_seq
        self.bytes = 0
        self.age_ns = 0
        """By the monotonic clock; 0 of what was imported."""

    def goes_on_with(self, batch: Batch) -> bool:
        return batch.first_seq == self._last_seq + 1 and int(batch.ts_recv[0]) >= self._ts_last

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
        self._ts_last = int(batch.ts_recv[-1])
        self._last_wire = max(self._last_wire, *batch.venues)
        if batch.ts_mono is not None and self._mono_first is not None:
            self.age_ns = int(batch.ts_mono[-1]) - self._mono_first

    def sync(self) -> None:
        if self.synced_seq == self._last_seq:
            return
        os.fdatasync(self._fd)
        if self.synced_seq < self.first_seq:
            sync_directory(self._path.parent)
        self.synced_seq, self._ts_synced = self._last_seq, self._ts_last

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
