"""Where a call goes, by the kind of device its destination is. Pure."""

from __future__ import annotations

from mesh.reservation_token import has_ended
from services.sip_cluster import dialling, outcomes, release, routing, unreached
from services.sip_cluster.calls import Call, DeviceType, Refusal, Resolution, Route
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import DnRole, RouteType, Why

PHONES = frozenset({DeviceType.EXTENSION, DeviceType.AGENT, DeviceType.EXTERNAL})


def place(step: Step, call: Call, resolution: Resolution) -> None:
    """Sends a call that is on no route point to its destination."""
    if resolution.type is DeviceType.ROUTE_POINT:
        routing.enter(step, call, resolution)
    elif resolution.type in PHONES:
        queue = call.route.dn if call.route is not None else ""
        party = dialling.new_party(step, resolution, DnRole.DESTINATION, queue)
        outcome = dialling.begin(step, call, party, resolution)
        if outcome is not None:
            unreached.party_failed(step, call, party, outcome)
    else:  # voicemail and devices that take no calls
        release.fail_caller(step, call, outcomes.NOT_AVAILABLE)


def route(step: Step, call: Call, resolution: Resolution) -> None:
    """Sends a call from its route point to the target of a RouteCall or of default routing."""
    at = call.route
    assert at is not None
    if resolution.type is DeviceType.ROUTE_POINT:
        _to_route_point(step, call, at, resolution)
    elif (
        has_ended(at.reservation_token, step.now) and not at.defaulting
    ):  # the question to the dial plan was held up
        routing.refuse(step, call, routing.RESERVATION_ENDED)
    elif resolution.type in PHONES:
        party = dialling.new_party(step, resolution, DnRole.DESTINATION, at.dn)
        at.target = party.id
        outcome = dialling.begin(step, call, party, resolution, at.no_answer_s)
        if outcome is not None:
            unreached.party_failed(step, call, party, outcome)
    elif at.defaulting:
        nowhere(step, call, outcomes.NOT_AVAILABLE)
    else:
        routing.refuse(step, call, Refusal(Why.INVALID_TARGET, f"{resolution.dn} takes no calls"))


def nowhere(step: Step, call: Call, outcome: outcomes.Outcome) -> None:
    """A default DN leads nowhere: the next one, or the caller is told."""
    if not routing.next_default(step, call):
        release.fail_caller(step, call, outcome)


def reject(step: Step, call: Call, at: Route, route_type: int) -> None:
    """RouteCall with Reject or CallDisconnect: the route point is done with the call and the caller is turned away."""
    at.route_type = route_type
    routing.diverted(step, call, "")
    rejected = route_type == RouteType.REJECT
    release.fail_caller(step, call, outcomes.REJECTED if rejected else outcomes.NOT_REGISTERED)


def _to_route_point(step: Step, call: Call, at: Route, resolution: Resolution) -> None:
    if at.waiting:
        routing.diverted(step, call, resolution.dn)
    if at.returns >= routing.MAX_RETURNS:  # route points that send a call to each other
        release.fail_caller(step, call, outcomes.NO_ROUTE)
        return
    returns = at.returns + 1
    routing.enter(step, call, resolution)
    if call.route is not None:
        call.route.returns = returns
