"""Rules that need the whole document: ids, targets, legal configurations; and what an author should know."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.orchestration.scxml import document as doc
from services.orchestration.scxml.problems import Position, Report

_WORD = re.compile(r"[A-Za-z_$][\w$]*")
IN_PREDICATE = re.compile(r"""^\s*In\(\s*(['"])[\w.\-]+\1\s*\)\s*$""")


class Tree:
    """States in document order, with their family relations."""

    def __init__(self, root: doc.State) -> None:
        self.states: list[doc.State] = []
        self.parents: list[int] = []
        self.lasts: list[int] = []
        self.index: dict[str, int] = {}
        self._add(root, -1)

    def _add(self, state: doc.State, parent: int) -> None:
        number = len(self.states)
        self.states.append(state)
        self.parents.append(parent)
        self.lasts.append(number)
        self.index.setdefault(state.id, number)
        for child in state.children:
            self._add(child, number)
        self.lasts[number] = len(self.states) - 1

    def within(self, state: int, ancestor: int) -> bool:
        """A proper descendant."""
        return ancestor < state <= self.lasts[ancestor]

    def ancestors(self, state: int) -> Iterator[int]:
        while (state := self.parents[state]) >= 0:
            yield state

    def is_compound(self, state: int) -> bool:
        """Compound states can be the domain of a transition; the root is one (3.13, findLCCA)."""
        found = self.states[state]
        return found.kind == "scxml" or (found.kind == "state" and bool(self.regions(state)))

    def regions(self, state: int) -> list[doc.State]:
        return [child for child in self.states[state].children if child.kind != "history"]

    def together(self, first: int, second: int) -> bool:
        """Whether both can be active at once: one holds the other, or a parallel holds them apart."""
        if first == second or self.within(first, second) or self.within(second, first):
            return True
        for ancestor in self.ancestors(first):
            if self.within(second, ancestor):
                return self.states[ancestor].kind == "parallel"
        return False


def check(document: doc.Document, tree: Tree, report: Report) -> None:
    """All rules about the document as a whole."""
    _check_ids(tree, report)
    _check_targets(tree, report)
    if document.datamodel == "null":
        _check_null(document, tree, report)
    if not report.errors:
        _warn_unreachable(tree, report)
        _warn_shadowed(tree, report)


def _check_ids(tree: Tree, report: Report) -> None:
    seen: dict[str, Position] = {}
    data: dict[str, Position] = {}
    for state in tree.states:
        if state.named and state.id in seen:
            first = seen[state.id]
            message = f"id {state.id!r} is taken by the state at {first.line}:{first.column}"
            report.error(state.at, "id-duplicate", message)
        seen.setdefault(state.id, state.at)
        for item in state.data:
            if item.id in data:
                first = data[item.id]
                message = f"data {item.id!r} is declared at {first.line}:{first.column} already"
                report.error(item.at, "data-duplicate", message)
            data.setdefault(item.id, item.at)


def _check_targets(tree: Tree, report: Report) -> None:
    for number, state in enumerate(tree.states):
        for transition in state.transitions:
            _check_target_set(tree, transition, report)
        if state.kind == "history" and state.transitions:
            _check_default(tree, tree.parents[number], state, state.transitions[0], report)
        if state.initial is not None:
            _check_target_set(tree, state.initial, report)
            _check_default(tree, number, state, state.initial, report)
        if state.initial is not None and state.kind == "state" and not tree.regions(number):
            report.error(state.initial.at, "initial-atomic", f"state {state.id!r} has no states to start in")
        if state.kind == "state" and state.children and not tree.regions(number):
            report.error(state.at, "history-atomic", f"state {state.id!r} holds a history but no states")


def _check_target_set(tree: Tree, transition: doc.Transition, report: Report) -> None:
    known = []
    for target in transition.targets:
        index = tree.index.get(target)
        if index is None or tree.states[index].kind == "scxml":
            report.error(transition.at, "target-unknown", f"target {target!r} is no state of this document")
        else:
            known.append(index)
    for i, first in enumerate(known):
        for second in known[i + 1 :]:
            if not tree.together(first, second):
                names = f"{tree.states[first].id!r} and {tree.states[second].id!r}"
                message = f"targets {names} can never be active together"
                report.error(transition.at, "target-set", message)


def _check_default(
    tree: Tree, container: int, state: doc.State, transition: doc.Transition, report: Report
) -> None:
    for target in transition.targets:
        index = tree.index.get(target)
        if index is not None and not tree.within(index, container):
            what = f"history {state.id!r}" if state.kind == "history" else f"state {state.id!r}"
            message = f"{target!r} is not inside what the {what} belongs to"
            report.error(transition.at, "target-outside", message)


def _check_null(document: doc.Document, tree: Tree, report: Report) -> None:
    """The null data model has In() and nothing else (SCXML B.1)."""
    for script in document.scripts:
        report.error(script.at, "null-datamodel", "the null data model has no scripts")
    for state in tree.states:
        for item in state.data:
            report.error(item.at, "null-datamodel", "the null data model has no data")
        for transition in state.transitions:
            if transition.cond is not None and not IN_PREDICATE.match(transition.cond.text):
                message = "the null data model has no conditions but In('state')"
                report.error(transition.cond.at, "null-datamodel", message)
        blocks = [*state.onentry, *state.onexit, *(transition.body for transition in state.transitions)]
        for statement in (item for block in blocks for item in block):
            if isinstance(statement, doc.Assign | doc.Script | doc.Foreach):
                report.error(statement.at, "null-datamodel", "the null data model has no data to work on")


def _warn_unreachable(tree: Tree, report: Report) -> None:
    reached: set[int] = set()
    open_ = [0]
    while open_:
        number = open_.pop()
        if number in reached:
            continue
        reached.add(number)
        state = tree.states[number]
        open_ += tree.ancestors(number)
        if state.initial is not None:
            open_ += [tree.index[target] for target in state.initial.targets]
        elif state.kind in ("state", "scxml") and tree.regions(number):
            open_.append(tree.index[tree.regions(number)[0].id])
        elif state.kind == "parallel":
            open_ += [tree.index[child.id] for child in tree.regions(number)]
        for transition in state.transitions:
            open_ += [tree.index[target] for target in transition.targets]
    for number, state in enumerate(tree.states):
        if number not in reached and tree.parents[number] in reached:
            report.warning(state.at, "state-unreachable", f"no transition leads to {state.kind} {state.id!r}")


def _warn_shadowed(tree: Tree, report: Report) -> None:
    for state in tree.states:
        seen: doc.Transition | None = None
        for transition in state.transitions:
            if seen is not None and (not seen.events) == (not transition.events):
                first = f"{seen.at.line}:{seen.at.column}"
                message = f"never taken: the transition at {first} matches first, without a condition"
                report.warning(transition.at, "transition-shadowed", message)
            elif transition.cond is None and (not transition.events or "*" in transition.events):
                seen = transition


def variables(document: doc.Document, tree: Tree) -> set[str]:
    """Names that code may declare besides `<data>`: every word of a script, the variables of foreach and
    of locations. Generous: it is for a warning about names that are certainly unknown."""
    found: set[str] = set()
    for script in document.scripts:
        found |= set(_WORD.findall(script.code.text))
    for state in tree.states:
        blocks = [*state.onentry, *state.onexit, *(transition.body for transition in state.transitions)]
        blocks += [invoke.finalize or () for invoke in state.invokes]
        if state.initial is not None:
            blocks.append(state.initial.body)
        for block in blocks:
            _declared(block, found)
    return found


def _declared(block: tuple[doc.Statement, ...], found: set[str]) -> None:
    for statement in block:
        match statement:
            case doc.Script():
                found |= set(_WORD.findall(statement.code.text))
            case doc.Assign():
                found |= set(_WORD.findall(statement.location.text))
            case doc.Foreach():
                found |= {
                    statement.item.text.strip(),
                    statement.index.text.strip() if statement.index else "",
                }
                _declared(statement.body, found)
            case doc.If():
                for branch in statement.branches:
                    _declared(branch.body, found)
