"""Requests of T-Library on calls: each with its success, its refusals, and the once-only rule."""

from __future__ import annotations

import pytest

from services.sip_cluster import effects as do
from services.sip_cluster import inputs, making
from services.sip_cluster.calls import Contact, Purpose, Refusal, Told
from services.sip_cluster.outcomes import NO_ROUTE
from services.sip_cluster.tlib import CallState, EventType, Why
from tests.unit.sip_cluster.driver import ANSWER, CONN_ID, OFFER, Driver, extension, outside, route_point


def outcome(driver: Driver) -> Told | Refusal:
    return driver.latest(do.Reply)[-1].outcome


def refused(driver: Driver, why: Why) -> None:
    refusal = outcome(driver)
    assert isinstance(refusal, Refusal) and refusal.why is why


def established() -> Driver:
    driver = Driver()
    driver.call(extension("1002"))
    driver.ring()
    driver.answer()
    driver.ack()
    return driver


def make(destination: object = None, **own: object) -> Driver:
    driver = Driver()
    driver.put(inputs.MakeCall(driver.request("1001", 0), "t1", "1002", (("Case", 5),)))
    driver.resolve_purpose(Purpose.MAKE_DN, extension("1001", **own))
    driver.resolve_purpose(Purpose.MAKE_DESTINATION, destination or extension("1002"))  # type: ignore[arg-type]
    return driver


# -- MakeCall -------------------------------------------------------------------------------------------


def test_make_call_by_flow_one() -> None:
    driver = make()
    (own,) = driver.effects(do.SendInvite)
    assert (own.callee, own.body) == ("1001", b"")
    told = outcome(driver)
    assert isinstance(told, Told) and told.kind is EventType.DIALING
    driver.ring()
    driver.answer(body=OFFER)
    out = driver.effects(do.SendInvite)[-1]
    assert (out.callee, out.body, out.caller) == ("1002", OFFER, "1001")
    assert driver.effects(do.SendAck) == []
    driver.ring()
    driver.answer(body=ANSWER)
    assert [(ack.leg, ack.body) for ack in driver.effects(do.SendAck)] == [(out.leg, b""), (own.leg, ANSWER)]
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
    ]
    assert driver.event("Ringing@1002").attributes["user_data"] == (("Case", 5),)
    driver.put(inputs.ByeReceived(own.leg))
    driver.put(inputs.ByeDone(out.leg))
    assert driver.thread.finished


def test_make_call_outside() -> None:
    driver = make(outside("+4930"))
    driver.answer(body=OFFER)
    driver.ring()
    driver.answer()
    assert driver.names() == ["Dialing@1001", "NetworkReached@1001", "Established@1001"]
    assert driver.event("Dialing@1001").attributes["call_type"] == 3


def test_make_call_to_a_route_point() -> None:
    driver = make(route_point("8000"))
    driver.answer(body=OFFER)
    driver.route("1002")
    driver.resolve(extension("1002"))
    assert driver.effects(do.SendInvite)[-1].body == OFFER
    driver.ring()
    driver.answer()
    assert driver.names()[-2:] == ["Established@1001", "Established@1002"]


def test_own_phone_busy() -> None:
    driver = make()
    driver.fail(486)
    assert driver.names() == ["Dialing@1001", "Released@1001"]
    assert driver.event("Released@1001").attributes["call_state"] == CallState.BUSY
    assert driver.thread.finished


def test_own_phone_silent() -> None:
    driver = make(no_answer_s=10)
    driver.wait(10)
    assert driver.names() == ["Dialing@1001", "Released@1001"]
    assert driver.effects(do.CancelInvite)


def test_destination_busy_releases_the_own_phone() -> None:
    driver = make()
    driver.answer(body=OFFER)
    driver.fail(486)
    assert driver.names() == ["Dialing@1001", "DestinationBusy@1001", "Released@1001"]
    assert len(driver.effects(do.SendAck)) == len(driver.effects(do.SendBye)) == 1


def test_destination_must_answer_before_the_own_phone_gives_up() -> None:
    driver = make(extension("1002", no_answer_s=120))
    driver.answer(body=OFFER)
    driver.ring()
    driver.wait(making.WITHHELD_S)
    assert driver.names()[-2:] == ["Released@1002", "Released@1001"]
    assert driver.effects(do.SendBye)


def test_own_phone_hangs_up_while_the_destination_rings() -> None:
    driver = make()
    driver.answer(body=OFFER)
    own = driver.called - 1
    driver.ring()
    own = driver.effects(do.SendInvite)[0].leg
    driver.put(inputs.ByeReceived(own))
    assert driver.names()[-2:] == ["Released@1001", "Abandoned@1002"]


@pytest.mark.parametrize(
    ("purpose", "why"),
    [(Purpose.MAKE_DN, Why.UNKNOWN_DN), (Purpose.MAKE_DESTINATION, Why.UNKNOWN_DESTINATION)],
)
def test_make_call_with_an_unknown_end(purpose: Purpose, why: Why) -> None:
    driver = Driver()
    driver.put(inputs.MakeCall(driver.request("1001", 0), "t1", "777"))
    ask = next(ask.id for ask in driver.thread.asks.values() if ask.purpose is purpose)
    driver.put(inputs.Unresolved(ask, NO_ROUTE, "no such number"))
    refused(driver, why)
    assert driver.thread.finished
    assert driver.sequence() == []


def test_make_call_from_an_unregistered_phone() -> None:
    driver = Driver()
    driver.put(inputs.MakeCall(driver.request("1001", 0), "t1", "1002"))
    driver.resolve_purpose(Purpose.MAKE_DN, extension("1001", contacts=()))
    refused(driver, Why.OUT_OF_SERVICE)
    assert driver.thread.finished


def test_make_call_from_a_route_point_is_no_call() -> None:
    driver = Driver()
    driver.put(inputs.MakeCall(driver.request("8000", 0), "t1", "1002"))
    driver.resolve_purpose(Purpose.MAKE_DN, route_point("8000"))
    refused(driver, Why.UNKNOWN_DN)


# -- AnswerCall -----------------------------------------------------------------------------------------


def ringing(**phone: object) -> Driver:
    driver = Driver()
    driver.call(extension("1002", **phone))
    driver.ring()
    return driver


def test_answer_call_tells_the_phone_to_talk() -> None:
    driver = ringing(can_talk=True)
    driver.put(inputs.AnswerCall(driver.request("1002")))
    assert driver.latest(do.SendTalk) == [do.SendTalk(driver.called)]
    assert driver.latest(do.Reply) == []
    driver.answer()
    told = outcome(driver)
    assert (
        isinstance(told, Told) and told.kind is EventType.ESTABLISHED and told.attributes["this_dn"] == "1002"
    )


def test_answer_call_without_talk_is_unsupported() -> None:
    driver = ringing()
    driver.put(inputs.AnswerCall(driver.request("1002")))
    refused(driver, Why.UNSUPPORTED)


def test_answer_call_when_nothing_rings() -> None:
    driver = established()
    driver.put(inputs.AnswerCall(driver.request("1002")))
    refused(driver, Why.WRONG_STATE)


def test_phone_that_refuses_to_talk() -> None:
    driver = ringing(can_talk=True)
    driver.put(inputs.AnswerCall(driver.request("1002")))
    driver.put(inputs.TalkRefused(driver.called, 489))
    refused(driver, Why.UNSUPPORTED)
    driver.put(inputs.AnswerCall(driver.request("1002")))
    assert driver.latest(do.SendTalk)


def test_answer_call_ends_with_the_ringing() -> None:
    driver = ringing(can_talk=True)
    driver.put(inputs.AnswerCall(driver.request("1002")))
    driver.put(inputs.Cancelled(driver.caller))
    refused(driver, Why.UNKNOWN_CALL)


# -- ReleaseCall, ClearCall -----------------------------------------------------------------------------


@pytest.mark.parametrize("dn", ["1001", "1002"])
def test_release_call_releases_its_dn_first(dn: str) -> None:
    driver = established()
    driver.put(inputs.ReleaseCall(driver.request(dn)))
    other = "1001" if dn == "1002" else "1002"
    assert driver.names()[-2:] == [f"Released@{dn}", f"Released@{other}"]
    told = outcome(driver)
    assert isinstance(told, Told) and told.attributes["this_dn"] == dn
    assert len(driver.latest(do.SendBye)) == 2


def test_release_call_while_dialling() -> None:
    driver = ringing()
    driver.put(inputs.ReleaseCall(driver.request("1001")))
    assert driver.names()[-2:] == ["Released@1001", "Abandoned@1002"]
    assert driver.statuses() == [480]


def test_release_call_of_a_ringing_phone_is_refused() -> None:
    driver = ringing()
    driver.put(inputs.ReleaseCall(driver.request("1002")))
    refused(driver, Why.WRONG_STATE)


def test_release_call_of_a_stranger_is_refused() -> None:
    driver = established()
    driver.put(inputs.ReleaseCall(driver.request("1099")))
    refused(driver, Why.WRONG_STATE)


def test_clear_call_releases_everybody() -> None:
    driver = established()
    driver.put(inputs.ClearCall(driver.request("1001")))
    assert driver.names()[-2:] == ["Released@1001", "Released@1002"]
    assert driver.event("Released@1002").attributes["call_state"] == CallState.CLEARED


def test_clear_call_that_waits_on_a_route_point() -> None:
    driver = Driver(dialled="8000", from_number="+15551")
    driver.call(route_point("8000"), caller_dn="", number="+15551")
    driver.put(inputs.ClearCall(driver.request("8000")))
    assert driver.names()[-1] == "Released@8000"
    assert driver.statuses() == [480]
    assert isinstance(outcome(driver), Told)


# -- user data ------------------------------------------------------------------------------------------


def user_data(driver: Driver, dn: str = "1002") -> object:
    return driver.event(f"AttachedDataChanged@{dn}").attributes.get("user_data", ())


def test_user_data_request_is_published_before_its_effect() -> None:
    driver = established()
    driver.put(inputs.AttachUserData(driver.request("1002"), (("a", 1),), b"request"))
    kinds = [type(effect) for effect in driver.last]
    assert kinds == [do.Save, do.PublishRequest, do.Publish, do.Publish, do.Reply]
    assert [e.attributes["this_dn"] for e in driver.latest(do.Publish)] == ["1001", "1002"]
    assert driver.event("AttachedDataChanged@1001").attributes["third_party_dn"] == "1002"
    assert driver.sequence() == list(range(1, len(driver.sequence()) + 1))


def test_user_data_operations() -> None:
    driver = established()
    driver.put(inputs.AttachUserData(driver.request("1002"), (("a", 1), ("b", "x")), b""))
    driver.put(inputs.AttachUserData(driver.request("1002"), (("a", 2),), b""))
    assert user_data(driver) == (("a", 1), ("b", "x"), ("a", 2))
    driver.put(inputs.UpdateUserData(driver.request("1002"), (("a", 3), ("c", b"z")), b""))
    assert user_data(driver) == (("a", 3), ("b", "x"), ("c", b"z"))
    driver.put(inputs.DeletePair(driver.request("1002"), "b", b""))
    assert user_data(driver) == (("a", 3), ("c", b"z"))
    assert driver.event("AttachedDataChanged@1002").attributes["data_key"] == "b"
    driver.put(inputs.DeleteUserData(driver.request("1002"), b""))
    assert user_data(driver) == ()


def test_user_data_that_grows_too_large_is_refused() -> None:
    driver = established()
    driver.put(inputs.AttachUserData(driver.request("1002"), (("a", "x" * 40_000),), b""))
    before = len(driver.sequence())
    driver.put(inputs.AttachUserData(driver.request("1002"), (("b", "x" * 40_000),), b""))
    refused(driver, Why.INVALID_ATTRIBUTE)
    assert len(driver.sequence()) == before
    assert user_data(driver) == (("a", "x" * 40_000),)


# -- DistributeEvent ------------------------------------------------------------------------------------


def test_distributed_event_takes_its_place_in_the_stream() -> None:
    driver = established()
    driver.put(inputs.DistributeEvent(driver.request("7777"), 57, b"event"))
    (foreign,) = driver.latest(do.PublishForeign)
    assert (foreign.kind, foreign.event, foreign.attributes["this_dn"]) == (57, b"event", "7777")
    assert foreign.seq == driver.thread.seq
    told = outcome(driver)
    assert isinstance(told, Told) and told.foreign == b"event"


@pytest.mark.parametrize("kind", [60, 64, 65, 160, 162, 14, 0])
def test_events_of_the_node_cannot_be_distributed(kind: int) -> None:
    driver = established()
    driver.put(inputs.DistributeEvent(driver.request("7777"), kind, b""))
    refused(driver, Why.INVALID_ATTRIBUTE)


# -- once only ------------------------------------------------------------------------------------------


def test_unknown_call() -> None:
    driver = established()
    driver.put(inputs.ReleaseCall(driver.request("1001", CONN_ID + 1)))
    refused(driver, Why.UNKNOWN_CALL)


def test_same_request_acts_once() -> None:
    driver = established()
    request = driver.request("1002")
    driver.put(inputs.AttachUserData(request, (("a", 1),), b""))
    assert driver.put(inputs.AttachUserData(request, (("a", 1),), b"")) == []
    assert driver.thread.requests[request.id].outcome is not None


def test_requests_remembered_are_bounded() -> None:
    driver = established()
    for _ in range(300):
        driver.put(inputs.UpdateUserData(driver.request("1002"), (("a", 1),), b""))
    assert len(driver.thread.requests) == 256
    assert "r300" in driver.thread.requests and "r1" not in driver.thread.requests


# -- several phones -------------------------------------------------------------------------------------

BOTH = (Contact("sip:1002@10.0.0.1"), Contact("sip:1002@10.0.0.2"))


def test_both_phones_ring_and_the_first_to_answer_wins() -> None:
    driver = Driver()
    driver.call(extension("1002", contacts=BOTH))
    first, second = (invite.leg for invite in driver.effects(do.SendInvite))
    driver.ring(first)
    driver.ring(second)
    driver.answer(second)
    assert [cancel.leg for cancel in driver.effects(do.CancelInvite)] == [first]
    assert driver.names() == ["Dialing@1001", "Ringing@1002", "Established@1001", "Established@1002"]
    driver.fail(487, first)
    driver.ack()
    assert len(driver.thread.legs) == 2


def test_busy_of_one_phone_waits_for_the_other() -> None:
    driver = Driver()
    driver.call(extension("1002", contacts=BOTH))
    first, second = (invite.leg for invite in driver.effects(do.SendInvite))
    driver.fail(486, first)
    assert driver.statuses() == []
    driver.fail(408, second)
    assert driver.statuses() == [486]


def test_decline_everywhere_ends_all_phones() -> None:
    driver = Driver()
    driver.call(extension("1002", contacts=BOTH))
    first, second = (invite.leg for invite in driver.effects(do.SendInvite))
    driver.fail(603, first)
    assert driver.statuses() == [603]
    assert [cancel.leg for cancel in driver.effects(do.CancelInvite)] == [second]


def test_less_preferred_phones_ring_later() -> None:
    driver = Driver()
    contacts = (Contact("sip:a@10.0.0.1", q=100), Contact("sip:b@10.0.0.2", q=900))
    driver.call(extension("1002", contacts=contacts))
    assert [invite.uri for invite in driver.effects(do.SendInvite)] == ["sip:b@10.0.0.2"]
    driver.fail(480)
    assert [invite.uri for invite in driver.latest(do.SendInvite)] == ["sip:a@10.0.0.1"]


def test_second_trunk_contact_only_when_the_first_failed_itself() -> None:
    contacts = (Contact("sip:1@10.9.0.1"), Contact("sip:1@10.9.0.2"))
    for status, tried in ((503, 2), (486, 1)):
        driver = Driver()
        driver.call(outside("+4930", contacts=contacts))
        driver.fail(status)
        assert len(driver.effects(do.SendInvite)) == tried
