"""Each invariant notices what breaks it: a run that has gone well is tampered with, and looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.agent_state.effects import Grant
from services.agent_state.machine import OnCall
from services.sip_cluster.calls import Told
from services.sip_cluster.tlib import EventType
from tests.simulation import invariants
from tests.simulation.phones import CallerState, Life, Plan
from tests.simulation.platform import Platform
from tests.simulation.run import Run
from tests.simulation.schedule import draw
from tests.simulation.wire import Key


def _calm() -> Platform:
    """A run without faults, at its end."""
    schedule = draw(1)
    schedule.faults.clear()
    run = Run(schedule)
    assert not run.go().violations
    return run.platform


def _call_state(platform: Platform) -> None:
    node = platform.node(platform.owner("call_state", 0)[0]) or platform.node(
        platform.owner("call_state", 1)[0]
    )
    threads = [thread for state in node.states.values() for thread in state.threads.values()]
    threads[0].last_seq -= 1


def _busy_agent(platform: Platform) -> None:
    slot = platform.agent_slot("agent:a101")
    held = platform.node(platform.owner("agent_state", slot)[0]).held[slot]
    held.state.agents["t1:a101"].session.calls[99] = OnCall(True)


def _busy_view(platform: Platform) -> None:
    desk = platform.node(platform.owner("tenant", "t1")[0]).desks["t1"]
    view = desk.router.roster.agents["a101"]
    desk.router.roster.put(replace(view, calls=frozenset({99})))


def _lost_event(platform: Platform) -> None:
    next(stream for key, stream in platform.streams.by_key.items() if key.startswith("c")).entries.pop()


def _forgotten(platform: Platform) -> None:
    next(iter(platform.wire.callers.values())).state = CallerState.CALLING


def _turned_away(platform: Platform) -> None:
    next(iter(platform.wire.callers.values())).outcome = "480"


def _left_talking(platform: Platform) -> None:
    talks = [talk for phone in platform.wire.phones.values() for talk in phone.talks.values()]
    talks[0].life = Life.TALKING


def _left_session(platform: Platform) -> None:
    platform.store.data("orchestration", 0).hashes.setdefault("sessions", {})["c9.5"] = b""


def _left_request(platform: Platform) -> None:
    platform.queues.entries.setdefault("route_requests:t1", {})["c9.5/1/0"] = None


def _no_outcome(platform: Platform) -> None:
    platform.watch.asked["pause-a101-0"] = False


def _no_event(platform: Platform) -> None:
    platform.watch.attached("clerk-9", True)


AT_THE_END: dict[str, tuple[str, Callable[[Platform], None]]] = {
    "a caller waits": (invariants.FORGOTTEN, _forgotten),
    "a caller is turned away": (invariants.FORGOTTEN, _turned_away),
    "a phone talks on": (invariants.LOST, _left_talking),
    "the last event is missing": (invariants.EVENTS, _lost_event),
    "a thread is not folded to its end": (invariants.COUNTED, _call_state),
    "an agent has a call that is over": (invariants.BUSY, _busy_agent),
    "the tenant takes an agent for busy": (invariants.BUSY, _busy_view),
    "a session is left": (invariants.ANSWERED, _left_session),
    "a routing request is left": (invariants.ANSWERED, _left_request),
    "a request has no outcome": (invariants.ANSWERED, _no_outcome),
    "what was granted is not told": (invariants.ONCE, _no_event),
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_what_is_left_wrong_at_the_end_is_noticed(what: str) -> None:
    invariant, tamper = AT_THE_END[what]
    platform = _calm()
    tamper(platform)
    platform.watch.finish()
    assert platform.world.violations
    assert platform.world.violations[0].startswith(invariant)


def test_an_effect_of_a_former_owner_is_noticed() -> None:
    platform = _calm()
    platform.watch.acts("tenant", "t1", 900)
    platform.watch.acted("tenant", "t1", 900, "an ask")
    assert not platform.world.violations
    platform.watch.acted("tenant", "t1", 899, "an ask that a fenced write let pass just before")
    assert not platform.world.violations
    platform.world.now += invariants.OVERLAP + 1
    platform.watch.acted("tenant", "t1", 899, "an ask")
    assert platform.world.violations[0].startswith(invariants.ONE_OWNER)


def test_two_reservations_at_once_are_noticed() -> None:
    platform = _calm()
    until = platform.world.now + 10_000_000
    platform.watch.granted("a101", Grant("r1", "token-1", "one", 0, until))
    platform.watch.given_back("a101", "token-1")
    platform.watch.granted("a101", Grant("r2", "token-2", "two", 0, until))
    assert not platform.world.violations
    platform.watch.granted("a101", Grant("r3", "token-3", "three", 0, until))
    assert platform.world.violations[0].startswith(invariants.ONE_GRANT)


def test_a_request_that_is_carried_out_twice_is_noticed() -> None:
    platform = _calm()
    platform.watch.outcome("execute r1", Told(EventType.ROUTE_USED, 7, {}))
    platform.watch.outcome("execute r1", Told(EventType.ROUTE_USED, 7, {}))
    assert not platform.world.violations
    platform.watch.outcome("execute r1", Told(EventType.ROUTE_USED, 9, {}))
    assert platform.world.violations[0].startswith(invariants.ONCE)


def test_a_session_that_lives_again_is_noticed() -> None:
    platform = _calm()
    platform.watch.put("sessions", "c9.5", True)
    platform.watch.put("sessions", "c9.5", False)
    assert not platform.world.violations
    platform.watch.put("sessions", "c9.5", True)
    assert platform.world.violations[0].startswith(invariants.TRIGGER)


def test_a_second_call_at_a_phone_is_noticed() -> None:
    platform = _calm()
    phone = next(iter(platform.wire.phones.values()))
    phone._plan = lambda: Plan(0, 0)
    phone.receive(Key("c90", 0, 7), "INVITE", 90)
    phone.receive(Key("c90", 0, 7), "INVITE", 90)
    assert not platform.world.violations
    phone.receive(Key("c91", 0, 7), "INVITE", 91)
    assert platform.world.violations[0].startswith("no agent is offered two calls")
