"""Sessions are found wherever they are, also while their slot is on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from mesh.discovery import Directory
from mesh.errors import Reason
from services.orchestration.finding import Finder, slot_of
from services.orchestration.session import Session
from services.orchestration.shard import Shard
from tests.unit.orchestration.test_machine import CALL

SESSION = Session(replace(CALL, session_id="thread.1", call_thread_id="thread"))
SLOT = slot_of("thread.1")


class Slot:
    """A shard that has some sessions; something may happen while it is asked."""

    def __init__(self, *sessions: Session, meanwhile: Callable[[], None] | None = None) -> None:
        self._sessions = {session.id: session for session in sessions}
        self._meanwhile = meanwhile

    async def peek(self, session_id: str) -> Session | None:
        if self._meanwhile is not None:
            self._meanwhile()
        return self._sessions.get(session_id)


async def look(shards: dict[int, Any], tenant: str = "t1") -> tuple[Any, Session] | None:
    return await finder(shards).here(tenant, "thread.1")


def finder(shards: dict[int, Any]) -> Finder:
    return Finder(cast(dict[int, Shard], shards), cast(Directory, None), "n-0.1")


async def test_a_session_is_found_in_its_own_slot_and_in_any_other() -> None:
    here = Slot(SESSION)
    assert await look({SLOT: here}) == (here, SESSION)
    assert await look({SLOT: Slot(), 300: here}) == (here, SESSION)
    assert await look({300: here}, "") == (here, SESSION)


async def test_a_session_of_another_tenant_is_none() -> None:
    assert await finder({SLOT: Slot(SESSION)}).here("t2", "thread.1") is None
    assert await finder({300: Slot(SESSION)}).here("t2", "thread.1") is None


async def test_a_slot_that_arrives_while_others_are_asked_is_asked_too() -> None:
    shards: dict[int, Any] = {}
    arrived = Slot(SESSION)
    shards[300] = Slot(meanwhile=lambda: shards.setdefault(SLOT, arrived))
    assert await look(shards) == (arrived, SESSION)


async def test_a_slot_that_leaves_meanwhile_is_not_taken_for_one_without_the_session() -> None:
    shards: dict[int, Any] = {}
    shards[SLOT] = Slot(meanwhile=lambda: shards.pop(SLOT, None))
    found = finder(shards)
    assert await found.here("t1", "thread.1") is None
    assert found.missing("thread.1").reason == Reason.REASON_NOT_OWNER


async def test_what_nobody_has_is_unknown_where_it_should_be_and_elsewhere_where_it_should_not() -> None:
    found = finder({SLOT: Slot()})
    assert await found.here("t1", "thread.1") is None
    assert found.missing("thread.1").reason == Reason.REASON_UNKNOWN_OBJECT
    assert finder({300: Slot()}).missing("thread.1").reason == Reason.REASON_NOT_OWNER
