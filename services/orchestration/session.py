"""The state of a session, and the one place where events wait for its interpreter. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from services.orchestration.effects import Effect, Pairs, Run, Stored, Timer
from services.orchestration.replies import Asked
from services.orchestration.scxml import Event, Json

MAX_INBOX = 1000
"""Events waiting for one session; one more fails it."""
MAX_PENDING = 1000
"""Effects under way for one session; one more fails it."""
REMEMBERED_REQUESTS = 64
"""Ids of requests (events from outside) that a session remembers."""


class Exceeded(Exception):
    """The session has more events or effects than it may: it fails with this text."""


class Phase(Enum):
    """Life of a session."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    """No more application: the call is on its way to a default destination, or what it asked for is withdrawn."""
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Call:
    """What a session is for: a call, of which a child session has its parent's. Times are UTC microseconds."""

    session_id: str
    tenant: str
    call_thread_id: str
    call_uuid: str
    conn_id: int
    """0: there is no call (a session started by a request, or for a digital interaction)."""
    route_point: str
    ani: str
    dnis: str
    since_us: int
    urls: tuple[str, ...]
    parameters: Pairs = ()
    default_dns: tuple[str, ...] = ()
    traceparent: str = ""
    start_at_us: int = 0
    """When a session is to begin that was asked for later; 0 at once."""
    interaction_id: str = ""
    """The digital interaction; empty for calls."""
    server: str = ""
    """The digital media server that takes instructions."""
    facts: Json = None
    """Attributes of the digital interaction, as `interaction.added` tells them."""
    key: str = ""
    """What the session's HTTP address proves itself with (location.py)."""

    @property
    def interaction(self) -> str:
        """What the document knows its interaction by; empty when there is none."""
        return self.interaction_id or (f"{self.conn_id:016x}" if self.conn_id else "")


@dataclass(frozen=True, slots=True)
class Parent:
    """The session that invoked this one."""

    session_id: str
    invokeid: str
    depth: int = 1
    """1 for the child of a session that nobody invoked."""


@dataclass
class Session:
    """State of a session; all of it is stored but `busy`."""

    call: Call
    phase: Phase = Phase.STARTING
    url: str = ""
    document_hash: str = ""
    compiler_version: str = ""
    snapshot: bytes = b""
    configuration: tuple[str, ...] = ()
    step: int = 0
    inbox: list[Event] = field(default_factory=list)
    pending: dict[str, Stored] = field(default_factory=dict)
    user_data: Pairs = ()
    last_seq: int = 0
    routed: bool = False
    gone: bool = False
    default_attempt: int = 0
    problem: str = ""
    outcome: str = "finished"
    parent: Parent | None = None
    params: Json = None
    """Values for the document's top-level data (namelist and params of the invocation)."""
    children: dict[str, str] = field(default_factory=dict)
    """invokeid -> session id of invoked sessions that live."""
    cancelled: bool = False
    """Its invocation was cancelled, or somebody terminates it: it leaves its states and says nothing to its parent."""
    requests: list[str] = field(default_factory=list)
    """Request ids of events from outside that were taken, oldest first."""
    asked: Asked = field(default_factory=dict)
    """Requests from outside that wait for an answer, and the last ones answered."""
    excluded: tuple[str, ...] = ()
    """Agents that routing requests leave out."""
    busy: bool = False
    """A step is under way in this process."""

    @property
    def id(self) -> str:
        """Session id."""
        return self.call.session_id

    @property
    def resting(self) -> bool:
        """Nothing but the outside, or the time, can make it go on."""
        if self.phase is Phase.STARTING:
            return bool(self.pending) and all(isinstance(effect, Timer) for effect in self.pending.values())
        return self.phase is Phase.RUNNING and not self.busy and not self.inbox and bool(self.snapshot)


def post(session: Session, event: Event) -> list[Effect]:
    """Puts an event into the inbox, platform events before all others; the next step when none is under way.
    Raises Exceeded."""
    if session.phase not in (Phase.STARTING, Phase.RUNNING) or session.cancelled:
        return []
    if len(session.inbox) >= MAX_INBOX:
        raise Exceeded(f"more than {MAX_INBOX} events wait")
    at = len(session.inbox)
    if event.type == "platform":
        at = 1 if _processing(session) else 0
        while at < len(session.inbox) and session.inbox[at].type == "platform":
            at += 1
    session.inbox.insert(at, event)
    return next_step(session)


def next_step(session: Session) -> list[Effect]:
    """What the interpreter does next: nothing while it is busy or has nothing to do."""
    if session.busy or session.phase is not Phase.RUNNING:
        return []
    run_id = f"{session.id}/{session.step}"
    if not session.snapshot:
        run = Run(run_id, "start")
    elif session.cancelled:
        run = Run(run_id, "terminate")
    elif session.inbox:
        run = Run(run_id, "step", session.inbox[0])
    else:
        return []
    session.busy = True
    return [run]


def cancel(session: Session) -> list[Effect]:
    """The session is to leave its states and end; waiting events are forgotten."""
    if session.phase is not Phase.RUNNING or session.cancelled:
        return []
    session.cancelled = True
    del session.inbox[1 if _processing(session) else 0 :]
    return next_step(session)


def _processing(session: Session) -> bool:
    """Whether the first event of the inbox is being processed."""
    return session.busy and bool(session.snapshot) and bool(session.inbox)
