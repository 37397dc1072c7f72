"""Noticing that Redis Queue writes to another Redis than before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import FollowStoreRequest

from mesh.rq.nodes import Nodes, detached
from mesh.rq.route import QUEUE_KIND
from mesh.telemetry import logger

RETRY_S: Final = 0.1


class StoreWatch:
    """One FollowStore call to one node at a time; `changed()` is called when the store is another one than the last known."""

    def __init__(self, nodes: Nodes, changed: Callable[[], None]) -> None:
        self._nodes = nodes
        self._changed = changed
        self._known = ""
        self._record: NodeRecord | None = None
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None
        self._log = logger("store_watch")

    def start(self) -> None:
        """Begins to watch."""
        self._nodes.listen(self._look)
        self._task = detached(self._run(), "store watch")

    async def stop(self) -> None:
        """Watches no longer."""
        if self._task is not None:
            self._nodes.unlisten(self._look)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._record = self._nodes.first(QUEUE_KIND, 0)
            if self._record is not None:
                try:
                    await self._follow(self._record)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                    self._nodes.suspect(self._record.incarnation)
                    self._log.info(
                        "store watch ended", queue_node=self._record.incarnation, error=str(error)[:200]
                    )
            await asyncio.sleep(RETRY_S)

    async def _follow(self, record: NodeRecord) -> None:
        stub, metadata = self._nodes.stub(record)
        self._call = stub.FollowStore(FollowStoreRequest(), metadata=metadata)
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                self._told(response.store)
        finally:
            self._call.cancel()

    def _told(self, store: str) -> None:
        if not store or store == self._known:
            return
        known, self._known = self._known, store
        if known:
            self._log.warning("redis queue writes to another store")
            self._changed()

    def _look(self) -> None:
        """A node that stands still ends no call: it is left when it is no longer among the living."""
        if (
            self._call is not None
            and self._record is not None
            and not self._nodes.alive(self._record.incarnation)
        ):
            self._call.cancel()
