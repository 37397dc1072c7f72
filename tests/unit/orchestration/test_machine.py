"""A session's machine with the real interpreter, cut and restored at every point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.orchestration.effects import (
    DeleteUserData,
    Effect,
    End,
    Fetch,
    Load,
    Resubmit,
    Route,
    Run,
    Say,
    SetUserData,
    Submit,
    Terminate,
    Timer,
)
from services.orchestration.inputs import (
    Begin,
    Broke,
    CallNews,
    Due,
    External,
    Input,
    Loaded,
    Outcome,
    Selected,
    Stepped,
)
from services.orchestration.machine import Machine
from services.orchestration.record import from_record, to_record
from services.orchestration.scxml import Event, Interpreter, compile_document
from services.orchestration.session import MAX_INBOX, Call, Phase, Session

CALL = Call(
    session_id="uuid.3",
    tenant="t1",
    call_thread_id="uuid",
    call_uuid="uuid",
    conn_id=0x42,
    route_point="5000",
    ani="4711",
    dnis="0800",
    since_us=1_000_000,
    urls=("http://apps/a.scxml", "http://apps/b.scxml"),
    parameters=(("team", "sales"),),
    default_dns=("1009", "1010"),
)
HEAD = """<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0" datamodel="ecmascript" initial="wait"
 xmlns:queue="http://www.genesyslab.com/modules/queue" xmlns:ixn="http://www.genesyslab.com/modules/interaction"
 xmlns:session="http://www.genesyslab.com/modules/session">"""
SIMPLE = (
    HEAD
    + """
<state id="wait"><transition event="interaction.added" target="queued"/></state>
<state id="queued">
  <onentry><queue:submit queue="'vq'" priority="7" timeout="30" skillexpr="'English &gt; 5'"/></onentry>
  <transition event="queue.submit.done" target="done"><log label="to" expr="_event.data.resource.agent"/></transition>
  <transition event="error.queue.submit" target="done"/>
  <transition event="interaction.deleted" target="done"/>
</state>
<final id="done"/></scxml>"""
)


class Rig:
    """A host without I/O: runs the interpreter, remembers effects, restores the machine from its record at will."""

    def __init__(
        self, document: str, cut: Callable[[int], bool] = lambda _: False, call: Call = CALL
    ) -> None:
        self.compiled = compile_document(document)
        self.machine = Machine(Session(call))
        self.effects: list[Effect] = []
        self.turn = 0
        self._cut = cut
        self._interpreter: Interpreter | None = None

    @property
    def session(self) -> Session:
        return self.machine.session

    def give(self, item: Input, now: int = 2_000_000) -> list[Effect]:
        """One input; runs what the machine wants run; gives all other effects."""
        out: list[Effect] = []
        todo = [item]
        while todo:
            self._restore()
            effects = self.machine.handle(todo.pop(0), now)
            out += [effect for effect in effects if not isinstance(effect, Run)]
            todo += [self._run(effect) for effect in effects if isinstance(effect, Run)]
        self.effects += out
        return out

    def _restore(self) -> None:
        self.turn += 1
        if self._cut(self.turn) and self.session.phase is not Phase.OVER:
            stored = to_record(self.session).SerializeToString()
            self.machine = Machine(from_record(type(to_record(self.session)).FromString(stored)))
            self._interpreter = None

    def _run(self, run: Run) -> Stepped:
        session = self.session
        name = session.call.session_id
        if run.operation == "start":
            self._interpreter = Interpreter(
                self.compiled,
                session_id=name,
                io_processors={},
                now_ms=1000,
                seed=1,
                x=dict(session.call.parameters),
            )
            result = self._interpreter.start(1000)
        else:
            self._interpreter = Interpreter.restore(self.compiled, session.snapshot)
            assert run.event is not None
            result = self._interpreter.step(run.event, 1000)
        return Stepped(result, b"" if result.finished else self._interpreter.snapshot())

    def start(self) -> list[Effect]:
        """Begin and load."""
        (load,) = self.give(Begin())
        assert isinstance(load, Load)
        return self.give(Loaded(load.id, load.urls[0], self.compiled.source_hash, "1"))


def one(effects: list[Effect], kind: type[Any]) -> Any:
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def happy(rig: Rig) -> list[Effect]:
    submit = one(rig.start(), Submit)
    rig.give(Outcome(submit.id))
    route = one(rig.give(Selected(submit.id, destination="1001", agent_id="a1", token="tok")), Route)
    rig.give(Outcome(route.id))
    return rig.effects


def test_a_call_is_queued_routed_and_the_session_ends() -> None:
    load, submit, route, say, end = happy(Rig(SIMPLE))
    assert load == Load("uuid.3/load", CALL.urls)
    assert isinstance(submit, Submit)
    assert (submit.queue, submit.priority, submit.timeout_ms, submit.age_us) == ("vq", 7, 30_000, 1_000_000)
    assert [(t.type, t.name) for t in submit.targets] == [("skill", "English > 5")]
    assert isinstance(route, Route)
    assert (route.destination, route.agent_id, route.token) == ("1001", "a1", "tok")
    assert say == Say("to", "a1")
    assert end == End("finished", "")


@pytest.mark.parametrize("every", [1, 2, 3])
def test_cut_and_restored_anywhere_it_does_the_same(every: int) -> None:
    assert happy(Rig(SIMPLE, lambda turn: turn % every == 0)) == happy(Rig(SIMPLE))


def test_an_heir_performs_pending_effects_again_under_the_same_ids() -> None:
    rig = Rig(SIMPLE)
    submit = one(rig.start(), Submit)
    heir = Machine(from_record(to_record(rig.session)))
    again = heir.handle(Begin(), 3_000_000)
    assert again == [submit]
    assert heir.handle(Begin(performed=True), 3_000_000) == []


def test_duplicates_of_inputs_change_nothing() -> None:
    rig = Rig(SIMPLE)
    submit = one(rig.start(), Submit)
    route = one(rig.give(Selected(submit.id, destination="1001", agent_id="a1")), Route)
    assert rig.give(Loaded("uuid.3/load", "x", "y", "1")) == []
    assert rig.give(Due("uuid.3/9/9")) == []
    assert isinstance(rig.give(Outcome(route.id))[-1], End)
    assert rig.give(Outcome(route.id)) == []
    assert rig.give(Selected(submit.id)) == []


@pytest.mark.parametrize("reason", ["REASON_DN_BUSY", "REASON_NO_ANSWER"])
def test_a_lost_agent_sends_the_request_back_to_wait_without_that_agent(reason: str) -> None:
    rig = Rig(SIMPLE)
    submit = one(rig.start(), Submit)
    route = one(rig.give(Selected(submit.id, destination="1001", agent_id="a1")), Route)
    again = one(rig.give(Outcome(route.id, reason, "no")), Submit)
    assert (again.excluded, again.age_us, again.id) == (("a1",), submit.age_us, f"{submit.id}:1")
    route = one(rig.give(Selected(again.id, destination="1002", agent_id="a2")), Route)
    assert isinstance(rig.give(Outcome(route.id))[-1], End)
    assert rig.session.routed


def test_an_agent_whose_reservation_ended_on_the_way_may_be_chosen_again() -> None:
    rig = Rig(SIMPLE)
    submit = one(rig.start(), Submit)
    route = one(rig.give(Selected(submit.id, destination="1001", agent_id="a1")), Route)
    again = one(rig.give(Outcome(route.id, "REASON_RESERVATION_INVALID", "ended")), Submit)
    assert (again.excluded, again.age_us, again.id) == ((), submit.age_us, f"{submit.id}:1")


def test_no_application_sends_the_call_to_the_default_destinations_in_turn() -> None:
    rig = Rig(SIMPLE)
    load = one(rig.give(Begin()), Load)
    first = one(rig.give(Broke("404", load.id)), Route)
    assert (first.destination, first.is_default) == ("1009", True)
    second = one(rig.give(Outcome(first.id, "REASON_DN_BUSY", "busy")), Route)
    assert second.destination == "1010"
    end = one(rig.give(Outcome(second.id, "REASON_OUT_OF_SERVICE", "gone")), End)
    assert end == End("failed", "404")


def test_a_document_that_ends_without_routing_sends_the_call_to_the_default_destination() -> None:
    rig = Rig(
        HEAD
        + '<state id="wait"><transition event="interaction.added" target="f"/></state><final id="f"/></scxml>'
    )
    route = one(rig.start(), Route)
    assert (route.destination, route.is_default) == ("1009", True)
    assert one(rig.give(Outcome(route.id)), End) == End("finished", "")


def test_a_document_that_breaks_its_limits_sends_the_call_to_the_default_destination() -> None:
    loop = "<script>while (true) {}</script></transition></state></scxml>"
    loop = '<state id="wait"><transition event="interaction.added">' + loop
    rig = Rig(HEAD + loop)
    assert one(rig.start(), Route).is_default
    assert rig.session.problem.startswith("cpu")


def test_a_call_that_is_gone_ends_the_session_and_withdraws_its_request() -> None:
    rig = Rig(SIMPLE)
    submit = one(rig.start(), Submit)
    effects = rig.give(CallNews(9, Event("interaction.deleted", {}), gone=True))
    withdrawal = Resubmit(f"{submit.id}/withdraw", submit.id)
    assert effects == [withdrawal]
    heir = Machine(from_record(to_record(rig.session)))
    assert heir.handle(Begin(), 3_000_000) == effects, "it is over only when the tenant has heard of it"
    assert heir.handle(Outcome(withdrawal.id), 3_000_000) == [End("finished", "")]


def test_a_document_that_does_not_listen_is_ended_with_its_call() -> None:
    rig = Rig(HEAD + '<state id="wait"/></scxml>')
    rig.start()
    assert one(rig.give(CallNews(9, Event("interaction.deleted", {}), gone=True)), End).outcome == "call gone"


def test_events_of_the_thread_count_once() -> None:
    rig = Rig(
        HEAD
        + '<state id="wait"><transition event="voice.x"><log expr="_event.data.n"/></transition></state></scxml>'
    )
    rig.start()
    assert rig.give(CallNews(5, Event("voice.x", {"n": 1}))) == [Say("", "1")]
    assert rig.give(CallNews(5, Event("voice.x", {"n": 1}))) == []
    assert rig.give(CallNews(4, Event("voice.x", {"n": 2}))) == []


def test_events_that_come_before_the_application_wait_for_it_in_order() -> None:
    document = (
        HEAD + '<state id="wait"><transition event="*"><log expr="_event.name"/></transition></state></scxml>'
    )
    rig = Rig(document)
    load = one(rig.give(Begin()), Load)
    rig.give(CallNews(4, Event("voice.a")))
    rig.give(External(Event("b")))
    said = rig.give(Loaded(load.id, "u", "h", "1"))
    assert [say.text for say in said if isinstance(say, Say)] == ["interaction.added", "voice.a", "b"]


def test_too_many_waiting_events_fail_the_session() -> None:
    rig = Rig(SIMPLE)
    rig.give(Begin())
    for number in range(MAX_INBOX):
        assert rig.give(External(Event(f"e{number}"))) == []
    assert one(rig.give(External(Event("one more"))), Route).is_default


def test_delayed_sends_become_timers_and_can_be_cancelled() -> None:
    document = (
        HEAD
        + """<state id="wait">
      <transition event="interaction.added"><send event="tick" delay="2s" id="t1"/><send event="tock" delay="3s" id="t2"/>
        <cancel sendid="t2"/></transition>
      <transition event="tick"><log expr="'ticked'"/></transition></state></scxml>"""
    )
    rig = Rig(document)
    timers = [effect for effect in rig.start() if isinstance(effect, Timer)]
    assert [timer.due_us for timer in timers] == [4_000_000, 5_000_000]
    assert rig.give(Due(timers[0].id)) == [Say("", "ticked")]
    assert rig.give(Due(timers[1].id)) == []


ACTIONS = [
    ("<ixn:setudata udata=\"{a: 1, b: 'x'}\"/>", SetUserData, "interaction.setudata"),
    ("<script>_genesys.ixn.setuData({a: 1})</script>", SetUserData, "interaction.setudata"),
    ("<ixn:deleteudata keys=\"['a']\"/>", DeleteUserData, "interaction.deleteudata"),
    ("<ixn:terminate/>", Terminate, "interaction.terminate"),
    ('<session:fetch src="\'http://x/y\'" method="\'post\'" data="{q: 1}"/>', Fetch, "session.fetch"),
    ("<ixn:redirect to=\"'1001'\"/>", Route, "interaction.redirect"),
]


@pytest.mark.parametrize(("action", "kind", "name"), ACTIONS)
@pytest.mark.parametrize("reason", ["", "REASON_UNKNOWN_DN"])
def test_an_action_is_an_effect_and_its_outcome_an_event(
    action: str, kind: type[Any], name: str, reason: str
) -> None:
    document = (
        HEAD
        + f"""<state id="wait"><transition event="interaction.added">{action}</transition>
      <transition event="*"><log expr="_event.name + ' ' + (_event.data.error || '')"/></transition></state></scxml>"""
    )
    rig = Rig(document)
    effect = one(rig.start(), kind)
    said = one(rig.give(Outcome(effect.id, reason, "because")), Say)
    assert said.text == (f"error.{name} unknown_dn" if reason else f"{name}.done ")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("<queue:submit/>", "error.queue.submit"),
        ("<queue:submit targets=\"'nobody'\"/>", "error.queue.submit"),
        ("<queue:submit skillexpr=\"'A=1'\" timeout=\"'soon'\"/>", "error.queue.submit"),
        ("<ixn:redirect to=\"''\"/>", "error.interaction.redirect"),
        ('<ixn:setudata udata="3"/>', "error.interaction.setudata"),
        ("<session:fetch src=\"'ftp://x'\"/>", "error.session.fetch"),
        ("<queue:cancel/>", "error.queue.cancel"),
    ],
)
def test_an_action_that_cannot_be_done_is_an_error_event(action: str, error: str) -> None:
    document = (
        HEAD
        + f"""<state id="wait"><transition event="interaction.added">{action}</transition>
      <transition event="error.*"><log expr="_event.name"/></transition></state></scxml>"""
    )
    assert Say("", error) in Rig(document).start()


def test_without_default_destinations_the_failure_is_told() -> None:
    rig = Rig(SIMPLE, call=replace(CALL, default_dns=()))
    load = one(rig.give(Begin()), Load)
    assert one(rig.give(Broke("no", load.id)), End) == End("failed", "no")
