"""Streams of events through real Front Ends: resumed at another, and told in the documented order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.rq import THREAD
from tests.integration.call_state.story import Story
from tests.integration.front_end.region import Client, region_of
from tests.integration.redis_queue.processes import eventually
from tests.integration.servers import EtcdServer, RedisServer


class Subscription:
    """What a client has been told, and where it would resume."""

    def __init__(self) -> None:
        self.events: list[EventEnvelope] = []
        self.cursor = ""

    def take(self, response: SubscribeResponse) -> None:
        self.events += response.events
        self.cursor = response.cursor

    def names(self, **fields: object) -> list[str]:
        """Names of the events with these attributes, in the order they were told."""
        return [
            MessageType.Name(e.event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")
            for e in self.events
            if all(getattr(e.event, name) == value for name, value in fields.items())
        ]


@contextlib.asynccontextmanager
async def following(client: Client, into: Subscription) -> AsyncIterator[asyncio.Task[None]]:
    """Follows the tenant's events from where the subscription is; entered when that stands."""
    request = SubscribeRequest(tenant=client.tenant, cursor=into.cursor)
    call: Any = client.events.Subscribe(request, metadata=client.metadata)
    into.take(await asyncio.wait_for(call.read(), 20))

    async def follow() -> None:
        with contextlib.suppress(Exception):  # how a stream of a killed process ends is no matter here
            while isinstance(response := await call.read(), SubscribeResponse):
                into.take(response)

    task = asyncio.create_task(follow())
    try:
        yield task
    finally:
        call.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.feature("FE-12", "RQ-08")
async def test_a_subscription_goes_on_at_another_front_end_when_its_own_dies(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    async with (
        region_of(etcd_server, redis_server, redis_client, region, sip_nodes=0, front_ends=2) as at,
        at.nodes.rq() as rq,
    ):
        told, publisher = Subscription(), rq.publisher(THREAD)
        stories = [Story(n, start_us=time.time_ns() // 1000).routed("", "7001") for n in range(150)]

        async def publish() -> None:
            for story in stories:
                for envelope in story.envelopes:
                    publisher.append(envelope)
                await asyncio.sleep(0.01)
            assert await publisher.flush(20)

        async with following(Client(at, "front_end-0"), told) as stream:
            publishing = asyncio.create_task(publish())
            await eventually(lambda: _count(told, 300))
            await at.nodes.kill("front_end-0")
            await asyncio.wait((stream,), timeout=10)
        assert 0 < len(told.events) < sum(len(story.envelopes) for story in stories)
        async with following(Client(at, "front_end-1"), told):
            await publishing
            await eventually(lambda: _count(told, sum(len(s.envelopes) for s in stories)), 20)
        for story in stories:
            seqs = [e.seq for e in told.events if e.stream_key == story.thread]
            assert seqs == list(range(1, len(story.envelopes) + 1))


async def _count(told: Subscription, count: int) -> bool:
    return len(told.events) >= count


async def test_a_client_hears_of_after_call_work_before_released(
    etcd_server: EtcdServer, redis_server: RedisServer, redis_client: redis.asyncio.Redis, region: str
) -> None:
    """Through Call State and Agent State: twenty calls of an agent with after-call work, and one of a DN without."""
    async with region_of(etcd_server, redis_server, redis_client, region, sip_nodes=0) as at:
        await asyncio.gather(at.nodes.start("call_state"), at.nodes.start("agent_state"))
        async with at.nodes.rq() as rq:
            client, told = Client(at, "front_end-0"), Subscription()
            await client.agent("AgentLogin", "1001")
            async with following(client, told):
                for number in range(1, 21):
                    await client.agent("AgentReady", "1001")
                    await _call(rq.publisher(THREAD), number, "A1001")
                    await eventually(lambda n=number: _released(told, n))  # type: ignore[misc]
                await _call(rq.publisher(THREAD), 99, "")
                await eventually(lambda: _released(told, 21))
            day = ["AGENT_READY", "RINGING", "ESTABLISHED", "AGENT_NOT_READY", "RELEASED"]
            assert told.names(agent_id="A1001") == day * 20
            assert not [e for e in told.events if e.cause.startswith("call:")]
            for envelope in told.events:
                if envelope.call_thread_id:
                    assert envelope.stream_key == envelope.call_thread_id
        await at.settled()


async def _released(told: Subscription, count: int) -> bool:
    return told.names().count("RELEASED") >= count


async def _call(publisher: Any, number: int, agent: str) -> None:
    """An answered call of DN 1001, told as it happens."""
    story = Story(number, start_us=time.time_ns() // 1000)
    for name in ("RINGING", "ESTABLISHED", "RELEASED"):
        envelope = story.tell(name, "1001", agent_id=agent, this_queue="8000")
        envelope.time_us = time.time_ns() // 1000
        await publisher.append(envelope)
