"""The node: live call threads, what happens to them, and what they want done.

One turn for one input: the machine decides, the effects go to the thread's outbox, the outbox is worked off in order and
stops at a snapshot until that is written. So nothing leaves before the state that explains it is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from voice.dial_plan.v1.dial_plan_service_pb2 import Source
from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voicecore.sip import ParseError, Request, TransactionGone, new_tag

from mesh.identifiers import new_call_uuid, new_conn_id
from mesh.slots import NotOwner
from mesh.telemetry import logger, new_traceparent, steps
from mesh.telemetry.tracing import parse_traceparent
from services.sip_cluster import effects as do
from services.sip_cluster import inputs
from services.sip_cluster.calls import CallThread, Identity, TimerKind
from services.sip_cluster.entry import Entry, Outcome, Signal, Use
from services.sip_cluster.inputs import Input
from services.sip_cluster.ladder import draw
from services.sip_cluster.legs import IllegalFact
from services.sip_cluster.machine import handle
from services.sip_cluster.next_hop import Address, NextHop, NoNextHop, host_port
from services.sip_cluster.numbers import Numbers
from services.sip_cluster.occupancy import Occupancy
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.reception import Reception
from services.sip_cluster.records import from_record
from services.sip_cluster.remembered import Ended, Remembered
from services.sip_cluster.resolver import Resolver
from services.sip_cluster.settings import SipSettings
from services.sip_cluster.signalling import Signalling
from services.sip_cluster.snapshots import Snapshots

WRITE_BEHIND_S = 1.0
"""How long a change waits that no effect waits for, seconds."""
REWRITTEN_AT_ONCE = 32
"""Calls written again in one round of the loop."""
EVENTS_LIMIT = 80_000
"""Unacknowledged events above which no new call is taken (the publisher itself takes 100,000)."""
_EVENTS = frozenset({do.Publish, do.PublishRequest, do.PublishForeign})


class Node:
    """Call threads by ConnID, and the way of each input."""

    def __init__(
        self,
        settings: SipSettings,
        numbers: Numbers,
        resolver: Resolver,
        publishing: Publishing,
        hops: NextHop,
        *,
        region: int,
        capacity: int,
        slots: Occupancy,
        held: Callable[[int], None],
    ) -> None:
        """`held`: packets wait for the send deadline."""
        self._settings = settings
        self._numbers = numbers
        self._resolver = resolver
        self._publishing = publishing
        self._hops = hops
        self._region = region
        self.capacity = capacity
        self._slots = slots
        self.held = held
        self._log = logger("node")
        self.threads: dict[int, Entry] = {}
        """Live threads by the ConnID of their call."""
        self.by_slot: dict[int, set[Entry]] = {}
        """The same by their slot; no key for a slot without calls."""
        self.remembered = Remembered()
        self.draining = False
        self._call_id = 0
        self._rotation = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._changed: set[Entry] = set()
        self.idle = asyncio.Event()
        """No call is here."""
        self.idle.set()

    def connect(self, signalling: Signalling, reception: Reception, snapshots: Snapshots) -> None:
        """The parts that need the node themselves."""
        self.signalling = signalling
        self.reception = reception
        self.snapshots = snapshots
        self._acts: dict[type, Callable[[Entry, Any], None]] = {
            do.AskDialPlan: self._ask,
            do.SendInvite: signalling.send_invite,
            do.CancelInvite: signalling.cancel,
            do.SendAck: signalling.ack,
            do.SendBye: signalling.bye,
            do.AnswerBye: signalling.answer_bye,
            do.Trying: signalling.trying,
            do.Alert: signalling.alert,
            do.Accept: signalling.accept,
            do.Reject: signalling.reject,
            do.PassOffer: signalling.pass_offer,
            do.AcceptOffer: signalling.accept_offer,
            do.RefuseOffer: signalling.refuse_offer,
            do.AckOffer: signalling.ack_offer,
            do.PassInfo: signalling.pass_info,
            do.SendTalk: signalling.talk,
            do.Reply: self._reply,
            do.Count: self._count,
            do.Forget: self._forget,
        }

    # -- new threads -------------------------------------------------------------------------------

    def admit(self) -> int:
        """0 when a new call may come in; 503 when the node is full, has no slot or cannot publish."""
        if not self._slots.any or self.capacity <= 0:
            return 503
        if len(self.threads) >= self.capacity or self._publishing.depth >= EVENTS_LIMIT:
            self._numbers.overloaded.inc()
            return 503
        return 0

    def arrive(self, txn: int, request: Request, peer: Address, source: Source) -> None:
        """A new INVITE, well-formed and admitted."""
        thread = self._new_thread(_traceparent(request))
        thread.dialled = request.uri.user or ""
        caller = request.from_
        thread.from_number = (caller.uri.user or "")[:255]
        entry = self._enter(thread)
        entry.source = source
        entry.display = (caller.display_name or "")[:128]
        hops = request.max_forwards
        entry.max_forwards = (70 if hops is None else min(hops, 70)) - 1
        signal = Signal(1, True, new_tag(thread.slot), destination=peer, invite=request, invite_txn=txn)
        self.signalling.adopt(entry, signal)
        self.signalling.track(txn, entry, signal, Use.INVITE)
        if steps.enabled():
            draw(
                entry,
                f"{request.method} {request.uri}",
                from_=host_port(peer),
                to=steps.node(),
                call_id=request.call_id,
            )
        self.feed(entry, inputs.InviteReceived(request.body, request.content_type or ""))

    def make(self, asked: inputs.MakeCall, traceparent: str) -> Entry:
        """A MakeCall that is new: its thread."""
        entry = self._enter(self._new_thread(traceparent or new_traceparent()))
        self.remembered.made(asked.tenant, asked.request.id, entry)
        self.feed(entry, asked)
        return entry

    def _new_thread(self, traceparent: str) -> CallThread:
        slot = self._slots.choose()
        now = time.time_ns() // 1000
        millis = now // 1000
        conn_id = new_conn_id(self._region, slot, millis, random.getrandbits(8))
        while conn_id in self.threads or self.remembered.ended(conn_id) is not None:
            millis += 10
            conn_id = new_conn_id(self._region, slot, millis, random.getrandbits(8))
        uuid = new_call_uuid(self._region, slot, now // 1000, random.getrandbits(56))
        self._call_id = self._call_id % 0xFFFFFFFF + 1
        thread = CallThread(uuid, slot, now, traceparent, Identity(conn_id, uuid, self._call_id))
        thread.timers[TimerKind.DURATION, 0] = now + self._settings.max_duration_s * 1_000_000
        return thread

    def _enter(self, thread: CallThread) -> Entry:
        entry = Entry(thread)
        self._keep(entry)
        self._numbers.created.inc()
        return entry

    def _keep(self, entry: Entry) -> None:
        thread = entry.thread
        self.threads[thread.identity.conn_id] = entry
        self.by_slot.setdefault(thread.slot, set()).add(entry)
        self.idle.clear()

    def adopt(self, entry: Entry, effects: Iterable[do.Effect]) -> None:
        """A thread that another node has begun: it goes on here, first with these effects."""
        thread = entry.thread
        self._keep(entry)
        if thread.making is not None:
            self.remembered.made(thread.tenant, thread.making.request, entry)
        entry.outbox.extend(effects)
        self._work(entry)
        self._arm(entry)

    def has_left(self, tag: str) -> bool:
        """See `Remembered.has_left`."""
        return self.remembered.has_left(tag)

    # -- inputs and effects ------------------------------------------------------------------------

    def feed(self, entry: Entry, fact: Input) -> bool:
        """Gives an input to a thread. False when it cannot happen in its state: nothing was changed."""
        if entry.closed or entry.frozen:
            return False
        now = time.time_ns() // 1000
        try:
            effects = handle(entry.thread, fact, now)
        except IllegalFact as error:
            self.reception.ignored += 1
            self._log.info("fact ignored", call_thread_id=entry.thread.id, problem=str(error))
            return False
        entry.dirty = entry.thread.saved
        if effects:
            self._put(entry, effects, now)
            if not entry.saving:
                self._work(entry)
        if entry.dirty and not entry.closed:
            self._note_change(entry)
        self._arm(entry)
        return True

    def _put(self, entry: Entry, effects: Iterable[do.Effect], now: int) -> None:
        outbox = entry.outbox
        epoch = 0
        for effect in effects:
            if type(effect) in _EVENTS:
                epoch = epoch or self._slots.epochs.get(entry.thread.slot, 0)
                outbox.append(self._publishing.envelope(entry, effect, epoch, now))  # type: ignore[arg-type]
            else:
                outbox.append(effect)

    def _work(self, entry: Entry) -> None:
        """Carries the outbox out up to the next snapshot."""
        outbox = entry.outbox
        while outbox and not entry.closed:
            item = outbox.popleft()
            if type(item) is EventEnvelope:
                self._publishing.publish(entry, item)
            elif type(item) is do.Save:
                entry.saving = True
                self.signalling.prepare(entry)
                self.snapshots.save(entry, self._saved)
                return
            else:
                with contextlib.suppress(TransactionGone):  # the other side has given up meanwhile
                    self._act(entry, item)
        if len(entry.signals) > len(entry.thread.legs):
            for leg in [leg for leg in entry.signals if leg not in entry.thread.legs]:
                self.signalling.drop(entry, leg)

    def _act(self, entry: Entry, effect: Any) -> None:
        try:
            self._acts[type(effect)](entry, effect)
        except (ParseError, NoNextHop, KeyError, ValueError) as error:
            # A peer's URI that cannot be used, or a leg that is gone: that message cannot be sent, the call goes on.
            self._numbers.failed_effects.inc()
            problem = f"{type(error).__name__}: {error}"
            self._log.warning(
                "effect failed", call_thread_id=entry.thread.id, effect=type(effect).__name__, problem=problem
            )

    def _saved(self, entry: Entry) -> None:
        entry.saving = False
        self._work(entry)
        if not entry.saving and entry.calm is not None and not entry.calm.done():
            entry.calm.set_result(None)

    def freeze(self, entry: Entry) -> None:
        """Nothing more happens to a thread; what is under way is finished (`Entry.calm`)."""
        entry.frozen = True
        entry.calm = asyncio.get_running_loop().create_future()
        if not entry.saving:
            entry.calm.set_result(None)

    def _note_change(self, entry: Entry) -> None:
        """A change that nothing had to wait for (an ACK, a CSeq) is written a little later, once for many of them."""
        if not self._changed:
            asyncio.get_running_loop().call_later(WRITE_BEHIND_S, self._write_changes)
        self._changed.add(entry)

    def _write_changes(self) -> None:
        changed, self._changed = self._changed, set()
        for entry in changed:
            if entry.dirty and not (entry.closed or entry.frozen):
                if entry.saving:
                    self._note_change(entry)
                else:
                    self.snapshots.save(entry, lambda _: None)

    # -- effects of its own ------------------------------------------------------------------------

    def _ask(self, entry: Entry, effect: do.AskDialPlan) -> None:
        if effect.ask in entry.thread.asks:
            task = asyncio.get_running_loop().create_task(self._resolve(entry, effect.ask))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _resolve(self, entry: Entry, number: int) -> None:
        ask = entry.thread.asks.get(number)
        if ask is not None:
            self.feed(entry, await self._resolver.resolve(entry.thread, ask, entry.source))

    def _reply(self, entry: Entry, effect: do.Reply) -> None:
        outcome: Outcome = (effect.outcome, entry.acknowledgements.pop(effect.request, None))
        for waiter in entry.waiters.pop(effect.request, ()):
            if not waiter.done():
                waiter.set_result(outcome)

    def _count(self, entry: Entry, effect: do.Count) -> None:
        self._numbers.notable(effect.what)

    def _forget(self, entry: Entry, effect: do.Forget) -> None:
        if effect.saved:
            self.snapshots.delete(entry)
        self.close(entry, finished=True)

    def close(self, entry: Entry, *, finished: bool = False) -> None:
        """Lets go of a thread: it has finished, or is somebody else's now. Nothing of it has an effect any more, and of
        what is somebody else's the core forgets its transactions too."""
        thread, entry.closed = entry.thread, True
        conn_id = thread.identity.conn_id
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.calm is not None and not entry.calm.done():
            entry.calm.set_result(None)
        for leg in list(entry.signals):
            self.signalling.drop(entry, leg, forget=not finished)
        for waiters in entry.waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(NotOwner("sip", thread.slot))
        if self.threads.pop(conn_id, None) is not None:
            fellows = self.by_slot[thread.slot]
            fellows.discard(entry)
            if not fellows:
                del self.by_slot[thread.slot]
            if thread.requests and finished:
                self.remembered.end(conn_id, Ended(thread.tenant, thread.requests))
        if not self.threads:
            self.idle.set()

    # -- time --------------------------------------------------------------------------------------

    def _arm(self, entry: Entry) -> None:
        due = entry.thread.next_deadline
        if due == entry.armed:
            return
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.armed = due
        if due and not entry.closed:
            wait = max(0.0, due / 1e6 - time.time())
            entry.timer = asyncio.get_running_loop().call_later(wait, self._due, entry)

    def _due(self, entry: Entry) -> None:
        entry.armed = 0
        entry.timer = None
        self._rotation += 1
        self.feed(entry, inputs.TimeReached(self._rotation))

    def router_lost(self) -> None:
        """No orchestration node has been there for the grace time."""
        for entry in list(self.threads.values()):
            self._rotation += 1
            self.feed(entry, inputs.RouterLost(self._rotation))

    def next_rotation(self) -> int:
        """A running number of default routings."""
        self._rotation += 1
        return self._rotation

    # -- failures of sending -----------------------------------------------------------------------

    def call_failed(self, entry: Entry, leg: int, status: int) -> None:
        """An INVITE could not be sent."""
        asyncio.get_running_loop().call_soon(self.feed, entry, inputs.Failed(leg, status))

    def request_failed(self, entry: Entry, leg: int, use: Use) -> None:
        """A request in a dialog could not be sent."""
        facts: dict[Use, Input] = {
            Use.BYE: inputs.ByeDone(leg),
            Use.OFFER: inputs.OfferRefused(leg, 408),
            Use.TALK: inputs.TalkRefused(leg, 481),
        }
        fact = facts.get(use)
        if fact is not None:
            asyncio.get_running_loop().call_soon(self.feed, entry, fact)

    # -- slots -------------------------------------------------------------------------------------

    async def recall(self, slot: int, conn_id: int) -> Ended | None:
        """What is remembered of a call that ended, here or at another owner of its slot. Raises StoreUnavailable."""
        known = self.remembered.ended(conn_id)
        if known is not None:
            return known
        record = await self.snapshots.ended(slot, conn_id)
        if record is None:
            return None
        thread = from_record(record)
        return Ended(thread.tenant, thread.requests)

    def lost(self, entry: Entry) -> None:
        """A write was refused: the slot is somebody else's."""
        self._log.warning("call is somebody else's", call_thread_id=entry.thread.id, slot=entry.thread.slot)
        self.let_go([entry])

    def let_go(self, entries: Collection[Entry]) -> None:
        """Calls that are another node's now: nothing of them leaves here any more, nor do events that still wait."""
        for entry in entries:
            self.close(entry)
        if entries:
            self._publishing.forget({entry.thread.id for entry in entries})

    async def rewrite(self, *, unprotected: bool = False) -> None:
        """Redis may have forgotten: every call that had a snapshot is written again. `unprotected`: only those whose last
        write Redis did not take in time."""
        for number, entry in enumerate(list(self.threads.values())):
            if number % REWRITTEN_AT_ONCE == 0:
                await asyncio.sleep(0)
            if unprotected and not entry.unprotected:
                continue
            if entry.thread.saved and not (entry.saving or entry.frozen or entry.closed):
                entry.outbox.appendleft(do.Save())
                self._work(entry)


def _traceparent(request: Request) -> str:
    """The traceparent of a call: a trunk's, when its INVITE has a well-formed one, else a new one."""
    given = request.get("traceparent")
    return given if given and parse_traceparent(given) is not None else new_traceparent()
