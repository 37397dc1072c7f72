"""A node's slots: claims what it should have, hands over what others should, tells the service of both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import Enum
from typing import Protocol

from mesh.membership import Membership

SlotKey = int | str
"""A slot: its number, or for families keyed by name (tenants) its key."""


class ReleaseReason(Enum):
    """Why a slot is released."""

    HANDED_OVER = "handed over"
    """The claim is about to be given to another node: what is not written yet must be written before
    returning."""
    LOST = "lost"
    """The claim is gone (lease ended, store replaced): drop the slot's state, write nothing, cause no
    effect."""


class NotOwner(Exception):
    """This node does not own the slot. Has `family` and `slot`."""

    def __init__(self, family: str, slot: SlotKey) -> None:
        super().__init__(f"not the owner of {family} slot {slot}")
        self.family = family
        self.slot = slot


class HasMembership(Protocol):
    """What Slots needs of a process: `mesh.service.Service` has it."""

    @property
    def membership(self) -> Membership: ...


Acquire = Callable[[SlotKey, int], Awaitable[None]]
Release = Callable[[SlotKey, int, ReleaseReason], Awaitable[None]]


class Slots:
    """The slots of one family that this node owns.

    `count_or_keys`: the number of slots (fixed for good), or a callable giving the keys known now, which
    may grow (call `refresh()` when it has); a key that disappears keeps its slot until its owner ends.
    `acquire(slot, epoch)` is awaited when a claim was won: raise the fence, then read, then return; only
    then is the slot in `owned`. When it raises, it is logged and called again with backoff.
    `release(slot, epoch, reason)` is awaited when the slot has left `owned`; acquire and release of one
    slot never overlap.
    """

    def __init__(
        self,
        service: HasMembership,
        family: str,
        count_or_keys: int | Callable[[], Iterable[str]],
        *,
        acquire: Acquire,
        release: Release,
        settle_s: float = 0.3,
    ) -> None:
        """`settle_s`: how long a node that just joined waits for peers before it claims free slots."""
        raise NotImplementedError

    @property
    def owned(self) -> Mapping[SlotKey, int]:
        """Slot -> epoch of the slots this node serves now."""
        raise NotImplementedError

    def epoch(self, slot: SlotKey) -> int:
        """Epoch of an owned slot. Raises NotOwner."""
        raise NotImplementedError

    async def ready(self, slot: SlotKey, timeout: float) -> int:
        """Epoch of the slot, waiting while it is being acquired. Raises NotOwner when it is not this
        node's, or is not acquired within `timeout` seconds."""
        raise NotImplementedError

    async def start(self) -> None:
        """Begins to take part (after `Membership.join`)."""
        raise NotImplementedError

    async def wait_complete(self, timeout: float) -> None:
        """Returns when every slot of the family is claimed by some node and this node's are acquired. Raises
        TimeoutError."""
        raise NotImplementedError

    def refresh(self) -> None:
        """The callable given as `count_or_keys` has more keys now."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Takes part no longer; hands nothing over (`Membership.drain` does)."""
        raise NotImplementedError
