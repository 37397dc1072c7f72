"""What passes between the sessions of a slot: an effect of one is an input of another. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.orchestration.effects import Inside, Report, Spawn, Stop, Tell
from services.orchestration.inputs import Begin, Cancel, External, FromChild, Input
from services.orchestration.scxml import Event
from services.orchestration.session import Parent, Session


def child_of(session: Session, spawn: Spawn) -> Session:
    """The session that an invocation starts: for the same call, with a document and values of its own."""
    call = replace(session.call, session_id=spawn.session_id, urls=spawn.load.urls, default_dns=())
    parent = Parent(session.id, spawn.invokeid, spawn.depth)
    child = Session(call, parent=parent, params=spawn.params, user_data=session.user_data)
    child.pending[spawn.load.id] = spawn.load
    return child


def inputs_of(session: Session, effect: Inside, *, there: bool) -> list[tuple[str, Input]]:
    """Who gets what; `there`: whether the session that the effect names is."""
    target = effect.session_id
    match effect:
        case Spawn():
            return [(target, Begin())]
        case Stop():
            return [(target, Cancel())]
        case Report():
            news = FromChild(session.id, effect.invokeid, effect.event, effect.ended, effect.routed)
            return [(target, news)]
        case Tell():
            if there:
                return [(target, External(effect.event))]
            why = f"no session {target!r}"
            data = {"error": "communication", "description": why, "message": why, "event": effect.event.name}
            failure = Event("error.communication", data, "platform", sendid=effect.sendid)
            return [(session.id, External(failure))]
