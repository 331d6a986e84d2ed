"""perptape beside its peers, on one loopback server in one run.

    python benchmarks/peers.py [RECORDING.gz] [--quick] [--path P] [--bursts] [--rounds N]

Socket to disk and socket to typed quote; a burst, and frames at a pace; plain and under TLS; then a
burst of each other venue. ``README.md`` says what each client is, and how to install the peers: one
that is not installed is left out. Adds tables to RESULTS.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec
from burst_server import Pace, serving
from machine import append_result
from peer_frames import STREAMS, bare, frames
from peer_job import Job, Ran, written

HERE = Path(__file__).parent
RECORDERS = ("count_only", "notebook", "cryptofeed", "perptape")
READERS = ("notebook", "cryptofeed", "ccxt", "nautilus_trader", "perptape", "perptape by form")
CLIENTS = {"record": RECORDERS, "quotes": READERS}
PEERS = ("cryptofeed", "ccxt", "nautilus_trader")
TITLES = {"record": "Socket to disk", "quotes": "Socket to typed quote"}
GATES = {  # (path, client, tls) -> how many times less CPU is asked of us, and hoped for
    ("record", "cryptofeed", False): (9, 14),
    ("record", "cryptofeed", True): (6, 9),
    ("record", "notebook", False): (7, 9),
    ("record", "notebook", True): (5, 6),
    ("quotes", "cryptofeed", False): (4, 7),
    ("quotes", "cryptofeed", True): (4, 7),
    ("quotes", "nautilus_trader", False): (12, 25),
    ("quotes", "ccxt", False): (18, 35),
    ("quotes", "ccxt", True): (18, 35),
}
OF_COUNTING = 1.8, 1.3
LONGEST_S = 90
BURST = {"record": 200_000, "quotes": 100_000}
OTHERS = {"bybit": 40_000, "htx": 5_000, "gateio": 40_000, "bitget": 40_000}
PACED_S = {2_000: 3, 20_000: 2}


class Scene(NamedTuple):
    """What is played to all clients of one path, in turns."""

    path: str
    venue: str
    tls: bool
    per_s: int
    """0: a burst."""
    count: int
    rounds: int

    def __str__(self) -> str:
        pace = f"{self.per_s:,} frames/s" if self.per_s else "burst"
        return f"{self.venue} {STREAMS[self.venue]}, {'TLS' if self.tls else 'plain'}, {pace}"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recording", nargs="?", type=Path, help="gzip lines of `<ns> <json>`")
    words.add_argument("--quick", action="store_true", help="Binance alone, once, fewer frames")
    words.add_argument("--path", choices=TITLES, help="only this one")
    words.add_argument("--bursts", action="store_true", help="nothing at a pace")
    words.add_argument("--rounds", type=int, help="how often each client has its turn")
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    there = [name for name in PEERS if _installed(name)]
    lines = [_said(there, given.recording), ""]
    for path in [given.path] if given.path else TITLES:
        title = TITLES[path]
        lines += [f"### {title}", "", *HEAD]
        for scene in scenes(path, given):
            print(f"{title}: {scene} ...", file=sys.stderr, flush=True)
            found, notes = play(scene, given.recording, there)
            lines += [*rows(scene, found), *notes]
        lines.append("")
    text = "\n".join(lines)
    print(text)
    if not given.no_save:
        append_result("Peers", text)


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        print(
            f"{name} is not installed here and left out; benchmarks/README.md says how to get it.",
            file=sys.stderr,
        )
        return False
    return True


def _said(there: list[str], recording: Path | None) -> str:
    peers = ", ".join(f"{name} {version(name)}" for name in there) or "none installed"
    played = "recorded" if recording else "made, of the recorded form"
    return (
        f"Peers: {peers}. Binance's frames are {played}; the other venues' are the simulated "
        f"exchanges'. CPU is the whole process's. Load at the start {os.getloadavg()[0]:.1f}."
    )


def scenes(path: str, given: argparse.Namespace) -> Iterator[Scene]:
    """Say what is played, the bursts first."""
    share, rounds = (0.3, 1) if given.quick else (1, 3)
    often, seldom = given.rounds or rounds, given.rounds or min(rounds, 2)
    for tls in (False, True):
        yield Scene(path, "binance", tls, 0, int(BURST[path] * share), often)
    for tls in () if given.bursts else (False, True):
        for per_s, seconds in PACED_S.items():
            count = per_s if given.quick else per_s * seconds
            yield Scene(path, "binance", tls, per_s, count, seldom)
    for venue, count in () if given.quick else OTHERS.items():
        yield Scene(path, venue, tls=False, per_s=0, count=count, rounds=seldom)


Found = dict[str, list[Ran]]


def play(scene: Scene, recording: Path | None, there: list[str]) -> tuple[Found, list[str]]:
    """Let the clients take turns, each in a process of its own; and say who cannot."""
    names = [name for name in CLIENTS[scene.path] if name in there or name not in PEERS]
    found: Found = {name: [] for name in names if name != "count_only" or not scene.per_s}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pace = Pace(scene.per_s, folder / "sent") if scene.per_s else None
        of = (scene.venue, recording, scene.count)
        serve = partial(serving, tls=scene.tls, pace=pace)
        (own := folder / "bare").mkdir()
        with (
            serve(partial(frames, *of), folder) as usual,
            serve(partial(bare, *of), own) as for_ccxt,
        ):
            for _ in range(scene.rounds):
                for name in [name for name in found if name not in notes]:
                    with tempfile.TemporaryDirectory(dir=folder) as own:
                        url, ca = for_ccxt if name == "ccxt" else usual
                        log, trust = pace and pace.log, ca if scene.tls else None
                        asked = (name, scene.path, scene.venue, url, scene.count, Path(own))
                        got = _run(Job(*asked, trust, log))
                    if isinstance(got, str):
                        notes[name] = got
                    else:
                        found[name].append(got)
    return found, [f"| {scene} | {name} | {why} ||||||||" for name, why in notes.items()]


def _run(job: Job) -> Ran | str:
    command = [sys.executable, str(HERE / "peer_client.py"), written(job)]
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command, check=True, capture_output=True, text=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LONGEST_S} s"
    except subprocess.CalledProcessError as error:
        return f"failed: {(error.stderr.strip() or 'without a word').splitlines()[-1]}"
    return msgspec.json.decode(done.stdout, type=Ran | str)


COLUMNS = (
    *("played", "client", "CPU µs a frame", "all runs", "x perptape", "gate"),
    *("latency µs, p50 / p99 / p99.9", "MB", "frames", "B a frame"),
)
HEAD = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]


def rows(scene: Scene, found: Found) -> list[str]:
    """Write one row a client: medians, all runs, and what is missing."""
    us = {name: [ran.cpu_s / scene.count * 1e6 for ran in runs] for name, runs in found.items()}
    ours = statistics.median(us["perptape"])
    lines = []
    for name, runs in found.items():
        if not runs:
            continue
        cost = statistics.median(us[name])
        every = " ".join(f"{value:.2f}" for value in us[name])
        cells = [str(scene), name, f"{cost:.2f}", every, f"{cost / ours:.1f}"]
        by_form = us.get("perptape by form")
        others = [ours, statistics.median(by_form)] if by_form else [ours]
        cells += [verdict(scene, name, [cost / each for each in others]), late(runs)]
        cells += [f"{statistics.median(ran.rss_mb for ran in runs):.0f}", heard(scene, runs)]
        size = statistics.median(ran.disk_b for ran in runs) / scene.count
        lines.append("| " + " | ".join([*cells, f"{size:.1f}" if size else ""]) + " |")
    return lines


def verdict(scene: Scene, name: str, ratios: list[float]) -> str:
    """Hold the ratios to ours, and to ours by form, against the gate of bursts of Binance's."""
    if scene.per_s or scene.venue != "binance":
        return ""
    if (scene.path, name, scene.tls) == ("record", "count_only", True):
        most, best = OF_COUNTING
        share = 1 / ratios[0]
        return f"≤ {most}x: {share:.2f}x {_word(share <= most, share <= best)}"
    if (scene.path, name, scene.tls) not in GATES:
        return ""
    least, stretch = GATES[scene.path, name, scene.tls]
    said = [f"{ratio:.1f}x {_word(ratio >= least, ratio >= stretch)}" for ratio in ratios]
    return f"≥ {least}x: " + ", by form ".join(said)


def _word(is_met: bool, is_stretched: bool) -> str:  # noqa: FBT001
    return "met, and the stretch" if is_stretched else "met" if is_met else "MISSED"


def late(runs: list[Ran]) -> str:
    """Give the medians of the percentiles."""
    known = [ran.latency_us for ran in runs if ran.latency_us is not None]
    return " / ".join(f"{statistics.median(each):.0f}" for each in zip(*known, strict=True))


def heard(scene: Scene, runs: list[Ran]) -> str:
    """Say how many of all that was sent there are: all, or in the worst run."""
    worst = min(ran.got for ran in runs)
    return "all" if worst == scene.count else f"{worst:,} of {scene.count:,}"


if __name__ == "__main__":
    main()
