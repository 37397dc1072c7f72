"""What can happen to a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.orchestration.effects import Pairs
from services.orchestration.scxml import Event, Json, StepResult


@dataclass(frozen=True, slots=True)
class Begin:
    """The route request came, or the session was just restored from its record."""

    performed: bool = False
    """True when this node has only let it sleep: what it waits for was asked for before. Timers are set again."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The application is ready."""

    effect_id: str
    url: str
    document_hash: str
    compiler_version: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """The interpreter has done the step it was asked for."""

    result: StepResult
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class Broke:
    """The application could not be had, or the interpreter failed or was killed while it ran it."""

    problem: str
    effect_id: str = ""


@dataclass(frozen=True, slots=True)
class CallNews:
    """Something happened to the call: an event for the document; flags say what it means for the session."""

    seq: int
    event: Event | None = None
    user_data: Pairs | None = None
    gone: bool = False
    outcome: Outcome | None = None
    """Of an effect whose outcome is told by an event (an instruction for a digital interaction)."""


@dataclass(frozen=True, slots=True)
class Selected:
    """The tenant answered a routing request: an agent, or a reason why there is none."""

    submit_id: str
    reason: str = ""
    message: str = ""
    destination: str = ""
    agent_id: str = ""
    token: str = ""
    details: Mapping[str, Json] = field(default_factory=dict)
    user_data: Pairs = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """An effect was carried out, or failed for a reason."""

    effect_id: str
    reason: str = ""
    message: str = ""
    data: Json = None


@dataclass(frozen=True, slots=True)
class Due:
    """The time of a timer has come."""

    effect_id: str


@dataclass(frozen=True, slots=True)
class External:
    """Somebody sends the document an event. The same request id again has no effect."""

    event: Event
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class FromChild:
    """An invoked session sends its parent an event, has ended with it, or has routed the call (no event)."""

    child: str
    invokeid: str
    event: Event | None = None
    ended: bool = False
    routed: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """The session is to leave its states and end: its invocation was cancelled, or somebody terminates it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks the session something. The same id again gets the same answer."""

    request_id: str
    name: str
    data: Json = None


Input = (
    Ask
    | Begin
    | Loaded
    | Stepped
    | Broke
    | CallNews
    | Selected
    | Outcome
    | Due
    | External
    | FromChild
    | Cancel
)
