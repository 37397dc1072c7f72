"""Sessions that a session starts and ends beside itself, through the contract like everybody else."""

from __future__ import annotations

import json

import grpc
from voice.orchestration.v1.orchestration_service_pb2 import StartSessionRequest, TerminateSessionRequest
from voice.orchestration.v1.orchestration_service_pb2_grpc import OrchestrationServiceStub

from mesh.errors import from_rpc_error
from services.orchestration.effects import Start, TerminateOther
from services.orchestration.inputs import Outcome
from services.orchestration.session import Call

REQUEST_S = 5.0
"""Longest wait, seconds."""
LONGEST_ID = 128


class Neighbours:
    """Carries the effects out; their ids are the request ids, so a repeat has no further effect."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = OrchestrationServiceStub(channel)

    async def start(self, call: Call, effect: Start) -> Outcome:
        """Starts a session. Raises DomainError."""
        request = StartSessionRequest(
            tenant=call.tenant,
            src=effect.src,
            parameters_json=json.dumps(effect.parameters) if effect.parameters else "",
            ideal_time_ms=effect.ideal_time_ms,
            request_id=effect.id[-LONGEST_ID:],
        )
        try:
            answer = await self._stub.StartSession(request, timeout=REQUEST_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestration") from error
        return Outcome(effect.id, data={"sessionid": answer.session_id})

    async def terminate(self, call: Call, effect: TerminateOther) -> Outcome:
        """Ends a session. Raises DomainError."""
        request = TerminateSessionRequest(
            tenant=call.tenant, session_id=effect.session_id, request_id=effect.id[-LONGEST_ID:]
        )
        try:
            await self._stub.TerminateSession(request, timeout=REQUEST_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, "orchestration") from error
        return Outcome(effect.id, data={"sessionid": effect.session_id})
