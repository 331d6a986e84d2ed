"""What a peer may send: the limits that the websocket library leaves to us, and inflating."""

from collections.abc import Sequence

import msgspec
from zlib_ng import zlib_ng

MESSAGE_BYTES = 8 << 20
"""The longest message, over all its fragments."""
FRAGMENTS = 1024
"""The most fragments of one message, empty ones counted."""
INFLATED_BYTES = 8 << 20
GZIP_WBITS = 31
PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009  # RFC 6455, 7.4.1


class Violation(msgspec.Struct, frozen=True):
    """How a peer broke the protocol, and the close code that says so."""

    code: int
    reason: str


class Fragments:
    """A message that comes in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0
        self.open = False

    def add(self, payload: bytes, *, starts: bool, ends: bool) -> bytes | Violation | None:
        """Take in a fragment; give the whole message when it ``ends``, before that ``None``."""
        if starts == self.open:
            words = "a new message inside another" if starts else "a continuation of nothing"
            return Violation(PROTOCOL_ERROR, words)
        self.open = True
        self._pieces.append(payload)
        self._bytes += len(payload)
        if self._bytes > MESSAGE_BYTES:
            return Violation(TOO_BIG, f"a message of more than {MESSAGE_BYTES} bytes")
        if len(self._pieces) > FRAGMENTS:
            return Violation(TOO_BIG, f"a message of more than {FRAGMENTS} fragments")
        return self._whole() if ends else None

    def _whole(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces, self._bytes, self.open = [], 0, False
        return whole


def all_text(payloads: list[bytes]) -> bool:
    """Tell whether every payload is UTF-8: one pass over all of them where they are ASCII."""
    if b"".join(payloads).isascii():
        return True
    try:
        for payload in payloads:
            payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class Inflated(msgspec.Struct, frozen=True):
    """Frames of one read, in order."""

    kept: list[bytes]
    """Inflated, or as they came where that failed."""
    inflated: list[bytes]
    failures: list[str]


def inflate_each(payloads: Sequence[bytes], enough_bytes: int) -> Inflated:
    """Inflate the first frames until there are ``enough_bytes`` of them; with 0 inflate none."""
    kept, good, failures = [], [], []
    held = 0
    for payload in payloads:
        try:
            good.append(inflate(payload) if enough_bytes else _left(payload))
            kept.append(good[-1])
        except ValueError as error:
            kept.append(payload)
            failures.append(str(error))
        held += len(kept[-1])
        if held > enough_bytes > 0:
            break
    return Inflated(kept, good, failures)


def _left(payload: bytes) -> bytes:
    raise ValueError(f"the tape is full: left as its {len(payload)} bytes")


def inflate(payload: bytes) -> bytes:
    """Inflate one gzip member. Raises ValueError with the reason if it is not exactly one."""
    inflater = zlib_ng.decompressobj(wbits=GZIP_WBITS)
    try:
        inflated: bytes = inflater.decompress(payload, INFLATED_BYTES)
    except zlib_ng.error as error:  # type: ignore[misc]  # its stub calls the class an object
        raise ValueError(str(error)) from error
    if len(inflated) == INFLATED_BYTES and not inflater.eof:
        raise ValueError(f"inflates past {INFLATED_BYTES} bytes")
    if not inflater.eof:
        raise ValueError("the gzip member is cut off")
    if inflater.unused_data:
        raise ValueError("more follows the gzip member")
    return inflated
