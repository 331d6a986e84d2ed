"""A column of numbers in few bytes: as it is or as steps, divided by what divides all of it.

Each number takes as many bytes as the largest needs; all lowest bytes come first, then all second
ones, so that those that hardly change lie together.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perptape.errors import BadBlock

Ints = NDArray[np.int64]

FORM = np.dtype([("way", "u1"), ("width", "u1"), ("unit", "<i8")])
"""What must be known of a column to read it."""
PLAIN, STEPS = range(2)
WORD = 8
UNITS = 1 << 62
"""No larger divisor is looked for."""
_GAUGE = pa.Codec("zstd", compression_level=1)


def keep(columns: Iterable[Ints]) -> tuple[bytes, list[bytes]]:
    """Give the forms of all columns, one after the other, and each one's bytes."""
    kept = [_keep(column) for column in columns]
    return np.array([form for form, _ in kept], FORM).tobytes(), [planes for _, planes in kept]


def _keep(values: Ints) -> tuple[tuple[int, int, int], bytes]:
    """Take the way that compresses better."""
    ways = (_as(PLAIN, values), _as(STEPS, np.diff(values, prepend=np.int64(0))))
    return min(ways, key=lambda one: len(_GAUGE.compress(one[1])))


def _as(way: int, values: Ints) -> tuple[tuple[int, int, int], bytes]:
    unit = int(np.gcd.reduce(np.abs(values).view(np.uint64))) if len(values) else 1
    unit = unit if 0 < unit < UNITS else 1
    scaled = values // unit
    # Folded so that small ones below 0 stay small.
    folded = ((scaled << 1) ^ (scaled >> 63)).view(np.uint64)
    width = max(1, (int(folded.max(initial=0)).bit_length() + 7) // 8)
    planes = folded.astype("<u8").view(np.uint8).reshape(-1, WORD)[:, :width].T
    return (way, width, unit), planes.tobytes()


class Columns:
    """Takes one column after the other out of ``raw``, from ``at`` on, by their forms there."""

    def __init__(self, raw: bytes, at: int, forms: Iterator[tuple[int, int, int]]) -> None:
        self._raw, self.at, self._forms = raw, at, forms

    def take(self, count: int) -> Ints:
        """Give the next column, of so many numbers. Raises BadBlock if there is none."""
        way, width, unit = next(self._forms)
        stop = self.at + count * width
        if way not in {PLAIN, STEPS} or not 1 <= width <= WORD or stop > len(self._raw):
            raise BadBlock("a column has no known form")
        planes = np.frombuffer(self._raw, np.uint8, count * width, self.at)
        folded = np.zeros((count, WORD), np.uint8)
        folded[:, :width] = planes.reshape(width, count).T
        numbers = folded.view("<u8").ravel()
        scaled = (numbers >> np.uint64(1)).view(np.int64) ^ -(numbers & np.uint64(1)).view(np.int64)
        values = scaled * np.int64(unit)
        self.at = stop
        return np.cumsum(values) if way == STEPS else values
