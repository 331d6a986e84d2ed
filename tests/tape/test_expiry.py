"""Room and time are bounded: the oldest segments go, and the manifest says what they were."""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from perptape.manifest import load
from perptape.playback import sha256_of
from perptape.tape import KEEP_ALL, Retention, Tape

HALF_BYTES = 1 << 15
MOST = 1 << 20


def sealed_each(write_tape, feed, path, retention, count):
    """Write a segment for each of some reads of ten frames; give their bytes before they go."""
    kept = {}
    with write_tape(path, retention=retention, segment_bytes=1) as writer:
        wire = writer.new_wire("bybit")
        for _ in range(count):
            feed(writer, wire, [10])
            writer.flush(sync=True)
            kept |= {p.name: p.read_bytes() for p in (path / "raw").glob("*.arrows")}
    return kept


def states(path):
    return [(s.first_seq, s.frames, s.state) for s in load(path).segments]


def test_what_is_older_than_it_is_to_be_kept_goes(tmp_path, write_tape, feed, seqs_of):
    """A frame is as many ns old as frames came after it."""
    path = tmp_path / "t"
    sealed_each(write_tape, feed, path, Retention(keep_ns=25), 6)
    live = [(31, 10, "sealed"), (41, 10, "sealed"), (51, 10, "sealed")]
    gone = [(1, 10, "expired"), (11, 10, "expired"), (21, 10, "expired")]
    assert states(path) == [*gone, *live]
    assert seqs_of(path) == list(range(31, 61))
    assert Tape(path).damage() == []
    assert [s.first_seq for s in Tape(path).expired] == [1, 11, 21]


def test_the_manifest_says_what_was_in_it(tmp_path, write_tape, feed):
    whole, bounded = tmp_path / "whole", tmp_path / "bounded"
    for path, retention in ((whole, KEEP_ALL), (bounded, Retention(keep_ns=5))):
        sealed_each(write_tape, feed, path, retention, 3)
    for was, now in zip(load(whole).segments, load(bounded).segments, strict=True):
        assert (was.name, was.first_seq, was.last_seq) == (now.name, now.first_seq, now.last_seq)
        assert (was.ts_first, was.ts_last, was.sha256) == (now.ts_first, now.ts_last, now.sha256)
        assert sha256_of(whole / "raw" / was.name) == now.sha256


def test_the_room_is_never_more_than_was_given(tmp_path, write_tape, feed, seqs_of):
    path, most = tmp_path / "t", 0
    with write_tape(path, retention=Retention(max_bytes=MOST)) as writer:
        wire = writer.new_wire("bybit")
        for _ in range(400):
            feed(writer, wire, [400])
            writer.flush(sync=True)
            most = max(most, sum(p.stat().st_size for p in (path / "raw").iterdir()))
    assert MOST // 2 < most <= MOST
    tape, seqs = Tape(path), seqs_of(path)
    assert seqs == list(range(seqs[0], 160_001)) and tape.expired[-1].last_seq == seqs[0] - 1
    assert tape.damage() == []
    assert all(s.bytes < MOST // 4 for s in tape.segments), "several, that few go at a time"


def test_the_open_one_is_never_deleted(tmp_path, write_tape, feed, seqs_of):
    writer = write_tape(tmp_path / "t", retention=Retention(keep_ns=1, max_bytes=1 << 17))
    wire = writer.new_wire("bybit")
    for _ in range(5):
        feed(writer, wire, [3])
        writer.flush(sync=True)
    assert seqs_of(tmp_path / "t") == list(range(1, 16))
    writer.close()
    assert seqs_of(tmp_path / "t") == list(range(1, 16)), "nor the last, when it is closed"


def test_a_segment_that_is_missing_and_was_to_stay_is_damage(tmp_path, write_tape, feed):
    path = tmp_path / "t"
    sealed_each(write_tape, feed, path, Retention(keep_ns=25), 6)
    (path / "raw" / Tape(path).segments[0].name).unlink()
    assert [d.detail for d in Tape(path).damage()] == ["it is missing"]


def test_what_a_crash_left_goes_in_its_turn(tmp_path, write_tape, feed, seqs_of):
    dead, path = write_tape(tmp_path / "dead"), tmp_path / "t"
    feed(dead, dead.new_wire("bybit"), [10])
    dead.flush(sync=True)
    shutil.copytree(tmp_path / "dead", path)
    dead.close()
    sealed_each(write_tape, feed, path, KEEP_ALL, 1)
    assert states(path) == [(1, 10, "torn"), (11, 10, "sealed")]
    sealed_each(write_tape, feed, path, Retention(keep_ns=15), 1)
    assert states(path) == [(1, 10, "expired"), (11, 10, "sealed"), (21, 10, "sealed")]
    assert seqs_of(path) == list(range(11, 31)) and Tape(path).damage() == []


def test_one_that_is_read_while_it_goes_is_no_damage(tmp_path, write_tape, feed):
    """A reader knows the manifest of when it began."""
    path = tmp_path / "t"
    sealed_each(write_tape, feed, path, KEEP_ALL, 4)
    tape = Tape(path)
    frames = tape.frames()
    assert next(frames).seq == 1 and tape.expired == []
    sealed_each(write_tape, feed, path, Retention(keep_ns=15), 1)
    assert [f.seq for f in frames] == [*range(2, 11), *range(31, 41)]
    assert [s.first_seq for s in tape.expired] == [11, 21]
    assert tape.damage() == []


def test_a_file_that_outlived_its_entry_is_not_read_and_is_removed_at_the_next_start(
    tmp_path, write_tape, feed, seqs_of
):
    path = tmp_path / "t"
    kept = sealed_each(write_tape, feed, path, Retention(keep_ns=25), 6)
    gone = load(path).segments[0].name
    (path / "raw" / gone).write_bytes(kept[gone])
    assert seqs_of(path) == list(range(31, 61)) and Tape(path).damage() == []
    write_tape(path).close()
    assert not (path / "raw" / gone).exists()
    assert seqs_of(path) == list(range(31, 61)) and Tape(path).damage() == []
    with write_tape(path) as writer:
        assert writer.new_wire("htx") == 2, "a number stays used"
        assert feed(writer, 2, [1]) == 61


EVERY_STEP = """
    import os, signal, shutil, sys
    from pathlib import Path
    from perptape.tape import Retention, Tape, TapeWriter

    CALLS = ["open", "write", "fdatasync", "fsync", "close", "replace", "rename", "unlink"]
    T0 = 1_700_000_000_000_000_000

    def payload(seq):
        return b'{"seq":%d,"noise":"%x"}' % (seq, seq * 2654435761)

    def live(path, die_at):
        left = die_at
        def mortal(call):
            def wrapped(*args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return wrapped
        for name in CALLS:
            setattr(os, name, mortal(getattr(os, name)))
        keep = Retention(keep_ns=15)
        with TapeWriter(path, retention=keep, half_bytes=1 << 15, segment_bytes=1) as writer:
            wire = writer.new_wire("bybit")
            for _ in range(3):
                first = writer._first_seq + writer.frames
                read = [payload(first + k) for k in range(10)]
                writer.append(wire, 0, read, T0 + first, first)
                writer.flush(sync=True)

    def look(path):
        tape = Tape(path)
        seqs = []
        for frame in tape.frames():
            assert frame.payload == payload(frame.seq)
            seqs.append(frame.seq)
        assert seqs == list(range(seqs[0], seqs[-1] + 1)), seqs
        assert tape.damage() == [], tape.damage()
        gone = [s.name for s in tape.expired]
        assert (tape.expired[-1].last_seq if gone else 0) == seqs[0] - 1
        return gone

    between = 0
    begun, work = Path(sys.argv[1]), Path(sys.argv[2])
    for die_at in range(1, 1000):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(begun, work)
        if not (pid := os.fork()):
            live(work, die_at)
            os._exit(0)
        died = os.waitpid(pid, 0)[1]
        gone = look(work)
        between += any((work / "raw" / name).exists() for name in gone)
        for _ in range(2):
            TapeWriter(work, half_bytes=1 << 15).close()
            assert look(work)[: len(gone)] == gone, die_at
            assert not any((work / "raw" / name).exists() for name in gone), die_at
        if not died:
            break
    print(die_at, between)
"""


def test_death_at_every_step_leaves_each_segment_there_or_said_to_be_gone(
    tmp_path, write_tape, feed
):
    begun = tmp_path / "begun"
    sealed_each(write_tape, feed, begun, KEEP_ALL, 4)
    command = [sys.executable, "-c", textwrap.dedent(EVERY_STEP), str(begun), str(tmp_path / "w")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    steps, between = map(int, done.stdout.split())
    assert steps > 40
    assert between >= 2, "the manifest was saved, and the file was still there"


def test_nothing_is_deleted_unless_it_was_asked_for(tmp_path, write_tape, feed, seqs_of):
    path = tmp_path / "t"
    sealed_each(write_tape, feed, path, KEEP_ALL, 5)
    assert seqs_of(path) == list(range(1, 51))
    assert {state for _, _, state in states(path)} == {"sealed"}
    assert len(list(Path(path, "raw").iterdir())) == 5
