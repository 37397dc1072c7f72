"""The SIP nodes to reckon with: those that have a record, and for a while those whose record went though they answer.

When etcd comes back after an outage every lease has ended: the records of all nodes vanish, and each is written again
moments later. Nodes that answer OPTIONS are kept meanwhile: new calls go on. A node that died answers no more. Pure;
`now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

HOLD_S = 10.0
"""How long a node without a record is kept while it answers, seconds: many times what a node needs to write it again."""


class Roster:
    """Remembers records that vanished."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._last: dict[str, NodeRecord] = {}
        self._held: dict[str, tuple[NodeRecord, float]] = {}

    def present(self, records: Iterable[NodeRecord], silent: Collection[str], now: float) -> list[NodeRecord]:
        """The nodes, those held among them. `silent`: incarnations that do not answer."""
        known = {record.incarnation: record for record in records}
        for incarnation, record in self._last.items():
            if incarnation not in known and record.state == NodeState.NODE_STATE_SERVING:
                self._held[incarnation] = (record, now + self._hold_s)
        taken = {record.sip_address for record in known.values()}
        self._held = {
            incarnation: (record, until)
            for incarnation, (record, until) in self._held.items()
            if incarnation not in known
            and incarnation not in silent
            and now < until
            and record.sip_address not in taken  # started again: another incarnation answers there
        }
        self._last = known
        return [*known.values(), *(record for record, _ in self._held.values())]
