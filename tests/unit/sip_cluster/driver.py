"""Drives a call thread by hand: inputs in, effects and events out, with virtual time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import (
    CallThread,
    Contact,
    DeviceType,
    Identity,
    Purpose,
    Resolution,
)
from services.sip_cluster.machine import handle
from services.sip_cluster.tlib import EventType

E = TypeVar("E")

CONN_ID = 0x1000_0000_0000_0001
CALL_UUID = "0197d3a0-0000-8400-8000-000000000001"
OFFER = b"v=0\r\no=caller\r\n"
ANSWER = b"v=0\r\no=callee\r\n"
SDP = "application/sdp"
START = 1_750_000_000_000_000

CALL_BASED = {
    EventType.CALL_CREATED,
    EventType.CALL_DELETED,
    EventType.CALL_PARTY_ADDED,
    EventType.CALL_PARTY_STATE,
    EventType.CALL_PARTY_DELETED,
}


def extension(dn: str, **changes: object) -> Resolution:
    """An extension of tenant t1 with one phone."""
    values: dict[str, object] = {
        "tenant": "t1",
        "type": DeviceType.EXTENSION,
        "dn": dn,
        "contacts": (Contact(f"sip:{dn}@10.0.0.{len(dn)}:5060"),),
    }
    return Resolution(**{**values, **changes})  # type: ignore[arg-type]


def outside(number: str, **changes: object) -> Resolution:
    """A number behind the trunk 9000."""
    values: dict[str, object] = {
        "tenant": "t1",
        "type": DeviceType.EXTERNAL,
        "dn": "9000",
        "number": number,
        "contacts": (Contact(f"sip:{number}@10.9.0.1:5060"),),
    }
    return Resolution(**{**values, **changes})  # type: ignore[arg-type]


def route_point(dn: str, **changes: object) -> Resolution:
    """A route point."""
    return Resolution(**{"tenant": "t1", "type": DeviceType.ROUTE_POINT, "dn": dn, **changes})  # type: ignore[arg-type]


class Driver:
    """A thread, its clock, and everything it has done."""

    def __init__(self, dialled: str = "1002", from_number: str = "1001") -> None:
        identity = Identity(CONN_ID, CALL_UUID, 7)
        self.thread = CallThread(CALL_UUID, 17, START, "", identity, dialled=dialled, from_number=from_number)
        self.now = START
        self.done: list[do.Effect] = []
        self.last: list[do.Effect] = []
        self.requests = 0
        self.log: list[tuple[inputs.Input, int]] = []

    # -- inputs ------------------------------------------------------------------------------------

    def put(self, fact: inputs.Input) -> list[do.Effect]:
        """One input; its effects."""
        self.log.append((fact, self.now))
        self.last = handle(self.thread, fact, self.now)
        self.done += self.last
        return self.last

    def wait(self, seconds: float) -> list[do.Effect]:
        """Moves the clock and lets timers run out."""
        self.now += int(seconds * 1_000_000)
        return self.put(inputs.TimeReached())

    def arrive(self, offer: bytes = OFFER) -> None:
        """INVITE."""
        self.put(inputs.InviteReceived(offer, SDP if offer else ""))

    def resolve(self, resolution: Resolution) -> list[do.Effect]:
        """Answers the oldest open question."""
        return self.put(inputs.Resolved(next(iter(self.thread.asks)), resolution))

    def resolve_purpose(self, purpose: Purpose, resolution: Resolution) -> list[do.Effect]:
        """Answers the open question of this purpose."""
        number = next(ask.id for ask in self.thread.asks.values() if ask.purpose is purpose)
        return self.put(inputs.Resolved(number, resolution))

    def call(self, destination: Resolution, *, caller_dn: str = "1001", number: str = "") -> None:
        """INVITE and the dial plan's answer: from DN `caller_dn`, or from outside when it is empty."""
        self.arrive()
        changed = replace(
            destination, caller_dn=caller_dn, caller_number=number or caller_dn or "+15551", caller_trunk=""
        )
        self.resolve(changed)

    def ring(self, leg: int | None = None, status: int = 180, body: bytes = b"") -> list[do.Effect]:
        """180 with a To tag of the newest leg that is called."""
        return self.put(inputs.Progressed(leg or self.called, status, True, body, SDP if body else ""))

    def answer(self, leg: int | None = None, body: bytes = ANSWER) -> list[do.Effect]:
        """200 of the newest leg that is called."""
        return self.put(inputs.Answered(leg or self.called, body, SDP))

    def fail(self, status: int, leg: int | None = None) -> list[do.Effect]:
        """A final failure of the newest leg that is called."""
        return self.put(inputs.Failed(leg or self.called, status))

    def ack(self, body: bytes = b"") -> list[do.Effect]:
        """ACK of the caller."""
        return self.put(inputs.Acked(self.caller, body, SDP if body else ""))

    def request(self, dn: str = "8000", conn_id: int = CONN_ID) -> inputs.Request:
        """A request with the next id: r1, r2 …"""
        self.requests += 1
        number = f"r{self.requests}"
        return inputs.Request(
            number, "desk", self.requests, hashlib.sha256(number.encode()).digest(), dn, conn_id
        )

    def route(self, destination: str, **changes: object) -> list[do.Effect]:
        """RouteCall from route point 8000."""
        return self.put(inputs.RouteCall(self.request(), destination, **changes))  # type: ignore[arg-type]

    # -- what was done -----------------------------------------------------------------------------

    @property
    def caller(self) -> int:
        """The leg of the INVITE that made the call."""
        return 1

    @property
    def called(self) -> int:
        """The newest leg that we called."""
        return max(effect.leg for effect in self.done if isinstance(effect, do.SendInvite))

    def effects(self, kind: type[E]) -> list[E]:
        """All effects of a kind so far."""
        return [effect for effect in self.done if isinstance(effect, kind)]

    def latest(self, kind: type[E]) -> list[E]:
        """Effects of a kind of the last input."""
        return [effect for effect in self.last if isinstance(effect, kind)]

    def names(self, *, everything: bool = False) -> list[str]:
        """Events so far as "Ringing@1002"; the call-based ones too when `everything`."""
        return [
            name(effect)
            for effect in self.done
            if isinstance(effect, do.Publish) and (everything or effect.kind not in CALL_BASED)
        ]

    def event(self, wanted: str) -> do.Publish:
        """The newest event of that name."""
        return [effect for effect in self.effects(do.Publish) if name(effect) == wanted][-1]

    def sequence(self) -> list[int]:
        """Sequence numbers in the order told."""
        return [e.seq for e in self.done if isinstance(e, do.Publish | do.PublishRequest | do.PublishForeign)]

    def statuses(self) -> list[int]:
        """Failures sent to the caller."""
        return [effect.status for effect in self.effects(do.Reject)]


def name(effect: do.Publish) -> str:
    """ "Ringing@1002", "CallCreated"."""
    words = "".join(word.capitalize() for word in effect.kind.name.split("_"))
    dn = effect.attributes.get("this_dn")
    return f"{words}@{dn}" if dn else words
