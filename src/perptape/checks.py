"""What a stream's own frames say of it: holes, contradictions, and times without a word.

All of it is computed behind the tape, in its order, the same live and afterwards.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from perptape.chain import Verdict
from perptape.course import Course
from perptape.events import NS, Book, Event, Funding, Mark, Quote, Trade
from perptape.instruments import base_of, quote_of
from perptape.timeline import Content, Stream
from perptape.trust import Trust, Wire
from perptape.venues import VENUES

if TYPE_CHECKING:
    from perptape.book import Books

FLOOR_NS = {"quotes": 3 * NS, "books": 5 * NS, "trades": 30 * NS, "marks": 20 * NS}
"""A stream is not called stalled before; of other channels ten minutes."""
FLOOR_OTHER_NS = 600 * NS
LONGEST, MEAN = 4, 100
"""It is stalled after so many times its longest or its mean gap, whichever is more."""
GAPS = 100
"""From so many gaps on its cadence is known."""
LEARN_EVERY = 64
"""So many frames of a stream pass between two looks at its cadence."""
PAUSE_NS, PAUSE = 1 * NS, 20
"""A stream that said nothing for this long, or so many times its mean gap, was not awake."""
LATE_NS = 2 * NS
PROMISED = 3
"""So many repetitions that the venue promises must fail to come."""
CONTRADICTED_NS = 2 * NS
"""A book that contradicts the quotes for so long is wrong."""
TOLD = 4096
"""So many of the last trades of a stream are known by their ids."""
POLLED = -1
"""The wire of what was told before any."""
HOUR_NS = 3600 * NS
ODD_RATIO, ODD_NS = 1.3, 5 * NS
"""A market whose price is so many times that of the same coin elsewhere, for so long and for most
of the time, is of another coin; a price older than that is not compared."""
GUARD_NS = 1 * NS
"""So often they are compared."""
DOLLARS = ("USD", "FDUSD", "TUSD", "BUSD", "DAI")
"""How the names of dollars begin; prices in other money are compared among themselves."""
OUTSIDE, OUTSIDE_NS, OUTSIDE_BPS = 5, 1 * NS, 5.0
"""So many trades in a row, over at least such a time, so far outside quotes that did not change
meanwhile, prove these old."""


class Oddness(msgspec.Struct):
    """How long a market's price was that of the same coin elsewhere, and how long it was not."""

    same_ns: int = 0
    odd_ns: int = 0
    last: int = 0
    """When it was last compared."""

    def compare(self, ts: int, *, is_odd: bool) -> None:
        """Take in one look; of a pause without one only a little counts."""
        span, self.last = ts - self.last if self.last else 0, ts
        span = min(max(span, 0), ODD_NS // 2)
        self.odd_ns, self.same_ns = (
            (self.odd_ns + span, self.same_ns) if is_odd else (self.odd_ns, self.same_ns + span)
        )

    @property
    def is_odd(self) -> bool:
        return self.odd_ns >= ODD_NS and self.odd_ns > self.same_ns


class Checks:
    """Told of every event before it becomes a row; tells ``trust`` what it finds."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._peers: dict[tuple[str, str], dict[tuple[str, bool], Stream]] = defaultdict(dict)
        """The streams of one channel and coin by market, recorded or imported; of an imported one
        the last piece."""
        self._own: dict[tuple[str, str, bool], Stream] = {}
        """By market and channel likewise, for what they say of each other."""
        self._odd: dict[str, Oddness] = defaultdict(Oddness)
        self._guarded = 0
        self.compared = False
        """The trades that come were compared with best prices on the fast way."""
        self._books: Books | None = None
        self._sift: dict[type, Callable[[Stream, Content, int, int, Event], Event | None]] = {
            Quote: self._quote,
            Book: self._book,
            Trade: self._trade,
            Mark: self._partial,
            Funding: self._partial,
        }

    def take(self, event: Event, stream: Stream, wire: Wire, seq: int, ts: int) -> Event | None:
        """Give what is to become a row of it, ``None`` if nothing is; trust the stream or not."""
        content = stream.content
        if content is None or content.wire != wire.number:
            content = self._begin(stream, wire, seq)
        row = self._sift[type(event)](stream, content, seq, ts, event)
        if not (stream.trusted or stream.doubt):
            self._trust.heard(stream, wire, ts)
        return row

    def _begin(self, stream: Stream, wire: Wire, seq: int) -> Content:
        """Remember nothing of the wire before."""
        old = stream.content
        self._peers[stream.channel, _base(stream)][stream.market, wire.imported] = stream
        self._own[stream.market, stream.channel, wire.imported] = stream
        stream.doubt = ""
        stream.content = Content(wire.number, seq)
        if old is not None:
            stream.content.book, stream.content.paid_until = old.book, old.paid_until
            if old.wire == POLLED:
                stream.content.known = old.known
        return stream.content

    def _void(self, stream: Stream, ts: int, reason: str, words: str) -> None:
        """Trust a stream no longer, from ``ts`` on, until the doubt is taken back."""
        if stream.trusted:
            # What a file says of a time after its last frame was not to be trusted anyway.
            stream.distrust(min(ts, stream.last) if self._is_file(stream) else ts, reason, words)
        stream.doubt = reason

    def _is_file(self, stream: Stream) -> bool:
        wire = None if stream.content is None else self._trust.wires.get(stream.content.wire)
        return wire is not None and wire.imported

    def _beside(self, stream: Stream, channel: str) -> Stream | None:
        return self.own(stream.market, channel, is_file=self._is_file(stream))

    def own(self, market: str, channel: str, *, is_file: bool) -> Stream | None:
        """Give what was heard last of a market's channel, recorded or imported."""
        return self._own.get((market, channel, is_file))

    def _stands(self, stream: Stream | None, ts: int) -> Content | None:
        """Give what a stream says at a moment, ``None`` if it is not to be believed.

        A file that said nothing for a while may have ended, and be of quite another time.
        """
        if stream is None or not stream.trusted:
            return None
        return stream.content if not self._is_file(stream) or _is_new(stream, ts) else None

    # How often it speaks

    def late(self, stream: Stream, ts: int) -> bool:
        """Distrust a stream that said nothing for too long while others spoke.

        ``ts``: when it spoke again, when the tape ended, or in between: what is told is the same.
        """
        if not (stream.trusted and self._others_move(stream, ts)):
            return False
        words = f"nothing for longer than {stream.bound / NS:.1f} s"
        stream.distrust(stream.last, "stalled", words)
        return True

    def _others_move(self, stream: Stream, ts: int) -> bool:
        """Tell whether another venue spoke all the while, of which we know that it does.

        A promise needs no witness, unless there are some and all of them were as silent: then it
        was not the stream.
        """
        begin, end = stream.last + stream.bound // 2, ts - stream.bound // 2
        mine = stream.market.partition(":")[0]
        others = [
            peer
            for peer in self._peers[stream.channel, _base(stream)].values()
            if peer.gaps >= GAPS and not peer.market.startswith(f"{mine}:")
        ]
        if not others:
            return stream.promised_ns > 0
        return any(peer.awake_since < begin and peer.last > end for peer in others)

    def learn(self, stream: Stream, gap: int) -> None:
        """Take in a time between two frames of a stream that is trusted."""
        stream.longest_ns = max(stream.longest_ns, gap)
        floor_ns = FLOOR_NS.get(stream.channel, FLOOR_OTHER_NS)
        if stream.promised_ns:
            stream.bound = promised_bound(stream)
        elif stream.gaps >= GAPS:
            mean_ns = stream.gaps_ns // stream.gaps
            stream.pause = max(PAUSE_NS, PAUSE * mean_ns)
            stream.bound = max(floor_ns, LONGEST * stream.longest_ns, MEAN * mean_ns)

    def look(self, ts: int) -> None:
        """Look at all streams at a moment: who is late by now."""
        for streams in self._peers.values():
            for stream in streams.values():
                if ts - stream.last > stream.bound:
                    self.late(stream, ts)

    # Two coins under one ticker

    def guard(self, ts: int, unit: Callable[[Stream], float]) -> None:
        """Put markets aside whose price is not that of the coin elsewhere.

        ``unit``: how many coins a stream's printed price buys.
        """
        if abs(ts - self._guarded) < GUARD_NS:
            return
        self._guarded = ts
        for (channel, base), streams in self._peers.items():
            if channel == "quotes" and len(streams) > 1:
                monies: dict[str, dict[str, float]] = defaultdict(dict)
                for stream in streams.values():
                    if mid := _mid(stream, ts, unit):
                        monies[_money(stream.market)][stream.market] = mid
                for mids in monies.values():
                    self._guard(base, mids, ts)

    def _guard(self, base: str, mids: dict[str, float], ts: int) -> None:
        middle = median(mids.values())
        for market, mid in mids.items() if len(mids) > 1 else ():
            # Of two nobody knows which is wrong: each is held against the other.
            usual = middle if len(mids) > 2 else sum(mids.values()) - mid  # noqa: PLR2004
            odd = self._odd[market]
            odd.compare(ts, is_odd=max(mid / usual, usual / mid) >= ODD_RATIO)
            if odd.is_odd:
                words = f"its price per {base} is {mid:g}, elsewhere it is {usual:g}: another coin?"
                self._trust.quarantine(market, words)
            else:
                self._trust.acquit(market)

    # What it says

    def _quote(
        self, stream: Stream, content: Content, seq: int, ts: int, event: Event
    ) -> Event | None:
        del seq
        assert isinstance(event, Quote)  # noqa: S101 - by the table of this class
        bid, ask = event.bid_price, event.ask_price
        content.bid = math.nan if bid is None else bid
        content.ask = math.nan if ask is None else ask
        content.against = 0
        self._crossed(stream, content, ts)
        return event

    def _crossed(self, stream: Stream, content: Content, ts: int) -> bool:
        if content.bid >= content.ask:
            words = f"its bid {content.bid:g} stands at or over its ask {content.ask:g}"
            self._void(stream, ts, "crossed", words)
            return True
        if stream.doubt in {"crossed", "outside"}:
            stream.doubt = ""
        return False

    def _book(
        self, stream: Stream, content: Content, seq: int, ts: int, event: Event
    ) -> Event | None:
        del seq
        assert isinstance(event, Book)  # noqa: S101
        if content.course is None:
            content.course = Course.new(has_base=stream.has_base)
        course, before, last = content.course, content.course.chain.last, content.course.last
        verdict = course.take(event, ts)
        if verdict is Verdict.APPLY:
            self._applied(stream, content, ts, event)
            return event
        if verdict is Verdict.HOLE:
            words = f"update {event.update_id} follows {event.follows}, and the book had {before}"
            self._void(stream, last, "sequence", words)
        elif verdict is Verdict.VOID and not stream.doubt:
            self._void(stream, ts, "start", "there is no book yet that could change")
        return None

    def base(self, book: Event, stream: Stream, ts: int) -> Event | None:
        """Take in a book that came by REST; give it as it is now, ``None`` if it is of no use."""
        content = stream.content
        if content is None or content.course is None or not isinstance(book, Book):
            return None
        whole = content.course.base(book, ts)
        if whole is not None:
            self._applied(stream, content, ts, whole)
            if not (stream.trusted or stream.doubt):
                self._trust.heard(stream, self._trust.wires[content.wire], ts)
        return whole

    def polled(self, event: Event, stream: Stream, ts: int) -> Event | None:
        """Take in what a REST call told beside a stream: it proves nothing about the stream."""
        if not isinstance(event, Mark | Funding):
            return None
        if stream.content is None:
            stream.content = Content(POLLED, 0)
        return self._partial(stream, stream.content, 0, ts, event)

    def _applied(self, stream: Stream, content: Content, ts: int, update: Book) -> None:
        if stream.doubt in {"sequence", "start"}:
            stream.doubt = ""
        if content.book < 0:
            content.book = self.books.new()
        content.bid, content.ask = self.books.one(content.book, update)
        self.moved(stream, content, ts)

    def moved(self, stream: Stream, content: Content, ts: int) -> None:
        """Look at a book after an update: is it crossed, does it contradict the quotes."""
        content.against = 0
        if not self._crossed(stream, content, ts):
            self._compare(stream, content, ts)

    @property
    def books(self) -> "Books":
        if self._books is None:
            from perptape.book import Books  # noqa: PLC0415 - numba, half a second

            self._books = Books()
        return self._books

    def _compare(self, stream: Stream, content: Content, ts: int) -> None:
        top = self._stands(self._beside(stream, "quotes"), ts)
        if top is None or not (content.bid > top.ask or content.ask < top.bid):
            content.since = 0
            if stream.doubt == "mismatch":
                stream.doubt = ""
        elif not content.since:
            content.since = ts
        elif ts - content.since >= CONTRADICTED_NS and stream.doubt != "mismatch":
            words = f"its best prices {content.bid:g} / {content.ask:g} contradict the quotes"
            self._void(stream, content.since, "mismatch", words)

    def _trade(
        self, stream: Stream, content: Content, seq: int, ts: int, event: Event
    ) -> Event | None:
        assert isinstance(event, Trade)  # noqa: S101
        venue = VENUES.get(stream.market.partition(":")[0])
        replayed = venue is not None and venue.replays_trades and seq == content.first_seq
        if event.is_history or replayed or _is_known(stream, event):
            return None
        for channel in ("quotes", "books") if not self.compared else ():
            top = self._beside(stream, channel)
            stands = self._stands(top, ts)
            if top is not None and stands is not None:
                self._outside(top, stands, event, ts)
        return event

    def _outside(self, top: Stream, content: Content, trade: Trade, ts: int) -> None:
        """Count trades outside a top that says nothing meanwhile."""
        far = trade.price * OUTSIDE_BPS / 1e4
        if not (trade.price > content.ask + far or trade.price < content.bid - far):
            content.against = 0
            return
        content.against += 1
        if content.against == 1:
            content.against_since = ts
        elif content.against >= OUTSIDE and ts - content.against_since >= OUTSIDE_NS:
            words = f"{content.against} trades far from its best prices, which did not change"
            self._void(top, content.against_since, "outside", words)

    @staticmethod
    def _paid(content: Content, event: Funding) -> Event | None:
        """Tell of a payment once, however often the venue does."""
        if event.ts_funding is None or event.ts_funding <= content.paid_until:
            return None
        content.paid_until = event.ts_funding
        return event

    def _partial(
        self, stream: Stream, content: Content, seq: int, ts: int, event: Event
    ) -> Event | None:
        """Put partial news together: what is not said is as it was."""
        del stream, seq, ts
        assert isinstance(event, Mark | Funding)  # noqa: S101
        if isinstance(event, Funding) and event.is_settled:
            return self._paid(content, event)
        known = content.known
        if known is not None:
            silent = [n for n in PARTIAL[type(event)] if getattr(event, n) is None]
            event = replace(event, **{name: getattr(known, name) for name in silent})
        content.known = event
        return event


def promised_bound(stream: Stream) -> int:
    """Give for how long a stream may be silent that the venue promises to repeat."""
    return PROMISED * stream.promised_ns + LATE_NS


def spaced(events: Sequence[Event]) -> list[Event]:
    """Give payments of one answer the time between them, which is what each was for.

    An interval may have changed since: today's says nothing about a payment of last month.
    """
    paid = [e for e in events if isinstance(e, Funding) and e.is_settled and e.ts_funding]
    times: dict[str, list[int]] = defaultdict(list)
    for each in paid:
        times[each.symbol].append(each.ts_funding or 0)
    for of_symbol in times.values():
        of_symbol.sort()
    return sorted((_spaced(event, times) for event in events), key=_ts_funding)


def _spaced(event: Event, times: Mapping[str, list[int]]) -> Event:
    if not (isinstance(event, Funding) and event.is_settled and event.ts_funding):
        return event
    own = times[event.symbol]
    at = bisect_left(own, event.ts_funding)
    if event.interval_h is not None or at == 0:
        return event
    hours = round((event.ts_funding - own[at - 1]) / HOUR_NS, 3)
    return replace(event, interval_h=hours) if hours else event


def _ts_funding(event: Event) -> int:
    return (event.ts_funding or 0) if isinstance(event, Funding) else 0


PARTIAL: dict[type, tuple[str, ...]] = {
    Mark: ("mark_price", "index_price", "open_interest"),
    Funding: ("rate", "interval_h", "ts_funding"),
}


def _is_known(stream: Stream, trade: Trade) -> bool:
    """Tell whether a trade was told before: venues repeat some, and each counts once."""
    if trade.trade_id is None:
        return False
    if trade.trade_id in stream.told:
        return True
    stream.told[trade.trade_id] = None
    if len(stream.told) > TOLD:
        stream.told.pop(next(iter(stream.told)))
    return False


def _mid(stream: Stream, ts: int, unit: Callable[[Stream], float]) -> float | None:
    """Give the price per coin, ``None`` if there is none of now."""
    content = stream.content
    if content is None or not _is_new(stream, ts):
        return None
    mid = (content.bid + content.ask) / 2 / unit(stream)
    return mid if mid > 0 else None


def _is_new(stream: Stream, ts: int) -> bool:
    """Tell whether it spoke just before; what is imported may be of a later time than this."""
    return 0 <= ts - stream.last <= ODD_NS


def _money(market: str) -> str:
    quote = quote_of(market.partition(":")[2])
    return "USD" if quote.startswith(DOLLARS) else quote


def _base(stream: Stream) -> str:
    return base_of(stream.market.partition(":")[2])
