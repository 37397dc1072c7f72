"""What was dealt with lately."""

from __future__ import annotations

from services.agent_state.memory import KEPT, KEPT_US, MARKS, Marks, Memory


def test_the_newest_are_remembered() -> None:
    memory: Memory[str] = Memory()
    for number in range(KEPT + 5):
        memory.put(f"i{number}", "x", number)
    assert memory.get("i4") is None
    assert memory.get("i5") is not None
    assert len(list(memory.items())) == KEPT


def test_old_ones_are_forgotten() -> None:
    memory: Memory[str] = Memory()
    memory.put("a", None, 0)
    memory.put("b", None, 10)
    memory.forget_old(KEPT_US + 5)
    assert [key for key, _ in memory.items()] == ["b"]


def test_a_thread_only_goes_forward() -> None:
    marks = Marks()
    assert marks.advance("t", 3, 1)
    assert not marks.advance("t", 3, 2)
    assert not marks.advance("t", 2, 3)
    assert marks.advance("t", 9, 4)
    for number in range(MARKS):
        marks.advance(f"other-{number}", 1, 5)
    assert "t" not in [thread for thread, _, _ in marks.items()]
