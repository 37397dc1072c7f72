"""Which of our SIP slots new calls get, and when a slot that leaves has no call left."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Mapping

from mesh.slots import NotOwner


class Occupancy:
    """The slots owned now and the live calls on them."""

    def __init__(self, epochs: Mapping[int, int]) -> None:
        """`epochs`: slot -> epoch of the slots whose calls we may serve, kept current by the engine, which calls
        `changed` then."""
        self.epochs = epochs
        self._choice: tuple[int, ...] = tuple(epochs)
        self._calls: dict[int, int] = {}
        self._emptied: dict[int, asyncio.Event] = {}

    def changed(self, leaving: Collection[int]) -> None:
        """A slot was taken or given. New calls get slots that are not `leaving`, unless all are."""
        self._choice = tuple(slot for slot in self.epochs if slot not in leaving) or tuple(self.epochs)

    @property
    def any(self) -> bool:
        """Whether there is a slot for a new call."""
        return bool(self._choice)

    def choose(self) -> int:
        """A slot for a new call. IndexError when there is none."""
        return random.choice(self._choice)  # which of our own slots is no secret

    def epoch(self, slot: int) -> int:
        """Epoch of a slot. Raises NotOwner."""
        epoch = self.epochs.get(slot)
        if epoch is None:
            raise NotOwner("sip", slot)
        return epoch

    def enter(self, slot: int) -> None:
        """A call begins."""
        self._calls[slot] = self._calls.get(slot, 0) + 1

    def leave(self, slot: int) -> None:
        """A call has ended. KeyError when there was none."""
        left = self._calls[slot] - 1
        if left:
            self._calls[slot] = left
            return
        del self._calls[slot]
        empty = self._emptied.pop(slot, None)
        if empty is not None:
            empty.set()

    async def emptied(self, slot: int, timeout: float) -> bool:
        """Waits until no live call is on the slot; False when `timeout` seconds passed before."""
        if slot not in self._calls:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._emptied.setdefault(slot, asyncio.Event()).wait(), timeout)
        return slot not in self._calls
