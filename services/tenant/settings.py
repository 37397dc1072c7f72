"""Settings of the Tenant service: VOICEMESH_TENANT_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TenantSettings:
    """What this service needs beside what every process has."""

    token_dir: str = "run/identity"
    """Folder with the key that signs tokens (tokens.key); its public half is what the edge verifies with."""
    token_lifetime_s: int = 3600
    """How long a token lives, 60 to 86400 seconds."""
    sign_in_rate: float = 20.0
    """Attempts to sign in that a tenant may make in a second."""

    def validate(self) -> list[str]:
        """Every rule broken, one line each."""
        rules = (
            (60 <= self.token_lifetime_s <= 86400, "VOICEMESH_TENANT_TOKEN_LIFETIME_S: must be 60 to 86400"),
            (self.sign_in_rate > 0, "VOICEMESH_TENANT_SIGN_IN_RATE: must be above 0"),
        )
        return [problem for holds, problem in rules if not holds]
