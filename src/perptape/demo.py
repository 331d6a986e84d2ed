"""The whole path offline: simulated exchanges, a recording of them, tables, a report."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from perptape import plan, screen
from perptape.errors import BadUsage, Failed

VENUES = ("bitget", "htx", "gateio", "bybit")
"""Those that its scenario plants episodes on."""
CHANNELS = ("quotes", "books", "trades", "marks", "funding")
Say = Callable[[object], None]
READY = "--url"
"""The simulators are listening when they print the words that ``record`` takes."""
LEAVE_S = 5.0
COMPILE = """
import shutil, sys, tempfile, time
from pathlib import Path
from perptape import report
time.sleep(8)
with tempfile.TemporaryDirectory() as place:
    copy = Path(place, "tape")
    shutil.copytree(sys.argv[1], copy)
    report.build(report.Asked(tapes=(copy,)))
"""


def run(out: Path | None, for_: str, *, seed: int | None, say: Say) -> int:
    """Make everything in a new directory and say where the report is."""
    place = out or _free(Path("demo"))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise BadUsage(f"--out {place} is not empty: name a new directory.")
    place.mkdir(parents=True, exist_ok=True)
    tape = place / "tape"
    with _exchanges(place / "truth.jsonl", seed) as process:
        from perptape import report, verify  # noqa: PLC0415 - seconds, while the exchanges start
        from perptape.tabulate import tabulate  # noqa: PLC0415

        choice = plan.choose(
            instruments=["BTC-USDT", "ETH-USDT"],
            venues=VENUES,
            channels=CHANNELS,
            duration=for_,
            tape=tape,
            urls=_urls(process),
        )
        with _compiling(tape):
            code = screen.record(choice, as_json=not sys.stdout.isatty(), say=lambda _: None)
    if code:
        return code
    say("Reading the ledger ...")
    say(verify.sentence(verify.verify(tape)))
    tabulate(tape)
    made = report.build(report.Asked(tapes=(tape,)))
    report.write(made, page=place / "report.html", json=place / "report.json", png=None)
    say(f"The tape:   {tape}\nThe truth:  {place / 'truth.jsonl'}")
    say(f"The report: {(place / 'report.html').resolve()}")
    return 0


def _free(path: Path) -> Path:
    """Give the path, or the first ``path-N`` that is not there yet."""
    n, free = 1, path
    while free.exists():
        n += 1
        free = path.with_name(f"{path.name}-{n}")
    return free


@contextmanager
def _exchanges(truth: Path, seed: int | None) -> Iterator["subprocess.Popen[str]"]:
    """Run the simulators in a process of their own."""
    words = [sys.executable, "-m", "perptape", "sim", "--port", "0", "--truth", str(truth)]
    words += ["--venues", ",".join(VENUES)]
    words += [] if seed is None else ["--seed", str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def _compiling(tape: Path) -> Iterator[None]:
    """While it records for the first time, let a process of its own compile what reads tapes.

    It takes a quarter of a minute, once a machine: a report on a copy of the first seconds.
    """
    words = ["nice", "-n", "19", sys.executable, "-c", COMPILE, str(tape)]
    if any(Path(__file__).parent.glob("__pycache__/sweep*.nbi")):
        yield
        return
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own
        try:
            yield
        finally:
            process.kill()


def _urls(process: subprocess.Popen[str]) -> list[str]:
    """Wait until the simulators listen, and give the words that point at them."""
    for line in process.stdout or ():
        if READY in line:
            words = line.split()
            return [word for before, word in pairwise(words) if before == READY]
    raise Failed("The simulated exchanges did not start: try `perptape sim` and see what it says.")
