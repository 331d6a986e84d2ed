"""CPU time per frame from a tape to its tables: in bulk, frame by frame, and decoding alone.

``python benchmarks/tabulate.py VENUE=RECORDING.gz … [--tape DIR]`` imports the files into two
tapes, the quotes alone and all frames, and takes turns on each, and on one that perptape recorded:
tables with quotes and books read in bulk by learned forms, tables frame by frame, and the decoders
alone, by form and by msgspec, of the frames that a form fits. The files that both ways make are
compared. Then it counts the levels of books that one core reads by form in a second, and the frames
that no form fits, verifies the tapes, and weighs the quotes.
"""

import argparse
import gzip
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import append_result
from numpy.typing import NDArray

from perptape import importers, ledger, tabulate, verify
from perptape.decode import decoder
from perptape.errors import BadFrame
from perptape.events import CHANNELS
from perptape.lanes import ANY_NUMBER
from perptape.learning import learn, shortened
from perptape.tape import Batch, Tape
from perptape.templates import Forms, Read

ROUNDS = 5
NEVER = 1 << 62
LAST_DATA = 1
GATE_US = {"quotes only": 1.5}
GATE_B, GATE_GB_S = 9, 1
GATE_LEVELS_S = 20e6


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recordings", nargs="+", metavar="VENUE=FILE")
    words.add_argument("--tape", type=Path, help="a recorded tape, which stays as it is")
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
            rows, said = measure(kind, tape, tape.with_name(f"{tape.name}-tables"), given.rounds)
            lines += rows
            notes += said
        if given.tape:
            rows, said = measure("recorded", given.tape, Path(folder) / "tables", given.rounds)
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


def measure(kind: str, tape: Path, out: Path, rounds: int) -> tuple[list[str], list[str]]:
    """Take turns; give rows of the table, and what else there is to say."""
    batches = list(Tape(tape).batches())
    frames = sum(map(len, batches))
    forms = learned(batches)
    known = fitting(batches, forms)
    fit, levels = sum(rows.size for rows, _ in known), sum(count for _, count in known)
    ways: dict[str, Callable[[], object]] = {
        "tables, in bulk": lambda: tables(tape, out, at_least=0),
        "tables, frame by frame": lambda: tables(tape, out, at_least=NEVER),
        "decoding alone, by form": lambda: by_form(batches, forms),
        "decoding alone, msgspec": lambda: by_msgspec(batches, known),
    }
    counted = [frames, frames, fit, fit]
    took: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):  # the first compiles, and is not counted
        for (way, run), count in zip(ways.items(), counted, strict=True):
            begun = time.process_time()
            run()
            if turn:
                took[way].append((time.process_time() - begun) / count * 1e6)
    ours = statistics.median(took["tables, in bulk"])
    rows = [row(kind, way, each, ours) for way, each in took.items()]
    said = f"{kind}: {fit:,} of {frames:,} frames fit a form; they have {levels:,} levels of books."
    read = [*levels_read(kind, batches, forms), *missed(kind, batches, known)]
    return rows, [said, *read, *told(kind, tape, out), *verified(kind, tape, batches)]


def tables(tape: Path, out: Path, *, at_least: int) -> tabulate.Tabulated:
    ledger.LONG = at_least
    return tabulate.tabulate(tape, out)


def learned(batches: list[Batch]) -> Forms:
    """Learn of every shape of frame once."""
    forms, seen = Forms(), set[tuple[str, bytes]]()
    for frame in (f for batch in batches for f in batch.frames() if f.kind <= LAST_DATA):
        shape = frame.venue, ANY_NUMBER.sub(b"0", shortened(frame.payload))
        if shape not in seen:
            seen.add(shape)
            form = learn(decoder(frame.venue), frame.payload)
            if form is not None:
                forms.add(frame.venue, form)
    return forms


def read_by(batch: Batch, forms: Forms) -> Read:
    numbers = sorted(batch.venues)
    whose = np.where(batch.kind <= LAST_DATA, np.searchsorted(numbers, batch.wire), -1)
    payload = np.frombuffer(batch.payload, np.uint8)
    read = Read.empty(len(batch), len(payload))
    forms.match(payload, batch.offsets, whose, [batch.venues[n] for n in numbers], read)
    return read


def fitting(batches: list[Batch], forms: Forms) -> list[tuple[NDArray[np.int64], int]]:
    """Give of each batch the rows that a form fits, and how many levels of books they have."""
    reads = [read_by(batch, forms) for batch in batches]
    return [(np.flatnonzero(read.form >= 0), int(read.cuts[2].max())) for read in reads]


def by_form(batches: list[Batch], forms: Forms) -> None:
    for batch in batches:
        read_by(batch, forms)


def by_msgspec(batches: list[Batch], known: list[tuple[NDArray[np.int64], int]]) -> None:
    for batch, (rows, _) in zip(batches, known, strict=True):
        decoders = {wire: decoder(venue) for wire, venue in batch.venues.items()}
        whole = bytes(batch.payload)
        columns = (batch.wire, batch.offsets[:-1], batch.offsets[1:])
        for wire, begin, stop in zip(*(c[rows].tolist() for c in columns), strict=True):
            decoders[wire](whole[begin:stop])


def levels_read(kind: str, batches: list[Batch], forms: Forms) -> list[str]:
    """Read the frames of books alone, each run all of them, and tell how many levels a second."""
    is_book = np.array([*(form.is_book for form in forms.forms), False])
    parts, whose, venues = list[bytes](), list[int](), list[str]()
    for batch in batches:
        payload = bytes(batch.payload)
        for at in np.flatnonzero(is_book[read_by(batch, forms).form]).tolist():
            venue = batch.venues[int(batch.wire[at])]
            venues += [venue] if venue not in venues else []
            whose.append(venues.index(venue))
            parts.append(payload[batch.offsets[at] : batch.offsets[at + 1]])
    if not parts:
        return []
    data, offsets = np.frombuffer(b"".join(parts), np.uint8), np.cumsum([0, *map(len, parts)])
    took = []
    for _ in range(2 * ROUNDS):
        read = Read.empty(len(parts), len(data))
        begun = time.process_time()
        forms.match(data, offsets, np.array(whose), venues, read)
        took.append(time.process_time() - begun)
    rate = int(read.cuts[2].max()) / statistics.median(took)
    verdict = f"≥ {GATE_LEVELS_S / 1e6:.0f} {'met' if rate >= GATE_LEVELS_S else 'MISSED'}"
    gb_s = len(data) / statistics.median(took) / 1e9
    how = f"by form on one core ({verdict}), {gb_s:.2f} GB/s, {len(parts):,} frames"
    return [f"{kind}: {rate / 1e6:.1f} M levels of books a second {how}."]


def missed(
    kind: str, batches: list[Batch], known: list[tuple[NDArray[np.int64], int]]
) -> list[str]:
    """Tell of each venue and channel which share of its frames no form fits."""
    frames, misses = Counter[str](), Counter[str]()
    for batch, (rows, _) in zip(batches, known, strict=True):
        fits = set(rows.tolist())
        for at, frame in enumerate(batch.frames()):
            if frame.kind <= LAST_DATA:
                told = channels(frame.venue, frame.payload)
                frames[told] += 1
                misses[told] += at not in fits
    shares = [f"{told} {misses[told] / count:.2%}" for told, count in sorted(frames.items())]
    return [f"{kind}: no form fits, of the frames of {'; '.join(shares)}."]


def channels(venue: str, payload: bytes) -> str:
    try:
        told = dict.fromkeys(CHANNELS[type(event)] for event in decoder(venue)(payload))
    except BadFrame:
        return f"{venue} unreadable"
    return f"{venue} {' and '.join(told) or 'no event'}"


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
    weight = f" (≤ {GATE_B} {verdict})" if kind in GATE_US else ""
    same = "the same to the byte" if is_same else "NOT THE SAME"
    read = f"{fast.in_bulk:,} of them needed no parser"
    return [
        f"{kind}: {fast.result.frames:,} frames, {read}; the files of both ways are {same}.",
        f"{kind}: {each:.1f} B a quote in Parquet{weight}.",
    ]


def verified(kind: str, tape: Path, batches: list[Batch]) -> list[str]:
    """Tell how fast the bytes are proved, and how fast all is: the ledger reads every frame."""
    payload = sum(len(batch.payload) for batch in batches)
    ledger.LONG = 0
    ways: dict[str, Callable[[], object]] = {
        "proving its bytes": lambda: Tape(tape).damage(),
        "verify, with the ledger": lambda: verify.verify(tape),
    }
    said = []
    for way, run in ways.items():
        took = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            run()
            took.append(time.process_time() - begun)
        rate = payload / statistics.median(took) / 1e9
        verdict = "met" if rate >= GATE_GB_S else "MISSED"
        gate = f"≥ {GATE_GB_S} {verdict}"
        said.append(f"{kind}: {way}: {rate:.3f} GB of payload a second of CPU ({gate}).")
    return said


if __name__ == "__main__":
    main()
