"""The public contracts. What is done with a request is in desk.py, with a subscription in stream.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from voice.front_end.v1.front_end_service_pb2 import GetStatusRequest, GetStatusResponse
from voice.front_end.v1.front_end_service_pb2_grpc import FrontEndServiceServicer
from voice.tlib.v1 import agent_control_service_pb2 as agent_control
from voice.tlib.v1 import call_control_service_pb2 as call_control
from voice.tlib.v1 import request_pb2 as pb
from voice.tlib.v1.agent_control_service_pb2_grpc import AgentControlServiceServicer
from voice.tlib.v1.call_control_service_pb2_grpc import CallControlServiceServicer
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse
from voice.tlib.v1.event_service_pb2_grpc import EventServiceServicer

from mesh import tenancy
from mesh.errors import DomainError, Reason
from mesh.rq import Rq
from services.front_end import validate
from services.front_end.desk import Context, Desk
from services.front_end.stream import follow


class CallControlRpc(CallControlServiceServicer):
    """voice.tlib.v1.CallControlService."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def MakeCall(self, request: pb.MakeCallRequest, context: Context) -> call_control.MakeCallResponse:
        return await self._desk.new_call(request, context, call_control.MakeCallResponse)

    async def AnswerCall(
        self, request: pb.AnswerCallRequest, context: Context
    ) -> call_control.AnswerCallResponse:
        return await self._desk.on_call(request, context, call_control.AnswerCallResponse)

    async def ReleaseCall(
        self, request: pb.ReleaseCallRequest, context: Context
    ) -> call_control.ReleaseCallResponse:
        return await self._desk.on_call(request, context, call_control.ReleaseCallResponse)

    async def ClearCall(
        self, request: pb.ClearCallRequest, context: Context
    ) -> call_control.ClearCallResponse:
        return await self._desk.on_call(request, context, call_control.ClearCallResponse)

    async def RouteCall(
        self, request: pb.RouteCallRequest, context: Context
    ) -> call_control.RouteCallResponse:
        return await self._desk.on_call(request, context, call_control.RouteCallResponse)

    async def AttachUserData(
        self, request: pb.AttachUserDataRequest, context: Context
    ) -> call_control.AttachUserDataResponse:
        return await self._desk.on_call(request, context, call_control.AttachUserDataResponse)

    async def UpdateUserData(
        self, request: pb.UpdateUserDataRequest, context: Context
    ) -> call_control.UpdateUserDataResponse:
        return await self._desk.on_call(request, context, call_control.UpdateUserDataResponse)

    async def DeleteUserData(
        self, request: pb.DeleteUserDataRequest, context: Context
    ) -> call_control.DeleteUserDataResponse:
        return await self._desk.on_call(request, context, call_control.DeleteUserDataResponse)

    async def DeletePair(
        self, request: pb.DeletePairRequest, context: Context
    ) -> call_control.DeletePairResponse:
        return await self._desk.on_call(request, context, call_control.DeletePairResponse)

    async def DistributeEvent(
        self, request: pb.DistributeEventRequest, context: Context
    ) -> call_control.DistributeEventResponse:
        return await self._desk.on_call(request, context, call_control.DistributeEventResponse)


class AgentControlRpc(AgentControlServiceServicer):
    """voice.tlib.v1.AgentControlService."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def AgentLogin(
        self, request: pb.AgentLoginRequest, context: Context
    ) -> agent_control.AgentLoginResponse:
        return await self._desk.of_agent(request, context, agent_control.AgentLoginResponse)

    async def AgentLogout(
        self, request: pb.AgentLogoutRequest, context: Context
    ) -> agent_control.AgentLogoutResponse:
        return await self._desk.of_agent(request, context, agent_control.AgentLogoutResponse)

    async def AgentReady(
        self, request: pb.AgentReadyRequest, context: Context
    ) -> agent_control.AgentReadyResponse:
        return await self._desk.of_agent(request, context, agent_control.AgentReadyResponse)

    async def AgentNotReady(
        self, request: pb.AgentNotReadyRequest, context: Context
    ) -> agent_control.AgentNotReadyResponse:
        return await self._desk.of_agent(request, context, agent_control.AgentNotReadyResponse)

    async def SetDndOn(self, request: pb.SetDndOnRequest, context: Context) -> agent_control.SetDndOnResponse:
        return await self._desk.of_agent(request, context, agent_control.SetDndOnResponse)

    async def SetDndOff(
        self, request: pb.SetDndOffRequest, context: Context
    ) -> agent_control.SetDndOffResponse:
        return await self._desk.of_agent(request, context, agent_control.SetDndOffResponse)

    async def ReserveAgent(
        self, request: pb.ReserveAgentRequest, context: Context
    ) -> agent_control.ReserveAgentResponse:
        return await self._desk.of_agent(request, context, agent_control.ReserveAgentResponse)


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
