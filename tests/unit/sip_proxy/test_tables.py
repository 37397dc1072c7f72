"""Forwarding tables from membership."""

from __future__ import annotations

import pytest
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from services.sip_proxy.tables import NodeRow, Tables, build, weight

SERVING = NodeState.NODE_STATE_SERVING


def node(name: str, **fields: object) -> NodeRecord:
    record = NodeRecord(incarnation=name, sip_address="127.0.0.1:5060", capacity=100, state=SERVING)
    record.MergeFrom(NodeRecord(**fields))  # type: ignore[arg-type]
    return record


@pytest.mark.parametrize(
    ("load", "share"),
    [(0, 1.0), (59, 1.0), (61, 0.5), (79, 0.5), (81, 0.25), (99, 0.25), (100, 0.0), (150, 0.0)],
)
def test_the_share_falls_in_coarse_steps_with_the_load(load: int, share: float) -> None:
    assert weight(node("n", load=load)) == share


@pytest.mark.parametrize("state", [NodeState.NODE_STATE_NOT_READY, NodeState.NODE_STATE_DRAINING])
def test_a_node_that_does_not_serve_takes_no_new_dialogs(state: NodeState.ValueType) -> None:
    assert weight(node("n", state=state)) == 0.0


def test_a_node_without_capacity_takes_nothing() -> None:
    record = node("n")
    record.capacity = 0
    assert weight(record) == 0.0


def test_slots_name_the_index_of_their_owner() -> None:
    slots = {"a": [2, 0], "b": [1]}
    tables = build([node("a"), node("b", sip_address="[::1]:5070")], lambda name: slots[name])
    assert tables == Tables(
        (NodeRow("a", "127.0.0.1", 5060, 1.0), NodeRow("b", "[::1]", 5070, 1.0)), ((0, 0), (1, 1), (2, 0))
    )


def test_a_node_without_a_sip_address_is_left_out() -> None:
    broken = node("a")
    broken.sip_address = "nowhere"
    assert build([broken, node("b")], lambda name: [7]) == Tables(
        (NodeRow("b", "127.0.0.1", 5060, 1.0),), ((7, 0),)
    )


def test_a_silent_node_takes_no_new_dialogs_and_keeps_its_slots() -> None:
    tables = build([node("a"), node("b")], lambda name: [1] if name == "a" else [2], {"a"})
    assert [row.weight for row in tables.nodes] == [0.0, 1.0]
    assert tables.slots == ((1, 0), (2, 1))


def test_when_all_nodes_that_serve_are_silent_none_is_left_out() -> None:
    leaving = node("c", state=NodeState.NODE_STATE_DRAINING)
    tables = build([node("a"), node("b"), leaving], lambda name: [], {"a", "b"})
    assert [row.weight for row in tables.nodes] == [1.0, 1.0, 0.0]
