"""T-Library requests at the edge: to the call's owner, answered with its event, once per id."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import grpc.aio
import pytest
from voice.error.v1.reason_pb2 import Reason
from voice.sip_cluster.v1.sip_node_service_pb2 import GetCallRequest
from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceStub
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceStub
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import (
    AnswerCallRequest,
    AttachUserDataRequest,
    DeletePairRequest,
    DeleteUserDataRequest,
    DistributeEventRequest,
    MakeCallRequest,
    ReleaseCallRequest,
    RouteCallRequest,
    UpdateUserDataRequest,
)
from voice.type.v1.kv_pb2 import KvList, KvPair

from demo.phone import Phone
from mesh.errors import Details, details
from tests.e2e.platform import Platform, events_of, name_of, password


def kv(**pairs: str) -> KvList:
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in pairs.items()])


def new_id() -> str:
    return uuid.uuid4().hex


@pytest.mark.feature("SC-10", "FE-01", "FE-08", "FE-11")
async def test_make_call_and_release_with_reference_ids(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    async with (
        platform.edge() as channel,
        events_of(platform, channel, subject="client:one") as own,
        events_of(platform, channel, subject="client:two") as foreign,
    ):
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1", subject="client:one")
        make = MakeCallRequest(
            tenant="t1", request_id=new_id(), reference_id=77, dn="1901", destination="1902"
        )
        dialing = (await stub.MakeCall(make, timeout=15, metadata=metadata)).event
        assert (dialing.this_dn, dialing.reference_id) == ("1901", 77)
        await own.first("ESTABLISHED", this_dn="1902", conn_id=dialing.conn_id)
        again = (await stub.MakeCall(make, timeout=15, metadata=metadata)).event
        assert again.conn_id == dialing.conn_id
        release = ReleaseCallRequest(
            tenant="t1", request_id=new_id(), reference_id=78, dn="1901", conn_id=dialing.conn_id
        )
        released = (await stub.ReleaseCall(release, timeout=15, metadata=metadata)).event
        assert (released.this_dn, released.reference_id) == ("1901", 78)
        for events in (own, foreign):
            await events.first("CALL_DELETED", conn_id=dialing.conn_id)
        mine = {e.event.reference_id for e in own.seen if e.event.reference_id}
        assert mine == {77, 78}
        assert not {e.event.reference_id for e in foreign.seen if e.event.reference_id}
    assert len(phones[1].legs) == 1


@pytest.mark.feature("SC-09", "FE-02", "CS-02", "OR-14")
async def test_user_data_requests_change_what_every_event_carries(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    async with platform.edge() as channel, events_of(platform, channel) as events:
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1")
        make = MakeCallRequest(
            tenant="t1", request_id=new_id(), dn="1901", destination="1902", user_data=kv(first="1")
        )
        conn_id = (await stub.MakeCall(make, timeout=15, metadata=metadata)).event.conn_id
        await events.first("ESTABLISHED", this_dn="1902", conn_id=conn_id)
        call: dict[str, Any] = {"tenant": "t1", "dn": "1901", "conn_id": conn_id}
        attach = AttachUserDataRequest(**call, request_id=new_id(), user_data=kv(first="2", second="x"))
        changed = (await stub.AttachUserData(attach, timeout=5, metadata=metadata)).event
        assert [(p.key, p.string_value) for p in changed.user_data.pairs] == [
            ("first", "1"), ("first", "2"), ("second", "x"),
        ]  # fmt: skip
        update = UpdateUserDataRequest(**call, request_id=new_id(), user_data=kv(second="y", third="z"))
        changed = (await stub.UpdateUserData(update, timeout=5, metadata=metadata)).event
        assert {p.key: p.string_value for p in changed.user_data.pairs} == {
            "first": "2",
            "second": "y",
            "third": "z",
        }
        drop = DeletePairRequest(**call, request_id=new_id(), key="first")
        changed = (await stub.DeletePair(drop, timeout=5, metadata=metadata)).event
        assert [p.key for p in changed.user_data.pairs] == ["second", "third"]
        clear = DeleteUserDataRequest(**call, request_id=new_id())
        changed = (await stub.DeleteUserData(clear, timeout=5, metadata=metadata)).event
        assert list(changed.user_data.pairs) == []
        release = ReleaseCallRequest(**call, request_id=new_id())
        await stub.ReleaseCall(release, timeout=5, metadata=metadata)
        await events.first("CALL_DELETED", conn_id=conn_id)
        thread = [e for e in events.seen if e.event.conn_id == conn_id and e.stream_key == e.call_thread_id]
        # Each of the four requests is published before its events, for services: clients see the gap it leaves.
        seqs = {e.seq for e in thread}
        gaps = set(range(1, max(seqs) + 1)) - seqs
        assert len(gaps) == 4
        after = {name_of(next(e for e in thread if e.seq == gap + 1)) for gap in gaps}
        assert after == {"ATTACHED_DATA_CHANGED"}


@pytest.mark.feature("SC-10", "FE-10", "TN-07")
async def test_requests_that_cannot_be_carried_out_say_why(platform: Platform) -> None:
    unknown = 0x1000_0000_0000_0001
    async with platform.edge() as channel:
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1")

        async def refusal(method: Any, request: object, who: object = metadata) -> Details:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await method(request, timeout=10, metadata=who)
            return details(refused.value)

        release = ReleaseCallRequest(tenant="t1", request_id=new_id(), dn="1901", conn_id=unknown)
        said = await refusal(stub.ReleaseCall, release)
        assert said.tlib_error == 56
        bad = MakeCallRequest(tenant="t1", request_id="", dn="no such dn!", destination="")
        said = await refusal(stub.MakeCall, bad)
        assert said.tlib_error == 53
        assert {field for field, _ in said.violations} >= {"request_id", "dn", "destination"}
        foreign = await refusal(stub.ReleaseCall, release, platform.bearer("t2"))
        assert foreign.reason == Reason.REASON_FOREIGN_TENANT
        nobody = await refusal(stub.ReleaseCall, release, ())
        assert nobody.status == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.feature("SC-10")
async def test_route_call_by_a_client_sends_a_waiting_call_on(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    """A call waits on a route point whose application finds nobody; a client routes it."""
    caller = platform.caller(host=65)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1")
        leg = caller.call("8000")
        waiting = await events.first("ROUTE_REQUEST", this_dn="8000")
        route = RouteCallRequest(
            tenant="t1", request_id=new_id(), dn="8000", conn_id=waiting.event.conn_id, destination="1902"
        )
        used = (await stub.RouteCall(route, timeout=15, metadata=metadata)).event
        assert (used.this_dn, used.third_party_dn) == ("8000", "1902")
        await leg.until(leg.established, 10)
        assert await caller.hang_up(leg) == 200
        await events.first("CALL_DELETED", conn_id=waiting.event.conn_id)
        names = [name_of(e) for e in events.seen if e.event.conn_id == waiting.event.conn_id]
        order = [
            n
            for n in names
            if n
            in ("QUEUED", "ROUTE_REQUEST", "ROUTE_USED", "DIVERTED", "RINGING", "ESTABLISHED", "RELEASED")
        ]
        assert order[:6] == ["QUEUED", "ROUTE_REQUEST", "ROUTE_USED", "DIVERTED", "RINGING", "ESTABLISHED"]
    caller.close()


@pytest.mark.feature("SC-10")
async def test_a_phone_that_cannot_be_told_to_answer(platform: Platform) -> None:
    silent, caller = platform.phone("1903", host=66, ring_s=-1), platform.caller(host=66)
    await platform.register(silent)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1")
        leg = caller.call("1903")
        ringing = await events.first("RINGING", this_dn="1903")
        answer = AnswerCallRequest(tenant="t1", request_id=new_id(), dn="1903", conn_id=ringing.event.conn_id)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.AnswerCall(answer, timeout=5, metadata=metadata)
        assert details(refused.value).tlib_error == 51
        silent.answer(next(iter(silent.legs.values())))
        await leg.until(leg.established, 10)
        node = SipNodeServiceStub(channel)
        found = await node.GetCall(
            GetCallRequest(tenant="t1", conn_id=ringing.event.conn_id), timeout=5, metadata=metadata
        )
        assert {party.dn for party in found.parties} >= {"1903"}
        await caller.hang_up(leg)
    await silent.register(password("1903", "t1"), expires=0)
    silent.close()
    caller.close()


@pytest.mark.feature("FE-03")
async def test_distribute_event_is_emitted_by_the_owner(
    platform: Platform, phones: tuple[Phone, Phone]
) -> None:
    caller = platform.caller(host=67)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        stub, metadata = CallControlServiceStub(channel), platform.bearer("t1")
        leg = caller.call("1901")
        ringing = await events.first("RINGING", this_dn="1901")
        request = DistributeEventRequest(tenant="t1", request_id=new_id(), dn="VQ_Service")
        request.event.event_type = MessageType.MESSAGE_TYPE_EVENT_QUEUED
        request.event.conn_id = ringing.event.conn_id
        request.event.this_dn = request.event.this_queue = "VQ_Service"
        await stub.DistributeEvent(request, timeout=5, metadata=metadata)
        queued = await events.first("QUEUED", this_dn="VQ_Service")
        assert queued.call_thread_id == ringing.call_thread_id
        await leg.until(leg.established, 10)
        await caller.hang_up(leg)
    caller.close()


@pytest.mark.feature("RQ-08")
async def test_a_subscription_resumes_where_it_ended(platform: Platform, phones: tuple[Phone, Phone]) -> None:
    caller = platform.caller(host=68)
    async with platform.edge() as channel:
        async with events_of(platform, channel) as first:
            leg = caller.call("1901")
            await leg.until(leg.established, 10)
            await first.first("ESTABLISHED", this_dn="1901")
        assert await caller.hang_up(leg) == 200
        async with events_of(platform, channel, cursor=first.cursor) as second:
            deleted = await second.first("CALL_DELETED")
        thread = [e.seq for e in (*first.seen, *second.seen) if e.stream_key == deleted.call_thread_id]
        assert thread == list(range(1, len(thread) + 1))
    caller.close()
