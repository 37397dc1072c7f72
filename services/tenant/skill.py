"""Skill expressions: "English > 5 & (Loans >= 2 | Cards = 10)", parsed once, evaluated against the levels of a person.

Grammar, loosest first: or = and {"|" and}; and = unit {"&" unit}; unit = "(" or ")" | skill operator level.
Operators: = != < <= > >=. A skill is a letter or underscore followed by letters, digits and underscores, or any text in
double quotes. A level is a whole number from 0 to 1000. A person without the skill meets no comparison with it, whatever
the operator: who does not speak English is not somebody with English below 5.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_LENGTH = 1024
"""Longest expression, characters."""
MAX_DEPTH = 32
"""Deepest nesting of parentheses."""

_TOKEN = re.compile(
    r'\s*(?:(?P<name>[A-Za-z_]\w*|"[^"]+")|(?P<number>\d+)|(?P<op><=|>=|!=|[=<>])|(?P<mark>[&|()]))', re.A
)
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class ExpressionError(ValueError):
    """An expression that does not parse: `position` (from 0) and what was expected there."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"at position {position}: {problem}")
        self.position = position
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Comparison:
    """skill operator level."""

    skill: str
    op: str
    level: int

    def holds(self, levels: Mapping[str, int]) -> bool:
        """Whether a person with these levels meets it."""
        have = levels.get(self.skill)
        return have is not None and _COMPARE[self.op](have, self.level)


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Expression, ...]

    def holds(self, levels: Mapping[str, int]) -> bool:
        """Whether a person with these levels meets it."""
        return all(part.holds(levels) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part holds."""

    parts: tuple[Expression, ...]

    def holds(self, levels: Mapping[str, int]) -> bool:
        """Whether a person with these levels meets it."""
        return any(part.holds(levels) for part in self.parts)


Expression = Comparison | All | Any


def parse(text: str) -> Expression:
    """The expression. Raises ExpressionError with the position of the first thing that does not fit."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(MAX_LENGTH, f"at most {MAX_LENGTH} characters are allowed")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._kind, self._value, self._start = "", "", 0
        self._depth = 0
        self._advance()

    def whole(self) -> Expression:
        expression = self._either()
        if self._kind != "end":
            raise ExpressionError(self._start, "expected '&', '|' or the end")
        return expression

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        if match:
            self._kind = str(match.lastgroup)
            self._value, self._start, self._at = match[self._kind], match.start(self._kind), match.end()
            return
        rest = len(self._text) - len(self._text[self._at :].lstrip())
        if rest < len(self._text):
            raise ExpressionError(rest, f"{self._text[rest]!r} has no meaning here")
        self._kind, self._value, self._start = "end", "", len(self._text)

    def _either(self) -> Expression:
        parts = [self._both()]
        while self._value == "|" and self._kind == "mark":
            self._advance()
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self) -> Expression:
        parts = [self._unit()]
        while self._value == "&" and self._kind == "mark":
            self._advance()
            parts.append(self._unit())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _unit(self) -> Expression:
        if self._kind == "mark" and self._value == "(":
            return self._group()
        if self._kind != "name":
            raise ExpressionError(self._start, "expected a skill or '('")
        skill = self._value.strip('"')
        self._advance()
        if self._kind != "op":
            raise ExpressionError(self._start, "expected one of = != < <= > >=")
        op = self._value
        self._advance()
        if self._kind != "number" or int(self._value) > 1000:
            raise ExpressionError(self._start, "expected a level from 0 to 1000")
        level = int(self._value)
        self._advance()
        return Comparison(skill, op, level)

    def _group(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(self._start, f"at most {MAX_DEPTH} nested parentheses are allowed")
        self._advance()
        inner = self._either()
        if self._kind != "mark" or self._value != ")":
            raise ExpressionError(self._start, "expected ')'")
        self._advance()
        self._depth -= 1
        return inner
