"""The compiled machine does what Appendix D does, on statecharts nobody thought of."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from services.orchestration.scxml import (
    CompileError,
    Event,
    Interpreter,
    Limits,
    StepResult,
    compile_document,
)
from services.orchestration.scxml.compiler import read_document
from tests.unit.orchestration.scxml.appendix_d import Machine
from tests.unit.orchestration.scxml.documents import logs, scxml, session

EVENTS = ("a", "b", "c.d")
OUTSIDE = (*EVENTS, "x.y")
"""Events that come; the last one is named by no transition."""
CHARTS, GROUPS, STEPS = 120, 6, 8
LIMITS = Limits(microsteps=40)


@dataclass
class Plan:
    id: str
    kind: str
    children: list[Plan] = field(default_factory=list)
    history: str = ""

    def below(self) -> list[str]:
        """This state and all inside it."""
        found = [self.id, *(name for child in self.children for name in child.below())]
        return [*found, self.history] if self.history else found


class Chart:
    """A random statechart: nesting, parallels, histories, finals, all kinds of transitions."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.picky = seed % 3 == 0
        """Every transition names an event."""
        self.ids: list[str] = []
        self.parallels: list[Plan] = []
        self.root = self._plan(0, "state")
        self.ids.remove(self.root.id)

    def _plan(self, depth: int, kind: str) -> Plan:
        plan = Plan(f"s{len(self.ids)}", kind)
        self.ids.append(plan.id)
        if kind in ("state", "parallel") and depth < 4 and len(self.ids) < 18:
            low = 2 if kind == "parallel" or depth == 0 else 0
            kinds = ["state"] * 4 + ["parallel"] * 2 + (["final"] if kind == "state" and depth else [])
            count = self.random.randint(low, 3)
            plan.children = [self._plan(depth + 1, self.random.choice(kinds)) for _ in range(count)]
        if kind == "parallel" and not plan.children:
            plan.kind = "state"
        if plan.kind == "parallel":
            self.parallels.append(plan)
        if plan.children and depth and self.random.random() < 0.3:
            plan.history = f"h{len(self.ids)}"
            self.ids.append(plan.history)
        return plan

    def text(self) -> str:
        return scxml("".join(self._xml(child) for child in self.root.children))

    def _xml(self, plan: Plan) -> str:
        said = f"<onentry>{log('+' + plan.id)}</onentry><onexit>{log('-' + plan.id)}</onexit>"
        inner = "".join(self._xml(child) for child in plan.children)
        if plan.history:
            target = self.random.choice(plan.children).id
            kind = self.random.choice(["deep", "shallow"])
            default = f'<transition target="{target}">{log("h" + plan.id)}</transition>'
            inner += f'<history id="{plan.history}" type="{kind}">{default}</history>'
        count = 0 if plan.kind == "final" else self.random.randint(0, 3)
        inner += "".join(self._transition(plan) for _ in range(count))
        return f'<{plan.kind} id="{plan.id}">{said}{inner}</{plan.kind}>'

    def _targets(self) -> list[str]:
        """None, any state, or two in different regions of a parallel."""
        count = self.random.choice([0, 1, 1, 1, 1, 1, 2])
        if count == 2 and self.parallels:
            regions = self.random.sample(self.random.choice(self.parallels).children, 2)
            return [self.random.choice(region.below()) for region in regions]
        return self.random.sample(self.ids, min(count, 1))

    def _transition(self, plan: Plan) -> str:
        event = self.random.choice([*EVENTS, *EVENTS, "c", "*", "r", "done.state", ""])
        if self.picky and event in ("", "*"):
            event = "c.d"
        attributes = f' event="{event}"' if event else ""
        if not event or self.random.random() < 0.3:
            attributes += f" cond=\"In('{self.random.choice(self.ids)}')\""
        if targets := self._targets():
            attributes += f' target="{" ".join(targets)}"'
        if self.random.random() < 0.25:
            attributes += ' type="internal"'
        body = '<raise event="r"/>' if self.random.random() < 0.2 else ""
        return f"<transition{attributes}>{body}{log('t' + plan.id)}</transition>"


def log(text: str) -> str:
    return f"<log expr=\"'{text}'\"/>"


def names(machine: Machine) -> list[str]:
    return [node.state.id for node in machine.in_order()]


def compare(seed: int) -> bool:
    """Run one chart on both; whether it was a legal chart that comes to rest."""
    text = Chart(seed).text()
    try:
        compiled = compile_document(text)
    except CompileError:
        return False  # two targets that exclude each other
    choose = random.Random(~seed)
    made = session(compiled, limits=LIMITS)
    result = made.start(0.0)
    reference = Machine(read_document(text))
    if result.failure is not None:
        return False
    reference.start()
    assert (result.configuration, logs(result)) == (names(reference), reference.said), seed
    cut = choose.randrange(STEPS)
    for number in range(STEPS):
        if result.finished:
            break
        if number == cut:
            made = Interpreter.restore(compiled, made.snapshot(), limits=LIMITS)
        event, before = choose.choice(OUTSIDE), result.configuration
        result = made.step(Event(event), 1.0)
        if not compiled.hears(event):
            assert result == StepResult(configuration=before), (seed, event)
        if result.failure is not None:
            break
        reference.said.clear()
        reference.step(event)
        assert (result.configuration, logs(result)) == (names(reference), reference.said), (seed, event)
    assert result.failure is not None or result.finished == (not reference.running), seed
    return True


@pytest.mark.parametrize("group", range(GROUPS))
def test_compiled_machine_equals_appendix_d(group: int) -> None:
    legal = [compare(seed) for seed in range(group, CHARTS, GROUPS)]
    assert sum(legal) > len(legal) / 2, "too few of the charts are legal to say anything"
