"""Slots that go to another node take their live calls with them.

First the slot gets no new call; then nothing more happens to its calls here: messages for them wait for whoever is the
owner next. What was under way is finished, what has changed is written, and the calls are let go without a word. The claim
is given after that, so the heir reads what is final.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from services.sip_cluster.entry import Entry
from services.sip_cluster.node import Node
from services.sip_cluster.signalling import Signalling
from services.sip_cluster.snapshots import Snapshots

NEWBORN_S = 1.0
"""How long calls are waited for whose destination the dial plan has not told yet, seconds; it has 0.8 s unless set."""
FINISH_S = 0.3
"""How long effects under way may take, seconds: a write's budget and a little."""
LOOK_S = 0.02
"""How often newborn calls are looked at, seconds."""


class HandingOver:
    """Lets calls go."""

    def __init__(self, node: Node, snapshots: Snapshots, signalling: Signalling) -> None:
        self._node = node
        self._signalling = signalling
        self._snapshots = snapshots

    async def newborn(self, slot: int) -> None:
        """Waits until each call of the slot has a snapshot: before, it has had no effect that an heir could know of."""
        limit = time.monotonic() + NEWBORN_S
        while time.monotonic() < limit:
            if all(entry.thread.saved for entry in self._entries(slot)):
                return
            await asyncio.sleep(LOOK_S)

    async def let_go(self, slot: int) -> int:
        """Writes what is to be written and lets go of the slot's calls; how many. Messages for the slot have to wait
        already. A caller whose call has no snapshot yet is turned away: the proxy tries another node."""
        entries = self._entries(slot)
        for entry in entries:
            self._node.freeze(entry)
            if not entry.thread.saved:
                self._signalling.turn_away(entry)
        await _some_time(entry.calm for entry in entries)
        await self._snapshots.settle([e for e in entries if e.thread.saved and not e.closed])
        # What is not stored yet, and what has not been deleted yet, the heir would send or find again.
        await _some_time((*(entry.told for entry in entries), *self._snapshots.deleting(slot)))
        left = [entry for entry in entries if not entry.closed]
        self._node.let_go(left)
        return len(left)

    def drop(self, slot: int) -> int:
        """The slot is another's: its calls are let go at once, nothing is written; how many."""
        entries = self._entries(slot)
        self._node.let_go(entries)
        return len(entries)

    def _entries(self, slot: int) -> list[Entry]:
        return list(self._node.by_slot.get(slot, ()))


async def _some_time(work: Iterable[asyncio.Future[None] | None]) -> None:
    """Waits until all of it is done, FINISH_S at most."""
    left = [one for one in work if one is not None and not one.done()]
    if left:
        await asyncio.wait(left, timeout=FINISH_S)
