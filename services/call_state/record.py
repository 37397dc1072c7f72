"""Threads as contract messages: for storage, for queries, and for the hash that compares two foldings."""

from __future__ import annotations

import hashlib
from typing import Final

from voice.call_state.v1.thread_pb2 import CallThread, ThreadCall, ThreadParty
from voice.record.v1.thread_pb2 import ThreadRecord
from voice.tlib.v1.enums_pb2 import CallState, CallType, DnRole

from services.call_state.events import kv_list, pairs
from services.call_state.machine import Call, Party, Thread

FORMAT: Final = 1


def message(thread: Thread) -> CallThread:
    """The thread as clients see it."""
    return CallThread(
        call_thread_id=thread.call_thread_id,
        tenant=thread.tenant,
        calls=[_call(call) for call in thread.calls],
        last_seq=thread.last_seq,
        created_us=thread.created_us,
        ended_us=thread.ended_us,
        anomalies=thread.missing,
        updated_us=thread.updated_us,
    )


def state_hash(state: CallThread) -> str:
    """SHA-256 of the folded state, hex."""
    return hashlib.sha256(state.SerializeToString(deterministic=True)).hexdigest()


def pack(thread: Thread) -> bytes:
    """The thread as it is stored."""
    return ThreadRecord(format=FORMAT, thread=message(thread), epoch=thread.epoch).SerializeToString()


def unpack(raw: bytes) -> Thread:
    """A stored thread. DecodeError for what is no record."""
    record = ThreadRecord.FromString(raw)
    state = record.thread
    return Thread(
        call_thread_id=state.call_thread_id,
        tenant=state.tenant,
        calls=[_stored_call(call) for call in state.calls],
        last_seq=state.last_seq,
        created_us=state.created_us,
        ended_us=state.ended_us,
        missing=list(state.anomalies),
        updated_us=state.updated_us,
        epoch=record.epoch,
    )


def _call(call: Call) -> ThreadCall:
    return ThreadCall(
        conn_id=call.conn_id,
        call_uuid=call.call_uuid,
        call_type=CallType.ValueType(call.call_type),
        ani=call.ani,
        dnis=call.dnis,
        user_data=kv_list(call.user_data),
        parties=[_party(party) for party in call.parties],
        created_us=call.created_us,
        deleted_us=call.deleted_us,
    )


def _party(party: Party) -> ThreadParty:
    return ThreadParty(
        dn=party.dn,
        role=DnRole.ValueType(party.role),
        party_state=party.state,
        agent_id=party.agent_id,
        queue=party.queue,
        since_us=party.since_us,
        established_us=party.established_us,
        released_us=party.released_us,
        call_state=CallState.ValueType(party.call_state),
        party_id=party.party_id,
        dn_events=party.dn_events,
    )


def _stored_call(call: ThreadCall) -> Call:
    return Call(
        conn_id=call.conn_id,
        call_uuid=call.call_uuid,
        call_type=call.call_type,
        ani=call.ani,
        dnis=call.dnis,
        user_data=pairs(call.user_data),
        parties=[_stored_party(party) for party in call.parties],
        created_us=call.created_us,
        deleted_us=call.deleted_us,
    )


def _stored_party(party: ThreadParty) -> Party:
    return Party(
        dn=party.dn,
        role=party.role,
        state=party.party_state,
        agent_id=party.agent_id,
        queue=party.queue,
        since_us=party.since_us,
        established_us=party.established_us,
        released_us=party.released_us,
        call_state=party.call_state,
        party_id=party.party_id,
        dn_events=party.dn_events,
    )
