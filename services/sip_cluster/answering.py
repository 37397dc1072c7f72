"""How a call is answered: the destination picks up, the caller hears of it, both are told Established. Pure."""

from __future__ import annotations

from services.sip_cluster import dialling, events, inputs, making, release, renegotiation, routing
from services.sip_cluster import effects as do
from services.sip_cluster.calls import Call, Leg, LegState, Party, Phase, Refusal, TimerKind
from services.sip_cluster.legs import allowed
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import Why


def answered(step: Step, leg: Leg, fact: inputs.Answered) -> None:
    """A 2xx to an INVITE of ours."""
    found = step.thread.party_of(leg)
    step.move(leg, "Answered")
    if found is None:  # its party is gone: the answer crossed our CANCEL
        release.end_leg(step, leg)
        return
    call, party = found
    party.legs.remove(leg.id)
    release.end_legs(step, party)
    party.legs = [leg.id]
    leg.dialog = True
    step.save = True
    step.stop_timer(TimerKind.NO_ANSWER, party.id)
    if party.id == call.origination:
        making.own_phone_answered(step, call, party, leg, fact)
        return
    if party.phase is Phase.DIALING:
        dialling.rings(step, call, party)
    if call.route is not None and call.route.waiting:
        routing.diverted(step, call, party.dn)
    _connect(step, call, leg, fact)
    _tell(step, call, party)


def _connect(step: Step, call: Call, leg: Leg, fact: inputs.Answered) -> None:
    """Gives the answer to the caller: in a 200, or in the ACK that the maker's own phone waits for."""
    caller = step.caller_leg(call)
    if caller is None:
        release.end_leg(step, leg)
        return
    if not caller.inbound:
        _acknowledge(step, leg, b"", "")
        _acknowledge(step, caller, fact.body, fact.body_type)
        step.stop_timer(TimerKind.WITHHELD_ACK, call.origination)
    else:
        if caller.offer:
            _acknowledge(step, leg, b"", "")
        # Without an offer of the caller the destination made it: its ACK waits for the caller's (RFC 3261 §13.2.2.4).
        step.move(caller, "accept")
        caller.dialog = True
        step.do(do.Accept(caller.id, fact.body, fact.body_type))


def _acknowledge(step: Step, leg: Leg, body: bytes, body_type: str) -> None:
    step.move(leg, "acknowledge")
    step.do(do.SendAck(leg.id, body, body_type))


def _tell(step: Step, call: Call, party: Party) -> None:
    caller = call.parties[call.origination]
    if caller.phase is not Phase.ESTABLISHED:
        events.connected(step, call, caller)
    told = events.connected(step, call, party)
    if told is not None:
        step.reply(party.answer_request, told)
    party.answer_request = ""


def acked(step: Step, leg: Leg, fact: inputs.Acked) -> None:
    """The ACK of a 2xx of ours."""
    was = leg.state
    step.move(leg, "Acked")
    if was is LegState.ENDING:
        step.do(do.SendBye(leg.id))
    elif was is LegState.ACCEPTED:
        for other in step.thread.legs.values():
            if other.state is LegState.ANSWERED and other.party:
                _acknowledge(step, other, fact.body, fact.body_type)
                return
    elif was is LegState.ESTABLISHED:
        renegotiation.acked(step, leg, fact)


def request(step: Step, call: Call, asked: inputs.AnswerCall) -> Refusal | None:
    """AnswerCall: the ringing phone is told to pick up (NOTIFY talk); None when it was."""
    party = ringing_party(call, asked.request.dn)
    if party is None:
        return Refusal(Why.WRONG_STATE, f"{asked.request.dn} does not ring in this call")
    if not party.can_talk:
        return Refusal(Why.UNSUPPORTED, f"the phone of {party.dn} cannot be told to answer (sip-cti-control)")
    if party.answer_request:
        return Refusal(Why.IN_PROGRESS, "the phone has been told to answer")
    for number in party.legs:
        leg = step.thread.legs.get(number)
        if leg is not None and leg.dialog and leg.state is LegState.EARLY:
            party.answer_request = asked.request.id
            step.do(do.SendTalk(leg.id))
            return None
    return Refusal(Why.WRONG_STATE, f"{party.dn} has no dialog yet in which it could be told to answer")


def ringing_party(call: Call, dn: str) -> Party | None:
    """The party of a DN whose phone rings, the maker's own among them."""
    for party in call.parties.values():
        own = party.id == call.origination and party.phase is Phase.DIALING
        if party.dn == dn and (party.phase is Phase.RINGING or own):
            return party
    return None


def talk_refused(step: Step, leg: Leg, status: int) -> None:
    """The phone would not be told to answer; it rings on."""
    found = step.thread.party_of(leg)
    if found is None or not allowed(leg, "Answered"):
        return
    _, party = found
    step.reply(
        party.answer_request, Refusal(Why.UNSUPPORTED, f"the phone refused to be told to answer ({status})")
    )
    party.answer_request = ""
