"""One recorder with all channels of 200 coins on seven venues: what it carries, and what gives way.

    python benchmarks/scale.py [--coins N] [--for 20] [--rates 0.25,0.5,1,2]

The simulated venues run in a process each and log what they send and when; every rate (of book
updates a second, of each market) is a recording of its own, judged by those logs: what came was on
the tape in order, what had not been read at the end, and how long frames waited on their way. On a
machine with few cores it is the simulators that give way first: their share is told beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from machine import append_result

from perptape.events import Kind, Note
from perptape.sims import VENUES
from perptape.sims.truth import read_sent
from perptape.tape import Tape

COINS, SECONDS, RATES = 200, 20, "0.25,0.5,1,2"
CHANNELS = "quotes,books,trades,marks,funding"
MS = 10**6
SIDES = ("ALL-USDT", "ALL-USD")
"""One of the seven quotes in USD."""

HEAD = (
    "| updates a market | live | frames/s | not read at the end | altered | waited p50 / p99 / "
    "p99.9 ms | most backlog | recorder's CPU | RSS | simulators' CPU | overloads noted |"
)


class Row(NamedTuple):
    """What came of one recording."""

    rate: float
    live: int
    frames: int
    unread: int
    wrong: int
    waited_ms: tuple[float, float, float]
    backlog: int
    cpu: float
    rss_mb: float
    sims_cpu: float
    overloads: int


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--coins", type=int, default=COINS)
    words.add_argument("--for", type=int, default=SECONDS, dest="seconds")
    words.add_argument("--rates", default=RATES)
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    lines = [
        f"{given.coins} coins x {len(VENUES)} venues x 5 channels, {given.seconds} s each",
        "",
        HEAD,
        "|---" * 11 + "|",
    ]
    for rate in map(float, given.rates.split(",")):
        with tempfile.TemporaryDirectory() as place:
            lines.append(line(measure(Path(place), given.coins, rate, given.seconds), given))
            print(lines[-1], flush=True)
    print("\n".join(lines))
    if not given.no_save:
        append_result("Scale", "\n".join(lines))


def line(row: Row, given: argparse.Namespace) -> str:
    waited = " / ".join(f"{ms:.1f}" for ms in row.waited_ms)
    cells = (
        f"{row.rate:g}/s", f"{row.live}", f"{row.frames / given.seconds:,.0f}", f"{row.unread:,}",
        f"{row.wrong}", waited, f"{row.backlog:,}", f"{row.cpu / given.seconds:.0%}",
        f"{row.rss_mb:.0f} MB", f"{row.sims_cpu / given.seconds:.0%}", f"{row.overloads}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def measure(place: Path, coins: int, rate: float, seconds: int) -> Row:
    with simulators(place, coins, rate) as (urls, pids):
        before = sum(map(cpu_s, pids))
        backlog, live, cpu, rss = recorded(place, urls, seconds)
        sims_cpu = sum(map(cpu_s, pids)) - before
    tape = Tape(place / "tape")
    frames, unread, wrong, waits = judged(tape, logs(place))
    at = np.percentile(np.array(waits or [0]) / MS, (50, 99, 99.9))
    p50, p99, p999 = map(float, at)
    return Row(
        rate, live, frames, unread, wrong, (p50, p99, p999), backlog, cpu, rss, sims_cpu,
        overloads(tape),
    )  # fmt: skip


@contextmanager
def simulators(place: Path, coins: int, rate: float) -> Iterator[tuple[list[str], list[int]]]:
    """Start a process a venue; give words for the recorder, and the processes' numbers."""
    names = ", ".join(f'"COIN{n}-USDT"' for n in range(1, coins + 1))
    slower = "".join(f"[venues.{v}]\ntrades_per_s = {rate / 5}\n" for v in VENUES)
    scenario = place / "scenario.toml"
    scenario.write_text(f"instruments = [{names}]\nupdates_per_s = {rate}\n{slower}")
    with ExitStack() as running:
        begun = []
        for venue in VENUES:
            words = ["sim", "--venues", venue, "--port", "0", "--scenario", str(scenario)]
            words += ["--log", str(place / venue)]
            process = subprocess.Popen(  # noqa: S603 - our own
                [sys.executable, "-m", "perptape", *words], stdout=subprocess.PIPE, text=True
            )
            running.callback(process.wait)
            running.callback(process.terminate)
            begun.append(process)
        urls = [word for each in begun if each.stdout for word in each.stdout.readline().split()]
        yield urls, [process.pid for process in begun]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def recorded(place: Path, urls: list[str], seconds: int) -> tuple[int, int, float, float]:
    """Record; give (greatest backlog, markets live at the end, CPU s, RSS in MB)."""
    words = ["record", *SIDES, "--venues", ",".join(VENUES), "--channels", CHANNELS, *urls]
    words += ["--for", f"{seconds}s", "--tape", str(place / "tape"), "--json"]
    with subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-m", "perptape", *words], stdout=subprocess.PIPE
    ) as process:
        backlog, states = 0, {}
        for told in process.stdout or ():
            status = json.loads(told)
            backlog = max(backlog, status["backlog_frames"])
            states[status["market"]] = status["state"]
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    live = sum(state == "live" for state in states.values())
    return backlog, live, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def logs(place: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Give what each venue sent on each connection: CRCs and times (ns)."""
    found = defaultdict(list)
    for path in place.glob("*/*.sent"):
        header, sent = read_sent(path)
        found[header.venue].append(
            (np.array([s.crc32 for s in sent], np.uint32), np.array([s.ts_send for s in sent]))
        )
    return found


def judged(tape: Tape, sent: dict) -> tuple[int, int, int, list[int]]:
    """Compare each wire with the log that begins as it does; give what `Row` has of it."""
    wires = defaultdict(list)
    for frame in tape.frames():
        if frame.kind in {Kind.TEXT, Kind.BINARY}:
            wires[frame.venue, frame.wire].append((zlib.crc32(frame.payload), frame.ts_recv))
    frames = unread = wrong = 0
    waits: list[int] = []
    for (venue, _), heard in wires.items():
        crcs, times = (np.array(column) for column in zip(*heard, strict=True))
        log = next(((c, t) for c, t in sent[venue] if np.array_equal(c[: len(crcs)], crcs)), None)
        frames += len(crcs)
        if log is None:
            wrong += len(crcs)
            continue
        unread += len(log[0]) - len(crcs)
        waits += (times - log[1][: len(crcs)]).tolist()
    return frames, unread, wrong, waits


def overloads(tape: Tape) -> int:
    notes = (f.payload for f in tape.frames() if f.kind == Kind.NOTE)
    return sum(msgspec.json.decode(note, type=Note).note == "overload" for note in notes) // 2


if __name__ == "__main__":
    main()
