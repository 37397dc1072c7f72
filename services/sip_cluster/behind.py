"""What a stream tells behind a snapshot: a call went on unprotected while Redis was slow, and its node died.

Only the end of a call is taken from there. A phone that still talks says the rest again by itself; a call that has ended
has nobody left who would, and its heir would keep it for hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import DomainError
from mesh.rq import StreamExpired
from mesh.telemetry import logger
from services.sip_cluster.tlib import EventType

Ends: TypeAlias = Callable[[str, int], Awaitable[Collection[int]]]
"""(stream, sequence number) -> ConnIDs of calls whose CallDeleted is behind that number."""
READ_S = 0.5
"""How long Redis Queue is waited for, seconds; without an answer the call is gone on with as its snapshot has it."""
_log = logger("behind")


def ends(read: Callable[[str, int], AsyncIterable[Sequence[EventEnvelope]]]) -> Ends:
    """`read(stream, sequence number)`: the events from there on that are stored now, in parts."""

    async def ended(stream: str, seq: int) -> Collection[int]:
        found: set[int] = set()
        try:
            async with asyncio.timeout(READ_S):
                async for events in read(stream, seq + 1):
                    found |= {
                        one.event.conn_id
                        for one in events
                        if one.event.event_type == EventType.CALL_DELETED.value
                    }
        except (TimeoutError, DomainError, StreamExpired) as error:
            _log.warning("end of a stream not read", stream=stream, problem=str(error) or "no answer in time")
        return found

    return ended
