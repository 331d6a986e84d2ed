"""Tables by many hands: the same bytes, and after a kill no work done twice."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)

import msgspec
import pytest

from perptape import crew, gather, kept, tables, tabulate
from perptape.errors import BadUsage, Failed
from perptape.events import NS, Kind, Opened, Subscription
from perptape.tape import TapeWriter

T0 = 1_790_035_100 * NS
"""A hundred seconds before midnight."""
STREAMS = {
    "quotes": (
        "orderbook.1",
        (
            '{"topic":"orderbook.1.%(s)s","ts":%(ms)d,"type":"snapshot","data":{"s":"%(s)s",'
            '"b":[["1","%(n)d"]],"a":[["2","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}'
        ),
    ),
    "books": (
        "orderbook.50",
        (
            '{"topic":"orderbook.50.%(s)s","type":"%(kind)s","ts":%(ms)d,"data":{"s":"%(s)s",'
            '"b":[["1","%(n)d"],["0.5","1"]],"a":[["2","2"]],"u":%(n)d,"seq":1},"cts":%(ms)d}'
        ),
    ),
    "trades": (
        "publicTrade",
        (
            '{"topic":"publicTrade.%(s)s","type":"snapshot","ts":%(ms)d,"data":[{"T":%(ms)d,'
            '"s":"%(s)s","S":"Buy","v":"1","p":"1.5","i":"%(n)d","BT":false}]}'
        ),
    ),
    "marks": (
        "tickers",
        (
            '{"topic":"tickers.%(s)s","type":"delta","data":{"symbol":"%(s)s",'
            '"markPrice":"1.%(n)d","fundingRate":"-0.000%(n)d","nextFundingTime":"%(ms)d"},'
            '"cs":1,"ts":%(ms)d}'
        ),
    ),
}
CHANNELS = {**{channel: stream for channel, (stream, _) in STREAMS.items()}, "funding": "tickers"}
PARTITIONS = 2 * 2 * len(CHANNELS)
"""Of two coins on two days."""


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    """All channels of two coins over midnight, and a second run whose time falls back."""
    path = tmp_path_factory.mktemp("workers") / "tape"
    for start in (T0, T0 - 50 * NS):
        with TapeWriter(path, now=lambda at=start: (at, at)) as writer:
            wire = writer.new_wire("bybit")
            asked = tuple(
                Subscription(f"bybit:{coin}-USDT-PERP", channel, stream, f"{coin}USDT")
                for coin in ("BTC", "ETH")
                for channel, stream in CHANNELS.items()
            )
            opened = msgspec.json.encode(Opened("bybit", "ws://x", asked))
            writer.append(wire, Kind.OPENED, [opened], start, start)
            for n in range(1, 400):
                ts = start + n * NS // 2
                words = {"s": ("BTCUSDT", "ETHUSDT")[n % 2], "ms": ts // 10**6, "n": n // 2}
                words["kind"] = "delta" if n > 3 else "snapshot"
                told = [(text % words).encode() for _, text in STREAMS.values()]
                writer.append(wire, Kind.TEXT, told, ts, ts)
                if n % 40 == 0:
                    writer.flush(sync=True)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cut so few rows into many groups."""
    for name, rows in SMALL.items():
        monkeypatch.setattr(gather, name, rows)
        monkeypatch.setattr(tabulate, name, rows)


SMALL = {"GROUP_ROWS": 300, "ROWS_HELD": 20, "BOOKS_HELD": 10}


@pytest.fixture(scope="module")
def undisturbed(tape, tmp_path_factory):
    """What one process makes of it, in one go and in groups of the common size."""
    root = tmp_path_factory.mktemp("undisturbed")
    tabulate.tabulate(tape, root)
    return contents(root)


def contents(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != tabulate.LOCK
    }


def test_the_tape_has_what_it_is_to_have(undisturbed):
    found = [path for path in undisturbed if "base=" in path and not path.startswith("ledger")]
    assert len(found) == PARTITIONS


@pytest.mark.parametrize("workers", [None, 1, 2, 3])
def test_any_number_of_workers_makes_the_same_bytes(
    tape, undisturbed, tmp_path, monkeypatch, workers
):
    monkeypatch.setattr(tabulate, "is_long", lambda _: True)
    made = tabulate.tabulate(tape, tmp_path, workers=workers)
    assert contents(tmp_path) == undisturbed
    assert made.result.groups > 8 and made.result.kept == made.partitions_kept == 0


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_any_executor_makes_the_same_bytes(tape, undisturbed, tmp_path, kind):
    pools = {
        "threads": lambda: ThreadPoolExecutor(3),
        "processes": lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn")),
    }
    with pools[kind]() as pool:
        tabulate.tabulate(tape, tmp_path, executor=pool)
    assert contents(tmp_path) == undisturbed


def test_a_number_of_workers_that_cannot_be_is_named(tape, tmp_path):
    for workers, executor in ((0, None), (2, ThreadPoolExecutor(1))):
        with pytest.raises(BadUsage, match=f"--workers {workers} is not possible: give 1 or more"):
            tabulate.tabulate(tape, tmp_path, workers=workers, executor=executor)
    assert list(tmp_path.iterdir()) == []


# ---- killed and begun again ---------------------------------------------------------------------

KILLED = """
import json, os, signal, sys
from pathlib import Path
from perptape import gather, ledger, tabulate
from perptape.tape import Tape

ledger.read(Tape(Path(sys.argv[1])))  # what is compiled is loaded once for all
for name, rows in json.loads(sys.argv[3]).items():
    setattr(gather, name, rows)
    setattr(tabulate, name, rows)

def make(tape, out, at):
    calls = 0
    def told(done, total):
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
    made = tabulate.tabulate(tape, out, progress=told)
    print(json.dumps([calls, made.result.groups, made.result.kept, made.partitions_kept]))
    sys.stdout.flush()

for line in sys.stdin:
    if not (child := os.fork()):
        make(Path(sys.argv[1]), Path(sys.argv[2]), int(line))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        print(json.dumps(-os.WTERMSIG(status)), flush=True)
"""


@pytest.fixture
def killed(tape, tmp_path):
    """Tabulate into ``out`` and be killed when progress is told for the ``at``-th time."""
    words = [sys.executable, "-c", KILLED, str(tape), str(tmp_path / "out"), json.dumps(SMALL)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:

        def run(at):
            print(at, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


def test_a_killed_one_is_gone_on_with_and_makes_the_same_bytes(undisturbed, tmp_path, killed):
    """Killed by SIGKILL: while it reads, each time later, and after 1, 6 and 11 files."""
    calls, groups, *_ = killed(-1)
    out, reads = tmp_path / "out", calls - PARTITIONS
    assert contents(out) == undisturbed
    shutil.rmtree(out)
    for at in (1, reads // 3, reads * 2 // 3, reads, reads + 1, 6, 11):
        assert killed(at) == -signal.SIGKILL
        assert tables.read_manifest(out) is None, "nothing is where readers look"
        assert {p.name[:5] for p in out.iterdir()} == {"lock", tabulate.BUILDING}
    assert killed(-1)[1:] == [groups, groups, 11], "no group or file is made again"
    assert contents(out) == undisturbed


class Faulty(Executor):
    """Does so many jobs, then its worker is dead."""

    def __init__(self, jobs):
        self.jobs = jobs

    def submit(self, fn, /, *args, **kwargs):
        self.jobs -= 1
        if self.jobs < 0:
            raise BrokenExecutor
        done = Future()
        done.set_result(fn(*args, **kwargs))
        return done


@pytest.mark.parametrize("jobs", [0, 9, 20, 29])
def test_a_worker_that_dies_is_said_and_what_is_done_stays_done(tape, undisturbed, tmp_path, jobs):
    with pytest.raises(Failed, match=r"^A worker ended .* --workers 1 .*\.$"):
        tabulate.tabulate(tape, tmp_path, executor=Faulty(jobs))
    assert tables.read_manifest(tmp_path) is None
    made = tabulate.tabulate(tape, tmp_path)
    assert made.result.kept + made.partitions_kept == jobs
    assert contents(tmp_path) == undisturbed


def test_tables_that_are_there_stay_until_the_new_ones_are_whole(tape, undisturbed, tmp_path):
    tabulate.tabulate(tape, tmp_path)
    with pytest.raises(Failed):
        tabulate.tabulate(tape, tmp_path, executor=Faulty(9))
    seen = {path: data for path, data in contents(tmp_path).items() if not path.startswith(".")}
    assert seen == undisturbed


def broken_off(tape, out, jobs=20):
    with pytest.raises(Failed):
        tabulate.tabulate(tape, out, executor=Faulty(jobs))
    (place,) = out.glob(f"{tabulate.BUILDING}*")
    return place


KEPT = {"*.arrow": (0, 0), gather.INDEX: (0, 0), "*.parquet": (10, 9), "reading": (10, 10)}


@pytest.mark.parametrize("what", KEPT)
def test_what_was_left_and_is_not_whole_is_made_again(tape, undisturbed, tmp_path, what):
    place = broken_off(tape, tmp_path)
    file = min(place.rglob(what))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    made = tabulate.tabulate(tape, tmp_path)
    assert (made.result.kept, made.partitions_kept) == KEPT[what]
    assert contents(tmp_path) == undisturbed


def test_what_was_left_of_other_events_is_not_taken(tape, undisturbed, tmp_path):
    place = broken_off(tape, tmp_path, jobs=3)
    index = sorted(place.rglob(gather.INDEX))[1]
    group = kept.kept(index, gather.Group)
    kept.keep(index, msgspec.structs.replace(group, events={"quotes": 1}))
    assert tabulate.tabulate(tape, tmp_path).result.kept == 0
    assert contents(tmp_path) == undisturbed


def test_what_was_left_of_another_tape_or_version_is_cleared(tape, tmp_path, monkeypatch):
    broken_off(tape, tmp_path)
    monkeypatch.setattr(tabulate, "__version__", "another")
    made = tabulate.tabulate(tape, tmp_path)
    assert made.result.kept == made.partitions_kept == 0
    assert list(tmp_path.glob(".*")) == []


# ---- workers of our own -------------------------------------------------------------------------


def test_a_worker_that_dies_for_real_is_one_sentence():
    with (
        crew.crew(None, 2, is_worth_it=lambda: True) as hands,
        pytest.raises(Failed, match="A worker ended"),
    ):
        list(crew.results([crew.Job(os._exit, (1,)), crew.Job(os.getpid, ())], hands))


ORPHANS = """
import os, signal
from perptape import crew
if __name__ == "__main__":
    with crew.crew(None, 1 + 1, is_worth_it=lambda: True) as hands:
        print(*crew.results([crew.Job(os.getpid, ())], hands), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_one_they_work_for(tmp_path):
    """Nobody else would end them: they wait for work for ever."""
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS)
    done = subprocess.run(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    pid, until = int(done.stdout), time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < until, f"{pid} lives on"
        time.sleep(0.02)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_results_come_in_the_order_of_the_jobs_few_at_a_time():
    running, most = [], []

    def job(n):
        running.append(n)
        most.append(len(running))
        time.sleep(0.001 * (7 - n))
        running.remove(n)
        return n

    with ThreadPoolExecutor(8) as pool:
        hands = crew.Hands(pool, 3)
        found = list(crew.results((crew.Job(job, (n,)) for n in range(7)), hands))
    assert found == list(range(7)) and max(most) <= 3
