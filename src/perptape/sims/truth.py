"""What really happened: the truth file (JSON lines), and the log of what was sent."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from perptape.errors import Failed

RECORD = struct.Struct("<qII")
FLUSH_BYTES = 1 << 16


class Fact(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that happened, in true wall time (ns).

    ``what`` is ``start`` (of scenario time), ``clock`` (a venue's offset and latency),
    ``episode``, ``fault``, ``connection``, or ``heard`` (data of one market on one connection,
    from the first frame sent to the last).
    """

    what: str
    ts_start: int
    ts_end: int
    venue: str | None = None
    market: str | None = None
    """``bybit:BTC-USDT-PERP``; of an episode the one to sell."""
    buy: str | None = None
    """Of an episode: the market to buy."""
    edge_bps: float | None = None
    ts_sent_start: int | None = None
    """When the selling venue published the episode's first state; likewise its end."""
    ts_sent_end: int | None = None
    kind: str | None = None
    """Of a fault."""
    damage: str | None = None
    connections: tuple[int, ...] | None = None
    """Those that a fault struck."""
    connection: int | None = None
    port: int | None = None
    """The client's."""
    reason: str | None = None
    crc32: int | None = None
    """Of the struck frame as it was sent, or of the one that was not; see :class:`Sent`."""
    symbol: str | None = None
    stream: str | None = None
    streams: tuple[str, ...] | None = None
    """Those that a fault struck, beyond single frames."""
    frames: int | None = None
    requests: int | None = None
    """How many a limit turned away."""
    step_ms: float | None = None
    """What a fault changed: the clock, or a contract; likewise down to ``interval_h``."""
    tick: str | None = None
    lot: str | None = None
    size: str | None = None
    interval_h: int | None = None
    seed: int | None = None
    offset_ns: int | None = None
    latency_ns: int | None = None
    cut: bool = False
    """Ended by the end of the run, not as planned."""


class Truth:
    """The truth file; without a path it only keeps count."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else _create(path)

    def tell(self, fact: Fact) -> None:
        """Append a line, at once."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(fact) + b"\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_truth(path: Path) -> list[Fact]:
    """The lines of a truth file."""
    return [msgspec.json.decode(line, type=Fact) for line in path.read_bytes().splitlines()]


class Header(msgspec.Struct, frozen=True):
    """The first line of a log: which connection it is."""

    venue: str
    connection: int
    port: int
    """The client's, which tells apart the connections of one venue."""
    path: str
    ts_opened: int


class Sent(NamedTuple):
    """One message sent: when (true wall time), and what.

    ``crc32`` and ``size`` are of the payload before a venue's own compression; of a frame that
    was damaged so that it does not inflate, of its bytes on the wire.
    """

    ts_send: int
    crc32: int
    size: int


class SendLog:
    """The log of one connection: ``<venue>-<n>.sent``."""

    def __init__(self, folder: Path, header: Header) -> None:
        self._file = _create(folder / f"{header.venue}-{header.connection}.sent")
        self._held = bytearray(msgspec.json.encode(header) + b"\n")

    def add(self, ts_send: int, payload: bytes) -> None:
        self._held += RECORD.pack(ts_send, zlib.crc32(payload), len(payload))
        if len(self._held) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        self._file.write(self._held)
        self._file.flush()
        self._held.clear()

    def close(self) -> None:
        self.flush()
        self._file.close()


def read_sent(path: Path) -> tuple[Header, list[Sent]]:
    """The log of one connection, in the order of sending; a torn last record is left out."""
    first, _, rest = path.read_bytes().partition(b"\n")
    whole = len(rest) - len(rest) % RECORD.size
    return msgspec.json.decode(first, type=Header), list(_records(rest[:whole]))


def _records(body: bytes) -> Iterator[Sent]:
    for record in RECORD.iter_unpack(body):
        yield Sent(*record)


def make_folder(folder: Path) -> None:
    """Make a folder; raises Failed with one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise _unwritable(folder, e) from e


def _create(path: Path) -> IO[bytes]:
    make_folder(path.parent)
    try:
        return path.open("wb")
    except OSError as e:
        raise _unwritable(path, e) from e


def _unwritable(path: Path, error: OSError) -> Failed:
    return Failed(f"{path} cannot be written ({error.strerror}); choose another place.")
