"""Timers of a slot's sessions: one heap by wall-clock time, one timer of the loop."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

from services.orchestration.effects import Timer

LONGEST_S = 30.0
"""The clock is looked at again after so long at the latest: somebody may have set it."""


def now_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


class Timers:
    """Calls `ring(session id, effect id)` when a timer is due. Cancelled timers ring too: the session knows better."""

    def __init__(self, ring: Callable[[str, str], None]) -> None:
        self._ring = ring
        self._waiting: list[tuple[int, str, str]] = []
        self._handle: asyncio.TimerHandle | None = None

    def add(self, session_id: str, timer: Timer) -> None:
        """One more."""
        heapq.heappush(self._waiting, (timer.due_us, session_id, timer.id))
        if self._waiting[0][2] == timer.id:
            self._set()

    def close(self) -> None:
        """Nothing rings any more."""
        self._waiting.clear()
        if self._handle is not None:
            self._handle.cancel()

    def _set(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        if self._waiting:
            wait = min(LONGEST_S, max(0.0, (self._waiting[0][0] - now_us()) / 1e6))
            self._handle = asyncio.get_running_loop().call_later(wait, self._due)

    def _due(self) -> None:
        now = now_us()
        while self._waiting and self._waiting[0][0] <= now:
            _, session_id, effect_id = heapq.heappop(self._waiting)
            self._ring(session_id, effect_id)
        self._set()
