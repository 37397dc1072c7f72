"""The algorithm: what the W3C suite leaves open or shows only indirectly, step by step."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.orchestration.scxml import (
    CancelInvoke,
    CancelSend,
    Done,
    Event,
    Forward,
    Interpreter,
    Invoke,
    Send,
    SessionError,
    StepResult,
)
from tests.unit.orchestration.scxml.documents import compiled, logs, session, started


def errors(result: StepResult) -> list[str]:
    return [text for text in logs(result) if text.startswith("error")]


ON_ERROR = '<transition event="error.*"><log label="error" expr="_event.data.message + \' @\' + _event.data.line"/></transition>'


def test_a_step_reports_configuration_and_the_transition_taken() -> None:
    made, first = started('<state id="a">\n<transition event="go" target="b"/></state><state id="b"/>')
    assert (first.configuration, first.trace) == (["a"], [])
    result = made.step(Event("go"), 1001.0)
    assert result.configuration == ["b"]
    taken = result.trace[0]
    assert (taken.source, taken.event, taken.targets, taken.line, taken.column) == ("a", "go", ("b",), 2, 1)


def test_parallel_regions_enter_in_document_order_and_exit_in_reverse() -> None:
    handlers = "<onentry><log expr=\"'+{0}'\"/></onentry><onexit><log expr=\"'-{0}'\"/></onexit>"
    region = (
        '<state id="{0}">'
        + handlers
        + '<state id="{0}1">'
        + handlers.replace("{0}", "{0}1")
        + "</state></state>"
    )
    made, first = started(
        '<parallel id="p">' + handlers.format("p") + region.format("x") + region.format("y")
        + '<transition event="out" target="z"/></parallel><state id="z"/>'
    )  # fmt: skip
    assert logs(first) == ["+p", "+x", "+x1", "+y", "+y1"]
    assert logs(made.step(Event("out"), 1001.0)) == ["-y1", "-y", "-x1", "-x", "-p"]


def test_the_inner_transition_wins_and_the_other_region_goes_on() -> None:
    made, _ = started(
        '<parallel id="p"><transition event="e" target="q"/>'
        '<state id="x"><state id="x1"><transition event="e" target="x2"/></state><state id="x2"/></state>'
        '<state id="y"><state id="y1"><transition event="e" target="y2"/></state><state id="y2"/></state>'
        '</parallel><state id="q"/>'
    )
    assert made.step(Event("e"), 1001.0).configuration == ["p", "x", "x2", "y", "y2"]
    assert made.step(Event("e"), 1002.0).configuration == ["q"]


HISTORY = (
    '<state id="m"><history id="h" type="{}"><transition target="a"/></history>'
    '<state id="a"><transition event="n" target="b2"/></state>'
    '<state id="b" initial="b1"><state id="b1"/><state id="b2"/></state>'
    '<transition event="out" target="o"/></state>'
    '<state id="o"><transition event="back" target="h"/></state>'
)


def test_deep_history_returns_to_the_atomic_state() -> None:
    made, _ = started(HISTORY.format("deep"))
    for name in ("n", "out"):
        made.step(Event(name), 1001.0)
    assert made.step(Event("back"), 1002.0).configuration == ["m", "b", "b2"]


def test_shallow_history_returns_to_the_child_and_its_default() -> None:
    made, _ = started(HISTORY.format("shallow"))
    for name in ("n", "out"):
        made.step(Event(name), 1001.0)
    assert made.step(Event("back"), 1002.0).configuration == ["m", "b", "b1"]


def test_history_without_a_past_takes_its_default() -> None:
    made, _ = started(
        HISTORY.format("deep").replace(
            '<state id="m">', '<state id="m0"><transition event="go" target="o"/></state><state id="m">'
        )
    )
    made.step(Event("go"), 1001.0)
    assert made.step(Event("back"), 1002.0).configuration == ["m", "a"]


def test_an_error_ends_its_block_and_says_where() -> None:
    _, first = started(
        '<state id="s"><onentry>\n<log expr="1"/>\n  <assign location="nope" expr="2"/>\n<log expr="3"/></onentry>'
        '<onentry><log expr="4"/></onentry>' + ON_ERROR + "</state>"
    )
    assert logs(first) == ["1", "4", "error=ReferenceError: nope is not defined @3"]


def test_a_condition_that_throws_is_false_and_an_error() -> None:
    made, _ = started(
        f'<state id="s"><transition event="e" cond="nope.x" target="t"/>{ON_ERROR}</state><state id="t"/>'
    )
    result = made.step(Event("e"), 1001.0)
    assert result.configuration == ["s"]
    assert errors(result) == ["error=ReferenceError: nope is not defined @1"]


def test_an_if_whose_condition_throws_goes_on_with_the_next_branch() -> None:
    _, first = started(
        '<state id="s"><onentry><if cond="nope.x"><log expr="1"/><elseif cond="true"/><log expr="2"/>'
        f'<else/><log expr="3"/></if></onentry>{ON_ERROR}</state>'
    )
    assert logs(first) == ["2", "error=ReferenceError: nope is not defined @1"]


def test_foreach_works_on_a_copy_and_declares_its_variables() -> None:
    _, first = started(
        '<datamodel><data id="list" expr="[1,2,3]"/></datamodel><state id="s"><onentry>'
        '<foreach array="list" item="x" index="i"><script>list.push(9)</script>'
        '<log expr="i + \':\' + x"/></foreach><log expr="list.length"/></onentry></state>'
    )
    assert logs(first) == ["0:1", "1:2", "2:3", "6"]


def test_sends_carry_their_parts() -> None:
    _, first = started(
        '<datamodel><data id="v" expr="{a:[1,null]}"/></datamodel><state id="s"><onentry>'
        '<send event="e" target="#_parent" delayexpr="\'1.5s\'" id="i" namelist="v"><param name="p" expr="2"/>'
        '<param name="p" expr="3"/></send><cancel sendid="i"/></onentry></state>'
    )
    send, cancel = first.effects
    assert isinstance(send, Send)
    assert (send.event, send.target, send.delay_ms, send.sendid) == ("e", "#_parent", 1500.0, "i")
    assert send.data == {"v": {"a": [1, None]}, "p": 3}
    assert send.params == (("v", {"a": [1, None]}), ("p", 2), ("p", 3))
    assert cancel == CancelSend("i")


@pytest.mark.parametrize(
    ("delay", "milliseconds"),
    [
        ("1s", 1000),
        (".5s", 500),
        ("20ms", 20),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("7", 7),
    ],
)
def test_delays(delay: str, milliseconds: float) -> None:
    _, first = started(f'<state id="s"><onentry><send event="e" delayexpr="\'{delay}\'"/></onentry></state>')
    assert [effect.delay_ms for effect in first.effects if isinstance(effect, Send)] == [milliseconds]


def test_what_is_sent_is_a_copy() -> None:
    _, first = started(
        '<datamodel><data id="v" expr="{a:1}"/></datamodel><state id="s"><onentry>'
        '<send event="e" target="#_internal" namelist="v"/><script>v.a = 2</script></onentry>'
        '<transition event="e"><log expr="_event.data.v.a"/></transition></state>'
    )
    assert logs(first) == ["1"]


def test_a_cycle_cannot_be_sent() -> None:
    _, first = started(
        '<datamodel><data id="v" expr="{}"/></datamodel><state id="s"><onentry><script>v.v = v</script>'
        f'<send event="e" namelist="v"/></onentry>{ON_ERROR}</state>'
    )
    assert [type(effect).__name__ for effect in first.effects] == ["Log"]
    assert errors(first)[0].startswith("error=TypeError: circular")


def test_invoke_forward_finalize_cancel() -> None:
    made, first = started(
        '<datamodel><data id="got"/></datamodel><state id="s">'
        '<invoke id="kid" src="kid.scxml" autoforward="true"><param name="x" expr="1"/>'
        '<finalize><assign location="got" expr="_event.data"/></finalize></invoke>'
        '<transition event="stop" target="t"/></state><state id="t"/>'
    )
    assert first.effects == [Invoke("kid", "scxml", "kid.scxml", data={"x": 1}, autoforward=True)]
    event = Event("news", 5, invokeid="kid")
    assert made.step(event, 1001.0).effects == [Forward("kid", event)]
    result = made.step(Event("stop"), 1002.0)
    assert result.effects[-1] == CancelInvoke("kid")
    assert made.compiled.states[1:] == ("s", "t")
    assert '"got":5' in made.snapshot().decode()


def test_an_empty_finalize_brings_values_back_to_where_they_came_from() -> None:
    made, _ = started(
        '<datamodel><data id="x" expr="1"/><data id="o" expr="{y: 2}"/></datamodel><state id="s">'
        '<invoke id="kid" src="k"><param name="x" location="x"/><param name="z" location="o.y"/><finalize/></invoke>'
        '<transition event="news"><log expr="x + \'/\' + o.y"/></transition></state>'
    )
    assert logs(made.step(Event("news", {"x": 10, "z": 20}, invokeid="kid"), 1001.0)) == ["10/20"]
    assert logs(made.step(Event("news", {"x": 11, "z": 21}), 1001.0)) == ["10/20"]


def test_states_left_in_the_same_macrostep_invoke_nothing() -> None:
    _, first = started(
        '<state id="s"><invoke id="one" src="k"/><transition target="t"/></state><state id="t"><invoke id="two" src="k"/></state>'
    )
    assert [effect.invokeid for effect in first.effects if isinstance(effect, Invoke)] == ["two"]


def test_platform_events_are_not_forwarded() -> None:
    made, _ = started('<state id="s"><invoke id="k" src="k" autoforward="true"/></state>')
    assert made.step(Event("error.communication", type="platform"), 1001.0).effects == []


def test_terminate_runs_onexit_and_reports_the_end() -> None:
    made, _ = started('<state id="s"><onexit><log expr="\'bye\'"/></onexit></state>')
    result = made.terminate(1001.0)
    assert (logs(result), result.effects[-1], result.finished) == (["bye"], Done(), True)
    with pytest.raises(SessionError):
        made.step(Event("x"), 1002.0)


def test_done_data_of_a_session() -> None:
    _, first = started(
        '<final id="f"><donedata><param name="a" expr="1"/><param name="b" expr="nope"/></donedata></final>'
    )
    assert first.effects[-1] == Done({"a": 1}, has_data=True)
    _, second = started('<final id="f"><donedata><content>{"a": [1]}</content></donedata></final>')
    assert second.effects[-1] == Done({"a": [1]}, has_data=True)


def test_params_replace_top_level_data_only() -> None:
    made = session(
        compiled(
            '<datamodel><data id="a" expr="1"/></datamodel><state id="s"><datamodel><data id="b" expr="2"/></datamodel>'
            "<onentry><log expr=\"a + '/' + b\"/></onentry></state>"
        )
    )
    made._setup["params"] = {"a": 10, "b": 20, "c": 30}
    assert logs(made.start(1000.0)) == ["10/2"]


@pytest.mark.parametrize(
    "name", ["_event", "_sessionid", "_name", "_ioprocessors", "_x", "_data", "_genesys"]
)
def test_system_variables_cannot_be_assigned(name: str) -> None:
    _, first = started(
        f'<state id="s"><onentry><assign location="{name}" expr="1"/></onentry>{ON_ERROR}</state>'
    )
    assert errors(first)[0].startswith("error=TypeError")


def test_fields_of_an_event() -> None:
    made, _ = started(
        '<state id="s"><transition event="*"><log expr="JSON.stringify(_event)"/></transition></state>'
    )
    event = Event("a.b", [1], sendid="s", origin="o", origintype="t", invokeid="i", raw="r")
    assert logs(made.step(event, 1001.0)) == [
        '{"name":"a.b","type":"external","sendid":"s","origin":"o","origintype":"t","invokeid":"i","data":[1],"raw":"r"}'
    ]
    assert logs(made.step(Event("e"), 1001.0)) == ['{"name":"e","type":"external"}']
    assert logs(made.step(Event("e", None, has_data=True), 1001.0)) == [
        '{"name":"e","type":"external","data":null}'
    ]


def test_content_of_an_event_is_read_as_json_xml_or_text() -> None:
    made, _ = started(
        '<state id="s"><transition event="xml"><log expr="_event.data.getElementsByTagName(\'b\')[0].getAttribute(\'c\')"/></transition>'
        '<transition event="*"><log expr="JSON.stringify(_event.data)"/></transition></state>'
    )
    assert logs(made.step(Event("e", content=' {"a": 1} '), 1001.0)) == ['{"a":1}']
    assert logs(made.step(Event("e", content=" some   text "), 1001.0)) == ['"some text"']
    assert logs(made.step(Event("xml", content="<a><b c='d'/></a>"), 1001.0)) == ["d"]


def test_event_descriptors_match_whole_tokens() -> None:
    made, _ = started(
        '<state id="s"><transition event="a.b"><log expr="1"/></transition>'
        '<transition event="a.*"><log expr="2"/></transition><transition event="x. y."><log expr="3"/></transition>'
        '<transition event="*"><log expr="4"/></transition></state>'
    )
    for name, expected in (
        ("a.b", "1"),
        ("a.b.c", "1"),
        ("a.bc", "2"),
        ("a", "2"),
        ("ab", "4"),
        ("y.z", "3"),
    ):
        assert logs(made.step(Event(name), 1001.0)) == [expected], name


def test_documents_with_scripts_share_one_global_scope() -> None:
    _, first = started(
        '<script>var a = 1; function twice(x) { return 2 * x; } let b = 5;</script><state id="s">'
        '<onentry><script>var c = twice(a) + b;</script><log expr="c"/></onentry></state>'
    )
    assert logs(first) == ["7"]


def test_a_script_that_fails_is_an_error_at_its_position() -> None:
    _, first = started(f'<script>\nnope()</script><state id="s">{ON_ERROR}</state>')
    assert errors(first) == ["error=Error: ReferenceError: nope is not defined @1"]
    _, second = started(f'\n<script>var = 1</script><state id="s">{ON_ERROR}</state>')
    assert errors(second)[0].endswith("@2")


def test_expressions_cannot_leave_their_place() -> None:
    _, first = started(
        f'<state id="s"><onentry><log expr="1); fail(2"/></onentry><onentry><log expr="1], [2"/></onentry>'
        f'<onentry><log expr="3 // comment"/><log expr="{{a: 1}}"/></onentry>{ON_ERROR}</state>'
    )
    assert [text for text in logs(first) if not text.startswith("error")] == ["3", '{"a":1}']
    assert len(errors(first)) == 2


def test_time_and_random_come_from_the_host() -> None:
    made, _ = started(
        '<state id="s"><transition event="*"><log expr="Date.now() + \' \' + new Date().getTime() + \' \' + Math.random()"/></transition></state>'
    )
    first = logs(made.step(Event("e"), 5000.0))[0].split()
    second = logs(made.step(Event("e"), 5000.0))[0].split()
    assert first[:2] == second[:2] == ["5000", "5000"]
    assert first[2] != second[2]
    assert 0 <= float(first[2]) < 1
    again, _ = started(
        '<state id="s"><transition event="*"><log expr="Date.now() + \' \' + new Date().getTime() + \' \' + Math.random()"/></transition></state>'
    )
    assert logs(again.step(Event("e"), 5000.0))[0].split() == first


def test_dates_are_dates() -> None:
    _, first = started(
        '<state id="s"><onentry><log expr="new Date(0) instanceof Date"/><log expr="new Date(86400000).toISOString()"/>'
        '<log expr="Date.UTC(1970, 0, 2)"/><log expr="typeof Date()"/><log expr="(new (new Date(5)).constructor()).getTime()"/></onentry></state>'
    )
    assert logs(first) == ["true", "1970-01-02T00:00:00.000Z", "86400000", "string", "1000"]


@pytest.mark.parametrize(
    "name",
    [
        "performance",
        "queueMicrotask",
        "SharedArrayBuffer",
        "Atomics",
        "WeakRef",
        "FinalizationRegistry",
        "std",
        "os",
        "require",
        "process",
    ],
)
def test_nothing_of_the_host_is_within_reach(name: str) -> None:
    _, first = started(f'<state id="s"><onentry><log expr="typeof {name}"/></onentry></state>')
    assert logs(first) == ["undefined"]


def test_late_binding_binds_when_the_state_is_entered() -> None:
    made, first = started(
        '<state id="s"><onentry><log expr="typeof v"/></onentry><transition event="e" target="t"/></state>'
        '<state id="t"><datamodel><data id="v" expr="1"/></datamodel><onentry><log expr="v++"/></onentry>'
        '<transition event="e" target="s2"/></state><state id="s2"><transition event="e" target="t"/></state>',
        'binding="late"',
    )
    assert logs(first) == ["undefined"]
    assert logs(made.step(Event("e"), 1.0)) == ["1"]
    made.step(Event("e"), 1.0)
    assert logs(made.step(Event("e"), 1.0)) == ["2"]


def test_wrong_use_is_refused() -> None:
    made = session(compiled('<state id="s"/>'))
    with pytest.raises(SessionError):
        made.step(Event("e"), 1.0)
    with pytest.raises(SessionError):
        made.snapshot()
    made.start(1.0)
    with pytest.raises(SessionError):
        made.start(1.0)
    with pytest.raises(SessionError):
        made.answer(0, 1)


def test_unreachable_sessions_are_errors_of_the_block() -> None:
    body = (
        f'<state id="s"><onentry><send event="e" target="{{}}"/><log expr="1"/></onentry>{ON_ERROR}</state>'
    )
    _, child = started(body.format("#_nobody"))
    assert logs(child) == ["error=Error: send: no session at '#_nobody' @1"]
    made, other = started(body.format("#_scxml_x"))
    assert other.query is not None
    assert (other.query.namespace, other.query.function, other.query.arguments) == (
        "scxml",
        "accessible",
        ("#_scxml_x",),
    )
    assert logs(made.answer(0, False)) == ["error=Error: send: no session at '#_scxml_x' @1"]
    made, _ = started(body.format("#_scxml_x"))
    result = made.answer(0, True)
    assert [type(effect).__name__ for effect in result.effects] == ["Send", "Log"]


def test_an_event_without_a_name_is_an_event() -> None:
    made, _ = started(
        '<state id="s"><transition cond="false" target="t"/><transition event="*"><log expr="\'[\' + _event.name + \']\'"/></transition></state><state id="t"/>'
    )
    assert logs(made.step(Event(""), 1.0)) == ["[]"]


def test_an_internal_event_cannot_be_delayed() -> None:
    _, first = started(
        f'<state id="s"><onentry><send event="e" targetexpr="\'#_internal\'" delayexpr="\'1s\'" id="i"/></onentry>{ON_ERROR}</state>'
    )
    assert errors(first) == ["error=Error: send: an event to #_internal cannot be delayed @1"]


def test_dates_are_of_the_time_that_the_host_says_however_large() -> None:
    now = 1_795_414_208_338
    document = compiled(
        '<state id="a"><onentry><log expr="Date.now()"/></onentry>'
        '<transition event="go"><log expr="new Date().toISOString()"/></transition></state>'
    )
    made = Interpreter(document, session_id="s", io_processors={}, now_ms=now, seed=1)
    assert logs(made.start(now)) == [str(now)]
    assert logs(made.step(Event("go"), now + 1000)) == [
        datetime.fromtimestamp((now + 1000) / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    ]


def test_a_delayed_send_asks_who_is_there_when_it_leaves() -> None:
    _, first = started(
        '<state id="a"><onentry><send event="x" target="#_kid" delay="1s"/><send event="y" target="#_scxml_b" delay="1s"/>'
        '</onentry><invoke id="kid"><content><scxml/></content></invoke></state>'
    )
    assert first.query is None
    assert [(e.event, e.delay_ms) for e in first.effects if isinstance(e, Send)] == [("x", 1000), ("y", 1000)]
