"""Bytes and CPU time of a packed tape, against the sealed tape that it is made of.

``python benchmarks/pack.py VENUE=RECORDING.gz … [--tape TAPE …]`` imports the recordings into a
tape, whole and the quotes alone; it packs these tapes and others that are given, and unpacks them.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from at_rest import weigh
from machine import append_result

from perptape.pack import Summary, pack
from perptape.tape import Tape
from perptape.unpack import unpack

GATE = 0.5


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recordings", nargs="*", metavar="VENUE=FILE")
    words.add_argument("--tape", action="append", default=[], type=Path)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    named = [(venue, Path(path)) for venue, path in (r.split("=", 1) for r in given.recordings)]
    heads = ["tape", "frames", "payload MB", "B a frame, sealed", "packed", "share", "pack MB/s"]
    heads += ["unpack MB/s", "read back"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    with tempfile.TemporaryDirectory() as folder:
        tapes = {path.name: path for path in given.tape}
        for kind in ("quotes only", "mixed") if named else ():
            place = Path(folder) / kind.replace(" ", "-")
            place.mkdir()
            weigh(named, place, quotes_only=kind == "quotes only")
            tapes[kind] = place / "tape"
        for name, tape in tapes.items():
            lines.append(row(name, tape, Path(folder), given.rounds))
    lines += ["", "MB/s of payload by CPU time, median; packing includes the read-back."]
    print("\n".join(lines))
    if not given.no_save:
        append_result("Packed tapes", "\n".join(lines))


def row(name: str, tape: Path, place: Path, rounds: int) -> str:
    payload = sum(len(batch.payload) for batch in Tape(tape).batches())
    runs = [once(tape, place / f"{k}") for k in range(rounds + 1)][1:]  # the first compiles
    done = runs[0][0]
    share = done.bytes / done.tape_bytes
    verdict = "met" if share <= GATE else "MISSED"
    cells = [
        *(name, f"{done.frames:,}", f"{payload / 1e6:.0f}"),
        f"{done.tape_bytes / done.frames:.1f}",
        f"{done.bytes / done.frames:.1f}",
        f"{share:.1%}, ≤ 50 % {verdict}",
        f"{payload / 1e6 / statistics.median(packed for _, packed, _ in runs):.0f}",
        f"{payload / 1e6 / statistics.median(unpacked for _, _, unpacked in runs):.0f}",
        "same bytes" if done.is_exact else "same frames",
    ]
    return f"| {' | '.join(cells)} |"


def once(tape: Path, place: Path) -> tuple[Summary, float, float]:
    """Give what packing came to, and the CPU seconds of it and of unpacking."""
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        begun = time.process_time()
        done = pack(tape, Path(folder) / "packed")
        packed = time.process_time()
        unpack(Path(folder) / "packed", Path(folder) / "tape")
        return done, packed - begun, time.process_time() - packed


if __name__ == "__main__":
    main()
