"""Processes that die, are told to stop, or meet each other."""

import contextlib
import signal
import sys
import time
from itertools import pairwise

import pytest

from perptape import verify
from perptape.events import MS, NS, Kind
from perptape.tape import Tape, TapeWriter

SMALL = {"segment_bytes": 1 << 16, "sync_ms": 100, "half_bytes": 1 << 20}
"""A tape that syncs, seals and renames all the time."""
SEGMENT, MANIFEST = "raw/00000000000000000001.arrows", "tape.json.new"
SAMPLED = ("write", SEGMENT, 2)
EACH = [
    *(("fdatasync", None), ("fsync", None), ("rename", None), ("unlink,unlinkat", None)),
    *(("write", SEGMENT), ("write", MANIFEST), ("mkdir", None), ("fallocate", None)),
]
STOPPED_S = 5
MOST = 20
"""So many calls of one kind are tried at most; the first of them make the tape."""


def killed(torture, sims, place, point):
    """Record 3 s and die as this call begins for the n-th time; give (recorder, frames, ms)."""
    call, file, number = point
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    under += ["-e", inject, *(["-P", str(place / "tape" / file)] if file else [])]
    words = ["BTC-USDT", "ETH-USDT", "--for", "3s", *sims.urls, "--venues", "bybit,htx"]
    with torture.Recorder(place, words, under=under, bounds=SMALL) as recorder:
        code = recorder.wait()
    torture.no_traceback(recorder.said)
    assert code in {0, -signal.SIGKILL}, recorder.said
    begun = time.monotonic_ns()
    for _ in range(2):
        TapeWriter(recorder.tape, half_bytes=1 << 20).close()
    ms = (time.monotonic_ns() - begun) / 2 / MS
    frames = torture.check(recorder.tape, sims, told=recorder.told)
    assert verify.verify(recorder.tape).damage == []
    return code, frames, ms


def test_killed_at_a_call(torture, calm, tmp_path):
    torture.needed("strace")
    code, _, _ = killed(torture, calm, tmp_path / "r", SAMPLED)
    assert code == -signal.SIGKILL


@pytest.mark.parametrize("what", EACH)
def test_killed_at_every_call(torture, calm, tmp_path, figures, what):
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    torture.needed("strace")
    found = []
    for number in range(1, MOST):
        code, frames, ms = killed(torture, calm, tmp_path / str(number), (*what, number))
        if code == 0:
            break
        found.append((frames, ms))
    call, file = what
    assert found, f"{call} was never called"
    figures(
        f"kill -9 at each {call.split(',')[0]}{f' of {file[-14:]}' if file else ''}",
        injected=len(found),
        survived=len(found),
        lost=0,
        recovery=f"worst {max(ms for _, ms in found):.0f} ms",
        remark=f"{sum(frames for frames, _ in found):,} frames on the tapes",
    )


WAITING = """
[[faults]]
at = "0s"
venue = "bybit"
kind = "silence"

[[faults]]
at = "0s"
venue = "htx"
kind = "refuse"
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_subscribes_and_reconnects(torture, tmp_path, figures, number):
    """One venue says nothing to a subscribe, the other turns connections away."""
    if number == signal.SIGTERM and not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    with torture.Simulators(tmp_path / "s", ("bybit", "htx"), torture.market(5, WAITING)) as sims:
        words = ["BTC-USDT", *sims.urls, "--venues", "bybit,htx"]
        with torture.Recorder(tmp_path / "r", words) as recorder:
            torture.until(lambda: len(recorder.status()) == 2, "a status")
            recorder.tell(number)
            begun = time.monotonic()
            code = recorder.wait()
            took = time.monotonic() - begun
    assert code == 128 + number and took < 5
    torture.no_traceback(recorder.said)
    torture.check(recorder.tape, sims)
    name = signal.Signals(number).name
    figures(
        f"{name} in subscribe and reconnect",
        injected=1,
        survived=1,
        lost=0,
        recovery=f"ended in {took:.1f} s",
    )


HANGUP = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
HANGUP += "os.execvp(sys.argv[1], sys.argv[1:])"
NOHUP = [sys.executable, "-c", HANGUP]
SIGNALS = {
    "SIGHUP": ([], [signal.SIGHUP]),
    "SIGINT twice": ([], [signal.SIGINT, signal.SIGINT]),
    "SIGHUP under nohup, then SIGTERM": (NOHUP, [signal.SIGHUP, signal.SIGTERM]),
}


def test_signals_that_end_it_and_one_that_does_not(torture, calm, tmp_path, figures):
    """Several recorders at once: all end with what they had, but nohup's goes on."""
    words = ["BTC-USDT", "ETH-USDT", *calm.urls, "--venues", "bybit,htx"]
    with contextlib.ExitStack() as all_end:
        recorders = {}
        for name, (under, numbers) in list(SIGNALS.items())[0 if torture.LONG else -1 :]:
            recorder = torture.Recorder(tmp_path / name.replace(" ", "-"), words, under=under)
            recorders[name] = all_end.enter_context(recorder), numbers
        for recorder, _ in recorders.values():
            recorder.live(4)
        for name, (recorder, numbers) in recorders.items():
            recorder.tell(numbers[0])
            if name.endswith("SIGTERM"):
                told = recorder.told
                torture.until(lambda r=recorder, n=told: r.told > n + 200, "frames after a hangup")
            begun = time.monotonic()
            if len(numbers) > 1:
                recorder.tell(numbers[1])
            code, took = recorder.wait(), time.monotonic() - begun
            assert code == 128 + (numbers[-1] if name.endswith("SIGTERM") else numbers[0])
            assert took < 5
            torture.no_traceback(recorder.said)
            frames = torture.check(recorder.tape, calm, told=recorder.told)
            assert {s.state for s in Tape(recorder.tape).segments} == {"sealed"}
            figures(
                name,
                injected=len(numbers),
                survived=len(numbers),
                lost=0,
                recovery=f"ended in {took:.1f} s",
                rss=f"{recorder.rss_mb:.0f} MB",
                remark=f"exit {code}; {frames:,} frames",
            )


def test_the_scheduler_gives_it_no_time(torture, calm, tmp_path, figures):
    """What comes while it is stopped waits in the kernel or at the venue; none is lost."""
    if not torture.LONG:
        pytest.skip("tests/torture/test_together.py is the short form; ./run torture has this one")
    words = ["BTC-USDT", "ETH-USDT", *calm.urls, "--venues", "bybit,htx"]
    with torture.Recorder(tmp_path / "r", words) as recorder:
        recorder.live(4)
        torture.until(lambda: recorder.told > 500, "frames")
        recorder.tell(signal.SIGSTOP)
        stopped = time.time_ns()
        time.sleep(STOPPED_S)
        recorder.tell(signal.SIGCONT)
        told = recorder.told
        torture.until(lambda: recorder.told > told + 500 * STOPPED_S, "what has waited, and more")
        recorder.stop()
    torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, calm, told=recorder.told)
    data = (Kind.TEXT, Kind.BINARY)
    after = min(f.ts_recv for f in Tape(recorder.tape).frames() if f.ts_recv > stopped + NS // 2)
    heard = [f.ts_recv for f in Tape(recorder.tape).frames() if f.kind in data]
    silent_s = max(b - a for a, b in pairwise(heard)) / NS
    found = torture.untrusted_s(recorder.tape)
    assert silent_s > STOPPED_S * 0.9
    assert recorder.rss_mb < 400
    figures(
        f"SIGSTOP for {STOPPED_S} s",
        injected=1,
        survived=1,
        lost=0,
        untrusted=f"{sum(found.values()):.1f} s; nothing read for {silent_s:.1f} s",
        recovery=f"{(after - stopped) / NS - STOPPED_S:.2f} s",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames without a hole",
    )


def test_stopped_again_and_again_while_it_seals(torture, calm, tmp_path, figures):
    torture.needed("strace")
    under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    under += ["-e", "inject=fdatasync:delay_enter=1500000"]
    words = ["BTC-USDT", "ETH-USDT", *calm.urls, "--venues", "bybit,htx"]
    with torture.Recorder(tmp_path / "r", words, under=under) as recorder:
        recorder.live(4)
        begun = time.monotonic()
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGINT):
            recorder.tell(each)
            time.sleep(0.2)  # another moment of the sealing
        code = recorder.wait()
        took = time.monotonic() - begun
    assert code == 128 + signal.SIGTERM and took < 10
    torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, calm, told=recorder.told)
    assert {s.state for s in Tape(recorder.tape).segments} == {"sealed"}
    assert not (recorder.tape / "raw/tail").exists()
    figures(
        "SIGTERM, SIGINT, SIGINT in a slow seal",
        injected=3,
        survived=3,
        lost=0,
        recovery=f"ended in {took:.1f} s",
        remark=f"{frames:,} frames",
    )


def test_two_recorders_and_a_restart_on_the_same_day(torture, calm, tmp_path, figures):
    words = ["BTC-USDT", *calm.urls, "--venues", "bybit,htx", "--tape", tmp_path / "tape"]
    with torture.Recorder(tmp_path / "1", words) as first:
        first.live(2)
        with torture.Recorder(tmp_path / "2", words) as second:
            assert second.wait() == 1
        assert f"is being recorded by process {first.pid}" in second.said
        assert second.said.count("\n") == 1
        assert first.stop() == 128 + signal.SIGTERM
    torture.check(first.tape, calm, told=first.told)
    before = {s.name: s.sha256 for s in Tape(first.tape).segments}
    with torture.Recorder(tmp_path / "3", words) as again:
        again.live(2)
        again.stop()
    torture.check(again.tape, calm, told=first.told + again.told)
    assert {s.name: s.sha256 for s in Tape(again.tape).segments}.items() >= before.items()
    marks = [f.ts_recv for f in Tape(again.tape).frames() if f.kind == Kind.OPENED]
    ends = [f.ts_recv for f in Tape(again.tape).frames() if b'"shutdown"' in f.payload]
    away = (marks[2] - ends[1]) / NS
    found = torture.untrusted_s(again.tape)
    assert set(found) == {"restart"} and found["restart"] == pytest.approx(away, abs=1.5)
    figures(
        "a second recorder, then a restart",
        injected=2,
        survived=2,
        lost=0,
        untrusted=f"{found['restart']:.1f} of {away:.1f} s",
    )
