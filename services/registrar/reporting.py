"""Reports devices coming into service and going out of it to Agent State, through the agent request log.

Each slot's owner does it for the DNs of its slot: it follows the bindings in its configuration cache, appends
what is due, then writes that it was done. A crash between the two repeats the report under the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import redis.exceptions
from structlog.typing import FilteringBoundLogger
from voice.agent_state.v1.agent_pb2 import AgentInput, DeviceNotification

from mesh.config_cache import Changed, ConfigCache, Registrations
from mesh.errors import DomainError
from mesh.identifiers import agent_slot
from mesh.log import LogFull, RequestLog
from mesh.ownership import ReleaseReason, SlotKey
from mesh.store import StaleEpoch, StoreUnavailable
from mesh.telemetry.metrics import Metrics
from services.registrar.service_state import Device, Report, SlotReports
from services.registrar.store import Reported

BATCH = 256
"""Devices looked at together."""
RETRY_S = 0.5
"""Pause when Redis or the log does not take reports, seconds."""
CATCH_UP_S = 5.0
"""Time for the cache to know what the slot's last owner knew, seconds."""


def slot_of(device: Device) -> int:
    """The slot whose owner reports the device: that of its DN in Agent State's log."""
    return agent_slot(device[0], f"dn:{device[1]}")


class Reporting:
    """Reports of the slots this node owns."""

    def __init__(
        self,
        cache: ConfigCache,
        store: Reported,
        log: RequestLog,
        metrics: Metrics,
        logger: FilteringBoundLogger,
        may_act: Callable[[int], bool],
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        """`may_act`: whether the lease is good for effects of a slot; else its ownership is proven first."""
        self._cache = cache
        self._store = store
        self._log = log
        self._logger = logger
        self._may_act = may_act
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._slots: dict[int, tuple[int, SlotReports]] = {}
        self._bound: dict[int, set[Device]] = {}
        self._due: dict[Device, None] = {}
        self._wake = asyncio.Event()
        self._reports = metrics.counter("reports_total", "Devices reported", ["cause"])
        metrics.queue("reports", lambda: len(self._due), "Devices to be looked at")
        cache.on_change(self._changed)

    @property
    def slots(self) -> Mapping[int, tuple[int, SlotReports]]:
        """Slots owned: slot -> (epoch, reports)."""
        return self._slots

    def bound(self, slot: int) -> set[Device]:
        """Devices of a slot that have bindings."""
        return self._bound.get(slot, set())

    # -- what happens ----------------------------------------------------------------------------------------

    def _changed(self, change: Changed) -> None:
        entry = change.entry
        if not isinstance(entry, Registrations):
            return
        device = (entry.tenant, entry.dn)
        slot = slot_of(device)
        if isinstance(change.new, Registrations):
            self._bound.setdefault(slot, set()).add(device)
            if slot in self._slots:
                self._slots[slot][1].seen(device, change.new)
        else:
            self._bound.get(slot, set()).discard(device)
        if slot in self._slots:
            self._look_at([device])

    def _look_at(self, devices: Sequence[Device]) -> None:
        self._due.update(dict.fromkeys(devices))
        self._wake.set()

    async def acquire(self, slot: SlotKey, epoch: int) -> None:
        """The slot is ours: what its last owner reported, then what is missing. Waits for configuration that
        is as new as what the last owner saw: an older view would report devices gone that are there."""
        number = int(slot)
        await self._cache.synced.wait()
        reported, seen = await self._store.take_over(number, epoch)
        deadline = time.monotonic() + CATCH_UP_S
        while self._cache.revision < seen:
            if time.monotonic() > deadline:
                raise TimeoutError(f"slot {slot}: configuration is older than revision {seen}")
            await asyncio.sleep(0.05)
        self._slots[number] = (epoch, SlotReports(reported))
        self._look_at([*reported, *self.bound(number)])

    async def release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        """The slot is another's; its next owner reports the rest."""
        self._slots.pop(int(slot), None)

    async def rewrite(self) -> None:
        """Redis has forgotten: writes what was reported again."""
        for slot, (epoch, reports) in list(self._slots.items()):
            try:
                await self._store.rewrite(slot, epoch, dict(reports.reported), self._cache.revision)
            except StaleEpoch:
                self._lost(slot, epoch)

    def _lost(self, slot: int, epoch: int) -> None:
        """A write under the epoch was refused; the slot may have come back to us under another one meanwhile."""
        if slot in self._slots and self._slots[slot][0] == epoch:
            del self._slots[slot]

    # -- what it does ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reports what is due until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due:
                batch = list(self._due)[:BATCH]
                for device in batch:
                    del self._due[device]
                if not await self._report(batch):
                    await asyncio.sleep(RETRY_S)

    async def _report(self, batch: Sequence[Device]) -> bool:
        """Whether all of it was done; what was not is due again."""
        seen, now_us = self._cache.revision, self._clock_us()
        reports = dict[int, list[Report]]()
        for device in batch:
            slot = slot_of(device)
            if slot in self._slots:
                present = self._cache.registrations(*device)
                report = self._slots[slot][1].due(device, present, now_us)
                if report is not None:
                    reports.setdefault(slot, []).append(report)
        done = await asyncio.gather(
            *(self._of_slot(slot, due, seen, now_us) for slot, due in reports.items())
        )
        return all(done)

    async def _of_slot(self, slot: int, reports: Sequence[Report], seen: int, now_us: int) -> bool:
        epoch, state = self._slots[slot]
        try:
            if not self._may_act(slot):
                await self._store.prove(slot, epoch)
            await asyncio.gather(*(self._append(report, now_us) for report in reports))
            await self._store.save(slot, epoch, reports, seen)
        except StaleEpoch:
            self._lost(slot, epoch)
            return True
        except (StoreUnavailable, LogFull, redis.exceptions.RedisError, DomainError) as problem:
            self._logger.warning("reports_waiting", slot=slot, reports=len(reports), problem=str(problem))
            self._look_at([report.device for report in reports])
            return False
        for report in reports:
            state.done(report)
            self._reports.labels(report.cause).inc()
            # What changed while the report was made is looked at next.
            self._look_at([report.device])
        return True

    async def _append(self, report: Report, now_us: int) -> None:
        tenant, dn = report.device
        notification = DeviceNotification(
            dn=dn, in_service=report.in_service, time_us=now_us, cause=report.cause
        )
        entry = AgentInput(input_id=report.input_id, time_us=now_us, device=notification)
        await self._log.append(tenant, f"dn:{dn}", entry)
