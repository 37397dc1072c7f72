"""Redis of one machine: a primary, a replica, three Sentinels.

Each has a configuration file and not arguments: the Sentinels have a Redis write its present role into it, so that one that is
started again is what it was last told to be, and two can never replicate each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh.local import binaries
from mesh.local.layout import REDIS_NAME, REDIS_PORT, SENTINEL_PORT, SENTINELS, Layout
from mesh.local.priority import STORES
from mesh.local.process import Command

DOWN_AFTER_MS = 1000
"""A primary that a Sentinel has not heard for so long is gone in its view: with election and promotion the replica serves two to
four seconds after a death."""
FAILOVER_TIMEOUT_MS = 4000
"""Limit of each step of a fail-over; twice as long until one that failed is tried again."""
RESTART_S = 5.0
"""A Redis that ended stays away for so long. Were it back before the Sentinels missed it, its replica would never take over here,
and what happens in production could not be seen."""


def commands(layout: Layout, run_dir: Path, environment: Mapping[str, str]) -> list[Command]:
    """What is run; writes the configuration files, anew."""
    primary, replica = layout.infrastructure(2), layout.infrastructure(3)
    follow = {"replicaof": f"{primary} {REDIS_PORT}"}
    servers = [("redis", primary, {}), ("redis-replica", replica, follow)]
    found = [
        Command(
            name,
            [binaries.redis_server(), str(_file(run_dir, name, _server(ip) | further))],
            environment,
            restart_s=RESTART_S,
            niceness=STORES,
        )
        for name, ip, further in servers
    ]
    for number, sentinel in enumerate(layout.sentinels):
        name = f"redis-sentinel-{number}"
        file = _file(run_dir, name, _sentinel(sentinel.partition(":")[0], primary))
        argv = [binaries.redis_server(), str(file), "--sentinel"]
        found.append(Command(name, argv, environment, niceness=STORES))
    return found


def _server(ip: str) -> dict[str, str]:
    return {
        "bind": ip,
        "port": str(REDIS_PORT),
        "protected-mode": "no",
        # Append-only, so that a primary that is back within a second does not empty its replica. No fsync: the data ends with
        # the mesh, and a busy disk would stop Redis for seconds.
        "save": '""',
        "appendonly": "yes",
        "appendfsync": "no",
        "auto-aof-rewrite-min-size": "512mb",
        "maxmemory-policy": "noeviction",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
        "repl-backlog-size": "64mb",
        "replica-announce-ip": ip,
    }


def _sentinel(ip: str, primary: str) -> dict[str, str]:
    return {
        "bind": ip,
        "port": str(SENTINEL_PORT),
        "protected-mode": "no",
        "sentinel announce-ip": ip,
        "sentinel monitor": f"{REDIS_NAME} {primary} {REDIS_PORT} {SENTINELS // 2 + 1}",
        f"sentinel down-after-milliseconds {REDIS_NAME}": str(DOWN_AFTER_MS),
        f"sentinel failover-timeout {REDIS_NAME}": str(FAILOVER_TIMEOUT_MS),
        f"sentinel parallel-syncs {REDIS_NAME}": "1",
    }


def _file(run_dir: Path, name: str, settings: Mapping[str, str]) -> Path:
    folder = run_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "redis.conf"
    lines = [f'dir "{folder}"', *(f"{key} {value}" for key, value in settings.items())]
    file.write_text("\n".join(lines) + "\n")
    return file
