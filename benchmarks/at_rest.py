"""Bytes per frame at rest: a recording on a tape, and as the notebook's pickles.

``python benchmarks/at_rest.py usdm=RECORDING.gz …`` imports the files (each named by its venue)
into one tape in full batches, once whole and once the quotes alone.
"""

import argparse
import gzip
import json
import pickle
import tempfile
from pathlib import Path

from machine import append_result

from perptape import importers

GATES = {"quotes only": 20, "mixed": 48}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("recordings", nargs="+", metavar="VENUE=FILE")
    words.add_argument("--no-save", action="store_true", help="leave RESULTS.md alone")
    given = words.parse_args()
    named = [(venue, Path(path)) for venue, path in (r.split("=", 1) for r in given.recordings)]
    lines = ["| frames | count | B on tape | B as pickles | gate |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for kind, gate in GATES.items():
            place = Path(folder) / kind.replace(" ", "-")
            place.mkdir()
            count, tape, pickles = weigh(named, place, quotes_only=kind == "quotes only")
            verdict = f"≤ {gate} {'met' if tape / count <= gate else 'MISSED'}"
            row = f"{count:,} | {tape / count:.1f} | {pickles / count:.1f} | {verdict}"
            lines.append(f"| {kind} | {row} |")
    print("\n".join(lines))
    if not given.no_save:
        append_result("Bytes at rest", "\n".join(lines))


def weigh(named: list[tuple[str, Path]], place: Path, *, quotes_only: bool) -> tuple[int, int, int]:
    """Give (frames, bytes of the tape's segments, bytes of the pickles)."""
    count = pickled = 0
    for k, (venue, path) in enumerate(named):
        with gzip.open(path) as file:
            lines = [line for line in file if not quotes_only or b"@bookTicker" in line]
        part = place / f"{k}.txt"
        part.write_bytes(b"".join(lines))
        importers.run("hftbacktest", [part], place / "tape", venue=venue)
        count += len(lines)
        pickled += sum(map(_pickled, lines))
    segments = (place / "tape" / "raw").glob("*.arrows")
    return count, sum(segment.stat().st_size for segment in segments), pickled


def _pickled(line: bytes) -> int:
    stamp, body = line.split(b" ", 1)
    return len(pickle.dumps({**json.loads(body), "local_ts": int(stamp) / 1e9}))


if __name__ == "__main__":
    main()
