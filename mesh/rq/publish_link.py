"""One Publish call to one node: batches out, several on their way at once, answers in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import PublishRequest, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq.nodes import Nodes, detached
from mesh.telemetry import logger

if TYPE_CHECKING:
    from mesh.rq.publisher import Publisher

BATCH_EVENTS: Final = 256
BATCH_BYTES: Final = 1024 * 1024
GATHER_S: Final = 0.002
"""After a batch the next one gathers events for so long, seconds: what comes after a quiet moment leaves at once, and many events cost
few messages."""
IN_FLIGHT: Final = 8
"""Batches without an answer at most."""
ANSWER_S: Final = 2.0
"""A node that has not answered a batch for so long has failed, seconds; twice as long after each time until one answers, so that
one which is slow is not given the same work again before it has done it."""
ANSWER_LAST_S: Final = 16.0
RETRY_FIRST_S: Final = 0.02
RETRY_LAST_S: Final = 1.0


@dataclass(slots=True, eq=False)
class Pending:
    """An event that is not known to be stored."""

    envelope: EventEnvelope
    slot: int
    done: asyncio.Future[None]
    since: float
    link: PublishLink | None = None
    sent: bool = False
    settled: bool = False
    again: bool = False
    """It was acknowledged before, by a store that another has followed since."""


class _StartAgain(Exception):
    """The node answered that something before was not taken."""


class PublishLink:
    """Sends what it is given; after a failure sends everything again that still waits for it: one batch first, and with each answer
    twice as many at once, up to IN_FLIGHT. What publishers have not brought away is most when a node can do least."""

    def __init__(
        self, publisher: Publisher, nodes: Nodes, family: StreamFamily.ValueType, record: NodeRecord
    ) -> None:
        self._publisher = publisher
        self._nodes = nodes
        self._family = family
        self._record = record
        self._outbox: deque[Pending] = deque()
        self._in_flight: deque[tuple[int, list[Pending], float]] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._window = IN_FLIGHT
        self._answer_s = ANSWER_S
        self._pause = RETRY_FIRST_S
        self._log = logger("publish_link")
        self._task = detached(self._run(), f"publish to {record.incarnation}")

    @property
    def incarnation(self) -> str:
        """The node."""
        return self._record.incarnation

    def send(self, pending: Pending) -> None:
        """Takes an event; it leaves with the others of this turn of the loop."""
        self._outbox.append(pending)
        self._more.set()

    def abandon(self) -> None:
        """Ends without waiting."""
        self._task.cancel()

    async def close(self) -> None:
        """Ends."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._more.wait()  # no call without need
            try:
                await self._talk()
            except _StartAgain:
                pass
            except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError, EOFError) as error:
                self._log.info("publish call ended", queue_node=self.incarnation, error=_brief(error))
                if isinstance(error, TimeoutError):
                    self._answer_s = min(self._answer_s * 2, ANSWER_LAST_S)
                self._publisher.failed(self)
            self._window = 1
            self._in_flight.clear()
            self._outbox.clear()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, RETRY_LAST_S)
            self._begin_again()

    def _begin_again(self) -> None:
        self._outbox.clear()  # what was given meanwhile is among what waits
        waiting = self._publisher.waiting_for(self)
        self._publisher.resent(sum(pending.sent for pending in waiting))
        self._outbox.extend(waiting)
        if waiting:
            self._more.set()
        else:
            self._more.clear()

    async def _talk(self) -> None:
        stub, metadata = self._nodes.stub(self._record)
        call = stub.Publish(metadata=metadata)
        tasks = [
            asyncio.create_task(self._write(call)),
            asyncio.create_task(self._read(call)),
            asyncio.create_task(self._watch()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        number = 0
        loop = asyncio.get_running_loop()
        next_at = 0.0
        while True:
            await self._more.wait()
            early = next_at - loop.time()
            if early > 0 and len(self._outbox) < BATCH_EVENTS:
                await asyncio.sleep(early)
            while self._outbox:
                while len(self._in_flight) >= self._window:
                    self._room.clear()
                    await self._room.wait()
                number += 1
                batch = self._take()
                if not batch:
                    break
                self._in_flight.append((number, batch, time.monotonic()))
                events = [pending.envelope for pending in batch]
                resume = self._publisher.resumes(batch)
                await call.write(
                    PublishRequest(batch=number, family=self._family, events=events, resume=resume)
                )
            self._more.clear()
            next_at = loop.time() + GATHER_S

    def _take(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self._outbox and len(batch) < BATCH_EVENTS and size < BATCH_BYTES:
            pending = self._outbox.popleft()
            if pending.settled or pending.link is not self:
                continue  # it has gone another way
            size += pending.envelope.ByteSize()
            pending.sent = True
            batch.append(pending)
        return batch

    async def _read(self, call: Any) -> None:
        while True:
            response: Any = await call.read()
            if response is grpc.aio.EOF:
                raise EOFError(f"the node ended the call: {await call.code()}")
            number, batch, _ = self._in_flight.popleft()
            if number != response.batch or len(batch) != len(response.results):
                raise EOFError(f"answer to batch {response.batch} instead of {number}")
            self._nodes.trust(self.incarnation)
            self._publisher.answered(batch)
            good = True
            for pending, result in zip(batch, response.results, strict=True):
                good &= self._publisher.settle(self, pending, result)
            self._room.set()
            self._answer_s = ANSWER_S
            if good:
                self._window, self._pause = min(self._window * 2, IN_FLIGHT), RETRY_FIRST_S
            else:
                reason = next(result.reason for result in response.results if result.reason)
                self._log.info("events are sent again", reason=reason, queue_node=self.incarnation)
                raise _StartAgain

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(ANSWER_S / 4)
            if self._in_flight and time.monotonic() - self._in_flight[0][2] > self._answer_s:
                raise TimeoutError(f"no answer for {self._answer_s} s")


def _brief(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return repr(error)
