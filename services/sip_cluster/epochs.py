"""Writes under the epoch that a slot has at the moment: it may be renewed while Redis is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mesh.store import StaleEpoch


async def under_epoch_of_now(
    epoch: Callable[[int], int], slot: int, write: Callable[[int], Awaitable[object]]
) -> None:
    """`write(epoch)`, again when it was refused and the slot has another epoch by now: the slot is ours then, and its calls are
    here. `epoch(slot)` raises NotOwner. Raises that, StaleEpoch, and what `write` raises."""
    while True:
        now = epoch(slot)
        try:
            await write(now)
        except StaleEpoch:
            if epoch(slot) == now:
                raise
        else:
            return
