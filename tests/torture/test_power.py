"""Power loss: a file system that stops at once, without a last write, and is mounted again."""

import subprocess
import time
from contextlib import suppress

import pytest

from perptape.events import MS, Kind
from perptape.tape import Tape, TapeWriter

SYNC_MS = 1000
SLACK_MS = 2000
"""What a sync may take on a busy machine, beside the second between two."""
SYSTEMS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


@pytest.fixture
def loop_disk(tmp_path, torture):
    """Give functions that mount a new file system of this kind, end its power, and mount again."""
    torture.as_root()
    torture.needed("xfs_io", "mount")
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()

    def run(*words):
        return subprocess.run([*map(str, words)], check=False, capture_output=True).returncode

    def mount():
        if run("/usr/bin/mount", "-o", "loop", image, place):
            pytest.skip("a loop device cannot be mounted here")

    def made(kind):
        torture.needed(SYSTEMS[kind][0])
        with image.open("wb") as file:
            file.truncate(400 << 20)
        assert run(*SYSTEMS[kind], image) == 0
        mount()
        return place

    def lose_power():
        assert run("xfs_io", "-x", "-c", "shutdown", place) == 0
        return time.time_ns()

    def remount():
        torture.until(lambda: run("/usr/bin/umount", place) == 0, "an unmount")
        mount()

    yield made, lose_power, remount, tmp_path
    run("/usr/bin/umount", "-l", place)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_power_loss(torture, calm, loop_disk, figures, kind):
    if not torture.LONG:
        pytest.skip("the long form: TORTURE=1")
    made, lose_power, remount, place = loop_disk
    windows, recovery, frames = [], [], 0
    for cycle in range(10):
        disk = made(kind)
        words = ["BTC-USDT", "--venues", "bybit,htx", *calm.urls, "--tape", disk / "tape"]
        with torture.Recorder(place / f"r{cycle}", words) as recorder:
            recorder.live(2)
            time.sleep(1.5 + cycle * 0.13)  # another moment between two syncs each time
            lost_at = lose_power()
            with suppress(ProcessLookupError):
                recorder.tell(9)
            recorder.wait()  # a file system that is down kills whoever touches the mapped tail
        torture.no_traceback(recorder.said)
        remount()
        begun = time.monotonic_ns()
        TapeWriter(recorder.tape).close()
        recovery.append((time.monotonic_ns() - begun) / MS)
        frames += torture.check(recorder.tape, calm)
        last = max(f.ts_recv for f in Tape(recorder.tape).frames() if f.kind != Kind.NOTE)
        windows.append((lost_at - last) / MS)
        subprocess.run(["/usr/bin/umount", str(disk)], check=True)
    assert max(windows) < SYNC_MS + SLACK_MS
    figures(
        f"power loss ({kind} on a loop device)",
        injected=len(windows),
        survived=len(windows),
        lost="0 older than the last sync",
        recovery=f"worst {max(recovery):.0f} ms",
        remark=f"window median {sorted(windows)[len(windows) // 2]:.0f}, worst {max(windows):.0f} "
        f"ms at a sync a second; {frames:,} frames",
    )
