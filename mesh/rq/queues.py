"""Named queues: entries once per id, kept until they are acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
from voice.redis_queue.v1.queue_service_pb2 import (
    AcknowledgeRequest,
    EnqueueRequest,
    QueueEntry,
    ReadQueueRequest,
)

from mesh.errors import DomainError, Reason, from_rpc_error, reason_of
from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import TRANSIENT, Metadata, Nodes, detached
from mesh.rq.publisher import PublisherFull
from mesh.rq.recent import Recent
from mesh.rq.route import QUEUE_KIND, queue_slot
from mesh.telemetry import logger

if TYPE_CHECKING:
    from voice.redis_queue.v1.queue_service_pb2_grpc import QueueServiceAsyncStub

CALL_ENTRIES: Final = 64
CALL_IDS: Final = 512
CALL_S: Final = 1.0
RETRY_FIRST_S: Final = 0.02
RETRY_LAST_S: Final = 1.0
REMEMBERED: Final = 20_000
"""Ids that a reader has delivered and that are not acknowledged: so many are remembered."""
ACKNOWLEDGED: Final = 2_000
"""And so many that are: with a lost primary an entry may come again whose acknowledgement was lost."""

Call = Callable[["QueueServiceAsyncStub", Metadata], Awaitable[Any]]

_log = logger("queues")


@dataclass(slots=True)
class _Outbox:
    """What waits to be told to one queue, told in order by one call at a time. Entries and acknowledgements wait
    apart: a queue that is full takes the entries only after acknowledgements."""

    items: deque[tuple[QueueEntry | str, asyncio.Future[None], bool]] = field(default_factory=deque)
    """Each with who waits for it, and whether it was told before."""
    task: asyncio.Task[None] | None = None


class QueueClient:
    """Sends entries and acknowledgements, each turn's together, until they are in."""

    def __init__(self, nodes: Nodes, limit: int, metrics: ClientMetrics) -> None:
        self._nodes = nodes
        self._limit = limit
        self._metrics = metrics
        self._outboxes: dict[tuple[str, type[QueueEntry | str]], _Outbox] = {}
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
        tasks = [outbox.task for outbox in self._outboxes.values() if outbox.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reader in [reader for readers in self._readers.values() for reader in readers]:
            await reader.close()

    def _gone(self, reader: QueueReader) -> None:
        readers = self._readers.get(reader.queue, [])
        if reader in readers:
            readers.remove(reader)
        if not readers:
            self._readers.pop(reader.queue, None)

    def _take(self, queue: str, item: QueueEntry | str, *, again: bool = False) -> asyncio.Future[None]:
        outbox = self._outboxes.setdefault((queue, type(item)), _Outbox())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outbox.items.append((item, done, again))
        self._pending += 1
        if outbox.task is None:
            outbox.task = detached(self._send(queue, type(item), outbox), f"queue {queue}")
        return done

    async def _send(self, queue: str, kind: type[QueueEntry | str], outbox: _Outbox) -> None:
        """Tells a queue what waits, and ends when nothing does."""
        await asyncio.sleep(0)  # the rest of this turn goes along
        while outbox.items:
            batch = list(outbox.items)[: CALL_ENTRIES if kind is QueueEntry else CALL_IDS]
            error = await self._until_told(queue, _call(queue, [item for item, _, _ in batch]))
            now = time.monotonic()
            for item, _, again in batch:
                outbox.items.popleft()
                if error is None and not again:
                    self._recent.add((queue, item), now)
            self._done([done for _, done, _ in batch], queue, error)
        del self._outboxes[queue, kind]

    def _done(self, futures: Sequence[asyncio.Future[None]], queue: str, error: DomainError | None) -> None:
        self._pending -= len(futures)
        if error is not None:
            _log.error("queue refuses", queue=queue, error=error.message, entries=len(futures))
        for done in futures:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # it may be left alone

    async def _until_told(self, queue: str, call: Call) -> DomainError | None:
        """Repeats a call until a node has carried it out; the error when it never will."""
        pause = RETRY_FIRST_S
        while True:
            record = self._nodes.first(QUEUE_KIND, queue_slot(queue))
            if record is not None:
                try:
                    stub, metadata = self._nodes.stub(record)
                    await call(stub, metadata)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in TRANSIENT:
                        return from_rpc_error(error, "redis_queue")
                    if reason_of(error) != Reason.REASON_QUEUE_FULL:  # every node would say so
                        self._metrics.failures.inc()
                        self._nodes.suspect(record.incarnation)
                    _log.info(
                        "queue call failed", queue=queue, queue_node=record.incarnation, error=error.details()
                    )
                else:
                    return None
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)


def _call(queue: str, items: Sequence[QueueEntry | str]) -> Call:
    """The call that tells a queue entries, or ids to remove."""
    entries = [item for item in items if isinstance(item, QueueEntry)]
    if entries:
        put = EnqueueRequest(queue=queue, entries=entries)
        return lambda stub, metadata: stub.Enqueue(put, timeout=CALL_S, metadata=metadata)
    remove = AcknowledgeRequest(queue=queue, ids=[item for item in items if isinstance(item, str)])
    return lambda stub, metadata: stub.Acknowledge(remove, timeout=CALL_S, metadata=metadata)


class QueueReader:
    """An asynchronous iterator of lists of entries. Not to be made directly: `Rq.read_queue`.

    One empty list tells that all that waited has been delivered. An entry that this reader has delivered is
    not delivered by it again, whatever happens to nodes.
    """

    def __init__(self, nodes: Nodes, queue: str, gone: Callable[[QueueReader], None]) -> None:
        self.queue = queue
        self._nodes = nodes
        self._gone = gone
        self._call: Any = None
        self._incarnation = ""
        self._told_end = False
        self._closed = False
        self._delivered: OrderedDict[str, None] = OrderedDict()
        self._acknowledged: OrderedDict[str, None] = OrderedDict()

    def __aiter__(self) -> QueueReader:
        return self

    async def __anext__(self) -> Sequence[QueueEntry]:
        """Raises DomainError for what is wrong with the request."""
        while not self._closed:
            if self._call is None and not self._open():
                await asyncio.sleep(RETRY_FIRST_S)
                continue
            try:
                response: Any = await self._call.read()
            except grpc.aio.AioRpcError as error:
                await self._failed(error)
                continue
            except asyncio.CancelledError:
                if self._closed:
                    break
                raise
            if response is grpc.aio.EOF:
                await self._failed(None)
                continue
            entries = [entry for entry in response.entries if self._is_new(entry.id)]
            if entries:
                self._remember(entries)
                return entries
            if response.caught_up and not self._told_end:
                self._told_end = True
                return []
        raise StopAsyncIteration

    def forget(self, ids: Sequence[str]) -> None:
        """They are acknowledged."""
        for ident in ids:
            self._delivered.pop(ident, None)
            self._acknowledged[ident] = None
        while len(self._acknowledged) > ACKNOWLEDGED:
            self._acknowledged.popitem(last=False)

    async def close(self) -> None:
        """Ends the reader."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
        self._gone(self)

    def _is_new(self, ident: str) -> bool:
        return ident not in self._delivered and ident not in self._acknowledged

    def _remember(self, entries: Sequence[QueueEntry]) -> None:
        self._delivered.update((entry.id, None) for entry in entries)
        while len(self._delivered) > REMEMBERED:
            self._delivered.popitem(last=False)

    def _open(self) -> bool:
        record = self._nodes.first(QUEUE_KIND, queue_slot(self.queue))
        if record is None:
            return False
        stub, metadata = self._nodes.stub(record)
        self._incarnation = record.incarnation
        self._call = stub.ReadQueue(ReadQueueRequest(queue=self.queue), metadata=metadata)
        return True

    async def _failed(self, error: grpc.aio.AioRpcError | None) -> None:
        self._call = None
        if self._closed:
            return
        if error is not None and error.code() not in TRANSIENT:
            raise from_rpc_error(error, "redis_queue") from error
        self._nodes.suspect(self._incarnation)
        _log.info("queue reading ended", queue=self.queue, queue_node=self._incarnation)
        await asyncio.sleep(RETRY_FIRST_S)
