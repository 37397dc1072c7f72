"""A call arrives: INVITE, the dial plan's answer, the first events. Pure."""

from __future__ import annotations

from services.sip_cluster import destination, events, inputs, release
from services.sip_cluster import effects as do
from services.sip_cluster.calls import (
    Ask,
    Call,
    DeviceType,
    Leg,
    LegState,
    Party,
    PartyKind,
    Phase,
    Purpose,
    Resolution,
)
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallType, DnRole, EventType


def invited(step: Step, fact: inputs.InviteReceived) -> None:
    """First input of a thread: the dial plan is asked what was dialled by whom."""
    thread = step.thread
    leg = Leg(thread.new_id(), 0, True, LegState.INVITED, offer=fact.offer, offer_type=fact.offer_type)
    thread.legs[leg.id] = leg
    ask = Ask(thread.new_id(), Purpose.ARRIVAL, thread.dialled)
    thread.asks[ask.id] = ask
    step.do(do.AskDialPlan(ask.id))


def resolved(step: Step, resolution: Resolution) -> None:
    """Caller and destination are known: the call exists and goes there."""
    step.thread.tenant = resolution.tenant
    outside = resolution.type is DeviceType.EXTERNAL
    number = (resolution.number or resolution.dn) if outside else resolution.dn
    call = _create(step, resolution, number)
    _tell(step, call)
    destination.place(step, call, resolution)
    leg = step.caller_leg(call) if call.conn_id in step.thread.calls else None
    if leg is not None and leg.state is LegState.INVITED:
        step.do(do.Trying(leg.id))


def unresolved(step: Step, fact: inputs.Unresolved) -> None:
    """The dial plan said no: the caller is told, and so is the tenant where it is known."""
    thread = step.thread
    if not fact.tenant:
        thread.timers.clear()
        for leg in list(thread.legs.values()):
            release.end_leg(step, leg, fact.outcome.status)
        return
    thread.tenant = fact.tenant
    known = Resolution(
        fact.tenant,
        DeviceType.UNKNOWN,
        thread.dialled,
        caller_dn="" if fact.trunk else thread.from_number,
        caller_number=thread.from_number,
        caller_trunk=fact.trunk,
    )
    call = _create(step, known, thread.dialled)
    _tell(step, call)
    release.fail_caller(step, call, fact.outcome)


def _create(step: Step, resolution: Resolution, number: str) -> Call:
    thread, identity = step.thread, step.thread.identity
    inside = bool(resolution.caller_dn)
    from_inside = CallType.OUTBOUND if resolution.type is DeviceType.EXTERNAL else CallType.INTERNAL
    kind = from_inside if inside else CallType.INBOUND
    ani = resolution.caller_number or resolution.caller_dn or thread.from_number
    call = Call(identity.conn_id, identity.call_uuid, identity.call_id, kind, ani, thread.dialled)
    call.destination = number
    thread.calls[call.conn_id] = call
    leg = next(iter(thread.legs.values()))
    caller = Party(
        thread.new_id(),
        resolution.caller_dn or ani or "anonymous",
        PartyKind.PHONE if inside else PartyKind.EXTERNAL,
        DnRole.ORIGINATION,
        Phase.DIALING,
        agent_id=resolution.caller_agent if inside else "",
        trunk=resolution.caller_trunk,
        legs=[leg.id],
    )
    leg.party = call.origination = caller.id
    call.parties[caller.id] = caller
    return call


def _tell(step: Step, call: Call) -> None:
    events.created(step, call)
    caller = call.parties[call.origination]
    events.added(step, call, caller)
    if caller.monitored:
        step.tell(EventType.DIALING, events.of_party(call, caller))
