"""The DN machine."""

from __future__ import annotations

from services.agent_state.agent import Desk
from services.agent_state.device import Device
from services.agent_state.effects import Answer, Asked, EventKind, Publish, TellAgent
from services.agent_state.record import pack_desk, unpack_desk

ASKED = Asked("i", "r", "desk", 0, "outcomes:fe")


def test_only_changes_are_told_and_the_agent_learns_them() -> None:
    device = Device("t1", "1001", in_service=False, agent_id="A1")
    first = device.notified(True, "register", 10)
    assert isinstance(first[0], Publish)
    assert (first[0].kind, first[0].seq, first[0].attributes["agent_id"]) == (
        EventKind.DN_BACK_IN_SERVICE,
        1,
        "A1",
    )
    assert first[1] == TellAgent("A1", True, False)
    assert device.notified(True, "register", 11) == []
    out = device.notified(False, "expired", 12)
    assert isinstance(out[0], Publish)
    assert (out[0].kind, out[0].cause) == (EventKind.DN_OUT_OF_SERVICE, "registrar:expired")


def test_a_late_notification_says_nothing() -> None:
    device = Device("t1", "1001", in_service=False)
    device.notified(True, "register", 20)
    assert device.notified(False, "unregister", 19) == []
    assert device.in_service


def test_dnd_twice_is_refused() -> None:
    device = Device("t1", "1001")
    on = device.set_dnd(ASKED, True)
    assert [type(e).__name__ for e in on] == ["Publish", "Answer"]
    again = device.set_dnd(ASKED, True)
    assert isinstance(again[0], Answer)
    assert again[0].reason == "REASON_ALREADY_IN_STATE"
    assert device.last_seq == 1


def test_the_one_who_left_does_not_push_out_the_next() -> None:
    device = Device("t1", "1001", dnd=True)
    assert device.occupied("A1", True) == [TellAgent("A1", True, True)]
    device.occupied("A2", True)
    assert device.occupied("A1", False) == []
    assert device.agent_id == "A2"
    device.occupied("A2", False)
    assert device.agent_id == ""


def test_stored_and_restored() -> None:
    desk = Desk(Device("t1", "1001", False, True, "A1", 7, 99))
    desk.outcomes.put("i", None, 5)
    again = unpack_desk(pack_desk(desk))
    assert again.device == desk.device
    assert again.outcomes.get("i") == desk.outcomes.get("i")
