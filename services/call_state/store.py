"""What is kept where in Redis; the only file that knows key names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import redis.asyncio

from mesh.store import FencedStore, Operation, offset, put_fields, remove_fields
from services.call_state.machine import Call, Thread
from services.call_state.record import pack, unpack

THREADS: Final = "threads"
"""Hash of a slot, {call_state:<slot>}:threads: CallThreadID -> ThreadRecord."""
EVENTS: Final = "rq"
"""Name under which the slot's cursor in the event log is kept."""
FIELDS: Final = 500
"""Fields of one operation at most (the fenced write takes 2000 arguments in all)."""


class Store:
    """Threads by slot, fenced; and the index from calls to threads, which any node reads."""

    def __init__(self, fenced: FencedStore, client: redis.asyncio.Redis, index_s: int) -> None:
        self._fenced = fenced
        self._client = client
        self._index_s = index_s

    async def load(self, slot: int, epoch: int) -> tuple[dict[str, Thread], str]:
        """Takes a slot over: its threads and the cursor they were folded up to, "0" when there is none."""
        await self._fenced.raise_fence(slot, epoch)
        records = await self._fenced.read_fields(slot, THREADS)
        cursor = await self._fenced.read_offset(slot, EVENTS)
        return {key: unpack(raw) for key, raw in records.items()}, cursor or "0"

    async def rewrite(self, slot: int, epoch: int, threads: Iterable[Thread], cursor: str) -> None:
        """All of a slot again, for a Redis that may have less than we wrote. Raises StaleEpoch, StoreUnavailable."""
        await self._fenced.raise_fence(slot, epoch)
        await self.write(slot, epoch, threads, cursor)

    async def write(self, slot: int, epoch: int, threads: Iterable[Thread], cursor: str) -> None:
        """Threads that changed and the cursor after what changed them, in one write. Raises StaleEpoch,
        StoreUnavailable."""
        packed = [(thread.call_thread_id, pack(thread)) for thread in threads]
        operations: list[Operation] = [
            put_fields(THREADS, dict(packed[start : start + FIELDS]))
            for start in range(0, len(packed), FIELDS)
        ]
        await self._fenced.write(slot, epoch, [*operations, offset(EVENTS, cursor)])

    async def remove(self, slot: int, epoch: int, threads: Iterable[Thread]) -> None:
        """Threads that are over. Raises StaleEpoch, StoreUnavailable."""
        gone = list(threads)
        names = [thread.call_thread_id for thread in gone]
        for start in range(0, len(names), FIELDS):
            await self._fenced.write(slot, epoch, [remove_fields(THREADS, *names[start : start + FIELDS])])
        keys = [key for thread in gone for call in thread.calls for key in _index_keys(call)]
        if keys:
            pipe = self._client.pipeline(transaction=False)
            for key in keys:
                pipe.delete(key)
            await pipe.execute()

    async def index(self, calls: Mapping[str, Iterable[Call]]) -> None:
        """CallThreadID -> calls: makes the thread findable by ConnID and CallUUID. Raises redis.RedisError."""
        pipe = self._client.pipeline(transaction=False)
        for thread, found in calls.items():
            for call in found:
                for key in _index_keys(call):
                    pipe.set(key, thread, ex=self._index_s)
        await pipe.execute()

    async def thread_of(self, *, conn_id: int = 0, call_uuid: str = "") -> str | None:
        """CallThreadID of a call. Raises redis.RedisError."""
        key = _conn_key(conn_id) if conn_id else _uuid_key(call_uuid)
        found = await self._client.get(key)
        return found.decode() if isinstance(found, bytes) else found


def _conn_key(conn_id: int) -> str:
    return f"call_state:conn:{conn_id:016x}"


def _uuid_key(call_uuid: str) -> str:
    return f"call_state:uuid:{call_uuid}"


def _index_keys(call: Call) -> list[str]:
    return [_conn_key(call.conn_id), *([_uuid_key(call.call_uuid)] if call.call_uuid else [])]
