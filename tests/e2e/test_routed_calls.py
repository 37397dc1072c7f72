"""Many routed calls at once: three tenants with equal numbers, SIPp as callers and as agents' phones, three SIP nodes."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, ExitStack

import grpc.aio
import httpx
import pytest
from voice.call_state.v1.call_state_service_pb2 import GetThreadRequest
from voice.call_state.v1.call_state_service_pb2_grpc import CallStateServiceStub
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from tests.e2e.platform import (
    Desk,
    Events,
    Platform,
    after_call_work,
    events_of,
    name_of,
    sipp_calls,
    sipp_phones,
)

TENANTS = ("t1", "t2", "t3")
AGENTS = [str(number) for number in range(1001, 1011)]
CALLS = 100
"""Of each tenant."""
EXPECTED = [
    "CALL_CREATED", "QUEUED", "ROUTE_REQUEST", "ROUTE_USED", "DIVERTED", "RINGING", "ESTABLISHED", "RELEASED",
    "CALL_DELETED",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.feature("SC-01", "SC-02", "SC-08", "SP-02", "RQ-01", "OR-11", "CS-01", "TN-05")
async def test_300_routed_calls_of_three_tenants_over_three_nodes(platform: Platform) -> None:
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(platform.edge())
        phones = stack.enter_context(ExitStack())
        events: dict[str, Events] = {}
        for tenant in TENANTS:
            await after_call_work(platform, channel, tenant, AGENTS, 0)
            await asyncio.to_thread(phones.enter_context, sipp_phones(platform, tenant, AGENTS))
            for dn in AGENTS:
                desk = Desk(platform, channel, tenant, dn)
                await desk.login()
                await desk.ready()
            events[tenant] = await stack.enter_async_context(events_of(platform, channel, tenant))
        before = await _new_dialogs(platform)
        callers = [
            sipp_calls(platform, tenant, "8000", calls=CALLS, rate=4, talk_ms=300, timeout_s=200)
            for tenant in TENANTS
        ]
        codes = await asyncio.gather(*(asyncio.to_thread(caller.wait) for caller in callers))
        assert codes == [0, 0, 0]
        for tenant in TENANTS:
            await events[tenant].until(lambda seen: _count(seen, "CALL_DELETED") == CALLS, 30)
            _check_threads(events[tenant].seen)
            _no_agent_was_offered_two_calls(events[tenant].seen)
            await _call_state_saw_the_same(platform, channel, tenant, events[tenant].seen)
        loads = (await _new_dialogs(platform)) - before
        assert len(loads) == 3
        # Rendezvous of 300 Call-IDs over three nodes: a binomial deviation of three sigma is 24.
        assert all(76 <= load <= 124 for load in loads.values()), loads
        for tenant in TENANTS:
            for dn in AGENTS:
                await Desk(platform, channel, tenant, dn).logout()
            await after_call_work(platform, channel, tenant, AGENTS, 5)


def _count(seen: list[EventEnvelope], name: str) -> int:
    return sum(name_of(e) == name for e in seen if e.stream_key == e.call_thread_id)


def _threads(seen: list[EventEnvelope]) -> dict[str, list[EventEnvelope]]:
    threads: dict[str, list[EventEnvelope]] = defaultdict(list)
    for envelope in seen:
        if envelope.stream_key == envelope.call_thread_id:
            threads[envelope.call_thread_id].append(envelope)
    return threads


def _check_threads(seen: list[EventEnvelope]) -> None:
    """Each call: one sequence without gaps (user-data requests are not for clients), in the documented order."""
    for key, thread in _threads(seen).items():
        seqs = [e.seq for e in thread]
        assert seqs == sorted(set(seqs)), f"{key}: {[(e.seq, name_of(e), e.event.this_dn) for e in thread]}"
        missing = set(range(1, seqs[-1] + 1)) - set(seqs)
        changed = sum(name_of(e) == "ATTACHED_DATA_CHANGED" for e in thread)
        assert len(missing) <= changed, (key, missing)
        names = [name_of(e) for e in thread]
        assert [name for name in names if name in EXPECTED and names.count(name) == 1] or names
        positions = [names.index(name) for name in EXPECTED]
        assert positions == sorted(positions), names


def _no_agent_was_offered_two_calls(seen: list[EventEnvelope]) -> None:
    busy: dict[str, int] = {}
    for envelope in seen:
        event = envelope.event
        if envelope.stream_key != envelope.call_thread_id:
            continue  # the same event again in its agent's stream
        if name_of(envelope) == "RINGING":
            assert event.agent_id
            assert busy.setdefault(event.agent_id, event.conn_id) == event.conn_id
        elif name_of(envelope) == "RELEASED" and event.agent_id:
            busy.pop(event.agent_id, None)
    assert busy == {}


async def _call_state_saw_the_same(
    platform: Platform, channel: grpc.aio.Channel, tenant: str, seen: list[EventEnvelope]
) -> None:
    stub = CallStateServiceStub(channel)
    for key, thread in list(_threads(seen).items())[:20]:
        request = GetThreadRequest(tenant=tenant, call_thread_id=key)
        answer = await stub.GetThread(request, timeout=5, metadata=platform.bearer(tenant))
        assert answer.thread.last_seq == thread[-1].seq
        assert list(answer.thread.anomalies) == []


async def _new_dialogs(platform: Platform) -> Counter[str]:
    """Calls created by each SIP node, from their metrics."""
    counted: Counter[str] = Counter()
    async with httpx.AsyncClient() as client:
        for name, address in platform.mesh.metrics.items():
            if name.startswith("sip_cluster"):
                text = (await client.get(f"http://{address}/metrics")).text
                for line in text.splitlines():
                    if line.startswith("voicemesh_sip_cluster_calls_created_total"):
                        counted[name] += int(float(line.rpartition(" ")[2]))
    return counted
