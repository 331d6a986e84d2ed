"""A wall clock that is set forward by an hour and back again, under a running recorder.

Injected, not by libfaketime: that one also falsifies the timed waits by which Python's threads hand
over, so that the whole process halts for seconds.
"""

import json
import time

import pytest

from perptape.events import NS, Kind
from perptape.tape import Tape

HOUR_S = 3600


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
