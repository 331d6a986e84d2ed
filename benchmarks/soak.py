"""An hour of all channels on seven venues with faults: does memory stay, is all told.

    python benchmarks/soak.py [--for 3600] [--keep DIR]

Simulated venues play ``soak.toml`` in a process of their own while a recorder records them; every
five seconds its memory and open descriptors are looked at. What was recorded is then held against
the truth file by ``ledger.py``. With the default that is an hour in real time.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from ledger import faults_of, follow, report
from machine import append_result
from scipy.stats import linregress

from perptape.events import NS
from perptape.sims import VENUES
from perptape.tape import Tape

SCENARIO = Path(__file__).with_suffix(".toml")
NAMES = ("BTC-USDT", "ETH-USDT", "BTC-USD", "ETH-USD")
"""One of the seven quotes in USD."""
CHANNELS = "quotes,books,trades,marks,funding"
EVERY_S, SLACK_S = 5, 15
SEEN = ("MB resident", "of them its own", "of them of files, the tail's too", "descriptors")
PARTS = 10
WARM = 0.1
"""Share of the time that is left out of the slopes: what is learned is learned by then."""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--for", type=int, default=3600, dest="seconds")
    words.add_argument("--keep", type=Path, help="where tape and truth are to stay")
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        lines = told(recorded(place, given.seconds)) + judged(place)
    print("\n".join(lines))
    if not given.no_save:
        append_result("Soak", "\n".join(lines))


def recorded(place: Path, seconds: int) -> np.ndarray:
    """Record so long; give [n, 5]: seconds since the start, then :data:`SEEN`."""
    begun, seen = time.monotonic(), []
    with ExitStack() as running:
        words = ["--scenario", str(SCENARIO), "--port", "0", "--truth", str(place / "truth.jsonl")]
        sims = running.enter_context(started(["sim", *words], stdout=subprocess.PIPE))
        running.callback(sims.terminate)
        urls = (sims.stdout.readline() if sims.stdout else b"").decode().split()
        words = [*NAMES, "--venues", ",".join(VENUES), "--channels", CHANNELS, *urls]
        words += ["--for", f"{seconds}s", "--tape", str(place / "tape"), "--json"]
        recorder = running.enter_context(started(["record", *words], stdout=subprocess.DEVNULL))
        while recorder.poll() is None:
            seen.append((time.monotonic() - begun, *weighed(recorder.pid)))
            time.sleep(EVERY_S)
        if recorder.returncode:
            sys.exit(f"The recorder ended with {recorder.returncode}.")
    return np.array([row for row in seen if row[1]][:-1])  # the last may be of its end


def started(words: list[str], stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "perptape", *words], stdout=stdout)  # noqa: S603


def weighed(pid: int) -> tuple[float, ...]:
    """Give what :data:`SEEN` names; 0 of a process that is gone."""
    place = Path(f"/proc/{pid}")
    try:
        rows = [row.split() for row in (place / "status").read_text().splitlines()]
        mb = {row[0]: int(row[1]) / 1024 for row in rows if row[-1] == "kB"}
        sizes = (mb.get(name, 0.0) for name in ("VmRSS:", "RssAnon:", "RssFile:"))
        return (*sizes, float(len(list((place / "fd").iterdir()))))
    except OSError:
        return (0.0,) * len(SEEN)


def told(seen: np.ndarray) -> list[str]:
    kept = seen[seen[:, 0] > WARM * seen[-1, 0]]
    hours = kept[:, 0] / 3600
    lines = [
        f"{seen[-1, 0]:.0f} s; the first tenth is left out.",
        "",
        "| of the recorder | least | mean | most | slope an hour | its error |",
        "|---|---|---|---|---|---|",
    ]
    for column, name in enumerate(SEEN, 1):
        values = kept[:, column]
        slope, error = sloped(hours, values)
        lines.append(
            f"| {name} | {values.min():.0f} | {values.mean():.1f} | {values.max():.0f} | "
            f"{slope:+.1f} | ± {error:.1f} |"
        )
    return [*lines, ""]


def sloped(hours: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Give the slope, and twice its standard error over ten means, which hardly depend."""
    parts = min(PARTS, len(hours))
    x, y = (np.array([part.mean() for part in np.array_split(a, parts)]) for a in (hours, values))
    fit = linregress(x, y)
    return float(fit.slope), 2 * float(fit.stderr)


def judged(place: Path) -> list[str]:
    frames, found = follow(Tape(place / "tape"))
    return report(frames, found, faults_of(place / "truth.jsonl"), SLACK_S * NS, show=False)


if __name__ == "__main__":
    main()
