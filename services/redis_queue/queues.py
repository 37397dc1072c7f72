"""Queues: entries once per id, read until they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry, QueueWrite, ReadQueueResponse

from mesh.errors import DomainError
from services.redis_queue.entry_id import ORIGIN, EntryId
from services.redis_queue.follower import Follower
from services.redis_queue.store import Store, queue_keys

PAGE: Final = 128
"""Entries of one message at most."""


class Queues:
    """All queues; each is a stream with an index of ids beside it."""

    def __init__(self, store: Store, follower: Follower) -> None:
        self._store = store
        self._follower = follower

    async def enqueue(self, queue: str, entries: Sequence[QueueEntry], now_us: int) -> int:
        """Adds the entries whose id is new; tells the depth. Raises QUEUE_FULL, RedisError."""
        stamped = []
        for entry in entries:
            stamped_entry = QueueEntry()
            stamped_entry.CopyFrom(entry)
            stamped_entry.time_us = now_us
            stamped.append(stamped_entry)
        depth, before, added = await self._store.enqueue(
            queue, [(e.id, e.SerializeToString()) for e in stamped], now_us // 1000
        )
        if depth < 0:
            limit = self._store.settings.queue_entries
            raise DomainError(
                Reason.REASON_QUEUE_FULL, f"queue {queue} has {limit} entries", queue=queue, limit=limit
            )
        new = [(ident, entry) for ident, entry in zip(added, stamped, strict=True) if ident is not None]
        if new:
            self._follower.push(queue_keys(queue)[0], before, new)
        return depth

    async def acknowledge(self, queue: str, ids: Sequence[str], now_us: int) -> int:
        """Removes entries; tells how many are left. Raises RedisError."""
        return await self._store.acknowledge(queue, ids, now_us // 1000)

    async def write(self, write: QueueWrite, now_us: int) -> int:
        """Adds its entries or removes its ids; tells the depth. Raises QUEUE_FULL, RedisError."""
        if write.entries:
            return await self.enqueue(write.queue, write.entries, now_us)
        return await self.acknowledge(write.queue, write.ids, now_us)

    async def read(self, queue: str) -> AsyncIterator[ReadQueueResponse]:
        """What is there, then what comes. Raises RedisError."""
        key = queue_keys(queue)[0]
        wake = asyncio.Event()
        await self._follower.open_queue(key, wake.set)
        try:
            cursor = self._follower.tail(key).position
            # What is there is asked of Redis: the ring, kept for another reader, has also what is acknowledged.
            async for page in self._stored(key, cursor):
                yield ReadQueueResponse(entries=page)
            yield ReadQueueResponse(caught_up=True)
            while True:
                wake.clear()
                entries, cursor = await self._page(key, cursor)
                if entries:
                    yield ReadQueueResponse(entries=entries)
                if cursor >= self._follower.tail(key).position:
                    await wake.wait()
        finally:
            self._follower.close(key, wake.set)

    async def _stored(self, key: str, until: EntryId) -> AsyncIterator[list[QueueEntry]]:
        after = ORIGIN
        while found := await self._store.entries(key, after, until, PAGE):
            yield [QueueEntry.FromString(raw) for _, raw in found]
            after = found[-1][0]

    async def _page(self, key: str, cursor: EntryId) -> tuple[list[QueueEntry], EntryId]:
        tail = self._follower.tail(key)
        held = tail.after(cursor, PAGE)
        if held is not None:
            return [entry for _, entry in held], held[-1][0] if held else cursor
        until = tail.start
        found = await self._store.entries(key, cursor, until, PAGE)
        entries = [QueueEntry.FromString(raw) for _, raw in found]
        return entries, until if len(found) < PAGE else found[-1][0]
