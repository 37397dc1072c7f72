"""The desks of the tenants this node owns."""

from __future__ import annotations

from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceStub

from mesh.config_cache import ConfigCache, Tenant
from mesh.config_view import Changed
from mesh.discovery import Directory
from mesh.ownership import ReleaseReason, SlotKey, Slots
from mesh.rq import Rq
from mesh.service import Service
from services.tenant.desk import Desk, Deskmates
from services.tenant.machine import Router
from services.tenant.people import TenantPeople
from services.tenant.targets import Matcher


class App:
    """Which tenants are ours, and a desk for each."""

    def __init__(self, service: Service, config: ConfigCache) -> None:
        self.config = config
        self._supervisor = service.supervisor
        self.desks: dict[str, Desk] = {}
        self.agents = Directory(service.etcd, service.settings.region, "agent_state")
        self._rq = Rq(service)
        self._mates = Deskmates(self._rq, self.agents, AgentStateServiceStub(service.channel), service.log)
        self.slots = Slots(service, "tenant", self._tenant_ids, acquire=self._acquire, release=self._release)
        service.owned_slots("tenant", lambda: self.slots.owned)
        service.on_start(self._start)
        service.on_stop(self._stop)
        metrics = service.metrics
        metrics.queue("waiting_requests", lambda: sum(len(d.router.waiting()) for d in self.desks.values()))

    def _tenant_ids(self) -> list[str]:
        return [tenant.tenant for tenant in self.config.tenants()]

    async def _start(self) -> None:
        await self._rq.start()
        await self.agents.start()
        self.config.on_change(self._config_changed)
        await self.slots.start()

    async def _stop(self) -> None:
        await self.slots.stop()
        await self._rq.stop()
        await self.agents.stop()

    def _config_changed(self, change: Changed) -> None:
        if isinstance(change.entry, Tenant):
            self.slots.refresh()

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        tenant = str(slot)
        self._supervisor.start(f"desk {tenant}", lambda: self._serve(tenant))

    async def _serve(self, tenant: str) -> None:
        """A desk from scratch, again after each failure."""
        desk = self.desks[tenant] = Desk(tenant, self._router(tenant), self._mates)
        await desk.run()

    def _router(self, tenant: str) -> Router:
        return Router(Matcher(TenantPeople(self.config, tenant)))

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        self.desks.pop(str(slot), None)
        await self._supervisor.end(f"desk {slot}")
