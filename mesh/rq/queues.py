"""Named queues: entries once per id, kept until they are acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import (
    QueueEntry,
    QueueWrite,
    QueueWriteResult,
    WriteQueuesRequest,
)

from mesh.errors import DomainError, Reason, from_rpc_error
from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import TRANSIENT, Nodes, detached
from mesh.rq.publisher import PublisherFull
from mesh.rq.queue_reader import QueueReader
from mesh.rq.recent import Recent
from mesh.rq.route import QUEUE_KIND, queue_slot
from mesh.telemetry import logger

CALL_QUEUES: Final = 128
CALL_ENTRIES: Final = 64
CALL_IDS: Final = 512
CALL_S: Final = 1.0
COMPANY_S: Final = 0.02
"""So long acknowledgements wait for an entry to go with."""
RETRY_FIRST_S: Final = 0.02
RETRY_LAST_S: Final = 1.0

_log = logger("queues")


@dataclass(slots=True)
class _Outbox:
    """What waits to be told to one queue, told in order by one call at a time. Entries and acknowledgements wait
    apart: a queue that is full takes the entries only after acknowledgements."""

    queue: str
    kind: type[QueueEntry | str]
    items: deque[tuple[QueueEntry | str, asyncio.Future[None], bool]] = field(default_factory=deque)
    """Each with who waits for it, and whether it was told before."""

    def write(self, count: int) -> QueueWrite:
        """Its first items."""
        items = [item for item, _, _ in islice(self.items, count)]
        return QueueWrite(
            queue=self.queue,
            entries=[item for item in items if isinstance(item, QueueEntry)],
            ids=[item for item in items if isinstance(item, str)],
        )


@dataclass(slots=True)
class _Line:
    """What a node's next call takes along."""

    outboxes: deque[_Outbox] = field(default_factory=deque)
    urgent: asyncio.Event = field(default_factory=asyncio.Event)
    """There are entries: nobody waits for an acknowledgement."""

    async def company(self) -> None:
        """Acknowledgements wait for a moment, until there is an entry to go with."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPANY_S):
                await self.urgent.wait()


class QueueClient:
    """Sends entries and acknowledgements until they are in: what waits for queues of a node goes together, in one call at
    a time; a queue that was not told goes alone until it is, so that it holds up no other."""

    def __init__(self, nodes: Nodes, limit: int, metrics: ClientMetrics) -> None:
        self._nodes = nodes
        self._limit = limit
        self._metrics = metrics
        self._outboxes: dict[tuple[str, type[QueueEntry | str]], _Outbox] = {}
        self._lines: dict[str, _Line] = {}
        """By incarnation."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._readers: dict[str, list[QueueReader]] = {}
        self._pending = 0
        self._recent: Recent[tuple[str, QueueEntry | str]] = Recent()
        metrics.metrics.queue(
            "rq_enqueue", lambda: self._pending, "Entries and acknowledgements not told yet"
        )

    @property
    def pending(self) -> int:
        """Entries and acknowledgements not told yet."""
        return self._pending

    def enqueue(self, queue: str, entry: QueueEntry) -> asyncio.Future[None]:
        """Sends an entry. Raises PublisherFull."""
        if self._pending >= self._limit:
            raise PublisherFull(f"{self._pending} queue entries wait")
        return self._take(queue, entry)

    def acknowledge(self, queue: str, ids: Sequence[str]) -> asyncio.Future[None]:
        """Removes entries; done when the last of them is removed."""
        done: asyncio.Future[None] | None = None
        for ident in ids:
            done = self._take(queue, ident)
        if done is None:
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
        for reader in self._readers.get(queue, ()):
            reader.forget(ids)
        return done

    def recall(self) -> None:
        """The store has changed: what was told in the last seconds is told again. Entries that are there, or were
        acknowledged, are no news to the queue."""
        recent = list(self._recent)
        for queue, item in recent:
            self._take(queue, item, again=True)
        entries = sum(isinstance(item, QueueEntry) for _, item in recent)
        self._metrics.recalled.labels("entry").inc(entries)
        self._metrics.recalled.labels("acknowledgement").inc(len(recent) - entries)

    def read(self, queue: str) -> QueueReader:
        """A reader; it forgets what is acknowledged here."""
        reader = QueueReader(self._nodes, queue, self._gone)
        self._readers.setdefault(queue, []).append(reader)
        return reader

    async def close(self) -> None:
        """Ends; what is not told is told to nobody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in [reader for readers in self._readers.values() for reader in readers]:
            await reader.close()

    def _gone(self, reader: QueueReader) -> None:
        readers = self._readers.get(reader.queue, [])
        if reader in readers:
            readers.remove(reader)
        if not readers:
            self._readers.pop(reader.queue, None)

    def _take(self, queue: str, item: QueueEntry | str, *, again: bool = False) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outbox = self._outboxes.get((queue, type(item)))
        if outbox is None:
            outbox = self._outboxes[queue, type(item)] = _Outbox(queue, type(item))
            self._line_up(outbox)
        outbox.items.append((item, done, again))
        self._pending += 1
        return done

    def _line_up(self, outbox: _Outbox) -> None:
        record = self._nodes.first(QUEUE_KIND, queue_slot(outbox.queue))
        if record is None:
            self._begin(self._alone(outbox), f"queue {outbox.queue}")
            return
        line = self._lines.get(record.incarnation)
        if line is None:
            line = self._lines[record.incarnation] = _Line()
            self._begin(self._together(record, line), f"queues at {record.incarnation}")
        line.outboxes.append(outbox)
        if outbox.kind is QueueEntry:
            line.urgent.set()

    def _begin(self, work: Coroutine[None, None, None], name: str) -> None:
        task = detached(work, name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _together(self, record: NodeRecord, line: _Line) -> None:
        """Tells a node what waits for its queues, and ends when nothing does."""
        await asyncio.sleep(0)  # the rest of this turn goes along
        while line.outboxes:
            await line.company()
            load = _load(line.outboxes)
            if not any(outbox.kind is QueueEntry for outbox in line.outboxes):
                line.urgent.clear()
            for (outbox, _), told in zip(load, await self._tell(record, load), strict=True):
                if told:
                    self._told(outbox)
                else:
                    self._begin(self._alone(outbox), f"queue {outbox.queue}")
        del self._lines[record.incarnation]

    async def _alone(self, outbox: _Outbox) -> None:
        """Tells a queue that could not be told, at whichever node serves it, until it is."""
        pause = RETRY_FIRST_S
        told = False
        while not told:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)
            record = self._nodes.first(QUEUE_KIND, queue_slot(outbox.queue))
            if record is not None:
                [told] = await self._tell(record, _load(deque([outbox])))
        self._told(outbox)

    def _told(self, outbox: _Outbox) -> None:
        if outbox.items:
            self._line_up(outbox)
        else:
            del self._outboxes[outbox.queue, outbox.kind]

    async def _tell(self, record: NodeRecord, load: Sequence[tuple[_Outbox, int]]) -> list[bool]:
        """One call; tells for each queue whether it is done with these items, carried out or refused for good."""
        stub, metadata = self._nodes.stub(record)
        request = WriteQueuesRequest(writes=[outbox.write(count) for outbox, count in load])
        try:
            answer = await stub.WriteQueues(request, timeout=CALL_S, metadata=metadata)
            errors = [_error(result) for result in answer.results]
            again = [error is not None and error.row.grpc in TRANSIENT for error in errors]
        except grpc.aio.AioRpcError as failed:
            errors = [from_rpc_error(failed, "redis_queue")] * len(load)
            # A node of an earlier version does not know the call; it is replaced soon.
            again = [failed.code() in TRANSIENT or failed.code() is grpc.StatusCode.UNIMPLEMENTED] * len(load)
        troubled = [
            error for error, repeat in zip(errors, again, strict=True) if error is not None and repeat
        ]
        if troubled:
            self._failed(record, troubled)
        for (outbox, count), error, repeat in zip(load, errors, again, strict=True):
            if not repeat:
                self._settle(outbox, count, error)
        return [not repeat for repeat in again]

    def _failed(self, record: NodeRecord, errors: Sequence[DomainError]) -> None:
        node = [error for error in errors if error.reason != Reason.REASON_QUEUE_FULL]
        if node:  # every node would say that a queue is full
            self._metrics.failures.inc()
            self._nodes.suspect(record.incarnation)
        error = (node or errors)[0].message
        _log.info("queue call failed", queue_node=record.incarnation, queues=len(errors), error=error)

    def _settle(self, outbox: _Outbox, count: int, error: DomainError | None) -> None:
        """Its first items are told, or refused."""
        now = time.monotonic()
        if error is not None:
            _log.error("queue refuses", queue=outbox.queue, error=error.message, entries=count)
        self._pending -= count
        for item, done, again in [outbox.items.popleft() for _ in range(count)]:
            if error is None and not again:
                self._recent.add((outbox.queue, item), now)
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # it may be left alone


def _load(line: deque[_Outbox]) -> list[tuple[_Outbox, int]]:
    """What one call takes from a line: outboxes, and how many of the items of each."""
    room: dict[type[QueueEntry | str], int] = {QueueEntry: CALL_ENTRIES, str: CALL_IDS}
    load: list[tuple[_Outbox, int]] = []
    while line and len(load) < CALL_QUEUES and room[line[0].kind] > 0:
        outbox = line.popleft()
        count = min(len(outbox.items), room[outbox.kind])
        room[outbox.kind] -= count
        load.append((outbox, count))
    return load


def _error(result: QueueWriteResult) -> DomainError | None:
    """Why a write was refused; a reason that is not known here is an error of the service."""
    if not result.reason:
        return None
    known = result.reason in Reason.DESCRIPTOR.values_by_name
    error = DomainError(Reason.Value(result.reason) if known else Reason.REASON_INTERNAL, result.message)
    error.violations = tuple((wrong.field, wrong.rule) for wrong in result.violations)
    return error
