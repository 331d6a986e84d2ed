"""What a process that dies leaves: all that was appended, and nothing else."""

import json
import random
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time

import pytest

from perptape import records
from perptape.segment import HEAD
from perptape.tape import Recovery, Tape

T0 = 1_700_000_000_000_000_000

LIVES = """
    import mmap, os, random, signal, struct, sys
    from pathlib import Path
    from perptape.tape import Tape, TapeWriter

    def payload(seq):
        return b'{"seq":%d,"noise":"%x"}' % (seq, seq * 2654435761)

    def append(writer, wire, n, told):
        first = writer._first_seq + writer.frames
        read = [payload(first + k) for k in range(n)]
        last = writer.append(wire, 0, read, 1_700_000_000_000_000_000 + first, first) + n - 1
        struct.pack_into("<Q", told, 0, last)

    with open(sys.argv[2], "r+b") as file:
        told = mmap.mmap(file.fileno(), 8)
"""

UNTIL_KILLED = """
    mono, rng = 0, random.Random(sys.argv[3])
    writer = TapeWriter(Path(sys.argv[1]), half_bytes=1 << 20, segment_bytes=1 << 18, sync_ms=50)
    wire = writer.new_wire("bybit")
    print("ready", flush=True)
    while True:
        append(writer, wire, rng.choice([1, 1, 1, 8, 100]), told)
        mono += 1_000_000
        if mono % 20_000_000 == 0:
            writer.tick(mono)
        if writer.full:
            writer.flush(sync=True)
"""

EVERY_STEP = """
    import shutil
    CALLS = ["open", "write", "fdatasync", "fsync", "close", "replace", "rename", "unlink", "mkdir",
             "ftruncate", "pwrite", "posix_fallocate"]

    def live(path, die_at):
        left = die_at
        def mortal(call):
            def wrapped(*args, **kwargs):
                nonlocal left
                left -= 1
                if left == 0:
                    if call is WRITE:
                        call(args[0], args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)
            return wrapped
        WRITE = os.write
        for name in CALLS:
            setattr(os, name, mortal(getattr(os, name)))
        writer = TapeWriter(path, half_bytes=1 << 15, segment_bytes=1)
        wire = writer.new_wire("bybit")
        append(writer, wire, 2, told)
        writer.flush(sync=True)
        for n in (1, 3, 2):
            append(writer, wire, n, told)
            writer._swap()
            writer.flush(sync=True)
        append(writer, wire, 1, told)
        writer.close()

    def look(path):
        tape = Tape(path)
        frames = list(tape.frames())
        assert [f.seq for f in frames] == list(range(1, len(frames) + 1)), [f.seq for f in frames]
        assert all(f.payload == payload(f.seq) for f in frames)
        assert tape.damage() == [], tape.damage()
        return len(frames)

    crashed, work = Path(sys.argv[1]), Path(sys.argv[3])
    before = look(crashed)
    for die_at in range(1, 1000):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(crashed, work)
        struct.pack_into("<Q", told, 0, before)
        if not (pid := os.fork()):
            live(work, die_at)
            os._exit(0)
        died = os.waitpid(pid, 0)[1]
        said = struct.unpack_from("<Q", told)[0]
        found = look(work)
        assert said <= found <= said + 3, (die_at, said, found)
        for _ in range(2):
            TapeWriter(work, half_bytes=1 << 15).close()
            assert look(work) == found, die_at
        if not died:
            break
    print(die_at)
"""


def start(program, path, *words):
    told = path.with_suffix(".told")
    told.write_bytes(bytes(8))
    code = textwrap.dedent(LIVES) + textwrap.dedent(program)
    command = [sys.executable, "-c", code, str(path), str(told), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return process, told


@pytest.fixture
def crashed(tmp_path, write_tape, feed):
    """What a crash leaves: a batch in an unsealed segment, a torn one, two reads in the tail."""
    writer = write_tape(tmp_path / "live", now=lambda: (T0, 0))
    wire = writer.new_wire("bybit")
    feed(writer, wire, [1, 2])
    writer.flush(sync=True)
    feed(writer, wire, [2, 1])
    shutil.copytree(tmp_path / "live", tmp_path / "t")
    with (tmp_path / "t/raw/00000000000000000001.arrows").open("r+b") as file:
        data = file.read()
        file.write(data[len(HEAD) : -50])
    writer.close()
    return tmp_path / "t"


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_any_moment_loses_nothing_that_was_appended(seed, tmp_path, seqs_of, write_tape):
    delay = random.Random(seed).uniform(0.01, 0.2)  # noqa: S311 - no secret
    for run in range(2):
        process, told = start(UNTIL_KILLED, tmp_path / "t", seed + run)
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)  # the moment of death
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        (said,) = struct.unpack("<Q", told.read_bytes())
        seqs = seqs_of(tmp_path / "t")
        assert seqs == list(range(1, len(seqs) + 1))
        assert said <= len(seqs) <= said + 100
        assert Tape(tmp_path / "t").damage() == []
    write_tape(tmp_path / "t").close()
    assert seqs_of(tmp_path / "t") == seqs
    assert Tape(tmp_path / "t").damage() == []


def test_death_at_every_system_call_loses_nothing_nor_does_mending_twice(crashed, tmp_path):
    process, _ = start(EVERY_STEP, crashed, tmp_path / "work")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert int(said) > 60


def test_what_a_crash_left_is_taken_up_and_told(crashed, write_tape, feed, seqs_of):
    torn = crashed / "raw/00000000000000000001.arrows"
    before = torn.read_bytes()
    torn_bytes = (len(before) - len(HEAD) - 50) // 2
    with write_tape(crashed, config={"run": 2}) as writer:
        assert isinstance(writer.recovered, Recovery)
        assert (writer.recovered.frames, writer.recovered.torn_bytes) == (3, torn_bytes)
        assert writer.ts_before == T0 + 6
        assert writer.new_wire("htx") == 2
        feed(writer, 2, [1])
    states = [(s.first_seq, s.frames, s.state) for s in Tape(crashed).segments]
    assert states == [(1, 3, "torn"), (4, 3, "sealed"), (7, 1, "sealed")]
    assert torn.read_bytes() == before
    assert seqs_of(crashed) == [1, 2, 3, 4, 5, 6, 7]
    assert Tape(crashed).damage() == []
    manifest = json.loads((crashed / "tape.json").read_bytes())
    assert manifest["segments"][0]["torn_bytes"] == torn_bytes


def test_a_record_that_was_being_copied_is_no_damage(crashed, seqs_of):
    """Its first line is written last: without it there is no record yet."""
    tail = crashed / "raw/tail"
    whole = tail.read_bytes()
    half = records.walk(whole[: len(whole) // 2])
    at, stop = half.offsets[-1], len(half.data)
    for copied in range(at + 12, stop + 1, 5):
        copy = whole[at + 12 : copied].ljust(len(whole) - at - 12, b"\0")
        tail.write_bytes(whole[:at] + bytes(12) + copy)
        assert seqs_of(crashed) == [1, 2, 3, 4, 5]
        assert Tape(crashed).damage() == []
    for first_line, seqs in [(4, 5), (8, 6), (12, 6)]:
        line = whole[at : at + first_line].ljust(12, b"\0")
        tail.write_bytes(whole[:at] + line + whole[at + 12 :])
        assert seqs_of(crashed) == list(range(1, seqs + 1))
        assert Tape(crashed).damage() == []
