"""A session of a consultation call lives in its main call's thread, which its id does not name; it is found all the same."""

from __future__ import annotations

import json
import secrets
import time

import grpc
import pytest
import redis.asyncio
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    SendRequestRequest,
    TerminateSessionRequest,
)
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.identifiers import new_call_uuid, session_id, thread_slot
from tests.integration.orchestration.region import Region, eventually, region_of
from tests.integration.orchestration_http.platform import HEAD
from tests.integration.servers import EtcdServer, RedisServer

DOCUMENT = (
    HEAD
    + """ initial="a"><state id="a">
  <transition event="session.request.who">
    <session:response requestid="_event.data.requestid" content="{id: _sessionid}"/></transition>
  <transition event="interaction.deleted" target="b"/></state><final id="b"/></scxml>"""
)


def consultation(region: Region) -> str:
    """A call in the thread of another, whose own id would be another node's; gives the id of its session."""
    main = region.call("nowhere")  # no route point: only its thread matters
    there = region.owner(main.slot)
    while True:
        uuid = new_call_uuid(0, 0, time.time_ns() // 1_000_000, secrets.randbits(56))
        if region.owner(thread_slot(uuid)) not in ("", there):
            break
    seq = main.seq + 1
    event = Event(
        event_type=MessageType.MESSAGE_TYPE_EVENT_ROUTE_REQUEST,
        conn_id=main.conn_id + 1,
        call_uuid=uuid,
        call_thread_id=main.thread,
        this_dn="8000",
    )
    region.publisher.append(
        EventEnvelope(
            event_id=f"{main.thread}/{seq}",
            tenant="t1",
            stream_key=main.thread,
            seq=seq,
            epoch=1,
            time_us=time.time_ns() // 1000,
            call_thread_id=main.thread,
            event=event,
        )
    )
    return session_id(uuid, seq)


@pytest.mark.feature("OR-24")
async def test_a_session_is_found_where_its_id_does_not_say(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with region_of(
        etcd_server, redis_server, redis_client, region, {"8000": DOCUMENT}, nodes=2
    ) as made:
        session = consultation(made)

        async def there() -> bool:
            try:
                await made.stub.GetSession(GetSessionRequest(tenant="t1", session_id=session), timeout=5)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND, error
                return False
            return True

        await eventually(there, 30)
        for number in range(4):  # by turns at both nodes
            asked = SendRequestRequest(
                tenant="t1", session_id=session, name="who", request_id=f"r{number}", timeout_ms=9000
            )
            answer = await made.stub.SendRequest(asked, timeout=15)
            assert json.loads(answer.content) == {"id": session}
        wrong = GetSessionRequest(tenant="t2", session_id=session)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.stub.GetSession(wrong, timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        end = TerminateSessionRequest(tenant="t1", session_id=session, request_id="end")
        await made.stub.TerminateSession(end, timeout=5)

        async def gone() -> bool:
            return not await there()

        await eventually(gone, 30)
