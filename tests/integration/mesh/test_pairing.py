"""A new etcd beside an old Redis is refused at start, with instructions."""

import asyncio
import json
from collections.abc import Callable

import pytest
import redis.asyncio

from mesh.etcd import Etcd
from mesh.store import StoreMismatch, check_pairing
from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer, RedisServer, wait_until


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


def _process(etcd: EtcdServer, redis_server: RedisServer, region: str) -> NodeProcess:
    return NodeProcess("redis_queue", REGION=region, ETCD=etcd.endpoint, REDIS=redis_server.url)


def _wiped(etcd: EtcdServer) -> None:
    etcd.kill()
    etcd.wipe()
    etcd.start()


def _refusal(node: NodeProcess) -> str:
    """What the log says of why the process ended."""
    lines = [json.loads(line) for line in node.log().splitlines()]
    found = [line for line in lines if line["event"] == "etcd and Redis do not belong together"]
    assert len(found) == 1, node.log()
    return str(found[0]["instructions"])


def test_a_service_does_not_start_beside_a_redis_of_another_etcd(
    own_etcd: EtcdServer, own_redis: Callable[..., RedisServer], region: str
) -> None:
    server = own_redis()
    node = _process(own_etcd, server, region)
    try:
        node.start()
        assert node.terminate() == 0
        _wiped(own_etcd)
        node.start(wait=False)
        assert node.process is not None
        assert node.process.wait(30) == 3
        said = _refusal(node)
        assert "restore its snapshot" in said
        assert "FLUSHALL" in said
        server.kill()
        server.start()  # what the instructions say: nothing is left of the old one
        node.start()
        assert node.terminate() == 0
    finally:
        node.kill()


def test_a_redis_that_was_away_at_the_start_is_compared_when_it_is_back(
    own_etcd: EtcdServer, own_redis: Callable[..., RedisServer], region: str
) -> None:
    server = own_redis()
    node = _process(own_etcd, server, region)
    try:
        node.start()
        assert node.terminate() == 0
        _wiped(own_etcd)
        server.pause()
        node.start(wait=False)
        assert node.process is not None
        wait_until(lambda: '"started"' in node.log().split("stopped")[-1], 30, node.log)
        assert node.process.poll() is None
        server.resume()
        assert node.process.wait(30) == 3
        assert "restore its snapshot" in _refusal(node)
    finally:
        node.kill()
