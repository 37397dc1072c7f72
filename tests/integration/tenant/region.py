"""Tenants with what they stand on: Agent State, Call State, Redis Queue, Config with the demo tenants, etcd and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import redis.asyncio
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest, Target, TargetType
from voice.tenant.v1.tenant_service_pb2 import ListWaitingRequest
from voice.tenant.v1.tenant_service_pb2_grpc import TenantServiceStub

from mesh.discovery import Directory
from mesh.etcd import Etcd
from mesh.rq import THREAD
from tests.integration.agent_state.region import Region as Agents
from tests.integration.agent_state.region import region_of as agents_of
from tests.integration.call_state.story import Story
from tests.integration.nodes import NodeProcess, observable
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer

ANSWERS = "route_answers:7"


class Region:
    """What Orchestration would do, and what happens to the agents."""

    def __init__(self, agents: Agents, directory: Directory, folder: Path) -> None:
        self.agents = agents
        self.nodes = agents.nodes
        self.directory = directory
        """Of the tenants."""
        self.answers: list[RouteAnswer] = []
        self._folder = folder
        self._ids = itertools.count(1)
        self._queue = agents.rq.read_queue(ANSWERS)
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for entries in self._queue:
            for entry in entries:
                self.answers.append(RouteAnswer.FromString(entry.payload))
                self.agents.rq.acknowledge(ANSWERS, entry.id)

    async def start(self, index: int) -> NodeProcess:
        """A Tenant node."""
        return await self.nodes.start("tenant", index, TENANT_TOKEN_DIR=str(self._folder), **observable())

    async def owner(self, tenant: str = "t1") -> str:
        """Name of the node that has the tenant."""
        return (await self.directory.wait_owner(tenant, 20)).node

    async def submit(
        self,
        wanted: str,
        *,
        kind: TargetType.ValueType = TargetType.TARGET_TYPE_AGENT,
        priority: int = 0,
        age_us: int = 0,
        answer_queue: str = ANSWERS,
    ) -> str:
        """A routing request for one agent, or what `kind` says; gives its id."""
        request_id = f"q{next(self._ids)}"
        request = RouteRequest(
            request_id=request_id,
            tenant="t1",
            targets=[Target(type=kind, expression=wanted)],
            priority=priority,
            age_us=age_us or time.time_ns() // 1000,
            answer_queue=answer_queue,
            operation=RouteRequest.OPERATION_SUBMIT,
            session_id="s",
            call_thread_id="thread",
        )
        await self.agents.rq.enqueue("route_requests:t1", request_id, request)
        return request_id

    async def waiting(self) -> list[str]:
        """Ids of the waiting requests in the order of service, as the owner tells; empty while nobody does."""
        node = self.directory.owner("t1")
        process = self.nodes.nodes.get(node.node) if node is not None else None
        if process is None:
            return []
        stub = TenantServiceStub(self.nodes.channel(process.target))
        try:
            answer = await stub.ListWaiting(ListWaitingRequest(tenant="t1", limit=1000), timeout=5)
        except grpc.aio.AioRpcError:
            return []
        return [request.request_id for request in answer.requests]

    async def until_waiting(self, ids: Sequence[str], seconds: float = 20.0) -> None:
        """Waits until exactly these wait, in this order."""

        async def there() -> bool:
            return await self.waiting() == list(ids)

        try:
            assert await eventually(there, seconds)
        except TimeoutError:
            raise AssertionError(f"waiting: {await self.waiting()}, not {list(ids)}") from None

    async def answered(self, count: int, seconds: float = 20.0) -> RouteAnswer:
        """Waits for the answer of this number."""

        async def there() -> bool:
            return len(self.answers) >= count

        assert await eventually(there, seconds)
        return self.answers[count - 1]

    async def call(self, answer: RouteAnswer) -> None:
        """The call that an answer brings the agent: it rings, showing its token, and is over at once."""
        story = Story(next(self._ids) + 1000, start_us=time.time_ns() // 1000)
        about: dict[str, Any] = {"this_queue": "8000", "agent_id": answer.agent_id}
        ringing = story.tell("RINGING", answer.dn, **about)
        ringing.event.extensions.pairs.add(key="ReservationToken", string_value=answer.reservation_token)
        story.tell("RELEASED", answer.dn, **about)
        for envelope in story.envelopes:
            await self.agents.rq.publisher(THREAD).append(envelope)

    async def asked(self, node: str, outcome: str) -> int:
        """How many asks of a node had this outcome."""
        text = await asyncio.to_thread(self.nodes.nodes[node].metrics)
        name = f'voicemesh_tenant_reservations_total{{outcome="{outcome}"}}'
        return sum(int(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith(name))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._queue.close()


@contextlib.asynccontextmanager
async def region_of(
    etcd: EtcdServer,
    redis_server: RedisServer,
    client: redis.asyncio.Redis,
    region: str,
    folder: Path,
    *,
    tenants: int = 2,
    nodes: int = 1,
    **variables: str,
) -> AsyncIterator[Region]:
    """A region with `nodes` nodes of Agent State; `variables` are their further settings."""
    async with agents_of(etcd, redis_server, client, region, nodes=nodes, **variables) as agents:
        own = Etcd(etcd.endpoint)
        directory = Directory(own, region, "tenant")
        await directory.start()
        made = Region(agents, directory, folder)
        try:
            await asyncio.gather(agents.nodes.start("call_state"), *(made.start(n) for n in range(tenants)))
            yield made
        finally:
            await made.close()
            await directory.stop()
            await own.close()
