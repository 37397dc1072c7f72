"""From contract messages to what the router knows: agent records, agent events, call events, requests, answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from voice.agent_state.v1.agent_pb2 import Agent, AgentPhase
from voice.error.v1.reason_pb2 import Reason
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest, TargetType
from voice.tenant.v1.routing_pb2 import Target as TargetMessage
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.validation import REQUEST_ID
from services.tenant.agents import AgentView, Change, Presence
from services.tenant.effects import Found, NotFound
from services.tenant.inputs import Request
from services.tenant.targets import Target, TargetError, TargetKind, from_designation

MAX_REQUEST_ID = 116
"""Characters: asks for agents have the request's id and a number."""
CLIENT = "tenant"
"""Name under which routers of tenants reserve."""
COPY = "call:"
"""Beginning of the cause of a call event's copy in an agent's stream (docs/decisions/0053)."""

_READY = frozenset({AgentPhase.AGENT_PHASE_READY, AgentPhase.AGENT_PHASE_BUSY_READY})
_ABSENT = frozenset({AgentPhase.AGENT_PHASE_UNSPECIFIED, AgentPhase.AGENT_PHASE_NULL})
_KINDS = {
    TargetType.TARGET_TYPE_AGENT: TargetKind.AGENT,
    TargetType.TARGET_TYPE_AGENT_GROUP: TargetKind.AGENT_GROUP,
    TargetType.TARGET_TYPE_SKILL: TargetKind.SKILL,
    TargetType.TARGET_TYPE_PLACE: TargetKind.PLACE,
}
_TYPES = {kind: number for number, kind in _KINDS.items()}
_SHORT = {TargetKind.AGENT: "A", TargetKind.AGENT_GROUP: "GA", TargetKind.SKILL: "GA", TargetKind.PLACE: "AP"}

_PRESENCE = {
    MessageType.MESSAGE_TYPE_EVENT_AGENT_LOGIN: Presence.NOT_READY,
    MessageType.MESSAGE_TYPE_EVENT_AGENT_READY: Presence.READY,
    MessageType.MESSAGE_TYPE_EVENT_AGENT_NOT_READY: Presence.NOT_READY,
    MessageType.MESSAGE_TYPE_EVENT_AGENT_LOGOUT: Presence.LOGGED_OUT,
}
_DEVICE = {
    MessageType.MESSAGE_TYPE_EVENT_DND_ON: ("dnd", True),
    MessageType.MESSAGE_TYPE_EVENT_DND_OFF: ("dnd", False),
    MessageType.MESSAGE_TYPE_EVENT_DN_OUT_OF_SERVICE: ("in_service", False),
    MessageType.MESSAGE_TYPE_EVENT_DN_BACK_IN_SERVICE: ("in_service", True),
}
_JOINED = frozenset(
    {
        MessageType.MESSAGE_TYPE_EVENT_RINGING,
        MessageType.MESSAGE_TYPE_EVENT_DIALING,
        MessageType.MESSAGE_TYPE_EVENT_ESTABLISHED,
    }
)
_LEFT = frozenset(
    {
        MessageType.MESSAGE_TYPE_EVENT_RELEASED,
        MessageType.MESSAGE_TYPE_EVENT_ABANDONED,
        MessageType.MESSAGE_TYPE_EVENT_DIVERTED,
    }
)
_MOVED = MessageType.MESSAGE_TYPE_EVENT_PARTY_CHANGED


def agent_view(agent: Agent) -> AgentView:
    """A snapshot of an agent as the router sees it."""
    absent = agent.phase in _ABSENT
    presence = Presence.READY if agent.phase in _READY else Presence.NOT_READY
    return AgentView(
        agent_id=agent.agent_id,
        user_name=agent.user_name,
        dn=agent.dn,
        place=agent.place,
        presence=Presence.LOGGED_OUT if absent else presence,
        ready_since_us=agent.phase_since_us,
        calls=frozenset(agent.calls),
        dnd=agent.dnd,
        in_service=agent.in_service,
        reserved_until_us=agent.reservation.until_us,
        reserved_by=agent.reservation.request_id if agent.reservation.client == CLIENT else "",
    )


def agent_change(envelope: EventEnvelope, on_dn: Callable[[str], str]) -> Change | None:
    """What an event of an agent's or a DN's stream says; `on_dn` gives the agent on a DN, "" for nobody. None when it says
    nothing."""
    event = envelope.event
    if envelope.cause.startswith(COPY):
        return _left_by_copy(event)
    agent_id = event.agent_id or on_dn(event.this_dn)
    if not agent_id:
        return None
    presence = _PRESENCE.get(event.event_type)
    if presence is Presence.LOGGED_OUT:
        return Change(agent_id, presence=presence, dn="")
    if presence is not None:
        return Change(agent_id, presence=presence, dn=event.this_dn or None, place=event.place or None)
    device = _DEVICE.get(event.event_type)
    if device is None:
        return None
    name, value = device
    return Change(agent_id, dnd=value) if name == "dnd" else Change(agent_id, in_service=value)


def call_change(event: Event, on_dn: Callable[[str], str]) -> Change | None:
    """What a call event says about the agent on ThisDN."""
    agent_id = event.agent_id or on_dn(event.this_dn)
    if not agent_id:
        return None
    if event.event_type in _JOINED:
        return Change(agent_id, call_joined=event.conn_id)
    if event.event_type in _LEFT:
        return Change(agent_id, call_left=event.conn_id)
    if event.event_type == _MOVED and event.previous_conn_id not in (0, event.conn_id):
        return Change(agent_id, call_joined=event.conn_id, call_left=event.previous_conn_id)
    return None


def _left_by_copy(event: Event) -> Change | None:
    """What the copy of a call event in the agent's own stream says: an agent whose snapshot still had a call that was over
    by then hears of the end here alone. Beginnings are taken from the calls' streams, which are ahead of this one."""
    if not event.agent_id or event.event_type not in _LEFT:
        return None
    return Change(event.agent_id, call_left=event.conn_id)


def request_of(message: RouteRequest, received_us: int) -> Request:
    """The request of a message. Raises TargetError for what can be no request."""
    if REQUEST_ID.fullmatch(message.request_id) is None or len(message.request_id) > MAX_REQUEST_ID:
        raise TargetError(
            f"request_id: must match {REQUEST_ID.pattern} and have at most {MAX_REQUEST_ID} characters"
        )
    if not 1 <= len(message.targets) <= 15:
        raise TargetError(f"targets: 1 to 15 are allowed, not {len(message.targets)}")
    return Request(
        request_id=message.request_id,
        targets=tuple(target_of(target) for target in message.targets),
        priority=message.priority,
        age_us=message.age_us or received_us,
        submitted_us=received_us,
        timeout_ms=message.timeout_ms,
        excluded=frozenset(message.excluded_agents),
    )


def target_of(message: TargetMessage) -> Target:
    """The target of a message. Raises TargetError."""
    if message.type == TargetType.TARGET_TYPE_UNSPECIFIED and message.expression:
        return from_designation(message.expression)
    kind = _KINDS.get(message.type)
    if kind is None or not 1 <= len(message.expression) <= 1024:
        raise TargetError("target: needs a type and an expression of 1 to 1024 characters")
    return Target(kind, message.expression.removeprefix("?:").strip(), message.timeout_ms)


def target_message(target: Target) -> TargetMessage:
    """The message of a target."""
    return TargetMessage(type=_TYPES[target.kind], expression=target.expression, timeout_ms=target.after_ms)


def answer_message(request: RouteRequest, answer: Found | NotFound) -> RouteAnswer:
    """What Orchestration is told. The id of the wait in the virtual queue follows from the request's id."""
    vq_id = str(uuid.uuid5(uuid.NAMESPACE_OID, request.request_id)) if request.virtual_queue else ""
    message = RouteAnswer(
        request_id=request.request_id,
        tenant=request.tenant,
        session_id=request.session_id,
        call_thread_id=request.call_thread_id,
        vq_id=vq_id,
    )
    if isinstance(answer, NotFound):
        message.reason = Reason.REASON_INVALID_ATTRIBUTE if answer.invalid else Reason.REASON_NO_TARGET
        cancelled = "the request was withdrawn" if answer.cancelled else ""
        message.message = answer.invalid or cancelled or "nobody became available in time"
        return message
    agent = answer.agent
    message.agent_id, message.dn, message.place = agent.agent_id, agent.dn, agent.place
    message.user_name, message.reservation_token = agent.user_name, answer.token
    message.reserved_until_us = answer.until_us
    message.target.CopyFrom(target_message(answer.target))
    message.user_data.CopyFrom(_target_data(request, answer, vq_id))
    return message


def _target_data(request: RouteRequest, found: Found, vq_id: str) -> KvList:
    """What a routed call is told about its target (domain facts §2.1, step 6)."""
    target, agent = found.target, found.agent
    prefix = "?:" if target.kind is TargetKind.SKILL else ""
    requested = f"{prefix}{target.expression}@.{_SHORT[target.kind]}"
    rows = [
        ("RTargetAgentSelected", agent.agent_id),
        ("RTargetPlaceSelected", agent.place),
        ("RTargetObjectSelected", target.expression),
        ("RTargetTypeSelected", _SHORT[target.kind]),
        ("RTargetRequested", requested),
        ("RRequestedSkillCombination", target.expression if target.kind is TargetKind.SKILL else ""),
        ("RTenant", request.tenant),
        ("RVQID", vq_id),
        ("RStrategyName", request.session_id),
    ]
    return KvList(pairs=[KvPair(key=key, string_value=value) for key, value in rows if value])
