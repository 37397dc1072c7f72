"""Which node serves what: every client computes the same order of nodes for a slot or queue.

Rendezvous hashing over the nodes that serve: the node with the highest score comes first, the next is its
backup. A node that comes or goes moves only the slots that score highest with it, about one in n. Node ids
count, not incarnations, so that a restart gives a node its slots back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState
from voice.redis_queue.v1.queue_service_pb2 import StreamFamily

from mesh.identifiers import AGENT_SLOTS, THREAD_SLOTS, agent_slot, thread_slot
from mesh.stable_hash import fnv1a64, mix64, slot

THREAD: Final = StreamFamily.STREAM_FAMILY_THREAD
AGENT: Final = StreamFamily.STREAM_FAMILY_AGENT

QUEUE_KIND: Final = 3
"""Beside the stream families 1 and 2, what is routed: named queues, 256 slots by name."""
QUEUE_SLOTS: Final = 256
SUSPECT_S: Final = 1.0
"""Seconds for which a node that failed a call comes last."""


def stream_slot(family: StreamFamily.ValueType, stream_key: str) -> int:
    """Slot of a stream: that of its call thread, or of its agent or DN. ValueError for an unknown family."""
    if family == THREAD:
        return thread_slot(stream_key)
    if family != AGENT:
        raise ValueError(f"family {family}: must be STREAM_FAMILY_THREAD or STREAM_FAMILY_AGENT")
    tenant, _, name = stream_key.partition(":")
    return agent_slot(tenant, name if name.startswith("dn:") else f"agent:{name}")


def agent_stream_key(tenant: str, subject: str) -> str:
    """Stream key of an agent or DN from the subject of its log entries: "agent:1001" -> "t1:1001"."""
    return f"{tenant}:{subject.removeprefix('agent:')}"


def slots(family: StreamFamily.ValueType) -> int:
    """Number of slots of a family."""
    return THREAD_SLOTS if family == THREAD else AGENT_SLOTS


def score(node: str, kind: int, number: int) -> int:
    """How much a node id likes slot `number` of a kind, 0 … 2^64 - 1."""
    return mix64(fnv1a64(node) ^ mix64(kind << 32 | number + 1))


def order(nodes: Iterable[str], kind: int, number: int) -> list[str]:
    """Node ids, the primary of the slot first, its backup second."""
    return sorted(nodes, key=lambda node: (score(node, kind, number), node), reverse=True)


class Routes:
    """The present order of nodes for each slot. Pure: times are arguments, seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeRecord] = {}
        self._orders: dict[tuple[int, int], list[str]] = {}
        self._suspects: dict[str, float] = {}

    def update(self, records: Sequence[NodeRecord]) -> None:
        """The live nodes. Those that serve count; when none does, those that are not draining; then any."""
        for wanted in (
            lambda record: record.state == NodeState.NODE_STATE_SERVING,
            lambda record: record.state != NodeState.NODE_STATE_DRAINING,
            lambda record: True,
        ):
            chosen = self._choose(records, wanted)
            if chosen:
                break
        if chosen.keys() != self._nodes.keys():
            self._orders.clear()
        self._nodes = chosen
        live = {record.incarnation for record in records}
        self._suspects = {i: until for i, until in self._suspects.items() if i in live}

    @staticmethod
    def _choose(records: Sequence[NodeRecord], wanted: Callable[[NodeRecord], bool]) -> dict[str, NodeRecord]:
        return {record.node: record for record in records if wanted(record)}

    def suspect(self, incarnation: str, now: float) -> None:
        """A call to the node failed: others are preferred for a while."""
        self._suspects[incarnation] = now + SUSPECT_S

    def trust(self, incarnation: str) -> None:
        """The node answers."""
        self._suspects.pop(incarnation, None)

    def nodes(self, kind: int, number: int) -> list[NodeRecord]:
        """All nodes in order of preference, whether suspect or not."""
        return [self._nodes[node] for node in self._order(kind, number)]

    def first(self, kind: int, number: int, now: float) -> NodeRecord | None:
        """The node to use: the first one that is not suspect, else the first; None when there is none."""
        names = self._order(kind, number)
        for name in names:
            record = self._nodes[name]
            if not self._suspects or self._suspects.get(record.incarnation, 0.0) <= now:
                return record
        return self._nodes[names[0]] if names else None

    def _order(self, kind: int, number: int) -> list[str]:
        key = (kind, number)
        found = self._orders.get(key)
        if found is None:
            found = self._orders[key] = order(self._nodes, kind, number)
        return found


def queue_slot(queue: str) -> int:
    """Slot of a queue's name."""
    return slot(queue, QUEUE_SLOTS)
