"""The parts of a compiled document that its sessions keep: columns of numbers, and code in few functions.

An object a state and a function a handler would cost every session several times the memory of these.
"""

from __future__ import annotations

from contextlib import ExitStack

from services.orchestration.scxml import document as doc
from services.orchestration.scxml.ecmascript import literal
from services.orchestration.scxml.problems import Position
from services.orchestration.scxml.statements import StatementWriter
from services.orchestration.scxml.writer import Writer

ABSENT, OPEN, SEVERAL = -1, -2, -2  # as in js/state.js
PER_FUNCTION = 16
"""Blocks of code in one function; js/state.js finds the function by it."""


class Columns:
    """Rows of numbers, written as a list for each name."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.rows: list[tuple[int, ...]] = []

    def add(self, *row: int) -> int:
        """Adds a row; its number."""
        assert len(row) == len(self.names)
        self.rows.append(row)
        return len(self.rows) - 1

    def write(self, out: Writer, name: str) -> None:
        with out.block(f"{name}: {{", "},"):
            for column, values in zip(self.names, zip(*self.rows, strict=True), strict=True):
                out.line(f"{column}: {literal(list(values))},")


class Sparse:
    """What few states or transitions have, by number. Without a prototype: nothing else is found in it."""

    def __init__(self) -> None:
        self.body = Writer()

    def add(self, number: int, text: str, at: Position | None = None) -> None:
        self.body.line(f"{number}: {text},", at)

    def write(self, out: Writer, name: str) -> None:
        with out.block(f"{name}: {{", "},"):
            out.line("__proto__: null,")
            out.append(self.body)


class Blocks:
    """The document's code as numbered cases."""

    def __init__(self, code: StatementWriter) -> None:
        self.out = code.out
        self.code = code
        self.count = 0
        self._open = ExitStack()

    def close(self) -> None:
        """Ends the last function."""
        self._open.close()

    def _next(self, what: str) -> int:
        if self.count % PER_FUNCTION == 0:
            self._open.close()
            self._open.enter_context(self.out.block("function ($scxml_n) {", "},"))
            self._open.enter_context(self.out.block("switch ($scxml_n) {", "}"))
        self.count += 1
        self.out.line(f"case {self.count - 1}:", note=what)
        return self.count - 1

    def body(self, what: str, body: tuple[doc.Statement, ...]) -> int:
        """A block of statements; ABSENT for none."""
        if not body:
            return ABSENT
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

    def line(self, what: str, text: str, at: Position) -> int:
        """A block of one line."""
        number = self._next(what)
        with self.out.indented():
            self.out.line(text, at)
            self.out.line("return;")
        return number
