"""What the router need not look at: it decides as one that looks at everything, and its work does not grow with the queue."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from services.tenant.agents import AgentView, Change, Presence
from services.tenant.dues import Dues
from services.tenant.effects import Effect, Reserve
from services.tenant.inputs import (
    AgentChanged,
    Cancel,
    Denied,
    Granted,
    Input,
    Reconfigured,
    Submit,
    Tick,
    Update,
)
from services.tenant.lines import place_of
from services.tenant.machine import Router
from services.tenant.targets import Matcher, Target, TargetKind
from tests.unit.tenant.test_router import ENGLISH, TOWN, S, Town, asked, ready, request, router

FRENCH = Target(TargetKind.SKILL, "French > 5")


class Plain(Router):
    """Looks at every request and every agent with every input."""

    def _serve(self, now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        free = self._free(None, now_us)
        for waiting in sorted(self._waiting.values(), key=lambda w: place_of(w.request)):
            if waiting.wish is None or (choice := self._choose(waiting.wish, free)) is None:
                continue
            agent, target = choice
            free.remove(agent)
            attempt = waiting.unsettled.get(agent.agent_id, waiting.attempt + 1)
            effects.append(self._ask(waiting, agent.agent_id, target, attempt, now_us))
        return effects


def some_request(chance: random.Random, number: int, now: int) -> Input:
    targets = (
        Target(TargetKind.SKILL, f"{chance.choice(('English', 'French'))} > {chance.randrange(8)}"),
        Target(TargetKind.SKILL, "French >= 0", after_ms=chance.randrange(100)),
    )
    return Submit(
        replace(
            request(f"r{number}", *targets[: chance.randrange(1, 3)], priority=chance.randrange(3), now=now),
            age_us=chance.randrange(50),
            timeout_ms=chance.choice((0, chance.randrange(1, 400))),
            excluded=frozenset({"a1"}) if chance.random() < 0.1 else frozenset(),
        )
    )


def some_input(chance: random.Random, number: int, now: int, asks: list[Reserve], town: Town) -> Input:
    agent = f"a{chance.randrange(5)}"
    kind = chance.randrange(10)
    if kind < 3:
        return some_request(chance, number, now)
    if kind < 5 and asks:
        ask = asks.pop(chance.randrange(len(asks)))
        if chance.random() < 0.5:
            return Granted(ask.request_id, ask.agent_id, f"t{number}", now + chance.randrange(100_000))
        return Denied(ask.request_id, ask.agent_id, unknown=chance.random() < 0.5)
    if kind == 5:
        return Cancel(f"r{chance.randrange(number + 1)}")
    if kind == 6:
        return Update(f"r{chance.randrange(number + 1)}", chance.randrange(4))
    if kind == 7:
        town.skills[agent] = {"English": chance.randrange(9), "French": chance.randrange(9)}
        return Reconfigured()
    if kind == 8:
        return Tick()
    joined, left = chance.choice(((7, 0), (0, 7)))
    presence = chance.choice((None, Presence.READY, Presence.NOT_READY))
    return AgentChanged(Change(agent, presence=presence, call_joined=joined, call_left=left))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_it_decides_as_one_that_looks_at_everything(seed: int) -> None:
    chance, town = random.Random(seed), Town()
    for n in range(5):
        town.skills[f"a{n}"] = {"English": chance.randrange(9), "French": chance.randrange(9)}
    one, other = Router(Matcher(town)), Plain(Matcher(town))
    asks: list[Reserve] = []
    now = 0
    for n in range(150):
        now += chance.choice((0, 1_000, 50_000, 4_000_000 if chance.random() < 0.05 else 20_000))
        item = some_input(chance, n, now, asks, town)
        effects = one.handle(item, now)
        assert effects == other.handle(item, now)
        assert one.next_us() == other.next_us()
        asks += [effect for effect in effects if isinstance(effect, Reserve)]
    assert one.waiting() == other.waiting()


@dataclass
class Counted(Town):
    """Counts how often somebody's skills are looked up."""

    lookups: list[str] = field(default_factory=list)

    def levels(self, agent_id: str) -> Mapping[str, int]:
        self.lookups.append(agent_id)
        return super().levels(agent_id)


def lookups(waiting: int) -> int:
    """How often a router of so many waiting requests looks at agents while one comes, one goes and agents change."""
    town = Counted(skills=TOWN.skills)
    tenant = Router(Matcher(town))
    for name in ("a1", "a2", "a3"):
        tenant.handle(ready(name, 0), 0)
    for n in range(waiting):
        tenant.handle(Submit(request(f"r{n}", Target(TargetKind.SKILL, f"Dutch > {n % 3}"))), n)
    town.lookups.clear()
    now = waiting + 1
    tenant.handle(Submit(request("new", Target(TargetKind.SKILL, "Dutch > 2"))), now)
    tenant.handle(Cancel("r5"), now)
    tenant.handle(AgentChanged(Change("a1", call_joined=7)), now)
    tenant.handle(AgentChanged(Change("a1", call_left=7)), now)
    tenant.handle(Tick(), now)
    return len(town.lookups)


def test_its_work_does_not_grow_with_the_queue() -> None:
    assert 0 < lookups(3000) == lookups(10)


def test_agents_who_match_since_the_configuration_changed_are_asked() -> None:
    town = Town(skills={"a1": {"English": 1}})
    tenant = Router(Matcher(town))
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request()), 1)
    town.skills["a1"] = {"English": 9}
    assert asked(tenant.handle(Reconfigured(), 2)) == [("r1", "a1")]


def test_of_two_lines_the_one_with_the_older_request_is_served_first() -> None:
    tenant = router()
    either = Target(TargetKind.SKILL, "English > 1")
    for name, target, age in (("r1", ENGLISH, 5), ("r2", either, 1), ("r3", ENGLISH, 2), ("r4", FRENCH, 0)):
        tenant.handle(Submit(request(name, target, age=age)), 10)
    view = AgentView("a1", dn="1001", presence=Presence.READY)
    tenant.roster.put(replace(view, agent_id="a2"))
    effects = tenant.handle(ready("a1", 0), 11) + tenant.handle(ready("a2", 0), 12)
    assert asked(effects) == [("r2", "a1"), ("r3", "a2")]


def test_dues_come_in_their_order_and_only_as_they_were_last_set() -> None:
    dues: Dues[tuple[str]] = Dues()
    dues.set(("a",), 30)
    dues.set(("b",), 10)
    dues.set(("c",), 20)
    dues.set(("b",), 40)
    dues.set(("c",), None)
    assert dues.pop(29) is None
    assert dues.next_us() == 30
    assert [dues.pop(S), dues.pop(S), dues.pop(S)] == [("a",), ("b",), None]
    assert dues.next_us() is None


def test_times_that_do_not_count_any_more_are_not_kept_for_ever() -> None:
    dues: Dues[tuple[str]] = Dues()
    for n in range(10_000):
        dues.set((f"r{n}",), S + n)
        dues.set((f"r{n}",), None)
    assert len(dues._heap) < 200
    assert dues.next_us() is None
