"""The contract voice.redis_queue.v1.QueueService."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1 import queue_service_pb2 as pb
from voice.redis_queue.v1.queue_service_pb2_grpc import QueueServiceServicer

from mesh.errors import DomainError, invalid
from mesh.telemetry import Metrics
from mesh.validation import Checks
from services.redis_queue import validate
from services.redis_queue.appender import Appender
from services.redis_queue.follower import Follower
from services.redis_queue.publish import PublishSession
from services.redis_queue.queues import Queues
from services.redis_queue.slot_feed import SlotFeed
from services.redis_queue.store import Store
from services.redis_queue.stream_feed import StreamFeed


class QueueRpc(QueueServiceServicer):
    """Contract to domain and back."""

    def __init__(self, store: Store, appender: Appender, follower: Follower, metrics: Metrics) -> None:
        self._store = store
        self._appender = appender
        self._follower = follower
        self._queues = Queues(store, follower)
        self._calls = metrics.gauge("open_streams", "Calls being served", ["method"])

    async def Publish(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        with self._calls.labels("Publish").track_inprogress(), _redis(), _first():
            await PublishSession(self._appender).run(request_iterator, context.write)

    async def ReadSlots(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        with self._calls.labels("ReadSlots").track_inprogress(), _redis(), _first():
            requests = aiter(request_iterator)
            first = await anext(requests, None)
            if first is None:
                return
            validate.read_slots(first)
            feed = SlotFeed(self._store, self._follower, first.family, first.tenant)
            try:
                await _change(feed, first)
                async with asyncio.TaskGroup() as group:
                    group.create_task(_follow_requests(feed, requests, first.family))
                    group.create_task(_send(feed, context))
            finally:
                feed.close()

    async def ReadStream(self, request: pb.ReadStreamRequest, context: Any) -> AsyncIterator[Any]:
        check = Checks()
        validate.family(check, request.family)
        validate.stream(check, request.stream_key)
        check.done()
        with self._calls.labels("ReadStream").track_inprogress(), _redis():
            feed = StreamFeed(self._store, self._follower, request.family, request.stream_key)
            async for response in feed.read(request.from_seq, request.once):
                yield response

    async def Enqueue(self, request: pb.EnqueueRequest, context: Any) -> pb.EnqueueResponse:
        validate.enqueue(request)
        with _redis():
            depth = await self._queues.enqueue(request.queue, request.entries, time.time_ns() // 1000)
        return pb.EnqueueResponse(depth=depth)

    async def ReadQueue(self, request: pb.ReadQueueRequest, context: Any) -> AsyncIterator[Any]:
        validate.queue(request.queue).done()
        with self._calls.labels("ReadQueue").track_inprogress(), _redis():
            async for response in self._queues.read(request.queue):
                yield response

    async def Acknowledge(self, request: pb.AcknowledgeRequest, context: Any) -> pb.AcknowledgeResponse:
        validate.acknowledge(request)
        with _redis():
            depth = await self._queues.acknowledge(request.queue, request.ids, time.time_ns() // 1000)
        return pb.AcknowledgeResponse(depth=depth)

    async def WriteQueues(self, request: pb.WriteQueuesRequest, context: Any) -> pb.WriteQueuesResponse:
        validate.write_queues(request)
        now_us = time.time_ns() // 1000
        results = await asyncio.gather(*(self._write(write, now_us) for write in request.writes))
        return pb.WriteQueuesResponse(results=results)

    async def _write(self, write: pb.QueueWrite, now_us: int) -> pb.QueueWriteResult:
        try:
            validate.queue_write(write)
            with _redis():
                depth = await self._queues.write(write, now_us)
        except DomainError as error:
            violations = [
                pb.QueueWriteResult.Violation(field=name, rule=rule) for name, rule in error.violations
            ]
            return pb.QueueWriteResult(
                reason=Reason.Name(error.reason), message=error.message, violations=violations
            )
        return pb.QueueWriteResult(depth=depth)

    async def CloseStream(self, request: pb.CloseStreamRequest, context: Any) -> pb.CloseStreamResponse:
        check = Checks()
        validate.family(check, request.family)
        validate.stream(check, request.stream_key)
        check.done()
        with _redis():
            slot = validate.slot_of(request.family, request.stream_key)
            await self._store.close_stream(request.family, slot, request.stream_key)
        return pb.CloseStreamResponse()

    async def FenceStreams(self, request: pb.FenceStreamsRequest, context: Any) -> pb.FenceStreamsResponse:
        validate.fence_streams(request)
        by_slot: dict[int, list[int]] = defaultdict(list)
        for number, fence in enumerate(request.fences):
            by_slot[validate.slot_of(request.family, fence.stream_key)].append(number)
        ends: dict[int, pb.StreamEnd] = {}

        async def one(slot: int, numbers: list[int]) -> None:
            fences = [(request.fences[n].stream_key, request.fences[n].epoch) for n in numbers]
            found = await self._store.fence(request.family, slot, fences)
            for number, (last, epoch) in zip(numbers, found, strict=True):
                ends[number] = pb.StreamEnd(last_seq=last, epoch=epoch)

        with _redis():
            await asyncio.gather(*(one(slot, numbers) for slot, numbers in by_slot.items()))
        return pb.FenceStreamsResponse(ends=[ends[number] for number in range(len(request.fences))])

    async def FollowStore(self, request: pb.FollowStoreRequest, context: Any) -> AsyncIterator[Any]:
        with self._calls.labels("FollowStore").track_inprogress():
            while True:
                told = self._store.home
                yield pb.FollowStoreResponse(store=told)
                while self._store.home == told:
                    await self._store.moved()


async def _change(feed: SlotFeed, request: pb.ReadSlotsRequest) -> None:
    feed.remove(request.remove)
    try:
        await feed.add(request.slots)
    except ValueError as error:
        raise invalid(("slots.cursor", str(error))) from error


async def _follow_requests(
    feed: SlotFeed, requests: AsyncIterator[pb.ReadSlotsRequest], family: pb.StreamFamily.ValueType
) -> None:
    async for request in requests:
        validate.read_slots(request)
        if request.family != family:
            raise invalid(("family", "must be the same in all requests of a stream"))
        await _change(feed, request)


async def _send(feed: SlotFeed, context: Any) -> None:
    while True:
        await context.write(await feed.next())


@contextmanager
def _first() -> Iterator[None]:
    """The first failure of a task group stands for all: the others were cancelled because of it."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


@contextmanager
def _redis() -> Iterator[None]:
    """Redis's failures as our own."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise DomainError(
            Reason.REASON_DEPENDENCY_UNAVAILABLE, f"redis does not answer: {error}", dependency="redis"
        ) from error
