"""A node that stops answering OPTIONS is silent before two intervals have passed; one answer brings it back."""

from __future__ import annotations

from services.sip_proxy.probing import Probing


class World:
    """Nodes that answer at once or not at all."""

    def __init__(self) -> None:
        self.probing = Probing(1.0)
        self.nodes = ["a", "b"]
        self.deaf: set[str] = set()
        self.status = 200
        self.txn = 0
        self.open: list[int] = []

    def turn(self, now: float) -> frozenset[str]:
        for node in self.probing.round(self.nodes, now):
            self.txn += 1
            self.probing.asked(node, self.txn, now)
            if node in self.deaf:
                self.open.append(self.txn)
            else:
                self.probing.answered(self.txn, self.status)
        return self.probing.silent


def test_each_node_is_asked_once_an_interval() -> None:
    world = World()
    for tick in range(41):
        assert world.turn(tick * 0.25) == frozenset()
    assert world.txn == 2 * 11


def test_a_node_that_stops_answering_is_silent_within_two_intervals_and_comes_back_with_one_answer() -> None:
    for stops_at in range(8):
        world, silent_at = World(), 0.0
        for tick in range(24):
            if tick == stops_at:
                world.deaf.add("a")
            if world.turn(tick * 0.25) and not silent_at:
                silent_at = tick * 0.25
        assert 0 < silent_at - stops_at * 0.25 <= 2.0
        assert world.probing.silent == {"a"}
        world.deaf.clear()
        assert world.turn(24 * 0.25 + 1) == frozenset()


def test_a_late_answer_to_an_earlier_question_counts_and_a_late_failure_does_not() -> None:
    world = World()
    world.deaf.add("a")
    for tick in range(3):
        world.turn(float(tick))
    assert world.probing.silent == {"a"}
    assert world.probing.answered(world.open[0], 200)
    assert world.probing.silent == frozenset()
    assert not world.probing.failed(world.open[1])
    assert world.probing.silent == frozenset()
    assert not world.probing.answered(999, 200), "nobody was asked"


def test_a_node_that_refuses_or_is_not_there_is_silent_at_once() -> None:
    world = World()
    world.status = 503
    assert world.turn(0.0) == {"a", "b"}
    world.status = 200
    assert world.turn(1.0) == frozenset()
    world.deaf.add("b")
    world.turn(2.0)
    assert world.probing.failed(world.open[-1])
    assert world.probing.silent == {"b"}


def test_nodes_that_left_are_forgotten() -> None:
    world = World()
    world.deaf.add("a")
    world.turn(0.0)
    world.turn(1.0)
    world.nodes = ["b"]
    assert world.turn(2.0) == frozenset()
    assert not world.probing.answered(world.open[0], 200)
    world.nodes = ["a", "b"]
    world.deaf.clear()
    assert world.turn(3.0) == frozenset()
