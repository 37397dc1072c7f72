"""A SIP node without sockets: the real call model, records and envelopes; outbox, snapshots, slots and requests around them.

What `services/sip_cluster/node.py` does with asyncio is done here with virtual time: effects leave in order, a snapshot among them
holds back what follows until Redis has it (250 ms at most), nothing leaves past the lease's deadline without a fenced write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.allocation import Slot
from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import CallThread, Identity, Refusal, RequestRecord, TimerKind, Told
from services.sip_cluster.engine import FENCE_S
from services.sip_cluster.legs import IllegalFact
from services.sip_cluster.machine import handle
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.rpc import PUBLISH_WAIT_S
from tests.simulation import revival
from tests.simulation.dialogs import Dialogs
from tests.simulation.events import THREAD, Publisher
from tests.simulation.keeping import WRITE_BEHIND, Keeping
from tests.simulation.slots import Slots
from tests.simulation.store import Answer, Line, SlotData
from tests.simulation.wire import Key
from tests.simulation.world import SECOND, Process

if TYPE_CHECKING:
    from tests.simulation.phones import Caller
    from tests.simulation.platform import Platform

LONGEST_CALL = 600 * SECOND
PUBLISH_WAIT = int(PUBLISH_WAIT_S * SECOND)
FENCE = int(FENCE_S * SECOND)
_EVENTS = frozenset({do.Publish, do.PublishRequest, do.PublishForeign})
Outcome = Told | Refusal
Reply = Callable[[str, "Outcome | None"], None]
"""(reason, outcome): reason "" for an outcome, else NOT_OWNER or UNKNOWN_CALL."""


class Entry:
    """A live thread on a node."""

    __slots__ = (
        "armed",
        "call_id",
        "closed",
        "conn_id",
        "dirty",
        "epoch",
        "frozen",
        "loops",
        "outbox",
        "saving",
        "thread",
        "told",
        "unprotected",
        "waiters",
    )

    def __init__(self, thread: CallThread, call_id: str) -> None:
        self.thread = thread
        self.call_id = call_id
        """Of the caller's INVITE."""
        self.conn_id = thread.identity.conn_id
        self.outbox: deque[Any] = deque()
        self.saving = False
        self.closed = False
        self.frozen = False
        """About to be handed over: nothing more happens to it here."""
        self.dirty = False
        """Changed since the last snapshot."""
        self.unprotected = False
        self.armed = 0
        self.epoch = 0
        self.waiters: dict[str, list[Reply]] = {}
        self.told: dict[str, bool] = {}
        """Request -> whether its event is in the stream."""
        self.loops: set[tuple[int, str]] = set()
        """(leg, what is being sent until it is answered)."""


class SipNode:
    """One node."""

    def __init__(self, platform: Platform, process: Process) -> None:
        self.platform = platform
        self.process = process
        self.world = platform.world
        self.line = Line(process, platform.store)
        self.line.keeps = platform.schedule.moves(process.service)
        self.publisher = Publisher(process, platform.streams, THREAD)
        self.publishing = Publishing(self.publisher, region="r1", node=process.incarnation, node_id=1)  # type: ignore[arg-type]
        self.threads: dict[str, Entry] = {}
        self.by_call: dict[str, Entry] = {}
        self.by_conn: dict[int, Entry] = {}
        self.ended: dict[int, dict[str, RequestRecord]] = {}
        self._finished: dict[str, Entry] = {}
        """Threads that ended here: their SIP transactions are known for a while."""
        self.dialogs = Dialogs(self)
        self.keeping = Keeping(self)
        self.slots = Slots(
            process, platform.etcd, platform.keys("sip_cluster"), self._acquire, self._release, self._renew
        )
        self.serving: dict[Slot, int] = {}
        self._held: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        platform.wire.nodes[process.incarnation] = self

    # -- new threads ------------------------------------------------------------------------------------------

    def on_invite(self, caller: Caller) -> None:
        """INVITE of a caller."""
        entry = self.by_call.get(caller.call_id)
        if entry is not None:
            self.dialogs.invited_again(entry)
            return
        if caller.key is not None and caller.key.slot not in self.serving:
            return
        slots = [slot for slot in self.slots.owned if slot in self.serving]
        if not slots:
            return
        self._arrive(caller, slots[int(self.world.rng.random() * len(slots))])

    def _arrive(self, caller: Caller, slot: Slot) -> None:
        number = self.platform.next_call()
        uuid = f"c{number}"
        thread = CallThread(uuid, int(slot), self.world.now, "", Identity(number, uuid, number))
        thread.timers[TimerKind.DURATION, 0] = self.world.now + LONGEST_CALL
        thread.dialled, thread.from_number = self.platform.ROUTE_POINT, f"+{caller.number}"
        entry = self._enter(thread, caller.call_id, self.serving[slot])
        self.feed(entry, inputs.InviteReceived(b"offer", "application/sdp"))

    def _enter(self, thread: CallThread, call_id: str, epoch: int) -> Entry:
        entry = Entry(thread, call_id)
        entry.epoch = epoch
        self.threads[thread.id] = self.by_call[call_id] = self.by_conn[entry.conn_id] = entry
        self.platform.known_calls[entry.conn_id] = (thread.id, int(thread.slot), call_id)
        return entry

    def on_cancel(self, caller: Caller) -> None:
        """CANCEL of a caller's INVITE."""
        entry = self.by_call.get(caller.call_id)
        if entry is not None:
            self.feed(entry, inputs.Cancelled(1))

    def on_message(self, key: Key, what: str) -> None:
        """A message in a dialog."""
        entry = self.threads.get(key.thread)
        if entry is None:
            finished = self._finished.get(key.thread)
            if key.slot not in self.serving:
                return
            if finished is not None:
                self.dialogs.heard_late(finished, key, what)
            elif what == "BYE":
                self.dialogs.unknown(key, self.serving[key.slot])
            return
        self.dialogs.heard(entry, key, what)

    # -- inputs and effects -----------------------------------------------------------------------------------

    def feed(self, entry: Entry, fact: inputs.Input) -> bool:
        """One input; False for a fact that cannot happen."""
        if entry.closed or entry.frozen:
            return False
        try:
            effects = handle(entry.thread, fact, self.world.now)
        except IllegalFact:
            return False
        entry.dirty = entry.thread.saved
        self._put(entry, effects)
        if not entry.saving:
            self.work(entry)
        if entry.dirty and not entry.closed:
            self.process.after(WRITE_BEHIND, self.keeping.write_change, entry)
        self._arm(entry)
        return True

    def adopt(self, entry: Entry, effects: list[do.Effect]) -> None:
        """A thread that another node has begun: it goes on here, first with these effects."""
        entry.outbox.extend(effects)
        self.work(entry)
        self._arm(entry)

    def _put(self, entry: Entry, effects: list[do.Effect]) -> None:
        for effect in effects:
            if type(effect) in _EVENTS:
                envelope = self.publishing.envelope(entry, effect, entry.epoch, self.world.now)  # type: ignore[arg-type]
                entry.outbox.append(envelope)
            else:
                entry.outbox.append(effect)

    def work(self, entry: Entry) -> None:
        """Carries the outbox out up to the next snapshot."""
        outbox = entry.outbox
        while outbox and not entry.closed:
            item = outbox.popleft()
            if type(item) is EventEnvelope:
                self._publish(entry, item)
            elif type(item) is do.Save:
                entry.saving = True
                self.keeping.save(entry, lambda: self._saved(entry))
                return
            else:
                self._act(entry, item)

    def _publish(self, entry: Entry, envelope: EventEnvelope) -> None:
        request = envelope.requester.request_id if envelope.HasField("requester") else ""
        if request:
            entry.told[request] = False
        self.publisher.append(envelope, lambda stored: self._published(entry, request, stored))

    def _published(self, entry: Entry, request: str, stored: bool) -> None:
        if request:
            entry.told[request] = True
            record = entry.thread.requests.get(request)
            if record is not None and record.outcome is not None:
                self._answer(entry, request, record.outcome)

    def _act(self, entry: Entry, effect: Any) -> None:
        kind = type(effect)
        if kind is do.AskDialPlan:
            self.process.after(self.world.delay(), self._resolve, entry, effect.ask)
        elif kind is do.Reply:
            self._reply(entry, effect.request, effect.outcome)
        elif kind is do.Forget:
            self._forget(entry, effect.saved)
        elif kind is not do.Count:
            self.dialogs.send(entry, effect)

    def gate(self, slot: int, epoch: int, act: Callable[..., None], *args: Any) -> None:
        """A datagram leaves now, or when a fenced write has shown that the slot is still ours (`holding.py`)."""
        if self.process.lease_good() or "deadline" in self.world.mutations:
            self.platform.watch.acted("sip_cluster", slot, epoch, args[-1])
            act(*args)
            return
        self._held.append((slot, epoch, act, args))
        if len(self._held) == 1:
            self.prove(slot, epoch, self._proved)

    def epoch_of(self, entry: Entry) -> int:
        """The epoch under which a thread's slot is served: a slot that was lost and came back has a newer one."""
        return self.serving.get(entry.thread.slot, entry.epoch)

    def prove(self, slot: int, epoch: int, done: Callable[[bool], None]) -> None:
        """Whether the slot is still ours, by a fenced write."""

        def proved(answer: Answer) -> None:
            if answer is Answer.STALE:
                self.drop_slot(slot)
            done(answer is Answer.DONE)

        self.line.prove(slot, epoch, proved)

    def _proved(self, good: bool) -> None:
        held, self._held = self._held, []
        first = held[0][0]
        for slot, epoch, act, args in held:
            if slot != first or slot not in self.serving:
                if slot in self.serving:
                    self.gate(slot, epoch, act, *args)
            elif good:
                self.platform.watch.acted("sip_cluster", slot, epoch, f"{args[-1]} after a proof")
                act(*args)

    def _resolve(self, entry: Entry, number: int) -> None:
        ask = entry.thread.asks.get(number)
        if ask is None or entry.closed:
            return
        resolution = self.platform.dial_plan(ask, entry.thread)
        if resolution is not None:
            self.feed(entry, inputs.Resolved(number, resolution))
        else:
            self.feed(entry, inputs.Unresolved(number, self.platform.NOWHERE, "no such destination"))

    def _arm(self, entry: Entry) -> None:
        due = entry.thread.next_deadline
        if due and due != entry.armed and not entry.closed:
            entry.armed = due
            self.process.after(max(0, due - self.world.now), self._due, entry, due)

    def _due(self, entry: Entry, due: int) -> None:
        if entry.armed == due:
            entry.armed = 0
            self.feed(entry, inputs.TimeReached())

    # -- letting go -----------------------------------------------------------------------------------------

    def _saved(self, entry: Entry) -> None:
        entry.saving = False
        self.work(entry)

    def _forget(self, entry: Entry, saved: bool) -> None:
        self._finished[entry.thread.id] = entry
        if entry.thread.requests:
            self.ended[entry.conn_id] = entry.thread.requests
        if saved:
            self.keeping.delete(entry)
        self.close(entry)

    def close(self, entry: Entry) -> None:
        if entry.closed:
            return
        entry.closed = True
        self.threads.pop(entry.thread.id, None)
        self.by_conn.pop(entry.conn_id, None)
        if self.by_call.get(entry.call_id) is entry:
            del self.by_call[entry.call_id]
        for waiters in entry.waiters.values():
            for reply in waiters:
                reply("REASON_NOT_OWNER", None)
        entry.waiters.clear()

    # -- requests ---------------------------------------------------------------------------------------------

    def execute(self, asked: inputs.RequestInput, reply: Reply) -> None:
        """SipNodeService.Execute, as `services/sip_cluster/rpc.py` carries it out."""
        slot = self.platform.known_calls[asked.request.conn_id][1]
        epoch = self.serving.get(slot)
        if epoch is None:
            reply("REASON_NOT_OWNER", None)
            return
        self.line.gate(
            slot, epoch, lambda good: self._execute(asked, reply) if good else reply("REASON_NOT_OWNER", None)
        )

    def _execute(self, asked: inputs.RequestInput, reply: Reply) -> None:
        conn_id, request = asked.request.conn_id, asked.request.id
        entry = self.by_conn.get(conn_id)
        if entry is None:
            known = self.ended.get(conn_id, {}).get(request)
            if known is not None and known.outcome is not None:
                reply("", known.outcome)
            elif self.platform.known_calls[conn_id][1] in self.serving:
                reply("REASON_UNKNOWN_CALL", None)
            else:
                reply("REASON_NOT_OWNER", None)
            return
        known = entry.thread.requests.get(request)
        if known is not None and "request" not in self.world.mutations:
            if known.outcome is not None:
                reply("", known.outcome)
            else:
                entry.waiters.setdefault(request, []).append(reply)
            return
        if known is not None:
            del entry.thread.requests[request]
        entry.waiters.setdefault(request, []).append(reply)
        self.feed(entry, asked)

    def _reply(self, entry: Entry, request: str, outcome: Outcome) -> None:
        self.platform.watch.outcome(f"execute {request}", outcome)
        if isinstance(outcome, Told) and not entry.told.get(request, True):
            self.process.after(PUBLISH_WAIT, self._answer, entry, request, outcome)
            return
        self._answer(entry, request, outcome)

    def _answer(self, entry: Entry, request: str, outcome: Outcome) -> None:
        for reply in entry.waiters.pop(request, ()):
            reply("", outcome)

    # -- slots ------------------------------------------------------------------------------------------------

    def _acquire(self, slot: Slot, epoch: int, done: Callable[[bool], None]) -> None:
        def taken(data: SlotData | None) -> None:
            if data is None:
                done(False)
                return
            self.platform.watch.acts("sip_cluster", slot, epoch)
            threads = data.hashes.get("calls", {})
            if not threads:
                self._take(slot, epoch, data, {}, done)
                return
            self.platform.streams.fence(
                self.process,
                dict.fromkeys(threads, epoch),
                FENCE,
                lambda ends: self._take(slot, epoch, data, ends or {}, done),
            )

        self.line.take_over(slot, epoch, taken)

    def _take(
        self, slot: Slot, epoch: int, data: SlotData, ends: dict[str, int], done: Callable[[bool], None]
    ) -> None:
        """`ends`: of the streams, which are fenced; empty when Redis Queue has not answered."""
        self.serving[slot] = epoch
        for until, raw in data.hashes.get("ended", {}).values():
            if until > self.world.now:
                thread = revival.thread_of(raw)[0]
                self.ended[thread.identity.conn_id] = thread.requests
        for key, raw in data.hashes.get("calls", {}).items():
            self._revive(slot, epoch, raw, ends.get(key, 0))
        done(True)

    def _renew(self, slot: Slot, old: int, new: int, done: Callable[[bool | None], None]) -> None:
        """The claim ended with our lease, nobody else took it, and it is ours again (FencedStore.renew_fence)."""
        if slot in self.serving:
            self.serving[slot] = new
            for entry in self.threads.values():
                if entry.thread.slot == slot:
                    entry.epoch = new
        self.line.renew(slot, old, new, done)

    def _revive(self, slot: Slot, epoch: int, raw: bytes, end: int) -> None:
        """`end`: of its stream; what the former owner told behind the snapshot keeps its numbers (`restoring.py`)."""
        thread, call_id, unacknowledged, pending = revival.thread_of(raw)
        if thread.id in self.threads:
            return
        ended = self.platform.streams.calls_ended(thread.id, thread.seq) if end > thread.seq else []
        thread.seq = max(thread.seq, end)
        entry = self._enter(thread, call_id, epoch)
        self.world.trace(self.process.name, f"takes {thread.id} over at seq {thread.seq}")
        self.platform.revived += 1
        waiting = {envelope.seq for envelope in self.publisher.unacknowledged(thread.id)}
        for envelope in unacknowledged:
            if envelope.seq not in waiting:
                envelope.epoch = epoch
                self.publisher.append(envelope)
        revival.revive(self, entry, pending)
        if ended and not entry.closed:
            self.feed(entry, inputs.CallsEnded(ended))

    def _release(self, slot: Slot, epoch: int, lost: bool, done: Callable[[], None]) -> None:
        number = int(slot)
        if lost:
            self.drop_slot(number)
            self.serving.pop(slot, None)
            done()
            return
        entries = [entry for entry in self.threads.values() if entry.thread.slot == slot]
        self.keeping.let_go(number, epoch, entries, done)

    def drop_slot(self, slot: int) -> None:
        """The slot is somebody else's: its threads are let go without effect."""
        for entry in [entry for entry in self.threads.values() if entry.thread.slot == slot]:
            entry.loops.clear()
            self.close(entry)
        for entry in self._finished.values():
            if entry.thread.slot == slot:
                entry.loops.clear()
