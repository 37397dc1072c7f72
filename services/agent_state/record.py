"""Agents and DNs as contract messages: for storage and for queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from voice.agent_state.v1 import agent_pb2
from voice.agent_state.v1.agent_pb2 import RequestOutcome
from voice.record.v1.agent_pb2 import (
    AgentAsk,
    AgentCall,
    AgentOutcome,
    AgentRecord,
    DeviceRecord,
    ThreadMark,
)
from voice.tlib.v1.enums_pb2 import AgentWorkMode
from voice.type.v1.kv_pb2 import KvList

from services.agent_state.agent import Agent, Desk
from services.agent_state.device import Device
from services.agent_state.effects import Asked, Grant
from services.agent_state.machine import OnCall, Phase, Session, WorkMode
from services.agent_state.memory import Memory
from services.agent_state.reservation import Ask, Held

FORMAT: Final = 1


def message(agent: Agent, now_us: int) -> agent_pb2.Agent:
    """The agent as clients see it."""
    session, held = agent.session, agent.reservation.held
    made = agent_pb2.Agent(
        tenant=session.tenant,
        agent_id=session.agent_id,
        dn=session.dn,
        place=session.place,
        user_name=session.user_name,
        phase=agent_pb2.AgentPhase.ValueType(session.phase),
        work_mode=AgentWorkMode.ValueType(session.work_mode),
        phase_since_us=session.phase_since_us,
        login_us=session.login_us,
        queues=session.queues,
        calls=sorted(session.calls),
        dnd=session.dnd,
        in_service=session.in_service,
        wrapup_until_us=session.wrapup_until_us,
        session_id=session.session_id,
        last_seq=session.last_seq,
    )
    if session.reasons:
        made.reasons.CopyFrom(KvList.FromString(session.reasons))
    if held is not None and held.until_us > now_us:
        made.reservation.CopyFrom(reservation(held))
    return made


def reservation(held: Held | Grant) -> agent_pb2.Reservation:
    """A reservation as clients see it."""
    return agent_pb2.Reservation(
        token=held.token,
        client=held.client,
        priority=held.priority,
        until_us=held.until_us,
        request_id=held.request_id,
    )


def pack(agent: Agent) -> bytes:
    """The agent as it is stored."""
    session, queue = agent.session, agent.reservation
    return AgentRecord(
        format=FORMAT,
        agent=message(agent, 0),
        calls=[
            AgentCall(conn_id=c, business=on.business, established=on.established, wrapup_s=on.wrapup_s)
            for c, on in session.calls.items()
        ],
        wrapup_s=session.wrapup_s,
        threads=[ThreadMark(call_thread_id=t, seq=s, time_us=at) for t, s, at in agent.threads.items()],
        outcomes=_outcomes(agent.outcomes),
        window_until_us=queue.window_until_us,
        asks=[_ask(ask, agent.askers.get(ask.request_id)) for ask in queue.asks],
    ).SerializeToString()


def unpack(raw: bytes) -> Agent:
    """A stored agent. DecodeError for what is no record."""
    record = AgentRecord.FromString(raw)
    known = record.agent
    session = Session(
        tenant=known.tenant,
        agent_id=known.agent_id,
        phase=Phase(known.phase),
        work_mode=WorkMode(known.work_mode),
        reasons=known.reasons.SerializeToString() if known.HasField("reasons") else b"",
        dn=known.dn,
        place=known.place,
        user_name=known.user_name,
        session_id=known.session_id,
        queues=tuple(known.queues),
        wrapup_s=record.wrapup_s,
        phase_since_us=known.phase_since_us,
        login_us=known.login_us,
        wrapup_until_us=known.wrapup_until_us,
        calls={c.conn_id: OnCall(c.business, c.established, c.wrapup_s) for c in record.calls},
        in_service=known.in_service,
        dnd=known.dnd,
        last_seq=known.last_seq,
    )
    agent = Agent(session)
    if known.HasField("reservation"):
        held = known.reservation
        agent.reservation.held = Held(held.token, held.client, held.priority, held.until_us, held.request_id)
    agent.reservation.window_until_us = record.window_until_us
    for ask in record.asks:
        agent.reservation.asks.append(
            Ask(ask.request_id, ask.client, ask.priority, ask.duration_ms * 1000, ask.only_if_ready)
        )
        if ask.reply_queue:
            agent.askers[ask.request_id] = Asked(
                ask.input_id, ask.request_id, ask.client, ask.reference_id, ask.reply_queue
            )
    for mark in record.threads:
        agent.threads.put(mark.call_thread_id, mark.seq, mark.time_us)
    _remember(agent.outcomes, record.outcomes)
    return agent


def pack_desk(desk: Desk) -> bytes:
    """The DN as it is stored."""
    device = desk.device
    return DeviceRecord(
        format=FORMAT,
        tenant=device.tenant,
        dn=device.dn,
        in_service=device.in_service,
        dnd=device.dnd,
        agent_id=device.agent_id,
        last_seq=device.last_seq,
        outcomes=_outcomes(desk.outcomes),
        notified_us=device.notified_us,
    ).SerializeToString()


def unpack_desk(raw: bytes) -> Desk:
    """A stored DN. DecodeError for what is no record."""
    record = DeviceRecord.FromString(raw)
    device = Device(
        tenant=record.tenant,
        dn=record.dn,
        in_service=record.in_service,
        dnd=record.dnd,
        agent_id=record.agent_id,
        last_seq=record.last_seq,
        notified_us=record.notified_us,
    )
    desk = Desk(device)
    _remember(desk.outcomes, record.outcomes)
    return desk


def _ask(ask: Ask, asked: Asked | None) -> AgentAsk:
    return AgentAsk(
        request_id=ask.request_id,
        client=ask.client,
        priority=ask.priority,
        duration_ms=ask.duration_us // 1000,
        only_if_ready=ask.only_if_ready,
        reply_queue=asked.reply_queue if asked else "",
        reference_id=asked.reference_id if asked else 0,
        input_id=asked.input_id if asked else "",
    )


def _outcomes(memory: Memory[object]) -> list[AgentOutcome]:
    found = []
    for input_id, known in memory.items():
        stored = AgentOutcome(input_id=input_id, time_us=known.time_us)
        if isinstance(known.outcome, Grant):
            stored.reservation.CopyFrom(reservation(known.outcome))
        elif isinstance(known.outcome, RequestOutcome):
            stored.outcome.CopyFrom(known.outcome)
        found.append(stored)
    return found


def _remember(memory: Memory[object], stored: Iterable[AgentOutcome]) -> None:
    for known in stored:
        outcome: object = None
        if known.HasField("reservation"):
            r = known.reservation
            outcome = Grant(r.request_id, r.token, r.client, r.priority, r.until_us)
        elif known.HasField("outcome"):
            outcome = known.outcome
        memory.put(known.input_id, outcome, known.time_us)
