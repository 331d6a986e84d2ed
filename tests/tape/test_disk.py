"""A disk that fails, is full, or is slow: said, never silent, and nothing is lost."""

import errno
import os
import subprocess
import threading
import time
from contextlib import suppress
from itertools import count

import pytest

from perptape.errors import Failed
from perptape.tape import Tape

CALLS = ["open", "write", "fdatasync", "fsync", "replace"]
T0 = 1_700_000_000_000_000_000


def until(condition, step, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        step()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if subprocess.run(["/usr/bin/mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["/usr/bin/umount", "-l", str(place)], check=True)


def fill(ballast):
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_stops_reading_loses_nothing_and_goes_on(small_disk, write_tape):
    writer = write_tape(small_disk / "t", sync_ms=100, now=lambda: (T0, 0))
    mono, truth = count(0, 50_000_000), []

    def read():
        if not writer.full:
            truth.append(os.urandom(1000))
            writer.append(0, 0, [truth[-1]], T0 + len(truth), next(mono))
        writer.tick(next(mono))

    until(lambda: len(truth) == 20, read)
    writer.flush(sync=True)
    fill(small_disk / "ballast")
    until(lambda: writer.full and writer.trouble, read)
    assert "No space left on device" in writer.trouble
    assert (writer.troubles, writer.backlog_frames) == (1, len(truth) - 20)
    with pytest.raises(Failed, match="No space left on device"):
        writer.flush(sync=True)
    assert [f.payload for f in Tape(small_disk / "t").frames()] == truth
    (small_disk / "ballast").unlink()
    until(lambda: writer.trouble is None, lambda: writer.tick(next(mono)))
    assert not writer.full
    read()
    writer.close()
    tape = Tape(small_disk / "t")
    assert [f.payload for f in tape.frames()] == truth
    assert tape.damage() == []


def test_closing_on_a_full_disk_leaves_the_frames_to_the_next_run(small_disk, write_tape):
    writer = write_tape(small_disk / "t")
    truth = [os.urandom(1000) for _ in range(20)]
    writer.append(0, 0, truth, T0, 1)
    fill(small_disk / "ballast")
    with pytest.raises(Failed, match="No space left on device"):
        writer.close()
    (small_disk / "ballast").unlink()
    with write_tape(small_disk / "t") as writer:
        assert writer.recovered.frames == 20
    tape = Tape(small_disk / "t")
    assert [f.payload for f in tape.frames()] == truth
    assert tape.damage() == []


def test_no_room_for_the_tail_is_one_sentence(small_disk, write_tape):
    with pytest.raises(Failed, match=r"cannot set 2 MiB aside at .*; free some space"):
        write_tape(small_disk / "t", half_bytes=1 << 20)


class FailingDisk:
    """Fails the nth call, or all from the nth to the mth, of those that reach the disk."""

    def __init__(self, patch, first, last):
        self.calls, self.first, self.last = 0, first, last
        for name in CALLS:
            patch.setattr(os, name, self.failing(name, getattr(os, name)))

    def failing(self, name, call):
        def wrapped(*args, **kwargs):
            self.calls += 1
            if self.first <= self.calls <= self.last:
                if name == "write":
                    call(args[0], bytes(args[1])[:7])
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*args, **kwargs)

        return wrapped


@pytest.mark.parametrize("lasts", [1, 4])
def test_an_error_at_every_call_loses_nothing(lasts, tmp_path, write_tape, feed, seqs_of):
    """As SQLite tests itself: fail the 1st, 2nd, ... call until none is left to fail."""
    for first in range(1, 500):
        path = tmp_path / f"{first}"
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, first, first + lasts - 1)
            last = live(path, write_tape, feed)
        assert seqs_of(path) == list(range(1, last + 1))
        tape = Tape(path)
        assert tape.damage() == []
        assert {s.state for s in tape.segments} <= {"sealed", "suspect", "torn"}
        if disk.calls < first:
            break
    assert first > 30


def live(path, write_tape, feed):
    """Record through whatever happens, as the recorder would; give the last seq."""
    last = 0
    for sizes in ([1, 2], [3]):
        writer = persistently(lambda: write_tape(path, segment_bytes=1500))
        for k in sizes:
            last = feed(writer, 0, [k])
            persistently(lambda w=writer: w.flush(sync=True))
        with suppress(Failed):
            writer.close()
    persistently(lambda: write_tape(path)).close()
    return last


def persistently(step, tries=9):
    for _ in range(tries):
        with suppress(Failed):
            return step()
    return step()


def test_a_failed_sync_is_not_believed_when_it_works_again(
    tmp_path, write_tape, feed, seqs_of, monkeypatch
):
    """The system may have dropped what it could not write: it is written again elsewhere."""

    def fail(_):
        raise OSError(errno.EIO, "I/O error")

    with write_tape(tmp_path / "t") as writer:
        feed(writer, 0, [1, 1])
        writer.flush(sync=True)
        feed(writer, 0, [1, 1])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(Failed, match="I/O error"):
                writer.flush(sync=True)
        feed(writer, 0, [1])
    states = [(s.name, s.first_seq, s.frames, s.state) for s in Tape(tmp_path / "t").segments]
    assert states == [
        ("00000000000000000001.arrows", 1, 2, "suspect"),
        ("00000000000000000003.arrows", 3, 3, "sealed"),
    ]
    assert seqs_of(tmp_path / "t") == [1, 2, 3, 4, 5]
    assert Tape(tmp_path / "t").damage() == []


def test_short_writes_are_written_to_the_end(tmp_path, write_tape, feed, seqs_of, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:13]))
    with write_tape(tmp_path / "t") as writer:
        feed(writer, 0, [3, 4])
    monkeypatch.undo()
    assert seqs_of(tmp_path / "t") == list(range(1, 8))
    assert Tape(tmp_path / "t").damage() == []


def test_a_disk_that_hangs_makes_the_tape_full_then_it_refuses_but_keeps(
    tmp_path, write_tape, feed, seqs_of, monkeypatch
):
    goes_on = threading.Event()
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (goes_on.wait(20), sync(fd)))
    writer = write_tape(tmp_path / "t", sync_ms=100, now=lambda: (T0, 0))
    mono = count(0, 50_000_000)
    last = 0

    def read():
        nonlocal last
        last = feed(writer, 0, [10])
        writer.tick(next(mono))

    until(lambda: writer.full, read)
    was_full_at = last
    with pytest.raises(Failed, match="too slow"):
        until(lambda: False, read)
    assert last > was_full_at + 100
    assert seqs_of(tmp_path / "t") == list(range(1, last + 1))
    goes_on.set()
    writer.close()
    assert seqs_of(tmp_path / "t") == list(range(1, last + 1))
