"""The append decides: duplicates are acknowledged, gaps and old epochs refused, whoever serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio
from voice.error.v1.reason_pb2 import Reason

from mesh.errors import DomainError
from mesh.rq import AGENT, THREAD, AppendRefused, PublisherFull, Rq
from tests.integration.redis_queue.cluster import Cluster, client, cluster, envelope
from tests.integration.servers import RedisServer


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_client: redis.asyncio.Redis) -> AsyncIterator[Cluster]:
    async with cluster(redis_server.url) as made:
        yield made


@pytest.fixture
async def rq(nodes: Cluster) -> AsyncIterator[Rq]:
    async with client(nodes) as made:
        yield made


async def seqs(rq: Rq, key: str) -> list[int]:
    return [event.seq async for page in rq.read_stream(THREAD, key, once=True) for event in page]


async def names(client: redis.asyncio.Redis) -> list[str]:
    return [key.decode() if isinstance(key, bytes) else key for key in await client.keys("*")]


async def test_events_of_one_turn_are_stored_in_order(rq: Rq, nodes: Cluster) -> None:
    publisher = rq.publisher(THREAD)
    waits = [publisher.append(envelope(f"call-{n % 10}", n // 10 + 1)) for n in range(1000)]
    assert publisher.pending == 1000
    assert [e.seq for e in publisher.unacknowledged("call-3")] == list(range(1, 101))
    await asyncio.gather(*waits)
    assert publisher.pending == 0
    assert publisher.unacknowledged("call-3") == []
    for n in range(10):
        assert await seqs(rq, f"call-{n}") == list(range(1, 101))
    batches = nodes.node("redis_queue-0").metrics.registry.get_sample_value(
        "voicemesh_redis_queue_append_batch_events_count"
    )
    assert batches is not None
    assert batches < 50  # a thousand events did not cost a thousand round trips


async def test_a_repeat_is_acknowledged_and_stored_once(rq: Rq) -> None:
    publisher = rq.publisher(THREAD)
    await publisher.append(envelope("call-a", 1))
    await publisher.append(envelope("call-a", 2))
    await publisher.append(envelope("call-a", 1))
    await publisher.append(envelope("call-a", 2, epoch=5))  # an heir repeats it under its own epoch
    publisher.recall()
    assert publisher.pending == 2
    assert await publisher.flush(10)
    assert await seqs(rq, "call-a") == [1, 2]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (envelope("call-b", 4, epoch=7), Reason.REASON_SEQUENCE_GAP),
        (envelope("call-b", 3, epoch=6), Reason.REASON_STALE_EPOCH),
        (envelope("call-b", 2, epoch=7, text="another"), Reason.REASON_ALREADY_EXISTS),
        (envelope("call-b", 2, epoch=6, text="another"), Reason.REASON_STALE_EPOCH),
        (envelope("call-b", 3, epoch=7, tenant="T!"), Reason.REASON_INVALID_ATTRIBUTE),
    ],
)
async def test_what_does_not_fit_is_refused(rq: Rq, event: object, reason: int) -> None:
    publisher = rq.publisher(THREAD)
    await publisher.append(envelope("call-b", 1, epoch=7))
    await publisher.append(envelope("call-b", 2, epoch=7))
    with pytest.raises(AppendRefused) as refused:
        await publisher.append(event)  # type: ignore[arg-type]
    assert refused.value.reason == reason
    if reason == Reason.REASON_INVALID_ATTRIBUTE:
        assert "tenant must match" in str(refused.value)
    else:
        assert (refused.value.last_seq, refused.value.epoch) == (2, 7)
    assert await seqs(rq, "call-b") == [1, 2]
    await publisher.append(envelope("call-b", 3, epoch=7))
    assert await seqs(rq, "call-b") == [1, 2, 3]


async def test_agents_have_streams_of_their_own_slots(rq: Rq, redis_client: redis.asyncio.Redis) -> None:
    await rq.publisher(AGENT).append(envelope("t1:1001", 1))
    await rq.publisher(AGENT).append(envelope("t1:dn:7001", 1))
    keys = sorted(await names(redis_client))
    assert [key.split("}")[1] for key in keys if ":s:" in key] in (
        [":s:t1:1001", ":s:t1:dn:7001"],
        [":s:t1:dn:7001", ":s:t1:1001"],
    )
    assert all(key.startswith("{rq:a") for key in keys)
    for key in keys:
        assert await redis_client.pttl(key) == -1  # an agent's stream is never forgotten


@pytest.mark.feature("RQ-09")
async def test_a_full_publisher_takes_nothing(nodes: Cluster) -> None:
    async with client(nodes, limit=5) as rq:
        publisher = rq.publisher(THREAD)
        waits = [publisher.append(envelope("call-c", n)) for n in range(1, 6)]
        with pytest.raises(PublisherFull):
            publisher.append(envelope("call-c", 6))
        await asyncio.gather(*waits)
        await publisher.append(envelope("call-c", 6))
        assert await seqs(rq, "call-c") == [1, 2, 3, 4, 5, 6]


@pytest.mark.feature("RQ-08")
async def test_a_closed_stream_is_kept_for_the_retention_time(
    rq: Rq, redis_client: redis.asyncio.Redis
) -> None:
    await rq.publisher(THREAD).append(envelope("call-d", 1))
    key = next(k for k in await names(redis_client) if k.endswith(":s:call-d"))
    idle = await redis_client.pttl(key)
    assert idle > 6 * 86_400_000
    await rq.close_stream(THREAD, "call-d")
    assert 3_500_000 < await redis_client.pttl(key) <= 3_600_000
    await rq.publisher(THREAD).append(envelope("call-d", 2))  # a late event does not prolong it
    assert await redis_client.pttl(key) <= 3_600_000


async def test_a_forgotten_stream_is_sent_again_or_goes_on_behind_the_gap(
    nodes: Cluster, rq: Rq, redis_client: redis.asyncio.Redis
) -> None:
    """Whoever sent the last events sends them again; an heir, who has none, goes on, and a stream never stays dead."""
    for seq in (1, 2, 3):
        await rq.publisher(AGENT).append(envelope("t1:1001", seq))
        await rq.publisher(THREAD).append(envelope("call-e", seq))
    await redis_client.flushall()
    await rq.publisher(AGENT).append(envelope("t1:1001", 4))
    await rq.publisher(THREAD).append(envelope("call-e", 4))
    assert await seqs(rq, "call-e") == [1, 2, 3, 4]
    agents = [e.seq async for page in rq.read_stream(AGENT, "t1:1001", once=True) for e in page]
    assert agents == [1, 2, 3, 4]
    await redis_client.flushall()
    async with client(nodes) as heir:
        await heir.publisher(THREAD).append(envelope("call-e", 5))
        with pytest.raises(AppendRefused, match="SEQUENCE_GAP"):
            await heir.publisher(THREAD).append(envelope("call-e", 7))
    kept = [e.seq async for page in rq.read_stream(THREAD, "call-e", 0, once=True) for e in page]
    assert kept == [5]
    lost = nodes.node("redis_queue-0").metrics.registry.get_sample_value(
        "voicemesh_redis_queue_events_lost_total"
    )
    assert lost == 4  # what the heir had not


async def test_a_fenced_stream_takes_nothing_of_its_former_owner(nodes: Cluster, rq: Rq) -> None:
    """An heir fences before it reads: what the former owner has still under way does not come behind what was read."""
    publisher = rq.publisher(THREAD)
    for seq in (1, 2):
        await publisher.append(envelope("call-f", seq, epoch=5))
    async with client(nodes) as heir:
        ends = await heir.fence_streams(THREAD, {"call-f": 8, "call-new": 8})
        assert ends == {"call-f": 2, "call-new": 0}
        with pytest.raises(AppendRefused) as refused:
            await publisher.append(envelope("call-f", 3, epoch=5))
        assert refused.value.reason == Reason.REASON_STALE_EPOCH
        assert (refused.value.last_seq, refused.value.epoch) == (2, 8)
        with pytest.raises(AppendRefused, match="STALE_EPOCH"):
            await publisher.append(envelope("call-new", 1, epoch=7))
        await publisher.append(envelope("call-f", 2, epoch=5))  # what is there is acknowledged all the same
        assert await heir.fence_streams(THREAD, {"call-f": 8}) == {"call-f": 2}
        with pytest.raises(DomainError) as lower:
            await rq.fence_streams(THREAD, {"call-f": 6})
        assert lower.value.reason == Reason.REASON_STALE_EPOCH
        await heir.publisher(THREAD).append(envelope("call-f", 3, epoch=8))
    assert await seqs(rq, "call-f") == [1, 2, 3]


async def test_a_stream_that_was_given_away_leaves_its_publisher(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = await asyncio.to_thread(own_redis)
    async with cluster(server.url) as nodes, client(nodes) as rq:
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-g", 1, epoch=5))
        server.pause()
        lost = [publisher.append(envelope("call-g", seq, epoch=5)) for seq in (2, 3)]
        kept = publisher.append(envelope("call-h", 1, epoch=5))
        publisher.forget(["call-g"])
        assert publisher.unacknowledged("call-g") == []
        assert publisher.pending == 1
        assert all(done.cancelled() for done in lost)
        server.resume()
        await asyncio.wait_for(kept, 20)
        publisher.recall()  # nor is it sent again
        assert await publisher.flush(10)
        assert set(await seqs(rq, "call-g")) <= {1, 2, 3}  # what was under way already may have come in


async def test_an_owner_that_gets_a_stream_back_begins_a_new_history(
    own_redis: Callable[..., RedisServer],
) -> None:
    server = await asyncio.to_thread(own_redis)
    async with cluster(server.url) as nodes, client(nodes) as rq:
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-i", 1, epoch=5))
        server.pause()
        old = [publisher.append(envelope("call-i", seq, epoch=5, text="old")) for seq in (2, 3)]
        with pytest.raises(ValueError, match="waits for acknowledgement already"):
            publisher.append(envelope("call-i", 2, epoch=5))
        new = publisher.append(envelope("call-i", 2, epoch=9, text="old"))
        assert all(done.cancelled() for done in old)
        assert publisher.pending == 1
        server.resume()
        await asyncio.wait_for(new, 20)
