"""Other people's recordings to frames on a tape: read everything once, believe it, then append.

Nothing reaches the tape before every file has been read to its end, so a refusal leaves no half
of an import behind. Each connection of a file becomes one wire per venue; the file's name and
SHA-256 are in the wire's ``opened`` frame, the folder it lay in is not.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from perptape.errors import BadUsage, Failed
from perptape.events import Kind, Note, Opened, RestAnswer
from perptape.importers.cryptofeed import CRYPTOFEED
from perptape.importers.hftbacktest import HFTBACKTEST
from perptape.importers.importer import Heard, Importer, Source, Tally, check_file, printable
from perptape.importers.merge import by_time
from perptape.importers.notebook import NOTEBOOK
from perptape.tape import TapeWriter
from perptape.venues import VENUES

FORMATS: dict[str, Importer] = {
    importer.name: importer for importer in (NOTEBOOK, HFTBACKTEST, CRYPTOFEED)
}

LISTING_AT_MOST = 64 << 20  # bytes of an instrument list
PROGRESS_EVERY = 10_000  # frames
TICK_EVERY = 256  # frames
DISK_S = 0.01  # between two looks at a disk that is behind
HTTP_OK = 200

Progress = Callable[[int, int], None]
"""Told (frames so far, frames in all) now and then, and at the end."""


class ImportSummary(NamedTuple):
    """What one import put on the tape, and what it could not."""

    frames: int
    skipped: int
    """Records that were no frame: of no venue we know, or without a receive time."""
    torn: int
    """Files that end inside a record."""
    files: int
    ts_first: int
    ts_last: int


def run(  # noqa: PLR0913  # the command's own arguments
    format: str,  # noqa: A002  # the command's own word
    paths: Sequence[Path],
    tape: Path,
    *,
    venue: str | None = None,
    instruments: Path | None = None,
    progress: Progress | None = None,
) -> ImportSummary:
    """Append the recordings in ``paths`` to ``tape``, made if it is not there.

    Raises BadUsage or Failed before the tape is touched if anything in the arguments or in the
    files cannot be believed.
    """
    importer = _importer(format, venue)
    if not paths:
        raise BadUsage("no file to import: name one or more")
    listing = _listing(instruments, venue) if instruments else None
    sources = [_believe(importer, Path(path), venue) for path in paths]
    total = sum(source.frames for source in sources)
    if not total:
        skipped = sum(source.tally.skipped for source in sources)
        raise Failed(
            f"not one frame of a known venue with a receive time in the {len(sources)} files "
            f"({skipped} records skipped): choose another FORMAT, or name the venue with --venue"
        )
    heard = [source for source in sources if source.frames]
    with _Appender(importer.name, tape, progress, total) as appender:
        if listing:
            appender.list_instruments(str(venue), listing, min(s.ts_first for s in heard))
        for frame, source in by_time(importer, heard, venue):
            appender.take(frame, source)
        appender.finish()
    return ImportSummary(
        frames=total,
        skipped=sum(source.tally.skipped for source in sources),
        torn=sum(source.tally.torn for source in sources),
        files=len(sources),
        ts_first=min(source.ts_first for source in heard),
        ts_last=max(source.ts_last for source in heard),
    )


def _importer(name: str, venue: str | None) -> Importer:
    if name not in FORMATS:
        known = ", ".join((*FORMATS, "quotes"))
        raise BadUsage(f"no format {name!r}: FORMAT is one of {known}")
    if venue is not None and venue not in VENUES:
        raise BadUsage(f"no venue {venue!r}: --venue is one of {', '.join(sorted(VENUES))}")
    if venue is None and FORMATS[name].needs_venue:
        raise BadUsage(
            f"a file of {name} does not say whose frames it holds: add --venue, "
            f"one of {', '.join(sorted(VENUES))}"
        )
    return FORMATS[name]


def _listing(path: Path, venue: str | None) -> RestAnswer:
    """Read a saved instrument list as the venue's own REST answer."""
    if venue is None:
        raise BadUsage("--instruments holds the list of one venue: name it with --venue")
    read = VENUES[venue].read_instruments
    if read is None:
        raise BadUsage(
            f"--instruments: no instrument list of {venue} can be read yet, leave it out"
        )
    body = _whole(path)
    try:
        listed = read(body, 0).instruments
        text = body.decode()
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise BadUsage(
            f"--instruments {path.name} is not {venue}'s instrument list ({error}): "
            f"give the answer of {VENUES[venue].rest}{VENUES[venue].instruments_path} as it came"
        ) from None
    if not listed:
        raise BadUsage(f"--instruments {path.name} lists no instrument of {venue}")
    return RestAnswer("instruments", f"import:{printable(path)}", HTTP_OK, 0, text)


def _whole(path: Path) -> bytes:
    check_file(path)
    if path.stat().st_size > LISTING_AT_MOST:
        raise BadUsage(f"--instruments {path.name} is larger than {LISTING_AT_MOST >> 20} MiB")
    return path.read_bytes()


def _believe(importer: Importer, path: Path, venue: str | None) -> Source:
    """Read a file to its end without keeping anything of it."""
    check_file(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    tally, frames, ts_first, ts_last = Tally(), 0, 2**63 - 1, -(2**63)
    for heard in importer.read(path, venue, tally):
        frames += 1
        ts_first = min(ts_first, heard.ts_recv)
        ts_last = max(ts_last, heard.ts_recv)
    return Source(path, sha256, frames, ts_first, ts_last, tally)


class _Appender:
    """The tape's side: a wire per connection and venue, opened by its first frame."""

    def __init__(self, format_: str, tape: Path, progress: Progress | None, total: int) -> None:
        self._writer = TapeWriter(tape)
        self._wires: dict[tuple[Path, str, int], int] = {}
        self._format, self._progress = format_, progress
        self._total, self._done = total, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def list_instruments(self, venue: str, listing: RestAnswer, ts_recv: int) -> None:
        wire = self._writer.new_wire(venue)
        answer = msgspec.structs.replace(listing, t_sent=ts_recv)
        self._append(wire, Kind.REST, msgspec.json.encode(answer), ts_recv)

    def take(self, heard: Heard, source: Source) -> None:
        wire = self._wires.get((source.path, heard.venue, heard.connection))
        if wire is None:
            wire = self._open(heard, source)
        self._append(wire, heard.kind, heard.payload, heard.ts_recv, heard.wire_size)
        if heard.trouble:
            note = Note(note="not_inflated", reason=heard.trouble)
            self._append(wire, Kind.NOTE, msgspec.json.encode(note), heard.ts_recv)
        self._done += 1
        if self._progress and (self._done % PROGRESS_EVERY == 0 or self._done == self._total):
            self._progress(self._done, self._total)

    def finish(self) -> None:
        if self._done != self._total:
            raise Failed(
                f"a file changed while it was read: {self._done} frames are on the tape of "
                f"{self._total} that were there before; import into a new tape"
            )

    def _open(self, heard: Heard, source: Source) -> int:
        wire = self._writer.new_wire(heard.venue)
        self._wires[source.path, heard.venue, heard.connection] = wire
        url = f"import:{self._format}:{printable(source.path)}:sha256={source.sha256}"
        opened = Opened(heard.venue, url, subscriptions=(), imported=True)
        self._append(wire, Kind.OPENED, msgspec.json.encode(opened), heard.ts_recv)
        return wire

    def _append(
        self, wire: int, kind: Kind, payload: bytes, ts_recv: int, wire_size: int | None = None
    ) -> None:
        sizes = None if wire_size is None else [wire_size]
        self._writer.append(wire, kind, [payload], ts_recv, None, sizes)
        if self._done % TICK_EVERY == 0:
            self._writer.tick(time.monotonic_ns())
        while self._writer.full:
            if self._writer.trouble:
                raise Failed(
                    f"the tape takes no more ({self._writer.trouble}): {self._done} of "
                    f"{self._total} frames are on it; make room and import the rest"
                )
            time.sleep(DISK_S)
            self._writer.tick(time.monotonic_ns())
