"""Every pair of leg state and fact: what the table has is carried out, what it has not is refused and changes nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
from voice.record.v1 import sip_call_pb2

from services.sip_cluster import inputs
from services.sip_cluster.calls import LegState
from services.sip_cluster.legs import TABLE, IllegalFact, allowed
from services.sip_cluster.machine import handle
from tests.unit.sip_cluster.driver import ANSWER, OFFER, SDP, Driver, extension

FACTS: dict[str, Callable[[int], inputs.Input]] = {
    "Cancelled": inputs.Cancelled,
    "Acked": inputs.Acked,
    "AckMissing": inputs.AckMissing,
    "Progressed": lambda leg: inputs.Progressed(leg, 180, True),
    "Answered": lambda leg: inputs.Answered(leg, ANSWER, SDP),
    "Failed": lambda leg: inputs.Failed(leg, 486),
    "ByeReceived": inputs.ByeReceived,
    "ByeDone": inputs.ByeDone,
    "Offered": lambda leg: inputs.Offered(leg, OFFER, SDP),
    "OfferAnswered": lambda leg: inputs.OfferAnswered(leg, ANSWER, SDP),
    "OfferRefused": lambda leg: inputs.OfferRefused(leg, 488),
    "InfoReceived": lambda leg: inputs.InfoReceived(leg, b"Signal=1", "application/dtmf-relay"),
}
ACTS = {"alert", "accept", "reject", "cancel", "acknowledge", "release"}
PAIRS = list(itertools.product([state for state in LegState if state is not LegState.ENDED], FACTS))


def in_state(state: LegState) -> tuple[Driver, int]:
    """A call with a leg in the state, and that leg."""
    driver = Driver()
    if state is LegState.ANSWERED:
        driver.arrive(offer=b"")
        driver.resolve(extension("1002", caller_dn="1001"))
        driver.answer(body=OFFER)
        return driver, driver.called
    driver.call(extension("1002"))
    if state in (LegState.INVITED, LegState.CALLING):
        return driver, driver.caller if state is LegState.INVITED else driver.called
    driver.ring()
    if state in (LegState.ALERTED, LegState.EARLY):
        return driver, driver.caller if state is LegState.ALERTED else driver.called
    if state is LegState.CANCELLING:
        driver.put(inputs.Cancelled(driver.caller))
        return driver, driver.called
    driver.answer()
    if state is LegState.ENDING:
        driver.put(inputs.ByeReceived(driver.called))
    elif state is not LegState.ACCEPTED:
        driver.ack()
    if state is LegState.RELEASING:
        driver.put(inputs.ByeReceived(driver.called))
    return driver, driver.caller


@pytest.mark.parametrize(("state", "fact"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_pair(state: LegState, fact: str) -> None:
    driver, number = in_state(state)
    leg = driver.thread.legs[number]
    assert leg.state is state
    legal = allowed(leg, fact)
    before = copy.deepcopy(driver.thread)
    happened = FACTS[fact](number)
    if legal:
        following = TABLE[state, fact]
        driver.put(happened)
        left = driver.thread.legs.get(number)
        if following is LegState.ANSWERED:  # acknowledged or released in the same step
            assert left is not None and left.state in (LegState.ESTABLISHED, LegState.RELEASING)
        elif following is LegState.ENDED:
            assert left is None
        else:
            assert left is not None and left.state is following
    else:
        with pytest.raises(IllegalFact) as refused:
            handle(driver.thread, happened, driver.now)
        assert (refused.value.leg, refused.value.state, refused.value.fact) == (number, state, fact)
        assert driver.thread == before


def test_table_names_facts_and_acts_only() -> None:
    assert {fact for _, fact in TABLE} <= set(FACTS) | ACTS


def test_facts_of_legs_that_have_ended_have_no_meaning() -> None:
    driver, number = in_state(LegState.ALERTED)
    driver.put(inputs.Cancelled(number))
    for fact in FACTS.values():
        assert driver.put(fact(number)) == []


def test_states_of_the_record_are_those_of_the_model() -> None:
    stored = {
        name.removeprefix("SIP_LEG_STATE_"): number for name, number in sip_call_pb2.SipLegState.items()
    }
    assert {state.name: int(state) for state in LegState if state is not LegState.ENDED} == {
        name: number for name, number in stored.items() if number
    }
