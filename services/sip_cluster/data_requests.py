"""Requests that change a call's data or tell events of others: user data, DistributeEvent. Pure.

A user-data request is published to the call's stream before the events that tell its effect, so that a reader sees who asked
for what first (SC-09).
"""

from __future__ import annotations

from services.sip_cluster import effects as do
from services.sip_cluster import events, inputs, user_data
from services.sip_cluster.calls import Call, Refusal, Told
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import EventType, Why
from services.sip_cluster.user_data import KvList

UserDataRequest = inputs.AttachUserData | inputs.UpdateUserData | inputs.DeleteUserData | inputs.DeletePair

DISTRIBUTABLE = frozenset({57, 58, 59, 96, 114, 115, 116, 150})
"""Events a client may have told for a DN: Queued, Diverted and Abandoned (virtual queues), UserEvent, the treatment
events and PrivateInfo. What the node itself tells of parties cannot be told by others."""


def change(step: Step, call: Call, asked: UserDataRequest) -> Told | Refusal:
    """Carries a user-data request out."""
    try:
        data = _changed(call.user_data, asked)
    except user_data.TooLarge as error:
        return Refusal(Why.INVALID_ATTRIBUTE, str(error), "user_data")
    step.do(do.PublishRequest(step.next_seq(), asked.payload, step.cause, asked.request.id))
    call.user_data = data
    told: Told | None = None
    for party in sorted(call.parties.values(), key=lambda party: party.id):
        if party.monitored and party.announced:
            attributes = events.third_party(events.of_party(call, party), asked.request.dn)
            if isinstance(asked, inputs.DeletePair):
                attributes["data_key"] = asked.key
            one = step.tell(EventType.ATTACHED_DATA_CHANGED, attributes)
            told = told or one
    if told is not None:
        return told
    attributes = events.third_party(events.of_call(call), asked.request.dn)
    return step.tell(EventType.ATTACHED_DATA_CHANGED, attributes)


def _changed(data: KvList, asked: UserDataRequest) -> KvList:
    match asked:
        case inputs.AttachUserData(user_data=pairs):
            return user_data.attach(data, pairs)
        case inputs.UpdateUserData(user_data=pairs):
            return user_data.update(data, pairs)
        case inputs.DeletePair(key=key):
            return user_data.delete(data, key)
        case _:
            return ()


def distribute(step: Step, call: Call, asked: inputs.DistributeEvent) -> Told | Refusal:
    """Tells a client's event in the call's stream."""
    if asked.kind not in DISTRIBUTABLE:
        return Refusal(Why.INVALID_ATTRIBUTE, f"event {asked.kind} cannot be distributed", "event.event_type")
    attributes = events.of_call(call)
    attributes["this_dn"] = asked.request.dn
    seq = step.next_seq()
    step.do(do.PublishForeign(asked.kind, seq, asked.event, attributes, step.cause, asked.request.id))
    return Told(EventType.DIVERTED, seq, attributes, asked.event)
