"""Calls between phones and from a trunk: what each side of the SIP sees, and the events in their documented order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from voice.tlib.v1.enums_pb2 import CallState, CallType

from demo.phone import CallFailed, Phone
from tests.e2e.platform import Platform, events_of, name_of, password

CALL_BASED = {
    "CALL_CREATED",
    "CALL_PARTY_ADDED",
    "CALL_PARTY_STATE",
    "CALL_PARTY_DELETED",
    "CALL_DELETED",
    "CALL_PARTY_MOVED",
}


@pytest_asyncio.fixture(loop_scope="session")
async def phone(platform: Platform) -> AsyncIterator[Phone]:
    """Extension 1901 of t1, registered."""
    made = platform.phone("1901", host=31)
    await platform.register(made)
    yield made
    await made.register(password("1901", "t1"), expires=0)
    made.close()


@pytest_asyncio.fixture(loop_scope="session")
async def caller(platform: Platform) -> AsyncIterator[Phone]:
    """A far end of t1's trunk."""
    made = platform.caller()
    yield made
    made.close()


def says(phone: Phone, *, sent: bool) -> list[str]:
    return [
        seen.text
        for seen in phone.seen
        if seen.sent is sent and seen.text not in ("REGISTER", "401 Unauthorized")
    ]


@pytest.mark.feature("SC-12", "SC-03", "RQ-01")
async def test_a_call_from_a_trunk_to_an_extension(platform: Platform, phone: Phone, caller: Phone) -> None:
    async with platform.edge() as channel, events_of(platform, channel) as events:
        leg = caller.call("1901")
        await leg.until(leg.established, 10)
        await asyncio.sleep(1)
        assert await caller.hang_up(leg) == 200
        deleted = await events.first("CALL_DELETED")
        thread = [e for e in events.seen if e.stream_key == deleted.call_thread_id]
    assert [t for t in says(caller, sent=False) if t != "100 Trying"] == ["180 Ringing", "200 OK", "200 OK"]
    assert says(caller, sent=True) == ["INVITE", "ACK", "BYE"]
    assert says(phone, sent=False)[1:] == ["INVITE", "ACK", "BYE"]
    assert [name_of(e) for e in thread if name_of(e) not in CALL_BASED] == [
        "RINGING",
        "ESTABLISHED",
        "RELEASED",
    ]
    assert (name_of(thread[0]), name_of(thread[-1])) == ("CALL_CREATED", "CALL_DELETED")
    assert [e.seq for e in thread] == list(range(1, len(thread) + 1))
    ringing = next(e.event for e in thread if name_of(e) == "RINGING")
    assert (ringing.this_dn, ringing.call_type) == ("1901", CallType.CALL_TYPE_INBOUND)
    times = {name_of(e): e.time_us for e in thread}
    talked = (times["RELEASED"] - times["ESTABLISHED"]) / 1e6
    assert 0.9 <= talked <= 1.5


@pytest.mark.feature("SC-12")
async def test_a_call_between_extensions(platform: Platform, phone: Phone) -> None:
    other = platform.phone("1902", host=32)
    await platform.register(other)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        leg = other.call("1901")
        await leg.until(leg.established, 10)
        assert await other.hang_up(leg) == 200
        await events.first("CALL_DELETED")
        dialing = await events.first("DIALING", this_dn="1902")
        thread = [e for e in events.seen if e.stream_key == dialing.call_thread_id]
    names = [(name_of(e), e.event.this_dn) for e in thread if name_of(e) not in CALL_BASED]
    assert names[:2] == [("DIALING", "1902"), ("RINGING", "1901")]
    assert set(names[2:4]) == {("ESTABLISHED", "1902"), ("ESTABLISHED", "1901")}
    assert {name for name, _ in names[4:]} == {"RELEASED"}
    assert dialing.event.call_type == CallType.CALL_TYPE_INTERNAL
    await other.register(password("1902", "t1"), expires=0)
    other.close()


@pytest.mark.feature("SC-13")
@pytest.mark.parametrize(("status", "state"), [(486, CallState.CALL_STATE_BUSY), (603, None), (480, None)])
async def test_a_refused_call(
    platform: Platform, phone: Phone, caller: Phone, status: int, state: CallState.ValueType | None
) -> None:
    phone.reject_with = status
    async with platform.edge() as channel, events_of(platform, channel) as events:
        leg = caller.call("1901")
        with pytest.raises(CallFailed) as failed:
            await leg.until(leg.established, 10)
        deleted = await events.first("CALL_DELETED")
        thread = [e for e in events.seen if e.stream_key == deleted.call_thread_id]
    assert failed.value.status == status
    if state is not None:
        assert state in [e.event.call_state for e in thread]


@pytest.mark.feature("SC-13", "DP-01")
async def test_a_number_that_leads_nowhere(platform: Platform, caller: Phone) -> None:
    leg = caller.call("5999")
    with pytest.raises(CallFailed) as failed:
        await leg.until(leg.established, 10)
    assert failed.value.status == 404


@pytest.mark.feature("SC-13")
async def test_a_caller_who_gives_up_while_it_rings(platform: Platform, caller: Phone) -> None:
    silent = platform.phone("1903", host=33, ring_s=-1)
    await platform.register(silent)
    async with platform.edge() as channel, events_of(platform, channel) as events:
        leg = caller.call("1903")
        await leg.until(leg.ringing, 10)
        caller.cancel(leg)
        with pytest.raises(CallFailed) as failed:
            await leg.until(leg.established, 10)
        await events.first("ABANDONED", this_dn="1903")
        await events.first("CALL_DELETED")
    assert failed.value.status == 487
    assert "CANCEL" in says(silent, sent=False)
    await silent.register(password("1903", "t1"), expires=0)
    silent.close()


@pytest.mark.feature("SC-13")
async def test_a_phone_that_is_not_registered(platform: Platform, caller: Phone) -> None:
    leg = caller.call("1905")
    with pytest.raises(CallFailed) as failed:
        await leg.until(leg.established, 10)
    assert failed.value.status in (404, 480)


@pytest.mark.feature("SC-02", "SP-14")
async def test_equal_numbers_of_three_tenants_ring_their_own_phones(platform: Platform) -> None:
    phones, callers, rung = {}, {}, {}
    for tenant in ("t1", "t2", "t3"):
        phones[tenant] = platform.phone("1904", tenant, host=34)
        await platform.register(phones[tenant])
        callers[tenant] = platform.caller(tenant, host=34)
    legs = {tenant: caller.call("1904") for tenant, caller in callers.items()}
    for tenant, leg in legs.items():
        await leg.until(leg.established, 10)
        rung[tenant] = len(phones[tenant].legs)
        assert await callers[tenant].hang_up(leg) == 200
    assert rung == {"t1": 1, "t2": 1, "t3": 1}
    for tenant, phone in phones.items():
        await phone.register(password("1904", tenant), expires=0)
        phone.close()
        callers[tenant].close()


@pytest.mark.feature("SP-01", "SP-04")
async def test_a_trunk_sees_the_name_of_the_proxies_and_no_node(platform: Platform, phone: Phone) -> None:
    """A call out: the INVITE that reaches the trunk's peer names the cluster of proxies, no node address."""
    peer = Phone("pstn", platform.ip(201, 1), "pstn.example", platform.proxy)
    leg = phone.call("94155550199")
    await leg.until(leg.established, 10)
    invite = next(iter(peer.legs.values())).invite
    text = invite.to_bytes().decode()
    nodes = [address.partition(":")[0] for i in platform.mesh.instances("sip_cluster") for address in i.sip]
    assert "voice-sipproxy.voice.svc.cluster.local" in " ".join(str(value) for value in invite.record_routes)
    shown = " ".join(invite.get_all("Contact") + invite.get_all("Record-Route"))
    assert not [node for node in nodes if node in shown], text
    assert await phone.hang_up(leg) == 200
    peer.close()


@pytest.mark.feature("SP-07")
async def test_requests_in_a_dialog_reach_the_owner_through_any_proxy(
    platform: Platform, phone: Phone
) -> None:
    """Re-INVITEs and the BYE of a call, sent to either proxy in turn, are answered by the node that has it."""
    caller = platform.caller(host=41)
    leg = caller.call("1901")
    await leg.until(leg.established, 10)
    assert leg.dialog is not None
    for round_ in range(4):
        host, _, port = platform.mesh.sip_proxies[round_ % 2].rpartition(":")
        request = leg.dialog.create_request("OPTIONS")
        answer = await caller.ask(request, (host, int(port)))
        assert answer.status == 200
    assert await caller.hang_up(leg) == 200
    caller.close()
