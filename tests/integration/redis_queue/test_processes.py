"""Redis Queue as processes: the library finds them in etcd, and goes on when one is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import defaultdict

import pytest
import redis.asyncio

from mesh.rq import AGENT, THREAD, Rq, SlotReader
from mesh.rq.route import order, stream_slot
from tests.integration.redis_queue.cluster import envelope
from tests.integration.redis_queue.processes import Processes, processes
from tests.integration.servers import EtcdServer, RedisServer, environment

CALLS = 1000
EVENTS = 10


async def _read(reader: SlotReader, count: int) -> dict[str, list[int]]:
    seqs: dict[str, list[int]] = defaultdict(list)
    total = 0
    async with asyncio.timeout(60):
        while total < count:
            batch = await anext(reader)
            for event in batch.events:
                seqs[event.stream_key].append(event.seq)
            total += len(batch.events)
    return seqs


async def _publish(rq: Rq, keys: list[str]) -> None:
    publisher = rq.publisher(THREAD)
    for seq in range(1, EVENTS + 1):
        for key in keys:
            publisher.append(envelope(key, seq))
        await asyncio.sleep(0.01)
    assert await publisher.flush(20)


async def _two(region: Processes) -> None:
    await asyncio.gather(region.start("redis_queue", 0), region.start("redis_queue", 1))


@pytest.mark.feature("RQ-01", "RQ-05")
async def test_the_events_of_a_thousand_calls_arrive_in_order_though_a_node_is_killed(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    keys = [f"call-{n}" for n in range(CALLS)]
    wanted = {key: list(range(1, EVENTS + 1)) for key in keys}
    async with processes(etcd_server, redis_server, region) as nodes:
        await _two(nodes)
        async with nodes.rq() as writing, nodes.rq() as reading, nodes.rq() as late:
            reader = reading.read_slots(THREAD)
            for slot in range(256):
                reader.add(slot, "0")
            collected = asyncio.create_task(_read(reader, CALLS * EVENTS))
            published = asyncio.create_task(_publish(writing, keys))
            await asyncio.sleep(0.03)
            await nodes.kill("redis_queue-0")
            await published
            assert await collected == wanted
            everything = late.read_slots(THREAD)
            for slot in range(256):
                everything.add(slot, "0")
            assert await _read(everything, CALLS * EVENTS) == wanted
            one = [e.seq async for page in late.read_stream(THREAD, "call-7", once=True) for e in page]
            assert one == list(range(1, EVENTS + 1))


async def test_from_publisher_to_reader_in_milliseconds(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with processes(etcd_server, redis_server, region) as nodes:
        await _two(nodes)
        async with nodes.rq() as writing, nodes.rq() as reading:
            reader = reading.read_slots(AGENT)
            slot = stream_slot(AGENT, "t1:1001")
            reader.add(slot, "0")
            assert (await asyncio.wait_for(anext(reader), 10)).caught_up
            delays = []
            for seq in range(1, 101):
                sent = time.monotonic()
                writing.publisher(AGENT).append(envelope("t1:1001", seq))
                batch = await asyncio.wait_for(anext(reader), 5)
                assert [event.seq for event in batch.events] == [seq]
                delays.append(time.monotonic() - sent)
            assert sorted(delays)[50] < 0.05


@pytest.mark.feature("RQ-04")
def test_every_process_names_the_same_nodes_for_a_stream() -> None:
    """Another interpreter, with another salt for `hash`, computes the same primary and backup."""
    nodes = [f"redis_queue-{n}" for n in range(4)]
    keys = [f"0192-{n}" for n in range(500)]
    script = (
        "from mesh.rq.route import order, stream_slot, THREAD\n"
        f"for key in {keys!r}: print(*order({nodes!r}, THREAD, stream_slot(THREAD, key)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(PYTHONHASHSEED="17"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    here = [" ".join(order(nodes, THREAD, stream_slot(THREAD, key))) for key in keys]
    assert done.stdout.splitlines() == here
    assert len({line.split()[0] for line in here}) == 4


@pytest.mark.feature("RQ-04")
def test_a_new_node_moves_one_slot_in_n() -> None:
    four, five = [f"redis_queue-{n}" for n in range(4)], [f"redis_queue-{n}" for n in range(5)]
    moved = [slot for slot in range(256) if order(four, THREAD, slot)[0] != order(five, THREAD, slot)[0]]
    assert 256 / 5 * 0.6 < len(moved) < 256 / 5 * 1.4
    assert all(order(five, THREAD, slot)[0] == "redis_queue-4" for slot in moved)
