"""What must hold whatever died: pure functions from the facts of a run to its violations.

established   no established call is lost, no leg is left behind
streams       each stream is one sequence without gaps, told to clients once and in order
ownership     one owner a slot at any time, and nobody publishes without owning
agents        nobody is offered two calls at once, nobody is left busy
callers       no caller is forgotten, nothing waits or is left at the end
requests      every request is answered, and acts once
"""

from __future__ import annotations

from tests.chaos.facts import Facts, Violation
from tests.chaos.invariants import agents, callers, established, ownership, requests, streams

CHECKS = (
    established.lost_calls,
    established.legs_left_behind,
    streams.gaps,
    streams.whole_calls,
    streams.slot_streams,
    streams.told_to_clients,
    ownership.claims,
    ownership.publishers,
    ownership.owners_at_the_end,
    ownership.everybody_back,
    agents.two_calls_at_once,
    agents.left_busy,
    callers.forgotten,
    callers.left_waiting,
    callers.records_left,
    requests.unanswered,
    requests.done_twice,
)


def violations(facts: Facts) -> list[Violation]:
    """Everything that is wrong, by invariant."""
    return [violation for check in CHECKS for violation in check(facts)]
