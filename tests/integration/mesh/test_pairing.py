"""A new etcd beside an old Redis is refused at start, with instructions."""

import asyncio

import pytest
import redis.asyncio

from mesh.etcd import Etcd
from mesh.store import StoreMismatch, check_pairing
from tests.integration.servers import EtcdServer


async def test_new_ones_are_paired_by_whoever_comes_first(
    own_etcd: EtcdServer, redis_client: redis.asyncio.Redis
) -> None:
    client = Etcd(own_etcd.endpoint)
    ids = await asyncio.gather(*(check_pairing(client, redis_client) for _ in range(8)))
    assert len(set(ids)) == 1
    assert await check_pairing(client, redis_client) == ids[0]
    await client.close()


async def test_a_new_redis_is_taken(own_etcd: EtcdServer, redis_client: redis.asyncio.Redis) -> None:
    client = Etcd(own_etcd.endpoint)
    first = await check_pairing(client, redis_client)
    await redis_client.flushall()
    assert await check_pairing(client, redis_client) == first
    await client.close()


@pytest.mark.parametrize("initialised", [False, True])
async def test_a_new_etcd_beside_an_old_redis_is_refused(
    own_etcd: EtcdServer, redis_client: redis.asyncio.Redis, initialised: bool
) -> None:
    client = Etcd(own_etcd.endpoint)
    known = await check_pairing(client, redis_client)
    await client.close()
    own_etcd.kill()
    own_etcd.wipe()
    own_etcd.start()
    client = Etcd(own_etcd.endpoint)
    if initialised:
        await client.ensure_store_id()
    with pytest.raises(StoreMismatch, match="restore its snapshot") as refused:
        await check_pairing(client, redis_client)
    assert known in str(refused.value)
    assert own_etcd.endpoint in str(refused.value)
    await client.close()
