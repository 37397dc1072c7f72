"""What bounds memory, and what those see who come too fast or read too slowly."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio
from voice.redis_queue.v1.queue_service_pb2 import ReadSlotsRequest, SlotCursor

from mesh.rq import THREAD, Rq
from mesh.rq.route import stream_slot
from services.redis_queue import appender
from services.redis_queue.settings import RedisQueueSettings
from tests.integration.redis_queue.cluster import Cluster, Node, client, cluster, envelope
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import RedisServer

SLOT = stream_slot(THREAD, "call-1")


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_client: redis.asyncio.Redis) -> AsyncIterator[Cluster]:
    async with cluster(redis_server.url, 1, RedisQueueSettings(ring_events=16)) as made:
        yield made


@pytest.fixture
async def rq(nodes: Cluster) -> AsyncIterator[Rq]:
    async with client(nodes) as made:
        yield made


def sample(node: Node, name: str, **labels: str) -> float:
    """A metric's value."""
    return node.metrics.registry.get_sample_value(f"voicemesh_redis_queue_{name}", labels) or 0.0


@pytest.mark.feature("RQ-08")
async def test_memory_is_bounded_however_many_calls_there_were(
    redis_server: RedisServer, redis_client: redis.asyncio.Redis
) -> None:
    slots = set(range(8))
    names = (f"call-{n}" for n in itertools.count())
    fitting = (name for name in names if stream_slot(THREAD, name) in slots)
    settings = RedisQueueSettings(slot_events=64, stream_retention_s=1)
    sizes = []
    async with cluster(redis_server.url, 1, settings) as nodes, client(nodes) as rq:
        publisher = rq.publisher(THREAD)
        for _ in range(4):
            calls = [next(fitting) for _ in range(150)]
            for seq in range(1, 13):
                for call in calls:
                    publisher.append(envelope(call, seq, text="x" * 200))
            assert await publisher.flush(20)
            await asyncio.gather(*(rq.close_stream(THREAD, call, timeout=10) for call in calls))
            await eventually(lambda: _ended(redis_client), 30)
            sizes.append(await _used(redis_client))
    assert sizes[-1] <= sizes[0] * 1.1, sizes
    assert sizes[-1] < 8 * 72 * 1024, "at most 72 events of half a kilobyte are kept of a slot"
    for slot in slots:
        assert await redis_client.xlen(f"{{rq:t{slot}}}:slot") <= 72


async def _ended(client: redis.asyncio.Redis) -> bool:
    return not [key for key in await client.keys("*") if b":s:" in key]


async def _used(client: Any) -> int:
    return sum([await client.memory_usage(key, samples=0) for key in await client.keys("{rq:*")])


@pytest.mark.feature("RQ-09")
async def test_a_dead_reader_holds_nobody_up(rq: Rq, nodes: Cluster) -> None:
    record = rq.nodes.first(THREAD, SLOT)
    assert record is not None
    node = nodes.node(record.node)
    stub, metadata = rq.nodes.stub(record)
    dead: Any = stub.ReadSlots(metadata=metadata)
    await dead.write(ReadSlotsRequest(family=THREAD, slots=[SlotCursor(slot=SLOT, cursor="0")]))
    publisher = rq.publisher(THREAD)
    for seq in range(1, 5001):
        publisher.append(envelope("call-1", seq, text="x" * 1000))
    assert await publisher.flush(20)
    assert sample(node, "open_streams", method="ReadSlots") == 1
    assert sample(node, "tails_depth") <= 2 * 16 + 2000  # its ring, and what one read may add at once
    dead.cancel()

    async def gone() -> bool:
        return sample(node, "open_streams", method="ReadSlots") == 0

    await eventually(gone)
    assert [e.seq async for page in rq.read_stream(THREAD, "call-1", 0, once=True) for e in page][-1] == 5000


@pytest.mark.feature("RQ-09")
async def test_a_full_backlog_is_signalled_and_nothing_is_lost(
    own_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "BACKLOG_EVENTS", 100)
    server = own_redis()
    settings = RedisQueueSettings(redis_timeout_ms=10_000)
    async with cluster(server.url, 1, settings) as nodes, client(nodes) as rq:
        node = nodes.node("redis_queue-0")
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-1", 1))
        server.pause()
        waits = []
        for seq in range(2, 402):
            waits.append(publisher.append(envelope("call-1", seq)))
            if seq % 40 == 0:
                await asyncio.sleep(0.01)  # batches of their own

        async def refused() -> bool:
            return sample(node, "events_refused_total", reason="REASON_QUEUE_FULL") > 0

        await eventually(refused)
        assert sample(node, "append_backlog_depth") <= 100
        server.resume()
        await asyncio.wait_for(asyncio.gather(*waits), 30)
        seqs = [e.seq async for page in rq.read_stream(THREAD, "call-1", once=True) for e in page]
        assert seqs == list(range(1, 402))
