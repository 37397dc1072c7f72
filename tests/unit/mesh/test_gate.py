"""What may leave past the lease's deadline."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh.gate import Gate
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable


class Lease:
    def __init__(self) -> None:
        self.ahead = True

    def good(self) -> bool:
        return self.ahead


class Store:
    def __init__(self) -> None:
        self.proofs: list[tuple[Any, int]] = []
        self.failure: Exception | None = None

    async def prove(self, slot: Any, epoch: int) -> None:
        self.proofs.append((slot, epoch))
        if self.failure is not None:
            raise self.failure


async def test_a_good_lease_lets_pass_without_a_write() -> None:
    store = Store()
    assert await Gate(Lease(), cast(FencedStore, store)).passes(7, 3)
    assert store.proofs == []


async def test_past_the_deadline_a_fenced_write_decides() -> None:
    lease, store = Lease(), Store()
    gate = Gate(lease, cast(FencedStore, store))
    lease.ahead = False
    assert await gate.passes("t1", 3)
    store.failure = StaleEpoch("t1", 3, 4)
    assert not await gate.passes("t1", 3)
    assert store.proofs == [("t1", 3), ("t1", 3)]


async def test_with_both_gone_it_says_so() -> None:
    lease, store = Lease(), Store()
    lease.ahead, store.failure = False, StoreUnavailable("no answer")
    with pytest.raises(StoreUnavailable):
        await Gate(lease, cast(FencedStore, store)).passes(1, 1)
