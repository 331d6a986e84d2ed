"""What makes updates a book: which of them may be applied, and what waits for a base."""

from collections.abc import Iterable
from typing import Self

import msgspec

from perptape.chain import Chain, Verdict
from perptape.events import Book, Level

PENDING = 1 << 14
"""Prices whose changes wait for the book that they change; of more the older half is forgotten."""

Waiting = dict[float, tuple[float, int]]
"""By price: the last quantity that was said, and by which update."""


class Course(msgspec.Struct):
    """One book on one wire: which of its updates are to be applied."""

    chain: Chain
    has_base: bool
    """It begins from a REST call; else nothing is to wait for one."""
    bids: Waiting
    asks: Waiting
    newest: Book | None = None
    """The last of the updates that wait."""
    last: int = 0
    """``ts_recv`` of the last update that was applied."""

    @classmethod
    def new(cls, *, has_base: bool) -> Self:
        return cls(Chain(), has_base, {}, {})

    def take(self, update: Book, ts: int) -> Verdict:
        """Take in an update that came at ``ts``."""
        chain, before = self.chain, self.chain.run_last
        verdict = chain.step(update.update_id, update.follows, is_snapshot=update.is_snapshot)
        if verdict is Verdict.APPLY:
            self.last = ts
            self._forget()
        elif verdict is not Verdict.OLD and self.has_base:
            if verdict is Verdict.HOLE or before is None or update.follows != before:
                self._forget()  # those before cannot be joined to it
            self._keep(update)
        return verdict

    def go_on(self, update_id: int | None, ts: int, *, began: bool, changed: bool) -> None:
        """Take in many updates that were to be applied, the last at ``ts``, by where they led.

        ``began``: there was a whole book; ``changed``: then changes of it, or of what there was.
        """
        if began:
            self.chain.step(update_id, None, is_snapshot=True)
        if changed:
            self.chain.step(update_id, None, is_snapshot=False)
        self.last = ts

    def _keep(self, update: Book) -> None:
        self.newest, number = update, update.update_id or 0
        self.bids.update((price, (qty, number)) for price, qty in update.bids)
        self.asks.update((price, (qty, number)) for price, qty in update.asks)
        if len(self.bids) + len(self.asks) > PENDING:
            self._forget_first()

    def _forget_first(self) -> None:
        """Keep the newer half; what comes to be the base must have the others."""
        sides = (self.bids, self.asks)
        numbers = sorted(of for side in sides for _, of in side.values())
        cut = self.chain.run_first = numbers[len(numbers) // 2]
        self.bids, self.asks = (
            {price: told for price, told in side.items() if told[1] > cut} for side in sides
        )

    def _forget(self) -> None:
        if self.newest is not None:
            self.newest, self.bids, self.asks = None, {}, {}

    def base(self, book: Book, ts: int) -> Book | None:
        """Begin from a book that came by REST; give it as it is now, with what came before it.

        ``None`` if it is not needed, or older than what we have of the stream.
        """
        if not (self.has_base and self.chain.is_void and self.chain.base(book.update_id)):
            return None
        self.last = ts
        newest, number = self.newest, book.update_id or 0
        if newest is not None and (newest.update_id or 0) > number:
            book = msgspec.structs.replace(
                book,
                ts_event=newest.ts_event,
                ts_send=newest.ts_send,
                update_id=newest.update_id,
                bids=sorted(_rolled(book.bids, self.bids, number), reverse=True),
                asks=sorted(_rolled(book.asks, self.asks, number)),
            )
        self._forget()
        return book


def _rolled(levels: Iterable[Level], waiting: Waiting, number: int) -> Iterable[Level]:
    """Give a side after the changes that are newer than it."""
    now = dict(levels)
    now.update((price, qty) for price, (qty, of) in waiting.items() if of > number)
    return (level for level in now.items() if level[1])
