"""Slots for new calls, and waiting for the last call of a slot."""

from __future__ import annotations

import asyncio

import pytest

from mesh.slots import NotOwner
from services.sip_cluster.occupancy import Occupancy


def test_new_calls_avoid_slots_that_leave() -> None:
    epochs: dict[int, int] = {}
    slots = Occupancy(epochs)
    assert not slots.any
    epochs.update({1: 10, 2: 20, 3: 30})
    slots.changed({2})
    assert {slots.choose() for _ in range(200)} == {1, 3}
    slots.changed({1, 2, 3})
    assert {slots.choose() for _ in range(200)} == {1, 2, 3}, "late calls are not refused"


def test_epochs() -> None:
    slots = Occupancy({1: 10})
    assert slots.epoch(1) == 10
    with pytest.raises(NotOwner):
        slots.epoch(2)


async def test_emptied_when_the_last_call_ends() -> None:
    slots = Occupancy({1: 10})
    assert await slots.emptied(1, 0.01)
    slots.enter(1)
    slots.enter(1)
    assert not await slots.emptied(1, 0.01)
    waiting = asyncio.create_task(slots.emptied(1, 5))
    await asyncio.sleep(0)
    slots.leave(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.leave(1)
    assert await waiting
    with pytest.raises(KeyError):
        slots.leave(1)
