"""What a call thread wants done. Pure data, not changed once made; the engine carries effects out in order.

Timers are not effects: they are part of the state (`CallThread.timers`), and the engine looks at `next_deadline` after
each step. So a restored thread has all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.sip_cluster.calls import Attributes, Refusal, Told
from services.sip_cluster.tlib import EventType


@dataclass(slots=True)
class Save:
    """Write the snapshot; what follows in the list waits for it (at most the store's budget)."""


@dataclass(slots=True)
class AskDialPlan:
    """Ask what a number means; answered by Resolved or Unresolved."""

    ask: int


@dataclass(slots=True)
class SendInvite:
    """Call a contact. Body empty: without an offer (RFC 3725)."""

    leg: int
    uri: str
    path: tuple[str, ...]
    callee: str
    """Number for the To header."""
    caller: str
    """Number for the From header."""
    trunk: bool
    body: bytes
    body_type: str


@dataclass(slots=True)
class CancelInvite:
    """CANCEL a call of ours."""

    leg: int


@dataclass(slots=True)
class SendAck:
    """Acknowledge the 2xx of a leg, with the answer when it made the offer."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class SendBye:
    """End a confirmed dialog; answered by ByeDone."""

    leg: int


@dataclass(slots=True)
class AnswerBye:
    """200 to the BYE of a leg."""

    leg: int


@dataclass(slots=True)
class Trying:
    """100 with our To tag: from now on a proxy sends the INVITE to the slot's owner, should this node die."""

    leg: int


@dataclass(slots=True)
class Alert:
    """180, or 183 with a session description, to a caller."""

    leg: int
    status: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class Accept:
    """200 to a caller."""

    leg: int
    body: bytes
    body_type: str


@dataclass(slots=True)
class Reject:
    """A final failure to a caller."""

    leg: int
    status: int


@dataclass(slots=True)
class PassOffer:
    """Re-INVITE with the other leg's offer; answered by OfferAnswered or OfferRefused."""

    leg: int
    body: bytes
    body_type: str


@dataclass(slots=True)
class AcceptOffer:
    """200 to a re-INVITE."""

    leg: int
    body: bytes
    body_type: str


@dataclass(slots=True)
class RefuseOffer:
    """A final failure to a re-INVITE."""

    leg: int
    status: int


@dataclass(slots=True)
class AckOffer:
    """Acknowledge the 2xx of our re-INVITE."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class PassInfo:
    """INFO with this body."""

    leg: int
    body: bytes
    body_type: str


@dataclass(slots=True)
class SendTalk:
    """NOTIFY with Event: talk."""

    leg: int


@dataclass(slots=True)
class Publish:
    """Tell an event: the next of the thread's stream."""

    kind: EventType
    seq: int
    attributes: Attributes
    cause: str
    request: str = ""
    """Request that asked for it."""


@dataclass(slots=True)
class PublishRequest:
    """Put a user-data request into the thread's stream."""

    seq: int
    payload: bytes
    cause: str
    request: str


@dataclass(slots=True)
class PublishForeign:
    """Tell an event that a client composed (DistributeEvent); attributes are put over what it set."""

    kind: int
    seq: int
    event: bytes
    attributes: Attributes
    cause: str
    request: str


@dataclass(slots=True)
class Reply:
    """The outcome of a request."""

    request: str
    outcome: Told | Refusal


@dataclass(slots=True)
class Count:
    """Something worth a metric: "abandoned", "default_routing", "overflow"."""

    what: str


@dataclass(slots=True)
class Forget:
    """The thread has finished: delete its snapshot and let go of it."""

    saved: bool


Effect: TypeAlias = (
    Save
    | AskDialPlan
    | SendInvite
    | CancelInvite
    | SendAck
    | SendBye
    | AnswerBye
    | Trying
    | Alert
    | Accept
    | Reject
    | PassOffer
    | AcceptOffer
    | RefuseOffer
    | AckOffer
    | PassInfo
    | SendTalk
    | Publish
    | PublishRequest
    | PublishForeign
    | Reply
    | Count
    | Forget
)
