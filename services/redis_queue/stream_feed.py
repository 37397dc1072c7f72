"""One reader of one stream: what it has, then what comes through its slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import ReadStreamResponse, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import DomainError
from services.redis_queue.entry_id import EntryId
from services.redis_queue.follower import Follower
from services.redis_queue.store import Store, slot_key, stream_key
from services.redis_queue.validate import slot_of

PAGE: Final = 256


class StreamFeed:
    """Serves one ReadStream call."""

    def __init__(self, store: Store, follower: Follower, family: StreamFamily.ValueType, key: str) -> None:
        self._store = store
        self._follower = follower
        self._key = key
        slot = slot_of(family, key)
        self._stream = stream_key(family, slot, key)
        self._slot = slot_key(family, slot)
        self._next = 1

    async def read(self, from_seq: int, once: bool) -> AsyncIterator[ReadStreamResponse]:
        """Events from a sequence number on. Raises CURSOR_EXPIRED, RedisError."""
        wake = asyncio.Event()
        if not once:
            await self._follower.open_events([self._slot], lambda _: wake.set)
        try:
            # Taken before the stream is read: what is appended meanwhile comes by both ways and is told once.
            since = None if once else self._follower.tail(self._slot).position
            self._next = from_seq
            async for page in self._stored():
                yield ReadStreamResponse(events=page)
            yield ReadStreamResponse()
            while since is not None:
                wake.clear()
                events, since = await self._fresh(since)
                if events:
                    yield ReadStreamResponse(events=events)
                elif since >= self._follower.tail(self._slot).position:
                    await wake.wait()
        finally:
            if not once:
                self._follower.close(self._slot, wake.set)

    async def _stored(self) -> AsyncIterator[list[EventEnvelope]]:
        """What the stream has from `_next` on."""
        while True:
            found = await self._store.entries(self._stream, (max(self._next, 1) - 1, 0), None, PAGE)
            if not found:
                return
            first = found[0][0][0]
            if self._next not in (0, first):
                raise DomainError(
                    Reason.REASON_CURSOR_EXPIRED,
                    f"{self._key} is kept from seq {first} on, {self._next} was asked for",
                    first_seq=first,
                )
            self._next = found[-1][0][0] + 1
            yield [EventEnvelope.FromString(raw) for _, raw in found]
            if len(found) < PAGE:
                return

    async def _fresh(self, since: EntryId) -> tuple[list[EventEnvelope], EntryId]:
        """Events of this stream among those of its slot after a cursor."""
        tail = self._follower.tail(self._slot)
        held = tail.after(since, PAGE)
        if held is None:
            until = tail.start
            found = await self._store.entries(self._slot, since, until, PAGE)
            held = [(ident, EventEnvelope.FromString(raw)) for ident, raw in found]
            if len(found) < PAGE:
                since = until
        if held:
            since = max(since, held[-1][0])
        events = []
        for _, event in held:
            if event.stream_key == self._key and event.seq >= max(self._next, 1):
                events.append(event)
                self._next = event.seq + 1
        return events, since
