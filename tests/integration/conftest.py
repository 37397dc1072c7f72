"""Servers for integration tests. Session-scoped ones are shared: what a test writes there lives under its
own names (`region` for etcd, an emptied database for Redis). A test that breaks a server takes an own one."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis
import redis.asyncio

from mesh.etcd import Etcd
from mesh.pairing import REDIS_KEY
from tests.integration.servers import EtcdServer, Place, RedisServer


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdServer]:
    """An etcd for the whole run; do not pause or stop it."""
    server = EtcdServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole run; do not pause or stop it."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def own_etcd(request: pytest.FixtureRequest) -> Iterator[EtcdServer]:
    """An etcd of the test's own, to be paused, killed and wiped. A shared Redis beside it belongs to no etcd before and
    after the test (mesh/pairing.py)."""
    server = EtcdServer()
    try:
        server.start()
        _unpair(request)
        yield server
    finally:
        _unpair(request)
        server.close()


def _unpair(request: pytest.FixtureRequest) -> None:
    if "redis_server" in request.fixturenames:
        with redis.Redis.from_url(request.getfixturevalue("redis_server").url) as client:
            client.delete(REDIS_KEY)


@pytest.fixture
def own_redis() -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers of the test's own: `own_redis()`, `own_redis(replica_of=primary)`."""
    servers: list[RedisServer] = []

    def start(replica_of: Place | None = None) -> RedisServer:
        server = RedisServer(replica_of)
        servers.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def region() -> str:
    """A region of the test's own: its keys in etcd are nobody else's."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[Etcd]:
    """A client of the shared etcd."""
    client = Etcd(etcd_server.endpoint)
    yield client
    await client.close()


@pytest.fixture
async def redis_client(redis_server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the shared Redis, emptied before the test."""
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    yield client
    await client.aclose()
