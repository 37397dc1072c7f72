"""Starts a Registrar node: `python -m services.registrar`."""

from __future__ import annotations

from voice.config.v1.object_pb2 import ObjectType
from voice.registrar.v1.registrar_service_pb2_grpc import add_RegistrarServiceServicer_to_server

from mesh.config_cache import ConfigCache
from mesh.identifiers import AGENT_SLOTS
from mesh.log import RedisRequestLog
from mesh.ownership import SlotKey, Slots
from mesh.service import Service, main
from mesh.settings import load
from mesh.store import FencedStore
from services.registrar.app import Registering
from services.registrar.expiry import Expiry
from services.registrar.reporting import Reporting, slot_of
from services.registrar.rpc import RegistrarRpc
from services.registrar.settings import RegistrarSettings
from services.registrar.store import Bindings, Reported

TYPES = (ObjectType.OBJECT_TYPE_TENANT, ObjectType.OBJECT_TYPE_DN)


async def build(service: Service) -> None:
    """Settings to parts."""
    settings = load(RegistrarSettings, "registrar")
    cache = ConfigCache(service, types=TYPES, logins=False)
    bindings = Bindings(service.channel)
    log = RedisRequestLog(service.redis, service.metrics)
    store = FencedStore(service.redis, "registrar", "agent")
    reporting = Reporting(
        cache, Reported(store), log, service.metrics, service.log, lambda slot: slots.may_act(slot)
    )
    expiry = Expiry(
        cache, bindings, lambda device: slot_of(device) in reporting.slots, service.metrics, service.log
    )
    registering = Registering(cache, bindings, settings)
    service.add(add_RegistrarServiceServicer_to_server, RegistrarRpc(registering, service.metrics))

    async def acquire(slot: SlotKey, epoch: int) -> None:
        await reporting.acquire(slot, epoch)
        expiry.take_over(iter(set(reporting.bound(int(slot)))))

    slots = Slots(service, "agent", AGENT_SLOTS, acquire=acquire, release=reporting.release)
    service.owned_slots("agent", lambda: slots.owned)
    store.on_primary_change(reporting.rewrite)
    service.metrics.queue("store", lambda: store.depth, "Writes waiting for Redis")

    for start in (log.start, store.start, slots.start):
        service.on_start(start)
    for stop in (slots.stop, store.stop, log.stop):
        service.on_stop(stop)
    service.background("reporting", reporting.run)
    service.background("expiry", expiry.run)


if __name__ == "__main__":
    main(build, name="registrar")
