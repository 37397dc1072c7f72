"""Finding nodes and owners of another service, and calling an owner through fail-overs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message
from voice.error.v1.reason_pb2 import Reason
from voice.mesh.v1.node_pb2 import NodeRecord, NodeState

from mesh.allocation import Slot as SlotKey
from mesh.claims import Claims
from mesh.deadline import timeout_for
from mesh.errors import DomainError, details
from mesh.etcd import Batch, Etcd, Watch
from mesh.steady import steady

NODE_HEADER = "x-voicemesh-node"
"""Header that addresses exactly one node, by incarnation."""
LEAST_SHARE = 0.05
"""Part of its capacity that even a full node is weighed with: load is a second old, and somebody must
answer."""
PAUSES_S = (0.02, 0.05, 0.1, 0.25)
"""Waits before a call is sent again when the watch has no news, the last one from then on, seconds."""
GRACE_S = 0.2
"""How long the answer of an owner that has just handed its slot over is still waited for, seconds."""
AGAIN = frozenset({Reason.REASON_NOT_OWNER, Reason.REASON_DRAINING, Reason.REASON_IN_PROGRESS})
"""Reasons after which the same request is sent again: to the next owner, or to the same one for the
outcome."""

log = structlog.get_logger("mesh.discovery")

Q = TypeVar("Q", bound=Message, contravariant=True)
R = TypeVar("R", bound=Message, covariant=True)


class OwnerUnknown(DomainError):
    """No node owned the slot before the deadline."""

    def __init__(self, service: str, slot: SlotKey) -> None:
        super().__init__(
            Reason.REASON_DEPENDENCY_UNAVAILABLE, f"nobody owns slot {slot} of {service}", dependency=service
        )
        self.service = service
        self.slot = slot


class UnaryMethod(Protocol[Q, R]):
    """A unary method of a grpc.aio stub."""

    def __call__(
        self,
        request: Q,
        /,
        *,
        timeout: float | None = ...,
        metadata: tuple[tuple[str, str], ...] | None = ...,
    ) -> Awaitable[R]: ...


def to_node(node: NodeRecord | str) -> tuple[tuple[str, str], ...]:
    """Metadata that sends a call to exactly this node (a record or an incarnation)."""
    return ((NODE_HEADER, node if isinstance(node, str) else node.incarnation),)


def _slot(text: str) -> SlotKey | None:
    """Numbers are numbered slots; names of slots (tenant ids) start with a letter."""
    return int(text) if text.isascii() and text.isdigit() else text or None


class Directory:
    """Nodes and slot owners of one service, kept current by a watch. Reads never block and never touch
    etcd."""

    def __init__(self, etcd: Etcd, region: str, service: str) -> None:
        self.service = service
        self._etcd = etcd
        self._claims = Claims(etcd, region, service, _slot)
        self._watch: Watch | None = None
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._waiting: dict[SlotKey, list[tuple[int, asyncio.Future[None]]]] = {}

    async def start(self, timeout: float = 10.0) -> None:
        """Starts watching; returns with the first snapshot. Raises TimeoutError."""
        if self._task is None:
            self._watch = self._etcd.watch(self._claims.prefix)
            self._task = steady(f"directory {self.service}", self._follow)
        async with asyncio.timeout(timeout):
            await self._first.wait()

    def nodes(self) -> list[NodeRecord]:
        """Live nodes, ordered by incarnation; draining and not ready ones among them."""
        return [record for _, record in sorted(self._claims.records.items())]

    def node(self, incarnation: str) -> NodeRecord | None:
        """The live node of this incarnation."""
        return self._claims.records.get(incarnation)

    def owner(self, slot: SlotKey) -> NodeRecord | None:
        """The node that owns the slot, None while nobody does."""
        claim = self._claims.view.claims.get(slot)
        return self._claims.records.get(claim.node) if claim else None

    def epoch(self, slot: SlotKey) -> int:
        """Epoch of the slot's claim, 0 when nobody owns it."""
        claim = self._claims.view.claims.get(slot)
        return claim.epoch if claim and claim.node in self._claims.records else 0

    def slots_of(self, incarnation: str) -> list[SlotKey]:
        """Slots owned by a node."""
        return [slot for slot, claim in self._claims.view.claims.items() if claim.node == incarnation]

    async def wait_owner(self, slot: SlotKey, timeout: float) -> NodeRecord:
        """The slot's owner, waiting for one up to `timeout` seconds. Raises OwnerUnknown."""
        deadline = time.monotonic() + timeout
        while (owner := self.owner(slot)) is None:
            if not await self.moved(slot, self.epoch(slot), deadline - time.monotonic()):
                raise OwnerUnknown(self.service, slot)
        return owner

    async def moved(self, slot: SlotKey, epoch: int, timeout: float) -> bool:
        """Waits until the slot's epoch is another than `epoch`; False when it is not within `timeout`
        seconds."""
        if self.epoch(slot) != epoch:
            return True
        future = self.when_moved(slot, epoch)
        try:
            await asyncio.wait([future], timeout=max(0.0, timeout))
        finally:
            self.forget(slot, epoch, future)
        return self.epoch(slot) != epoch

    def when_moved(self, slot: SlotKey, epoch: int) -> asyncio.Future[None]:
        """A future that is done when the slot's epoch is another than `epoch`. Give it back with `forget`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(slot, []).append((epoch, future))
        return future

    def forget(self, slot: SlotKey, epoch: int, future: asyncio.Future[None]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._waiting.get(slot, [])
        if (epoch, future) in waiting:
            waiting.remove((epoch, future))
        if not waiting:
            self._waiting.pop(slot, None)

    def choose(self, random: float, *, tenant: str = "") -> NodeRecord | None:
        """A SERVING node for new work, weighed by free capacity (capacity − load, at least a twentieth of the
        capacity); `random` in [0, 1) picks. Nodes dedicated to other tenants are left out. None without
        any."""
        weighed = [
            (max(record.capacity - record.load, record.capacity * LEAST_SHARE), record)
            for record in self.nodes()
            if record.state == NodeState.NODE_STATE_SERVING
            and record.capacity > 0
            and (not record.tenants or tenant in record.tenants)
        ]
        point = random * sum(weight for weight, _ in weighed)
        for weight, record in weighed:
            point -= weight
            if point < 0:
                return record
        return weighed[-1][1] if weighed else None

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """`callback` is called on the loop after each batch of changes; the result unsubscribes it."""
        self._callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unsubscribe

    async def stop(self) -> None:
        """Ends the watch."""
        if self._watch is not None:
            await self._watch.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        assert self._watch is not None
        async for batch in self._watch:
            self._told(batch)

    def _told(self, batch: Batch) -> None:
        self._claims.told(batch)
        self._first.set()
        for slot, waiting in list(self._waiting.items()):
            present = self.epoch(slot)
            for epoch, future in waiting:
                if epoch != present and not future.done():
                    future.set_result(None)
        for callback in list(self._callbacks):
            try:
                callback()
            except Exception:
                log.exception("a listener of the directory failed", service=self.service)


class OwnerClient:
    """Unary calls to the owner of a slot, repeated through fail-overs until the deadline."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def call(self, method: UnaryMethod[Q, R], request: Q, slot: SlotKey, timeout: float) -> R:
        """Sends `request` to the slot's owner. When the owner is gone, says that it is not the owner, or
        the slot moves while it is silent, the same request is sent again, until `timeout` seconds have
        passed: so the request must carry a request id. Raises OwnerUnknown, or the grpc.aio.AioRpcError of
        the last attempt."""
        deadline = time.monotonic() + timeout_for(timeout)
        attempts = 0
        failure: grpc.aio.AioRpcError | None = None
        while True:
            try:
                owner = await self._directory.wait_owner(slot, deadline - time.monotonic())
            except OwnerUnknown:
                raise failure or OwnerUnknown(self._directory.service, slot) from failure
            epoch = self._directory.epoch(slot)
            left = deadline - time.monotonic()
            if left <= 0:
                raise failure or OwnerUnknown(self._directory.service, slot)
            try:
                answer = await self._attempt(method, request, owner, slot, epoch, left)
            except grpc.aio.AioRpcError as error:
                if not may_repeat(error):
                    raise
                failure = error
            else:
                if answer is not None:
                    return answer
                continue  # the slot has moved
            pause = PAUSES_S[min(attempts, len(PAUSES_S) - 1)]
            attempts += 1
            await self._directory.moved(slot, epoch, min(pause, deadline - time.monotonic()))

    async def _attempt(
        self,
        method: UnaryMethod[Q, R],
        request: Q,
        owner: NodeRecord,
        slot: SlotKey,
        epoch: int,
        timeout: float,
    ) -> R | None:
        """One call; None when the slot moved before there was an answer."""
        moved = self._directory.when_moved(slot, epoch)
        call = asyncio.ensure_future(method(request, timeout=timeout, metadata=to_node(owner)))
        try:
            await asyncio.wait((call, moved), return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                await asyncio.wait((call,), timeout=GRACE_S)
            return await call if call.done() else None
        finally:
            self._directory.forget(slot, epoch, moved)
            if not call.done():
                call.cancel()


def may_repeat(error: grpc.aio.AioRpcError) -> bool:
    """Whether the request should be sent again: the node is gone, is not the owner, or is at it.

    A reason the service gave for itself (a device out of service is UNAVAILABLE too) is its answer.
    """
    said = details(error)
    if said.reason is not None and "envoy" not in said.metadata:
        return said.reason in AGAIN
    gone = error.code() is grpc.StatusCode.UNAVAILABLE
    reset = error.code() is grpc.StatusCode.INTERNAL and "RST_STREAM" in (error.details() or "")
    return gone or reset
