"""Executable content as JavaScript: each statement a line or a block that calls the runtime."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from services.orchestration.scxml import document as doc
from services.orchestration.scxml.ecmascript import (
    RESERVED_PREFIX,
    SYSTEM_VARIABLES,
    checker,
    clean,
    is_name,
    literal,
)
from services.orchestration.scxml.xmltext import interpret

if TYPE_CHECKING:
    from services.orchestration.scxml.problems import Position, Report
    from services.orchestration.scxml.writer import Writer


_NEEDS_GLOBAL_SCOPE = re.compile(
    r"\b(var|let|const|function|class|eval|this|arguments|return|await|yield|import)\b"
)
"""Words of a script that mean something else inside a function. Also found in texts: then it is evaluated."""
_BARE_WORDS = re.compile(r"^([A-Za-z_]\w*)(?:[./\- ][\w.]+)*$")
_GLOBALS = frozenset(("true", "false", "null", "undefined", "NaN", "Infinity", "Math", "Date", "JSON", "this", "new",
                      "typeof", "void", "globalThis"))  # fmt: skip


class StatementWriter:
    """Writes statements; collects setters and positions that the whole machine shares."""

    def __init__(self, out: Writer, report: Report, data: set[str]) -> None:
        self.out = out
        self.report = report
        self.data = data
        """Ids of all `<data>`: variables that exist before anything runs."""
        self.positions: list[list[object]] = [[0, 0, ""]]
        self.variables: set[str] = set()
        """Words of all scripts and the variables of foreach: what else may be declared."""
        self.setters: list[tuple[str, str, Position]] = []
        self.asks = False
        """Whether any send may address another session, whose existence only the host knows."""
        self._setter_names: dict[str, str] = {}
        self._checked: dict[tuple[str, str], str] = {}

    # -- pieces -------------------------------------------------------------------------------------

    def position(self, at: Position, element: str) -> int:
        """Number under which the runtime knows this position."""
        entry: list[object] = [at.line, at.column, element]
        self.positions.append([*entry, at.file] if at.file else entry)
        return len(self.positions) - 1

    def expression(self, code: doc.Code) -> str:
        """The expression in parentheses; one that fails when it is evaluated if it is not well-formed."""
        text = clean(code.text)
        problem = self._check("expression", text)
        if problem:
            self._ill_formed(code, problem)
            return f"$scxml.fail({literal(f'{text!r}: {problem}')})"
        risky = "//" in text or "<!--" in text or "-->" in text
        return f"({text}\n)" if risky else f"({text})"

    def function(self, code: doc.Code) -> str:
        return f"function () {{ return {self.expression(code)}; }}"

    def setter(self, code: doc.Code, what: str = "location") -> str:
        """Name of a function that assigns to a location. Strict, so that an undeclared variable, a
        read-only property and a system variable are errors (5.4, 5.10)."""
        text = code.text.strip()
        if text in self._setter_names:
            return self._setter_names[text]
        problem = self._check("location", text)
        if problem or text.startswith(RESERVED_PREFIX):
            self._ill_formed(code, problem or "the name is reserved")
            body = f"$scxml.fail({literal(f'{text!r} is no {what}: {problem}')});"
        else:
            body = f'"use strict"; {text} = $scxml_v;'
        name = f"$scxml_set{len(self.setters) + 1}"
        self.setters.append((name, body, code.at))
        self._setter_names[text] = name
        return name

    def _check(self, kind: str, text: str) -> str:
        key = (kind, text)
        if key not in self._checked:
            self._checked[key] = getattr(checker(), kind)(text)
        return self._checked[key]

    def _ill_formed(self, code: doc.Code, problem: str) -> None:
        message = f"{code.text.strip()!r}: {problem}; error.execution when it is evaluated"
        self.report.warning(code.at, "ecmascript", message)

    def inline(self, inline: doc.Inline) -> str:
        """Literal content as a value (B.2.1): JSON, XML, or text with normalised white space."""
        if inline.tree is not None:
            return f"$scxml.xml({literal(inline.tree)})"
        value = interpret(inline.text)
        if isinstance(value, dict) and "$xml" in value:
            return f"$scxml.xml({literal(value['$xml'])})"
        return f"({literal(value)})"

    def params(self, namelist: tuple[doc.Code, ...], params: tuple[doc.Param, ...]) -> str:
        """`[[name, value], …]` in document order, namelist first."""
        found = [f"[{literal(item.text)}, {self.expression(item)}]" for item in namelist]
        for param in params:
            code = param.expr or param.location
            if code is not None:
                found.append(f"[{literal(param.name)}, {self.expression(code)}]")
        return f"[{', '.join(found)}]"

    def content(self, content: doc.Content | None) -> list[str]:
        """Members `value` and, for literal content, the raw `text`."""
        if content is None:
            return []
        if content.expr is not None:
            return [f"value: {self.expression(content.expr)}"]
        if content.inline is None:
            return []
        return [f"text: {literal(content.inline.text)}", f"value: {self.inline(content.inline)}"]

    # -- statements ---------------------------------------------------------------------------------

    def block(self, body: tuple[doc.Statement, ...]) -> None:
        for statement in body:
            self.statement(statement)

    def at(self, at: Position, element: str) -> None:
        self.out.line(f"$scxml.at = {self.position(at, element)};", at)

    def statement(self, item: doc.Statement) -> None:
        match item:
            case doc.Raise():
                self.at(item.at, "raise")
                self.out.line(f"$scxml.raise({literal(item.event)});", item.at)
            case doc.Log():
                self.at(item.at, "log")
                value = self.expression(item.expr) if item.expr and item.expr.text.strip() else '""'
                self.out.line(f"$scxml.log({literal(item.label)}, {value});", item.at)
            case doc.Assign():
                self._assign(item)
            case doc.Script():
                self._script(item)
            case doc.If():
                self._if(item)
            case doc.Foreach():
                self._foreach(item)
            case doc.Send():
                self._send(item)
            case doc.Cancel():
                self.at(item.at, "cancel")
                code = self.expression(item.sendidexpr) if item.sendidexpr else literal(item.sendid)
                self.out.line(f"$scxml.cancel({code});", item.at)
            case doc.ExtensionAction():
                self._action(item)

    def _assign(self, item: doc.Assign) -> None:
        self.at(item.at, "assign")
        name = item.location.text.strip()
        literal_value = self.inline(item.inline) if item.inline else "undefined"
        value = self.expression(item.expr) if item.expr is not None else literal_value
        if name in self.data and is_name(name) and name not in SYSTEM_VARIABLES:
            self.out.line(f"{name} = {value};", item.at)
        else:
            self.out.line(f"{self.setter(item.location)}({value});", item.at)

    def _script(self, item: doc.Script) -> None:
        self.at(item.at, "script")
        problem = checker().script(item.code.text)
        if problem:
            self._ill_formed(doc.Code("<script>", item.at), problem)
            self.out.line(f"$scxml.fail({literal(problem)});", item.at)
        elif _NEEDS_GLOBAL_SCOPE.search(item.code.text):
            # Declarations have to end up in the global scope (B.2), which a function cannot give them.
            self.out.line(f"$scxml.script({literal(item.code.text)});", item.at)
        else:
            self.out.line(f"{{{item.code.text}\n}}", item.at)

    def _if(self, item: doc.If) -> None:
        for number, branch in enumerate(item.branches):
            if branch.cond is None:
                self.out.line("} else {")
            else:
                word = "if" if number == 0 else "} else if"
                at = self.position(branch.cond.at, "if")
                self.out.line(f"{word} ($scxml.test({at}, {self.function(branch.cond)})) {{", branch.cond.at)
            with self.out.indented():
                self.block(branch.body)
        self.out.line("}")

    def _foreach(self, item: doc.Foreach) -> None:
        self.at(item.at, "foreach")
        names = [item.item] + ([item.index] if item.index else [])
        setters = []
        for code in names:
            name = code.text.strip()
            if not is_name(name):
                self._ill_formed(code, "no variable name")
                self.out.line(f"$scxml.fail({literal(f'{name!r} is no variable name')});", code.at)
            setters.append(self.setter(code, "variable name"))
        array = self.expression(item.array)
        index = setters[1] if item.index else "null"
        # The array is looked at first: an illegal one must not declare anything (4.6).
        declare = ", ".join(literal(code.text.strip()) for code in names)
        with self.out.block(
            f"$scxml.foreach({array}, [{declare}], {setters[0]}, {index}, function () {{", "});", item.at
        ):
            self.block(item.body)

    def _send(self, item: doc.Send) -> None:
        self.at(item.at, "send")
        if "target" in item.exprs or item.values.get("target", "").startswith("#_scxml_"):
            self.asks = True
        members = []
        for name in ("event", "target", "type", "delay", "hints"):
            if name in item.exprs:
                members.append(f"{name}: {self.expression(item.exprs[name])}")
            elif name in item.values:
                members.append(f"{name}: {literal(item.values[name])}")
        if "id" in item.values:
            members.append(f"id: {literal(item.values['id'])}")
        if item.idlocation:
            members.append(f"idlocation: {self.setter(item.idlocation)}")
        if item.namelist or item.params:
            members.append(f"params: {self.params(item.namelist, item.params)}")
        members += self.content(item.content)
        self.out.line(f"$scxml.send({{ {', '.join(members)} }});", item.at)

    # -- extensions ---------------------------------------------------------------------------------

    def _action(self, item: doc.ExtensionAction) -> None:
        self.at(item.at, f"{item.module}:{item.name}")
        requestid = self.setter(item.requestid) if item.requestid else "null"
        children = "[" + ", ".join(self._child(child) for child in item.children) + "]"
        body = []
        if item.params:
            body.append(f"params: {self.params((), item.params)}")
        body += self.content(item.content)
        what = f"{{ {', '.join(body)} }}" if body else "{}"
        self.out.line(
            f"$scxml.action({literal(item.module)}, {literal(item.name)},"
            f" {self._attributes(item.exprs, item.words)}, {requestid}, {children}, {what});",
            item.at,
        )

    def _attributes(self, exprs: dict[str, doc.Code], words: dict[str, str]) -> str:
        for name, code in exprs.items():
            self._warn_of_bare_words(name, code)
        members = [f"{literal(name)}: {self.expression(code)}" for name, code in exprs.items()]
        members += [f"{literal(name)}: {literal(value)}" for name, value in words.items()]
        return f"{{ {', '.join(members)} }}" if members else "{}"

    def _warn_of_bare_words(self, name: str, code: doc.Code) -> None:
        """`queue="VQ_Sales"` is a variable, and nearly always meant to be a text."""
        text = code.text.strip()
        found = _BARE_WORDS.match(text)
        if found and found.group(1) not in self.data | self.variables | SYSTEM_VARIABLES | _GLOBALS:
            message = f"no variable {found.group(1)!r} is declared; a text needs quotes: {name}=\"'{text}'\""
            self.report.warning(code.at, "bare-word", message)

    def _child(self, child: doc.ExtensionChild) -> str:
        inner = ", ".join(self._child(item) for item in child.children)
        attributes = self._attributes(child.exprs, child.words)
        text = f", text: {literal(child.text)}" if child.text else ""
        return f"{{ name: {literal(child.name)}, attributes: {attributes}, children: [{inner}]{text} }}"
