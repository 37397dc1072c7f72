"""The trace of a session: each step as the contract tells it, with what the tenant hides left out. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from voice.orchestration.v1.orchestration_service_pb2 import TraceEffect, TraceStep, TraceTransition

from services.orchestration.masking import Mask, Secrets
from services.orchestration.scxml import Action, Event, Json, Log, Send, StepResult, effect_to_json

MAX_JSON = 4096
"""Longest data of an event or an effect in a trace, characters; the rest is cut."""
MAX_PARTS = 200
"""Transitions, and effects, of one step in a trace."""
_SPOKEN = frozenset({"kind", "line", "column", "namespace", "name"})
"""Members of an effect that a trace says otherwise."""


def step_of(
    number: int,
    time_us: int,
    node: str,
    event: Event | None,
    result: StepResult,
    mask: Mask,
    secrets: Secrets,
) -> TraceStep:
    """A macrostep: what came in, which transitions were taken, what went out. Learns secrets on the way."""
    step = TraceStep(step=number, time_us=time_us, node=node, configuration=result.configuration)
    effects = [effect_to_json(effect) for effect in result.effects[:MAX_PARTS]]
    if mask:
        secrets.add(mask.secrets(effects))
        if event is not None:
            secrets.add(mask.secrets(event.data))
    if event is not None:
        step.event = event.name
        if event.content is not None:
            step.data_json = _cut(json.dumps(secrets.hide(event.content)))
        elif event.data is not None:
            step.data_json = _text(event.data, mask, secrets)
    step.transitions.extend(_transitions(result))
    step.effects.extend(_effect(*both, mask, secrets) for both in zip(result.effects, effects, strict=False))
    if result.failure is not None:
        step.problem = f"{result.failure.reason}: {secrets.hide(result.failure.message)}"
    return step


def end_of(
    number: int,
    time_us: int,
    node: str,
    configuration: Sequence[str],
    outcome: str,
    problem: str,
    secrets: Secrets,
) -> TraceStep:
    """The last entry: how the session ended."""
    return TraceStep(
        step=number,
        time_us=time_us,
        node=node,
        configuration=configuration,
        outcome=outcome,
        problem=secrets.hide(problem)[:MAX_JSON],
    )


def _transitions(result: StepResult) -> list[TraceTransition]:
    return [
        TraceTransition(source=t.source, event=t.event, targets=t.targets, line=t.line, column=t.column)
        for t in result.trace[:MAX_PARTS]
    ]


def _effect(effect: object, body: dict[str, Json], mask: Mask, secrets: Secrets) -> TraceEffect:
    match effect:
        case Action(namespace=namespace, name=action):
            name = f"{namespace}.{action}"
        case Send(event=event):
            name = event
        case Log(label=label):
            name = label
        case _:
            name = str(body.get("invokeid") or body.get("sendid") or "")
    rest = {
        key: value for key, value in body.items() if key not in _SPOKEN and value not in (None, "", [], ())
    }
    return TraceEffect(kind=body["kind"], name=name, detail_json=_text(rest, mask, secrets))


def _text(value: Json, mask: Mask, secrets: Secrets) -> str:
    return _cut(secrets.hide(json.dumps(mask.json(value), ensure_ascii=False, default=str)))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_JSON else text[: MAX_JSON - 1] + "…"
