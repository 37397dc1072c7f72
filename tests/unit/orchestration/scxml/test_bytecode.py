"""Bytecode gives what text gives, and text is there when bytecode is not."""

from __future__ import annotations

import pytest
import quickjs

from services.orchestration.scxml import Event, Interpreter, Log, bytecode, compile_document, engine

TEXT = "(function (n) { const twice = (x) => x * 2; return twice(n) + 1; })"


@pytest.mark.parametrize("keep_source", [True, False])
def test_a_script_is_evaluated_in_many_contexts(keep_source: bool) -> None:
    script = bytecode.prepare(TEXT, keep_source=keep_source)
    assert script.code
    for n in range(3):
        context = quickjs.Context()
        assert bytecode.evaluate(context, script)(n) == 2 * n + 1
        assert context.eval(f"typeof {bytecode._PLACE}") == "undefined"


def test_source_is_kept_when_asked_for() -> None:
    context = quickjs.Context()
    for keep_source in (True, False):
        script = bytecode.prepare("({ f: function () { return 42; } })", keep_source=keep_source)
        context.set("made", bytecode.evaluate(context, script))
        assert ("42" in context.eval("made.f.toString()")) is keep_source


def test_text_that_is_no_script_raises_what_evaluating_it_raises() -> None:
    script = bytecode.prepare("(function {", keep_source=True)
    with pytest.raises(quickjs.JSException, match="SyntaxError"):
        bytecode.evaluate(quickjs.Context(), script)


def test_a_context_without_room_says_so() -> None:
    script = bytecode.prepare(
        "[" + ",".join(f"function f{n}() {{}}" for n in range(5000)) + "]", keep_source=True
    )
    context = quickjs.Context()
    context.set_memory_limit(300_000)
    with pytest.raises(quickjs.JSException):
        bytecode.evaluate(context, script)


def test_with_another_wheel_the_text_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "KNOWN_WHEEL", "0.0.0")
    bytecode._library.cache_clear()
    try:
        script = bytecode.prepare(TEXT, keep_source=False)
        assert not script.code
        assert bytecode.evaluate(quickjs.Context(), script)(4) == 9
    finally:
        bytecode._library.cache_clear()


@pytest.mark.parametrize(
    "value", ["function (a) { return a + 40; }", "a => a + 40", "{ f(a) { return a + 40; } }.f"]
)
def test_functions_of_an_author_survive_in_a_snapshot(value: str) -> None:
    document = compile_document(
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript"><datamodel><data id="f"/></datamodel>'
        f'<state><transition event="make"><assign location="f" expr="({value.replace(">", "&gt;")})"/></transition>'
        '<transition event="use"><log expr="f(2)"/></transition></state></scxml>'
    )
    made = Interpreter(document, session_id="s", io_processors={}, now_ms=1.0, seed=1)
    made.start(1.0)
    made.step(Event("make"), 2.0)
    again = Interpreter.restore(document, made.snapshot())
    assert [effect.text for effect in again.step(Event("use"), 3.0).effects if isinstance(effect, Log)] == [
        "42"
    ]


def test_a_document_without_functions_keeps_no_source() -> None:
    head = '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript"><datamodel><data id="a"'
    plain = compile_document(
        f'{head} expr="1"/></datamodel><state><onentry><assign location="a" expr="2"/></onentry></state></scxml>'
    )
    written = compile_document(f'{head} expr="function () {{ return 1; }}"/></datamodel><state/></scxml>')
    sizes = [
        len(bytecode.prepare(text.code, keep_source=keep).code)
        for text in (plain, written)
        for keep in (True, False)
    ]
    assert [len(engine.parse(text.code).code) for text in (plain, written)] == [sizes[1], sizes[2]]
