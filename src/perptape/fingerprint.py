"""The SHA-256 of frames: the same of a tape, of its copy in other segments, and of what was packed.

It is the hash of the columns' hashes, in this order: ``seq`` (int64), ``wire`` (uint32), ``kind``
(uint8), ``ts_recv`` and ``ts_mono`` (int64; -2^63 for none), ``wire_size`` and the payload's length
(uint32), all little-endian, the payloads back to back, and last of the JSON list of all
``[wire, venue]`` in ascending order. How frames lie in batches and segments does not matter.
"""

import hashlib
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from perptape.segment import Batch

NO_MONO = -(1 << 63)
COLUMNS = 8


class Fingerprint:
    """Takes batches in order, and tells of all so far."""

    def __init__(self) -> None:
        self.frames = 0
        self._hashes = [hashlib.sha256() for _ in range(COLUMNS)]
        self._venues: set[tuple[int, str]] = set()

    def add(self, batch: Batch) -> None:
        mono = np.full(len(batch), NO_MONO) if batch.ts_mono is None else batch.ts_mono
        columns: tuple[NDArray[np.integer], ...] = (
            np.arange(batch.first_seq, batch.first_seq + len(batch)).astype("<i8"),
            batch.wire.astype("<u4"),
            batch.kind.astype("u1"),
            batch.ts_recv.astype("<i8"),
            mono.astype("<i8"),
            batch.wire_size.astype("<u4"),
            np.diff(batch.offsets).astype("<u4"),
            np.frombuffer(batch.payload, np.uint8),
        )
        for hashed, column in zip(self._hashes, columns, strict=True):
            hashed.update(column.data)
        self._venues |= {(wire, batch.venues[wire]) for wire in np.unique(batch.wire).tolist()}
        self.frames += len(batch)

    def hexdigest(self) -> str:
        venues = hashlib.sha256(msgspec.json.encode(sorted(self._venues)))
        parts = [hashed.digest() for hashed in (*self._hashes, venues)]
        return hashlib.sha256(b"".join(parts)).hexdigest()


def of_batches(batches: Iterable[Batch]) -> Fingerprint:
    found = Fingerprint()
    for batch in batches:
        found.add(batch)
    return found
