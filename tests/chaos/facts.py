"""What a run leaves behind, as plain values: the only thing the invariants see.

Times are UTC seconds since 1970, as every process of this machine reads its clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CallerCall:
    """A call as its caller saw it (one line of SIPp's log a step)."""

    call_id: str
    tenant: str
    kind: str
    """`routed` (through an application to an agent) or `direct` (to an extension, long, with a re-INVITE)."""
    invited_at: float
    ringing_at: float | None = None
    answered_at: float | None = None
    """2xx received and ACK sent: from here on the call is established."""
    ended_at: float | None = None
    """The caller's own BYE got its 200."""
    refused: int = 0
    """Final status that refused the INVITE; 0 when none did."""
    lost: str = ""
    """What ended an established call otherwise: "bye 481", "dropped"; empty when nothing did."""
    forgotten: bool = False
    """No final response came in the time a caller has patience for."""
    reinvite_refused: int = 0
    """Status that refused its re-INVITE for another reason than glare (491); the call goes on. 0 when none did."""

    @property
    def complete(self) -> bool:
        """Answered, talked, ended by the caller."""
        return self.ended_at is not None


@dataclass(frozen=True)
class PhoneCall:
    """A call as the phone that was called saw it."""

    call_id: str
    tenant: str
    dn: str
    offered_at: float
    established_at: float | None = None
    ended_at: float | None = None
    """BYE received and answered, or CANCEL before the answer."""


@dataclass(frozen=True)
class Claim:
    """One change of a slot's claim in etcd, in the order of revisions."""

    service: str
    slot: str
    owner: str
    """Incarnation; empty when the claim was removed."""
    revision: int
    """Revision of the change: the epoch, when it is a claim."""
    created: int = 0
    """Revision at which the key came into being; equal to `revision` for a claim of a free slot."""
    at: float = 0.0
    """When the watch told it."""


@dataclass(frozen=True)
class StreamEvent:
    """An entry of an event stream as Redis has it at the end."""

    stream: str
    family: str
    """`thread` or `agent`."""
    entry: int
    """Number in the entry's id."""
    seq: int
    epoch: int
    node: str
    """Incarnation of the publisher."""
    tenant: str
    name: str
    """`RINGING`, `CALL_CREATED` …; of a request `REQUEST`."""
    at: float
    event_id: str = ""
    conn_id: int = 0
    agent_id: str = ""
    this_dn: str = ""
    request_id: str = ""
    """Id of the client's request that caused it; empty when none did."""


@dataclass(frozen=True)
class SeenEvent:
    """An event as a client's subscription told it."""

    tenant: str
    stream: str
    seq: int
    event_id: str
    at: float


@dataclass(frozen=True)
class AgentAtEnd:
    """An agent after everything has come to rest."""

    tenant: str
    agent_id: str
    phase: str
    """`READY`, `NOT_READY`, `BUSY_READY` …"""
    calls: tuple[int, ...] = ()
    reserved: bool = False
    expected: str = "READY"
    """Phase the agent was left in by its desk."""


@dataclass(frozen=True)
class SlotAtEnd:
    """A slot as a node says it owns it after everything has come to rest."""

    service: str
    slot: str
    node: str
    epoch: int


@dataclass(frozen=True)
class QueueAtEnd:
    """Entries nobody has acknowledged, after everything has come to rest."""

    queue: str
    depth: int


@dataclass(frozen=True)
class RecordsAtEnd:
    """Snapshots of a slot that are still there after every call is over."""

    key: str
    """Redis key of the hash."""
    names: tuple[str, ...]
    """Its fields: CallThreadIDs and what is left of the call, session ids."""


@dataclass(frozen=True)
class ClientRequest:
    """A request of a client at the edge, sent again under the same id until it was answered."""

    request_id: str
    method: str
    sent_at: float
    answered_at: float | None = None
    outcome: str = ""
    """`ok`, or the name of the reason that refused it."""
    attempts: int = 1
    failures: tuple[str, ...] = ()
    """Codes of the attempts that gave no answer: "UNAVAILABLE" …"""


@dataclass(frozen=True)
class Struck:
    """A fault that was done: when, to what, how long."""

    kind: str
    process: str
    at: float
    until: float

    @property
    def service(self) -> str:
        """Service of the process: "sip_cluster" of "sip_cluster-1.envoy"; "etcd" of "etcd"."""
        return self.process.partition(".")[0].rpartition("-")[0] or self.process


@dataclass
class Facts:
    """All of it."""

    calls: list[CallerCall] = field(default_factory=list)
    phones: list[PhoneCall] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    events: list[StreamEvent] = field(default_factory=list)
    slot_order: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Slot stream ("thread/17") -> (stream, seq) in the order appended, for slots of which nothing was trimmed."""
    seen: list[SeenEvent] = field(default_factory=list)
    agents: list[AgentAtEnd] = field(default_factory=list)
    slots: list[SlotAtEnd] = field(default_factory=list)
    queues: list[QueueAtEnd] = field(default_factory=list)
    records: list[RecordsAtEnd] = field(default_factory=list)
    requests: list[ClientRequest] = field(default_factory=list)
    struck: list[Struck] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Node id -> why it is not ready, long after the last fault."""
    slot_counts: dict[str, int] = field(default_factory=dict)
    """Service -> slots of its family, of which each must have an owner at the end."""


@dataclass(frozen=True)
class Violation:
    """A broken invariant."""

    invariant: str
    subject: str
    """Call-ID, stream, agent … it is about."""
    story: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.subject}: {self.story}"
