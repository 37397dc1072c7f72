"""Slots for new calls."""

from __future__ import annotations

import pytest

from mesh.slots import NotOwner
from services.sip_cluster.occupancy import Occupancy


def test_new_calls_avoid_slots_that_leave() -> None:
    epochs: dict[int, int] = {}
    slots = Occupancy(epochs)
    assert not slots.any
    epochs.update({1: 10, 2: 20, 3: 30})
    assert not slots.any, "nobody has said that something changed"
    slots.changed({2})
    assert {slots.choose() for _ in range(200)} == {1, 3}
    slots.changed({1, 2, 3})
    assert not slots.any, "a call that begins now would begin elsewhere"
    slots.changed()
    assert {slots.choose() for _ in range(200)} == {1, 2, 3}


def test_epochs() -> None:
    slots = Occupancy({1: 10})
    assert slots.epoch(1) == 10
    with pytest.raises(NotOwner):
        slots.epoch(2)
