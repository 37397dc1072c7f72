"""The ordered log of agent requests, partitioned by agent slot: the interface, and its engine on Redis Streams.

log = RedisRequestLog(service.redis, service.metrics)
await log.append("t1", "agent:1001", AgentInput(input_id=..., request=...))       # slot from tenant and subject
reader = log.reader()                                     # Agent State: assigned slots with its own cursors
reader.add(slot, cursor)
async for batch in reader:                                # LogBatch: slot, inputs, cursor
    ...
log.trim(slot, cursor)                                    # what is before a stored cursor may go

A Kafka engine has the same three operations: produce to partition = slot, assign, and offsets kept by the consumer.

Redis acknowledges before its replica has an entry. When another primary answers, what was acknowledged in the last seconds and is not
there is appended again before anything else, in order (docs/decisions/0071); consumers know repeats by their input_id.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Protocol

import redis.asyncio
from google.protobuf.message import DecodeError
from voice.agent_state.v1.agent_pb2 import AgentInput

from mesh.identifiers import agent_slot
from mesh.redis_line import Answer, RedisLine, StoreUnavailable
from mesh.redis_primary import name_of_primary
from mesh.rq.blocking_read import BlockingRead, Entry
from mesh.rq.nodes import detached
from mesh.rq.recent import Recent
from mesh.telemetry import logger
from mesh.telemetry.metrics import Metrics

READ_COUNT: Final = 256
FLUSH_ENTRIES: Final = 256
BACKLOG_ENTRIES: Final = 15_000
APPEND_S: Final = 2.0
"""Longest wait for Redis, seconds; a repeat after a broken connection may store an entry twice."""
RETRY_S: Final = 0.1
JUMP_MS: Final = 1000
"""So far positions jump ahead under a new primary, so that no cursor lies beyond them: clocks differ by half a second at most."""
RECALL_ENTRIES: Final = 100

_POSITION: Final = """
local function position()
  if redis.call('GET', KEYS[2]) == ARGV[1] then return '*' end
  redis.call('SET', KEYS[2], ARGV[1])
  local time, last = redis.call('TIME'), redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  local jump = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
  if last and tonumber(string.match(last[1], '^%d+')) >= jump then return '*' end
  return string.format('%.0f-0', jump)
end
"""
_APPEND: Final = (
    _POSITION
    + """
-- KEYS: log of a slot, store it was written to last. ARGV: store, milliseconds to jump, entries at most, entry.
-- Gives its position, or '' when the log is full.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return '' end
return redis.call('XADD', KEYS[1], position(), 'e', ARGV[4])
"""
)
_RECALL: Final = (
    _POSITION
    + """
-- KEYS as above. ARGV: store, milliseconds to jump, then position and entry of what was acknowledged. Gives how many were lost:
-- those are added again. (One that is not there because it was used and trimmed is added too; its consumer knows it.)
local lost = 0
for i = 3, #ARGV, 2 do
  if not redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1] then
    redis.call('XADD', KEYS[1], position(), 'e', ARGV[i + 1])
    lost = lost + 1
  end
end
return lost
"""
)
_SHA: Final = sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()

_log = logger("request_log")


def log_key(slot: int) -> str:
    """The log of an agent slot."""
    return f"{{log:{slot}}}:requests"


def home_key(slot: int) -> str:
    """Name of the primary that the log was written to last."""
    return f"{{log:{slot}}}:home"


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
        self._line = RedisLine(client, self._connected)
        self._started = False
        self._home = ""
        self._recent: Recent[tuple[int, bytes, bytes]] = Recent()
        self._waiting: deque[tuple[int, bytes, asyncio.Future[str]]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._readers: list[RedisLogReader] = []
        if metrics is not None:
            metrics.queue("request_log_backlog", lambda: len(self._waiting), "Entries waiting for Redis")
        self._appended = metrics.counter("request_log_appended_total", "Entries added") if metrics else None
        self._recalled = (
            metrics.counter("request_log_recalled_total", "Entries lost with a primary and added again")
            if metrics
            else None
        )

    async def start(self) -> None:
        """Begins to send, at the latest with the first entry; Redis need not be there."""
        if not self._started:
            self._started = True
            self._line.start()

    async def stop(self) -> None:
        """Sends what waits and ends readers."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        if self._started:
            await self._line.stop()
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
        await self.start()
        await asyncio.sleep(0)  # the rest of this turn goes along
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), FLUSH_ENTRIES))]
            sent = (self._send(slot, raw) for slot, raw, _ in batch)
            for (slot, raw, done), reply in zip(
                batch, await asyncio.gather(*sent, return_exceptions=True), strict=True
            ):
                self._settle(slot, raw, done, reply)

    async def _send(self, slot: int, raw: bytes) -> Answer:
        """Position of an entry, b"" when the log is full."""
        keys = (2, log_key(slot), home_key(slot))
        try:
            return await self._line.ask_with(
                lambda _: ("EVALSHA", _SHA, *keys, self._home, JUMP_MS, self._limit, raw), APPEND_S
            )
        except redis.exceptions.NoScriptError:  # SCRIPT FLUSH
            return await self._line.ask_with(
                lambda _: ("EVAL", _APPEND, *keys, self._home, JUMP_MS, self._limit, raw), APPEND_S
            )

    def _settle(self, slot: int, raw: bytes, done: asyncio.Future[str], reply: Any) -> None:
        if isinstance(reply, bytes) and reply:
            self._recent.add((slot, reply, raw), time.monotonic())
            if self._appended is not None:
                self._appended.inc()
        if done.done():
            return
        if isinstance(reply, StoreUnavailable):
            done.set_exception(redis.ConnectionError(reply.message))
        elif isinstance(reply, BaseException):
            done.set_exception(reply)
        elif not reply:
            done.set_exception(LogFull(f"the log of slot {slot} has {self._limit} entries"))
        else:
            done.set_result(reply.decode())

    async def _connected(self, ask: Callable[..., Awaitable[Answer]]) -> None:
        home = name_of_primary(await ask("INFO", "replication"))
        await ask("SCRIPT", "LOAD", _APPEND)
        if self._home not in ("", home):
            await self._recall(ask, home)
        self._home = home

    async def _recall(self, ask: Callable[..., Awaitable[Answer]], home: str) -> None:
        """Another primary answers: what it lacks of what was acknowledged is added, before anything else is."""
        by_slot: dict[int, list[bytes]] = defaultdict(list)
        for slot, position, raw in self._recent:
            by_slot[slot] += (position, raw)
        lost = 0
        for slot, parts in by_slot.items():
            for at in range(0, len(parts), 2 * RECALL_ENTRIES):
                some = parts[at : at + 2 * RECALL_ENTRIES]
                lost += await ask("EVAL", _RECALL, 2, log_key(slot), home_key(slot), home, JUMP_MS, *some)
        if self._recalled is not None:
            self._recalled.inc(lost)
        _log.warning("another redis answers", acknowledged=len(self._recent), lost=lost)


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
