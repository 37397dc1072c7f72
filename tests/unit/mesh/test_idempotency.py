"""The window of request ids: a repeated request is carried out once, whatever order things come in."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mesh.idempotency import Answered, Full, InProgress, New, RequestWindow, Reused


def test_a_new_id_is_carried_out_once() -> None:
    window: RequestWindow[str] = RequestWindow()
    assert window.begin("a", 1.0, b"x") == New()
    assert window.begin("a", 2.0, b"x") == InProgress(1.0)
    window.finish("a", "granted", 3.0)
    assert window.begin("a", 4.0, b"x") == Answered("granted")
    assert window.begin("a", 4.0, b"x") == Answered("granted")


def test_none_is_an_outcome() -> None:
    window: RequestWindow[None] = RequestWindow()
    window.begin("a", 0.0)
    window.finish("a", None, 0.0)
    assert window.begin("a", 0.0) == Answered(None)


def test_an_id_for_another_request_is_refused() -> None:
    window: RequestWindow[str] = RequestWindow()
    window.begin("a", 0.0, b"x")
    assert window.begin("a", 0.0, b"y") == Reused()
    window.finish("a", "done", 0.0)
    assert window.begin("a", 0.0, b"y") == Reused()


def test_what_had_no_effect_may_be_tried_afresh() -> None:
    window: RequestWindow[str] = RequestWindow()
    window.begin("a", 0.0, b"x")
    window.forget("a")
    assert window.begin("a", 1.0, b"y") == New()


def test_an_outcome_is_forgotten_after_its_time() -> None:
    window: RequestWindow[str] = RequestWindow(ttl=10)
    window.begin("a", 0.0)
    window.finish("a", "done", 5.0)
    assert window.begin("a", 14.9) == Answered("done")
    assert window.begin("a", 15.0) == New()


def test_a_request_in_progress_is_never_forgotten() -> None:
    window: RequestWindow[str] = RequestWindow(capacity=2, ttl=1)
    window.begin("a", 0.0)
    window.begin("b", 0.0)
    assert window.begin("c", 1000.0) == Full()
    assert window.begin("a", 1000.0) == InProgress(0.0)
    window.finish("b", "done", 1000.0)
    assert window.begin("c", 1000.0) == New()
    assert window.begin("b", 1000.0) == Full()


@pytest.mark.parametrize("act", [lambda w: w.finish("a", "x", 0.0), lambda w: w.forget("a")])
def test_only_what_is_in_progress_can_end(act: object) -> None:
    window: RequestWindow[str] = RequestWindow()
    with pytest.raises(KeyError):
        act(window)  # type: ignore[operator]
    window.begin("a", 0.0)
    window.finish("a", "x", 0.0)
    with pytest.raises(KeyError):
        act(window)  # type: ignore[operator]


def test_a_window_needs_room_and_time() -> None:
    with pytest.raises(ValueError, match="capacity"):
        RequestWindow(capacity=0)
    with pytest.raises(ValueError, match="ttl"):
        RequestWindow(ttl=0)


class Windows(RuleBasedStateMachine):
    """A window beside a plain model of it, cut by a snapshot at any time."""

    CAPACITY, TTL = 4, 5.0

    def __init__(self) -> None:
        super().__init__()
        self.window: RequestWindow[str] = RequestWindow(self.CAPACITY, self.TTL)
        self.running: set[str] = set()
        self.outcomes: dict[str, tuple[str, float]] = {}
        self.now = 0.0
        self.count = 0

    @rule(request_id=st.sampled_from("abcdefgh"))
    def begin(self, request_id: str) -> None:
        got = self.window.begin(request_id, self.now)
        alive = {k: v for k, v in self.outcomes.items() if self.now - v[1] < self.TTL}
        if request_id in self.running:
            assert isinstance(got, InProgress)
        elif request_id in alive:
            assert got == Answered(alive[request_id][0])
        elif len(self.running) == self.CAPACITY:
            assert got == Full()
        else:
            assert got == New()
            if len(self.running) + len(alive) >= self.CAPACITY:
                del alive[next(iter(alive))]
            self.running.add(request_id)
        self.outcomes = alive

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.running:
            request_id = data.draw(st.sampled_from(sorted(self.running)))
            self.count += 1
            self.running.remove(request_id)
            self.outcomes[request_id] = (f"outcome {self.count}", self.now)
            self.window.finish(request_id, f"outcome {self.count}", self.now)

    @rule(step=st.sampled_from([0.5, 3.0]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule()
    def restore(self) -> None:
        """What a snapshot keeps comes back; what was in progress is the caller's to begin again."""
        fresh: RequestWindow[str] = RequestWindow(self.CAPACITY, self.TTL)
        for entry in self.window.answered():
            fresh.restore(*entry)
        for request_id in sorted(self.running):
            assert fresh.begin(request_id, 0.0) == New()
        self.window = fresh

    @invariant()
    def bounded(self) -> None:
        assert len(self.window) <= self.CAPACITY


TestWindows = Windows.TestCase
