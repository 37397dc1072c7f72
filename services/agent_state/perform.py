"""Carries effects out, after the write that holds them; each under an id of its own, so that again is not twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import grpc
import redis.asyncio
from voice.error.v1.reason_pb2 import Reason
from voice.record.v1.agent_pb2 import AgentEffect

from mesh.log import LogFull, RequestLog
from mesh.rq import AGENT, AppendRefused, PublisherFull, Rq
from mesh.rq.nodes import detached
from mesh.telemetry import Metrics, logger
from services.agent_state.logins import Logins

RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 2.0
PASSING: Final = frozenset({Reason.REASON_SEQUENCE_GAP, Reason.REASON_STALE_EPOCH})
"""An event before it is still to come; or the slot has a new owner, of which we shall hear."""
AFTER_S: Final = 1.0
"""How long the answer to a logout waits for Config at most, seconds."""

Done = Callable[[str], None]
May = Callable[[], Awaitable[bool]]
"""Whether effects of the slot may still leave: they are begun behind the write that holds them, and pass this later on."""


class Performer:
    """Effects of a slot leave in the order they were caused."""

    def __init__(self, rq: Rq, log: RequestLog, logins: Logins, node: str, metrics: Metrics) -> None:
        """`node`: our incarnation, the publisher of what an heir publishes for its predecessor too."""
        self._publisher = rq.publisher(AGENT)
        self._rq = rq
        self._agents = log
        self._logins = logins
        self._node = node
        self._log = logger("perform")
        self._running: set[asyncio.Task[None]] = set()
        self._performed = metrics.counter("effects_total", "Effects carried out", ["kind"])
        metrics.queue("effects", lambda: len(self._running), "Effects under way")

    def perform(self, effects: Sequence[AgentEffect], epoch: int, may: May, done: Done) -> None:
        """Begins effects; `done(id)` when one has been carried out. They are tried again while they `may`."""
        ending: dict[str, asyncio.Task[None]] = {}
        for effect in effects:
            kind = effect.WhichOneof("effect") or ""
            agent = effect.answer.outcome.event.agent_id if kind == "answer" else ""
            after = ending.get(agent)
            first = None if after else self._begin(effect, kind, epoch)
            work = self._finish(effect, kind, first, epoch, may, done, after)
            task = detached(work, f"{kind} {effect.id}")
            if kind == "end_login":  # whoever is told that the agent has logged out finds it so in Config
                ending[effect.end_login.agent_id] = task
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def forget(self, stream_keys: Collection[str]) -> None:
        """These agents and DNs have another owner: nothing of theirs is published from here any more."""
        self._publisher.forget(stream_keys)

    async def stop(self) -> None:
        """Leaves what is under way to the heir, who finds it pending."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _begin(self, effect: AgentEffect, kind: str, epoch: int) -> Awaitable[object] | None:
        """Hands the effect over in the present turn, so that effects leave in order; None when that failed."""
        try:
            if kind == "publish":
                effect.publish.epoch, effect.publish.node = epoch, self._node
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
        may: May,
        done: Done,
        after: asyncio.Task[None] | None,
    ) -> None:
        if after is not None:
            await asyncio.wait({after}, timeout=AFTER_S)
            if not await may():
                return
            attempt = self._begin(effect, kind, epoch)
        pause = RETRY_S
        while True:
            try:
                if attempt is not None:
                    await attempt
                    break
            except AppendRefused as error:
                self._log.error("event refused", effect=effect.id, error=str(error))
                if error.reason not in PASSING:
                    break  # there is another event in its place, or it is none: again would be the same
            except (LogFull, redis.RedisError, OSError, grpc.aio.AioRpcError) as error:
                self._log.warning("effect failed", effect=effect.id, kind=kind, error=repr(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)
            if not await may():
                return
            attempt = self._begin(effect, kind, epoch)
        self._performed.labels(kind).inc()
        done(effect.id)
