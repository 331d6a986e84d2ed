"""A book on any story of lost, repeated, held back and whole updates: right or void, never frozen.

The venue's truth is a list of states. What the recorder sees by ids (``Resync``) and what is made
of the tape afterwards (``Course``) are told the same story, and must be of one mind.
"""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from perptape.chain import Verdict
from perptape.course import Course
from perptape.events import NS, Book
from perptape.resync import AGAIN_NS, Resync
from perptape.venues import VENUES
from perptape.venues.venue import Link, Topic

PRICES = range(1, 8)


class Venue:
    """States of one book, the changes between them, and their ids."""

    def __init__(self, steps):
        self.ids, self.states, self.updates = [1000], [({1.0: 1.0}, {9.0: 1.0})], [None]
        for step, bid, ask in steps:
            self._change(step, bid, ask)

    def _change(self, step, bid, ask):
        before, (bids, asks) = self.ids[-1], self.states[-1]
        told = [(float(bid[0]), float(bid[1]))], [(float(ask[0] + 8), float(ask[1]))]
        now = tuple(
            {price: qty for price, qty in (side | dict(new)).items() if qty}
            for side, new in zip((bids, asks), told, strict=True)
        )
        self.ids.append(before + step)
        self.states.append(now)
        self.updates.append(
            Book("S", None, None, *told, is_snapshot=False, update_id=before + step, follows=before)
        )

    def whole(self, at):
        bids, asks = self.states[at]
        levels = sorted(bids.items(), reverse=True), sorted(asks.items())
        return Book("S", None, None, *levels, is_snapshot=True, update_id=self.ids[at])

    def state(self, update_id):
        return self.states[self.ids.index(update_id)]


class Listener:
    """The recorder's view by ids, and the ledger's of the same frames."""

    def __init__(self, *, has_base):
        topic = Topic("books", "depth", "S", "S", (b"S",))
        facts = {"link": self.link, "bases": {"depth": "/book"} if has_base else {}}
        venue = msgspec.structs.replace(VENUES["bybit"], **facts)
        self.resync, self.course = Resync(venue, [("m", topic)]), Course.new(has_base=has_base)
        self.now, self.bids, self.asks = 0, {}, {}

    @staticmethod
    def link(update):
        return Link("S", update.is_snapshot, update.update_id, update.follows)

    def frame(self, update):
        self.now += NS // 10
        self.resync.read([update], self.now)
        if self.course.take(update, self.now) is Verdict.APPLY:
            self.apply(update)

    def apply(self, update):
        for side, levels in ((self.bids, update.bids), (self.asks, update.asks)):
            if update.is_snapshot:
                side.clear()
            side.update(levels)
            for price in [price for price, qty in side.items() if not qty]:
                del side[price]

    def base(self, book):
        if not (self.now and self.course.has_base):
            return  # nothing was heard yet that could ask for one
        self.resync.base("S", book.update_id, self.now)
        whole = self.course.base(book, self.now)
        if whole is not None:
            self.apply(whole)

    @property
    def is_void(self):
        assert self.course.chain.is_void == self.resync.needs_base("S") or self.now == 0
        return self.course.chain.is_void

    def check(self, venue):
        if not self.is_void:
            truth = venue.state(self.course.chain.last)
            assert (self.bids, self.asks) == truth


levels = st.tuples(st.sampled_from(PRICES), st.sampled_from([0, 1, 2]))
venues = st.lists(st.tuples(st.integers(1, 3), levels, levels), min_size=20, max_size=40)
acts = st.lists(
    st.tuples(
        st.sampled_from(
            [*["next"] * 6, "lose", "repeat", "hold", "release", "base", "base", "whole"]
        ),
        st.integers(-6, 3),
    ),
    max_size=60,
)


def tell(venue, listener, story):
    """Let the story happen; give up to which state it went."""
    at, held = 0, []
    for act, by in story:
        old = min(max(at + by, 0), len(venue.ids) - 1)
        is_next = act in {"next", "lose", "hold"}
        if is_next and at + 1 >= len(venue.ids) - 3:
            continue
        at += is_next
        match act:
            case "next":
                listener.frame(venue.updates[at])
            case "hold":
                held.append(venue.updates[at])
            case "release" if held:
                listener.frame(held.pop(0))
            case "repeat" if 0 < old <= at:
                listener.frame(venue.updates[old])
            case "base":
                listener.base(venue.whole(old))
            case "whole" if old <= at:
                listener.frame(venue.whole(old))
        listener.check(venue)
    return at


@settings(max_examples=150, deadline=None)
@given(venues.map(Venue), acts, st.booleans())
def test_a_book_is_right_or_void_and_the_recorder_knows_which(venue, story, has_base):
    tell(venue, Listener(has_base=has_base), story)


@settings(max_examples=150, deadline=None)
@given(venues.map(Venue), acts, st.booleans())
def test_whatever_befell_it_a_book_that_is_asked_for_becomes_whole(venue, story, has_base):
    listener = Listener(has_base=has_base)
    at = tell(venue, listener, story)
    for update in venue.updates[at + 1 :]:
        at += 1
        listener.frame(update)
        listener.check(venue)
        listener.now += AGAIN_NS
        if listener.resync.bases_due(listener.now):
            listener.base(venue.whole(at))
        if listener.resync.due(listener.now):
            listener.frame(venue.whole(at))
        listener.check(venue)
    assert not listener.is_void and listener.course.chain.last == venue.ids[-1]


@settings(max_examples=100, deadline=None)
@given(venues.map(Venue), acts, st.integers(0, 5))
def test_ids_that_begin_anew_freeze_no_book(venue, story, low):
    """Unannounced, as after a restart of the venue: it is found out within a few updates."""
    listener = Listener(has_base=False)
    tell(venue, listener, story)
    for number in range(low, low + 40):
        ids = {"update_id": number + 1, "follows": number}
        listener.frame(Book("S", None, None, [(1.0, 1.0)], [], is_snapshot=False, **ids))
        if listener.is_void:
            return
    raise AssertionError("frozen")
