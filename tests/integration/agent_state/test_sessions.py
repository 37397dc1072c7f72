"""Agents at work: requests through the log, events in the agents' streams, logins in Config, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentPhase, DeviceNotification
from voice.config.v1.config_service_pb2 import GetLoginRequest
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.enums_pb2 import AgentWorkMode
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import reason_of
from tests.integration.agent_state.region import Region, region_of
from tests.integration.call_state.story import Story
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer

A, DN = "agent:A1001", "1001"
ACW, AUX = AgentWorkMode.AGENT_WORK_MODE_AFTER_CALL_WORK, AgentWorkMode.AGENT_WORK_MODE_AUX_WORK


@pytest.fixture
async def at(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> AsyncIterator[Region]:
    async with region_of(etcd_server, redis_server, redis_client, region) as made:
        yield made


def reason(code: str) -> KvList:
    return KvList(pairs=[KvPair(key="ReasonCode", string_value=code)])


async def calls(at: Region, story: Story, *kinds: int) -> None:
    """What Call State appends of a story's events for the agents in them."""
    for envelope in story.envelopes:
        if envelope.event.agent_id and envelope.event.event_type in kinds:
            await at.append(
                f"agent:{envelope.event.agent_id}", input_id=envelope.event_id, call_event=envelope
            )


@pytest.mark.feature("AS-05")
async def test_a_day_of_an_agent_in_the_documented_order(at: Region) -> None:
    outcome = await at.login("A1001", DN, queue="7000", reference_id=77)
    assert (outcome.reason, outcome.event.reference_id, outcome.event.agent_id) == (0, 77, "A1001")
    await at.ask(A, "agent_ready", agent_id="A1001", dn=DN)
    await at.ask(A, "agent_not_ready", agent_id="A1001", dn=DN, work_mode=AUX, reasons=reason("lunch"))
    await at.ask(A, "agent_not_ready", agent_id="A1001", dn=DN, work_mode=AUX, reasons=reason("meeting"))
    await at.ask(A, "agent_ready", agent_id="A1001", dn=DN)
    out = await at.ask(A, "agent_logout", agent_id="A1001", dn=DN)
    assert not out.reason
    await at.until(
        "t1:A1001",
        "AGENT_LOGIN",
        "AGENT_NOT_READY",
        "AGENT_READY",
        "AGENT_NOT_READY(4)",
        "AGENT_NOT_READY(4)",
        "AGENT_READY",
        "AGENT_LOGOUT",
        "QUEUE_LOGOUT",
    )
    events = at.stream("t1:A1001")
    assert all(e.event.agent_id == "A1001" and e.event.this_dn == DN for e in events)
    assert [e.event.reasons.pairs[0].string_value for e in events[3:5]] == ["lunch", "meeting"]
    assert events[0].requester.client == "desk"
    assert events[0].event.this_queue == events[-1].event.this_queue == "7000"
    again = await at.ask(A, "agent_ready", agent_id="A1001", dn=DN)
    assert again.reason == Reason.REASON_AGENT_NOT_LOGGED_IN


@pytest.mark.feature("AS-04")
async def test_logins_are_in_config(at: Region) -> None:
    await at.login("A1001", DN)
    found = await at.config.GetLogin(GetLoginRequest(tenant="t1", agent_id="A1001"), timeout=5)
    assert (found.login.dn, found.login.agent_id) == (DN, "A1001")
    assert (found.login.place, found.login.user_name) == ("Place_1001", "agent1001")
    agent = await at.agent("A1001")
    assert (agent.place, agent.user_name, agent.session_id) == (
        "Place_1001",
        "agent1001",
        found.login.session_id,
    )
    await at.ask(A, "agent_logout", agent_id="A1001", dn=DN)

    async def gone() -> bool:
        try:
            await at.config.GetLogin(GetLoginRequest(tenant="t1", agent_id="A1001"), timeout=5)
        except grpc.aio.AioRpcError as error:
            return reason_of(error) == Reason.REASON_AGENT_NOT_LOGGED_IN
        return False

    assert await eventually(gone)


@pytest.mark.feature("AS-13")
async def test_logins_that_conflict_are_refused(at: Region) -> None:
    assert not (await at.login("A1001", DN)).reason
    conflicts = [
        (await at.login("A1001", "1002"), "same agent, second DN", Reason.REASON_AGENT_ID_IN_USE),
        (await at.login("A1002", DN), "same DN, second agent", Reason.REASON_DN_HAS_AGENT),
        (await at.login("A9999", "1003"), "no such agent", Reason.REASON_WRONG_AGENT_ID),
        (await at.login("A1020", "1020", password="x"), "password", Reason.REASON_PASSWORD_MISMATCH),
    ]
    for outcome, what, expected in conflicts:
        assert outcome.reason == expected, (what, outcome.message)
    assert not (await at.login("A1020", "1020", password="agent-1020")).reason
    await at.until("t1:A1001", "AGENT_LOGIN", "AGENT_NOT_READY")
    assert at.told("t1:A1002") == at.told("t1:A9999") == []


@pytest.mark.feature("AS-01")
async def test_the_state_survives_a_restart_of_the_service(at: Region) -> None:
    await at.ready_agent("A1001", DN)
    await at.ask(A, "agent_not_ready", agent_id="A1001", dn=DN, work_mode=AUX, reasons=reason("lunch"))
    await at.until("t1:A1001", "AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY", "AGENT_NOT_READY(4)")
    before = await at.agent("A1001")
    await at.nodes.kill("agent_state-0")
    await at.nodes.start("agent_state")
    after = await at.agent("A1001")
    assert after == before
    assert after.phase == AgentPhase.AGENT_PHASE_NOT_READY
    await at.ask(A, "agent_ready", agent_id="A1001", dn=DN)
    told = ["AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY", "AGENT_NOT_READY(4)", "AGENT_READY"]
    await at.until("t1:A1001", *told)


async def test_a_request_sent_again_acts_once_and_is_answered_again(at: Region) -> None:
    await at.login("A1001", DN)
    first = await at.ask(A, "agent_ready", agent_id="A1001", dn=DN, request_id="once")
    again = await at.ask(A, "agent_ready", agent_id="A1001", dn=DN, request_id="once")
    assert again == first
    await at.until("t1:A1001", "AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY")


async def test_auto_in_makes_ready_at_once(at: Region) -> None:
    await at.login("A1001", DN, work_mode=AgentWorkMode.AGENT_WORK_MODE_AUTO_IN)
    await at.until("t1:A1001", "AGENT_LOGIN", "AGENT_READY(2)")


@pytest.mark.feature("AS-06", "AS-07", "AS-10")
async def test_a_call_makes_busy_then_after_call_work_then_ready(at: Region) -> None:
    await at.ready_agent("A1001", DN)
    story = Story(1).routed("A1001", DN)
    await calls(at, story, 60)
    await eventually(lambda: _phase(at, AgentPhase.AGENT_PHASE_BUSY_READY))
    assert list((await at.agent("A1001")).calls) == [story.conn_id()]
    story.envelopes[-1].event.extensions.CopyFrom(KvList(pairs=[KvPair(key="WrapUpTime", int_value=1)]))
    await calls(at, story, 64)
    await eventually(lambda: _phase(at, AgentPhase.AGENT_PHASE_BUSY_AFTER_CALL_WORK))
    story.hung_up("A1001", DN)
    await calls(at, story, 65)
    await at.until(
        "t1:A1001",
        "AGENT_LOGIN",
        "AGENT_NOT_READY",
        "AGENT_READY",
        "RINGING",
        "ESTABLISHED",
        "AGENT_NOT_READY(3)",
        "RELEASED",
        "AGENT_READY",
    )
    events = at.stream("t1:A1001")
    assert events[5].event.extensions.pairs[0] == KvPair(key="WrapUpTime", int_value=1)
    assert events[6].cause == f"call:{story.thread}/13"
    assert events[6].event.conn_id == story.conn_id()
    pause = events[7].time_us - events[5].time_us
    assert 1_000_000 <= pause < 1_500_000
    agent = await at.agent("A1001")
    assert (agent.phase, list(agent.calls), agent.wrapup_until_us) == (AgentPhase.AGENT_PHASE_READY, [], 0)


async def _phase(at: Region, phase: int) -> bool:
    return (await at.agent("A1001")).phase == phase


async def test_call_events_that_come_again_change_nothing(at: Region) -> None:
    await at.ready_agent("A1001", DN)
    story = Story(2).routed("A1001", DN).hung_up("A1001", DN)
    story.envelopes[11].event.extensions.CopyFrom(KvList(pairs=[KvPair(key="WrapUpTime", int_value=0)]))
    for _ in range(3):
        await calls(at, story, 60, 64, 65)
    told = ["AGENT_LOGIN", "AGENT_NOT_READY", "AGENT_READY", "RINGING", "ESTABLISHED", "RELEASED"]
    await at.until("t1:A1001", *told)
    await at.ask(A, "agent_logout", agent_id="A1001", dn=DN)
    await at.until("t1:A1001", *told, "AGENT_LOGOUT")


async def test_a_phone_that_leaves_makes_the_agent_unavailable_until_it_is_back(at: Region) -> None:
    await at.ready_agent("A1001", DN)

    async def in_service(expected: bool) -> None:
        async def there() -> bool:
            return (await at.agent("A1001")).in_service == expected

        assert await eventually(there)

    for number, (state, cause) in enumerate([(False, "unregister"), (False, "expired"), (True, "register")]):
        notice = DeviceNotification(dn=DN, in_service=state, cause=cause, time_us=1_000_000 + number)
        await at.append(f"dn:{DN}", device=notice)
        await in_service(state)
    await at.until("t1:dn:1001", "DN_OUT_OF_SERVICE", "DN_BACK_IN_SERVICE")
    assert {e.event.agent_id for e in at.stream("t1:dn:1001")} == {"A1001"}


async def test_do_not_disturb(at: Region) -> None:
    await at.ready_agent("A1001", DN)
    first = await at.ask(f"dn:{DN}", "set_dnd_on", dn=DN)
    assert not first.reason
    again = await at.ask(f"dn:{DN}", "set_dnd_on", dn=DN)
    assert again.reason == Reason.REASON_ALREADY_IN_STATE

    async def disturbed() -> bool:
        return (await at.agent("A1001")).dnd

    assert await eventually(disturbed)
    await at.ask(f"dn:{DN}", "set_dnd_off", dn=DN)
    await at.until("t1:dn:1001", "DND_ON", "DND_OFF")


@pytest.mark.feature("AS-16")
async def test_agents_keep_their_order_though_their_owner_is_killed_in_a_burst(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(etcd_server, redis_server, redis_client, region, nodes=2) as at:
        agents = [f"A{1001 + n}" for n in range(19)]
        await asyncio.gather(*(at.login(agent, agent[1:]) for agent in agents))

        async def burst(agent: str) -> None:
            for n in range(10):
                name = "agent_ready" if n % 2 == 0 else "agent_not_ready"
                fields = {"agent_id": agent, "dn": agent[1:]}
                outcome = await at.ask(f"agent:{agent}", name, **fields)
                assert not outcome.reason

        bursts = asyncio.gather(*(burst(agent) for agent in agents))
        await asyncio.sleep(0.3)
        await at.nodes.kill("agent_state-0")
        await bursts
        for agent in agents:
            told = ["AGENT_READY", "AGENT_NOT_READY"] * 5
            await at.until(f"t1:{agent}", "AGENT_LOGIN", "AGENT_NOT_READY", *told)


async def test_a_redis_that_has_forgotten_everything_is_told_again(
    etcd_server: EtcdServer, own_redis: Callable[..., RedisServer], region: str
) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    async with region_of(etcd_server, server, client, region) as at:
        await at.ready_agent("A1001", DN)
        before = await at.agent("A1001")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

        async def written() -> bool:
            try:
                return bool(await client.keys("{agent_state:*}:agents"))
            except redis.exceptions.ConnectionError:
                return False

        assert await eventually(written)
        await at.nodes.kill("agent_state-0")
        await at.nodes.start("agent_state")
        assert await at.agent("A1001") == before
    await client.aclose()
