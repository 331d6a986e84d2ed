"""How each market is doing, counted at a cost that does not grow with the flood."""

from collections.abc import Collection, Sequence

import msgspec

from perptape.events import NS
from perptape.session import Line, State, Wanted
from perptape.venues.venue import Topic

PROBES = 1000
"""Frames a second and wire that are looked at one by one; the rest is shared out like these."""
QUIET_NS, LONGEST_QUIET_NS = 60 * NS, 3600 * NS
"""A topic that says nothing for so long is asked for again; each time in vain it is given twice as
long, up to the second."""
WORST_FIRST = (
    *("unreachable", "refused", "delisted"),
    *("silent", "late", "connecting", "subscribed", "live"),
)
STATES = {
    State.ASKED: "subscribed",
    State.ACCEPTED: "subscribed",
    State.HEARD: "live",
    State.LATE: "late",
    State.REFUSED: "refused",
}


def _badness(state: str) -> int:
    return WORST_FIRST.index(state)


class MarketStatus(msgspec.Struct, frozen=True):
    """One market at one moment; the keys of the JSON line."""

    ts: int
    market: str
    state: str
    """One of :data:`WORST_FIRST`: of several channels the worst."""
    frames: int
    """Data frames so far, exact up to :data:`PROBES` a second and wire."""
    last_age_s: float | None
    backlog_frames: int
    disk_free_b: int | None
    error: str | None


class Track(msgspec.Struct):
    """One channel of one market, over all the wires that carried it."""

    market: str
    channel: str
    state: str = "connecting"
    error: str | None = None
    frames: int = 0
    last: int | None = None
    """Monotonic ns of its last data."""
    asked: int | None = None
    """When it was last asked for because it said nothing, in monotonic ns."""
    patience_ns: int = QUIET_NS
    """How long it may say nothing before it is asked for again."""


class Tally:
    """Shares out the frames of one wire to its tracks."""

    def __init__(self, tracks: Sequence[Track], wanted: Sequence[Wanted], now: int = 0) -> None:
        self.tracks = list(tracks)
        marks: dict[tuple[bytes, ...], list[int]] = {}
        for at, each in enumerate(wanted):
            marks.setdefault(each.topic.marks, []).append(at)
        self._marks = list(marks.items())
        self._watched: list[tuple[tuple[bytes, ...], list[int]]] = []
        """Those that may soon be asked for again: they are looked for in every frame."""
        self._seen = [0] * len(wanted)
        self._left, self._unseen = PROBES, 0
        self._begun = now

    def count(self, payloads: Sequence[bytes], now: int) -> None:
        """Take in the messages of one socket read."""
        sample = payloads if len(payloads) <= self._left else payloads[: self._left]
        self._left -= len(sample)
        self._unseen += len(payloads) - len(sample)
        for payload in sample:
            for marks, fed in self._marks:
                if all(mark in payload for mark in marks):
                    for at in fed:
                        self._seen[at] += 1
                        self.tracks[at].last = now
                    break
        for payload in payloads[len(sample) :] if self._watched else ():
            self._look_for(payload, now)

    def _look_for(self, payload: bytes, now: int) -> None:
        for marks, fed in self._watched:
            if all(mark in payload for mark in marks):
                for at in fed:
                    self.tracks[at].last = now

    def settle(self) -> None:
        """Give each track its frames since the last call, and start anew."""
        probed = PROBES - self._left
        for track, seen in zip(self.tracks, self._seen, strict=True):
            track.frames += seen + round(self._unseen * seen / max(probed, 1))
        self._seen = [0] * len(self.tracks)
        self._left, self._unseen = PROBES, 0

    def quiet(self, lines: Sequence[Line], slow: Collection[str], now: int) -> list[Topic]:
        """Give the topics to ask for again: they say nothing, and are not of those that may."""
        self.settle()  # whether anybody asks for the status or not
        found, watched = [], set()
        for at, (track, line) in enumerate(zip(self.tracks, lines, strict=True)):
            if line.state not in {State.HEARD, State.LATE} or line.wanted.topic.stream in slow:
                continue
            since = max(track.last or 0, track.asked or self._begun)
            if track.last is not None and track.last > (track.asked or 0):
                track.patience_ns = QUIET_NS
            if now - since >= track.patience_ns // 2:
                watched.add(at)
            if now - since >= track.patience_ns:
                found.append(line.wanted.topic)
                track.asked = now
                track.patience_ns = min(2 * track.patience_ns, LONGEST_QUIET_NS)
        self._watched = [each for each in self._marks if not watched.isdisjoint(each[1])]
        return found

    def follow(self, lines: Sequence[Line]) -> None:
        """Let each track take the state of its topic; of several, the worst."""
        told: set[int] = set()
        for track, line in zip(self.tracks, lines, strict=True):
            if line.state is State.ENDED:
                continue  # it may be heard on another wire by now
            state = STATES[line.state]
            if id(track) not in told or _badness(state) < _badness(track.state):
                track.state, track.error = state, line.reason
            told.add(id(track))


def market_status(  # noqa: PLR0913 - a line of the status table has these
    market: str,
    tracks: Sequence[Track],
    *,
    ts: int,
    mono: int,
    backlog_frames: int,
    disk_free_b: int | None,
    trouble: str | None = None,
) -> MarketStatus:
    """Sum up the channels of one market; ``trouble`` with the disk is everybody's."""
    worst = min(tracks, key=lambda t: _badness(t.state))
    last = max((t.last for t in tracks if t.last is not None), default=None)
    return MarketStatus(
        ts=ts,
        market=market,
        state=worst.state,
        frames=sum(t.frames for t in tracks),
        last_age_s=None if last is None else (mono - last) / 1e9,
        backlog_frames=backlog_frames,
        disk_free_b=disk_free_b,
        error=worst.error or trouble,
    )
