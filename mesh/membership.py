"""What a node tells of itself: its NodeRecord under its lease, at
/voicemesh/<region>/<service>/nodes/<incarnation>."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.etcd import Etcd, EtcdError, EtcdUnavailable, LeaseNotFound
from mesh.lease import TTL_S, Lease
from mesh.steady import steady

LOAD_PERIOD_S = 1.0
"""Least time between two writes that tell nothing but load, seconds."""
RETRY_S = 0.1

log = structlog.get_logger("mesh.membership")


def nodes_prefix(region: str, service: str) -> str:
    """Prefix of the keys of a service's node records."""
    return f"/voicemesh/{region}/{service}/nodes/"


class Membership:
    """This node's membership of its service. `record.incarnation` must be new at each start of the
    process."""

    def __init__(self, etcd: Etcd, region: str, record: NodeRecord, *, ttl_s: int = TTL_S) -> None:
        """`record` is what the node announces at first (state NOT_READY unless told otherwise)."""
        if not (record.node and record.incarnation and record.service):
            raise ValueError("node record: node, incarnation and service must be set")
        self.etcd = etcd
        self.region = region
        self.service = record.service
        self.lease = Lease(etcd.endpoints, ttl_s=ttl_s, credentials=etcd.credentials)
        self._record = NodeRecord()
        self._record.CopyFrom(record)
        self._record.state = record.state or NodeState.NODE_STATE_NOT_READY
        self._key = nodes_prefix(region, record.service) + record.incarnation
        self._draining: list[Callable[[], Awaitable[None]]] = []
        self._wake = asyncio.Event()
        self._urgent = False
        self._written: bytes = b""
        self._written_at = 0.0
        self._writer: asyncio.Task[None] | None = None
        self.lease.on_regain(self._show_again)
        self.lease.on_granted(self._put_again)

    @property
    def incarnation(self) -> str:
        """This start's id, the value of x-voicemesh-node that addresses this node."""
        return self._record.incarnation

    @property
    def record(self) -> NodeRecord:
        """A copy of the record as it should stand in etcd."""
        copy = NodeRecord()
        copy.CopyFrom(self._record)
        return copy

    def deadline_ns(self) -> int:
        """The lease's local deadline, CLOCK_BOOTTIME ns (see `Lease.deadline_ns`)."""
        return self.lease.deadline_ns()

    async def join(self, timeout: float = 10.0) -> None:
        """Takes the lease and writes the record. Raises EtcdUnavailable after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        await self.lease.start(timeout)
        self._writer = steady("membership", self._write_changes)
        while self._written != self._record.SerializeToString():
            if time.monotonic() > deadline:
                await self.leave()
                raise EtcdUnavailable(f"node record not written within {timeout} s")
            await asyncio.sleep(0.005)

    def announce(
        self,
        *,
        load: int | None = None,
        state: NodeState.ValueType | None = None,
        capacity: int | None = None,
        takes_slots: bool | None = None,
        served_revision: int | None = None,
    ) -> None:
        """Changes the record. Load is written at most once a second, any other change at once.

        SERVING and NOT_READY never undo a drain.
        """
        record = self._record
        if state is not None and record.state not in (state, NodeState.NODE_STATE_DRAINING):
            record.state, self._urgent = state, True
        if capacity is not None and record.capacity != capacity:
            record.capacity, self._urgent = capacity, True
        if takes_slots is not None and record.takes_slots != takes_slots:
            record.takes_slots, self._urgent = takes_slots, True
        if served_revision is not None and record.served_revision != served_revision:
            record.served_revision, self._urgent = served_revision, True
        if load is not None:
            record.load = load
        self._wake.set()

    def on_drain(self, callback: Callable[[], Awaitable[None]]) -> None:
        """`callback` is awaited by `drain`, after DRAINING has been announced (Slots hand over in it)."""
        self._draining.append(callback)

    async def drain(self, timeout: float = 10.0) -> None:
        """Announces DRAINING and hands every slot over; returns when nothing is owned or after `timeout`."""
        self.announce(state=NodeState.NODE_STATE_DRAINING)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(callback() for callback in self._draining))
        except TimeoutError:
            log.warning("drain not complete", timeout_s=timeout)

    async def leave(self) -> None:
        """Revokes the lease: the record and any claim left are gone at once."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        await self.lease.stop()

    async def _show_again(self, lease: int) -> bool:
        """The record first: a claim whose node has no record has no owner for those who look."""
        if not self._written:
            return True
        try:
            await self.etcd.put(self._key, self._record.SerializeToString(), lease=lease)
        except LeaseNotFound:
            return False
        except EtcdError as error:
            log.warning("node record not written", problem=str(error))
        return True

    async def _put_again(self, _lease: int) -> None:
        self._written = b""
        self._urgent = True
        self._wake.set()

    async def _write_changes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (record := self._record.SerializeToString()) != self._written:
                if not self._urgent and (wait := self._written_at + LOAD_PERIOD_S - time.monotonic()) > 0:
                    await self._woken(wait)
                    continue
                self._urgent = False
                if not await self._write(record):
                    self._urgent = True
                    await asyncio.sleep(RETRY_S)

    async def _woken(self, seconds: float) -> None:
        """Waits for the time to write load, or for something urgent."""
        try:
            async with asyncio.timeout(seconds):
                while not self._urgent:
                    await self._wake.wait()
                    self._wake.clear()
        except TimeoutError:
            pass

    async def _write(self, record: bytes) -> bool:
        lease = self.lease.id
        if not lease:
            return False
        try:
            await self.etcd.put(self._key, record, lease=lease)
        except EtcdError as error:
            log.warning("node record not written", problem=str(error))
            return False
        if self.lease.id == lease:
            self._written, self._written_at = record, time.monotonic()
        return True
