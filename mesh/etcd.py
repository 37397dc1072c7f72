"""A thin client of etcd's published v3 API on grpc.aio.

Every call has a deadline and moves on to the next endpoint when one does not answer. Keys are text, values
bytes. What a guarded transaction did is unknown when it failed with `EtcdUnavailable`: guards make it safe
to send again, and the caller then reads the answer from the keys (`mesh/slots.py` does).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from etcdserverpb import rpc_pb2 as pb
from etcdserverpb import rpc_pb2_grpc as rpc

from mesh.etcd_values import (
    CHANNEL_OPTIONS,
    Compacted,
    EtcdError,
    EtcdRefused,
    EtcdUnavailable,
    Guarded,
    KeyValue,
    LeaseNotFound,
    Snapshot,
    TxnResult,
    absent,
    delete_op,
    delete_prefix_op,
    endpoints_of,
    error_of,
    exists,
    get_op,
    key_value,
    put_op,
    range_end,
    unchanged,
    value_is,
)
from mesh.watch import Batch, Change, Watch

__all__ = [
    "Batch",
    "Change",
    "Compacted",
    "Etcd",
    "EtcdError",
    "EtcdRefused",
    "EtcdUnavailable",
    "Guarded",
    "KeyValue",
    "LeaseNotFound",
    "MAX_TXN_OPS",
    "STORE_KEY",
    "Snapshot",
    "TxnResult",
    "Watch",
    "absent",
    "delete_op",
    "delete_prefix_op",
    "endpoints_of",
    "exists",
    "get_op",
    "put_op",
    "range_end",
    "unchanged",
    "value_is",
]

MAX_TXN_OPS = 128
"""Operations a transaction may hold in each of its lists (etcd's default --max-txn-ops)."""
STORE_KEY = "/voicemesh/store"
"""Identity of the store, written once when it is new: another value means that etcd was replaced."""
PAGE = 512
"""Keys a page when a prefix is read."""
ATTEMPT_S = 1.0
"""Longest wait for one endpoint, seconds, when there are several."""

T = TypeVar("T")


class Etcd:
    """Client of one etcd cluster. Use from one event loop; `close()` at the end."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        timeout: float = 2.0,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """`timeout`: seconds each call may take in all, when it is not told another."""
        self.endpoints = endpoints_of(endpoints)
        self.timeout = timeout
        self.credentials = credentials
        self.heard_at = 0.0
        """When etcd last answered on a watch, monotonic seconds."""
        self._current = 0
        self._channels: dict[str, grpc.aio.Channel] = {}

    # -- keys ------------------------------------------------------------------------------------------------

    async def get(self, key: str, *, timeout: float | None = None) -> KeyValue | None:
        """The key, read linearizably, or None."""
        request = pb.RangeRequest(key=key.encode())
        answer = await self._call(lambda c, t: rpc.KVStub(c).Range(request, timeout=t), timeout, repeat=True)
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def get_prefix(self, prefix: str, *, page: int = PAGE, timeout: float | None = None) -> Snapshot:
        """Every key that starts with `prefix`, in key order, all at one revision however many pages it takes.

        Raises Compacted when the revision was compacted while the pages were read (read again then).
        """
        request = pb.RangeRequest(key=prefix.encode(), range_end=range_end(prefix), limit=page)
        items = list[KeyValue]()
        while True:
            answer = await self._call(
                lambda c, t: rpc.KVStub(c).Range(request, timeout=t), timeout, repeat=True
            )
            request.revision = request.revision or answer.header.revision
            items.extend(key_value(kv) for kv in answer.kvs)
            if not answer.more:
                return Snapshot(request.revision, tuple(items))
            request.key = answer.kvs[-1].key + b"\0"

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout: float | None = None) -> int:
        """Writes the key under `lease` (0: none); gives the revision. Raises LeaseNotFound."""
        request = pb.PutRequest(key=key.encode(), value=value, lease=lease)
        answer = await self._call(lambda c, t: rpc.KVStub(c).Put(request, timeout=t), timeout, repeat=True)
        return answer.header.revision

    async def delete(self, key: str, *, prefix: bool = False, timeout: float | None = None) -> int:
        """Deletes the key, or every key that starts with it; gives how many there were (0 is no error)."""
        end = range_end(key) if prefix else b""
        request = pb.DeleteRangeRequest(key=key.encode(), range_end=end)
        answer = await self._call(
            lambda c, t: rpc.KVStub(c).DeleteRange(request, timeout=t), timeout, repeat=True
        )
        return answer.deleted

    async def txn(
        self,
        compare: Iterable[pb.Compare],
        success: Iterable[pb.RequestOp],
        failure: Iterable[pb.RequestOp] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """One transaction: `success` when every guard holds, else `failure`. At most 128 in each list.

        It is sent once: on EtcdUnavailable its outcome is unknown. Raises LeaseNotFound when a put names an
        ended lease; nothing was done then.
        """
        request = pb.TxnRequest(compare=compare, success=success, failure=failure)
        if max(len(request.compare), len(request.success), len(request.failure)) > MAX_TXN_OPS:
            raise ValueError(f"transaction: at most {MAX_TXN_OPS} operations in each list")
        answer = await self._call(lambda c, t: rpc.KVStub(c).Txn(request, timeout=t), timeout, repeat=False)
        return TxnResult(answer.succeeded, answer.header.revision, _reads(answer))

    async def txns(self, each: Sequence[Guarded], *, timeout: float | None = None) -> list[TxnResult]:
        """Several transactions as one, each with guards of its own: what one of them refuses does not concern
        the others. All have the same revision; no two may put or delete the same key. At most 128. Sent once,
        as `txn`."""
        if len(each) > MAX_TXN_OPS:
            raise ValueError(f"transactions: at most {MAX_TXN_OPS} at once")
        inner = (pb.TxnRequest(compare=one.guards, success=one.success, failure=one.failure) for one in each)
        request = pb.TxnRequest(success=[pb.RequestOp(request_txn=txn) for txn in inner])
        answer = await self._call(lambda c, t: rpc.KVStub(c).Txn(request, timeout=t), timeout, repeat=False)
        revision = answer.header.revision
        parts = (op.response_txn for op in answer.responses)
        return [TxnResult(part.succeeded, revision, _reads(part)) for part in parts]

    async def compact(self, revision: int, *, timeout: float | None = None) -> None:
        """Forgets history before `revision`. Raises Compacted when that has been done already."""
        request = pb.CompactionRequest(revision=revision, physical=True)
        await self._call(lambda c, t: rpc.KVStub(c).Compact(request, timeout=t), timeout, repeat=False)

    # -- leases ----------------------------------------------------------------------------------------------

    async def lease_grant(self, ttl: int, *, timeout: float | None = None) -> tuple[int, int]:
        """A new lease of `ttl` seconds; gives (id, seconds granted). etcd grants no less than 2 s by
        default."""
        request = pb.LeaseGrantRequest(TTL=ttl)
        answer = await self._call(
            lambda c, t: rpc.LeaseStub(c).LeaseGrant(request, timeout=t), timeout, repeat=True
        )
        return answer.ID, answer.TTL

    async def lease_left(self, lease: int, *, timeout: float | None = None) -> int:
        """Seconds a lease has left, -1 when it has ended."""
        request = pb.LeaseTimeToLiveRequest(ID=lease)
        answer = await self._call(
            lambda c, t: rpc.LeaseStub(c).LeaseTimeToLive(request, timeout=t), timeout, repeat=True
        )
        return answer.TTL

    async def lease_revoke(self, lease: int, *, timeout: float | None = None) -> None:
        """Ends a lease and deletes its keys; a lease that has ended already is no error."""
        request = pb.LeaseRevokeRequest(ID=lease)
        with contextlib.suppress(LeaseNotFound):
            await self._call(
                lambda c, t: rpc.LeaseStub(c).LeaseRevoke(request, timeout=t), timeout, repeat=True
            )

    # -- watching, identity ----------------------------------------------------------------------------------

    def watch(self, prefix: str, from_revision: int = 0) -> Watch:
        """An endless asynchronous iterator of `Batch`es about the keys that start with `prefix`.

        0: the first batch is a snapshot, changes follow. Above 0: changes from that revision on, inclusive; a
        snapshot comes only when they are no longer to be had. See `mesh/watch.py`.
        """
        return Watch(self, prefix, from_revision)

    async def identity(self) -> tuple[str | None, int]:
        """Identity of the store, None when none was written yet, and its present revision."""
        request = pb.RangeRequest(key=STORE_KEY.encode())
        answer = await self._call(lambda c, t: rpc.KVStub(c).Range(request, timeout=t), None, repeat=True)
        return answer.kvs[0].value.decode() if answer.kvs else None, answer.header.revision

    async def ensure_store_id(self) -> str:
        """Identity of the store, written now when it has none. Any number of processes may do this at
        once."""
        mine = secrets.token_hex(8)
        result = await self.txn([absent(STORE_KEY)], [put_op(STORE_KEY, mine.encode())], [get_op(STORE_KEY)])
        return mine if result.succeeded else result.reads[0][0].value.decode()

    # -- channels --------------------------------------------------------------------------------------------

    def channel(self) -> grpc.aio.Channel:
        """Channel to the endpoint in use."""
        endpoint = self.endpoints[self._current]
        if endpoint not in self._channels:
            self._channels[endpoint] = (
                grpc.aio.secure_channel(endpoint, self.credentials, options=CHANNEL_OPTIONS)
                if self.credentials
                else grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
            )
        return self._channels[endpoint]

    def move_on(self, failed: grpc.aio.Channel) -> None:
        """The endpoint behind `failed` does not answer: use the next one, unless somebody has moved on
        already."""
        if self._channels.get(self.endpoints[self._current]) is failed:
            self._current = (self._current + 1) % len(self.endpoints)

    async def _call(
        self,
        send: Callable[[grpc.aio.Channel, float], Awaitable[T]],
        timeout: float | None,
        *,
        repeat: bool,
    ) -> T:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            channel = self.channel()
            left = deadline - time.monotonic()
            attempt = min(left, ATTEMPT_S) if len(self.endpoints) > 1 else left
            try:
                return await send(channel, max(attempt, 0.001))
            except grpc.aio.AioRpcError as error:
                problem = error_of(error)
                if not isinstance(problem, EtcdUnavailable):
                    raise problem from error
                self.move_on(channel)
                if not repeat or time.monotonic() + 0.05 >= deadline:
                    raise problem from error
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Closes every channel; calls under way fail."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()


def _reads(answer: pb.TxnResponse) -> tuple[tuple[KeyValue, ...], ...]:
    return tuple(
        tuple(key_value(kv) for kv in op.response_range.kvs)
        for op in answer.responses
        if op.HasField("response_range")
    )
