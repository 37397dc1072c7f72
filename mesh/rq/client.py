"""The client of Redis Queue: one per process."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from google.protobuf.message import Message
from voice.redis_queue.v1.queue_service_pb2 import StreamFamily

from mesh.rq.publisher import Publisher
from mesh.rq.queues import QueueReader
from mesh.rq.slot_reader import SlotReader
from mesh.rq.stream_reader import StreamReader
from mesh.service import Service

THREAD: Final = StreamFamily.STREAM_FAMILY_THREAD
"""Events of call threads: stream key = CallThreadID."""
AGENT: Final = StreamFamily.STREAM_FAMILY_AGENT
"""Events of agents and DNs: stream key = "<tenant>:<agent id>" or "<tenant>:dn:<number>"."""


class Rq:
    """Made in a service's `build`; started with it and stopped at its drain."""

    def __init__(self, service: Service) -> None:
        """Uses the service's channel, etcd and metrics."""
        raise NotImplementedError

    async def start(self) -> None:
        """Watches the nodes. Needs no node to be there."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Waits up to two seconds for what is unacknowledged, then ends everything."""
        raise NotImplementedError

    def publisher(self, family: StreamFamily.ValueType) -> Publisher:
        """The process's publisher of a family; the same object each time."""
        raise NotImplementedError

    def read_slots(
        self, family: StreamFamily.ValueType, *, tenant: str = "", limit: int = 4096
    ) -> SlotReader:
        """A reader of slots, none at first. `tenant`: only events of this tenant. `limit`: events held for the
        consumer at most; beyond that the nodes are made to wait."""
        raise NotImplementedError

    def read_stream(
        self, family: StreamFamily.ValueType, stream_key: str, from_seq: int = 1, *, once: bool = False
    ) -> StreamReader:
        """Events of one stream from `from_seq` on (1 the start, 0 the oldest kept), then what comes; with
        `once` only what is there. Raises StreamExpired while iterating when they are no longer kept."""
        raise NotImplementedError

    def enqueue(self, queue: str, entry_id: str, payload: Message | bytes) -> Awaitable[None]:
        """Puts an entry into a queue once per id. Sent with the turn's others; the result may be awaited (it is
        in) or left alone (it is retried until it is, then logged). Raises PublisherFull at once when too many wait.
        """
        raise NotImplementedError

    def read_queue(self, queue: str) -> QueueReader:
        """Entries that are not acknowledged, oldest first, then what comes. After a reconnect, entries not
        acknowledged by then may come again: have effects under the entry's id."""
        raise NotImplementedError

    def acknowledge(self, queue: str, *ids: str) -> Awaitable[None]:
        """Removes entries. Sent with the turn's others; retried until done, so it need not be awaited."""
        raise NotImplementedError

    async def close_stream(self, family: StreamFamily.ValueType, stream_key: str) -> None:
        """The stream has ended: kept for the retention time, then removed."""
        raise NotImplementedError
