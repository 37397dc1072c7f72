"""python -m services.call_state"""

from __future__ import annotations

from voice.call_state.v1.call_state_service_pb2_grpc import (
    CallStateServiceStub,
    add_CallStateServiceServicer_to_server,
)
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub

from mesh.discovery import Directory, OwnerClient
from mesh.gate import Gate
from mesh.identifiers import THREAD_SLOTS
from mesh.log import RedisRequestLog
from mesh.ownership import Slots
from mesh.rq import THREAD, Rq
from mesh.service import Service, main
from mesh.settings import load
from mesh.store import FencedStore
from services.call_state.app import CallStateApp
from services.call_state.events import Address
from services.call_state.orphans import Orphans
from services.call_state.rpc import CallStateRpc
from services.call_state.settings import CallStateSettings
from services.call_state.store import Store


async def build(service: Service) -> None:
    """Settings, parts, wiring."""
    settings = load(CallStateSettings, "call_state")
    fenced = FencedStore(service.redis, "call_state", "thread")
    store = Store(fenced, service.redis, settings.index_s)
    rq = Rq(service)
    log = RedisRequestLog(service.redis, service.metrics)
    gate = Gate(service.membership.lease, fenced)
    app = CallStateApp(store, rq, log, gate, settings, service.metrics)
    slots = Slots(service, "thread", THREAD_SLOTS, acquire=app.acquire, release=app.release)
    directory = Directory(service.etcd, service.settings.region, "call_state")
    sip_nodes = Directory(service.etcd, service.settings.region, "sip_cluster")
    orphans = Orphans(
        app.threads,
        app.may_tell,
        sip_nodes,
        SipNodeServiceStub(service.channel),
        rq.publisher(THREAD),
        Address(service.settings.region, service.incarnation),
        service.metrics,
        grace_s=settings.orphan_grace_s,
        every_s=settings.sweep_s,
    )
    rpc = CallStateRpc(app, store, OwnerClient(directory), CallStateServiceStub(service.channel))
    service.add(add_CallStateServiceServicer_to_server, rpc)
    fenced.on_primary_change(app.rewrite)
    service.owned_slots("thread", lambda: slots.owned)
    for start in (fenced.start, rq.start, log.start, directory.start, sip_nodes.start, slots.start):
        service.on_start(start)
    service.background("fold", app.run)
    service.background("sweep", app.sweep)
    service.background("orphans", orphans.watch)
    for stop in (slots.stop, rq.stop, log.stop, directory.stop, sip_nodes.stop, fenced.stop):
        service.on_stop(stop)


if __name__ == "__main__":
    main(build, name="call_state")
