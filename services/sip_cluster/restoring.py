"""Calls of a slot that has come to us: read from their snapshots and gone on with.

The fence is raised before this reads, so nobody writes any more. What follows reading happens in one go, without a pause
in which a message could meet half a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError
from voice.error.v1.reason_pb2 import Reason
from voice.record.v1.sip_call_pb2 import SIP_PENDING_KIND_ANSWER_BYE, SipCall

from mesh.errors import DomainError
from mesh.store import StaleEpoch, StoreUnavailable
from mesh.telemetry import logger
from services.sip_cluster import inputs, pending, resuming
from services.sip_cluster.behind import Ends
from services.sip_cluster.calls import LegState
from services.sip_cluster.entry import Entry
from services.sip_cluster.fencing import Fence
from services.sip_cluster.node import Node
from services.sip_cluster.numbers import Numbers
from services.sip_cluster.publishing import Publishing
from services.sip_cluster.records import from_record
from services.sip_cluster.snapshots import Snapshots
from services.sip_cluster.takeover import Takeover


class Found(NamedTuple):
    """A snapshot as it was found."""

    record: SipCall
    ended: Collection[int]
    """ConnIDs of its calls that have ended all the same."""


class Restoring:
    """Takes slots' calls over."""

    def __init__(
        self,
        node: Node,
        snapshots: Snapshots,
        publishing: Publishing,
        takeover: Takeover,
        numbers: Numbers,
        fence: Fence,
        ended: Ends,
    ) -> None:
        """`ended`: calls whose end a stream tells behind a snapshot."""
        self._node = node
        self._snapshots = snapshots
        self._publishing = publishing
        self._takeover = takeover
        self._numbers = numbers
        self._fence = fence
        self._ended = ended
        self._log = logger("restoring")

    async def read(self, slot: int, epoch: int) -> list[Found]:
        """The snapshots of a slot. One that cannot be read is counted and removed. Raises StoreUnavailable."""
        records: list[SipCall] = []
        for thread, raw in (await self._snapshots.read(slot)).items():
            try:
                records.append(SipCall.FromString(raw))
            except DecodeError:
                await self._given_up(slot, epoch, thread, "the snapshot cannot be read")
        behind = await self._fence_streams(records, epoch)
        return [Found(record, behind.get(record.id, ())) for record in records]

    async def _fence_streams(self, records: list[SipCall], epoch: int) -> Mapping[str, Collection[int]]:
        """From now on the streams take nothing of a former owner. What it told behind its last snapshot (Redis was slow,
        the call went on unprotected) keeps its numbers; ours come after them. Without Redis Queue our first event fences.
        Gives the calls that ended so: thread -> ConnIDs."""
        if not records:
            return {}
        try:
            ends = await self._fence({record.id: epoch for record in records})
        except DomainError as error:
            if error.reason == Reason.REASON_STALE_EPOCH:
                raise
            self._log.warning("streams not fenced", epoch=epoch, calls=len(records), problem=str(error))
            return {}
        behind = [record for record in records if ends.get(record.id, 0) > record.seq]
        self._numbers.behind.inc(len(behind))
        ended = await asyncio.gather(*(self._ended(record.id, record.seq) for record in behind))
        for record in behind:
            record.seq = ends[record.id]
        return {record.id: calls for record, calls in zip(behind, ended, strict=True)}

    def take(self, found: Iterable[Found], epoch: int) -> None:
        """Goes on with the calls of a slot that is ours from this moment."""
        for record, ended in found:
            try:
                self._take(record, ended, epoch)
            except Exception as error:  # noqa: BLE001 - one bad record must not keep the slot's other calls waiting
                self._log.error("call cannot be restored", call_thread_id=record.id, exc_info=error)
                self._numbers.unrestorable.inc()

    def _take(self, record: SipCall, ended: Collection[int], epoch: int) -> None:
        thread = from_record(record)
        entry = Entry(thread, display=record.display, max_forwards=record.max_forwards or 70)
        lost = self._takeover.take(entry, record)
        self._publishing.again(entry, record.unacknowledged, epoch)
        for one in record.pending:
            if one.kind == SIP_PENDING_KIND_ANSWER_BYE:
                self._node.remembered.leave(one.local_tag)
        again = [effect for one in record.pending if (effect := pending.read(one)) is not None]
        self._node.adopt(entry, [*again, *resuming.due(thread)])
        if thread.calls:
            self._numbers.restored.inc()
        if ended:
            self._node.feed(entry, inputs.CallsEnded(ended))
        if lost and not entry.closed:
            self._end_lost(entry, lost)

    def _end_lost(self, entry: Entry, lost: list[int]) -> None:
        """Legs that nothing can be done with: one that was being called has failed; with any other its call ends, and
        all who are left are told."""
        self._numbers.unrestorable.inc()
        legs = [leg for number in lost if (leg := entry.thread.legs.get(number)) is not None]
        for leg in legs:
            called = leg.state in (LegState.CALLING, LegState.EARLY, LegState.CANCELLING)
            self._node.feed(entry, inputs.Failed(leg.id, 503) if called else inputs.LegLost(leg.id))

    async def _given_up(self, slot: int, epoch: int, thread: str, problem: str) -> None:
        self._numbers.unrestorable.inc()
        self._log.error("call cannot be restored", call_thread_id=thread, slot=slot, problem=problem)
        try:
            await self._snapshots.remove(slot, epoch, thread)
        except (StaleEpoch, StoreUnavailable) as error:
            self._log.warning("snapshot not removed", call_thread_id=thread, problem=str(error))
