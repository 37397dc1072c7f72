"""Ends of calls that a stream tells behind a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event

from mesh.errors import DomainError
from mesh.rq import StreamExpired
from services.sip_cluster import behind
from services.sip_cluster.tlib import EventType


def told(seq: int, kind: EventType, conn_id: int) -> EventEnvelope:
    return EventEnvelope(seq=seq, event=Event(event_type=kind, conn_id=conn_id))  # type: ignore[arg-type]


async def test_only_ends_of_calls_count_and_only_behind_the_number() -> None:
    asked = []

    async def read(stream: str, seq: int) -> AsyncIterator[list[EventEnvelope]]:
        asked.append((stream, seq))
        yield [told(6, EventType.RELEASED, 1), told(7, EventType.CALL_DELETED, 1)]
        yield []
        yield [told(8, EventType.CALL_DELETED, 2)]

    assert set(await behind.ends(read)("thread", 5)) == {1, 2}
    assert asked == [("thread", 6)]


@pytest.mark.parametrize(
    "problem", [StreamExpired("gone"), DomainError(Reason.REASON_INVALID_ATTRIBUTE, "no"), None]
)
async def test_what_was_read_before_it_failed_counts(
    problem: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "READ_S", 0.01)

    async def read(stream: str, seq: int) -> AsyncIterator[list[EventEnvelope]]:
        yield [told(6, EventType.CALL_DELETED, 1)]
        if problem is not None:
            raise problem
        await asyncio.Event().wait()

    assert set(await behind.ends(read)("thread", 5)) == {1}
