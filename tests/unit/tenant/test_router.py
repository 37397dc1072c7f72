"""The router: who is served by whom, and in which order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.tenant.agents import AgentView, Change, Presence
from services.tenant.effects import Effect, Found, GiveBack, NotFound, Reserve
from services.tenant.inputs import (
    AgentChanged,
    AgentSeen,
    Cancel,
    Denied,
    Granted,
    Request,
    Submit,
    Tick,
    Update,
)
from services.tenant.machine import Router
from services.tenant.targets import Matcher, Target, TargetError, TargetKind, from_designation

S = 1_000_000
ENGLISH = Target(TargetKind.SKILL, "English > 5")


@dataclass
class Town:
    """A small configuration."""

    skills: dict[str, dict[str, int]] = field(default_factory=dict)
    groups: dict[str, tuple[frozenset[str], str]] = field(default_factory=dict)
    places: dict[str, frozenset[str]] = field(default_factory=dict)
    names: dict[str, frozenset[str]] = field(default_factory=dict)

    def levels(self, agent_id: str) -> Mapping[str, int]:
        return self.skills.get(agent_id, {})

    def logins_named(self, name: str) -> frozenset[str]:
        return self.names.get(name, frozenset({name}) if name in self.skills else frozenset())

    def group(self, name: str) -> tuple[frozenset[str], str] | None:
        return self.groups.get(name)

    def place_dns(self, name: str) -> frozenset[str] | None:
        return self.places.get(name)


TOWN = Town(
    skills={"a1": {"English": 8}, "a2": {"English": 9}, "a3": {"French": 9}},
    groups={"sales": (frozenset({"a3"}), ""), "anglo": (frozenset(), "English >= 8")},
    places={"desk3": frozenset({"1003"})},
    names={"anna": frozenset({"a1"})},
)


def router() -> Router:
    return Router(Matcher(TOWN))


def ready(agent_id: str, since_us: int) -> AgentSeen:
    dn = "100" + agent_id[-1]
    return AgentSeen(AgentView(agent_id, dn=dn, presence=Presence.READY, ready_since_us=since_us))


def request(
    name: str = "r1", *targets: Target, priority: int = 0, age: int = 0, now: int = 0, timeout: int = 0
) -> Request:
    return Request(name, targets or (ENGLISH,), priority, age, now, timeout)


def asked(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(e.request_id, e.agent_id) for e in effects if isinstance(e, Reserve)]


def test_a_request_whose_time_is_over_while_an_agent_is_asked_waits_for_the_answer_without_a_clock() -> None:
    """A `Tick` can do nothing about it: a clock that rang at once, again and again, burnt a core until the answer came."""
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    assert asked(tenant.handle(Submit(request(timeout=1000)), 0)) == [("r1", "a1")]
    assert tenant.handle(Tick(), 1 * S) == []
    due = tenant.next_us()
    assert due is not None
    assert due > 1 * S
    assert tenant.handle(Denied("r1", "a1"), 2 * S) == [NotFound("r1")]


def test_the_longest_ready_agent_who_matches_is_asked_and_answers_the_request() -> None:
    tenant = router()
    tenant.handle(ready("a1", 20), 30)
    tenant.handle(ready("a2", 10), 30)
    tenant.handle(ready("a3", 1), 30)
    effects = tenant.handle(Submit(request()), 40)
    assert effects == [Reserve("r1", "a2", 0, 1)]
    found = tenant.handle(Granted("r1", "a2", "token", 10 * S), 50)
    assert isinstance(found[0], Found)
    assert (found[0].agent.agent_id, found[0].agent.dn, found[0].token) == ("a2", "1002", "token")
    assert tenant.waiting() == []


def test_a_repeat_of_an_answered_request_repeats_the_answer_and_asks_nobody() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request()), 0)
    answer = tenant.handle(Granted("r1", "a1", "t", S), 1)
    assert tenant.handle(Submit(request()), 2) == answer


def test_a_repeat_of_a_waiting_request_changes_nothing() -> None:
    tenant = router()
    assert tenant.handle(Submit(request()), 0) == []
    assert tenant.handle(Submit(request()), 1) == []
    assert len(tenant.waiting()) == 1


@pytest.mark.parametrize(
    ("target", "agent"),
    [
        (Target(TargetKind.AGENT, "a1"), "a1"),
        (Target(TargetKind.AGENT, "anna"), "a1"),
        (Target(TargetKind.AGENT_GROUP, "sales"), "a3"),
        (Target(TargetKind.AGENT_GROUP, "anglo"), "a1"),
        (Target(TargetKind.SKILL, "French >= 9"), "a3"),
        (Target(TargetKind.PLACE, "desk3"), "a3"),
    ],
)
def test_each_kind_of_target_finds_its_agent(target: Target, agent: str) -> None:
    tenant = router()
    for since, name in enumerate(("a1", "a2", "a3")):
        tenant.handle(ready(name, since), 10)
    assert asked(tenant.handle(Submit(request("r", target)), 20)) == [("r", agent)]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (Target(TargetKind.AGENT, "nobody"), "no agent"),
        (Target(TargetKind.AGENT_GROUP, "none"), "no agent group"),
        (Target(TargetKind.PLACE, "none"), "no place"),
        (Target(TargetKind.SKILL, "English >"), "position 9"),
    ],
)
def test_a_target_that_can_never_be_met_is_answered_at_once(target: Target, problem: str) -> None:
    answer = router().handle(Submit(request("r", target)), 0)
    assert isinstance(answer[0], NotFound)
    assert problem in answer[0].invalid


def test_requests_are_served_by_priority_then_age() -> None:
    tenant = router()
    rows = [("low-old", 0, 1), ("high-new", 9, 50), ("high-old", 9, 2), ("low-new", 0, 60)]
    for name, priority, age in rows:
        tenant.handle(Submit(request(name, priority=priority, age=age)), 100)
    served = []
    for turn in range(4):
        now = 1000 * (turn + 1)
        served += asked(tenant.handle(ready("a1", now), now))
        tenant.handle(Granted(served[-1][0], "a1", "t", now + S), now)
    assert [name for name, _ in served] == ["high-old", "high-new", "low-old", "low-new"]


def test_a_changed_priority_changes_the_order() -> None:
    tenant = router()
    tenant.handle(Submit(request("r1", age=1)), 10)
    tenant.handle(Submit(request("r2", age=2)), 10)
    tenant.handle(Update("r2", 5), 11)
    assert [r.request_id for r in tenant.waiting()] == ["r2", "r1"]


def test_a_denied_agent_rests_and_the_request_keeps_its_place() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request()), 0)
    assert asked(tenant.handle(Denied("r1", "a1"), 1000)) == []
    due = tenant.next_us()
    assert due == 21_000
    assert tenant.handle(Tick(), due) == [Reserve("r1", "a1", 0, 2)]


def test_a_clock_that_rings_early_does_not_let_a_rest_be_forgotten() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request()), 0)
    tenant.handle(Denied("r1", "a1"), 1000)
    assert tenant.handle(Tick(), 20_999) == []  # a microsecond early
    assert tenant.next_us() == 21_000  # asked when it has passed already
    assert tenant.handle(Tick(), 21_005) == [Reserve("r1", "a1", 0, 2)]


def test_a_denied_request_goes_to_the_next_agent_at_once() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(ready("a2", 5), 5)
    tenant.handle(Submit(request()), 10)
    assert asked(tenant.handle(Denied("r1", "a1"), 11)) == [("r1", "a2")]


def test_a_silent_reservation_counts_as_denied_and_a_late_grant_is_given_back() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request(timeout=2000)), 0)
    effects = tenant.handle(Tick(), 3 * S)
    assert effects == [NotFound("r1")]
    assert tenant.handle(Granted("r1", "a1", "late", 9 * S), 4 * S) == [GiveBack("a1", "late")]


def test_a_request_expires_at_its_timeout() -> None:
    tenant = router()
    tenant.handle(Submit(request(timeout=1500)), 0)
    assert tenant.next_us() == 1_500_000
    assert tenant.handle(Tick(), 1_499_999) == []
    assert tenant.handle(Tick(), 1_500_000) == [NotFound("r1")]
    assert tenant.next_us() is None


def test_a_later_target_joins_at_its_second() -> None:
    tenant = router()
    tenant.handle(ready("a3", 0), 0)
    targets = (ENGLISH, Target(TargetKind.AGENT_GROUP, "sales", after_ms=5000))
    assert asked(tenant.handle(Submit(request("r", *targets)), 0)) == []
    assert tenant.next_us() == 5 * S
    assert asked(tenant.handle(Tick(), 5 * S)) == [("r", "a3")]


def test_cancel_answers_and_gives_back_what_is_granted_later() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request()), 0)
    assert tenant.handle(Cancel("r1"), 1) == [NotFound("r1", cancelled=True)]
    assert tenant.handle(Granted("r1", "a1", "t", S), 2) == [GiveBack("a1", "t")]
    assert tenant.handle(Cancel("r1"), 3) == []


@pytest.mark.parametrize(
    "change",
    [
        Change("a1", presence=Presence.NOT_READY),
        Change("a1", presence=Presence.LOGGED_OUT),
        Change("a1", dnd=True),
        Change("a1", in_service=False),
        Change("a1", call_joined=7),
        Change("a1", reserved_until_us=99 * S),
    ],
)
def test_an_agent_who_cannot_take_a_call_is_not_asked(change: Change) -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(AgentChanged(change), 1)
    assert asked(tenant.handle(Submit(request()), 2)) == []
    assert tenant.roster.agents["a1"].why_not(2) != ""


def test_an_agent_free_of_a_call_is_ready_from_then_on() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(ready("a2", 10), 10)
    tenant.handle(AgentChanged(Change("a1", call_joined=7)), 20)
    tenant.handle(AgentChanged(Change("a1", call_left=7)), 30)
    assert asked(tenant.handle(Submit(request()), 40)) == [("r1", "a2")]


def test_an_excluded_agent_is_not_asked() -> None:
    tenant = router()
    tenant.handle(ready("a1", 0), 0)
    excluded = replace(request(), excluded=frozenset({"a1"}))
    assert asked(tenant.handle(Submit(excluded), 1)) == []


@pytest.mark.parametrize(
    ("text", "kind", "expression"),
    [
        ("?:English=20&Loans=2@SS.GA", TargetKind.SKILL, "English=20&Loans=2"),
        ("?:Skill1 > 1", TargetKind.SKILL, "Skill1 > 1"),
        ("sales@StatServer.GA", TargetKind.AGENT_GROUP, "sales"),
        ("a1@.A", TargetKind.AGENT, "a1"),
        ("desk3@SS.AP", TargetKind.PLACE, "desk3"),
    ],
)
def test_designations_of_routing_applications(text: str, kind: TargetKind, expression: str) -> None:
    assert from_designation(text) == Target(kind, expression)


@pytest.mark.parametrize("text", ["", "sales", "x@SS.Q", "@SS.GA"])
def test_designations_that_are_none(text: str) -> None:
    with pytest.raises(TargetError):
        from_designation(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 6))
def test_every_request_gets_one_answer_and_no_agent_two_calls(seed: int, requests: int, agents: int) -> None:
    """Grants and denials in any order, repeats, silence: each request one answer, each grant used at most once."""
    chance = random.Random(seed)
    town = Town(skills={f"a{n}": {"English": 9} for n in range(agents)})
    tenant = Router(Matcher(town))
    now = 0
    pending: list[Reserve] = []
    busy: dict[str, str] = {}
    answers: dict[str, Found] = {}
    for n in range(agents):
        tenant.handle(ready(f"a{n}", 0), now)
    todo = [request(f"r{n}", priority=chance.randrange(3), age=n) for n in range(requests)]
    while len(answers) < requests:
        now += chance.randrange(1, 50_000)
        effects: list[Effect] = []
        if todo and chance.random() < 0.5:
            item = todo.pop() if chance.random() < 0.8 else todo[-1]
            effects = tenant.handle(Submit(item), now)
        elif pending and chance.random() < 0.8:
            ask = pending.pop(chance.randrange(len(pending)))
            if chance.random() < 0.7 and ask.agent_id not in busy:
                busy[ask.agent_id] = ask.request_id
                effects = tenant.handle(Granted(ask.request_id, ask.agent_id, ask.request_id, now), now)
            else:
                effects = tenant.handle(Denied(ask.request_id, ask.agent_id), now)
        elif busy and chance.random() < 0.5:
            agent, _ = busy.popitem()
            effects = tenant.handle(AgentChanged(Change(agent, call_joined=1)), now)
            effects += tenant.handle(AgentChanged(Change(agent, call_left=1)), now)
        else:
            effects = tenant.handle(Tick(), now)
        for effect in effects:
            if isinstance(effect, Reserve):
                pending.append(effect)
            elif isinstance(effect, Found):
                if effect.request_id not in answers:
                    assert busy[effect.agent.agent_id] == effect.request_id
                assert answers.setdefault(effect.request_id, effect) == effect
            elif isinstance(effect, GiveBack):
                del busy[effect.agent_id]
    assert tenant.waiting() == []
