"""The documents in docs/applications/http.md and digital.md do what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

from services.orchestration import http_requests
from services.orchestration.scxml import Action, Event, Interpreter, compile_document

DOCS = Path(__file__).parents[3] / "docs" / "applications"


def documents(page: str) -> list[str]:
    return re.findall(r"```xml\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def actions(document: str, *events: Event) -> list[Action]:
    """What a document does, event by event."""
    interpreter = Interpreter(
        compile_document(document), session_id="s", io_processors={}, now_ms=0.0, seed=1
    )
    results = [interpreter.start(0.0), *(interpreter.step(event, 0.0) for event in events)]
    return [effect for result in results for effect in result.effects if isinstance(effect, Action)]


def test_invoices_go_to_billing_and_the_rest_to_service() -> None:
    (document,) = documents("digital.md")
    for subject, queue in (("Your Invoice", "billing"), ("Hello", "service")):
        (redirect,) = actions(document, Event("interaction.added", {"subject": subject}))
        assert (redirect.namespace, redirect.name, redirect.attributes["to"]) == (
            "interaction",
            "redirect",
            queue,
        )


def test_the_answer_to_a_request() -> None:
    (snippet,) = documents("http.md")
    document = (
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript" '
        'xmlns:session="http://www.genesyslab.com/modules/session"><datamodel><data id="orders" expr="[1, 2]"/></datamodel>'
        f"<state>{snippet}</state></scxml>"
    )
    data = {"requestid": "r1", "name": "state", "parameters": {}}
    (answer,) = actions(document, Event("session.request.state", data))
    assert answer.name == "response"
    assert answer.attributes["requestid"] == "r1"
    assert answer.attributes["content"] == {"open": 2}


def test_the_page_and_the_help_name_every_path() -> None:
    page = (DOCS / "http.md").read_text("utf-8")
    paths = re.findall(r"/scxml/[a-z/<>]+", http_requests.HELP)
    assert len(paths) == 7
    for path in paths:
        assert path in page
