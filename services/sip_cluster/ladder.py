"""What a node draws of its calls into the ladder: SIP messages and events, each under its call's thread and trace."""

from __future__ import annotations

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.telemetry import continued, ladder
from services.sip_cluster.entry import Entry


def draw(entry: Entry | None, text: str, *, from_: str = "", to: str = "", call_id: str = "") -> None:
    """A SIP message. Ask `mesh.telemetry.steps.enabled` first."""
    thread, trace = (entry.thread.id, entry.thread.traceparent) if entry is not None else ("", "")
    with continued(trace):
        ladder("sip", text, from_=from_, to=to, call_thread_id=thread, call_id=call_id)


def draw_event(envelope: EventEnvelope) -> None:
    """An event, as it goes to the stream."""
    if envelope.WhichOneof("body") == "request":
        kind = envelope.request.WhichOneof("body") or ""
        text = "Request" + "".join(word.capitalize() for word in kind.split("_"))
    else:
        event = envelope.event
        name = MessageType.Name(event.event_type).removeprefix("MESSAGE_TYPE_EVENT_")
        text = "Event" + "".join(word.capitalize() for word in name.split("_"))
        text = f"{text} {event.this_dn}" if event.this_dn else text
    with continued(envelope.traceparent):
        ladder(
            "event",
            text,
            to="redis_queue",
            call_thread_id=envelope.call_thread_id,
            ts_us=envelope.time_us,
            seq=envelope.seq,
        )
