"""Reading a tape: one that is finished, one that is being written, and one that a crash left.

A :class:`Tape` is what was there when it was opened. The tail is copied before the segments are
looked for, so what leaves it meanwhile is found in a segment, and nothing falls between.
"""

import hashlib
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from perptape import records
from perptape.events import Frame
from perptape.manifest import (
    NAME,
    SEGMENT_NAME,
    Manifest,
    Segment,
    Unreadable,
    is_of_former_boot,
    load,
    opened,
)
from perptape.segment import HEAD, Batch, decode, head_is_damaged, is_unwritten, scan


def is_segment(name: str) -> bool:
    return SEGMENT_NAME.fullmatch(name) is not None


class Damage(msgspec.Struct, frozen=True):
    """Something written that is no more as it was written, or is gone."""

    file: str
    """Relative to the tape."""
    detail: str
    ts_first: int | None
    """It lies between these times, which are still whole themselves; ``None``: no such frame."""
    ts_last: int | None

    def __str__(self) -> str:
        return f"{self.file}: {self.detail}"


class Tape:
    """A tape as it was when opened.

    Raises BadUsage if the directory is no tape, Failed if its format is newer than this program.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._halves = records.read(path / "raw" / "tail")
        manifest = load(path)
        self._unreadable = manifest if isinstance(manifest, Unreadable) else None
        self.meta = Manifest(created=0) if isinstance(manifest, Unreadable) else manifest
        if is_of_former_boot(self.meta.runs):
            self._halves = records.as_a_disk_had_them(self._halves)
        self._files = [*self.meta.segments, *unlisted(path, self.meta.segments)]
        finished = without_overlaps(self._files)
        last_seq = finished[-1].last_seq if finished else 0
        self._tail = [b for half in self._halves for b in half.batches(last_seq)]
        on_disk = [segment for segment in finished if segment.state != "expired"]
        self.segments = [*on_disk, *_runs(self._tail)]
        """Files, then what only the tail holds, in order and without overlap; see Segment."""
        self.expired = [segment for segment in finished if segment.state == "expired"]
        """What was deleted because it was to be: before the others, and more while they are read
        from a tape that is being written."""

    def batches(self, segment: Segment | None = None) -> Iterator[Batch]:
        """Give the frames of one of ``segments``, or of all, one batch in memory at a time.

        What is damaged is left out; :meth:`damage` tells.
        """
        for one in self.segments if segment is None else [segment]:
            yield from self._kept(one) if one.state == "tail" else self._read(one)

    def frames(self) -> Iterator[Frame]:
        for batch in self.batches():
            yield from batch.frames()

    def _kept(self, segment: Segment) -> Iterator[Batch]:
        for batch in self._tail:
            if segment.first_seq <= batch.first_seq <= segment.last_seq:
                yield batch

    def _read(self, segment: Segment) -> Iterator[Batch]:
        next_seq = segment.first_seq
        with mapped(self.path / "raw" / segment.name) as data:
            if not data and self._has_expired(segment):
                return
            for found in scan(data):
                if found.mark is None or found.mark.last_seq < next_seq:
                    continue
                batch = decode(data[found.start : found.stop], found.mark)
                start = max(0, next_seq - batch.first_seq)
                stop = min(len(batch), segment.last_seq + 1 - batch.first_seq)
                if start >= stop:
                    return
                next_seq = batch.first_seq + stop
                yield batch.rows(start, stop)

    def _has_expired(self, segment: Segment) -> bool:
        """Tell whether a segment was deleted since, because it was to be."""
        if (self.path / _file(segment)).exists():
            return False
        now = load(self.path)
        of_now = () if isinstance(now, Unreadable) else now.segments
        gone = any(s.name == segment.name and s.state == "expired" for s in of_now)
        if gone and segment not in self.expired:
            self.expired.append(segment)
        return gone

    def damage(self) -> list[Damage]:
        """Compare everything that was written, and is to be there, with what proves it.

        That is its hashes, checksums and sequence.
        """
        found = []
        if self._unreadable is not None:
            found.append(Damage(NAME, self._unreadable.reason, None, None))
        for segment in self._files:
            if segment.state != "expired":
                damage = _damage_of(self.path, segment, *self._ts_around(segment))
                found += [] if damage and self._has_expired(segment) else damage
        for half in self._halves:
            found += _damage_of_half(half, self._ts_around(None))
        return found + list(self._holes())

    def _ts_around(self, segment: Segment | None) -> tuple[int | None, int | None]:
        """Give the times that a segment lies between; without one, those around the tail."""
        place = (1 << 63, 0) if segment is None else _order(segment)
        files = [s for s in self.segments if s.state != "tail"]
        before = [s.ts_last for s in files if _order(s) < place]
        after = [s.ts_first for s in self.segments if s.state == "tail" or _order(s) > place]
        ts_after = after[0] if after and segment is not None else None
        return before[-1] if before else None, ts_after

    def _holes(self) -> Iterator[Damage]:
        next_seq, ts_last = 1, None
        for segment in sorted([*self.expired, *self.segments], key=_order):
            if segment.first_seq > next_seq:
                detail = f"frames {next_seq} to {segment.first_seq - 1} are missing"
                yield Damage(_file(segment), detail, ts_last, segment.ts_first)
            next_seq, ts_last = segment.last_seq + 1, segment.ts_last


def unlisted(tape: Path, listed: Iterable[Segment]) -> list[Segment]:
    """Find the segments that no manifest knows, and what is whole in them."""
    known = {segment.name for segment in listed}
    names = [p.name for p in (tape / "raw").glob("*.arrows") if is_segment(p.name)]
    return [_survey(tape / "raw" / name) for name in sorted(names) if name not in known]


def _survey(path: Path) -> Segment:
    name = SEGMENT_NAME.fullmatch(path.name)
    first_seq = int(name[1]) if name else 0
    with mapped(path) as data:
        found = list(scan(data))
        marks = [f.mark for f in found if f.mark is not None]
        return Segment(
            name=path.name,
            first_seq=first_seq,
            frames=marks[-1].last_seq + 1 - first_seq if marks else 0,
            ts_first=marks[0].ts_first if marks else None,
            ts_last=marks[-1].ts_last if marks else None,
            bytes=len(data),
            state="open",
            torn_bytes=sum(f.stop - f.start for f in found if f.torn),
            last_wire=max((wire for mark in marks for wire in mark.wires), default=0),
        )


def without_overlaps(files: Iterable[Segment]) -> list[Segment]:
    """Cut each file where a later one begins: it was begun because the earlier had failed."""
    ordered = sorted((f for f in files if f.frames > 0), key=_order)
    ends = [f.first_seq for f in ordered[1:]] + [1 << 63]
    cut = [
        replace(f, frames=min(f.last_seq + 1, end) - f.first_seq)
        for f, end in zip(ordered, ends, strict=False)
    ]
    return [f for f in cut if f.frames > 0]


def _order(segment: Segment) -> tuple[int, int]:
    name = SEGMENT_NAME.fullmatch(segment.name)
    return segment.first_seq, int(name[2] or 0) if name else 0


def _runs(batches: list[Batch]) -> list[Segment]:
    """Group the tail's batches as segments would: no hole, and time never falls."""
    runs: list[Segment] = []
    for b in batches:
        ts_first, ts_last = int(b.ts_recv[0]), int(b.ts_recv[-1])
        last = runs[-1] if runs else None
        if last is None or b.first_seq != last.last_seq + 1 or ts_first < (last.ts_last or 0):
            runs.append(
                Segment(
                    name="tail",
                    first_seq=b.first_seq,
                    frames=len(b),
                    ts_first=ts_first,
                    ts_last=ts_last,
                    bytes=len(b.payload),
                    state="tail",
                    last_wire=max(b.venues),
                )
            )
        else:
            runs[-1] = replace(
                last,
                frames=last.frames + len(b),
                ts_last=ts_last,
                bytes=last.bytes + len(b.payload),
                last_wire=max(last.last_wire, *b.venues),
            )
    return runs


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Map a file; a missing or empty one, or what is no file, is no bytes."""
    try:
        with opened(path) as file:
            data: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):
        data = b""
    yield memoryview(data)


def _file(segment: Segment) -> str:
    return f"raw/{segment.name}"


def _damage_of(
    tape: Path, segment: Segment, ts_before: int | None, ts_after: int | None
) -> list[Damage]:
    file, path = _file(segment), tape / _file(segment)
    try:
        opened(path).close()
        is_as_hashed = not segment.sha256 or sha256_of(path) == segment.sha256
    except FileNotFoundError:
        return [Damage(file, "it is missing", ts_before, ts_after)]
    if is_as_hashed and segment.state == "sealed":
        return []
    with mapped(path) as data:
        details = list(_altered(data, segment))
    if not details and not is_as_hashed:
        details = [("it does not match its hash", None, None)]
    return [Damage(file, d, a or ts_before, b or ts_after) for d, a, b in details]


_Detail = tuple[str, int | None, int | None]


def _altered(data: memoryview, segment: Segment) -> Iterator[_Detail]:
    found = list(scan(data))
    whole = [(f, f.mark) for f in found if f.mark is not None]
    if whole and head_is_damaged(data, whole[0][0]) and not is_unwritten(data, 0, len(HEAD)):
        yield "its head is altered, its frames are whole", None, None
    for f in found:
        if f.mark is None and not f.torn:
            before = (m.ts_last for w, m in reversed(whole) if w.stop <= f.start)
            after = (m.ts_first for w, m in whole if w.start >= f.stop)
            detail = f"bytes {f.start} to {f.stop - 1} are altered"
            yield detail, next(before, None), next(after, None)
    last_seq = whole[-1][1].last_seq if whole else segment.first_seq - 1
    if last_seq < segment.last_seq and all(f.mark is not None or f.torn for f in found):
        yield f"its end is gone, from frame {last_seq + 1}", None, None


def _damage_of_half(half: records.Half, around: tuple[int | None, int | None]) -> Iterator[Damage]:
    for start, stop in half.damaged:
        before, after = half.ts_around(start, stop)
        detail = f"the record at byte {start} of a half is altered"
        yield Damage("raw/tail", detail, before or around[0], after or around[1])


def sha256_of(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
