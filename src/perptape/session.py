"""The life of one connection, without the connection: bytes and time in, bytes and verdicts out.

Times are monotonic nanoseconds, but for the wall time that a venue writes into its frames.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import chain, filterfalse

import msgspec

from perptape.errors import CONTROL_ERRORS, BadUsage, LostSync, Refused, Silent
from perptape.events import NS, Note
from perptape.resync import Resync
from perptape.venues.venue import Accepted, Alive, Complaint, Leaving, Rejected, Topic, Venue

REPLIES_AHEAD = 16
"""Of heartbeats that came faster than we were asked to answer, so many are answered."""
ASK_AGAIN_NS = 30 * NS
"""A topic that was refused while others go on is asked for again: a refusal may pass."""
REASON_CHARS = 500
"""So much of a venue's own words is kept."""


class Wanted(msgspec.Struct, frozen=True):
    """A topic, and the market that it tells of."""

    market: str
    """``bybit:BTC-USDT-PERP``."""
    topic: Topic


class State(StrEnum):
    """How far a topic has come."""

    ASKED = "asked"
    ACCEPTED = "accepted"
    HEARD = "heard"
    LATE = "late"
    REFUSED = "refused"
    ENDED = "ended"


class Line(msgspec.Struct):
    """A topic's life on one wire."""

    wanted: Wanted
    state: State = State.ASKED
    reason: str | None = None
    """Why it was refused, in the venue's words."""
    due: int | None = None
    """When its first data is late."""

    def heard_in(self, payload: bytes) -> bool:
        return all(mark in payload for mark in self.wanted.topic.marks)

    def note(self, word: str, *, reason: str | None = None, deadline_ns: int | None = None) -> Note:
        market, topic = self.wanted.market, self.wanted.topic
        return Note(
            note=word,
            market=market,
            channel=topic.channel,
            symbol=topic.symbol,
            reason=reason,
            deadline_ns=deadline_ns,
        )


class Session:
    """Fed once per socket read; says what to send, what to note, and when it is lost.

    Raises LostSync from any call when the venue is leaving; Silent when nothing came, or no data
    after its acknowledgements; Refused when it refused every topic.
    """

    def __init__(self, venue: Venue, wanted: Sequence[Wanted], now: int) -> None:
        if venue.subscribe is None or venue.control is None or venue.heartbeat is None:
            raise BadUsage(f"{venue.name} can only be imported; record another venue.")
        self._venue, self._heartbeat = venue, venue.heartbeat
        self._is_data, self._read_control = venue.is_data, venue.control
        self._data_mark = venue.data_mark
        self._make_frames = venue.subscribe
        self.lines = [Line(each) for each in wanted]
        self.urgent = True
        """Something is to be sent or noted now: call :meth:`to_send` and :meth:`notes`."""
        self._by_key: dict[str, list[Line]] = {}
        for line in self.lines:
            self._by_key.setdefault(line.wanted.topic.key, []).append(line)
        self.books = Resync(venue, [(each.market, each.topic) for each in wanted])
        self._awaited = list(self.lines)  # those whose data has not come, refused or not
        self._unasked: deque[bytes] | None = None  # subscribe frames not sent yet
        self._asking: list[Line] = []
        """Those that these frames ask for."""
        self._refused: deque[tuple[int, Line]] = deque()
        """Those to ask for again, and when."""
        self._left: list[Topic] = []
        """Those to unsubscribe."""
        self._quiet: dict[str, Topic] = {}
        """Those to ask for anew, by key, because they say nothing."""
        self._replies: deque[bytes] = deque(maxlen=REPLIES_AHEAD)
        self._notes: list[Note] = []
        self._heard_at = self._send_at = now
        self._ping_at = now + self._heartbeat.every_ns
        self._deadlines: deque[int] = deque()
        """When lines that are still awaited are late, the next first."""

    # What came

    def receive(self, payloads: Sequence[bytes], now: int) -> None:
        """Take in the messages of one socket read."""
        self._heard_at = now
        if self._awaited:
            self._listen(payloads)
        elif not self._all_data(payloads):
            for payload in filterfalse(self._is_data, payloads):
                self._obey(payload)
        if self.books.followed:
            self.books.read(payloads, now)
            self.urgent |= bool(self.books.notes)

    def _all_data(self, payloads: Sequence[bytes]) -> bool:
        """Tell whether the venue's mark rules control out of the whole read at once."""
        mark = self._data_mark
        if not mark:
            return False
        # What the first and the last in order begin with, all between them begin with too.
        head, found, _ = min(payloads, default=b"").partition(mark)
        if found and max(payloads).startswith(head + mark):
            return True
        return b"".join(payloads).count(mark) == len(payloads)

    def ask_anew(self, topics: Iterable[Topic]) -> None:
        """Leave these and ask for them again: they say nothing, and may have been forgotten."""
        self._quiet.update({topic.key: topic for topic in topics})
        self.urgent |= bool(self._quiet)

    def heard(self, now: int) -> None:
        """Take in a protocol ping or pong: a sign of life without content."""
        self._heard_at = now

    def excuse(self, now: int) -> None:
        """Forgive the silence so far: it was we who did not read."""
        self._heard_at = now
        soonest = now + self._venue.first_data_ns
        self._deadlines = deque(sorted({max(due, soonest) for due in self._deadlines}))
        for line in self._awaited:
            line.due = None if line.due is None else max(line.due, soonest)

    def end(self, symbols: Collection[str]) -> None:
        """Let go what the venue no longer trades: it is left, and not asked for nor awaited."""
        of_them = [each for each in self.lines if each.wanted.topic.symbol in symbols]
        ended = [line for line in of_them if line.state is not State.ENDED]
        for line in ended:
            line.state = State.ENDED
            self._by_key.pop(line.wanted.topic.key, None)
            self.books.drop(line.wanted.topic.key)
        self._awaited = [line for line in self._awaited if line.state is not State.ENDED]
        self._left += {line.wanted.topic.key: line.wanted.topic for line in ended}.values()
        self.urgent |= bool(ended)

    @property
    def is_over(self) -> bool:
        """Whether nothing is wanted of it any more."""
        return all(line.state is State.ENDED for line in self.lines)

    @property
    def any_heard(self) -> bool:
        return any(line.state is State.HEARD for line in self.lines)

    def _listen(self, payloads: Sequence[bytes]) -> None:
        # Data first: a verdict on the wire must not hide what came with it.
        data = list(filter(self._is_data, payloads))
        whole = len(data) == len(payloads)
        news = [] if whole else list(filterfalse(self._is_data, payloads))
        plain = [p for p in news if self._control(p) is None]
        self._mark_heard(data + plain)
        for payload in news:
            self._obey(payload)

    def _mark_heard(self, data: list[bytes]) -> None:
        together = b"\n".join(data)
        for line in [each for each in self._awaited if data and each.heard_in(together)]:
            if any(line.heard_in(payload) for payload in data):
                line.state, line.reason = State.HEARD, None
                self._awaited.remove(line)

    def _control(self, payload: bytes) -> object:
        try:
            return self._read_control(payload)
        except CONTROL_ERRORS as error:
            return error

    def _obey(self, payload: bytes) -> None:
        match self._control(payload):
            case Alive(reply=reply) if reply is not None:
                self._replies.append(reply)
                self.urgent = True
            case Accepted(keys=keys):
                self._accept(keys)
            case Rejected(keys=keys, reason=reason):
                self._reject(keys, reason[:REASON_CHARS])
            case Complaint(reason=reason):
                self._note(Note(note="complaint", reason=reason[:REASON_CHARS]))
            case Leaving(reason=reason):
                raise LostSync(f"the venue is leaving: {reason[:REASON_CHARS]}")

    def _accept(self, keys: Sequence[str]) -> None:
        for line in self._lines(keys):
            if line.state is State.ASKED:
                line.state = State.ACCEPTED

    def _lines(self, keys: Sequence[str]) -> list[Line]:
        return [line for key in keys for line in self._by_key.get(key, ())]

    def _reject(self, keys: Sequence[str], reason: str) -> None:
        lines = self._lines(keys)
        if not lines:
            self._note(Note(note="complaint", reason=reason))
        for line in lines:
            self._refuse(line, reason)
        if all(line.state in {State.REFUSED, State.ENDED} for line in self.lines):
            raise Refused(f"every topic was refused: {reason}")

    def _refuse(self, line: Line, reason: str) -> None:
        if line.state is State.HEARD:
            self._awaited.append(line)
        if all(line is not each for _, each in self._refused):
            self._refused.append((self._heard_at + ASK_AGAIN_NS, line))
        line.state, line.reason = State.REFUSED, reason
        self.books.refused(line.wanted.topic.key)
        self._note(line.note("refused", reason=reason))

    # What is due

    @property
    def wake_at(self) -> int:
        """When :meth:`to_send` next has something to do, if nothing comes before."""
        times = [self._heard_at + self._heartbeat.silence_ns]
        if self._heartbeat.ping is not None:
            times.append(max(self._ping_at, self._send_at))
        if self._unasked is None or self._unasked:
            times.append(self._send_at)
        if self._deadlines:
            times.append(self._deadlines[0])
        if (due := self.books.wake_at) is not None:
            times.append(max(due, self._send_at))
        if self._refused:
            times.append(max(self._refused[0][0], self._send_at))
        if self._left or self._quiet:
            times.append(self._send_at)
        return min(times)

    def to_send(self, now: int, ts_wall: int) -> list[bytes]:
        """Give the frames that are due: replies at once, the rest at the venue's pace."""
        self._check(now)
        frames = list(self._replies)
        self._replies.clear()
        if self._unasked is None:
            self._asking = list(self.lines)
            self._unasked = self._frames(self._asking, ts_wall)
        while now >= self._send_at and (frame := self._next(now, ts_wall)) is not None:
            self._send_at = now + self._venue.subscribe_every_ns
            frames.append(frame)
        return frames

    def notes(self) -> list[Note]:
        """Give the remarks since the last call."""
        notes, self._notes = [*self._notes, *self.books.notes], []
        self.books.notes.clear()
        self.urgent = False
        return notes

    def _next(self, now: int, ts_wall: int) -> bytes | None:
        if self._heartbeat.ping is not None and now >= self._ping_at:
            self._ping_at = now + self._heartbeat.every_ns
            return self._heartbeat.ping(ts_wall)
        if not self._unasked:
            self._unasked = self._ask_again(now, ts_wall)
        if not self._unasked:
            return None
        frame = self._unasked.popleft()
        if not self._unasked:
            self._await(self._asking, now)
        return frame

    def _await(self, lines: Sequence[Line], now: int) -> None:
        """Set the time by which the first data of these is to come."""
        venue = self._venue
        for line in lines:
            line.due = now + venue.slow.get(line.wanted.topic.stream, venue.first_data_ns)
        dues = {line.due for line in lines if line.due is not None}
        self._deadlines = deque(sorted({*self._deadlines, *dues}))

    def _ask_again(self, now: int, ts_wall: int) -> deque[bytes]:
        """Give the frames that ask for what was refused, and for books that have a hole."""
        self._asking = []
        while self._refused and self._refused[0][0] <= now:
            _, line = self._refused.popleft()
            if line.state is State.REFUSED:
                line.state = State.ASKED
                self._asking.append(line)
        return deque(chain(self._frames(self._asking, ts_wall), self._anew(now, ts_wall)))

    def _frames(self, lines: Sequence[Line], ts_wall: int) -> deque[bytes]:
        going = [line.wanted.topic for line in lines if line.state is not State.ENDED]
        topics = {topic.key: topic for topic in going}
        return deque(self._make_frames(list(topics.values()), ts_wall) if topics else ())

    def _anew(self, now: int, ts_wall: int) -> Iterator[bytes]:
        topics, leave = self.books.due(now), self._venue.unsubscribe
        left, self._left = self._left, []
        quiet, self._quiet = self._quiet, {}
        going = {t.key for t in topics} | {t.key for t in left}
        topics += [topic for key, topic in quiet.items() if key not in going]
        if (left or topics) and leave is not None:
            yield from leave([*left, *topics], ts_wall)
        if topics:
            yield from self._make_frames(topics, ts_wall)

    def _check(self, now: int) -> None:
        silence_ns = self._heartbeat.silence_ns
        if now - self._heard_at >= silence_ns:
            self._note(Note(note="silence", silence_ns=silence_ns))
            raise Silent(f"nothing was heard for {silence_ns / NS:g} s")
        while self._deadlines and now >= self._deadlines[0]:
            self._deadlines.popleft()
            self._find_late(now)

    def _find_late(self, now: int) -> None:
        venue, late_ns = self._venue, 0
        for line in self._awaited:
            if line.due is not None and line.due <= now and line.state is not State.REFUSED:
                late_ns = venue.slow.get(line.wanted.topic.stream, venue.first_data_ns)
                line.state, line.due = State.LATE, None
                self._note(line.note("late", deadline_ns=late_ns))
        if late_ns and not self.any_heard:
            words = f"it gave no data within {late_ns / NS:g} s of the subscribe"
            raise Silent(f"acknowledged but silent: {words}")

    def _note(self, note: Note) -> None:
        self._notes.append(note)
        self.urgent = True
