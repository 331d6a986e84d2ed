"""Has a stage become twice as slow? Our CPU time, as a ratio to something that does not change.

    python benchmarks/guard.py [--show]

Each stage runs beside a baseline (the standard library's JSON parser over the same frames, polars'
as-of join, a book of dictionaries), both in turns, the best of each; the ratio is compared with the
one in ``guard.toml``, which was measured in the same way. A ratio worse than twice that in three
attempts ends with 1. ``--show`` prints the ratios as ``guard.toml`` has them.
"""

import argparse
import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from align import quotes, ways
from books import dictionaries, kernel
from burst_server import read_frames

from perptape.decode import decoder
from perptape.events import Book, Kind, Opened
from perptape.tabulate import tabulate
from perptape.tape import TapeWriter
from perptape.verify import verify

FRAMES, READ = 300_000, 8
SAMPLE = 50_000
"""Frames for the baseline, and for what takes as long a frame."""
QUOTES, VENUES = 200_000, 6
LEVELS, UPDATES = 20, 500
BEGUN = 1_700_000_000 * 10**9
ROUNDS, ATTEMPTS, WORSE = 3, 3, 2.0
DISK_S = 0.01
EXPECTED = Path(__file__).with_suffix(".toml")
Run = Callable[[], object]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--show", action="store_true", help="print what guard.toml should hold")
    given = words.parse_args()
    expected = tomllib.loads(EXPECTED.read_text())
    with tempfile.TemporaryDirectory() as folder:
        stages = dict(made(Path(folder)))
        if given.show:
            for name, (ours, baseline) in stages.items():
                print(f"{name} = {ratio(ours, baseline):.3g}")
            return
        slow = [name for name, pair in stages.items() if not is_kept(name, pair, expected[name])]
    if slow:
        sys.exit(f"More than {WORSE:g} times slower than it was: {', '.join(slow)}.")


def is_kept(name: str, pair: tuple[Run, Run], expected: float) -> bool:
    """Compare, and again where a neighbour may have been in the way."""
    for _ in range(ATTEMPTS):
        found = ratio(*pair)
        print(f"{name}: {found:.3g} of its baseline, {expected:.3g} expected", flush=True)
        if found <= WORSE * expected:
            return True
    return False


def ratio(ours: Run, baseline: Run) -> float:
    """CPU time of ours in units of the baseline's, each run as large as it is here."""
    ours()  # what is compiled is compiled here
    took = [(cpu(ours), cpu(baseline)) for _ in range(ROUNDS)]
    return min(o for o, _ in took) / min(b for _, b in took)


def cpu(run: Run) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def made(folder: Path) -> Iterator[tuple[str, tuple[Run, Run]]]:
    """Give each stage: ours, and its baseline."""
    frames = read_frames(None, FRAMES)
    decode = decoder("binance")
    tape = folder / "tape"
    record(tape, frames)
    parsed: Run = lambda: [json.loads(frame) for frame in frames[:SAMPLE]]  # noqa: E731
    yield "record", (lambda: record(folder / f"{time.monotonic_ns()}", frames), parsed)
    yield "decode", (lambda: [decode(frame) for frame in frames[:SAMPLE]], parsed)
    yield "tabulate", (lambda: tabulate(tape, folder / "tables"), parsed)
    yield "verify", (lambda: verify(tape), parsed)
    each = ways(quotes(QUOTES, VENUES))
    yield "gaps", (each["gaps"][0], each["polars join_asof"][0])
    updates = list(booked())
    yield "books", (kernel(updates), dictionaries(updates))


def record(path: Path, frames: list[bytes]) -> None:
    """Append reads of a few frames each, as a quiet connection brings them."""
    opened = msgspec.json.encode(Opened("binance", "", subscriptions=(), imported=True))
    with TapeWriter(path) as tape:
        wire = tape.new_wire("binance")
        tape.append(wire, Kind.OPENED, [opened], BEGUN, 0)
        for first in range(0, len(frames), READ):
            mono = first * 1000 + 1
            tape.append(wire, Kind.TEXT, frames[first : first + READ], BEGUN + mono, mono)
            tape.tick(time.monotonic_ns())
            while tape.full:
                time.sleep(DISK_S)
                tape.tick(time.monotonic_ns())


def booked() -> Iterator[Book]:
    """Give updates of one book: some levels a side near a price that walks."""
    for n in range(UPDATES):
        price = 60_000 + n * 7919 % 1009 / 10
        bids = [(price - k / 10, (n * 31 + k) % 97 / 10) for k in range(LEVELS)]
        asks = [(price + (k + 1) / 10, (n * 17 + k) % 89 / 10) for k in range(LEVELS)]
        yield Book("BTCUSDT", None, None, bids, asks, is_snapshot=False)


if __name__ == "__main__":
    main()
