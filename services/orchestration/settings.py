"""Settings of Orchestration: VOICEMESH_ORCHESTRATION_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OrchestrationSettings:
    """What this service needs beside what every process has."""

    workers: int = 1
    """Worker processes that hold JavaScript contexts, 1 to 64: one a core that sessions may use."""
    passivate_seconds: float = 120.0
    """A session that has waited so long with nothing under way is kept by Redis alone, 0.1 to 86,400 s."""
    http_base: str = ""
    """Address of the platform's edge, "https://voice.example": sessions get addresses under it by which others send them
    messages (Basic HTTP event processor). Empty: they have none."""
    ca_file: str = ""
    """PEM file of authorities that HTTP requests of applications trust beside the usual ones; empty for none."""
    trace_steps: int = 200
    """Steps of a session that its trace keeps, 1 to 10000."""
    trace_keep_s: int = 3600
    """How long the trace of a session is kept after its end, seconds, 1 to 30 days."""

    def validate(self) -> list[str]:
        """Every rule broken, one line each."""
        web = not self.http_base or self.http_base.startswith(("http://", "https://"))
        rules = (
            (1 <= self.workers <= 64, "WORKERS: must be 1 to 64"),
            (0.1 <= self.passivate_seconds <= 86_400, "PASSIVATE_SECONDS: must be 0.1 to 86400"),
            (web, "HTTP_BASE: must begin with http:// or https://"),
            (1 <= self.trace_steps <= 10_000, "TRACE_STEPS: must be 1 to 10000"),
            (1 <= self.trace_keep_s <= 30 * 86_400, "TRACE_KEEP_S: must be 1 to 2592000"),
        )
        return [f"VOICEMESH_ORCHESTRATION_{problem}" for holds, problem in rules if not holds]
