"""Requests through a real Front End to owners that die: found again, carried out once, answered in time."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
import redis.asyncio

from mesh.errors import details
from tests.integration.front_end.region import Client, Region, region_of
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer


@pytest.fixture
async def at(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Region]:
    async with region_of(etcd_server, redis_server, redis_client, region) as made:
        yield made


@pytest.mark.feature("FE-07", "FE-12")
async def test_an_owner_killed_between_lookup_and_send_is_looked_up_again(at: Region) -> None:
    client = Client(at, "front_end-0")
    conn_id = at.call_on("sip_cluster-0")
    await client.attach(at.call_on("sip_cluster-0"))  # the way there is known and open
    at.nodes.nodes["sip_cluster-0"].signal(signal.SIGSTOP)  # takes nothing any more, and nobody knows it yet
    asked = asyncio.ensure_future(client.attach(conn_id, "once"))
    await asyncio.wait((asked,), timeout=0.3)
    assert not asked.done()
    await at.nodes.kill("sip_cluster-0")
    event = await asked
    assert event.server.startswith("sip_cluster-1.")
    assert (await at.executed())["once"] == 1
    again = await client.attach(conn_id, "once")
    assert again == event
    assert (await at.executed())["once"] == 1
    await at.settled()


@pytest.mark.feature("FE-07", "FE-12")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_an_owner_that_dies_over_a_request_leaves_it_to_be_carried_out_once(
    at: Region, when: str
) -> None:
    client = Client(at, "front_end-0")
    event = await client.attach(at.call_on("sip_cluster-0"), "once", die=when)
    assert (await at.executed())["once"] == 1
    who = "sip_cluster-1." if when == "before" else "sip_cluster-0."  # the heir repeats what was stored
    assert event.server.startswith(who)
    await at.settled()


@pytest.mark.feature("FE-07", "FE-12")
async def test_a_burst_over_a_killed_owner_is_answered_and_counted_once_each(at: Region) -> None:
    client = Client(at, "front_end-0")
    ids = [f"b{n}" for n in range(200)]

    async def one(ident: str) -> str:
        await asyncio.sleep(random.random())
        return (await client.attach(at.call(), ident, pause_ms="20", timeout=20)).server

    burst = asyncio.gather(*(one(ident) for ident in ids))
    await eventually(lambda: _some(at, 40))
    await at.nodes.kill("sip_cluster-0")
    servers = await burst
    assert {server.rpartition(".")[0] for server in servers} == {"sip_cluster-0", "sip_cluster-1"}
    executed = await at.executed()
    assert {ident: executed[ident] for ident in ids} == dict.fromkeys(ids, 1)
    await at.settled()


async def _some(at: Region, count: int) -> bool:
    return len(await at.executed()) >= count


@pytest.mark.feature("FE-09", "FE-12")
async def test_requests_reach_their_node_soon_and_late_ones_get_error_57(at: Region) -> None:
    client = Client(at, "front_end-0")
    room, times = asyncio.Semaphore(8), []

    async def one() -> None:
        async with room:
            began = time.monotonic()
            await client.attach(at.call())
            times.append(time.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(400)))
    p95 = sorted(times)[int(len(times) * 0.95)]
    assert p95 < 0.5, f"p95 {p95 * 1000:.0f} ms"
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await client.attach(at.call(), timeout=1.5, pause_ms="5000")
    assert details(late.value).tlib_error == 57
    for name in ("sip_cluster-0", "sip_cluster-1"):
        await at.nodes.kill(name)
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as nobody:
        await client.attach(at.call(), timeout=4.0)
    assert details(nobody.value).tlib_error == 57
    assert time.monotonic() - began < 4.0
    await at.settled()


@pytest.mark.feature("FE-09", "FE-12")
async def test_more_open_requests_than_stated_are_refused_at_once(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(
        etcd_server, redis_server, redis_client, region, sip_nodes=1, FRONT_END_OPEN_REQUESTS="5"
    ) as at:
        client = Client(at, "front_end-0")
        slow = [asyncio.ensure_future(client.attach(at.call(), pause_ms="3000")) for _ in range(5)]
        await asyncio.wait(slow, timeout=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.attach(at.call())
        assert details(refused.value).status is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not any(task.done() for task in slow)
        await asyncio.gather(*slow)
        await client.attach(at.call())
        await at.settled()


@pytest.mark.feature("FE-12", "AS-16")
async def test_agent_requests_over_a_killed_owner_are_all_answered(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(etcd_server, redis_server, redis_client, region, sip_nodes=0) as at:
        await asyncio.gather(*(at.nodes.start("agent_state", n) for n in (0, 1)))
        client, dns = Client(at, "front_end-0"), [str(1001 + n) for n in range(19)]
        await asyncio.gather(*(client.agent("AgentLogin", dn) for dn in dns))

        async def work(dn: str) -> list[int]:
            asked = ("AgentReady", "AgentNotReady") * 6
            return [(await client.agent(name, dn)).event_type for name in asked]

        working = asyncio.gather(*(work(dn) for dn in dns))
        await asyncio.wait((working,), timeout=0.3)
        await at.nodes.kill("agent_state-0")
        assert await working == [[75, 76] * 6] * len(dns)
        await at.settled()
