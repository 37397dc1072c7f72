"""A SIP node with everything it needs around it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import redis.asyncio
from google.protobuf.message import Message
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.sip_cluster.v1.sip_node_service_pb2 import ExecuteRequest
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import Request

from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import Around, DialPlan, Streams, names
from tests.integration.sip_cluster.engines import Engine, new_region
from tests.integration.sip_cluster.sipp import Sipp

if TYPE_CHECKING:
    from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceAsyncStub


@dataclass
class Bench:
    """One node and what is around it."""

    engine: Engine
    around: Around
    etcd: Etcd
    region: str
    redis: redis.asyncio.Redis
    stub: SipNodeServiceAsyncStub

    @property
    def dial_plan(self) -> DialPlan:
        return self.around.dial_plan

    @property
    def streams(self) -> Streams:
        return self.around.streams

    async def execute(
        self, tenant: str = "t1", timeout: float = 10.0, client: str = "desk", **body: Message
    ) -> Event:
        """Carries out a request, given by its field: execute(route_call=RouteCallRequest(...))."""
        request = Request(client=client, **body)  # type: ignore[arg-type]
        response = await self.stub.Execute(ExecuteRequest(tenant=tenant, request=request), timeout=timeout)
        return response.event

    async def event(self, name: str, seconds: float = 10.0) -> Event:
        """Waits for an event such as "RouteRequest@8000"; the newest of that name."""

        async def told() -> bool:
            return any(name in names(stream, everything=True) for stream in self.streams.events.values())

        await self.until(told, seconds)
        return self.streams.find(name)

    async def snapshots(self) -> list[bytes]:
        """Snapshots of calls in Redis."""
        found: list[bytes] = []
        async for key in self.redis.scan_iter(match="{sip_cluster:*}:calls"):
            found += [
                bytes(value) for value in (await self.redis.hgetall(key)).values() if isinstance(value, bytes)
            ]
        return found

    async def settled(self, seconds: float = 10.0) -> None:
        """Waits until the node carries no call, owes no event and keeps no snapshot."""
        await self.until(self._idle, seconds)

    async def until(self, condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
        """Polls until the condition holds."""
        deadline = time.monotonic() + seconds
        while not await condition():
            assert time.monotonic() < deadline, self.engine.text()
            await asyncio.sleep(0.02)

    async def _idle(self) -> bool:
        numbers = await asyncio.to_thread(self.engine.metrics)
        busy = ("calls", "dialogs", "unacknowledged_events_depth", "snapshot_writes_depth")
        return (
            all(numbers[f"voicemesh_sip_cluster_{name}"] == 0 for name in busy) and not await self.snapshots()
        )


@asynccontextmanager
async def running(
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    module: str = "services.sip_cluster.engine",
    host: str = "",
    **variables: str,
) -> AsyncIterator[Bench]:
    """A node and what is around it, in a region of its own."""
    etcd, client = Etcd(etcd_server.endpoint), redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    around, region = Around(), new_region()
    await around.start()
    record = NodeRecord(
        node="redis_queue-0",
        incarnation="redis_queue-0.00000000",
        service="redis_queue",
        state=NodeState.NODE_STATE_SERVING,
    )
    await etcd.put(f"/voicemesh/{region}/redis_queue/nodes/{record.incarnation}", record.SerializeToString())
    engine = Engine(
        0, host or loopback(), region, etcd_server.endpoint, redis_server.url, around.socket, **variables
    )
    engine.start(module)
    try:
        await asyncio.to_thread(engine.ready)
        channel = grpc.aio.insecure_channel(f"unix:{engine.listen}")
        async with channel:
            yield Bench(
                engine,
                around,
                etcd,
                region,
                client,
                SipNodeServiceStub(channel),
            )
    finally:
        engine.close()
        await around.stop()
        await client.aclose()
        await etcd.close()
        shutil.rmtree(around.folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def module_bench(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Bench]:
    """One node for all tests of a module."""
    async with running(etcd_server, redis_server) as made:
        yield made


@pytest.fixture
async def bench(module_bench: Bench) -> AsyncIterator[Bench]:
    """The module's node, with nothing known and nothing told yet; idle again at the end."""
    module_bench.around.reset()
    yield module_bench
    await module_bench.settled(4)
    assert module_bench.streams.gaps == []


@pytest.fixture
def sipp(tmp_path: Path) -> Iterator[Callable[..., Sipp]]:
    """Starts SIPp processes: sipp(host, steps, remote=..., service=...), on port 5060 of an address of its own."""
    started: list[Sipp] = []

    def start(host: str, steps: list[str], *, port: int = 5060, **options: object) -> Sipp:
        one = Sipp(tmp_path, host, port, steps, **options)  # type: ignore[arg-type]
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()
