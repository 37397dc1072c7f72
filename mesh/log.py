"""The ordered log of agent requests, partitioned by agent slot: the interface, and its engine on Redis Streams.

log = RedisRequestLog(service.redis, service.metrics)
await log.append("t1", "agent:1001", AgentInput(input_id=..., request=...))       # slot from tenant and subject
reader = log.reader()                                     # Agent State: assigned slots with its own cursors
reader.add(slot, cursor)
async for batch in reader:                                # LogBatch: slot, inputs, cursor
    ...
log.trim(slot, cursor)                                    # what is before a stored cursor may go

A Kafka engine has the same three operations: produce to partition = slot, assign, and offsets kept by the consumer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Protocol

import redis.asyncio
from google.protobuf.message import DecodeError
from voice.agent_state.v1.agent_pb2 import AgentInput

from mesh.identifiers import agent_slot
from mesh.rq.blocking_read import BlockingRead, Entry
from mesh.rq.nodes import detached
from mesh.telemetry import logger
from mesh.telemetry.metrics import Metrics

READ_COUNT: Final = 256
FLUSH_ENTRIES: Final = 512
BACKLOG_ENTRIES: Final = 50_000
RETRY_S: Final = 0.1

_APPEND: Final = """
-- KEYS: log of a slot. ARGV: entries at most, entry. Gives its position, or '' when the log is full.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return '' end
return redis.call('XADD', KEYS[1], '*', 'e', ARGV[2])
"""
_SHA: Final = sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()

_log = logger("request_log")


def log_key(slot: int) -> str:
    """The log of an agent slot."""
    return f"{{log:{slot}}}:requests"


class LogFull(Exception):
    """The slot's log has as many entries as it may: its consumer is behind. Nothing was added."""


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Entries of one slot."""

    slot: int
    inputs: Sequence[AgentInput]
    """In the order of the log."""
    cursor: str
    """Go on after this batch with this cursor: keep it in the same fenced write as what the batch changed."""


class LogReader(Protocol):
    """An asynchronous iterator of LogBatch over a changing set of slots."""

    def add(self, slot: int, cursor: str) -> None:
        """Reads a slot from a cursor on; "0" is the oldest kept."""

    def remove(self, slot: int) -> None:
        """Reads the slot no longer; no batch of it is delivered from now on."""

    def __aiter__(self) -> LogReader: ...

    async def __anext__(self) -> LogBatch:
        """The next batch; waits for one."""

    async def close(self) -> None:
        """Ends the reader."""


class RequestLog(Protocol):
    """An ordered log partitioned by agent slot."""

    def append(self, tenant: str, subject: str, entry: AgentInput) -> Awaitable[str]:
        """Adds an entry; awaiting gives its position when it is stored. Tenant and subject ("agent:<id>",
        "dn:<number>") are filled in when the entry has none, and choose the slot. Entries of one turn of the loop
        are sent together, in order. Raises LogFull, ValueError, redis.RedisError (whether it is stored is unknown
        then: append again under the same input_id)."""

    def reader(self) -> LogReader:
        """A reader, of no slot at first."""

    def trim(self, slot: int, cursor: str) -> Awaitable[None]:
        """Entries up to a stored cursor are no longer needed."""


class RedisRequestLog:
    """RequestLog on Redis Streams: `{log:<slot>}:requests`."""

    def __init__(
        self, client: redis.asyncio.Redis, metrics: Metrics | None = None, *, limit: int = 50_000
    ) -> None:
        """`limit`: entries of a slot at most."""
        self._client = client
        self._limit = limit
        self._waiting: deque[tuple[int, bytes, asyncio.Future[str]]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._readers: list[RedisLogReader] = []
        if metrics is not None:
            metrics.queue("request_log_backlog", lambda: len(self._waiting), "Entries waiting for Redis")
        self._appended = metrics.counter("request_log_appended_total", "Entries added") if metrics else None

    async def start(self) -> None:
        """Loads the script. Raises redis.RedisError."""
        await self._client.script_load(_APPEND)

    async def stop(self) -> None:
        """Sends what waits and ends readers."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        for reader in self._readers:
            await reader.close()

    def append(self, tenant: str, subject: str, entry: AgentInput) -> asyncio.Future[str]:
        """See RequestLog.append."""
        entry.tenant = entry.tenant or tenant
        entry.subject = entry.subject or subject
        if (entry.tenant, entry.subject) != (tenant, subject):
            raise ValueError(f"entry of {entry.tenant} {entry.subject} for {tenant} {subject}")
        if not entry.input_id or entry.WhichOneof("body") is None:
            raise ValueError("an entry needs input_id and body")
        if len(self._waiting) >= BACKLOG_ENTRIES:
            raise LogFull(f"{len(self._waiting)} entries wait for Redis")
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((agent_slot(tenant, subject), entry.SerializeToString(), done))
        if self._flushing is None or self._flushing.done():
            self._flushing = detached(self._flush(), "request log")
        return done

    def reader(self) -> RedisLogReader:
        """See RequestLog.reader."""
        reader = RedisLogReader(self._client)
        self._readers.append(reader)
        return reader

    async def trim(self, slot: int, cursor: str) -> None:
        """See RequestLog.trim. The entry at the cursor stays."""
        await self._client.xtrim(log_key(slot), minid=cursor, approximate=False)

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # the rest of this turn goes along
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), FLUSH_ENTRIES))]
            try:
                replies = await self._send(batch)
            except (redis.RedisError, OSError) as error:
                replies = [error] * len(batch)
            for (slot, _, done), reply in zip(batch, replies, strict=True):
                self._settle(slot, done, reply)

    async def _send(self, batch: Sequence[tuple[int, bytes, asyncio.Future[str]]]) -> list[Any]:
        replies = await self._attempt(batch)
        if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
            await self.start()  # a new primary knows no scripts; it has then refused the whole batch
            replies = await self._attempt(batch)
        return replies

    async def _attempt(self, batch: Sequence[tuple[int, bytes, asyncio.Future[str]]]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for slot, raw, _ in batch:
            pipe.evalsha(_SHA, 1, log_key(slot), self._limit, raw)
        return await pipe.execute(raise_on_error=False)

    def _settle(self, slot: int, done: asyncio.Future[str], reply: Any) -> None:
        if done.done():
            return
        if isinstance(reply, BaseException):
            done.set_exception(reply)
        elif not reply:
            done.set_exception(LogFull(f"the log of slot {slot} has {self._limit} entries"))
        else:
            done.set_result(reply.decode())
            if self._appended is not None:
                self._appended.inc()


class RedisLogReader:
    """LogReader on Redis Streams: one blocking read for all its slots, on a connection of its own."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._read = BlockingRead(client, READ_COUNT)
        self._cursors: dict[int, str] = {}
        self._slots: dict[str, int] = {}
        self._ready: deque[LogBatch] = deque()
        self._added = asyncio.Event()
        self._closed = False

    def add(self, slot: int, cursor: str) -> None:
        """See LogReader.add."""
        self._cursors[slot] = cursor
        self._slots[log_key(slot)] = slot
        self._drop(slot)
        self._read.remove(log_key(slot))
        self._read.put(log_key(slot), cursor)
        self._added.set()

    def remove(self, slot: int) -> None:
        """See LogReader.remove."""
        self._cursors.pop(slot, None)
        self._slots.pop(log_key(slot), None)
        self._read.remove(log_key(slot))
        self._drop(slot)

    def __aiter__(self) -> RedisLogReader:
        return self

    async def __anext__(self) -> LogBatch:
        """See LogReader.__anext__."""
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            self._added.clear()
            if not self._cursors:
                await self._added.wait()
                continue
            try:
                await self._more()
            except (redis.RedisError, OSError) as error:
                if self._closed:
                    raise StopAsyncIteration from None
                _log.warning("the log cannot be read", error=repr(error))
                await asyncio.sleep(RETRY_S)
        return self._ready.popleft()

    async def close(self) -> None:
        """See LogReader.close."""
        self._closed = True
        self._ready.clear()
        self._added.set()
        self._read.interrupt()
        await self._read.close()

    def _drop(self, slot: int) -> None:
        self._ready = deque(batch for batch in self._ready if batch.slot != slot)

    async def _more(self) -> None:
        asked = dict(self._cursors)
        for key, entries in await self._read.read():
            slot = self._slots.get(key)
            # A slot removed, or given another cursor, while Redis was read: not this answer's business.
            if slot is not None and self._cursors[slot] == asked.get(slot):
                cursor = self._cursors[slot] = entries[-1][0].decode()
                self._read.put(key, cursor)
                self._ready.append(LogBatch(slot, _decode(slot, entries), cursor))


def _decode(slot: int, entries: Sequence[Entry]) -> list[AgentInput]:
    inputs = []
    for position, raw in entries:
        try:
            inputs.append(AgentInput.FromString(raw))
        except DecodeError as error:
            _log.error("unreadable entry", slot=slot, position=position.decode(), error=repr(error))
    return inputs
