"""What orchestration keeps in Redis, and under which keys. The only file that knows them.

`{orchestration:<slot>}:sessions`   hash: session id -> voice.record.v1.SessionRecord
offset "thread"                     cursor of the slot's event stream, in the same write as what its events changed
"""

from __future__ import annotations

from collections.abc import Iterable

import redis.asyncio
from voice.record.v1.session_pb2 import SessionRecord

from mesh.store import FencedStore, Operation, offset, put_fields, remove_fields
from services.orchestration.machine import Phase, Session
from services.orchestration.record import from_record, to_record

WRITE_S = 2.0
"""Longest wait for a write, seconds; every operation is safe to repeat."""
_SESSIONS = "sessions"
_THREAD = "thread"


class Store:
    """Sessions and cursors of the slots this node owns."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._store = FencedStore(client, "orchestration", "thread")

    async def start(self) -> None:
        """Loads the scripts."""
        await self._store.start()

    async def stop(self) -> None:
        """Ends."""
        await self._store.stop()

    async def take_over(self, slot: int, epoch: int) -> tuple[list[Session], str]:
        """Raises the fence, then reads: sessions and the cursor ("0" when there is none)."""
        await self._store.raise_fence(slot, epoch)
        rows = await self._store.read_fields(slot, _SESSIONS)
        cursor = await self._store.read_offset(slot, _THREAD)
        return [from_record(SessionRecord.FromString(row)) for row in rows.values()], cursor or "0"

    async def write(self, slot: int, epoch: int, changed: Iterable[Session], cursor: str) -> None:
        """One fenced write: the sessions as they are (those that are over are removed) and the cursor, when given."""
        operations: list[Operation] = []
        kept: dict[str, bytes] = {}
        for session in changed:
            if session.phase is Phase.OVER:
                operations.append(remove_fields(_SESSIONS, session.call.session_id))
            else:
                kept[session.call.session_id] = to_record(session).SerializeToString()
        if kept:
            operations.append(put_fields(_SESSIONS, kept))
        if cursor:
            operations.append(offset(_THREAD, cursor))
        await self._store.write(slot, epoch, operations, timeout=WRITE_S)
