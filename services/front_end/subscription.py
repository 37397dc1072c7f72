"""What of an event stream a client gets: its filter, and the ReferenceIDs that are its own."""

from __future__ import annotations

from dataclasses import dataclass

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest

COPY = "call:"
"""Beginning of the cause of such a copy."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a client wants; an empty set means all."""

    types: frozenset[int]
    dns: frozenset[str]
    agents: frozenset[str]
    call_threads: frozenset[str]

    @classmethod
    def of(cls, request: SubscribeRequest) -> Filter:
        """The filter of a subscription."""
        return cls(
            frozenset(request.types),
            frozenset(request.dns),
            frozenset(request.agents),
            frozenset(request.call_threads),
        )

    def passes(self, envelope: EventEnvelope) -> bool:
        """Whether the client gets the event. Not for clients: user-data requests, and the copies of call events that
        Agent State keeps in an agent's stream (decision 0053)."""
        if envelope.WhichOneof("body") != "event" or envelope.cause.startswith(COPY):
            return False
        event = envelope.event
        return (
            (not self.types or event.event_type in self.types)
            and (not self.dns or event.this_dn in self.dns)
            and (not self.agents or event.agent_id in self.agents)
            and (not self.call_threads or envelope.call_thread_id in self.call_threads)
        )


def for_client(envelope: EventEnvelope, client: str) -> EventEnvelope:
    """The event as `client` may see it: ReferenceID and request id only of its own requests, as it gave them."""
    if not envelope.HasField("requester"):
        return envelope
    copy = EventEnvelope()
    copy.CopyFrom(envelope)
    if envelope.requester.client == client:
        copy.requester.request_id = copy.requester.request_id.removeprefix(f"{client}/")
        copy.event.reference_id = copy.requester.reference_id
    else:
        copy.ClearField("requester")
        copy.event.ClearField("reference_id")
    return copy
