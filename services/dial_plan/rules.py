"""Dial rules of a tenant: which one a number matches, and what it becomes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.config_cache import DialRule
from mesh.dial_pattern import BadPattern, Pattern, Replacement, compile_pattern, compile_replacement


@dataclass(frozen=True, slots=True)
class Translation:
    """What a rule makes of a number."""

    rule: str
    """Name of the rule."""
    number: str
    barred: bool


class DialRules:
    """The rules in the order in which they are tried: closest first, by name among equals."""

    def __init__(self, rules: Iterable[DialRule]) -> None:
        self.broken = list[str]()
        """Names of rules that do not compile (written by a later release); they match nothing."""
        compiled = list[tuple[Pattern, Replacement, DialRule]]()
        for rule in rules:
            try:
                pattern, replacement = compile_pattern(rule.pattern), compile_replacement(rule.replacement)
            except BadPattern:
                self.broken.append(rule.name)
                continue
            compiled.append((pattern, replacement, rule))
        self._rules = sorted(compiled, key=lambda entry: (entry[0].closeness, entry[2].name))

    def translate(self, number: str) -> Translation | None:
        """By the closest rule that matches; None when none does."""
        for pattern, replacement, rule in self._rules:
            if pattern.matches(number):
                return Translation(rule.name, replacement.apply(number), rule.barred)
        return None
