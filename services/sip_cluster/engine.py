"""One engine: a SIP node. `python -m services.sip_cluster.engine` runs one; the controller starts them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

from voice.sip_cluster.v1.sip_node_service_pb2_grpc import add_SipNodeServiceServicer_to_server
from voicecore.sip import Endpoint, EndpointConfig

from mesh.discovery import Directory
from mesh.gate import Gate
from mesh.identifiers import SIP_SLOTS, region_number
from mesh.rq import THREAD, Rq
from mesh.service import Service, main
from mesh.slots import ReleaseReason, SlotKey, Slots
from mesh.store import FencedStore, check_pairing
from services.sip_cluster.behind import ends
from services.sip_cluster.detour import LOOK_S
from services.sip_cluster.fencing import Fencing
from services.sip_cluster.handing_over import HandingOver
from services.sip_cluster.holding import Holding
from services.sip_cluster.inputs import Drop
from services.sip_cluster.next_hop import NextHop, host_port
from services.sip_cluster.node import Node
from services.sip_cluster.numbers import Numbers
from services.sip_cluster.occupancy import Occupancy
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.reception import Reception
from services.sip_cluster.resolver import Resolver
from services.sip_cluster.restoring import Restoring
from services.sip_cluster.router_watch import RouterWatch
from services.sip_cluster.rpc import SipNodeRpc
from services.sip_cluster.settings import SERVICE, Configuration, SipAddress, read
from services.sip_cluster.signalling import Signalling
from services.sip_cluster.snapshots import Snapshots
from services.sip_cluster.takeover import Takeover
from services.sip_cluster.waiting_room import WaitingRoom

NOTICE_S = 0.3
"""Time proxies have to learn that we drain before our slots go, seconds: a new call may be on its way."""
READY_S = 1.0
"""How long a request waits for the calls of its slot to be read, seconds."""
EXPIRE_S = 1.0
"""How often messages are given up whose slot does not come, seconds."""
FENCE_S = 0.5
"""How long Redis Queue is waited for when a slot is taken over, seconds."""
DRAIN_BATCH = 32
"""Events taken from the core in one go; what is left wakes us again, after other work of the loop: an event costs up to 3 ms,
several times that on a busy machine, and a loop that does not come round for a second costs the node its lease."""


class Engine:
    """The parts of a SIP node, and their life."""

    def __init__(self, service: Service, configuration: Configuration, address: SipAddress) -> None:
        settings = configuration.settings
        self._service = service
        self._settings = settings
        self._address = address
        self.endpoint = Endpoint(EndpointConfig(t1=settings.t1_ms / 1000, user_agent=settings.user_agent))
        self._bound = self.endpoint.bind_udp(address.host, address.port)
        service.record.sip_address = host_port(self._bound)
        service.record.config_sha256 = configuration.sha256
        region = service.settings.region
        self._proxies = Directory(service.etcd, region, "sip_proxy")
        self._routers = Directory(service.etcd, region, "orchestration")
        self.store = FencedStore(service.redis, SERVICE, "sip")
        self._rq = Rq(service)
        self._publisher = self._rq.publisher(THREAD)
        self.slots = Slots(
            service, "sip", SIP_SLOTS, acquire=self._acquire, release=self._release, renew=self._renew
        )
        self._owned: dict[int, int] = {}
        """Slots whose calls are here, with their epochs."""
        self._occupancy = Occupancy(self._owned)
        self._leaving: set[int] = set()
        """Slots that get no new call: they are about to be handed over."""
        self._closing: set[int] = set()
        """Those of them whose messages wait for the next owner."""
        self.waiting = WaitingRoom()
        self.numbers = Numbers(service.metrics)
        self.hops = NextHop(self._proxies.nodes, direct=settings.direct)
        self._build()

    def _build(self) -> None:
        service, settings = self._service, self._settings
        resolver = Resolver(
            service.channel,
            settings.dial_plan_timeout_ms / 1000,
            settings.max_ring_s,
            self.numbers.dial_plan_answered,
        )
        publishing = Publishing(
            self._publisher,
            region=service.settings.region,
            node=service.incarnation,
            node_id=int((re.findall(r"\d+", service.settings.node) or ["0"])[-1]),
        )
        self.publishing = publishing
        self.node = Node(
            settings,
            self.numbers,
            resolver,
            publishing,
            self.hops,
            region=region_number(service.settings.region),
            capacity=service.settings.capacity,
            slots=self._occupancy,
            held=lambda count: self.holding.held(count),
        )
        self.signalling = Signalling(
            self.endpoint,
            self._bound,
            self.hops,
            contact_host="" if settings.direct else settings.contact_host,
            retry_after_s=settings.retry_after_s,
            failed=self.node.call_failed,
            gone=self.node.request_failed,
        )
        self.reception = Reception(self.node, self.signalling, self.hops, self.waiting, self._serves)
        lease_good = service.membership.lease.good
        self.snapshots = Snapshots(self.store, publishing, self._occupancy.epoch, self.node.lost, lease_good)
        self.node.connect(self.signalling, self.reception, self.snapshots)
        self.holding = Holding(self.endpoint, self.store, self._live_slots, self._occupancy.epoch, self._lost)
        self._restoring = Restoring(
            self.node,
            self.snapshots,
            publishing,
            Takeover(self.endpoint, self.signalling, self.hops),
            self.numbers,
            Fencing(lambda epochs: self._rq.fence_streams(THREAD, epochs, timeout=FENCE_S)),
            ends(lambda stream, seq: self._rq.read_stream(THREAD, stream, seq, once=True)),
        )
        self._handing_over = HandingOver(self.node, self.snapshots, self.signalling)
        self.routers = RouterWatch(self._routers, settings.router_grace_ms / 1000, self.node.router_lost)
        gate = Gate(service.membership.lease, self.store)
        rpc = SipNodeRpc(self.node, self.numbers, self._ready, gate)
        service.add(add_SipNodeServiceServicer_to_server, rpc)
        service.owned_slots("sip", lambda: self.slots.owned)

    # -- slots -------------------------------------------------------------------------------------

    async def _acquire(self, slot: SlotKey, epoch: int) -> None:
        """Takes a slot and its calls. From the moment they are read to that they are served nothing else happens."""
        number = int(slot)
        await self.store.raise_fence(number, epoch)
        records = await self._restoring.read(number, epoch)
        self._owned[number] = epoch
        self._occupancy.changed(self._leaving)
        self._restoring.take(records, epoch)
        self.reception.opened(number)

    async def _renew(self, slot: SlotKey, old: int, new: int) -> bool:
        """The claim ended with our lease, nobody else took it, and it is ours again: the calls are still here."""
        number = int(slot)
        if number in self._owned:
            self._owned[number] = new
        return await self.store.renew_fence(number, old, new)

    async def _release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        """Before a slot is handed over its calls are written and let go. Lost with the lease, they are let go at once."""
        number = int(slot)
        if reason is ReleaseReason.HANDED_OVER:
            self._leaving.add(number)
            self._occupancy.changed(self._leaving)
            await self._handing_over.newborn(number)
            self._closing.add(number)
            self.numbers.handed_over.inc(await self._handing_over.let_go(number))
            self._closing.discard(number)
        self._owned.pop(number, None)
        self._leaving.discard(number)
        self._occupancy.changed(self._leaving)
        self._lost(number)

    def _serves(self, slot: int) -> bool:
        """Whether messages for the slot are dealt with here and now."""
        return slot in self._owned and slot not in self._closing

    def _lost(self, slot: int) -> None:
        dropped = self._handing_over.drop(slot)
        if dropped:
            self.numbers.lost_slots.inc(dropped)
            self.holding.discard()

    async def _ready(self, slot: int) -> int:
        """Epoch of a slot, waiting while its calls are being read. Raises NotOwner."""
        return self._owned.get(slot) or await self.slots.ready(slot, READY_S)

    def _live_slots(self) -> list[int]:
        """What has to vouch for what is sent: slots with calls; without calls any slot of ours."""
        return [slot for slot in self.node.by_slot if slot in self._owned] or list(self._owned)[:1]

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Takes its place in the mesh and begins to read the network."""
        await check_pairing(self._service.etcd, self._service.redis)
        await self.store.start()
        self.store.on_primary_change(self._primary_changed)
        self.store.on_return(self._redis_returned)
        await self._proxies.start()
        await self._routers.start()
        self._proxies.on_change(self.hops.refresh)
        self.hops.refresh()
        self.routers.start()
        await self._rq.start()
        self.holding.follow(self._service.membership.lease)
        await self.slots.start()
        asyncio.get_running_loop().add_reader(self.endpoint.fileno(), self._drain)
        self._service.log.info("SIP node listens", sip=host_port(self._bound))

    def _drain(self) -> None:
        take = self.reception.take
        for event in self.endpoint.drain(DRAIN_BATCH):
            take(event)

    async def _primary_changed(self) -> None:
        await asyncio.gather(*(self.store.raise_fence(slot, epoch) for slot, epoch in self._owned.items()))
        await self.node.rewrite()

    async def _redis_returned(self, slots: frozenset[SlotKey]) -> None:
        await self.node.rewrite(unprotected=True)

    async def report_load(self) -> None:
        """Announces how many calls the node carries; proxies weigh new calls by it."""
        while True:
            self._service.membership.announce(load=len(self.node.threads))
            await asyncio.sleep(1.0)

    async def expire(self) -> None:
        """Gives up on messages whose slot does not come, for as long as the process lives."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            self.reception.expire()

    async def look(self) -> None:
        """Looks at requests that proxies do not answer, for as long as the process lives."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.reception.detour.look()

    async def finish(self) -> None:
        """No new calls. Those there are go to other nodes with their slots, after this; without other nodes they end by
        themselves or, at last, are released."""
        node = self.node
        node.draining = True
        await asyncio.sleep(NOTICE_S)
        if self.slots.heirs():
            return
        limit = min(float(self._settings.drain_s), max(0.0, self._service.settings.drain_seconds - 3.0))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(node.idle.wait(), limit)
        for entry in list(node.threads.values()):
            node.feed(entry, Drop())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(node.idle.wait(), 2.0)
        await self.snapshots.flush(2.0)

    async def stop(self) -> None:
        """Closes everything."""
        asyncio.get_running_loop().remove_reader(self.endpoint.fileno())
        self.endpoint.close()
        await self.slots.stop()
        await self._rq.stop()
        await self._proxies.stop()
        await self._routers.stop()
        await self.store.stop()


async def build(service: Service) -> None:
    """Adds a SIP node to the process."""
    configuration = read()
    address = SipAddress.of(os.environ, service.settings.bind_ip)
    engine = Engine(service, configuration, address)
    _gauges(engine, configuration)
    service.on_start(engine.start)
    service.background("load", engine.report_load)
    service.background("waiting messages", engine.expire)
    service.background("unanswered requests", engine.look)
    service.on_drain(engine.finish)
    service.on_stop(engine.stop)


def _gauges(engine: Engine, configuration: Configuration) -> None:
    numbers, node = engine.numbers, engine.node
    numbers.gauge("calls", "Call threads now", lambda: len(node.threads))
    numbers.gauge("dialogs", "SIP legs now", lambda: len(engine.signalling.by_tag))
    numbers.gauge("capacity", "Calls the node can carry", lambda: node.capacity)
    numbers.gauge("slots", "SIP slots owned", lambda: len(engine.slots.owned))
    numbers.gauge("waiting_messages_depth", "Messages whose slot is not here", lambda: engine.waiting.depth)
    numbers.gauge("proxies", "SIP proxies known", lambda: engine.hops.proxies)
    numbers.gauge("snapshot_writes_depth", "Snapshot writes under way", lambda: engine.snapshots.depth)
    numbers.gauge("store_depth", "Commands to Redis under way", lambda: engine.store.depth)
    numbers.gauge(
        "unacknowledged_events_depth", "Events not known to be stored", lambda: engine.publishing.depth
    )
    numbers.gauge(
        "sip_events_depth",
        "Events of the core not taken",
        lambda: engine.endpoint.counters()["events_queued"],
    )
    numbers.counters(
        "events",
        "Things that happened",
        "what",
        lambda: {
            "published": engine.publishing.published,
            "snapshots_written": engine.snapshots.written,
            "unprotected_calls": engine.snapshots.unprotected,
            "facts_ignored": engine.reception.ignored,
            "packets_released": engine.holding.released,
            "packets_dropped": engine.holding.dropped,
            "messages_dropped": engine.waiting.dropped,
            "requests_detoured": engine.reception.detour.taken,
        },
    )
    numbers.counters(
        "sip_failures",
        "Final failures sent to callers",
        "status",
        lambda: _by_status(engine.signalling.sent_status),
    )
    numbers.counters(
        "sip_core", "Counters of the SIP core", "counter", lambda: dict(engine.endpoint.counters())
    )
    numbers.info("config", "Configuration file of the node", {"sha256": configuration.sha256})


def _by_status(counts: dict[int, int]) -> dict[str, float]:
    return {str(status): float(count) for status, count in counts.items()}


if __name__ == "__main__":
    main(build, name=SERVICE)
