"""Threads outlive the nodes that keep them; what is over goes; what a dead SIP node left behind is closed."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from pathlib import Path

import pytest
import redis.asyncio
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.discovery import Directory
from mesh.etcd import Etcd
from mesh.identifiers import SIP_SLOTS
from mesh.log import RedisRequestLog
from mesh.rq import THREAD, Rq
from services.call_state.policy import OF_AGENTS
from tests.integration.call_state.story import Story
from tests.integration.call_state.test_call_state import SETTINGS, complete, publish, thread
from tests.integration.front_end.sip_node import CALLS
from tests.integration.front_end.sip_process import start_sip_node
from tests.integration.redis_queue.processes import Processes, eventually, processes
from tests.integration.servers import EtcdServer, RedisServer

STORIES = 120


def whole(number: int) -> Story:
    """A routed call, transferred to another agent, and ended."""
    story = Story(number).routed("1001", "7001").transferred(("1001", "1002"), ("7001", "7002"))
    story.tell("RELEASED", "7002", agent_id="1002")
    story.tell("CALL_DELETED")
    return story


@pytest.mark.feature("CS-04")
async def test_threads_are_complete_though_nodes_die_in_the_middle_of_a_transfer(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    """Killed once half of each transfer has been told; joined by another node; killed again."""
    log = RedisRequestLog(redis_client)
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(
            nodes.start("redis_queue"), *(nodes.start("call_state", n, **SETTINGS) for n in (0, 1))
        )
        async with nodes.rq() as rq:
            stories = [whole(number) for number in range(STORIES)]
            publisher = rq.publisher(THREAD)
            cut, second = 18, 21  # consulting; between the two Released of the transfer
            for story in stories:
                for envelope in story.envelopes[:cut]:
                    publisher.append(envelope)
            await nodes.kill("call_state-0")
            for story in stories:
                for envelope in story.envelopes[cut:second]:
                    publisher.append(envelope)
            await nodes.start("call_state", 2, **SETTINGS)
            await nodes.kill("call_state-1")
            for story in stories:
                for envelope in story.envelopes[second:]:
                    publisher.append(envelope)
            assert await publisher.flush(20)
            for story in stories:
                found = (await complete(nodes, "call_state-2", story)).thread
                assert not found.anomalies
                assert {call.conn_id for call in found.calls} == {story.conn_id(1), story.conn_id(2)}
                assert found.ended_us == story.envelopes[-1].time_us
        await _told_to_agents(log, stories)


async def _told_to_agents(log: RedisRequestLog, stories: list[Story]) -> None:
    """The agents' log has every event of theirs, in order; those told again are repeats, which Agent State ignores."""
    expected = {
        e.event_id
        for s in stories
        for e in s.envelopes
        if e.event.agent_id and _of_agents(e.event.event_type)
    }
    reader = log.reader()
    for slot in range(256):
        reader.add(slot, "0")
    seen: dict[tuple[str, str], list[int]] = defaultdict(list)
    found: set[str] = set()
    async with asyncio.timeout(20):
        while found != expected:
            for entry in (await anext(reader)).inputs:
                found.add(entry.input_id)
                seen[entry.subject, entry.call_event.stream_key].append(entry.call_event.seq)
    await reader.close()
    await log.stop()
    for seqs in seen.values():
        news = [seq for at, seq in enumerate(seqs) if seq > max(seqs[:at], default=0)]
        assert sorted(set(seqs)) == news  # whoever takes them only forward misses none


def _of_agents(number: int) -> bool:
    return number in {kind.value for kind in OF_AGENTS}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.feature("CS-09")
async def test_ten_thousand_calls_leave_nothing_behind(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    settings = {"CALL_STATE_ENDED_S": "0", "CALL_STATE_SWEEP_S": "0.2"}
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(nodes.start("redis_queue"), nodes.start("call_state", 0, **settings))
        sizes = []
        async with nodes.rq() as rq:
            for part in range(4):
                await _calls(rq, range(part * 2500, (part + 1) * 2500))
                await eventually(lambda: _empty(redis_client), 90)
                sizes.append(_resident(nodes, "call_state-0"))
        assert sizes[3] < sizes[1] * 1.15, sizes  # bytes; the first part fills what is kept anyway


async def _calls(rq: Rq, numbers: range) -> None:
    publisher = rq.publisher(THREAD)
    past = time.time_ns() // 1000 - 10_000_000
    for number in numbers:
        story = Story(number, start_us=past)
        story.tell("CALL_CREATED", call_type=1)
        story.tell("RINGING", "7005")
        story.tell("RELEASED", "7005")
        story.tell("CALL_DELETED")
        for envelope in story.envelopes:
            publisher.append(envelope)
        if number % 250 == 0:
            assert await publisher.flush(60)
    assert await publisher.flush(60)


async def _empty(client: redis.asyncio.Redis) -> bool:
    """No thread, and no way to one, is left in Redis."""
    left = [key async for key in client.scan_iter("*call_state:*", count=5000)]
    return bool(left) and not [key for key in left if not key.endswith((b":fence", b":offsets"))]


def _resident(nodes: Processes, name: str) -> int:
    """Resident memory of a node, bytes."""
    process = nodes.nodes[name].process
    assert process is not None
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.feature("CS-09")
async def test_a_thread_of_a_dead_sip_node_is_closed_unless_its_heir_has_the_call(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    settings = {**SETTINGS, "CALL_STATE_ORPHAN_GRACE_S": "1", "CALL_STATE_SWEEP_S": "0.1"}
    etcd = Etcd(etcd_server.endpoint)
    sip = Directory(etcd, region, "sip_cluster")
    await sip.start()
    async with processes(etcd_server, redis_server, region) as nodes:
        await asyncio.gather(
            nodes.start("redis_queue"), nodes.start("call_state", 0, **settings), start_sip_node(nodes, 0)
        )
        for slot in range(SIP_SLOTS):
            await sip.wait_owner(slot, 30)
        async with nodes.rq() as rq:
            lost, kept = (
                Story(number, epoch=sip.epoch(number), start_us=time.time_ns() // 1000).routed("1001", "7001")
                for number in (3, 4)
            )
            await redis_client.sadd(CALLS, str(kept.conn_id()))
            await publish(rq, lost, kept)
            for story in (lost, kept):
                await complete(nodes, "call_state-0", story)
            before = sip.epoch(3)
            await nodes.kill("sip_cluster-0")
            await asyncio.sleep(2.5)  # longer than the grace time: without an owner nothing is decided
            assert not await _ended(nodes, lost)
            await start_sip_node(nodes, 1)
            await eventually(lambda: _ended(nodes, lost), 30)
            assert sip.epoch(3) > before
            await _closed_in_order(rq, lost)
            assert not await _ended(nodes, kept)
            kept.epoch = sip.epoch(4)
            kept.tell("HELD", "7001", agent_id="1001")  # the heir goes on telling it
            await rq.publisher(THREAD).append(kept.envelopes[-1])
            assert not (await complete(nodes, "call_state-0", kept)).thread.ended_us
    await sip.stop()
    await etcd.close()


async def _ended(nodes: Processes, story: Story) -> bool:
    found = await thread(nodes, "call_state-0", call_thread_id=story.thread)
    return found is not None and bool(found.thread.ended_us)


async def _closed_in_order(rq: Rq, story: Story) -> None:
    """The stream goes on without a gap: the agent Released, the parties gone, the call deleted."""
    reader = rq.read_stream(THREAD, story.thread, 1, once=True)
    events = [envelope async for page in reader for envelope in page]
    await reader.close()
    assert [envelope.seq for envelope in events] == list(range(1, len(events) + 1))
    closing = events[len(story.envelopes) :]
    names = [MessageType.Name(e.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_") for e in closing]
    assert names == ["CALL_PARTY_DELETED", "RELEASED", "CALL_PARTY_DELETED", "CALL_DELETED"]
    assert (closing[1].event.agent_id, closing[1].event.this_dn) == ("1001", "7001")
    assert {envelope.cause for envelope in closing} == {"orphan:call_state"}
