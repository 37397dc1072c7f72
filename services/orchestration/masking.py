"""What logs and traces must not show: values under names that a tenant's option lists. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

from services.orchestration.scxml import Json

HIDDEN = "***"
SHORTEST = 3
"""Values with fewer characters are hidden under their names only: elsewhere they could be anything."""
MAX_SECRETS = 100
"""Values a session's secrets keep, the newest."""
MAX_DEPTH = 32


class Mask:
    """Names with sensitive values: `*` and `?` as in file names, upper and lower case alike."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        patterns = [fnmatch.translate(name.strip().lower()) for name in names if name.strip()]
        self._names = re.compile("|".join(patterns)) if patterns else None

    @classmethod
    def of(cls, option: str) -> Mask:
        """From the option's value: names separated by commas."""
        return cls(option.split(","))

    def __bool__(self) -> bool:
        return self._names is not None

    def hides(self, name: str) -> bool:
        """Whether values under this name are hidden."""
        return self._names is not None and self._names.match(name.lower()) is not None

    def json(self, value: Json, depth: int = 0) -> Json:
        """A copy without the hidden values: members of objects, and pairs [name, value] as user data has them."""
        if self._names is None:
            return value
        if depth > MAX_DEPTH:
            return HIDDEN
        if isinstance(value, dict):
            return {k: HIDDEN if self.hides(str(k)) else self.json(v, depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple):
            if _is_pair(value) and self.hides(value[0]):
                return [value[0], HIDDEN]
            return [self.json(item, depth + 1) for item in value]
        return value

    def secrets(self, value: Json, depth: int = 0) -> Iterator[str]:
        """The values that are hidden, as text."""
        if self._names is None or depth > MAX_DEPTH:
            return
        if isinstance(value, dict):
            pairs: Iterable[tuple[str, Json]] = ((str(k), v) for k, v in value.items())
        elif isinstance(value, list | tuple) and _is_pair(value):
            pairs = [(value[0], value[1])]
        elif isinstance(value, list | tuple):
            for item in value:
                yield from self.secrets(item, depth + 1)
            return
        else:
            return
        for name, inner in pairs:
            if self.hides(name):
                yield from _texts(inner)
            else:
                yield from self.secrets(inner, depth + 1)


class Secrets:
    """Hidden values that a session has met, so that texts made of them can be hidden too."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def add(self, values: Iterable[str]) -> None:
        """Remembers values; the oldest give way."""
        for value in values:
            if len(value) >= SHORTEST:
                self._values.pop(value, None)
                self._values[value] = None
        while len(self._values) > MAX_SECRETS:
            del self._values[next(iter(self._values))]

    def hide(self, text: str) -> str:
        """The text with every value that is known replaced, longer ones first."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
        return text


def _is_pair(value: list[Json] | tuple[Json, ...]) -> bool:
    return len(value) == 2 and isinstance(value[0], str)


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
