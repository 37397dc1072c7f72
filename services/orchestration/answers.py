"""Requests that a session answers (`session.request.<name>` and `<session:response>`): the decisions. Pure.

A session remembers whom it owes an answer and what it answered, as part of its record: so a request that is sent again,
to the same node or an heir, is asked once and gets the same answer.
"""

from __future__ import annotations

import json

from services.orchestration.actions import ActionError
from services.orchestration.inputs import Ask
from services.orchestration.replies import Answer, Asked, Reply
from services.orchestration.scxml import Action, Event, Json

REMEMBERED = 64
"""Requests a session remembers, answered ones first to be forgotten."""
MAX_CONTENT = 256 * 1024
"""Longest answer, bytes."""
REQUEST = "session.request"


def event_of(ask: Ask) -> Event:
    """What the document hears: data has the id to answer under, the request's name and its parameters."""
    data = {"requestid": ask.request_id, "name": ask.name, "parameters": ask.data}
    return Event(f"{REQUEST}.{ask.name}", data)


def note(asked: Asked, request_id: str) -> None:
    """Remembers a request; forgets the oldest that was answered, or the oldest."""
    while len(asked) >= REMEMBERED:
        answered = next((key for key, answer in asked.items() if answer is not None), next(iter(asked)))
        del asked[answered]
    asked[request_id] = None


def respond(asked: Asked, action: Action) -> Reply:
    """Carries <session:response> out. Raises ActionError for a request that is not waiting and for bad attributes."""
    given = action.attributes
    request_id = str(given.get("requestid") or "")
    if request_id not in asked or asked[request_id] is not None:
        raise ActionError(f"no request {request_id!r} waits for an answer")
    answer = Answer(_status(given.get("resultcode")), *_content(given))
    asked[request_id] = answer
    return Reply(request_id, answer)


def _status(value: Json) -> int:
    if value is None or value == "":
        return 200
    try:
        status = int(float(value))
    except (TypeError, ValueError):
        status = 0
    if not 200 <= status <= 599:
        raise ActionError(f"'resultcode' must be an HTTP status from 200 to 599, not {value!r}")
    return status


def _content(given: dict[str, Json]) -> tuple[str, str]:
    value = given.get("content", given.get("data"))
    kind = str(given.get("type") or "")
    if len(kind) > 128 or not kind.isprintable():
        raise ActionError("'type' must be a media type of at most 128 characters")
    if isinstance(value, str):
        text, usual = value, "text/plain; charset=utf-8"
    else:
        text, usual = "" if value is None else json.dumps(value, ensure_ascii=False), "application/json"
    if len(text.encode()) > MAX_CONTENT:
        raise ActionError(f"an answer has at most {MAX_CONTENT} bytes")
    return kind or usual, text
