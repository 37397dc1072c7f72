"""Waiting requests outlive the node that keeps them: none forgotten, none served twice, in their order."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from voice.agent_state.v1 import agent_state_service_pb2 as pb
from voice.config.v1.config_service_pb2 import CreateObjectRequest, ListObjectsRequest, UpdateObjectRequest
from voice.config.v1.config_service_pb2_grpc import ConfigServiceStub
from voice.config.v1.object_pb2 import ConfigObject, ObjectType, Skill
from voice.tenant.v1.routing_pb2 import TargetType

from mesh.identifiers import agent_slot
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer
from tests.integration.tenant.region import Region, region_of

DN, AGENT = "1020", "A1020"
"""An agent without after-call work."""


@pytest.fixture
async def at(
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    redis_client: redis.asyncio.Redis,
    region: str,
    tmp_path: Path,
) -> AsyncIterator[Region]:
    async with region_of(etcd_server, redis_server, redis_client, region, tmp_path) as made:
        yield made


async def ready(at: Region) -> None:
    """The agent begins to take calls."""
    for outcome in (
        await at.agents.login(AGENT, DN, password="agent-1020"),
        await at.agents.ask(f"agent:{AGENT}", "agent_ready", agent_id=AGENT, dn=DN),
    ):
        assert not outcome.reason, outcome.message


async def killed(at: Region) -> str:
    """kill -9 of the tenant's owner; gives its name."""
    name = await at.owner()
    epoch = at.directory.epoch("t1")
    await at.nodes.kill(name)
    assert await at.directory.moved("t1", epoch, 15)
    return name


@pytest.mark.feature("TN-11", "OR-16")
async def test_the_queue_is_rebuilt_with_age_and_priority_and_served_in_its_order(at: Region) -> None:
    chance, now = random.Random(3), time.time_ns() // 1000
    rows = []
    for _ in range(14):
        priority, age = chance.randrange(4), now - chance.randrange(10**9)
        rows.append((-priority, age, await at.submit(AGENT, priority=priority, age_us=age)))
    expected = [ident for _, _, ident in sorted(rows)]
    await at.until_waiting(expected)
    first = await killed(at)
    await at.until_waiting(expected)  # at the heir
    await at.start(int(first[-1]))
    await ready(at)
    for number in range(1, len(expected) + 1):
        answer = await at.answered(number)
        assert (answer.agent_id, answer.reason) == (AGENT, 0)
        if number == 7:  # once more, with an answer given whose call is on its way
            await killed(at)
        await at.call(answer)
    assert [answer.request_id for answer in at.answers] == expected
    await at.until_waiting([])


async def test_an_agent_reserved_by_the_dead_router_goes_to_its_request_at_once(at: Region) -> None:
    """The router dies between the grant and the answer: the reservation is its heir's, not ten seconds lost."""
    await ready(at)
    owner = await at.owner()
    at.nodes.nodes[owner].signal(signal.SIGSTOP)  # what follows is as if it had died over it
    mine = await at.submit(AGENT)
    request = pb.ReserveAgentRequest(
        tenant="t1",
        agent_id=AGENT,
        request_id=f"{mine}:1",
        client="tenant",
        duration_ms=60_000,
        only_if_ready=True,
    )
    slot = agent_slot("t1", f"agent:{AGENT}")
    granted: pb.ReserveAgentResponse = await at.agents.owners.call(
        at.agents.stub.ReserveAgent, request, slot, 10
    )
    other = await at.submit(AGENT, priority=9)
    await at.nodes.kill(owner)
    answer = await at.answered(1)
    assert (answer.request_id, answer.reservation_token) == (mine, granted.reservation.token)
    await at.until_waiting([other])
    await at.call(answer)
    assert (await at.answered(2)).request_id == other


async def test_a_router_that_wakes_after_its_lease_does_nothing(at: Region) -> None:
    """For what it remembers, callers wait and their agent is free."""
    owner = await at.owner()
    ids = [await at.submit(AGENT), await at.submit(AGENT)]
    await at.until_waiting(ids)
    epoch = at.directory.epoch("t1")
    at.nodes.nodes[owner].signal(signal.SIGSTOP)
    assert await at.directory.moved("t1", epoch, 15)
    await ready(at)
    heir = await at.owner()
    await eventually(lambda: _asked(at, heir, 1))
    for number, ident in enumerate(ids, 1):
        answer = await at.answered(number)
        assert answer.request_id == ident
        await at.call(answer)
    await at.until_waiting([])
    sleeper = at.nodes.nodes[owner]
    leases = sleeper.log().count("lease granted")
    sleeper.signal(signal.SIGCONT)
    async with asyncio.timeout(20):
        while sleeper.log().count("lease granted") == leases:
            await asyncio.sleep(0.05)
    assert await at.asked(owner, "granted") == 0
    assert [answer.request_id for answer in at.answers] == ids


async def _asked(at: Region, node: str, count: int) -> bool:
    return await at.asked(node, "granted") >= count


@pytest.mark.feature("TN-14")
async def test_who_loses_the_race_for_an_agent_keeps_its_place_and_is_served_next(
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    redis_client: redis.asyncio.Redis,
    region: str,
    tmp_path: Path,
) -> None:
    # A window in which both asks arrive on a busy machine too.
    async with region_of(
        etcd_server,
        redis_server,
        redis_client,
        region,
        tmp_path,
        AGENT_STATE_REQUEST_COLLECTION_TIME_MS="1500",
    ) as at:
        await ready(at)
        slot = agent_slot("t1", f"agent:{AGENT}")
        other = pb.ReserveAgentRequest(
            tenant="t1",
            agent_id=AGENT,
            request_id="of-another-router",
            client="router-2",
            priority=100,
            duration_ms=60_000,
        )
        race = asyncio.ensure_future(at.agents.owners.call(at.agents.stub.ReserveAgent, other, slot, 15))
        mine = await at.submit(AGENT, priority=1)
        later = await at.submit(AGENT)
        won: pb.ReserveAgentResponse = await race
        owner = await at.owner()

        async def lost() -> bool:
            return await at.asked(owner, "REASON_AGENT_RESERVED") > 0  # 1700

        assert await eventually(lost)
        await at.until_waiting([mine, later])
        assert at.answers == []
        cancel = pb.CancelReservationRequest(tenant="t1", agent_id=AGENT, token=won.reservation.token)
        await at.agents.owners.call(at.agents.stub.CancelReservation, cancel, slot, 10)
        answer = await at.answered(1)
        assert (answer.request_id, answer.agent_id) == (mine, AGENT)
        assert answer.reservation_token != won.reservation.token
        await at.call(answer)
        assert (await at.answered(2)).request_id == later


async def test_a_request_whose_answer_no_queue_takes_ends_and_the_agent_is_free(at: Region) -> None:
    await ready(at)
    await at.submit(AGENT, answer_queue="no queue")
    good = await at.submit(AGENT)
    answer = await at.answered(1, 8)  # sooner than the reservation for the other would end by itself
    assert answer.request_id == good
    await at.until_waiting([])


async def test_who_gains_a_skill_is_asked_for_the_calls_that_wait_for_it(at: Region) -> None:
    await ready(at)
    waiting = await at.submit("Klingon >= 3", kind=TargetType.TARGET_TYPE_SKILL)
    await at.until_waiting([waiting])
    config = ConfigServiceStub(at.nodes.channel())
    skill = ConfigObject(skill=Skill(name="Klingon"))
    await config.CreateObject(CreateObjectRequest(tenant="t1", object=skill), timeout=10)
    listed = await config.ListObjects(
        ListObjectsRequest(tenant="t1", type=ObjectType.OBJECT_TYPE_PERSON, page_size=1000), timeout=10
    )
    person = next(found for found in listed.objects if AGENT in found.person.agent_logins)
    person.person.skills.add(skill="Klingon", level=5)
    await config.UpdateObject(UpdateObjectRequest(tenant="t1", object=person), timeout=10)
    answer = await at.answered(1)
    assert (answer.request_id, answer.agent_id) == (waiting, AGENT)


async def test_callers_keep_their_place_when_the_router_and_the_agents_owner_die_together(
    etcd_server: EtcdServer,
    redis_server: RedisServer,
    redis_client: redis.asyncio.Redis,
    region: str,
    tmp_path: Path,
) -> None:
    async with region_of(etcd_server, redis_server, redis_client, region, tmp_path, nodes=2) as at:
        ids = [await at.submit(AGENT, priority=9 - n) for n in range(4)]
        await at.until_waiting(ids)
        await ready(at)
        first = await at.answered(1)
        slot = agent_slot("t1", f"agent:{AGENT}")
        owner = at.agents.owners._directory.owner(slot)
        assert owner is not None
        await asyncio.gather(at.nodes.kill(await at.owner()), at.nodes.kill(owner.node))
        await at.call(first)
        for number in range(2, len(ids) + 1):
            await at.call(await at.answered(number, 40))
        assert [answer.request_id for answer in at.answers] == ids
        await at.until_waiting([])
