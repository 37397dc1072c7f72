"""What orchestration keeps in Redis, and under which keys. The only file that knows them.

`{orchestration:<slot>}:sessions`          hash: session id -> voice.record.v1.SessionRecord of sessions that are awake
`{orchestration:<slot>}:asleep`            the same of sessions that only Redis knows (`asleep.py`)
`{orchestration:<slot>}:asleep:<thread>`   set: ids of sleeping sessions that hear of the call thread
`{orchestration:<slot>}:due`               sorted set: sleeping session -> when its first timer is due, UTC microseconds
offset "thread"                            cursor of the slot's event stream, in the same write as what its events changed
`orchestration:document:<hash>:<compiler>` a compiled document, zlib JSON (`documents.py`); never changed, so not fenced
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
import redis.exceptions
import structlog
from google.protobuf.message import DecodeError
from voice.record.v1.session_pb2 import SessionRecord

from mesh.store import (
    FencedStore,
    Operation,
    StoreUnavailable,
    add_members,
    offset,
    put_fields,
    remove_fields,
    remove_members,
)
from services.orchestration.effects import Timer
from services.orchestration.record import from_record, to_record
from services.orchestration.session import Phase, Session

WRITE_S = 2.0
"""Longest wait for a write, seconds; every operation is safe to repeat."""
DOCUMENT_S = 200 * 86_400
"""How long a compiled document is kept after it was last needed, seconds: longer than a session may live."""
READS = 8
"""Reads beside the fenced store at a time: each takes a connection, and a node that takes over asks for every slot."""
_SESSIONS = "sessions"
_ASLEEP = "asleep"
_DUE = "due"
_THREAD = "thread"
_FIELDS = 500
"""Fields an operation."""


log = structlog.get_logger("orchestration.store")


@dataclass
class Change:
    """What one turn changed."""

    awake: dict[str, Session] = field(default_factory=dict)
    """Written as they are; those that are over are removed."""
    asleep: dict[str, Session] = field(default_factory=dict)
    """Go to sleep."""
    woken: dict[str, Session] = field(default_factory=dict)
    """Sleep no longer."""
    cursor: str = ""

    def __bool__(self) -> bool:
        return bool(self.awake or self.asleep or self.woken or self.cursor)


class Store:
    """Sessions and cursors of the slots this node owns."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._store = FencedStore(client, "orchestration", "thread")
        self._redis = client
        self._few = asyncio.Semaphore(READS)

    async def start(self) -> None:
        """Loads the scripts."""
        await self._store.start()

    async def stop(self) -> None:
        """Ends."""
        await self._store.stop()

    def on_primary_change(self, callback: Callable[[], Awaitable[None]]) -> None:
        """See FencedStore.on_primary_change."""
        self._store.on_primary_change(callback)

    # -- sessions ----------------------------------------------------------------------------------------------

    async def take_over(self, slot: int, epoch: int) -> tuple[list[Session], str]:
        """Raises the fence, then reads: sessions that are awake and the cursor ("0" when there is none)."""
        await self._store.raise_fence(slot, epoch)
        rows, cursor = await asyncio.gather(
            self._store.read_fields(slot, _SESSIONS), self._store.read_offset(slot, _THREAD)
        )
        return [
            session for name, row in rows.items() if (session := _readable(slot, name, row))
        ], cursor or "0"

    async def write(self, slot: int, epoch: int, change: Change) -> None:
        """One fenced write of all that a turn changed."""
        await self._store.write(slot, epoch, list(_operations(change)), timeout=WRITE_S)

    async def sleeping(self, slot: int, session_id: str) -> Session | None:
        """A session that sleeps. Raises StoreUnavailable."""
        row = await self._store.read_field(slot, _ASLEEP, session_id)
        return None if row is None else from_record(SessionRecord.FromString(row))

    async def sleeping_of(self, slot: int, threads: Collection[str]) -> list[str]:
        """Ids of sleeping sessions that hear of any of the call threads. Raises StoreUnavailable."""
        reads = (self._store.read_members(slot, f"{_ASLEEP}:{thread}") for thread in threads)
        return sorted(name.decode() for names in await asyncio.gather(*reads) for name in names)

    async def count_sleeping(self, slot: int) -> int:
        """How many sleep. Raises StoreUnavailable."""
        return await self._store.count_fields(slot, _ASLEEP)

    async def list_sleeping(self, slot: int, limit: int) -> list[Session]:
        """Some that sleep, at most `limit`. Raises StoreUnavailable."""
        key, cursor, rows = f"{{orchestration:{slot}}}:{_ASLEEP}", 0, dict[bytes, bytes]()
        while len(rows) < limit:
            cursor, some = await self._ask(self._redis.hscan(key, cursor, count=limit))
            rows.update(some)
            if not cursor:
                break
        return [from_record(SessionRecord.FromString(row)) for row in itertools.islice(rows.values(), limit)]

    async def first_due(self, slot: int, limit: int = 1) -> list[tuple[str, int]]:
        """Sleeping sessions whose timers are due first, with their times. Raises StoreUnavailable."""
        key = f"{{orchestration:{slot}}}:{_DUE}"
        rows = await self._ask(self._redis.zrange(key, 0, limit - 1, withscores=True))
        return [(name.decode(), int(score)) for name, score in rows]

    # -- documents ---------------------------------------------------------------------------------------------

    async def keep_document(self, key: str, body: bytes) -> None:
        """Keeps a compiled document. Raises StoreUnavailable."""
        await self._ask(self._redis.set(f"orchestration:document:{key}", body, ex=DOCUMENT_S))

    async def document(self, key: str) -> bytes | None:
        """A compiled document. Raises StoreUnavailable."""
        found: bytes | None = await self._ask(self._redis.get(f"orchestration:document:{key}"))
        return found

    async def _ask(self, command: Awaitable[Any]) -> Any:
        try:
            async with self._few:
                return await command
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(str(error) or type(error).__name__) from error


def _readable(slot: int, name: str, row: bytes) -> Session | None:
    """A session; one that this version cannot read stays where it is, and its call waits for its routing timeout."""
    try:
        return from_record(SessionRecord.FromString(row))
    except (DecodeError, ValueError, KeyError, TypeError) as error:
        log.error("record of a session cannot be read", slot=slot, session=name, exc_info=error)
        return None


def _operations(change: Change) -> Iterator[Operation]:
    kept = {name: s for name, s in change.awake.items() if s.phase is not Phase.OVER}
    yield from _put(_SESSIONS, kept)
    over = [name for name, s in change.awake.items() if s.phase is Phase.OVER] + list(change.asleep)
    for names in _some(over):
        yield remove_fields(_SESSIONS, *names)
    yield from _put(_ASLEEP, change.asleep)
    for name, session in change.asleep.items():
        yield add_members(f"{_ASLEEP}:{session.call.call_thread_id}", name)
        if due := [effect.due_us for effect in session.pending.values() if isinstance(effect, Timer)]:
            yield Operation("ZADD", _DUE, (min(due), name))
    for name, session in change.woken.items():
        yield remove_fields(_ASLEEP, name)
        yield remove_members(f"{_ASLEEP}:{session.call.call_thread_id}", name)
        yield Operation("ZREM", _DUE, (name,))
    if change.cursor:
        yield offset(_THREAD, change.cursor)


def _put(key: str, sessions: dict[str, Session]) -> Iterator[Operation]:
    for names in _some(sessions):
        yield put_fields(key, {name: to_record(sessions[name]).SerializeToString() for name in names})


def _some(names: Iterable[str]) -> Iterator[list[str]]:
    listed = list(names)
    return (listed[at : at + _FIELDS] for at in range(0, len(listed), _FIELDS))
