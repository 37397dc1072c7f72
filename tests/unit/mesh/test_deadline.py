"""What is left of a time limit, and who inherits it."""

from __future__ import annotations

import pytest

from mesh import deadline
from mesh.deadline import DEFAULT_UNARY_S, expiring_in, remaining, timeout_for, unbounded


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline, "time", clock)
    return clock


def test_outside_of_a_call_nothing_is_limited() -> None:
    assert remaining() is None
    assert timeout_for(None) == DEFAULT_UNARY_S
    assert timeout_for(60) == 60


def test_a_call_made_for_a_call_has_what_is_left(clock: Clock) -> None:
    with expiring_in(1.5):
        clock.now += 0.5
        assert remaining() == pytest.approx(1.0)
        assert timeout_for(None) == pytest.approx(1.0)
        assert timeout_for(0.25) == 0.25
        clock.now += 10
        assert remaining() == 0
        assert timeout_for(5) == 0
    assert remaining() is None


def test_an_inner_limit_never_extends_the_outer(clock: Clock) -> None:
    with expiring_in(1), expiring_in(30):
        assert remaining() == pytest.approx(1)
        with expiring_in(0.5):
            assert remaining() == pytest.approx(0.5)
        assert remaining() == pytest.approx(1)


def test_work_that_outlives_the_call_is_unbounded(clock: Clock) -> None:
    with expiring_in(1):
        with unbounded():
            assert remaining() is None
            assert timeout_for(60) == 60
        assert remaining() == pytest.approx(1)
