"""From the events of a call to what a session hears: the trigger, and the events of its document. Pure."""

from __future__ import annotations

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event as TlibEvent
from voice.tlib.v1.message_type_pb2 import MessageType

from mesh.config_objects import Dn
from mesh.identifiers import conn_id_text, session_id
from services.orchestration import digital
from services.orchestration.address import fill, with_parameters
from services.orchestration.inputs import CallNews
from services.orchestration.record import from_kv
from services.orchestration.scxml import Event, Json
from services.orchestration.session import Call

_PREFIX = "MESSAGE_TYPE_EVENT_"


def is_trigger(envelope: EventEnvelope) -> bool:
    """Whether the event asks for a session: EventRouteRequest."""
    return envelope.event.event_type == MessageType.MESSAGE_TYPE_EVENT_ROUTE_REQUEST


def call_of(envelope: EventEnvelope, route_point: Dn) -> Call:
    """The call of a route request on a route point. ValueError for an address that cannot be filled in."""
    event, settings = envelope.event, route_point.route_point
    assert settings is not None  # a route point has its settings
    user_data = from_kv(event.user_data)
    urls = tuple(
        with_parameters(
            fill(url, ani=event.ani, dnis=event.dnis, dn=event.this_dn, user_data=user_data),
            settings.parameters,
        )
        for url in (settings.application_url, settings.alternate_url)
        if url
    )
    return Call(
        session_id=session_id(event.call_uuid, envelope.seq),
        tenant=envelope.tenant,
        call_thread_id=envelope.call_thread_id,
        call_uuid=event.call_uuid,
        conn_id=event.conn_id,
        route_point=event.this_dn,
        ani=event.ani,
        dnis=event.dnis,
        since_us=envelope.time_us,
        urls=urls,
        parameters=settings.parameters,
        default_dns=settings.default_dns,
        traceparent=envelope.traceparent,
    )


def news_of(envelope: EventEnvelope, call: Call) -> CallNews:
    """What an event of the thread means for a session: for its own call an event for the document."""
    if envelope.WhichOneof("body") == "interaction":
        return digital.news_of(envelope) if call.interaction_id else CallNews(envelope.seq)
    if envelope.WhichOneof("body") == "request":
        kind = str(envelope.request.WhichOneof("body"))
        own = getattr(getattr(envelope.request, kind), "conn_id", 0) == call.conn_id
        data = {"interactionid": conn_id_text(call.conn_id), "request": kind}
        return CallNews(envelope.seq, Event(f"voice.request.{kind}", data) if own else None)
    event = envelope.event
    if event.conn_id != call.conn_id:
        return CallNews(envelope.seq)
    deleted = event.event_type == MessageType.MESSAGE_TYPE_EVENT_CALL_DELETED
    changed = event.event_type == MessageType.MESSAGE_TYPE_EVENT_ATTACHED_DATA_CHANGED
    return CallNews(
        envelope.seq,
        Event(_name(event), _data(event)),
        from_kv(event.user_data) if changed else None,
        gone=deleted,
    )


def _name(event: TlibEvent) -> str:
    if event.event_type == MessageType.MESSAGE_TYPE_EVENT_CALL_DELETED:
        return "interaction.deleted"
    if event.event_type == MessageType.MESSAGE_TYPE_EVENT_ATTACHED_DATA_CHANGED:
        return "interaction.udata.changed"
    return "voice." + MessageType.Name(event.event_type).removeprefix(_PREFIX).lower().replace("_", "")


def _data(event: TlibEvent) -> dict[str, Json]:
    data: dict[str, Json] = {
        "interactionid": conn_id_text(event.conn_id),
        "calluuid": event.call_uuid,
        "thisdn": event.this_dn,
        "otherdn": event.other_dn,
        "agent": event.agent_id,
        "callstate": event.call_state,
        "seq": event.event_sequence_number,
    }
    if event.event_type == MessageType.MESSAGE_TYPE_EVENT_ATTACHED_DATA_CHANGED:
        data["udata"] = {key: value for key, value in from_kv(event.user_data) if not isinstance(value, list)}
    return data
