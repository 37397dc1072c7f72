"""A session's state as the stored contract message, and back."""

from __future__ import annotations

import json

from voice.orchestration.v1.orchestration_service_pb2 import Session as SessionView
from voice.orchestration.v1.orchestration_service_pb2 import SessionOrigin, SessionPhase
from voice.record.v1.session_pb2 import AskedRequest, PendingEffect, SessionRecord
from voice.type.v1.kv_pb2 import KvList, KvPair

from services.orchestration.effects import Pairs, Submit, Timer, from_json, to_json
from services.orchestration.replies import Answer
from services.orchestration.scxml import Event, Json
from services.orchestration.scxml.effects import event_to_json
from services.orchestration.session import Call, Parent, Phase, Session

_PHASES = {
    Phase.STARTING: SessionPhase.SESSION_PHASE_STARTING,
    Phase.RUNNING: SessionPhase.SESSION_PHASE_RUNNING,
    Phase.ENDING: SessionPhase.SESSION_PHASE_FINISHED,
    Phase.OVER: SessionPhase.SESSION_PHASE_FINISHED,
}


def to_record(session: Session) -> SessionRecord:
    """The record of a session."""
    call = session.call
    record = SessionRecord(
        session=to_view(session),
        call_uuid=call.call_uuid,
        ani=call.ani,
        dnis=call.dnis,
        urls=call.urls,
        parameters=to_kv(call.parameters),
        default_dns=call.default_dns,
        traceparent=call.traceparent,
        compiler_version=session.compiler_version,
        snapshot=session.snapshot,
        inbox_json=[json.dumps(event_to_json(event)) for event in session.inbox],
        user_data=to_kv(session.user_data),
        last_seq=session.last_seq,
        routed=session.routed,
        gone=session.gone,
        default_attempt=session.default_attempt,
        params_json="" if session.params is None else json.dumps(session.params),
        children=session.children,
        cancelled=session.cancelled,
        request_ids=session.requests,
        problem=session.problem,
        excluded_agents=session.excluded,
        server=call.server,
        facts_json="" if call.facts is None else json.dumps(call.facts),
        http_key=call.key,
    )
    record.asked.extend(_asked(request_id, answer) for request_id, answer in session.asked.items())
    if session.parent is not None:
        record.parent_session_id = session.parent.session_id
        record.parent_invokeid, record.depth = session.parent.invokeid, session.parent.depth
    for effect in session.pending.values():
        kind, body = to_json(effect)
        due = effect.due_us if isinstance(effect, Timer) else 0
        record.pending.append(PendingEffect(id=effect.id, kind=kind, body_json=json.dumps(body), due_us=due))
    return record


def to_view(session: Session) -> SessionView:
    """What is shown of a session."""
    call = session.call
    phase = _PHASES[session.phase]
    if session.outcome == "failed":
        phase = SessionPhase.SESSION_PHASE_FAILED
    return SessionView(
        session_id=call.session_id,
        tenant=call.tenant,
        call_thread_id=call.call_thread_id,
        conn_id=call.conn_id,
        route_point=call.route_point,
        url=session.url,
        document_hash=session.document_hash,
        phase=phase,
        configuration=session.configuration,
        steps=session.step,
        started_us=call.since_us,
        pending=list(session.pending),
        origin=_origin(call),
        interaction_id=call.interaction_id,
        start_at_us=call.start_at_us,
    )


def _origin(call: Call) -> SessionOrigin.ValueType:
    if call.interaction_id:
        return SessionOrigin.SESSION_ORIGIN_INTERACTION
    return SessionOrigin.SESSION_ORIGIN_UNSPECIFIED if call.conn_id else SessionOrigin.SESSION_ORIGIN_API


def from_record(record: SessionRecord) -> Session:
    """The session of a record. Raises ValueError or KeyError for one that this version cannot read."""
    view = record.session
    call = Call(
        session_id=view.session_id,
        tenant=view.tenant,
        call_thread_id=view.call_thread_id,
        call_uuid=record.call_uuid,
        conn_id=view.conn_id,
        route_point=view.route_point,
        ani=record.ani,
        dnis=record.dnis,
        since_us=view.started_us,
        urls=tuple(record.urls),
        parameters=from_kv(record.parameters),
        default_dns=tuple(record.default_dns),
        traceparent=record.traceparent,
        start_at_us=view.start_at_us,
        interaction_id=view.interaction_id,
        server=record.server,
        facts=json.loads(record.facts_json) if record.facts_json else None,
        key=record.http_key,
    )
    ending = view.phase in (SessionPhase.SESSION_PHASE_FINISHED, SessionPhase.SESSION_PHASE_FAILED)
    starting = view.phase == SessionPhase.SESSION_PHASE_STARTING
    parent = Parent(record.parent_session_id, record.parent_invokeid, record.depth)
    session = Session(
        call=call,
        phase=Phase.ENDING if ending else Phase.STARTING if starting else Phase.RUNNING,
        url=view.url,
        document_hash=view.document_hash,
        compiler_version=record.compiler_version,
        snapshot=record.snapshot,
        configuration=tuple(view.configuration),
        step=view.steps,
        inbox=[Event(**json.loads(text)) for text in record.inbox_json],
        user_data=from_kv(record.user_data),
        last_seq=record.last_seq,
        routed=record.routed,
        gone=record.gone,
        default_attempt=record.default_attempt,
        outcome="failed" if view.phase == SessionPhase.SESSION_PHASE_FAILED else "finished",
        problem=record.problem,
        parent=parent if record.parent_session_id else None,
        params=json.loads(record.params_json) if record.params_json else None,
        children=dict(record.children),
        cancelled=record.cancelled,
        requests=list(record.request_ids),
        excluded=tuple(record.excluded_agents),
        asked={asked.request_id: _answer(asked) for asked in record.asked},
    )
    for pending in record.pending:
        session.pending[pending.id] = from_json(pending.kind, json.loads(pending.body_json))
    return session


def _asked(request_id: str, answer: Answer | None) -> AskedRequest:
    if answer is None:
        return AskedRequest(request_id=request_id)
    return AskedRequest(
        request_id=request_id,
        status=answer.status,
        content_type=answer.content_type,
        content=answer.content,
    )


def _answer(asked: AskedRequest) -> Answer | None:
    """Status 0: not answered yet."""
    return Answer(asked.status, asked.content_type, asked.content) if asked.status else None


def waiting_requests(session: Session) -> list[Submit]:
    """Routing requests that wait for an answer."""
    return [effect for effect in session.pending.values() if isinstance(effect, Submit)]


def to_kv(pairs: Pairs) -> KvList:
    """Key-value pairs as the contract has them."""
    return KvList(pairs=[_pair(key, value) for key, value in pairs])


def _pair(key: str, value: Json) -> KvPair:
    if isinstance(value, list):
        return KvPair(key=key, list_value=to_kv(tuple((k, v) for k, v in value)))
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return KvPair(key=key, int_value=value)
    return KvPair(key=key, string_value=str(value))


def from_kv(data: KvList) -> Pairs:
    """Key-value pairs as a session has them; binary values become hexadecimal text."""
    return tuple((pair.key, _value(pair)) for pair in data.pairs)


def _value(pair: KvPair) -> Json:
    kind = pair.WhichOneof("value")
    if kind == "list_value":
        return [[key, value] for key, value in from_kv(pair.list_value)]
    if kind == "int_value":
        return pair.int_value
    if kind == "binary_value":
        return pair.binary_value.hex()
    return pair.string_value
