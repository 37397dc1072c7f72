"""Waits of requests end with the answer, with the session, or with the slot."""

from __future__ import annotations

import pytest

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
