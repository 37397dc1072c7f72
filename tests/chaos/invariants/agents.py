"""No agent is offered two calls at once, and none is left busy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.facts import Facts, Violation

OFFERED_TWICE = "no agent offered two calls"
ENDS = frozenset({"RELEASED", "ABANDONED", "DIVERTED", "CALL_DELETED"})
"""Events that take a call off an agent's DN."""
CROSSING_S = 1.0
"""An heir that found a leg in doubt cancels it and calls the phone again: for a moment the phone has both."""


@dataclass(frozen=True)
class _Offer:
    agent: str
    call: str
    begins: float
    ends: float


def two_calls_at_once(facts: Facts) -> Iterator[Violation]:
    """By the phones, and by the events: two calls at one agent whose times overlap."""
    for what, offers, grace in (("phone", _at_phones(facts), CROSSING_S), ("events", _in_events(facts), 0.0)):
        at: dict[str, list[_Offer]] = defaultdict(list)
        for offer in offers:
            at[offer.agent].append(offer)
        for agent, calls in at.items():
            calls.sort(key=lambda offer: offer.begins)
            for first, second in pairwise(calls):
                if second.begins < first.ends - grace:
                    for_s = min(first.ends, second.ends) - second.begins
                    yield Violation(
                        OFFERED_TWICE,
                        agent,
                        f"{what}: {second.call} came during {first.call} ({for_s:.3f} s together)",
                    )


def left_busy(facts: Facts) -> Iterator[Violation]:
    """After the last call every agent is as the desk left it: no call, no reservation, the phase asked for last."""
    for agent in facts.agents:
        subject = f"{agent.tenant}:{agent.agent_id}"
        if agent.calls:
            yield Violation("no agent left busy", subject, f"has calls {[f'{c:016x}' for c in agent.calls]}")
        if agent.reserved:
            yield Violation("no agent left busy", subject, "is reserved")
        if agent.phase != agent.expected:
            yield Violation("no agent left busy", subject, f"is {agent.phase}, not {agent.expected}")


def _at_phones(facts: Facts) -> list[_Offer]:
    agents = {(agent.tenant, agent.agent_id.removeprefix("A")) for agent in facts.agents}
    return [
        _Offer(f"{call.tenant}:{call.dn}", call.call_id, call.offered_at, call.ended_at or float("inf"))
        for call in facts.phones
        if (call.tenant, call.dn) in agents
    ]


def _in_events(facts: Facts) -> list[_Offer]:
    """From RINGING to the event that takes the call off the DN, in the order of the call's stream."""
    open_: dict[tuple[str, str, int], float] = {}
    offers = []
    for event in facts.events:
        if event.family != "thread":
            continue
        if event.name == "RINGING" and event.agent_id:
            open_.setdefault((f"{event.tenant}:{event.agent_id}", event.stream, event.conn_id), event.at)
        elif event.name in ENDS:
            for key in [
                k
                for k in open_
                if k[1:] == (event.stream, event.conn_id) and _about(event.name, k[0], event.agent_id)
            ]:
                offers.append(_Offer(key[0], f"{event.conn_id:016x}", open_.pop(key), event.at))
    offers += [
        _Offer(agent, f"{conn:016x}", begins, float("inf")) for (agent, _, conn), begins in open_.items()
    ]
    return offers


def _about(name: str, agent: str, event_agent: str) -> bool:
    return name == "CALL_DELETED" or agent.partition(":")[2] == event_agent
