"""What a person sees: nothing obeyed, nothing that could hold up or end a recording."""

import io
import os
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from perptape import board, screen
from perptape.cli import say
from perptape.manifest import ClockState
from perptape.plan import choose
from perptape.record import Summary
from perptape.status import MarketStatus
from perptape.verify import Market, Untrusted, Verdict

HOSTILE = "[red]\x1b[31m<script>\x1b]0;title\x07\u202e\x9b2J\n[/nonsense]"
SHOWN = "[red]\\x1b[31m<script>\\x1b]0;title\\x07\\u202e\\x9b2J\\n[/nonsense]"


def status(error=None, state="live", frames=5):
    return MarketStatus(
        ts=1, market="bybit:BTC-USDT-PERP", state=state, frames=frames, last_age_s=0.1,
        backlog_frames=0, disk_free_b=None, error=error,
    )  # fmt: skip


def test_a_venues_words_are_text_in_the_status(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None)
    console.print(board.status_table(tmp_path / HOSTILE.replace("/", ""), [status(HOSTILE)]))
    told = console.file.getvalue()
    assert SHOWN in told and SHOWN.replace("/", "") in told.replace("\n", "")


def test_a_tapes_words_are_text_in_the_verdict(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    market = Market(HOSTILE, HOSTILE, 1, 0.0, 1.0, [Untrusted(0, 10**9, HOSTILE, HOSTILE)])
    screen.print_verdict(Verdict("damaged", 1, 1, 1, [HOSTILE], [market], 0, 0))
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 4 and "\x1b" not in out


def test_a_refusal_is_told_in_the_venues_words(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    why = Untrusted(0, 10**9, "refused", f"no such {HOSTILE}")
    market = Market("bybit:BTX-USDT-PERP", "quotes", 0, 0.0, 1.0, [why])
    screen.print_verdict(Verdict("untrusted", 1, 1, 1, [], [market], 0, 0))
    assert f"refused 1.0 s: no such {SHOWN}" in capsys.readouterr().out


@pytest.mark.usefixtures("capsys")
def test_a_reader_that_stops_reading_does_not_hold_up_the_recording(tmp_path):
    stuck, let_go = threading.Event(), threading.Event()

    def say_slowly(_):
        stuck.set()
        let_go.wait()

    stdout = sys.stdout
    begun = time.monotonic()
    with board.Board(tmp_path, as_json=True, say=say_slowly) as shown:
        shown.show([status()])
        assert stuck.wait(10)
        for _ in range(100):
            shown.show([status()])
    assert time.monotonic() - begun < 5
    sys.stdout.close()
    sys.stdout = stdout
    let_go.set()


@pytest.mark.usefixtures("capsys")
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device")])
def test_a_reader_that_goes_does_not_end_the_recording(tmp_path, error):
    asked = []

    def say_to_nobody(_):
        asked.append(1)
        raise error

    with board.Board(tmp_path, as_json=True, say=say_to_nobody) as shown:
        for _ in range(3):
            shown.show([status()])
    assert asked == [1]


@pytest.mark.usefixtures("capsys")
def test_what_was_shown_last_is_seen(tmp_path):
    said = []
    with board.Board(tmp_path, as_json=True, say=said.append) as shown:
        shown.show([status(frames=7)])
    assert len(said) == 1 and '"frames":7' in said[0]


def ended(monkeypatch, tmp_path, **how):
    done = Summary(
        **{"seconds": 1.0, "frames": 9, "markets": (status("no route", "unreachable", 0),), **how}
    )
    monkeypatch.setattr(screen, "run", lambda *_, **__: done)
    choice = choose(instruments=["BTC-USDT"], venues=["bybit"], tape=tmp_path / "t")
    return screen.record(choice, as_json=True, say=say)


@pytest.mark.parametrize("number", [2, 15])
@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupted_recording_says_so_whatever_was_heard(
    monkeypatch, tmp_path, capsys, number, heard
):
    assert ended(monkeypatch, tmp_path, heard=heard, signal=number) == 128 + number
    assert ("Nothing was recorded" in capsys.readouterr().err) is not heard


def test_nothing_recorded_says_why_and_what_next(monkeypatch, tmp_path):
    with pytest.raises(screen.NothingRecorded, match=r"no route; check the connection"):
        ended(monkeypatch, tmp_path, heard=False)
    refused = (status("not listed", "refused", 0),)
    with pytest.raises(screen.NothingRecorded, match=r"not listed; choose other markets"):
        ended(monkeypatch, tmp_path, heard=False, markets=refused)
    many = (status("no route", "unreachable", 0),) * 200
    with pytest.raises(screen.NothingRecorded, match=r"d: bybit \(200 markets\): no route; "):
        ended(monkeypatch, tmp_path, heard=False, markets=many)


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_clock_that_nobody_sets_is_told_of(monkeypatch, capsys, synchronised):
    monkeypatch.setattr(screen, "clock_state", lambda: ClockState(synchronised, 16, 16))
    screen.tell_clock()
    assert ("is not synchronised" in capsys.readouterr().out) is not synchronised


STUCK = """
import sys
from perptape import board
from perptape.cli import say
from perptape.status import MarketStatus
status = MarketStatus(1, "m" * 100_000, "live", 1, None, 0, None, None)
with board.Board("t", as_json=True, say=say) as shown:
    shown.show([status])
print("the recording is over", file=sys.stderr)
"""


def test_a_process_whose_output_is_stuck_ends_all_the_same():
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", STUCK], stdout=write, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(read)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"the recording is over\n")
