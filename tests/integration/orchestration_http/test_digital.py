"""Digital interactions: the stream starts sessions, which hear everything in order and say what is to be done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import redis.asyncio
from voice.error.v1.reason_pb2 import Reason
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    GetTraceRequest,
    SendRequestRequest,
    SessionOrigin,
    TraceStep,
)

from mesh.identifiers import thread_slot
from tests.integration.orchestration.region import DEFAULT_DN, Region, eventually, region_of
from tests.integration.orchestration_http.media_server import MediaServer, Message
from tests.integration.orchestration_http.platform import HEAD
from tests.integration.servers import EtcdServer, RedisServer

SORTER = (
    HEAD
    + """ initial="wait"><datamodel><data id="added"/></datamodel>
<state id="wait">
  <transition event="interaction.added" target="mark"><assign location="added" expr="_event.data"/></transition>
</state>
<state id="mark">
  <onentry><ixn:setudata udata="{sorted: 'yes', subject: added.subject}"/></onentry>
  <transition event="interaction.udata.changed" target="answer"/>
  <transition event="error.interaction.setudata" target="answer"/>
</state>
<state id="answer">
  <onentry><ixn:respond data="{text: 'Thank you, ' + added.from}"/></onentry>
  <transition event="interaction.respond.done" target="route"/>
</state>
<state id="route">
  <onentry><ixn:redirect to="added.udata.agent ? {agent: added.udata.agent, dn: '1001', token: 'tok'} : 'sales'"/></onentry>
  <transition event="interaction.redirect.done" target="done"/>
</state>
<final id="done"/></scxml>"""
)
LISTENER = (
    HEAD
    + """ initial="on"><datamodel><data id="texts" expr="[]"/></datamodel>
<state id="on">
  <transition event="msgbased.message"><script>texts.push(_event.data.text)</script></transition>
  <transition event="session.request.texts">
    <session:response requestid="_event.data.requestid" content="texts"/>
  </transition>
  <transition event="interaction.deleted" target="done"/>
  <transition event="finish" target="done"/>
</state>
<final id="done"/></scxml>"""
)
FORGETFUL = (
    HEAD
    + """ initial="a"><state id="a"><transition event="interaction.added" target="b"/></state><final id="b"/></scxml>"""
)
STOPPER = (
    HEAD
    + """ initial="a"><state id="a"><transition event="interaction.added"><ixn:terminate/></transition>
  <transition event="error.interaction.terminate" target="b"/>
  <transition event="interaction.deleted" target="b"/></state><final id="b"/></scxml>"""
)
QUEUER = (
    HEAD
    + """ initial="a"><state id="a"><transition event="interaction.added"><ixn:redirect to="'1001'"/></transition>
  <transition event="interaction.redirect.done" target="b"/></state><final id="b"/></scxml>"""
)

NOT_YET = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
"""What is answered while a session is not there, or has much to do."""


@asynccontextmanager
async def digital(
    etcd: EtcdServer,
    redis_server: RedisServer,
    client: redis.asyncio.Redis,
    region: str,
    documents: dict[str, str],
    nodes: int = 1,
) -> AsyncIterator[tuple[Region, MediaServer]]:
    """A region and a media server."""
    async with region_of(etcd, redis_server, client, region, documents, nodes=nodes) as made:
        server = MediaServer(made.rq)
        try:
            yield made, server
        finally:
            await server.close()


async def steps(region: Region, message: Message) -> list[TraceStep]:
    """The trace of a session that is over."""
    found: list[TraceStep] = []

    async def over() -> bool:
        request = GetTraceRequest(tenant=message.tenant, session_id=message.session, limit=1000)
        try:
            answer = await region.stub.GetTrace(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            return False
        found[:] = answer.steps
        return bool(found) and bool(found[-1].outcome)

    await eventually(over)
    return found


async def ask(region: Region, message: Message, name: str, request_id: str) -> Any:
    """A request to a message's session, through whatever node owns it then."""
    request = SendRequestRequest(
        tenant=message.tenant, session_id=message.session, name=name, request_id=request_id, timeout_ms=30_000
    )
    slot = thread_slot(message.interaction_id)
    contents: list[bytes] = []

    async def answered() -> bool:
        """Its trigger may still be on its way, or its slot: the same request is sent again."""
        try:
            answer = await region.owners.call(region.stub.SendRequest, request, slot, 30.0)
        except grpc.aio.AioRpcError as error:
            assert error.code() in NOT_YET, error
            return False
        contents.append(answer.content)
        return True

    await eventually(answered, 90)
    return json.loads(contents[0])


@pytest.mark.feature("OR-08", "OR-11")
async def test_an_interaction_starts_a_session_with_its_attributes_and_is_told_where_to_go(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with digital(etcd_server, redis_server, redis_client, region, {"inbox": SORTER}) as (made, server):
        message = server.message("inbox")
        message.placed(topic="invoice")
        trace = await steps(made, message)
        added = json.loads(trace[1].data_json)
        assert trace[1].event == "interaction.added"
        assert added["interactionid"] == message.interaction_id
        assert (added["media"], added["type"], added["subtype"]) == ("email", "Inbound", "InboundNew")
        assert (added["from"], added["to"], added["subject"]) == (
            "ann@example.com",
            "service@t1.example",
            "My invoice",
        )
        assert (added["received"], added["attributes"]) == (1_700_000_000_000, {"priority": "low"})
        assert added["udata"] == {"topic": "invoice"}
        assert (trace[-1].outcome, list(trace[-1].configuration)) == ("finished", ["done"])

        change, answer, place = message.instructions
        assert {p.key: p.string_value for p in change.change_user_data.set.pairs} == {
            "sorted": "yes",
            "subject": "My invoice",
        }
        assert json.loads(answer.respond.data_json) == {"text": "Thank you, ann@example.com"}
        assert (place.place.queue, place.terminal, place.place.is_default) == ("sales", True, False)
        assert [change.terminal, answer.terminal] == [False, False]
        assert {i.session_id for i in message.instructions} == {message.session}
        assert set(server.deliveries.values()) == {1}

        to_agent = server.message("inbox")
        to_agent.placed(agent="A1001")
        await steps(made, to_agent)
        deliver = to_agent.instructions[-1].deliver
        assert (deliver.agent_id, deliver.destination, deliver.reservation_token) == ("A1001", "1001", "tok")


@pytest.mark.feature("OR-08")
async def test_an_application_that_does_not_route_or_cannot_be_had_leaves_nothing_lost(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    documents = {"forgetful": FORGETFUL, "broken": "<scxml", "stop": STOPPER}
    async with digital(etcd_server, redis_server, redis_client, region, documents) as (made, server):
        messages = {queue: server.message(queue) for queue in documents}
        for message in messages.values():
            message.placed()
        for queue in ("forgetful", "broken"):
            await steps(made, messages[queue])
            (place,) = messages[queue].instructions
            assert (place.place.queue, place.place.is_default, place.terminal) == (DEFAULT_DN, True, True)
        trace = await steps(made, messages["stop"])
        assert messages["stop"].instructions[0].WhichOneof("action") == "stop"
        assert trace[-1].outcome == "finished"

        server.refuse["stop"] = Reason.REASON_WRONG_STATE
        refused = server.message("stop")
        refused.placed()
        trace = await steps(made, refused)
        error = next(step for step in trace if step.event == "error.interaction.terminate")
        assert json.loads(error.data_json)["error"] == "wrong_state"
        assert refused.instructions[-1].place.is_default


@pytest.mark.feature("OR-13")
async def test_a_session_hears_everything_in_order_and_once_also_on_its_heir(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    documents = {"chat": LISTENER}
    async with digital(etcd_server, redis_server, redis_client, region, documents, nodes=2) as (made, server):
        messages = [server.message("chat") for _ in range(20)]
        for message in messages:
            message.placed()
        for number in range(30):
            for message in messages:
                message.tell("MESSAGE", text=f"{number}")
            if number == 15:
                await asyncio.gather(
                    *(ask(made, m, "texts", f"half-{m.interaction_id}") for m in messages[:5])
                )
                await made.nodes.kill("orchestration-0")
        wanted = [str(number) for number in range(30)]
        for attempt, message in enumerate(messages):
            number = 0

            async def complete(message: Message = message, attempt: int = attempt) -> bool:
                nonlocal number
                number += 1
                return bool(len(await ask(made, message, "texts", f"q-{attempt}-{number}")) >= 30)

            await eventually(complete, 90)
            assert await ask(made, message, "texts", f"last-{attempt}") == wanted
        for message in messages:
            message.tell("STOPPED")
        await made.settled(60)


@pytest.mark.feature("OR-11")
async def test_calls_and_messages_are_routed_beside_each_other(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    documents = {"8000": QUEUER, "inbox": QUEUER}
    async with digital(etcd_server, redis_server, redis_client, region, documents, nodes=2) as (made, server):
        messages = [server.message("inbox") for _ in range(100)]
        callers = []
        for message in messages:
            message.placed()
            callers.append(made.call("8000"))
        await made.routed(callers, "1001", 60)

        async def all_placed() -> bool:
            return all(len(message.instructions) == 1 for message in messages)

        await eventually(all_placed, 60)
        assert {m.instructions[0].place.queue for m in messages} == {"1001"}
        assert max(server.deliveries.values()) == 1


@pytest.mark.feature("OR-08", "OR-24")
async def test_a_session_for_an_interaction_says_so_and_takes_events_from_outside(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with digital(etcd_server, redis_server, redis_client, region, {"chat": LISTENER}) as (made, server):
        message = server.message("chat")
        message.placed()
        message.tell("MESSAGE", text="hello")
        assert await ask(made, message, "texts", "r1") == ["hello"]
        message.tell("MESSAGE", text="again")
        assert await ask(made, message, "texts", "r1") == ["hello"]  # the same id, the same answer
        request = GetSessionRequest(tenant="t1", session_id=message.session)
        session = (await made.stub.GetSession(request, timeout=5)).session
        assert session.origin == SessionOrigin.SESSION_ORIGIN_INTERACTION
        assert (session.interaction_id, session.route_point) == (message.interaction_id, "chat")
        message.tell("STOPPED", message="the customer left")
        trace = await steps(made, message)
        assert json.loads(trace[-2].data_json)["message"] == "the customer left"
