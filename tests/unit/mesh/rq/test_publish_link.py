"""What a link sends to a node that is slow: less, and later, until it answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import grpc
import pytest
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import PublishRequest, PublishResponse, PublishResult
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq import publish_link as module
from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import Nodes
from mesh.rq.publisher import Publisher
from mesh.rq.route import THREAD
from mesh.telemetry import Metrics
from tests.unit.mesh.rq.test_publisher import OneNode

ANSWER_S = 0.1
EVENTS = 20
"""In a batch."""


class Call:
    """A Publish call: what was sent, and the answers that the test gives."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.sent: list[PublishRequest] = []
        self.answers: asyncio.Queue[PublishResponse] = asyncio.Queue()

    async def write(self, request: PublishRequest) -> None:
        self.sent.append(request)

    async def read(self) -> Any:
        return await self.answers.get()

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def cancel(self) -> None:
        pass

    def answer(self, batch: int, reason: str = "") -> None:
        """Of a batch, all of it."""
        request = self.sent[batch]
        results = [PublishResult(reason=reason, last_seq=e.seq, epoch=1) for e in request.events]
        self.answers.put_nowait(PublishResponse(batch=request.batch, results=results))


class Node:
    """Its calls, in the place of a stub."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def Publish(self, metadata: Any = None) -> Call:
        self.calls.append(Call())
        return self.calls[-1]

    async def call(self, number: int) -> Call:
        """The call with a number, when there is one."""
        async with asyncio.timeout(20):
            while len(self.calls) <= number:
                await asyncio.sleep(0.005)
        return self.calls[number]


async def sent(call: Call, batches: int) -> None:
    """Waits for so many batches, and for any more that would follow."""
    async with asyncio.timeout(20):
        while len(call.sent) < batches:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    assert len(call.sent) == batches


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node()

    def stub(_: Nodes, record: NodeRecord) -> tuple[Node, tuple[()]]:
        return made, ()

    monkeypatch.setattr(Nodes, "stub", stub)
    monkeypatch.setattr(module, "BATCH_EVENTS", EVENTS)
    monkeypatch.setattr(module, "ANSWER_S", ANSWER_S)
    return made


@pytest.fixture
async def publisher(node: Node) -> Any:
    nodes = Nodes(OneNode())
    nodes.start()
    made = Publisher(nodes, THREAD, 10_000, ClientMetrics(Metrics("test")))
    yield made
    await made.close()


def append(publisher: Publisher, count: int) -> list[asyncio.Future[None]]:
    return [
        publisher.append(EventEnvelope(event_id=f"s{n}/1", stream_key=f"s{n}", seq=1, epoch=1))
        for n in range(count)
    ]


async def test_a_node_that_does_not_answer_is_given_one_batch_and_longer_each_time(
    node: Node, publisher: Publisher
) -> None:
    append(publisher, 20 * EVENTS)
    await sent(await node.call(0), module.IN_FLIGHT)
    for number in (1, 2, 3):
        await sent(await node.call(number), 1)
    begun = [call.begun for call in node.calls]
    waits = [after - before for before, after in itertools.pairwise(begun)]
    for number, wait in enumerate(waits[:3]):
        assert wait >= ANSWER_S * 2**number


async def test_with_each_answer_twice_as_many_are_on_their_way(node: Node, publisher: Publisher) -> None:
    done = append(publisher, 30 * EVENTS)
    await node.call(0)
    call = await node.call(1)
    await sent(call, 1)
    for answered, on_their_way in enumerate((2, 4, 8, 8)):
        call.answer(answered)
        await sent(call, answered + 1 + on_their_way)
    assert sum(future.done() for future in done) == 4 * EVENTS


async def test_after_a_refusal_the_node_is_given_one_batch_too(node: Node, publisher: Publisher) -> None:
    done = append(publisher, 10 * EVENTS)
    call = await node.call(0)
    await sent(call, module.IN_FLIGHT)
    call.answer(0)
    call.answer(1, reason="REASON_DEPENDENCY_UNAVAILABLE")
    await sent(await node.call(1), 1)
    assert sum(future.done() for future in done) == EVENTS
