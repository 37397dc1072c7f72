"""Each kind of process is stopped past its lease under load, and woken: nothing it does then has an effect.

Shown by a trace of Redis (no fenced write of an overtaken epoch changes anything), by the calls that waited at its door
(refused), and by the platform: calls go on while it sleeps and after it woke.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc.aio
import pytest
from voice.error.v1.reason_pb2 import Reason
from voice.mesh.v1 import node_service_pb2 as node
from voice.mesh.v1.node_pb2 import NodeState
from voice.mesh.v1.node_service_pb2_grpc import NodeServiceStub

from mesh import channels
from mesh.discovery import Directory
from mesh.errors import reason_of
from mesh.etcd import Etcd
from tests.e2e.platform import Platform
from tests.integration.mesh.redis_trace import RedisTrace
from tests.integration.mesh.traffic import WAIT_S, traffic_on

OWNERS = ("tenant", "registrar", "call_state", "agent_state", "orchestration", "sip_cluster")
OTHERS = ("redis_queue", "front_end", "dial_plan", "config", "sip_proxy")
SHORT = ("tenant", "agent_state", "orchestration", "sip_cluster", "config")


@pytest.fixture
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    counts = dict.fromkeys((*OWNERS, *OTHERS), 2)
    async with Platform(tmp_path_factory.mktemp("woken"), counts, {}) as made:
        yield made


async def at_its_door(channel: grpc.aio.Channel) -> grpc.aio.AioRpcError | None:
    """A call that is sent while the process sleeps, past its sidecar; the failure it ends with."""
    try:
        await NodeServiceStub(channel).GetNode(node.GetNodeRequest(), timeout=WAIT_S)
    except grpc.aio.AioRpcError as error:
        return error
    return None


async def until(condition: object, seconds: float = WAIT_S) -> None:
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def stop_and_wake(platform: Platform, etcd: Etcd, trace: RedisTrace, kind: str) -> str:
    """The story of one process, for the one who reads a failure."""
    mesh = platform.mesh
    instance = mesh.instances(kind)[0]
    name = instance.nodes[0].node
    directory = Directory(etcd, mesh.settings.region, kind)
    await directory.start()
    door = channels.direct(f"unix:{instance.nodes[0].listen}")
    assert await at_its_door(door) is None  # connected: what is sent now waits in the socket

    def record() -> object:
        return next((r for r in directory.nodes() if r.node == name), None)

    try:
        [incarnation] = [r.incarnation for r in directory.nodes() if r.node == name]
        slots = directory.slots_of(incarnation)
        process = mesh.process(instance.name)
        process.stop()
        waiting = asyncio.create_task(at_its_door(door))
        await until(lambda: record() is None)
        await until(lambda: all(directory.owner(slot) is not None for slot in slots))
        await asyncio.sleep(1.0)  # heirs at work
        woken = time.time()
        process.cont()
        refused = await waiting
        assert refused is not None, f"{kind}: a call that waited at its door was served"
        assert reason_of(refused) == Reason.REASON_NOT_OWNER, (kind, refused)
        await until(
            lambda: any(r.node == name and r.state == NodeState.NODE_STATE_SERVING for r in directory.nodes())
        )
        return f"{kind}: {len(slots)} slots, {len(trace.late(woken))} late writes"
    finally:
        await door.close()
        await directory.stop()


@pytest.mark.slow
@pytest.mark.feature("XC-04")
async def test_a_woken_process_of_any_kind_does_nothing_that_counts(
    platform: Platform, chaos_long: bool
) -> None:
    kinds = (*OWNERS, *OTHERS) if chaos_long else SHORT
    host, _, port = platform.mesh.layout.redis.rpartition(":")
    etcd = Etcd(platform.mesh.etcd)
    try:
        async with RedisTrace(host, int(port)) as trace, traffic_on(platform) as traffic:
            await traffic.more(3)
            for kind in kinds:
                story = await stop_and_wake(platform, etcd, trace, kind)
                assert trace.violations() == [], story
                await traffic.more(3)
                print(story)
            assert len(trace.writes) > 100, "the trace sees the writes of owners"
    finally:
        await etcd.close()
