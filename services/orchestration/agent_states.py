"""States of agents as documents ask for them, from the owners of the agents' slots."""

from __future__ import annotations

from typing import Protocol

import grpc
from voice.agent_state.v1.agent_pb2 import Agent, AgentPhase
from voice.agent_state.v1.agent_state_service_pb2 import GetAgentRequest
from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceStub

from mesh.discovery import Directory, OwnerClient
from mesh.errors import Reason, from_rpc_error
from mesh.identifiers import agent_slot
from services.orchestration.scxml import Json

ASK_S = 1.0
"""Longest wait for an answer, seconds: a step waits for it."""
WORDS = {
    AgentPhase.AGENT_PHASE_NOT_READY: "notready",
    AgentPhase.AGENT_PHASE_READY: "ready",
    AgentPhase.AGENT_PHASE_BUSY_READY: "busy",
    AgentPhase.AGENT_PHASE_BUSY_NOT_READY: "busy",
    AgentPhase.AGENT_PHASE_BUSY_AFTER_CALL_WORK: "busy",
}
"""What documents call a phase; anything else is "loggedout"."""


class Agents(Protocol):
    """Who knows the states of agents."""

    async def state(self, tenant: str, agent: str) -> dict[str, Json]:
        """`agent`, `state` ("ready", "notready", "busy", "loggedout", "unknown": no such login code), and when logged in `dn`,
        `since` (UTC ms), `dnd`, `reachable`. Raises DomainError when nobody says so in time."""
        ...


class AgentStates:
    """Asks Agent State."""

    def __init__(self, channel: grpc.aio.Channel, directory: Directory) -> None:
        self._stub, self._owners = AgentStateServiceStub(channel), OwnerClient(directory)

    async def state(self, tenant: str, agent: str) -> dict[str, Json]:
        """See Agents."""
        request = GetAgentRequest(tenant=tenant, agent_id=agent)
        slot = agent_slot(tenant, f"agent:{agent}")
        try:
            found = (await self._owners.call(self._stub.GetAgent, request, slot, ASK_S)).agent
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, "agent_state")
            if failure.reason != Reason.REASON_WRONG_AGENT_ID:
                raise failure from error
            return {"agent": agent, "state": "unknown"}
        return told(agent, found)


def told(agent: str, found: Agent) -> dict[str, Json]:
    """What a document hears of an agent."""
    state = WORDS.get(found.phase, "loggedout")
    if state == "loggedout":
        return {"agent": agent, "state": state}
    return {
        "agent": agent,
        "state": state,
        "dn": found.dn,
        "since": found.phase_since_us // 1000,
        "dnd": found.dnd,
        "reachable": found.in_service,
    }
