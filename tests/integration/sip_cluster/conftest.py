"""A SIP node with everything it needs around it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import redis.asyncio
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import Around, DialPlan, Streams
from tests.integration.sip_cluster.engines import Engine, new_region
from tests.integration.sip_cluster.sipp import Sipp


@dataclass
class Bench:
    """One node and what is around it."""

    engine: Engine
    around: Around
    etcd: Etcd
    region: str
    redis: redis.asyncio.Redis

    @property
    def dial_plan(self) -> DialPlan:
        return self.around.dial_plan

    @property
    def streams(self) -> Streams:
        return self.around.streams

    async def snapshots(self) -> list[bytes]:
        """Snapshots of calls in Redis."""
        found: list[bytes] = []
        async for key in self.redis.scan_iter(match="{sip_cluster:*}:calls"):
            found += (await self.redis.hgetall(key)).values()
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
        return all(numbers[f"voicemesh_sip_cluster_{name}"] == 0 for name in busy) and not await self.snapshots()


@pytest.fixture
async def around(etcd: Etcd) -> AsyncIterator[Around]:
    made = Around()
    await made.start()
    yield made
    await made.stop()
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture
async def bench(
    around: Around,
    etcd: Etcd,
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    redis_client: redis.asyncio.Redis,
) -> AsyncIterator[Bench]:
    region = new_region()
    record = NodeRecord(
        node="redis_queue-0",
        incarnation="redis_queue-0.00000000",
        service="redis_queue",
        state=NodeState.NODE_STATE_SERVING,
    )
    await etcd.put(f"/voicemesh/{region}/redis_queue/nodes/{record.incarnation}", record.SerializeToString())
    engine = Engine(0, loopback(), region, etcd_server.endpoint, redis_server.url, around.socket)
    engine.start()
    try:
        await asyncio.to_thread(engine.ready)
        yield Bench(engine, around, etcd, region, redis_client)
    finally:
        engine.close()


@pytest.fixture
def sipp(around: Around) -> Iterator[Callable[..., Sipp]]:
    """Starts SIPp processes: sipp(host, steps, remote=..., service=...), on port 5060 of an address of its own."""
    started: list[Sipp] = []

    def start(host: str, steps: list[str], *, port: int = 5060, **options: object) -> Sipp:
        one = Sipp(around.folder, host, port, steps, **options)  # type: ignore[arg-type]
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()
