"""How far long work is, and how much longer it takes, told to a person on standard error.

Work goes through stages, and each tells how much of it is done. A terminal shows one line, written
again and again and gone at the end; anything else gets a line now and then.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from perptape.wording import HOUR_S, MINUTE_S

QUIET_S = 2.0
"""Work that takes no longer than this says nothing."""
REDRAW_S, LINE_S = 0.2, 10.0
"""How often a terminal's line is written again, and how often another gets one."""
SURE = 0.1
"""Of less that is done nothing is concluded: much of it was preparation."""
NARROW = 20
"""Columns that a terminal has at least."""
CLEAR = "\x1b[K"

Told = Callable[[int, int], None]
"""Told (done, of how many)."""
Stages = Callable[[str], Told]
"""Begins a stage by its name; gives what is to be told of it."""


def unheard(stage: str) -> Told:
    """Be the :data:`Stages` of work that nobody watches."""
    del stage
    return lambda _done, _total: None


@contextmanager
def shown(verb: str, *, file: TextIO | None = None) -> Iterator[Stages]:
    """Show how far the work in this block is, which ``verb`` says."""
    line = Line(verb, file or sys.stderr)
    try:
        yield line.stage
    finally:
        line.close()


class Line:
    """The one line of some work."""

    def __init__(
        self, verb: str, file: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._verb, self._file, self._clock = verb, file, clock
        is_seen = file is not None and file.isatty()  # there may be no output at all
        self._is_terminal = is_seen and os.environ.get("TERM") != "dumb"
        self._every_s = REDRAW_S if self._is_terminal else LINE_S
        self._next = clock() + QUIET_S
        self._is_drawn = False

    def stage(self, name: str = "") -> Told:
        begun = self._clock()

        def told(done: int, total: int) -> None:
            is_told = self._is_terminal or 0 < done < total  # a name alone is no news to a log
            if is_told and (now := self._clock()) >= self._next:
                self._next = now + self._every_s
                self._draw(self._words(name, now - begun, done, total))

        told(0, 0)
        return told

    def _words(self, name: str, took_s: float, done: int, total: int) -> str:
        words = ", ".join(filter(None, (self._verb, name)))
        if not 0 < done < total:
            return words
        share = done / total
        if share < SURE:
            return f"{words}: {share:.0%}"
        return f"{words}: {share:.0%}, about {_rough(took_s * (total - done) / done)} left"

    def _draw(self, words: str) -> None:
        if self._is_terminal:
            columns = max(shutil.get_terminal_size().columns, NARROW)
            self._write(f"\r{words[: columns - 1]}{CLEAR}")
            self._is_drawn = True
        else:
            self._write(f"{words}\n")

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._is_drawn:
            self._write(f"\r{CLEAR}")

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # whoever read it has gone; the work goes on
            self._file.write(text)
            self._file.flush()


def _rough(seconds: float) -> str:
    """Write a guess no finer than it is: 20 s, 3 min, 2.5 h."""
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE_S:.0f} min" if seconds < HOUR_S else f"{seconds / HOUR_S:.1f} h"
