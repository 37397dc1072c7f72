"""What may leave a process for a slot: anything while the lease is good; past its deadline only what follows a fenced
write that has just succeeded (design §6). A process that was paused past its lease is stopped here, an etcd outage
stops nobody.

    gate = Gate(service.membership.lease, fenced)
    if await gate.passes(slot, epoch):
        await stub.ReserveAgent(...)

An effect that follows a fenced write in the same turn of the loop needs no gate: the write was its proof.
"""

from __future__ import annotations

from typing import Protocol

from mesh.allocation import Slot as SlotKey
from mesh.store import FencedStore, StaleEpoch


class HasDeadline(Protocol):
    """What the gate needs of the lease: `mesh.lease.Lease` has it."""

    def good(self) -> bool:
        """Whether its deadline is still ahead."""


class Gate:
    """Lets effects of a node's slots pass."""

    def __init__(self, lease: HasDeadline, store: FencedStore) -> None:
        """`store`: of the family of the slots; the fence must have been raised with the epochs given."""
        self._lease = lease
        self._store = store

    async def passes(self, slot: SlotKey, epoch: int) -> bool:
        """True at once while the lease is good, without giving up the turn. Else after a fenced write of nothing; False
        when an heir has raised the fence. Raises StoreUnavailable when Redis is away too: ask again later."""
        if self._lease.good():
            return True
        try:
            await self._store.prove(slot, epoch)
        except StaleEpoch:
            return False
        return True
