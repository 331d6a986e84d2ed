"""Sorted runs to partitions: a job for each table, coin and day, whose file is kept.

Memory is a batch of rows for each run that overlaps in time, and one row group.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perptape.crew import Job
from perptape.decode import Terms
from perptape.instruments import base_of
from perptape.kept import keep, kept
from perptape.runs import DAY_NS, Stretch, by_day, merge
from perptape.schemas import SCHEMAS
from perptape.tables import Manifest, PartitionWriter, TableFile, damaged, date_of, path_part

SIDES = {"trades": ("buy", "sell"), "books": ("bid", "ask")}
DONE = ".rows"
"""A file with this ending is as long as its partition has rows so far, and holds nothing."""

Names = list[tuple[int, str, str]]
"""The venue and instrument of each place in the ledger's terms that is of one coin."""


class Partitions:
    """All rows of a tape's channels, by coin and day, on their way to files in ``place``."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._found: dict[tuple[str, str, int], list[Stretch]] = defaultdict(list)
        self.rows = self.kept = 0
        """How many rows there are, and how many partitions were there before."""

    def add(self, stretches: Iterable[tuple[str, str, Stretch]]) -> None:
        for channel, base, stretch in stretches:
            self.rows += stretch.rows
            for day in stretch.days:
                self._found[channel, base, day].append(stretch)

    def jobs(self, terms: Sequence[Terms]) -> Iterator[Job]:
        """Give a job for each file, the largest first."""
        self._place.mkdir(exist_ok=True)
        names: dict[str, Names] = defaultdict(list)
        for at, each in enumerate(terms):
            venue, _, instrument = each.market.partition(":")
            names[base_of(instrument)].append((at, venue, instrument))
        for key in sorted(self._found, key=lambda k: (-sum(s.rows for s in self._found[k]), k)):
            channel, base, day = key
            if (file := _kept(self._place, channel, base, day)) is not None:
                self.kept += 1
                yield Job(_same, (file,), is_here=True)
            else:
                given = (self._place, channel, base, day, names[base], self._found[key])
                yield Job(write, given)

    def done(self) -> int:
        """Count the rows that are in a file."""
        return sum(path.stat().st_size for path in self._place.glob(f"*{DONE}"))


def _same(file: TableFile) -> TableFile:
    return file


def _mark(place: Path, channel: str, base: str, day: int) -> Path:
    return place / f"{channel}-{path_part(base)}-{date_of(day * DAY_NS)}.kept"


def _kept(place: Path, channel: str, base: str, day: int) -> TableFile | None:
    file = kept(_mark(place, channel, base, day), TableFile)
    return file if file and not damaged(place, Manifest("", [file])) else None


def write(  # noqa: PLR0913, PLR0917 - what a worker has to know
    place: Path, channel: str, base: str, day: int, names: Names, stretches: list[Stretch]
) -> TableFile:
    """Merge the runs of a coin's day into its file, and keep what there is to say of it."""
    mark = _mark(place, channel, base, day)
    writer = PartitionWriter(place, channel, base=base, date=date_of(day * DAY_NS))
    done = 0
    with mark.with_suffix(DONE).open("wb") as counted:
        for part in merge(stretches):
            for begin, rows in by_day(part):
                if begin == day * DAY_NS:
                    writer.write(named(channel, rows, names))
                    done += rows.num_rows
                    os.truncate(counted.fileno(), done)
    file = writer.close()
    keep(mark, file)
    return file


def named(channel: str, rows: pa.Table, names: Names) -> pa.Table:
    """Name the markets, by dictionaries that are the same in every part of a coin's files."""
    at = rows["terms"].to_numpy()
    told = {name: rows[name] for name in rows.schema.names if name != "terms"}
    for k, column in enumerate(("venue", "instrument"), 1):
        words = sorted({str(each[k]) for each in names})
        codes = np.full(names[-1][0] + 1, -1, np.int32)
        codes[[each[0] for each in names]] = [words.index(str(each[k])) for each in names]
        told[column] = pa.DictionaryArray.from_arrays(pa.array(codes[at]), pa.array(words))
    if "side" in told:
        told["side"] = _sides(channel, told["side"])
    schema = SCHEMAS[channel]
    return pa.table({name: told[name] for name in schema.names}).cast(schema)


def _sides(channel: str, column: pa.ChunkedArray) -> pa.Array:
    """Code both words whether they are there or not, so that files do not depend on the cut."""
    words = pa.array(SIDES[channel])
    codes = pc.index_in(column.combine_chunks(), value_set=words)
    return pa.DictionaryArray.from_arrays(codes, words)
