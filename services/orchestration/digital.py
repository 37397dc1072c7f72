"""Digital interactions: the trigger, the events of their documents, and what their sessions tell the media server. Pure.

An interaction's events are a stream of the family of call threads, under its id; so what holds for calls holds for it:
order, each event once, the heir goes on. Only the way out differs: instructions in the media server's queue instead of
requests to a SIP node, and their outcomes come back as events.
"""

from __future__ import annotations

import json
from typing import Any

from voice.error.v1.reason_pb2 import Reason
from voice.interaction.v1.interaction_pb2 import (
    ChangeUserData,
    Deliver,
    Instruction,
    Interaction,
    InteractionEvent,
    InteractionEventType,
    Place,
    Stop,
)
from voice.interaction.v1.interaction_pb2 import Respond as Answer
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.config_objects import Dn
from services.orchestration.address import fill, with_parameters
from services.orchestration.effects import (
    DeleteUserData,
    Effect,
    Respond,
    Route,
    SetUserData,
    Terminate,
    as_object,
)
from services.orchestration.inputs import CallNews, Outcome
from services.orchestration.record import from_kv, to_kv
from services.orchestration.scxml import Event, Json
from services.orchestration.session import Call

INSTRUCTIONS = "instructions"
"""Queues of media servers: "instructions:<server>"."""
_NAMES = {
    InteractionEventType.INTERACTION_EVENT_TYPE_USER_DATA_CHANGED: "interaction.udata.changed",
    InteractionEventType.INTERACTION_EVENT_TYPE_PARTY_ADDED: "interaction.partyadded",
    InteractionEventType.INTERACTION_EVENT_TYPE_PARTY_REMOVED: "interaction.partydeleted",
    InteractionEventType.INTERACTION_EVENT_TYPE_MESSAGE: "msgbased.message",
    InteractionEventType.INTERACTION_EVENT_TYPE_STOPPED: "interaction.deleted",
}
_CHANGED = InteractionEventType.INTERACTION_EVENT_TYPE_USER_DATA_CHANGED
_DONE = InteractionEventType.INTERACTION_EVENT_TYPE_INSTRUCTION_DONE
_STOPPED = InteractionEventType.INTERACTION_EVENT_TYPE_STOPPED


def is_trigger(envelope: EventEnvelope) -> bool:
    """Whether the event asks for a session: an interaction was placed into a queue."""
    placed = InteractionEventType.INTERACTION_EVENT_TYPE_PLACED
    return envelope.WhichOneof("body") == "interaction" and envelope.interaction.type == placed


def call_of(envelope: EventEnvelope, queue: Dn) -> Call:
    """What the session of a placed interaction is for. ValueError for one that cannot be started."""
    event, settings = envelope.interaction, queue.route_point
    assert settings is not None  # a route point has its settings
    interaction = event.interaction
    if not interaction.interaction_id or interaction.interaction_id != envelope.stream_key:
        raise ValueError("interaction_id must be the key of the stream")
    if not event.server:
        raise ValueError("server is required")
    user_data = from_kv(event.user_data)
    sender, receiver = getattr(interaction, "from"), interaction.to
    mail = {"EMAILFROM": sender, "EMAILTO": receiver, "EMAILSUBJECT": interaction.subject}
    urls = tuple(
        with_parameters(
            fill(url, ani=sender, dnis=receiver, dn=event.queue, user_data=user_data, more=mail),
            settings.parameters,
        )
        for url in (settings.application_url, settings.alternate_url)
        if url
    )
    return Call(
        session_id=f"{interaction.interaction_id}.{envelope.seq}",
        tenant=envelope.tenant,
        call_thread_id=envelope.stream_key,
        call_uuid="",
        conn_id=0,
        route_point=event.queue,
        ani=sender,
        dnis=receiver,
        since_us=envelope.time_us,
        urls=urls,
        parameters=settings.parameters,
        default_dns=settings.default_dns,
        traceparent=envelope.traceparent,
        interaction_id=interaction.interaction_id,
        server=event.server,
        facts=_facts(interaction),
    )


def _facts(interaction: Interaction) -> dict[str, Json]:
    """Attributes as `interaction.added` tells them."""
    return {
        "media": interaction.media_type,
        "type": interaction.interaction_type,
        "subtype": interaction.interaction_subtype,
        "from": getattr(interaction, "from"),
        "to": interaction.to,
        "subject": interaction.subject,
        "received": interaction.received_us // 1000,
        "attributes": as_object(from_kv(interaction.attributes)),
    }


def news_of(envelope: EventEnvelope) -> CallNews:
    """What an event of the interaction means for its session."""
    event = envelope.interaction
    if event.type == _DONE:
        reason = Reason.Name(event.reason) if event.reason else ""
        return CallNews(envelope.seq, outcome=Outcome(event.instruction_id, reason, event.message))
    name = _NAMES.get(event.type)
    if name is None:
        return CallNews(envelope.seq)
    user_data = from_kv(event.user_data) if event.type == _CHANGED else None
    return CallNews(envelope.seq, Event(name, _data(event)), user_data, gone=event.type == _STOPPED)


def _data(event: InteractionEvent) -> dict[str, Json]:
    data: dict[str, Json] = {"interactionid": event.interaction.interaction_id}
    for name in ("queue", "message", "text"):
        if value := getattr(event, name):
            data[name] = value
    if event.agent_id:
        data["agent"] = event.agent_id
    if event.type == _CHANGED:
        data["udata"] = as_object(from_kv(event.user_data))
    return data


def instruction_of(call: Call, effect: Effect) -> Instruction | None:
    """What an effect on the interaction is for its media server; None for effects that do not concern it."""
    match effect:
        case Route():
            return _route(call, effect)
        case Terminate():
            return _instruction(
                call, effect.id, terminal=True, stop=Stop(reason="terminated by the application")
            )
        case SetUserData():
            change = ChangeUserData(set=to_kv(effect.pairs))
            return _instruction(call, effect.id, change_user_data=change)
        case DeleteUserData():
            change = ChangeUserData(delete=effect.keys, delete_all=not effect.keys)
            return _instruction(call, effect.id, change_user_data=change)
        case Respond():
            return _instruction(call, effect.id, respond=Answer(data_json=json.dumps(effect.data)))
    return None


def _route(call: Call, route: Route) -> Instruction:
    """To an agent when one was selected, else into the queue that the application or the default names."""
    if route.agent_id:
        deliver = Deliver(
            agent_id=route.agent_id, destination=route.destination, reservation_token=route.token
        )
        return _instruction(call, route.id, terminal=True, deliver=deliver)
    place = Place(queue=route.destination, is_default=route.is_default)
    return _instruction(call, route.id, terminal=True, place=place)


def _instruction(call: Call, effect_id: str, *, terminal: bool = False, **action: Any) -> Instruction:
    return Instruction(
        instruction_id=effect_id,
        tenant=call.tenant,
        interaction_id=call.interaction_id,
        session_id=call.session_id,
        terminal=terminal,
        **action,
    )
