"""Which of our SIP slots new calls get."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from mesh.slots import NotOwner


class Occupancy:
    """The slots served now."""

    def __init__(self, epochs: Mapping[int, int]) -> None:
        """`epochs`: slot -> epoch of the slots that are served, kept current by the engine, which calls `changed`
        then."""
        self.epochs = epochs
        self._leaving: Collection[int] = ()
        self._choice: tuple[int, ...] | None = None

    def changed(self, leaving: Collection[int] = ()) -> None:
        """A slot was taken or given. New calls get slots that are not `leaving`. Costs nothing until the next call: slots
        come and go by the hundred."""
        self._leaving = leaving
        self._choice = None

    @property
    def any(self) -> bool:
        """Whether there is a slot for a new call."""
        return bool(self._choices())

    def choose(self) -> int:
        """A slot for a new call. IndexError when there is none."""
        return random.choice(self._choices())  # which of our own slots is no secret

    def _choices(self) -> tuple[int, ...]:
        if self._choice is None:
            self._choice = tuple(slot for slot in self.epochs if slot not in self._leaving)
        return self._choice

    def epoch(self, slot: int) -> int:
        """Epoch of a slot. Raises NotOwner."""
        epoch = self.epochs.get(slot)
        if epoch is None:
            raise NotOwner("sip", slot)
        return epoch
