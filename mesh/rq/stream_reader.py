"""Following one stream."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from voice.error.v1.reason_pb2 import Reason
from voice.redis_queue.v1.queue_service_pb2 import ReadStreamRequest, ReadStreamResponse, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import from_rpc_error, reason_of
from mesh.rq.nodes import TRANSIENT, Nodes
from mesh.rq.route import stream_slot
from mesh.telemetry import logger

RETRY_S = 0.05


class StreamExpired(Exception):
    """The events asked for are no longer kept (REASON_CURSOR_EXPIRED)."""


class StreamReader:
    """An asynchronous iterator of lists of events in sequence. Not to be made directly: `Rq.read_stream`.

    One empty list tells that the present end was reached. Over a change of node it goes on with the next
    sequence number: no event is missing and none comes twice.
    """

    def __init__(
        self, nodes: Nodes, family: StreamFamily.ValueType, stream_key: str, from_seq: int, once: bool
    ) -> None:
        self._nodes = nodes
        self._family = family
        self._key = stream_key
        self._slot = stream_slot(family, stream_key)
        self._next = from_seq
        self._once = once
        self._told_end = False
        self._call: Any = None
        self._record_incarnation = ""
        self._closed = False
        self._log = logger("stream_reader")

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> list[EventEnvelope]:
        """Raises StreamExpired, DomainError for what is wrong with the request."""
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
                if self._once and self._told_end:
                    break
                await self._failed(None)
                continue
            events = self._fresh(response)
            if events is not None:
                return events
        raise StopAsyncIteration

    async def close(self) -> None:
        """Ends the reader."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    def _open(self) -> bool:
        record = self._nodes.first(self._family, self._slot)
        if record is None:
            return False
        stub, metadata = self._nodes.stub(record)
        request = ReadStreamRequest(
            family=self._family, stream_key=self._key, from_seq=self._next, once=self._once
        )
        self._record_incarnation = record.incarnation
        self._call = stub.ReadStream(request, metadata=metadata)
        return True

    def _fresh(self, response: ReadStreamResponse) -> list[EventEnvelope] | None:
        """What of a message is new; None when nothing is."""
        if not response.events:
            if self._told_end:
                return None
            self._told_end = True
            return []
        events = [event for event in response.events if event.seq >= self._next]
        if not events:
            return None
        self._next = events[-1].seq + 1
        return events

    async def _failed(self, error: grpc.aio.AioRpcError | None) -> None:
        self._call = None
        if self._closed:
            return
        if error is not None:
            if reason_of(error) == Reason.REASON_CURSOR_EXPIRED:
                raise StreamExpired(f"{self._key} from seq {self._next}: {error.details()}") from error
            if error.code() not in TRANSIENT:
                raise from_rpc_error(error, "redis_queue") from error
        self._nodes.suspect(self._record_incarnation)
        self._log.info("stream call ended", stream=self._key, queue_node=self._record_incarnation)
        await asyncio.sleep(RETRY_S)
