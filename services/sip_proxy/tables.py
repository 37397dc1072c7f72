"""From membership to the core's forwarding tables: which node takes how much, which slot is whose. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
"""Coarse shares: rendezvous keeps a Call-ID at its node while loads move a little (design §6)."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A SIP node as the core needs it."""

    id: str
    host: str
    port: int
    weight: float


@dataclass(frozen=True, slots=True)
class Tables:
    """Nodes, and owned slots as (slot, index of the node)."""

    nodes: tuple[NodeRow, ...]
    slots: tuple[tuple[int, int], ...]


def weight(node: NodeRecord) -> float:
    """Share of new dialogs: by free capacity in coarse steps, nothing unless it serves."""
    if node.state != NodeState.NODE_STATE_SERVING or node.capacity <= 0 or node.load >= node.capacity:
        return WEIGHTS[0]
    free = (node.capacity - node.load) / node.capacity
    return WEIGHTS[3] if free > 0.4 else WEIGHTS[2] if free > 0.2 else WEIGHTS[1]


def build(
    nodes: Iterable[NodeRecord],
    slots_of: Callable[[str], Sequence[int | str]],
    silent: Collection[str] = (),
) -> Tables:
    """The tables of the nodes that take SIP. A record without a usable SIP address is left out; a node that is
    `silent` takes no new dialogs, unless all are: then the fault is rather ours."""
    nodes = list(nodes)
    if all(node.incarnation in silent for node in nodes if weight(node) > 0):
        silent = ()
    rows: list[NodeRow] = []
    slots: list[tuple[int, int]] = []
    for node in nodes:
        host, _, port = node.sip_address.rpartition(":")
        if not host or not port.isdigit():
            continue
        slots += [(int(slot), len(rows)) for slot in slots_of(node.incarnation)]
        share = WEIGHTS[0] if node.incarnation in silent else weight(node)
        rows.append(NodeRow(node.incarnation, host, int(port), share))
    return Tables(tuple(rows), tuple(sorted(slots)))
