"""Entries and acknowledgements are told together, each queue for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import (
    QueueEntry,
    QueueWriteResult,
    WriteQueuesRequest,
    WriteQueuesResponse,
)

from mesh.errors import DomainError, Reason
from mesh.rq import queues
from mesh.rq.metrics import ClientMetrics
from mesh.rq.publisher import PublisherFull
from mesh.rq.queues import QueueClient
from mesh.telemetry import Metrics

Answer = Callable[[WriteQueuesRequest], WriteQueuesResponse]


def done(request: WriteQueuesRequest) -> WriteQueuesResponse:
    return WriteQueuesResponse(results=[QueueWriteResult(depth=1) for _ in request.writes])


def refusing(queue: str, reason: str) -> Answer:
    def answer(request: WriteQueuesRequest) -> WriteQueuesResponse:
        reasons = [reason if write.queue == queue else "" for write in request.writes]
        return WriteQueuesResponse(results=[QueueWriteResult(reason=said, message="no") for said in reasons])

    return answer


def failing(code: grpc.StatusCode) -> Answer:
    def answer(request: WriteQueuesRequest) -> WriteQueuesResponse:
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")

    return answer


class Service:
    """Nodes that answer as the test says, then well; the first is used until it is suspected."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, WriteQueuesRequest]] = []
        self.names = ["a.1", "b.1"]
        self.hold = asyncio.Event()
        self.hold.set()

    def first(self, kind: int, number: int) -> NodeRecord | None:
        return NodeRecord(incarnation=self.names[0]) if self.names else None

    def suspect(self, incarnation: str) -> None:
        self.names = [name for name in self.names if name != incarnation] + [incarnation]

    def stub(self, record: NodeRecord) -> Any:
        service = self

        class Stub:
            async def WriteQueues(self, request: WriteQueuesRequest, **_: Any) -> WriteQueuesResponse:
                service.calls.append((record.incarnation, request))
                await service.hold.wait()
                return service.answers.pop(0)(request) if service.answers else done(request)

        return Stub(), ()

    def written(self, call: int) -> list[tuple[str, list[str]]]:
        """Queues of a call with the ids of what was put in or removed."""
        return [
            (write.queue, [*(entry.id for entry in write.entries), *write.ids])
            for write in self.calls[call][1].writes
        ]


def client_of(service: Service, limit: int = 10_000) -> QueueClient:
    nodes: Any = service
    return QueueClient(nodes, limit, ClientMetrics(Metrics("t", CollectorRegistry())))


async def settle(*futures: asyncio.Future[None]) -> None:
    await asyncio.wait_for(asyncio.gather(*futures), 5)


async def test_what_one_turn_tells_several_queues_is_one_call() -> None:
    service = Service()
    client = client_of(service)
    waiting = [client.enqueue("q:1", QueueEntry(id="x")), client.enqueue("q:2", QueueEntry(id="y"))]
    waiting += [client.acknowledge("q:1", ["r", "s"]), client.enqueue("q:1", QueueEntry(id="z"))]
    assert client.pending == 5
    await settle(*waiting)
    assert len(service.calls) == 1
    assert service.written(0) == [("q:1", ["x", "z"]), ("q:2", ["y"]), ("q:1", ["r", "s"])]
    assert client.pending == 0


async def test_what_comes_during_a_call_goes_with_the_next() -> None:
    service = Service()
    client = client_of(service)
    service.hold.clear()
    first = client.enqueue("q:1", QueueEntry(id="1"))
    while not service.calls:
        await asyncio.sleep(0)
    later = [client.enqueue(f"q:{n % 3}", QueueEntry(id=f"{n}")) for n in range(2, 8)]
    await asyncio.sleep(0.01)
    assert len(service.calls) == 1, "a node is told one call at a time"
    service.hold.set()
    await settle(first, *later)
    assert sorted(service.written(1)) == [("q:0", ["3", "6"]), ("q:1", ["4", "7"]), ("q:2", ["2", "5"])]


async def test_a_queue_that_is_full_holds_up_no_other_and_keeps_its_order() -> None:
    service = Service([refusing("q:1", "REASON_QUEUE_FULL")] * 2)
    client = client_of(service)
    full, other = client.enqueue("q:1", QueueEntry(id="1")), client.enqueue("q:2", QueueEntry(id="2"))
    await settle(other)
    assert not full.done()
    second = client.enqueue("q:1", QueueEntry(id="3"))
    await settle(full, second)
    assert [service.written(n) for n in range(1, len(service.calls))] == [[("q:1", ["1", "3"])]] * 2
    assert service.names[0] == "a.1", "every node would say that it is full"


@pytest.mark.parametrize(
    "answer",
    [
        failing(grpc.StatusCode.UNAVAILABLE),
        failing(grpc.StatusCode.UNIMPLEMENTED),
        refusing("q:1", "REASON_DEPENDENCY_UNAVAILABLE"),
        refusing("q:1", "REASON_OF_A_LATER_VERSION"),
    ],
)
async def test_what_a_node_does_not_do_another_is_told(answer: Answer) -> None:
    service = Service([answer])
    client = client_of(service)
    await settle(client.enqueue("q:1", QueueEntry(id="1")), client.acknowledge("q:1", ["2"]))
    assert [name for name, _ in service.calls][:2] == ["a.1", "b.1"]
    told = [item for n in range(1, len(service.calls)) for item in service.written(n)]
    assert ("q:1", ["1"]) in told


async def test_what_is_refused_for_good_is_told_to_who_waits() -> None:
    service = Service(
        [refusing("q:1", "REASON_INVALID_ATTRIBUTE"), failing(grpc.StatusCode.PERMISSION_DENIED)]
    )
    client = client_of(service)
    bad, good = client.enqueue("q:1", QueueEntry(id="1")), client.enqueue("q:2", QueueEntry(id="2"))
    await settle(good)
    with pytest.raises(DomainError) as refused:
        await bad
    assert refused.value.reason == Reason.REASON_INVALID_ATTRIBUTE
    with pytest.raises(DomainError):
        await client.enqueue("q:2", QueueEntry(id="3"))
    assert client.pending == 0
    await settle(client.enqueue("q:1", QueueEntry(id="4")))


async def test_a_call_takes_no_more_than_it_may() -> None:
    service = Service()
    client = client_of(service)
    waiting = [client.enqueue("q:1", QueueEntry(id=f"{n}")) for n in range(100)]
    waiting += [client.enqueue(f"q:{n}", QueueEntry(id="x")) for n in range(2, 200)]
    await settle(*waiting)
    for _, request in service.calls:
        assert len(request.writes) <= queues.CALL_QUEUES
        assert sum(len(write.entries) for write in request.writes) <= queues.CALL_ENTRIES
        assert all(write.entries for write in request.writes)
    told = [
        ident
        for n in range(len(service.calls))
        for queue, ids in service.written(n)
        for ident in ids
        if queue == "q:1"
    ]
    assert told == [f"{n}" for n in range(100)]


async def test_without_a_node_entries_wait_and_then_the_limit_is_told() -> None:
    service = Service()
    names, service.names = service.names, []
    client = client_of(service, limit=2)
    waiting = [client.enqueue("q:1", QueueEntry(id="1")), client.enqueue("q:2", QueueEntry(id="2"))]
    with pytest.raises(PublisherFull):
        client.enqueue("q:1", QueueEntry(id="3"))
    service.names = names
    await settle(*waiting)
    assert len(service.calls) == 2


async def test_when_the_store_has_changed_what_was_told_is_told_again() -> None:
    service = Service()
    client = client_of(service)
    await settle(client.enqueue("q:1", QueueEntry(id="1")), client.acknowledge("q:2", ["2"]))
    client.recall()
    while client.pending:
        await asyncio.sleep(0.001)
    assert service.written(1) == service.written(0)
    await client.close()
