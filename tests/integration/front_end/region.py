"""Front Ends with what they stand on: Config with the demo tenants, Redis Queue, stand-ins for SIP nodes, etcd and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from voice.front_end.v1.front_end_service_pb2 import GetStatusRequest
from voice.front_end.v1.front_end_service_pb2_grpc import FrontEndServiceStub
from voice.tlib.v1 import request_pb2 as tlib
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceStub
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.event_service_pb2_grpc import EventServiceStub
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.discovery import Directory
from mesh.etcd import Etcd
from mesh.identifiers import SIP_SLOTS, new_conn_id
from mesh.metadata import CLIENT_KEY, TENANT_KEY
from tests.integration.front_end.sip_node import EXECUTED
from tests.integration.front_end.sip_process import start_sip_node
from tests.integration.nodes import DEMO, NodeProcess, observable
from tests.integration.redis_queue.processes import Processes, eventually, processes
from tests.integration.servers import EtcdServer, RedisServer

_numbers = itertools.count(1)


def kv(**pairs: str) -> KvList:
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in pairs.items()])


class Client:
    """A client of one Front End."""

    def __init__(self, region: Region, node: str, name: str = "client:test", tenant: str = "t1") -> None:
        channel = region.nodes.channel(region.nodes.nodes[node].target)
        self.metadata = ((TENANT_KEY, tenant), (CLIENT_KEY, name))
        self.tenant = tenant
        self.calls = CallControlServiceStub(channel)
        self.agents = AgentControlServiceStub(channel)
        self.events = EventServiceStub(channel)

    async def attach(self, conn_id: int, request_id: str = "", timeout: float = 15.0, **wishes: str) -> Event:
        """AttachUserData to a call; `wishes` go to the stand-in (sip_node.py)."""
        request = tlib.AttachUserDataRequest(
            tenant=self.tenant,
            request_id=request_id or f"r{next(_numbers)}",
            dn="1001",
            conn_id=conn_id,
            user_data=kv(key="value"),
            extensions=kv(**wishes),
        )
        answer = await self.calls.AttachUserData(request, timeout=timeout, metadata=self.metadata)
        found: Event = answer.event
        return found

    async def agent(self, method: str, dn: str, **fields: Any) -> Event:
        """A request of the agent A<dn> on its DN: "AgentLogin", "AgentReady" …"""
        make = getattr(tlib, f"{method}Request")
        fields = {"request_id": f"r{next(_numbers)}", **fields}
        request = make(tenant=self.tenant, dn=dn, agent_id=f"A{dn}", **fields)
        answer = await getattr(self.agents, method)(request, timeout=15, metadata=self.metadata)
        found: Event = answer.event
        return found


class Region:
    """The processes, and what a test asks of them."""

    def __init__(self, nodes: Processes, client: redis.asyncio.Redis, directory: Directory) -> None:
        self.nodes = nodes
        self.redis = client
        self.sip = directory

    async def start_front_end(self, index: int, **variables: str) -> NodeProcess:
        """A Front End."""
        return await self.nodes.start("front_end", index, **observable(), **variables)

    async def complete(self) -> None:
        """Waits until every SIP slot has an owner."""
        for slot in range(SIP_SLOTS):
            await self.sip.wait_owner(slot, 30)

    def call_on(self, node: str) -> int:
        """ConnID of a call whose slot a SIP node owns."""
        slots = [s for s in range(SIP_SLOTS) if (o := self.sip.owner(s)) is not None and o.node == node]
        return new_conn_id(0, random.choice(slots), time.time_ns() // 1_000_000, next(_numbers) % 256)

    def call(self) -> int:
        """ConnID of a call on any slot."""
        return new_conn_id(0, random.randrange(SIP_SLOTS), time.time_ns() // 1_000_000, next(_numbers) % 256)

    async def executed(self) -> Counter[str]:
        """How often each request was carried out, by request id."""
        counts: Counter[str] = Counter()
        async for key in self.redis.scan_iter(f"{{sip_cluster:*}}:{EXECUTED}", count=5000):
            rows = [row if isinstance(row, str) else row.decode() for row in await self.redis.hkeys(key)]
            counts.update(row.partition(" ")[0].rpartition("/")[2] for row in rows)
        return counts

    async def settled(self, node: str = "front_end-0") -> None:
        """Waits until a Front End has answered every request, and sees that it counts so (FE-12)."""
        stub = FrontEndServiceStub(self.nodes.channel(self.nodes.nodes[node].target))

        async def nothing_open() -> bool:
            return (await stub.GetStatus(GetStatusRequest(), timeout=5)).open_requests == 0

        assert await eventually(nothing_open)
        counts = _counts(await asyncio.to_thread(self.nodes.nodes[node].metrics))
        assert counts["requests"] == counts["outcomes"] > 0, counts


def _counts(metrics: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in metrics.splitlines():
        for name in ("requests", "outcomes"):
            if line.startswith(f"voicemesh_front_end_{name}_total{{"):
                counts[name] += int(float(line.rpartition(" ")[2]))
    return counts


@contextlib.asynccontextmanager
async def region_of(
    etcd: EtcdServer,
    redis_server: RedisServer,
    client: redis.asyncio.Redis,
    region: str,
    *,
    sip_nodes: int = 2,
    front_ends: int = 1,
    **variables: str,
) -> AsyncIterator[Region]:
    """A region; `variables` are further settings of the Front Ends."""
    async with processes(etcd, redis_server, region) as made:
        own = Etcd(etcd.endpoint)
        directory = Directory(own, region, "sip_cluster")
        await directory.start()
        view = Region(made, client, directory)
        try:
            await asyncio.gather(
                made.start("redis_queue"),
                made.start("config", CONFIG_SEED=DEMO, CONFIG_SCRYPT_LOG_N="10"),
                *(start_sip_node(made, n) for n in range(sip_nodes)),
                *(view.start_front_end(n, **variables) for n in range(front_ends)),
            )
            if sip_nodes:
                await view.complete()
            yield view
        finally:
            await directory.stop()
            await own.close()
