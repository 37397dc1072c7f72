"""The host for one machine: queues, timers, children, in virtual time."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import pytest

from services.orchestration.scxml import Event, Limits, Query, StepResult, basichttp
from services.orchestration.scxml.effects import HTTP_PROCESSOR, SCXML_PROCESSOR, Send
from services.orchestration.scxml.local import LocalHost, Session, delay_ms
from tests.unit.orchestration.scxml.documents import HEAD, compiled, logs


class Recorder:
    def __init__(self) -> None:
        self.logs: list[str] = []

    def stepped(self, session: Session, event: Event | None, result: StepResult) -> None:
        self.logs += [f"{session.id}:{text}" for text in logs(result)]


def run(body: str, **options: object) -> tuple[Session, list[str]]:
    recorder = Recorder()
    host = LocalHost(observer=recorder, **options)  # type: ignore[arg-type]
    session = host.start(compiled(body))
    host.run_virtual(session, limit_ms=60_000)
    return session, recorder.logs


def test_delayed_events_arrive_in_the_order_of_their_time() -> None:
    session, seen = run(
        '<state id="s"><onentry><send event="c" delay="3s"/><send event="a" delay="1s"/><send event="b" delay="2s"/><send event="now"/></onentry>'
        '<transition event="c" target="t"><log expr="_event.name + Date.now()"/></transition><transition event="*"><log expr="_event.name + Date.now()"/></transition></state><final id="t"/>'
    )
    assert seen == ["local-1:now0", "local-1:a1000", "local-1:b2000", "local-1:c3000"]
    assert session.ended


def test_a_child_reports_failure_of_its_own() -> None:
    child = f'{HEAD}><state id="c"><onentry><script>while (1);</script></onentry></state></scxml>'
    session, _ = run(
        f'<state id="s"><invoke id="kid"><content>{child}</content></invoke><transition event="error.platform.kid" cond="_event.data.reason === \'cpu\'" target="t"/></state><final id="t"/>',
        limits=Limits(cpu_seconds=0.05),
    )
    assert session.configuration == ["t"]


@pytest.mark.parametrize(
    ("invoke", "error"),
    [
        ('<invoke type="fax" src="x"/>', "error.execution"),
        ('<invoke src="file:nowhere"/>', "error.communication"),
        ("<invoke><content>no document</content></invoke>", "error.communication"),
    ],
)
def test_invocations_that_cannot_be(invoke: str, error: str) -> None:
    session, _ = run(f'<state id="s">{invoke}<transition event="{error}" target="t"/></state><final id="t"/>')
    assert session.configuration == ["t"]


def test_queries_are_asked_of_the_caller() -> None:
    def ask(_session: Session, query: Query) -> object:
        if query.function == "rvqdata":
            return 3
        raise LookupError("no such statistic")

    body = '<state id="s"><onentry><log expr="_genesys.queue.rvqdata(1)"/><log expr="_genesys.statistic.getStat(1)"/></onentry><transition event="error.execution" target="t"><log expr="_event.data.message"/></transition></state><final id="t"/>'
    assert run(body, ask=ask)[1] == ["local-1:3", "local-1:Error: no such statistic"]
    assert "nobody answers" in run(body)[1][0]


def test_an_http_message_nobody_sends_is_an_error() -> None:
    session, _ = run(
        f'<state id="s"><onentry><send type="{HTTP_PROCESSOR}" target="http://h/" event="e"/></onentry><transition event="error" target="t"><log expr="_event.name"/></transition></state><final id="t"/>',
        io_processors=lambda _name: {HTTP_PROCESSOR: {"location": "http://h"}},
    )
    assert session.ended


@pytest.mark.parametrize(
    ("value", "expected"), [(0, 0), (1500, 1500), ("1.5s", 1500), ("20ms", 20), (" 2 m ", 120_000)]
)
def test_delays(value: object, expected: float) -> None:
    assert delay_ms(value) == expected


@pytest.mark.parametrize("value", [-1, "soon", "", None, True, "5", [1]])
def test_what_is_no_delay(value: object) -> None:
    with pytest.raises(ValueError):
        delay_ms(value)


# -- Basic HTTP messages ------------------------------------------------------------------------------


def http(event: str = "e", **more: object) -> Send:
    return Send("http://h/", HTTP_PROCESSOR, event, **more)  # type: ignore[arg-type]


def test_parameters_become_a_form_and_come_back() -> None:
    body, kind = basichttp.encode(
        http(data={"a": 1, "b": "x y"}, has_data=True, params=(("a", 1), ("b", "x y")))
    )
    assert (body, kind) == (b"_scxmleventname=e&a=1&b=x+y", basichttp.FORM)
    event = basichttp.decode("POST", "/s", [("Content-Type", kind)], body)
    assert (event.name, event.data, event.content) == ("e", {"a": "1", "b": "x y"}, None)
    assert event.raw.startswith("POST /s\r\nContent-Type: ") and event.raw.endswith(body.decode())


@pytest.mark.parametrize(
    ("send", "body", "kind"),
    [
        (http("", content=" some text "), b"some%20text", basichttp.FORM),
        (http("", content='{"a": 1}'), b'{"a": 1}', "application/json"),
        (http("", content="<a/>"), b"<a/>", "application/xml"),
        (http("", data={"a": 1}, has_data=True), b'{"a": 1}', "application/json"),
        (http("e", data="x", has_data=True), b"_scxmleventname=e&x", basichttp.FORM),
        (http("e"), b"_scxmleventname=e", basichttp.FORM),
    ],
)
def test_content_is_the_body(send: Send, body: bytes, kind: str) -> None:
    assert basichttp.encode(send) == (body, kind)


def test_requests_of_others() -> None:
    assert basichttp.decode("POST", "/s?_scxmleventname=e&a=1", [], b"").name == "e"
    assert basichttp.decode("POST", "/s", [("_scxmleventname", "e")], b"").name == "e"
    assert basichttp.decode("GET", "/s", [], b"").name == "HTTP.GET"
    json = basichttp.decode(
        "POST", "/s", [("content-type", "application/json; charset=utf-8")], b'{"a": "b=c"}'
    )
    assert (json.data, json.content, json.origintype) == (None, '{"a": "b=c"}', HTTP_PROCESSOR)
    with pytest.raises(ValueError):
        basichttp.decode("POST", "/s", [], b"\xff")
    with pytest.raises(ValueError):
        basichttp.decode("POST", "/s", [], b"&".join(b"a=1" for _ in range(2000)))


def test_the_processors_have_their_names() -> None:
    assert SCXML_PROCESSOR.endswith("#SCXMLEventProcessor")
