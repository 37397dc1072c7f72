"""Errors and warnings about a document, each at a line and column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where something stands: line and column count from 1; `file` is "" in the document itself and the
    address of the included file inside XInclude."""

    line: int
    column: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    column: int
    rule: str
    """Stable short name of the rule broken, for example "target-unknown"."""
    message: str
    file: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:" if self.file else ""
        return f"{where}{self.line}:{self.column}: {self.message} [{self.rule}]"


class CompileError(Exception):
    """The document is not a valid application; `problems` says everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class Report:
    """Collects problems while a document is read, so that an author sees all of them at once."""

    LIMIT = 200

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def error(self, at: Position, rule: str, message: str) -> None:
        """A rule whose breach makes the document unusable."""
        if len(self.errors) < self.LIMIT:
            self.errors.append(Problem(at.line, at.column, rule, message, at.file))

    def warning(self, at: Position, rule: str, message: str) -> None:
        """Legal, but probably not what the author means, or an error.execution in waiting."""
        if len(self.warnings) < self.LIMIT:
            self.warnings.append(Problem(at.line, at.column, rule, message, at.file))

    def stop_on_errors(self) -> None:
        """Raise CompileError when there is any error."""
        if self.errors:
            raise CompileError(sorted(self.errors, key=lambda item: (item.file, item.line, item.column)))
