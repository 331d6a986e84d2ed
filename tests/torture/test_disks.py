"""Disks that are full, fail, are slow or may not be written: said, and no frame is lost."""

import json
import resource
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from perptape import verify
from perptape.events import NS, Kind
from perptape.tape import Tape

SMALL_TAIL = {"half_bytes": 1 << 20, "sync_ms": 100}
STRACE = ["strace", "-f", "-qq", "-o", "/dev/null"]
BOTH = ["BTC-USDT", "ETH-USDT", "--venues", "bybit,htx"]


def notes(tape, word):
    """Give (time, state) of each note of this kind."""
    found = []
    for frame in Tape(tape).frames():
        if frame.kind == Kind.NOTE:
            note = json.loads(frame.payload)
            if note["note"] == word:
                found.append((frame.ts_recv, note.get("state")))
    return found


@pytest.fixture
def mounted(tmp_path, torture):
    """Mount a tmpfs with these options; all are gone afterwards."""
    torture.as_root()
    places = []

    def mount(options):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        command = ["/usr/bin/mount", "-t", "tmpfs", "-o", options, "none", str(place)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["/usr/bin/umount", "-l", str(place)], check=True)


def fill(ballast):
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_disk_full_and_freed_again(torture, mounted, tmp_path, figures):
    """The tail was set aside before; when it is full too, reading stops until there is room."""
    disk = mounted("size=24m")
    fast = torture.market(1500)
    with torture.Simulators(tmp_path / "s", ("bybit", "htx"), fast) as sims:
        words = [*BOTH, *sims.urls, "--tape", disk / "tape"]
        with torture.Recorder(tmp_path / "r", words, bounds=SMALL_TAIL) as recorder:
            recorder.live(4)
            begun = time.time_ns()

            def reading_stopped():
                fill(disk / "ballast")  # again, for what a given-up segment had
                told = recorder.told
                time.sleep(1)
                return recorder.told == told and notes(recorder.tape, "disk")

            def reading_again():  # both notes wait in memory until there is room
                return [event for _, event in notes(recorder.tape, "overload")][-1:] == ["end"]

            torture.until(reading_stopped, "an end of reading")
            told = recorder.told
            (disk / "ballast").unlink()
            freed = time.time_ns()
            torture.until(reading_again, "reading again")
            torture.until(lambda: recorder.told > told + 1000, "more frames")
            recorder.stop()
        torture.no_traceback(recorder.said)
        frames = torture.check(recorder.tape, sims, told=recorder.told)
    told = [ts for ts, _ in notes(recorder.tape, "overload")]  # beginnings and ends in turn
    stopped_s = sum(end - begin for begin, end in zip(told[::2], told[1::2], strict=False)) / NS
    again = min(ts for ts in told if ts > freed)
    found = torture.untrusted_s(recorder.tape)
    assert sum(found.values()) >= stopped_s - 0.1 and stopped_s > 1
    figures(
        "disk full and freed",
        injected=1,
        survived=1,
        lost=0,
        untrusted=f"{sum(found.values()):.1f} s of {(again - begun) / NS:.1f} s in trouble, "
        f"{stopped_s:.1f} s of them not read",
        recovery=f"{(again - freed) / NS:.1f} s after there was room",
        rss=f"{recorder.rss_mb:.0f} MB",
        remark=f"{frames:,} frames",
    )


def test_a_disk_freed_at_the_very_end(torture, mounted, calm, tmp_path):
    """It was full a moment ago, and nobody has tried since: all is written, so all is well."""
    disk = mounted("size=24m")
    words = [*BOTH, *calm.urls, "--tape", disk / "tape"]
    with torture.Recorder(tmp_path / "r", words, bounds=SMALL_TAIL) as recorder:
        recorder.live(4)
        fill(disk / "ballast")
        torture.until(lambda: fill(disk / "ballast") or notes(recorder.tape, "disk"), "trouble")
        (disk / "ballast").unlink()
        assert recorder.stop() in {0, 143}, recorder.said
    torture.no_traceback(recorder.said)
    assert torture.check(recorder.tape, calm, told=recorder.told)
    assert Tape(recorder.tape).segments[-1].state == "sealed"


def test_a_directory_that_may_only_be_read(torture, mounted, tmp_path, figures):
    disk = mounted("size=1m,ro")
    with torture.Recorder(tmp_path / "r", ["BTC-USDT", "--tape", disk / "tape"]) as recorder:
        assert recorder.wait() == 1
    assert recorder.said.startswith("perptape: cannot write to") and recorder.said.count("\n") == 1
    assert "Read-only file system" in recorder.said
    figures("read-only directory", injected=1, survived=1, lost=0, remark="one sentence, exit 1")


def failing(number, error):
    """Give strace's words for a call that fails from the n-th time on, three times."""
    call = "fdatasync" if error == "sync" else "write"
    inject = f"inject={call}:error=EIO:when={number}..{number + 2}"
    return [*STRACE, "-e", f"trace={call}", "-e", inject]


def test_errors_short_writes_and_slow_syncs(torture, calm, tmp_path, figures):
    """Several recorders at once, each with a disk of its own kind."""
    torture.needed("strace")
    words = [*BOTH, *calm.urls]
    slow = [*STRACE, "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=2000000"]
    segment = tmp_path / "write/tape/raw/00000000000000000001.arrows"
    kinds = {
        "sync": failing(3, "sync"),
        "write": [*failing(3, "write"), "-P", str(segment)],
        "slow": slow,
        "short": [],
    }
    if not torture.LONG:
        kinds = {"sync": kinds["sync"], "short": []}
    bounds = {"sync_ms": 200}
    recorders = {
        name: torture.Recorder(tmp_path / name, words, under=under, bounds=bounds)
        for name, under in kinds.items()
    }
    try:
        for recorder in recorders.values():
            recorder.live(4)
        limited = recorders["short"]
        torture.until(lambda: list(limited.tape.glob("raw/*.arrows")), "a segment")
        _, hard = resource.prlimit(limited.pid, resource.RLIMIT_FSIZE)
        size = max(limited.tape.glob("raw/*.arrows")).stat().st_size + 5000
        resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (size, hard))
        torture.until(lambda: notes(limited.tape, "disk"), "trouble")
        resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (hard, hard))
        for name in kinds.keys() - {"slow"}:
            tape = recorders[name].tape
            torture.until(lambda t=tape: len(notes(t, "disk")) >= 2, f"the end of {name}")
        if "slow" in kinds:
            time.sleep(2.5)  # it syncs at least once
        for recorder in recorders.values():
            recorder.tell(signal.SIGTERM)
        for recorder in recorders.values():
            assert recorder.wait() == 128 + signal.SIGTERM
    finally:
        for recorder in recorders.values():
            recorder.__exit__()
    for name, recorder in recorders.items():
        torture.no_traceback(recorder.said)
        frames = torture.check(recorder.tape, calm, told=recorder.told)
        states = {s.state for s in Tape(recorder.tape).segments}
        assert states <= {"sealed", "suspect"} and verify.verify(recorder.tape).damage == []
        times = [ts for ts, _ in notes(recorder.tape, "disk")]
        trouble_s = (times[1] - times[0]) / NS if times else 0.0
        found_s = torture.untrusted_s(recorder.tape).get("disk", 0.0)
        assert found_s == pytest.approx(trouble_s, abs=0.3)
        figures(
            FAULTS[name],
            injected=1,
            survived=1,
            lost=0,
            untrusted=f"{found_s:.1f} of {trouble_s:.1f} s",
            recovery=f"{trouble_s:.1f} s",
            rss=f"{recorder.rss_mb:.0f} MB",
            remark=f"{frames:,} frames, segments {' and '.join(sorted(states))}",
        )


FAULTS = {
    "sync": "EIO from three syncs",
    "write": "EIO from three writes",
    "slow": "each sync takes 2 s",
    "short": "short write, then EFBIG",
}
