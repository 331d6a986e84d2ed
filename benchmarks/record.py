"""CPU time per frame of recording a burst, against two others in one run.

``python benchmarks/record.py RECORDING.gz [--tls]``; without a recording, made frames. Prints a
table and appends it, with every run, to RESULTS.md.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec
from burst_server import read_frames, serving
from machine import append_result
from recorders import CLIENTS, Took

HERE = Path(__file__).parent
GATES = {  # (client to compare with, tls) -> (least, most) of perptape's share of its CPU time
    ("notebook", False): 1 / 7,
    ("notebook", True): 1 / 5,
    ("count_only", True): 1.8,
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recording", nargs="?", type=Path, help="gzip lines of `<ns> <json>`")
    words.add_argument("--tls", action="store_true")
    words.add_argument("--frames", type=int, default=400_000)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    runs = measure(given.recording, given.frames, given.rounds, tls=given.tls)
    text = table(runs, given.frames, tls=given.tls)
    print(text)
    if not given.no_save:
        append_result("Record a burst" + (", TLS" if given.tls else ", plain"), text)


def measure(
    recording: Path | None, frames: int, rounds: int, *, tls: bool
) -> dict[str, list[Took]]:
    """Run the clients one after another, round by round, so that a busy machine is busy for all."""
    runs: dict[str, list[Took]] = {name: [] for name in CLIENTS}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(partial(read_frames, recording, frames), Path(folder), tls=tls) as (url, ca),
    ):
        for _ in range(rounds):
            for name in CLIENTS:
                with tempfile.TemporaryDirectory(dir=folder) as place:
                    words = [name, url, str(frames), place, *([str(ca)] if tls else [])]
                    runs[name].append(_run(words))
    return runs


def _run(words: list[str]) -> Took:
    command = [sys.executable, str(HERE / "recorders.py"), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return msgspec.json.decode(done.stdout, type=Took)


def table(runs: dict[str, list[Took]], frames: int, *, tls: bool) -> str:
    """Write medians, ratios against the gates, and every run."""
    us = {name: [took.cpu_s / frames * 1e6 for took in each] for name, each in runs.items()}
    ours = statistics.median(us["perptape"])
    lines = [
        f"{frames:,} frames, {'TLS' if tls else 'plain'}; CPU us per frame, whole process",
        "",
        "| client | median | all runs | frames a read | B a frame on disk |",
        "|---|---|---|---|---|",
    ]
    for name, each in us.items():
        last = runs[name][-1]
        per_read = f"{frames / last.reads:.0f}" if last.reads else ""
        on_disk = f"{last.bytes_on_disk / frames:.1f}" if last.bytes_on_disk else ""
        every = " ".join(f"{value:.2f}" for value in each)
        lines.append(
            f"| {name} | {statistics.median(each):.2f} | {every} | {per_read} | {on_disk} |"
        )
    lines.append("")
    for other in ("notebook", "count_only"):
        share = ours / statistics.median(us[other])
        words = f"{1 / share:.1f}x less CPU than" if share < 1 else f"{share:.2f}x the CPU of"
        gate = GATES.get((other, tls))
        verdict = "" if gate is None else f" (gate {'met' if share <= gate else 'MISSED'})"
        lines.append(f"perptape takes {words} {other}{verdict}.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
