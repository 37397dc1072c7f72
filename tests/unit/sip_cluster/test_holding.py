"""A lease that has ended closes the core's send gate; 0 would open it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from services.sip_cluster.holding import Holding


class Endpoint:
    def __init__(self) -> None:
        self.deadlines: list[int] = []

    def set_send_deadline(self, boottime_ns: int) -> None:
        self.deadlines.append(boottime_ns)


async def test_a_lost_lease_closes_the_gate() -> None:
    endpoint, store = Endpoint(), None
    kept: Any = endpoint
    nothing: Any = store
    holding = Holding(kept, nothing, lambda: 0, list, lambda slot: None)
    task = asyncio.create_task(holding.follow())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert endpoint.deadlines == [1]
