"""What the router asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.tenant.agents import AgentView
from services.tenant.targets import Target


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask Agent State for the agent. `attempt` makes the id of the ask: a new attempt is a new ask, the same one is safe
    to repeat."""

    request_id: str
    agent_id: str
    priority: int
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Give a reservation back that nobody needs any more."""

    agent_id: str
    token: str


@dataclass(frozen=True, slots=True)
class Found:
    """Answer: this agent, reserved until then."""

    request_id: str
    agent: AgentView
    target: Target
    token: str
    until_us: int


@dataclass(frozen=True, slots=True)
class NotFound:
    """Answer: nobody in time, or a request that cannot be met; `invalid` says what is wrong with it."""

    request_id: str
    invalid: str = ""
    cancelled: bool = False


Answer = Found | NotFound
Effect = Reserve | GiveBack | Found | NotFound
