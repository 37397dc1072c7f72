"""What can happen to a call thread. Pure data, not changed once made (not frozen: that triples their cost).

Bodies are session descriptions as they came.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from services.sip_cluster.calls import Resolution
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.user_data import KvList


@dataclass(slots=True)
class InviteReceived:
    """A new call arrives: first input of its thread."""

    offer: bytes
    offer_type: str


@dataclass(slots=True)
class Cancelled:
    """The caller cancelled the INVITE of this leg."""

    leg: int


@dataclass(slots=True)
class Acked:
    """The ACK of our 2xx; body is its answer to an offer of ours, usually empty."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class AckMissing:
    """Our 2xx was never acknowledged (RFC 3261 §13.3.1.4)."""

    leg: int


@dataclass(slots=True)
class Progressed:
    """A provisional response from 101 to 199; early says that it made an early dialog."""

    leg: int
    status: int
    early: bool = False
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class Answered:
    """A 2xx to our INVITE."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class Failed:
    """A final response from 300 to our INVITE; 408 for silence, 503 for a transport failure."""

    leg: int
    status: int


@dataclass(slots=True)
class ByeReceived:
    """The other side hung up; its BYE is answered once that is stored."""

    leg: int


@dataclass(slots=True)
class ByeDone:
    """Our BYE was answered, or never will be."""

    leg: int


@dataclass(slots=True)
class Offered:
    """A re-INVITE."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class OfferAnswered:
    """A 2xx to our re-INVITE."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class OfferRefused:
    """A final failure of our re-INVITE."""

    leg: int
    status: int


@dataclass(slots=True)
class InfoReceived:
    """An INFO in the dialog, answered by the engine."""

    leg: int
    body: bytes = b""
    body_type: str = ""


@dataclass(slots=True)
class LegLost:
    """An heir cannot go on with this leg: what is stored of it cannot be used."""

    leg: int


@dataclass(slots=True)
class CallsEnded:
    """The stream has CallDeleted of these calls: a former owner told their end behind its last snapshot."""

    conn_ids: Collection[int]


@dataclass(slots=True)
class Resolved:
    """The dial plan's answer to an ask."""

    ask: int
    resolution: Resolution


@dataclass(slots=True)
class Unresolved:
    """The dial plan said no, or nothing. `tenant` and `trunk` are what is known of the source nevertheless."""

    ask: int
    outcome: Outcome
    text: str
    tenant: str = ""
    trunk: str = ""


@dataclass(slots=True)
class TalkRefused:
    """The phone would not be told to answer (NOTIFY talk was refused or not answered)."""

    leg: int
    status: int


@dataclass(slots=True)
class TimeReached:
    """A deadline may have passed. `rotation` is a running number of default routings on this node, by which several
    default DNs are taken in turn."""

    rotation: int = 0


@dataclass(slots=True)
class RouterLost:
    """No orchestration node is left: who waits for routing goes to its default DNs."""

    rotation: int = 0


@dataclass(slots=True)
class Drop:
    """End the thread's calls now (shutdown after the drain time)."""


# -- requests of T-Library ----------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    """What every request has."""

    id: str
    client: str
    reference_id: int
    fingerprint: bytes
    """Digest of the contents: equal ids need equal contents."""
    dn: str
    conn_id: int
    reasons: KvList = ()
    extensions: KvList = ()


@dataclass(slots=True)
class MakeCall:
    """RequestMakeCall: first input of its thread."""

    request: Request
    tenant: str
    destination: str
    user_data: KvList = ()


@dataclass(slots=True)
class AnswerCall:
    """RequestAnswerCall."""

    request: Request


@dataclass(slots=True)
class ReleaseCall:
    """RequestReleaseCall."""

    request: Request


@dataclass(slots=True)
class ClearCall:
    """RequestClearCall."""

    request: Request


@dataclass(slots=True)
class RouteCall:
    """RequestRouteCall."""

    request: Request
    destination: str
    route_type: int = 0
    agent_id: str = ""
    reservation_token: str = ""
    no_answer_s: int = 0
    user_data: KvList = ()
    rotation: int = 0


@dataclass(slots=True)
class AttachUserData:
    """RequestAttachUserData; payload is the encoded voice.tlib.v1.Request as it goes to the stream."""

    request: Request
    user_data: KvList
    payload: bytes


@dataclass(slots=True)
class UpdateUserData:
    """RequestUpdateUserData."""

    request: Request
    user_data: KvList
    payload: bytes


@dataclass(slots=True)
class DeleteUserData:
    """RequestDeleteUserData."""

    request: Request
    payload: bytes


@dataclass(slots=True)
class DeletePair:
    """RequestDeletePair."""

    request: Request
    key: str
    payload: bytes


@dataclass(slots=True)
class DistributeEvent:
    """RequestDistributeEvent: kind is its number, event the encoded voice.tlib.v1.Event."""

    request: Request
    kind: int
    event: bytes


Input: TypeAlias = (
    InviteReceived
    | Cancelled
    | Acked
    | AckMissing
    | Progressed
    | Answered
    | CallsEnded
    | Failed
    | ByeReceived
    | ByeDone
    | Offered
    | OfferAnswered
    | OfferRefused
    | InfoReceived
    | LegLost
    | Resolved
    | Unresolved
    | TalkRefused
    | TimeReached
    | RouterLost
    | Drop
    | MakeCall
    | AnswerCall
    | ReleaseCall
    | ClearCall
    | RouteCall
    | AttachUserData
    | UpdateUserData
    | DeleteUserData
    | DeletePair
    | DistributeEvent
)
RequestInput: TypeAlias = (
    MakeCall
    | AnswerCall
    | ReleaseCall
    | ClearCall
    | RouteCall
    | AttachUserData
    | UpdateUserData
    | DeleteUserData
    | DeletePair
    | DistributeEvent
)
