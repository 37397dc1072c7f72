"""What the router is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.tenant.agents import AgentView, Change
from services.tenant.targets import Target


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a target. Times are UTC microseconds."""

    request_id: str
    targets: tuple[Target, ...]
    priority: int
    age_us: int
    """Since when the call waits; what decides among equal priorities."""
    submitted_us: int
    """When the request was made; what target and request timeouts count from."""
    timeout_ms: int = 0
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Submit:
    """A request came."""

    request: Request


@dataclass(frozen=True, slots=True)
class Update:
    """A waiting request gets another priority."""

    request_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """A request is not wanted any more."""

    request_id: str


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """An event said something about an agent."""

    change: Change


@dataclass(frozen=True, slots=True)
class AgentSeen:
    """A snapshot of an agent."""

    agent: AgentView


@dataclass(frozen=True, slots=True)
class Granted:
    """Agent State reserved the agent for the request."""

    request_id: str
    agent_id: str
    token: str
    until_us: int


@dataclass(frozen=True, slots=True)
class Denied:
    """Agent State did not, or did not answer."""

    request_id: str
    agent_id: str
    unknown: bool = False
    """It did not answer: the agent may be reserved for the request all the same, so the next ask has the same id."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """All that waits has been submitted: serving begins."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The configuration changed: anybody may match what did not match before."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Input = Submit | Update | Cancel | AgentChanged | AgentSeen | Granted | Denied | Rebuilt | Reconfigured | Tick
