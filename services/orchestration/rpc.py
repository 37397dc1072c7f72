"""OrchestrationService: looking at sessions and sending them events."""

from __future__ import annotations

import json
from typing import Any

import grpc
from voice.orchestration.v1.orchestration_service_pb2 import (
    GetSessionRequest,
    GetSessionResponse,
    ListSessionsRequest,
    ListSessionsResponse,
    SendEventRequest,
    SendEventResponse,
)
from voice.orchestration.v1.orchestration_service_pb2_grpc import OrchestrationServiceServicer

from mesh.errors import DomainError, Reason, invalid
from mesh.idempotency import New, RequestWindow
from mesh.validation import Checks
from services.orchestration.app import App
from services.orchestration.inputs import External
from services.orchestration.record import to_view
from services.orchestration.scxml import Event
from services.orchestration.session import Session
from services.orchestration.shard import Shard, now_us

Context = grpc.aio.ServicerContext[Any, Any]
MAX_DATA = 64 * 1024
"""Longest event data, bytes of JSON."""


class OrchestrationRpc(OrchestrationServiceServicer):
    """Serves the contract over the sessions of this node."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._sent: RequestWindow[None] = RequestWindow()

    async def GetSession(self, request: GetSessionRequest, context: Context) -> GetSessionResponse:
        _, session = self._find(request.tenant, request.session_id)
        return GetSessionResponse(session=to_view(session))

    async def ListSessions(self, request: ListSessionsRequest, context: Context) -> ListSessionsResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.between("limit", request.limit, 0, 1000)
        check.done()
        found = [
            machine.session
            for shard in self._app.shards.values()
            for machine in shard.machines.values()
            if machine.session.call.tenant == request.tenant
        ]
        found.sort(key=lambda session: session.call.since_us)
        return ListSessionsResponse(sessions=[to_view(session) for session in found[: request.limit or 100]])

    async def SendEvent(self, request: SendEventRequest, context: Context) -> SendEventResponse:
        check = Checks()
        check.length("name", request.name, 1, 256)
        check.length("data_json", request.data_json, 0, MAX_DATA)
        check.request_id("request_id", request.request_id)
        check.done()
        try:
            data = json.loads(request.data_json) if request.data_json else None
        except ValueError as error:
            raise invalid(("data_json", f"must be JSON: {error}")) from error
        shard, session = self._find(request.tenant, request.session_id)
        key, now = f"{request.session_id}/{request.request_id}", now_us() / 1e6
        if isinstance(self._sent.begin(key, now), New):
            event = Event(request.name, data, has_data=bool(request.data_json))
            shard.post(session.call.session_id, External(event))
            self._sent.finish(key, None, now)
        return SendEventResponse()

    def _find(self, tenant: str, session_id: str) -> tuple[Shard, Session]:
        for shard in self._app.shards.values():
            machine = shard.machines.get(session_id)
            if machine is not None and machine.session.call.tenant == tenant:
                return shard, machine.session
        raise DomainError(Reason.REASON_UNKNOWN_OBJECT, f"no session {session_id!r} lives on this node")
