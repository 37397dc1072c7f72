"""Calls on route points: queueing, RouteCall, diversion, default routing (domain facts §2.1, §3.8). Pure.

divert-on-ringing true (the default): RouteUsed and Diverted are told when the target rings. A target that rang and
was not reached sends the call back to the route point (Queued and RouteRequest again), at most `MAX_RETURNS` times:
the caller does not lose the place for an agent's silence. False: they are told when the target answers; until then
the call stays on the route point and a failure is the answer to RouteCall.
"""

from __future__ import annotations

import re

from mesh.reservation_token import has_ended
from services.sip_cluster import effects as do
from services.sip_cluster import events, inputs
from services.sip_cluster.calls import (
    Ask,
    Call,
    LegState,
    Party,
    PartyKind,
    Phase,
    Purpose,
    Refusal,
    Resolution,
    Route,
    TimerKind,
)
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import CallState, DnRole, EventType, RouteType, Why

MAX_RETURNS = 10
"""How often a call comes back to its route point after it was diverted."""
DEFAULT_TIMEOUT_MS = 300_000
"""Routing timeout when the route point has none (voice.config.v1.RoutePointSettings)."""

TOKEN = re.compile(r"[A-Za-z0-9._:~+/=|@-]{1,256}")
"""Shape of a reservation token."""

RESERVATION_ENDED = Refusal(Why.RESERVATION_INVALID, "the reservation has ended: ask for the agent again")

TO_AGENT = frozenset({RouteType.AGENT_ID, RouteType.DIRECT_AGENT})
TO_NOBODY = frozenset({RouteType.REJECT, RouteType.CALL_DISCONNECT})
UNSUPPORTED = frozenset({RouteType.ANNOUNCEMENT, RouteType.POST_FEATURE})


def enter(step: Step, call: Call, resolution: Resolution) -> None:
    """The call waits on a route point."""
    step.save = True
    timeout_us = (resolution.routing_timeout_ms or DEFAULT_TIMEOUT_MS) * 1000
    returns = call.route.returns if call.route is not None and call.route.dn == resolution.dn else 0
    call.route = Route(0, resolution.dn, resolution.default_dns, timeout_us, returns=returns)
    call.route.divert_on_ringing = resolution.divert_on_ringing
    queue(step, call, call.route)


def queue(step: Step, call: Call, route: Route) -> None:
    """Queued and RouteRequest; the caller hears ringing."""
    number = step.thread.new_id()
    party = Party(number, route.dn, PartyKind.ROUTE_POINT, DnRole.DESTINATION, Phase.QUEUED, queue=route.dn)
    call.parties[number] = party
    call.destination = route.dn
    route.party = number
    route.target = 0
    step.start_timer(TimerKind.ROUTING, number, route.timeout_us)
    leg = step.caller_leg(call)
    if leg is not None and leg.state is LegState.INVITED:
        step.move(leg, "alert")
        leg.dialog = True
        step.do(do.Alert(leg.id, 180))
    events.queued(step, call, party)


def check(call: Call, asked: inputs.RouteCall, now_us: int) -> Refusal | None:
    """Why a RouteCall cannot be carried out now; None when it can."""
    route = call.route
    if route is None or not route.waiting:
        return Refusal(Why.WRONG_STATE, "the call is on no route point")
    if asked.request.dn != route.dn:
        return Refusal(Why.INVALID_ATTRIBUTE, f"must be the route point {route.dn}", "dn")
    if route.request or route.defaulting:
        return Refusal(Why.WRONG_STATE, "the call is being routed")
    if asked.reservation_token and not TOKEN.fullmatch(asked.reservation_token):
        return Refusal(Why.RESERVATION_INVALID, "the reservation token has not the shape of one")
    if has_ended(asked.reservation_token, now_us):
        return RESERVATION_ENDED
    if asked.route_type in UNSUPPORTED:
        return Refusal(
            Why.UNSUPPORTED, f"route type {RouteType(asked.route_type).name} needs the media service"
        )
    if (
        not asked.destination
        and not asked.agent_id
        and asked.route_type not in TO_NOBODY | {RouteType.DEFAULT}
    ):
        return Refusal(Why.INVALID_ATTRIBUTE, "must have 1 to 255 characters", "destination")
    return None


def begin(step: Step, call: Call, asked: inputs.RouteCall) -> None:
    """A RouteCall that may be carried out to a destination: the dial plan is asked what that is."""
    route = call.route
    assert route is not None
    route.request = asked.request.id
    route.route_type = asked.route_type
    route.no_answer_s = asked.no_answer_s
    route.reservation_token = asked.reservation_token
    route.reasons, route.extensions = asked.request.reasons, asked.request.extensions
    step.stop_timer(TimerKind.ROUTING, route.party)
    to_agent = bool(asked.agent_id) or asked.route_type in TO_AGENT
    ask(step, call, Purpose.ROUTE, asked.agent_id or asked.destination, is_agent=to_agent)


def ask(step: Step, call: Call, purpose: Purpose, destination: str, *, is_agent: bool = False) -> None:
    """Asks the dial plan for a destination of a call that exists."""
    caller = call.parties.get(call.origination)
    dn = caller.dn if caller is not None and caller.kind is PartyKind.PHONE else ""
    question = Ask(step.thread.new_id(), purpose, destination, dn, is_agent, call.conn_id)
    step.thread.asks[question.id] = question
    step.do(do.AskDialPlan(question.id))


def diverted(step: Step, call: Call, dn: str) -> None:
    """RouteUsed and Diverted: the call leaves the route point for `dn`. Settles the RouteCall."""
    route = call.route
    assert route is not None
    point = call.parties[route.party]
    attributes = events.third_party(events.of_party(call, point), dn)
    route_type = int(RouteType.DEFAULT) if route.defaulting else route.route_type
    if route_type:
        attributes["route_type"] = route_type
    if route.reasons:
        attributes["reasons"] = route.reasons
    if route.extensions:
        attributes["extensions"] = route.extensions
    told = step.tell(EventType.ROUTE_USED, attributes, route.request)
    events.left(step, call, point, EventType.DIVERTED, CallState.OK, third=dn)
    step.stop_timer(TimerKind.ROUTING, route.party)
    route.party = 0
    call.destination = dn
    step.reply(route.request, told)
    route.request = ""
    if route.defaulting:
        step.do(do.Count("default_routing"))


def target_failed(step: Step, call: Call, outcome: Outcome) -> bool:
    """The target was not reached. False when there is nowhere left to go."""
    route = call.route
    assert route is not None
    route.target = 0
    if route.defaulting:
        return next_default(step, call)
    if route.waiting:
        refuse(step, call, Refusal(outcome.why, f"the target was not reached ({outcome.status})"))
        return True
    if route.returns >= MAX_RETURNS:
        return False
    route.returns += 1
    step.save = True
    queue(step, call, route)
    return True


def refuse(step: Step, call: Call, refusal: Refusal) -> None:
    """The RouteCall failed; the call stays on the route point and can be routed again."""
    route = call.route
    assert route is not None
    step.reply(route.request, refusal)
    route.request = ""
    step.start_timer(TimerKind.ROUTING, route.party, route.timeout_us)


def start_default(step: Step, call: Call, rotation: int) -> bool:
    """Default routing begins, with the list's entry that is in turn. False when there is none to try."""
    route = call.route
    assert route is not None
    if route.request:  # a RouteCall is being carried out: it has its own end
        return True
    step.stop_timer(TimerKind.ROUTING, route.party)
    route.defaulting = True
    route.rotation = rotation
    return next_default(step, call)


def next_default(step: Step, call: Call) -> bool:
    """Tries the next default DN; each once (loop guard, domain facts §3.8). False when none is left."""
    route = call.route
    assert route is not None
    dns = route.default_dns
    for place in range(len(dns)):
        dn = dns[(route.rotation + place) % len(dns)]
        if dn not in route.tried:
            route.tried = (*route.tried, dn)
            ask(step, call, Purpose.DEFAULT, dn)
            return True
    return False
