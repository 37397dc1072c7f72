"""One SIP node between SIPp callers and SIPp phones: calls, their events, what fails and how."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from voice.record.v1.sip_call_pb2 import SipCall, SipLegState
from voice.tlib.v1.enums_pb2 import CallState

from tests.integration.servers import loopback
from tests.integration.sip_cluster.bench_mesh import names
from tests.integration.sip_cluster.conftest import Bench
from tests.integration.sip_cluster.sipp import Caller, Phone, Sipp, pause, receive

CALLER = Caller()
TRUNK = Caller("+15551")
Starter = Callable[..., Sipp]


def two_phones(bench: Bench, **fields: object) -> str:
    """Extensions 1001 and 1002; the address of the second's phone."""
    phone_ip = loopback()
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060", **fields)
    return phone_ip


async def test_internal_call(bench: Bench, sipp: Starter) -> None:
    phone = sipp(
        two_phones(bench), [Phone.called(), Phone.rings(), pause(200), Phone.answers(), Phone.hung_up()]
    )
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(300), CALLER.bye()]
    caller = sipp(loopback(), steps, remote=bench.engine.sip)
    assert (await caller.good()).statuses() == [180, 200]
    await phone.good()
    await bench.settled()
    assert bench.streams.names(everything=True) == [
        "CallCreated",
        "CallPartyAdded@1001",
        "Dialing@1001",
        "CallPartyAdded@1002",
        "Ringing@1002",
        "CallPartyState@1001",
        "Established@1001",
        "CallPartyState@1002",
        "Established@1002",
        "Released@1001",
        "CallPartyDeleted@1001",
        "Released@1002",
        "CallPartyDeleted@1002",
        "CallDeleted",
    ]
    stream = bench.streams.only()
    assert [envelope.seq for envelope in stream] == list(range(1, 15))
    assert len({envelope.traceparent for envelope in stream}) == 1 and stream[0].traceparent
    talked = bench.streams.find("Released@1001"), bench.streams.find("Established@1001")
    assert 0.2 < seconds(talked[0]) - seconds(talked[1]) < 3


def seconds(event: object) -> float:
    return event.time_in_secs + event.time_in_usecs / 1e6  # type: ignore[attr-defined, no-any-return]


async def test_inbound_call_that_the_agent_ends(bench: Bench, sipp: Starter) -> None:
    phone_ip, trunk_ip = loopback(), loopback()
    bench.dial_plan.trunks[f"{trunk_ip}:5060"] = "t1"
    bench.dial_plan.phone("t1", "1002", f"{phone_ip}:5060", agent_id="A2", place="P2")
    phone = sipp(
        phone_ip, [Phone.called(), Phone.rings(), pause(100), Phone.answers(), pause(500), Phone.hangs_up()]
    )
    steps = [TRUNK.invite(), TRUNK.ringing(), TRUNK.answered(), TRUNK.hung_up()]
    caller = sipp(trunk_ip, steps, remote=bench.engine.sip)
    assert (await caller.good()).statuses() == [180, 200]
    assert (await phone.good()).statuses() == [200]
    await bench.settled()
    assert bench.streams.names() == ["Ringing@1002", "Established@1002", "Released@1002"]
    ringing = bench.streams.find("Ringing@1002")
    assert (ringing.call_type, ringing.ani, ringing.agent_id, ringing.place) == (2, "+15551", "A2", "P2")
    talked = seconds(bench.streams.find("Released@1002")) - seconds(bench.streams.find("Established@1002"))
    assert 0.4 < talked < 1.5


async def test_call_to_a_number_outside(bench: Bench, sipp: Starter) -> None:
    trunk_ip = loopback()
    bench.dial_plan.phone("t1", "1001")
    bench.dial_plan.add("t1", "0049", type=4, contacts=[{"uri": f"sip:+49@{trunk_ip}:5060"}])
    trunk = sipp(trunk_ip, [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), CALLER.bye()]
    await sipp(loopback(), steps, remote=bench.engine.sip, service="0049").good()
    await trunk.good()
    await bench.settled()
    assert bench.streams.names() == [
        "Dialing@1001",
        "NetworkReached@1001",
        "Established@1001",
        "Released@1001",
    ]


@pytest.mark.feature("SC-13")
async def test_caller_cancels(bench: Bench, sipp: Starter) -> None:
    phone = sipp(two_phones(bench), [Phone.called(), Phone.rings(), Phone.cancelled()])
    steps = [CALLER.invite(), receive(100, optional=True), receive(180), pause(100), CALLER.cancel()]
    await sipp(loopback(), steps, remote=bench.engine.sip).good()
    await phone.good()
    await bench.settled()
    assert bench.streams.names() == ["Dialing@1001", "Ringing@1002", "Released@1001", "Abandoned@1002"]


@pytest.mark.feature("SC-13")
@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("486 Busy Here", CallState.CALL_STATE_BUSY),
        ("603 Decline", CallState.CALL_STATE_DROPPED),
    ],
)
async def test_phone_refuses(bench: Bench, sipp: Starter, answer: str, state: CallState.ValueType) -> None:
    status = int(answer[:3])
    phone = sipp(two_phones(bench), [Phone.called(), Phone.refuses(answer)])
    steps = [CALLER.invite(), receive(100, optional=True), CALLER.refused(status)]
    await sipp(loopback(), steps, remote=bench.engine.sip).good()
    await phone.good()
    await bench.settled()
    assert bench.streams.names() == ["Dialing@1001", "DestinationBusy@1001", "Released@1001"]
    for name in ("DestinationBusy@1001", "Released@1001"):
        event = bench.streams.find(name)
        assert (event.call_state, event.cause) == (state, status)


@pytest.mark.feature("SC-13")
async def test_number_that_leads_nowhere(bench: Bench, sipp: Starter) -> None:
    bench.dial_plan.phone("t1", "1001")
    steps = [CALLER.invite(), receive(100, optional=True), CALLER.refused(404)]
    await sipp(loopback(), steps, remote=bench.engine.sip, service="777").good()
    await bench.settled()
    assert bench.streams.names() == ["Dialing@1001", "DestinationBusy@1001", "Released@1001"]
    assert bench.streams.find("DestinationBusy@1001").call_state == CallState.CALL_STATE_SIT_INVALID_NUM


@pytest.mark.feature("SC-13")
async def test_phone_does_not_answer_in_time(bench: Bench, sipp: Starter) -> None:
    phone_ip = two_phones(bench)
    bench.dial_plan.devices["t1", "1002"].no_answer_timeout = 1
    phone = sipp(phone_ip, [Phone.called(), Phone.rings(), Phone.cancelled()])
    steps = [CALLER.invite(), receive(100, optional=True), receive(180), CALLER.refused(408)]
    await sipp(loopback(), steps, remote=bench.engine.sip).good()
    await phone.good()
    await bench.settled()
    assert bench.streams.names() == ["Dialing@1001", "Ringing@1002", "Released@1002", "Released@1001"]
    for name in ("Released@1002", "Released@1001"):
        assert bench.streams.find(name).call_state == CallState.CALL_STATE_NO_ANSWER


@pytest.mark.feature("SC-02")
async def test_one_node_carries_equal_numbers_of_three_tenants(bench: Bench, sipp: Starter) -> None:
    phones, callers = [], []
    for tenant in ("t1", "t2", "t3"):
        phone_ip, trunk_ip = loopback(), loopback()
        bench.dial_plan.trunks[f"{trunk_ip}:5060"] = tenant
        bench.dial_plan.phone(tenant, "1001", f"{phone_ip}:5060")
        port = 41000 + int(tenant[1])
        phones.append(
            sipp(phone_ip, [Phone.called(), Phone.rings(), pause(300), Phone.answers(port), Phone.hung_up()])
        )
        steps = [TRUNK.invite(), TRUNK.ringing(), TRUNK.answered(), pause(500), TRUNK.bye()]
        callers.append(sipp(trunk_ip, steps, remote=bench.engine.sip, service="1001"))
    for number, caller in enumerate(callers, 1):
        assert f"m=audio {41000 + number} RTP/AVP" in (await caller.good()).messages
    for phone in phones:
        await phone.good()
    await bench.settled()
    assert sorted(stream[0].tenant for stream in bench.streams.events.values()) == ["t1", "t2", "t3"]
    for stream in bench.streams.events.values():
        assert len({envelope.tenant for envelope in stream}) == 1
        assert names(stream) == ["Ringing@1001", "Established@1001", "Released@1001"]


@pytest.mark.feature("SC-03")
async def test_dial_plan_away(bench: Bench, sipp: Starter) -> None:
    phone = sipp(two_phones(bench), [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(1500), CALLER.bye()]
    first = sipp(loopback(), steps, remote=bench.engine.sip)
    await bench.event("Established@1002")
    bench.dial_plan.away = True
    steps = [CALLER.invite(), receive(100, optional=True), CALLER.refused(503)]
    refused = await sipp(loopback(), steps, remote=bench.engine.sip).good()
    assert "Retry-After: 5" in refused.messages
    await first.good()
    await phone.good()


async def test_reinvite_is_passed_on(bench: Bench, sipp: Starter) -> None:
    phone = sipp(
        two_phones(bench),
        [Phone.called(), Phone.rings(), Phone.answers(), Phone.reinvited(), Phone.hung_up()],
    )
    steps = [
        CALLER.invite(),
        CALLER.ringing(),
        CALLER.answered(),
        pause(100),
        CALLER.reinvite(),
        CALLER.bye(3),
    ]
    result = await sipp(loopback(), steps, remote=bench.engine.sip).good()
    assert "a=recvonly" in result.messages
    assert "a=sendonly" in (await phone.good()).messages


async def test_call_without_an_offer(bench: Bench, sipp: Starter) -> None:
    phone = sipp(two_phones(bench), [Phone.called(), Phone.rings(), Phone.answers(), Phone.hung_up()])
    steps = [CALLER.invite(offer=False), CALLER.ringing(), CALLER.answered_with_answer(), CALLER.bye()]
    result = await sipp(loopback(), steps, remote=bench.engine.sip).good()
    assert "m=audio 40002" in result.messages
    sent, _, acknowledged = (await phone.good()).messages.partition("ACK sip:")
    assert "m=audio 40000" not in sent and "m=audio 40000" in acknowledged


async def test_snapshot_has_what_an_heir_needs(bench: Bench, sipp: Starter) -> None:
    phone = sipp(
        two_phones(bench), [Phone.called(), Phone.rings(), pause(800), Phone.answers(), Phone.hung_up()]
    )
    steps = [CALLER.invite(), CALLER.ringing(), CALLER.answered(), pause(1000), CALLER.bye()]
    caller = sipp(loopback(), steps, remote=bench.engine.sip)
    await bench.event("Ringing@1002")
    record = SipCall.FromString((await bench.snapshots())[0])
    inbound, outbound = record.legs
    assert inbound.state == SipLegState.SIP_LEG_STATE_ALERTED and b"INVITE sip:1002@" in inbound.open_invite
    assert (
        outbound.state == SipLegState.SIP_LEG_STATE_EARLY
        and outbound.dialog.early
        and outbound.dialog.remote_tag
    )
    assert record.timers and record.calls[0].parties
    told = {envelope.seq for envelope in bench.streams.only()} | {e.seq for e in record.unacknowledged}
    assert told >= set(range(1, record.seq + 1))
    await bench.event("Established@1002")
    record = SipCall.FromString((await bench.snapshots())[0])
    assert [leg.dialog.early for leg in record.legs] == [False, False]
    assert record.legs[0].state in (SipLegState.SIP_LEG_STATE_ACCEPTED, SipLegState.SIP_LEG_STATE_ESTABLISHED)
    await caller.good()
    await phone.good()


async def test_options_is_answered(bench: Bench, sipp: Starter) -> None:
    options = CALLER.invite(offer=False).replace("INVITE", "OPTIONS")
    result = await sipp(loopback(), [options, receive(200)], remote=bench.engine.sip).good()
    assert "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO" in result.messages


@pytest.mark.parametrize(
    ("headers", "service", "status"),
    [("Require: 100rel\n", "1002", 420), ("", "", 484)],
)
async def test_invite_that_cannot_be_served(
    bench: Bench, sipp: Starter, headers: str, service: str, status: int
) -> None:
    invite = CALLER.invite(headers=headers)
    if not service:
        invite = invite.replace("sip:[service]@", "sip:")
    steps = [invite, receive(100, optional=True), CALLER.refused(status)]
    await sipp(loopback(), steps, remote=bench.engine.sip, service=service or "x").good()
    assert bench.streams.events == {}
