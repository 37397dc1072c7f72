"""Sessions of a slot that only Redis knows: they cost this node a number.

A session that has rested long enough is moved from the records of the living to those of the sleeping, where heirs do
not read them; an event of its call thread, an answer, an input or its first timer brings it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from mesh.store import StoreUnavailable
from services.orchestration.session import Session
from services.orchestration.store import Change, Store
from services.orchestration.timers import LONGEST_S, now_us

AT_ONCE = 100
"""Sleeping sessions whose timers are due that are woken together."""
RETRY_S = 0.5
"""Pause after Redis did not say which timer is due next, seconds."""


class Asleep:
    """The sleeping sessions of one slot. `wake(session id)` is called when a timer of one is due."""

    def __init__(self, slot: int, store: Store, wake: Callable[[str], None]) -> None:
        self._slot = slot
        self._store = store
        self._wake = wake
        self.count = 0
        self._next: asyncio.Task[None] | None = None

    async def take_over(self) -> None:
        """Learns how many there are. Raises StoreUnavailable."""
        self.count = await self._store.count_sleeping(self._slot)
        self._look()

    async def read(self, session_id: str) -> Session | None:
        """One of them. Raises StoreUnavailable."""
        return await self._store.sleeping(self._slot, session_id) if self.count else None

    async def some(self, limit: int) -> list[Session]:
        """Some of them, at most `limit`. Raises StoreUnavailable."""
        return await self._store.list_sleeping(self._slot, limit) if self.count else []

    async def hearing(self, threads: Collection[str]) -> list[str]:
        """Those that hear of any of the call threads. Raises StoreUnavailable."""
        return await self._store.sleeping_of(self._slot, threads) if self.count else []

    def wrote(self, change: Change) -> None:
        """A turn has been written."""
        self.count += len(change.asleep) - len(change.woken)
        if change.asleep or change.woken:
            self._look()

    def close(self) -> None:
        """Nobody is woken here any more."""
        if self._next is not None:
            self._next.cancel()

    def _look(self) -> None:
        """Somebody may be due earlier, or is awake already: looks again who is next."""
        self.close()
        self._next = asyncio.create_task(self._wait()) if self.count else None

    async def _wait(self) -> None:
        while True:
            try:
                first = await self._store.first_due(self._slot, AT_ONCE)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)
                continue
            if not first:
                return
            now = now_us()
            for session_id, _ in [entry for entry in first if entry[1] <= now]:
                self._wake(session_id)
            if first[0][1] <= now:
                return  # waking them is a change: that looks again
            await asyncio.sleep(min(LONGEST_S, (first[0][1] - now) / 1e6))
