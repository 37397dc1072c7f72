"""Fences of many slots go out together, and one that is another's does not keep the others."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from mesh.errors import DomainError, Reason
from services.sip_cluster.fencing import TOGETHER, Fencing


class Queue:
    """Redis Queue: streams with a fence of somebody else, and whether it answers at all."""

    def __init__(self) -> None:
        self.requests: list[dict[str, int]] = []
        self.taken: set[str] = set()
        self.away = False
        self.gate = asyncio.Event()

    async def fence(self, epochs: Mapping[str, int]) -> Mapping[str, int]:
        self.requests.append(dict(epochs))
        await self.gate.wait()
        if self.away:
            raise DomainError(Reason.REASON_DEPENDENCY_UNAVAILABLE, "no node", dependency="redis_queue")
        if self.taken & epochs.keys():
            raise DomainError(Reason.REASON_STALE_EPOCH, "below the fence")
        return {key: epoch * 10 for key, epoch in epochs.items()}


async def test_what_comes_while_one_request_is_under_way_goes_out_together() -> None:
    queue = Queue()
    fencing = Fencing(queue.fence)
    asked = [asyncio.ensure_future(fencing({f"c{n}": n})) for n in range(TOGETHER)]
    await asyncio.sleep(0)
    late = asyncio.ensure_future(fencing({"late": 7}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.gate.set()
    for n, answer in enumerate(await asyncio.gather(*asked)):
        assert answer[f"c{n}"] == n * 10
    assert (await late)["late"] == 70
    assert len(queue.requests) <= 3


async def test_calls_of_a_few_slots_are_taken_over_at_once_not_all() -> None:
    queue = Queue()
    queue.gate.set()
    fencing = Fencing(queue.fence)
    await asyncio.gather(*(fencing({f"c{n}": n}) for n in range(3 * TOGETHER + 1)))
    assert max(len(request) for request in queue.requests) == TOGETHER


async def test_a_stream_of_somebody_else_is_refused_to_its_own_slot_only() -> None:
    queue = Queue()
    queue.taken.add("c1")
    queue.gate.set()
    fencing = Fencing(queue.fence)
    mine, taken, other = await asyncio.gather(
        *(fencing({f"c{n}": 5}) for n in range(3)), return_exceptions=True
    )
    assert isinstance(mine, dict) and mine["c0"] == 50
    assert isinstance(taken, DomainError) and taken.reason == Reason.REASON_STALE_EPOCH
    assert isinstance(other, dict) and other["c2"] == 50


async def test_a_queue_that_is_away_is_told_to_all_at_once() -> None:
    queue = Queue()
    queue.away = True
    queue.gate.set()
    fencing = Fencing(queue.fence)
    answers = await asyncio.gather(*(fencing({f"c{n}": 5}) for n in range(20)), return_exceptions=True)
    assert all(
        isinstance(a, DomainError) and a.reason == Reason.REASON_DEPENDENCY_UNAVAILABLE for a in answers
    )
    assert len(queue.requests) <= 2
    queue.away = False
    assert (await fencing({"c": 1}))["c"] == 10


async def test_one_that_asks_no_longer_does_not_disturb_the_others() -> None:
    queue = Queue()
    fencing = Fencing(queue.fence)
    gone, stays = asyncio.ensure_future(fencing({"a": 1})), asyncio.ensure_future(fencing({"b": 2}))
    await asyncio.sleep(0.01)
    gone.cancel()
    queue.gate.set()
    assert (await stays)["b"] == 20
    with pytest.raises(asyncio.CancelledError):
        await gone
