"""A live call thread on this node: the pure state, its SIP legs and their requests, what waits to be done."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from voice.dial_plan.v1.dial_plan_service_pb2 import Source
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voicecore.sip import Dialog, Request, Response

from services.sip_cluster.calls import CallThread, Refusal, Told
from services.sip_cluster.effects import Effect

Outcome = tuple[Told | Refusal, "asyncio.Future[None] | None"]
"""Outcome of a request, and the acknowledgement of the event that tells it."""


@dataclass(slots=True, eq=False)
class Signal:
    """The SIP side of a leg."""

    leg: int
    inbound: bool
    local_tag: str
    destination: tuple[str, int] = ("", 0)
    """Where requests outside a route set go."""
    invite: Request | None = None
    """The INVITE of the leg while it may be needed: to answer it, to build the dialog, in a snapshot."""
    invite_txn: int = 0
    response: Response | None = None
    """Last response to the INVITE."""
    answered: bool = False
    """A 2xx to our INVITE was taken; others are of forks and are released."""
    dialog: Dialog | None = None
    bye: Request | None = None
    """BYE of the peer that is not answered yet."""
    bye_txn: int = 0
    offer: Request | None = None
    """Re-INVITE of the peer that is not completed."""
    offer_sent: Request | None = None
    """Re-INVITE of ours that is not completed, as sent."""
    offer_txn: int = 0
    """Transaction of the one or the other."""
    offer_response: Response | None = None
    """Our 2xx to the peer's, or the peer's to ours."""
    detours: int = 0
    """Times a BYE of ours met a proxy that was not there."""
    txns: set[int] = field(default_factory=set)
    """Transactions whose events concern this leg."""


class Use(IntEnum):
    """What a transaction of a leg is for."""

    INVITE = 1
    BYE = 2
    OFFER = 3
    TALK = 4
    INFO = 5


@dataclass(slots=True)
class Sent:
    """A request of ours on its way."""

    to: tuple[str, int]
    looks: int = 0
    """How often it was looked at without an answer (`detour`)."""
    redirected: bool = False
    """It went another way."""


@dataclass(slots=True, eq=False)
class Entry:
    """One thread and everything this node keeps for it."""

    thread: CallThread
    source: Source | None = None
    """Where the INVITE came from, for the dial plan."""
    display: str = ""
    """Display name of the caller."""
    max_forwards: int = 70
    """Hops left for what is sent on behalf of this call."""
    signals: dict[int, Signal] = field(default_factory=dict)
    """By leg id."""
    outbox: deque[Effect | EventEnvelope] = field(default_factory=deque)
    """Effects not carried out yet, events among them as they will be published."""
    saving: bool = False
    """A snapshot is being written: the outbox waits for it."""
    dirty: bool = False
    """Something has changed since the last snapshot."""
    frozen: bool = False
    """The slot is being handed over: nothing more happens to the thread here."""
    calm: asyncio.Future[None] | None = None
    """Of a frozen thread: done when nothing is under way any more."""
    told: asyncio.Future[None] | None = None
    """The last event of the thread: done when it is stored."""
    closed: bool = False
    """The thread is somebody else's, or has finished: nothing has an effect any more."""
    timer: asyncio.TimerHandle | None = None
    armed: int = 0
    """Deadline for which the timer is set, UTC microseconds."""
    waiters: dict[str, list[asyncio.Future[Outcome]]] = field(default_factory=dict)
    """Who waits for the outcome of a request."""
    acknowledgements: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """Last event of a request that is being carried out, until it is in the stream."""
    unprotected: bool = False
    """The last snapshot could not be written in time."""
