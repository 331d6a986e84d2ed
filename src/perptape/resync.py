"""Which books of a wire must be begun anew: the one look at content that the recorder takes.

By ids alone, without the levels. Everything else about a book is found out behind the tape.
"""

from collections.abc import Sequence

import msgspec

from perptape.chain import Chain, Verdict
from perptape.errors import CONTROL_ERRORS, LostSync
from perptape.events import NS, Note
from perptape.venues.venue import Link, Topic, Venue

AGAIN_NS = 5 * NS
"""A book is begun anew at most so often: a venue counts what it is asked."""
BASE_AGAIN_NS = 1 * NS
"""A base that came before its stream's first update, or not at all, is asked for again."""
PATIENCE_NS = 30 * NS
"""A book that is not whole for so long, while its wire speaks, ends the wire."""


class Followed(msgspec.Struct):
    """One book."""

    market: str
    topic: Topic
    has_base: bool
    """It begins from a REST call; else from a snapshot that every subscribe brings."""
    chain: Chain
    void_since: int | None = None
    next_try: int = 0
    is_asked: bool = False
    """Its base was asked for, and the call is not over."""


class Resync:
    """The books of one wire; times are monotonic ns."""

    def __init__(self, venue: Venue, topics: Sequence[tuple[str, Topic]]) -> None:
        """``topics``: (market, topic) of all of the wire; those of other channels are ignored."""
        self._link = venue.link
        self._books = {
            topic.key: Followed(market, topic, topic.stream in venue.bases, Chain())
            for market, topic in topics
            if topic.channel == "books" and self._link is not None
        }
        self._void: list[Followed] = []
        self.notes: list[Note] = []
        """What became of books since it was last taken."""

    def read(self, payloads: Sequence[bytes], now: int) -> None:
        """Take in the data frames of one socket read."""
        link = self._link
        if link is None or not self._books:
            return
        for payload in payloads:
            try:
                found = link(payload)
            except CONTROL_ERRORS:
                continue  # it is on the tape, and its readers will say what it is
            book = None if found is None else self._books.get(found.key)
            if found is not None and book is not None:
                self._step(book, found, now)

    def _step(self, book: Followed, link: Link, now: int) -> None:
        before = book.chain.last
        verdict = book.chain.step(link.update_id, link.follows, is_snapshot=link.is_snapshot)
        if verdict is Verdict.APPLY or verdict is Verdict.OLD:
            if book.void_since is not None:
                self._is_whole(book)
            return
        if book.void_since is None:
            book.void_since = now
            self._void.append(book)
            if verdict is Verdict.VOID and not book.has_base:
                book.next_try = now + AGAIN_NS  # its snapshot may be on its way
        if verdict is Verdict.HOLE:
            words = f"update {link.update_id} follows {link.follows}, and we have {before}"
            self._note(book, words)

    def drop(self, key: str) -> None:
        """Follow a book no longer."""
        self.refused(key)
        self._books.pop(key, None)

    def refused(self, key: str) -> None:
        """Ask no more for a book that the venue refuses, until it speaks of it."""
        book = self._books.get(key)
        if book is not None and book.void_since is not None:
            self._is_whole(book)

    def _is_whole(self, book: Followed) -> None:
        book.void_since = None
        self._void = [each for each in self._void if each is not book]

    @property
    def followed(self) -> bool:
        """Whether there is any book to follow."""
        return bool(self._books)

    @property
    def wake_at(self) -> int | None:
        """When a topic is next to be asked for anew; ``None``: none is."""
        return min((b.next_try for b in self._void if not b.has_base), default=None)

    def due(self, now: int) -> list[Topic]:
        """Give the topics to ask for anew now, by unsubscribing and subscribing.

        Raises LostSync if that has not helped for long.
        """
        found = [b for b in self._void if not b.has_base and b.next_try <= now]
        for book in found:
            if book.void_since is not None and now - book.void_since >= PATIENCE_NS:
                raise LostSync(f"the book of {book.market} did not become whole again")
            book.next_try = now + AGAIN_NS
        return [book.topic for book in found]

    def bases_due(self, now: int) -> list[Topic]:
        """Give the topics whose base is to be asked for now; each call must be answered for."""
        found = [b for b in self._void if b.has_base and not b.is_asked and b.next_try <= now]
        for book in found:
            book.is_asked = True
        return [book.topic for book in found]

    def needs_base(self, key: str) -> bool:
        """Tell whether a base is of any use by now."""
        book = self._books.get(key)
        return book is not None and book.void_since is not None

    def no_base(self, key: str, now: int) -> None:
        """Take in that no base came: it is asked for again."""
        book = self._books.get(key)
        if book is not None:
            book.is_asked, book.next_try = False, now + BASE_AGAIN_NS

    def base(self, key: str, update_id: int | None, now: int) -> None:
        """Take in a base that came by REST; one that is too old is asked for again."""
        self.no_base(key, now)
        book = self._books.get(key)
        if book is not None and book.chain.base(update_id) and book.void_since is not None:
            self._is_whole(book)

    def _note(self, book: Followed, reason: str) -> None:
        topic = book.topic
        self.notes.append(
            Note(
                note="resync",
                market=book.market,
                channel=topic.channel,
                symbol=topic.symbol,
                reason=reason,
            )
        )
