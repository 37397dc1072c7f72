"""Ten times a second an entry is added to this node's health stream: whether Redis takes writes, and how fast, is known without
traffic, and a lost primary is noticed at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from mesh.telemetry import Metrics, logger
from services.redis_queue.store import Store

EVERY_S: Final = 0.1
"""Between two probes; one that has no answer by then has timed out."""
ALARM: Final = 10
"""Timeouts within a second that are an alarm: not one probe came through."""


class Probe:
    """The probes of a node."""

    def __init__(self, store: Store, node: str, metrics: Metrics) -> None:
        self._store = store
        self._node = node
        self._log = logger("probe")
        self._last: deque[bool] = deque(maxlen=ALARM)
        self._seconds = metrics.histogram("probe_seconds", "From a probe to the answer of Redis")
        self._timeouts = metrics.counter("probe_timeouts_total", "Probes without an answer in 0.1 s")
        metrics.gauge(
            "probe_alarm", f"1 while {ALARM} probes within a second have had no answer"
        ).set_function(lambda: float(self.alarm))

    @property
    def alarm(self) -> bool:
        """Whether the last ten probes, those of a second, all timed out."""
        return sum(not good for good in self._last) >= ALARM

    async def run(self) -> None:
        """Probes until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + EVERY_S, loop.time())  # a loop that stood still does not make up for it
            await self._once()
            await asyncio.sleep(due - loop.time())

    async def _once(self) -> None:
        before = self.alarm
        began = time.monotonic()
        probe = asyncio.ensure_future(self._store.probe(self._node, time.time_ns() // 1000))
        probe.add_done_callback(_looked_at)  # an answer that comes later is no answer
        done, _ = await asyncio.wait({probe}, timeout=EVERY_S)
        good = bool(done) and probe.exception() is None
        self._last.append(good)
        if good:
            self._seconds.observe(time.monotonic() - began)
        else:
            self._timeouts.inc()
        if self.alarm and not before:
            self._log.error("redis takes no writes")
        elif before and not self.alarm:
            self._log.info("redis takes writes again")


def _looked_at(probe: asyncio.Future[None]) -> None:
    if not probe.cancelled():
        probe.exception()
