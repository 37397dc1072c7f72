"""Which proxy a request leaves through, and what the dial plan's answers mean."""

from __future__ import annotations

import grpc
import pytest
from voice.dial_plan.v1 import dial_plan_service_pb2 as dp
from voice.error.v1.reason_pb2 import Reason
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.type.v1.kv_pb2 import KvList, KvPair
from voicecore.sip import Uri

from mesh.errors import Details
from services.sip_cluster import outcomes
from services.sip_cluster.calls import Contact, DeviceType
from services.sip_cluster.next_hop import NextHop, NoNextHop, address_of, host_port
from services.sip_cluster.resolver import outcome_of, resolution
from services.sip_cluster.tlib import Why

A, B = ("10.0.0.1", 5060), ("10.0.0.2", 5060)


def hops(
    *addresses: tuple[str, int], direct: bool = False, draining: tuple[tuple[str, int], ...] = ()
) -> NextHop:
    records = [
        NodeRecord(
            node=f"sip_proxy-{number}",
            sip_address=host_port(address),
            state=NodeState.NODE_STATE_DRAINING if address in draining else NodeState.NODE_STATE_SERVING,
        )
        for number, address in enumerate(addresses)
    ]
    made = NextHop(lambda: records, direct=direct)
    made.refresh()
    return made


def test_new_call_goes_through_a_proxy_with_its_route() -> None:
    destination, routes = hops(A).for_call("call", "sip:1002@192.0.2.9:5062", (), trunk=True)
    assert (destination, routes) == (A, ["<sip:10.0.0.1:5060;lr;vd=trunk>"])


def test_calls_are_spread_and_each_keeps_its_proxy() -> None:
    both = hops(A, B)
    chosen = [both.choose(f"call-{number}") for number in range(200)]
    assert 60 < chosen.count(A) < 140
    assert chosen == [both.choose(f"call-{number}") for number in range(200)]
    kept = [number for number in range(200) if chosen[number] == A]
    assert all(hops(A).choose(f"call-{number}") == A for number in kept)


def test_draining_proxy_gets_no_new_call_but_serves_its_dialogs() -> None:
    made = hops(A, B, draining=(A,))
    assert all(made.choose(f"call-{number}") == B for number in range(50))
    assert made.for_dialog("call", Uri.parse("sip:10.0.0.1:5060;lr")) == A


def test_registered_path_wins() -> None:
    destination, routes = hops(A).for_call(
        "call", "sip:x@192.0.2.9", ("<sip:10.0.0.7:5070;lr>",), trunk=False
    )
    assert (destination, routes) == (("10.0.0.7", 5070), ["<sip:10.0.0.7:5070;lr>"])


def test_dialog_whose_proxy_died_goes_through_another() -> None:
    assert hops(B).for_dialog("call", Uri.parse("sip:10.0.0.1:5060;lr")) == B
    assert hops(B).for_dialog("call", Uri.parse("sip:proxy.example;lr")) == B


def test_without_a_proxy() -> None:
    with pytest.raises(NoNextHop):
        hops().for_call("call", "sip:x@192.0.2.9", (), trunk=False)
    assert hops(direct=True).for_call("call", "sip:x@192.0.2.9:5066", (), trunk=False) == (
        ("192.0.2.9", 5066),
        [],
    )
    with pytest.raises(NoNextHop):
        hops(direct=True).for_call("call", "sip:x@phone.example", (), trunk=False)
    assert hops().for_dialog("call", Uri.parse("sip:192.0.2.9")) == ("192.0.2.9", 5060)


def test_addresses() -> None:
    assert address_of("[2001:db8::1]:5060") == ("2001:db8::1", 5060)
    assert host_port(("2001:db8::1", 5060)) == "[2001:db8::1]:5060"


def test_resolution_reads_options() -> None:
    answer = dp.ResolveResponse(
        tenant="t1",
        caller=dp.Caller(dn="1001", number="1001", agent_id="A1"),
        type=dp.DEVICE_TYPE_EXTENSION,
        dn="1002",
        contacts=[dp.Contact(uri="sip:1002@h", path=["<sip:p;lr>"], q=5)],
        no_answer_timeout=900,
        options=KvList(
            pairs=[
                KvPair(key="TServer/divert-on-ringing", string_value="FALSE"),
                KvPair(key="TServer/sip-cti-control", string_value="hold, talk"),
            ]
        ),
    )
    found = resolution(answer, 600)
    assert (found.type, found.caller_dn, found.caller_agent) == (DeviceType.EXTENSION, "1001", "A1")
    assert found.contacts == (Contact("sip:1002@h", ("<sip:p;lr>",), 5),)
    assert (found.divert_on_ringing, found.can_talk, found.no_answer_s) == (False, True, 600)
    assert resolution(dp.ResolveResponse(), 600).no_answer_s == 30
    assert resolution(dp.ResolveResponse(), 600).divert_on_ringing


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        (Reason.REASON_UNKNOWN_DESTINATION, 404, Why.INVALID_TARGET),
        (Reason.REASON_UNKNOWN_TENANT, 404, Why.INVALID_TARGET),
        (Reason.REASON_CALL_REJECTED, 603, Why.CALL_REJECTED),
        (Reason.REASON_INVALID_ATTRIBUTE, 400, Why.INVALID_TARGET),
        (Reason.REASON_DEPENDENCY_UNAVAILABLE, 503, Why.DEPENDENCY_UNAVAILABLE),
        (None, 503, Why.DEPENDENCY_UNAVAILABLE),
    ],
)
def test_refusals_of_the_dial_plan(reason: Reason.ValueType | None, status: int, why: Why) -> None:
    found = outcome_of(Details(grpc.StatusCode.UNKNOWN, "no", reason))
    assert (found.status, found.why) == (status, why)


@pytest.mark.parametrize(
    ("statuses", "told"),
    [((486, 408), 486), ((404, 486), 486), ((603, 486), 603), ((408, 404), 404), ((503, 480), 480)],
)
def test_best_of_several_failures(statuses: tuple[int, int], told: int) -> None:
    assert outcomes.better(*statuses) == outcomes.better(*reversed(statuses)) == told


@pytest.mark.parametrize(
    ("status", "to_caller"),
    [(401, 480), (302, 480), (488, 488), (503, 503), (500, 500), (487, 480), (604, 604)],
)
def test_statuses_for_the_caller(status: int, to_caller: int) -> None:
    assert outcomes.of_status(status).status == to_caller
