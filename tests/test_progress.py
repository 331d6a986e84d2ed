"""What is told of long work: nothing of short, an honest estimate, never on standard output."""

import io
import os
import pty
import subprocess
import sys

import pytest

from perptape import progress


class Screen(io.StringIO):
    def __init__(self, *, is_terminal):
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


class Work:
    """A line whose clock is told what time it is."""

    def __init__(self, *, is_terminal, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(progress, "QUIET_S", 2.0)
        self.now, self.screen = 0.0, Screen(is_terminal=is_terminal)
        self.line = progress.Line("Analysing", self.screen, lambda: self.now)

    @property
    def seen(self):
        return self.screen.getvalue()


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def work(request, monkeypatch):
    return Work(is_terminal=request.param, monkeypatch=monkeypatch)


def test_short_work_says_nothing(work):
    told = work.line.stage("gaps")
    for work.now in (0.5, 1.0, 1.9):
        told(int(work.now * 10), 20)
    work.line.close()
    assert work.seen == ""


def test_the_estimate_is_of_the_stage(work):
    work.line.stage("tables")
    work.now = 100.0
    told = work.line.stage("gaps")
    assert ("Analysing, gaps" in work.seen) == work.screen.isatty(), "a name alone is no news"
    assert "left" not in work.seen
    work.now = 130.0
    told(3, 12)
    assert "Analysing, gaps: 25%, about 2 min left" in work.seen
    work.now = 200.0
    told(10, 12)
    assert "83%, about 20 s left" in work.seen
    work.now = 300.0
    told(12, 12)
    assert work.seen.count("left") == 2, "nothing is left of what is done"


def test_of_almost_nothing_nothing_is_concluded(work):
    told = work.line.stage("gaps")
    work.now = 20.0
    told(3, 1000)
    assert "Analysing, gaps: 0%" in work.seen and "left" not in work.seen


def test_a_terminal_has_one_line_and_a_pipe_a_line_now_and_then(work):
    told = work.line.stage("gaps")
    for tick in range(600):  # a minute
        work.now = tick / 10
        told(tick + 1, 1000)
    work.line.close()
    if work.screen.isatty():
        assert "\n" not in work.seen and work.seen.endswith("\r\x1b[K")
        assert 250 < work.seen.count("\r") < 350
    else:
        lines = work.seen.splitlines()
        assert len(lines) == 6 and "\r" not in work.seen and "\x1b" not in work.seen


def test_a_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    work = Work(is_terminal=True, monkeypatch=monkeypatch)
    told = work.line.stage("a stage with a name that is rather long")
    work.now = 3.0
    told(1, 2)
    assert max(len(each.removesuffix("\x1b[K")) for each in work.seen.split("\r")) < 30


def test_who_stops_reading_does_not_end_the_work(monkeypatch):
    work = Work(is_terminal=False, monkeypatch=monkeypatch)
    told = work.line.stage("gaps")
    work.now = 3.0
    work.screen.close()
    told(1, 2)
    work.line.close()


LONG = """
import sys
from perptape import progress
progress.QUIET_S = -1.0
with progress.shown("Tabulating") as stage:
    told = stage("")
    told(1, 4)
    print('{"done": true}')
"""


def test_standard_output_is_the_programs_alone():
    done = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert done.stdout == '{"done": true}\n' and done.stderr.startswith("Tabulating: 25%")


def test_a_real_terminal_is_left_clean():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=theirs, check=True, text=True,
        env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = os.read(ours, 4096)
    os.close(ours)
    assert done.stdout == '{"done": true}\n'
    assert (
        seen.startswith(b"\rTabulating\x1b[K") and seen.endswith(b"\r\x1b[K") and b"\n" not in seen
    )
