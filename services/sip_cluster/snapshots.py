"""Snapshots of threads in Redis: what an heir needs, written under the slot's epoch (design §6).

Key `{sip_cluster:<slot>}:calls`, a hash: CallThreadID -> voice.record.v1.SipCall.
Written before events are told and deleted when the last of them is stored, so a record is never behind its stream.

Key `{sip_cluster:<slot>}:ended:<ConnID>`: the same record of a call that ended with requests, kept `ENDED_MS`, so that
a repeated request still gets its outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from voice.record.v1.sip_call_pb2 import SIP_PENDING_KIND_ACK, SipCall, SipDialog, SipLeg
from voicecore.sip import Dialog

from mesh.identifiers import conn_id_text
from mesh.slots import NotOwner
from mesh.store import FencedStore, Operation, StaleEpoch, StoreUnavailable, put, put_fields, remove_fields
from mesh.telemetry import logger
from services.sip_cluster import pending
from services.sip_cluster.calls import LegState
from services.sip_cluster.entry import Entry, Signal
from services.sip_cluster.epochs import under_epoch_of_now
from services.sip_cluster.next_hop import host_port
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.records import to_record

CALLS = "calls"
RETRY_S = 0.1
"""Pause before a write is tried again that nothing may go on without, seconds."""
SETTLE_S = 3.0
"""How long a slot's last writes are tried before it is handed over all the same, seconds."""
DELETE_PAUSE_S = 5.0
"""Longest pause before a deletion is tried again, seconds."""
ENDED_MS = 120_000
"""How long outcomes of requests outlive their call, milliseconds: longer than any client repeats one."""
_OPEN = frozenset(
    {
        LegState.INVITED,
        LegState.ALERTED,
        LegState.ACCEPTED,
        LegState.ENDING,
        LegState.CALLING,
        LegState.EARLY,
        LegState.CANCELLING,
        LegState.ANSWERED,
    }
)
"""Leg states whose INVITE an heir may have to answer, cancel or acknowledge."""

_CONFIRMED = frozenset({LegState.ACCEPTED, LegState.ENDING, LegState.ESTABLISHED, LegState.RELEASING})


class Snapshots:
    """Writes and deletes snapshots. `lost(entry)` is called when the slot turns out to be somebody else's."""

    def __init__(
        self,
        store: FencedStore,
        publishing: Publishing,
        epoch: Callable[[int], int],
        lost: Callable[[Entry], None],
        lease_good: Callable[[], bool],
    ) -> None:
        """`epoch(slot)`: the epoch of this moment; raises NotOwner. `lease_good`: whether the lease vouches for our slots
        when Redis does not answer."""
        self._store = store
        self._publishing = publishing
        self._epoch = epoch
        self._lost = lost
        self._lease_good = lease_good
        self._tasks: set[asyncio.Task[None]] = set()
        self._deleting: dict[int, set[asyncio.Task[None]]] = {}
        self._log = logger("snapshots")
        self.written = 0
        self.unprotected = 0
        """Calls that went on because Redis did not answer in time."""

    @property
    def depth(self) -> int:
        """Writes under way."""
        return len(self._tasks)

    def save(self, entry: Entry, done: Callable[[Entry], None]) -> None:
        """Writes the thread as it is now; `done` is called when that is in Redis, or could not be in time."""
        entry.dirty = False
        self._start(self._save(entry, record(entry, self._publishing).SerializeToString(), done))

    def delete(self, entry: Entry) -> None:
        """The thread has finished."""
        slot = entry.thread.slot
        task = self._start(self._delete(entry))
        self._deleting.setdefault(slot, set()).add(task)
        task.add_done_callback(lambda done: self._deleted(slot, done))

    def deleting(self, slot: int) -> Collection[asyncio.Task[None]]:
        """Calls of the slot that have ended and whose snapshots are still there."""
        return self._deleting.get(slot, ())

    def _deleted(self, slot: int, task: asyncio.Task[None]) -> None:
        self._deleting[slot].discard(task)
        if not self._deleting[slot]:
            del self._deleting[slot]

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _save(self, entry: Entry, raw: bytes, done: Callable[[Entry], None]) -> None:
        while not await self._write(entry, raw):
            if entry.closed:
                return
            self.unprotected += not entry.unprotected
            entry.unprotected = True
            if self._lease_good():
                break
            # Neither lease nor Redis vouches for us: nothing goes on (design §6).
            await asyncio.sleep(RETRY_S)
            if entry.closed:  # its snapshot may have been deleted meanwhile
                return
            # A change that nothing waits for does not keep the next save waiting: what that has written must not be undone.
            raw = record(entry, self._publishing).SerializeToString()
        if not entry.closed:
            done(entry)

    async def _write(self, entry: Entry, raw: bytes) -> bool:
        """False when Redis did not answer in time."""
        thread = entry.thread
        try:
            await self._fenced(thread.slot, [put_fields(CALLS, {thread.id: raw})])
        except (NotOwner, StaleEpoch):
            self._lost(entry)
        except StoreUnavailable:
            return False
        else:
            self.written += 1
            entry.unprotected = False
        return True

    async def _fenced(self, slot: int, operations: list[Operation]) -> None:
        """Raises NotOwner, StaleEpoch, StoreUnavailable."""
        write = self._store.write
        await under_epoch_of_now(self._epoch, slot, lambda epoch: write(slot, epoch, operations))

    async def settle(self, entries: Iterable[Entry]) -> None:
        """Last writes before a slot is handed over: of what has changed since the last one. Nothing is urgent then, so they
        are tried for `SETTLE_S`; what Redis does not take is counted, and the heir goes on from the snapshot before."""
        changed = [entry for entry in entries if entry.dirty or entry.unprotected]
        for entry in changed:
            entry.dirty = False
        raws = [record(entry, self._publishing).SerializeToString() for entry in changed]
        done = await asyncio.gather(
            *(self._insist(entry, raw) for entry, raw in zip(changed, raws, strict=True))
        )
        self.unprotected += done.count(False)

    async def _insist(self, entry: Entry, raw: bytes) -> bool:
        limit = time.monotonic() + SETTLE_S
        while not await self._write(entry, raw):
            if time.monotonic() >= limit or not self._lease_good():
                return False
            await asyncio.sleep(RETRY_S)
        return True

    async def _delete(self, entry: Entry) -> None:
        thread = entry.thread
        operations = [remove_fields(CALLS, thread.id)]
        if thread.requests:
            raw = record(entry, self._publishing).SerializeToString()
            operations.append(put(ended_key(thread.identity.conn_id), raw, ttl_ms=ENDED_MS))
        await self._publishing.stored(entry)
        pause = RETRY_S
        while True:
            try:
                await self._fenced(thread.slot, operations)
                return
            except (NotOwner, StaleEpoch) as error:
                # Left behind, the record is read by the heir, which finds that all of it has ended and deletes it.
                self._log.warning("snapshot not deleted", call_thread_id=thread.id, problem=str(error))
                return
            except StoreUnavailable:
                await asyncio.sleep(pause)
                pause = min(2 * pause, DELETE_PAUSE_S)

    async def read(self, slot: int) -> dict[str, bytes]:
        """The snapshots of a slot by CallThreadID. Raises StoreUnavailable."""
        return await self._store.read_fields(slot, CALLS)

    async def remove(self, slot: int, epoch: int, thread: str) -> None:
        """Removes a snapshot that nothing can be done with."""
        await self._store.write(slot, epoch, [remove_fields(CALLS, thread)])

    async def ended(self, slot: int, conn_id: int) -> SipCall | None:
        """The record of a call that ended here or at another owner of the slot, while it is kept. Raises
        StoreUnavailable."""
        raw = await self._store.read(slot, ended_key(conn_id))
        return SipCall.FromString(raw) if raw is not None else None

    async def flush(self, timeout: float) -> None:
        """Returns when nothing is under way, or after `timeout` seconds."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)


def ended_key(conn_id: int) -> str:
    """Key of the record of a call that has ended."""
    return f"ended:{conn_id_text(conn_id)}"


def record(entry: Entry, publishing: Publishing) -> SipCall:
    """The whole record: the model's state, dialogs and open transactions, what is to be sent, events not known to be
    stored."""
    result = to_record(entry.thread)
    result.display = entry.display
    result.max_forwards = entry.max_forwards
    result.unacknowledged.extend(publishing.unacknowledged(entry))
    result.pending.extend(pending.write(entry))
    acks = {one.leg for one in result.pending if one.kind == SIP_PENDING_KIND_ACK}
    offer = entry.thread.renegotiation
    for leg in result.legs:
        signal = entry.signals.get(leg.id)
        if signal is None:
            continue
        leg.local_tag = signal.local_tag
        leg.peer = host_port(signal.destination)
        if signal.dialog is not None:
            leg.dialog.CopyFrom(dialog_record(signal.dialog))
            if (
                LegState(leg.state) in _CONFIRMED
            ):  # about to be confirmed by an effect that waits for this write
                leg.dialog.early = False
        if LegState(leg.state) in _OPEN or leg.id in acks:
            _open_invite(leg, signal)
        if offer is not None and leg.id in (offer.origin, offer.target):
            _open_offer(leg, signal)
    return result


def _open_invite(leg: SipLeg, signal: Signal) -> None:
    if signal.invite is not None:
        leg.open_invite = signal.invite.to_bytes()
    if signal.response is not None:
        leg.last_response = signal.response.to_bytes()


def _open_offer(leg: SipLeg, signal: Signal) -> None:
    offer = signal.offer or signal.offer_sent
    if offer is not None:
        leg.offer_invite = offer.to_bytes()
    if signal.offer_response is not None:
        leg.offer_response = signal.offer_response.to_bytes()


def dialog_record(dialog: Dialog) -> SipDialog:
    """A dialog as it is stored."""
    state = dialog.state()
    return SipDialog(
        call_id=state.call_id,
        local_tag=state.local_tag,
        remote_tag=state.remote_tag,
        local_uri=state.local_uri,
        remote_uri=state.remote_uri,
        local_cseq=state.local_cseq,
        remote_cseq=state.remote_cseq,
        remote_target=state.remote_target,
        route_set=state.route_set,
        is_uac=state.is_uac,
        secure=state.secure,
        early=state.early,
    )
