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

    def validate(self) -> list[str]:
        """Every rule broken."""
        rules = (
            (1 <= self.min_expires_s <= 3600, "VOICEMESH_REGISTRAR_MIN_EXPIRES_S: must be 1 to 3600"),
            (1 <= self.max_bindings <= 10, "VOICEMESH_REGISTRAR_MAX_BINDINGS: must be 1 to 10"),
        )
        return [problem for holds, problem in rules if not holds]
