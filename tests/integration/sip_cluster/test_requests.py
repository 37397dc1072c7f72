"""T-Library requests over gRPC to a node whose calls are real SIP calls."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from voice.error.v1.reason_pb2 import Reason
from voice.sip_cluster.v1.sip_node_service_pb2 import GetCallRequest, PartyPhase
from voice.tlib.v1 import request_pb2 as req
from voice.tlib.v1.enums_pb2 import CallState, RouteType
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.errors import details
from tests.integration.servers import loopback
from tests.integration.sip_cluster.conftest import Bench
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause, receive

CALLER = Caller()
TRUNK = Caller("+15551")
Starter = Callable[..., Sipp]
QUEUED = ["Queued@8000", "RouteRequest@8000"]
_ids = itertools.count(1)


def head(dn: str, conn_id: int = 0) -> dict[str, Any]:
    """Fields of every request."""
    number = next(_ids)
    fields: dict[str, Any] = {"tenant": "t1", "request_id": f"q{number}", "reference_id": number, "dn": dn}
    if conn_id:
        fields["conn_id"] = conn_id
    return fields


def route(conn_id: int, destination: str, **more: object) -> req.RouteCallRequest:
    return req.RouteCallRequest(**{**head("8000", conn_id), "destination": destination, **more})


def seconds(event: Event) -> float:
    return event.time_in_secs + event.time_in_usecs / 1e6


def pairs(**values: str) -> KvList:
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in values.items()])


async def refused(answer: Awaitable[object], reason: Reason.ValueType, tlib: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer
    said = details(error.value)
    assert (said.reason, said.tlib_error) == (reason, tlib), said


class Queue:
    """A caller from outside who waits on route point 8000."""

    def __init__(self, bench: Bench, sipp: Starter, *, divert: bool = True, **fields: object) -> None:
        trunk_ip, self.phone_ip = loopback(), loopback()
        bench.dial_plan.trunks[f"{trunk_ip}:5060"] = "t1"
        options = {} if divert else {"TServer/divert-on-ringing": "false"}
        bench.dial_plan.route_point("t1", "8000", options=options, **fields)
        bench.dial_plan.phone("t1", "1002", f"{self.phone_ip}:5060", agent_id="A2")
        steps = [TRUNK.invite(), receive(100, optional=True), receive(180), TRUNK.answered(), TRUNK.hung_up()]
        self.caller = sipp(trunk_ip, steps, remote=bench.engine.sip, service="8000")
        self.bench, self.sipp = bench, sipp

    async def conn_id(self) -> int:
        return (await self.bench.event("RouteRequest@8000")).conn_id

    def phone(self, *steps: str) -> Sipp:
        return self.sipp(self.phone_ip, [Phone.called(), *steps])


@pytest.mark.feature("SC-12", "SC-22")
async def test_routed_call_diverts_on_ringing(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp)
    phone = queue.phone(Phone.rings(), pause(300), Phone.answers(), pause(200), Phone.hangs_up())
    told = await bench.execute(
        route_call=route(await queue.conn_id(), "1002", agent_id="", reservation_token="t|1")
    )
    assert told.event_type == MessageType.MESSAGE_TYPE_EVENT_ROUTE_USED and told.reference_id
    assert bench.streams.names() == [*QUEUED, "RouteUsed@8000", "Diverted@8000", "Ringing@1002"]
    caller_trace, phone_trace = await queue.caller.good(), await phone.good()
    assert (caller_trace.statuses(), phone_trace.statuses()) == ([180, 200], [200])
    await bench.settled()
    assert bench.streams.names()[5:] == ["Established@1002", "Released@1002"]
    talked = seconds(bench.streams.find("Released@1002")) - seconds(bench.streams.find("Established@1002"))
    assert abs(talked - (phone_trace.at("BYE sip:") - phone_trace.at("SIP/2.0 200 OK"))) < 0.1
    for name in QUEUED:
        event = bench.streams.find(name)
        assert event.this_dn == event.this_queue == "8000"
    ringing = bench.streams.find("Ringing@1002")
    assert (ringing.this_queue, ringing.agent_id, ringing.other_dn) == ("8000", "A2", "+15551")
    envelope = next(e for e in bench.streams.only() if e.event.event_type == told.event_type)
    assert (envelope.requester.client, envelope.requester.reference_id) == ("desk", told.reference_id)


@pytest.mark.feature("SC-22")
async def test_routed_call_diverts_on_answer(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp, divert=False)
    phone = queue.phone(Phone.rings(), pause(300), Phone.answers(), pause(200), Phone.hangs_up())
    await bench.execute(route_call=route(await queue.conn_id(), "1002"))
    await queue.caller.good()
    await phone.good()
    await bench.settled()
    assert bench.streams.names() == [
        *QUEUED,
        "Ringing@1002",
        "RouteUsed@8000",
        "Diverted@8000",
        "Established@1002",
        "Released@1002",
    ]


async def test_busy_and_silent_targets_leave_the_call_to_be_routed_again(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp, divert=False)
    conn_id = await queue.conn_id()
    busy, silent = loopback(), loopback()
    bench.dial_plan.phone("t1", "1003", f"{busy}:5060")
    bench.dial_plan.phone("t1", "1004", f"{silent}:5060")
    sipp(busy, [Phone.called(), Phone.refuses("486 Busy Here")])
    await refused(bench.execute(route_call=route(conn_id, "1003")), Reason.REASON_DN_BUSY, 231)
    sipp(silent, [Phone.called(), Phone.rings(), Phone.cancelled()])
    answer = bench.execute(route_call=route(conn_id, "1004", no_answer_timeout=1))
    await refused(answer, Reason.REASON_NO_ANSWER, 232)
    assert bench.streams.find("Released@1004").call_state == CallState.CALL_STATE_NO_ANSWER
    await refused(bench.execute(route_call=route(conn_id, "777")), Reason.REASON_INVALID_TARGET, 177)
    phone = queue.phone(Phone.rings(), Phone.answers(), pause(200), Phone.hangs_up())
    await bench.execute(route_call=route(conn_id, "1002"))
    await queue.caller.good()
    await phone.good()


async def test_default_dns_when_nobody_routes(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp, default_dns=["1002"], routing_timeout_ms=1000)
    phone = queue.phone(Phone.rings(), Phone.answers(), pause(200), Phone.hangs_up())
    await queue.caller.good()
    await phone.good()
    used = bench.streams.find("RouteUsed@8000")
    assert (used.route_type, used.third_party_dn) == (RouteType.ROUTE_TYPE_DEFAULT, "1002")
    queued = bench.streams.find("Queued@8000")
    assert (
        0.9
        < (used.time_in_secs - queued.time_in_secs) + (used.time_in_usecs - queued.time_in_usecs) / 1e6
        < 2.5
    )


async def test_abandoned_in_queue(bench: Bench, sipp: Starter) -> None:
    trunk_ip = loopback()
    bench.dial_plan.trunks[f"{trunk_ip}:5060"] = "t1"
    bench.dial_plan.route_point("t1", "8000")
    steps = [TRUNK.invite(), receive(100, optional=True), receive(180), pause(200), TRUNK.cancel()]
    await sipp(trunk_ip, steps, remote=bench.engine.sip, service="8000").good()
    await bench.settled()
    assert bench.streams.names() == [*QUEUED, "Abandoned@8000"]


async def make(bench: Bench, destination: str = "1002", **more: object) -> Event:
    fields = {**head("1001"), "destination": destination, **more}
    return await bench.execute(make_call=req.MakeCallRequest(**fields))


async def test_make_call(bench: Bench, sipp: Starter) -> None:
    own_ip, phone_ip = loopback(), loopback()
    bench.dial_plan.phone("t1", "1001", f"{own_ip}:5060")
    bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060")
    own = sipp(own_ip, [Phone.called(), Phone.rings(), Phone.answers(40010), Phone.hung_up()])
    phone = sipp(
        phone_ip,
        [Phone.called(), Phone.rings(), pause(200), Phone.answers(40020), pause(300), Phone.hangs_up()],
    )
    told = await make(bench, user_data=pairs(Case="7"))
    assert told.event_type == MessageType.MESSAGE_TYPE_EVENT_DIALING and told.this_dn == "1001"
    first = (await own.good()).messages
    assert "m=audio" not in first.partition("SIP/2.0 180")[0]
    assert "m=audio 40020" in first.partition("ACK sip:")[2]
    assert "m=audio 40010" in (await phone.good()).messages.partition("SIP/2.0 180")[0]
    await bench.settled()
    assert bench.streams.names() == [
        "Dialing@1001",
        "Ringing@1002",
        "Established@1001",
        "Established@1002",
        "Released@1002",
        "Released@1001",
    ]
    assert bench.streams.find("Ringing@1002").user_data == pairs(Case="7")


async def test_make_call_from_a_phone_that_is_away(bench: Bench) -> None:
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.phone("t1", "1002")
    await refused(make(bench), Reason.REASON_OUT_OF_SERVICE, 58)
    await refused(make(bench, "777"), Reason.REASON_OUT_OF_SERVICE, 58)
    bench.dial_plan.phone("t1", "1001", "127.0.0.1:5060")
    await refused(make(bench, "777"), Reason.REASON_UNKNOWN_DESTINATION, 71)


class Ringing:
    """A call from 1001 that rings at 1002."""

    def __init__(
        self, bench: Bench, sipp: Starter, *phone_steps: str, hung_up: bool = True, **fields: object
    ) -> None:
        phone_ip = loopback()
        bench.dial_plan.phone("t1", "1001")
        bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060", **fields)
        self.phone = sipp(phone_ip, [Phone.called(), Phone.rings(), *phone_steps])
        end = CALLER.hung_up() if hung_up else CALLER.bye()
        steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), end]
        self.caller = sipp(loopback(), steps, remote=bench.engine.sip)
        self.bench = bench

    async def conn_id(self, event: str = "Ringing@1002") -> int:
        return (await self.bench.event(event)).conn_id


async def test_answer_call_by_notify_talk(bench: Bench, sipp: Starter) -> None:
    options = {"TServer/sip-cti-control": "talk, hold"}
    call = Ringing(bench, sipp, Phone.told_to_talk(), Phone.answers(), Phone.hung_up(), options=options)
    conn_id = await call.conn_id()
    told = await bench.execute(answer_call=req.AnswerCallRequest(**head("1002", conn_id)))
    assert told.event_type == MessageType.MESSAGE_TYPE_EVENT_ESTABLISHED and told.this_dn == "1002"
    released = await bench.execute(release_call=req.ReleaseCallRequest(**head("1002", conn_id)))
    assert released.event_type == MessageType.MESSAGE_TYPE_EVENT_RELEASED and released.this_dn == "1002"
    await call.caller.good()
    await call.phone.good()
    assert bench.streams.names()[-2:] == ["Released@1002", "Released@1001"]


async def test_answer_call_of_a_phone_without_talk(bench: Bench, sipp: Starter) -> None:
    call = Ringing(bench, sipp, pause(500), Phone.answers(), Phone.hung_up())
    conn_id = await call.conn_id()
    answer = bench.execute(answer_call=req.AnswerCallRequest(**head("1002", conn_id)))
    await refused(answer, Reason.REASON_UNSUPPORTED, 51)
    await bench.event("Established@1002")
    cleared = await bench.execute(clear_call=req.ClearCallRequest(**head("1001", conn_id)))
    assert cleared.call_state == CallState.CALL_STATE_CLEARED
    await call.caller.good()
    await call.phone.good()


async def test_user_data_requests(bench: Bench, sipp: Starter) -> None:
    call = Ringing(bench, sipp, Phone.answers(), Phone.hung_up())
    conn_id = await call.conn_id("Established@1002")
    first = req.AttachUserDataRequest(**head("1002", conn_id), user_data=pairs(a="1", b="2"))
    told = await bench.execute(attach_user_data=first)
    assert told.user_data == pairs(a="1", b="2") and told.third_party_dn == "1002"
    again = await bench.execute(attach_user_data=first)
    assert again == told, "the same id never acts twice"
    other = req.AttachUserDataRequest()
    other.CopyFrom(first)
    other.user_data.pairs[0].string_value = "9"
    await refused(bench.execute(attach_user_data=other), Reason.REASON_INVALID_ATTRIBUTE, 53)
    update = req.UpdateUserDataRequest(**head("1002", conn_id), user_data=pairs(b="3"))
    assert (await bench.execute(update_user_data=update)).user_data == pairs(a="1", b="3")
    one = req.DeletePairRequest(**head("1002", conn_id), key="a")
    assert (await bench.execute(delete_pair=one)).user_data == pairs(b="3")
    everything = req.DeleteUserDataRequest(**head("1002", conn_id))
    assert not (await bench.execute(delete_user_data=everything)).user_data.pairs
    big = pairs(x="y" * 65500)
    await bench.execute(attach_user_data=req.AttachUserDataRequest(**head("1002", conn_id), user_data=big))
    more = req.AttachUserDataRequest(**head("1002", conn_id), user_data=pairs(z="y" * 100))
    await refused(bench.execute(attach_user_data=more), Reason.REASON_INVALID_ATTRIBUTE, 53)
    await bench.execute(clear_call=req.ClearCallRequest(**head("1001", conn_id)))
    changed = ["AttachedDataChanged@1001", "AttachedDataChanged@1002"]
    assert bench.streams.names()[4:19] == [
        *("AttachUserData!", *changed, "UpdateUserData!", *changed, "DeletePair!", *changed),
        *("DeleteUserData!", *changed, "AttachUserData!", *changed),
    ]
    await call.caller.good()
    await call.phone.good()
    late = await bench.execute(update_user_data=update)
    assert late.user_data == pairs(a="1", b="3"), "the outcome outlives the call"


async def test_distributed_event(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp)
    conn_id = await queue.conn_id()
    event = Event(
        event_type=MessageType.MESSAGE_TYPE_EVENT_QUEUED,
        conn_id=conn_id,
        this_dn="VQ1",
        this_queue="VQ1",
        extensions=pairs(VQID="1"),
    )
    told = await bench.execute(distribute_event=req.DistributeEventRequest(**head("VQ1"), event=event))
    assert (told.this_dn, told.event_type) == ("VQ1", MessageType.MESSAGE_TYPE_EVENT_QUEUED)
    await bench.event("Queued@VQ1")
    stored = bench.streams.find("Queued@VQ1")
    assert (stored.conn_id, stored.extensions, stored.ani) == (conn_id, pairs(VQID="1"), "+15551")
    phone = queue.phone(Phone.rings(), Phone.answers(), pause(100), Phone.hangs_up())
    await bench.execute(route_call=route(conn_id, "1002"))
    await queue.caller.good()
    await phone.good()


async def test_get_call(bench: Bench, sipp: Starter) -> None:
    call = Ringing(bench, sipp, Phone.answers(), Phone.hung_up())
    conn_id = await call.conn_id("Established@1002")
    found = await bench.stub.GetCall(GetCallRequest(tenant="t1", conn_id=conn_id), timeout=5)
    assert [(party.dn, party.phase) for party in found.parties] == [
        ("1001", PartyPhase.PARTY_PHASE_ESTABLISHED),
        ("1002", PartyPhase.PARTY_PHASE_ESTABLISHED),
    ]
    assert all(party.sip_call_id for party in found.parties) and found.last_seq == 9
    foreign = bench.stub.GetCall(GetCallRequest(tenant="t2", conn_id=conn_id), timeout=5)
    await refused(foreign, Reason.REASON_UNKNOWN_CALL, 56)
    await bench.execute(clear_call=req.ClearCallRequest(**head("1001", conn_id)))
    await call.caller.good()
    await call.phone.good()


async def test_unknown_call(bench: Bench) -> None:
    for conn_id in (12345, 0x1000_0000_0000_0001):
        answer = bench.execute(release_call=req.ReleaseCallRequest(**head("1001", conn_id)))
        await refused(answer, Reason.REASON_UNKNOWN_CALL, 56)


async def test_bad_requests_name_every_field(bench: Bench) -> None:
    bad = req.MakeCallRequest(tenant="t1", request_id="a b", dn="", destination="x" * 300)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await bench.execute(make_call=bad)
    assert {name for name, _ in details(error.value).violations} == {"request_id", "dn", "destination"}
    await refused(
        bench.execute(hold_call=req.HoldCallRequest(**head("1001", 1))), Reason.REASON_UNSUPPORTED, 51
    )


async def test_repeat_while_in_progress_waits_for_the_same_outcome(bench: Bench, sipp: Starter) -> None:
    queue = Queue(bench, sipp, divert=False)
    phone = queue.phone(Phone.rings(), pause(500), Phone.answers(), pause(200), Phone.hangs_up())
    wanted = route(await queue.conn_id(), "1002")
    first = asyncio.create_task(bench.execute(route_call=wanted))
    await bench.event("Ringing@1002")
    answers = await asyncio.gather(first, *(bench.execute(route_call=wanted) for _ in range(3)))
    assert all(answer == answers[0] for answer in answers)
    await queue.caller.good()
    await phone.good()
    assert bench.streams.names().count("RouteUsed@8000") == 1
