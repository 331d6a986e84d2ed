"""The tape: what was received and sent in one recording, written before anyone thinks about it.

A read is one record in the mapped ``tail``, from where a thread brings it into segments. So no
frame of a finished ``append`` is lost when the process dies, and none older than ``sync_ms`` and
the sync itself when the power does.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perptape import tail
from perptape.errors import BadUsage, Failed
from perptape.events import MS, NS
from perptape.journal import KEEP_ALL, SEGMENT_BYTES, Bounds, Journal, Retention
from perptape.manifest import Manifest, Segment
from perptape.playback import Damage, Tape
from perptape.recovery import Recovery, begin, failed, lock, recover
from perptape.segment import VENUE, Batch

__all__ = [
    "KEEP_ALL",
    "Batch",
    "Damage",
    "Manifest",
    "Recovery",
    "Retention",
    "Segment",
    "Tape",
    "TapeWriter",
]

BATCH_BYTES = 1 << 20
BATCH_NS = 250 * MS
SWAP_BYTES = 8 << 20
"""A half of the tail that holds so much is synced before its time."""
RETRY_NS = NS
"""How long a failing disk is left alone."""


class TapeWriter:
    """Makes a tape or continues one.

    ``config`` is kept in ``tape.json``; ``now`` gives the wall and the monotonic clock in ns.
    Raises BadUsage for a directory that is something else, Failed for a tape that is damaged, that
    another process writes, or that cannot be written.
    """

    recovered: Recovery | None
    """What was mended at the start; ``None`` if there was nothing to mend."""
    ts_before: int | None
    """The last ``ts_recv`` of the runs before this one; ``None`` on a new tape."""

    def __init__(  # noqa: PLR0913 - the bounds are for tests
        self,
        path: Path,
        *,
        config: Mapping[str, Any] | None = None,
        sync_ms: int = 1000,
        now: Callable[[], tuple[int, int]] | None = None,
        retention: Retention = KEEP_ALL,
        half_bytes: int = tail.HALF_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        ts, mono = now() if now else (time.time_ns(), time.monotonic_ns())
        self.path = path
        self._lock = lock(path)
        try:
            manifest = begin(path, ts, config or {})
            bounds = Bounds(segment_bytes, retention, tail_bytes=2 * half_bytes)
            self._segments, self.recovered, self._first_seq = recover(
                path, manifest, bounds, self._lock
            )
            self._tail = tail.Tail(path / "raw" / "tail", half_bytes)
        except OSError as error:
            os.close(self._lock)
            raise failed(path, error) from error
        except BaseException:
            os.close(self._lock)
            raise
        self._tail.name_wire(0, "")
        self._put = self._tail.append
        before = self._segments.manifest.segments
        self._next_wire = 1 + max((s.last_wire for s in before), default=0)
        self._next_seq = self._first_seq
        self.ts_before = max((s.ts_last for s in before if s.ts_last is not None), default=None)
        self._journal = Journal(self._segments, self._tail)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tape")
        self._job: Future[None] | None = None
        self._sync_ns = sync_ms * MS
        self._swap_bytes = min(SWAP_BYTES, half_bytes // 4)
        self._cut_mono = self._synced_mono = self._retried_mono = mono
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def full(self) -> bool:
        """Tell the caller to stop reading: the disk does not keep up, there is room for little."""
        return self._tail.is_full

    @property
    def trouble(self) -> str | None:
        """What is wrong with the disk, in words; ``None`` when well."""
        return self._journal.trouble

    @property
    def troubles(self) -> int:
        """How often there was trouble, so that a short one is not overlooked."""
        return self._journal.troubles

    @property
    def frames(self) -> int:
        """Frames appended in this run."""
        return self._next_seq - self._first_seq

    @property
    def backlog_frames(self) -> int:
        """Frames appended that are in no segment yet."""
        return self._next_seq - max(self._first_seq, self._journal.written_seq + 1)

    def new_wire(self, venue: str) -> int:
        """Give a number that no wire of this tape has had."""
        if not VENUE.fullmatch(venue):
            raise BadUsage(f"{venue!r} is no name of a venue; allowed are a-z, 0-9 and _")
        wire = self._next_wire
        self._next_wire += 1
        self._tail.name_wire(wire, venue)
        return wire

    def end_wire(self, wire: int) -> None:
        """Forget a wire; nothing may be appended of it any more."""
        self._tail.forget_wire(wire)

    def append(  # noqa: PLR0913, PLR0917 - a frame has so many parts, and this is the hot path
        self,
        wire: int,
        kind: int,
        payloads: Sequence[bytes],
        ts_recv: int,
        ts_mono: int | None,
        wire_sizes: Sequence[int] | None = None,
    ) -> int:
        """Put what one read brought on the tape; give the seq of its first frame.

        When this returns, ``kill -9`` cannot take it away. ``wire_sizes`` where they differ from
        the payloads' lengths. Raises Failed when the tail has no room, which cannot happen to a
        caller who stops reading when ``full``.
        """
        seq = self._next_seq
        if not payloads:
            return seq
        open_bytes = self._put(seq, wire, kind, payloads, ts_recv, ts_mono, wire_sizes)
        if not open_bytes:
            self._take_other_half()
            open_bytes = self._put(seq, wire, kind, payloads, ts_recv, ts_mono, wire_sizes)
            if not open_bytes:
                raise Failed("a read is larger than the tape's tail; record fewer markets")
        self._next_seq = seq + len(payloads)
        if open_bytes >= BATCH_BYTES:
            self._hand_over()
        return seq

    def tick(self, ts_mono: int) -> None:
        """Do what is due, without waiting for the disk; to be called about every 50 ms.

        Raises Failed if the tape's directory is no longer there, or is another.
        """
        if ts_mono - self._cut_mono >= BATCH_NS:
            self._cut_mono = ts_mono
            self._hand_over()
        if ts_mono - self._synced_mono >= self._sync_ns and self._tail.other_is_free:
            self._synced_mono = ts_mono
            self._hold()
            self._swap()
        if self.trouble is None or ts_mono - self._retried_mono >= RETRY_NS:
            self._retried_mono = ts_mono
            self._work()

    def flush(self, *, sync: bool = False) -> None:
        """Hand the open batch to the writing thread; with ``sync`` wait until all is synced.

        Raises Failed if the disk does not let it; all is kept then, and tried again.
        """
        self._hand_over()
        if not sync:
            return
        self._journal.ask_sync()
        self._drain()
        if self.trouble is not None:
            raise Failed(f"{self.trouble} ({self.path}); free some space or check the disk")

    def close(self) -> None:
        """Finish the tape: all in sealed segments, no tail, the lock released.

        Raises Failed if the disk does not let it; what is missing stays in the tail then and is
        taken from there when the tape is opened for writing again.
        """
        if self._is_closed:
            return
        self._is_closed, is_whole = True, False
        try:
            self._hold()
            self.flush(sync=True)
            self._segments.seal()
            is_whole = True
        except OSError as error:
            raise failed(self.path, error) from error
        finally:
            self._thread.shutdown()
            self._tail.close(remove=is_whole)
            os.close(self._lock)

    def _hold(self) -> None:
        if self._segments.is_lost():
            raise Failed(
                f"{self.path} was deleted, moved or replaced while it was being recorded; nothing "
                "more is written: record again, into a directory that stays"
            )

    def _hand_over(self) -> None:
        if self._tail.has_open:
            self._journal.hand_over(self._tail.cut(self._next_seq - 1))
        if self._tail.used >= self._swap_bytes and self._tail.other_is_free:
            self._swap()
        if self.trouble is None:
            self._work()

    def _swap(self) -> None:
        if self._tail.has_open:
            self._journal.hand_over(self._tail.cut(self._next_seq - 1))
        if self._tail.holds_records:
            self._journal.ask_sync(self._tail.swap())

    def _take_other_half(self) -> None:
        if not self._tail.other_is_free:
            raise Failed(
                f"the disk under {self.path} is too slow and memory's bound is reached; "
                "record to a faster disk"
            )
        self._swap()
        self._work()

    def _work(self) -> None:
        """Set the thread to work unless it is; raise what it could not foresee."""
        if self._job is not None and self._job.done():
            self._job.result()
            self._job = None
        if self._job is None and self._journal.has_work:
            self._job = self._thread.submit(self._journal.work)

    def _drain(self) -> None:
        while self._journal.has_work:
            self._work()
            if self._job is not None:
                self._job.result()
            if self.trouble is not None:
                return
