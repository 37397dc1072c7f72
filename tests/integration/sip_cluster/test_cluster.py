"""Three nodes behind the core's proxy: SIPp callers and phones that follow Record-Route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import names
from tests.integration.sip_cluster.cluster import Cluster, cluster_of
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause

CALLER = Caller()
NODES = 3


@pytest.fixture
async def cluster(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Cluster]:
    async with cluster_of(NODES, etcd_server, redis_server) as made:
        yield made


@pytest.mark.feature("SC-01")
async def test_three_hundred_calls_over_three_nodes(cluster: Cluster, sipp: Callable[..., Sipp]) -> None:
    phone_ip, calls = loopback(), 300
    cluster.around.dial_plan.phone("t1", "1001")
    cluster.around.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    steps = [Phone.called(), Phone.rings(), Phone.answers_at_once(), Phone.hung_up()]
    phones = sipp(phone_ip, steps, calls=calls, trace=False, timeout_s=60)
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(200), CALLER.bye()]
    callers = sipp(loopback(), steps, remote=cluster.proxy, calls=calls, rate=30, trace=False, timeout_s=60)
    await callers.good(70)
    await phones.good(10)
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(cluster.idle):
            await asyncio.sleep(0.05)
    created = await asyncio.to_thread(cluster.created)
    assert sum(created) == calls and min(created) > calls / NODES / 2
    streams = cluster.around.streams
    assert len(streams.events) == calls and streams.gaps == []
    whole = [
        "Dialing@1001",
        "Ringing@1002",
        "Established@1001",
        "Established@1002",
        "Released@1001",
        "Released@1002",
    ]
    assert all(names(stream) == whole for stream in streams.events.values())
    assert all(len({envelope.node for envelope in stream}) == 1 for stream in streams.events.values())


@pytest.mark.feature("SC-40")
async def test_node_that_drains_loses_no_call_and_refuses_none(
    cluster: Cluster, sipp: Callable[..., Sipp]
) -> None:
    phone_ip, calls = loopback(), 90
    cluster.around.dial_plan.phone("t1", "1001")
    cluster.around.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    steps = [Phone.called(), Phone.rings(), Phone.answers_at_once(), Phone.hung_up()]
    phones = sipp(phone_ip, steps, calls=calls, trace=False, timeout_s=60)
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(2000), CALLER.bye()]
    callers = sipp(loopback(), steps, remote=cluster.proxy, calls=calls, rate=15, trace=False, timeout_s=60)
    leaving = cluster.engines[0]
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(leaving.metrics))["voicemesh_sip_cluster_calls"] < 3:
            await asyncio.sleep(0.05)
    leaving.terminate()
    assert leaving.process is not None
    assert await asyncio.to_thread(leaving.process.wait, 30) == 0, leaving.text()
    assert callers.process.poll() is None, "it left while calls were still being made"
    await callers.good(70)
    await phones.good(10)
    ends = [names(stream, everything=True)[-1] for stream in cluster.around.streams.events.values()]
    assert ends == ["CallDeleted"] * calls and cluster.around.streams.gaps == []
    by_node = [stream[0].node for stream in cluster.around.streams.events.values()]
    assert 3 <= sum(node.startswith("sip_cluster-0.") for node in by_node) < calls / 2
