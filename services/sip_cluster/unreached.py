"""What follows when a destination is not reached: the router hears of it, the call overflows, or the caller is told.

Pure.
"""

from __future__ import annotations

from services.sip_cluster import effects as do
from services.sip_cluster import events, release, routing
from services.sip_cluster.calls import Call, Party, Purpose, Refusal
from services.sip_cluster.outcomes import Outcome
from services.sip_cluster.step import Step
from services.sip_cluster.tlib import EventType

MAX_REDIRECTIONS = 5
"""Destinations a call overflows to, one after the other (loop guard)."""


def party_failed(step: Step, call: Call, party: Party, outcome: Outcome) -> None:
    """A destination, or the own phone of who makes a call, was not reached."""
    step.reply(party.answer_request, Refusal(outcome.why, f"the phone did not answer ({outcome.status})"))
    party.answer_request = ""
    release.stop_party(step, party)
    release.end_legs(step, party)
    if party.id == call.origination:
        release.fail_caller(step, call, outcome)
        return
    events.left(step, call, party, EventType.RELEASED, outcome.state, outcome.status)
    targeted = call.route is not None and call.route.target == party.id
    if targeted and call.route is not None and (call.route.waiting or not party.overflow):
        if not routing.target_failed(step, call, outcome):
            release.fail_caller(step, call, outcome)
        return
    if not overflow(step, call, party.overflow):
        release.fail_caller(step, call, outcome)


def overflow(step: Step, call: Call, destination: str) -> bool:
    """Sends the call to the overflow destination. False when there is none, or it was tried before."""
    tried = call.redirections
    if not destination or destination in tried or len(tried) >= MAX_REDIRECTIONS:
        return False
    call.redirections = (*tried, destination)
    step.do(do.Count("overflow"))
    routing.ask(step, call, Purpose.OVERFLOW, destination)
    return True
