"""Three nodes behind the core's proxy: SIPp callers and phones that follow Record-Route."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest
import redis.asyncio
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voicecore.sip import Node, Proxy

from mesh.discovery import Directory
from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.bench_mesh import Around, names
from tests.integration.sip_cluster.engines import Engine, new_region
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause

CALLER = Caller()
NODES = 3


@dataclass
class Cluster:
    """The nodes, their proxy, and what is around them."""

    engines: list[Engine]
    around: Around
    proxy: tuple[str, int]

    def created(self) -> list[float]:
        return [engine.metrics()["voicemesh_sip_cluster_calls_created_total"] for engine in self.engines]

    def idle(self) -> bool:
        numbers = [engine.metrics() for engine in self.engines]
        busy = ("calls", "dialogs", "unacknowledged_events_depth", "snapshot_writes_depth")
        return all(one[f"voicemesh_sip_cluster_{name}"] == 0 for one in numbers for name in busy)


async def announce(etcd: Etcd, region: str, service: str, sip_address: str = "") -> None:
    record = NodeRecord(
        node=f"{service}-0",
        incarnation=f"{service}-0.{secrets.token_hex(4)}",
        service=service,
        sip_address=sip_address,
        state=NodeState.NODE_STATE_SERVING,
    )
    await etcd.put(f"/voicemesh/{region}/{service}/nodes/{record.incarnation}", record.SerializeToString())


@pytest.fixture
async def cluster(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Cluster]:
    etcd, client = Etcd(etcd_server.endpoint), redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    around, region, host = Around(), new_region(), loopback()
    await around.start()
    proxy = Proxy()
    proxy.bind_udp(host, 5060)
    await announce(etcd, region, "redis_queue")
    await announce(etcd, region, "sip_proxy", f"{host}:5060")
    where = (region, etcd_server.endpoint, redis_server.url, around.socket)
    engines = [
        Engine(number, loopback(), *where, VOICEMESH_SIP_CLUSTER_DIRECT="0") for number in range(NODES)
    ]
    directory = Directory(etcd, region, "sip_cluster")
    try:
        for engine in engines:
            engine.start()
        await asyncio.gather(*(asyncio.to_thread(engine.ready, 341) for engine in engines))
        await directory.start()
        tell(proxy, directory)
        directory.on_change(lambda: tell(proxy, directory))
        yield Cluster(engines, around, (host, 5060))
    finally:
        for engine in engines:
            engine.close()
        proxy.close()
        await directory.stop()
        await around.stop()
        await client.aclose()
        await etcd.close()
        shutil.rmtree(around.folder, ignore_errors=True)


def tell(proxy: Proxy, directory: Directory) -> None:
    """What the proxy service does with the directory."""
    records = directory.nodes()
    serving = NodeState.NODE_STATE_SERVING
    nodes = [
        Node(r.incarnation, r.sip_address.partition(":")[0], 5060, float(r.state == serving)) for r in records
    ]
    proxy.set_nodes(nodes)
    proxy.set_slots([(int(s), n) for n, r in enumerate(records) for s in directory.slots_of(r.incarnation)])


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
async def test_node_that_drains_finishes_its_calls_and_refuses_none(
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
