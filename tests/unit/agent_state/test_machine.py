"""The agent machine: every pair of phase and step, the orders of the domain facts, and cuts anywhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.agent_state.agent import Agent
from services.agent_state.effects import Answer, Asked, Copy, Effect, EventKind, Publish
from services.agent_state.machine import (
    TABLE,
    UNTIMED,
    CallEvent,
    CallStep,
    LoggedIn,
    Phase,
    Session,
    Step,
    WorkMode,
)
from services.agent_state.record import pack, unpack

ASKED = Asked("input-1", "request-1", "desk", 7, "outcomes:fe")
LOGIN = LoggedIn("1001", queue="7000", place="P1", user_name="ann", session_id="s1", wrapup_s=5)
K = EventKind


def session(**more: Any) -> Session:
    return Session("t1", "A1", **more)


def logged_in(**login: Any) -> Session:
    made = session()
    made.login(ASKED, LoggedIn(**{**LOGIN_FIELDS, **login}), 1)
    return made


LOGIN_FIELDS: dict[str, Any] = {
    "dn": "1001",
    "place": "P1",
    "user_name": "ann",
    "session_id": "s1",
    "wrapup_s": 5,
}


def phase_of(made: Session) -> Phase:
    """The phase now (a call, so that a type checker does not think it unchanged)."""
    return made.phase


def kinds(effects: list[Effect]) -> list[object]:
    """Events in order: their kind, or the origin of a copy."""
    found: list[object] = []
    for effect in effects:
        if isinstance(effect, Publish):
            found.append(effect.kind)
        elif isinstance(effect, Copy):
            found.append(effect.origin)
    return found


def ring(conn: int, origin: str = "ringing", *, business: bool = True) -> CallEvent:
    return CallEvent(CallStep.BEGAN, conn, business=business, origin=origin)


def answer(conn: int, *, wrapup_s: int = -1) -> CallEvent:
    return CallEvent(CallStep.ANSWERED, conn, business=True, wrapup_s=wrapup_s, origin="established")


def end(conn: int) -> CallEvent:
    return CallEvent(CallStep.ENDED, conn, origin="released")


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", Step)
def test_every_pair_is_decided(phase: Phase, step: Step) -> None:
    made = session(phase=phase, phase_since_us=1)
    made._go(step, 2)
    wanted = TABLE.get((phase, step), phase)
    assert made.phase is wanted
    assert made.phase_since_us == (1 if wanted is phase else 2)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.NULL])
def test_requests_are_legal_in_every_phase_of_a_session(phase: Phase) -> None:
    for step in (Step.LOGIN, Step.LOGOUT, Step.READY, Step.NOT_READY, Step.WORK_AFTER_CALL):
        assert (phase, step) in TABLE


def test_without_a_login_everything_but_login_is_refused() -> None:
    asks: list[Callable[[Session], list[Effect]]] = [
        lambda s: s.logout(ASKED, 1),
        lambda s: s.ready(ASKED, WorkMode.UNKNOWN, b"", 1),
        lambda s: s.not_ready(ASKED, WorkMode.AUX_WORK, b"", 1),
    ]
    for ask in asks:
        made = session()
        (refused,) = ask(made)
        assert isinstance(refused, Answer)
        assert refused.reason == "REASON_AGENT_NOT_LOGGED_IN"
        assert made == session()


def test_login_is_followed_by_not_ready_and_auto_in_by_ready() -> None:
    made = session()
    effects = made.login(ASKED, LOGIN, 10)
    assert kinds(effects) == [K.AGENT_LOGIN, K.AGENT_NOT_READY]
    first = effects[0]
    assert isinstance(first, Publish)
    assert first.attributes["this_queue"] == "7000"
    assert phase_of(made) is Phase.NOT_READY
    auto = session()
    assert kinds(auto.login(ASKED, LoggedIn("1001", auto_in=True), 10)) == [K.AGENT_LOGIN, K.AGENT_READY]
    assert (auto.phase, auto.work_mode) == (Phase.READY, WorkMode.AUTO_IN)


def test_a_second_login_on_the_same_dn_adds_a_queue_and_changes_no_state() -> None:
    made = logged_in()
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    effects = made.login(ASKED, LoggedIn(**LOGIN_FIELDS, queue="7001"), 3)
    assert kinds(effects) == [K.AGENT_LOGIN]
    assert (made.phase, made.queues) == (Phase.READY, ("7001",))


def test_logout_tells_each_queue_and_ends_the_login() -> None:
    made = logged_in(queue="7000")
    made.login(ASKED, LoggedIn(**LOGIN_FIELDS, queue="7001"), 2)
    effects = made.logout(ASKED, 3)
    assert kinds(effects) == [K.AGENT_LOGOUT, K.QUEUE_LOGOUT, K.QUEUE_LOGOUT]
    assert [type(e).__name__ for e in effects[3:]] == ["TellDevice", "EndLogin", "Answer"]
    assert not made.logged_in
    assert (made.dn, made.queues, made.session_id) == ("", (), "")


def test_not_ready_is_told_again_with_other_reasons() -> None:
    made = logged_in()
    first = made.not_ready(ASKED, WorkMode.AUX_WORK, b"one", 2)
    second = made.not_ready(ASKED, WorkMode.AUX_WORK, b"two", 3)
    assert kinds(first) == kinds(second) == [K.AGENT_NOT_READY]
    assert made.reasons == b"two"
    assert made.phase_since_us == 1  # it has been the same phase since the login


def test_after_call_work_is_told_before_released_and_ends_by_itself() -> None:
    made = logged_in()
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    assert kinds(made.call(ring(5), 3)) == ["ringing"]
    assert phase_of(made) is Phase.BUSY_READY
    assert kinds(made.call(answer(5), 4)) == ["established"]
    assert phase_of(made) is Phase.BUSY_AFTER_CALL_WORK
    over = made.call(end(5), 100)
    assert kinds(over) == [K.AGENT_NOT_READY, "released"]
    told = over[0]
    assert isinstance(told, Publish)
    assert (told.attributes["agent_work_mode"], told.attributes["wrap_up_time"]) == (3, b"5")
    assert made.wrapup_until_us == 100 + 5_000_000
    assert made.tick(5_000_099) == []
    assert kinds(made.tick(5_000_100)) == [K.AGENT_READY]
    assert phase_of(made) is Phase.READY
    assert made.tick(9_000_000) == []


def test_untimed_after_call_work_ends_when_the_agent_says_so() -> None:
    made = logged_in(wrapup_s=UNTIMED)
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    made.call(answer(5), 3)
    told = made.call(end(5), 4)[0]
    assert isinstance(told, Publish)
    assert told.attributes["wrap_up_time"] == b"untimed"
    assert made.wrapup_until_us == 0
    assert made.tick(10**15) == []
    assert kinds(made.ready(ASKED, WorkMode.UNKNOWN, b"", 5)) == [K.AGENT_READY]


@pytest.mark.parametrize(
    ("steps", "phase"),
    [
        ([ring(5), end(5)], Phase.READY),  # not answered: no after-call work
        ([answer(5, wrapup_s=0), end(5)], Phase.READY),  # the call says none
        ([ring(5, business=False), end(5)], Phase.READY),  # direct: never busy
        ([answer(5), answer(6), end(5)], Phase.BUSY_AFTER_CALL_WORK),  # one call is left
        ([answer(5), answer(6), end(5), end(6)], Phase.NOT_READY),
        ([ring(5), CallEvent(CallStep.OTHER, 5)], Phase.BUSY_READY),  # held: still busy
    ],
)
def test_calls(steps: list[CallEvent], phase: Phase) -> None:
    made = logged_in()
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    for step in steps:
        made.call(step, 3)
    assert phase_of(made) is phase


def test_not_ready_during_a_call_counts_after_it() -> None:
    made = logged_in()
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    made.call(answer(5), 3)
    assert kinds(made.not_ready(ASKED, WorkMode.AUX_WORK, b"", 4)) == [K.AGENT_NOT_READY]
    assert phase_of(made) is Phase.BUSY_NOT_READY
    assert kinds(made.call(end(5), 5)) == ["released"]
    assert (made.phase, made.work_mode) == (Phase.NOT_READY, WorkMode.AUX_WORK)


def test_a_transferred_call_goes_on_under_its_new_conn_id() -> None:
    made = logged_in()
    made.call(CallEvent(CallStep.BEGAN, 7, business=True), 2)
    made.call(CallEvent(CallStep.MOVED, 5, previous_conn_id=7), 3)
    assert list(made.calls) == [5]
    made.call(end(7), 4)  # the released consult call is not the one that goes on
    assert phase_of(made) is Phase.BUSY_NOT_READY
    made.call(end(5), 5)
    assert phase_of(made) is Phase.NOT_READY


def test_a_business_call_merged_into_a_direct_one_is_still_business() -> None:
    made = logged_in()
    made.call(ring(3), 2)
    made.call(ring(2, business=False), 3)
    made.call(CallEvent(CallStep.MOVED, 2, previous_conn_id=3), 4)
    assert phase_of(made) is Phase.BUSY_NOT_READY
    made.call(end(2), 5)
    assert phase_of(made) is Phase.NOT_READY


def test_available_means_ready_in_service_undisturbed_and_without_a_call() -> None:
    made = logged_in()
    assert not made.available
    made.ready(ASKED, WorkMode.UNKNOWN, b"", 2)
    assert made.available
    made.device(False, False)
    assert not made.available
    made.device(True, True)
    assert not made.available
    made.device(True, False)
    made.call(ring(5, business=False), 3)
    assert not made.available


INPUTS = st.one_of(
    st.sampled_from(["login", "logout", "ready", "aux", "acw", "tick"]).map(lambda name: (name, 0)),
    st.tuples(st.sampled_from(["ring", "direct", "answer", "end", "move", "held"]), st.integers(1, 3)),
)


def apply(made: Session, step: tuple[str, int], now: int) -> list[Effect]:
    name, conn = step
    match name:
        case "login":
            return made.login(ASKED, LOGIN, now)
        case "logout":
            return made.logout(ASKED, now)
        case "ready":
            return made.ready(ASKED, WorkMode.UNKNOWN, b"", now)
        case "aux":
            return made.not_ready(ASKED, WorkMode.AUX_WORK, b"\n\x06\n\x01a\x12\x01b", now)
        case "acw":
            return made.not_ready(ASKED, WorkMode.AFTER_CALL_WORK, b"", now)
        case "tick":
            return made.tick(now)
        case "ring":
            return made.call(ring(conn), now)
        case "direct":
            return made.call(ring(conn, business=False), now)
        case "answer":
            return made.call(answer(conn), now)
        case "end":
            return made.call(end(conn), now)
        case "move":
            return made.call(CallEvent(CallStep.MOVED, conn, previous_conn_id=conn % 3 + 1), now)
    return made.call(CallEvent(CallStep.OTHER, conn), now)


@settings(max_examples=150, deadline=None)
@given(st.lists(INPUTS, max_size=25))
def test_invariants_whatever_happens(steps: list[tuple[str, int]]) -> None:
    made, seqs = session(), []
    for number, step in enumerate(steps):
        effects = apply(made, step, (number + 1) * 2_000_000)
        seqs += [effect.seq for effect in effects if isinstance(effect, Publish | Copy)]
        busy = made.phase in (Phase.BUSY_READY, Phase.BUSY_NOT_READY, Phase.BUSY_AFTER_CALL_WORK)
        assert busy == any(call.business for call in made.calls.values())
        if made.phase is Phase.NULL:
            assert not made.calls
            assert not made.wrapup_until_us
        answers = [effect for effect in effects if isinstance(effect, Answer)]
        assert len(answers) == (step[0] in ("login", "logout", "ready", "aux", "acw"))
    assert seqs == list(range(1, len(seqs) + 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(INPUTS, min_size=1, max_size=15), st.data())
def test_stored_and_restored_anywhere_it_goes_on_as_if_nothing_had_happened(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(steps)))
    straight = Agent(session())
    for number, step in enumerate(steps[:cut]):
        apply(straight.session, step, (number + 1) * 2_000_000)
    restored = unpack(pack(straight))
    assert restored.session == straight.session
    assert pack(restored) == pack(straight)
    twin = copy.deepcopy(straight)
    for number, step in enumerate(steps[cut:], cut):
        now = (number + 1) * 2_000_000
        assert apply(restored.session, step, now) == apply(twin.session, step, now)
    assert restored.session == twin.session
