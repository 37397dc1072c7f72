"""Envelopes of a call thread as inputs of the machine."""

from __future__ import annotations

from dataclasses import dataclass

from voice.tlib.v1.enums_pb2 import CallState, CallType, DnRole
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_pb2 import Event
from voice.tlib.v1.message_type_pb2 import MessageType
from voice.tlib.v1.request_pb2 import Request
from voice.type.v1 import kv_pb2

from mesh.identifiers import event_id
from services.call_state.closing import SYSTEM_ERROR, End
from services.call_state.machine import Kind, Thread, Told
from services.call_state.user_data import Change, KvList, UserDataChange


@dataclass(frozen=True, slots=True)
class Address:
    """What envelopes say of their publisher."""

    region: str
    node: str


_KINDS = {kind.value: kind for kind in Kind}


def told(envelope: EventEnvelope) -> Told:
    """What the fold needs of an envelope."""
    if envelope.WhichOneof("body") == "request":
        conn_id, change = _change(envelope.request)
        return Told(
            envelope.seq, envelope.time_us, None, conn_id=conn_id, change=change, epoch=envelope.epoch
        )
    event = envelope.event
    return Told(
        seq=envelope.seq,
        time_us=envelope.time_us,
        kind=_KINDS.get(event.event_type),
        conn_id=event.conn_id,
        previous_conn_id=event.previous_conn_id,
        call_uuid=event.call_uuid,
        call_type=event.call_type,
        call_state=event.call_state,
        ani=event.ani,
        dnis=event.dnis,
        this_dn=event.this_dn,
        this_role=event.this_dn_role,
        this_queue=event.this_queue,
        agent_id=event.agent_id,
        other_dn=event.other_dn,
        other_role=event.other_dn_role,
        party_id=event.party_id,
        party_state=event.party_state,
        user_data=pairs(event.user_data) if event.HasField("user_data") else None,
        epoch=envelope.epoch,
    )


def _change(request: Request) -> tuple[int, UserDataChange | None]:
    """ConnID and change of a user-data request; no change for any other request."""
    match request.WhichOneof("body"):
        case "attach_user_data":
            attach = request.attach_user_data
            return attach.conn_id, UserDataChange(Change.ATTACH, pairs(attach.user_data))
        case "update_user_data":
            update = request.update_user_data
            return update.conn_id, UserDataChange(Change.UPDATE, pairs(update.user_data))
        case "delete_pair":
            return request.delete_pair.conn_id, UserDataChange(
                Change.DELETE_PAIR, key=request.delete_pair.key
            )
        case "delete_user_data":
            return request.delete_user_data.conn_id, UserDataChange(Change.DELETE_ALL)
    return 0, None


def pairs(data: kv_pb2.KvList) -> KvList:
    """A list of the contract as tuples."""
    return tuple((pair.key, _value(pair)) for pair in data.pairs)


def _value(pair: kv_pb2.KvPair) -> str | int | bytes | KvList | None:
    match pair.WhichOneof("value"):
        case "string_value":
            return pair.string_value
        case "int_value":
            return pair.int_value
        case "binary_value":
            return pair.binary_value
        case "list_value":
            return pairs(pair.list_value)
    return None


def kv_list(data: KvList) -> kv_pb2.KvList:
    """Tuples as a list of the contract."""
    return kv_pb2.KvList(pairs=[_pair(key, value) for key, value in data])


def _pair(key: str, value: str | int | bytes | KvList | None) -> kv_pb2.KvPair:
    pair = kv_pb2.KvPair(key=key)
    if isinstance(value, str):
        pair.string_value = value
    elif isinstance(value, int):
        pair.int_value = value
    elif isinstance(value, bytes):
        pair.binary_value = value
    elif value is not None:
        pair.list_value.CopyFrom(kv_list(value))
    return pair


def ended(end: End, thread: Thread, seq: int, epoch: int, now_us: int, address: Address) -> EventEnvelope:
    """The envelope of an event that closes an orphan: number `seq` of its thread's stream."""
    call, party = end.call, end.party
    event = Event(
        event_type=MessageType.ValueType(end.kind),
        event_sequence_number=seq,
        customer_id=thread.tenant,
        server=address.node,
        conn_id=call.conn_id,
        call_uuid=call.call_uuid,
        call_type=CallType.ValueType(call.call_type),
        call_thread_id=thread.call_thread_id,
        ani=call.ani,
        dnis=call.dnis,
        call_state=CallState.ValueType(SYSTEM_ERROR),
        time_in_secs=now_us // 1_000_000,
        time_in_usecs=now_us % 1_000_000,
    )
    if call.user_data:
        event.user_data.CopyFrom(kv_list(call.user_data))
    if party is not None:
        event.this_dn, event.this_dn_role = party.dn, DnRole.ValueType(party.role)
        event.agent_id, event.this_queue, event.party_id = party.agent_id, party.queue, party.party_id
    return EventEnvelope(
        event_id=event_id(thread.call_thread_id, seq),
        tenant=thread.tenant,
        stream_key=thread.call_thread_id,
        seq=seq,
        epoch=epoch,
        time_us=now_us,
        region=address.region,
        node=address.node,
        call_thread_id=thread.call_thread_id,
        cause="orphan:call_state",
        event=event,
    )
