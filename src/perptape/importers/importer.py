"""The shape of an importer: a function from a file to the frames that somebody else heard."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from perptape.errors import BadUsage
from perptape.events import Kind


class Heard(NamedTuple):
    """One frame of somebody else's recording."""

    ts_recv: int
    venue: str
    payload: bytes
    kind: Kind = Kind.TEXT
    wire_size: int | None = None
    """Where it is not the payload's."""
    connection: int = 0
    """Which of the file's; each becomes a wire."""
    trouble: str = ""
    """Why a frame that should have been inflated is not."""


class Tally(msgspec.Struct):
    """What a reader met beside frames; it counts here while it yields."""

    skipped: int = 0
    """Records that cannot be a frame: of no known venue, or without a receive time."""
    torn: int = 0
    """1 if the file ends inside a record: what stands before it is taken."""


class Source(msgspec.Struct, frozen=True):
    """One file that has been read to its end and believed."""

    path: Path
    sha256: str
    frames: int
    ts_first: int
    ts_last: int
    tally: Tally


class Importer(msgspec.Struct, frozen=True):
    """Everything that differs between formats."""

    name: str
    read: Callable[[Path, str | None, Tally], Iterator[Heard]]
    """(file, the user's word for the venue, tally) -> frames in the file's order.

    Raises :class:`~perptape.errors.Failed` at what it must not believe.
    """
    needs_venue: bool
    """The file does not say whose frames it holds."""


def check_file(path: Path) -> None:
    """Raise what a person can mend if ``path`` is no file to read."""
    if path.is_dir():
        raise BadUsage(f"{path} is a directory: name the files in it, as in {path}/*")
    if path.exists() and not path.is_file():
        raise BadUsage(f"{path} is no plain file, and it is read twice: save it to one first")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise BadUsage(f"{path} cannot be read ({error.strerror}): name a file to import") from None
    if empty:
        raise BadUsage(f"{path} is empty: leave it out")


def printable(path: Path) -> str:
    """Give the file's name as text, whatever bytes it is made of."""
    return os.fsencode(path.name).decode(errors="replace")
