"""A lease that has ended closes the core's send gate; 0 would open it. Behind it a fenced write decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mesh.slots import NotOwner
from mesh.store import StaleEpoch, StoreUnavailable
from services.sip_cluster.holding import Holding


class Endpoint:
    def __init__(self) -> None:
        self.deadlines: list[int] = []

    def set_send_deadline(self, boottime_ns: int) -> None:
        self.deadlines.append(boottime_ns)

    def release_held(self) -> int:
        return 2

    def drop_held(self) -> int:
        return 3


class Lease:
    def __init__(self) -> None:
        self.callbacks: list[Callable[[int], None]] = []

    def deadline_ns(self) -> int:
        return 0

    def on_deadline(self, callback: Callable[[int], None]) -> None:
        self.callbacks.append(callback)


def test_the_core_hears_each_deadline_and_a_lost_lease_closes_the_gate() -> None:
    endpoint, lease = Endpoint(), Lease()
    kept: Any = endpoint
    store: Any = None
    Holding(kept, store, list, int, lambda slot: None).follow(lease)
    [moved] = lease.callbacks
    moved(7_000_000_000)
    moved(0)
    assert endpoint.deadlines == [1, 7_000_000_000, 1]


class Slots:
    """What this node thinks, and what Redis knows."""

    def __init__(self, owned: dict[int, int], fences: dict[int, int]) -> None:
        self.owned, self.fences = owned, fences
        self.lost: list[int] = []
        self.asked: list[tuple[int, int]] = []
        self.renewals: dict[int, int] = {}
        """Slots whose epoch becomes another one while Redis is asked."""
        self.away = False

    def epoch(self, slot: int) -> int:
        if slot not in self.owned:
            raise NotOwner("sip", slot)
        return self.owned[slot]

    async def prove(self, slot: int, epoch: int) -> None:
        self.asked.append((slot, epoch))
        if self.away:
            raise StoreUnavailable("no answer in time")
        if slot in self.renewals:
            self.owned[slot] = self.fences[slot] = self.renewals.pop(slot)
        if epoch < self.fences[slot]:
            raise StaleEpoch(slot, epoch, self.fences[slot])


async def held(slots: Slots) -> Holding:
    """Packets were held, and Redis was asked."""
    endpoint: Any = Endpoint()
    store: Any = slots
    holding = Holding(endpoint, store, lambda: list(slots.owned), slots.epoch, slots.lost.append)
    holding.held(1)
    async with asyncio.timeout(10):
        while not (holding.released or holding.dropped):
            await asyncio.sleep(0)
    return holding


async def test_packets_leave_when_redis_vouches_for_every_slot() -> None:
    slots = Slots({1: 5, 2: 6}, {1: 5, 2: 6})
    holding = await held(slots)
    assert (holding.released, holding.dropped, slots.lost) == (2, 0, [])


async def test_a_slot_that_is_anothers_is_lost_and_nothing_leaves() -> None:
    slots = Slots({1: 5, 2: 6}, {1: 9, 2: 6})
    holding = await held(slots)
    assert (holding.released, holding.dropped, slots.lost) == (0, 3, [1])


async def test_a_slot_that_is_renewed_while_redis_is_asked_is_not_lost() -> None:
    slots = Slots({1: 5, 2: 6}, {1: 5, 2: 6})
    slots.renewals = {1: 8}
    holding = await held(slots)
    assert (holding.released, holding.dropped, slots.lost) == (2, 0, [])
    assert slots.asked == [(1, 5), (1, 8), (2, 6)]


async def test_without_redis_nothing_leaves_and_nothing_is_lost() -> None:
    slots = Slots({1: 5}, {1: 5})
    slots.away = True
    holding = await held(slots)
    assert (holding.released, holding.dropped, slots.lost) == (0, 3, [])
