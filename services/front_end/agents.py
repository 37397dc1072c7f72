"""Agent requests: into the ordered log, under the agent's or the DN's slot; the outcome comes back through our queue."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import redis
from voice.agent_state.v1.agent_pb2 import AgentInput, RequestOutcome
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import Request

from mesh.config_view import ConfigView
from mesh.errors import DomainError, Reason
from mesh.log import LogFull, RequestLog
from mesh.telemetry import current_traceparent
from services.front_end.outcomes import Outcomes

ON_DEVICE: Final = frozenset({"set_dnd_on", "set_dnd_off"})
"""Requests about a DN rather than the agent on it."""
RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 0.5


class Agents:
    """Writes agent requests and waits for their outcomes."""

    def __init__(self, log: RequestLog, outcomes: Outcomes, config: ConfigView, reply_queue: str) -> None:
        self._log = log
        self._outcomes = outcomes
        self._config = config
        self._reply_queue = reply_queue

    async def request(self, request: Request, tenant: str, timeout_s: float) -> Event:
        """Carries out a request; gives the event that tells its success. Raises DomainError."""
        kind = request.WhichOneof("body")
        body = getattr(request, kind or "")
        subject = self._subject(str(kind), tenant, body.dn, body.agent_id)
        entry = AgentInput(
            input_id=f"{tenant}/{body.request_id}",
            tenant=tenant,
            subject=subject,
            time_us=time.time_ns() // 1000,
            traceparent=current_traceparent(),
            reply_queue=self._reply_queue,
            request=request,
        )
        outcome = await self._outcome(entry, body.request_id, timeout_s)
        if outcome.reason:
            raise DomainError(outcome.reason, outcome.message)
        return outcome.event

    async def _outcome(self, entry: AgentInput, request_id: str, timeout_s: float) -> RequestOutcome:
        """Puts the entry into the log and waits. Raises TIMEOUT, DEPENDENCY_UNAVAILABLE, QUEUE_FULL."""
        failures: list[Exception] = []
        with self._outcomes.expect(entry.tenant, request_id) as future:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._append(entry, failures)
                    return await future
            except LogFull as error:
                raise DomainError(Reason.REASON_QUEUE_FULL, "the log of agent requests is full") from error
            except TimeoutError as error:
                if failures:
                    raise DomainError(
                        Reason.REASON_DEPENDENCY_UNAVAILABLE,
                        f"the log of agent requests could not be written in {timeout_s:.1f} s",
                        dependency="redis",
                    ) from failures[-1]
                text = f"no outcome in {timeout_s:.1f} s; the request may still be carried out, ask again with the same id"
                raise DomainError(Reason.REASON_TIMEOUT, text) from error

    async def _append(self, entry: AgentInput, failures: list[Exception]) -> None:
        """Until it is in the log: an entry that is in it twice, because Redis failed to say so, acts once by its id."""
        pause = RETRY_S
        while True:
            try:
                await self._log.append(entry.tenant, entry.subject, entry)
            except (redis.RedisError, OSError) as error:
                failures.append(error)
            else:
                failures.clear()
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)

    def _subject(self, kind: str, tenant: str, dn: str, agent_id: str) -> str:
        if kind in ON_DEVICE:
            return f"dn:{dn}"
        if not agent_id:
            login = self._config.login_on(tenant, dn)
            if login is None:
                raise DomainError(Reason.REASON_AGENT_NOT_LOGGED_IN, f"no agent is logged in on DN {dn!r}")
            agent_id = login.agent_id
        return f"agent:{agent_id}"
