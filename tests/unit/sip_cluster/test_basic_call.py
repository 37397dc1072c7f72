"""Calls between extensions, from and to trunks: events of domain facts §2.2, §2.3 and the SIP beside them."""

from __future__ import annotations

import pytest

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import LegState, TimerKind
from services.sip_cluster.outcomes import DIAL_PLAN_AWAY, NO_ROUTE
from services.sip_cluster.tlib import CallState
from tests.unit.sip_cluster.driver import ANSWER, CONN_ID, OFFER, Driver, extension, outside


def established() -> Driver:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.answer()
    driver.ack()
    return driver


def test_internal_call_tells_every_event_in_order() -> None:
    driver = established()
    driver.put(inputs.ByeReceived(driver.called))
    assert driver.names(everything=True) == [
        "CallCreated",
        "CallPartyAdded@1001",
        "Dialing@1001",
        "CallPartyAdded@1002",
        "Ringing@1002",
        "CallPartyState@1001",
        "Established@1001",
        "CallPartyState@1002",
        "Established@1002",
        "Released@1002",
        "CallPartyDeleted@1002",
        "Released@1001",
        "CallPartyDeleted@1001",
        "CallDeleted",
    ]
    assert driver.sequence() == list(range(1, 15))


def test_internal_call_roles() -> None:
    driver = established()
    dialing = driver.event("Dialing@1001").attributes
    assert (dialing["this_dn_role"], dialing["other_dn"], dialing["other_dn_role"]) == (1, "1002", 2)
    assert dialing["call_type"] == 1
    assert dialing["conn_id"] == CONN_ID
    ringing = driver.event("Ringing@1002").attributes
    assert (ringing["this_dn_role"], ringing["other_dn"], ringing["other_dn_role"]) == (2, "1001", 1)
    assert "call_state" not in ringing
    assert "this_queue" not in ringing


def test_signalling_of_an_internal_call() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    (invite,) = driver.effects(do.SendInvite)
    assert (invite.body, invite.caller, invite.callee, invite.trunk) == (OFFER, "1001", "1002", False)
    driver.ring()
    assert [(alert.status, alert.body) for alert in driver.effects(do.Alert)] == [(180, b"")]
    driver.answer()
    assert [accept.body for accept in driver.effects(do.Accept)] == [ANSWER]
    assert [ack.leg for ack in driver.effects(do.SendAck)] == [driver.called]
    driver.ack()
    assert [leg.state for leg in driver.thread.legs.values()] == [LegState.ESTABLISHED] * 2
    driver.put(inputs.ByeReceived(driver.caller))
    assert [bye.leg for bye in driver.effects(do.SendBye)] == [driver.called]
    assert not driver.thread.finished
    assert driver.put(inputs.ByeDone(driver.called)) == [do.Forget(True)]
    assert driver.thread.finished
    assert driver.thread.timers == {}


def test_snapshots_come_before_effects() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    assert isinstance(driver.last[0], do.Save)
    driver.ring()
    assert isinstance(driver.last[0], do.Save)
    driver.ring(status=183)
    assert do.Save() not in driver.last
    driver.answer()
    assert isinstance(driver.last[0], do.Save)
    driver.ack()
    assert driver.last == []


def test_inbound_call_tells_nothing_for_the_outside_party() -> None:
    driver = Driver(dialled="+4930", from_number="+15551")
    driver.call(extension("1002"), caller_dn="", number="+15551")
    driver.ring()
    driver.answer()
    driver.ack()
    driver.put(inputs.ByeReceived(driver.caller))
    assert driver.names() == ["Ringing@1002", "Established@1002", "Released@1002"]
    attributes = driver.event("Ringing@1002").attributes
    assert (attributes["call_type"], attributes["ani"], attributes["dnis"]) == (2, "+15551", "+4930")


def test_outbound_call_reaches_the_network() -> None:
    driver = Driver(dialled="0049301")
    driver.call(outside("+49301"))
    driver.ring(status=183, body=ANSWER)
    driver.answer()
    driver.ack()
    driver.put(inputs.ByeReceived(driver.caller))
    assert driver.names() == ["Dialing@1001", "NetworkReached@1001", "Established@1001", "Released@1001"]
    assert driver.event("Dialing@1001").attributes["call_type"] == 3
    assert [(alert.status, alert.body) for alert in driver.effects(do.Alert)] == [(183, ANSWER)]


def test_answer_without_ringing_still_tells_ringing() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.answer()
    assert driver.names() == ["Dialing@1001", "Ringing@1002", "Established@1001", "Established@1002"]


def test_session_description_of_early_media_is_passed_once() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.ring(status=183, body=ANSWER)
    driver.ring(status=183, body=ANSWER)
    assert [alert.status for alert in driver.effects(do.Alert)] == [180, 183]


@pytest.mark.parametrize(
    ("status", "state", "busy"),
    [
        (486, CallState.BUSY, True),
        (600, CallState.BUSY, True),
        (603, CallState.DROPPED, True),
        (404, CallState.SIT_INVALID_NUM, True),
        (408, CallState.NO_ANSWER, False),
        (500, CallState.SYSTEM_ERROR, True),
    ],
)
def test_failure_before_ringing(status: int, state: CallState, busy: bool) -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.fail(status)
    expected = ["Dialing@1001", *(["DestinationBusy@1001"] if busy else []), "Released@1001"]
    assert driver.names() == expected
    assert driver.event("Released@1001").attributes["call_state"] == state
    assert driver.statuses() == [status]
    assert driver.thread.finished
    assert driver.names(everything=True)[-1] == "CallDeleted"


def test_failure_after_ringing_releases_the_phone_first() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.fail(603)
    assert driver.names() == [
        "Dialing@1001",
        "Ringing@1002",
        "Released@1002",
        "DestinationBusy@1001",
        "Released@1001",
    ]
    assert driver.event("Released@1002").attributes["call_state"] == CallState.DROPPED
    assert driver.event("Released@1002").attributes["cause"] == 603


def test_no_answer_cancels_and_tells_408() -> None:
    driver = Driver()
    driver.call(extension("1002", no_answer_s=20))
    driver.ring()
    driver.wait(19)
    assert driver.statuses() == []
    driver.wait(1)
    assert [cancel.leg for cancel in driver.effects(do.CancelInvite)] == [driver.called]
    assert driver.statuses() == [408]
    assert driver.names()[-2:] == ["Released@1002", "Released@1001"]
    assert driver.event("Released@1002").attributes["call_state"] == CallState.NO_ANSWER
    assert not driver.thread.finished
    driver.fail(487)
    assert driver.thread.finished


def test_caller_cancels_while_it_rings() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names() == ["Dialing@1001", "Ringing@1002", "Released@1001", "Abandoned@1002"]
    assert driver.statuses() == [487]
    assert [cancel.leg for cancel in driver.effects(do.CancelInvite)] == [driver.called]
    assert driver.latest(do.Count) == [do.Count("abandoned")]


def test_caller_cancels_before_it_rings() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names() == ["Dialing@1001", "Released@1001"]
    assert driver.statuses() == [487]


def test_caller_cancels_before_the_dial_plan_answers() -> None:
    driver = Driver()
    driver.arrive()
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names(everything=True) == []
    assert driver.statuses() == [487]
    assert driver.thread.finished
    assert driver.put(inputs.Resolved(2, extension("1002"))) == [do.Forget(False)]


def test_answer_that_crosses_the_cancel_is_released() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.put(inputs.Cancelled(driver.caller))
    driver.answer()
    assert [ack.leg for ack in driver.latest(do.SendAck)] == [driver.called]
    assert [bye.leg for bye in driver.latest(do.SendBye)] == [driver.called]
    assert not driver.thread.finished
    driver.put(inputs.ByeDone(driver.called))
    assert driver.thread.finished


def test_cancel_after_the_answer_has_no_effect() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.answer()
    before = driver.names()
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names() == before
    assert driver.statuses() == []


def test_hang_up_before_the_ack_waits_for_it() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.answer()
    driver.put(inputs.ByeReceived(driver.called))
    assert driver.latest(do.SendBye) == []
    assert driver.names()[-2:] == ["Released@1002", "Released@1001"]
    driver.ack()
    assert [bye.leg for bye in driver.latest(do.SendBye)] == [driver.caller]
    driver.put(inputs.ByeDone(driver.caller))
    assert driver.thread.finished


def test_missing_ack_ends_the_call() -> None:
    driver = Driver()
    driver.call(extension("1002"))
    driver.answer()
    driver.put(inputs.AckMissing(driver.caller))
    assert sorted(bye.leg for bye in driver.latest(do.SendBye)) == [driver.caller, driver.called]
    assert driver.names()[-2:] == ["Released@1001", "Released@1002"]


def test_both_hang_up_at_once() -> None:
    driver = established()
    driver.put(inputs.ByeReceived(driver.caller))
    assert driver.put(inputs.ByeReceived(driver.called)) == [do.AnswerBye(driver.called)]
    driver.put(inputs.ByeDone(driver.called))
    assert driver.thread.finished
    assert driver.sequence() == list(range(1, len(driver.sequence()) + 1))


def test_call_without_an_offer_takes_the_destination_offer() -> None:
    driver = Driver()
    driver.arrive(offer=b"")
    driver.resolve(extension("1002", caller_dn="1001"))
    assert driver.effects(do.SendInvite)[0].body == b""
    driver.answer(body=OFFER)
    assert driver.effects(do.Accept)[0].body == OFFER
    assert driver.effects(do.SendAck) == []
    driver.ack(body=ANSWER)
    assert [(ack.leg, ack.body) for ack in driver.effects(do.SendAck)] == [(driver.called, ANSWER)]


def test_no_route_with_known_tenant_is_told_to_it() -> None:
    driver = Driver(dialled="777")
    driver.arrive()
    driver.put(inputs.Unresolved(2, NO_ROUTE, "no such number", tenant="t1"))
    assert driver.statuses() == [404]
    assert driver.names() == ["Dialing@1001", "DestinationBusy@1001", "Released@1001"]
    assert driver.event("DestinationBusy@1001").attributes["call_state"] == CallState.SIT_INVALID_NUM
    assert driver.names(everything=True)[-1] == "CallDeleted"
    assert driver.thread.tenant == "t1"


def test_dial_plan_away_is_503_without_events() -> None:
    driver = Driver()
    driver.arrive()
    driver.put(inputs.Unresolved(2, DIAL_PLAN_AWAY, "timeout"))
    assert driver.statuses() == [503]
    assert driver.sequence() == []
    assert driver.thread.finished


def test_unregistered_phone_is_480() -> None:
    driver = Driver()
    driver.call(extension("1002", contacts=()))
    assert driver.statuses() == [480]
    assert driver.names() == ["Dialing@1001", "DestinationBusy@1001", "Released@1001"]


def test_do_not_disturb_is_busy() -> None:
    driver = Driver()
    driver.call(extension("1002", dnd=True))
    assert driver.statuses() == [486]


def test_overflow_of_a_phone_that_is_silent() -> None:
    driver = Driver()
    driver.call(extension("1002", overflow="1003", no_answer_s=10))
    driver.ring()
    driver.wait(10)
    driver.resolve(extension("1003"))
    driver.ring()
    driver.answer()
    assert driver.names() == [
        "Dialing@1001",
        "Ringing@1002",
        "Released@1002",
        "Ringing@1003",
        "Established@1001",
        "Established@1003",
    ]
    assert driver.latest(do.Accept)


def test_overflow_never_goes_to_one_destination_twice() -> None:
    driver = Driver()
    driver.call(extension("1002", overflow="1003", contacts=()))
    driver.resolve(extension("1003", overflow="1002", contacts=()))
    driver.resolve(extension("1002", overflow="1003", contacts=()))
    assert driver.statuses() == [480]


def test_longest_duration_ends_the_call() -> None:
    driver = established()
    driver.thread.timers[TimerKind.DURATION, 0] = driver.now + 5_000_000
    driver.wait(5)
    assert sorted(bye.leg for bye in driver.effects(do.SendBye)) == [driver.caller, driver.called]
    assert driver.names()[-2:] == ["Released@1001", "Released@1002"]
