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

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentInput

from mesh.telemetry.metrics import Metrics


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
        raise NotImplementedError

    async def start(self) -> None:
        """Loads the scripts."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Ends readers and sends what waits."""
        raise NotImplementedError

    def append(self, tenant: str, subject: str, entry: AgentInput) -> Awaitable[str]:
        raise NotImplementedError

    def reader(self) -> LogReader:
        raise NotImplementedError

    def trim(self, slot: int, cursor: str) -> Awaitable[None]:
        raise NotImplementedError
