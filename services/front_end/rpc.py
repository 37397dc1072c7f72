"""The public contracts: a T-Library request is checked, counted, sent on, and answered with its event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from voice.front_end.v1.front_end_service_pb2 import GetStatusRequest, GetStatusResponse
from voice.front_end.v1.front_end_service_pb2_grpc import FrontEndServiceServicer
from voice.tlib.v1 import agent_control_service_pb2 as agent_control
from voice.tlib.v1 import call_control_service_pb2 as call_control
from voice.tlib.v1 import request_pb2 as requests
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceServicer
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceServicer
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse
from voice.tlib.v1.event_service_pb2_grpc import EventServiceServicer

from mesh import tenancy
from mesh.config_view import ConfigView
from mesh.errors import DomainError, Reason
from mesh.rates import Rates
from mesh.rq import Rq
from mesh.telemetry.metrics import Metrics
from services.front_end import validate
from services.front_end.agents import Agents
from services.front_end.calls import Calls
from services.front_end.stream import follow

Context = grpc.aio.ServicerContext[Any, Any]
R = TypeVar("R", bound=Message)
REQUEST_S = 5.0
"""How long a request may take when the client sets no deadline, seconds."""
LONGEST_S = 120.0
"""Longest deadline that is honoured, seconds."""


@dataclass
class Desk:
    """What the contracts of Front End are made of."""

    calls: Calls
    agents: Agents
    config: ConfigView
    rates: Rates
    metrics: Metrics

    def __post_init__(self) -> None:
        self._requests = self.metrics.counter("requests_total", "T-Library requests", ["request"])
        self._outcomes = self.metrics.counter("outcomes_total", "Requests answered", ["request", "result"])

    async def carry_out(
        self,
        kind: str,
        body: Any,
        context: Context,
        send: Callable[[requests.Request, float], Awaitable[Event]],
    ) -> Event:
        """Checks a request, sends it on under the client's name, answers with its event, the client's own again."""
        validate.request(body)
        self.admit(body.tenant)
        self._requests.labels(kind).inc()
        client = tenancy.caller().name
        message = requests.Request(client=client)
        forwarded = getattr(message, kind)
        forwarded.CopyFrom(body)
        # A request id is unique for its client only; from here on it must be so for the tenant.
        forwarded.request_id = f"{client}/{body.request_id}"
        result = "error"
        try:
            event = await send(message, _time_left(context))
            result = "ok"
        finally:
            self._outcomes.labels(kind, result).inc()
        if body.reference_id:
            event.reference_id = body.reference_id
        return event

    def admit(self, tenant: str) -> None:
        """Takes one request from the tenant's rate. Raises RATE_LIMITED, UNKNOWN_TENANT."""
        known = self.config.tenant(tenant)
        if known is None:
            raise DomainError(Reason.REASON_UNKNOWN_TENANT, f"no tenant is called {tenant!r}")
        if not self.rates.take(tenant, known.request_rate, time.monotonic()):
            raise DomainError(
                Reason.REASON_RATE_LIMITED, f"more than {known.request_rate} requests in a second"
            )

    async def on_call(self, kind: str, body: Any, context: Context) -> Event:
        """A request about a call that exists."""
        return await self.carry_out(
            kind,
            body,
            context,
            lambda request, left: self.calls.on_call(request, body.tenant, body.conn_id, left),
        )

    async def of_agent(self, kind: str, body: Any, context: Context) -> Event:
        """A request about an agent or DN."""
        return await self.carry_out(
            kind, body, context, lambda request, left: self.agents.request(request, body.tenant, left)
        )


def _time_left(context: Context) -> float:
    left = context.time_remaining()
    return REQUEST_S if left is None or left > LONGEST_S else max(0.05, left)


class CallControlRpc(CallControlServiceServicer):
    """voice.tlib.v1.CallControlService."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def MakeCall(
        self, request: requests.MakeCallRequest, context: Context
    ) -> call_control.MakeCallResponse:
        calls = self._desk.calls
        event = await self._desk.carry_out(
            "make_call",
            request,
            context,
            lambda message, left: calls.new_call(message, message.make_call, left),
        )
        return call_control.MakeCallResponse(event=event)

    async def AnswerCall(
        self, request: requests.AnswerCallRequest, context: Context
    ) -> call_control.AnswerCallResponse:
        return call_control.AnswerCallResponse(
            event=await self._desk.on_call("answer_call", request, context)
        )

    async def ReleaseCall(
        self, request: requests.ReleaseCallRequest, context: Context
    ) -> call_control.ReleaseCallResponse:
        return call_control.ReleaseCallResponse(
            event=await self._desk.on_call("release_call", request, context)
        )

    async def ClearCall(
        self, request: requests.ClearCallRequest, context: Context
    ) -> call_control.ClearCallResponse:
        return call_control.ClearCallResponse(event=await self._desk.on_call("clear_call", request, context))

    async def RouteCall(
        self, request: requests.RouteCallRequest, context: Context
    ) -> call_control.RouteCallResponse:
        return call_control.RouteCallResponse(event=await self._desk.on_call("route_call", request, context))

    async def AttachUserData(
        self, request: requests.AttachUserDataRequest, context: Context
    ) -> call_control.AttachUserDataResponse:
        event = await self._desk.on_call("attach_user_data", request, context)
        return call_control.AttachUserDataResponse(event=event)

    async def UpdateUserData(
        self, request: requests.UpdateUserDataRequest, context: Context
    ) -> call_control.UpdateUserDataResponse:
        event = await self._desk.on_call("update_user_data", request, context)
        return call_control.UpdateUserDataResponse(event=event)

    async def DeleteUserData(
        self, request: requests.DeleteUserDataRequest, context: Context
    ) -> call_control.DeleteUserDataResponse:
        event = await self._desk.on_call("delete_user_data", request, context)
        return call_control.DeleteUserDataResponse(event=event)

    async def DeletePair(
        self, request: requests.DeletePairRequest, context: Context
    ) -> call_control.DeletePairResponse:
        return call_control.DeletePairResponse(
            event=await self._desk.on_call("delete_pair", request, context)
        )

    async def DistributeEvent(
        self, request: requests.DistributeEventRequest, context: Context
    ) -> call_control.DistributeEventResponse:
        calls = self._desk.calls
        event = await self._desk.carry_out(
            "distribute_event",
            request,
            context,
            lambda message, left: calls.on_call(message, request.tenant, request.event.conn_id, left),
        )
        return call_control.DistributeEventResponse(event=event)


class AgentControlRpc(AgentControlServiceServicer):
    """voice.tlib.v1.AgentControlService."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def AgentLogin(
        self, request: requests.AgentLoginRequest, context: Context
    ) -> agent_control.AgentLoginResponse:
        return agent_control.AgentLoginResponse(
            event=await self._desk.of_agent("agent_login", request, context)
        )

    async def AgentLogout(
        self, request: requests.AgentLogoutRequest, context: Context
    ) -> agent_control.AgentLogoutResponse:
        return agent_control.AgentLogoutResponse(
            event=await self._desk.of_agent("agent_logout", request, context)
        )

    async def AgentReady(
        self, request: requests.AgentReadyRequest, context: Context
    ) -> agent_control.AgentReadyResponse:
        return agent_control.AgentReadyResponse(
            event=await self._desk.of_agent("agent_ready", request, context)
        )

    async def AgentNotReady(
        self, request: requests.AgentNotReadyRequest, context: Context
    ) -> agent_control.AgentNotReadyResponse:
        event = await self._desk.of_agent("agent_not_ready", request, context)
        return agent_control.AgentNotReadyResponse(event=event)

    async def SetDndOn(
        self, request: requests.SetDndOnRequest, context: Context
    ) -> agent_control.SetDndOnResponse:
        return agent_control.SetDndOnResponse(event=await self._desk.of_agent("set_dnd_on", request, context))

    async def SetDndOff(
        self, request: requests.SetDndOffRequest, context: Context
    ) -> agent_control.SetDndOffResponse:
        return agent_control.SetDndOffResponse(
            event=await self._desk.of_agent("set_dnd_off", request, context)
        )

    async def ReserveAgent(
        self, request: requests.ReserveAgentRequest, context: Context
    ) -> agent_control.ReserveAgentResponse:
        return agent_control.ReserveAgentResponse(
            event=await self._desk.of_agent("reserve_agent", request, context)
        )


class EventRpc(EventServiceServicer):
    """voice.tlib.v1.EventService."""

    def __init__(self, desk: Desk, rq: Rq, limit: int) -> None:
        """`limit`: subscriptions at once on this node."""
        self._desk = desk
        self._rq = rq
        self._limit = limit
        self.subscriptions = 0

    async def Subscribe(
        self, request: SubscribeRequest, context: Context
    ) -> AsyncIterator[SubscribeResponse]:
        validate.subscription(request)
        self._desk.admit(request.tenant)
        if self.subscriptions >= self._limit:
            raise DomainError(Reason.REASON_QUEUE_FULL, f"this node has {self._limit} subscriptions already")
        self.subscriptions += 1
        try:
            async for response in follow(self._rq, request, tenancy.caller().name):
                yield response
        finally:
            self.subscriptions -= 1


class FrontEndRpc(FrontEndServiceServicer):
    """voice.front_end.v1.FrontEndService."""

    def __init__(self, open_requests: Callable[[], int], subscriptions: Callable[[], int]) -> None:
        self._open_requests = open_requests
        self._subscriptions = subscriptions

    async def GetStatus(self, request: GetStatusRequest, context: Context) -> GetStatusResponse:
        return GetStatusResponse(open_requests=self._open_requests(), subscriptions=self._subscriptions())
