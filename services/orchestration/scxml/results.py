"""Between the runtime and the host: events as text for the runtime, its answers as effects."""

from __future__ import annotations

import json
from urllib.parse import urljoin

from services.orchestration.scxml.compiled import Compiled
from services.orchestration.scxml.effects import (
    Action,
    CancelInvoke,
    CancelSend,
    Done,
    Effect,
    Event,
    Forward,
    Invoke,
    Json,
    Log,
    Send,
    StepResult,
    Taken,
    child_from_json,
)
from services.orchestration.scxml.xmltext import interpret, tree_to_text

KNOWN_TRANSITIONS = 256
"""Trace entries remembered a session; most sessions take few transitions by few events."""
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def event_text(event: Event | None) -> str:
    """The event for the runtime."""
    if event is None:
        return "null"
    body: dict[str, Json] = {"name": event.name, "type": event.type}
    if event.sendid:
        body["sendid"] = event.sendid
    if event.origin:
        body["origin"] = event.origin
    if event.origintype:
        body["origintype"] = event.origintype
    if event.invokeid:
        body["invokeid"] = event.invokeid
    if event.raw:
        body["raw"] = event.raw
    if event.content is not None:
        body["data"] = interpret(event.content)
    elif event.data is not None or event.has_data:
        body["data"] = event.data
    return _encode(body)


class Results:
    """Reads the answers of one session. Its methods raise KeyError, IndexError, TypeError, ValueError or
    AttributeError for an answer that the runtime does not give unless the session has tampered with it."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._known: dict[tuple[int, str], Taken] = {}

    def read(self, answer: Json, event: Event | None) -> StepResult:
        """The result of a step."""
        active, effects, trace, finished = answer
        states = self._compiled.states
        name = event.name if event else ""
        return StepResult(
            [self._effect(item, event) for item in effects],
            [states[number] for number in active],
            finished is True,
            trace=[self._taken(number, name) for number in trace],
        )

    def _taken(self, number: int, event: str) -> Taken:
        known = self._known.get((number, event))
        if known is None:
            t = self._compiled.transitions[number]
            known = Taken(t.source, event if t.event else "", t.targets, t.line, t.column)
            if len(self._known) >= KNOWN_TRANSITIONS:
                self._known.clear()
            self._known[number, event] = known
        return known

    def _effect(self, item: list[Json], event: Event | None) -> Effect:
        match item:
            case ["Send", *_]:
                return _send(item)
            case ["Log", label, text]:
                return Log(str(label), str(text))
            case ["Action", *_]:
                return self._action(item)
            case ["CancelSend", sendid]:
                return CancelSend(str(sendid))
            case ["CancelInvoke", invokeid]:
                return CancelInvoke(str(invokeid))
            case ["Forward", invokeid] if event is not None:
                return Forward(str(invokeid), event)
            case ["Invoke", invokeid, type_, src, content, data, autoforward]:
                address = urljoin(self._compiled.url, str(src)) if src else ""
                return Invoke(str(invokeid), str(type_), address, _text(content), data, bool(autoforward))
            case ["Done", data, has_data, literal]:
                return Done(interpret(data) if literal else data, bool(has_data))
        raise ValueError(f"unknown effect {item!r:.80}")

    def _action(self, item: list[Json]) -> Action:
        _, module, name, attributes, requestid, children, at = item
        line, column = self._compiled.positions[at][:2]
        parts = tuple(child_from_json(child) for child in children)
        return Action(str(module), str(name), dict(attributes), str(requestid), parts, line, column)


def _send(item: list[Json]) -> Send:
    _, target, type_, name, body, sendid, delay, hints = item
    data, content = body.get("data"), body.get("content")
    has_data = bool(body["has"]) and content is None
    if isinstance(data, dict) and "$xml" in data:
        content = tree_to_text(data["$xml"])
        data, has_data = None, False
    params = tuple((str(key), value) for key, value in body["params"])
    return Send(target, type_, name, data, has_data, content, params, sendid, float(delay), hints)


def _text(content: Json) -> str | None:
    """Content of an invoke as text: XML of a node, a string, anything else as JSON."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, dict) and "$xml" in content:
        return tree_to_text(content["$xml"])
    return json.dumps(content)
