"""The call model: one input of a call thread, the effects it has (sans-IO: no clock, no randomness, no wire).

    effects = handle(thread, Answered(leg=3, body=answer), now_us)

The thread is changed in place. An input that cannot happen (`IllegalFact`) changes nothing. What decides is in the files
this one sends to: arrival, making, dialling, answering, routing, unreached, release, renegotiation, data_requests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.sip_cluster import (
    answering,
    arrival,
    data_requests,
    destination,
    dialling,
    inputs,
    making,
    outcomes,
    release,
    renegotiation,
    routing,
    unreached,
    user_data,
)
from services.sip_cluster import effects as do
from services.sip_cluster.calls import (
    Ask,
    Call,
    CallThread,
    Leg,
    Party,
    Phase,
    Purpose,
    Refusal,
    RequestRecord,
    TimerKind,
)
from services.sip_cluster.legs import check
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallState, RouteType, Why

__all__ = ["handle"]


def handle(thread: CallThread, fact: inputs.Input, now: int) -> list[do.Effect]:
    """Takes one input; `now` is UTC microseconds. Raises IllegalFact for a leg fact that cannot happen."""
    cause, act = _ACTS[type(fact)]
    step = Step(thread, now, cause)
    act(step, fact)
    return step.finish()


# -- facts of legs --------------------------------------------------------------------------------------


def _leg(step: Step, number: int, fact: str) -> Leg | None:
    """The leg, or None when it has ended: what comes late for it has no meaning."""
    leg = step.thread.legs.get(number)
    if leg is not None:
        check(leg, fact)
    return leg


def _cancelled(step: Step, fact: inputs.Cancelled) -> None:
    leg = _leg(step, fact.leg, "Cancelled")
    if leg is not None:
        release.cancelled(step, leg)


def _acked(step: Step, fact: inputs.Acked) -> None:
    leg = _leg(step, fact.leg, "Acked")
    if leg is not None:
        answering.acked(step, leg, fact)


def _ack_missing(step: Step, fact: inputs.AckMissing) -> None:
    leg = _leg(step, fact.leg, "AckMissing")
    if leg is not None:
        release.ack_missing(step, leg)


def _progressed(step: Step, fact: inputs.Progressed) -> None:
    leg = _leg(step, fact.leg, "Progressed")
    if leg is not None:
        step.cause = f"sip:{fact.status}"
        dialling.progressed(step, leg, fact)


def _answered(step: Step, fact: inputs.Answered) -> None:
    leg = _leg(step, fact.leg, "Answered")
    if leg is not None:
        answering.answered(step, leg, fact)


def _failed(step: Step, fact: inputs.Failed) -> None:
    leg = _leg(step, fact.leg, "Failed")
    if leg is not None:
        step.cause = f"sip:{fact.status}"
        lost = dialling.failed(step, leg, fact.status)
        if lost is not None:
            unreached.party_failed(step, *lost)


def _bye(step: Step, fact: inputs.ByeReceived) -> None:
    leg = _leg(step, fact.leg, "ByeReceived")
    if leg is not None:
        release.hung_up(step, leg)


def _bye_done(step: Step, fact: inputs.ByeDone) -> None:
    leg = _leg(step, fact.leg, "ByeDone")
    if leg is not None:
        step.move(leg, "ByeDone")


def _offered(step: Step, fact: inputs.Offered) -> None:
    leg = _leg(step, fact.leg, "Offered")
    if leg is not None:
        renegotiation.offered(step, leg, fact)


def _offer_answered(step: Step, fact: inputs.OfferAnswered) -> None:
    leg = _leg(step, fact.leg, "OfferAnswered")
    if leg is not None:
        renegotiation.answered(step, leg, fact)


def _offer_refused(step: Step, fact: inputs.OfferRefused) -> None:
    leg = _leg(step, fact.leg, "OfferRefused")
    if leg is not None:
        renegotiation.refused(step, leg, fact.status)


def _informed(step: Step, fact: inputs.InfoReceived) -> None:
    leg = _leg(step, fact.leg, "InfoReceived")
    if leg is not None:
        renegotiation.informed(step, leg, fact)


def _leg_lost(step: Step, fact: inputs.LegLost) -> None:
    leg = step.thread.legs.pop(fact.leg, None)
    if leg is not None:
        release.lost(step, leg)


def _calls_ended(step: Step, fact: inputs.CallsEnded) -> None:
    for conn_id in fact.conn_ids:
        call = step.thread.calls.get(conn_id)
        if call is not None:
            release.over(step, call)


def _talk_refused(step: Step, fact: inputs.TalkRefused) -> None:
    leg = step.thread.legs.get(fact.leg)
    if leg is not None:
        answering.talk_refused(step, leg, fact.status)


# -- the dial plan's answers ----------------------------------------------------------------------------


def _resolved(step: Step, fact: inputs.Resolved) -> None:
    ask = step.thread.asks.pop(fact.ask, None)
    if ask is None:  # the call ended meanwhile
        return
    step.cause = _ASK_CAUSES[ask.purpose]
    if ask.purpose is Purpose.ARRIVAL:
        arrival.resolved(step, fact.resolution)
    elif step.thread.making is not None and ask.conn_id == 0:
        making.resolved(step, step.thread.making, ask.purpose, fact.resolution)
    else:
        call = step.thread.calls[ask.conn_id]
        if ask.purpose is Purpose.OVERFLOW:
            destination.place(step, call, fact.resolution)
        else:
            _bind_request(step, call)
            destination.route(step, call, fact.resolution)


def _unresolved(step: Step, fact: inputs.Unresolved) -> None:
    ask = step.thread.asks.pop(fact.ask, None)
    if ask is None:
        return
    step.cause = _ASK_CAUSES[ask.purpose]
    if ask.purpose is Purpose.ARRIVAL:
        arrival.unresolved(step, fact)
    elif step.thread.making is not None and ask.conn_id == 0:
        making.unresolved(step, step.thread.making, ask.purpose, fact)
    else:
        _no_such_destination(step, step.thread.calls[ask.conn_id], ask, fact)


def _no_such_destination(step: Step, call: Call, ask: Ask, fact: inputs.Unresolved) -> None:
    if ask.purpose is Purpose.OVERFLOW:
        release.fail_caller(step, call, fact.outcome)
    elif ask.purpose is Purpose.DEFAULT:
        destination.nowhere(step, call, fact.outcome)
    else:
        _bind_request(step, call)
        routing.refuse(step, call, Refusal(fact.outcome.why, fact.text))


def _bind_request(step: Step, call: Call) -> None:
    if call.route is not None:
        step.request = call.route.request


# -- time and the router --------------------------------------------------------------------------------


def _time(step: Step, fact: inputs.TimeReached) -> None:
    timers = step.thread.timers
    for timer in [timer for timer, due in timers.items() if due <= step.now]:
        if timers.pop(timer, None) is not None:  # one that ran out before may have ended the call
            _run_out(step, *timer, fact.rotation)


def _run_out(step: Step, kind: TimerKind, subject: int, rotation: int) -> None:
    step.cause = _TIMER_CAUSES[kind]
    if kind is TimerKind.DURATION:
        _clear_all(step)
        return
    for call in step.thread.calls.values():
        party = call.parties.get(subject)
        if party is None:
            continue
        if kind is TimerKind.ROUTING:
            _default(step, call, rotation)
        elif kind is TimerKind.NO_ANSWER:
            unreached.party_failed(step, call, party, outcomes.NO_ANSWER)
        else:
            release.fail_caller(step, call, outcomes.NO_ANSWER)
        return


def _default(step: Step, call: Call, rotation: int) -> None:
    if not routing.start_default(step, call, rotation):
        release.fail_caller(step, call, outcomes.NOT_REGISTERED)


def _router_lost(step: Step, fact: inputs.RouterLost) -> None:
    for call in list(step.thread.calls.values()):
        route = call.route
        if (
            route is not None
            and route.waiting
            and route.default_dns
            and not (route.request or route.defaulting)
        ):
            _default(step, call, fact.rotation)


def _dropped(step: Step, fact: inputs.Drop) -> None:
    _clear_all(step)


def _clear_all(step: Step) -> None:
    thread = step.thread
    thread.asks.clear()
    if thread.making is not None and not thread.calls:
        making.refuse(step, thread.making, release.CALL_ENDED)
    for call in list(thread.calls.values()):
        release.clear(step, call, call.parties[call.origination], CallState.CLEARED)
    for leg in list(thread.legs.values()):
        release.end_leg(step, leg)


# -- requests -------------------------------------------------------------------------------------------


def _request(step: Step, asked: inputs.RequestInput) -> None:
    """Carries out a request for a call that exists, once for its id."""
    thread, request = step.thread, asked.request
    if request.id in thread.requests:
        return
    step.take(RequestRecord(request.id, request.client, request.reference_id, request.fingerprint))
    step.request = request.id
    step.cause = f"request:{type(asked).__name__}"
    call = thread.calls.get(request.conn_id)
    if call is None:
        step.reply(request.id, Refusal(Why.UNKNOWN_CALL, f"no call has ConnID {request.conn_id:016x}"))
        return
    match asked:
        case inputs.RouteCall():
            _route_call(step, call, asked)
        case inputs.AnswerCall():
            refusal = answering.request(step, call, asked)
            if refusal is not None:
                step.reply(request.id, refusal)
        case inputs.ReleaseCall():
            _release_call(step, call, request.dn)
        case inputs.ClearCall():
            first = call.parties[call.origination]
            step.reply(request.id, release.clear(step, call, first, CallState.CLEARED))
        case inputs.DistributeEvent():
            step.reply(request.id, data_requests.distribute(step, call, asked))
        case inputs.MakeCall():
            raise AssertionError("MakeCall makes a thread of its own")
        case _:
            step.reply(request.id, data_requests.change(step, call, asked))


def _release_call(step: Step, call: Call, dn: str) -> None:
    party = _party(call, dn)
    if party is None:
        refusal = Refusal(Why.WRONG_STATE, f"{dn} is not in this call")
        step.reply(step.request, refusal)
    elif party.phase is Phase.RINGING:
        step.reply(step.request, Refusal(Why.WRONG_STATE, f"{dn} rings: it can answer, not release"))
    else:
        step.reply(step.request, release.clear(step, call, party, CallState.OK))


def _party(call: Call, dn: str) -> Party | None:
    return next((party for party in call.parties.values() if party.dn == dn and party.announced), None)


def _route_call(step: Step, call: Call, asked: inputs.RouteCall) -> None:
    refusal = routing.check(call, asked, step.now)
    if refusal is None and asked.user_data:
        try:
            call.user_data = user_data.update(call.user_data, asked.user_data)
        except user_data.TooLarge as error:
            refusal = Refusal(Why.INVALID_ATTRIBUTE, str(error), "user_data")
    route = call.route
    if refusal is not None or route is None:
        step.reply(asked.request.id, refusal or release.CALL_ENDED)
    elif asked.route_type in routing.TO_NOBODY:
        route.request = asked.request.id
        destination.reject(step, call, route, asked.route_type)
    elif asked.route_type == RouteType.DEFAULT and not asked.destination:
        if routing.start_default(step, call, asked.rotation):
            route.request = asked.request.id
        else:
            step.reply(asked.request.id, Refusal(Why.INVALID_TARGET, f"{route.dn} has no default DN"))
    else:
        routing.begin(step, call, asked)


_ASK_CAUSES = {
    Purpose.ARRIVAL: "sip:INVITE",
    Purpose.MAKE_DN: "request:MakeCall",
    Purpose.MAKE_DESTINATION: "request:MakeCall",
    Purpose.ROUTE: "request:RouteCall",
    Purpose.DEFAULT: "timer:routing",
    Purpose.OVERFLOW: "overflow",
}
_TIMER_CAUSES = {
    TimerKind.NO_ANSWER: "timer:no-answer",
    TimerKind.ROUTING: "timer:routing",
    TimerKind.DURATION: "timer:duration",
    TimerKind.WITHHELD_ACK: "timer:withheld-ack",
}

_ACTS: dict[type, tuple[str, Callable[[Step, Any], None]]] = {
    inputs.InviteReceived: ("sip:INVITE", arrival.invited),
    inputs.MakeCall: ("request:MakeCall", making.start),
    inputs.Cancelled: ("sip:CANCEL", _cancelled),
    inputs.Acked: ("sip:ACK", _acked),
    inputs.AckMissing: ("timer:ack", _ack_missing),
    inputs.Progressed: ("sip:1xx", _progressed),
    inputs.Answered: ("sip:200", _answered),
    inputs.Failed: ("sip:failure", _failed),
    inputs.ByeReceived: ("sip:BYE", _bye),
    inputs.ByeDone: ("sip:BYE", _bye_done),
    inputs.Offered: ("sip:INVITE", _offered),
    inputs.OfferAnswered: ("sip:200", _offer_answered),
    inputs.OfferRefused: ("sip:failure", _offer_refused),
    inputs.InfoReceived: ("sip:INFO", _informed),
    inputs.LegLost: ("takeover", _leg_lost),
    inputs.CallsEnded: ("takeover", _calls_ended),
    inputs.TalkRefused: ("sip:NOTIFY", _talk_refused),
    inputs.Resolved: ("dial-plan", _resolved),
    inputs.Unresolved: ("dial-plan", _unresolved),
    inputs.TimeReached: ("timer", _time),
    inputs.RouterLost: ("router-lost", _router_lost),
    inputs.Drop: ("shutdown", _dropped),
    **{
        kind: ("request", _request)
        for kind in (
            inputs.AnswerCall,
            inputs.ReleaseCall,
            inputs.ClearCall,
            inputs.RouteCall,
            inputs.AttachUserData,
            inputs.UpdateUserData,
            inputs.DeleteUserData,
            inputs.DeletePair,
            inputs.DistributeEvent,
        )
    },
}
