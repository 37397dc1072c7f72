"""Waiting requests by what they ask for, each line in the order of service. Pure.

Requests of one line differ in nothing that decides who may serve them: if nobody may serve the first, nobody may serve the
others. So who looks for the next request to be served looks at the heads of the lines only.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.tenant.inputs import Request
from services.tenant.targets import Target

Place = tuple[int, int, str]
"""Where a request stands: orders by priority, then age, then id, which is its last part."""


def place_of(request: Request) -> Place:
    """Higher priority first, then older first."""
    return (-request.priority, request.age_us, request.request_id)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the requests of one line ask for."""

    targets: tuple[Target, ...]
    """Those that are active, in the order of preference."""
    excluded: frozenset[str]
    """Agents who may not serve them."""


@dataclass
class Lines:
    """Requests that nobody is asked for."""

    _lines: dict[Wish, list[Place]] = field(default_factory=dict)

    def add(self, wish: Wish, place: Place) -> None:
        """A request joins."""
        bisect.insort(self._lines.setdefault(wish, []), place)

    def remove(self, wish: Wish, place: Place) -> None:
        """A request that has joined leaves."""
        line = self._lines[wish]
        del line[bisect.bisect_left(line, place)]
        if not line:
            del self._lines[wish]

    def first(self, wish: Wish) -> Place | None:
        """The head of a line; None: there is no such line."""
        line = self._lines.get(wish)
        return line[0] if line else None

    def heads(self, wishes: Iterable[Wish] | None) -> list[tuple[Place, Wish]]:
        """A heap of the heads of these lines, or of all. No place is there twice, so wishes are never compared."""
        among = self._lines if wishes is None else wishes
        heads = [(place, wish) for wish in among if (place := self.first(wish)) is not None]
        heapq.heapify(heads)
        return heads
