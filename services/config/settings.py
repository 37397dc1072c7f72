"""Settings of Config: VOICEMESH_CONFIG_<FIELD>."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfigSettings:
    """What an installation may choose."""

    secret_keys: tuple[str, ...] = ()
    """Keys that seal DN passwords, 64 hex digits each: the first seals, all open. None: those in the file."""
    secret_key_file: str = ""
    """File with the keys, one a line; "<run dir>/config/secret.key", made when missing, unless given."""
    seed: str = ""
    """Folder of tenant files: tenants that do not exist yet are imported at start (see load.py)."""
    scrypt_log_n: int = 14
    """Cost of agent password hashes, 10 to 18: log2 of scrypt's n."""
    feed_changes: int = 50_000
    """Changes kept in memory for watches, 1000 to 1000000; older ones are read from etcd."""
    import_pause_ms: int = 0
    """Pause between two transactions of an import, 0 to 1000 ms: spares a busy etcd."""

    def validate(self) -> list[str]:
        """Every rule broken."""
        rules = (
            (10 <= self.scrypt_log_n <= 18, "VOICEMESH_CONFIG_SCRYPT_LOG_N: must be 10 to 18"),
            (
                1000 <= self.feed_changes <= 1_000_000,
                "VOICEMESH_CONFIG_FEED_CHANGES: must be 1000 to 1000000",
            ),
            (0 <= self.import_pause_ms <= 1000, "VOICEMESH_CONFIG_IMPORT_PAUSE_MS: must be 0 to 1000"),
            (
                all(len(key) == 64 for key in self.secret_keys),
                "VOICEMESH_CONFIG_SECRET_KEYS: each must have 64 hex digits",
            ),
        )
        return [problem for holds, problem in rules if not holds]
