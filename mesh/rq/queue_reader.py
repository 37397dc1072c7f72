"""Reading a named queue at whichever node has it now."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from voice.redis_queue.v1.queue_service_pb2 import QueueEntry, ReadQueueRequest

from mesh.errors import from_rpc_error
from mesh.rq.nodes import TRANSIENT, Nodes
from mesh.rq.route import QUEUE_KIND, queue_slot
from mesh.telemetry import logger

RETRY_S: Final = 0.02
REMEMBERED: Final = 20_000
"""Ids that a reader has delivered and that are not acknowledged: so many are remembered."""
ACKNOWLEDGED: Final = 2_000
"""And so many that are: with a lost primary an entry may come again whose acknowledgement was lost."""

_log = logger("queues")


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
                await asyncio.sleep(RETRY_S)
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
        await asyncio.sleep(RETRY_S)
