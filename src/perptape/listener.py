"""What one socket read brought, whole messages only: the guard around picows.

picows hands on reserved bits, endless fragments and text that is not UTF-8; here they end the
wire. Pings are answered here too, because picows would hide them, and with them the end of a read.
"""

import logging
from typing import Protocol

from picows import WSFrame, WSListener, WSMsgType, WSTransport

from perptape.events import Kind
from perptape.guard import INVALID_TEXT, PROTOCOL_ERROR, Fragments, Violation, all_text

TEXT, BINARY, CONTINUATION = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION
KINDS = {
    TEXT: Kind.TEXT,
    BINARY: Kind.BINARY,
    WSMsgType.PING: Kind.PING,
    WSMsgType.PONG: Kind.PONG,
    WSMsgType.CLOSE: Kind.CLOSE,
}

# A library's own remarks are not ours to print; where logging is set up they appear.
logging.getLogger("picows").addHandler(logging.NullHandler())


class Reader(Protocol):
    """Whom a listener tells."""

    def opened(self, transport: WSTransport) -> None: ...
    def read(self, kind: Kind, payloads: list[bytes]) -> None:
        """Take in the messages of one socket read, all of one kind, in order."""

    def protocol(self, kind: Kind, payload: bytes) -> None:
        """Take in a ping, a pong or a close."""

    def violated(self, violation: Violation) -> None: ...


class Listener(WSListener):
    """Collects frames; once per socket read it tells the reader."""

    def __init__(self, reader: Reader, *, usual: WSMsgType) -> None:
        """``usual`` is the kind that the venue's data has."""
        self._reader, self._main = reader, usual
        self._usual: WSMsgType | None = usual
        """Frames of this kind need no second look; ``None`` inside a fragmented message."""
        self._payloads: list[bytes] = []
        self._take = self._payloads.append
        self._fragments = Fragments()
        self._fragmented = usual
        """The kind of the message that comes in fragments."""
        self._deaf = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._reader.opened(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if (
            frame.msg_type is self._usual
            and frame.fin
            and not (frame.rsv1 or frame.rsv2 or frame.rsv3)
        ):
            self._take(frame.get_payload_as_bytes())
        elif not self._deaf:
            self._unusual(transport, frame)
        if frame.last_in_buffer and self._payloads:
            self._tell()

    def close_ears(self) -> None:
        """Ignore all that still comes."""
        self._deaf, self._usual = True, None
        self._payloads = []

    def _tell(self) -> None:
        payloads, self._payloads = self._payloads, []
        self._take = self._payloads.append
        self._messages(self._main, payloads)

    def _messages(self, kind: WSMsgType, payloads: list[bytes]) -> None:
        self._reader.read(KINDS[kind], payloads)
        if kind is TEXT and not all_text(payloads):
            self._reader.violated(Violation(INVALID_TEXT, "text that is not UTF-8"))

    def _unusual(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take in a frame of another kind, in its place between the usual ones."""
        if self._payloads:
            self._tell()
        kind, payload = frame.msg_type, frame.get_payload_as_bytes()
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._reader.violated(Violation(PROTOCOL_ERROR, "a reserved bit is set"))
        elif kind in {TEXT, BINARY, CONTINUATION}:
            self._piece(kind, payload, ends=bool(frame.fin))
        else:
            self._reader.protocol(KINDS[kind], payload)
            if kind is WSMsgType.PING:
                transport.send_pong(payload)

    def _piece(self, kind: WSMsgType, payload: bytes, *, ends: bool) -> None:
        if kind is not CONTINUATION and not self._fragments.open:
            self._fragmented = kind
        whole = self._fragments.add(payload, starts=kind is not CONTINUATION, ends=ends)
        self._usual = None if self._fragments.open else self._main
        if isinstance(whole, Violation):
            self._reader.violated(whole)
        elif whole is not None:
            self._messages(self._fragmented, [whole])


def closing_words(payload: bytes) -> str:
    """``1003 ping check expired`` of the payload of a close frame."""
    if not payload:
        return "no code"
    return f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode(errors='replace')}".strip()
