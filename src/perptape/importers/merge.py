"""Frames of many files in one order of time, in bounded memory."""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from perptape.importers.importer import Heard, Importer, Source, Tally

WINDOW_FRAMES = 4096  # how far a frame may stand from its place in time and still be put there
WINDOW_BYTES = 8 << 20

_Due = tuple[int, int, Heard, Source, Iterator[Heard]]
"""Next frame of an open file: its time, then the file's place, which settles every tie."""


def by_time(
    importer: Importer, sources: Sequence[Source], venue: str | None
) -> Iterator[tuple[Heard, Source]]:
    """Merge the files by time; each is opened when its first frame is due, however many follow."""
    waiting = deque(sorted(sources, key=lambda source: source.ts_first))
    due: list[_Due] = []
    opened = 0
    while waiting or due:
        while waiting and not (due and due[0][0] < waiting[0].ts_first):
            source = waiting.popleft()
            # A file that still grows gives no more than what was believed.
            rest = _in_order(islice(importer.read(source.path, venue, Tally()), source.frames))
            opened += 1
            _push(due, opened, source, rest)
        _, place, heard, source, rest = heapq.heappop(due)
        yield heard, source
        _push(due, place, source, rest)


def _push(
    due: list[_Due],
    place: int,
    source: Source,
    rest: Iterator[Heard],
) -> None:
    heard = next(rest, None)
    if heard is not None:
        heapq.heappush(due, (heard.ts_recv, place, heard, source, rest))


def _in_order(frames: Iterator[Heard]) -> Iterator[Heard]:
    """Put right what threads and queues put out of order, within the window; stable."""
    window: list[tuple[int, int, Heard]] = []
    held = 0
    for place, heard in enumerate(frames):
        heapq.heappush(window, (heard.ts_recv, place, heard))
        held += len(heard.payload)
        while len(window) > WINDOW_FRAMES or held > WINDOW_BYTES:
            first = heapq.heappop(window)[2]
            held -= len(first.payload)
            yield first
    while window:
        yield heapq.heappop(window)[2]
