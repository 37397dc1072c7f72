"""Redis that is slow, full, or has no room on its disk: what is stated happens, and everything is there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis.asyncio

from mesh.rq import THREAD, Rq
from mesh.store import FencedStore, StoreUnavailable, put
from tests.integration.redis_queue.cluster import Cluster, client, cluster, envelope
from tests.integration.redis_queue.processes import eventually
from tests.integration.relay import Relay
from tests.integration.servers import RedisServer, wait_until

OwnRedis = Callable[..., RedisServer]


class Guarded:
    """A fenced store of one slot that writes its value again when it is told that Redis may have forgotten."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.store = FencedStore(client, "sip_cluster", "sip")
        self.value = 0
        self.unprotected = 0
        self.rewritten = 0
        self.store.on_primary_change(self._forgotten)
        self.store.on_return(self._rewrite)
        self.store.on_unprotected(self._went_on)

    def _went_on(self, slot: int | str) -> None:
        self.unprotected += 1

    async def _forgotten(self) -> None:
        raise AssertionError("nothing was forgotten: a late answer is no lost memory")

    async def _rewrite(self, slots: frozenset[int | str]) -> None:
        assert slots == {1}
        await self.store.write(1, 1, [put("value", self.value)], timeout=2)
        self.rewritten += 1

    async def set(self, value: int) -> float:
        """A call's write; gives how long the call was held up, seconds. It goes on in any case."""
        self.value = value
        began = time.monotonic()
        with contextlib.suppress(StoreUnavailable):
            await self.store.write(1, 1, [put("value", value)])
        return time.monotonic() - began

    async def is_written(self) -> bool:
        try:
            return await self.store.read(1, "value") == str(self.value).encode()
        except StoreUnavailable:
            return False


@contextlib.asynccontextmanager
async def guarded(url: str) -> AsyncIterator[Guarded]:
    link = redis.asyncio.Redis.from_url(url)
    made = Guarded(link)
    await made.store.start()
    try:
        yield made
    finally:
        await made.store.stop()
        await link.aclose()


async def seqs(rq: Rq) -> list[int]:
    return [e.seq async for page in rq.read_stream(THREAD, "call-1", once=True) for e in page]


def refused(nodes: Cluster) -> float:
    registry = nodes.node("redis_queue-0").metrics.registry
    name = "voicemesh_redis_queue_events_refused_total"
    return registry.get_sample_value(name, {"reason": "REASON_DEPENDENCY_UNAVAILABLE"}) or 0.0


async def test_a_slow_redis_costs_a_call_its_budget_and_no_event(own_redis: OwnRedis) -> None:
    relay = Relay((await asyncio.to_thread(own_redis)).endpoint)
    await relay.start()
    url = f"redis://{relay.endpoint}/0"
    try:
        async with cluster(url, 1) as nodes, client(nodes) as rq, guarded(url) as calls:
            publisher = rq.publisher(THREAD)
            await publisher.append(envelope("call-1", 1))
            await calls.set(1)
            assert await calls.is_written()
            assert calls.unprotected == 0
            relay.delay_s = 0.15  # each way
            held_up = [await calls.set(value) for value in range(2, 6)]
            assert all(0.2 < seconds < 0.9 for seconds in held_up), held_up  # 0.25 and a busy machine
            assert calls.unprotected == 4
            await asyncio.gather(*(publisher.append(envelope("call-1", seq)) for seq in range(2, 22)))
            assert calls.value == 5
            relay.delay_s = 0.0
            await eventually(calls.is_written)
            assert calls.rewritten >= 1
            assert await seqs(rq) == list(range(1, 22))
    finally:
        await relay.cut()


async def test_redis_without_memory_is_waited_for(own_redis: OwnRedis) -> None:
    server = await asyncio.to_thread(own_redis)
    admin = redis.asyncio.Redis.from_url(server.url)
    async with cluster(server.url, 1) as nodes, client(nodes) as rq, guarded(server.url) as calls:
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-1", 1))
        await calls.set(1)
        await admin.config_set("maxmemory", 1)  # noeviction: nothing is thrown away to make room
        held_up = await calls.set(2)
        assert held_up < 0.9
        assert calls.unprotected == 1
        with pytest.raises(StoreUnavailable, match="OOM"):
            await calls.store.write(1, 1, [put("value", 2)])
        waits = [publisher.append(envelope("call-1", seq)) for seq in range(2, 12)]

        async def told() -> bool:
            return refused(nodes) > 0

        await eventually(told)
        assert publisher.pending == 10
        assert await seqs(rq) == [1]  # what is there is read all the same
        await admin.config_set("maxmemory", 0)
        await asyncio.wait_for(asyncio.gather(*waits), 20)
        await eventually(calls.is_written)
        assert await seqs(rq) == list(range(1, 12))
    await admin.aclose()


class DurableRedis(RedisServer):
    """With an append-only file, which may be kept from growing as a full disk would."""

    def command(self) -> list[str]:
        flags = ["--appendonly", "yes", "--appendfsync", "everysec"]
        return ["/bin/sh", "-c", f"trap '' XFSZ; exec {shlex.join([*super().command(), *flags])}"]

    def fill_disk(self) -> None:
        """The file cannot grow any more."""
        assert self.process is not None
        size = (self.folder / "appendonly.aof").stat().st_size
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free_disk(self) -> None:
        assert self.process is not None
        everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, everything)


@pytest.fixture
def durable() -> Iterator[DurableRedis]:
    server = DurableRedis()
    try:
        server.start()
        yield server
    finally:
        server.close()


async def test_redis_with_a_full_disk_is_waited_for(durable: DurableRedis) -> None:
    async with cluster(durable.url, 1) as nodes, client(nodes) as rq, guarded(durable.url) as calls:
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-1", 1))
        await calls.set(1)
        assert await calls.is_written()
        await asyncio.to_thread(wait_until, lambda: _grown(durable), 10, "written to disk")
        durable.fill_disk()
        acknowledged = 1

        async def refuses() -> bool:
            """The first write that does not fit is acknowledged still; Redis refuses from then on."""
            nonlocal acknowledged
            done = publisher.append(envelope("call-1", acknowledged + 1))
            acknowledged += 1
            await asyncio.wait([done], timeout=0.5)
            return refused(nodes) > 0

        await eventually(refuses, 30)
        with pytest.raises(StoreUnavailable, match="MISCONF"):
            await calls.store.write(1, 1, [put("value", 2)])
        assert await seqs(rq)  # what is there is read all the same
        durable.free_disk()
        assert await publisher.flush(30)
        calls.value = 1
        await eventually(calls.is_written)
        assert await seqs(rq) == list(range(1, acknowledged + 1))


def _grown(server: DurableRedis) -> bool:
    return (server.folder / "appendonly.aof").stat().st_size > 0
