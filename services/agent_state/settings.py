"""Settings of Agent State, from VOICEMESH_AGENT_STATE_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass

from services.agent_state.reservation import Rules


@dataclass(frozen=True)
class AgentStateSettings:
    """Options of reservation (domain facts §2.18) and limits."""

    request_collection_time_ms: int = 100
    """Milliseconds for which reservation requests are collected from the first one on, 0 … 10,000; 0 grants at once."""
    reservation_time_ms: int = 10_000
    """Milliseconds of a reservation whose request names none, 1 … 600,000."""
    collect_lower_priority: bool = True
    """False: in the window only the highest priority so far survives."""
    reject_subsequent: bool = True
    """False: the client that has the reservation prolongs it by asking again."""
    config_timeout_ms: int = 1000
    """Milliseconds that Config has to check or record a login, 50 … 10,000."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        bounds: dict[str, tuple[int, int]] = {
            "request_collection_time_ms": (0, 10_000),
            "reservation_time_ms": (1, 600_000),
            "config_timeout_ms": (50, 10_000),
        }
        return [
            f"VOICEMESH_AGENT_STATE_{name.upper()}: must be {low} to {high}"
            for name, (low, high) in bounds.items()
            if not low <= getattr(self, name) <= high
        ]

    @property
    def rules(self) -> Rules:
        """For the reservation machine."""
        return Rules(
            window_us=self.request_collection_time_ms * 1000,
            duration_us=self.reservation_time_ms * 1000,
            collect_lower_priority=self.collect_lower_priority,
            reject_subsequent=self.reject_subsequent,
        )
