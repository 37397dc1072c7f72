"""Traces in Redis: written beside the sessions, off their way, and kept for some time after their end.

`{orchestration:trace:<session id>}:steps`   stream: id "<step>-1", the end "<step>-2"; fields d (TraceStep), t (tenant)

A trace is not state: nothing waits for its write, it is not fenced, and what cannot be written is dropped and counted. A
step that an heir does again has an id that is there already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio
import redis.exceptions
from structlog.typing import FilteringBoundLogger
from voice.orchestration.v1.orchestration_service_pb2 import GetTraceResponse, TraceStep

from mesh.errors import DomainError, Reason
from mesh.telemetry.metrics import Metrics

MAX_QUEUE = 10_000
"""Entries that wait to be written; more are dropped."""
BATCH = 32
"""Entries written together: making them takes a tenth of a millisecond each, and sessions wait meanwhile."""
GATHER_S = 0.02
"""How long the first entry waits for others, seconds: writing one alone costs as much as a step."""
LIVE_S = 7 * 86_400
"""How long a trace is kept after the last step of a session that did not tell its end, seconds."""
_Row = tuple[bytes, dict[bytes, bytes]]
_REPEATED = "equal or smaller"
"""What Redis says of an entry whose id is there already."""


@dataclass(frozen=True, slots=True)
class _Entry:
    session_id: str
    tenant: str
    made: Callable[[], TraceStep]


class TraceStore:
    """Writes and reads traces."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        metrics: Metrics,
        log: FilteringBoundLogger,
        *,
        steps: int,
        keep_s: int,
    ) -> None:
        """`steps`: the last ones of a session that are kept; `keep_s`: how long after its end, seconds."""
        self._client, self._log = client, log
        self._steps, self._keep_s = steps, keep_s
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue(MAX_QUEUE)
        self._dropped = metrics.counter("trace_dropped_total", "Steps that are missing in traces", ["why"])
        metrics.queue("trace", self._queue.qsize, "Steps that wait to be written to traces")

    def write(self, session_id: str, tenant: str, made: Callable[[], TraceStep]) -> None:
        """Takes a step, which is made when it is written; returns at once."""
        try:
            self._queue.put_nowait(_Entry(session_id, tenant, made))
        except asyncio.QueueFull:
            self._dropped.labels("queue").inc()

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            entries = [await self._queue.get()]
            await asyncio.sleep(GATHER_S)
            while not self._queue.empty() and len(entries) < BATCH:
                entries.append(self._queue.get_nowait())
            await self._store(entries)

    async def _store(self, entries: list[_Entry]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for entry in entries:
            step = entry.made()
            key, ended = _key(entry.session_id), bool(step.outcome)
            fields: dict[str, bytes | str] = {"d": step.SerializeToString(), "t": entry.tenant}
            entry_id = f"{step.step}-{2 if ended else 1}"
            pipeline.xadd(key, fields, id=entry_id, maxlen=self._steps, approximate=True)  # type: ignore[arg-type]
            pipeline.expire(key, self._keep_s if ended else LIVE_S)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except (redis.exceptions.RedisError, OSError) as error:
            self._dropped.labels("redis").inc(len(entries))
            self._log.warning("steps are missing in traces", steps=len(entries), why=str(error))
            return
        refused = [a for a in answers[::2] if isinstance(a, Exception) and _REPEATED not in str(a)]
        if refused:
            self._dropped.labels("redis").inc(len(refused))
            self._log.warning("steps are missing in traces", steps=len(refused), why=str(refused[0]))

    async def read(self, tenant: str, session_id: str, after: int | None, limit: int) -> GetTraceResponse:
        """A session's steps after a step (None: from the oldest kept). Raises UNKNOWN_OBJECT, DEPENDENCY_UNAVAILABLE."""
        key = _key(session_id)
        start = "-" if after is None else f"({after}-2"
        try:
            first: list[_Row] = _rows(await self._client.xrange(key, count=1))
            rows = _rows(await self._client.xrange(key, start, "+", count=limit))
        except (redis.exceptions.RedisError, OSError) as error:
            raise DomainError(
                Reason.REASON_DEPENDENCY_UNAVAILABLE, "traces cannot be read now", dependency="redis"
            ) from error
        if not first or first[0][1][b"t"].decode() != tenant:
            raise DomainError(Reason.REASON_UNKNOWN_OBJECT, f"no trace of session {session_id!r} is kept")
        steps = [TraceStep.FromString(fields[b"d"]) for _, fields in rows]
        return GetTraceResponse(steps=steps, truncated=not first[0][0].startswith(b"0-"))

    async def exists(self, session_id: str) -> bool:
        """Whether the session has begun, as far as traces know; False when that cannot be known now."""
        try:
            return bool(await self._client.exists(_key(session_id)))
        except (redis.exceptions.RedisError, OSError) as error:
            self._log.warning("trace not looked up", session=session_id, why=str(error))
            return False


def _key(session_id: str) -> str:
    return f"{{orchestration:trace:{session_id}}}:steps"


def _rows(answer: Any) -> list[_Row]:
    """XRANGE's answer; redis-py types it for every protocol and decoding there is."""
    return list(answer or ())
