"""Threads whose SIP node died and whose calls no heir has: asked about, then closed in its place (docs/decisions/0083)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

import grpc
from voice.sip_cluster.v1.sip_node_service_pb2 import GetCallRequest

from mesh.discovery import Directory, to_node
from mesh.errors import Reason, reason_of
from mesh.identifiers import BadIdentifier, sip_slot_of_conn_id
from mesh.rq import AppendRefused, Publisher, PublisherFull
from mesh.telemetry import Metrics, logger
from services.call_state.closing import ends
from services.call_state.events import Address, ended
from services.call_state.machine import Thread
from services.call_state.suspicion import Suspicions

if TYPE_CHECKING:
    from voice.sip_cluster.v1.sip_node_service_pb2_grpc import SipNodeServiceAsyncStub

ASK_S: Final = 2.0
AT_ONCE: Final = 16
"""Owners asked, and threads closed, at once."""

Threads = Callable[[], Iterable[Thread]]
May = Callable[[Thread], Awaitable[bool]]
"""Whether this node still owns the thread, as far as effects go."""


class Orphans:
    """Looks after the live threads of this node's slots."""

    def __init__(
        self,
        threads: Threads,
        may: May,
        directory: Directory,
        stub: SipNodeServiceAsyncStub,
        publisher: Publisher,
        address: Address,
        metrics: Metrics,
        *,
        grace_s: float,
        every_s: float,
    ) -> None:
        """`directory`: of sip_cluster. `grace_s`: see Suspicions; `every_s`: between looks."""
        self._threads = threads
        self._may = may
        self._directory = directory
        self._stub = stub
        self._publisher = publisher
        self._address = address
        self._every_s = every_s
        self._suspicions = Suspicions(int(grace_s * 1_000_000))
        self._room = asyncio.Semaphore(AT_ONCE)
        self._log = logger("orphans")
        self._asked = metrics.counter("orphan_checks_total", "SIP nodes asked for a call", ["answer"])
        self._closed = metrics.counter("orphans_closed_total", "Threads closed in a dead SIP node's place")
        metrics.queue("orphan_suspects", lambda: len(self._suspicions), "Threads whose SIP slot has moved")

    async def watch(self) -> None:
        """Looks now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.look()

    async def look(self) -> None:
        """One look at all live threads."""
        now_us = time.time_ns() // 1000
        live = {thread.call_thread_id: thread for thread in self._threads() if not thread.ended_us}
        self._suspicions.keep(set(live))
        suspects = []
        for thread in live.values():
            slot = _slot(thread)
            if slot is None:
                continue
            epoch = self._directory.epoch(slot)
            if self._suspicions.ask(thread, epoch, now_us):
                suspects.append((thread, slot, epoch))
        await asyncio.gather(*(self._suspect(*suspect) for suspect in suspects))

    async def _suspect(self, thread: Thread, slot: int, epoch: int) -> None:
        async with self._room:
            known = await self._ask(thread, slot, epoch)
            answer = "known" if known else "none" if known is None else "unknown"
            self._asked.labels(answer).inc()
            if self._suspicions.answered(thread, epoch, known, time.time_ns() // 1000):
                await self._close(thread, epoch)

    async def _ask(self, thread: Thread, slot: int, epoch: int) -> bool | None:
        """Whether the slot's owner has the thread's calls; None when that cannot be known now."""
        owner = self._directory.owner(slot)
        if owner is None:
            return None
        request = GetCallRequest(tenant=thread.tenant, conn_id=_live(thread))
        try:
            await self._stub.GetCall(request, timeout=ASK_S, metadata=to_node(owner))
        except grpc.aio.AioRpcError as error:
            unknown = reason_of(error) == Reason.REASON_UNKNOWN_CALL
            return False if unknown and self._directory.epoch(slot) == epoch else None
        return True

    async def _close(self, thread: Thread, epoch: int) -> None:
        """Tells the end of the thread's calls, as the owner of the SIP slot would: under its epoch, next in the stream."""
        if thread.ended_us or not await self._may(thread):
            return
        now_us, after = time.time_ns() // 1000, thread.last_seq
        told = [
            ended(end, thread, after + n, epoch, now_us, self._address)
            for n, end in enumerate(ends(thread), 1)
        ]
        self._log.warning("orphan closed", thread=thread.call_thread_id, events=len(told), epoch=epoch)
        try:
            results = await asyncio.gather(
                *(self._publisher.append(envelope) for envelope in told), return_exceptions=True
            )
        except (
            PublisherFull,
            ValueError,
        ) as error:  # full, or the events of the last time are still on their way
            self._log.info("orphan is closed later", thread=thread.call_thread_id, why=str(error))
            return
        refused = [result for result in results if isinstance(result, AppendRefused)]
        if refused:  # somebody lives who tells the thread: its events come to us as any others
            self._log.warning("orphan has news", thread=thread.call_thread_id, why=str(refused[0]))
            return
        self._closed.inc()


def _live(thread: Thread) -> int:
    """ConnID of the first call that has not ended; 0 without one."""
    return next((call.conn_id for call in thread.calls if not call.deleted_us), 0)


def _slot(thread: Thread) -> int | None:
    """SIP slot of the thread's calls; None for ConnIDs that are not ours."""
    try:
        return sip_slot_of_conn_id(_live(thread))
    except BadIdentifier:
        return None
