"""Which SIP nodes answer OPTIONS: one that does not gets no new dialog. Pure; `now` is monotonic seconds.

Each node is asked once an interval. It is silent when an interval has passed since the question and no 2xx has come, so
a node that stops answering gets its last new dialog before two intervals have passed; it is asked on, and one answer is
enough to come back. Its slots stay its own: requests in dialogs go there until etcd gives the slots to another.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(slots=True)
class _Question:
    """The newest question to a node."""

    txn: int
    at: float
    open: bool = True


class Probing:
    """Whom to ask when, and who is silent."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._newest: dict[str, _Question] = {}
        self._asked: dict[int, str] = {}
        self._silent: set[str] = set()

    @property
    def silent(self) -> frozenset[str]:
        """Nodes that do not answer."""
        return frozenset(self._silent)

    def round(self, nodes: Collection[str], now: float) -> list[str]:
        """Whom of these to ask now; who has not answered for an interval is silent from now on. Nodes that are not
        among these are forgotten."""
        for gone in self._newest.keys() - set(nodes):
            del self._newest[gone]
        self._silent &= set(nodes)
        late = {node for node, question in self._newest.items() if now - question.at >= self.interval_s}
        self._silent |= {node for node in late if self._newest[node].open}
        return [node for node in nodes if node in late or node not in self._newest]

    def asked(self, node: str, txn: int, now: float) -> None:
        """The question went out as this transaction, of which `answered` or `failed` will tell."""
        self._newest[node] = _Question(txn, now)
        self._asked[txn] = node

    def answered(self, txn: int, status: int) -> bool:
        """A final response; whether the silent ones have changed. Anything but 2xx: the node takes no calls."""
        return self._told(txn, alive=200 <= status < 300)

    def failed(self, txn: int) -> bool:
        """Nobody is there, or nobody answered in time; whether the silent ones have changed."""
        return self._told(txn, alive=False)

    def _told(self, txn: int, *, alive: bool) -> bool:
        node = self._asked.pop(txn, "")
        newest = self._newest.get(node)
        if newest is None:
            return False
        if newest.txn == txn:
            newest.open = False
        elif not alive:
            return False  # of an earlier question: the newest one tells
        if alive == (node not in self._silent):
            return False
        (self._silent.discard if alive else self._silent.add)(node)
        return True
