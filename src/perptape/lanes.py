"""A fast way through the frames of a batch, for those of which nothing can come but a row.

A **lane** is what one wire says of one symbol's quotes, or of its book. Its frames are read in
bulk, by forms; of their stream the same is remembered as if each had been looked at by itself
(:mod:`perptape.ahead`). The ledger handles all other frames one by one: before each of them
everything earlier has been done, so nothing that it sees tells how. A frame is taken only while its
stream is trusted and in no doubt, if it comes in time and its bid is below its ask, or it is the
next change of a book that we have; the rest is as ever the ledger's.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np

from perptape.ahead import Ahead, Block, Step
from perptape.checks import Checks
from perptape.events import Kind
from perptape.learning import learn, shortened
from perptape.matching import Ints
from perptape.memory import Lane
from perptape.tape import Batch
from perptape.templates import Forms, Read
from perptape.trust import Trust

LAST_DATA = int(Kind.BINARY)
SAMPLES, ROUNDS = 16, 8
"""So many of a batch's misses are looked at for new forms, again while some are found."""
MOST_PATIENCE = 1 << 12
"""After batches that taught nothing at most so many frames pass before the next is looked at."""
LONG_FRAME = 1 << 16
"""Bytes of a frame that no form is learned from."""
HOPELESS = 1 << 12
"""So many forms that cannot be learned are remembered; after them nothing is learned."""
ANY_NUMBER = re.compile(rb"[0-9]+")


class Rows(Protocol):
    """Where rows of one type of event are put."""

    blocks: list[Block]


class Lanes:
    """The forms learned from a tape, and what went the fast way."""

    def __init__(self, trust: Trust, found: Checks) -> None:
        self._trust, self._checks = trust, found
        self._forms = Forms()
        self._hopeless: set[tuple[str, bytes]] = set()
        self._patience = self._pause = 0
        """Of how many frames nothing is to be learned, and of how many more of them."""
        self._met = set[int]()
        """Wires that were: a new one brings what is to be learned."""
        self.taken = 0
        """Frames that went the fast way."""

    def rest(self, batch: Batch, rows: Mapping[type, Rows] | None) -> Iterator[Step]:
        """Give the frames that are the ledger's, one by one; do all others between them."""
        numbers = sorted(batch.venues)
        known = np.array([-1, *numbers], np.int64)
        whose = np.searchsorted(known, batch.wire, side="right") - 2
        is_ours = (known[whose + 1] == batch.wire) & (batch.kind <= LAST_DATA)
        whose = np.where(is_ours, whose, -1)
        read = self._read(batch, numbers, whose)
        lanes = self._lanes(read, whose, numbers)
        ahead = Ahead(batch, self._trust, self._checks, self._forms, read, *lanes)
        yield from ahead.steps()
        self.taken += ahead.count
        if rows is not None:
            for kind, block in ahead.blocks():
                rows[kind].blocks.append(block)

    def _read(self, batch: Batch, numbers: list[int], whose: Ints) -> Read:
        payload = np.frombuffer(batch.payload, np.uint8)
        payload.flags.writeable = False  # one type for all is compiled once
        venues = [self._trust.wires[number].venue for number in numbers]
        read = Read.empty(len(batch), len(payload))
        self._forms.match(payload, batch.offsets, whose, venues, read)
        self._pause -= len(batch)
        is_news = not self._met.issuperset(numbers)
        self._met.update(numbers)
        if self._pause > 0 and not is_news:
            return read
        self._patience = min(2 * self._patience + 1, MOST_PATIENCE)
        for _ in range(ROUNDS):
            if not self._learned(batch, whose, read):
                break
            self._patience = 0
            self._forms.match(payload, batch.offsets, whose, venues, read)
        self._pause = self._patience
        return read

    def _learned(self, batch: Batch, whose: Ints, read: Read) -> bool:
        """Look at some frames that no form fits; tell whether there are new forms."""
        if len(self._hopeless) >= HOPELESS:
            return False
        is_short = np.diff(batch.offsets) <= LONG_FRAME
        misses = np.flatnonzero((read.form < 0) & (whose >= 0) & is_short)
        tried = misses[:: max(1, len(misses) // SAMPLES)].tolist()
        return any([self._learn(batch, row) for row in tried])  # noqa: C419 - all of them

    def _learn(self, batch: Batch, row: int) -> bool:
        wire = self._trust.wires[int(batch.wire[row])]
        payload = bytes(batch.payload[batch.offsets[row] : batch.offsets[row + 1]])
        shape = (wire.venue, ANY_NUMBER.sub(b"0", shortened(payload)))
        if shape in self._hopeless:
            return False
        form = learn(wire.decode, payload)
        if form is not None and self._forms.add(wire.venue, form):
            return True
        self._hopeless.add(shape)
        return False

    def _lanes(self, read: Read, whose: Ints, numbers: list[int]) -> tuple[Ints, list[Lane]]:
        """Give the lane of each frame, -1 of those that have none; and the lanes."""
        lane = np.full(len(whose), -1, np.int64)
        streams, (bid, _, ask, _) = list(self._forms.streams), read.prices
        rows = np.flatnonzero(read.form >= 0)
        if not len(rows):
            return lane, []
        of_rows = read.form[rows]
        is_taken = self._forms.is_book()[of_rows] | (bid[rows] < ask[rows])
        rows, of_rows = rows[is_taken], of_rows[is_taken]
        keys = whose[rows] * len(streams) + self._forms.stream_of()[of_rows]
        found, lane[rows] = np.unique(keys, return_inverse=True)
        wires = self._trust.wires
        pairs = (divmod(key, len(streams)) for key in found.tolist())
        return lane, [Lane(wires[numbers[wire]], *streams[stream]) for wire, stream in pairs]
