"""What must be true before an effect of a slot leaves: the lease vouches for the slot, or a fenced write has just
done so (design §6).

    await gate.passing(slot, state.epoch)    # before an RPC, an append, an answer
    await stub.ReserveAgent(…)

While the lease is good this costs a look at a clock. Past its deadline (etcd is away, or this process was paused)
the store is asked; so an outage of etcd stops nobody, and a process that has lost its slots does nothing. Give
the epoch that the slot's writes carry at this moment: `renew` may have changed it since.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.allocation import Slot as SlotKey
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable
from mesh.telemetry.metrics import Metrics

__all__ = ["Gate", "StaleEpoch", "StoreUnavailable"]


class Gate:
    """Lets effects of a service's slots leave."""

    def __init__(self, may_act: Callable[[SlotKey], bool], store: FencedStore, metrics: Metrics) -> None:
        """`may_act`: `Slots.may_act`."""
        self._may_act = may_act
        self._store = store
        passed = metrics.counter(
            "gated_effects_total", "Effects past the lease's deadline, by what the fenced write said", ["how"]
        )
        self._proved, self._stale, self._unproved = (
            passed.labels(how) for how in ("proved", "stale", "unproved")
        )

    def open(self, slot: SlotKey) -> bool:
        """Whether an effect may leave at once."""
        return self._may_act(slot)

    async def passing(self, slot: SlotKey, epoch: int, *, timeout: float | None = None) -> None:
        """Returns when an effect of the slot may leave. Raises StaleEpoch: the slot is another's, forget it;
        StoreUnavailable: neither lease nor Redis vouches for it, try again later."""
        if self._may_act(slot):
            return
        try:
            await self._store.prove(slot, epoch, timeout=timeout)
        except StaleEpoch:
            self._stale.inc()
            raise
        except StoreUnavailable:
            self._unproved.inc()
            raise
        self._proved.inc()
