"""A router that takes a tenant over: whole queue first, agents kept for whom they were reserved, asks safe to repeat."""

from __future__ import annotations

from dataclasses import replace

from services.tenant.agents import AgentView, Presence
from services.tenant.effects import Found, GiveBack, Reserve
from services.tenant.inputs import AgentSeen, Cancel, Denied, Granted, Rebuilt, Submit, Tick
from services.tenant.machine import RESERVE_US, Router
from services.tenant.targets import Matcher
from tests.unit.tenant.test_router import TOWN, S, asked, ready, request


def heir() -> Router:
    return Router(Matcher(TOWN), rebuilding=True)


def reserved(agent_id: str, by: str, until_us: int) -> AgentSeen:
    view = AgentView(agent_id, dn="100" + agent_id[-1], presence=Presence.READY)
    return AgentSeen(replace(view, reserved_by=by, reserved_until_us=until_us))


def test_nobody_is_served_before_the_whole_queue_is_known() -> None:
    tenant = heir()
    tenant.handle(ready("a1", 0), 0)
    assert tenant.handle(Submit(request("low")), 1) == []
    assert tenant.handle(Tick(), 2) == []
    assert tenant.next_us() is None
    assert tenant.handle(Submit(request("high", priority=9)), 3) == []
    assert asked(tenant.handle(Rebuilt(), 4)) == [("high", "a1")]


def test_what_was_withdrawn_before_the_end_of_the_queue_asks_nobody() -> None:
    tenant = heir()
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request("r1")), 1)
    tenant.handle(Cancel("r1"), 2)
    assert tenant.handle(Rebuilt(), 3) == []


def test_a_request_that_ran_out_while_nobody_served_is_answered_when_serving_begins() -> None:
    tenant = heir()
    tenant.handle(Submit(request("r1", timeout=5)), 0)
    assert [type(e).__name__ for e in tenant.handle(Rebuilt(), 6_000)] == ["NotFound"]


def test_an_agent_reserved_for_a_waiting_request_is_asked_for_again_under_the_same_id() -> None:
    tenant = heir()
    tenant.handle(reserved("a1", "r1:3", 10 * S), 0)
    tenant.handle(ready("a2", 0), 0)
    tenant.handle(Submit(request("r1")), 1)
    tenant.handle(Submit(request("r2", priority=5)), 1)
    effects = tenant.handle(Rebuilt(), 2)
    assert effects == [Reserve("r1", "a1", 0, 3), Reserve("r2", "a2", 5, 1)]
    found = tenant.handle(Granted("r1", "a1", "token", 10 * S), 3)
    assert isinstance(found[0], Found)
    assert found[0].token == "token"


def test_a_reservation_that_is_over_or_of_another_target_is_not_taken_up() -> None:
    tenant = heir()
    tenant.handle(reserved("a1", "r1:1", 5), 0)
    tenant.handle(reserved("a3", "r2:1", 10 * S), 0)  # a3 speaks no English
    tenant.handle(Submit(request("r1")), 1)
    tenant.handle(Submit(request("r2")), 1)
    assert asked(tenant.handle(Rebuilt(), 6)) == [("r1", "a1")]  # free again, and asked for afresh


def test_a_reservation_for_a_request_that_was_answered_is_left_alone() -> None:
    tenant = heir()
    tenant.handle(reserved("a1", "gone:1", 10 * S), 0)
    assert tenant.handle(Rebuilt(), 1) == []
    assert tenant.handle(Submit(request("r1")), 2) == []
    assert tenant.next_us() == 10 * S


def test_an_ask_whose_answer_never_came_is_repeated_under_its_id_and_a_refused_one_is_not() -> None:
    tenant = Router(Matcher(TOWN))
    tenant.handle(ready("a1", 0), 0)
    assert tenant.handle(Submit(request("r1")), 0) == [Reserve("r1", "a1", 0, 1)]
    tenant.handle(Denied("r1", "a1", unknown=True), 10)
    assert tenant.handle(Tick(), S) == [Reserve("r1", "a1", 0, 1)]
    tenant.handle(Denied("r1", "a1"), S + 10)
    assert tenant.handle(Tick(), 2 * S) == [Reserve("r1", "a1", 0, 2)]


def test_a_silent_ask_is_repeated_and_its_late_grant_counts_once() -> None:
    tenant = Router(Matcher(TOWN))
    tenant.handle(ready("a1", 0), 0)
    tenant.handle(Submit(request("r1")), 0)
    tenant.handle(Tick(), RESERVE_US)
    assert tenant.handle(Tick(), RESERVE_US + S) == [Reserve("r1", "a1", 0, 1)]
    grant = Granted("r1", "a1", "token", 20 * S)
    assert isinstance(tenant.handle(grant, RESERVE_US + S + 1)[0], Found)
    assert tenant.handle(grant, RESERVE_US + S + 2) == []  # the same reservation, told twice
    assert tenant.handle(replace(grant, token="other"), RESERVE_US + S + 3) == [GiveBack("a1", "other")]
