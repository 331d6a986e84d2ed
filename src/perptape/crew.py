"""Jobs for any number of workers, a few at a time, their results in the order of the jobs."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, NamedTuple

from perptape.errors import BadUsage, Failed

LOOK_S = 0.5
"""How often one who waits for a worker looks up."""


class Job(NamedTuple):
    """A function that another process can find by its name, and what it is to be called with.

    Sent are names and small things, what is made is left on disk: a worker may be on another
    machine that sees the same one.
    """

    do: Callable[..., Any]
    given: tuple[Any, ...]
    is_here: bool = False
    """It is nothing to send away."""


class Hands(NamedTuple):
    """Who does the jobs."""

    executor: Executor | None
    """``None``: this process."""
    ahead: int
    """So many jobs are given out at once."""


ALONE = Hands(None, 1)


def results(
    jobs: Iterable[Job], hands: Hands, look: Callable[[], None] | None = None
) -> Iterator[Any]:
    """Do jobs.

    ``look`` is called while there is nothing to do but wait. Raises Failed if a worker died.
    """
    given: deque[Future[Any]] = deque()
    try:
        for job in jobs:
            while len(given) >= hands.ahead:
                yield _result(given.popleft(), look)
            given.append(_begun(job, hands.executor))
        while given:
            yield _result(given.popleft(), look)
    except BrokenExecutor as error:
        raise Failed(
            "A worker ended in the middle of its work, as when there is no memory left: "
            "do the same again, which goes on from there, with --workers 1 if it fails again."
        ) from error
    finally:
        wait([future for future in given if not future.cancel()])


def _begun(job: Job, executor: Executor | None) -> "Future[Any]":
    if executor is not None and not job.is_here:
        return executor.submit(job.do, *job.given)
    done: Future[Any] = Future()
    done.set_result(job.do(*job.given))
    return done


def _result(future: "Future[Any]", look: Callable[[], None] | None) -> Any:
    while look is not None and not wait([future], LOOK_S).done:
        look()
    return future.result()


def processors() -> int:
    """Count those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def crew(
    executor: Executor | None, workers: int | None, *, is_worth_it: Callable[[], bool]
) -> Iterator[Hands]:
    """Give who does the jobs: an executor of the caller, or ``workers`` processes of our own.

    One worker is this process, as is none, or where more are not worth it. Raises BadUsage for
    what cannot be meant.
    """
    if workers is not None and (workers < 1 or executor is not None):
        raise BadUsage(
            f"--workers {workers} is not possible: give 1 or more, and no executor beside it."
        )
    if executor is not None:
        yield Hands(executor, 2 * processors())
    elif workers is None or workers == 1 or not is_worth_it():
        yield ALONE
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
        try:
            yield Hands(pool, workers + 1)
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that gives the work, and end with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
