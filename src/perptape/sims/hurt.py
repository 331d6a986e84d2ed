"""What befalls single frames: lost, doubled, late, out of order, damaged, monstrous."""

import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import msgspec

from perptape.guard import INFLATED_BYTES, MESSAGE_BYTES
from perptape.sims.dialect import Dialect, Topic
from perptape.sims.faults import Damage, Fault

DELAY_NS = 1_000_000_000  # of a delayed frame, if the scenario says nothing
GZIP_WBITS = 31


class Frame(NamedTuple):
    """What is sent: the payload, and its form on the wire."""

    payload: bytes
    wire: bytes

    @property
    def crc32(self) -> int:
        return zlib.crc32(self.payload)


class Struck(NamedTuple):
    """A frame that a fault struck, and what became of it."""

    topic: Topic
    connections: tuple[int, ...]
    ts_start: int
    ts_end: int
    """When the frame was sent after all; else the same."""
    crc32: int
    """Of the payload as it was sent, or of the one that was not."""
    frames: int = 1
    """How many came late."""
    cut: bool = False
    """It was never sent, as nobody listens any more."""


class Hurt(msgspec.Struct, eq=False):
    """A fault that waits for its frames."""

    fault: Fault
    symbol: str | None
    left: int
    done: Callable[[Struck], None]

    def fits(self, topic: Topic, tells: str) -> bool:
        """Whether it strikes the frames of this topic."""
        fault = self.fault
        return (
            self.symbol in (None, topic.symbol)
            and fault.channel in (None, tells)
            and fault.stream in (None, topic.stream)
        )


class Late(msgspec.Struct, eq=False):
    """Frames of one topic that are held back."""

    hurt: Hurt
    connections: tuple[int, ...]
    ts_start: int
    until_ns: int | None
    """``None``: until the next frame has been sent."""
    frames: list[Frame]

    def tell(self, topic: Topic, now_ns: int, *, cut: bool = False) -> None:
        """They have been sent, or never will be."""
        crc32, count = self.frames[0].crc32, len(self.frames)
        struck = Struck(topic, self.connections, self.ts_start, now_ns, crc32, count, cut)
        self.hurt.done(struck)


def held_until(hurt: Hurt, now_ns: int) -> int | None:
    """When a held frame is sent; ``None``: after the next one."""
    lasts_ns = DELAY_NS if hurt.fault.lasts_ns is None else hurt.fault.lasts_ns
    return now_ns + lasts_ns if hurt.fault.kind == "delay" else None


def altered(fault: Fault, frame: Frame, dialect: Dialect) -> list[Frame]:
    """What is sent in a frame's place."""
    if fault.kind == "drop":
        return []
    if fault.kind == "duplicate":
        return [frame, frame]
    if fault.kind == "gzip_bomb":
        return [Frame(_bomb(), _bomb())]
    if fault.kind == "oversized":
        return [Frame(_monster(), _monster())]
    if fault.kind == "wrong_checksum" and dialect.spoil is not None:
        payload = dialect.spoil(frame.payload)
        return [Frame(payload, dialect.wrap(payload))]
    return [damaged(frame, fault.damage, dialect)]


def damaged(frame: Frame, damage: Damage, dialect: Dialect) -> Frame:
    """A frame that its decoder cannot read.

    ``truncate`` keeps the first half of the text. ``flip`` turns bits: of the first byte of text
    (a brace becomes a letter), or in the middle of a compressed frame, which then does not
    inflate and has no payload but itself.
    """
    if damage == "truncate":
        half = frame.payload[: len(frame.payload) // 2]
        return Frame(half, dialect.wrap(half))
    wire = bytearray(frame.wire)
    if not dialect.binary:
        wire[0] ^= 0x01
        return Frame(bytes(wire), bytes(wire))
    middle = len(wire) // 2
    wire[middle : middle + 8] = bytes(b ^ 0xFF for b in wire[middle : middle + 8])
    return Frame(bytes(wire), bytes(wire))


@cache
def _bomb() -> bytes:
    """A small gzip member that inflates to four times what a recorder takes."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, GZIP_WBITS)
    return deflate.compress(bytes(4 * INFLATED_BYTES)) + deflate.flush()


@cache
def _monster() -> bytes:
    """A message of more bytes than a recorder takes."""
    return b'{"pad":"' + b" " * MESSAGE_BYTES + b'"}'
