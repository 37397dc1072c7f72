"""Events of a thread as envelopes, in order, to Redis Queue; requests learn when theirs is in the stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Protocol

from voice.tlib.v1.envelope_pb2 import EventEnvelope, Requester
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.request_pb2 import Request

from mesh.rq import PublisherFull
from mesh.telemetry import logger, steps
from services.sip_cluster import kv
from services.sip_cluster.effects import Publish, PublishForeign, PublishRequest
from services.sip_cluster.entry import Entry
from services.sip_cluster.ladder import draw_event

RETRY_S = 0.1
"""Pause before events that found the publisher full are given to it again, seconds."""
_LISTS = ("user_data", "extensions", "reasons")


class Stream(Protocol):
    """What publishing needs of mesh.rq.Publisher."""

    def append(self, envelope: EventEnvelope) -> asyncio.Future[None]:
        """Takes an event."""

    def unacknowledged(self, stream_key: str) -> list[EventEnvelope]:
        """Events of a stream not known to be stored."""

    def forget(self, stream_keys: Collection[str]) -> None:
        """Nothing of these streams is sent any more."""

    @property
    def pending(self) -> int:
        """Events not known to be stored."""


class Publishing:
    """Makes envelopes and gives them to the publisher."""

    def __init__(self, stream: Stream, *, region: str, node: str, node_id: int) -> None:
        """`node`: incarnation; `node_id`: number of the node for NodeID."""
        self._stream = stream
        self._region = region
        self._node = node
        self._node_id = node_id
        self._lists = kv.Lists()
        self._late: deque[EventEnvelope] = deque()
        self._log = logger("publishing")
        self.published = 0
        """Events given to the publisher."""

    @property
    def depth(self) -> int:
        """Events not known to be stored."""
        return self._stream.pending + len(self._late)

    def envelope(
        self, entry: Entry, effect: Publish | PublishRequest | PublishForeign, epoch: int, now_us: int
    ) -> EventEnvelope:
        """The envelope of an event; made when it happens, so that its time is right and a snapshot can hold it."""
        thread, seq = entry.thread, effect.seq
        fields: dict[str, Any] = {
            "event_id": f"{thread.id}/{seq}",
            "tenant": thread.tenant,
            "stream_key": thread.id,
            "seq": seq,
            "epoch": epoch,
            "time_us": now_us,
            "region": self._region,
            "node": self._node,
            "call_thread_id": thread.id,
            "traceparent": thread.traceparent,
            "cause": effect.cause,
        }
        if effect.request:
            record = thread.requests.get(effect.request)
            if record is not None:
                fields["requester"] = Requester(
                    client=record.client, reference_id=record.reference_id, request_id=record.id
                )
        if isinstance(effect, PublishRequest):
            fields["request"] = Request.FromString(effect.payload)
            return EventEnvelope(**fields)
        seconds, micros = divmod(now_us, 1_000_000)
        attributes: dict[str, Any] = {
            **effect.attributes,
            "event_type": effect.kind,
            "event_sequence_number": seq,
            "call_thread_id": thread.id,
            "server": self._node,
            "node_id": self._node_id,
            "time_in_secs": seconds,
            "time_in_usecs": micros,
        }
        for name in _LISTS:
            pairs = attributes.get(name)
            if pairs is not None:
                attributes[name] = self._lists.get(pairs)
        if isinstance(effect, PublishForeign):
            event = Event.FromString(effect.event)
            event.MergeFrom(Event(**attributes))
            fields["event"] = event
        else:
            fields["event"] = attributes  # protobuf builds the message in place from a dict
        return EventEnvelope(**fields)

    def publish(self, entry: Entry, envelope: EventEnvelope) -> None:
        """Gives an event to the publisher. One that finds it full is kept and given again: new calls are refused
        long before (see the node's limits), so this ends."""
        if steps.enabled():
            draw_event(envelope)
        if self._late:
            self._late.append(envelope)
            return
        try:
            done = self._stream.append(envelope)
        except PublisherFull:
            self._log.error("publisher is full", pending=self._stream.pending)
            self._late.append(envelope)
            asyncio.get_running_loop().call_later(RETRY_S, self._again)
            return
        self.published += 1
        entry.told = done
        if envelope.HasField("requester"):
            entry.acknowledgements[envelope.requester.request_id] = done

    def again(self, entry: Entry, envelopes: Iterable[EventEnvelope], epoch: int) -> None:
        """Gives events of a snapshot to the publisher, under our epoch: those that are in the stream already are
        acknowledged there."""
        waiting = {envelope.seq for envelope in self._stream.unacknowledged(entry.thread.id)}
        for envelope in envelopes:
            if envelope.seq not in waiting:  # it never left this process
                envelope.epoch = epoch
                self.publish(entry, envelope)

    async def stored(self, entry: Entry) -> None:
        """Returns when the last event of a thread is in its stream, or was refused by it."""
        while True:
            if not any(envelope.stream_key == entry.thread.id for envelope in self._late):
                break
            await asyncio.sleep(RETRY_S)
        if entry.told is not None and not entry.told.done():
            await asyncio.wait((entry.told,))

    def forget(self, threads: Collection[str]) -> None:
        """The threads are another node's now, whose snapshots have what is not stored yet."""
        self._late = deque(envelope for envelope in self._late if envelope.stream_key not in threads)
        self._stream.forget(threads)

    def _again(self) -> None:
        while self._late:
            try:
                self._stream.append(self._late[0])
            except PublisherFull:
                asyncio.get_running_loop().call_later(RETRY_S, self._again)
                return
            self._late.popleft()
            self.published += 1

    def unacknowledged(self, entry: Entry) -> list[EventEnvelope]:
        """Events of a thread not known to be stored, in order, those still in its outbox among them."""
        known = self._stream.unacknowledged(entry.thread.id)
        known += [envelope for envelope in self._late if envelope.stream_key == entry.thread.id]
        known += [item for item in entry.outbox if type(item) is EventEnvelope]
        return known
