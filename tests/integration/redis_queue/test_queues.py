"""Queues: entries once per id until acknowledged, one call for several queues, nodes that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import redis.asyncio
from voice.redis_queue.v1.queue_service_pb2 import (
    AcknowledgeRequest,
    EnqueueRequest,
    QueueEntry,
    QueueWrite,
    WriteQueuesRequest,
)

from mesh.errors import DomainError, Reason, details
from mesh.rq import QueueReader, Rq
from mesh.rq.route import QUEUE_KIND, queue_slot
from services.redis_queue.settings import RedisQueueSettings
from tests.integration.redis_queue.cluster import Cluster, client, cluster
from tests.integration.servers import RedisServer


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_client: redis.asyncio.Redis) -> AsyncIterator[Cluster]:
    async with cluster(redis_server.url, 2, RedisQueueSettings(ring_events=16)) as made:
        yield made


@pytest.fixture
async def rq(nodes: Cluster) -> AsyncIterator[Rq]:
    async with client(nodes) as made:
        yield made


async def test_entries_of_a_queue_are_there_once_until_acknowledged(rq: Rq) -> None:
    queue = "route_requests:t1"
    for name in ("a", "b", "a"):
        await rq.enqueue(queue, name, f"payload {name}".encode())
    reader = rq.read_queue(queue)
    entries = await _entries(reader, 2)
    assert [(e.id, e.payload) for e in entries] == [("a", b"payload a"), ("b", b"payload b")]
    assert entries[0].time_us > 0
    await rq.acknowledge(queue, "a", "unknown")
    await rq.enqueue(queue, "a", b"again")  # its id is remembered: it was dealt with
    await rq.enqueue(queue, "c", b"payload c")
    assert [e.id for e in await _entries(reader, 1)] == ["c"]
    heir = rq.read_queue(queue)  # also while the other still reads
    assert [e.id for e in await _entries(heir, 2)] == ["b", "c"]
    await heir.close()
    await reader.close()


@pytest.mark.feature("RQ-09")
async def test_a_full_queue_refuses(redis_server: RedisServer, redis_client: redis.asyncio.Redis) -> None:
    settings = RedisQueueSettings(queue_entries=16)
    async with cluster(redis_server.url, 1, settings) as nodes, client(nodes) as rq:
        waits = [rq.enqueue("route_requests:t1", f"r{n}", b"x") for n in range(16)]
        await asyncio.gather(*waits)
        late = rq.enqueue("route_requests:t1", "r16", b"x")
        done, _ = await asyncio.wait([late], timeout=0.3)
        assert not done  # it is sent again until there is room
        await rq.acknowledge("route_requests:t1", "r0")
        await asyncio.wait_for(late, 5)


async def test_a_queue_of_a_wrong_name_is_refused(rq: Rq) -> None:
    with pytest.raises(DomainError) as refused:
        await rq.enqueue("anything", "a", b"x")
    assert refused.value.reason == Reason.REASON_INVALID_ATTRIBUTE
    assert [field for field, _ in refused.value.violations] == ["queue"]


async def test_one_call_writes_several_queues_each_for_itself(rq: Rq) -> None:
    record = rq.nodes.first(QUEUE_KIND, queue_slot("outcomes:a"))
    assert record is not None
    stub, metadata = rq.nodes.stub(record)
    await rq.enqueue("outcomes:b", "b1", b"x")
    writes = [
        QueueWrite(queue="outcomes:a", entries=[QueueEntry(id="a1"), QueueEntry(id="a2")]),
        QueueWrite(queue="outcomes:b", ids=["b1"]),
        QueueWrite(queue="outcomes:c", entries=[QueueEntry()]),
        QueueWrite(queue="outcomes:d", entries=[QueueEntry(id="d1")], ids=["d2"]),
        QueueWrite(queue="outcomes:e"),
    ]
    answer = await stub.WriteQueues(WriteQueuesRequest(writes=writes), metadata=metadata)
    told = [
        (result.reason, result.depth, [wrong.field for wrong in result.violations])
        for result in answer.results
    ]
    invalid = "REASON_INVALID_ATTRIBUTE"
    assert told == [
        ("", 2, []),
        ("", 0, []),
        (invalid, 0, ["entries[0].id"]),
        (invalid, 0, ["ids"]),
        (invalid, 0, ["entries"]),
    ]
    for writes in ([], [QueueWrite(queue="outcomes:a", ids=["x"])] * 257):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.WriteQueues(WriteQueuesRequest(writes=writes), metadata=metadata)
        assert [field for field, _ in details(refused.value).violations] == ["writes"]


async def test_one_queue_by_its_own_calls(rq: Rq) -> None:
    queue = "outcomes:own"
    record = rq.nodes.first(QUEUE_KIND, queue_slot(queue))
    assert record is not None
    stub, metadata = rq.nodes.stub(record)
    put = EnqueueRequest(queue=queue, entries=[QueueEntry(id="1"), QueueEntry(id="2")])
    assert (await stub.Enqueue(put, metadata=metadata)).depth == 2
    assert (await stub.Enqueue(put, metadata=metadata)).depth == 2, "once per id"
    remove = AcknowledgeRequest(queue=queue, ids=["1", "3"])
    assert (await stub.Acknowledge(remove, metadata=metadata)).depth == 1


async def test_a_queue_is_read_on_after_its_node_was_killed(nodes: Cluster) -> None:
    async with client(nodes) as rq:
        queue = "route_answers:17"
        reader = rq.read_queue(queue)
        for n in range(50):
            rq.enqueue(queue, f"first-{n}", b"x")
        seen = [e.id for e in await _entries(reader, 50)]
        primary = rq.nodes.first(QUEUE_KIND, queue_slot(queue))
        assert primary is not None
        await nodes.node(primary.node).kill()
        nodes.leave(primary.node)
        for n in range(50):
            rq.enqueue(queue, f"second-{n}", b"x")
        seen += [e.id for e in await _entries(reader, 50)]
        assert seen == [f"first-{n}" for n in range(50)] + [f"second-{n}" for n in range(50)]
        await reader.close()


async def _entries(reader: QueueReader, count: int) -> list[QueueEntry]:
    entries: list[QueueEntry] = []
    async with asyncio.timeout(10):
        while len(entries) < count:
            entries += await anext(reader)
    return entries
