"""Route points: queueing, RouteCall with both values of divert-on-ringing, default routing (§2.1, §2.9, §3.8)."""

from __future__ import annotations

import pytest

from mesh.reservation_token import ending
from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import DeviceType, Purpose, Refusal, Resolution, Told
from services.sip_cluster.outcomes import NO_ROUTE
from services.sip_cluster.tlib import CallState, EventType, RouteType, Why
from tests.unit.sip_cluster.driver import Driver, extension, outside, route_point

QUEUED = ["Queued@8000", "RouteRequest@8000"]


def waiting(*, caller_dn: str = "", **changes: object) -> Driver:
    driver = Driver(dialled="+49308000", from_number=caller_dn or "+15551")
    driver.call(route_point("8000", **changes), caller_dn=caller_dn, number=caller_dn or "+15551")
    return driver


def routed(**changes: object) -> Driver:
    driver = waiting(caller_dn="", **changes)
    driver.route("1002")
    driver.resolve(extension("1002", agent_id="A2", place="P2"))
    return driver


def outcome(driver: Driver) -> Told | Refusal:
    return driver.effects(do.Reply)[-1].outcome


def test_call_queues_and_asks_for_a_route() -> None:
    driver = waiting()
    assert driver.names(everything=True) == [
        "CallCreated",
        "CallPartyAdded@+15551",
        "CallPartyAdded@8000",
        *QUEUED,
    ]
    for event in QUEUED:
        attributes = driver.event(event).attributes
        assert attributes["this_dn"] == attributes["this_queue"] == "8000"
        assert (attributes["this_dn_role"], attributes["other_dn"]) == (2, "+15551")
        assert attributes["call_type"] == 2
    assert [alert.status for alert in driver.effects(do.Alert)] == [180]


def test_routed_call_diverts_on_ringing() -> None:
    driver = routed()
    assert driver.names() == QUEUED
    driver.ring()
    assert driver.names() == [*QUEUED, "RouteUsed@8000", "Diverted@8000", "Ringing@1002"]
    assert driver.event("RouteUsed@8000").attributes["third_party_dn"] == "1002"
    assert driver.event("Diverted@8000").attributes["third_party_dn"] == "1002"
    ringing = driver.event("Ringing@1002").attributes
    assert (ringing["this_queue"], ringing["agent_id"], ringing["place"]) == ("8000", "A2", "P2")
    told = outcome(driver)
    assert isinstance(told, Told) and told.kind is EventType.ROUTE_USED
    assert driver.event("RouteUsed@8000").request == "r1"
    driver.answer()
    driver.ack()
    driver.put(inputs.ByeReceived(driver.caller))
    assert driver.names()[-2:] == ["Established@1002", "Released@1002"]
    assert driver.sequence() == list(range(1, len(driver.sequence()) + 1))


def test_routed_call_diverts_on_answer() -> None:
    driver = routed(divert_on_ringing=False)
    driver.ring()
    assert driver.names() == [*QUEUED, "Ringing@1002"]
    assert driver.effects(do.Reply) == []
    driver.answer()
    assert driver.names() == [
        *QUEUED,
        "Ringing@1002",
        "RouteUsed@8000",
        "Diverted@8000",
        "Established@1002",
    ]
    assert isinstance(outcome(driver), Told)


@pytest.mark.parametrize(
    ("status", "why"), [(486, Why.DN_BUSY), (408, Why.NO_ANSWER), (603, Why.CALL_REJECTED)]
)
@pytest.mark.parametrize("divert", [True, False])
def test_target_that_fails_before_ringing_leaves_the_call_on_the_route_point(
    status: int, why: Why, divert: bool
) -> None:
    driver = routed(divert_on_ringing=divert)
    driver.fail(status)
    refusal = outcome(driver)
    assert isinstance(refusal, Refusal) and refusal.why is why
    assert driver.names() == QUEUED
    driver.route("1003")
    driver.resolve(extension("1003"))
    driver.ring()
    driver.answer()
    assert driver.names()[-1] == "Established@1003"


def test_target_that_rings_in_vain_without_diversion_is_an_error_of_the_request() -> None:
    driver = routed(divert_on_ringing=False)
    driver.ring()
    driver.wait(30)
    refusal = outcome(driver)
    assert isinstance(refusal, Refusal) and refusal.why is Why.NO_ANSWER
    assert driver.names() == [*QUEUED, "Ringing@1002", "Released@1002"]
    assert driver.event("Released@1002").attributes["call_state"] == CallState.NO_ANSWER
    assert driver.statuses() == []


def test_target_that_rings_in_vain_after_diversion_sends_the_call_back() -> None:
    driver = routed()
    driver.ring()
    driver.wait(30)
    assert driver.names()[-3:] == ["Released@1002", *QUEUED]
    driver.fail(487)
    driver.route("1003")
    driver.resolve(extension("1003"))
    driver.ring()
    driver.answer()
    assert driver.names()[-2:] == ["Ringing@1003", "Established@1003"]
    assert driver.event("Ringing@1003").attributes["this_queue"] == "8000"


def test_call_comes_back_ten_times_at_most() -> None:
    driver = routed()
    for _ in range(10):
        driver.ring()
        driver.wait(30)
        driver.route("1002")
        driver.resolve(extension("1002"))
    driver.ring()
    driver.wait(30)
    assert driver.statuses() == [408]


def test_overflow_goes_before_the_return_to_the_route_point() -> None:
    driver = waiting()
    driver.route("1002")
    driver.resolve(extension("1002", overflow="1009"))
    driver.ring()
    driver.wait(30)
    driver.resolve(extension("1009"))
    driver.ring()
    assert driver.names()[-2:] == ["Released@1002", "Ringing@1009"]


def test_caller_leaves_the_queue() -> None:
    driver = waiting()
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names(everything=True)[-4:] == [
        "CallPartyDeleted@+15551",
        "Abandoned@8000",
        "CallPartyDeleted@8000",
        "CallDeleted",
    ]
    assert "RouteUsed@8000" not in driver.names()
    assert driver.event("Abandoned@8000").attributes["this_queue"] == "8000"


def test_inside_caller_leaves_while_the_agent_rings_undiverted() -> None:
    driver = waiting(caller_dn="1001", divert_on_ringing=False)
    driver.route("1002")
    driver.resolve(extension("1002"))
    driver.ring()
    driver.put(inputs.Cancelled(driver.caller))
    assert driver.names()[-3:] == ["Released@1001", "Abandoned@1002", "Abandoned@8000"]
    refusal = outcome(driver)
    assert isinstance(refusal, Refusal) and refusal.why is Why.UNKNOWN_CALL


def test_route_to_an_agent_asks_for_the_agent() -> None:
    driver = waiting()
    driver.route("1002", agent_id="A7", reservation_token="t1|A7|5|abc")
    (ask,) = driver.thread.asks.values()
    assert (ask.purpose, ask.destination, ask.is_agent) == (Purpose.ROUTE, "A7", True)
    driver.resolve(extension("1002", type=DeviceType.AGENT, agent_id="A7"))
    driver.ring()
    assert driver.event("Ringing@1002").attributes["extensions"] == (("ReservationToken", "t1|A7|5|abc"),)


def test_nobody_rings_for_a_reservation_that_has_ended() -> None:
    driver = waiting()
    driver.route("1002", agent_id="A7", reservation_token=ending("t", driver.now))
    refused(driver, Why.RESERVATION_INVALID)
    # Nor when it ends while the dial plan is asked: an heir asks again, seconds later.
    driver.route("1002", agent_id="A7", reservation_token=ending("t", driver.now + 10_000_000))
    driver.now += 10_000_000
    driver.resolve(extension("1002", type=DeviceType.AGENT, agent_id="A7"))
    refused(driver, Why.RESERVATION_INVALID)
    assert driver.effects(do.SendInvite) == []


def test_route_to_a_number_outside() -> None:
    driver = waiting(caller_dn="1001")
    driver.route("0049301")
    driver.resolve(outside("+49301"))
    driver.ring()
    driver.answer()
    assert driver.names()[1:] == [
        *QUEUED,
        "RouteUsed@8000",
        "Diverted@8000",
        "NetworkReached@1001",
        "Established@1001",
    ]


def test_route_to_another_route_point() -> None:
    driver = waiting()
    driver.route("8001")
    driver.resolve(route_point("8001"))
    assert driver.names() == [
        *QUEUED,
        "RouteUsed@8000",
        "Diverted@8000",
        "Queued@8001",
        "RouteRequest@8001",
    ]
    assert isinstance(outcome(driver), Told)
    assert driver.statuses() == []


def test_route_points_that_send_a_call_to_each_other_end() -> None:
    driver = waiting()
    for number in range(30):
        if driver.thread.finished:
            break
        here, there = ("8000", "8001") if number % 2 == 0 else ("8001", "8000")
        driver.put(inputs.RouteCall(driver.request(here), there))
        driver.resolve(route_point(there))
    assert driver.statuses() == [404]


def test_ring_time_of_the_request_wins() -> None:
    driver = waiting(divert_on_ringing=False)
    driver.route("1002", no_answer_s=5)
    driver.resolve(extension("1002", no_answer_s=60))
    driver.ring()
    driver.wait(5)
    assert isinstance(outcome(driver), Refusal)


def test_request_data_and_reasons_travel_with_the_route() -> None:
    driver = waiting()
    driver.put(
        inputs.RouteCall(
            inputs.Request(
                "r1", "ors", 9, b"", "8000", driver.thread.identity.conn_id, (("RTR", 37),), (("X", "y"),)
            ),
            "1002",
            user_data=(("Skill", "de"),),
        )
    )
    driver.resolve(extension("1002"))
    driver.ring()
    used = driver.event("RouteUsed@8000").attributes
    assert (used["reasons"], used["extensions"]) == ((("RTR", 37),), (("X", "y"),))
    assert driver.event("Ringing@1002").attributes["user_data"] == (("Skill", "de"),)


def refused(driver: Driver, why: Why) -> None:
    refusal = driver.latest(do.Reply)[0].outcome
    assert isinstance(refusal, Refusal) and refusal.why is why


def test_second_route_is_refused_while_one_is_carried_out() -> None:
    driver = routed()
    driver.route("1003")
    refused(driver, Why.WRONG_STATE)


def test_route_after_the_diversion_is_refused() -> None:
    driver = routed()
    driver.ring()
    driver.route("1003")
    refused(driver, Why.WRONG_STATE)


def test_route_from_another_dn_is_refused() -> None:
    driver = waiting()
    driver.put(inputs.RouteCall(driver.request("8888"), "1002"))
    refused(driver, Why.INVALID_ATTRIBUTE)


def test_token_of_no_shape_is_refused() -> None:
    driver = waiting()
    driver.route("1002", reservation_token="a b")
    refused(driver, Why.RESERVATION_INVALID)


def test_announcement_is_not_supported_yet() -> None:
    driver = waiting()
    driver.route("1002", route_type=RouteType.ANNOUNCEMENT)
    refused(driver, Why.UNSUPPORTED)


def test_unknown_target_is_refused_and_the_call_stays() -> None:
    driver = waiting()
    driver.route("777")
    driver.put(inputs.Unresolved(next(iter(driver.thread.asks)), NO_ROUTE, "no such number"))
    refused(driver, Why.INVALID_TARGET)
    driver.route("1002")
    driver.resolve(extension("1002"))
    assert driver.latest(do.SendInvite)


def test_target_that_takes_no_calls_is_refused() -> None:
    driver = waiting()
    driver.route("5555")
    driver.resolve(Resolution("t1", DeviceType.VIRTUAL, "5555"))
    refused(driver, Why.INVALID_TARGET)


def test_reject_turns_the_caller_away() -> None:
    driver = waiting(caller_dn="1001")
    driver.route("", route_type=RouteType.REJECT)
    assert driver.statuses() == [603]
    assert driver.names()[1:] == [
        *QUEUED,
        "RouteUsed@8000",
        "Diverted@8000",
        "DestinationBusy@1001",
        "Released@1001",
    ]


def test_default_dns_are_tried_in_turn_when_nobody_routes() -> None:
    driver = waiting(default_dns=("1003", "1004", "1005"), routing_timeout_ms=5000)
    driver.now += 5_000_000
    driver.put(inputs.TimeReached(rotation=1))
    (ask,) = driver.thread.asks.values()
    assert (ask.purpose, ask.destination) == (Purpose.DEFAULT, "1004")
    driver.resolve(extension("1004"))
    driver.fail(486)
    driver.resolve(extension("1005"))
    driver.ring()
    assert driver.names()[-3:] == ["RouteUsed@8000", "Diverted@8000", "Ringing@1005"]
    assert driver.event("RouteUsed@8000").attributes["route_type"] == RouteType.DEFAULT
    assert driver.effects(do.Count) == [do.Count("default_routing")]
    driver.fail(480)
    driver.resolve(extension("1003"))
    driver.ring()
    driver.answer()
    assert driver.names()[-2:] == ["Ringing@1003", "Established@1003"]


def test_caller_is_told_when_every_default_dn_failed() -> None:
    driver = waiting(default_dns=("1003",), routing_timeout_ms=5000)
    driver.wait(5)
    driver.put(inputs.Unresolved(next(iter(driver.thread.asks)), NO_ROUTE, "no such number"))
    assert driver.statuses() == [404]
    assert driver.names()[-1] == "Released@8000"


def test_no_default_dns_at_the_timeout() -> None:
    driver = waiting(routing_timeout_ms=5000)
    driver.wait(5)
    assert driver.statuses() == [480]


def test_lost_router_sends_waiting_calls_to_default_dns() -> None:
    driver = waiting(default_dns=("1003", "1004"))
    driver.put(inputs.RouterLost(rotation=3))
    assert [ask.destination for ask in driver.thread.asks.values()] == ["1004"]
    assert driver.put(inputs.RouterLost(rotation=4)) == []


def test_lost_router_leaves_calls_without_default_dns_waiting() -> None:
    driver = waiting()
    assert driver.put(inputs.RouterLost()) == []


def test_routing_timer_rests_while_a_route_is_carried_out() -> None:
    driver = waiting(default_dns=("1003",), routing_timeout_ms=5000, divert_on_ringing=False)
    driver.route("1002")
    driver.resolve(extension("1002"))
    driver.ring()
    driver.wait(10)
    assert driver.names() == [*QUEUED, "Ringing@1002"]
    driver.fail(486)
    driver.wait(5)
    assert [ask.destination for ask in driver.thread.asks.values()] == ["1003"]


def test_default_route_by_request() -> None:
    driver = waiting(default_dns=("1003",))
    driver.route("", route_type=RouteType.DEFAULT)
    driver.resolve(extension("1003"))
    driver.ring()
    told = outcome(driver)
    assert isinstance(told, Told) and told.kind is EventType.ROUTE_USED
