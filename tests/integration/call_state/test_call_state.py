"""Call State as processes over real Redis Queue, Redis and etcd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest
import redis.asyncio
from voice.call_state.v1 import call_state_service_pb2 as pb
from voice.call_state.v1.call_state_service_pb2_grpc import CallStateServiceStub
from voice.call_state.v1.thread_pb2 import CallThread
from voice.tlib.v1.request_pb2 import (
    AttachUserDataRequest,
    DeletePairRequest,
    UpdateUserDataRequest,
)

from mesh.identifiers import agent_slot
from mesh.log import RedisRequestLog
from mesh.rq import THREAD, Rq
from tests.integration.call_state.story import NOW_MS, Story, kv
from tests.integration.redis_queue.processes import Processes, eventually, processes
from tests.integration.servers import EtcdServer, RedisServer

SETTINGS = {"CALL_STATE_ENDED_S": "3600"}
NOT_YET = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
"""Not there, or its owner has just died."""


async def publish(rq: Rq, *stories: Story) -> None:
    publisher = rq.publisher(THREAD)
    for story in stories:
        for envelope in story.envelopes:
            publisher.append(envelope)
    assert await publisher.flush(20)


async def thread(region: Processes, node: str, **key: object) -> pb.GetThreadResponse | None:
    """A thread as a node tells it; None while it does not."""
    stub = CallStateServiceStub(region.channel(region.nodes[node].target))
    try:
        request = pb.GetThreadRequest(tenant="t1", **key)  # type: ignore[arg-type]
        answer: pb.GetThreadResponse = await stub.GetThread(request, timeout=5)
    except grpc.aio.AioRpcError as error:
        if error.code() in NOT_YET:
            return None
        raise
    return answer


async def complete(region: Processes, node: str, story: Story) -> pb.GetThreadResponse:
    """The thread when all of the story is in it."""

    async def there() -> pb.GetThreadResponse | None:
        found = await thread(region, node, conn_id=story.conn_id())
        return found if found and found.thread.last_seq == len(story.envelopes) else None

    found = await eventually(there)
    assert found is not None
    return found


@pytest.mark.feature("CS-01", "CS-03")
async def test_all_events_are_in_their_threads_at_once_and_survive_a_restart(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **SETTINGS))
        async with nodes.rq() as rq:
            stories = [Story(n).routed("1001", "7001") for n in range(100)]
            await publish(rq, *stories)
            published = time.monotonic()
            for story in stories:
                await complete(nodes, "call_state-0", story)
            assert time.monotonic() - published < 5  # asked one by one; each was there long before
            moved = Story(500).routed("1001", "7001").transferred(("1001", "1002"), ("7001", "7002"))
            await publish(rq, moved)
            before = await complete(nodes, "call_state-0", moved)
            await nodes.kill("call_state-0")
            await nodes.start("call_state", 0, **SETTINGS)
            after = await complete(nodes, "call_state-0", moved)
            assert after == before
            assert {call.conn_id for call in after.thread.calls} == {moved.conn_id(1), moved.conn_id(2)}
            by_uuid = await thread(nodes, "call_state-0", call_uuid=moved.uuid(2))
            assert by_uuid == after
            parties = {p.dn: p.released_us for p in after.thread.calls[0].parties}
            assert parties["7002"] == 0  # the transferred call has her now
            assert parties["7001"] > 0


@pytest.mark.feature("CS-02")
async def test_user_data_follows_requests_and_events(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **SETTINGS))
        async with nodes.rq() as rq:
            story = Story(1)
            conn = story.conn_id()
            story.tell("CALL_CREATED", user_data=kv(a="1"))
            story.ask(attach_user_data=AttachUserDataRequest(conn_id=conn, user_data=kv(a="2", b="3")))
            story.ask(update_user_data=UpdateUserDataRequest(conn_id=conn, user_data=kv(a="9", c="4")))
            story.ask(delete_pair=DeletePairRequest(conn_id=conn, key="b"))
            await publish(rq, story)
            found = await complete(nodes, "call_state-0", story)
            assert found.thread.calls[0].user_data == kv(a="9", c="4")
            story.tell("ATTACHED_DATA_CHANGED", "7001", user_data=kv(z="event"))
            await publish(rq, story)
            found = await complete(nodes, "call_state-0", story)
            assert found.thread.calls[0].user_data == kv(z="event")  # the event tells all of it


@pytest.mark.feature("CS-05")
async def test_agents_are_told_of_their_calls_and_of_no_others(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    log = RedisRequestLog(redis_client)
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **SETTINGS))
        async with nodes.rq() as rq:
            story = Story(1).routed("1001", "7001").hung_up("1001", "7001")
            plain = Story(2).routed("", "7005").hung_up("", "7005")
            await publish(rq, story, plain)
            await complete(nodes, "call_state-0", story)
            await complete(nodes, "call_state-0", plain)
            await nodes.kill(
                "call_state-0"
            )  # and what it had not noted down is told again under the same ids
            await nodes.start("call_state", 0, **SETTINGS)
            reader = log.reader()
            for slot in range(256):
                reader.add(slot, "0")
            batch = await asyncio.wait_for(anext(reader), 10)
            assert batch.slot == agent_slot("t1", "agent:1001")
            assert {entry.subject for entry in batch.inputs} == {"agent:1001"}
            ids = list(dict.fromkeys(entry.input_id for entry in batch.inputs))
            wanted = [e.event_id for e in story.envelopes if e.event.event_type in (60, 64, 65)]
            assert ids == wanted
            assert [entry.call_event.event.this_dn for entry in batch.inputs[:3]] == ["7001"] * 3
            await reader.close()


@pytest.mark.feature("CS-08")
async def test_replaying_the_streams_gives_the_same_state(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **SETTINGS))
        async with nodes.rq() as rq:
            stories = [
                Story(n).routed("1001", "7001").transferred(("1001", "1002"), ("7001", "7002"))
                for n in range(20)
            ]
            await publish(rq, *stories)
            first = [(await complete(nodes, "call_state-0", story)).state_hash for story in stories]
            await nodes.kill("call_state-0")
            for key in await redis_client.keys("{call_state:*"):  # its memory is gone, the events are not
                await redis_client.delete(key)
            await nodes.start("call_state", 0, **SETTINGS)
            again = [(await complete(nodes, "call_state-0", story)).state_hash for story in stories]
            assert again == first
            assert len(set(first)) == len(stories)


async def test_two_nodes_share_the_slots_and_answer_for_each_other(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(
            nodes.start("redis_queue"),
            nodes.start("call_state", 0, **SETTINGS),
            nodes.start("call_state", 1, **SETTINGS),
        )
        async with nodes.rq() as rq:
            stories = [Story(n).routed("1001", "7001") for n in range(40)]
            await publish(rq, *stories)
            for story in stories:
                for node in ("call_state-0", "call_state-1"):
                    found = await complete(nodes, node, story)
                    assert found.thread.call_thread_id == story.thread
            lists = [await _listed(nodes, f"call_state-{n}") for n in (0, 1)]
            assert all(lists)
            assert sorted(t.call_thread_id for found in lists for t in found) == sorted(
                s.thread for s in stories
            )
            assert not await thread(nodes, "call_state-0", conn_id=(1 << 60) + 5)


async def _listed(nodes: Processes, node: str) -> list[CallThread]:
    stub = CallStateServiceStub(nodes.channel(nodes.nodes[node].target))
    answer = await stub.ListThreads(pb.ListThreadsRequest(tenant="t1", agent_id="1001"), timeout=5)
    return list(answer.threads)


async def test_threads_that_are_over_are_removed(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    past = (NOW_MS - 10**11) * 1000
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(
            nodes.start("redis_queue"),
            nodes.start("call_state", CALL_STATE_ENDED_S="0", CALL_STATE_SWEEP_S="0.05"),
        )
        async with nodes.rq() as rq:
            stories = [Story(n, start_us=past).routed("", "7001").hung_up("", "7001") for n in range(30)]
            await publish(rq, *stories)

            async def closed() -> bool:
                names = [(await redis_client.keys(f"*:s:{story.thread}"))[0] for story in stories]
                left = [await redis_client.pttl(name) for name in names]
                return all(0 < ms <= 3_600_000 for ms in left)

            async def empty() -> bool:
                left = await redis_client.keys("call_state:*") + await redis_client.keys("*:threads")
                return not left and not await thread(nodes, "call_state-0", call_thread_id=stories[0].thread)

            assert await eventually(closed)
            assert await eventually(empty)


async def test_a_redis_that_has_forgotten_everything_is_told_again(
    etcd_server: EtcdServer, own_redis: Callable[..., RedisServer], region: str
) -> None:
    server = own_redis()
    client = redis.asyncio.Redis.from_url(server.url)
    async with processes(etcd_server, server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **SETTINGS))
        async with nodes.rq() as rq:
            stories = [Story(n).routed("1001", "7001") for n in range(20)]
            await publish(rq, *stories)
            before = [await complete(nodes, "call_state-0", story) for story in stories]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

        async def written() -> bool:
            try:
                found = [await client.hlen(key) for key in await client.keys("{call_state:*}:threads")]
            except redis.exceptions.ConnectionError:
                return False
            return sum(found) == len(stories)

        assert await eventually(written)
        await nodes.kill("call_state-0")
        await nodes.start("call_state", 0, **SETTINGS)
        for story, known in zip(stories, before, strict=True):

            async def again(key: str = story.thread) -> pb.GetThreadResponse | None:
                return await thread(nodes, "call_state-0", call_thread_id=key)

            assert await eventually(again) == known
    await client.aclose()
