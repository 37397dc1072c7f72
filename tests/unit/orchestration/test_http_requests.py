"""Requests of the HTTP interface, as clients write them."""

from __future__ import annotations

import pytest

from mesh.errors import DomainError
from services.orchestration import http_requests as http

START = "/scxml/session/start"


def request(
    body: str | bytes = b"", kind: str = "", target: str = START, method: str = "POST"
) -> http.HttpRequest:
    return http.HttpRequest(method, target, kind, body.encode() if isinstance(body, str) else body)


def test_a_form_and_a_query_are_one_set_of_parameters_and_the_body_wins() -> None:
    asked = request("b=2&c=three+four&c=last&empty=", http.FORM, "/scxml/session/s.1/event/go?a=1&b=query")
    assert http.parameters(asked) == {"a": "1", "b": "2", "c": "last", "empty": ""}
    assert (asked.session_id, asked.name) == ("s.1", "go")


def test_a_body_without_a_type_is_a_form() -> None:
    assert http.parameters(request("a=1")) == {"a": "1"}


def test_json_keeps_its_types() -> None:
    body = '{"n": 1, "list": [true, null], "text": "ä"}'
    asked = request(body, "application/json; charset=utf-8", "/scxml/session/s.1/event/go?q=1")
    assert http.parameters(asked) == {"q": "1", "n": 1, "list": [True, None], "text": "ä"}


def test_names_in_a_path_are_decoded() -> None:
    asked = request(target="/scxml/session/s.1/event/order%2Enew%20one?x=1")
    assert asked.name == "order.new one"


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ("{", "application/json", "body"),
        ("[1]", "application/json", "body"),
        ("[" * 50_000, "application/json", "body"),
        (b"\xff\xfe", "application/json", "body"),
        ("a=%ff", http.FORM, "body"),
        ("<a/>", "text/xml", "content-type"),
        ("x" * (http.MAX_BODY + 1), http.FORM, "body"),
        ("&".join(f"p{n}=1" for n in range(http.MAX_PARAMETERS + 1)), http.FORM, "body"),
    ],
)
def test_a_bad_body_is_refused_by_name(body: str | bytes, kind: str, field: str) -> None:
    with pytest.raises(DomainError) as caught:
        http.parameters(request(body, kind))
    assert caught.value.violations[0][0] == field


def test_a_start_by_form() -> None:
    start = http.start_of(
        request("src=http%3A%2F%2Fapps%2Fa.scxml&idealtime=1700000000000&colour=red", http.FORM)
    )
    assert start == http.Start("http://apps/a.scxml", "", 1_700_000_000_000, {"colour": "red"})


def test_a_start_by_json() -> None:
    body = '{"src": "http://apps/a.scxml", "alternate-src": "http://apps/b.scxml", "idealtime": 5, "n": {"a": 1}}'
    start = http.start_of(request(body, "application/json"))
    assert start == http.Start("http://apps/a.scxml", "http://apps/b.scxml", 5, {"n": {"a": 1}})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "src"),
        ('{"src": 5}', "src"),
        ('{"src": "http://a", "idealtime": "soon"}', "idealtime"),
        ('{"src": "http://a", "idealtime": true}', "idealtime"),
        ('{"src": "http://a", "idealtime": 1.5}', "idealtime"),
        ('{"src": "http://a", "alternate-src": []}', "alternate-src"),
    ],
)
def test_a_bad_start_is_refused_by_name(body: str, field: str) -> None:
    with pytest.raises(DomainError) as caught:
        http.start_of(request(body, "application/json"))
    assert caught.value.violations[0][0] == field


def test_ids_come_as_json_to_those_that_speak_it() -> None:
    assert http.wants_json(request("{}", "application/json"), "")
    assert http.wants_json(request("a=1", http.FORM), "text/html, application/json")
    assert not http.wants_json(request("a=1", http.FORM), "*/*")
