"""Calling a destination: its contacts, its ringing, its failure. Pure."""

from __future__ import annotations

from itertools import groupby

from services.sip_cluster import effects as do
from services.sip_cluster import events, inputs, outcomes, release, routing
from services.sip_cluster.calls import (
    Call,
    Contact,
    DeviceType,
    Leg,
    LegState,
    Party,
    PartyKind,
    Phase,
    Resolution,
    TimerKind,
)
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import DnRole, EventType

MAX_CONTACTS = 10
"""Contacts of a device that are called; further ones are left out (RFC 3261 §16.6 leaves the number to us)."""


def groups(resolution: Resolution) -> tuple[tuple[Contact, ...], ...]:
    """Contacts in the order in which they are called: a phone's of equal preference at once, a trunk's one by one."""
    contacts = resolution.contacts[:MAX_CONTACTS]
    if resolution.type is DeviceType.EXTERNAL:
        return tuple((contact,) for contact in contacts)
    best_first = sorted(contacts, key=lambda contact: -contact.q)
    return tuple(tuple(same) for _, same in groupby(best_first, key=lambda contact: contact.q))


def new_party(step: Step, resolution: Resolution, role: DnRole, queue: str = "") -> Party:
    """The party that a resolved device is in a call."""
    external = resolution.type is DeviceType.EXTERNAL
    return Party(
        step.thread.new_id(),
        (resolution.number or resolution.dn) if external else resolution.dn,
        PartyKind.EXTERNAL if external else PartyKind.PHONE,
        role,
        Phase.DIALING,
        agent_id=resolution.agent_id,
        place=resolution.place,
        queue=queue,
        trunk=resolution.dn if external else "",
        contacts=groups(resolution),
        no_answer_s=resolution.no_answer_s,
        overflow=resolution.overflow,
        can_talk=resolution.can_talk,
        wrap_up=resolution.wrap_up,
    )


def begin(step: Step, call: Call, party: Party, resolution: Resolution, ring_s: int = 0) -> Outcome | None:
    """Starts to call a destination; an outcome when that is impossible. `ring_s` 0: as long as the device says."""
    call.parties[party.id] = party
    if resolution.dnd:
        return outcomes.BUSY
    if not party.contacts:
        return outcomes.NOT_REGISTERED
    step.save = True
    step.start_timer(TimerKind.NO_ANSWER, party.id, (ring_s or party.no_answer_s) * 1_000_000)
    dial(step, call, party)
    return None


def dial(step: Step, call: Call, party: Party) -> None:
    """Calls the next group of contacts."""
    group, party.contacts = party.contacts[0], party.contacts[1:]
    caller = step.caller_leg(call)
    offer, offer_type = (caller.offer, caller.offer_type) if caller is not None else (b"", "")
    if party.id == call.origination:  # the maker's own phone is to make the offer (RFC 3725 flow I)
        offer, offer_type = b"", ""
    trunk = party.kind is PartyKind.EXTERNAL
    for contact in group:
        leg = Leg(step.thread.new_id(), party.id, False, LegState.CALLING, contact.uri)
        step.thread.legs[leg.id] = leg
        party.legs.append(leg.id)
        step.do(
            do.SendInvite(leg.id, contact.uri, contact.path, party.dn, call.ani, trunk, offer, offer_type),
        )


def progressed(step: Step, leg: Leg, fact: inputs.Progressed) -> None:
    """A provisional response: the destination rings."""
    found = step.thread.party_of(leg)
    step.move(leg, "Progressed")
    if fact.early and not leg.dialog:
        leg.dialog = True
        step.save = True
    if found is None or leg.state is LegState.CANCELLING or fact.status < 180:
        return
    call, party = found
    if party.id == call.origination:
        return
    _alert(step, call, fact)
    if party.phase is Phase.DIALING:
        rings(step, call, party)


def rings(step: Step, call: Call, party: Party) -> None:
    """Tells that a destination rings: Ringing of a DN, NetworkReached of the caller for a number outside."""
    party.phase = Phase.RINGING
    route = call.route
    if route is None or not route.waiting:
        call.destination = party.dn
    elif route.divert_on_ringing or route.defaulting:
        routing.diverted(step, call, party.dn)
    events.added(step, call, party)
    caller = call.parties[call.origination]
    if party.monitored:
        attributes = events.of_party(call, party)
        if route is not None and route.reservation_token and route.target == party.id:
            attributes["extensions"] = (("ReservationToken", route.reservation_token),)
        step.tell(EventType.RINGING, attributes)
    elif caller.monitored and not call.network_reached:
        call.network_reached = True
        step.tell(EventType.NETWORK_REACHED, events.of_party(call, caller))


def _alert(step: Step, call: Call, fact: inputs.Progressed) -> None:
    """Passes ringing on to a caller who still waits for it; a session description once only, since another
    destination's would contradict it (RFC 3264 has one answer to an offer)."""
    leg = step.caller_leg(call)
    if leg is None or leg.state not in (LegState.INVITED, LegState.ALERTED):
        return
    media = bool(fact.body) and bool(leg.offer) and not leg.early_media
    if leg.state is LegState.ALERTED and not media:
        return
    step.move(leg, "alert")
    leg.dialog = True
    leg.early_media = leg.early_media or media
    if media:
        step.do(do.Alert(leg.id, 183, fact.body, fact.body_type))
    else:
        step.do(do.Alert(leg.id, 180))


def failed(step: Step, leg: Leg, status: int) -> tuple[Call, Party, Outcome] | None:
    """A final failure of one leg. The party and its outcome when that was its last chance."""
    found = step.thread.party_of(leg)
    step.move(leg, "Failed")
    if found is None:
        return None
    call, party = found
    party.legs.remove(leg.id)
    party.status = outcomes.better(party.status, status) if party.status else status
    trunk = party.kind is PartyKind.EXTERNAL
    if status >= 600:
        release.end_legs(step, party)
    elif party.legs:
        return None
    elif party.contacts and outcomes.next_contact(status, trunk=trunk):
        step.save = True
        dial(step, call, party)
        return None
    return call, party, outcomes.of_status(party.status, trunk=trunk)
