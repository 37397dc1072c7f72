"""The connections of a process: each made on first use, a dependency from then on, closed at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property

import grpc
import redis.asyncio

from mesh import channels, redis_primary
from mesh.etcd import Etcd
from mesh.health import Health
from mesh.redis_primary import PrimaryPool
from mesh.settings import MeshSettings, SettingsError
from mesh.telemetry.rpc import SentCalls

REDIS_CONNECTIONS = 64
"""Most connections to Redis of one process."""
REDIS_COMMAND_S = 5.0
"""Time a Redis command may take, seconds; a blocking read must block for less."""


class Connections:
    """Clients of etcd, Redis and the sidecar. Asking for one whose setting is missing raises
    SettingsError."""

    def __init__(self, settings: MeshSettings, health: Health, sent: SentCalls) -> None:
        self._settings = settings
        self._health = health
        self._sent = sent
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self.loops: list[tuple[str, Callable[[], Awaitable[None]]]] = []
        """What has to run for as long as the process lives, by name."""

    @cached_property
    def etcd(self) -> Etcd:
        """Client of the ownership cluster."""
        return self._etcd("etcd", needed(self._settings.etcd, "VOICEMESH_ETCD"))

    @cached_property
    def etcd_config(self) -> Etcd:
        """Client of the configuration cluster; the ownership client when both settings name one cluster."""
        other = self._settings.etcd_config
        return self.etcd if other in ("", self._settings.etcd) else self._etcd("etcd_config", other)

    @cached_property
    def redis(self) -> redis.asyncio.Redis:
        """Client of the Redis primary; answers are bytes."""
        client = redis_primary.client(
            needed(self._settings.redis, "VOICEMESH_REDIS"),
            max_connections=REDIS_CONNECTIONS,
            timeout=2.0,
            socket_timeout=REDIS_COMMAND_S,
            socket_connect_timeout=1.0,
        )
        if isinstance(client.connection_pool, PrimaryPool):
            self.loops.append(("redis primary", client.connection_pool.watch))

        async def answers() -> bool:
            return bool(await client.ping())

        self._health.depends("redis", answers, shared=True)
        self._closers.append(client.aclose)
        return client

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """The one channel to our own sidecar's egress; connected on the first call."""
        channel = channels.egress(needed(self._settings.egress, "VOICEMESH_EGRESS"), self._sent)
        self._closers.append(channel.close)
        return channel

    def _etcd(self, name: str, endpoints: str) -> Etcd:
        client = Etcd(endpoints)
        key = f"{self._settings.etcd_prefix}/health"

        async def answers() -> bool:
            await client.get(key)  # there or not: a linearizable read needs the quorum
            return True

        self._health.depends(name, answers, shared=True)
        self._closers.append(client.close)
        return client

    @property
    def with_redis(self) -> bool:
        """Whether the process uses Redis."""
        return "redis" in self.__dict__

    @property
    def closers(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """How to close what was made, the newest first."""
        return tuple(reversed(self._closers))


def needed(value: str, name: str) -> str:
    """The setting's value; SettingsError when it is empty."""
    if not value:
        raise SettingsError([f"{name}: missing"])
    return value
