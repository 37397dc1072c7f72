"""<invoke>: sessions that a session starts, hears from, feeds and cancels. Pure.

Parent and child are sessions of one slot with records of their own; what passes between them is part of the write of the
step that sent it, so it is never lost and never counted twice (docs/decisions/0086).
"""

from __future__ import annotations

from services.orchestration.effects import Effect, Load, Spawn, Stop, Tell
from services.orchestration.inputs import FromChild
from services.orchestration.scxml import SCXML_INVOKE, CancelInvoke, Event, Forward, Invoke
from services.orchestration.session import Session, post

MAX_CHILDREN = 100
"""Invoked sessions of one session that live."""
MAX_DEPTH = 8
"""Invocations within invocations."""
_TYPES = frozenset(("scxml", SCXML_INVOKE.rstrip("/")))


def invoke(session: Session, wish: Invoke, number: str) -> list[Effect]:
    """A child session begins; `number` is unique in the session ("<step>-<index>")."""
    depth = session.parent.depth + 1 if session.parent else 1
    if wish.type.rstrip("/") not in _TYPES:
        return _refused(session, wish, f"type {wish.type!r} is not supported")
    if len(session.children) >= MAX_CHILDREN:
        return _refused(session, wish, f"at most {MAX_CHILDREN} sessions may be invoked at a time")
    if depth > MAX_DEPTH:
        return _refused(session, wish, f"invocations are nested {MAX_DEPTH} deep at most")
    child = f"{session.id}.{number}"
    session.children[wish.invokeid] = child
    # An inline document has the address of the document it stands in.
    address = wish.src or session.url
    load = Load(f"{child}/load", (address,) if address else (), wish.content)
    return [Spawn(child, wish.invokeid, load, wish.data, depth)]


def end(session: Session, wish: CancelInvoke) -> list[Effect]:
    """The state that invoked it was left."""
    child = session.children.pop(wish.invokeid, None)
    return [] if child is None else [Stop(child)]


def forward(session: Session, wish: Forward) -> list[Effect]:
    """autoforward: the child gets an unchanged copy."""
    child = session.children.get(wish.invokeid)
    return [] if child is None else [Tell(child, wish.event)]


def heard(session: Session, news: FromChild) -> list[Effect]:
    """News of a child; of one whose invocation is over, nothing."""
    if news.routed:
        session.routed = True
    if session.children.get(news.invokeid) != news.child:
        return []
    if news.ended:
        del session.children[news.invokeid]
    return [] if news.event is None else post(session, news.event)


def _refused(session: Session, wish: Invoke, why: str) -> list[Effect]:
    data = {"error": "unsupported", "message": f"invoke: {why}"}
    return post(session, Event("error.execution", data, "platform", invokeid=wish.invokeid))
