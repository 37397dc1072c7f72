"""Document -> JavaScript, once per version.

The result is one expression: a function that takes the runtime's `$scxml` and returns the machine's
tables. Everything that follows from the structure alone is worked out here (document order, domains of
transitions); the runtime only walks tables.
"""

from __future__ import annotations

import hashlib

from services.orchestration.scxml import document as doc
from services.orchestration.scxml import parser, rules
from services.orchestration.scxml.compiled import (
    COMPILER_VERSION,
    Compiled,
    CompiledScript,
    CompiledTransition,
)
from services.orchestration.scxml.ecmascript import (
    RESERVED_PREFIX,
    SYSTEM_VARIABLES,
    checker,
    is_name,
    literal,
)
from services.orchestration.scxml.loading import Loader, Resolve
from services.orchestration.scxml.problems import Report
from services.orchestration.scxml.reader import read
from services.orchestration.scxml.statements import StatementWriter
from services.orchestration.scxml.tables import ABSENT, OPEN, SEVERAL, Blocks, Columns, Sparse
from services.orchestration.scxml.writer import Writer

COMPOUND, PARALLEL, ATOMIC, FINAL, HISTORY = 1, 2, 3, 4, 5  # as in js/state.js


def compile_document(text: bytes | str, *, url: str = "", resolve: Resolve | None = None) -> Compiled:
    """Compile one document.

    `url` is its own address, the base of everything relative; `resolve(address)` gives the bytes of
    includes, scripts and data (OSError, LookupError or ValueError when it cannot); without it a document
    that loads anything fails. Raises CompileError with every problem found.
    """
    report = Report()
    loader = Loader(url, resolve, report)
    root = loader.include(read(text))
    document = parser.parse(root, loader, report)
    tree = rules.Tree(document.root)
    rules.check(document, tree, report)
    _check_names(tree, report)
    report.stop_on_errors()
    return _Compiler(document, tree, report, loader, text).compile()


def read_document(text: bytes | str, *, url: str = "", resolve: Resolve | None = None) -> doc.Document:
    """The parsed and checked document, for tools that draw or analyse it."""
    report = Report()
    loader = Loader(url, resolve, report)
    document = parser.parse(loader.include(read(text)), loader, report)
    rules.check(document, rules.Tree(document.root), report)
    report.stop_on_errors()
    return document


def _check_names(tree: rules.Tree, report: Report) -> None:
    for state in tree.states:
        for item in state.data:
            if not is_name(item.id) or item.id.startswith(RESERVED_PREFIX):
                report.error(item.at, "data-id", f"{item.id!r} is no legal variable name")
            elif item.id in SYSTEM_VARIABLES:
                report.error(item.at, "data-id", f"{item.id!r} is a system variable")


class _Compiler:
    def __init__(
        self, document: doc.Document, tree: rules.Tree, report: Report, loader: Loader, text: bytes | str
    ) -> None:
        self.document = document
        self.tree = tree
        self.report = report
        self.loader = loader
        self.text = text
        code = Writer()
        self.code = StatementWriter(code, report, {item.id for state in tree.states for item in state.data})
        self.code.variables = rules.variables(document, tree)
        self.blocks = Blocks(self.code)
        self.rows = Columns("kind", "parent", "last", "entry", "exit", "after", "first", "initial")
        self.transition_rows = Columns("source", "target", "domain", "cond", "run", "at")
        self.transitions: list[CompiledTransition] = []
        self.transition_count = sum(len(state.transitions) for state in tree.states)
        self.initials: list[tuple[int, ...]] = []
        """Rows of initial elements, which stand behind those of all transitions."""
        self.events, self.data = Writer(), Writer()
        self.targets, self.histories, self.invokes, self.donedata = Sparse(), Sparse(), Sparse(), Sparse()
        self.internal: list[int] = []
        """Internal transitions whose domain only run time can tell."""

    def compile(self) -> Compiled:
        scripts = tuple(self._global_script(script) for script in self.document.scripts)
        out = Writer()
        with out.block("(function ($scxml) {", "})"):
            with out.block("return {", "};"):
                out.line(f"name: {literal(self.document.name)},")
                out.line(f"late: {literal(self.document.late)},")
                self._lexical(out, scripts)
                self._tables(out)
                self._positions(out)
            for name, body, at in self.code.setters:
                out.line(f"function {name}($scxml_v) {{ {body} }}", at)
        javascript = out.text()
        return Compiled(
            name=self.document.name,
            url=self.loader.url,
            source_hash=self._hash(),
            compiler_version=COMPILER_VERSION,
            javascript=javascript,
            code=out.text(compact=True),
            source_map=out.source_map(self.loader.url or "document.scxml"),
            scripts=scripts,
            states=tuple(state.id for state in self.tree.states),
            transitions=tuple(self.transitions),
            positions=tuple(tuple(item) for item in self.code.positions),
            parts=dict(self.loader.parts),
            warnings=tuple(sorted(self.report.warnings, key=lambda p: (p.file, p.line, p.column))),
            asks=self.code.asks
            or "_genesys" in javascript
            or any("_genesys" in script.text for script in scripts),
            listens=self._listens(),
        )

    def _listens(self) -> tuple[str, ...] | None:
        states = [state for state in self.tree.states if state.kind != "history"]
        transitions = [transition for state in states for transition in state.transitions]
        watches = any(not transition.events and transition.cond for transition in transitions)
        if watches or any(state.invokes for state in states):
            return None
        return tuple(dict.fromkeys(event for transition in transitions for event in transition.events))

    def _hash(self) -> str:
        digest = hashlib.sha256(self.text.encode() if isinstance(self.text, str) else self.text)
        for address, part in sorted(self.loader.parts.items()):
            digest.update(f"\n{address} {part}".encode())
        return digest.hexdigest()

    def _positions(self, out: Writer) -> None:
        """`line:column element file`, a line each, as one string."""
        out.line("positions: `")
        for entry in self.code.positions:
            line, column, element, *file = (str(item) for item in entry)
            name = literal(" ".join([element, *file]))[1:-1].replace("`", "\\`").replace("$", "\\$")
            out.raw(f"{line}:{column} {name}")
        out.raw("`,")

    def _global_script(self, script: doc.Script) -> CompiledScript:
        problem = checker().script(script.code.text)
        if problem:
            message = f"<script>: {problem}; error.execution when the document starts"
            self.report.warning(script.at, "ecmascript", message)
        return CompiledScript(script.code.text, self.code.position(script.at, "script"), problem)

    def _lexical(self, out: Writer, scripts: tuple[CompiledScript, ...]) -> None:
        """Accessors for what scripts declare with let, const and class: no object holds those."""
        names: dict[str, str] = {}
        for script in scripts:
            if not script.problem:
                names |= checker().lexical(script.text)
        with out.block("lexical: {", "},"):
            for name, word in names.items():
                read_ = f"get() {{ try {{ return {name}; }} catch (error) {{ return undefined; }} }}"
                write = "null" if word == "const" else f"(v) => {{ {name} = v; }}"
                out.line(f"{literal(name)}: {{ {read_}, set: {write} }},")

    # -- states -------------------------------------------------------------------------------------

    def _tables(self, out: Writer) -> None:
        states = self.tree.states
        for number, state in enumerate(states):
            self._state(number, state)
        self.blocks.close()
        for row in self.initials:
            self.transition_rows.add(*row)
        # One row more, so that the transitions of every state end where those of the next one begin.
        self.rows.add(0, ABSENT, ABSENT, 0, 0, 0, len(self.transitions), ABSENT)
        out.line(f"ids: {literal(' '.join(state.id for state in states))}.split(' '),")
        self.rows.write(out, "states")
        self.transition_rows.write(out, "transitions")
        for name, lines in (("events", self.events), ("data", self.data), ("code", self.code.out)):
            with out.block(f"{name}: [", "],"):
                out.append(lines)
        out.line(f"internal: {literal(self.internal)},")
        deep = [number for number, state in enumerate(states) if state.kind == "history" and state.deep]
        out.line(f"deep: {literal(deep)},")
        self.targets.write(out, "targets")
        self.histories.write(out, "histories")
        self.invokes.write(out, "invokes")
        self.donedata.write(out, "donedata")

    def _state(self, number: int, state: doc.State) -> None:
        entry = self.blocks.count
        for body in filter(None, state.onentry):
            self.blocks.body(f"{state.id}: onentry", body)
        exit_ = self.blocks.count
        for body in filter(None, state.onexit):
            self.blocks.body(f"{state.id}: onexit", body)
        after = self.blocks.count
        first = len(self.transitions)
        kind = self._kind(number, state)
        initial = self._initial(number, state) if kind == COMPOUND else ABSENT
        self.rows.add(
            kind, self.tree.parents[number], self.tree.lasts[number], entry, exit_, after, first, initial
        )
        for item in state.data:
            self._data(number, item)
        for transition in state.transitions:
            self._transition(number, state, transition)
        histories = [child.id for child in state.children if child.kind == "history"]
        if histories:
            self.histories.add(number, self._indexes(tuple(histories)))
        if state.invokes:
            finalizers = [self._finalize(invoke) for invoke in state.invokes]
            with self.invokes.body.block(f"{number}: [", "],", state.at, note=state.id):
                for invoke, finalize in zip(state.invokes, finalizers, strict=True):
                    self._invoke(invoke, finalize)
        if state.donedata:
            self._donedata(number, state.donedata)

    def _kind(self, number: int, state: doc.State) -> int:
        if state.kind == "state":
            return COMPOUND if self.tree.regions(number) else ATOMIC
        return {"scxml": COMPOUND, "parallel": PARALLEL, "final": FINAL, "history": HISTORY}[state.kind]

    def _indexes(self, targets: tuple[str, ...]) -> str:
        return literal([self.tree.index[target] for target in targets])

    def _target(self, row: int, targets: tuple[str, ...]) -> int:
        """Number of the one target; of several, their list is kept beside the row."""
        if len(targets) > 1:
            self.targets.add(row, self._indexes(targets))
            return SEVERAL
        return self.tree.index[targets[0]] if targets else ABSENT

    def _initial(self, number: int, state: doc.State) -> int:
        row = self.transition_count + len(self.initials)
        if state.initial is None:
            targets: tuple[str, ...] = (self.tree.regions(number)[0].id,)
            run, at = ABSENT, 0
        else:
            targets = state.initial.targets
            run, at = self.blocks.body(f"{state.id}: initial", state.initial.body), 0
        self.initials.append((number, self._target(row, targets), number, ABSENT, run, at))
        return row

    def _data(self, number: int, item: doc.Data) -> None:
        at = self.code.position(item.at, "data")
        block, what = ABSENT, f"data {item.id}"
        if item.failed_source:
            block = self.blocks.line(what, f"$scxml.fail({literal(item.failed_source)});", item.at)
        elif item.expr is not None:
            block = self.blocks.line(what, f"{item.id} = {self.code.expression(item.expr)};", item.at)
        elif item.inline is not None:
            block = self.blocks.line(what, f"{item.id} = {self.code.inline(item.inline)};", item.at)
        self.data.line(f"[{number}, {literal(item.id)}, {at}, {block}],", item.at)

    def _transition(self, number: int, state: doc.State, item: doc.Transition) -> None:
        at = self.code.position(item.at, "transition")
        row = len(self.transitions)
        event = " ".join(item.events)
        what = f"{state.id}: {event}".rstrip(": ")
        cond = self.blocks.value(f"{what}: cond", item.cond) if item.cond else ABSENT
        run = self.blocks.body(what, item.body)
        domain = self._domain(number, item)
        if domain == OPEN and item.internal:
            self.internal.append(row)
        self.transition_rows.add(number, self._target(row, item.targets), domain, cond, run, at)
        events = literal(item.events[0] if len(item.events) == 1 else list(item.events) or None)
        self.events.line(
            f"{events},", item.at, note=f"{row}: {state.id} -> {' '.join(item.targets)}".rstrip(" ->")
        )
        self.transitions.append(
            CompiledTransition(state.id, event, item.targets, item.at.line, item.at.column)
        )

    def _domain(self, number: int, item: doc.Transition) -> int:
        """3.13 getTransitionDomain; ABSENT without a target, OPEN when only run time can tell."""
        targets = [self.tree.index[target] for target in item.targets]
        if not targets:
            return ABSENT
        if any(self.tree.states[target].kind == "history" for target in targets):
            return OPEN
        compound = self.tree.is_compound(number)
        if item.internal and compound and all(self.tree.within(target, number) for target in targets):
            return number
        for ancestor in self.tree.ancestors(number):
            inside = all(self.tree.within(target, ancestor) for target in targets)
            if inside and self.tree.is_compound(ancestor):
                return ancestor
        return 0

    def _invoke(self, item: doc.Invoke, finalize: int) -> None:
        at = self.code.position(item.at, "invoke")
        members = []
        for name in ("type", "src"):
            if name in item.exprs:
                members.append(f"{name}: {self.code.expression(item.exprs[name])}")
            elif name in item.values:
                members.append(f"{name}: {literal(item.values[name])}")
        if "id" in item.values:
            members.append(f"id: {literal(item.values['id'])}")
        if item.idlocation:
            members.append(f"idlocation: {self.code.setter(item.idlocation)}")
        if item.namelist or item.params:
            members.append(f"params: {self.code.params(item.namelist, item.params)}")
        members += self.code.content(item.content)
        out = self.invokes.body
        with out.block(f"{{ at: {at}, autoforward: {literal(item.autoforward)},", "},", item.at):
            out.line(f"finalize: {finalize},")
            out.line(f"arguments: function () {{ return {{ {', '.join(members)} }}; }},", item.at)

    def _finalize(self, item: doc.Invoke) -> int:
        if item.finalize is None or item.finalize:
            return self.blocks.body("finalize", item.finalize or ())
        # Empty: what came back under these names is assigned to where the values came from (6.5.2).
        places = [(code.text, code) for code in item.namelist]
        places += [(param.name, param.location) for param in item.params if param.location]
        lines = [f"$scxml.bring({literal(name)}, {self.code.setter(code)});" for name, code in places]
        return self.blocks.line("finalize", "\n".join(lines), item.at) if lines else ABSENT

    def _donedata(self, number: int, item: doc.DoneData) -> None:
        if item.content is not None:
            members = ", ".join(self.code.content(item.content))
            at = self.code.position(item.at, "donedata")
            body = f"content: function () {{ $scxml.at = {at}; return {{ {members} }}; }}"
        else:
            params = []
            for param in item.params:
                code = param.expr or param.location
                if code is not None:
                    at = self.code.position(param.at, "param")
                    params.append(f"[{literal(param.name)}, {at}, {self.code.function(code)}]")
            body = f"params: [{', '.join(params)}]"
        self.donedata.add(number, f"{{ {body} }}", item.at)
