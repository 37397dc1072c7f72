"""Named queues: entries once per id, kept until they are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from voice.redis_queue.v1.queue_service_pb2 import QueueEntry


class QueueReader:
    """An asynchronous iterator of lists of entries. Not to be made directly: `Rq.read_queue`.

    One empty list tells that all that waited has been delivered.
    """

    def __aiter__(self) -> QueueReader:
        return self

    async def __anext__(self) -> Sequence[QueueEntry]:
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the reader."""
        raise NotImplementedError
