"""Which events of a call an agent's session follows."""

from __future__ import annotations

from typing import Final

from services.call_state.machine import Kind, Told

OF_AGENTS: Final = frozenset(
    {
        Kind.DIALING,
        Kind.RINGING,
        Kind.ESTABLISHED,
        Kind.HELD,
        Kind.RETRIEVED,
        Kind.PARTY_CHANGED,
        Kind.RELEASED,
        Kind.ABANDONED,
        Kind.DIVERTED,
    }
)
"""Events of an agent's DN that begin, change or end the agent's part in a call."""


def agent_subject(event: Told) -> str | None:
    """Subject of the agent's log entry, None for an event of a DN without an agent or of no interest to one."""
    if event.kind not in OF_AGENTS or not event.agent_id:
        return None
    return f"agent:{event.agent_id}"
