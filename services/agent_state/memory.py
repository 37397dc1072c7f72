"""What was dealt with lately, so that a repeat has no second effect and gets the same outcome. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KEPT: Final = 16
"""Outcomes remembered of one agent or DN: the record is written with each change, so they cost."""
KEPT_US: Final = 600_000_000
"""How long: ten minutes, UTC microseconds."""
MARKS: Final = 64
"""Call threads of one agent whose place is remembered."""


@dataclass(frozen=True, slots=True)
class Remembered(Generic[T]):
    """An input that was dealt with."""

    outcome: T | None
    time_us: int


class Memory(Generic[T]):
    """Outcomes by input id, oldest first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Remembered[T]] = OrderedDict()

    def get(self, input_id: str) -> Remembered[T] | None:
        """What became of an input; None for one that is new."""
        return self._known.get(input_id)

    def put(self, input_id: str, outcome: T | None, now_us: int) -> None:
        """The input has been dealt with."""
        self._known[input_id] = Remembered(outcome, now_us)
        self._known.move_to_end(input_id)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def forget_old(self, now_us: int) -> None:
        """Drops what is older than ten minutes."""
        while self._known and now_us - next(iter(self._known.values())).time_us > KEPT_US:
            self._known.popitem(last=False)

    def items(self) -> Iterator[tuple[str, Remembered[T]]]:
        """All, oldest first."""
        return iter(self._known.items())


class Marks:
    """How far the events of call threads have been taken: each thread's sequence only grows."""

    def __init__(self) -> None:
        self._marks: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def advance(self, thread: str, seq: int, now_us: int) -> bool:
        """Takes an event; False when it, or a later one of its thread, was taken before."""
        if seq <= self._marks.get(thread, (0, 0))[0]:
            return False
        self._marks[thread] = (seq, now_us)
        self._marks.move_to_end(thread)
        while len(self._marks) > MARKS:
            self._marks.popitem(last=False)
        return True

    def put(self, thread: str, seq: int, time_us: int) -> None:
        """As it was stored."""
        self._marks[thread] = (seq, time_us)

    def items(self) -> Iterator[tuple[str, int, int]]:
        """(thread, seq, time), oldest first."""
        return ((thread, seq, time_us) for thread, (seq, time_us) in self._marks.items())
