"""A thread that was cut anywhere, written, read and continued does what the uninterrupted one does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from voice.record.v1.sip_call_pb2 import SipCall

from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import CallThread, Contact, Identity, Purpose
from services.sip_cluster.machine import handle
from services.sip_cluster.outcomes import NO_ROUTE
from services.sip_cluster.records import from_record, to_record
from services.sip_cluster.tlib import RouteType
from tests.unit.sip_cluster.driver import (
    ANSWER,
    CALL_UUID,
    CONN_ID,
    OFFER,
    SDP,
    START,
    Driver,
    extension,
    outside,
    route_point,
)

DATA = (
    ("a", 1),
    ("b", "x"),
    ("c", b"\x00"),
    (
        "d",
        (("e", -5), ("a", "")),
    ),
    ("a", 2),
)


def internal() -> Driver:
    driver = Driver()
    driver.call(
        extension("1002", contacts=(Contact("sip:a@10.0.0.1", ("sip:p;lr",), 5), Contact("sip:b@10.0.0.2")))
    )
    driver.ring()
    driver.put(inputs.AttachUserData(driver.request("1001"), DATA, b"payload"))
    driver.answer()
    driver.ack()
    driver.put(inputs.Offered(driver.caller, OFFER, SDP))
    driver.put(inputs.OfferAnswered(driver.called, ANSWER, SDP))
    driver.ack()
    driver.put(inputs.ByeReceived(driver.called))
    driver.put(inputs.ByeDone(driver.caller))
    return driver


def routed_twice() -> Driver:
    driver = Driver(dialled="8000", from_number="+1555")
    driver.call(route_point("8000", divert_on_ringing=False), caller_dn="", number="+1555")
    driver.put(inputs.DistributeEvent(driver.request("7000"), 57, b""))
    driver.route("1002", agent_id="A2", reservation_token="tok", user_data=DATA)
    driver.resolve(extension("1002", agent_id="A2", place="P2", can_talk=True))
    driver.ring()
    driver.put(inputs.AnswerCall(driver.request("1002")))
    driver.wait(30)
    driver.fail(487)
    driver.route("1003")
    driver.resolve(extension("1003", wrap_up="30"))
    driver.ring()
    driver.answer()
    driver.ack()
    driver.put(inputs.ReleaseCall(driver.request("1003")))
    driver.put(inputs.ByeDone(driver.caller))
    driver.put(inputs.ByeDone(driver.called))
    return driver


def defaulted() -> Driver:
    driver = Driver(dialled="8000", from_number="+1555")
    driver.call(route_point("8000", default_dns=("1003", "1004"), routing_timeout_ms=2000), caller_dn="")
    driver.wait(2)
    driver.put(inputs.Unresolved(next(iter(driver.thread.asks)), NO_ROUTE, "no such number"))
    driver.resolve(extension("1004", overflow="1005"))
    driver.ring()
    driver.wait(30)
    driver.fail(487)
    driver.resolve(extension("1005"))
    driver.ring()
    driver.put(inputs.Cancelled(driver.caller))
    driver.answer()
    driver.put(inputs.ByeDone(driver.called))
    return driver


def returned() -> Driver:
    driver = Driver(dialled="8000", from_number="1001")
    driver.call(route_point("8000"), caller_dn="1001")
    driver.route("1002")
    driver.resolve(extension("1002"))
    driver.ring()
    driver.fail(486)
    driver.route("", route_type=RouteType.REJECT)
    return driver


def made() -> Driver:
    driver = Driver()
    driver.put(inputs.MakeCall(driver.request("1001", 0), "t1", "+4930", DATA))
    driver.resolve_purpose(Purpose.MAKE_DESTINATION, outside("+4930"))
    driver.resolve_purpose(Purpose.MAKE_DN, extension("1001", overflow="1"))
    driver.ring()
    driver.answer(body=OFFER)
    driver.ring(status=183, body=ANSWER)
    driver.answer()
    driver.put(inputs.ClearCall(driver.request("1001")))
    own, out = (invite.leg for invite in driver.effects(do.SendInvite))
    driver.put(inputs.ByeDone(own))
    driver.put(inputs.ByeDone(out))
    return driver


def offerless() -> Driver:
    driver = Driver()
    driver.arrive(offer=b"")
    driver.resolve(extension("1002", caller_dn="1001"))
    driver.answer(body=OFFER)
    driver.put(inputs.ByeReceived(driver.called))
    driver.ack(ANSWER)
    driver.put(inputs.ByeDone(driver.caller))
    return driver


def fresh(driver: Driver) -> CallThread:
    known = driver.thread
    identity = Identity(CONN_ID, CALL_UUID, 7)
    return CallThread(
        CALL_UUID, 17, START, "", identity, dialled=known.dialled, from_number=known.from_number
    )


def written_and_read(thread: CallThread) -> CallThread:
    again = from_record(SipCall.FromString(to_record(thread).SerializeToString()))
    again.saved = thread.saved
    return again


SCENARIOS = [internal, routed_twice, defaulted, returned, made, offerless]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_cut_anywhere(scenario: Callable[[], Driver]) -> None:
    driver = scenario()
    assert driver.thread.finished
    for cut in range(len(driver.log) + 1):
        thread = fresh(driver)
        done: list[do.Effect] = []
        for place, (fact, now) in enumerate(driver.log):
            if place == cut:
                restored = written_and_read(thread)
                assert restored == thread
                thread = restored
            done += handle(thread, fact, now)
        assert done == driver.done, f"cut before input {cut}"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_sequences_have_no_gap_and_calls_are_wrapped(scenario: Callable[[], Driver]) -> None:
    driver = scenario()
    assert driver.sequence() == list(range(1, driver.thread.seq + 1))
    names = driver.names(everything=True)
    assert names[0] == "CallCreated" and names.count("CallCreated") == 1
    assert names[-1] == "CallDeleted" and names.count("CallDeleted") == 1
    added = [name.partition("@")[2] for name in names if name.startswith("CallPartyAdded")]
    deleted = [name.partition("@")[2] for name in names if name.startswith("CallPartyDeleted")]
    assert sorted(added) == sorted(deleted)


def test_unknown_fields_of_a_newer_version_are_read_over() -> None:
    driver = internal()
    record = to_record(driver.thread).SerializeToString() + b"\xf8\x3f\x01"
    assert from_record(SipCall.FromString(record)).seq == driver.thread.seq
