"""What was acknowledged in the last seconds, in order: what a Redis that takes the place of another may not have. Pure.

Age counts from the newest acknowledgement, not from now: between the death of a primary and the moment its replica serves nothing is
acknowledged, so nothing that may be lost grows too old meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

KEPT_S: Final = 5.0
"""Seconds: far more than a replica lags behind, and as long as a primary that is cut off may go on acknowledging."""
KEPT: Final = 20_000
"""Items at most."""

T = TypeVar("T")


class Recent(Generic[T]):
    """Items, oldest first; times are seconds of a monotonic clock."""

    def __init__(self, seconds: float = KEPT_S, most: int = KEPT) -> None:
        self._seconds = seconds
        self._items: deque[tuple[float, T]] = deque(maxlen=most)

    def add(self, item: T, now: float) -> None:
        """It is acknowledged."""
        items = self._items
        items.append((now, item))
        oldest = now - self._seconds
        while items[0][0] < oldest:
            items.popleft()

    def remove(self, unwanted: Callable[[T], bool]) -> None:
        """Forgets some."""
        kept = [entry for entry in self._items if not unwanted(entry[1])]
        self._items.clear()
        self._items.extend(kept)

    def __iter__(self) -> Iterator[T]:
        return iter([item for _, item in self._items])

    def __len__(self) -> int:
        return len(self._items)
