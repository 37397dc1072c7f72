"""Watch: whole state, changes, resuming, compaction; and the cache that every service builds on it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest
import structlog
from voice.config.v1 import config_service_pb2 as pb
from voice.config.v1 import object_pb2 as o
from voice.config.v1 import registration_pb2 as r
from voice.config.v1.object_pb2 import ConfigObject

from mesh.config_cache import Changed, ConfigCache, Dn
from mesh.errors import Reason, details
from mesh.etcd import Etcd
from mesh.metadata import PEER_KEY
from mesh.telemetry.metrics import Metrics
from tests.integration.config.conftest import Client, extension
from tests.integration.nodes import NodeProcess
from tests.integration.servers import EtcdServer

T = o.ObjectType


class Host:
    """The part of a service that a cache needs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.metrics = Metrics("test")
        self.log = structlog.get_logger("test")
        self.tasks: list[asyncio.Future[None]] = []

    def depends(self, name: str, check: Callable[[], Awaitable[bool]]) -> None:
        self.check = check

    def background(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        self.tasks.append(asyncio.ensure_future(start()))


@contextlib.asynccontextmanager
async def cache_of(node: NodeProcess, journal: Path | None = None) -> AsyncIterator[ConfigCache]:
    """A cache that follows a node."""
    async with grpc.aio.insecure_channel(
        node.target, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        host = Host(channel)
        cache = ConfigCache(host, journal=journal)
        try:
            yield cache
        finally:
            for task in host.tasks:
                task.cancel()
            await asyncio.gather(*host.tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 15.0) -> float:
    """Polls until it holds; gives the time it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "not in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def changes_after(client: Client, revision: int, count: int, **request: object) -> list[pb.Change]:
    """The first `count` changes of a watch after a revision."""
    call = client.config.Watch(pb.WatchRequest(after_revision=revision, **request), timeout=20)  # type: ignore[arg-type]
    found = list[pb.Change]()
    try:
        async for response in call:
            found.extend(response.changes)
            if len(found) >= count:
                return found
    finally:
        call.cancel()
    raise AssertionError("the watch ended")


@pytest.mark.feature("CF-06")
async def test_the_whole_state_and_then_what_changes(client: Client, tenant: str) -> None:
    rule = ConfigObject(dial_rule=o.DialRule(name="out", pattern="9X.", replacement="${DIGITS:1}"))
    await client.create(tenant, rule)
    call = client.config.Watch(pb.WatchRequest(tenant=tenant), timeout=20)
    first, synced = list[pb.Change](), False
    while not synced:
        response = await call.read()
        assert isinstance(response, pb.WatchResponse)
        first.extend(response.changes)
        synced = response.synced
    assert [change.object.WhichOneof("object") for change in first] == ["tenant", "dial_rule", "switch"]
    made = await client.create(tenant, extension("1001"))
    made.dn.overflow = "1002"
    changed = await client.update(tenant, made)
    await client.delete(tenant, T.OBJECT_TYPE_DN, made.dbid)
    later = list[pb.Change]()
    while len(later) < 3:
        response = await call.read()
        assert isinstance(response, pb.WatchResponse)
        later.extend(response.changes)
    call.cancel()
    assert [(c.object.dn.overflow, c.deleted) for c in later] == [
        ("", ""),
        ("1002", ""),
        ("", f"dn/{made.dbid}"),
    ]
    assert later[1].revision == changed.revision
    assert all(change.tenant == tenant for change in later)


@pytest.mark.feature("CF-10")
async def test_a_change_is_told_within_a_second(
    config_node: NodeProcess, client: Client, tenant: str
) -> None:
    async with cache_of(config_node) as cache:
        await cache.ready(15)
        heard = list[Changed]()
        cache.on_change(heard.append)
        await client.create(tenant, extension("1001"))
        assert await until(lambda: cache.dn(tenant, "1001")) < 1.0
        assert [change.new for change in heard] == [cache.dn(tenant, "1001")]


@pytest.mark.feature("CF-10")
async def test_a_resumed_watch_misses_nothing_on_any_node(
    client: Client,
    tenant: str,
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
) -> None:
    _, revision = await client.snapshot(tenant)
    made = await client.create(tenant, extension("1001"))
    await client.delete(tenant, T.OBJECT_TYPE_DN, made.dbid)
    # A node that starts now knows nothing of that by itself: it reads etcd's history.
    fresh = connect(start_config())
    for node in (client, fresh):
        found = await changes_after(node, revision, 2, tenant=tenant)
        assert [(c.object.dn.number, c.deleted) for c in found] == [("1001", ""), ("", f"dn/{made.dbid}")]
    await fresh.create(tenant, extension("1002"))
    found = await changes_after(fresh, revision, 3, tenant=tenant)
    assert [c.object.dn.number for c in found] == ["1001", "", "1002"]


async def test_a_compacted_cursor_says_so_and_the_cache_begins_again(
    own_etcd: EtcdServer,
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
) -> None:
    node = start_config(ETCD_CONFIG=own_etcd.endpoint)
    client = connect(node)
    name = "t-cursor"
    await client.create(name, ConfigObject(tenant=o.Tenant(tenant_id=name)))
    _, revision = await client.snapshot(name)
    await client.create(name, ConfigObject(switch=o.Switch(name="sip")))
    etcd = Etcd(own_etcd.endpoint)
    fresh = start_config(ETCD_CONFIG=own_etcd.endpoint)
    (_, now) = await connect(fresh).snapshot(name)
    await etcd.compact(now)
    await etcd.close()
    newest = connect(start_config(ETCD_CONFIG=own_etcd.endpoint))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await changes_after(newest, revision, 1, tenant=name)
    assert details(caught.value).reason == Reason.REASON_CURSOR_EXPIRED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await changes_after(newest, 10**9, 1, tenant=name)
    assert details(caught.value).reason == Reason.REASON_CURSOR_EXPIRED


async def test_the_cache_rides_out_a_restart_of_config(
    start_config: Callable[..., NodeProcess],
    connect: Callable[[NodeProcess], Client],
    tmp_path: Path,
    client: Client,
    tenant: str,
) -> None:
    await client.create(tenant, extension("1001"))
    node = start_config()
    journal = tmp_path / "journal"
    async with cache_of(node, journal) as cache:
        await cache.ready(15)
        gone = list[Changed]()
        cache.on_change(lambda change: gone.append(change) if change.new is None else None)
        node.kill()
        # While its node is away, the last data are served; another node is written to.
        await client.create(tenant, extension("1002"))
        assert isinstance(cache.dn(tenant, "1001"), Dn)
        assert cache.dn(tenant, "1002") is None
        node.start()
        await until(lambda: cache.dn(tenant, "1002"), 10)
        assert not gone
        revision = cache.revision
    node.kill()
    async with cache_of(node, journal) as cache:
        # A process that starts while Config is away has what the one before knew.
        await cache.ready(15)
        assert cache.revision >= revision - 1
        assert cache.dn(tenant, "1002") is not None
        assert not cache.connected
    assert journal.stat().st_mode & 0o077 == 0


async def test_watches_of_a_tenant_see_that_tenant_only(client: Client, tenant: str) -> None:
    other = f"t-{secrets.token_hex(4)}"
    await client.create(other, ConfigObject(tenant=o.Tenant(tenant_id=other)))
    changes, revision = await client.snapshot(tenant)
    assert {change.tenant for change in changes} == {tenant}
    await client.create(other, ConfigObject(switch=o.Switch(name="theirs")))
    await client.create(tenant, extension("1001"))
    found = await changes_after(client, revision, 1, tenant=tenant)
    assert [(c.tenant, c.object.dn.number) for c in found] == [(tenant, "1001")]


async def test_types_registrations_and_logins_are_sent_as_asked(client: Client, tenant: str) -> None:
    await client.create(tenant, extension("1001", password="s3cret"))
    binding = r.Registration(contact="sip:1001@10.0.0.1", expires_us=time.time_ns() // 1000 + 60_000_000)
    wanted = pb.DnRegistrations(dn="1001", registrations=[binding])
    await client.devices.PutRegistrations(
        pb.PutRegistrationsRequest(tenant=tenant, registrations=wanted), timeout=5
    )

    async def kinds(service: str, **request: object) -> list[str]:
        peer = ((PEER_KEY, f"spiffe://voicemesh.local/ns/voice/sa/{service}"),)
        call = client.config.Watch(pb.WatchRequest(tenant=tenant, **request), timeout=5, metadata=peer)  # type: ignore[arg-type]
        found = list[str]()
        async for response in call:
            for change in response.changes:
                put = change.WhichOneof("put") or ""
                found.append(change.object.dn.password or change.object.WhichOneof("object") or put)
            if response.synced:
                break
        call.cancel()
        return found

    assert await kinds("registrar", types=[T.OBJECT_TYPE_DN], registrations=True) == [
        "********",
        "registrations",
    ]
    assert await kinds("sip_proxy", types=[T.OBJECT_TYPE_DN]) == ["s3cret"]
    assert await kinds("registrar") == ["tenant", "switch", "********"]


async def test_large_objects_travel_in_parts(client: Client, config_node: NodeProcess, tenant: str) -> None:
    value = "x" * 4096
    annex = [
        o.OptionSection(name=f"s{n}", options=[o.Option(name=f"o{k}", value=value) for k in range(30)])
        for n in range(5)
    ]
    for number in range(12):
        await client.create(
            tenant, ConfigObject(transaction=o.Transaction(name=f"big{number}"), options=annex)
        )
    exported = await client.export(tenant)
    assert sum(message.ByteSize() for message in exported) > 6 << 20
    changes, revision = await client.snapshot(tenant)
    assert len(changes) == len(exported) == 14
    assert revision > 0
    async with cache_of(config_node) as cache:
        await cache.ready(10)
        found = cache.named(tenant, "transaction", "big11")
        assert found is not None
        assert len(found.option("s4", "o29")) == 4096


@pytest.mark.feature("CF-10")
async def test_no_update_is_lost_while_nodes_come_and_go(
    client: Client, tenant: str, start_config: Callable[..., NodeProcess]
) -> None:
    """The node a cache follows is killed twice while an object changes all the time: the cache
    is told every single change, in order, once."""
    node = start_config()
    made = await client.create(tenant, extension("1001", overflow="0"))
    async with cache_of(node) as cache:
        await cache.ready(10)
        told = list[str]()
        cache.on_change(
            lambda change: told.append(change.new.overflow) if isinstance(change.new, Dn) else None
        )
        written, stop = 0, False

        async def write() -> None:
            nonlocal made, written
            while not stop:
                written += 1
                made.dn.overflow = str(written)
                made = await client.update(tenant, made)

        writer = asyncio.create_task(write())
        for _ in range(2):
            await until(lambda: len(told) > 20, 40)
            node.kill()
            behind = written
            await until(lambda behind=behind: written > behind + 20, 40)  # type: ignore[misc]
            node.start()
            reached = written
            await until(lambda reached=reached: int(told[-1]) >= reached, 40)  # type: ignore[misc]
        stop = True
        await writer
        await until(lambda: told[-1] == str(written), 10)
    assert told == [str(number) for number in range(1, written + 1)]
