"""What a power cut may leave of a tape: the next recorder begins, and nothing synced is missing.

A short life of the tape's writer is noted call by call, and after each call the states are built
that the disk may be in. ``CUTS=1000 ./run torture tests/torture/cuts`` explores so many stories.
"""

import os
import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from perptape import manifest, verify
from perptape.errors import BadUsage, Failed
from perptape.tape import Tape, TapeWriter

T0 = 1_700_000_000_000_000_000
SMALL = {"half_bytes": 1 << 13, "segment_bytes": 3000}
NAME = "new/deep/tape"
STEPS = {"append": 9, "write": 4, "sync": 3, "swap": 4, "back": 0.3, "fail": 0.4, "again": 0.4}
STEPS["die"] = 0.4


class Writer:
    """A tape's writer on a noted disk, what it was given, and what of that is certain."""

    def __init__(self, disk, path, rng):
        self.disk, self.path, self.rng = disk, path, rng
        self.given = {}
        """seq -> every (wire, ts_recv, payload) that it ever had."""
        self.certain, self.there = {}, {}
        """What no power cut may take away, and what no kill -9."""
        self.has_failed = False
        self._tape, self._ts = None, T0

    def start(self):
        self._tape = None
        tape = TapeWriter(self.path, **SMALL, now=lambda: (self._ts, 0))
        self.there = found(self.path)
        self.certain |= self.there
        self._tape, self._wire = tape, tape.new_wire("bybit")

    @property
    def is_running(self):
        return self._tape is not None

    def note(self):
        """Take down what is synced by now."""
        if self._tape is not None:
            first, last = self._tape._first_seq, self._tape._segments.synced_seq  # noqa: SLF001
            for seq in range(first, last + 1):
                self.certain.setdefault(seq, self.given[seq][-1])

    def append(self, frames=1, back=0):
        if self._tape.full:
            self.sync()
        self._ts += 1 - back
        first = self._tape._first_seq + self._tape.frames  # noqa: SLF001
        noise = self.rng.randbytes(self.rng.choice([1, 30, 500])).hex().encode()
        read = [b'{"seq":%d,"noise":"%s"}' % (first + k, noise) for k in range(frames)]
        for seq, payload in enumerate(read, first):
            self.given.setdefault(seq, []).append((self._wire, self._ts, payload))
        self._tape.append(self._wire, 0, read, self._ts, 0)
        self.there |= {first + k: self.given[first + k][-1] for k in range(frames)}

    def back(self):
        """Time falls: the segment is finished."""
        self.append(back=5)

    def write(self):
        self._tape.flush()
        self._tape._work()  # noqa: SLF001

    def sync(self):
        with suppress(Failed):
            self._tape.flush(sync=True)

    def swap(self):
        """Sync a half of the tail and free it."""
        if self._tape._tail.other_is_free:  # noqa: SLF001
            self._tape._swap()  # noqa: SLF001
            self._tape._work()  # noqa: SLF001

    def fail(self):
        for _ in range(2):
            self.append()
            self.write()
        self.disk.is_failing = self.has_failed = True
        self.sync()
        self.disk.is_failing = False

    def close(self):
        with suppress(Failed):
            self._tape.close()

    def again(self):
        self.close()
        self.start()

    def end(self):
        """What the system does for a process that dies."""
        tape, self._tape = self._tape, None
        tape._tail._map.close()  # noqa: SLF001
        os.close(tape._lock)  # noqa: SLF001

    def die(self):
        self.end()
        self.start()


def found(path):
    return {f.seq: (f.wire, f.ts_recv, f.payload) for f in Tape(path).frames()}


class Judge:
    """Looks at states, each once."""

    def __init__(self, place, put):
        self.place, self._put = place, put
        self.boots = self.states = self.kills = 0
        self._seen = {}

    @property
    def different(self):
        return len(self._seen)

    def kill(self, tree, writer):
        """Judge what is there if the writer is killed: the machine goes on."""
        self.kills += 1
        before, _, after = self._outcome(tree)
        assert writer.there.items() <= before.items(), "read, and lost"
        assert after[0][0] == before, "a start changed what is read"

    def cut(self, tree, writer):
        """Judge what may be there if its power is cut."""
        self.states += 1
        key = hash(tuple(sorted(tree.items())))
        if key not in self._seen:
            self.boots += 1
            self._seen[key] = self._outcome(tree)
            self.boots -= 1
        before, damage, after = self._seen[key]
        lost = [seq for seq, frame in writer.certain.items() if before.get(seq) != frame]
        assert lost == [], "synced, and lost"
        wrong = [seq for seq, frame in before.items() if frame not in writer.given[seq]]
        assert wrong == [], "these bytes were never given"
        assert after[0] == after[1], "another start changed something"
        assert after[0][0] == before, "a start changed what is read"
        has_hole = len(before) != max(before, default=0)
        if not writer.has_failed:
            assert bool(damage) == bool(after[0][1]) == has_hole, (damage, after[0][1])

    def _outcome(self, tree):
        """Read, and start twice: give what is read, the damage, and both for each start."""
        shutil.rmtree(self.place, ignore_errors=True)
        self._put(self.place, tree)
        path = self.place / NAME
        try:
            before, damage = found(path), Tape(path).damage()
            assert (verify.verify(path).verdict == "damaged") == bool(damage)
        except BadUsage:
            before, damage = {}, []  # no tape yet
        after = []
        for _ in range(2):
            with TapeWriter(path, **SMALL, now=lambda: (T0 + 10**9, 10**9)) as again:
                goes_on = again._first_seq == max(before, default=0) + 1  # noqa: SLF001
                assert goes_on, "a hole for ever where none has to be"
            files = {file.name: file.read_bytes() for file in (path / "raw").iterdir()}
            after.append((found(path), Tape(path).damage(), files))
        return before, damage, after


@pytest.fixture
def place(tmp_path):
    """A directory in memory: what a sync makes certain is the model's to say."""
    if not os.access("/dev/shm", os.W_OK):  # noqa: S108 - only a place
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        yield Path(memory)


@pytest.fixture
def story(place, cuts, monkeypatch):
    """Give a function that gives a new writer, its disk, and the judge."""
    judge = Judge(place / "judged", cuts.put)
    work = place / "work"
    monkeypatch.setattr(manifest, "this_boot", lambda: f"boot {judge.boots}")
    disk = cuts.Disk(work, monkeypatch)

    def begin(rng):
        disk.on_op = lambda: None
        disk.cut({"": None})
        return Writer(disk, work / NAME, rng), disk, judge

    return begin


def test_every_state_of_a_small_recording(story, cuts, figures):
    writer, disk, judge = story(random.Random(1))  # noqa: S311 - no secret
    ops = 0

    def on_op():
        nonlocal ops
        ops += 1
        writer.note()
        for choice in cuts.all_choices(disk.root):
            judge.cut(cuts.tree(disk.root, choice), writer)
        judge.kill(cuts.tree(disk.root, cuts.all_of_it(disk.root)), writer)

    disk.on_op = on_op
    writer.start()
    for step in ("append", "write", "sync", "append", "swap", "append", "write", "close"):
        getattr(writer, step)()
    assert ops > 20
    told(figures, judge, f"power cut at each of {ops} calls, what no sync covers in all choices")


def test_states_drawn_from_longer_stories(story, cuts, torture, figures):
    """With torn sectors and pages, restarts, deaths, failing syncs, and cuts after cuts."""
    stories = int(os.environ.get("CUTS", "300" if torture.LONG else "5"))
    for seed in range(stories):
        rng = random.Random(seed)  # noqa: S311 - a seed that can be named
        writer, disk, judge = story(rng)

        def on_op(rng=rng, writer=writer, disk=disk, judge=judge):
            writer.note()
            if rng.random() < 0.6:
                judge.cut(cuts.tree(disk.root, cuts.a_choice(disk.root, rng)), writer)
            if writer.is_running and rng.random() < 0.2:
                judge.kill(cuts.tree(disk.root, cuts.all_of_it(disk.root)), writer)

        disk.on_op = on_op
        try:
            live(writer, disk, judge, cuts)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    told(figures, judge, f"{stories} stories of power cuts, kill -9 and failing syncs")


def live(writer, disk, judge, cuts, cut_often=3):
    """Record, and lose power, several times."""
    writer.start()
    for _ in range(cut_often):
        for step in writer.rng.choices(list(STEPS), STEPS.values(), k=15):
            getattr(writer, step)()
        disk.look()
        left = cuts.tree(disk.root, cuts.a_choice(disk.root, writer.rng))
        writer.end()
        judge.boots += 1
        disk.cut(left)
        writer.there = {}
        writer.start()
    writer.close()


def told(figures, judge, fault):
    figures(
        fault,
        injected=f"{judge.states:,} and {judge.kills:,} kills",
        survived=f"{judge.states:,} and {judge.kills:,}",
        lost="0 older than the last sync",
        remark=f"{judge.different:,} different states; a start changes nothing that is read",
    )
