"""Parents and children as sessions of one slot: what passes between them, cut and restored at every point."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from services.orchestration.effects import (
    Effect,
    End,
    Inside,
    Load,
    Resubmit,
    Route,
    Run,
    Say,
    Spawn,
    Submit,
    Timer,
)
from services.orchestration.family import child_of, inputs_of
from services.orchestration.inputs import (
    Begin,
    Broke,
    Cancel,
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
from services.orchestration.scxml import Compiled, Event, Interpreter, compile_document
from services.orchestration.sends import io_processors
from services.orchestration.session import Call, Phase, Session
from tests.unit.orchestration.test_machine import CALL, HEAD

CHILD_HEAD = HEAD.replace('initial="wait"', "")


class Slot:
    """The sessions of a slot with the real interpreter; with `cut`, each is restored from its record before each input."""

    def __init__(
        self, document: str, *, cut: bool = False, call: Call = CALL, documents: dict[str, str] | None = None
    ) -> None:
        self._documents = {"": document, **(documents or {})}
        self._compiled: dict[str, Compiled] = {}
        self._cut = cut
        self.machines: dict[str, Machine] = {call.session_id: Machine(Session(call))}
        self.ended: dict[str, End] = {}
        self.effects: list[Effect] = []
        self.root = call.session_id
        self.give(self.root, Begin())

    def give(self, session_id: str, item: Input, now: int = 2_000_000) -> None:
        waiting: deque[tuple[str, Input]] = deque([(session_id, item)])
        while waiting:
            name, what = waiting.popleft()
            if name not in self.machines:
                continue
            if self._cut:
                self._restore(name)
            machine = self.machines[name]
            for effect in machine.handle(what, now):
                waiting += self._follow(machine.session, effect)

    def _restore(self, name: str) -> None:
        record = to_record(self.machines[name].session)
        self.machines[name] = Machine(from_record(type(record).FromString(record.SerializeToString())))

    def _follow(self, session: Session, effect: Effect) -> list[tuple[str, Input]]:
        self.effects.append(effect)
        match effect:
            case Spawn():
                self.machines[effect.session_id] = Machine(child_of(session, effect))
                return inputs_of(session, effect, there=True)
            case Run():
                return [(session.id, self._run(session, effect))]
            case Load():
                return [(session.id, self._load(session, effect))]
            case End():
                del self.machines[session.id]
                self.ended[session.id] = effect
            case Resubmit():
                return [(session.id, Outcome(effect.id))]
            case _ if isinstance(effect, Inside):
                return inputs_of(session, effect, there=effect.session_id in self.machines)
        return []

    def _load(self, session: Session, load: Load) -> Input:
        text = (
            load.content
            if load.content is not None
            else self._documents.get(load.urls[0].rpartition("/")[2], "")
        )
        if session.id == self.root:
            text = self._documents[""]
        if not text:
            return Broke("404", load.id)
        compiled = self._compiled[session.id] = compile_document(text, url="http://apps/a.scxml")
        return Loaded(load.id, load.urls[0], compiled.source_hash, "1")

    def _run(self, session: Session, run: Run) -> Stepped:
        compiled = self._compiled[session.id]
        if run.operation == "start":
            made = Interpreter(
                compiled,
                session_id=session.id,
                io_processors=io_processors(session.id),
                now_ms=1000,
                seed=1,
                params=session.params,
            )
            result = made.start(1000)
        else:
            made = Interpreter.restore(compiled, session.snapshot)
            result = made.terminate(1000) if run.event is None else made.step(run.event, 1000)
        return Stepped(result, b"" if result.finished else made.snapshot())

    @property
    def said(self) -> list[str]:
        return [effect.text for effect in self.effects if isinstance(effect, Say)]

    def child(self) -> str:
        """The one child that lives."""
        (name,) = [name for name in self.machines if name != self.root]
        return name


def parent(inside: str, after: str = "") -> str:
    return f"""{HEAD}<state id="wait"><transition event="interaction.added" target="with"/></state>
    <state id="with">{inside}
      <transition event="done.invoke.kid" target="end"><log expr="'done ' + JSON.stringify(_event.data)"/></transition>
      <transition event="error.*" target="end"><log expr="_event.name + ' ' + _event.invokeid"/></transition>
      <transition event="leave" target="end"/><transition event="from.child"><log expr="'heard ' + _event.data.n"/>
      {after}</transition></state>
    <state id="end"><onentry><log expr="'left'"/></onentry></state></scxml>"""


def invoke(child: str, attributes: str = "", more: str = "") -> str:
    return f'<invoke type="scxml" id="kid" {attributes}>{more}<content>{CHILD_HEAD}{child}</scxml></content></invoke>'


@pytest.mark.parametrize("cut", [False, True])
def test_a_child_gets_its_values_and_gives_its_result(cut: bool) -> None:
    child = """<datamodel><data id="given" expr="1"/><data id="named"/></datamodel>
      <state><transition event="go" target="f"/></state>
      <final id="f"><donedata><param name="sum" expr="given + named"/></donedata></final>"""
    slot = Slot(
        parent(invoke(child, "", '<param name="given" expr="40"/><param name="named" expr="2"/>')), cut=cut
    )
    name = slot.child()
    assert name == "uuid.3.1-0"
    slot.give(name, External(Event("go")))
    assert slot.said == ['done {"sum":42}', "left"]
    assert slot.ended[name].outcome == "finished"
    assert not slot.machines[slot.root].session.children


@pytest.mark.parametrize("cut", [False, True])
def test_events_pass_both_ways_and_finalize_sees_what_comes(cut: bool) -> None:
    child = """<state id="s"><transition event="question"><send target="#_parent" event="from.child">
      <param name="n" expr="_event.data.n * 2"/></send></transition></state>"""
    finalize = "<finalize><log expr=\"'finalize ' + _event.name\"/></finalize>"
    ask = """<onentry><send target="#_kid" event="question" delay="1s"><param name="n" expr="21"/></send></onentry>"""
    slot = Slot(parent(invoke(child).replace("</invoke>", finalize + "</invoke>") + ask), cut=cut)
    (timer,) = [effect for effect in slot.effects if isinstance(effect, Timer)]
    assert timer.due_us == 3_000_000
    slot.give(slot.root, Due(timer.id), 3_000_000)
    assert slot.said == ["finalize from.child", "heard 42"]


@pytest.mark.parametrize("cut", [False, True])
def test_autoforward_hands_on_what_the_parent_gets_from_outside(cut: bool) -> None:
    child = '<state id="s"><transition event="*"><log expr="\'child \' + _event.name"/></transition></state>'
    slot = Slot(parent(invoke(child, 'autoforward="true"')), cut=cut)
    slot.give(slot.root, External(Event("voice.ringing")))
    assert slot.said == ["child voice.ringing"]


@pytest.mark.parametrize("cut", [False, True])
def test_a_child_whose_state_is_left_runs_its_exits_and_says_nothing_more(cut: bool) -> None:
    child = """<state id="s"><onexit><log expr="'child leaves'"/><send target="#_parent" event="from.child"/></onexit></state>"""
    slot = Slot(parent(invoke(child)), cut=cut)
    name = slot.child()
    slot.give(slot.root, External(Event("leave")))
    assert slot.said == ["left", "child leaves"]
    assert slot.ended[name].outcome == "cancelled"


def test_the_end_of_a_parent_is_the_end_of_its_children_and_theirs() -> None:
    grandchild = '<state id="g"><onexit><log expr="\'grandchild leaves\'"/></onexit></state>'
    inner = f'<invoke type="scxml" id="inner"><content>{CHILD_HEAD}{grandchild}</scxml></content></invoke>'
    child = f'<state id="s">{inner}<onexit><log expr="\'child leaves\'"/></onexit></state>'
    slot = Slot(parent(invoke(child)))
    assert sorted(slot.machines) == ["uuid.3", "uuid.3.1-0", "uuid.3.1-0.0-0"]
    slot.give(slot.root, Cancel())
    assert sorted(slot.said) == ["child leaves", "grandchild leaves"]
    (route,) = [effect for effect in slot.effects if isinstance(effect, Route)]
    assert route.is_default
    slot.give(slot.root, Outcome(route.id))
    assert not slot.machines


def test_a_child_that_breaks_is_an_error_for_its_parent() -> None:
    child = '<state id="s"><transition event="go"><script>while (true) {}</script></transition></state>'
    slot = Slot(parent(invoke(child)))
    name = slot.child()
    slot.give(name, External(Event("go")))
    assert slot.said == ["error.platform.kid kid", "left"]
    assert slot.ended[name].outcome == "failed"


def test_a_document_that_cannot_be_had_is_an_error_of_communication() -> None:
    slot = Slot(parent('<invoke type="scxml" id="kid" src="gone.scxml"/>'))
    assert slot.said == ["error.communication kid", "left"]


def test_another_type_is_refused() -> None:
    slot = Slot(parent('<invoke type="http://www.w3.org/TR/ccxml/" id="kid" src="x"/>'))
    assert slot.said == ["error.execution kid", "left"]


def test_a_child_that_routes_the_call_leaves_its_parent_nothing_to_default() -> None:
    child = """<state id="s"><onentry><queue:submit skillexpr="'A &gt; 0'"/></onentry>
      <transition event="queue.submit.done" target="f"/></state><final id="f"/>"""
    slot = Slot(parent(invoke(child)))
    name = slot.child()
    (submit,) = [effect for effect in slot.effects if isinstance(effect, Submit)]
    assert submit.id.startswith(f"{name}/")
    slot.give(name, Selected(submit.id, destination="1001", agent_id="a1"))
    (route,) = [effect for effect in slot.effects if isinstance(effect, Route)]
    slot.give(name, Outcome(route.id))
    assert slot.said == ["done {}", "left"] or slot.said == ["done undefined", "left"]
    slot.give(slot.root, Cancel())
    assert [effect for effect in slot.effects if isinstance(effect, Route)] == [route]
    assert not slot.machines


def test_a_cancelled_child_withdraws_what_it_asked_for() -> None:
    child = '<state id="s"><onentry><queue:submit skillexpr="\'A &gt; 0\'"/></onentry></state>'
    slot = Slot(parent(invoke(child)))
    slot.give(slot.root, External(Event("leave")))
    (submit,) = [effect for effect in slot.effects if isinstance(effect, Submit)]
    assert [e.submit_id for e in slot.effects if isinstance(e, Resubmit)] == [submit.id]


def test_invocations_are_counted_and_not_nested_without_end() -> None:
    # A document that invokes itself.
    document = parent('<invoke type="scxml" id="kid" src="self.scxml"/>')
    slot = Slot(document, documents={"self.scxml": document.replace('event="interaction.added"', "")})
    assert len(slot.machines) == 9
    assert slot.said[0] == "error.execution kid"


def test_a_send_to_a_session_that_is_not_there_comes_back() -> None:
    document = f"""{HEAD}<state id="wait"><transition event="interaction.added">
      <send target="#_scxml_nobody" event="x" id="s1" delay="1s"/></transition>
      <transition event="error.communication"><log expr="_event.sendid"/></transition></state></scxml>"""
    slot = Slot(document, call=replace(CALL, default_dns=()))
    (timer,) = [effect for effect in slot.effects if isinstance(effect, Timer)]
    slot.give(slot.root, Due(timer.id))
    assert slot.said == ["s1"]
    assert slot.machines[slot.root].session.phase is Phase.RUNNING


def test_a_request_counts_once() -> None:
    slot = Slot(
        f'{HEAD}<state id="wait"><transition event="e"><log expr="_event.data"/></transition></state></scxml>'
    )
    for _ in range(2):
        slot.give(slot.root, External(Event("e", 1), "r-1"))
    slot.give(slot.root, External(Event("e", 2), "r-2"))
    assert slot.said == ["1", "2"]
