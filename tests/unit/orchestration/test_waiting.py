"""Waits of requests end with the answer, with the session, or with the slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mesh.deadline import expiring_in
from mesh.errors import DomainError, Reason
from services.orchestration.replies import Answer, Reply
from services.orchestration.waiting import Waiting


async def test_a_slot_that_goes_ends_its_waits_only() -> None:
    waiting = Waiting()
    with waiting.answer(3, "s", "r") as gone, waiting.answer(4, "t", "r") as other:
        waiting.released(3)
        with pytest.raises(DomainError) as caught:
            await gone
        assert caught.value.reason == Reason.REASON_NOT_OWNER
        assert not other.done()
    assert waiting.count == 0


async def test_a_change_is_waited_for_until_it_is_stored() -> None:
    waiting, told = Waiting(), list[Callable[[], None]]()
    task = asyncio.ensure_future(waiting.stored(3, "s", told.append))
    gone = asyncio.ensure_future(waiting.stored(4, "s", told.append))
    await asyncio.sleep(0)
    told[0]()
    await task
    told[0]()  # more than once does no harm
    waiting.released(4)
    with pytest.raises(DomainError) as caught:
        await gone
    assert caught.value.reason == Reason.REASON_NOT_OWNER


async def test_a_store_that_takes_too_long_is_a_timeout() -> None:
    with expiring_in(0.01), pytest.raises(DomainError) as caught:
        await Waiting().stored(1, "s", lambda stored: None)
    assert caught.value.reason == Reason.REASON_TIMEOUT


async def test_everybody_who_sent_a_request_gets_its_answer() -> None:
    waiting = Waiting()
    with (
        waiting.answer(1, "s", "r") as one,
        waiting.answer(1, "s", "r") as two,
        waiting.answer(1, "s", "q") as other,
    ):
        waiting.replied("s", Reply("r", Answer(201)))
        assert (await one, await two) == (Answer(201), Answer(201))
        assert not other.done()
    waiting.replied("s", Reply("q", Answer()))  # nobody waits any more
    assert waiting.count == 0


async def test_a_session_that_ends_answers_nothing_more() -> None:
    waiting = Waiting()
    with waiting.answer(1, "s", "r") as answer:
        waiting.ended("s")
        with pytest.raises(DomainError) as caught:
            await answer
    assert caught.value.reason == Reason.REASON_TIMEOUT


async def test_the_number_of_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.orchestration.waiting.MAX_ANSWERS", 1)
    waiting = Waiting()
    with waiting.answer(1, "s", "r"), pytest.raises(DomainError) as caught, waiting.answer(1, "s", "q"):
        pass
    assert caught.value.reason == Reason.REASON_QUEUE_FULL
    assert waiting.count == 0
