"""Inputs of the log applied to a slot: what changes, what follows, what a repeat does."""

from __future__ import annotations

import itertools
from typing import Any

from voice.agent_state.v1.agent_pb2 import AgentInput, DeviceNotification
from voice.error.v1.reason_pb2 import Reason
from voice.record.v1.agent_pb2 import AgentEffect
from voice.tlib.v1.request_pb2 import Request
from voice.type.v1.kv_pb2 import KvList, KvPair

from services.agent_state.apply import Applier, Verdict
from services.agent_state.configured import NoAnswer
from services.agent_state.events import Address
from services.agent_state.logins import Refused
from services.agent_state.machine import LoggedIn, Phase
from services.agent_state.reservation import Ask, Rules
from services.agent_state.slot_state import SlotState
from tests.integration.call_state.story import Story

A, D = "agent:A1", "dn:1001"
LOGIN = LoggedIn("1001", place="P1", user_name="ann", session_id="s1")


class Configured:
    def __init__(self) -> None:
        self.logout = False
        self.no_answer = NoAnswer.NONE

    def registered(self, tenant: str, dn: str, now_us: int) -> bool:
        return True

    def logout_on_unregister(self, tenant: str, agent_id: str, dn: str) -> bool:
        return self.logout

    def no_answer_action(self, tenant: str, agent_id: str, dn: str) -> NoAnswer:
        return self.no_answer


class Slot:
    """A slot and an applier with settings of the test's."""

    def __init__(self, **rules: Any) -> None:
        self.configured = Configured()
        self.state = SlotState(3, 9, {}, {}, "0")
        tokens = (f"token-{n}" for n in itertools.count())
        address = Address("local", "agent_state-0.1")
        self.applier = Applier(Rules(**rules), self.configured, address, lambda: next(tokens))
        self._ids = itertools.count()

    def put(
        self, subject: str, *, ident: str = "", verdict: Verdict | None = None, now: int = 1, **body: Any
    ) -> list[AgentEffect]:
        """Applies an entry; gives the effects it had."""
        entry = AgentInput(
            input_id=ident or f"i{next(self._ids)}",
            tenant="t1",
            subject=subject,
            time_us=now,
            reply_queue="outcomes:fe",
            **body,
        )
        self.state.take()
        self.new = self.applier.entry(self.state, entry, verdict, now)
        return self.state.unsaved.effects

    def request(self, name: str, subject: str = A, **more: Any) -> list[AgentEffect]:
        request = Request(client="desk")
        getattr(request, name).SetInParent()
        getattr(request, name).request_id = "r"
        getattr(request, name).agent_id = "A1"
        return self.put(subject, request=request, **more)

    def ready(self) -> None:
        self.request("agent_login", verdict=LOGIN)
        self.request("agent_ready")


def kinds(effects: list[AgentEffect]) -> list[str]:
    return [effect.WhichOneof("effect") or "" for effect in effects]


def test_a_login_publishes_tells_the_dn_and_answers_in_this_order() -> None:
    effects = Slot().request("agent_login", verdict=LOGIN)
    assert kinds(effects) == ["publish", "publish", "forward", "answer"]
    assert [e.publish.event_id for e in effects[:2]] == ["t1:A1/1", "t1:A1/2"]
    assert effects[2].forward.subject == "dn:1001"
    assert not effects[2].forward.request.agent_login.password
    assert effects[3].answer.outcome.event.event_type == 73
    assert [effect.id for effect in effects] == sorted(effect.id for effect in effects)


def test_a_login_that_config_refuses_changes_nothing() -> None:
    slot = Slot()
    effects = slot.request("agent_login", verdict=Refused("REASON_PASSWORD_MISMATCH", "no"))
    assert kinds(effects) == ["answer"]
    assert effects[0].answer.outcome.reason == Reason.REASON_PASSWORD_MISMATCH
    assert slot.state.agents["t1:A1"].session.phase is Phase.NULL


def test_a_repeat_is_answered_again_and_does_nothing_else() -> None:
    slot = Slot()
    slot.ready()
    first = slot.request("agent_not_ready", ident="same")
    again = slot.request("agent_not_ready", ident="same")
    assert kinds(first) == ["publish", "answer"]
    assert kinds(again) == ["answer"]
    assert again[0].answer.outcome == first[1].answer.outcome
    assert not slot.new


def test_a_call_event_is_copied_and_an_older_one_of_its_thread_is_not() -> None:
    slot = Slot()
    slot.ready()
    story = Story(1).routed("A1", "1001")
    ringing, established = story.envelopes[9], story.envelopes[11]
    (copy,) = slot.put(A, call_event=established)
    assert copy.publish.cause == f"call:{established.event_id}"
    assert copy.publish.call_thread_id == story.thread
    assert copy.publish.event == established.event
    assert slot.put(A, call_event=ringing) == []
    assert slot.put(A, call_event=established) == []


def test_the_call_that_shows_the_token_ends_the_reservation() -> None:
    slot = Slot(window_us=0)
    slot.ready()
    agent = slot.state.agents["t1:A1"]
    slot.applier.ask(slot.state, agent, Ask("r1", "router"), 5)
    held = agent.reservation.held
    assert held is not None
    for token, left in (("another", True), (held.token, False)):
        story = Story(1 if left else 2).routed("A1", "1001")
        shown = KvList(pairs=[KvPair(key="ReservationToken", string_value=token)])
        story.envelopes[9].event.extensions.CopyFrom(shown)
        slot.put(A, call_event=story.envelopes[9])
        assert (agent.reservation.held is not None) == left


def test_a_dn_tells_its_agent() -> None:
    slot = Slot()
    slot.request("agent_login", D)
    device = slot.state.desks["t1:1001"].device
    assert device.agent_id == "A1"
    effects = slot.put(D, device=DeviceNotification(dn="1001", in_service=False, cause="expired", time_us=5))
    assert kinds(effects) == ["publish", "forward", "forward"]
    assert effects[0].publish.stream_key == "t1:dn:1001"
    assert [e.forward.subject for e in effects[1:]] == [A, A]
    assert slot.request("set_dnd_on", D)[0].publish.event.event_type == 77


def test_out_of_service_makes_unavailable_and_logs_out_only_when_told_to() -> None:
    for logout in (False, True):
        slot = Slot()
        slot.ready()
        slot.configured.logout = logout
        gone = DeviceNotification(dn="1001", in_service=False, cause="unregister")
        effects = slot.put(A, device=gone)
        session = slot.state.agents["t1:A1"].session
        assert not session.available
        assert session.logged_in == (not logout)
        assert kinds(effects) == (["publish", "forward", "end_login"] if logout else [])


def test_a_dn_the_agent_has_left_says_nothing_to_it() -> None:
    slot = Slot()
    slot.ready()
    slot.put(A, device=DeviceNotification(dn="1002", in_service=False, cause="unregister"))
    assert slot.state.agents["t1:A1"].session.available


def test_what_is_no_request_for_agents_is_refused() -> None:
    request = Request(client="desk")
    request.query_server.request_id = "r"
    for subject in (A, D):
        (answer,) = Slot().put(subject, request=request)
        assert answer.answer.outcome.reason == Reason.REASON_UNSUPPORTED


def test_a_failed_write_goes_along_with_the_next() -> None:
    slot = Slot()
    slot.request("agent_login", verdict=LOGIN)
    taken = slot.state.take()
    slot.state.unsaved.performed.append("later")
    slot.state.put_back(taken)
    assert slot.state.unsaved.effects == taken.effects
    assert slot.state.unsaved.performed == ["later"]
    assert slot.state.unsaved.urgent


NO_ANSWER = 7


def rung(slot: Slot, *, answered: bool = False, queue: str = "8000", state: int = NO_ANSWER) -> list[int]:
    """A call rings the agent and ends; gives the numbers of the events that follow from the end."""
    story = Story(1)
    story.tell("RINGING", "1001", agent_id="A1", this_queue=queue)
    if answered:
        story.tell("ESTABLISHED", "1001", agent_id="A1", this_queue=queue)
    story.tell("RELEASED", "1001", agent_id="A1", this_queue=queue, call_state=state)
    for envelope in story.envelopes:
        effects = slot.put(A, ident=envelope.event_id, call_event=envelope)
    return [e.publish.event.event_type for e in effects if e.WhichOneof("effect") == "publish"]


def test_a_missed_call_makes_not_ready_or_logs_out_as_configured() -> None:
    released, not_ready, logout = 65, 76, 74
    for action, told, phase in (
        (NoAnswer.NONE, [released], Phase.READY),
        (NoAnswer.NOT_READY, [released, not_ready], Phase.NOT_READY),
        (NoAnswer.LOGOUT, [released, logout], Phase.NULL),
    ):
        slot = Slot()
        slot.ready()
        slot.configured.no_answer = action
        assert rung(slot) == told, action
        assert slot.state.agents["t1:A1"].session.phase is phase, action


def test_only_a_call_that_was_offered_and_rang_out_counts_as_missed() -> None:
    for kwargs in ({"answered": True}, {"queue": ""}, {"state": 0}):
        slot = Slot()
        slot.ready()
        slot.configured.no_answer = NoAnswer.LOGOUT
        rung(slot, **kwargs)
        assert slot.state.agents["t1:A1"].session.logged_in, kwargs


def test_logging_out_for_a_missed_call_frees_the_reservation_and_the_login() -> None:
    slot = Slot(window_us=0)
    slot.ready()
    agent = slot.state.agents["t1:A1"]
    slot.applier.ask(slot.state, agent, Ask("ask", "router", 0, 60_000_000), 1)
    assert agent.reservation.held is not None
    slot.configured.no_answer = NoAnswer.LOGOUT
    rung(slot)
    assert agent.reservation.held is None
    assert "end_login" in kinds(slot.state.unsaved.effects)
