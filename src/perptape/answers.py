"""What a tape has of questions about the time and their answers: REST, and pings that tell it."""

from collections import deque
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from perptape.errors import CONTROL_ERRORS
from perptape.events import Kind, RestAnswer
from perptape.segment import Batch
from perptape.venues import VENUES
from perptape.venues.venue import Echo

OK = 200
LAST_NS = (1 << 63) - 1
MOST_UNANSWERED = 64
"""After so many pings without an answer a wire's answers are no longer looked for."""
Trip = tuple[str, int, int, int]
"""Venue, when we asked, what it said, when we had the answer; in ns."""


def round_trips(batches: Iterable[Batch]) -> Iterator[Trip]:
    """Give all of them in the order of the answers, of frames in the order of the tape."""
    pings = Pings()
    for batch in batches:
        found = [*_by_rest(batch), *pings.answered(batch)]
        yield from (trip for _, trip in sorted(found) if all(0 <= ts <= LAST_NS for ts in trip[1:]))


def _by_rest(batch: Batch) -> Iterator[tuple[int, Trip]]:
    for row in np.flatnonzero(batch.kind == Kind.REST).tolist():
        venue = batch.venues[int(batch.wire[row])]
        read_time = VENUES[venue].read_time if venue in VENUES else None
        try:
            answer = msgspec.json.decode(_payload(batch, row), type=RestAnswer)
            if answer.what == "time" and answer.status == OK and read_time is not None:
                told = read_time(answer.body.encode())
                yield row, (venue, answer.t_sent, told, int(batch.ts_recv[row]))
        except CONTROL_ERRORS:
            continue  # what nobody can read stays on the tape


def _payload(batch: Batch, row: int) -> bytes:
    start, stop = batch.offsets[row : row + 2].tolist()
    return bytes(batch.payload[start:stop])


class Pings:
    """Pings of each wire that are not answered yet, the oldest first.

    An answer belongs to the oldest of them. If a venue left that one out the answer is to a later
    one, and the time under way comes out longer than it was: a wider bound, never a wrong one.
    """

    def __init__(self) -> None:
        self._sent: dict[int, deque[int]] = {}

    def answered(self, batch: Batch) -> Iterator[tuple[int, Trip]]:
        """Give the answers in a batch, with their rows; batches come in the order of the tape."""
        for row, echo in _told(batch):
            wire, ts = int(batch.wire[row]), int(batch.ts_recv[row])
            waiting = self._sent.setdefault(wire, deque())
            if batch.kind[row] == Kind.SENT:
                if len(waiting) <= MOST_UNANSWERED and echo.asked in _payload(batch, row):
                    waiting.append(ts)
            elif waiting and len(waiting) <= MOST_UNANSWERED:
                try:
                    told = echo.read(_payload(batch, row))
                except CONTROL_ERRORS:
                    continue  # it only looks like an answer
                yield row, (batch.venues[wire], waiting.popleft(), told, ts)


def _told(batch: Batch) -> Iterator[tuple[int, Echo]]:
    """Give the rows that may be pings or answers, in order, without looking at each frame."""
    echoes = {wire: echo for wire, name in batch.venues.items() if (echo := _echo(name))}
    if not echoes:
        return
    own = np.isin(batch.wire, list(echoes))
    rows = set(np.flatnonzero(own & (batch.kind == Kind.SENT)).tolist())
    text, is_text = bytes(batch.payload), own & (batch.kind == Kind.TEXT)
    for mark in {echo.told for echo in echoes.values()}:
        at = text.find(mark)
        while at >= 0:
            row = int(np.searchsorted(batch.offsets, at, side="right")) - 1
            rows |= {row} if is_text[row] else set()
            at = text.find(mark, at + 1)
    for row in sorted(rows):
        yield row, echoes[int(batch.wire[row])]


def _echo(venue: str) -> Echo | None:
    heartbeat = VENUES[venue].heartbeat if venue in VENUES else None
    return None if heartbeat is None else heartbeat.echo
