"""One Publish call: batches in, results out, several on their way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import PublishRequest, PublishResponse, PublishResult

from mesh.errors import invalid
from services.redis_queue import validate
from services.redis_queue.appender import Appender, Submission, refusal
from services.redis_queue.store import Item

IN_FLIGHT: Final = 16
"""Batches of one call that wait for Redis at most; the next is not read before."""

Answer = tuple[int, list[PublishResult | None], asyncio.Future[list[PublishResult]]]


class PublishSession:
    """Results go out in the order of the batches."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue(IN_FLIGHT)
        self._open: set[asyncio.Future[list[PublishResult]]] = set()

    async def run(
        self, requests: AsyncIterator[PublishRequest], write: Callable[[PublishResponse], Awaitable[None]]
    ) -> None:
        """Serves the call until the client has ended it and all its results are sent. Of a client that has gone nothing is
        appended any more: it sends all of it again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(requests))
                group.create_task(self._write(write))
        finally:
            for done in list(self._open):
                done.cancel()

    async def _read(self, requests: AsyncIterator[PublishRequest]) -> None:
        async for request in requests:
            await self._answers.put(self._submit(request))
        await self._answers.put(None)

    def _submit(self, request: PublishRequest) -> Answer:
        if request.family not in validate.FAMILIES:
            raise invalid(("family", "must be STREAM_FAMILY_THREAD or STREAM_FAMILY_AGENT"))
        if len(request.events) > validate.BATCH_EVENTS:
            raise invalid(("events", f"must have at most {validate.BATCH_EVENTS} entries"))
        submissions: list[Submission] = []
        results: list[PublishResult | None] = []
        for envelope in request.events:
            raw = envelope.SerializeToString()
            problem = validate.event_problem(request.family, envelope, len(raw))
            if problem:
                results.append(refusal(Reason.REASON_INVALID_ATTRIBUTE, message=problem))
                continue
            results.append(None)
            slot = (request.family, validate.slot_of(request.family, envelope.stream_key))
            item = Item(envelope.stream_key, envelope.seq, envelope.epoch, raw, request.resume)
            submissions.append(Submission(slot, item, envelope))
        done = self._appender.submit(submissions)
        self._open.add(done)
        done.add_done_callback(self._open.discard)
        return request.batch, results, done

    async def _write(self, write: Callable[[PublishResponse], Awaitable[None]]) -> None:
        while (answer := await self._answers.get()) is not None:
            batch, results, done = answer
            appended = iter(await done)
            merged = [next(appended) if result is None else result for result in results]
            await write(PublishResponse(batch=batch, results=merged))
