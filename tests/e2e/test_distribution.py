"""Triggers spread over Orchestration nodes: each takes its share, none is lost, none is taken twice."""

from __future__ import annotations

import asyncio
import re
import secrets
import time

import httpx
import pytest
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.identifiers import new_call_uuid, new_conn_id
from mesh.rq import THREAD, Publisher, Rq
from tests.e2e.platform import Platform
from tests.e2e.queue_sockets import QueueSockets

TRIGGERS = 3000


async def started(platform: Platform, name: str = "strategies_total") -> dict[str, float]:
    """Sessions started by each node; or another metric."""
    counted: dict[str, float] = {}
    async with httpx.AsyncClient() as client:
        for node, address in platform.mesh.metrics.items():
            if node.startswith("orchestration"):
                text = (await client.get(f"http://{address}/metrics")).text
                found = re.findall(rf"(?m)^voicemesh_orchestration_{name}(?:{{[^}}]*}})? (\S+)$", text)
                counted[node] = sum(float(value) for value in found)
    return counted


def envelope(thread: str, seq: int, kind: MessageType.ValueType, conn_id: int) -> EventEnvelope:
    event = Event(
        event_type=kind, this_dn="8000", this_queue="8000", conn_id=conn_id, call_uuid=thread, call_thread_id=thread,
        event_sequence_number=seq,
    )  # fmt: skip
    return EventEnvelope(
        event_id=f"{thread}/{seq}", tenant="t3", stream_key=thread, seq=seq, epoch=1, time_us=time.time_ns() // 1000,
        call_thread_id=thread, event=event,
    )  # fmt: skip


async def publish(publisher: Publisher, envelopes: list[EventEnvelope]) -> None:
    for at in range(0, len(envelopes), 50):
        await asyncio.gather(*(publisher.append(e) for e in envelopes[at : at + 50]))


@pytest.mark.slow
@pytest.mark.feature("OR-10")
async def test_3000_triggers_over_three_nodes(platform: Platform) -> None:
    sockets = QueueSockets(platform.mesh)
    rq = Rq.over(sockets)
    await rq.start()
    try:
        before = await started(platform)
        now = time.time_ns() // 1_000_000
        calls = [
            (
                new_call_uuid(0, n % 1024, now, secrets.randbits(40)),
                new_conn_id(0, n % 1024, now, n // 1024),
            )
            for n in range(TRIGGERS)
        ]
        kind = MessageType.MESSAGE_TYPE_EVENT_ROUTE_REQUEST
        publisher = rq.publisher(THREAD)
        await publish(publisher, [envelope(thread, 1, kind, conn_id) for thread, conn_id in calls])
        async with asyncio.timeout(60):
            while sum((after := await started(platform)).values()) - sum(before.values()) < TRIGGERS:
                await asyncio.sleep(1)
        kind = MessageType.MESSAGE_TYPE_EVENT_CALL_DELETED
        await publish(publisher, [envelope(thread, 2, kind, conn_id) for thread, conn_id in calls])
        async with asyncio.timeout(90):
            while sum((await started(platform, "interactions")).values()) > 0:
                await asyncio.sleep(1)
        after = await started(platform)
    finally:
        await rq.stop()
        await sockets.close()
    shares = [after[node] - before[node] for node in after]
    assert sum(shares) == TRIGGERS
    assert len(shares) == 3
    assert all(abs(share / TRIGGERS - 1 / 3) <= 0.03 for share in shares), shares
