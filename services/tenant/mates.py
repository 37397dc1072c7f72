"""What every desk of a process shares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from mesh.discovery import Directory
from mesh.rq import Rq
from services.tenant.numbers import Numbers

if TYPE_CHECKING:
    from voice.agent_state.v1.agent_state_service_pb2_grpc import AgentStateServiceAsyncStub

May = Callable[[], Awaitable[bool]]
"""Whether effects of the tenant may leave: waits while that cannot be known, False when another node has it."""


@dataclass
class Deskmates:
    """Queues, Agent State, counters."""

    rq: Rq
    agents: Directory
    """Nodes and slots of Agent State."""
    stub: AgentStateServiceAsyncStub
    log: FilteringBoundLogger
    numbers: Numbers
