"""The call thread between memory and voice.record.v1.SipCall; an heir reads what this writes.

What belongs to SIP itself (dialogs, open transactions) is added to the record's legs by `snapshots.py`.
"""

from __future__ import annotations

from voice.dial_plan.v1 import dial_plan_service_pb2 as dial_plan
from voice.record.v1 import sip_call_pb2 as rec
from voice.tlib.v1.event_pb2 import Event

from services.sip_cluster import kv
from services.sip_cluster.calls import (
    Ask,
    Call,
    CallThread,
    Contact,
    DeviceType,
    Identity,
    Leg,
    LegState,
    Making,
    Party,
    PartyKind,
    Phase,
    Purpose,
    Refusal,
    Renegotiation,
    RequestRecord,
    Resolution,
    Route,
    TimerKind,
    Told,
)
from services.sip_cluster.tlib import CallType, DnRole, EventType, Why

# -- writing --------------------------------------------------------------------------------------------


def to_record(thread: CallThread) -> rec.SipCall:
    """The record of a thread, without dialogs and unacknowledged events."""
    record = rec.SipCall(
        id=thread.id,
        tenant=thread.tenant,
        slot=thread.slot,
        created_us=thread.created_us,
        traceparent=thread.traceparent,
        seq=thread.seq,
        next_id=thread.next_id,
        from_number=thread.from_number,
        dialled=thread.dialled,
        conn_id=thread.identity.conn_id,
        call_id=thread.identity.call_id,
    )
    for call in thread.calls.values():
        _write_call(record.calls.add(), call)
    for leg in thread.legs.values():
        record.legs.add(
            id=leg.id,
            party=leg.party,
            inbound=leg.inbound,
            state=int(leg.state),
            contact=leg.contact,
            offer=leg.offer,
            offer_type=leg.offer_type,
            has_dialog=leg.dialog,
            early_media=leg.early_media,
        )
    for ask in thread.asks.values():
        record.asks.add(
            id=ask.id,
            purpose=int(ask.purpose),
            destination=ask.destination,
            caller_dn=ask.caller_dn,
            is_agent=ask.is_agent,
            conn_id=ask.conn_id,
        )
    for request in thread.requests.values():
        _write_request(record.requests.add(), request)
    for (kind, subject), deadline in thread.timers.items():
        record.timers.add(kind=int(kind), subject=subject, deadline_us=deadline)
    if thread.making is not None:
        _write_making(record.making, thread.making)
    offer = thread.renegotiation
    if offer is not None:
        record.renegotiation.CopyFrom(
            rec.SipRenegotiation(origin=offer.origin, target=offer.target, answered=offer.answered)
        )
    return record


def _write_call(record: rec.SipCallState, call: Call) -> None:
    record.conn_id = call.conn_id
    record.call_uuid = call.call_uuid
    record.call_id = call.call_id
    record.call_type = int(call.call_type)  # type: ignore[assignment]
    record.ani = call.ani
    record.dnis = call.dnis
    record.origination = call.origination
    record.destination = call.destination
    record.network_reached = call.network_reached
    record.redirections.extend(call.redirections)
    if call.user_data:
        record.user_data.CopyFrom(kv.to_proto(call.user_data))
    for party in call.parties.values():
        _write_party(record.parties.add(), party)
    if call.route is not None:
        _write_route(record.route, call.route)


def _write_party(record: rec.SipParty, party: Party) -> None:
    record.MergeFrom(
        rec.SipParty(
            id=party.id,
            dn=party.dn,
            kind=int(party.kind),  # type: ignore[arg-type]
            role=int(party.role),  # type: ignore[arg-type]
            phase=int(party.phase),  # type: ignore[arg-type]
            agent_id=party.agent_id,
            place=party.place,
            queue=party.queue,
            trunk=party.trunk,
            legs=party.legs,
            announced=party.announced,
            status=party.status,
            no_answer_timeout=party.no_answer_s,
            overflow=party.overflow,
            can_talk=party.can_talk,
            answer_request=party.answer_request,
            wrap_up=party.wrap_up,
        )
    )
    for group in party.contacts:
        record.contacts.add().contacts.extend(_contact(contact) for contact in group)


def _write_route(record: rec.SipRoute, route: Route) -> None:
    record.MergeFrom(
        rec.SipRoute(
            party=route.party,
            dn=route.dn,
            default_dns=route.default_dns,
            timeout_us=route.timeout_us,
            target=route.target,
            no_answer_timeout=route.no_answer_s,
            reservation_token=route.reservation_token,
            request_id=route.request,
            route_type=route.route_type,  # type: ignore[arg-type]
            divert_on_ringing=route.divert_on_ringing,
            defaulting=route.defaulting,
            tried=route.tried,
            rotation=route.rotation,
            returns=route.returns,
        )
    )
    if route.reasons:
        record.reasons.CopyFrom(kv.to_proto(route.reasons))
    if route.extensions:
        record.extensions.CopyFrom(kv.to_proto(route.extensions))


def _write_request(record: rec.SipRequest, request: RequestRecord) -> None:
    record.id = request.id
    record.client = request.client
    record.reference_id = request.reference_id
    record.fingerprint = request.fingerprint
    outcome = request.outcome
    if isinstance(outcome, Told):
        record.event.CopyFrom(outcome_event(outcome))
        record.foreign = bool(outcome.foreign)
    elif isinstance(outcome, Refusal):
        record.refusal.CopyFrom(rec.SipRefusal(reason=outcome.why, text=outcome.text, field=outcome.field))


def outcome_event(told: Told) -> Event:
    """The event that told the success of a request."""
    if told.foreign:
        event = Event.FromString(told.foreign)
        event.MergeFrom(kv.event(event.event_type, told.attributes))
    else:
        event = kv.event(told.kind, told.attributes)
    event.event_sequence_number = told.seq
    return event


def _write_making(record: rec.SipMaking, making: Making) -> None:
    record.request_id = making.request
    record.dn = making.dn
    record.destination = making.destination
    record.user_data.CopyFrom(kv.to_proto(making.user_data))
    if making.target is not None:
        record.target.CopyFrom(_resolution(making.target))
    if making.own is not None:
        record.own.CopyFrom(_resolution(making.own))


def _resolution(it: Resolution) -> rec.SipResolution:
    return rec.SipResolution(
        tenant=it.tenant,
        type=int(it.type),  # type: ignore[arg-type]
        dn=it.dn,
        number=it.number,
        contacts=[_contact(contact) for contact in it.contacts],
        agent_id=it.agent_id,
        place=it.place,
        default_dns=it.default_dns,
        no_answer_timeout=it.no_answer_s,
        overflow=it.overflow,
        dnd=it.dnd,
        divert_on_ringing=it.divert_on_ringing,
        can_talk=it.can_talk,
        routing_timeout_ms=it.routing_timeout_ms,
        wrap_up=it.wrap_up,
    )


def _contact(contact: Contact) -> dial_plan.Contact:
    return dial_plan.Contact(uri=contact.uri, path=contact.path, q=contact.q)


# -- reading --------------------------------------------------------------------------------------------


def from_record(record: rec.SipCall) -> CallThread:
    """The thread of a record."""
    thread = CallThread(
        record.id,
        record.slot,
        record.created_us,
        record.traceparent,
        Identity(record.conn_id, record.id, record.call_id),
        tenant=record.tenant,
        seq=record.seq,
        next_id=record.next_id,
        saved=True,
        from_number=record.from_number,
        dialled=record.dialled,
    )
    thread.calls = {call.conn_id: _read_call(call) for call in record.calls}
    thread.legs = {leg.id: _read_leg(leg) for leg in record.legs}
    for ask in record.asks:
        thread.asks[ask.id] = Ask(
            ask.id, Purpose(ask.purpose), ask.destination, ask.caller_dn, ask.is_agent, ask.conn_id
        )
    for request in record.requests:
        thread.requests[request.id] = _read_request(request)
    for timer in record.timers:
        thread.timers[TimerKind(timer.kind), timer.subject] = timer.deadline_us
    if record.HasField("making"):
        thread.making = _read_making(record.making)
    if record.HasField("renegotiation"):
        offer = record.renegotiation
        thread.renegotiation = Renegotiation(offer.origin, offer.target, offer.answered)
    return thread


def _read_leg(leg: rec.SipLeg) -> Leg:
    return Leg(
        leg.id,
        leg.party,
        leg.inbound,
        LegState(leg.state),
        leg.contact,
        leg.offer,
        leg.offer_type,
        leg.has_dialog,
        leg.early_media,
    )


def _read_call(record: rec.SipCallState) -> Call:
    return Call(
        record.conn_id,
        record.call_uuid,
        record.call_id,
        CallType(record.call_type),
        record.ani,
        record.dnis,
        kv.from_proto(record.user_data),
        {party.id: _read_party(party) for party in record.parties},
        record.origination,
        record.destination,
        _read_route(record.route) if record.HasField("route") else None,
        record.network_reached,
        tuple(record.redirections),
    )


def _read_party(record: rec.SipParty) -> Party:
    return Party(
        record.id,
        record.dn,
        PartyKind(record.kind),
        DnRole(record.role),
        Phase(record.phase),
        record.agent_id,
        record.place,
        record.queue,
        record.trunk,
        list(record.legs),
        record.announced,
        tuple(tuple(_read_contact(contact) for contact in group.contacts) for group in record.contacts),
        record.status,
        record.no_answer_timeout,
        record.overflow,
        record.can_talk,
        record.answer_request,
        record.wrap_up,
    )


def _read_contact(contact: dial_plan.Contact) -> Contact:
    return Contact(contact.uri, tuple(contact.path), contact.q)


def _read_route(record: rec.SipRoute) -> Route:
    return Route(
        record.party,
        record.dn,
        tuple(record.default_dns),
        record.timeout_us,
        record.target,
        record.no_answer_timeout,
        record.reservation_token,
        record.request_id,
        record.route_type,
        record.divert_on_ringing,
        record.defaulting,
        tuple(record.tried),
        record.rotation,
        record.returns,
        kv.from_proto(record.reasons),
        kv.from_proto(record.extensions),
    )


def _read_request(record: rec.SipRequest) -> RequestRecord:
    request = RequestRecord(record.id, record.client, record.reference_id, record.fingerprint)
    kind = record.WhichOneof("outcome")
    if kind == "refusal":
        refusal = record.refusal
        request.outcome = Refusal(Why(refusal.reason), refusal.text, refusal.field)
    elif kind == "event":
        event = record.event
        if record.foreign:
            request.outcome = Told(
                EventType.DIVERTED, event.event_sequence_number, {}, event.SerializeToString()
            )
        else:
            attributes = kv.attributes_of(event, ("event_sequence_number",))
            request.outcome = Told(EventType(event.event_type), event.event_sequence_number, attributes)
    return request


def _read_making(record: rec.SipMaking) -> Making:
    return Making(
        record.request_id,
        record.dn,
        record.destination,
        kv.from_proto(record.user_data),
        _read_resolution(record.target) if record.HasField("target") else None,
        _read_resolution(record.own) if record.HasField("own") else None,
    )


def _read_resolution(it: rec.SipResolution) -> Resolution:
    return Resolution(
        it.tenant,
        DeviceType(it.type),
        it.dn,
        number=it.number,
        contacts=tuple(_read_contact(contact) for contact in it.contacts),
        agent_id=it.agent_id,
        place=it.place,
        default_dns=tuple(it.default_dns),
        no_answer_s=it.no_answer_timeout,
        overflow=it.overflow,
        dnd=it.dnd,
        divert_on_ringing=it.divert_on_ringing,
        can_talk=it.can_talk,
        routing_timeout_ms=it.routing_timeout_ms,
        wrap_up=it.wrap_up,
    )
