"""Arbitration (domain facts §2.18), in virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.reservation_token import ending
from mesh.reservation_token import name as token_name
from services.agent_state.agent import Agent
from services.agent_state.effects import Asked, Deny, Grant
from services.agent_state.machine import LoggedIn, Session, WorkMode
from services.agent_state.record import pack, unpack
from services.agent_state.reservation import ASKS, Ask, Reservation, Rules

RULES = Rules()
MS = 1000


def ask(name: str, priority: int = 0, *, duration_us: int = 0, only_if_ready: bool = False) -> Ask:
    return Ask(name, f"client-{name}", priority, duration_us, only_if_ready)


def decided(outcomes: Sequence[object]) -> dict[str, str]:
    found = [o for o in outcomes if isinstance(o, Grant | Deny)]
    assert len(found) == len(outcomes)
    return {o.request_id: "granted" if isinstance(o, Grant) else o.reason for o in found}


def test_the_highest_priority_in_the_window_wins() -> None:
    made = Reservation()
    for number, (name, priority) in enumerate([("a", 1), ("b", 5), ("c", 5), ("d", 2)]):
        assert made.ask(ask(name, priority), number * 10 * MS, True, "t", RULES) == []
    assert made.window_until_us == 100 * MS  # from the first one on, not prolonged
    assert made.tick(100 * MS - 1, True, "t", RULES) == []
    outcomes = made.tick(100 * MS, True, "token", RULES)
    assert decided(outcomes) == {
        "a": "REASON_AGENT_RESERVED",
        "b": "granted",  # of equals the earlier
        "c": "REASON_AGENT_RESERVED",
        "d": "REASON_AGENT_RESERVED",
    }
    assert made.held is not None
    assert (made.held.token, made.held.until_us) == (
        ending("token", 10_100 * MS),
        10_100 * MS,
    )


def test_nobody_gets_a_reserved_agent_before_the_reservation_ends() -> None:
    made = Reservation()
    made.ask(ask("a", duration_us=500 * MS), 0, True, "t", Rules(window_us=0))
    late = made.ask(ask("b", 99), 499 * MS, True, "t", RULES)
    assert decided(late) == {"b": "REASON_AGENT_RESERVED"}
    assert isinstance(late[0], Deny)
    assert late[0].until_us == 500 * MS
    assert made.ask(ask("c"), 500 * MS, True, "t", RULES) == []
    assert decided(made.tick(600 * MS, True, "t", RULES)) == {"c": "granted"}


def test_without_a_window_the_first_wins_at_once() -> None:
    made = Reservation()
    assert decided(made.ask(ask("a"), 0, True, "t", Rules(window_us=0))) == {"a": "granted"}


def test_without_collecting_lower_priorities_the_higher_evicts() -> None:
    rules = Rules(collect_lower_priority=False)
    made = Reservation()
    assert made.ask(ask("a", 3), 0, True, "t", rules) == []
    assert decided(made.ask(ask("b", 3), 10, True, "t", rules)) == {"b": "REASON_AGENT_RESERVED"}
    assert decided(made.ask(ask("c", 4), 20, True, "t", rules)) == {"a": "REASON_AGENT_RESERVED"}
    assert made.window_until_us == 100 * MS
    assert decided(made.tick(100 * MS, True, "t", rules)) == {"c": "granted"}


def test_the_holder_prolongs_only_when_that_is_allowed() -> None:
    for reject, outcome in ((True, "REASON_AGENT_RESERVED"), (False, "granted")):
        rules = Rules(window_us=0, reject_subsequent=reject)
        made = Reservation()
        made.ask(Ask("a", "one"), 0, True, "t1", rules)
        assert decided(made.ask(Ask("b", "one"), 5000 * MS, True, "t2", rules)) == {"b": outcome}
        assert made.held is not None
        until_us = (10_000 if reject else 15_000) * MS
        assert (made.held.token, made.held.until_us) == (ending("t1", until_us), until_us)
        assert made.cancel(ending("t1", 10_000 * MS))  # the token of before it was prolonged


def test_only_if_ready_looks_when_it_is_asked_and_when_the_window_closes() -> None:
    made = Reservation()
    assert decided(made.ask(ask("a", only_if_ready=True), 0, False, "t", RULES)) == {
        "a": "REASON_WRONG_STATE"
    }
    made.ask(ask("b", 9, only_if_ready=True), 0, True, "t", RULES)
    made.ask(ask("c", 1), 0, True, "t", RULES)
    outcomes = decided(made.tick(100 * MS, False, "t", RULES))
    assert outcomes == {"b": "REASON_WRONG_STATE", "c": "granted"}


def test_a_window_takes_so_many_and_no_more() -> None:
    made = Reservation()
    for number in range(ASKS):
        assert made.ask(ask(str(number)), 0, True, "t", RULES) == []
    assert decided(made.ask(ask("one more"), 0, True, "t", RULES)) == {"one more": "REASON_QUEUE_FULL"}


def test_only_its_token_gives_a_reservation_back() -> None:
    made = Reservation()
    made.ask(ask("a"), 0, True, "t", Rules(window_us=0))
    assert not made.cancel("another")
    assert made.held is not None
    assert made.cancel("t")
    assert not made.cancel("t")


def ready_agent() -> Agent:
    agent = Agent(Session("t1", "A1"))
    agent.session.login(Asked("i"), LoggedIn("1001"), 1)
    agent.session.ready(Asked("j"), WorkMode.UNKNOWN, b"", 1)
    return agent


def test_the_same_request_again_repeats_its_grant_until_it_ends() -> None:
    agent = ready_agent()
    agent.ask(ask("a"), None, 0, "t", RULES)
    assert agent.ask(ask("a"), None, 50 * MS, "t", RULES) == []  # joins the window
    granted = agent.tick(100 * MS, "token", RULES)
    assert decided(granted) == {"a": "granted"}
    assert agent.ask(ask("a"), None, 200 * MS, "other", RULES) == granted
    assert agent.ask(ask("a"), None, 20_000 * MS, "other", RULES) == []  # a new window


def test_logout_lets_all_who_wait_lose() -> None:
    agent = ready_agent()
    agent.ask(ask("a"), None, 0, "t", RULES)
    agent.session.logout(Asked("x"), 10)
    assert decided(agent.logged_out(10)) == {"a": "REASON_AGENT_NOT_LOGGED_IN"}
    assert decided(agent.ask(ask("b"), None, 20, "t", RULES)) == {"b": "REASON_AGENT_NOT_LOGGED_IN"}


ASKS_IN_TIME = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 400)), min_size=1, max_size=30
)


@settings(max_examples=150, deadline=None)
@given(ASKS_IN_TIME, st.booleans(), st.booleans(), st.integers(0, 2**32))
def test_never_two_at_once_and_everyone_is_answered_once(
    asks: list[tuple[int, int, int]], lower: bool, reject: bool, seed: int
) -> None:
    """Repeats and any arrival order; cut, stored and restored at random."""
    rules = Rules(duration_us=150 * MS, collect_lower_priority=lower, reject_subsequent=reject)
    rng = random.Random(seed)
    agent = ready_agent()
    asked: set[str] = set()
    answered: list[str] = []
    holders: list[tuple[int, int, str]] = []
    now = 0
    for number, (gap, priority, client) in enumerate(asks):
        now += gap * 5 * MS
        effects = agent.tick(now, f"tick-{number}", rules)
        name = f"r{number}"
        asked.add(name)
        effects += agent.ask(Ask(name, f"c{client % 3}", priority), None, now, f"token-{number}", rules)
        if rng.random() < 0.3:
            agent = unpack(pack(agent))
        answered += _note(effects, now, holders)
    answered += _note(agent.tick(now + 10_000 * MS, "last", rules), now + 10_000 * MS, holders)
    assert sorted(answered) == sorted(asked)
    tokens = {token for _, _, token in holders}
    for token in tokens:
        begin = min(at for at, _, t in holders if t == token)
        finish = max(until for _, until, t in holders if t == token)
        others = [(at, until) for at, until, t in holders if t != token]
        assert not any(at < finish and begin < until for at, until in others)


def _note(effects: Sequence[object], now: int, holders: list[tuple[int, int, str]]) -> list[str]:
    names = []
    for effect in effects:
        assert isinstance(effect, Grant | Deny)
        names.append(effect.request_id)
        if isinstance(effect, Grant):
            holders.append((now, effect.until_us, token_name(effect.token)))
    return names
