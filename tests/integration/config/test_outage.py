"""Config without etcd: reads go on, writes fail whole."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc.aio
import pytest
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject

from mesh.errors import Reason, details
from services.config.store import MAX_OPS
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer, RedisServer


async def unavailable(call: object) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    said = details(caught.value)
    assert said.reason == Reason.REASON_DEPENDENCY_UNAVAILABLE, said
    assert said.status is grpc.StatusCode.UNAVAILABLE


@pytest.mark.feature("CF-15")
@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
async def test_reads_go_on_and_writes_fail_whole_while_the_store_is_away(
    own_etcd: EtcdServer,
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
    frozen: bool,
) -> None:
    """The same cluster holds ownership and configuration, as in an installation of one."""
    node = start_config(ETCD_CONFIG=own_etcd.endpoint, ETCD=own_etcd.endpoint)
    client, tenant = connect(node), "t-outage"
    await client.load(
        tenant,
        [
            ConfigObject(tenant=o.Tenant(tenant_id=tenant)),
            ConfigObject(switch=o.Switch(name="sip")),
            extension("1001"),
        ],
    )
    made = await client.get(tenant, o.OBJECT_TYPE_DN, number="1001")
    (own_etcd.pause if frozen else own_etcd.kill)()
    assert await client.get(tenant, o.OBJECT_TYPE_DN, number="1001") == made
    assert len(await client.export(tenant)) == 3
    assert len((await client.snapshot(tenant))[0]) == 3
    await unavailable(client.create(tenant, extension("1002")))
    await unavailable(client.load(tenant, [extension(f"{n}") for n in range(2000, 2300)]))
    made.dn.overflow = "1002"
    await unavailable(client.update(tenant, made))
    await unavailable(client.delete(tenant, o.OBJECT_TYPE_DN, made.dbid))
    binding = r.Registration(contact="sip:1001@10.0.0.1", expires_us=time.time_ns() // 1000 + 60_000_000)
    wanted = pb.DnRegistrations(dn="1001", registrations=[binding])
    await unavailable(
        client.devices.PutRegistrations(
            pb.PutRegistrationsRequest(tenant=tenant, registrations=wanted), timeout=5
        )
    )
    assert node.serving()
    (own_etcd.resume if frozen else own_etcd.start)()
    deadline = time.monotonic() + 15
    while True:
        try:
            await client.create(tenant, extension("1003"))
            break
        except grpc.aio.AioRpcError:
            assert time.monotonic() < deadline
    exported = await client.export(tenant)
    numbers = {message.dn.number for message in exported if message.HasField("dn")}
    if (
        frozen
    ):  # what waited in etcd's socket may have taken place when it woke: each transaction whole, or not
        assert len(numbers - {"1001", "1002", "1003"}) in (0, MAX_OPS)
        assert "1003" in numbers
    else:
        assert numbers == {"1001", "1003"}
        assert (await client.get(tenant, o.OBJECT_TYPE_DN, number="1001")).dn.overflow == ""


@pytest.mark.feature("CF-15")
async def test_config_keeps_nothing_in_redis_and_does_not_miss_it(
    own_redis: Callable[..., RedisServer],
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
) -> None:
    redis = own_redis()
    node = start_config(REDIS=redis.url)
    client, tenant = connect(node), "t-no-redis"
    await client.create(tenant, ConfigObject(tenant=o.Tenant(tenant_id=tenant)))
    await client.create(tenant, ConfigObject(switch=o.Switch(name="sip")))
    redis.kill()
    await client.create(tenant, extension("1001"))
    assert (await client.get(tenant, o.OBJECT_TYPE_DN, number="1001")).dn.number == "1001"
    assert node.serving()
