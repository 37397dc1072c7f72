"""From a tenant's answer to a routed call: what a session does with an agent, without one, and with one that was lost. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.orchestration.effects import Effect, Report, Route, Submit
from services.orchestration.ending import settle
from services.orchestration.inputs import Outcome, Selected
from services.orchestration.outcomes import error_data, tell
from services.orchestration.scxml import Event, Json
from services.orchestration.session import Phase, Session, post

AGENT_LOST = frozenset(
    {"REASON_DN_BUSY", "REASON_NO_ANSWER", "REASON_CALL_REJECTED", "REASON_OUT_OF_SERVICE", "REASON_AGENT_RESERVED",
     "REASON_RESERVATION_INVALID", "REASON_INVALID_TARGET", "REASON_TIMEOUT"}
)  # fmt: skip
"""Failures of RouteCall after which the routing request waits again, without that agent."""
RESERVATION_ENDED = "REASON_RESERVATION_INVALID"
"""The one of them that is no fault of the agent, who may be asked again."""
CALL_LOST = frozenset({"REASON_UNKNOWN_CALL"})
"""Failures of RouteCall that say the call is gone."""


def selected(session: Session, answer: Selected) -> list[Effect]:
    """The tenant has answered."""
    submit = session.pending.get(answer.submit_id)
    if not isinstance(submit, Submit) or f"{submit.id}/route" in session.pending:
        return []  # not asked for, or answered before: the call is on its way
    data: dict[str, Json] = {"requestid": submit.requestid, "interactionid": session.call.interaction}
    if answer.reason:
        del session.pending[submit.id]
        return post(session, Event("error.queue.submit", data | error_data(answer.reason, answer.message)))
    chosen = {"agent": answer.agent_id, "dn": answer.destination, "token": answer.token, **answer.details}
    data |= {"resource": chosen, "targetselected": answer.agent_id or answer.destination}
    if not submit.route:
        del session.pending[submit.id]
        return post(session, Event("queue.submit.done", data))
    route = Route(
        f"{submit.id}/route", answer.destination, answer.agent_id, answer.token, submit.id, submit.requestid,
        user_data=answer.user_data,
    )  # fmt: skip
    session.pending[route.id] = route
    return [route]


def routed(session: Session, route: Route, outcome: Outcome) -> list[Effect]:
    """RouteCall has an outcome."""
    submit = session.pending.get(route.submit_id)
    if not outcome.reason:
        session.routed = True
        return _told_parent(session) + _done(session, route)
    if outcome.reason in CALL_LOST:
        session.gone = True
    elif isinstance(submit, Submit) and outcome.reason in AGENT_LOST:
        del session.pending[submit.id]
        again = _again(submit, "" if outcome.reason == RESERVATION_ENDED else route.agent_id)
        session.pending[again.id] = again
        return [again]
    if session.phase is Phase.ENDING:
        return settle(session)
    session.pending.pop(route.submit_id, None)
    return tell(session, _name(route), route.requestid, outcome)


def _again(submit: Submit, agent_id: str) -> Submit:
    """The request goes back to wait with its age, without the agent if one is named: under an id of its own, or the
    tenant would take it for the one it has answered."""
    first, _, attempt = submit.id.partition(":")
    excluded = (*submit.excluded, agent_id) if agent_id else submit.excluded
    return replace(submit, id=f"{first}:{int(attempt or 0) + 1}", excluded=excluded)


def _done(session: Session, route: Route) -> list[Effect]:
    session.pending.pop(route.submit_id, None)
    if session.phase is Phase.ENDING:
        return settle(session)
    resource = {"agent": route.agent_id, "dn": route.destination, "token": route.token}
    data = {"resource": resource, "targetselected": route.agent_id or route.destination}
    return tell(session, _name(route), route.requestid, Outcome(route.id, data=data))


def _name(route: Route) -> str:
    return "queue.submit" if route.submit_id else "interaction.redirect"


def _told_parent(session: Session) -> list[Effect]:
    """The call is its parent's too, which owes it no default destination any more."""
    parent = session.parent
    return [] if parent is None else [Report(parent.session_id, parent.invokeid, routed=True)]
