"""Which node serves what."""

from __future__ import annotations

from collections import Counter

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.identifiers import agent_slot, thread_slot
from mesh.rq.route import AGENT, QUEUE_KIND, THREAD, Routes, agent_stream_key, order, stream_slot

SERVING = NodeState.NODE_STATE_SERVING


def record(index: int, state: NodeState.ValueType = SERVING, start: int = 1) -> NodeRecord:
    node = f"redis_queue-{index}"
    return NodeRecord(node=node, incarnation=f"{node}.{start:08x}", state=state)


def test_slots_of_streams() -> None:
    assert stream_slot(THREAD, "0192") == thread_slot("0192")
    assert stream_slot(AGENT, "t1:1001") == agent_slot("t1", "agent:1001")
    assert stream_slot(AGENT, "t1:dn:7001") == agent_slot("t1", "dn:7001")
    assert agent_stream_key("t1", "agent:1001") == "t1:1001"
    assert agent_stream_key("t1", "dn:7001") == "t1:dn:7001"


def test_the_order_is_the_same_for_good() -> None:
    """Clients of different releases must agree: these are the values of the first one."""
    nodes = [f"redis_queue-{n}" for n in range(4)]
    first = [order(nodes, THREAD, slot)[0][-1] for slot in range(16)]
    assert "".join(first) == "".join(order(reversed(nodes), THREAD, slot)[0][-1] for slot in range(16))
    assert "".join(first) == "3020302030221320"


def test_slots_are_spread_evenly_and_backups_too() -> None:
    nodes = [f"redis_queue-{n}" for n in range(4)]
    for place in (0, 1):
        counts = Counter(order(nodes, THREAD, slot)[place] for slot in range(256))
        assert all(40 <= counts[node] <= 90 for node in nodes)


def test_a_node_that_goes_moves_only_its_own_slots() -> None:
    nodes = [f"redis_queue-{n}" for n in range(4)]
    for slot in range(256):
        before = order(nodes, AGENT, slot)
        after = order([node for node in nodes if node != "redis_queue-2"], AGENT, slot)
        assert after[0] == (before[1] if before[0] == "redis_queue-2" else before[0])


def test_nodes_that_serve_go_before_others() -> None:
    routes = Routes()
    draining = record(0, NodeState.NODE_STATE_DRAINING)
    starting = record(1, NodeState.NODE_STATE_NOT_READY)
    routes.update([draining, starting, record(2)])
    assert [r.node for r in routes.nodes(THREAD, 5)] == ["redis_queue-2"]
    routes.update([draining, starting])
    assert [r.node for r in routes.nodes(THREAD, 5)] == ["redis_queue-1"]
    routes.update([draining])
    assert [r.node for r in routes.nodes(THREAD, 5)] == ["redis_queue-0"]
    routes.update([])
    assert routes.first(THREAD, 5, 0.0) is None


def test_a_suspect_comes_last_for_a_second() -> None:
    routes = Routes()
    routes.update([record(0), record(1)])
    primary, backup = routes.nodes(QUEUE_KIND, 9)
    routes.suspect(primary.incarnation, 10.0)
    assert routes.first(QUEUE_KIND, 9, 10.5) == backup
    assert routes.first(QUEUE_KIND, 9, 11.0) == primary
    routes.suspect(primary.incarnation, 20.0)
    routes.suspect(backup.incarnation, 20.0)
    assert routes.first(QUEUE_KIND, 9, 20.5) == primary  # better than nobody
    routes.trust(primary.incarnation)
    assert routes.first(QUEUE_KIND, 9, 20.5) == primary


def test_a_restarted_node_gets_its_slots_back() -> None:
    routes = Routes()
    routes.update([record(0), record(1)])
    before = [routes.nodes(THREAD, slot)[0].node for slot in range(64)]
    routes.update([record(0, start=2), record(1)])
    assert [routes.nodes(THREAD, slot)[0].node for slot in range(64)] == before
    assert {routes.nodes(THREAD, slot)[0].incarnation[-1] for slot in range(64)} == {"1", "2"}
