"""Which event carries which attributes (domain facts §1.3, §2). Pure; names are those of voice.tlib.v1.Event.

Every call event has ConnID, CallUUID, CallID, CallType, CallThreadID (put in by the publisher), ANI, DNIS and, when there is
any, UserData. Events of a party add ThisDN with its role and the main other party.
"""

from __future__ import annotations

from services.sip_cluster.calls import Attributes, Call, Party, Phase, Told
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallState, DnRole, EventType, PartyState
from services.sip_cluster.user_data import KvList

_STATES = {
    Phase.DIALING: PartyState.DIALING | PartyState.INITIATED,
    Phase.RINGING: PartyState.ALERTING,
    Phase.QUEUED: PartyState.QUEUED,
    Phase.ESTABLISHED: PartyState.CONNECTED,
}


def of_call(call: Call) -> Attributes:
    """Attributes of every event about a call."""
    attributes: Attributes = {
        "conn_id": call.conn_id,
        "call_uuid": call.call_uuid,
        "call_id": call.call_id,
        "call_type": int(call.call_type),
    }
    if call.ani:
        attributes["ani"] = call.ani
    if call.dnis:
        attributes["dnis"] = call.dnis
    if call.user_data:
        attributes["user_data"] = call.user_data
    return attributes


def of_party(call: Call, party: Party, state: CallState = CallState.OK) -> Attributes:
    """Attributes of an event about a party."""
    attributes = of_call(call)
    attributes["this_dn"] = party.dn
    attributes["this_dn_role"] = int(party.role)
    if state:
        attributes["call_state"] = int(state)
    if party.queue:
        attributes["this_queue"] = party.queue
    if party.agent_id:
        attributes["agent_id"] = party.agent_id
    if party.place:
        attributes["place"] = party.place
    other_dn, other_role = other(call, party)
    if other_dn:
        attributes["other_dn"] = other_dn
        attributes["other_dn_role"] = int(other_role)
    return attributes


def other(call: Call, party: Party) -> tuple[str, DnRole]:
    """The main other party: the caller for everybody else, and for the caller the destination."""
    if party.id != call.origination:
        caller = call.parties.get(call.origination)
        return (caller.dn if caller else call.ani), DnRole.ORIGINATION
    return call.destination, DnRole.DESTINATION


def created(step: Step, call: Call) -> None:
    """CallCreated: the first event of every call."""
    step.tell(EventType.CALL_CREATED, of_call(call))


def added(step: Step, call: Call, party: Party) -> None:
    """CallPartyAdded."""
    party.announced = True
    step.tell(EventType.CALL_PARTY_ADDED, _with_state(call, party))


def connected(step: Step, call: Call, party: Party) -> Told | None:
    """CallPartyState and, for a DN, Established."""
    party.phase = Phase.ESTABLISHED
    step.tell(EventType.CALL_PARTY_STATE, _with_state(call, party))
    if not party.monitored:
        return None
    attributes = of_party(call, party)
    if party.wrap_up:
        attributes["extensions"] = _wrap_up(party.wrap_up)
    return step.tell(EventType.ESTABLISHED, attributes, party.answer_request)


def left(
    step: Step, call: Call, party: Party, kind: EventType, state: CallState, cause: int = 0, third: str = ""
) -> Told | None:
    """Released, Abandoned or Diverted of a DN, then CallPartyDeleted; the party leaves the call. The first event told.

    `cause`: the SIP status that ended the party; `third`: ThirdPartyDN, the destination of a diversion.
    """
    told: Told | None = None
    if party.announced:
        attributes = of_party(call, party, state)
        if cause:
            attributes["cause"] = cause
        if third:
            third_party(attributes, third)
        if party.monitored:
            told = step.tell(kind, attributes)
        gone = step.tell(EventType.CALL_PARTY_DELETED, dict(attributes))
        told = told or gone
    party.phase = Phase.RELEASED
    call.parties.pop(party.id, None)
    return told


def queued(step: Step, call: Call, party: Party) -> None:
    """CallPartyAdded, Queued and RouteRequest of a route point."""
    added(step, call, party)
    attributes = of_party(call, party)
    step.tell(EventType.QUEUED, attributes)
    step.tell(EventType.ROUTE_REQUEST, dict(attributes))


def third_party(attributes: Attributes, dn: str, role: DnRole = DnRole.DESTINATION) -> Attributes:
    """Adds who or what brought the event about."""
    if dn:
        attributes["third_party_dn"] = dn
        attributes["third_party_dn_role"] = int(role)
    return attributes


def _with_state(call: Call, party: Party) -> Attributes:
    attributes = of_party(call, party)
    attributes["party_id"] = party.id
    attributes["party_state"] = int(_STATES[party.phase])
    return attributes


def _wrap_up(value: str) -> KvList:
    return (("WrapUpTime", int(value) if value.isdecimal() else value),)
