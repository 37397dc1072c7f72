"""The recommendation's Appendix D, transcribed line by line into Python, for documents without data.

Slow and obvious: what the compiled machine is compared with. Conditions are `In('id')` or absent; executable
content is `<raise>` and `<log expr="'text'"/>`.
"""

from __future__ import annotations

import re
from collections import deque

from services.orchestration.scxml import document as doc

IN = re.compile(r"In\('([^']+)'\)")


MOST_MICROSTEPS = 1_000


class Node:
    """A state with its parent and place in document order."""

    def __init__(self, state: doc.State, parent: Node | None, all_nodes: list[Node]) -> None:
        self.state, self.parent, self.order = state, parent, len(all_nodes)
        all_nodes.append(self)
        self.children = [Node(child, self, all_nodes) for child in state.children]

    @property
    def regions(self) -> list[Node]:
        return [child for child in self.children if child.state.kind != "history"]

    @property
    def kind(self) -> str:
        if self.state.kind in ("state", "scxml"):
            return "compound" if self.regions else "atomic"
        return self.state.kind

    def is_descendant(self, other: Node | None) -> bool:
        node = self.parent
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False

    def ancestors(self, until: Node | None) -> list[Node]:
        found, node = [], self.parent
        while node is not None and node is not until:
            found.append(node)
            node = node.parent
        return found


class Machine:
    def __init__(self, document: doc.Document) -> None:
        self.nodes: list[Node] = []
        self.root = Node(document.root, None, self.nodes)
        self.by_id = {node.state.id: node for node in self.nodes}
        self.configuration: list[Node] = []
        self.history: dict[str, list[Node]] = {}
        self.queue: deque[str] = deque()
        self.said: list[str] = []
        self.running = True
        self.taken = 0

    # -- procedures ---------------------------------------------------------------------------------

    def start(self) -> None:
        initial = self.root.state.initial
        targets = initial.targets if initial else (self.root.regions[0].state.id,)
        self.enter([(self.root, doc.Transition(self.root.state.at, (), None, targets, False, ()))], True)
        self.settle()

    def step(self, event: str) -> None:
        self.microstep(self.select(event))
        self.settle()

    def settle(self) -> None:
        while self.running:
            enabled = self.select(None)
            if not enabled:
                if not self.queue:
                    break
                enabled = self.select(self.queue.popleft())
            self.microstep(enabled)
        if not self.running:
            for node in self.in_order(reverse=True):
                self.content(node.state.onexit)

    def microstep(self, enabled: list[tuple[Node, doc.Transition]]) -> None:
        if not enabled:
            return
        self.taken += 1
        assert self.taken < MOST_MICROSTEPS, "the compiled machine came to rest, this one does not"
        self.exit(enabled)
        for _, transition in enabled:
            self.content((transition.body,))
        self.enter(enabled, False)

    def content(self, blocks: tuple[tuple[doc.Statement, ...], ...]) -> None:
        for block in blocks:
            for statement in block:
                if isinstance(statement, doc.Raise):
                    self.queue.append(statement.event)
                elif isinstance(statement, doc.Log) and statement.expr is not None:
                    self.said.append(statement.expr.text.strip("'"))

    def in_order(self, *, reverse: bool = False) -> list[Node]:
        return sorted(self.configuration, key=lambda node: node.order, reverse=reverse)

    # -- selecting ----------------------------------------------------------------------------------

    def select(self, event: str | None) -> list[tuple[Node, doc.Transition]]:
        enabled: list[tuple[Node, doc.Transition]] = []
        for atomic in [node for node in self.in_order() if node.kind in ("atomic", "final")]:
            chosen = self.first_enabled(atomic, event)
            if chosen is not None and chosen not in enabled:
                enabled.append(chosen)
        return self.without_conflicts(enabled)

    def first_enabled(self, atomic: Node, event: str | None) -> tuple[Node, doc.Transition] | None:
        for node in [atomic, *atomic.ancestors(None)]:
            for transition in node.state.transitions:
                named = not transition.events if event is None else self.matches(transition, event)
                if named and self.holds(transition):
                    return node, transition
        return None

    @staticmethod
    def matches(transition: doc.Transition, event: str) -> bool:
        return any(d in ("*", event) or event.startswith(f"{d}.") for d in transition.events)

    def holds(self, transition: doc.Transition) -> bool:
        if transition.cond is None:
            return True
        found = IN.match(transition.cond.text)
        assert found is not None
        return self.by_id[found.group(1)] in self.configuration

    def without_conflicts(
        self, enabled: list[tuple[Node, doc.Transition]]
    ) -> list[tuple[Node, doc.Transition]]:
        kept: list[tuple[Node, doc.Transition]] = []
        for one in enabled:
            preempted, dropped = False, []
            for two in kept:
                if self.exit_set([one]) & self.exit_set([two]):
                    if one[0].is_descendant(two[0]):
                        dropped.append(two)
                    else:
                        preempted = True
                        break
            if not preempted:
                kept = [item for item in kept if item not in dropped] + [one]
        return kept

    # -- exiting and entering -----------------------------------------------------------------------

    def effective_targets(self, transition: doc.Transition) -> list[Node]:
        found: list[Node] = []
        for target in (self.by_id[name] for name in transition.targets):
            if target.state.kind != "history":
                found.append(target)
            elif target.state.id in self.history:
                found += self.history[target.state.id]
            else:
                found += self.effective_targets(target.state.transitions[0])
        return found

    def domain(self, source: Node, transition: doc.Transition) -> Node | None:
        targets = self.effective_targets(transition)
        if not targets:
            return None
        inside = all(target.is_descendant(source) for target in targets)
        if transition.internal and source.kind == "compound" and inside:
            return source
        for ancestor in source.ancestors(None):
            if ancestor.kind == "compound" and all(target.is_descendant(ancestor) for target in targets):
                return ancestor
        return self.root

    def exit_set(self, enabled: list[tuple[Node, doc.Transition]]) -> set[Node]:
        found = set()
        for source, transition in enabled:
            if transition.targets:
                domain = self.domain(source, transition)
                found |= {node for node in self.configuration if node.is_descendant(domain)}
        return found

    def exit(self, enabled: list[tuple[Node, doc.Transition]]) -> None:
        leaving = sorted(self.exit_set(enabled), key=lambda node: node.order, reverse=True)
        for node in leaving:
            for child in node.children:
                if child.state.kind == "history":
                    self.history[child.state.id] = [
                        active
                        for active in self.in_order()
                        if (
                            active.kind in ("atomic", "final") and active.is_descendant(node)
                            if child.state.deep
                            else active.parent is node
                        )
                    ]
        for node in leaving:
            self.content(node.state.onexit)
            self.configuration.remove(node)

    def enter(self, enabled: list[tuple[Node, doc.Transition]], initial: bool) -> None:
        to_enter: set[Node] = set()
        default_entry: set[Node] = set()
        default_content: dict[Node, doc.Transition] = {}
        for source, transition in enabled:
            if not transition.targets:
                continue
            for name in transition.targets:
                self.add_descendants(self.by_id[name], to_enter, default_entry, default_content)
            ancestor = self.root if initial else self.domain(source, transition)
            for target in self.effective_targets(transition):
                self.add_ancestors(target, ancestor, to_enter, default_entry, default_content)
        for node in sorted(to_enter, key=lambda node: node.order):
            self.configuration.append(node)
            self.content(node.state.onentry)
            if node in default_entry and node.state.initial is not None:
                self.content((node.state.initial.body,))
            if node in default_content:
                self.content((default_content[node].body,))
            if node.kind == "final":
                self.entered_final(node)

    def entered_final(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        if parent is self.root:
            self.running = False
            return
        self.queue.append(f"done.state.{parent.state.id}")
        grandparent = parent.parent
        parallel = grandparent is not None and grandparent.kind == "parallel"
        if grandparent is not None and parallel and all(self.in_final(r) for r in grandparent.regions):
            self.queue.append(f"done.state.{grandparent.state.id}")

    def in_final(self, node: Node) -> bool:
        if node.kind == "compound":
            return any(child.kind == "final" and child in self.configuration for child in node.regions)
        return node.kind == "parallel" and all(self.in_final(child) for child in node.regions)

    def add_descendants(
        self, node: Node, to_enter: set[Node], defaults: set[Node], contents: dict[Node, doc.Transition]
    ) -> None:
        if node.state.kind == "history":
            assert node.parent is not None
            if node.state.id in self.history:
                targets = self.history[node.state.id]
            else:
                contents[node.parent] = node.state.transitions[0]
                targets = [self.by_id[name] for name in node.state.transitions[0].targets]
            self.add_all(targets, node.parent, to_enter, defaults, contents)
            return
        to_enter.add(node)
        if node.kind == "compound":
            defaults.add(node)
            initial = node.state.initial
            targets = [self.by_id[name] for name in initial.targets] if initial else [node.regions[0]]
            self.add_all(targets, node, to_enter, defaults, contents)
        elif node.kind == "parallel":
            self.add_regions(node, to_enter, defaults, contents)

    def add_all(
        self,
        targets: list[Node],
        above: Node,
        to_enter: set[Node],
        defaults: set[Node],
        contents: dict[Node, doc.Transition],
    ) -> None:
        for target in targets:
            self.add_descendants(target, to_enter, defaults, contents)
        for target in targets:
            self.add_ancestors(target, above, to_enter, defaults, contents)

    def add_ancestors(
        self,
        node: Node,
        above: Node | None,
        to_enter: set[Node],
        defaults: set[Node],
        contents: dict[Node, doc.Transition],
    ) -> None:
        for ancestor in node.ancestors(above):
            if ancestor is self.root:
                continue
            to_enter.add(ancestor)
            if ancestor.kind == "parallel":
                self.add_regions(ancestor, to_enter, defaults, contents)

    def add_regions(
        self, node: Node, to_enter: set[Node], defaults: set[Node], contents: dict[Node, doc.Transition]
    ) -> None:
        for child in node.regions:
            if not any(entered.is_descendant(child) for entered in to_enter):
                self.add_descendants(child, to_enter, defaults, contents)
