"""When agents are due: a heap of stored deadlines, UTC. What a paused process missed is due at once when it goes on."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final

from services.agent_state.agent import Agent

LONGEST_S: Final = 0.5
"""Longest sleep: the wall clock may be set."""

Due = Callable[[int, str, str], None]


class Timers:
    """Calls `due(slot, tenant, agent id)` when an agent's deadline has passed."""

    def __init__(self, due: Due) -> None:
        self._due = due
        self._heap: list[tuple[int, int, str, str]] = []
        self._set: dict[tuple[int, str, str], int] = {}
        self._wake = asyncio.Event()

    def set(self, slot: int, agent: Agent) -> None:
        """Looks at the agent's deadline again."""
        key = (slot, agent.session.tenant, agent.session.agent_id)
        at = agent.due_us
        if self._set.get(key, 0) == at:
            return
        if not at:
            del self._set[key]
            return
        self._set[key] = at
        heapq.heappush(self._heap, (at, *key))
        self._wake.set()

    async def run(self) -> None:
        """Watches the clock until cancelled."""
        while True:
            now = time.time_ns() // 1000
            while self._heap and self._heap[0][0] <= now:
                at, slot, tenant, agent_id = heapq.heappop(self._heap)
                if self._set.get((slot, tenant, agent_id)) == at:
                    del self._set[slot, tenant, agent_id]
                    self._due(slot, tenant, agent_id)
            self._wake.clear()
            wait = LONGEST_S
            if self._heap:
                wait = min(wait, (self._heap[0][0] - time.time_ns() // 1000) / 1e6)
            if wait <= 0:
                continue
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass
