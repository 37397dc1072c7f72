"""Asking Agent State for agents, and giving them back: at the owner of the agent's slot, through fail-overs."""

from __future__ import annotations

from typing import Final

import grpc
from voice.agent_state.v1.agent_state_service_pb2 import (
    CancelReservationRequest,
    ReserveAgentRequest,
    ReserveAgentResponse,
)

from mesh.discovery import OwnerClient, OwnerUnknown, may_repeat
from mesh.errors import Reason, reason_of
from mesh.identifiers import agent_slot
from services.tenant import facts
from services.tenant.effects import Reserve
from services.tenant.inputs import Denied, Granted
from services.tenant.mates import Deskmates, May

RESERVE_TIMEOUT_S: Final = 2.0
RESERVATION_MS: Final = 10_000
"""How long an agent is kept for a call on its way, milliseconds."""


class Asking:
    """Asks of one tenant."""

    def __init__(self, tenant: str, mates: Deskmates, may: May) -> None:
        self._tenant = tenant
        self._mates = mates
        self._may = may
        self._owners = OwnerClient(mates.agents)

    async def reserve(self, ask: Reserve) -> Granted | Denied | None:
        """The outcome of an ask; None when this node has lost the tenant and nothing was asked."""
        request = ReserveAgentRequest(
            tenant=self._tenant,
            agent_id=ask.agent_id,
            request_id=f"{ask.request_id}:{ask.attempt}",
            client=facts.CLIENT,
            duration_ms=RESERVATION_MS,
            priority=ask.priority,
            only_if_ready=True,
        )
        if not await self._may():
            return None
        try:
            answer: ReserveAgentResponse = await self._owners.call(
                self._mates.stub.ReserveAgent, request, self._slot(ask.agent_id), RESERVE_TIMEOUT_S
            )
        except (grpc.aio.AioRpcError, OwnerUnknown) as error:
            return self._denied(ask, error)
        self._mates.numbers.reservations.labels("granted").inc()
        return Granted(ask.request_id, ask.agent_id, answer.reservation.token, answer.reservation.until_us)

    async def give_back(self, agent_id: str, token: str) -> None:
        """Frees an agent; when that fails, the reservation ends by itself."""
        request = CancelReservationRequest(tenant=self._tenant, agent_id=agent_id, token=token)
        if not await self._may():
            return
        try:
            await self._owners.call(
                self._mates.stub.CancelReservation, request, self._slot(agent_id), RESERVE_TIMEOUT_S
            )
        except (grpc.aio.AioRpcError, OwnerUnknown) as error:
            self._mates.log.info(
                "reservation not given back, it will expire", agent=agent_id, why=str(error)[:200]
            )

    def _denied(self, ask: Reserve, error: grpc.aio.AioRpcError | OwnerUnknown) -> Denied:
        reason = reason_of(error)
        # Nobody answered, or not in time: the agent may have been reserved all the same.
        unknown = isinstance(error, OwnerUnknown) or reason is None or may_repeat(error)
        why = Reason.Name(reason) if reason is not None else "no answer"
        self._mates.numbers.reservations.labels(why).inc()
        self._mates.log.info("reservation denied", agent=ask.agent_id, request=ask.request_id, why=why)
        return Denied(ask.request_id, ask.agent_id, unknown)

    def _slot(self, agent_id: str) -> int:
        return agent_slot(self._tenant, f"agent:{agent_id}")
