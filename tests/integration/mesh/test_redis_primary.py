"""Who is primary is asked of the Sentinels; an old primary that wakes up gets nothing more from us."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis.asyncio

from mesh import redis_primary
from mesh.redis_primary import PrimaryPool
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable, put
from tests.integration.redis_group import redis_group
from tests.integration.servers import free_port, loopback, wait_until

POOL = {"max_connections": 8, "timeout": 2.0, "socket_timeout": 5.0, "socket_connect_timeout": 1.0}


@pytest.mark.feature("XC-06")
async def test_a_primary_that_slept_through_its_replacement_gets_no_more_writes() -> None:
    with redis_group() as group:
        client = redis_primary.client(group.url, **POOL)
        pool = client.connection_pool
        assert isinstance(pool, PrimaryPool)
        watching = asyncio.create_task(pool.watch())
        store = FencedStore(client, "sip_cluster", "sip", budget_s=2.0)
        epochs = {1: 7, 2: 9}
        changes = []

        async def rewrite() -> None:
            for slot, epoch in epochs.items():
                await store.raise_fence(slot, epoch)
                await store.write(slot, epoch, [put("call", f"of {slot}")])
            changes.append(time.monotonic())

        store.on_primary_change(rewrite)
        await store.start()
        for slot, epoch in epochs.items():
            await store.write(slot, epoch, [put("call", f"of {slot}")])
        idle = await client.get("anything")  # a connection of the pool that nobody uses meanwhile
        assert idle is None
        group.primary.pause()
        slept = time.monotonic()
        await asyncio.to_thread(wait_until, group.promoted, 30, "a promotion")
        while True:
            try:
                await store.write(1, 7, [put("late", "1")])
                break
            except StoreUnavailable:
                assert time.monotonic() - slept < 30
        group.primary.resume()  # it takes itself for the primary still, for about ten seconds
        old: Any = redis.asyncio.Redis.from_url(group.primary.url)
        for number in range(100):
            await store.write(1, 7, [put("late", number)])
            await client.set("plain", number)
            await asyncio.sleep(0.01)
        assert (await old.info("replication"))["role"] == "master"
        assert await old.get("plain") is None
        assert await old.get("{sip_cluster:1}:late") is None
        new: Any = redis.asyncio.Redis.from_url(group.replica.url)
        assert await new.get("plain") == b"99"
        assert await new.get("{sip_cluster:1}:late") == b"99"
        assert changes
        with pytest.raises(StaleEpoch):
            await store.write(2, 8, [])
        assert await new.get("{sip_cluster:2}:call") == b"of 2"
        assert pool.switches == 1
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await store.stop()
        for link in (client, old, new):
            await link.aclose()


async def test_without_a_sentinel_that_answers_there_is_no_primary() -> None:
    host = loopback()
    client = redis_primary.client(
        f"redis+sentinel://{host}:{free_port(host)},{host}:{free_port(host)}/x", **POOL
    )
    began = time.monotonic()
    with pytest.raises(redis.ConnectionError, match="No master found for 'x'"):
        await client.get("a")
    assert time.monotonic() - began < 3
    await client.aclose()


async def test_one_address_needs_no_sentinel(redis_client: redis.asyncio.Redis, redis_server: Any) -> None:
    client = redis_primary.client(redis_server.url, **POOL)
    await client.set("a", "1")
    assert await redis_client.get("a") == b"1"
    assert not isinstance(client.connection_pool, PrimaryPool)
    await client.aclose()
