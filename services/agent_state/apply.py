"""One input of the log, or one reservation request, applied to the machines of a slot; no I/O, nothing is awaited."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from voice.agent_state.v1.agent_pb2 import AgentInput, DeviceNotification, RequestOutcome
from voice.record.v1.agent_pb2 import AgentAnswer, AgentEffect, EndedLogin
from voice.tlib.v1.request_pb2 import (
    AgentLoginRequest,
    AgentLogoutRequest,
    Request,
    SetDndOffRequest,
    SetDndOnRequest,
)

from mesh.rq.route import agent_stream_key
from services.agent_state import events
from services.agent_state.agent import Agent, Desk
from services.agent_state.configured import NoAnswer
from services.agent_state.device import Device
from services.agent_state.effects import (
    Answer,
    Asked,
    Copy,
    Deny,
    Effect,
    EndLogin,
    Grant,
    Publish,
    TellAgent,
    TellDevice,
)
from services.agent_state.events import Address
from services.agent_state.logins import Refused
from services.agent_state.machine import NO_ANSWER, CallStep, LoggedIn, Session
from services.agent_state.reservation import Ask, Rules
from services.agent_state.slot_state import SlotState, Waiter

INVALID: Final = "REASON_INVALID_ATTRIBUTE"
UNSUPPORTED: Final = "REASON_UNSUPPORTED"

Verdict = LoggedIn | Refused


class Configured(Protocol):
    """What the configuration says about a DN."""

    def registered(self, tenant: str, dn: str, now_us: int) -> bool:
        """Whether a device is registered for it; True when that is not known."""

    def logout_on_unregister(self, tenant: str, agent_id: str, dn: str) -> bool:
        """Option agent-logout-on-unreg."""

    def no_answer_action(self, tenant: str, agent_id: str, dn: str) -> NoAnswer:
        """Option no-answer-action."""


class Applier:
    """Inputs in, changed agents and effects into the slot's `unsaved`."""

    def __init__(
        self, rules: Rules, configured: Configured, address: Address, token: Callable[[], str]
    ) -> None:
        self._rules = rules
        self._configured = configured
        self._address = address
        self._token = token

    # -- inputs ------------------------------------------------------------------------------------------------

    def entry(self, state: SlotState, entry: AgentInput, verdict: Verdict | None, now_us: int) -> bool:
        """An entry of the log. False for one that was dealt with before."""
        kind, _, name = entry.subject.partition(":")
        key = f"{entry.tenant}:{name}"
        if kind == "dn":
            return self._desk_entry(state, key, entry, now_us)
        return self._agent_entry(state, key, entry, verdict, now_us)

    def ask(self, state: SlotState, agent: Agent, ask: Ask, now_us: int) -> None:
        """A reservation request of a call; its outcome goes to the slot's waiters."""
        effects = agent.ask(ask, None, now_us, self._token(), self._rules)
        self._agent_changed(state, agent, effects, "", now_us)

    def cancel(self, state: SlotState, agent: Agent, token: str) -> bool:
        """A reservation is given back."""
        if not agent.reservation.cancel(token):
            return False
        self._agent_changed(state, agent, [], "", 0)
        return True

    def tick(self, state: SlotState, agent: Agent, now_us: int) -> None:
        """Something of the agent is due."""
        effects = agent.tick(now_us, self._token(), self._rules)
        self._agent_changed(state, agent, effects, "", now_us)

    # -- agents ------------------------------------------------------------------------------------------------

    def _agent_entry(
        self, state: SlotState, key: str, entry: AgentInput, verdict: Verdict | None, now_us: int
    ) -> bool:
        agent = state.agents.get(key)
        if agent is None:
            agent = Agent(Session(entry.tenant, entry.subject.partition(":")[2]))
        if self._repeated(state, agent, entry):
            return False
        state.agents[key] = agent
        agent.outcomes.forget_old(now_us)
        asked = events.asked(entry)
        effects = self._agent_effects(agent, entry, asked, verdict, now_us)
        if entry.WhichOneof("body") != "call_event":  # those are known by the marks of their threads
            agent.outcomes.put(entry.input_id, _outcome_in(effects, entry), now_us)
        self._agent_changed(state, agent, effects, entry.traceparent, now_us)
        return True

    def _repeated(self, state: SlotState, agent: Agent, entry: AgentInput) -> bool:
        """Whether the entry was dealt with; whoever waits is told the outcome again."""
        if entry.WhichOneof("body") == "call_event":
            call = entry.call_event
            return not agent.threads.advance(call.stream_key, call.seq, entry.time_us)
        known = agent.outcomes.get(entry.input_id)
        if known is None:
            return False
        self._again(state, known.outcome, entry.reply_queue)
        return True

    def _agent_effects(
        self, agent: Agent, entry: AgentInput, asked: Asked, verdict: Verdict | None, now_us: int
    ) -> list[Effect]:
        match entry.WhichOneof("body"):
            case "call_event":
                return self._call(agent, entry, now_us)
            case "device":
                return self._device_told(agent, entry, asked, now_us)
            case "request":
                return self._request(agent, entry, asked, verdict, now_us)
        return []

    def _request(
        self, agent: Agent, entry: AgentInput, asked: Asked, verdict: Verdict | None, now_us: int
    ) -> list[Effect]:
        request, session = entry.request, agent.session
        match request.WhichOneof("body"):
            case "agent_login":
                if isinstance(verdict, LoggedIn):
                    return session.login(asked, verdict, now_us)
                refused = verdict or Refused(INVALID, "the login was not checked")
                return [Answer(asked, refused.reason, refused.message)]
            case "agent_logout":
                return self._logout(agent, asked, now_us)
            case "agent_ready":
                ready = request.agent_ready
                mode = events.work_mode(ready.work_mode)
                return session.ready(asked, mode, ready.reasons.SerializeToString(), now_us)
            case "agent_not_ready":
                pause = request.agent_not_ready
                mode = events.work_mode(pause.work_mode)
                return session.not_ready(asked, mode, pause.reasons.SerializeToString(), now_us)
            case "reserve_agent":
                wanted = request.reserve_agent
                ask = Ask(
                    wanted.request_id,
                    request.client,
                    wanted.priority,
                    min(wanted.duration_ms, 600_000) * 1000,
                )
                return agent.ask(ask, asked, now_us, self._token(), self._rules)
            case "set_dnd_on" | "set_dnd_off":
                session.device(session.in_service, request.WhichOneof("body") == "set_dnd_on")
                return []
        return [Answer(asked, UNSUPPORTED, "the request is not one for agents")]

    def _logout(
        self, agent: Agent, asked: Asked, now_us: int, cause: str = "request:AgentLogout"
    ) -> list[Effect]:
        was = agent.session.logged_in
        effects = agent.session.logout(asked, now_us, cause)
        return effects + agent.logged_out(now_us) if was else effects

    def _call(self, agent: Agent, entry: AgentInput, now_us: int) -> list[Effect]:
        call = events.call_event(entry.call_event)
        if call is None:
            return []
        held = agent.reservation.held
        shown = _strings(entry.call_event.event.extensions.pairs)
        if call.step is CallStep.BEGAN and held is not None and any(held.known_as(token) for token in shown):
            agent.reservation.cancel(held.token)  # the call that it was for has come
        missed = agent.session.missed(call)
        return agent.session.call(call, now_us) + (self._missed(agent, entry, now_us) if missed else [])

    def _missed(self, agent: Agent, entry: AgentInput, now_us: int) -> list[Effect]:
        """A call offered through a queue rang out: what the option says (domain facts §3.3)."""
        session = agent.session
        match self._configured.no_answer_action(session.tenant, session.agent_id, session.dn):
            case NoAnswer.NOT_READY:
                return session.not_ready_for_missing(now_us)
            case NoAnswer.LOGOUT:
                return self._logout(agent, Asked(entry.input_id), now_us, NO_ANSWER)
        return []

    def _device_told(self, agent: Agent, entry: AgentInput, asked: Asked, now_us: int) -> list[Effect]:
        """The DN's owner tells how it stands; out of service may end the login session (option)."""
        session, told = agent.session, entry.device
        if not session.logged_in or told.dn != session.dn:
            return []
        session.device(told.in_service, session.dnd)
        out = not told.in_service and told.cause in ("unregister", "expired")
        if out and self._configured.logout_on_unregister(session.tenant, session.agent_id, session.dn):
            return self._logout(agent, asked, now_us, f"registrar:{told.cause}")
        return []

    def _agent_changed(
        self, state: SlotState, agent: Agent, effects: Iterable[Effect], traceparent: str, now_us: int
    ) -> None:
        session = agent.session
        key = f"{session.tenant}:{session.agent_id}"
        stream = agent_stream_key(session.tenant, f"agent:{session.agent_id}")
        state.unsaved.agents[key] = agent
        for effect in effects:
            if isinstance(effect, Grant | Deny):
                effect_or_none = self._decided(state, agent, key, effect)
            else:
                effect_or_none = self._stored(effect, session.tenant, stream, traceparent, now_us)
            self._add(state, effect_or_none)

    def _decided(self, state: SlotState, agent: Agent, key: str, decided: Grant | Deny) -> AgentEffect | None:
        """The outcome of a reservation request: to the call that waits, when it is written, and to the queue."""
        waiters = state.waiters.pop((key, decided.request_id), [])
        if waiters:
            state.unsaved.then.append(lambda: _tell(waiters, decided))
        asked = agent.askers.pop(decided.request_id, None)
        if asked is None:
            return None
        answer = events.outcome(events.reserved(decided, asked, agent.session), agent.session.tenant)
        if isinstance(decided, Grant):
            answer.event.extensions.CopyFrom(events.token_extensions(decided))
        if not asked.reply_queue:
            return None
        return AgentEffect(answer=AgentAnswer(queue=asked.reply_queue, outcome=answer))

    # -- DNs ---------------------------------------------------------------------------------------------------

    def _desk_entry(self, state: SlotState, key: str, entry: AgentInput, now_us: int) -> bool:
        desk = state.desks.get(key)
        if desk is None:
            dn = entry.subject.partition(":")[2]
            # A notification tells a change: before it the DN stood the other way.
            known = entry.WhichOneof("body") == "device"
            there = (
                not entry.device.in_service
                if known
                else self._configured.registered(entry.tenant, dn, now_us)
            )
            desk = Desk(Device(entry.tenant, dn, in_service=there))
        known_outcome = desk.outcomes.get(entry.input_id)
        if known_outcome is not None:
            self._again(state, known_outcome.outcome, entry.reply_queue)
            return False
        state.desks[key] = desk
        desk.outcomes.forget_old(now_us)
        effects = _desk_effects(desk.device, entry)
        desk.outcomes.put(entry.input_id, _outcome_in(effects, entry), now_us)
        state.unsaved.desks[key] = desk
        stream = agent_stream_key(entry.tenant, entry.subject)
        for effect in effects:
            if isinstance(effect, TellAgent):
                for forward in _tell_agent(desk.device, effect, entry):
                    self._add(state, AgentEffect(forward=forward))
            else:
                self._add(state, self._stored(effect, entry.tenant, stream, entry.traceparent, now_us))
        return True

    # -- effects as they are stored ----------------------------------------------------------------------------

    def _again(self, state: SlotState, outcome: object, queue: str) -> None:
        if isinstance(outcome, RequestOutcome) and queue:
            self._add(state, AgentEffect(answer=AgentAnswer(queue=queue, outcome=outcome)))

    def _add(self, state: SlotState, effect: AgentEffect | None) -> None:
        if effect is not None:
            effect.id = state.effect_id()
            state.unsaved.effects.append(effect)

    def _stored(
        self, effect: Effect, tenant: str, stream: str, traceparent: str, now_us: int
    ) -> AgentEffect | None:
        match effect:
            case Publish():
                envelope = events.published(effect, tenant, stream, now_us, traceparent, self._address)
                return AgentEffect(publish=envelope)
            case Copy():
                return AgentEffect(publish=events.copied(effect, tenant, stream, self._address))
            case Answer() if effect.asked.reply_queue:
                answer = AgentAnswer(queue=effect.asked.reply_queue, outcome=events.outcome(effect, tenant))
                return AgentEffect(answer=answer)
            case EndLogin():
                ended = EndedLogin(tenant=tenant, agent_id=effect.agent_id, session_id=effect.session_id)
                return AgentEffect(end_login=ended)
            case TellDevice():
                return AgentEffect(forward=_tell_device(tenant, stream, effect, now_us, traceparent))
        return None


def _tell(waiters: Iterable[Waiter], decided: Grant | Deny) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(decided)


def _desk_effects(device: Device, entry: AgentInput) -> list[Effect]:
    asked = events.asked(entry)
    if entry.WhichOneof("body") == "device":
        told = entry.device
        return device.notified(told.in_service, told.cause, told.time_us or entry.time_us)
    match entry.request.WhichOneof("body"):
        case "set_dnd_on":
            return device.set_dnd(asked, True)
        case "set_dnd_off":
            return device.set_dnd(asked, False)
        case "agent_login":
            return device.occupied(entry.request.agent_login.agent_id, True)
        case "agent_logout":
            return device.occupied(entry.request.agent_logout.agent_id, False)
    return [Answer(asked, UNSUPPORTED, "the request is not one for DNs")]


def _tell_device(tenant: str, stream: str, told: TellDevice, now_us: int, traceparent: str) -> AgentInput:
    """Login and logout as the DN's log entry; the id follows from the agent's place in time."""
    request = (
        Request(agent_login=AgentLoginRequest(tenant=tenant, dn=told.dn, agent_id=told.agent_id))
        if told.present
        else Request(agent_logout=AgentLogoutRequest(tenant=tenant, dn=told.dn, agent_id=told.agent_id))
    )
    return AgentInput(
        input_id=f"{stream}/{'on' if told.present else 'off'}/{now_us}",
        tenant=tenant,
        subject=f"dn:{told.dn}",
        time_us=now_us,
        traceparent=traceparent,
        request=request,
    )


def _tell_agent(device: Device, told: TellAgent, entry: AgentInput) -> list[AgentInput]:
    """How the DN stands, as log entries of the agent on it."""
    cause = entry.device.cause if entry.WhichOneof("body") == "device" else "login"
    service = DeviceNotification(dn=device.dn, in_service=told.in_service, time_us=entry.time_us, cause=cause)
    dnd = (
        Request(set_dnd_on=SetDndOnRequest(tenant=device.tenant, dn=device.dn))
        if told.dnd
        else Request(set_dnd_off=SetDndOffRequest(tenant=device.tenant, dn=device.dn))
    )
    inputs = [
        AgentInput(input_id=f"{entry.input_id}~service", device=service),
        AgentInput(input_id=f"{entry.input_id}~dnd", request=dnd),
    ]
    for made in inputs:
        made.tenant, made.subject = device.tenant, f"agent:{told.agent_id}"
        made.time_us, made.traceparent = entry.time_us, entry.traceparent
    return inputs


def _outcome_in(effects: Iterable[Effect], entry: AgentInput) -> RequestOutcome | None:
    """What the one who asked is told; None when nobody asked, or when the outcome comes later."""
    answers = [effect for effect in effects if isinstance(effect, Answer)]
    return events.outcome(answers[0], entry.tenant) if answers else None


def _strings(pairs: Iterable[object]) -> set[str]:
    return {str(getattr(pair, "string_value", "")) for pair in pairs}
