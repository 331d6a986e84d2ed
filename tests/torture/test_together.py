"""Venues, disk, clock and scheduler go wrong at once, at times that a seed draws."""

import random
import signal
import subprocess
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from perptape import verify
from perptape.events import Kind
from perptape.tape import Tape

VENUES = ("bybit", "htx", "gateio", "okx")
KINDS = ["drop", "duplicate", "reorder", "corrupt", "reset", "disconnect", "silence"]
HOUR_S = 3600
RSS_MB = 450
"""Far above what a recorder of four venues takes, far below what a queue without bound would."""
SECONDS, SEEDS = (20, 20)


def scenario(torture, seed, seconds, each):
    kinds = ", ".join(f'"{kind}"' for kind in KINDS)
    faults = f'[[random_faults]]\nkinds = [{kinds}]\ncount = {each}\nfor = "800ms"\n'
    return torture.market(150, f'seed = {seed}\n{faults}from = "2s"\nto = "{seconds}s"')


@pytest.fixture
def disk(tmp_path, torture):
    """A small disk of its own that can be filled."""
    torture.as_root()
    place = tmp_path / "disk"
    place.mkdir()
    command = ["/usr/bin/mount", "-t", "tmpfs", "-o", "size=40m", "none", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["/usr/bin/umount", "-l", str(place)], check=True)


def full_for(disk, seconds):
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    time.sleep(seconds)
    ballast.unlink()


def stopped_for(recorder, seconds):
    """The scheduler gives it no time."""
    recorder.tell(signal.SIGSTOP)
    time.sleep(seconds)
    recorder.tell(signal.SIGCONT)


def troubled(recorder, disk, rng):
    """Do one thing to the machine; give its name."""
    what = rng.choice(["full", "stopped", "clock"])
    if what == "full":
        full_for(disk, rng.uniform(0.2, 1.5))
    elif what == "stopped":
        stopped_for(recorder, rng.uniform(0.2, 2))
    else:
        recorder.set_clock(rng.choice([-HOUR_S, 0, HOUR_S]))
    return what


def a_bad_time(torture, place, disk, seed, seconds):
    """Record, kill in the midst of it, record again; give (recorders, troubles, frames)."""
    rng = random.Random(seed)  # noqa: S311 - a seed that can be named
    place.mkdir()
    tape = disk / "tape"
    recorders, troubles = [], []
    with torture.Simulators(place / "s", VENUES, scenario(torture, seed, seconds, 14)) as sims:
        words = ["BTC-USDT", "--venues", ",".join(VENUES), *sims.urls, "--tape", tape]
        for life in range(2):
            until = time.monotonic() + seconds / 2
            bounds = {"half_bytes": 2 << 20, "segment_bytes": 1 << 20, "sync_ms": 200}
            with torture.Recorder(place / f"r{life}", words, bounds=bounds) as recorder:
                recorder.live(2)
                while time.monotonic() < until:
                    time.sleep(rng.uniform(0, 0.8))
                    troubles.append(troubled(recorder, disk, rng))
                recorder.stop(signal.SIGTERM if life else signal.SIGKILL)
            recorders.append(recorder)
        frames = torture.check(tape, sims, told=sum(r.told for r in recorders))
        struck = len(sims.faults())
    return tape, recorders, len(troubles) + struck, frames


def check_tape(tape, recorders, torture):
    torture.no_traceback(*(recorder.said for recorder in recorders))
    assert recorders[0].code == -signal.SIGKILL and recorders[1].code in {0, 143}
    assert max(recorder.rss_mb for recorder in recorders) < RSS_MB
    verdict = verify.verify(tape)
    assert verdict.verdict == "untrusted" and verdict.damage == []
    seqs = [frame.seq for frame in Tape(tape).frames()]
    assert all(a < b for a, b in pairwise(seqs))
    assert sum(f.kind == Kind.OPENED for f in Tape(tape).frames()) >= 2 * len(VENUES)


def test_everything_at_once(torture, tmp_path, disk, figures):
    seeds, seconds = (SEEDS, SECONDS) if torture.LONG else (1, 8)
    frames = injected = 0
    rss = []
    for seed in range(1, seeds + 1):
        place = disk / f"seed{seed}"
        place.mkdir()
        tape, recorders, done, found = a_bad_time(
            torture, tmp_path / f"seed{seed}", place, seed, seconds
        )
        check_tape(tape, recorders, torture)
        frames, injected = frames + found, injected + done
        rss += [recorder.rss_mb for recorder in recorders]
        subprocess.run(["/usr/bin/rm", "-r", str(place)], check=True)
    figures(
        f"venues, disk, clock, scheduler and kill -9 at once, {seeds} seeds",
        injected=injected,
        survived=injected,
        lost=0,
        rss=f"{max(rss):.0f} MB",
        remark=f"{frames:,} frames",
    )
