"""CPU ns a level to keep an order book: our kernel, and dictionaries as most clients keep them.

``python benchmarks/books.py RECORDING.gz`` takes a Binance USD-M recording (``ns JSON`` a line),
and applies its depth updates, all of them again and again for a second or so, in one run.
"""

import argparse
import gzip
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
from machine import append_result

from perptape.book import Books
from perptape.decode import decoder
from perptape.events import Book

SECONDS = 1.0
RUNS = 5
GATE_NS = 50


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recording", type=Path)
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    updates = read(given.recording)
    rows = sum(len(u.bids) + len(u.asks) for u in updates)
    ours, dicts = cost(kernel(updates), rows), cost(dictionaries(updates), rows)
    verdict = f"≤ {GATE_NS} {'met' if ours <= GATE_NS else 'MISSED'}"
    lines = [
        f"{len(updates):,} updates of one book, {rows:,} levels; median of {RUNS} runs.",
        "",
        "| how | CPU ns a level | x ours | gate |",
        "|---|---|---|---|",
        f"| kernel, best prices after every update | {ours:.1f} | 1 | {verdict} |",
        f"| dictionaries, best prices by min and max | {dicts:.0f} | {dicts / ours:.0f} | |",
    ]
    print("\n".join(lines))
    if not given.no_save:
        append_result("Order books", "\n".join(lines))


def read(path: Path) -> list[Book]:
    decode = decoder("binance")
    with gzip.open(path) as file:
        frames = (line.split(b" ", 1)[1].strip() for line in file if b"@depth" in line)
        events = [event for frame in frames for event in decode(frame)]
    books = [event for event in events if isinstance(event, Book)]
    first = books[0].symbol
    return [book for book in books if book.symbol == first]


def kernel(updates: list[Book]) -> Callable[[], object]:
    levels = np.array([*chain.from_iterable(chain(u.bids, u.asks) for u in updates)])
    sides = np.concatenate([np.repeat([0, 1], [len(u.bids), len(u.asks)]) for u in updates])
    counts = [len(u.bids) + len(u.asks) for u in updates]
    books = Books()
    number = books.new()
    arrays = (
        np.cumsum([0, *counts]), np.full(len(updates), number), np.zeros(len(updates), np.bool_),
        sides.astype(np.int8), levels[:, 0].copy(), levels[:, 1].copy(),
    )  # fmt: skip
    return lambda: books.apply(*arrays)


def dictionaries(updates: list[Book]) -> Callable[[], object]:
    def apply() -> list[tuple[float, float]]:
        bids: dict[float, float] = {}
        asks: dict[float, float] = {}
        tops = []
        for update in updates:
            for side, changes in ((bids, update.bids), (asks, update.asks)):
                for price, size in changes:
                    if size:
                        side[price] = size
                    else:
                        side.pop(price, None)
            tops.append((max(bids, default=0.0), min(asks, default=0.0)))
        return tops

    return apply


def cost(apply: Callable[[], object], rows: int) -> float:
    """CPU ns a level, the median of some runs of about a second each."""
    apply()  # compiled, and warm
    found = []
    for _ in range(RUNS):
        times, begun = 0, time.process_time_ns()
        while time.process_time_ns() - begun < SECONDS * 1e9:
            apply()
            times += 1
        found.append((time.process_time_ns() - begun) / times / rows)
    return float(np.median(found))


if __name__ == "__main__":
    main()
