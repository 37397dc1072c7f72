"""What is kept where in Redis; the only file that knows key names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

import redis.asyncio
from redis.asyncio.client import Pipeline
from voice.redis_queue.v1.queue_service_pb2 import StreamFamily

from mesh.redis_line import Answer, Command, RedisLine, StoreUnavailable
from mesh.redis_primary import name_of_primary
from services.redis_queue import entry_id, scripts
from services.redis_queue.entry_id import ORIGIN, EntryId
from services.redis_queue.settings import RedisQueueSettings

SLOTS: Final = 256
"""Slots of either family; fixed for good."""

Argument = bytes | str | int
Script = tuple[str, Sequence[str], Callable[[], Sequence[Argument]]]
"""SHA1 of a script, its keys, its arguments: asked for when it is sent."""

JUMP_MS: Final = 1000
"""So far entry ids jump ahead under a new primary: clocks of two machines differ by at most half a second (design §5)."""
SWEEP_SLOTS: Final = 16
"""Slots swept in one round trip: appends wait for it."""

_TEXTS: Final = {
    sha1(text.encode(), usedforsecurity=False).hexdigest(): text
    for text in (scripts.APPEND, scripts.FENCE, scripts.SWEEP, scripts.ENQUEUE, scripts.ACKNOWLEDGE)
}
_APPEND, _FENCE, _SWEEP, _ENQUEUE, _ACKNOWLEDGE = _TEXTS

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


def home_key(family: StreamFamily.ValueType, slot: int) -> str:
    """Generation and name of the store that the slot's last event was appended to: "<generation> <store>"."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:home"


def probe_key(node: str) -> str:
    """The health stream of a node."""
    return f"{{rq:probe:{node}}}"


def stream_key(family: StreamFamily.ValueType, slot: int, key: str) -> str:
    """The stream of a call thread or agent; entry ids are `<seq>-0`."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:s:{key}"


def fence_key(family: StreamFamily.ValueType, slot: int, key: str) -> str:
    """Epoch below which the stream takes no event, once an heir has said so."""
    return f"{{rq:{_LETTERS[family]}{slot}}}:f:{key}"


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
    resume: bool = False
    """Its sender has nothing older of the stream."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What APPEND did with one event."""

    code: int
    last_seq: int
    epoch: int
    entry: bytes
    """Entry id in the slot's stream when appended; the envelope that is there when it is a different one."""
    missing: int = 0
    """Events before it that are lost."""


class Store:
    """Redis as this service uses it: what changes it goes over one line, in order; the rest over the client's pool."""

    def __init__(self, client: redis.asyncio.Redis, settings: RedisQueueSettings) -> None:
        self.client = client
        self.settings = settings
        self.home = ""
        """Name of the primary that is written to, in its present life; "" while there is none."""
        self._line = RedisLine(client, self._connected)
        self._moved = asyncio.Event()
        self._timeout = settings.redis_timeout_ms / 1000

    async def start(self) -> None:
        """Begins to send; Redis need not be there."""
        self._line.start()

    async def stop(self) -> None:
        """Ends; what waits raises StoreUnavailable."""
        await self._line.stop()

    @property
    def depth(self) -> int:
        """Commands waiting or under way."""
        return self._line.depth

    async def moved(self) -> None:
        """Returns when `home` has changed."""
        await self._moved.wait()

    async def probe(self, node: str, now_us: int) -> None:
        """Adds to the health stream of a node. Raises StoreUnavailable."""
        await self._line.ask("XADD", probe_key(node), "MAXLEN", 16, "*", "t", now_us, timeout=self._timeout)

    async def _connected(self, ask: Callable[..., Awaitable[Answer]]) -> None:
        home = name_of_primary(await ask("INFO", "replication"))
        for text in _TEXTS.values():
            await ask("SCRIPT", "LOAD", text)
        if home != self.home:
            self.home = home
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def append(
        self, groups: Mapping[tuple[StreamFamily.ValueType, int], Sequence[Item]]
    ) -> dict[tuple[StreamFamily.ValueType, int], tuple[EntryId, list[Outcome]] | Exception]:
        """Appends events of several slots in one round trip; each slot's in one step.

        Gives for each slot the id of its last entry before and the outcomes in order, or what went wrong:
        StoreUnavailable, redis.ResponseError."""
        calls = [self._append_slot(family, slot, items) for (family, slot), items in groups.items()]
        replies: list[Any]
        try:
            replies = await self._line.ask_all([_by_sha(*call) for call in calls], self._timeout)
            for number, reply in enumerate(replies):
                if isinstance(reply, redis.exceptions.NoScriptError):  # SCRIPT FLUSH: none of them was run
                    replies[number] = await self._in_full(*calls[number])
        except (StoreUnavailable, redis.ResponseError) as error:
            return dict.fromkeys(groups, error)
        return {slot: _outcomes(reply) for slot, reply in zip(groups, replies, strict=True)}

    def _append_slot(self, family: StreamFamily.ValueType, slot: int, items: Sequence[Item]) -> Script:
        keys = [slot_key(family, slot), first_key(family, slot), home_key(family, slot)]
        numbers: dict[str, int] = {}
        limits = (
            self.settings.stream_events,
            self.settings.slot_events,
            self._stream_idle_ms(family),
            self._retention_ms,
        )
        events: list[Argument] = []
        for item in items:
            number = numbers.get(item.key)
            if number is None:
                number = numbers[item.key] = len(numbers) + 1
                keys += (stream_key(family, slot, item.key), fence_key(family, slot, item.key))
            events += (number, item.seq, item.epoch, item.envelope, int(item.resume))
        return _APPEND, keys, lambda: [*limits, self.home, JUMP_MS, *events]

    async def fence(
        self, family: StreamFamily.ValueType, slot: int, fences: Sequence[tuple[str, int]]
    ) -> list[tuple[int, int]]:
        """Refuses lower epochs in streams of one slot; gives last seq and fence of each. Raises StoreUnavailable."""
        keys = [
            name
            for key, _ in fences
            for name in (stream_key(family, slot, key), fence_key(family, slot, key))
        ]
        epochs = [epoch for _, epoch in fences]
        reply = await self._run(_FENCE, keys, lambda: [self._stream_idle_ms(family), *epochs])
        return [(last, fence) for last, fence in reply]

    def _stream_idle_ms(self, family: StreamFamily.ValueType) -> int:
        """How long a stream without events is kept; 0: for ever."""
        return self.settings.stream_idle_s * 1000 if family == StreamFamily.STREAM_FAMILY_THREAD else 0

    @property
    def _retention_ms(self) -> int:
        return self.settings.stream_retention_s * 1000

    async def _run(self, sha: str, keys: Sequence[str], arguments: Callable[[], Sequence[Argument]]) -> Any:
        """Runs a script. Raises StoreUnavailable, redis.ResponseError."""
        try:
            return await self._line.ask_with(_by_sha(sha, keys, arguments), self._timeout)
        except redis.exceptions.NoScriptError:  # SCRIPT FLUSH
            return await self._in_full(sha, keys, arguments)

    async def _in_full(
        self, sha: str, keys: Sequence[str], arguments: Callable[[], Sequence[Argument]]
    ) -> Any:
        return await self._line.ask_with(
            lambda _: ["EVAL", _TEXTS[sha], len(keys), *keys, *arguments()], self._timeout
        )

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
        return [(entry_id.of_redis(entry), _value(fields)) for entry, fields in found]

    async def sweep(self, family: StreamFamily.ValueType, slots: Sequence[int], before_ms: int) -> int:
        """Removes what is older from the streams of slots; tells how many entries went."""
        gone = 0
        for at in range(0, len(slots), SWEEP_SLOTS):
            keys = [
                (slot_key(family, slot), first_key(family, slot)) for slot in slots[at : at + SWEEP_SLOTS]
            ]
            gone += sum(
                await asyncio.gather(*(self._run(_SWEEP, pair, lambda: [before_ms]) for pair in keys))
            )
        return gone

    async def close_stream(self, family: StreamFamily.ValueType, slot: int, key: str) -> None:
        """From now on the stream has the retention time to live."""
        await self.client.pexpire(stream_key(family, slot, key), self._retention_ms)
        await self.client.pexpire(fence_key(family, slot, key), self._retention_ms)

    async def enqueue(
        self, queue: str, entries: Sequence[tuple[str, bytes]], now_ms: int
    ) -> tuple[int, EntryId, list[EntryId | None]]:
        """Depth (-1: full, nothing was added), id of the last entry before, and for each entry its id, None for
        a repeat."""
        settings = self.settings
        limits = (now_ms, settings.queue_entries, settings.queue_memory_s * 1000, self._idle_ms(queue))
        added: list[Argument] = [part for entry in entries for part in entry]
        reply = await self._run(_ENQUEUE, queue_keys(queue), lambda: [*limits, self.home, JUMP_MS, *added])
        if reply[0] < 0:
            return -1, ORIGIN, []
        return reply[0], entry_id.parse(reply[1]), [entry_id.parse(e) if e else None for e in reply[2:]]

    async def acknowledge(self, queue: str, ids: Sequence[str], now_ms: int) -> int:
        """Removes entries; tells how many are left."""
        arguments: list[Argument] = [now_ms, self.settings.queue_memory_s * 1000, self._idle_ms(queue), *ids]
        depth: int = await self._run(_ACKNOWLEDGE, queue_keys(queue), lambda: arguments)
        return depth

    def _idle_ms(self, queue: str) -> int:
        if queue.startswith(_EPHEMERAL_QUEUES):
            return _EPHEMERAL_IDLE_MS
        return self.settings.queue_idle_s * 1000

    def _pipeline(self) -> Pipeline:
        return self.client.pipeline(transaction=False)


def _value(fields: Mapping[bytes, bytes]) -> bytes:
    return fields[b"e"]


def _by_sha(sha: str, keys: Sequence[str], arguments: Callable[[], Sequence[Argument]]) -> Command:
    return lambda _: ["EVALSHA", sha, len(keys), *keys, *arguments()]


def _outcomes(reply: Any) -> tuple[EntryId, list[Outcome]] | Exception:
    if isinstance(reply, Exception):
        return reply
    if isinstance(reply, BaseException):
        raise reply
    return entry_id.of_redis(reply[0]), [Outcome(*found) for found in reply[1:]]
