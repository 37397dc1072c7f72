"""What the machines ask for. The app stores it with the state, then performs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

Value = str | int | bytes


class EventKind(IntEnum):
    """Events that agents and devices have; historic numbers (voice.tlib.v1.MessageType)."""

    AGENT_LOGIN = 73
    AGENT_LOGOUT = 74
    AGENT_READY = 75
    AGENT_NOT_READY = 76
    DND_ON = 77
    DND_OFF = 78
    AGENT_RESERVED = 128
    DN_OUT_OF_SERVICE = 147
    DN_BACK_IN_SERVICE = 148
    QUEUE_LOGOUT = 152


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for something, and where the answer goes."""

    input_id: str
    """Id of the log entry."""
    request_id: str = ""
    client: str = ""
    reference_id: int = 0
    reply_queue: str = ""
    """Empty when nobody waits."""


@dataclass(frozen=True, slots=True)
class Publish:
    """An event of the agent's (or DN's) stream, the next in it."""

    seq: int
    kind: EventKind
    attributes: Mapping[str, Value]
    """Fields of voice.tlib.v1.Event; "reasons" and "extensions" are encoded lists."""
    cause: str
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A call event put into the agent's stream at its place among the agent's own events."""

    seq: int
    origin: object


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request."""

    asked: Asked
    reason: str = ""
    """Name of voice.error.v1.Reason when it failed."""
    message: str = ""
    event: Publish | None = None
    """The event that tells the success."""


@dataclass(frozen=True, slots=True)
class EndLogin:
    """The login session is over: Config forgets it."""

    agent_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class TellDevice:
    """The agent works on the DN now, or does not any more."""

    dn: str
    agent_id: str
    present: bool


@dataclass(frozen=True, slots=True)
class TellAgent:
    """The state of the agent's DN."""

    agent_id: str
    in_service: bool
    dnd: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """A reservation request has won."""

    request_id: str
    token: str
    client: str
    priority: int
    until_us: int


@dataclass(frozen=True, slots=True)
class Deny:
    """A reservation request has lost."""

    request_id: str
    reason: str
    message: str
    until_us: int = 0
    """When the reservation ends that stands in the way: UTC microseconds."""


Effect = Publish | Copy | Answer | EndLogin | TellDevice | TellAgent | Grant | Deny
