"""Settings of Front End: VOICEMESH_FRONT_END_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FrontEndSettings:
    """What this service needs beside what every process has."""

    open_requests: int = 10_000
    """Requests of clients, to calls and agents, that may be open at once; more are refused with QUEUE_FULL."""
    subscriptions: int = 500
    """Event subscriptions at once; more are refused with QUEUE_FULL."""

    def validate(self) -> list[str]:
        """Every rule broken, one line each."""
        return [
            f"VOICEMESH_FRONT_END_{name.upper()}: must be above 0"
            for name in ("open_requests", "subscriptions")
            if getattr(self, name) <= 0
        ]
