"""The way out of a session: what it asked for is withdrawn, and its call goes to a default destination when one is owed. Pure."""

from __future__ import annotations

from services.orchestration.effects import Effect, End, Report, Resubmit, Route, Stop, Stored, Submit
from services.orchestration.scxml import Done, Event
from services.orchestration.session import Phase, Session


def finish(session: Session, outcome: str, problem: str = "", done: Done | None = None) -> list[Effect]:
    """The application is over. Requests to the tenant are withdrawn, children cancelled, the rest is forgotten."""
    telling = _told_parent(session, outcome, problem, done)
    session.phase, session.outcome, session.problem = Phase.ENDING, outcome, problem
    effects: list[Effect] = [Stop(child) for child in session.children.values()]
    kept: dict[str, Stored] = {e.id: e for e in session.pending.values() if isinstance(e, Route)}
    for submit in [e for e in session.pending.values() if isinstance(e, Submit)]:
        withdrawal = Resubmit(f"{submit.id}/withdraw", submit.id)
        kept[withdrawal.id] = withdrawal
        effects.append(withdrawal)
    session.pending = kept
    session.inbox.clear()
    session.children.clear()
    return [*telling, *effects, *settle(session)]


def settle(session: Session) -> list[Effect]:
    """What is left to do of a session that is ending; its end when nothing is."""
    if any(isinstance(effect, Route) for effect in session.pending.values()):
        return []
    if _owed(session):
        if session.default_attempt < len(session.call.default_dns):
            return [_next_default(session)]
        session.problem = session.problem or "the application ended without routing the call"
        session.outcome = "failed"
    if session.pending:
        return []
    session.phase = Phase.OVER
    return [End(session.outcome, session.problem)]


def _owed(session: Session) -> bool:
    """Whether the call still needs a destination; a child session leaves that to its parent."""
    return session.parent is None and bool(session.call.interaction) and not (session.routed or session.gone)


def _next_default(session: Session) -> Route:
    destination = session.call.default_dns[session.default_attempt]
    session.default_attempt += 1
    route = Route(f"{session.id}/default/{session.default_attempt}", destination, is_default=True)
    session.pending[route.id] = route
    return route


def _told_parent(session: Session, outcome: str, problem: str, done: Done | None) -> list[Effect]:
    """done.invoke, or the error that stands for it (6.4.3); nothing from a session that was cancelled."""
    parent = session.parent
    if parent is None or session.cancelled:
        return []
    invokeid = parent.invokeid
    if outcome != "failed":
        result = done or Done()
        event = Event(f"done.invoke.{invokeid}", result.data, invokeid=invokeid, has_data=result.has_data)
    elif session.phase is Phase.STARTING:
        data = {"message": f"invoke: {problem}"}
        event = Event("error.communication", data, "platform", invokeid=invokeid)
    else:
        data = {"reason": problem.partition(":")[0], "message": problem}
        event = Event(f"error.platform.{invokeid}", data, invokeid=invokeid)
    return [Report(parent.session_id, invokeid, event, ended=True)]
