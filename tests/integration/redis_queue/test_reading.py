"""The three ways to read: by stream, by slot, by queue; and what happens when nodes come and go."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from voice.redis_queue.v1.queue_service_pb2 import (
    ReadSlotsResponse,
)
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq import THREAD, Rq, SlotReader, StreamExpired, StreamReader, slot_link
from mesh.rq.route import stream_slot
from services.redis_queue import slot_feed
from services.redis_queue.settings import RedisQueueSettings
from services.redis_queue.slot_feed import SlotFeed
from tests.integration.redis_queue.cluster import Cluster, client, cluster, envelope
from tests.integration.servers import RedisServer

SLOT = stream_slot(THREAD, "call-1")


@pytest.fixture
async def nodes(redis_server: RedisServer, redis_client: redis.asyncio.Redis) -> AsyncIterator[Cluster]:
    async with cluster(redis_server.url, 2, RedisQueueSettings(ring_events=16)) as made:
        yield made


@pytest.fixture
async def rq(nodes: Cluster) -> AsyncIterator[Rq]:
    async with client(nodes) as made:
        yield made


async def collect(reader: SlotReader, count: int, seconds: float = 10.0) -> list[str]:
    """Ids of `count` events, in the order of delivery."""
    ids: list[str] = []
    async with asyncio.timeout(seconds):
        while len(ids) < count:
            batch = await anext(reader)
            assert not batch.expired
            ids += [event.event_id for event in batch.events]
    return ids


async def test_a_stream_is_read_from_any_point_and_followed(rq: Rq) -> None:
    publisher = rq.publisher(THREAD)
    for seq in range(1, 601):
        publisher.append(envelope("call-1", seq))
    await publisher.flush(5)
    reader = rq.read_stream(THREAD, "call-1", 300)
    seen = [event.seq async for page in _until_end(reader) for event in page]
    assert seen == list(range(300, 601))
    for seq in range(601, 701):
        publisher.append(envelope("call-1", seq))
    while len(seen) < 401:
        seen += [event.seq for event in await asyncio.wait_for(anext(reader), 5)]
    assert seen == list(range(300, 701))
    await reader.close()


async def _until_end(reader: StreamReader) -> AsyncIterator[list[EventEnvelope]]:
    async for page in reader:
        if not page:
            return
        yield page


async def test_a_stream_that_is_not_there_yet_is_followed_from_its_start(rq: Rq) -> None:
    reader = rq.read_stream(THREAD, "call-new")
    assert await asyncio.wait_for(anext(reader), 5) == []
    await rq.publisher(THREAD).append(envelope("call-new", 1))
    assert [e.seq for e in await asyncio.wait_for(anext(reader), 5)] == [1]
    await reader.close()


async def test_a_sequence_number_no_longer_kept_is_told(
    redis_server: RedisServer, redis_client: redis.asyncio.Redis
) -> None:
    settings = RedisQueueSettings(stream_events=64)
    async with cluster(redis_server.url, 1, settings) as nodes, client(nodes) as rq:
        publisher = rq.publisher(THREAD)
        for seq in range(1, 401):
            publisher.append(envelope("call-1", seq))
        await publisher.flush(5)
        with pytest.raises(StreamExpired):
            await anext(rq.read_stream(THREAD, "call-1", 1))
        oldest = await anext(rq.read_stream(THREAD, "call-1", 0))
        assert oldest[0].seq > 1
        seen = [e.seq async for page in rq.read_stream(THREAD, "call-1", 0, once=True) for e in page]
        assert seen == list(range(oldest[0].seq, 401))
        assert 64 <= len(seen) < 200  # Redis trims whole nodes of its list, so a few more than asked stay


@pytest.mark.feature("RQ-08")
async def test_a_slot_is_read_from_a_cursor_and_followed(rq: Rq) -> None:
    publisher = rq.publisher(THREAD)
    for seq in range(1, 101):
        publisher.append(envelope("call-1", seq))
    await publisher.flush(5)
    reader = rq.read_slots(THREAD)
    reader.add(SLOT, "0")
    first = await collect(reader, 100)
    assert first == [f"call-1/{n}" for n in range(1, 101)]
    cursor = reader.cursors()[SLOT]
    for seq in range(101, 201):
        publisher.append(envelope("call-1", seq))
    await publisher.flush(5)
    assert await collect(reader, 100) == [f"call-1/{n}" for n in range(101, 201)]
    await reader.close()
    again = rq.read_slots(THREAD)
    again.add(SLOT, cursor)
    assert await collect(again, 100) == [f"call-1/{n}" for n in range(101, 201)]
    await again.close()


async def test_now_begins_after_what_is_there(rq: Rq) -> None:
    await rq.publisher(THREAD).append(envelope("call-1", 1))
    reader = rq.read_slots(THREAD)
    reader.add(SLOT, "")
    batch = await asyncio.wait_for(anext(reader), 5)
    assert batch.caught_up
    assert not batch.events
    await rq.publisher(THREAD).append(envelope("call-1", 2))
    assert await collect(reader, 1) == ["call-1/2"]
    await reader.close()


async def test_only_events_of_the_tenant_asked_for(rq: Rq) -> None:
    reader = rq.read_slots(THREAD, tenant="t2")
    reader.add(SLOT, "0")
    publisher = rq.publisher(THREAD)
    for seq in range(1, 51):
        publisher.append(envelope("call-1", seq, tenant="t2" if seq % 10 == 0 else "t1"))
    assert await collect(reader, 5) == [f"call-1/{n}" for n in range(10, 51, 10)]
    await reader.close()


async def test_slots_are_added_and_removed_while_reading(rq: Rq) -> None:
    keys = {stream_slot(THREAD, f"call-{n}"): f"call-{n}" for n in range(200)}
    reader = rq.read_slots(THREAD)
    for slot in keys:
        reader.add(slot, "0")
    publisher = rq.publisher(THREAD)
    for key in keys.values():
        publisher.append(envelope(key, 1))
    assert sorted(await collect(reader, len(keys))) == sorted(f"{key}/1" for key in keys.values())
    gone = list(keys)[: len(keys) // 2]
    for slot in gone:
        reader.remove(slot)
    for key in keys.values():
        publisher.append(envelope(key, 2))
    left = [key for slot, key in keys.items() if slot not in gone]
    assert sorted(await collect(reader, len(left))) == sorted(f"{key}/2" for key in left)
    for slot in gone:  # taken up again where a fenced record says, here from the start
        reader.add(slot, "0")
    ids = await collect(reader, 2 * len(gone))
    assert sorted(ids) == sorted(f"{keys[slot]}/{n}" for slot in gone for n in (1, 2))
    await reader.close()


async def test_a_cursor_that_is_too_old_is_told_and_reading_goes_on(
    redis_server: RedisServer, redis_client: redis.asyncio.Redis
) -> None:
    async with cluster(redis_server.url, 1, RedisQueueSettings(slot_events=64)) as nodes, client(nodes) as rq:
        publisher = rq.publisher(THREAD)
        await publisher.append(envelope("call-1", 1))
        reader = rq.read_slots(THREAD)
        reader.add(SLOT, "0")
        await collect(reader, 1)
        old = reader.cursors()[SLOT]
        await reader.close()
        for seq in range(2, 402):
            publisher.append(envelope("call-1", seq))
        await publisher.flush(5)
        late = rq.read_slots(THREAD)
        late.add(SLOT, old)
        batch = await asyncio.wait_for(anext(late), 5)
        assert batch.expired
        seqs = [event.seq for event in batch.events]
        assert seqs == list(range(seqs[0], 402))
        assert 64 <= len(seqs) <= 72
        await late.close()


async def test_age_removes_but_never_the_newest(rq: Rq, nodes: Cluster) -> None:
    publisher = rq.publisher(THREAD)
    for seq in range(1, 11):
        publisher.append(envelope("call-1", seq))
    await publisher.flush(5)
    reader = rq.read_slots(THREAD)
    reader.add(SLOT, "0")
    await collect(reader, 10)
    cursor = reader.cursors()[SLOT]
    await reader.close()
    store = nodes.node("redis_queue-0").store
    assert await store.sweep(THREAD, [SLOT], 1 << 45) <= 9
    later = rq.read_slots(THREAD)
    later.add(SLOT, cursor)
    batch = await asyncio.wait_for(anext(later), 5)
    assert batch.caught_up
    assert not batch.expired
    await publisher.append(envelope("call-1", 11))
    assert await collect(later, 1) == ["call-1/11"]
    await later.close()


@pytest.mark.feature("RQ-09")
async def test_a_slow_reader_blocks_nobody_and_loses_nothing(rq: Rq, nodes: Cluster) -> None:
    slow = rq.read_slots(THREAD, limit=64)
    fast = rq.read_slots(THREAD)
    for reader in (slow, fast):
        reader.add(SLOT, "0")
    publisher = rq.publisher(THREAD)
    for seq in range(1, 3001):
        publisher.append(envelope("call-1", seq, text="x" * 500))
    wanted = [f"call-1/{n}" for n in range(1, 3001)]
    assert await collect(fast, 3000, 20) == wanted
    assert await publisher.flush(5)
    assert slow.held <= 64 + 256
    for name in ("redis_queue-0", "redis_queue-1"):  # a node holds only its ring, however slow the reader
        tails = nodes.node(name).follower._tails.values()
        assert all(len(tail) <= 2 * 16 + 2000 for tail in tails)
    assert await collect(slow, 3000, 20) == wanted
    await slow.close()
    await fast.close()


async def test_an_append_at_another_node_reaches_the_reader(
    nodes: Cluster, redis_client: redis.asyncio.Redis
) -> None:
    """The push is only a hint: what another node wrote comes from Redis."""
    async with client(nodes) as reading, client(nodes) as writing:
        reader = reading.read_slots(THREAD)
        reader.add(SLOT, "0")
        await anext(reader)
        first = writing.nodes.first(THREAD, SLOT)
        assert first is not None
        writing.nodes.suspect(first.incarnation)  # so the writer prefers the backup
        publisher = writing.publisher(THREAD)
        for seq in range(1, 51):
            await publisher.append(envelope("call-1", seq))
        assert await collect(reader, 50) == [f"call-1/{n}" for n in range(1, 51)]
        await reader.close()


async def test_nothing_is_lost_or_doubled_when_the_primary_is_killed(nodes: Cluster) -> None:
    async with client(nodes) as rq:
        keys = [f"call-{n}" for n in range(40)]
        slots = {stream_slot(THREAD, key) for key in keys}
        reader = rq.read_slots(THREAD)
        for slot in slots:
            reader.add(slot, "0")
        one = rq.read_stream(THREAD, keys[0])
        publisher = rq.publisher(THREAD)
        collecting = asyncio.create_task(collect(reader, 40 * 200, 30))
        following = asyncio.create_task(_follow(one, 200))
        for seq in range(1, 201):
            for key in keys:
                publisher.append(envelope(key, seq))
            if seq == 100:
                await nodes.node("redis_queue-0").kill()
            if seq == 150:
                nodes.leave("redis_queue-0")
            await asyncio.sleep(0.002)
        ids = await collecting
        by_key: dict[str, list[int]] = defaultdict(list)
        for ident in ids:
            key, _, number = ident.rpartition("/")
            by_key[key].append(int(number))
        assert by_key == {key: list(range(1, 201)) for key in keys}
        assert await asyncio.wait_for(following, 10) == list(range(1, 201))
        assert await publisher.flush(5)
        await reader.close()
        await one.close()


async def _follow(reader: StreamReader, count: int) -> list[int]:
    seqs: list[int] = []
    while len(seqs) < count:
        seqs += [event.seq for event in await anext(reader)]
    return seqs


async def test_a_node_that_falls_silent_is_left(
    rq: Rq, nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives, and its calls too; but a feed of its hangs. Nothing is lost, and nothing comes twice."""
    monkeypatch.setattr(slot_feed, "BEAT_S", 0.1)
    monkeypatch.setattr(slot_link, "SILENCE_S", 1.0)
    record = rq.nodes.first(THREAD, SLOT)
    assert record is not None
    silent = nodes.node(record.node).store
    batch = SlotFeed._batch

    async def hanging(feed: SlotFeed, slot: int, response: ReadSlotsResponse) -> int:
        if feed._store is silent:
            await asyncio.Event().wait()
        return await batch(feed, slot, response)

    reader = rq.read_slots(THREAD)
    reader.add(SLOT, "0")
    publisher = rq.publisher(THREAD)
    await publisher.append(envelope("call-1", 1))
    assert await collect(reader, 1) == ["call-1/1"]
    await asyncio.sleep(0.3)  # an empty message has said that the call is alive
    monkeypatch.setattr(SlotFeed, "_batch", hanging)
    await publisher.append(envelope("call-1", 2))
    await publisher.append(envelope("call-1", 3))
    assert await collect(reader, 2) == ["call-1/2", "call-1/3"]
    await reader.close()


async def test_a_quiet_reader_stays_where_it_is(rq: Rq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_feed, "BEAT_S", 0.1)
    monkeypatch.setattr(slot_link, "SILENCE_S", 0.5)
    reader = rq.read_slots(THREAD)
    reader.add(SLOT, "0")
    assert (await asyncio.wait_for(anext(reader), 5)).caught_up
    await asyncio.sleep(1.5)
    registry = reader._metrics.metrics.registry
    failures = [
        s.value for m in registry.collect() for s in m.samples if s.name.endswith("rq_node_failures_total")
    ]
    assert failures == [0.0]
    await reader.close()
