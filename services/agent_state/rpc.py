"""The contract voice.agent_state.v1.AgentStateService."""

from __future__ import annotations

from typing import Any

from voice.agent_state.v1 import agent_state_service_pb2 as pb
from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceServicer
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError
from mesh.validation import Checks
from services.agent_state.agent import Agent
from services.agent_state.app import AgentStateApp, now_us
from services.agent_state.configured import FromConfig
from services.agent_state.effects import Deny
from services.agent_state.machine import Session
from services.agent_state.record import message, reservation
from services.agent_state.reservation import Ask

DURATION_MOST_MS = 600_000


class AgentStateRpc(AgentStateServiceServicer):
    """Contract to domain and back."""

    def __init__(self, app: AgentStateApp, configured: FromConfig) -> None:
        self._app = app
        self._configured = configured

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        _checked(request.tenant, request.agent_id).done()
        state = self._app.slot(request.tenant, request.agent_id)
        self._known(request.tenant, request.agent_id)
        agent = state.agents.get(f"{request.tenant}:{request.agent_id}")
        if agent is None:  # configured, and has never logged in
            agent = Agent(Session(request.tenant, request.agent_id))
        return pb.GetAgentResponse(agent=message(agent, now_us()))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsResponse:
        check = Checks()
        check.tenant("tenant", request.tenant)
        check.done()
        now = now_us()
        found = [
            message(agent, now)
            for agent in self._app.agents()
            if agent.session.tenant == request.tenant and agent.session.logged_in
        ]
        found.sort(key=lambda agent: agent.agent_id)
        return pb.ListAgentsResponse(agents=found, slots=sorted(self._app.owned))

    async def ReserveAgent(self, request: pb.ReserveAgentRequest, context: Any) -> pb.ReserveAgentResponse:
        check = _checked(request.tenant, request.agent_id)
        check.request_id("request_id", request.request_id)
        check.length("client", request.client, 1, 128)
        check.between("duration_ms", request.duration_ms, 0, DURATION_MOST_MS, unit="ms")
        check.done()
        self._app.slot(request.tenant, request.agent_id)  # NOT_OWNER goes before anything else
        self._known(request.tenant, request.agent_id)
        ask = Ask(
            request.request_id,
            request.client,
            request.priority,
            request.duration_ms * 1000,
            request.only_if_ready,
        )
        decided, agent = await self._app.reserve(request.tenant, request.agent_id, ask)
        if isinstance(decided, Deny):
            raise _denied(decided)
        return pb.ReserveAgentResponse(reservation=reservation(decided), agent=message(agent, now_us()))

    async def CancelReservation(
        self, request: pb.CancelReservationRequest, context: Any
    ) -> pb.CancelReservationResponse:
        check = _checked(request.tenant, request.agent_id)
        check.length("token", request.token, 1, 256)
        check.done()
        await self._app.cancel(request.tenant, request.agent_id, request.token)
        return pb.CancelReservationResponse()

    def _known(self, tenant: str, agent_id: str) -> None:
        if not self._configured.knows(tenant, agent_id):
            raise DomainError(Reason.REASON_WRONG_AGENT_ID, f"no agent login {agent_id}", agent_id=agent_id)


def _checked(tenant: str, agent_id: str) -> Checks:
    check = Checks()
    check.tenant("tenant", tenant)
    check.length("agent_id", agent_id, 1, 64)
    return check


def _denied(decided: Deny) -> DomainError:
    reason = Reason.Value(decided.reason)
    if reason == Reason.REASON_AGENT_RESERVED:
        return DomainError(reason, decided.message, reserved_until_us=decided.until_us)
    return DomainError(reason, decided.message)
