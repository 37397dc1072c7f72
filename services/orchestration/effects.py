"""What a session wants done outside of itself. Every effect has an id that stays the same when it is performed again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from services.orchestration.replies import Reply
from services.orchestration.scxml import Event, Json

Pairs = tuple[tuple[str, Json], ...]
"""Key-value pairs in order; values are text, whole numbers or nested pairs as [[key, value], …]."""


def as_object(pairs: Pairs) -> dict[str, Json]:
    """Pairs as a document reads them; of equal keys the last counts."""
    return {
        key: as_object(tuple((k, v) for k, v in value)) if isinstance(value, list) else value
        for key, value in pairs
    }


@dataclass(frozen=True, slots=True)
class Load:
    """Fetch and compile the application: the first of the URLs that can be had, or the document given."""

    id: str
    urls: tuple[str, ...]
    content: str | None = None
    """An inline document; its address is the first of the URLs."""


@dataclass(frozen=True, slots=True)
class TargetWish:
    """A target of a routing request: type as the document says ("skill", "agent", "agentgroup", "place")."""

    type: str
    name: str
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Submit:
    """Ask the tenant for a target."""

    id: str
    targets: tuple[TargetWish, ...]
    priority: int
    timeout_ms: int
    age_us: int
    queue: str = ""
    route: bool = True
    """Whether the call is routed to the answer, or the application does that itself."""
    requestid: str = ""
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Change the priority of a waiting request, or withdraw it."""

    id: str
    submit_id: str
    requestid: str = ""
    priority: int | None = None
    """None withdraws the request."""


@dataclass(frozen=True, slots=True)
class Route:
    """Send the call to a destination."""

    id: str
    destination: str
    agent_id: str = ""
    token: str = ""
    submit_id: str = ""
    """The routing request that found the destination; empty when the application named it."""
    requestid: str = ""
    is_default: bool = False
    user_data: Pairs = ()


@dataclass(frozen=True, slots=True)
class SetUserData:
    """Attach or replace user data of the call."""

    id: str
    pairs: Pairs
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class DeleteUserData:
    """Delete user data of the call: these keys, or all when there are none."""

    id: str
    keys: tuple[str, ...]
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Release all parties of the call."""

    id: str
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class CreateCall:
    """Make a new call through Front End."""

    id: str
    origin: str
    destination: str
    pairs: Pairs = ()
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """HTTP request of the application."""

    id: str
    url: str
    method: str
    headers: Pairs
    body: str
    timeout_ms: int
    requestid: str = ""
    module: str = "session.fetch"
    """Which action it was: names the events of its outcome."""
    retries: int = 0
    """Further attempts after no answer or a status of 500 and above."""


@dataclass(frozen=True, slots=True)
class Timer:
    """An event for the session itself, or a send to somebody else, later. The time is UTC microseconds."""

    id: str
    due_us: int
    event: Json = None
    sendid: str = ""
    send: Json = None
    """A send that leaves when it is due (`scxml.effect_to_json`); then there is no event."""


@dataclass(frozen=True, slots=True)
class Post:
    """A message by the Basic HTTP event processor."""

    id: str
    url: str
    body: str
    content_type: str
    sendid: str = ""
    event: str = ""
    """Name of the event sent, for the error that says it did not arrive."""


@dataclass(frozen=True, slots=True)
class Respond:
    """Send the customer of a digital interaction a message."""

    id: str
    data: Json
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Start another session, of its own; at a time (UTC milliseconds) or, with 0, now."""

    id: str
    src: str
    parameters: Json
    ideal_time_ms: int = 0
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class TerminateOther:
    """End another session of the tenant."""

    id: str
    session_id: str
    requestid: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Let the interpreter start, process the first event of the inbox, or leave all states."""

    id: str
    operation: Literal["start", "step", "terminate"] = "step"
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Spawn:
    """A child session begins. Part of the same write as the step that invoked it, as are Tell, Report and Stop:
    parents and children share a slot."""

    session_id: str
    invokeid: str
    load: Load
    params: Json = None
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Tell:
    """An event for another session of the slot; when it is not there, `error.communication` for the sender."""

    session_id: str
    event: Event
    sendid: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """News for the session that invoked this one: an event, its end, that it has routed the call."""

    session_id: str
    invokeid: str
    event: Event | None = None
    ended: bool = False
    routed: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """A child session's invocation is cancelled."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Say:
    """A line of the application's log."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The session is over: forget it. `outcome` is "finished", "failed" or "call gone"."""

    outcome: str
    problem: str = ""


Stored = (
    Submit
    | Resubmit
    | Route
    | SetUserData
    | DeleteUserData
    | Terminate
    | CreateCall
    | Fetch
    | Timer
    | Load
    | Post
    | Respond
    | Start
    | TerminateOther
)
"""Effects that are kept until their outcome is known."""
Inside = Spawn | Tell | Report | Stop
"""Effects between the sessions of a slot: inputs of others before anything is written."""
Effect = Stored | Run | Say | End | Inside | Reply

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Submit,
        Resubmit,
        Route,
        SetUserData,
        DeleteUserData,
        Terminate,
        CreateCall,
        Fetch,
        Timer,
        Load,
        Post,
        Respond,
        Start,
        TerminateOther,
    )
}


def to_json(effect: Stored) -> tuple[str, dict[str, Json]]:
    """Kind and fields of an effect; members that are None are left out."""
    body = {item.name: value for item in fields(effect) if (value := getattr(effect, item.name)) is not None}
    if isinstance(effect, Submit):
        body["targets"] = [asdict(target) for target in effect.targets]
    return type(effect).__name__, body


def from_json(kind: str, body: dict[str, Json]) -> Stored:
    """The effect again. KeyError for an unknown kind."""
    given = dict(body)
    for name in ("pairs", "user_data", "headers"):
        if name in given:
            given[name] = tuple((key, value) for key, value in given[name])
    for name in ("urls", "excluded", "keys"):
        if name in given:
            given[name] = tuple(given[name])
    if "targets" in given:
        given["targets"] = tuple(TargetWish(**target) for target in given["targets"])
    effect: Stored = _KINDS[kind](**given)
    return effect
