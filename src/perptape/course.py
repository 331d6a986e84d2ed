"""What makes updates a book: which of them may be applied, and what waits for a base."""

from collections import deque
from typing import Self

import msgspec

from perptape.chain import Chain, Verdict
from perptape.events import Book

PENDING = 5000
"""Updates that wait for the book that they change; of more the first are forgotten."""


class Course(msgspec.Struct):
    """One book on one wire: which of its updates are to be applied."""

    chain: Chain
    pending: deque[Book]
    last: int = 0
    """``ts_recv`` of the last update that was."""

    @classmethod
    def new(cls) -> Self:
        return cls(Chain(), deque(maxlen=PENDING))

    def take(self, update: Book, ts: int) -> Verdict:
        """Take in an update that came at ``ts``."""
        verdict = self.chain.step(update.update_id, update.follows, is_snapshot=update.is_snapshot)
        if verdict is Verdict.APPLY:
            self.last = ts
            self.pending.clear()
        elif verdict is not Verdict.OLD:
            if verdict is Verdict.HOLE or self.chain.run_first == update.follows:
                self.pending.clear()  # those before cannot be joined to it
            self.pending.append(update)
            self.chain.run_first = self.pending[0].follows
        return verdict

    def base(self, book: Book, ts: int) -> Book | None:
        """Begin from a book that came by REST; give it as it is now, with what came before it.

        ``None`` if it is not needed, or older than what we have of the stream.
        """
        pending = list(self.pending)
        if not self.chain.is_void or not self.chain.base(book.update_id):
            return None
        self.last = ts
        self.pending.clear()
        newer = [u for u in pending if (u.update_id or 0) > (book.update_id or 0)]
        return rolled(book, newer)


def rolled(book: Book, updates: list[Book]) -> Book:
    """Give a whole book after some updates, the best price first."""
    if not updates:
        return book
    bids, asks = dict(book.bids), dict(book.asks)
    for update in updates:
        bids.update(update.bids)
        asks.update(update.asks)
    last = updates[-1]
    return msgspec.structs.replace(
        book,
        ts_event=last.ts_event,
        ts_send=last.ts_send,
        update_id=last.update_id,
        bids=sorted((level for level in bids.items() if level[1]), reverse=True),
        asks=sorted(level for level in asks.items() if level[1]),
    )
