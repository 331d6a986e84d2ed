"""``kill -9`` at random moments under load: the tape holds a hole-free beginning of what was sent.

``KILLS=50 ./run test tests/test_kill.py -n 0 -s`` is the long form; it prints the figures.
"""

import os
import random
import signal
import statistics
import subprocess
import sys
import time
import zlib
from collections import defaultdict

import pytest

from perptape import verify
from perptape.events import MS, Kind
from perptape.sims.truth import read_sent
from perptape.tape import Tape, TapeWriter

KILLS = int(os.environ.get("KILLS", "4"))
FRAMES_PER_S = int(os.environ.get("KILL_RATE", "20000"))
VENUES = ("bitget", "htx", "gateio", "bybit")
START_S = 20
"""Longer than a recorder takes to hear its first frame."""


def start(*words):
    command = [sys.executable, "-m", "perptape", *(str(word) for word in words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def flood(tmp_path_factory):
    """Simulators that send FRAMES_PER_S in all; gives their URL words and the folder of logs."""
    place = tmp_path_factory.mktemp("flood")
    scenario = place / "scenario.toml"
    rate = FRAMES_PER_S / len(VENUES) / 2
    scenario.write_text(f'instruments = ["BTC-USDT", "ETH-USDT"]\nupdates_per_s = {rate}\n')
    with start(
        "sim",
        "--venues",
        ",".join(VENUES),
        "--port",
        0,
        "--scenario",
        scenario,
        "--log",
        place / "log",
    ) as sim:
        yield sim.stdout.readline().split(), place / "log"
        sim.terminate()


def heard(path):
    """The CRCs of the received payloads of each connection on a tape, and their last time."""
    crcs, last = defaultdict(list), {}
    for frame in Tape(path).frames():
        if frame.kind in {Kind.TEXT, Kind.BINARY}:
            key = (frame.venue, frame.wire)
            crcs[key].append(zlib.crc32(frame.payload))
            last[key] = frame.ts_recv
    return crcs, last


def record_and_kill(urls, tape, seconds):
    """Kill a recorder ``seconds`` after its first frames; gives the time by which it was dead."""
    recorder = start("record", "BTC-USDT", "ETH-USDT", "--tape", tape, "--json", *urls)
    give_up = time.monotonic() + START_S
    for line in recorder.stdout:
        if '"state":"live"' in line or time.monotonic() > give_up:
            break
    time.sleep(seconds)
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()
    killed = time.time_ns()  # when it is surely dead: what was sent by then counts as missing
    recorder.stdout.close()
    return killed


def logs_of(folder, tries=50):
    """The send logs of connections that are over; they are whole a moment after the end."""
    for _ in range(tries):
        found = {path.name: read_sent(path) for path in folder.glob("*.sent")}
        if found and all(sent for _, sent in found.values()):
            break
        time.sleep(0.1)
    return found


def test_a_killed_recorder_has_everything_it_read(flood, tmp_path):
    urls, log = flood
    rng = random.Random(7)  # noqa: S311 - the moments of the kills
    missing, late_ms, frames, recovery_ms = [], [], 0, []
    before = set()
    for kill in range(KILLS):
        tape = tmp_path / f"tape-{kill}"
        killed = record_and_kill(urls, tape, rng.uniform(0.1, 2.0))
        crcs, last = heard(tape)
        assert {venue for venue, _ in crcs} == set(VENUES)
        sent = {name: found for name, found in logs_of(log).items() if name not in before}
        before |= set(sent)
        for (venue, _), found in crcs.items():
            (log_sent,) = [s for header, s in sent.values() if header.venue == venue]
            assert [one.crc32 for one in log_sent[: len(found)]] == found, "a hole, or no beginning"
            lost = [one for one in log_sent[len(found) :] if one.ts_send < killed]
            missing.append(len(lost))
            late_ms.append((killed - lost[0].ts_send) / MS if lost else 0.0)
            frames += len(found)
        assert last
        assert verify.verify(tape).verdict == "complete"
        with TapeWriter(tape) as again:
            recovery_ms.append(again.recovered.ms)
        assert heard(tape)[0] == crcs, "recovery lost or changed frames"
        assert verify.verify(tape).verdict == "complete"
    print(  # noqa: T201 - the figures of the long form
        f"\n{KILLS} kills, {frames:,} frames at {FRAMES_PER_S:,}/s: no hole; sent but not read "
        f"at the kill: median {statistics.median(missing)}, worst {max(missing)} frames; "
        f"{statistics.median(late_ms):.2f}, worst {max(late_ms):.1f} ms; recovery "
        f"{statistics.median(recovery_ms):.0f}, worst {max(recovery_ms):.0f} ms"
    )
    assert frames > KILLS * 1000
