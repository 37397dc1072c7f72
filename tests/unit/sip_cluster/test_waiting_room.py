"""Messages that wait for their slot."""

from __future__ import annotations

import pytest
from voicecore import sip

from services.sip_cluster import waiting_room
from services.sip_cluster.waiting_room import WaitingRoom
from tests.unit.core.loopback import Phone, phones


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def arrived(a: Phone, b: Phone, count: int, method: str = "OPTIONS") -> list[sip.RequestReceived]:
    """Requests as the core gives them."""
    for _ in range(count):
        a.endpoint.send_request(a.new(method, b.address), b.address)
    return [b.request(method) for _ in range(count)]


def test_messages_leave_in_order_once_their_slot_is_here() -> None:
    room = WaitingRoom(Clock())
    with phones(2) as (a, b):
        one, two, three = arrived(a, b, 3)
        room.keep(7, one)
        room.keep(8, two)
        room.keep(7, three)
        assert (room.depth, room.slot_of(two.txn), room.slot_of(12345)) == (3, 8, None)
        assert room.leave(7) == [one, three]
        assert room.leave(7) == []
        assert (room.depth, room.slot_of(one.txn), room.slot_of(two.txn)) == (1, None, 8)


def test_what_waits_too_long_is_given_up() -> None:
    clock = Clock()
    room = WaitingRoom(clock)
    with phones(2) as (a, b):
        old, young = arrived(a, b, 2)
        room.keep(7, old)
        clock.now += 20
        room.keep(7, young)
        assert room.expire() == []
        clock.now += 20
        assert room.expire() == [old]
        assert (room.depth, room.dropped, room.leave(7)) == (1, 1, [young])


def test_a_full_room_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_room, "LIMIT", 1)
    room = WaitingRoom(Clock())
    with phones(2) as (a, b):
        one, two = arrived(a, b, 2)
        room.keep(7, one)
        room.keep(7, two)
        assert (room.depth, room.dropped, room.leave(7)) == (1, 1, [one])
