"""The desks of the tenants this node owns."""

from __future__ import annotations

import asyncio
from typing import Final

from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceStub

from mesh.config_cache import ConfigCache, Tenant
from mesh.config_objects import AgentGroup, AgentLogin, Person, Place
from mesh.config_view import Changed
from mesh.discovery import Directory
from mesh.gate import Gate
from mesh.ownership import ReleaseReason, SlotKey, Slots
from mesh.rq import Rq
from mesh.service import Service
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable
from services.tenant.desk import Desk
from services.tenant.machine import Router
from services.tenant.mates import Deskmates, May
from services.tenant.numbers import Numbers
from services.tenant.people import TenantPeople
from services.tenant.targets import Matcher

RETRY_S: Final = 0.1
PEOPLE: Final = (AgentGroup, AgentLogin, Person, Place)
"""Objects of the configuration that say who matches a target."""


class App:
    """Which tenants are ours, and a desk for each."""

    def __init__(self, service: Service, config: ConfigCache) -> None:
        self.config = config
        self._supervisor = service.supervisor
        self.desks: dict[str, Desk] = {}
        self.agents = Directory(service.etcd, service.settings.region, "agent_state")
        self._rq = Rq(service)
        self._log = service.log
        stub = AgentStateServiceStub(service.channel)
        self._mates = Deskmates(self._rq, self.agents, stub, service.log, Numbers(service.metrics))
        self._store = FencedStore(service.redis, "tenant", "tenant")
        self._store.on_primary_change(self._raise_fences)
        self._gate = Gate(service.membership.lease, self._store)
        self._epochs: dict[str, int] = {}
        self.slots = Slots(service, "tenant", self._tenant_ids, acquire=self._acquire, release=self._release)
        service.owned_slots("tenant", lambda: self.slots.owned)
        service.on_start(self._start)
        service.on_stop(self._stop)
        metrics = service.metrics
        metrics.queue("waiting_requests", lambda: sum(d.router.depth for d in self.desks.values()))

    def _tenant_ids(self) -> list[str]:
        return [tenant.tenant for tenant in self.config.tenants()]

    async def _start(self) -> None:
        await self._store.start()
        await self._rq.start()
        await self.agents.start()
        self.config.on_change(self._config_changed)
        await self.slots.start()

    async def _stop(self) -> None:
        await self.slots.stop()
        await self._rq.stop()
        await self.agents.stop()
        await self._store.stop()

    def _config_changed(self, change: Changed) -> None:
        if isinstance(change.entry, Tenant):
            self.slots.refresh()
        elif isinstance(change.entry, PEOPLE) and change.tenant in self.desks:
            self.desks[change.tenant].reconfigured()

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        tenant = str(slot)
        await self._store.raise_fence(tenant, epoch)
        self._epochs[tenant] = epoch
        self._supervisor.start(f"desk {tenant}", lambda: self._serve(tenant, epoch))

    async def _serve(self, tenant: str, epoch: int) -> None:
        """A desk from scratch, again after each failure."""
        desk = self.desks[tenant] = Desk(tenant, self._router(tenant), self._mates, self._may(tenant, epoch))
        await desk.run()

    def _router(self, tenant: str) -> Router:
        return Router(Matcher(TenantPeople(self.config, tenant)), rebuilding=True)

    def _may(self, tenant: str, epoch: int) -> May:
        """The tenant's gate: with lease and Redis both gone nothing is known, so nothing leaves until one is back."""

        async def may() -> bool:
            while self._epochs.get(tenant) == epoch:
                try:
                    return await self._gate.passes(tenant, epoch)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)
            return False

        return may

    async def _raise_fences(self) -> None:
        """Redis may have forgotten them."""
        for tenant, epoch in list(self._epochs.items()):
            try:
                await self._store.raise_fence(tenant, epoch)
            except StaleEpoch:
                self._log.info("tenant was taken over", tenant=tenant, epoch=epoch)

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        self._epochs.pop(str(slot), None)
        self.desks.pop(str(slot), None)
        await self._supervisor.end(f"desk {slot}")
