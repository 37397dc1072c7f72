"""Recent changes in order, for any number of watches: each reads at its own position, none is waited for.

A reader that falls behind what is kept is told so and begins again; memory is bounded whatever readers do.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from voice.config.v1.config_service_pb2 import DnRegistrations
from voice.config.v1.registration_pb2 import Login

from services.config.integrity import Stored

CHUNK = 850
"""Changes read at once; one revision is never split, and has at most 128, so a response stays below 1000."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change as it is kept: passwords still as stored."""

    revision: int
    tenant: str
    kind: str
    """"dn", "person" … for objects; "registrations"; "logins"."""
    id: str
    """DBID, number of the DN, or login code."""
    value: Stored | DnRegistrations | Login | None
    """None when it is gone."""


class Feed:
    """The last `capacity` changes, and those before them no longer than it takes to double."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: list[Entry] = []
        self._base = 0
        self._changed = asyncio.Event()
        self.floor = 0
        """Changes after this revision are held."""
        self.revision = 0
        """Everything up to this revision has been added."""

    def __len__(self) -> int:
        return len(self._entries)

    def reset(self, revision: int) -> None:
        """What is known now was read at once, at `revision`: there are no changes before it."""
        self._base += len(self._entries) + 1  # no position of before is valid any more
        self._entries.clear()
        self.floor = self.revision = revision
        self._wake()

    def add(self, entries: Sequence[Entry], revision: int) -> None:
        """The changes up to `revision`."""
        self._entries.extend(entries)
        self.revision = max(self.revision, revision)
        excess = len(self._entries) - 2 * self._capacity
        if excess > 0:
            keep = bisect_right(self._entries, self._entries[-self._capacity].revision, key=_revision)
            self.floor = self._entries[keep - 1].revision
            self._base += keep
            del self._entries[:keep]
        self._wake()

    def position_after(self, revision: int) -> int | None:
        """Where a reader goes on that has everything up to `revision`; None when what follows is not held, or
        the revision is of another store."""
        if not self.floor <= revision <= self.revision:
            return None
        return self._base + bisect_right(self._entries, revision, key=_revision)

    def read(self, position: int) -> tuple[Sequence[Entry], int] | None:
        """(changes from a position on, the position after them); None when the position has been dropped."""
        at = position - self._base
        if at < 0:
            return None
        end = min(at + CHUNK, len(self._entries))
        while 0 < end < len(self._entries) and self._entries[end].revision == self._entries[end - 1].revision:
            end += 1
        return self._entries[at:end], self._base + end

    async def wait(self, position: int, timeout: float) -> bool:
        """Whether there is something to read at a position, waiting up to `timeout` seconds for it."""
        if self._base + len(self._entries) != position:
            return True
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _revision(entry: Entry) -> int:
    return entry.revision
