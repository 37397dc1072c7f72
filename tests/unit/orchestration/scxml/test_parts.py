"""Parts of the runtime that a session has only when it needs them: nobody sees the difference but by its memory."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import pytest

from services.orchestration.scxml import Event, Interpreter, Send
from tests.unit.orchestration.scxml.documents import compiled, logs, session, started

SEEN = '<state id="s"><transition event="e"><log expr="{0}"/></transition></state>'


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("typeof Math.max", "function"),
        ("typeof globalThis['Ma' + 'th']", "undefined"),
        ("Object.getOwnPropertyNames(globalThis).includes('Ma' + 'th')", "false"),
    ],
)
def test_math_is_there_when_a_document_writes_it(expression: str, said: str) -> None:
    made, _ = started(SEEN.format(expression))
    assert logs(made.step(Event("e"), 1001.0)) == [said]


def test_a_script_may_be_the_only_place_of_math() -> None:
    made, _ = started("<script>var big = Math.max(1, 2);</script>" + SEEN.format("big"))
    assert logs(made.step(Event("e"), 1001.0)) == ["2"]


def test_a_document_without_send_has_none_and_one_with_it_sends() -> None:
    made, _ = started(SEEN.format("typeof $scxml.send"))
    assert logs(made.step(Event("e"), 1001.0)) == ["undefined"]
    made, _ = started(
        '<state id="s"><transition event="e"><send event="x" delay="2s" id="i"/></transition></state>'
    )
    [sent] = made.step(Event("e"), 1001.0).effects
    assert isinstance(sent, Send)
    assert (sent.event, sent.delay_ms, sent.sendid) == ("x", 2000, "i")


@pytest.mark.parametrize("value", ["new Date(5)", "-0", "[1, , 3]", "12n", "new Map([[1, 2]])"])
def test_the_first_value_that_json_lacks_is_kept_as_any_later_one(value: str) -> None:
    document = compiled(
        '<datamodel><data id="v" expr="1"/></datamodel><state id="s">'
        f'<transition event="set"><assign location="v" expr="{value}"/></transition>'
        "<transition event=\"ask\"><log expr=\"Object.is(v, -0) + ' ' + String(typeof v) + ' ' + v.constructor.name\"/></transition></state>"
    )
    made = session(document)
    made.start(1000.0)
    plain = made.snapshot()
    made.step(Event("set"), 1001.0)
    first, second = made.snapshot(), made.snapshot()
    assert first == second != plain
    restored = Interpreter.restore(document, first)
    assert restored.snapshot() == first
    assert logs(restored.step(Event("ask"), 1002.0)) == logs(made.step(Event("ask"), 1002.0))


def test_a_session_restored_has_what_it_had() -> None:
    document = compiled(
        '<datamodel><data id="v" expr="0"/></datamodel><state id="s"><transition event="e">'
        '<assign location="v" expr="Math.floor(v + 1.5)"/><send event="x"/></transition></state>'
    )
    made = session(document)
    made.start(1000.0)
    for turn in range(3):
        made = Interpreter.restore(document, made.snapshot())
        [sent] = made.step(Event("e"), 1001.0 + turn).effects
        assert isinstance(sent, Send)
    assert '"v":3' in made.snapshot().decode()
