"""Which agents a target means: an agent, a group, a place or a skill expression, against the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from services.tenant import skill


class TargetKind(Enum):
    """Kind of a target (T-Library target type in brackets)."""

    AGENT = "agent"
    AGENT_GROUP = "agent group"
    SKILL = "skill expression"
    PLACE = "place"


class TargetError(ValueError):
    """A target that cannot be understood or leads nowhere; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call may go, active `after_ms` milliseconds after the request."""

    kind: TargetKind
    expression: str
    after_ms: int = 0


class People(Protocol):
    """What target resolution reads of the configuration."""

    def levels(self, agent_id: str) -> Mapping[str, int]:
        """Skill levels of the person behind a login code."""

    def logins_named(self, name: str) -> frozenset[str]:
        """Login codes of the person with this user name or employee id, or the code itself."""

    def group(self, name: str) -> tuple[frozenset[str], str] | None:
        """Login codes of a group's members and its skill expression; None when there is no such group."""

    def place_dns(self, name: str) -> frozenset[str] | None:
        """DNs of a place; None when there is no such place."""


_DESIGNATION = re.compile(r"(?s)(?P<body>.*?)(?:@(?P<stat>[\w.-]*)\.(?P<type>A|AP|GA|GP))?\Z", re.A)
_TYPES = {"A": TargetKind.AGENT, "AP": TargetKind.PLACE, "GA": TargetKind.AGENT_GROUP}


def from_designation(text: str) -> Target:
    """A target as routing applications write it: "name@Stat.GA", "?:English > 5@Stat.GA" (domain facts §5).

    Raises TargetError for a type that is not one of A, AP, GA.
    """
    match = _DESIGNATION.fullmatch(text.strip())
    body = match["body"].strip() if match else ""
    if not body:
        raise TargetError(f"target {text!r}: empty")
    if body.startswith("?:"):
        return Target(TargetKind.SKILL, body[2:].strip())
    kind = _TYPES.get(match["type"] or "") if match else None
    if kind is None:
        raise TargetError(f"target {text!r}: must end in @<stat server>.A, .AP or .GA, or begin with ?:")
    return Target(kind, body)


class Matcher:
    """Answers whether an agent matches a target. Parsed expressions are kept; facts are read afresh each time."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._parsed: dict[str, skill.Expression] = {}

    def check(self, target: Target) -> None:
        """Raises TargetError when nobody could ever match: bad expression, unknown agent, group or place."""
        people = self._people
        if target.kind is TargetKind.SKILL:
            self._expression(target.expression)
        elif target.kind is TargetKind.AGENT and not people.logins_named(target.expression):
            raise TargetError(f"no agent is called {target.expression!r}")
        elif target.kind is TargetKind.AGENT_GROUP:
            self._group(target.expression)
        elif target.kind is TargetKind.PLACE and people.place_dns(target.expression) is None:
            raise TargetError(f"no place is called {target.expression!r}")

    def matches(self, target: Target, agent_id: str, dn: str) -> bool:
        """Whether the agent (on `dn`) matches. A group or place deleted meanwhile matches nobody."""
        people = self._people
        if target.kind is TargetKind.SKILL:
            return self._expression(target.expression).holds(people.levels(agent_id))
        if target.kind is TargetKind.AGENT:
            return agent_id in people.logins_named(target.expression)
        if target.kind is TargetKind.PLACE:
            return dn in (people.place_dns(target.expression) or ())
        group = people.group(target.expression)
        if group is None:
            return False
        members, expression = group
        if expression:
            return self._expression(expression).holds(people.levels(agent_id))
        return agent_id in members

    def _group(self, name: str) -> None:
        group = self._people.group(name)
        if group is None:
            raise TargetError(f"no agent group is called {name!r}")
        if group[1]:
            self._expression(group[1])

    def _expression(self, text: str) -> skill.Expression:
        parsed = self._parsed.get(text)
        if parsed is None:
            try:
                parsed = skill.parse(text)
            except skill.ExpressionError as error:
                raise TargetError(f"skill expression {text!r} {error}") from error
            if len(self._parsed) >= 4096:
                self._parsed.clear()
            self._parsed[text] = parsed
        return parsed
