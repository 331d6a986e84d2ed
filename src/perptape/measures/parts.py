"""A measure in parts of the time: where to cut, who does them, and how many are done.

Only names of files and small results travel between processes, so tables in memory are measured
by threads.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing import context, process
from types import ModuleType
from typing import Any, TypeVar

import polars as pl

from perptape.crew import ALONE, Hands, Job, processors, results

Table = pl.DataFrame | pl.LazyFrame
Progress = Callable[[int, int], None]
"""Called with how many parts are done, of how many."""
Part = TypeVar("Part")
ROWS_OF_PART = 1 << 23
ROWS_FOR_PROCESSES = 1 << 28
"""The loops hold no lock, so threads do as well; with fewer rows of files, better: a process takes
two seconds to start (``benchmarks/long_tapes.py``)."""


def rows(tables: Sequence[Table]) -> int:
    """Count all rows; those of a Parquet file are in its footer."""
    return sum(table.lazy().select(pl.len()).collect().item() for table in tables)


def cuts(since: int, until: int, span: tuple[int, int], parts: int) -> list[tuple[int, int]]:
    """Cut ``[since, until)`` into parts that meet, as even as the ``span`` of what is there."""
    first, last = max(since, span[0]), min(until, span[1])
    inner = {first + (last - first) * k // parts for k in range(1, parts)}
    ends = [since, *sorted(t for t in inner if since < t < until), until]
    return list(pairwise(ends))


@contextmanager
def hands(executor: Executor | None, tables: Sequence[Table], length: int) -> Iterator[Hands]:
    """Give who measures: an executor of the caller; else what suits ``length`` rows of tables."""
    if executor is None and length <= ROWS_OF_PART:
        yield ALONE
    elif executor is not None:
        yield Hands(executor, 2 * processors())
    else:
        with _own(tables, length) as own:
            yield Hands(own, processors() + 1)


def _own(tables: Sequence[Table], length: int) -> Executor:
    if length >= ROWS_FOR_PROCESSES and all(map(is_on_disk, tables)):
        return ProcessPoolExecutor(processors(), _Apart())
    return ThreadPoolExecutor(processors())


def is_on_disk(table: Table) -> bool:
    """Tell whether a table's plan names what is to be read, and holds no rows itself."""
    return isinstance(table, pl.LazyFrame) and "DF [" not in table.explain(optimized=False)


def added(
    do: Callable[..., Part],
    given: Sequence[tuple[Any, ...]],
    merge: Callable[[Part, Part], Part],
    crew: Hands,
    progress: Progress | None,
) -> Part:
    """Do a job for each part, and add what they give in their order, as it comes."""
    whole: Part | None = None
    for k, part in enumerate(results((Job(do, each) for each in given), crew)):
        whole = part if whole is None else merge(whole, part)
        if progress is not None:
            progress(k + 1, len(given))
    if whole is None:
        raise ValueError(given)
    return whole


class _Apart(context.SpawnContext):
    """Processes that do not run the caller's script again, which may not expect it."""

    class Process(context.SpawnProcess):
        @staticmethod
        def _Popen(process_obj: process.BaseProcess) -> Any:  # noqa: N802 - its name there
            main = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                return context.SpawnProcess._Popen(process_obj)  # noqa: SLF001
            finally:
                sys.modules["__main__"] = main
