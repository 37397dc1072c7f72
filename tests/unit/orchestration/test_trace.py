"""Steps of a session as its trace tells them."""

from __future__ import annotations

import json

from services.orchestration import trace
from services.orchestration.masking import HIDDEN, Mask, Secrets
from services.orchestration.scxml import Action, Event, Failure, Log, Send, StepResult, Taken


def result() -> StepResult:
    return StepResult(
        effects=[
            Action("queue", "submit", {"queue": "vq", "note": "pin is 4711"}, "s.req.1", line=7, column=3),
            Send("", "scxml", "later", {"pin": "4711", "n": 1}, has_data=True, delay_ms=500),
            Log("said", "you typed 4711"),
        ],
        configuration=["queued"],
        trace=[Taken("menu", "digits", ("queued",), 12, 5)],
    )


def test_a_step_tells_what_came_in_which_way_was_taken_and_what_went_out() -> None:
    event = Event("digits", {"pin": "4711"})
    step = trace.step_of(4, 99, "n-0", event, result(), Mask(), Secrets())
    assert (step.step, step.time_us, step.node, step.event) == (4, 99, "n-0", "digits")
    assert json.loads(step.data_json) == {"pin": "4711"}
    (way,) = step.transitions
    assert (way.source, way.event, list(way.targets), way.line, way.column) == (
        "menu",
        "digits",
        ["queued"],
        12,
        5,
    )
    assert [(e.kind, e.name) for e in step.effects] == [
        ("Action", "queue.submit"),
        ("Send", "later"),
        ("Log", "said"),
    ]
    assert json.loads(step.effects[0].detail_json)["attributes"]["queue"] == "vq"
    assert json.loads(step.effects[1].detail_json)["delay_ms"] == 500
    assert list(step.configuration) == ["queued"]


def test_what_is_hidden_shows_nowhere_also_in_later_steps() -> None:
    mask, secrets = Mask.of("pin"), Secrets()
    first = trace.step_of(1, 1, "n-0", Event("digits", {"pin": "4711"}), result(), mask, secrets)
    later = StepResult(effects=[Log("again", "still 4711")])
    second = trace.step_of(2, 2, "n-0", None, later, mask, secrets)
    end = trace.end_of(3, 3, "n-0", ["x"], "failed", "script: 4711 is not a function", secrets)
    text = str(first) + str(second) + str(end)
    assert "4711" not in text
    assert text.count(HIDDEN) >= 5
    assert (end.outcome, end.problem) == ("failed", f"script: {HIDDEN} is not a function")


def test_the_start_has_no_event_and_a_failure_its_reason() -> None:
    failed = StepResult(failure=Failure("cpu", "too long"), finished=True)
    step = trace.step_of(0, 1, "n-0", None, failed, Mask(), Secrets())
    assert (step.event, step.data_json, step.problem) == ("", "", "cpu: too long")


def test_long_data_and_many_parts_are_cut() -> None:
    effects = [Log("", "x") for _ in range(trace.MAX_PARTS + 5)]
    event = Event("big", {"text": "x" * 10_000})
    step = trace.step_of(1, 1, "n-0", event, StepResult(effects=list(effects)), Mask(), Secrets())
    assert len(step.data_json) == trace.MAX_JSON
    assert len(step.effects) == trace.MAX_PARTS


def test_raw_content_is_shown_as_text() -> None:
    event = Event("raw", content='{"pin": "4711"}')
    secrets = Secrets()
    secrets.add(["4711"])
    step = trace.step_of(1, 1, "n-0", event, StepResult(), Mask.of("pin"), secrets)
    assert json.loads(step.data_json) == f'{{"pin": "{HIDDEN}"}}'
