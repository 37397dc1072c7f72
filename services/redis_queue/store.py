"""What is kept where in Redis; the only file that knows key names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

import redis.asyncio
from redis.asyncio.client import Pipeline
from voice.redis_queue.v1.queue_service_pb2 import StreamFamily

from services.redis_queue import entry_id, scripts
from services.redis_queue.entry_id import ORIGIN, EntryId
from services.redis_queue.settings import RedisQueueSettings

SLOTS: Final = 256
"""Slots of either family; fixed for good."""

Argument = bytes | str | int

_TEXTS: Final = {
    sha1(text.encode(), usedforsecurity=False).hexdigest(): text
    for text in (scripts.APPEND, scripts.SWEEP, scripts.ENQUEUE, scripts.ACKNOWLEDGE)
}
_APPEND, _SWEEP, _ENQUEUE, _ACKNOWLEDGE = _TEXTS

_LETTERS: Final = {StreamFamily.STREAM_FAMILY_THREAD: "t", StreamFamily.STREAM_FAMILY_AGENT: "a"}
_EPHEMERAL_QUEUES: Final = "outcomes:"
_EPHEMERAL_IDLE_MS: Final = 600_000
"""Outcomes are for one incarnation of a front end; ten minutes after its end nobody will ask for them."""


def slot_key(family: StreamFamily.ValueType, slot: int) -> str:
    """The stream of a slot: every event of its streams in the order they were appended."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:slot"


def first_key(family: StreamFamily.ValueType, slot: int) -> str:
    """Id of the oldest entry of the slot's stream that is kept; absent while all are."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:first"


def stream_key(family: StreamFamily.ValueType, slot: int, key: str) -> str:
    """The stream of a call thread or agent; entry ids are `<seq>-0`."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:s:{key}"


def queue_keys(queue: str) -> tuple[str, str, str]:
    """Entries, ids, acknowledged ids of a queue."""
    base = f"{{rq:q:{queue}}}"
    return f"{base}:entries", f"{base}:ids", f"{base}:done"


@dataclass(frozen=True, slots=True)
class Item:
    """An event to append, encoded."""

    key: str
    seq: int
    epoch: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What APPEND did with one event."""

    code: int
    last_seq: int
    epoch: int
    entry: bytes
    """Entry id in the slot's stream when appended; the envelope that is there when it is a different one."""


class Store:
    """Redis as this service uses it."""

    def __init__(self, client: redis.asyncio.Redis, settings: RedisQueueSettings) -> None:
        self.client = client
        self.settings = settings

    async def load(self) -> None:
        """Makes the scripts known to Redis; done again whenever one is found missing (a new primary)."""
        for text in _TEXTS.values():
            await self.client.script_load(text)

    async def append(
        self, groups: Mapping[tuple[StreamFamily.ValueType, int], Sequence[Item]]
    ) -> dict[tuple[StreamFamily.ValueType, int], tuple[EntryId, list[Outcome]] | redis.RedisError]:
        """Appends events of several slots in one round trip; each slot's in one step.

        Gives for each slot the id of its last entry before and the outcomes in order, or the error that
        Redis gave for the slot. Raises redis.RedisError when none can be told."""
        calls = [
            (_APPEND, *self._append_slot(family, slot, items)) for (family, slot), items in groups.items()
        ]
        replies = await self._run(calls)
        return {slot: _outcomes(reply) for slot, reply in zip(groups, replies, strict=True)}

    def _append_slot(
        self, family: StreamFamily.ValueType, slot: int, items: Sequence[Item]
    ) -> tuple[list[str], list[Argument]]:
        keys = [slot_key(family, slot), first_key(family, slot)]
        numbers: dict[str, int] = {}
        idle = self.settings.stream_idle_s * 1000 if family == StreamFamily.STREAM_FAMILY_THREAD else 0
        arguments: list[Argument] = [
            self.settings.stream_events,
            self.settings.slot_events,
            idle,
            self.settings.stream_retention_s * 1000,
        ]
        for item in items:
            number = numbers.get(item.key)
            if number is None:
                number = numbers[item.key] = len(numbers) + 1
                keys.append(stream_key(family, slot, item.key))
            arguments += (number, item.seq, item.epoch, item.envelope)
        return keys, arguments

    async def _run(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Argument]]]) -> list[Any]:
        """Runs scripts in one round trip; a script's error stands in its place."""
        replies = await self._attempt(calls)
        missing = [n for n, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if missing:
            await self.load()
            for n, reply in zip(missing, await self._attempt([calls[n] for n in missing]), strict=True):
                replies[n] = reply
        return replies

    async def _attempt(self, calls: Sequence[tuple[str, Sequence[str], Sequence[Argument]]]) -> list[Any]:
        pipe = self._pipeline()
        for sha, keys, arguments in calls:
            pipe.evalsha(sha, len(keys), *keys, *arguments)
        return await pipe.execute(raise_on_error=False)

    async def _run_one(self, sha: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        reply = (await self._run([(sha, keys, arguments)]))[0]
        if isinstance(reply, redis.RedisError):
            raise reply
        return reply

    async def last_entries(self, keys: Sequence[str]) -> list[EntryId]:
        """Id of the newest entry of each Redis stream, ORIGIN for an empty one."""
        pipe = self._pipeline()
        for key in keys:
            pipe.xrevrange(key, "+", "-", count=1)
        return [entry_id.parse(found[0][0]) if found else ORIGIN for found in await pipe.execute()]

    async def first_kept(self, family: StreamFamily.ValueType, slot: int) -> EntryId:
        """Id of the oldest entry kept of a slot; ORIGIN while all are."""
        found = await self.client.get(first_key(family, slot))
        return entry_id.parse(found) if found else ORIGIN

    async def entries(
        self, key: str, after: EntryId, until: EntryId | None, limit: int
    ) -> list[tuple[EntryId, bytes]]:
        """Entries of a Redis stream with after < id <= until, oldest first."""
        high = entry_id.show(until) if until is not None else "+"
        found: Any = await self.client.xrange(key, f"({entry_id.show(after)}", high, count=limit)
        return [(entry_id.parse(entry), _value(fields)) for entry, fields in found]

    async def sweep(self, family: StreamFamily.ValueType, slots: Sequence[int], before_ms: int) -> int:
        """Removes what is older from the streams of slots; tells how many entries went."""
        calls = [(_SWEEP, (slot_key(family, s), first_key(family, s)), (before_ms,)) for s in slots]
        gone = 0
        for reply in await self._run(calls):
            if isinstance(reply, redis.RedisError):
                raise reply
            gone += reply
        return gone

    async def close_stream(self, family: StreamFamily.ValueType, slot: int, key: str) -> None:
        """From now on the stream has the retention time to live."""
        await self.client.pexpire(stream_key(family, slot, key), self.settings.stream_retention_s * 1000)

    async def enqueue(
        self, queue: str, entries: Sequence[tuple[str, bytes]], now_ms: int
    ) -> tuple[int, EntryId, list[EntryId | None]]:
        """Depth (-1: full, nothing was added), id of the last entry before, and for each entry its id, None for
        a repeat."""
        arguments: list[Argument] = [
            now_ms,
            self.settings.queue_entries,
            self.settings.queue_memory_s * 1000,
            self._idle_ms(queue),
        ]
        for ident, entry in entries:
            arguments += (ident, entry)
        reply = await self._run_one(_ENQUEUE, queue_keys(queue), arguments)
        if reply[0] < 0:
            return -1, ORIGIN, []
        return reply[0], entry_id.parse(reply[1]), [entry_id.parse(e) if e else None for e in reply[2:]]

    async def acknowledge(self, queue: str, ids: Sequence[str], now_ms: int) -> int:
        """Removes entries; tells how many are left."""
        arguments: list[Argument] = [now_ms, self.settings.queue_memory_s * 1000, self._idle_ms(queue), *ids]
        depth: int = await self._run_one(_ACKNOWLEDGE, queue_keys(queue), arguments)
        return depth

    def _idle_ms(self, queue: str) -> int:
        if queue.startswith(_EPHEMERAL_QUEUES):
            return _EPHEMERAL_IDLE_MS
        return self.settings.queue_idle_s * 1000

    def _pipeline(self) -> Pipeline:
        return self.client.pipeline(transaction=False)


def _value(fields: Mapping[bytes, bytes]) -> bytes:
    return fields[b"e"]


def _outcomes(reply: Any) -> tuple[EntryId, list[Outcome]] | redis.RedisError:
    if isinstance(reply, redis.RedisError):
        return reply
    return entry_id.parse(reply[0]), [Outcome(*found) for found in reply[1:]]
