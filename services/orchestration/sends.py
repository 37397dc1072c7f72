"""Where a document's <send> goes: to itself, its parent, its children, another session, an address. Pure.

A send that waits is a timer; when it is due it is dispatched as if it had been sent then.
"""

from __future__ import annotations

from urllib.parse import urlencode

from services.orchestration.effects import Effect, Post, Report, Tell, Timer
from services.orchestration.scxml import (
    HTTP_PROCESSOR,
    SCXML_PROCESSOR,
    Event,
    Json,
    Send,
    effect_from_json,
    effect_to_json,
)
from services.orchestration.scxml.basichttp import encode
from services.orchestration.session import Session, post

_SESSION = "#_scxml_"


def location(session_id: str) -> str:
    """The address of a session for the SCXML event processor (SCXML C.1)."""
    return _SESSION + session_id


def io_processors(session_id: str, http_location: str = "") -> dict[str, Json]:
    """What the document sees as `_ioprocessors`; without an address nothing comes in by Basic HTTP."""
    own = {"location": location(session_id)}
    processors: dict[str, Json] = {"scxml": own, SCXML_PROCESSOR: own}
    if http_location:
        processors |= {"basichttp": {"location": http_location}, HTTP_PROCESSOR: {"location": http_location}}
    return processors


def send(session: Session, wish: Send, effect_id: str, now_us: int) -> list[Effect]:
    """What follows from a <send>."""
    due = now_us + int(wish.delay_ms * 1000)
    if due <= now_us:
        return dispatch(session, wish, effect_id)
    timer = Timer(effect_id, due, sendid=wish.sendid, send=effect_to_json(wish))
    session.pending[timer.id] = timer
    return [timer]


def due(session: Session, effect_id: str) -> list[Effect]:
    """A timer rings."""
    timer = session.pending.pop(effect_id, None)
    if not isinstance(timer, Timer):
        return []
    if timer.send is None:
        return post(session, Event(**timer.event))
    wish = effect_from_json(timer.send)
    assert isinstance(wish, Send)  # what was put in
    return dispatch(session, wish, effect_id)


def withdraw(session: Session, sendid: str) -> None:
    """<cancel>: delayed sends under this id never leave."""
    for timer in [t for t in session.pending.values() if isinstance(t, Timer) and t.sendid == sendid]:
        del session.pending[timer.id]


def dispatch(session: Session, wish: Send, effect_id: str) -> list[Effect]:
    """A send leaves now."""
    if wish.type == HTTP_PROCESSOR:
        return _post_http(session, wish, effect_id)
    if wish.type.rstrip("/") not in ("", "scxml", SCXML_PROCESSOR):
        return unreachable(session, wish.sendid, wish.event, f"no way to send by {wish.type}")
    target, parent = wish.target, session.parent
    if target in ("", "#_internal", location(session.id)):
        return post(session, _event(session, wish))
    if target == "#_parent" and parent is not None:
        if session.cancelled:
            return []  # its invocation is over: the parent hears nothing more of it (6.4.3)
        return [Report(parent.session_id, parent.invokeid, _event(session, wish, parent.invokeid))]
    child = session.children.get(target.removeprefix("#_"))
    if child is not None:
        return [Tell(child, _event(session, wish), wish.sendid)]
    if target.startswith(_SESSION):
        return [Tell(target.removeprefix(_SESSION), _event(session, wish), wish.sendid)]
    return unreachable(session, wish.sendid, wish.event, f"no session at {target!r}")


def unreachable(session: Session, sendid: str, event: str, why: str) -> list[Effect]:
    """The document hears that a send did not arrive (6.2.5)."""
    data = {"error": "communication", "description": why, "message": why, "event": event}
    return post(session, Event("error.communication", data, "platform", sendid=sendid))


def _post_http(session: Session, wish: Send, effect_id: str) -> list[Effect]:
    if not wish.target.startswith(("http://", "https://")):
        return unreachable(session, wish.sendid, wish.event, f"{wish.target!r} is no http address")
    body, content_type = encode(wish)
    message = Post(effect_id, wish.target, body.decode(), content_type, wish.sendid, wish.event)
    session.pending[message.id] = message
    return [message]


def _event(session: Session, wish: Send, invokeid: str = "") -> Event:
    return Event(
        wish.event,
        wish.data,
        sendid=wish.sendid,
        origin=location(session.id),
        origintype=SCXML_PROCESSOR,
        invokeid=invokeid,
        content=wish.content,
        has_data=wish.has_data,
        raw=urlencode([(name, str(value)) for name, value in wish.params]),
    )
