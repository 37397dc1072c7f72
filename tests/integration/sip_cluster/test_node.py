"""A node in its mesh: proxies, routers that go away, too many calls, etcd and Redis that go away."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Callable

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd
from tests.integration.servers import EtcdServer, RedisServer, loopback
from tests.integration.sip_cluster.conftest import Bench, running
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause, receive

CALLER = Caller()
TRUNK = Caller("+15551")
Starter = Callable[..., Sipp]


async def announce(etcd: Etcd, region: str, service: str, sip_address: str = "") -> str:
    """A node of another service in etcd; its key."""
    record = NodeRecord(
        node=f"{service}-0",
        incarnation=f"{service}-0.{secrets.token_hex(4)}",
        service=service,
        sip_address=sip_address,
        state=NodeState.NODE_STATE_SERVING,
    )
    key = f"/voicemesh/{region}/{service}/nodes/{record.incarnation}"
    await etcd.put(key, record.SerializeToString())
    return key


@pytest.mark.feature("SC-32")
async def test_waiting_calls_go_to_default_dns_when_the_router_dies(bench: Bench, sipp: Starter) -> None:
    router = await announce(bench.etcd, bench.region, "orchestration")
    before = (await asyncio.to_thread(bench.engine.metrics))["voicemesh_sip_cluster_default_routing_total"]
    phones, callers = [], []
    bench.dial_plan.route_point("t1", "8000", default_dns=["1002", "1003"])
    for number in ("1002", "1003"):
        phone_ip, trunk_ip = loopback(), loopback()
        bench.dial_plan.trunks[f"{trunk_ip}:5060"] = "t1"
        bench.dial_plan.phone("t1", number, f"{phone_ip}:5060")
        phones.append(
            sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), pause(100), Phone.hangs_up()])
        )
        steps = [TRUNK.invite(), receive(100, optional=True), receive(180), TRUNK.answered(), TRUNK.hung_up()]
        callers.append(sipp(trunk_ip, steps, remote=bench.engine.sip, service="8000"))

    async def queued() -> bool:
        return len(bench.streams.events) == 2

    await bench.until(queued)
    await bench.etcd.delete(router)
    for one in (*callers, *phones):  # each phone gets one call: the default DNs are taken in turn
        await one.good()
    after = (await asyncio.to_thread(bench.engine.metrics))["voicemesh_sip_cluster_default_routing_total"]
    assert after - before == 2


async def test_calls_leave_through_a_proxy(bench: Bench, sipp: Starter) -> None:
    proxy_ip = loopback()
    key = await announce(bench.etcd, bench.region, "sip_proxy", f"{proxy_ip}:5060")

    async def known() -> bool:
        return (await asyncio.to_thread(bench.engine.metrics))["voicemesh_sip_cluster_proxies"] == 1

    await bench.until(known)
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.phone("t1", "1002", "10.99.99.99:5060")
    proxy = sipp(proxy_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), CALLER.bye()]
    await sipp(loopback(), steps, remote=bench.engine.sip).good()
    seen = (await proxy.good()).messages
    assert "INVITE sip:1002@10.99.99.99:5060 SIP/2.0" in seen
    assert f"Route: <sip:{proxy_ip}:5060;lr;vd=phone>" in seen
    await bench.etcd.delete(key)


async def test_source_of_a_call_is_what_the_proxy_saw(bench: Bench, sipp: Starter) -> None:
    proxy_ip = loopback()
    key = await announce(bench.etcd, bench.region, "sip_proxy", f"{proxy_ip}:5060")

    async def known() -> bool:
        return (await asyncio.to_thread(bench.engine.metrics))["voicemesh_sip_cluster_proxies"] == 1

    await bench.until(known)
    via = "Via: SIP/2.0/UDP trunk.example:5070;branch=z9hG4bKabc;received=198.51.100.7;rport=5099\n"
    bench.dial_plan.phone("t1", "1002")
    invite = TRUNK.invite().replace("From:", via + "From:", 1)
    await sipp(
        proxy_ip, [invite, receive(100, optional=True), receive(480)], remote=bench.engine.sip
    ).finished()
    asked = bench.dial_plan.asked[0].source
    assert (asked.address, asked.domain, asked.from_user) == ("198.51.100.7:5099", "t1.example", "+15551")
    await bench.etcd.delete(key)


async def test_a_bye_that_a_proxy_does_not_answer_takes_another_within_a_second(
    bench: Bench, sipp: Starter
) -> None:
    """A phone that does not hear of the end would be offered the next call in this one (RFC 3261 has no word for a proxy that
    is there and silent)."""
    silent_ip, other_ip = loopback(), loopback()
    keys = [await announce(bench.etcd, bench.region, "sip_proxy", f"{silent_ip}:5060")]

    async def known() -> bool:
        proxies = (await asyncio.to_thread(bench.engine.metrics))["voicemesh_sip_cluster_proxies"]
        return proxies == len(keys)

    await bench.until(known)
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.phone("t1", "1002", "10.99.99.99:5060")
    steps = [Phone.called(), Phone.rings(), Phone.answers(), receive("BYE"), pause(2000)]
    silent = sipp(silent_ip, steps)
    other = sipp(other_ip, [Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(2000), CALLER.bye()]
    caller = sipp(loopback(), steps, remote=bench.engine.sip)
    await bench.event("Established@1002")
    keys.append(await announce(bench.etcd, bench.region, "sip_proxy", f"{other_ip}:5060"))
    await bench.until(known)
    await caller.good()
    first, second = await silent.good(), await other.good()
    asked = first.at("BYE")
    assert 0.5 <= (second.at("BYE") - asked) % 86400 <= 1.5
    via = [line for line in first.messages.splitlines() if line.startswith("Via:") and "[" not in line]
    assert via[-1] in second.messages, "the same transaction: an answer of either ends it"
    for key in keys:
        await bench.etcd.delete(key)


@pytest.fixture
async def small(etcd_server: EtcdServer, redis_server: RedisServer) -> AsyncIterator[Bench]:
    async with running(etcd_server, redis_server, VOICEMESH_CAPACITY="2") as made:
        yield made


async def test_full_node_answers_503(small: Bench, sipp: Starter) -> None:
    phone_ip = loopback()
    small.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    phones = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()], calls=2)
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(1500), CALLER.bye()]
    callers = sipp(loopback(), steps, remote=small.engine.sip, calls=2)

    async def both() -> bool:
        return (await asyncio.to_thread(small.engine.metrics))["voicemesh_sip_cluster_calls"] == 2

    await small.until(both)
    refused = sipp(loopback(), [CALLER.invite(), CALLER.refused(503)], remote=small.engine.sip)
    assert "Retry-After: 5" in (await refused.good()).messages
    await callers.good()
    await phones.good()
    numbers = await asyncio.to_thread(small.engine.metrics)
    assert numbers["voicemesh_sip_cluster_overload_rejected_total"] == 1
    assert numbers['voicemesh_sip_cluster_sip_failures_total{status="503"}'] == 1


async def test_etcd_outage_stops_no_call(
    own_etcd: EtcdServer, redis_server: RedisServer, sipp: Starter
) -> None:
    """Past the lease's deadline packets leave after a fenced write: calls go on, new ones too (design §6)."""
    async with running(own_etcd, redis_server) as bench:
        phone_ip = loopback()
        bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
        phone = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()], calls=2)
        steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(3500), CALLER.bye()]
        first = sipp(loopback(), steps, remote=bench.engine.sip)
        await bench.event("Established@1002")
        own_etcd.pause()
        try:
            await asyncio.sleep(2.5)
            steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), CALLER.bye()]
            await sipp(loopback(), steps, remote=bench.engine.sip).good()
            await first.good()
            await phone.good()
        finally:
            own_etcd.resume()
        numbers = await asyncio.to_thread(bench.engine.metrics)
        assert numbers['voicemesh_sip_cluster_events_total{what="packets_released"}'] > 0
        assert numbers['voicemesh_sip_cluster_events_total{what="packets_dropped"}'] == 0


async def test_redis_outage_lets_calls_go_on_unprotected(
    etcd_server: EtcdServer, own_redis: Callable[[], RedisServer], sipp: Starter
) -> None:
    redis = own_redis()
    async with running(etcd_server, redis) as bench:
        phone_ip = loopback()
        bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
        phone = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
        redis.signal(signal.SIGSTOP)
        steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(500), CALLER.bye()]
        await sipp(loopback(), steps, remote=bench.engine.sip).good()
        await phone.good()
        redis.signal(signal.SIGCONT)
        numbers = await asyncio.to_thread(bench.engine.metrics)
        assert numbers['voicemesh_sip_cluster_events_total{what="unprotected_calls"}'] == 1
