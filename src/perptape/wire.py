"""A session over a real websocket: the only client socket.

Write first, think after: what one socket read brought is on the tape before the session, or any
check of its content, sees it.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from picows import WSCloseCode, WSProtocolError, WSTransport

from perptape.clock import Clock
from perptape.dial import CLOSE_S, dial
from perptape.errors import LostSync, Unreachable
from perptape.events import NS, Kind, Note, Opened, Subscription
from perptape.guard import Violation, inflate_each
from perptape.listener import BINARY, TEXT, Listener, closing_words
from perptape.route import Route
from perptape.session import Session, Wanted
from perptape.venues.venue import Topic, Venue

READ_BYTES = 256 << 10
"""What a plain socket holds for one read, so that a flood leaves the other wires their turn; TLS
reads no more anyway."""
RECORD_BYTES = 4 << 20
"""Inflated frames go to the tape in records of about this size at most."""
UNSENT_BYTES = 1 << 20
"""A peer that leaves so much of ours unread is given up."""
STALL_NS = 1 * NS
"""When a timer is this late our process stood still, and the peer's silence proves nothing."""


class Sink(Protocol):
    """What a wire writes to: the tape."""

    @property
    def full(self) -> bool: ...

    def new_wire(self, venue: str) -> int: ...

    def end_wire(self, wire: int) -> None:
        """Forget a wire of which nothing more comes."""

    def append(  # noqa: PLR0913, PLR0917 - a record has these parts
        self,
        wire: int,
        kind: int,
        payloads: Sequence[bytes],
        ts_recv: int,
        ts_mono: int | None,
        wire_sizes: Sequence[int] | None = None,
    ) -> int: ...


class Wire:
    """One connection, from ``opened`` to ``closed`` or ``shutdown``, all of it on the tape."""

    def __init__(
        self,
        venue: Venue,
        wanted: Sequence[Wanted],
        tape: Sink,
        clock: Clock,
        on_read: Callable[[Sequence[bytes], int], None],
    ) -> None:
        """``on_read`` is given the messages of each socket read, and its monotonic time."""
        self.venue, self._wanted = venue, wanted
        self._tape, self._clock, self._on_read = tape, clock, on_read
        self._listener: Listener | None = None
        """It holds us, so whoever leaves the wire lets it go."""
        self.session: Session | None = None
        """There is one as soon as the wire is open."""
        self._lost: Exception | None = None
        self._abandoned = self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    async def connect(self, route: Route) -> None:
        """Open it. Raises Unreachable."""
        self._listener = Listener(self, usual=BINARY if self.venue.inflates else TEXT)
        try:
            await dial(self._listener, self.venue, route, self._clock.now()[0])
        except Unreachable:
            if self.session is None:  # else it opened at the last moment
                raise
        finally:
            # picows goes on with a handshake whose waiter has left.
            self._abandoned = self.session is None
        if self.session is None:
            raise Unreachable("the connection ended during the handshake")

    async def over(self) -> Exception:
        """Wait for the end; give what ended it."""
        try:
            await self._transport.wait_disconnected()
        except WSProtocolError as error:
            words = str(error.with_traceback(None))  # picows keeps it, and would keep us with it
            self._end(LostSync(f"the venue broke the protocol: {words}"))
        except Exception as error:  # noqa: BLE001 - raised by our own side, told to who waits
            self._end(error)
        self._end(LostSync("the connection ended without a close frame"))
        self.cut()
        if self.session is not None:
            self._tape.end_wire(self.number)
        return self._lost or LostSync("it never opened")

    def shutdown(self) -> None:
        """End it because we are done."""
        if self.session is not None and self._lost is None:
            self._lost = LostSync("shutdown")
            self._note(Note(note="shutdown"))
            self._hang_up(WSCloseCode.OK)

    def leave(self) -> None:
        """Wait for it no longer; one that is hanging up is given its time."""
        if self._lost is None:
            self.cut()
        self._listener = None

    def cut(self) -> None:
        """Leave nothing behind, whatever the peer does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it holds us
        if self.session is not None:
            self._transport.disconnect(graceful=False)

    async def gone(self) -> None:
        """Wait until the peer has closed its half too."""
        if self.session is not None:
            with suppress(Exception):  # told by over()
                await self._transport.wait_disconnected()

    def pause(self) -> None:
        """Read no more, until :meth:`resume`."""
        if self.session is not None and not self._paused and self._lost is None:
            self._paused = True
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.session is not None and self._paused and self._lost is None:
            self._paused = False
            self.session.excuse(self._clock.mono())
            self._transport.underlying_transport.resume_reading()

    def ask_anew(self, topics: Sequence[Topic]) -> None:
        """Ask again for topics that say nothing."""
        if self.session is not None and topics and self._lost is None:
            self.session.ask_anew(topics)
            self._go_on(self.session)

    # What the listener tells

    def opened(self, transport: WSTransport) -> None:
        """Open the wire on the tape, and begin to subscribe."""
        self._transport = transport
        if self._abandoned:
            transport.disconnect(graceful=False)
            return
        if not transport.is_secure:
            plain: socket.socket = transport.underlying_transport.get_extra_info("socket")
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        ts, mono = self._clock.now()
        self.number = self._tape.new_wire(self.venue.name)
        payload = msgspec.json.encode(opened(self.venue, self._wanted))
        self._tape.append(self.number, Kind.OPENED, [payload], ts, mono)
        self.session = Session(self.venue, self._wanted, mono)
        self._speak(self.session)
        self._arm(self.session)

    def read(self, kind: Kind, payloads: list[bytes]) -> None:
        """Write first, think after."""
        session = self.session
        if session is None:
            return
        mono = self._clock.mono()
        ts = mono + self._clock.offset
        if kind is Kind.BINARY and self.venue.inflates:
            payloads = self._write_inflated(payloads, ts, mono)
        else:
            self._tape.append(self.number, kind, payloads, ts, mono)
        try:
            session.receive(payloads, mono)
        except LostSync as lost:
            self._end(lost)
        self._on_read(payloads, mono)
        if session.urgent:
            self._speak(session)
            self._arm(session)  # what is to be said after a while may be sooner than before

    def protocol(self, kind: Kind, payload: bytes) -> None:
        """Write a ping, pong or close; a close ends the wire."""
        ts, mono = self._clock.now()
        self._tape.append(self.number, kind, [payload], ts, mono)
        if self.session is not None:
            self.session.heard(mono)
        if kind is Kind.CLOSE:
            self._end(LostSync(f"the venue closed the connection: {closing_words(payload)}"))
        else:
            self._check_unsent()

    def violated(self, violation: Violation) -> None:
        """End the wire with the close code that says why."""
        lost = LostSync(f"the venue broke the protocol: {violation.reason}")
        self._end(lost, WSCloseCode(violation.code))

    def _write_inflated(self, payloads: list[bytes], ts: int, mono: int) -> list[bytes]:
        """Write gzip members inflated, or as they came where that fails; give the inflated."""
        good, failures = [], []
        while payloads:
            # What the tape has no room for stays as small as it came.
            got = inflate_each(payloads, 0 if self._tape.full else RECORD_BYTES)
            sizes = [len(payload) for payload in payloads[: len(got.kept)]]
            self._tape.append(self.number, Kind.BINARY, got.kept, ts, mono, sizes)
            payloads = payloads[len(got.kept) :]
            good += got.inflated
            failures += got.failures
        for reason in failures:
            self._note(Note(note="not_inflated", reason=reason))
        return good

    # What we say

    def _speak(self, session: Session) -> None:
        """Send what is due and note what there is to note."""
        if self._lost is not None:
            return
        ts, mono = self._clock.now()
        try:
            frames = session.to_send(mono, ts)
        except LostSync as lost:
            self._end(lost)
            return
        for note in session.notes():
            self._note(note)
        if frames:
            ts, mono = self._clock.now()  # after the notes: time must not fall on the tape
            self._tape.append(self.number, Kind.SENT, frames, ts, mono)
        for frame in frames:
            self._transport.send(TEXT, frame)
        self._check_unsent()

    def _check_unsent(self) -> None:
        if self._transport.underlying_transport.get_write_buffer_size() > UNSENT_BYTES:
            self._end(LostSync(f"the venue left {UNSENT_BYTES} bytes of ours unread"))

    def _arm(self, session: Session) -> None:
        """Wake when the session next has something to do; most reads only put that off."""
        if self._lost is not None:
            return  # the timer is the one that cuts it
        if self._timer is not None:
            self._timer.cancel()
        due = session.wake_at
        wait_s = max(due - self._clock.mono(), 0) / NS
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake, session, due)

    def _wake(self, session: Session, due: int) -> None:
        mono = self._clock.mono()
        if self._paused or mono - due > STALL_NS:
            session.excuse(mono)
        self._go_on(session)

    def _go_on(self, session: Session) -> None:
        try:
            self._speak(session)
            self._arm(session)
        except Exception as error:  # noqa: BLE001 - told to who waits for the end
            self._end(error)

    # The end

    def _end(self, why: Exception, code: WSCloseCode = WSCloseCode.OK) -> None:
        """Write the last notes and hang up; only the first call counts."""
        if self._lost is not None or self.session is None:
            return
        self._lost = why.with_traceback(None)  # which holds us
        for note in self.session.notes():
            self._note(note)
        self._note(Note(note="closed", reason=str(why)))
        self._hang_up(code)

    def _hang_up(self, code: WSCloseCode) -> None:
        if self._listener is not None:
            self._listener.close_ears()
        if self._timer is not None:
            self._timer.cancel()
        self._transport.send_close(code)
        self._transport.disconnect()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_S, self.cut)

    def _note(self, note: Note) -> None:
        ts, mono = self._clock.now()
        self._tape.append(self.number, Kind.NOTE, [msgspec.json.encode(note)], ts, mono)


def opened(venue: Venue, wanted: Sequence[Wanted]) -> Opened:
    """Give what the first frame of a wire says."""
    return Opened(
        venue=venue.name,
        url=venue.url,
        subscriptions=tuple(
            Subscription(
                market=each.market,
                channel=each.topic.channel,
                stream=each.topic.stream,
                symbol=each.topic.symbol,
            )
            for each in wanted
        ),
    )
