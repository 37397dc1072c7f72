"""What a tenant knows of its agents, folded from agent events and call events: who could take a call now, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum


class Presence(Enum):
    """Whether an agent waits for calls."""

    LOGGED_OUT = "not logged in"
    NOT_READY = "not ready"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent as the router sees it. Times are UTC microseconds."""

    agent_id: str
    user_name: str = ""
    dn: str = ""
    place: str = ""
    presence: Presence = Presence.LOGGED_OUT
    ready_since_us: int = 0
    """When the agent last became able to take a call: ready, or free of the last call."""
    calls: frozenset[int] = frozenset()
    """ConnIDs on the agent's DN."""
    dnd: bool = False
    in_service: bool = True
    reserved_until_us: int = 0
    reserved_by: str = ""
    """Id of the ask that a router of this tenant was granted, "<request>:<attempt>"; empty for any other reservation."""

    def why_not(self, now_us: int) -> str:
        """Why the agent cannot take a call now; empty when it can."""
        if self.presence is not Presence.READY:
            return str(self.presence.value)
        if not self.in_service:
            return "DN out of service"
        if self.dnd:
            return "DND"
        if self.calls:
            return "in a call"
        if self.reserved_until_us > now_us:
            return "reserved"
        return ""


@dataclass(frozen=True, slots=True)
class Change:
    """What an event says about an agent: only what it says is set."""

    agent_id: str
    presence: Presence | None = None
    dn: str | None = None
    user_name: str | None = None
    place: str | None = None
    call_joined: int = 0
    call_left: int = 0
    dnd: bool | None = None
    in_service: bool | None = None
    reserved_until_us: int | None = None


def apply(agent: AgentView, change: Change, now_us: int) -> AgentView:
    """The agent after the change."""
    calls = agent.calls
    if change.call_joined:
        calls |= {change.call_joined}
    if change.call_left:
        calls -= {change.call_left}
    presence = agent.presence if change.presence is None else change.presence
    if presence is Presence.LOGGED_OUT:
        calls = frozenset()
    became_ready = presence is Presence.READY and agent.presence is not Presence.READY
    became_free = presence is Presence.READY and bool(agent.calls) and not calls
    reserved = agent.reserved_until_us if change.reserved_until_us is None else change.reserved_until_us
    if change.call_joined and change.reserved_until_us is None:
        reserved = 0  # the reservation has served its purpose: the call itself keeps others away now
    return replace(
        agent,
        presence=presence,
        calls=calls,
        dn=agent.dn if change.dn is None else change.dn,
        user_name=change.user_name or agent.user_name,
        place=agent.place if change.place is None else change.place,
        dnd=agent.dnd if change.dnd is None else change.dnd,
        in_service=agent.in_service if change.in_service is None else change.in_service,
        ready_since_us=now_us if became_ready or became_free else agent.ready_since_us,
        reserved_until_us=reserved,
    )


@dataclass
class Roster:
    """All agents of a tenant."""

    agents: dict[str, AgentView] = field(default_factory=dict)

    def change(self, change: Change, now_us: int) -> AgentView:
        """Applies a change; an agent not seen before begins logged out."""
        before = self.agents.get(change.agent_id) or AgentView(change.agent_id)
        after = apply(before, change, now_us)
        self.agents[change.agent_id] = after
        return after

    def put(self, agent: AgentView) -> None:
        """Replaces what is known of an agent by a snapshot."""
        self.agents[agent.agent_id] = agent

    def available(self, now_us: int, among: Iterable[str] | None = None) -> list[AgentView]:
        """Agents who could take a call now, all or those of them, longest ready first, ties by login code."""
        names = self.agents if among is None else among
        agents = (self.agents[name] for name in names if name in self.agents)
        free = [agent for agent in agents if not agent.why_not(now_us)]
        return sorted(free, key=lambda agent: (agent.ready_since_us, agent.agent_id))
