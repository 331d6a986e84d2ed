"""A whole recorder, as a user starts it, against simulated venues while something goes wrong.

``TORTURE=1`` makes the long forms; ``./run torture`` does that and prints the table of figures.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from perptape import ledger, verify
from perptape.events import NS, Kind
from perptape.guard import INFLATED_BYTES
from perptape.sims.truth import read_sent, read_truth
from perptape.tape import Tape

LONG = bool(os.environ.get("TORTURE"))
GZIP = b"\x1f\x8b"
PATIENCE_S = 60
"""A step of a test that takes longer has hung, however busy the machine is."""

RECORDER = """
    import json, mmap, struct, sys, time
    from perptape.clock import Clock
    from perptape.session import Session
    from perptape.tape import TapeWriter

    with open(sys.argv[1], "r+b") as file:
        told = mmap.mmap(file.fileno(), 16)
    bounds, count = json.loads(sys.argv[2]), 0
    receive, init = Session.receive, TapeWriter.__init__

    def counted(self, payloads, now):
        # What the session is given, append() has finished: from here on it must never be lost.
        global count
        count += len(payloads)
        struct.pack_into("<Q", told, 0, count)
        receive(self, payloads, now)

    def bounded(self, path, **words):
        init(self, path, **(words | bounds))

    def wall():
        return time.time_ns() + struct.unpack_from("<q", told, 8)[0]

    Session.receive, TapeWriter.__init__ = counted, bounded
    Clock.__init__.__defaults__ = (wall, time.monotonic_ns)
    sys.argv[1:] = sys.argv[3:]
    from perptape.__main__ import main
    main()
"""
"""The recorder, which also tells how many frames it has been given, in memory that survives it, and
takes its wall clock's error from there."""


def until(condition, what, seconds=PATIENCE_S):
    give_up = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, f"{what} never came"
        time.sleep(0.02)
    return found


class Simulators:
    """Simulated exchanges in a process of their own, until the block ends."""

    def __init__(self, place, venues, scenario, under=()):
        place.mkdir()
        self.truth, self.log = place / "truth.jsonl", place / "log"
        (place / "scenario.toml").write_text(scenario)
        words = ["sim", "--venues", ",".join(venues), "--port", "0", "--truth", self.truth]
        words += ["--scenario", place / "scenario.toml", "--log", self.log]
        command = [*under, sys.executable, "-m", "perptape", *map(str, words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.venues = venues
        self.urls = self.process.stdout.readline().split()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End it, by force if its connections cannot be ended."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def sent(self):
        """Give what was sent on each connection, as CRCs, by venue."""
        found = defaultdict(list)
        for path in self.log.glob("*.sent"):
            header, sent = read_sent(path)
            found[header.venue].append([one.crc32 for one in sent])
        return found

    def faults(self):
        return [fact for fact in read_truth(self.truth) if fact.what == "fault"]


class Recorder:
    """``perptape record``; ``under`` are words before it, such as strace's."""

    def __init__(self, place, words, *, under=(), bounds=None, env=None):
        place.mkdir()
        self.tape = place / "tape"
        self._told, self._out, self._err = place / "told", place / "out", place / "err"
        self._told.write_bytes(bytes(16))
        command = [*under, sys.executable, "-B", "-c", textwrap.dedent(RECORDER)]
        command += [str(self._told), json.dumps(bounds or {}), "record", *map(str, words), "--json"]
        if "--tape" not in command:
            command += ["--tape", str(self.tape)]
        else:
            self.tape = Path(command[command.index("--tape") + 1])
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env={**os.environ, **(env or {})}
            )
        self._is_child = bool(under) and under[0] == "strace"  # others become it
        self.code = None
        self.rss_mb = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            self.tell(signal.SIGKILL)
            self.wait()

    @property
    def pid(self):
        """Of the recorder itself, not of what it runs under."""
        number = self.process.pid
        if not self._is_child:
            return number
        children = Path(f"/proc/{number}/task/{number}/children")
        return int(until(children.read_text, "a child").split()[0])

    def tell(self, number):
        pid = self.pid
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                self.rss_mb = int(line.split()[1]) / 1024  # its own, not strace's
        os.kill(pid, number)

    @property
    def told(self):
        """How many frames it has read and finished with."""
        return int.from_bytes(self._told.read_bytes()[:8], "little")

    def set_clock(self, seconds):
        """Put its wall clock so far from the true time."""
        with self._told.open("r+b", buffering=0) as file:
            file.seek(8)
            file.write((seconds * NS).to_bytes(8, "little", signed=True))

    @property
    def said(self):
        return self._err.read_text()

    def status(self):
        """Give the last line of each market."""
        lines = [line for line in self._out.read_bytes().splitlines(keepends=True) if b"\n" in line]
        told = [json.loads(line) for line in lines if line.startswith(b'{"ts"')]
        return {line["market"]: line for line in told}

    def live(self, count=1):
        """Wait until so many markets are live."""

        def condition():
            assert self.process.poll() is None, self.said
            return sum(line["state"] == "live" for line in self.status().values()) >= count

        until(condition, f"data of {count} markets")
        return self

    def wait(self):
        """Wait for its end; give the exit code, minus the signal that killed it."""
        while self.code is None:
            # What the kernel tells at the end counts the memory of who started it, too.
            self.rss_mb = max(self.rss_mb, most_memory_mb(self.process.pid))
            done, status = os.waitpid(self.process.pid, os.WNOHANG)
            if done:
                self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.02)
        return self.code

    def stop(self, number=signal.SIGTERM):
        self.tell(number)
        return self.wait()


def most_memory_mb(pid):
    """Give the most that a process has had so far; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def heard(tape):
    """Give the CRCs of what was received, by (venue, wire)."""
    crcs = defaultdict(list)
    for frame in Tape(tape).frames():
        if frame.kind in {Kind.TEXT, Kind.BINARY}:
            crcs[frame.venue, frame.wire].append(zlib.crc32(said(frame.payload)))
    return crcs


def said(payload):
    """Inflate what a full tape had no room for, as logs have it; bombs are there as they came."""
    if payload[:2] != GZIP:
        return payload
    try:
        inflated = zlib.decompressobj(wbits=31).decompress(payload, INFLATED_BYTES + 1)
    except zlib.error:
        return payload
    return payload if len(inflated) > INFLATED_BYTES else inflated


def check(tape, sims, *, told=0):
    """Every wire is a beginning of what one connection was sent; all that was told is there.

    Gives the number of frames on the tape.
    """
    wires = heard(tape)

    def is_whole():
        sent = sims.sent()
        return all(
            any(log[: len(crcs)] == crcs for log in sent[venue])
            for (venue, _), crcs in wires.items()
        )

    until(is_whole, "a log that begins as the tape does")
    frames = sum(map(len, wires.values()))
    assert frames >= told, f"{told - frames} frames were read and are lost"
    assert Tape(tape).damage() == []
    return frames


def untrusted_s(tape, market=None):
    """Give the untrusted seconds by reason, of one market or the worst of all."""
    found = defaultdict(lambda: defaultdict(float))
    for each in ledger.read(Tape(tape)).intervals:
        if (
            not each.trusted
            and each.reason not in verify.EXPECTED
            and market in {None, each.market}
        ):
            found[each.market][each.reason] += (each.end - each.start) / NS
    return max(map(dict, found.values()), key=lambda r: sum(r.values()), default={})


def no_traceback(*texts):
    for text in texts:
        assert "Traceback" not in text and "made a mistake" not in text, text


def needed(*programs):
    """Skip where these are not installed."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


def as_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


def market(rate=200, more="", names='"BTC-USDT", "ETH-USDT"'):
    return f'start = "serve"\ninstruments = [{names}]\nupdates_per_s = {rate}\n{more}'


@pytest.fixture(scope="session")
def torture():
    """Give the tools of this file; a test module cannot import its neighbours."""
    return SimpleNamespace(
        LONG=LONG,
        Recorder=Recorder,
        Simulators=Simulators,
        as_root=as_root,
        check=check,
        heard=heard,
        market=market,
        needed=needed,
        no_traceback=no_traceback,
        until=until,
        untrusted_s=untrusted_s,
    )


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """Two venues without a fault."""
    place = tmp_path_factory.mktemp("calm") / "sims"
    with Simulators(place, ("bybit", "htx"), market(500)) as sims:
        yield sims


@pytest.fixture
def figures(record_property):
    """Put a row into the table that ``./run torture`` prints."""

    def row(fault, **found):
        record_property("torture", {"fault": fault, **found})

    return row


COLUMNS = ("fault", "injected", "survived", "lost", "untrusted", "recovery", "rss", "remark")


def pytest_terminal_summary(terminalreporter):
    """Print the rows of all tests that passed, and the words of those that only print."""
    if not LONG:
        return
    passed = terminalreporter.stats.get("passed", [])
    rows = [value for each in passed for key, value in each.user_properties if key == "torture"]
    terminalreporter.section("torture")
    terminalreporter.write_line("| " + " | ".join(COLUMNS) + " |")
    terminalreporter.write_line("|---" * len(COLUMNS) + "|")
    for row in rows:
        cells = [str(row.get(column, "")) for column in COLUMNS]
        terminalreporter.write_line("| " + " | ".join(cells) + " |")
    for each in passed:
        if "torture" not in each.nodeid and each.when == "call" and each.capstdout.strip():
            terminalreporter.write_line(each.capstdout.strip())
