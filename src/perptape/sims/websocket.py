"""The server's half of HTTP/1.1 and of RFC 6455, as bytes: what a simulated exchange needs of it.

picows' own server takes no POST, which Hyperliquid's REST consists of.
"""

import base64
import hashlib
import struct
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN, MASKED, RSV = 0x80, 0x80, 0x70
MOST_HEAD = 64 << 10  # bytes of an HTTP request without its body
MOST_BODY = 1 << 20  # also of a client's websocket message
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SHORT, MEDIUM = 126, 127  # RFC 6455, 5.2: the length follows in 2 or 8 bytes
PROTOCOL_ERROR, TOO_BIG = 1002, 1009


class BadRequest(Exception):
    """An HTTP request that is answered with an error before anyone looks at its path."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Violation(Exception):
    """A client broke the protocol; ``code`` is of the close frame that says so."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Request(NamedTuple):
    """An HTTP request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def upgrades(self) -> bool:
        return "upgrade" in self.headers.get("connection", "").lower()


def read_request(held: bytearray) -> Request | None:
    """Take a whole request off the front; ``None``: there is more to come. Raises BadRequest."""
    head, end, rest = bytes(held).partition(b"\r\n\r\n")
    if not end:
        if len(held) > MOST_HEAD:
            raise BadRequest(431, "the header fields are too large")
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":  # noqa: PLR2004  method, target, version
        raise BadRequest(400, "not an HTTP/1.1 request")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    size = _body_size(words[0], headers)
    if len(rest) < size:
        return None
    del held[: len(head) + len(end) + size]
    target = urlsplit(words[1])
    return Request(words[0], target.path, dict(parse_qsl(target.query)), headers, rest[:size])


def _body_size(method: str, headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    if method not in ("GET", "POST"):
        raise BadRequest(405, "GET or POST only")
    if "transfer-encoding" in headers or not text.isdigit():
        raise BadRequest(411, "a body needs its length")
    if int(text) > MOST_BODY:
        raise BadRequest(413, "the body is too large")
    return int(text)


def answer(status: int, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole HTTP answer, after which the connection ends."""
    fields = {"Content-Type": "application/json"} | dict(headers)
    fields |= {"Content-Length": str(len(body)), "Connection": "close"}
    return _head(status, fields) + body


def accept(request: Request) -> bytes:
    """The answer that makes this connection a websocket. Raises BadRequest."""
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("sec-websocket-version") != "13" or not key:
        raise BadRequest(400, "not a websocket handshake")
    digest = hashlib.sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()
    proof = base64.b64encode(digest).decode()
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": proof}
    return _head(101, fields)


def _head(status: int, fields: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def head(opcode: int, size: int) -> bytes:
    """The header of a whole, unmasked message."""
    if size < SHORT:
        return bytes((FIN | opcode, size))
    if size < 1 << 16:
        return struct.pack(">BBH", FIN | opcode, SHORT, size)
    return struct.pack(">BBQ", FIN | opcode, MEDIUM, size)


def close(code: int, reason: str) -> bytes:
    """A close frame."""
    payload = struct.pack(">H", code) + reason.encode()
    return head(CLOSE, len(payload)) + payload


class Message(NamedTuple):
    """What a client sent, whole."""

    opcode: int
    payload: bytes


def read_message(held: bytearray) -> Message | None:
    """Take a message off the front; ``None``: there is more to come. Raises Violation."""
    if len(held) < 2:  # noqa: PLR2004  the shortest header
        return None
    first, second = held[0], held[1]
    if not first & FIN or not first & 0x0F:
        raise Violation(1003, "fragments")
    if first & RSV or not second & MASKED:
        raise Violation(PROTOCOL_ERROR, "a reserved bit, or a frame without a mask")
    size, start = second & 0x7F, 2
    if size >= SHORT:
        start = 4 if size == SHORT else 10
        if len(held) < start:
            return None
        size = int.from_bytes(held[2:start])
    if size > MOST_BODY:
        raise Violation(TOO_BIG, f"a message of more than {MOST_BODY} bytes")
    end = start + 4 + size
    if len(held) < end:
        return None
    payload = _unmasked(bytes(held[start : start + 4]), bytes(held[start + 4 : end]))
    del held[:end]
    return Message(first & 0x0F, payload)


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
