"""Snapshots of a node's calls, and slots that leave with theirs: what `snapshots.py`, `pending.py` and `handing_over.py` of the SIP
Cluster do, with virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.store import PROBE_S
from services.sip_cluster import effects as do
from services.sip_cluster.handing_over import FINISH_S, LOOK_S
from services.sip_cluster.node import WRITE_BEHIND_S
from services.sip_cluster.snapshots import ENDED_MS, SETTLE_S
from tests.simulation.store import Answer
from tests.simulation.world import MS, SECOND

if TYPE_CHECKING:
    from tests.simulation.calls import Entry, SipNode

WRITE_BEHIND = int(WRITE_BEHIND_S * SECOND)
PROBE = int(PROBE_S * SECOND)
"""How soon it is noticed that Redis answers again."""
FINISH = int(FINISH_S * SECOND)
INSIST = int(SETTLE_S * SECOND)
LOOK = int(LOOK_S * SECOND)
ENDED_FOR = ENDED_MS * MS
_PENDING = frozenset({do.Alert, do.Accept, do.SendAck, do.AcceptOffer, do.Reject})
"""What a record keeps of the outbox (`services/sip_cluster/pending.py`)."""


class Keeping:
    """Writes, deletes, lets go."""

    def __init__(self, node: SipNode) -> None:
        self._node = node
        self._line = node.line
        self._process = node.process
        self._world = node.world

    def snapshot(self, entry: Entry) -> bytes:
        """What an heir reads: converted to the record and back when one does (`revival.py`)."""
        if not self._line.keeps:
            return b""
        waiting = [item for item in entry.outbox if type(item) is EventEnvelope]
        events = self._node.publisher.unacknowledged(entry.thread.id) + waiting
        pending = [item for item in entry.outbox if type(item) in _PENDING]
        raw = [event.SerializeToString() for event in events]
        return self._line.pack((entry.thread, entry.call_id, raw, pending))

    def save(self, entry: Entry, done: Callable[[], None]) -> None:
        """Writes the call as it is now; `done()` when it may go on."""
        entry.dirty = False
        self._write(entry, ("calls", entry.thread.id, self.snapshot(entry)), done)

    def _write(self, entry: Entry, put: Any, done: Callable[[], None]) -> None:
        """Under the epoch of this moment."""
        slot = entry.thread.slot
        epoch = self._node.serving.get(slot)
        if entry.closed:
            return
        if epoch is None:
            self._node.close(entry)
            return
        self._line.write(slot, epoch, (put,), lambda answer: self._written(entry, put, epoch, answer, done))

    def _written(self, entry: Entry, put: Any, epoch: int, answer: Answer, done: Callable[[], None]) -> None:
        """Unprotected when Redis does not answer in time and the lease is good; with neither nothing goes on."""
        if answer is Answer.STALE:
            if self._node.serving.get(entry.thread.slot, epoch) != epoch:  # renewed meanwhile
                self._write(entry, put, done)
            else:
                self._node.drop_slot(entry.thread.slot)
        elif entry.closed:
            return
        elif answer is Answer.AWAY and not (
            self._process.lease_good() or "deadline" in self._world.mutations
        ):
            self._process.after(SECOND // 10, self._write_again, entry, done)
        else:
            entry.unprotected = answer is Answer.AWAY
            if entry.unprotected:
                self._process.after(PROBE, self._protect, entry)
            done()

    def _write_again(self, entry: Entry, done: Callable[[], None]) -> None:
        """The call as it is by now: another save may have been written meanwhile."""
        self._write(entry, ("calls", entry.thread.id, self.snapshot(entry)), done)

    def _protect(self, entry: Entry) -> None:
        """Redis is there again: what went on without it is written, and nothing goes on before (`Node.rewrite`)."""
        if entry.unprotected and not (entry.closed or entry.saving or entry.frozen):
            entry.outbox.appendleft(do.Save())
            self._node.work(entry)

    def write_change(self, entry: Entry) -> None:
        """A change that nothing had to wait for."""
        if entry.dirty and not (entry.closed or entry.frozen):
            if entry.saving:
                self._process.after(WRITE_BEHIND, self.write_change, entry)
            else:
                self.save(entry, lambda: None)

    def delete(self, entry: Entry) -> None:
        """The snapshot goes when the last event is stored."""
        thread = entry.thread
        epoch = self._node.serving.get(thread.slot)
        if epoch is None:
            return
        if self._node.publisher.unacknowledged(thread.id):
            self._process.after(SECOND // 20, self.delete, entry)
            return
        puts: list[tuple[str, str, Any]] = [("calls", thread.id, None)]
        if thread.requests:
            kept = self._line.pack((thread, entry.call_id, [], []))
            puts.append(("ended", str(entry.conn_id), (self._world.now + ENDED_FOR, kept)))

        def deleted(answer: Answer) -> None:
            if answer is Answer.AWAY:
                self._process.after(SECOND // 10, self.delete, entry)

        self._line.write(thread.slot, epoch, tuple(puts), deleted)

    # -- slots that leave -------------------------------------------------------------------------------------

    def let_go(self, slot: int, epoch: int, entries: list[Entry], done: Callable[[], None]) -> None:
        """`handing_over.py`: what is under way is finished, what has changed is written, and the calls are let go."""
        for entry in entries:
            entry.frozen = True
        self._let_go(slot, epoch, entries, self._world.now + FINISH, done)

    def _let_go(
        self, slot: int, epoch: int, entries: list[Entry], latest: int, done: Callable[[], None]
    ) -> None:
        if self._world.now < latest and any(entry.saving or entry.outbox for entry in entries):
            self._process.after(LOOK, self._let_go, slot, epoch, entries, latest, done)
            return
        live = [entry for entry in entries if not entry.closed]
        puts = tuple(("calls", entry.thread.id, self.snapshot(entry)) for entry in live)

        insist_until = self._world.now + INSIST

        def settled(answer: Answer) -> None:
            if answer is Answer.AWAY and live:
                if self._world.now < insist_until and self._process.lease_good():
                    self._process.after(SECOND // 10, write)
                    return
                # counted as unprotected, and given away all the same
                self._world.excused = f"{live[0].thread.id} was not written when its slot was handed over"
            self._settle(slot, entries, self._world.now + FINISH, done)

        def write() -> None:
            self._line.write(slot, epoch, puts, settled)

        write()

    def _settle(self, slot: int, entries: list[Entry], latest: int, done: Callable[[], None]) -> None:
        owes = any(self._node.publisher.unacknowledged(entry.thread.id) for entry in entries)
        if owes and self._world.now < latest:
            self._process.after(LOOK, self._settle, slot, entries, latest, done)
            return
        self._node.drop_slot(slot)
        self._node.serving.pop(slot, None)
        done()
