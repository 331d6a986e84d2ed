"""All pairs of 10 venues from the quotes table to finished JSON: time and memory by length.

    python benchmarks/long_tapes.py DIR RECORDING.gz… [--quotes N] [--rounds N]

Makes tables of N / 10 and of N quotes in DIR, if they are not there: real gaps between quotes, of
the recordings (lines of `<receive time in ns> <JSON>`), over and over; prices a walk that every
venue sees 1 bp from the next. Each run is a fresh process, from its start to the JSON on disk.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from machine import append_result

from perptape.tables import Manifest, PartitionWriter, TableFile, date_of, replace_all

VENUES, AT_ONCE, DAY_NS = 10, 1_000_000, 86_400 * 10**9
START = 1_700_000_000 * 10**9
LONGEST_NS = 10**9
"""A longer gap of a recording is not taken."""
TIME = pa.timestamp("ns", "UTC")
MEASURE = """
import json, resource, sys, time
begun = time.perf_counter() - (time.time() - float(sys.argv[4]))
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from perptape import tables
from perptape.crew import processors
from perptape.measures import gaps

def main():
    root, way = Path(sys.argv[1]), sys.argv[2]
    processes = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
    makers = {"processes": processes, "threads": ThreadPoolExecutor}
    executor = makers[way](processors()) if way in makers else None
    quotes, ledger = (tables.scan(root, name, base="BTC") for name in ("quotes", "ledger"))
    if way == "memory":
        quotes = quotes.collect()
    loaded = (time.perf_counter(), time.process_time())
    Path(sys.argv[3]).write_bytes(gaps(quotes, ledger, executor=executor).to_json())
    wall_s = time.perf_counter() - (loaded[0] if way == "memory" else begun)
    if executor is not None:
        executor.shutdown()
    own, theirs = (resource.getrusage(who) for who in (0, resource.RUSAGE_CHILDREN))
    cpu_s = sum(u.ru_utime + u.ru_stime for u in (own, theirs))
    cpu_s -= loaded[1] if way == "memory" else 0
    peak_mb = (own.ru_maxrss + theirs.ru_maxrss * (processors() if way == "processes" else 0)) / 1e3
    print(json.dumps([wall_s, cpu_s, peak_mb]))

if __name__ == "__main__":
    main()
"""


def gaps_of(recordings: list[Path]) -> np.ndarray:
    times = []
    for recording in recordings:
        with gzip.open(recording, "rt") as lines:
            times += [int(line.split(" ", 1)[0]) for line in lines if '"B":' in line]
    gaps = np.diff(np.sort(times))
    return gaps[gaps < LONGEST_NS]


def made(n: int, gaps: np.ndarray) -> Iterator[pa.Table]:
    """Give the quotes, in pieces."""
    rng, ts_last, walk = np.random.default_rng(1), START, 0.0
    names = pa.array([f"venue{k}" for k in range(VENUES)])
    for first in range(0, n, AT_ONCE):
        seq = np.arange(first, min(first + AT_ONCE, n))
        ts = ts_last + np.cumsum(gaps[seq % len(gaps)])
        walks = walk + np.cumsum(rng.normal(0, 2e-6, len(seq)))
        ts_last, walk = int(ts[-1]), walks[-1]
        venue = rng.integers(0, VENUES, len(seq), np.int32)
        bid = (60_000 * np.exp(walks) * (1 + 1e-4 * venue)).round(1)
        late = rng.exponential(4e6, len(seq)).astype(np.int64)
        yield pa.table(
            {
                "venue": pa.DictionaryArray.from_arrays(pa.array(venue), names),
                "instrument": pa.array(["BTC-USDT-PERP"]).dictionary_encode().take([0] * len(seq)),
                "seq": seq.astype(np.uint64),
                "ts_recv": pa.array(ts).cast(TIME),
                "ts_event": pa.array((ts - late) // 10**6 * 10**6).cast(TIME),
                "ts_send": pa.nulls(len(seq), TIME),
                "bid_price": bid,
                "bid_size": rng.exponential(1, len(seq)).round(3),
                "ask_price": bid + 0.1,
                "ask_size": rng.exponential(1, len(seq)).round(3),
                "update_id": pa.nulls(len(seq), pa.int64()),
            }
        )


def make(root: Path, n: int, gaps: np.ndarray) -> None:
    """Write the tables as ``tabulate`` does, a file a day."""
    place = root / "made"
    files: list[TableFile] = []
    writer, day, first, last = None, -1, 0, 0
    for rows in made(n, gaps):
        ts = rows["ts_recv"].cast(pa.int64()).to_numpy()
        first, last = first or int(ts[0]), int(ts[-1])
        for each in np.unique(ts // DAY_NS).tolist():
            if each != day:
                files += [writer.close()] if writer else []
                writer = PartitionWriter(place, "quotes", base="BTC", date=date_of(each * DAY_NS))
                day = each
            start, stop = np.searchsorted(ts // DAY_NS, [each, each + 1])
            writer.write(rows.slice(start, stop - start))
    ledger = PartitionWriter(place, "ledger", base="BTC", date=date_of(first))
    ledger.write(heard(first, last))
    files += [writer.close(), ledger.close()]
    replace_all(root, place, Manifest("made", sorted(files, key=lambda file: file.path)))
    shutil.rmtree(place)


def heard(first: int, last: int) -> pa.Table:
    """All of it trusted."""
    same = {
        "instrument": "BTC-USDT-PERP", "channel": "quotes", "state": "trusted",
        "reason": "shutdown",
    }  # fmt: skip
    return pa.table(
        {
            "venue": pa.array([f"venue{k}" for k in range(VENUES)]).dictionary_encode(),
            **{
                name: pa.array([value] * VENUES).dictionary_encode() for name, value in same.items()
            },
            "ts_start": pa.array([first] * VENUES).cast(TIME),
            "ts_end": pa.array([last] * VENUES).cast(TIME),
            "detail": pa.array([""] * VENUES),
        }
    ).select(["venue", "instrument", "channel", "ts_start", "ts_end", "state", "reason", "detail"])


def measured(root: Path, way: str, found: Path) -> tuple[float, float, float]:
    """Wall s, CPU s and peak MB of a fresh process."""
    script = found.with_suffix(".py")
    script.write_text(MEASURE)
    words = [sys.executable, str(script), str(root), way, str(found), str(time.time())]
    done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    wall_s, cpu_s, peak_mb = json.loads(done.stdout)
    return wall_s, cpu_s, peak_mb


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dir", type=Path)
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--quotes", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    roots = {n: asked.dir / str(n) for n in (asked.quotes // 10, asked.quotes)}
    for n, root in roots.items():
        if not root.exists():
            make(root, n, gaps_of(asked.recordings))
    ways = ("default", "threads", "processes", "memory")
    runs = [(n, way) for n in roots for way in ways]
    spent = {run: [] for run in runs}
    answers: dict[int, set[bytes]] = {n: set() for n in roots}
    for _ in range(asked.rounds):
        for n, way in runs:
            found = asked.dir / "found.json"
            spent[n, way].append(measured(roots[n], way, found))
            answers[n].add(found.read_bytes())
    lines = [
        f"{VENUES} venues, all {VENUES * (VENUES - 1)} pairs; load {os.getloadavg()[0]:.1f}.",
        "",
    ]
    lines += ["| quotes | way | wall s, all runs | CPU s | CPU ns a quote | peak MB |"]
    lines += ["|---|---|---|---|---|---|"]
    for (n, way), each in spent.items():
        walls, cpus, peaks = (sorted(column) for column in zip(*each, strict=True))
        wall, cpu_s = " ".join(f"{x:.1f}" for x in walls), cpus[len(cpus) // 2]
        lines.append(
            f"| {n:,} | {way} | {wall} | {cpu_s:.1f} | {cpu_s / n * 1e9:.0f} | {peaks[-1]:.0f} |"
        )
    same = all(len(each) == 1 for each in answers.values())
    lines += ["", "All runs of one table gave the same bytes." if same else "BYTES DIFFER."]
    print("\n".join(lines))
    append_result("All pairs at scale", "\n".join(lines))


if __name__ == "__main__":
    main()
