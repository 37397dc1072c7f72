"""Settings of Registrar: VOICEMESH_REGISTRAR_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RegistrarSettings:
    """What an installation may choose."""

    min_expires_s: int = 60
    """Shortest registration, 1 to 3600 s; a shorter one is refused with 423 (RFC 3261 §10.3)."""
    max_bindings: int = 10
    """Bindings of a DN, 1 to 10."""
    jitter_percent: int = 10
    """How much shorter than asked for a binding may be at most, 0 to 50: phones that registered together (after a power
    cut) come back spread over so much of their time."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        rules = (
            (1 <= self.min_expires_s <= 3600, "VOICEMESH_REGISTRAR_MIN_EXPIRES_S: must be 1 to 3600"),
            (0 <= self.jitter_percent <= 50, "VOICEMESH_REGISTRAR_JITTER_PERCENT: must be 0 to 50"),
            (1 <= self.max_bindings <= 10, "VOICEMESH_REGISTRAR_MAX_BINDINGS: must be 1 to 10"),
        )
        return [problem for holds, problem in rules if not holds]
