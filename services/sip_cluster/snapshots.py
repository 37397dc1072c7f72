"""Snapshots of threads in Redis: what an heir needs, written under the slot's epoch (design §6).

Key `{sip_cluster:<slot>}:calls`, a hash: CallThreadID -> voice.record.v1.SipCall.
Key `{sip_cluster:<slot>}:ended:<ConnID>`: the same record of a call that ended with requests, kept `ENDED_MS`, so that
a repeated request still gets its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from voice.record.v1.sip_call_pb2 import SipCall, SipDialog, SipLeg
from voicecore.sip import Dialog

from mesh.errors import DomainError
from mesh.identifiers import conn_id_text
from mesh.store import FencedStore, StaleEpoch, StoreUnavailable, put, put_fields, remove_fields
from mesh.telemetry import logger
from services.sip_cluster.calls import LegState
from services.sip_cluster.entry import Entry, Signal
from services.sip_cluster.next_hop import host_port
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.records import to_record

CALLS = "calls"
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
    ) -> None:
        self._store = store
        self._publishing = publishing
        self._epoch = epoch
        self._lost = lost
        self._tasks: set[asyncio.Task[None]] = set()
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
        try:
            epoch = self._epoch(entry.thread.slot)
        except DomainError:
            self._lost(entry)
            return
        self._start(self._save(entry, epoch, record(entry, self._publishing).SerializeToString(), done))

    def delete(self, entry: Entry) -> None:
        """The thread has finished."""
        try:
            epoch = self._epoch(entry.thread.slot)
        except DomainError:
            return  # the heir deletes what it does not find alive
        self._start(self._delete(entry, epoch))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save(self, entry: Entry, epoch: int, raw: bytes, done: Callable[[Entry], None]) -> None:
        thread = entry.thread
        try:
            await self._store.write(thread.slot, epoch, [put_fields(CALLS, {thread.id: raw})])
            self.written += 1
            entry.unprotected = False
        except StaleEpoch:
            self._lost(entry)
            return
        except StoreUnavailable:
            self.unprotected += not entry.unprotected
            entry.unprotected = True
        done(entry)

    async def _delete(self, entry: Entry, epoch: int) -> None:
        thread = entry.thread
        operations = [remove_fields(CALLS, thread.id)]
        if thread.requests:
            raw = record(entry, self._publishing).SerializeToString()
            operations.append(put(f"ended:{conn_id_text(thread.identity.conn_id)}", raw, ttl_ms=ENDED_MS))
        try:
            await self._store.write(thread.slot, epoch, operations)
        except (StaleEpoch, StoreUnavailable) as error:
            # Left behind, the record is read by an heir, which finds the call deleted in its stream and drops it.
            self._log.warning("snapshot not deleted", call_thread_id=thread.id, problem=str(error))

    async def flush(self) -> None:
        """Returns when nothing is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))


def record(entry: Entry, publishing: Publishing) -> SipCall:
    """The whole record: the model's state, dialogs and open transactions, events not known to be stored."""
    result = to_record(entry.thread)
    result.unacknowledged.extend(publishing.unacknowledged(entry))
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
        if LegState(leg.state) in _OPEN:
            _open_invite(leg, signal)
    return result


def _open_invite(leg: SipLeg, signal: Signal) -> None:
    if signal.invite is not None:
        leg.open_invite = signal.invite.to_bytes()
    if signal.response is not None:
        leg.last_response = signal.response.to_bytes()


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
