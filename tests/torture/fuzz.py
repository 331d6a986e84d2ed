"""Coverage-guided fuzzing of every decoder, of the tape's reader and of the importers.

    python tests/torture/fuzz.py TARGET RUNS [TAPE]

It begins with the frames and files of TAPE, if there is one. Needs atheris beside what perptape
needs; that is no part of the lock, for it is heavy and has no other use here. A word that is no
target names the targets. A finding is a traceback, and its input is in a file ``crash-...``.
"""

import contextlib
import gzip
import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["perptape"]):
    from perptape import records
    from perptape.decode import PARSER_ERRORS, decoder
    from perptape.errors import CONTROL_ERRORS, BadFrame, PerptapeError
    from perptape.guard import inflate
    from perptape.importers import cryptofeed, hftbacktest
    from perptape.importers.importer import Heard, Tally
    from perptape.importers.pickles import Torn, Unreadable, read_pickles
    from perptape.manifest import _parse
    from perptape.segment import HEAD, scan
    from perptape.tape import Tape
    from perptape.venues import VENUES

LONGEST_BYTES = 2048
PLACE = Path(tempfile.mkdtemp(prefix="fuzz"))
Target = Callable[[bytes], None]


def venue(name: str) -> Target:
    """Fuzz all that reads a venue's bytes."""
    read, shape = decoder(name), VENUES[name]

    def one(data: bytes) -> None:
        with contextlib.suppress(BadFrame):
            read(data)
        shape.is_data(data)
        if shape.control is not None:
            with contextlib.suppress(*CONTROL_ERRORS):
                shape.control(data)
        for more in (shape.link, shape.read_instruments and instruments(name)):
            if more is not None:
                with contextlib.suppress(*PARSER_ERRORS):
                    more(data)

    return one


def instruments(name: str) -> Callable[[bytes], object]:
    return lambda data: VENUES[name].read_instruments(data, 0)


def segment(data: bytes) -> None:
    """Whatever follows its head, a segment is walked to its end without a hole."""
    whole = HEAD + data
    at = len(HEAD)
    for found in scan(memoryview(whole)):
        assert at <= found.start <= found.stop <= len(whole), found
        at = found.stop


def tail(data: bytes) -> None:
    records.walk(data)


def manifest(data: bytes) -> None:
    with contextlib.suppress(PerptapeError):
        _parse(PLACE, data)


def pickled(data: bytes) -> None:
    with contextlib.suppress(Unreadable, Torn):
        for _ in read_pickles(io.BytesIO(data)):
            pass


def gzipped(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        inflate(data)


def lines(read: Callable[[Path, str | None, Tally], Iterator[Heard]]) -> Target:
    """Fuzz a reader of files, through a file."""
    path = PLACE / "wss:stream.bybit.com.raw"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(PerptapeError):
            for _ in read(path, "bybit", Tally()):
                pass

    return one


TARGETS: dict[str, Target] = {
    **{name: venue(name) for name in VENUES},
    "segment": segment,
    "tail": tail,
    "manifest": manifest,
    "pickle": pickled,
    "gzip": gzipped,
    "cryptofeed": lines(cryptofeed.read),
    "hftbacktest": lines(hftbacktest.read),
}


def seeds(name: str, tape: Path) -> Path:
    """Make a corpus of what a tape says."""
    folder = PLACE / "corpus"
    folder.mkdir()
    found = [f.payload for f in Tape(tape).frames() if f.venue == name]
    if name == "segment":
        found = [f.read_bytes()[len(HEAD) :] for f in tape.glob("raw/*.arrows")]
    if name == "manifest":
        found = [(tape / "tape.json").read_bytes()]
    if name == "gzip":
        found = [gzip.compress(f.payload) for f in Tape(tape).frames()]
    if name == "pickle":
        said = [json.loads(f.payload) for f in Tape(tape).frames() if f.payload[:1] == b"{"]
        found = [pickle.dumps([one], k % 6) for k, one in enumerate(said[:2000])]
    if name in {"cryptofeed", "hftbacktest"}:
        form = "1700000000.5: {}\n" if name == "cryptofeed" else "1700000000500000000 {}\n"
        found = [form.format(f.payload.decode()).encode() for f in Tape(tape).frames()]
    for number, data in enumerate({len(each): each for each in found}.values()):
        (folder / str(number)).write_bytes(data)
    return folder


def main() -> None:
    if len(sys.argv) < len(["", "target", "runs"]) or sys.argv[1] not in TARGETS:
        sys.exit(f"fuzz.py TARGET RUNS [TAPE]; targets are {', '.join(TARGETS)}")
    name, runs, *tapes = sys.argv[1:]
    words = [sys.argv[0], f"-runs={runs}", f"-max_len={LONGEST_BYTES}", "-rss_limit_mb=1024"]
    words += [str(seeds(name, Path(tape))) for tape in tapes]
    atheris.Setup([*words, f"-artifact_prefix={PLACE}/"], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
