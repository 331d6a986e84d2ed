"""What a recording wants of one venue, held against the venue's list as that changes."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from perptape.instruments import Instrument, nearest
from perptape.session import Wanted
from perptape.status import Track
from perptape.venues.venue import Venue


class Request(msgspec.Struct, frozen=True):
    """One channel of one instrument, as a plan names it."""

    name: str
    channel: str
    stream: str | None
    """``None``: the venue has no such channel."""


Asked = tuple[Wanted, Track]


class Verdict(msgspec.Struct, frozen=True):
    """A request that comes to nothing: it is refused, or what it asked for has ended."""

    request: Request
    track: Track
    reason: str
    symbol: str | None = None


class News(msgspec.Struct):
    """What a list means for what is wanted."""

    opened: list[Asked] = []
    refused: list[Verdict] = []
    ended: list[Verdict] = []


class Listed:
    """A venue's list by name and by symbol; of two with one name the one that trades."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self.names: dict[str, Instrument] = {}
        self.symbols: dict[str, Instrument] = {}
        for each in sorted(instruments, key=lambda each: each.status != "trading"):
            self.names.setdefault(each.name, each)
            self.symbols.setdefault(each.symbol, each)


class Roster:
    """The symbols that are recorded of one venue, by request."""

    def __init__(self, venue: Venue, tracks: Mapping[Request, Track]) -> None:
        """``tracks`` may grow."""
        self._venue, self._tracks = venue, tracks
        self._symbols: dict[Request, str] = {}
        self._seen: set[Request] = set()
        """Those of which it was said before that they are refused, or have ended."""
        self._traded: set[str] = set()
        """Symbols that were seen to trade."""

    def symbols(self, channel: str) -> list[str]:
        """Give what is recorded of a channel now."""
        found = (symbol for r, symbol in self._symbols.items() if r.channel == channel)
        return list(dict.fromkeys(found))

    def would_end(self, instruments: Sequence[Instrument]) -> bool:
        """Tell whether by this list anything has ended."""
        listed = Listed(instruments)
        return any(self._why_ended(r, s, listed) for r, s in self._symbols.items())

    def read(self, instruments: Sequence[Instrument]) -> News:
        """Take in the whole list: what ends, what begins, what is not to be had."""
        news, listed = News(), Listed(instruments)
        for request, symbol in list(self._symbols.items()):
            if reason := self._why_ended(request, symbol, listed):
                del self._symbols[request]
                self._seen.add(request)
                verdict = Verdict(request, self._tracks[request], reason, symbol)
                news.ended.append(verdict)
        for request, track in self._tracks.items():
            if request not in self._symbols:
                self._try(request, track, listed, news)
        self._traded |= {s for s, each in listed.symbols.items() if each.status == "trading"}
        return news

    def _why_ended(self, request: Request, symbol: str, listed: Listed) -> str | None:
        """Give why a symbol is not to be recorded any longer, ``None`` if it is."""
        one = listed.symbols.get(symbol)
        if one is None:
            other = listed.names.get(request.name)
            renamed = "" if other is None else f", {request.name} is {other.symbol} now"
            return f"{symbol} is no longer listed on {self._venue.name}{renamed}"
        if one.name != request.name:
            return f"{symbol} is {one.name} now"
        if one.status != "trading" and symbol in self._traded:
            return f"{symbol} no longer trades: its status is {one.status}"
        return None

    def _try(self, request: Request, track: Track, listed: Listed, news: News) -> None:
        """Find what is asked for; what was refused or has ended only if it trades."""
        one, topic = listed.names.get(request.name), self._venue.topic
        if one is not None and request in self._seen and one.status != "trading":
            return
        if one is not None and request.stream is not None and topic is not None:
            self._symbols[request] = one.symbol
            for stream in request.stream.split("+"):
                wanted = Wanted(track.market, topic(request.channel, stream, one.symbol))
                news.opened.append((wanted, track))
        elif request not in self._seen:
            self._seen.add(request)
            reason = f"{self._venue.name} has no {request.channel}"
            if one is None:
                reason = self._not_listed(request.name, listed)
            news.refused.append(Verdict(request, track, reason))

    def _not_listed(self, name: str, listed: Listed) -> str:
        near = nearest(name, listed.names)
        return f"not listed on {self._venue.name}" + (f"; nearest: {near}" if near else "")
