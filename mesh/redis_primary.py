"""The client of Redis that always talks to the primary.

With one address nothing is to be found out: a managed Redis, or a Kubernetes service, moves it by itself, and a server that says
READONLY is left. With Sentinels (redis-py's client of them) each new connection asks who is primary, and `PrimaryPool.watch` asks
every second: when it is another one, every connection to the old one is given up, so that a primary which was merely cut off
from the Sentinels, or slept, gets no more writes from us that would be lost.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio
import redis.exceptions
import structlog
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from mesh.redis_url import SentinelUrl, of_sentinels, parse_sentinels

WATCH_S = 1.0
"""Between two questions to the Sentinels, seconds."""
ASK_S = 0.3
"""Longest wait for one Sentinel, seconds."""
ANSWER_HOLDS_S = 0.1
"""So long an answer of the Sentinels, also that there is no primary, serves all who ask, seconds."""

log = structlog.get_logger("mesh.redis")

Address = tuple[str, int]
_Sentinel: Any = Sentinel  # redis-py leaves its constructor untyped


class PrimaryPool(SentinelConnectionPool, redis.asyncio.BlockingConnectionPool):
    """Connections to whom the Sentinels call primary; waits for a free one as BlockingConnectionPool does."""

    def __init__(self, url: SentinelUrl, **kwargs: Any) -> None:
        to_sentinels: dict[str, Any] = {
            "socket_timeout": ASK_S,
            "socket_connect_timeout": ASK_S,
            "retry": Retry(NoBackoff(), 0),
            "password": url.sentinel_password or None,
        }
        manager: Any = _Sentinel(url.sentinels, sentinel_kwargs=to_sentinels)
        kwargs |= {"db": url.db, "username": url.username or None, "password": url.password or None}
        _init: Any = super().__init__  # redis-py leaves it untyped
        _init(url.name, manager, ssl=url.tls, **kwargs)
        self._asking: asyncio.Task[Address] | None = None
        self._asked = 0.0
        self.switches = 0
        """How often the Sentinels named another primary."""

    async def get_master_address(self) -> Address:
        """The primary's address. Those who ask at the same time ask once. Raises redis.ConnectionError."""
        now = asyncio.get_running_loop().time()
        if self._asking is None or (self._asking.done() and now - self._asked > ANSWER_HOLDS_S):
            self._asked = now
            self._asking = asyncio.create_task(self._ask(), name="ask sentinels")
            self._asking.add_done_callback(_looked_at)
        return await asyncio.shield(self._asking)

    async def watch(self) -> None:
        """Asks until cancelled, so that a switch is noticed without traffic."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.get_master_address()
            except (redis.RedisError, OSError) as error:
                log.info("the Sentinels name no primary", error=str(error))

    async def aclose(self) -> None:
        """Closes the connections, those to the Sentinels too."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await super().aclose()
        await self.sentinel_manager.aclose()

    async def _ask(self) -> Address:
        address: Address = await self.sentinel_manager.discover_master(self.service_name)
        before, self.master_address = self.master_address, address
        if before is not None and before != address:
            self.switches += 1
            log.warning("redis has another primary", address=f"{address[0]}:{address[1]}", before=before[0])
            await self.disconnect(inuse_connections=True)
        return address


def _looked_at(task: asyncio.Task[Address]) -> None:
    if not task.cancelled():
        task.exception()  # whoever awaited it has it; nobody may have


def moved_on(pool: Any, connection: Any) -> bool:
    """Whether a connection made by the pool leads to a primary that is none any more."""
    if not isinstance(pool, PrimaryPool) or pool.master_address is None:
        return False
    return bool(pool.master_address != (connection.host, connection.port))


def name_of_primary(info: bytes) -> str:
    """What INFO replication says a primary is called in its present life: another name after a restart or a promotion. Raises
    redis.ReadOnlyError when it is a replica."""
    lines = dict(line.partition(":")[::2] for line in bytes(info).decode().splitlines())
    if lines.get("role") != "master":
        raise redis.exceptions.ReadOnlyError(f"role is {lines.get('role', 'unknown')}")
    return lines.get("master_replid", "")


def client(url: str, **kwargs: Any) -> redis.asyncio.Redis:
    """A client with a pool that waits for a free connection; `kwargs` are those of BlockingConnectionPool. ValueError for a
    wrong URL."""
    if of_sentinels(url):
        return redis.asyncio.Redis.from_pool(PrimaryPool(parse_sentinels(url), **kwargs))
    return redis.asyncio.Redis.from_pool(redis.asyncio.BlockingConnectionPool.from_url(url, **kwargs))
