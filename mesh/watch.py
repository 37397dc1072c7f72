"""Watching a prefix of etcd without ever missing a change.

Snapshot first, changes from the revision after it. A broken stream is resumed at the revision after the
last one told; when that has been compacted away, or the store was replaced (its identity changed or its
revision went back), a new snapshot is told. A stream that answers no probe is broken off: a frozen etcd or
a half-open connection looks like silence. Progress answers prove life only: before etcd 3.5.8 they may run
ahead of the changes they stand for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio
import structlog
from etcdserverpb import rpc_pb2 as pb
from etcdserverpb import rpc_pb2_grpc as rpc
from mvccpb import kv_pb2

from mesh.etcd_values import EtcdError, KeyValue, key_value, range_end

if TYPE_CHECKING:
    from mesh.etcd import Etcd

    _Call = grpc.aio.StreamStreamCall[pb.WatchRequest, pb.WatchResponse]

PROBE_S = 2.0
"""Silence after which the stream is asked for a sign of life, seconds."""
DEAD_S = 6.0
"""Silence after which it is given up, seconds."""
OWN_PROBE_S = 30.0
"""Silence of one stream after which it is asked itself although others on its connection are alive, seconds."""
BUFFER = 64
"""Batches that wait for a slow reader."""
RETRY_S = 0.1
"""Pause before a broken stream is opened again, seconds."""
# a member cut off from its cluster ends the stream instead of going quiet
_HAS_LEADER = (("hasleader", "true"),)

log = structlog.get_logger("mesh.etcd")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one key: `kv` after a put; after a deletion None."""

    key: str
    kv: KeyValue | None
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What the watch tells at once. A snapshot replaces everything told before; else `changes` follow on
    it."""

    revision: int
    """Everything up to this revision has been told with this batch."""
    snapshot: tuple[KeyValue, ...] | None = None
    """The whole prefix, when the batch is a snapshot."""
    changes: tuple[Change, ...] = ()
    replaced: bool = False
    """The store is not the one watched before (its identity changed or its revision went back)."""


class _Broken(Exception):
    """The stream ended; resume it."""


class Watch(AsyncIterator[Batch]):
    """Endless; `close()` ends it. Outages of etcd show as silence, never as an exception.

    A reader that is slow stops the stream after `BUFFER` batches, it loses nothing.
    """

    def __init__(self, etcd: Etcd, prefix: str, from_revision: int = 0) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._told: int | None = from_revision - 1 if from_revision else None
        self._store: tuple[str | None] | None = None
        self._replaced = False
        self._heard = 0.0
        self._batches: asyncio.Queue[Batch | None] = asyncio.Queue(BUFFER)
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether etcd has answered within the last 6 s, on this watch or another of the same client."""
        return self._heard > 0 and time.monotonic() - max(self._heard, self._etcd.heard_at) < DEAD_S

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Batch:
        if self._closed:
            raise StopAsyncIteration
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name=f"watch {self._prefix}")
        item = await self._batches.get()
        if item is None:
            raise StopAsyncIteration
        return item

    async def close(self) -> None:
        """Ends the watch; a pending `__anext__` raises StopAsyncIteration."""
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        while self._batches.full():
            self._batches.get_nowait()
        self._batches.put_nowait(None)

    async def _run(self) -> None:
        while True:
            channel = self._etcd.channel()
            try:
                await self._identify()
                if self._told is None:
                    await self._batches.put(await self._snapshot())
                await self._follow(channel)
            except (EtcdError, _Broken, grpc.aio.AioRpcError) as error:
                log.info("watch is opened again", prefix=self._prefix, problem=str(error))
            except asyncio.CancelledError:
                if self._closed or _asked_to_end():
                    raise
                log.warning("watch was cancelled from below", prefix=self._prefix)
            except Exception:
                log.exception("watch failed", prefix=self._prefix)
            self._etcd.move_on(channel)
            await asyncio.sleep(RETRY_S)

    async def _identify(self) -> None:
        """Sees, in one linearizable read, whether the store is the one watched so far."""
        store, revision = await self._etcd.identity()
        another = self._store is not None and self._store[0] is not None and self._store[0] != store
        if self._told is not None and (another or revision < self._told):
            self._told, self._replaced = None, True
        self._store = (store,)

    async def _snapshot(self) -> Batch:
        read = await self._etcd.get_prefix(self._prefix)
        self._told, replaced, self._replaced = read.revision, self._replaced, False
        self._heard = self._etcd.heard_at = time.monotonic()
        return Batch(read.revision, snapshot=read.items, replaced=replaced)

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        """Tells changes from the next revision on, until something is wrong."""
        told = self._told or 0
        create = pb.WatchCreateRequest(
            key=self._prefix.encode(),
            range_end=range_end(self._prefix),
            start_revision=told + 1,
            fragment=True,
        )
        call = rpc.WatchStub(channel).Watch(metadata=_HAS_LEADER)
        try:
            await _write(call, pb.WatchRequest(create_request=create))
            events: list[kv_pb2.Event] = []
            while True:
                answer = await self._read(call)
                if answer.compact_revision:
                    self._told = None
                if answer.canceled or (answer.created and answer.header.revision < told):
                    # compacted or refused; or the member lags, or is of another store: see which
                    raise _Broken(answer.cancel_reason)
                events.extend(answer.events)
                if events and not answer.fragment:
                    self._told = max(event.kv.mod_revision for event in events)
                    changes = tuple(_change(event) for event in events)
                    await self._batches.put(Batch(self._told, changes=changes))
                    events = []
        finally:
            call.cancel()

    async def _read(self, call: _Call) -> pb.WatchResponse:
        """The next answer; asks for a sign of life meanwhile. Raises _Broken without any.

        What is alive on the same connection speaks for this stream too, so that a process with many watches probes
        no more than one with one."""
        reading = asyncio.ensure_future(call.read())
        asked_at: float | None = None
        began = time.monotonic()
        try:
            while not (await asyncio.wait([reading], timeout=PROBE_S))[0]:
                now = time.monotonic()
                alone = now - began > OWN_PROBE_S
                if asked_at is None and (alone or now - self._etcd.heard_at > PROBE_S):
                    asked_at = now
                    await _write(call, pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
                elif asked_at is not None and now - asked_at > DEAD_S - PROBE_S:
                    raise _Broken("no sign of life")
            answer = reading.result()
        finally:
            reading.cancel()
        if not isinstance(answer, pb.WatchResponse):
            raise _Broken("stream ended")
        self._heard = self._etcd.heard_at = time.monotonic()
        return answer


async def _write(call: _Call, request: pb.WatchRequest) -> None:
    try:
        async with asyncio.timeout(PROBE_S):
            await call.write(request)
    except (TimeoutError, asyncio.InvalidStateError) as error:
        raise _Broken("cannot write") from error


def _change(event: kv_pb2.Event) -> Change:
    deleted = event.type == kv_pb2.Event.DELETE
    return Change(event.kv.key.decode(), None if deleted else key_value(event.kv), event.kv.mod_revision)


def _asked_to_end() -> bool:
    """Whether somebody cancelled this task, as opposed to the call inside it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
