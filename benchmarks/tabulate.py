"""CPU time per frame from a tape to its tables: in bulk, frame by frame, and decoding alone.

``python benchmarks/tabulate.py VENUE=RECORDING.gz …`` imports the files into two tapes, the quotes
alone and all frames, and takes turns on each: tables with quotes read in bulk by learned forms,
tables frame by frame, and the decoders alone, by form and by msgspec. The files that both ways make
are compared. Then it verifies the tapes, and weighs the quotes.
"""

import argparse
import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import append_result

from perptape import importers, ledger, tabulate, verify
from perptape.decode import decoder
from perptape.errors import BadFrame
from perptape.tape import Batch, Tape
from perptape.templates import Forms, Read, learn

ROUNDS = 5
NEVER = 1 << 62
LAST_DATA = 1
GATE_US = {"quotes only": 1.5}
GATE_B, GATE_GB_S = 9, 1


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recordings", nargs="+", metavar="VENUE=FILE")
    words.add_argument("--rounds", type=int, default=ROUNDS)
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    named = [(venue, Path(path)) for venue, path in (r.split("=", 1) for r in given.recordings)]
    lines = [
        "| tape | way | CPU us a frame, median | all runs | x | |",
        "|---|---|---|---|---|---|",
    ]
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("quotes only", "mixed"):
            tape = Path(folder) / kind.replace(" ", "-")
            fill(named, tape, quotes_only=kind == "quotes only")
            rows, said = measure(kind, tape, given.rounds)
            lines += rows
            notes += said
    text = "\n".join([*lines, "", *notes])
    print(text)
    if not given.no_save:
        append_result("Tape to tables", text)


def fill(named: list[tuple[str, Path]], tape: Path, *, quotes_only: bool) -> None:
    for k, (venue, path) in enumerate(named):
        with gzip.open(path) as file:
            lines = [line for line in file if not quotes_only or b"@bookTicker" in line]
        part = tape.parent / f"{k}.txt"
        part.write_bytes(b"".join(lines))
        importers.run("hftbacktest", [part], tape, venue=venue)
        part.unlink()


def measure(kind: str, tape: Path, rounds: int) -> tuple[list[str], list[str]]:
    """Take turns; give rows of the table, and what else there is to say."""
    out = tape.with_name(f"{tape.name}-tables")
    batches = list(Tape(tape).batches())
    frames = sum(map(len, batches))
    forms = learned(batches)
    ways: dict[str, Callable[[], object]] = {
        "tables, in bulk": lambda: tables(tape, out, at_least=0),
        "tables, frame by frame": lambda: tables(tape, out, at_least=NEVER),
        "decoding alone, by form": lambda: by_form(batches, forms),
        "decoding alone, msgspec": lambda: by_msgspec(batches),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):  # the first compiles, and is not counted
        for way, run in ways.items():
            begun = time.process_time()
            run()
            if turn:
                took[way].append((time.process_time() - begun) / frames * 1e6)
    ours = statistics.median(took["tables, in bulk"])
    rows = [row(kind, way, each, ours) for way, each in took.items()]
    return rows, [*told(kind, tape, out), *verified(kind, tape, batches)]


def tables(tape: Path, out: Path, *, at_least: int) -> tabulate.Tabulated:
    ledger.LONG = at_least
    return tabulate.tabulate(tape, out)


def learned(batches: list[Batch]) -> Forms:
    forms = Forms()
    for venue in {venue for batch in batches for venue in batch.venues.values()}:
        of_venue = (f for batch in batches for f in batch.frames() if f.venue == venue)
        found = (learn(decoder(venue), f.payload) for f in of_venue if f.kind <= LAST_DATA)
        forms.add(venue, next(form for form in found if form is not None))
    return forms


def by_form(batches: list[Batch], forms: Forms) -> None:
    for batch in batches:
        numbers = sorted(batch.venues)
        whose = np.where(batch.kind <= LAST_DATA, np.searchsorted(numbers, batch.wire), -1)
        payload = np.frombuffer(batch.payload, np.uint8)
        venues = [batch.venues[number] for number in numbers]
        forms.match(payload, batch.offsets, whose, venues, Read.empty(len(batch)))


def by_msgspec(batches: list[Batch]) -> None:
    for batch in batches:
        decoders = {wire: decoder(venue) for wire, venue in batch.venues.items()}
        whole, cuts = bytes(batch.payload), batch.offsets.tolist()
        columns = (batch.kind.tolist(), batch.wire.tolist(), cuts, cuts[1:])
        for kind, wire, begin, stop in zip(*columns, strict=False):
            if kind <= LAST_DATA:
                try:
                    decoders[wire](whole[begin:stop])
                except BadFrame:
                    continue


def row(kind: str, way: str, each: list[float], ours: float) -> str:
    median = statistics.median(each)
    gate = GATE_US.get(kind) if way == "tables, in bulk" else None
    verdict = "" if gate is None else f"≤ {gate} {'met' if median <= gate else 'MISSED'}"
    every = " ".join(f"{us:.2f}" for us in each)
    return f"| {kind} | {way} | {median:.2f} | {every} | {median / ours:.1f} | {verdict} |"


def told(kind: str, tape: Path, out: Path) -> list[str]:
    """Compare what both ways make, and weigh the quotes."""
    slow, fast = (tables(tape, out, at_least=n) for n in (NEVER, 0))
    is_same = slow.manifest == fast.manifest and slow.result.intervals == fast.result.intervals
    files = [f for f in fast.manifest.files if f.path.startswith("quotes/")]
    quotes = sum(f.rows for f in files)
    each = sum((out / f.path).stat().st_size for f in files) / quotes
    verdict = "met" if each <= GATE_B else "MISSED"
    same = "the same to the byte" if is_same else "NOT THE SAME"
    missed = f"{1 - fast.in_bulk / quotes:.3%} missed"
    read = f"{quotes:,} quotes, of which {fast.in_bulk:,} were read by form ({missed})"
    return [
        f"{kind}: {fast.result.frames:,} frames, {read}; the files of both ways are {same}.",
        f"{kind}: {each:.1f} B a quote in Parquet (≤ {GATE_B} {verdict}).",
    ]


def verified(kind: str, tape: Path, batches: list[Batch]) -> list[str]:
    payload = sum(len(batch.payload) for batch in batches)
    took = []
    ledger.LONG = 0
    for _ in range(ROUNDS):
        begun = time.process_time()
        verify.verify(tape)
        took.append(time.process_time() - begun)
    rate = payload / statistics.median(took) / 1e9
    verdict = "met" if rate >= GATE_GB_S else "MISSED"
    return [
        f"{kind}: verify reads {rate:.3f} GB of payload a second of CPU (≥ {GATE_GB_S} {verdict})."
    ]


if __name__ == "__main__":
    main()
