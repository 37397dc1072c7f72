"""Several SIP nodes behind the core's proxy, with everything they need around them."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import redis.asyncio
from google.protobuf.message import Message
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.sip_cluster.v1.sip_node_service_pb2 import ExecuteRequest
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import Request
from voicecore.sip import Node, Proxy

from mesh.discovery import Directory
from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import Around, Streams, names
from tests.integration.sip_cluster.engines import Engine, new_region

BUSY = ("calls", "dialogs", "unacknowledged_events_depth", "snapshot_writes_depth")


@dataclass
class Cluster:
    """The nodes, their proxy, and what is around them."""

    engines: list[Engine]
    around: Around
    proxy: tuple[str, int]
    core: Proxy
    redis: redis.asyncio.Redis
    directory: Directory

    @property
    def streams(self) -> Streams:
        return self.around.streams

    def number(self, engine: Engine, name: str) -> float:
        """A metric of a node."""
        return engine.metrics().get(f"voicemesh_sip_cluster_{name}", 0.0)

    def created(self) -> list[float]:
        return [self.number(engine, "calls_created_total") for engine in self.engines]

    def living(self) -> list[Engine]:
        """Nodes whose process runs."""
        return [e for e in self.engines if e.process is not None and e.process.poll() is None]

    def idle(self) -> bool:
        return all(self.number(engine, name) == 0 for engine in self.living() for name in BUSY)

    async def until(self, condition: Callable[[], Awaitable[bool] | bool], seconds: float = 30.0) -> None:
        """Polls until the condition holds; one that blocks is asked in a thread."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            held = await asyncio.to_thread(condition)
            if await held if isinstance(held, Awaitable) else held:
                return
            assert asyncio.get_running_loop().time() < deadline, "\n".join(e.text() for e in self.living())
            await asyncio.sleep(0.02)

    async def settled(self, seconds: float = 30.0) -> None:
        """Waits until no node carries a call or owes an event, and no snapshot is left."""
        await self.until(self.idle, seconds)
        await self.until(self._no_snapshot, seconds)
        assert self.streams.gaps == [] and self.streams.conflicts == []

    async def _no_snapshot(self) -> bool:
        return not [key async for key in self.redis.scan_iter(match="{sip_cluster:*}:calls")]

    async def owner(self) -> Engine:
        """The node that carries the only call."""
        found: list[Engine] = []

        def look() -> bool:
            found[:] = [engine for engine in self.living() if self.number(engine, "calls") == 1]
            return len(found) == 1

        await self.until(look)
        return found[0]

    async def event(self, name: str, seconds: float = 30.0) -> Event:
        """Waits for an event such as "RouteRequest@8000"; the newest of that name."""
        streams = self.streams.events

        def told() -> bool:
            return any(name in names(stream, everything=True) for stream in list(streams.values()))

        await self.until(told, seconds)
        return self.streams.find(name)

    async def execute(
        self, engine: Engine, tenant: str = "t1", timeout: float = 10.0, client: str = "desk", **body: Message
    ) -> Event:
        """Carries out a request at a node, given by its field: execute(node, route_call=RouteCallRequest(...))."""
        async with grpc.aio.insecure_channel(f"unix:{engine.listen}") as channel:
            request = ExecuteRequest(tenant=tenant, request=Request(client=client, **body))  # type: ignore[arg-type]
            return (await SipNodeServiceStub(channel).Execute(request, timeout=timeout)).event


async def announce(etcd: Etcd, region: str, service: str, sip_address: str = "") -> None:
    """A node of another service in etcd, without a lease."""
    record = NodeRecord(
        node=f"{service}-0",
        incarnation=f"{service}-0.{secrets.token_hex(4)}",
        service=service,
        sip_address=sip_address,
        state=NodeState.NODE_STATE_SERVING,
    )
    await etcd.put(f"/voicemesh/{region}/{service}/nodes/{record.incarnation}", record.SerializeToString())


def tell(proxy: Proxy, directory: Directory) -> None:
    """What the proxy service does with the directory."""
    records = directory.nodes()
    serving = NodeState.NODE_STATE_SERVING
    nodes = [
        Node(r.incarnation, r.sip_address.partition(":")[0], 5060, float(r.state == serving)) for r in records
    ]
    proxy.set_nodes(nodes)
    proxy.set_slots([(int(s), n) for n, r in enumerate(records) for s in directory.slots_of(r.incarnation)])


@asynccontextmanager
async def cluster_of(
    count: int, etcd_server: EtcdServer, redis_server: RedisServer, *, started: int = 0, **variables: str
) -> AsyncIterator[Cluster]:
    """So many nodes behind a proxy, in a region of their own; `started` of them run at first (0: all)."""
    etcd, client = Etcd(etcd_server.endpoint), redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    around, region, host = Around(), new_region(), loopback()
    await around.start()
    proxy = Proxy()
    proxy.bind_udp(host, 5060)
    await announce(etcd, region, "redis_queue")
    await announce(etcd, region, "sip_proxy", f"{host}:5060")
    variables = {"VOICEMESH_SIP_CLUSTER_DIRECT": "0", **variables}
    engines = [
        Engine(
            number,
            loopback(),
            region,
            etcd_server.endpoint,
            redis_server.url,
            around.socket,
            **variables,
        )
        for number in range(count)
    ]
    directory = Directory(etcd, region, "sip_cluster")
    first = engines[: started or count]
    try:
        for engine in first:
            engine.start()
        share = 1024 // len(first)
        await asyncio.gather(*(asyncio.to_thread(engine.ready, share) for engine in first))
        await directory.start()
        tell(proxy, directory)
        directory.on_change(lambda: tell(proxy, directory))
        yield Cluster(engines, around, (host, 5060), proxy, client, directory)
    finally:
        for engine in engines:
            engine.close()
        proxy.close()
        await directory.stop()
        await around.stop()
        await client.aclose()
        await etcd.close()
        shutil.rmtree(around.folder, ignore_errors=True)
