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
from services.orchestration.scxml.problems import Position, Report
from services.orchestration.scxml.reader import read
from services.orchestration.scxml.statements import StatementWriter
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
        self.out = Writer()
        data = {item.id for state in tree.states for item in state.data}
        self.code = StatementWriter(self.out, report, data)
        self.code.variables = rules.variables(document, tree)
        self.transitions: list[CompiledTransition] = []
        self._finalizers: list[int] = []
        """Blocks of the finalize elements of the state being written."""

    def compile(self) -> Compiled:
        scripts = tuple(self._global_script(script) for script in self.document.scripts)
        with self.out.block("(function ($scxml) {", "})"):
            with self.out.block("return {", "};"):
                self.out.line(f"name: {literal(self.document.name)},")
                self.out.line(f"late: {literal(self.document.late)},")
                self._lexical(scripts)
                with self.out.block("states: [", "],"):
                    for number, state in enumerate(self.tree.states):
                        self._state(number, state)
                self._positions()
            self._setters()
        javascript = self.out.text()
        return Compiled(
            name=self.document.name,
            url=self.loader.url,
            source_hash=self._hash(),
            compiler_version=COMPILER_VERSION,
            javascript=javascript,
            code=self.out.text(compact=True),
            source_map=self.out.source_map(self.loader.url or "document.scxml"),
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

    def _positions(self) -> None:
        """`number line:column element file`, a line each, as one string."""
        self.out.line("positions: `")
        for number, entry in enumerate(self.code.positions):
            line, column, element, *file = (str(item) for item in entry)
            name = literal(" ".join([element, *file]))[1:-1].replace("`", "\\`").replace("$", "\\$")
            self.out.raw(f"{number} {line}:{column} {name}")
        self.out.raw("`,")

    def _setters(self) -> None:
        for name, body, at in self.code.setters:
            self.out.line(f"function {name}($scxml_v) {{ {body} }}", at)

    def _global_script(self, script: doc.Script) -> CompiledScript:
        problem = checker().script(script.code.text)
        if problem:
            message = f"<script>: {problem}; error.execution when the document starts"
            self.report.warning(script.at, "ecmascript", message)
        return CompiledScript(script.code.text, self.code.position(script.at, "script"), problem)

    def _lexical(self, scripts: tuple[CompiledScript, ...]) -> None:
        """Accessors for what scripts declare with let, const and class: no object holds those."""
        names: dict[str, str] = {}
        for script in scripts:
            if not script.problem:
                names |= checker().lexical(script.text)
        with self.out.block("lexical: {", "},"):
            for name, word in names.items():
                read_ = f"get() {{ try {{ return {name}; }} catch (error) {{ return undefined; }} }}"
                write = "null" if word == "const" else f"(v) => {{ {name} = v; }}"
                self.out.line(f"{literal(name)}: {{ {read_}, set: {write} }},")

    # -- states -------------------------------------------------------------------------------------

    def _state(self, number: int, state: doc.State) -> None:
        with self.out.block("{", "},", state.at, note=f"{number}: {state.kind} {state.id}"):
            parent, last = self.tree.parents[number], self.tree.lasts[number]
            kind = self._kind(number, state)
            self.out.line(
                f"index: {number}, id: {literal(state.id)}, kind: {kind}, parent: {parent}, last: {last},"
            )
            if state.kind == "history":
                self.out.line(f"deep: {literal(state.deep)},")
            self._code(state)
            if state.invokes:
                with self.out.block("invokes: [", "],"):
                    for invoke in state.invokes:
                        self._invoke(invoke)
            if state.donedata:
                self._donedata(state.donedata)

    def _kind(self, number: int, state: doc.State) -> int:
        if state.kind == "state":
            return COMPOUND if self.tree.regions(number) else ATOMIC
        return {"scxml": COMPOUND, "parallel": PARALLEL, "final": FINAL, "history": HISTORY}[state.kind]

    def _indexes(self, targets: tuple[str, ...]) -> str:
        return literal([self.tree.index[target] for target in targets])

    # -- code of a state ----------------------------------------------------------------------------

    def _code(self, state: doc.State) -> None:
        """The numbered blocks of a state, then the tables that refer to them. One function a state: a
        function for each handler would cost every session several times the memory."""
        blocks = _Blocks(self.out, self.code)
        entry = [block for block in state.onentry if block]
        exit_ = [block for block in state.onexit if block]
        tables = Writer()
        with self.out.block("code: function ($scxml_n) {", "},"), self.out.block("switch ($scxml_n) {", "}"):
            for name, handlers in (("onentry", entry), ("onexit", exit_)):
                for body in handlers:
                    blocks.body(name, body)
            self._write_tables(state, blocks, tables)
        if blocks.count == 0:
            self.out.drop(4)
        if entry or exit_:
            self.out.line(f"entry: {len(entry)}, exit: {len(exit_)},")
        self.out.append(tables)

    def _write_tables(self, state: doc.State, blocks: _Blocks, tables: Writer) -> None:
        number = self.tree.index[state.id] if state.kind != "scxml" else 0
        if self._kind(number, state) == COMPOUND:
            self._initial(number, state, blocks, tables)
        if state.data:
            with tables.block("data: [", "],"):
                for item in state.data:
                    self._data(item, blocks, tables)
        if state.transitions:
            with tables.block("transitions: [", "],"):
                for transition in state.transitions:
                    self._transition(number, state, transition, blocks, tables)
        for invoke in state.invokes:
            self._finalize(invoke, blocks)

    def _initial(self, number: int, state: doc.State, blocks: _Blocks, tables: Writer) -> None:
        if state.initial is None:
            first = self.tree.index[self.tree.regions(number)[0].id]
            tables.line(f"initial: {{ targets: [{first}], run: -1 }},")
            return
        targets = self._indexes(state.initial.targets)
        run = blocks.body("initial", state.initial.body)
        tables.line(f"initial: {{ targets: {targets}, run: {run} }},", state.initial.at)

    def _data(self, item: doc.Data, blocks: _Blocks, tables: Writer) -> None:
        at = self.code.position(item.at, "data")
        block = -1
        if item.failed_source:
            block = blocks.line(f"$scxml.fail({literal(item.failed_source)});", item.at)
        elif item.expr is not None:
            block = blocks.line(f"{item.id} = {self.code.expression(item.expr)};", item.at)
        elif item.inline is not None:
            block = blocks.line(f"{item.id} = {self.code.inline(item.inline)};", item.at)
        tables.line(f"[{literal(item.id)}, {at}, {block}],", item.at)

    def _transition(
        self, number: int, state: doc.State, item: doc.Transition, blocks: _Blocks, tables: Writer
    ) -> None:
        at = self.code.position(item.at, "transition")
        events = literal(item.events[0] if len(item.events) == 1 else list(item.events) or None)
        cond = blocks.value("cond", item.cond) if item.cond else -1
        run = blocks.body("transition", item.body)
        event = " ".join(item.events)
        domain = self._domain(number, item)
        known = "" if domain is None else f", domain: {domain}"
        internal = ", internal: true" if item.internal else ""
        tables.line(
            f"{{ number: {len(self.transitions)}, at: {at}, events: {events}, cond: {cond}, run: {run},"
            f" targets: {self._indexes(item.targets)}{internal}{known} }},",
            item.at,
        )
        self.transitions.append(
            CompiledTransition(state.id, event, item.targets, item.at.line, item.at.column)
        )

    def _domain(self, number: int, item: doc.Transition) -> int | None:
        """3.13 getTransitionDomain; None when there is no target or only run time can tell."""
        targets = [self.tree.index[target] for target in item.targets]
        if not targets or any(self.tree.states[target].kind == "history" for target in targets):
            return None
        compound = self.tree.is_compound(number)
        if item.internal and compound and all(self.tree.within(target, number) for target in targets):
            return number
        for ancestor in self.tree.ancestors(number):
            inside = all(self.tree.within(target, ancestor) for target in targets)
            if inside and self.tree.is_compound(ancestor):
                return ancestor
        return 0

    def _invoke(self, item: doc.Invoke) -> None:
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
        with self.out.block(f"{{ at: {at}, autoforward: {literal(item.autoforward)},", "},", item.at):
            self.out.line(f"finalize: {self._finalizers.pop(0)},")
            self.out.line(f"arguments: function () {{ return {{ {', '.join(members)} }}; }},", item.at)

    def _finalize(self, item: doc.Invoke, blocks: _Blocks) -> None:
        if item.finalize is None or item.finalize:
            self._finalizers.append(blocks.body("finalize", item.finalize or ()))
            return
        # Empty: what came back under these names is assigned to where the values came from (6.5.2).
        places = [(code.text, code) for code in item.namelist]
        places += [(param.name, param.location) for param in item.params if param.location]
        lines = [f"$scxml.bring({literal(name)}, {self.code.setter(code)});" for name, code in places]
        self._finalizers.append(blocks.line("\n".join(lines), item.at) if lines else -1)

    def _donedata(self, item: doc.DoneData) -> None:
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
        self.out.line(f"donedata: {{ {body} }},", item.at)


class _Blocks:
    """The numbered cases of a state's code."""

    def __init__(self, out: Writer, code: StatementWriter) -> None:
        self.out = out
        self.code = code
        self.count = 0

    def _next(self, what: str) -> int:
        self.count += 1
        self.out.line(f"case {self.count - 1}:", note=what)
        return self.count - 1

    def body(self, what: str, body: tuple[doc.Statement, ...]) -> int:
        """A block of statements; -1 for none."""
        if not body:
            return -1
        number = self._next(what)
        with self.out.indented():
            self.code.block(body)
            self.out.line("return;")
        return number

    def value(self, what: str, code: doc.Code) -> int:
        """A block that returns the value of an expression."""
        number = self._next(what)
        with self.out.indented():
            self.out.line(f"return {self.code.expression(code)};", code.at)
        return number

    def line(self, text: str, at: Position) -> int:
        """A block of one line."""
        number = self._next("data")
        with self.out.indented():
            self.out.line(text, at)
            self.out.line("return;")
        return number
