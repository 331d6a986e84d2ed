"""The sequence of one book, by ids alone: whether an update changes the state that we have."""

from enum import Enum

import msgspec

OLD_IN_A_ROW = 16
"""More updates than this that are all older than the book: the venue counts anew, unannounced."""
OLD_AFTER_BASE = 5000
"""Likewise after a base that a REST call brought, which may be well ahead of the stream."""


class Verdict(Enum):
    """What an update is to the book."""

    APPLY = "apply"
    OLD = "old"
    """The book has it already."""
    HOLE = "hole"
    """Something before it was lost: the book is void from here on."""
    VOID = "void"
    """There is no book that it could change."""


class Chain(msgspec.Struct):
    """One book on one wire. Without an id there is nothing to check, and everything applies."""

    last: int | None = None
    """The id of the state that we have."""
    is_void: bool = True
    run_first: int | None = None
    """While void: what the first of the updates follows that are whole among themselves."""
    run_last: int | None = None
    _is_fresh: bool = False
    """Nothing was applied to the snapshot yet."""
    _is_base: bool = False
    """Likewise, and it came by REST."""
    _old: int = 0

    def step(self, update_id: int | None, follows: int | None, *, is_snapshot: bool) -> Verdict:
        """Take in the ids of one frame."""
        if is_snapshot:
            self._begin(update_id)
            return Verdict.APPLY
        if self.is_void:
            if self.run_last is None or follows != self.run_last:
                self.run_first = follows
            self.run_last = update_id
            return Verdict.VOID
        return self._change(update_id, follows)

    def _change(self, update_id: int | None, follows: int | None) -> Verdict:
        if follows is None or update_id is None or self.last is None or follows == self.last:
            return self._apply(update_id)
        if self._is_fresh and 0 <= follows <= self.last < update_id:
            return self._apply(update_id)
        most = OLD_AFTER_BASE if self._is_base else OLD_IN_A_ROW
        if 0 <= follows < update_id <= self.last and self._old < most:
            self._old += 1
            return Verdict.OLD
        self.void()
        self.run_first, self.run_last = follows, update_id
        return Verdict.HOLE

    def _apply(self, update_id: int | None) -> Verdict:
        self.last = self.last if update_id is None else update_id
        self._is_fresh, self._is_base, self._old = False, False, 0
        return Verdict.APPLY

    def _begin(self, update_id: int | None) -> None:
        self.last, self.is_void, self._is_fresh, self._old = update_id, False, True, 0
        self._is_base, self.run_first, self.run_last = False, None, None

    def void(self) -> None:
        """Have no book from here on."""
        self.last, self.is_void, self._is_fresh, self._old = None, True, False, 0
        self._is_base, self.run_first, self.run_last = False, None, None

    def base(self, update_id: int | None) -> bool:
        """Begin from a book that came by REST; False if updates between it and ours are lost.

        A book that is not void stays as it is.
        """
        if not self.is_void:
            return True
        first, last = self.run_first, self.run_last
        if first is not None and update_id is not None and first > update_id:
            return False
        self._begin(update_id)
        self._is_base = True
        if last is not None and update_id is not None and last > update_id:
            self.last, self._is_fresh, self._is_base = last, False, False
        return True
