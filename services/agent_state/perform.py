"""Carries effects out, after the write that holds them; each under an id of its own, so that again is not twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import grpc
import redis.asyncio
from voice.record.v1.agent_pb2 import AgentEffect

from mesh.log import LogFull, RequestLog
from mesh.rq import AGENT, AppendRefused, PublisherFull, Rq
from mesh.rq.nodes import detached
from mesh.telemetry import Metrics, logger
from services.agent_state.logins import Logins

RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 2.0

Done = Callable[[str], None]


class Performer:
    """Effects of a slot leave in the order they were caused."""

    def __init__(self, rq: Rq, log: RequestLog, logins: Logins, metrics: Metrics) -> None:
        self._publisher = rq.publisher(AGENT)
        self._rq = rq
        self._agents = log
        self._logins = logins
        self._log = logger("perform")
        self._running: set[asyncio.Task[None]] = set()
        self._performed = metrics.counter("effects_total", "Effects carried out", ["kind"])
        metrics.queue("effects", lambda: len(self._running), "Effects under way")

    def perform(self, effect: AgentEffect, epoch: int, owned: Callable[[], bool], done: Done) -> None:
        """Begins an effect; `done(id)` when it has been carried out. It is tried again while the slot is `owned`."""
        kind = effect.WhichOneof("effect") or ""
        first = self._begin(effect, kind, epoch)
        task = detached(self._finish(effect, kind, first, epoch, owned, done), f"{kind} {effect.id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        """Leaves what is under way to the heir, who finds it pending."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, effect: AgentEffect, kind: str, epoch: int) -> Awaitable[object] | None:
        """Hands the effect over in the present turn, so that effects leave in order; None when that failed."""
        try:
            if kind == "publish":
                effect.publish.epoch = epoch
                return self._publisher.append(effect.publish)
            if kind == "answer":
                return self._rq.enqueue(effect.answer.queue, effect.id, effect.answer.outcome)
            if kind == "forward":
                entry = effect.forward
                return self._agents.append(entry.tenant, entry.subject, entry)
        except (PublisherFull, LogFull) as error:
            self._log.warning("effect waits", effect=effect.id, kind=kind, error=str(error))
            return None
        return self._logins.end(effect.end_login)

    async def _finish(
        self,
        effect: AgentEffect,
        kind: str,
        attempt: Awaitable[object] | None,
        epoch: int,
        owned: Callable[[], bool],
        done: Done,
    ) -> None:
        pause = RETRY_S
        while True:
            try:
                if attempt is not None:
                    await attempt
                    break
            except AppendRefused as error:
                # Another owner publishes this stream now, or it was published before under the same place.
                self._log.error("event refused", effect=effect.id, error=str(error))
                break
            except (LogFull, redis.RedisError, OSError, grpc.aio.AioRpcError) as error:
                self._log.warning("effect failed", effect=effect.id, kind=kind, error=repr(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)
            if not owned():
                return
            attempt = self._begin(effect, kind, epoch)
        self._performed.labels(kind).inc()
        done(effect.id)
