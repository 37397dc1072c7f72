"""A session restored anywhere goes on as if nothing had happened."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.orchestration.scxml import (
    Compiled,
    Event,
    Interpreter,
    SnapshotError,
    StepResult,
    compile_document,
)
from tests.unit.orchestration.scxml.documents import compiled, logs, names, session, started

TRAFFIC = compiled(
    '<datamodel><data id="n" expr="0"/><data id="seen" expr="new Map()"/></datamodel>'
    "<script>var config = {step: 2, grow: function (x) { return x + config.step; }}; let turns = 0;"
    "class Light { constructor(c) { this.c = c; } name() { return 'light ' + this.c; } }</script>"
    '<parallel id="p"><state id="cars" initial="red"><history id="h"><transition target="red"/></history>'
    '<state id="red"><onentry><script>n = config.grow(n); turns++; seen.set(turns, new Light("red"));</script></onentry>'
    '<transition event="next" target="green"/></state>'
    '<state id="green"><invoke id="kid" src="k" autoforward="true"/><transition event="next" target="red"/></state></state>'
    '<state id="walk"><state id="off"><transition event="push" target="on"/></state>'
    '<state id="on"><onentry><log expr="[...seen.values()].map(function (x) { return x.name(); }).join()"/>'
    '<log expr="turns + \' \' + n + \' \' + Math.random()"/></onentry><transition event="next" target="off"/></state></state>'
    '<transition event="pause" target="dark"/></parallel>'
    '<state id="dark"><transition event="resume" target="h"/></state>'
)

ORDERS = compiled(
    '<datamodel><data id="order" expr="{items: [], total: 0, add: function (p) { this.items.push(p); this.total += p; }}"/>'
    '<data id="late"/></datamodel><state id="open"><transition event="add"><script>order.add(_event.data); late = {o: order, self: null}; late.self = late;</script></transition>'
    "<transition event=\"push\"><log expr=\"order.total + ' ' + (late ? late.self.o === order : '-')\"/></transition>"
    '<transition event="next" target="sub"/></state>'
    '<state id="sub"><datamodel><data id="bound" expr="[NaN, undefined, -0, Infinity, new Date(5), /x/g]"/></datamodel>'
    '<onentry><log expr="bound.map(String).join()"/></onentry><transition event="next" target="open"/></state>',
    'binding="late"',
)
EVENTS = {
    "traffic": names("next", "push", "next", "push", "pause", "resume", "next", "push", "unknown", "pause", "push", "resume"),
    "orders": [*[Event("add", 5), Event("push"), Event("add", 7)], *names("push", "next", "next", "push"), Event("add", 1), *names("push", "next")],
}  # fmt: skip
DOCUMENTS = {"traffic": TRAFFIC, "orders": ORDERS}


def play(document: Compiled, events: list[Event], cut: int | None) -> list[StepResult]:
    """All results; after `cut` events the session is snapshotted and goes on in a new context."""
    made = session(document)
    results = [made.start(1000.0)]
    for number, event in enumerate(events):
        if number == cut:
            made = Interpreter.restore(document, made.snapshot())
        results.append(made.step(event, 1001.0 + number))
    return results


@pytest.mark.parametrize("name", DOCUMENTS)
def test_cut_anywhere_equals_uninterrupted(name: str) -> None:
    document, events = DOCUMENTS[name], EVENTS[name]
    whole = play(document, events, None)
    assert any(result.effects for result in whole)
    for cut in range(len(events)):
        assert play(document, events, cut) == whole, f"cut before event {cut}"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["next", "push", "pause", "resume", "x"]), max_size=12), st.data())
def test_cut_anywhere_equals_uninterrupted_for_any_events(sequence: list[str], data: st.DataObject) -> None:
    events = names(*sequence)
    cut = data.draw(st.integers(0, max(len(events) - 1, 0)))
    assert play(TRAFFIC, events, cut) == play(TRAFFIC, events, None)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_restored_session_has_the_same_snapshot(name: str) -> None:
    made = session(DOCUMENTS[name])
    made.start(1000.0)
    for event in EVENTS[name]:
        made.step(event, 1001.0)
        kept = made.snapshot()
        again = Interpreter.restore(DOCUMENTS[name], kept)
        assert made.lost == again.lost == []
        again._kept = None
        assert again.snapshot() == kept


VALUES = [
    "undefined", "null", "NaN", "-0", "Infinity", "-Infinity", "'text'", "'\\ud800'", "12n", "[1, , 3]", "Object.assign([, 1], {x: 2})", "Object.assign([1], {x: 2})", "[]", "{}",
    "{'$': 'x', a: 1}", "{'__proto__': null, a: 1}", "JSON.parse('{\"__proto__\": 5}')", "new Date(NaN)", "new Date(7)",
    "/a.b/gi", "new Set([1, {a: 2}])", "new Map([[{}, [1]]])", "new TypeError('bad')", "Object.create(null)",
    "(function () { var a = {}; return [a, a, {b: a}]; })()", "(function () { var a = []; a.push(a); return {a: a}; })()",
]  # fmt: skip
SHOW = (
    "<script>function show(v, seen) { seen = seen || []; if (typeof v === 'bigint') return v + 'n';"
    " if (typeof v === 'string') return JSON.stringify(v); if (Object.is(v, -0)) return '-0';"
    " if (v === null || typeof v !== 'object') return String(v); var at = seen.indexOf(v); if (at >= 0) return '#' + at; seen.push(v);"
    " var proto = Object.getPrototypeOf(v); var kind = proto === null ? 'bare' : proto.constructor.name;"
    " var more = v instanceof Date ? v.getTime() : v instanceof RegExp ? String(v) : v instanceof Error ? v.message :"
    " v instanceof Map || v instanceof Set ? show([...v], seen) : '';"
    " return kind + more + '{' + Object.keys(v).map(function (k) { return k + ':' + show(v[k], seen); }).join() + '}' + (v.length || ''); }</script>"
)


@pytest.mark.parametrize("value", VALUES)
def test_values_survive(value: str) -> None:
    document = compiled(
        f'<datamodel><data id="v"/></datamodel>{SHOW}<state id="s"><onentry><assign location="v" expr="{value.replace(chr(34), "&quot;")}"/>'
        '<log expr="show(v)"/></onentry><transition event="show"><log expr="show(v)"/></transition></state>'
    )
    made = session(document)
    before = logs(made.start(1.0))
    again = Interpreter.restore(document, made.snapshot())
    assert logs(again.step(Event("show"), 2.0)) == before
    assert made.lost == []


def test_xml_survives() -> None:
    document = compile_document(
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0"><datamodel><data id="v"><a xmlns=""><b c="1">t</b></a></data></datamodel>'
        '<state id="s"><transition event="show"><log expr="v.getElementsByTagName(\'b\')[0].textContent + v.firstChild.getAttribute(\'c\')"/></transition></state></scxml>'
    )
    made = session(document)
    made.start(1.0)
    again = Interpreter.restore(document, made.snapshot())
    assert logs(again.step(Event("show"), 2.0)) == ["t1"]


def test_what_cannot_be_kept_is_named() -> None:
    made, _ = started(
        '<datamodel><data id="v" expr="{}"/></datamodel><state id="s"><onentry>'
        "<script>v.s = Symbol('x'); v.n = Math.max.bind(null); v.f = function (x) { return x + 1; };"
        " Object.defineProperty(v, 'g', {enumerable: true, get: function () { return 1; }});</script></onentry>"
        "<transition event=\"e\"><log expr=\"v.f(1) + ' ' + typeof v.s + ' ' + typeof v.n\"/></transition></state>"
    )
    kept = made.snapshot()
    assert made.lost == [
        "v.s: a symbol",
        "v.n: a native or bound function",
        "v.f: a function made at run time is kept by its text only",
        "v.g: an accessor",
    ]
    again = Interpreter.restore(made.compiled, kept)
    assert logs(again.step(Event("e"), 2.0)) == ["2 undefined undefined"]


def test_functions_come_back_with_their_declarations_not_with_the_record() -> None:
    made, _ = started('<script>function big() { return "' + "x" * 5000 + '"; }</script><state id="s"/>')
    assert len(made.snapshot()) < 1000


def test_restoring_runs_scripts_for_their_declarations_only() -> None:
    made, _ = started(
        "<script>var count = 0; count++; _genesys.ixn.setuData({a: 1}); function f() { return 1; }</script>"
        '<state id="s"><transition event="e"><script>count = 40 + f();</script></transition>'
        '<transition event="show"><log expr="count"/></transition></state>'
    )
    made.step(Event("e"), 1.0)
    again = Interpreter.restore(made.compiled, made.snapshot())
    result = again.step(Event("show"), 2.0)
    assert [type(effect).__name__ for effect in result.effects] == ["Log"]
    assert logs(result) == ["41"]


def test_a_snapshot_of_another_document_or_compiler_is_refused() -> None:
    made, _ = started('<state id="s"/>')
    kept = made.snapshot()
    with pytest.raises(SnapshotError):
        Interpreter.restore(compiled('<state id="t"/>'), kept)
    head, state = kept.split(b"\n")
    other = json.dumps({**json.loads(head), "compiler": "0"}).encode() + b"\n" + state
    with pytest.raises(SnapshotError):
        Interpreter.restore(made.compiled, other)


def test_new_addresses_after_a_fail_over() -> None:
    made, _ = started(
        '<state id="s"><transition event="e"><log expr="_ioprocessors.basichttp.location"/></transition></state>'
    )
    again = Interpreter.restore(
        made.compiled, made.snapshot(), io_processors={"basichttp": {"location": "http://n2/"}}
    )
    assert logs(again.step(Event("e"), 1.0)) == ["http://n2/"]
    assert b"http://n2/" in again.snapshot()


def test_a_state_that_is_too_deep_to_write_down_is_an_error_not_a_crash() -> None:
    made, _ = started(
        '<state id="s"><onentry><script>var d = {}, e = d; for (var i = 0; i &lt; 100000; i++) { e.x = {}; e = e.x; }</script></onentry></state>'
    )
    with pytest.raises(SnapshotError, match="nested too deeply"):
        made.snapshot()
