"""The use case of a REGISTER: present bindings -> machine -> Config, decided again when somebody was faster."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from mesh.config_cache import Changed, ConfigCache, Registration, Registrations
from mesh.errors import DomainError, Reason
from services.registrar.machine import Limits, Outcome, Register, expire, handle
from services.registrar.service_state import Device
from services.registrar.settings import RegistrarSettings
from services.registrar.store import Bindings, Conflict

ATTEMPTS = 10
"""Times a REGISTER is decided anew when others change the same DN."""
NEWS_S = 0.5
"""Time for the cache to see the change that a conflict told of, seconds."""


class Registering:
    """REGISTERs of this node; any node may take any."""

    def __init__(
        self,
        cache: ConfigCache,
        bindings: Bindings,
        settings: RegistrarSettings,
        clock_us: Callable[[], int] | None = None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`spread`: random numbers in [0, 1), by which bindings of the same length end at different times."""
        self._cache = cache
        self._bindings = bindings
        self._settings = settings
        self._spread = spread
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._news = asyncio.Event()
        # REGISTERs of one DN at one node take turns; those at other nodes meet at the revision guard.
        self._locks: WeakValueDictionary[Device, asyncio.Lock] = WeakValueDictionary()
        cache.on_change(self._changed)

    def _changed(self, change: Changed) -> None:
        if isinstance(change.entry, Registrations):
            self._news.set()

    def present(self, device: Device) -> tuple[Registration, ...]:
        """The bindings of a device. Raises UNKNOWN_DN."""
        self._need_phone(device)
        known = self._cache.registrations(*device)
        return expire(known.bindings, self._clock_us()) if known is not None else ()

    async def register(self, device: Device, register: Register) -> tuple[Registration, ...]:
        """Carries a REGISTER out; gives the bindings after it. Raises what the machine refuses (`Refused`),
        UNKNOWN_DN, DEPENDENCY_UNAVAILABLE."""
        self._need_phone(device)
        settings = self._settings
        limits = Limits(
            settings.max_bindings, settings.min_expires_s, self._longest(device[0]), settings.jitter_percent
        )
        lock = self._locks.get(device) or self._locks.setdefault(device, asyncio.Lock())
        async with lock:
            return await self._decide(device, register, limits)

    async def _decide(self, device: Device, register: Register, limits: Limits) -> tuple[Registration, ...]:
        for _ in range(ATTEMPTS):
            known = self._cache.registrations(*device)
            revision = known.revision if known is not None else 0
            now_us = self._clock_us()
            stored = known.bindings if known is not None else ()
            outcome: Outcome = handle(stored, register, now_us, limits, self._spread())
            if not outcome.changed:
                return outcome.bindings
            try:
                await self._bindings.put(device, outcome.bindings, revision)
            except Conflict:
                await self._news_of(device, revision)
                continue
            return outcome.bindings
        raise DomainError(Reason.REASON_IN_PROGRESS, f"the bindings of DN {device[1]} change too fast")

    async def _news_of(self, device: Device, revision: int) -> None:
        """Waits until the cache has other bindings than those at `revision` (0: none)."""
        deadline = time.monotonic() + NEWS_S
        while True:
            known = self._cache.registrations(*device)
            if (known.revision if known is not None else 0) != revision:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await self._news.wait()
            except TimeoutError:
                return

    def _need_phone(self, device: Device) -> None:
        if not self._cache.synced.is_set():
            raise DomainError(
                Reason.REASON_DEPENDENCY_UNAVAILABLE, "no configuration yet", dependency="config"
            )
        tenant, number = device
        if not any(dn.is_phone and dn.enabled for dn in self._cache.dns(tenant, number)):
            raise DomainError(
                Reason.REASON_UNKNOWN_DN, f"DN {number} is not configured, or no device can be on it"
            )

    def _longest(self, tenant: str) -> int:
        found = self._cache.tenant(tenant)
        return found.max_registration_s if found is not None else 3600
