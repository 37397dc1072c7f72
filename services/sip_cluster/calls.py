"""The state of a call thread: calls, parties, SIP legs, open questions, requests, timers. Pure data.

A thread is what has one sequence of events, one SIP slot and one snapshot. Times are UTC microseconds, deadlines
absolute, so that an heir goes on with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from services.sip_cluster.tlib import CallType, DnRole, EventType, Why
from services.sip_cluster.user_data import KvList

Attributes = dict[str, "int | str | KvList"]
"""Attributes of an event by their names in voice.tlib.v1.Event."""


class PartyKind(IntEnum):
    """What a party is."""

    PHONE = 1
    """A DN of the tenant with a phone: events are told for it."""
    EXTERNAL = 2
    """Somebody behind a trunk: only call-based events mention it."""
    ROUTE_POINT = 3
    """A route point on which the call waits; it has no leg."""


class Phase(IntEnum):
    """How far a party is: voice.sip_cluster.v1.PartyPhase."""

    DIALING = 1
    RINGING = 2
    QUEUED = 3
    ESTABLISHED = 4
    HELD = 5
    RELEASED = 6


class LegState(IntEnum):
    """How far the SIP dialog of a leg is; the moves are in `legs.TABLE`."""

    INVITED = 1
    """INVITE received, nothing sent but perhaps 100."""
    ALERTED = 2
    """INVITE received, 180 or 183 sent."""
    ACCEPTED = 3
    """INVITE received, 2xx sent, no ACK yet."""
    ENDING = 4
    """As ACCEPTED, and BYE follows as soon as the ACK is here (RFC 3261 §15)."""
    CALLING = 5
    """INVITE sent, nothing heard."""
    EARLY = 6
    """INVITE sent, provisional response received."""
    CANCELLING = 7
    """INVITE sent, CANCEL sent or about to be."""
    ANSWERED = 8
    """INVITE sent, 2xx received, ACK withheld until there is an answer to its offer."""
    ESTABLISHED = 9
    """2xx and ACK exchanged."""
    RELEASING = 10
    """BYE sent."""
    ENDED = 11
    """Nothing more to come."""


class Purpose(IntEnum):
    """Why the dial plan was asked."""

    ARRIVAL = 1
    """A new INVITE."""
    MAKE_DN = 2
    """MakeCall: contacts of the DN that calls."""
    MAKE_DESTINATION = 3
    """MakeCall: its destination."""
    ROUTE = 4
    """RouteCall."""
    DEFAULT = 5
    """Default routing of a call that nobody routed."""
    OVERFLOW = 6
    """Where to go instead of a destination that did not answer."""


class TimerKind(IntEnum):
    """What a timer ends; its subject is a party, a call or an ask."""

    NO_ANSWER = 1
    """Party: it has rung long enough."""
    ROUTING = 2
    """Route point party: nobody has routed the call."""
    DURATION = 3
    """Thread (subject 0): the longest life of a call."""
    WITHHELD_ACK = 4
    """Party that made a call by request: its 2xx can be left unacknowledged no longer."""


Timer = tuple[TimerKind, int]


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a device can be reached."""

    uri: str
    path: tuple[str, ...] = ()
    q: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Numbers of a new call, made by the caller of the machine."""

    conn_id: int
    call_uuid: str
    call_id: int


@dataclass(slots=True)
class Renegotiation:
    """An offer inside an established dialog on its way to the other leg and back."""

    origin: int
    """Leg it came from."""
    target: int
    """Leg it was passed on to."""
    answered: bool = False
    """The target's 2xx was passed on; its ACK waits for the origin's."""


@dataclass(slots=True)
class Leg:
    """One SIP dialog of ours; tags, CSeq and transactions are kept by the engine under the same id."""

    id: int
    party: int
    """Party it belongs to; 0 when it only has to be brought to its end."""
    inbound: bool
    state: LegState
    contact: str = ""
    """URI that was called."""
    offer: bytes = b""
    """Session description this leg offered; empty when it made none."""
    offer_type: str = ""
    dialog: bool = False
    """A dialog exists (a response with a To tag was sent or received)."""
    early_media: bool = False
    """A provisional response with a session description was passed to it."""


@dataclass(slots=True)
class Party:
    """Somebody in a call, or being called into it."""

    id: int
    dn: str
    kind: PartyKind
    role: DnRole
    phase: Phase
    agent_id: str = ""
    place: str = ""
    queue: str = ""
    """Route point that distributed the call to this party (ThisQueue)."""
    trunk: str = ""
    legs: list[int] = field(default_factory=list)
    announced: bool = False
    """CallPartyAdded was told."""
    contacts: tuple[tuple[Contact, ...], ...] = ()
    """Groups of contacts not tried yet; those of a group are called at once."""
    status: int = 0
    """Best failure so far."""
    no_answer_s: int = 30
    overflow: str = ""
    """Where the call goes when this party cannot be reached."""
    can_talk: bool = False
    """Its phone answers on NOTIFY talk."""
    answer_request: str = ""
    """Request that waits for it to answer."""
    wrap_up: str = ""
    """WrapUpTime for its EventEstablished; empty for none."""

    @property
    def monitored(self) -> bool:
        """Events are told for this party."""
        return self.kind is not PartyKind.EXTERNAL


@dataclass(slots=True)
class Route:
    """A call's stay on a route point, kept after the call was diverted so that it can come back."""

    party: int
    """The route point's party; 0 once diverted."""
    dn: str
    default_dns: tuple[str, ...]
    timeout_us: int
    target: int = 0
    """Party being tried, or the one the call was diverted to; 0: none."""
    no_answer_s: int = 0
    """Ring time that the RouteCall asked for; 0: that of the destination."""
    reservation_token: str = ""
    request: str = ""
    """RouteCall being carried out; empty in default routing."""
    route_type: int = 0
    divert_on_ringing: bool = True
    defaulting: bool = False
    """Default routing has begun: it goes on until a default DN is reached or all were tried."""
    tried: tuple[str, ...] = ()
    """Default DNs tried."""
    rotation: int = 0
    """Where in the list default routing began."""
    returns: int = 0
    """How often the call came back after it was diverted."""
    reasons: KvList = ()
    extensions: KvList = ()

    @property
    def waiting(self) -> bool:
        """The call is on the route point now."""
        return self.party != 0


@dataclass(slots=True)
class Call:
    """A call as T-Library knows it."""

    conn_id: int
    call_uuid: str
    call_id: int
    call_type: CallType
    ani: str
    dnis: str
    user_data: KvList = ()
    parties: dict[int, Party] = field(default_factory=dict)
    origination: int = 0
    """Party that made the call."""
    destination: str = ""
    """Number of the present destination, for OtherDN before there is such a party."""
    route: Route | None = None
    network_reached: bool = False
    redirections: tuple[str, ...] = ()
    """Destinations tried by overflow: none is tried twice."""


@dataclass(slots=True)
class Ask:
    """An open question to the dial plan."""

    id: int
    purpose: Purpose
    destination: str
    caller_dn: str = ""
    is_agent: bool = False
    conn_id: int = 0
    """Call it is asked for; 0 before there is one."""


@dataclass(slots=True)
class Told:
    """An event as it was told: the stored outcome of a request."""

    kind: EventType
    seq: int
    attributes: Attributes
    foreign: bytes = b""
    """Encoded voice.tlib.v1.Event of DistributeEvent; attributes are then empty."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not carried out."""

    why: Why
    text: str
    field: str = ""
    """Request field, for INVALID_ATTRIBUTE."""


@dataclass(slots=True)
class RequestRecord:
    """A request that was taken: its outcome once there is one."""

    id: str
    client: str
    reference_id: int
    fingerprint: bytes
    outcome: Told | Refusal | None = None


@dataclass(slots=True)
class Making:
    """What MakeCall has learnt so far."""

    request: str
    dn: str
    destination: str
    user_data: KvList = ()
    target: Resolution | None = None
    """The destination, kept until the DN's own phone has answered."""
    own: Resolution | None = None


class DeviceType(IntEnum):
    """voice.dial_plan.v1.DeviceType."""

    UNKNOWN = 0
    EXTENSION = 1
    ROUTE_POINT = 2
    AGENT = 3
    EXTERNAL = 4
    VOICEMAIL = 5
    VIRTUAL = 6


@dataclass(slots=True)
class Resolution:
    """What a number means: the dial plan's answer. Not changed once made (frozen would triple its cost)."""

    tenant: str
    type: DeviceType
    dn: str
    number: str = ""
    caller_dn: str = ""
    caller_number: str = ""
    caller_trunk: str = ""
    caller_agent: str = ""
    contacts: tuple[Contact, ...] = ()
    agent_id: str = ""
    place: str = ""
    default_dns: tuple[str, ...] = ()
    no_answer_s: int = 30
    overflow: str = ""
    dnd: bool = False
    divert_on_ringing: bool = True
    can_talk: bool = False
    routing_timeout_ms: int = 0
    wrap_up: str = ""


@dataclass(slots=True)
class CallThread:
    """All calls that belong together, and the one sequence of their events."""

    id: str
    """CallThreadID: CallUUID of the first call."""
    slot: int
    created_us: int
    traceparent: str
    identity: Identity
    """Numbers for the first call, used once the tenant is known."""
    tenant: str = ""
    seq: int = 0
    """Last sequence number told."""
    calls: dict[int, Call] = field(default_factory=dict)
    """By ConnID; a call leaves when CallDeleted is told."""
    legs: dict[int, Leg] = field(default_factory=dict)
    """Legs that have not ended."""
    asks: dict[int, Ask] = field(default_factory=dict)
    requests: dict[str, RequestRecord] = field(default_factory=dict)
    timers: dict[Timer, int] = field(default_factory=dict)
    making: Making | None = None
    renegotiation: Renegotiation | None = None
    next_id: int = 1
    """For parties, legs and asks."""
    saved: bool = False
    """A snapshot was asked for: there is something to delete at the end."""
    from_number: str = ""
    dialled: str = ""

    def new_id(self) -> int:
        """A number for a party, leg or ask; never used twice in a thread."""
        number = self.next_id
        self.next_id = number + 1
        return number

    @property
    def finished(self) -> bool:
        """Nothing can happen any more: no call, no leg, no open question."""
        return not (self.calls or self.legs or self.asks)

    @property
    def next_deadline(self) -> int:
        """When the next timer runs out, UTC microseconds; 0 when none runs."""
        return min(self.timers.values(), default=0)

    def party_of(self, leg: Leg) -> tuple[Call, Party] | None:
        """The party a leg belongs to, with its call; None for a leg that only ends."""
        for call in self.calls.values():
            party = call.parties.get(leg.party)
            if party is not None:
                return call, party
        return None
