"""MakeCall: third-party call control by RFC 3725 flow I. Pure.

The DN's own phone is called without an offer; the offer in its 200 goes to the destination, and the
destination's answer comes back in the ACK. A phone repeats its 200 until then and gives up after 64*T1 = 32 s
(RFC 3261 §13.3.1.4), so the destination has `WITHHELD_S` to answer.
"""

from __future__ import annotations

from services.sip_cluster import destination, dialling, events, inputs, outcomes, unreached
from services.sip_cluster import effects as do
from services.sip_cluster.calls import (
    Ask,
    Call,
    DeviceType,
    Leg,
    Making,
    Party,
    Purpose,
    Refusal,
    RequestRecord,
    Resolution,
    TimerKind,
)
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallType, DnRole, EventType, Why

WITHHELD_S = 30
"""Seconds from the answer of the DN's own phone to that of the destination."""


def start(step: Step, asked: inputs.MakeCall) -> None:
    """First input of a thread: both ends are looked up."""
    thread, request = step.thread, asked.request
    thread.tenant = asked.tenant
    step.take(RequestRecord(request.id, request.client, request.reference_id, request.fingerprint))
    thread.making = Making(request.id, request.dn, asked.destination, asked.user_data)
    for purpose, number, caller in (
        (Purpose.MAKE_DN, request.dn, ""),
        (Purpose.MAKE_DESTINATION, asked.destination, request.dn),
    ):
        ask = Ask(thread.new_id(), purpose, number, caller)
        thread.asks[ask.id] = ask
        step.do(do.AskDialPlan(ask.id))


def resolved(step: Step, making: Making, purpose: Purpose, resolution: Resolution) -> None:
    """One of the two is known; with both the DN's phone is called."""
    if purpose is Purpose.MAKE_DN:
        if resolution.type is not DeviceType.EXTENSION:
            refuse(step, making, Refusal(Why.UNKNOWN_DN, f"{making.dn} is no extension"))
            return
        if not resolution.contacts:
            refuse(step, making, Refusal(Why.OUT_OF_SERVICE, f"{making.dn} has no phone registered"))
            return
        making.own = resolution
    else:
        making.target = resolution
    if making.own is not None and making.target is not None:
        _call_own_phone(step, making, making.own, making.target)


def unresolved(step: Step, making: Making, purpose: Purpose, fact: inputs.Unresolved) -> None:
    """One of the two cannot be had."""
    why = fact.outcome.why
    if why is Why.INVALID_TARGET:
        why = Why.UNKNOWN_DN if purpose is Purpose.MAKE_DN else Why.UNKNOWN_DESTINATION
    refuse(step, making, Refusal(why, fact.text))


def refuse(step: Step, making: Making, refusal: Refusal) -> None:
    """No call is made."""
    step.reply(making.request, refusal)
    step.thread.asks.clear()
    step.thread.timers.clear()
    step.thread.making = None


def _call_own_phone(step: Step, making: Making, own: Resolution, target: Resolution) -> None:
    thread, identity = step.thread, step.thread.identity
    outside = target.type is DeviceType.EXTERNAL
    number = (target.number or target.dn) if outside else target.dn
    kind = CallType.OUTBOUND if outside else CallType.INTERNAL
    call = Call(
        identity.conn_id,
        identity.call_uuid,
        identity.call_id,
        kind,
        own.dn,
        making.destination,
        making.user_data,
    )
    call.destination = number
    thread.calls[call.conn_id] = call
    party = dialling.new_party(step, own, DnRole.ORIGINATION)
    call.origination = party.id
    step.request = making.request
    dialling.begin(step, call, party, own)
    events.created(step, call)
    events.added(step, call, party)
    told = step.tell(EventType.DIALING, events.of_party(call, party))
    step.reply(making.request, told)


def own_phone_answered(step: Step, call: Call, party: Party, leg: Leg, fact: inputs.Answered) -> None:
    """The DN's phone picked up: its offer goes to the destination."""
    making, step.thread.making = step.thread.making, None
    if making is None or making.target is None or not fact.body:
        unreached.party_failed(step, call, party, outcomes.of_status(488))
        return
    leg.offer, leg.offer_type = fact.body, fact.body_type
    step.start_timer(TimerKind.WITHHELD_ACK, party.id, WITHHELD_S * 1_000_000)
    destination.place(step, call, making.target)
