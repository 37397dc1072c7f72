"""What is done with every T-Library request: checked, counted, sent on under the client's name, answered with its event."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import Request

from mesh import tenancy
from mesh.config_view import ConfigView
from mesh.errors import DomainError, Reason
from mesh.rates import Rates
from mesh.telemetry.metrics import Metrics
from services.front_end import validate
from services.front_end.agents import Agents
from services.front_end.calls import Calls

A = TypeVar("A", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]
Send = Callable[[Request, float], Awaitable[Event]]
"""Sends a request on, with the seconds it may take."""

REQUEST_S: Final = 5.0
"""How long a request may take when the client sets no deadline, seconds."""
LONGEST_S: Final = 120.0
"""Longest deadline that is honoured, seconds."""
ANSWER_SHARE, ANSWER_MOST_S = 0.1, 0.25
"""What is kept of the client's time so that our answer (error 57 too) reaches it before it gives up: share, seconds."""

KINDS: Final = {
    field.message_type.name: field.name
    for field in Request.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.message_type is not None
}
"""Name of a request message -> its field in voice.tlib.v1.Request."""


class Desk:
    """Requests of all clients, to calls and to agents."""

    def __init__(
        self, calls: Calls, agents: Agents, config: ConfigView, metrics: Metrics, *, limit: int
    ) -> None:
        """`limit`: requests that may be open at once; further ones are refused with QUEUE_FULL."""
        self._calls = calls
        self._agents = agents
        self._config = config
        self._limit = limit
        self._rates = Rates()
        self._requests = metrics.counter("requests_total", "T-Library requests", ["request"])
        self._outcomes = metrics.counter("outcomes_total", "Requests answered", ["request", "result"])
        self._refused = metrics.counter("requests_refused_total", "Requests refused at the door", ["why"])
        self._seconds = metrics.histogram("request_seconds", "From a request to its answer", ["request"])
        self.open = 0
        """Requests that have no answer yet."""

    async def on_call(self, body: Any, context: Context, answer: Callable[..., A]) -> A:
        """A request about a call that exists."""
        conn_id = body.event.conn_id if body.DESCRIPTOR.name == "DistributeEventRequest" else body.conn_id

        async def send(request: Request, left: float) -> Event:
            return await self._calls.on_call(request, body.tenant, conn_id, left)

        return answer(event=await self._carry_out(body, context, send))

    async def new_call(self, body: Any, context: Context, answer: Callable[..., A]) -> A:
        """A request that makes a call."""

        async def send(request: Request, left: float) -> Event:
            return await self._calls.new_call(request, request.make_call, left)

        return answer(event=await self._carry_out(body, context, send))

    async def of_agent(self, body: Any, context: Context, answer: Callable[..., A]) -> A:
        """A request about an agent or DN."""

        async def send(request: Request, left: float) -> Event:
            return await self._agents.request(request, body.tenant, left)

        return answer(event=await self._carry_out(body, context, send))

    def admit(self, tenant: str) -> None:
        """Takes one request from the tenant's rate. Raises RATE_LIMITED, UNKNOWN_TENANT."""
        known = self._config.tenant(tenant)
        if known is None:
            raise DomainError(Reason.REASON_UNKNOWN_TENANT, f"no tenant is called {tenant!r}")
        if not self._rates.take(tenant, known.request_rate, time.monotonic()):
            self._refused.labels("rate").inc()
            raise DomainError(
                Reason.REASON_RATE_LIMITED, f"more than {known.request_rate} requests in a second"
            )

    async def _carry_out(self, body: Any, context: Context, send: Send) -> Event:
        kind = KINDS[body.DESCRIPTOR.name]
        validate.request(body)
        self.admit(body.tenant)
        if self.open >= self._limit:
            self._refused.labels("full").inc()
            raise DomainError(
                Reason.REASON_QUEUE_FULL, f"{self._limit} requests are open on this node already"
            )
        message = _forwarded(kind, body)
        began, result = time.monotonic(), "error"
        self._requests.labels(kind).inc()
        self.open += 1
        try:
            event = await send(message, _time_left(context))
            result = "ok"
        finally:
            self.open -= 1
            self._outcomes.labels(kind, result).inc()
            self._seconds.labels(kind).observe(time.monotonic() - began)
        if body.reference_id:
            event.reference_id = body.reference_id
        return event


def _forwarded(kind: str, body: Any) -> Request:
    """The request as it goes on: its id, unique for its client only, is made so for the tenant."""
    client = tenancy.caller().name
    message = Request(client=client)
    forwarded = getattr(message, kind)
    forwarded.CopyFrom(body)
    forwarded.request_id = f"{client}/{body.request_id}"
    return message


def _time_left(context: Context) -> float:
    left = context.time_remaining()
    if left is None or left > LONGEST_S:
        left = REQUEST_S
    return max(0.05, left - min(left * ANSWER_SHARE, ANSWER_MOST_S))
