"""How parties, legs and calls end. Pure."""

from __future__ import annotations

from services.sip_cluster import effects as do
from services.sip_cluster import events
from services.sip_cluster.calls import Call, Leg, LegState, Party, PartyKind, Phase, Refusal, TimerKind, Told
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallState, EventType, Why

CALL_ENDED = Refusal(Why.UNKNOWN_CALL, "the call has ended")
"""Outcome of requests that wait for something the call will not do any more."""


def end_leg(step: Step, leg: Leg, status: int = 480) -> None:
    """Brings a leg to its end by what its state asks for: a failure with this status, CANCEL, or BYE."""
    leg.party = 0
    match leg.state:
        case LegState.INVITED | LegState.ALERTED:
            step.move(leg, "reject")
            step.do(do.Reject(leg.id, status))
        case LegState.CALLING | LegState.EARLY:
            step.move(leg, "cancel")
            step.do(do.CancelInvite(leg.id))
        case LegState.ACCEPTED:  # no BYE before the ACK (RFC 3261 §15)
            step.move(leg, "release")
        case LegState.ANSWERED:
            step.do(do.SendAck(leg.id))
            step.move(leg, "release")
            step.do(do.SendBye(leg.id))
        case LegState.ESTABLISHED:
            step.move(leg, "release")
            step.do(do.SendBye(leg.id))
        case _:
            pass


def end_legs(step: Step, party: Party, status: int = 480) -> None:
    """Ends all legs of a party."""
    legs = step.thread.legs
    for number in party.legs:
        leg = legs.get(number)
        if leg is not None:
            end_leg(step, leg, status)
    party.legs = []


def stop_party(step: Step, party: Party) -> None:
    """Stops what still runs for a party and settles who waits for it."""
    for kind in (TimerKind.NO_ANSWER, TimerKind.ROUTING, TimerKind.WITHHELD_ACK):
        step.stop_timer(kind, party.id)
    step.reply(party.answer_request, CALL_ENDED)
    party.answer_request = ""


def clear(
    step: Step, call: Call, first: Party, state: CallState, *, status: int = 480, cause: int = 0
) -> Told:
    """Ends a call: `first` leaves, then all others, then CallDeleted. The first event told.

    When the maker of the call leaves, who still rings or queues is told Abandoned.
    """
    abandoned = first.id == call.origination and state is not CallState.CLEARED
    settle(step, call)
    others = sorted((p for p in call.parties.values() if p.id != first.id), key=lambda p: -p.id)
    told: Told | None = None
    lost = False
    for party in (first, *others):
        waits = party.phase in (Phase.RINGING, Phase.QUEUED)
        kind = EventType.ABANDONED if waits and abandoned else EventType.RELEASED
        lost = lost or kind is EventType.ABANDONED
        stop_party(step, party)
        end_legs(step, party, status)
        one = events.left(step, call, party, kind, state, cause)
        told = told or one
    if lost:
        step.do(do.Count("abandoned"))
    deleted = delete(step, call)
    return told or deleted


def fail_caller(step: Step, call: Call, outcome: Outcome) -> Told:
    """Nobody can be reached: the caller is told so and the call ends."""
    caller = call.parties[call.origination]
    reached_nobody = outcome.state is not CallState.NO_ANSWER and caller.phase is Phase.DIALING
    if (
        caller.kind is PartyKind.PHONE
        and caller.announced
        and reached_nobody
        and not _own_phone(step, caller)
    ):
        attributes = events.of_party(call, caller, outcome.state)
        attributes["cause"] = outcome.status
        step.tell(EventType.DESTINATION_BUSY, attributes)
    # A route point that is left because nobody can be reached is released, not abandoned: the caller still waits.
    for party in sorted((p for p in call.parties.values() if p is not caller), key=lambda p: -p.id):
        stop_party(step, party)
        end_legs(step, party)
        events.left(step, call, party, EventType.RELEASED, outcome.state, outcome.status)
    return clear(step, call, caller, outcome.state, status=outcome.status, cause=outcome.status)


def _own_phone(step: Step, caller: Party) -> bool:
    """The caller's own phone is still being called (MakeCall), so it is not the destination that failed."""
    return any(
        leg.state in (LegState.CALLING, LegState.EARLY)
        for leg in map(step.thread.legs.get, caller.legs)
        if leg is not None
    ) or (not caller.legs and step.thread.making is not None)


def settle(step: Step, call: Call) -> None:
    """What was open for a call is dropped: questions, an offer on its way, requests that wait."""
    thread = step.thread
    thread.asks = {key: ask for key, ask in thread.asks.items() if ask.conn_id != call.conn_id}
    if call.route is not None and call.route.request:
        step.reply(call.route.request, CALL_ENDED)
        call.route.request = ""
    offer, thread.renegotiation = thread.renegotiation, None
    if offer is not None and not offer.answered and offer.origin in thread.legs:
        step.do(do.RefuseOffer(offer.origin, 487))


def delete(step: Step, call: Call) -> Told:
    """CallDeleted: the last event of every call."""
    told = step.tell(EventType.CALL_DELETED, events.of_call(call))
    _forget(step, call)
    return told


def over(step: Step, call: Call) -> None:
    """A call whose end has been told already: its legs end, and nothing is told again."""
    settle(step, call)
    for party in call.parties.values():
        stop_party(step, party)
        end_legs(step, party)
    _forget(step, call)
    step.save = True


def _forget(step: Step, call: Call) -> None:
    del step.thread.calls[call.conn_id]
    if not step.thread.calls:
        step.thread.timers.clear()


def hung_up(step: Step, leg: Leg) -> None:
    """BYE: its party leaves, and with two parties the call ends."""
    found = step.thread.party_of(leg)
    early = leg.state is LegState.ALERTED
    step.move(leg, "ByeReceived")
    step.do(do.AnswerBye(leg.id))
    if early:
        step.do(do.Reject(leg.id, 487))
    if found is not None:
        clear(step, *found, CallState.OK)


def cancelled(step: Step, leg: Leg) -> None:
    """CANCEL of the INVITE that made the call; too late once it was accepted."""
    found = step.thread.party_of(leg)
    step.move(leg, "Cancelled")
    if leg.state is not LegState.ENDED:
        return
    step.do(do.Reject(leg.id, 487))
    if found is not None:
        clear(step, *found, CallState.OK)
    else:  # cancelled before the dial plan knew whose call it is
        step.thread.asks.clear()
        step.thread.timers.clear()
        step.do(do.Count("abandoned"))


def ack_missing(step: Step, leg: Leg) -> None:
    """A 2xx of ours was never acknowledged: BYE, and the call ends (RFC 3261 §13.3.1.4)."""
    found = step.thread.party_of(leg)
    if leg.state is LegState.RELEASING:
        step.move(leg, "AckMissing")
        return
    step.move(leg, "AckMissing")
    leg.party = 0
    step.do(do.SendBye(leg.id))
    if found is not None:
        clear(step, *found, CallState.GENERAL_ERROR)


def lost(step: Step, leg: Leg) -> None:
    """A leg with which nothing can be done any more; it has left the thread. Its call ends."""
    found = step.thread.party_of(leg)
    if found is not None:
        clear(step, *found, CallState.SYSTEM_ERROR)
