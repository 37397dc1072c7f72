"""Requests that a session answers: asked once, answered once, remembered within bounds."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestration.actions import ActionError
from services.orchestration.answers import MAX_CONTENT, REMEMBERED, event_of, note, respond
from services.orchestration.inputs import Ask
from services.orchestration.replies import Answer, Asked
from services.orchestration.scxml import Action


def response(**attributes: Any) -> Action:
    return Action("session", "response", attributes, "s.req.1")


def asked(*ids: str) -> Asked:
    found: Asked = {}
    for one in ids:
        note(found, one)
    return found


def test_the_document_hears_the_name_the_parameters_and_the_id_to_answer_under() -> None:
    event = event_of(Ask("r1", "status", {"a": 1}))
    assert event.name == "session.request.status"
    assert event.data == {"requestid": "r1", "name": "status", "parameters": {"a": 1}}


def test_an_object_is_answered_as_json_and_text_as_text() -> None:
    found = asked("r1", "r2", "r3")
    assert respond(found, response(requestid="r1", content={"queued": True})).answer == Answer(
        200, "application/json", '{"queued": true}'
    )
    assert respond(found, response(requestid="r2", data="hello", resultcode="404")).answer == Answer(
        404, "text/plain; charset=utf-8", "hello"
    )
    assert respond(found, response(requestid="r3", type="text/html", content="<p/>")).answer == Answer(
        200, "text/html", "<p/>"
    )


def test_a_request_is_answered_once() -> None:
    found = asked("r1")
    respond(found, response(requestid="r1"))
    with pytest.raises(ActionError, match="no request 'r1' waits"):
        respond(found, response(requestid="r1"))
    with pytest.raises(ActionError, match="no request 'r9' waits"):
        respond(found, response(requestid="r9"))


@pytest.mark.parametrize(
    "attributes",
    [
        {"resultcode": 99},
        {"resultcode": 600},
        {"resultcode": "many"},
        {"content": "x" * (MAX_CONTENT + 1)},
        {"type": "x" * 129},
        {"type": "text/html\r\nset-cookie: a"},
    ],
)
def test_bad_answers_are_refused_and_the_request_goes_on_waiting(attributes: dict[str, Any]) -> None:
    found = asked("r1")
    with pytest.raises(ActionError):
        respond(found, response(requestid="r1", **attributes))
    assert found["r1"] is None


def test_the_memory_is_bounded_and_answered_requests_go_first() -> None:
    found = asked(*(f"r{n}" for n in range(REMEMBERED)))
    respond(found, response(requestid="r5"))
    note(found, "new")
    assert len(found) == REMEMBERED
    assert "r5" not in found
    note(found, "newer")
    assert "r0" not in found
