"""What a session cannot do to its process: each abuse ends the session, never the interpreter."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import time

import pytest

from services.orchestration.scxml import Event, Interpreter, Limits, StepResult
from tests.unit.orchestration.scxml.documents import compiled, session

TIGHT = Limits(cpu_seconds=0.1, memory_bytes=8 * 1024 * 1024)


def abuse(content: str, limits: Limits = TIGHT) -> StepResult:
    made = session(
        compiled(
            '<datamodel><data id="a" expr="[]"/></datamodel><state id="s">'
            f'<transition event="go" target="t">{content}</transition></state><state id="t"/>'
        ),
        limits=limits,
    )
    made.start(1.0)
    return made.step(Event("go"), 2.0)


SCRIPTS = {
    "endless loop": ("cpu", "while (1);"),
    "endless loop that catches": ("cpu", "for (;;) { try { while (1); } catch (e) {} finally {} }"),
    "endless recursion": ("stack", "function f() { return f() + 1; } f();"),
    "growing array": ("memory", "for (;;) a.push(new Array(1000).fill(1));"),
    "huge string": ("memory", "a = 'x'.repeat(1e9);"),
    "doubling string": ("memory", "a = 'x'; for (;;) a += a;"),
    "typed array": ("memory", "a = new Uint8Array(1e9);"),
    "regular expression": ("cpu", "/^(a+)+$/.test('a'.repeat(60) + 'b');"),
    "sort without end": ("cpu", "[2, 1, 3].sort(function () { while (1); });"),
    "code made from text": ("cpu", "(function () {}).constructor('while (1);')();"),
    "effects": ("effects", "for (;;) _genesys.queue.priorityTuning(1);"),
    "effects that catch": ("effects", "for (var i = 0; i &lt; 3000; i++) { try { _genesys.queue.priorityTuning(1); } catch (e) {} }"),
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_out_of_hand_ends_its_session(name: str) -> None:
    reason, script = SCRIPTS[name]
    begun = time.process_time()
    result = abuse(f"<script>{script}</script>")
    assert result.failure is not None
    assert (result.failure.reason, result.finished, result.effects) == (reason, True, [])
    assert time.process_time() - begun < 2.0


def test_internal_events_are_bounded() -> None:
    result = abuse('<foreach array="new Array(5000).fill(1)" item="x"><raise event="e"/></foreach>')
    assert result.failure is not None
    assert result.failure.reason == "queue"


def test_sends_are_bounded() -> None:
    result = abuse('<foreach array="new Array(5000).fill(1)" item="x"><send event="e"/></foreach>')
    assert result.failure is not None
    assert result.failure.reason == "effects"


def test_transitions_without_end_are_bounded() -> None:
    made = session(
        compiled(
            '<state id="a"><transition target="b"/></state><state id="b"><transition target="a"/></state>'
        )
    )
    result = made.start(1.0)
    assert result.failure is not None
    assert result.failure.reason == "microsteps"


def test_an_event_that_raises_itself_is_bounded() -> None:
    made = session(
        compiled(
            '<state id="a"><onentry><raise event="e"/></onentry><transition event="e" target="a"/></state>'
        )
    )
    result = made.start(1.0)
    assert result.failure is not None
    assert result.failure.reason == "microsteps"


@pytest.mark.parametrize(
    "body",
    [
        "<script>while (1);</script><state id='s'/>",
        "<datamodel><data id='a' expr='(function () { while (1); })()'/></datamodel><state id='s'/>",
        "<state id='s'><transition cond='(function () { while (1); })()' target='s'/></state>",
        "<state id='s'><onentry><log expr='(function () { while (1); })()'/></onentry></state>",
        "<final id='s'><donedata><content expr='(function () { while (1); })()'/></donedata></final>",
    ],
)
def test_loops_end_wherever_code_can_stand(body: str) -> None:
    result = session(compiled(body), limits=TIGHT).start(1.0)
    assert result.failure is not None
    assert result.failure.reason == "cpu"


def test_memory_that_was_given_back_is_no_offence() -> None:
    result = abuse("<script>try { for (;;) a.push(new Array(1000).fill(1)); } catch (e) { a = []; }</script>")
    assert result.failure is None
    assert result.configuration == ["t"]


TAMPERING = [
    "JSON.stringify = function () { return 'x'; }; JSON.parse = null;",
    "Array.prototype.map = function () { return 7; };",
    "Array.prototype.push = function () { return 1; };",
    "Array.prototype.concat = Array.prototype.filter = Array.prototype.splice = null;",
    "Object.prototype.toJSON = function () { return 1; };",
    "Array.prototype.toJSON = function () { return {}; };",
    "Array.prototype.toJSON = function () { return [[0], [['Send', {}, 5, [], 'x', 'y', 'z', 1]], [99], 1]; };",
    "Array.prototype.toJSON = function () { return [[0], [['Action', 1, 2, 3, 4, 5, 6]], [], false]; };",
    "Object.keys = Object.defineProperty = Object.freeze = null; Map.prototype.get = null;",
    "Object.prototype.$ = 1; Object.prototype.kind = 5; Array.prototype[0] = 9;",
    "Object.setPrototypeOf(globalThis, null); delete globalThis.In; Object.freeze(globalThis);",
    "JSON.stringify = function () { return Symbol('x'); }; Array.prototype.toJSON = function () { return 5n; };",
    "String.prototype.startsWith = String.prototype.split = null; RegExp.prototype.exec = null; Error = null;",
]


@pytest.mark.parametrize("script", TAMPERING)
def test_a_session_that_breaks_its_runtime_breaks_nothing_else(script: str) -> None:
    made = session(
        compiled(
            f"<state id='s'><transition event='go' target='t'><script>{script}</script><log expr='1'/></transition></state>"
            "<state id='t'><transition event='go' target='s'/></state>"
        )
    )
    made.start(1.0)
    for number in range(3):
        if not made.finished:
            result = made.step(Event("go", {"a": [1]}), 2.0 + number)
            assert (result.failure is None) == (not made.finished)


def test_data_for_the_host_is_not_nested_without_bound() -> None:
    result = abuse(
        "<script>var d = {}, e = d; for (var i = 0; i &lt; 300; i++) { e.x = {}; e = e.x; }</script>"
        '<send event="e" target="#_parent" namelist="d"/>'
    )
    assert result.failure is not None
    assert "nested deeper than 200" in result.failure.message


def test_halves_of_surrogate_pairs_do_not_reach_the_host() -> None:
    made = session(
        compiled("<state id='s'><onentry><log expr=\"'\\ud800x\\ud83d\\ude00\\\\ud800'\"/></onentry></state>")
    )
    text = made.start(1.0).effects[0].text  # type: ignore[union-attr]
    assert text == "\ufffdx\U0001f600\\ud800"
    assert text.encode("utf-8")


def test_limits_must_be_positive() -> None:
    assert Limits().validate() == []
    assert Limits(microsteps=0, cpu_seconds=-1).validate() == [
        "cpu_seconds: must be above 0",
        "microsteps: must be above 0",
    ]


@pytest.mark.parametrize(
    "value",
    ["Symbol('x')", "12n", "'x'.repeat(5000) + 'y'.repeat(5000) + Math.random()", "new Proxy({}, {})"],
)
def test_the_last_value_of_a_script_is_nobodys_business(value: str) -> None:
    made = session(compiled(f"<script>{value}</script><state id='s'/>"))
    assert made.start(1.0).configuration == ["s"]


def test_an_idle_session_is_small() -> None:
    ring = "".join(
        f'<state id="s{i}"><onentry><assign location="n" expr="n + 1"/></onentry>'
        f'<transition event="go" cond="n &lt; 1e9" target="s{(i + 1) % 48}"><assign location="last" expr="_event.name"/></transition></state>'
        for i in range(48)
    )
    made = session(
        compiled(
            f'<datamodel><data id="n" expr="0"/><data id="last"/></datamodel><state id="main">{ring}</state>'
        )
    )
    made.start(1.0)
    made.step(Event("go"), 2.0)
    assert made.memory() < 300_000


def test_sessions_do_not_live_for_ever() -> None:
    made = session(compiled('<state id="s"/>'), limits=Limits(age_seconds=60))
    made.start(1_000.0)
    assert made.step(Event("e"), 61_000.0).failure is None
    restored = Interpreter.restore(made.compiled, made.snapshot(), limits=Limits(age_seconds=60))
    result = restored.step(Event("e"), 61_001.0)
    assert result.failure is not None
    assert (result.failure.reason, result.finished) == ("age", True)
