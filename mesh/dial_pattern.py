"""The language of dial rules: patterns that numbers match, and what a matched number becomes. Pure.

    pattern      digits and + * # stand for themselves; X 0-9, N 2-9, Z 1-9, [1-35] one of a set; a final "."
                 is one or more of anything left
    replacement  literal digits + * #; ${DIGITS} the whole number, ${DIGITS:n} without its first n,
                 ${DIGITS:n:m} m of them from n on

The closest match wins: compared place by place, the pattern whose place takes fewer characters is closer, so
911 beats 9XX beats 9X. Config refuses a rule that does not compile, the dial plan runs it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PATTERN = 64
"""Longest pattern, characters."""
MAX_REPLACEMENT = 255
"""Longest replacement, characters."""

_CLASSES = {"X": frozenset("0123456789"), "N": frozenset("23456789"), "Z": frozenset("123456789")}
_LITERALS = frozenset("0123456789+*#")
_SET = re.compile(r"\[([0-9*#]|[0-9]-[0-9])+\]")
_SET_PART = re.compile(r"([0-9])-([0-9])|([0-9*#])")
_REFERENCE = re.compile(r"\$\{DIGITS(?::(\d{1,3})(?::(\d{1,3}))?)?\}")
_ANY = 1000  # a "." takes more than any class


class BadPattern(ValueError):
    """The pattern or replacement is not of the language; the text reads "must …"."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern."""

    places: tuple[frozenset[str], ...]
    open_ended: bool
    """Whether it ends in ".": one or more characters more."""

    def matches(self, number: str) -> bool:
        """Whether the whole number matches."""
        length = len(self.places)
        if len(number) <= length if self.open_ended else len(number) != length:
            return False
        return all(char in place for char, place in zip(number, self.places, strict=False))

    @property
    def closeness(self) -> tuple[int, ...]:
        """Sort key: of two patterns that match a number, the smaller is the closer."""
        return (*(len(place) for place in self.places), *((_ANY,) if self.open_ended else ()))


def compile_pattern(text: str) -> Pattern:
    """Raises BadPattern."""
    if not 1 <= len(text) <= MAX_PATTERN:
        raise BadPattern(f"must have 1 to {MAX_PATTERN} characters")
    places = list[frozenset[str]]()
    at, body = 0, text[:-1] if text.endswith(".") else text
    while at < len(body):
        char = body[at]
        if char == "[":
            match = _SET.match(body, at)
            if match is None:
                raise BadPattern("must close each [set] and have only 0-9 * # in it")
            places.append(_set(match[0]))
            at = match.end()
            continue
        if char.upper() in _CLASSES:
            places.append(_CLASSES[char.upper()])
        elif char in _LITERALS:
            places.append(frozenset(char))
        else:
            raise BadPattern(f"must be of digits + * # X N Z [set] and a final '.', not {char!r}")
        at += 1
    return Pattern(tuple(places), body is not text)


def _set(text: str) -> frozenset[str]:
    found = set[str]()
    for low, high, single in _SET_PART.findall(text[1:-1]):
        if single:
            found.add(single)
        elif low > high:
            raise BadPattern(f"must have ranges that rise, not {low}-{high}")
        else:
            found.update(chr(code) for code in range(ord(low), ord(high) + 1))
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A compiled replacement: literals and slices of the number, in order."""

    parts: tuple[str | tuple[int, int | None], ...]

    def apply(self, number: str) -> str:
        """What the number becomes."""
        return "".join(
            part
            if isinstance(part, str)
            else number[part[0] : None if part[1] is None else part[0] + part[1]]
            for part in self.parts
        )


def compile_replacement(text: str) -> Replacement:
    """Raises BadPattern. An empty replacement leaves the number as it is."""
    if len(text) > MAX_REPLACEMENT:
        raise BadPattern(f"must have at most {MAX_REPLACEMENT} characters")
    parts = list[str | tuple[int, int | None]]()
    at = 0
    while at < len(text):
        match = _REFERENCE.match(text, at)
        if match is not None:
            parts.append((int(match[1] or 0), None if match[2] is None else int(match[2])))
            at = match.end()
        elif text[at].isascii() and (text[at].isalnum() or text[at] in "+*#_.-"):
            parts.append(text[at])
            at += 1
        else:
            raise BadPattern(f"must be of digits, letters, + * # _ . - and ${{DIGITS:n:m}}, not {text[at]!r}")
    return Replacement(tuple(parts) if text else ((0, None),))
