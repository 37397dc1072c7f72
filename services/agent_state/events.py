"""Contract messages as inputs of the machines, and their effects as contract messages."""

from __future__ import annotations

from typing import Final

from voice.agent_state.v1.agent_pb2 import AgentInput, RequestOutcome
from voice.error.v1.reason_pb2 import Reason
from voice.tlib.v1.enums_pb2 import AgentWorkMode, CallState
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.type.v1.kv_pb2 import KvList, KvPair

from mesh.identifiers import event_id
from services.agent_state.effects import Answer, Asked, Copy, Deny, EventKind, Grant, Publish
from services.agent_state.machine import UNTIMED, CallEvent, CallStep, Session, WorkMode

_M = MessageType
_CALL_STEPS: Final = {
    _M.MESSAGE_TYPE_EVENT_RINGING: CallStep.BEGAN,
    _M.MESSAGE_TYPE_EVENT_DIALING: CallStep.BEGAN,
    _M.MESSAGE_TYPE_EVENT_ESTABLISHED: CallStep.ANSWERED,
    _M.MESSAGE_TYPE_EVENT_PARTY_CHANGED: CallStep.MOVED,
    _M.MESSAGE_TYPE_EVENT_RELEASED: CallStep.ENDED,
    _M.MESSAGE_TYPE_EVENT_ABANDONED: CallStep.ENDED,
    _M.MESSAGE_TYPE_EVENT_DIVERTED: CallStep.ENDED,
    _M.MESSAGE_TYPE_EVENT_HELD: CallStep.OTHER,
    _M.MESSAGE_TYPE_EVENT_RETRIEVED: CallStep.OTHER,
}


class Address:
    """What envelopes say of their publisher."""

    def __init__(self, region: str, node: str) -> None:
        self.region = region
        self.node = node


def asked(entry: AgentInput) -> Asked:
    """Who asked for what is in a log entry."""
    if entry.WhichOneof("body") != "request":
        return Asked(entry.input_id)
    body = getattr(entry.request, entry.request.WhichOneof("body") or "")
    return Asked(entry.input_id, body.request_id, entry.request.client, body.reference_id, entry.reply_queue)


def call_event(envelope: EventEnvelope) -> CallEvent | None:
    """An event of a call on the agent's DN; None for one that says nothing to an agent."""
    event = envelope.event
    step = _CALL_STEPS.get(event.event_type)
    if step is None:
        return None
    return CallEvent(
        step,
        event.conn_id,
        event.previous_conn_id,
        business=bool(event.this_queue),
        wrapup_s=_wrap_up_time(event.extensions),
        no_answer=event.call_state == CallState.CALL_STATE_NO_ANSWER,
        origin=envelope,
    )


def _wrap_up_time(extensions: KvList) -> int:
    """After-call work in seconds as EventEstablished tells it; -1 when it does not."""
    for pair in extensions.pairs:
        if pair.key == "WrapUpTime":
            if pair.WhichOneof("value") == "int_value":
                return max(0, min(pair.int_value, UNTIMED))
            if pair.string_value.isdecimal():
                return min(int(pair.string_value), UNTIMED)
            return UNTIMED if pair.string_value == "untimed" else -1
    return -1


def work_mode(value: AgentWorkMode.ValueType) -> WorkMode:
    """A work mode; one that this release does not know is UNKNOWN."""
    return WorkMode(value) if value in WorkMode._value2member_map_ else WorkMode.UNKNOWN


def event(publish: Publish, tenant: str) -> Event:
    """The event of a machine's effect."""
    made = Event(
        event_type=MessageType.ValueType(publish.kind),
        event_sequence_number=publish.seq,
        customer_id=tenant,
    )
    for name, value in publish.attributes.items():
        if name == "reasons" and isinstance(value, bytes):
            made.reasons.ParseFromString(value)
        elif name == "wrap_up_time" and isinstance(value, bytes):
            made.extensions.CopyFrom(KvList(pairs=[_wrap_up_pair(value.decode())]))
        else:
            setattr(made, name, value)
    if publish.asked is not None:
        made.reference_id = publish.asked.reference_id
    return made


def _wrap_up_pair(text: str) -> KvPair:
    if text.isdecimal():
        return KvPair(key="WrapUpTime", int_value=int(text))
    return KvPair(key="WrapUpTime", string_value=text)


def published(
    publish: Publish, tenant: str, stream_key: str, time_us: int, traceparent: str, address: Address
) -> EventEnvelope:
    """The envelope of a machine's event; its epoch is filled in when it is sent."""
    envelope = _envelope(tenant, stream_key, publish.seq, time_us, traceparent, address)
    envelope.cause = publish.cause
    envelope.event.CopyFrom(event(publish, tenant))
    envelope.event.server = address.node
    envelope.event.time_in_secs = time_us // 1_000_000
    envelope.event.time_in_usecs = time_us % 1_000_000
    if publish.asked is not None and publish.asked.request_id:
        envelope.requester.client = publish.asked.client
        envelope.requester.reference_id = publish.asked.reference_id
        envelope.requester.request_id = publish.asked.request_id
    return envelope


def copied(copy: Copy, tenant: str, stream_key: str, address: Address) -> EventEnvelope:
    """A call event in the agent's stream. `cause` names the original."""
    origin = copy.origin
    assert isinstance(origin, EventEnvelope)
    envelope = _envelope(tenant, stream_key, copy.seq, origin.time_us, origin.traceparent, address)
    envelope.call_thread_id = origin.call_thread_id
    envelope.cause = f"call:{origin.event_id}"
    envelope.event.CopyFrom(origin.event)
    if origin.HasField("requester"):
        envelope.requester.CopyFrom(origin.requester)
    return envelope


def _envelope(
    tenant: str, stream_key: str, seq: int, time_us: int, traceparent: str, address: Address
) -> EventEnvelope:
    return EventEnvelope(
        event_id=event_id(stream_key, seq),
        tenant=tenant,
        stream_key=stream_key,
        seq=seq,
        time_us=time_us,
        region=address.region,
        node=address.node,
        traceparent=traceparent,
    )


def outcome(answer: Answer, tenant: str) -> RequestOutcome:
    """The outcome of a request."""
    made = RequestOutcome(
        request_id=answer.asked.request_id,
        tenant=tenant,
        reason=Reason.Value(answer.reason) if answer.reason else Reason.REASON_UNSPECIFIED,
        message=answer.message,
    )
    if answer.event is not None:
        made.event.CopyFrom(event(answer.event, tenant))
    return made


def reserved(decided: Grant | Deny, asked: Asked, session: Session) -> Answer:
    """The outcome of a reservation request that came through the log: EventAgentReserved for its requester alone,
    with the token that RouteCall presents in its Extensions. It is in no stream: whoever read it there could route."""
    if isinstance(decided, Deny):
        return Answer(asked, decided.reason, decided.message)
    attributes = {"this_dn": session.dn, "agent_id": session.agent_id, "place": session.place}
    told = Publish(0, EventKind.AGENT_RESERVED, attributes, "request:ReserveAgent", asked)
    return Answer(asked, event=told)


def token_extensions(decided: Grant) -> KvList:
    """Extensions of EventAgentReserved."""
    return KvList(
        pairs=[
            KvPair(key="ReservationToken", string_value=decided.token),
            KvPair(key="ReservedUntil", int_value=decided.until_us),
        ]
    )
