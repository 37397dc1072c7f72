"""Extension actions and functions: what leaves the session, and what it learns."""

# ruff: noqa: E501 (documents read better on one line)

from __future__ import annotations

import pytest

from services.orchestration.scxml import Action, ActionChild, Event, compile_document
from services.orchestration.scxml.extensions import ALIASES, MODULES, module_of
from tests.unit.orchestration.scxml.documents import compiled, logs, session, started

NAMESPACES = " ".join(
    f'xmlns:{name}="http://www.genesyslab.com/modules/{name}"' for name in [*MODULES, *ALIASES]
)


def actions(body: str) -> list[Action]:
    _, first = started(
        f'<datamodel><data id="req"/><data id="ixnid" expr="\'i1\'"/></datamodel><state id="s"><onentry>{body}</onentry></state>',
        NAMESPACES,
    )
    return [effect for effect in first.effects if isinstance(effect, Action)]


def test_a_queue_request_with_targets() -> None:
    (action,) = actions(
        '<queue:submit requestid="req" queue="\'vq\' + 1" priority="2 + 3" timeout="100" interactionid="ixnid" route="false">'
        '<queue:targets type="agentgroup"><queue:target name="\'Sales\'"/><queue:target type="skill" skillexpr="\'English > 5\'"/>'
        "<queue:targetid expr=\"'8001.Q'\"/></queue:targets></queue:submit>"
    )
    assert (action.namespace, action.name) == ("queue", "submit")
    assert action.attributes == {
        "queue": "vq1",
        "priority": 5,
        "timeout": 100,
        "interactionid": "i1",
        "route": False,
    }
    assert action.children == (
        ActionChild(
            "targets",
            {"type": "agentgroup"},
            (
                ActionChild("target", {"name": "Sales"}, ()),
                ActionChild("target", {"type": "skill", "skillexpr": "English > 5"}, ()),
                ActionChild("targetid", {"expr": "8001.Q"}, ()),
            ),
        ),
    )


def test_a_request_id_is_generated_and_stored() -> None:
    made, first = started(
        '<datamodel><data id="req"/></datamodel><state id="s"><onentry><dialog:playsound type="music" resource="\'m\'" requestid="req"/>'
        '<dialog:stop/><log expr="req"/></onentry>'
        '<transition event="dialog.playsound.done" cond="_event.data.requestid === req" target="t"/></state><state id="t"/>',
        NAMESPACES,
    )
    ids = [effect.requestid for effect in first.effects if isinstance(effect, Action)]
    assert len(set(ids)) == 2
    assert logs(first) == [ids[0]]
    assert made.step(Event("dialog.playsound.done", {"requestid": "other"}), 1.0).configuration == ["s"]
    assert made.step(Event("dialog.playsound.done", {"requestid": ids[0]}), 1.0).configuration == ["t"]


def test_words_and_expressions_in_the_same_attribute() -> None:
    one, two = actions("<dialog:playsound type=\"music\"/><dialog:playsound type=\"'ring' + 'back'\"/>")
    assert (one.attributes["type"], two.attributes["type"]) == ("music", "ringback")


def test_both_spellings_of_a_namespace_and_both_names_of_interaction() -> None:
    for namespace in ("www.genesyslab.com/modules/ixn", "http://www.genesyslab.com/modules/interaction"):
        document = compile_document(
            f'<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" xmlns:i="{namespace}"><state id="s">'
            '<onentry><i:redirect interactionid="1" to="\'5001\'"/></onentry></state></scxml>'
        )
        effect = session(document).start(1.0).effects[0]
        assert isinstance(effect, Action)
        assert (effect.namespace, effect.name) == ("interaction", "redirect")
    assert module_of("urn:other") is None
    assert module_of("www.genesyslab.com/modules/fax") == "fax"


def test_param_and_content_of_a_request() -> None:
    fetch, respond = actions(
        '<session:fetch src="\'http://h/\'" method="\'post\'"><param name="a" expr="1"/><session:param name="b" expr="[2]"/></session:fetch>'
        '<session:response requestid="\'r9\'"><content expr="{ok: true}"/></session:response>'
    )
    assert fetch.attributes["params"] == {"a": 1, "b": [2]}
    assert respond.requestid == "r9"
    assert respond.attributes["content"] == {"ok": True}


def test_an_action_whose_attribute_fails_is_an_error_and_no_effect() -> None:
    assert actions('<queue:submit queue="nowhere.at.all"/>') == []


def test_position_of_an_action() -> None:
    (action,) = actions("\n  <dialog:stop/>")
    assert (action.line, action.column) == (2, 3)


@pytest.mark.parametrize("module", MODULES)
def test_every_action_of_the_table_compiles_and_runs(module: str) -> None:
    for name, rule in MODULES[module].actions.items():
        given = " ".join(
            f'{attribute}="{"req" if kind.kind == "location" else kind.words[0] if kind.words else 1}"'
            for attribute, kind in rule.attributes.items()
        )
        (action,) = actions(f"<{module}:{name} {given}/>")
        assert (action.namespace, action.name) == (module, name)
        expected = {key for key, kind in rule.attributes.items() if kind.kind != "location"}
        assert set(action.attributes) == expected


@pytest.mark.parametrize("module", MODULES)
def test_every_function_of_the_table(module: str) -> None:
    for name, function in MODULES[module].functions.items():
        call = f"_genesys.{MODULES[module].root}.{name}({', '.join(str(n) for n in range(len(function.arguments)))})"
        made, first = started(f'<state id="s"><onentry><log expr="typeof {call}"/></onentry></state>')
        if function.kind == "query":
            assert first.query is not None
            assert (first.query.namespace, first.query.function) == (module, name)
            assert first.query.arguments == tuple(range(len(function.arguments)))
            assert logs(made.answer(0, {"a": 1})) == ["object"]
        elif function.kind == "action":
            (action,) = [effect for effect in first.effects if isinstance(effect, Action)]
            assert (action.name, list(action.attributes)) == (name, list(function.arguments))


def test_the_session_knows_its_interactions() -> None:
    made, _ = started(
        '<state id="s"><transition event="*"><log expr="JSON.stringify(_genesys.ixn.interactions)"/>'
        "<log expr=\"_genesys.ixn.getuData('lang', 'i1')\"/></transition></state>"
    )
    assert logs(made.step(Event("interaction.added", {"interactionid": "i1", "ANI": "7", "udata": {"lang": "en"}}), 1.0)) == [
        '{"i1":{"interactionid":"i1","ANI":"7","udata":{"lang":"en"}}}', "en",
    ]  # fmt: skip
    changed = made.step(
        Event("interaction.udata.changed", {"interactionid": "i1", "udata": {"lang": "de"}}), 1.0
    )
    assert logs(changed)[1] == "de"
    assert logs(made.step(Event("interaction.other", {"interactionid": "i2"}), 1.0))[1] == "de"
    assert logs(made.step(Event("interaction.deleted", {"interactionid": "i1"}), 1.0))[0] == "{}"


# -- queries ------------------------------------------------------------------------------------------

ASKING = (
    '<datamodel><data id="n" expr="0"/></datamodel><state id="s"><transition event="e">'
    '<script>n++; var a = _genesys.queue.checkAgentState("a1", n); n++; var b = _genesys.statistic.getStat(a, n);</script>'
    '<log expr="[n, a, b].join()"/></transition><transition event="error.execution"><log label="error" expr="_event.data.message"/></transition></state>'
)


def test_a_query_stops_the_step_and_answers_replay_it() -> None:
    made, _ = started(ASKING)
    first = made.step(Event("e"), 1.0)
    assert first.effects == []
    assert first.query is not None
    assert (first.query.id, first.query.function, first.query.arguments) == (0, "checkAgentState", ("a1", 1))
    second = made.answer(0, "ready")
    assert second.query is not None
    assert (second.query.id, second.query.function, second.query.arguments) == (1, "getStat", ("ready", 2))
    third = made.answer(1, 9)
    assert third.query is None
    assert logs(third) == ["2,ready,9"]
    assert third.configuration == ["s"]


def test_an_answer_may_be_an_error() -> None:
    made, _ = started(ASKING)
    made.step(Event("e"), 1.0)
    result = made.answer(0, error="statistics are not available")
    assert logs(result) == ["error=Error: statistics are not available"]


def test_code_that_catches_a_query_changes_nothing() -> None:
    made, _ = started(
        '<state id="s"><transition event="e" target="t"><script>var a; try { a = _genesys.queue.rvqdata(1); } catch (e) { a = "caught"; } finally { a += "!"; }</script>'
        '<log expr="a"/></transition></state><state id="t"/>'
    )
    assert made.step(Event("e"), 1.0).query is not None
    assert logs(made.answer(0, "x")) == ["x!"]


def test_queries_in_the_first_step_and_in_scripts() -> None:
    made = session(
        compiled(
            '<script>var a = _genesys.queue.rvqdata("q");</script><state id="s"><onentry><log expr="a + _genesys.queue.rvqdata(a)"/></onentry></state>'
        )
    )
    assert made.start(1.0).query is not None
    assert made.answer(0, "x").query is not None
    assert logs(made.answer(1, "y")) == ["xy"]


def test_too_many_queries_end_the_session() -> None:
    made, first = started(
        '<state id="s"><onentry><script>for (;;) _genesys.queue.rvqdata("q");</script></onentry></state>'
    )
    for number in range(8):
        assert first.query is not None
        first = made.answer(number, number)
    assert first.failure is not None
    assert first.failure.reason == "queries"


def test_a_replayed_step_draws_the_same_numbers() -> None:
    body = '<state id="s"><transition event="e"><script>var r = Math.random();</script><script>_genesys.queue.rvqdata(r)</script><log expr="r"/></transition></state>'
    made, _ = started(body)
    asked = made.step(Event("e"), 1.0).query
    assert asked is not None
    assert logs(made.answer(0, 1)) == [repr(asked.arguments[0])]


def test_time_stands_still_for_a_replayed_step() -> None:
    body = '<state id="s"><transition event="e"><log expr="[Date.now(), _genesys.queue.rvqdata(Date.now()), Date.now()].join()"/></transition></state>'
    made, _ = started(body)
    asked = made.step(Event("e"), 5000.0).query
    assert asked is not None
    assert asked.arguments == (5000,)
    assert logs(made.answer(0, "x")) == ["5000,x,5000"]
