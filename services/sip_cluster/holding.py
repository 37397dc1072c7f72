"""Nothing leaves after the lease's deadline unless a fenced write has just proved the slots ours (design §6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from voicecore.sip import Endpoint

from mesh.errors import DomainError
from mesh.store import FencedStore, StaleEpoch
from mesh.telemetry import logger
from services.sip_cluster.epochs import under_epoch_of_now


class HasDeadline(Protocol):
    """What is followed: `mesh.lease.Lease` has it."""

    def deadline_ns(self) -> int:
        """CLOCK_BOOTTIME, ns; 0 while there is no lease."""

    def on_deadline(self, callback: Callable[[int], None]) -> None:
        """Calls back with each new deadline, from any thread."""


class Holding:
    """Keeps the core's send deadline, and frees or drops what waits behind it."""

    def __init__(
        self,
        endpoint: Endpoint,
        store: FencedStore,
        live: Callable[[], Iterable[int]],
        epoch: Callable[[int], int],
        lost: Callable[[int], None],
    ) -> None:
        """`live`: slots that have to vouch; none when we have none. `epoch(slot)`: the epoch of this moment; raises
        NotOwner. `lost(slot)`: the slot is somebody else's."""
        self._endpoint = endpoint
        self._store = store
        self._live = live
        self._epoch = epoch
        self._lost = lost
        self._proof: asyncio.Task[None] | None = None
        self._log = logger("holding")
        self.released = 0
        """Packets sent after a fenced write."""
        self.dropped = 0
        """Packets dropped: a slot was lost, or neither lease nor Redis vouched for it."""

    def follow(self, lease: HasDeadline) -> None:
        """Tells the core the deadline, now and whenever it moves: from the thread that keeps the lease alive, so a busy
        loop holds nothing back."""
        lease.on_deadline(self._moved)
        self._moved(lease.deadline_ns())

    def _moved(self, deadline_ns: int) -> None:
        # 0 opens the core's gate for good; of a lease it says that it has ended
        self._endpoint.set_send_deadline(deadline_ns or 1)

    def held(self, count: int) -> None:
        """The core has begun to hold packets."""
        if self._proof is None or self._proof.done():
            self._proof = asyncio.get_running_loop().create_task(self._prove(), name="prove slots")

    def discard(self) -> None:
        """Calls have turned out to be somebody else's: what waits may be theirs."""
        self.dropped += self._endpoint.drop_held()

    async def _prove(self) -> None:
        slots = list(self._live())
        prove = self._store.prove
        results = await asyncio.gather(
            *(under_epoch_of_now(self._epoch, slot, partial(prove, slot)) for slot in slots),
            return_exceptions=True,
        )
        failed = not slots
        for slot, result in zip(slots, results, strict=True):
            if isinstance(result, StaleEpoch):
                self._lost(slot)
            elif isinstance(result, BaseException) and not isinstance(result, DomainError):
                raise result
            failed = failed or isinstance(result, BaseException)
        if failed:
            self.dropped += self._endpoint.drop_held()
            self._log.warning("packets dropped after the lease's deadline", slots=len(slots))
        else:
            self.released += self._endpoint.release_held()
