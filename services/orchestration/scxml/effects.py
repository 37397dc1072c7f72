"""What goes into a session and what comes out of it: events, effects, results, limits.

The interpreter performs no I/O. Each step takes one `Event` and returns a `StepResult` whose effects
the host performs. Values inside (`data`, attributes) are plain JSON: what `JSON.stringify` makes of the
session's values, except that XML nodes travel as ``{"$xml": [name, {attribute: value}, [children]]}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

Json: TypeAlias = Any
"""A value of the JSON data model: None, bool, int, float, str, list or dict with string keys."""

EventType = Literal["external", "platform", "internal"]

SCXML_PROCESSOR = "http://www.w3.org/TR/scxml/#SCXMLEventProcessor"
HTTP_PROCESSOR = "http://www.w3.org/TR/scxml/#BasicHTTPEventProcessor"
SCXML_INVOKE = "http://www.w3.org/TR/scxml/"


@dataclass(frozen=True, slots=True)
class Event:
    """One event for a session (SCXML 5.10.1). `platform` and `internal` events enter the internal queue:
    they are not forwarded to invoked sessions and no finalize runs for them."""

    name: str
    data: Json = None
    type: EventType = "external"
    sendid: str = ""
    origin: str = ""
    origintype: str = ""
    invokeid: str = ""
    content: str | None = None
    """Raw text instead of `data`; the session reads it as JSON, else as XML, else as a string with its
    white space normalised (SCXML B.2.8.1)."""
    raw: str = ""
    """The message as it came over the wire (Basic HTTP), readable as `_event.raw`."""
    has_data: bool = False
    """True makes `data=None` the value null; otherwise None means that `_event.data` is undefined."""


@dataclass(frozen=True, slots=True)
class Send:
    """Deliver an event (`<send>`, 6.2). `target` is what the document said: "" for the session itself,
    `#_parent`, `#_scxml_<session>`, `#_<invokeid>` or an address of the processor `type`."""

    target: str
    type: str
    event: str
    data: Json = None
    has_data: bool = False
    content: str | None = None
    """Raw text of `<content>`; exclusive with `data`."""
    params: tuple[tuple[str, Json], ...] = ()
    """Names and values of namelist and `<param>` in document order, duplicates kept (6.2.3)."""
    sendid: str = ""
    """The id the author gave or stored with idlocation; "" when there is none."""
    delay_ms: float = 0.0
    hints: Json = None


@dataclass(frozen=True, slots=True)
class CancelSend:
    """Forget the delayed events that this session sent under this id (`<cancel>`, 6.3)."""

    sendid: str


@dataclass(frozen=True, slots=True)
class Invoke:
    """Start a service (`<invoke>`, 6.4). Its end comes back as the event `done.invoke.<invokeid>`."""

    invokeid: str
    type: str
    src: str = ""
    """Absolute when the document's own address is known."""
    content: str | None = None
    """The text of an inline document."""
    data: Json = None
    """namelist and params as one object; for SCXML they replace the child's top-level data."""
    autoforward: bool = False


@dataclass(frozen=True, slots=True)
class CancelInvoke:
    """End an invoked service: the state that started it was left. Its later events are to be dropped."""

    invokeid: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Hand an unchanged copy of the external event being processed to an invoked service (autoforward)."""

    invokeid: str
    event: Event


@dataclass(frozen=True, slots=True)
class Log:
    label: str
    text: str
    """Strings as they are, everything else as JSON."""


@dataclass(frozen=True, slots=True)
class Action:
    """An action element of an extension, or a `_genesys` function that acts. `namespace` is the module's
    short name ("queue", "interaction", …); the table is in extensions.py."""

    namespace: str
    name: str
    attributes: dict[str, Json]
    requestid: str
    """Unique in the session. Completion events carry it in `data.requestid`."""
    children: tuple[ActionChild, ...] = ()
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class ActionChild:
    """A parameter element inside an action: its local name, evaluated attributes and own children."""

    name: str
    attributes: dict[str, Json]
    children: tuple[ActionChild, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The session reached a top-level final state or was terminated; `data` is its donedata."""

    data: Json = None
    has_data: bool = False


Effect: TypeAlias = Send | CancelSend | Invoke | CancelInvoke | Forward | Log | Action | Done
EFFECT_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (Send, CancelSend, Invoke, CancelInvoke, Forward, Log, Action, Done)
}


@dataclass(frozen=True, slots=True)
class Query:
    """A `_genesys` function that needs an answer. Answer with `Interpreter.answer(id, …)`."""

    id: int
    """Position in this step, from 0; answers are given in order."""
    namespace: str
    function: str
    arguments: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a session was ended by the platform (error.platform). No effect of the failed step leaves."""

    reason: Literal["cpu", "memory", "stack", "microsteps", "queue", "effects", "queries", "age", "script"]
    message: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A transition that was taken: its source state, the event ("" when eventless), its targets."""

    source: str
    event: str
    targets: tuple[str, ...]
    line: int
    column: int


@dataclass(slots=True)
class StepResult:
    effects: list[Effect] = field(default_factory=list)
    configuration: list[str] = field(default_factory=list)
    """Ids of all active states in document order; states without an id are named by the compiler."""
    finished: bool = False
    query: Query | None = None
    """When set, nothing has happened yet: the step is replayed once the answer is there."""
    failure: Failure | None = None
    trace: list[Taken] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may use. Exceeding one ends the session with a `Failure`."""

    cpu_seconds: float = 0.5
    """CPU time of the whole process while the step runs; a single native call is not interrupted."""
    memory_bytes: int = 16 * 1024 * 1024
    """Of the session's own JavaScript runtime, base included (about 0.2 MB)."""
    stack_bytes: int = 4 * 1024 * 1024
    """Of C stack, below what a thread has (8 MB): some 3,000 nested calls, 800 levels of nested data."""
    microsteps: int = 1_000
    """Sets of transitions taken in one step."""
    internal_events: int = 1_000
    """Events waiting in the internal queue."""
    effects: int = 1_000
    age_seconds: float = 180 * 86_400
    """From the making of the session; applications that wait for months exist."""
    queries: int = 8
    """Questions to the host in one step."""

    def validate(self) -> list[str]:
        """Name every limit that is not positive."""
        return [f"{item.name}: must be above 0" for item in fields(self) if getattr(self, item.name) <= 0]


def effect_to_json(effect: Effect) -> dict[str, Json]:
    """`{"kind": "Send", …}`: the form effects have between the worker process and the host."""
    body: dict[str, Json] = {item.name: getattr(effect, item.name) for item in fields(effect)}
    if isinstance(effect, Action):
        body["children"] = [child_to_json(child) for child in effect.children]
    elif isinstance(effect, Forward):
        body["event"] = event_to_json(effect.event)
    return {"kind": type(effect).__name__, **body}


def child_to_json(child: ActionChild) -> dict[str, Json]:
    """A parameter element as JSON."""
    children = [child_to_json(item) for item in child.children]
    return {"name": child.name, "attributes": child.attributes, "children": children, "text": child.text}


def effect_from_json(value: dict[str, Json]) -> Effect:
    """The inverse of `effect_to_json`. Raises KeyError for an unknown kind."""
    body = dict(value)
    kind = EFFECT_KINDS[body.pop("kind")]
    if kind is Action:
        body["children"] = tuple(child_from_json(child) for child in body["children"])
    elif kind is Forward:
        body["event"] = Event(**body["event"])
    elif kind is Send:
        body["params"] = tuple((name, item) for name, item in body["params"])
    effect: Effect = kind(**body)
    return effect


def child_from_json(value: dict[str, Json]) -> ActionChild:
    """A parameter element from its JSON form (see `effect_to_json`)."""
    children = tuple(child_from_json(child) for child in value["children"])
    return ActionChild(value["name"], value["attributes"], children, value.get("text", ""))


def event_to_json(event: Event) -> dict[str, Json]:
    """Members that differ from their defaults; the inverse is `Event(**value)`."""
    return {
        item.name: value
        for item in fields(Event)
        if (value := getattr(event, item.name)) != item.default or item.name == "name"
    }


def _members(value: Query | Failure | Taken) -> dict[str, Json]:
    return {name: getattr(value, name) for name in value.__slots__}


def result_to_json(result: StepResult) -> dict[str, Json]:
    """A step's result as the worker process sends it."""
    return {
        "effects": [effect_to_json(effect) for effect in result.effects],
        "configuration": result.configuration,
        "finished": result.finished,
        "query": _members(result.query) if result.query else None,
        "failure": _members(result.failure) if result.failure else None,
        "trace": [_members(taken) for taken in result.trace],
    }


def result_from_json(value: dict[str, Json]) -> StepResult:
    """The inverse of `result_to_json`."""
    query, failure = value["query"], value["failure"]
    return StepResult(
        effects=[effect_from_json(effect) for effect in value["effects"]],
        configuration=value["configuration"],
        finished=value["finished"],
        query=Query(**{**query, "arguments": tuple(query["arguments"])}) if query else None,
        failure=Failure(**failure) if failure else None,
        trace=[Taken(**{**taken, "targets": tuple(taken["targets"])}) for taken in value["trace"]],
    )
