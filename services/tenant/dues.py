"""When something has to be looked at again: one time for each key. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=tuple[str, ...])

SPARE = 64
"""Times that do not count any more are kept until there are so many more of them than of those that do."""


@dataclass
class Dues(Generic[K]):
    """Times (UTC microseconds) of keys."""

    _at: dict[K, int] = field(default_factory=dict)
    _heap: list[tuple[int, K]] = field(default_factory=list)

    def set(self, key: K, when_us: int | None) -> None:
        """The key's time from now on; None: it has none."""
        if when_us is None:
            self._at.pop(key, None)
        elif self._at.get(key) != when_us:
            self._at[key] = when_us
            heapq.heappush(self._heap, (when_us, key))
        if len(self._heap) > 2 * len(self._at) + SPARE:
            self._heap = [(when, key) for key, when in self._at.items()]
            heapq.heapify(self._heap)

    def next_us(self) -> int | None:
        """The earliest time."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now_us: int) -> K | None:
        """A key whose time has come; it has none any more."""
        first = self.next_us()
        if first is None or first > now_us:
            return None
        _, key = heapq.heappop(self._heap)
        del self._at[key]
        return key
