"""The newest entries of a followed stream, held once for all of its readers. Pure.

A reader is a cursor. While it is not older than `start` it is served from memory; an older one reads Redis up
to `start` first. So a slow reader costs nothing, and blocks nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from services.redis_queue.entry_id import EntryId

T = TypeVar("T")


class Tail(Generic[T]):
    """Entries with start < id <= position, without a gap."""

    def __init__(self, position: EntryId, capacity: int) -> None:
        self.start = position
        """Everything after this and up to `position` is here."""
        self.position = position
        """Id of the newest entry known."""
        self.behind = False
        """True after a push that did not fit: entries are in Redis that are not here."""
        self._capacity = capacity
        self._ids: list[EntryId] = []
        self._values: list[T] = []
        self._listeners: set[Callable[[], None]] = set()

    def push(self, before: EntryId, entries: Sequence[tuple[EntryId, T]]) -> bool:
        """Entries just appended through this node; `before` is the id of the entry before the first of them.

        False when they do not follow what is known: another node appended in between. They are not taken then
        and will come by `merge`. Entries known already are ignored.
        """
        if before > self.position:
            self.behind = True
            return False
        self._add(entries)
        return True

    def merge(self, entries: Sequence[tuple[EntryId, T]]) -> int:
        """Entries read from Redis after a position that was known, without a gap; tells how many were new."""
        self.behind = False
        return self._add(entries)

    def after(self, cursor: EntryId, limit: int) -> list[tuple[EntryId, T]] | None:
        """Entries after a cursor, at most `limit`; None when the cursor is older than what is here."""
        if cursor < self.start:
            return None
        index = bisect_right(self._ids, cursor)
        return list(zip(self._ids[index : index + limit], self._values[index : index + limit], strict=True))

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` is called whenever there is more."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Not any more."""
        self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def __len__(self) -> int:
        return len(self._ids)

    def _add(self, entries: Sequence[tuple[EntryId, T]]) -> int:
        new = [entry for entry in entries if entry[0] > self.position]
        if not new:
            return 0
        self._ids += [entry[0] for entry in new]
        self._values += [entry[1] for entry in new]
        self.position = self._ids[-1]
        if len(self._ids) > 2 * self._capacity:
            excess = len(self._ids) - self._capacity
            self.start = self._ids[excess - 1]
            del self._ids[:excess]
            del self._values[:excess]
        for listener in tuple(self._listeners):
            listener()
        return len(new)
