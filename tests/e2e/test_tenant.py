"""The Tenant service over the real platform: tokens, skill expressions, the order of service, tenants beside each other."""

from __future__ import annotations

import asyncio
import random
import time
import uuid

import grpc
import grpc.aio
import pytest
from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest, Target, TargetType
from voice.tenant.v1.tenant_service_pb2 import ExplainTargetRequest, IssueTokenRequest, VerifyTokenRequest
from voice.tenant.v1.tenant_service_pb2_grpc import TenantServiceStub
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import AgentLoginRequest, AgentLogoutRequest

from mesh.errors import details
from mesh.identifiers import new_call_uuid
from mesh.rq import THREAD, Publisher, Rq
from tests.e2e.platform import Desk, Platform, after_call_work, events_of
from tests.e2e.queue_sockets import QueueSockets


@pytest.mark.feature("TN-08")
async def test_an_agents_token_opens_the_edge_and_no_other_does(platform: Platform) -> None:
    async with platform.edge() as channel:
        tenants, control = TenantServiceStub(channel), AgentControlServiceStub(channel)
        ask = IssueTokenRequest(tenant="t1", agent_id="A1020", secret="agent-1020")
        issued = await tenants.IssueToken(ask, timeout=10)
        assert list(issued.scopes) == ["agent"]
        metadata = (("authorization", f"Bearer {issued.token}"),)
        login = AgentLoginRequest(
            tenant="t1", dn="1020", agent_id="A1020", password="agent-1020", request_id=uuid.uuid4().hex
        )
        assert (await control.AgentLogin(login, timeout=10, metadata=metadata)).event.agent_id == "A1020"
        logout = AgentLogoutRequest(tenant="t1", dn="1020", agent_id="A1020", request_id=uuid.uuid4().hex)
        await control.AgentLogout(logout, timeout=10, metadata=metadata)
        ask.secret = "wrong"
        with pytest.raises(grpc.aio.AioRpcError) as wrong:
            await tenants.IssueToken(ask, timeout=10)
        assert details(wrong.value).tlib_error == 1705
        login.tenant = "t2"
        with pytest.raises(grpc.aio.AioRpcError) as foreign:
            await control.AgentLogin(login, timeout=10, metadata=metadata)
        assert details(foreign.value).reason == Reason.REASON_FOREIGN_TENANT
        stale = platform.mesh.token("t1", "agent", subject="agent:A1020", lifetime_s=1)
        verify = VerifyTokenRequest(tenant="t1", token=stale)
        async with asyncio.timeout(20):
            while True:
                try:
                    await tenants.VerifyToken(verify, timeout=10, metadata=platform.bearer("t1"))
                except grpc.aio.AioRpcError as error:
                    assert details(error).reason == Reason.REASON_UNAUTHENTICATED
                    break
                await asyncio.sleep(0.2)


PEOPLE = {"A1001": {"English": 8, "Loans": 5}, "A1011": {"English": 3, "German": 9, "Cards": 7}}
VALID = [
    "English=8", "English = 3", "English != 8", "English < 8", "English <= 8", "English > 3", "English >= 3",
    "German>0", "Loans>=5&English>=8", "Loans>=5|Cards>=7", "(English>5)", "((English>5))", "English>5&(Loans>1|Cards>1)",
    "German=9&Cards=7", "English>5|German>5", "English>=0", "Loans!=5", "Cards<8&German>8", "English>1&English<5", "English=1000",
]  # fmt: skip
INVALID = [
    "English", "English>", "English>x", ">5", "English 5", "English=>5", "English==5", "English>1001", "English>-1",
    "A=1 B=2", "A=1 &", "A=1 && B=2", "(A=1", "A=1)", "()", "|A=1", "5=A", "A=1;B=2", "A=1.5", "A=1 !B=2",
]  # fmt: skip


@pytest.mark.feature("TN-10")
async def test_skill_expressions_mean_what_they_say(platform: Platform) -> None:
    async with platform.edge() as channel:
        stub, metadata = TenantServiceStub(channel), platform.bearer("t1")
        desks = [Desk(platform, channel, "t1", dn) for dn in ("1001", "1011")]
        for desk in desks:
            await desk.login()

        async def matching(expression: str) -> set[str]:
            target = Target(type=TargetType.TARGET_TYPE_SKILL, expression=expression)
            ask = ExplainTargetRequest(tenant="t1", target=target)
            answer = await stub.ExplainTarget(ask, timeout=10, metadata=metadata)
            return {c.agent_id for c in answer.candidates if c.matches} & set(PEOPLE)

        async with asyncio.timeout(10):
            while await matching("English>=0") != set(PEOPLE):
                await asyncio.sleep(0.05)
        for expression in VALID:
            assert await matching(expression) == {
                a for a, levels in PEOPLE.items() if _brute(expression, levels)
            }
        for expression in INVALID:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await matching(expression)
            assert details(refused.value).reason == Reason.REASON_INVALID_ATTRIBUTE, expression
            assert "position" in details(refused.value).violations[0][1]
        for desk in desks:
            await desk.logout()


def _brute(expression: str, levels: dict[str, int]) -> bool:
    """Python's own evaluation; an absent skill meets nothing."""
    import re

    def compare(match: re.Match[str]) -> str:
        if match[1] not in levels:
            return "False"
        operator = "==" if match[2] == "=" else match[2]
        return str(eval(f"{levels[match[1]]} {operator} {match[3]}"))

    text = re.sub(r"(\w+)\s*(<=|>=|!=|[=<>])\s*(\d+)", compare, expression)
    return bool(eval(text.replace("&", " and ").replace("|", " or ")))


WAITING = 100


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.feature("TN-11", "OR-16")
async def test_a_hundred_waiting_requests_are_served_by_priority_then_age(platform: Platform) -> None:
    chance = random.Random(11)
    sockets = QueueSockets(platform.mesh)
    rq = Rq.over(sockets)
    await rq.start()
    answers = f"route_answers:test-{uuid.uuid4().hex[:8]}"
    now = time.time_ns() // 1000
    requests = [
        RouteRequest(
            request_id=f"tn11-{uuid.uuid4().hex}", tenant="t2", targets=[Target(type=TargetType.TARGET_TYPE_AGENT, expression="A1017")],
            priority=chance.randrange(10), age_us=now - chance.randrange(10**9), answer_queue=answers,
            operation=RouteRequest.OPERATION_SUBMIT, session_id="s", call_thread_id="thread",
        )
        for _ in range(WAITING)
    ]  # fmt: skip
    try:
        async with platform.edge() as channel:
            await after_call_work(platform, channel, "t2", ["1017"], 0)
            desk = Desk(platform, channel, "t2", "1017")
            await desk.login()
            for request in requests:
                await rq.enqueue("route_requests:t2", request.request_id, request)
            await desk.ready()
            served = await asyncio.wait_for(_serve(rq, answers), 380)
            await desk.logout()
    finally:
        await rq.stop()
        await sockets.close()
    expected = sorted(requests, key=lambda r: (-r.priority, r.age_us))
    assert served == [request.request_id for request in expected]


async def _serve(rq: Rq, answers: str) -> list[str]:
    """Takes each answer, lets the agent have a short call, and so frees it for the next."""
    served: list[str] = []
    publisher = rq.publisher(THREAD)
    async for entries in rq.read_queue(answers):
        for entry in entries:
            served.append(await _take(entry, publisher))
            rq.acknowledge(answers, entry.id)
        if len(served) == WAITING:
            break
    return served


async def _take(entry: QueueEntry, publisher: Publisher) -> str:
    answer = RouteAnswer.FromString(entry.payload)
    assert answer.agent_id == "A1017", answer
    thread = new_call_uuid(0, 1, time.time_ns() // 1_000_000, random.getrandbits(40))
    kinds = (MessageType.MESSAGE_TYPE_EVENT_RINGING, MessageType.MESSAGE_TYPE_EVENT_RELEASED)
    for seq, kind in enumerate(kinds, 1):
        event = Event(
            event_type=kind, this_dn="1017", agent_id="A1017", call_uuid=thread,
            call_thread_id=thread,
        )  # fmt: skip
        event.conn_id = hash(thread) & 0xFFFFFFFF
        token = event.extensions.pairs.add(key="ReservationToken")
        token.string_value = answer.reservation_token
        await publisher.append(
            EventEnvelope(
                event_id=f"{thread}/{seq}", tenant="t2", stream_key=thread, seq=seq, epoch=1, time_us=time.time_ns() // 1000,
                call_thread_id=thread, event=event,
            )
        )  # fmt: skip
    return str(answer.request_id)


@pytest.mark.feature("TN-02")
async def test_the_death_of_one_tenants_node_is_nothing_to_another_tenant(platform: Platform) -> None:
    """Tenants' slots are spread over nodes; the node of one is killed while calls of another are routed."""
    async with platform.edge() as channel:
        owners = await _owners(platform)
        victim, other = next((a, b) for a in owners for b in owners if owners[a] != owners[b])
        agent, caller = platform.phone("1005", other, host=85), platform.caller(other, host=85)
        await platform.register(agent)
        desk = Desk(platform, channel, other, "1005")
        await desk.login()
        platform.mesh.process(owners[victim]).kill()
        async with events_of(platform, channel, other) as events:
            for _ in range(3):
                await desk.ready()
                leg = caller.call("8000")
                await leg.until(leg.established, 8)
                assert await caller.hang_up(leg) == 200
                await events.first("CALL_DELETED")
                events.seen.clear()
        await desk.logout()
        async with asyncio.timeout(20):  # and the other tenant is served by an heir, or by the node come back
            while True:
                owners = await _owners(platform)
                if victim in owners:
                    break
                await asyncio.sleep(0.2)
        await agent.register(f"phone-1005-{other}", expires=0)
        agent.close()
        caller.close()


async def _owners(platform: Platform) -> dict[str, str]:
    """Tenant -> name of the process that serves it, from etcd."""
    from mesh.discovery import Directory
    from mesh.etcd import Etcd

    etcd = Etcd(platform.mesh.etcd)
    directory = Directory(etcd, "local", "tenant")
    await directory.start()
    try:
        found = {tenant: directory.owner(tenant) for tenant in ("t1", "t2", "t3")}
        return {tenant: node.node for tenant, node in found.items() if node is not None}
    finally:
        await directory.stop()
        await etcd.close()
