"""A wall clock that is set forward by an hour and back again, under a running recorder.

Injected, not by libfaketime: that one also falsifies the timed waits by which Python's threads hand
over, so that the whole process halts for seconds.
"""

import json
import time

import pytest

from perptape import manifest, origin
from perptape.events import NS, Kind
from perptape.tape import Tape, TapeWriter

HOUR_S = 3600


@pytest.mark.parametrize("synchronised", [True, False])
def test_a_clock_that_nobody_keeps_is_in_the_tape_and_in_the_report(
    tmp_path, monkeypatch, figures, synchronised
):
    clock = manifest.ClockState(synchronised, max_error_us=9_000, estimated_error_us=0)
    monkeypatch.setattr(manifest, "clock_state", lambda: clock)
    TapeWriter(tmp_path / "t", config={"any": 1}, half_bytes=1 << 16).close()
    (run,) = Tape(tmp_path / "t").meta.runs
    assert run.host.clock == clock
    told = list(origin._untimed([tmp_path / "t"]))  # noqa: SLF001 - of a report's notes
    assert bool(told) is not synchronised
    assert all("not synchronised" in note for note in told)
    figures(
        f"kernel's clock {'kept' if synchronised else 'not kept'} by a server",
        injected=1,
        survived=1,
        remark=f"in tape.json; {'said' if told else 'nothing of it'} in the report",
    )


def test_an_hour_forward_and_back(torture, calm, tmp_path, figures):
    words = ["BTC-USDT", "--venues", "bybit,htx", *calm.urls]
    with torture.Recorder(tmp_path / "r", words) as recorder:
        recorder.live(2)
        for shift in (HOUR_S, 0):
            recorder.set_clock(shift)
            told = recorder.told
            torture.until(lambda n=told: recorder.told > n + 200, "more frames")
            time.sleep(0.6)  # so long until a step is looked for twice
        recorder.stop()
    torture.no_traceback(recorder.said)
    frames = torture.check(recorder.tape, calm, told=recorder.told)
    told = list(Tape(recorder.tape).frames())
    notes = [json.loads(f.payload) for f in told if f.kind == Kind.NOTE]
    steps = [n["step_ns"] / NS for n in notes if n["note"] == "clock"]
    assert steps == [pytest.approx(HOUR_S, abs=1), pytest.approx(-HOUR_S, abs=1)]
    mono = [f.ts_mono for f in told]
    assert mono == sorted(mono), "the monotonic time fell"
    found = torture.untrusted_s(recorder.tape)
    assert set(found) <= {"clock"}
    assert (mono[-1] - mono[0]) / NS < HOUR_S
    figures(
        "clock set by +1 h and -1 h",
        injected=2,
        survived=2,
        lost=0,
        untrusted=f"{found.get('clock', 0):.2f} s; steps {', '.join(f'{s:+.3f}' for s in steps)} s",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames; monotonic time never falls",
    )
