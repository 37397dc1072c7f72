"""Slots that go to another node take their live calls with them.

First the slot gets no new call; then nothing more happens to its calls here: messages for them wait for whoever is the
owner next. What was under way is finished, what has changed is written, and the calls are let go without a word. The claim
is given after that, so the heir reads what is final.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from services.sip_cluster.entry import Entry
from services.sip_cluster.node import Node
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.signalling import Signalling
from services.sip_cluster.snapshots import Snapshots

NEWBORN_S = 1.0
"""How long calls are waited for whose destination the dial plan has not told yet, seconds; it has 0.8 s unless set."""
FINISH_S = 0.3
"""How long effects under way may take, seconds: a write's budget and a little."""
LOOK_S = 0.005


class HandingOver:
    """Lets calls go."""

    def __init__(
        self, node: Node, snapshots: Snapshots, publishing: Publishing, signalling: Signalling
    ) -> None:
        self._node = node
        self._signalling = signalling
        self._snapshots = snapshots
        self._publishing = publishing

    async def newborn(self, slot: int) -> None:
        """Waits until each call of the slot has a snapshot: before, it has had no effect that an heir could know of."""
        await self._until(lambda: all(entry.thread.saved for entry in self._entries(slot)), NEWBORN_S)

    async def let_go(self, slot: int) -> int:
        """Writes what is to be written and lets go of the slot's calls; how many. Messages for the slot have to wait
        already. A caller whose call has no snapshot yet is turned away: the proxy tries another node."""
        entries = self._entries(slot)
        for entry in entries:
            entry.frozen = True
            if not entry.thread.saved:
                self._signalling.turn_away(entry)
        await self._until(lambda: not any(entry.saving or entry.outbox for entry in entries), FINISH_S)
        await self._snapshots.settle([e for e in entries if e.thread.saved and not e.closed])
        await self._until(lambda: not self._owes(slot, entries), FINISH_S)
        left = [entry for entry in entries if not entry.closed]
        for entry in left:
            self._node.close(entry)
        return len(left)

    def _owes(self, slot: int, entries: list[Entry]) -> bool:
        """Events that are not stored yet, or snapshots of calls that have ended: the heir would find them again."""
        return self._snapshots.deleting(slot) or any(self._publishing.unacknowledged(e) for e in entries)

    def drop(self, slot: int) -> int:
        """The slot is another's: its calls are let go at once, nothing is written; how many."""
        entries = self._entries(slot)
        for entry in entries:
            self._node.close(entry)
        return len(entries)

    def _entries(self, slot: int) -> list[Entry]:
        return list(self._node.by_slot.get(slot, ()))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Looks until the condition holds, or the time is up."""
        limit = time.monotonic() + seconds
        while True:
            if condition() or time.monotonic() >= limit:
                return
            await asyncio.sleep(LOOK_S)
