"""Following one stream."""

from __future__ import annotations

from voice.tlib.v1.envelope_pb2 import EventEnvelope


class StreamExpired(Exception):
    """The events asked for are no longer kept (REASON_CURSOR_EXPIRED)."""


class StreamReader:
    """An asynchronous iterator of lists of events in sequence. Not to be made directly: `Rq.read_stream`.

    One empty list tells that the present end was reached. Over a change of node it goes on with the next
    sequence number: no event is missing and none comes twice.
    """

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> list[EventEnvelope]:
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the reader."""
        raise NotImplementedError
