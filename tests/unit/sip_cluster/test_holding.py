"""A lease that has ended closes the core's send gate; 0 would open it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.sip_cluster.holding import Holding


class Endpoint:
    def __init__(self) -> None:
        self.deadlines: list[int] = []

    def set_send_deadline(self, boottime_ns: int) -> None:
        self.deadlines.append(boottime_ns)


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
    Holding(kept, store, list, lambda slot: None).follow(lease)
    [moved] = lease.callbacks
    moved(7_000_000_000)
    moved(0)
    assert endpoint.deadlines == [1, 7_000_000_000, 1]
