"""Applications over the real platform: started by calls, fetched, compiled once, stored, failed over to defaults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
import redis.asyncio
from voice.config.v1.config_service_pb2 import GetObjectRequest, UpdateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ObjectType

from demo.phone import Phone
from mesh.identifiers import thread_slot
from tests.e2e.platform import Desk, Platform, events_of, name_of, password


@pytest_asyncio.fixture(loop_scope="session")
async def phone(platform: Platform) -> AsyncIterator[Phone]:
    """1901: the default destination of the demo's route points."""
    made = platform.phone("1901", host=71)
    await platform.register(made)
    yield made
    await made.register(password("1901", "t1"), expires=0)
    made.close()


FRESH_S = 1.0
"""How long an application is used without asking its server (services/orchestration/applications.py)."""


async def scrape(platform: Platform, name: str) -> float:
    """Sum of a metric over the orchestration nodes."""
    total = 0.0
    async with httpx.AsyncClient() as client:
        for node, address in platform.mesh.metrics.items():
            if node.startswith("orchestration"):
                text = (await client.get(f"http://{address}/metrics")).text
                total += sum(float(v) for v in re.findall(rf"(?m)^{name}(?:{{[^}}]*}})? (\S+)$", text))
    return total


@pytest.mark.feature(
    "OR-01", "OR-02", "OR-03", "OR-05", "OR-07", "OR-12", "OR-16", "OR-17", "OR-18", "OR-27", "TN-09", "TN-05"
)
async def test_an_application_queues_a_call_stores_its_session_and_routes_it(platform: Platform) -> None:
    agent, caller = platform.phone("1002", host=72), platform.caller(host=72)
    await platform.register(agent)
    await asyncio.sleep(FRESH_S + 0.1)  # from then on the server is asked again
    platform.applications.requests.clear()
    store = redis.asyncio.Redis.from_url(platform.mesh.redis)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        desk = Desk(platform, channel, "t1", "1002")
        await desk.login()
        leg = caller.call("8000")
        asked = await events.first("ROUTE_REQUEST", this_dn="8000")
        await events.first("ATTACHED_DATA_CHANGED", conn_id=asked.event.conn_id)
        key = f"{{orchestration:{thread_slot(asked.call_thread_id)}}}:sessions"
        await _until(lambda: store.hlen(key))
        waiting = [k async for k in store.scan_iter("*route_requests:t1*")]
        assert waiting
        assert [path.partition("?")[0] for path, _ in platform.applications.requests] == ["/skill.scxml"]
        assert "skill=English" in platform.applications.requests[0][0]
        await desk.ready()
        await leg.until(leg.established, 10)
        ringing = await events.first("RINGING", this_dn="1002")
        data = {p.key: p.string_value for p in ringing.event.user_data.pairs}
        assert data["Skill"] == "English >= 5"
        assert data["RTargetAgentSelected"] == "A1002"
        await caller.hang_up(leg)
        await events.first("CALL_DELETED", conn_id=asked.event.conn_id)
        await _until_not(lambda: store.hlen(key))
        await desk.logout()
    await store.aclose()
    await agent.register(password("1002", "t1"), expires=0)
    agent.close()
    caller.close()


async def _until(check: Callable[[], Awaitable[Any]], timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while not await check():
            await asyncio.sleep(0.05)


async def _until_not(check: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(10):
        while await check():
            await asyncio.sleep(0.05)


@pytest.mark.feature("OR-05")
async def test_an_application_that_cannot_be_had_sends_the_call_to_the_default_destination(
    platform: Platform, phone: Phone
) -> None:
    caller = platform.caller(host=73)
    platform.applications.broken.add("group.scxml")
    try:
        async with platform.edge() as channel, events_of(platform, channel) as events:
            leg = caller.call("8001")
            await leg.until(leg.established, 15)
            await events.first("RINGING", this_dn="1901")
            await caller.hang_up(leg)
    finally:
        platform.applications.broken.clear()
    assert len(phone.legs) == 1
    caller.close()


@pytest.mark.feature("OR-06", "OR-21")
async def test_an_unchanged_application_is_compiled_once(platform: Platform) -> None:
    callers = [platform.caller(host=80 + n) for n in range(6)]
    async with platform.edge() as channel, events_of(platform, channel) as events:
        compiled = await scrape(platform, "voicemesh_orchestration_compilations_total")
        legs = [caller.call("8000") for caller in callers]
        await events.until(lambda seen: sum(name_of(e) == "ROUTE_REQUEST" for e in seen) == 6)
        await events.until(lambda seen: sum(name_of(e) == "ATTACHED_DATA_CHANGED" for e in seen) == 6)
        after = await scrape(platform, "voicemesh_orchestration_compilations_total")
        assert after - compiled <= 2  # once a node, and each node had it already or not
        assert await scrape(platform, "voicemesh_orchestration_interactions") >= 6
        for caller, leg in zip(callers, legs, strict=True):
            caller.cancel(leg)
        await events.until(lambda seen: sum(name_of(e) == "CALL_DELETED" for e in seen) == 6)
    for caller in callers:
        caller.close()


@pytest.mark.feature("OR-04", "DP-11", "CF-04", "CF-10")
async def test_a_changed_route_point_uses_its_new_application_without_restart(
    platform: Platform, phone: Phone
) -> None:
    caller = platform.caller(host=74)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        config, metadata = ConfigServiceStub(channel), platform.bearer("t1")
        get = GetObjectRequest(tenant="t1", type=ObjectType.OBJECT_TYPE_DN, number="8009")
        found = (await config.GetObject(get, timeout=5, metadata=metadata)).object
        found.dn.route_point.application_url = f"http://{platform.ip(240)}:8080/skill.scxml?ani=[ANI]&dn=[DN]"
        update = UpdateObjectRequest(tenant="t1", object=found)
        changed = (await config.UpdateObject(update, timeout=5, metadata=metadata)).object
        platform.applications.requests.clear()
        await _until(lambda: _asked(platform, caller))
        path = platform.applications.requests[0][0]
        assert "ani=%2B14155550100" in path
        assert "dn=8009" in path
        changed.dn.route_point.application_url = ""
        await config.UpdateObject(
            UpdateObjectRequest(tenant="t1", object=changed), timeout=5, metadata=metadata
        )
        for leg in caller.legs.values():
            if not leg.ended.is_set() and not leg.established.is_set():
                caller.cancel(leg)
        await events.first("CALL_DELETED")
    caller.close()


async def _asked(platform: Platform, caller: Phone) -> bool:
    """Dials until the application server is asked: the change takes effect within two seconds."""
    leg = caller.call("8009")
    for _ in range(10):
        await asyncio.sleep(0.05)
        if platform.applications.requests:
            return True
    if leg.established.is_set():
        await caller.hang_up(leg)
    return False


@pytest.mark.feature("SC-32")
async def test_a_route_point_without_application_goes_to_its_default_destination(
    platform: Platform, phone: Phone
) -> None:
    caller = platform.caller(host=75)
    leg = caller.call("8009")
    await leg.until(leg.established, 15)
    assert await caller.hang_up(leg) == 200
    caller.close()


@pytest.mark.feature("SC-13")
async def test_a_caller_who_leaves_the_queue_is_abandoned_and_nobody_rings(platform: Platform) -> None:
    caller = platform.caller(host=76)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        leg = caller.call("8000")
        waiting = await events.first("ROUTE_REQUEST", this_dn="8000")
        caller.cancel(leg)
        await events.first("CALL_DELETED", conn_id=waiting.event.conn_id)
        names = [name_of(e) for e in events.seen if e.event.conn_id == waiting.event.conn_id]
        assert "ABANDONED" in names
        assert "ROUTE_USED" not in names
    caller.close()
