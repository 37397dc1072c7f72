"""Publishing: events go out in batches, are acknowledged in order, and are sent again until they are."""

from __future__ import annotations

import asyncio

from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.envelope_pb2 import EventEnvelope


class PublisherFull(Exception):
    """Too many events wait for acknowledgement. Nothing was taken; the caller sheds load."""


class AppendRefused(Exception):
    """The stream does not take the event, now or later: REASON_STALE_EPOCH, REASON_SEQUENCE_GAP,
    REASON_ALREADY_EXISTS (another event has its place) or REASON_INVALID_ATTRIBUTE."""

    def __init__(self, event_id: str, reason: Reason.ValueType, last_seq: int, epoch: int) -> None:
        super().__init__(f"{event_id}: {Reason.Name(reason)}, stream is at seq {last_seq}, epoch {epoch}")
        self.event_id = event_id
        self.reason = reason
        self.last_seq = last_seq
        """Last sequence number of the stream."""
        self.epoch = epoch
        """Epoch of the stream."""


class Publisher:
    """One family's events. Not to be made directly: `Rq.publisher`."""

    def append(self, envelope: EventEnvelope) -> asyncio.Future[None]:
        """Takes an event: the next of its stream, epoch filled in by the caller. Returns at once.

        The future is done when the event is in the stream, or fails with AppendRefused; it may be left alone.
        Events of a stream are sent in the order of the calls. Raises PublisherFull, ValueError.
        """
        raise NotImplementedError

    def unacknowledged(self, stream_key: str) -> list[EventEnvelope]:
        """Events of a stream that are not known to be stored, in order: what a snapshot keeps."""
        raise NotImplementedError

    @property
    def pending(self) -> int:
        """Events of all streams that are not known to be stored."""
        raise NotImplementedError

    async def flush(self, timeout: float) -> bool:
        """Waits until nothing is pending; False when `timeout` seconds passed before."""
        raise NotImplementedError
