"""A node whose record vanished is kept while it answers, for a while."""

from __future__ import annotations

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from services.sip_proxy.roster import Roster


def node(name: str, address: str, state: NodeState.ValueType = NodeState.NODE_STATE_SERVING) -> NodeRecord:
    return NodeRecord(incarnation=name, sip_address=address, capacity=100, state=state)


A, B = node("a.1", "127.0.0.1:5060"), node("b.1", "127.0.0.2:5060")


def names(nodes: list[NodeRecord]) -> list[str]:
    return [found.incarnation for found in nodes]


def test_records_that_vanish_and_come_back_are_not_missed() -> None:
    roster = Roster(10.0)
    assert names(roster.present([A, B], (), 0.0)) == ["a.1", "b.1"]
    assert names(roster.present([B], (), 1.0)) == ["b.1", "a.1"]
    assert names(roster.present([], (), 1.1)) == ["a.1", "b.1"]
    assert names(roster.present([A, B], (), 1.3)) == ["a.1", "b.1"]
    assert names(roster.present([A, B], (), 60.0)) == ["a.1", "b.1"]


def test_a_node_that_does_not_answer_goes_with_its_record() -> None:
    roster = Roster(10.0)
    roster.present([A, B], (), 0.0)
    assert names(roster.present([B], {"a.1"}, 1.0)) == ["b.1"]
    assert names(roster.present([B], (), 2.0)) == ["b.1"], "and is not taken up again"


def test_a_node_is_held_so_long_and_no_longer() -> None:
    roster = Roster(10.0)
    roster.present([A], (), 0.0)
    assert names(roster.present([], (), 1.0)) == ["a.1"]
    assert names(roster.present([], (), 10.9)) == ["a.1"]
    assert names(roster.present([], (), 11.0)) == []


def test_a_node_that_was_leaving_or_was_started_again_is_not_held() -> None:
    roster = Roster(10.0)
    roster.present([node("a.1", A.sip_address, NodeState.NODE_STATE_DRAINING), B], (), 0.0)
    assert names(roster.present([B], (), 1.0)) == ["b.1"]
    again = node("b.2", B.sip_address)
    assert names(roster.present([again], (), 2.0)) == ["b.2"]
