"""hftbacktest's recordings: lines ``<receive time in ns> <JSON as it came>``, often gzipped."""

import gzip
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import msgspec

from perptape.errors import Failed
from perptape.importers.importer import Heard, Importer, Tally

GZIP = b"\x1f\x8b"
LINE_AT_MOST = 16 << 20  # bytes of one line, inflated
LINE = re.compile(rb"([1-9]\d{18}) (.+)", re.DOTALL)  # ns: 19 digits from 2001 to 2262
INT64_AT_MOST = 2**63 - 1


def read(path: Path, venue: str | None, tally: Tally) -> Iterator[Heard]:
    """Yield the frames of one file, all of them ``venue``'s, JSON or not.

    Raises Failed at a line without a receive time, at one that is too long and at broken gzip.
    """
    number = 0
    with path.open("rb") as plain:
        packed = plain.peek(len(GZIP)).startswith(GZIP)
        file = BufferedReader(gzip.GzipFile(fileobj=plain)) if packed else plain
        try:
            while line := file.readline(LINE_AT_MOST + 1):
                number += 1
                yield from _heard(path, number, line, str(venue), tally)
        except EOFError:  # the gzip stream has no end: its writer was killed
            tally.torn += 1
        except (gzip.BadGzipFile, zlib.error) as error:
            raise Failed(
                f"{path.name} is damaged after line {number} ({error}): nothing was imported; "
                "fetch the file again, or import a copy of what `zcat` can still read"
            ) from None


def _heard(path: Path, number: int, line: bytes, venue: str, tally: Tally) -> Iterator[Heard]:
    if len(line) > LINE_AT_MOST:
        raise Failed(
            f"{path.name}, line {number} is longer than {LINE_AT_MOST >> 20} MiB: "
            "nothing was imported; choose the format that wrote the file"
        )
    body = line.rstrip(b"\r\n")
    match = LINE.fullmatch(body)
    if match and int(match[1]) <= INT64_AT_MOST and (line.endswith(b"\n") or _is_whole(match[2])):
        yield Heard(int(match[1]), venue, match[2])
    elif not body:
        tally.skipped += 1
    elif not line.endswith(b"\n"):
        tally.torn += 1
    else:
        raise Failed(
            f"{path.name}, line {number} does not begin with a receive time in ns and a space: "
            "nothing was imported; mend the line or choose the format that wrote it"
        )


def _is_whole(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


HFTBACKTEST = Importer(name="hftbacktest", read=read, needs_venue=True)
