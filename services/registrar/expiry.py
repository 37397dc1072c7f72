"""Ends bindings at their time by the wall clock, whatever happened to the node that made them.

Every node keeps the times of all bindings; the owner of a DN's slot removes what has ended, guarded by the
revision of the bindings, so that a refresh that came in the last moment through another node wins.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterator

from structlog.typing import FilteringBoundLogger

from mesh.config_cache import Changed, ConfigCache, Registrations
from mesh.errors import DomainError
from mesh.telemetry.metrics import Metrics
from services.registrar.machine import SECOND_US, expire
from services.registrar.service_state import Device
from services.registrar.store import Bindings, Conflict

TICK_S = 0.25
"""How late a binding may end, seconds."""
AT_ONCE = 32
"""Removals under way at a time."""
RETRY_US = SECOND_US
"""Pause until a removal that failed is tried again."""


class Expiry:
    """The times at which bindings end."""

    def __init__(
        self,
        cache: ConfigCache,
        bindings: Bindings,
        owned: Callable[[Device], bool],
        metrics: Metrics,
        logger: FilteringBoundLogger,
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        """`owned`: whether this node is to end the bindings of a device."""
        self._cache = cache
        self._bindings = bindings
        self._owned = owned
        self._logger = logger
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._times: list[tuple[int, Device, int]] = []
        self._expired = metrics.counter("expired_total", "Bindings that ended by time")
        metrics.queue("expiry", lambda: len(self._times), "Times at which bindings may end")
        cache.on_change(self._changed)

    def _changed(self, change: Changed) -> None:
        if isinstance(change.new, Registrations):
            self.note(change.new)

    def note(self, registrations: Registrations) -> None:
        """The next time at which one of these bindings ends."""
        if registrations.bindings:
            first = min(binding.expires_us for binding in registrations.bindings)
            device = (registrations.tenant, registrations.dn)
            heapq.heappush(self._times, (first, device, registrations.revision))

    def take_over(self, devices: Iterator[Device]) -> None:
        """These devices are this node's from now on: what ended while nobody had them is ended now."""
        for device in devices:
            present = self._cache.registrations(*device)
            if present is not None:
                self.note(present)

    async def run(self) -> None:
        """Ends bindings until cancelled."""
        turns = asyncio.Semaphore(AT_ONCE)
        while True:
            due = list(self._due(self._clock_us()))
            await asyncio.gather(*(self._end(device, turns) for device in due))
            await asyncio.sleep(TICK_S)

    def _due(self, now_us: int) -> Iterator[Device]:
        while self._times and self._times[0][0] <= now_us:
            _, device, revision = heapq.heappop(self._times)
            present = self._cache.registrations(*device)
            if present is not None and present.revision == revision and self._owned(device):
                yield device

    async def _end(self, device: Device, turns: asyncio.Semaphore) -> None:
        async with turns:
            present, now_us = self._cache.registrations(*device), self._clock_us()
            if present is None:
                return
            left = expire(present.bindings, now_us)
            if len(left) == len(present.bindings):
                return
            try:
                await self._bindings.put(device, left, present.revision)
                self._expired.inc(len(present.bindings) - len(left))
            except Conflict:
                return  # refreshed or removed meanwhile: the cache will tell
            except DomainError as problem:
                self._logger.warning("expiry_waits", tenant=device[0], dn=device[1], problem=str(problem))
                heapq.heappush(self._times, (now_us + RETRY_US, device, present.revision))
