"""Settings of Orchestration: VOICEMESH_ORCHESTRATION_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OrchestrationSettings:
    """What this service needs beside what every process has."""

    workers: int = 1
    """Worker processes that hold JavaScript contexts, 1 to 64: one a core that sessions may use."""

    def validate(self) -> list[str]:
        """Every rule broken, one line each."""
        return [] if 1 <= self.workers <= 64 else ["VOICEMESH_ORCHESTRATION_WORKERS: must be 1 to 64"]
