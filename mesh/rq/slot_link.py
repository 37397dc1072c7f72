"""One ReadSlots call to one node, for all slots that are read there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import grpc
from voice.mesh.v1.node_pb2 import NodeRecord
from voice.redis_queue.v1.queue_service_pb2 import ReadSlotsRequest, SlotCursor

from mesh.rq.nodes import Nodes, detached
from mesh.telemetry import logger

if TYPE_CHECKING:
    from mesh.rq.slot_reader import SlotReader

REQUEST_SLOTS: Final = 256
RETRY_FIRST_S: Final = 0.02
RETRY_LAST_S: Final = 1.0
SILENCE_S: Final = 10.0
"""A node that has said that a call is alive (an empty message, every three seconds) and then says nothing for so long serves it no
longer, seconds."""


class SlotLink:
    """Follows the slots that its reader has given to this node; starts again by itself."""

    def __init__(self, reader: SlotReader, nodes: Nodes, record: NodeRecord) -> None:
        self._reader = reader
        self._nodes = nodes
        self._record = record
        self._added: dict[int, None] = {}
        self._removed: dict[int, None] = {}
        self._change = asyncio.Event()
        self._log = logger("slot_link")
        self._task = detached(self._run(), f"read slots at {record.incarnation}")

    @property
    def incarnation(self) -> str:
        """The node."""
        return self._record.incarnation

    def add(self, slot: int) -> None:
        """A slot to follow; told with the others of this turn of the loop."""
        self._removed.pop(slot, None)
        self._added[slot] = None
        self._change.set()

    def remove(self, slot: int) -> None:
        """A slot to follow no longer."""
        self._added.pop(slot, None)
        self._removed[slot] = None
        self._change.set()

    def abandon(self) -> None:
        """Ends without waiting."""
        self._task.cancel()

    async def close(self) -> None:
        """Ends."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            await self._change.wait()
            wanted = self._reader.wanted(self)
            self._added, self._removed = dict.fromkeys(wanted), {}
            if not wanted:
                self._change.clear()
                continue
            started = time.monotonic()
            try:
                await self._talk()
            except (grpc.aio.AioRpcError, EOFError, TimeoutError, asyncio.InvalidStateError) as error:
                text = (
                    f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else error
                )
                self._log.info("read call ended", queue_node=self.incarnation, error=str(text))
            except Exception:  # noqa: BLE001 - a defect must not leave these slots unread for ever
                self._log.exception("read call broke", queue_node=self.incarnation)
            self._reader.failed(self)
            if time.monotonic() - started > RETRY_LAST_S:
                pause = RETRY_FIRST_S
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_S)
            self._change.set()

    async def _talk(self) -> None:
        stub, metadata = self._nodes.stub(self._record)
        call = stub.ReadSlots(metadata=metadata)
        tasks = [asyncio.create_task(self._write(call)), asyncio.create_task(self._read(call))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        while True:
            self._change.clear()
            for request in self._requests():
                await call.write(request)
            await self._change.wait()

    def _requests(self) -> Iterator[ReadSlotsRequest]:
        wanted = self._reader.wanted(self)
        added = [slot for slot in self._added if slot in wanted]
        removed = list(self._removed)
        self._added, self._removed = {}, {}
        for start in range(0, max(len(added), len(removed)), REQUEST_SLOTS):
            some = added[start : start + REQUEST_SLOTS]
            cursors = [SlotCursor(slot=s, cursor=wanted[s][0], ticket=wanted[s][1]) for s in some]
            yield ReadSlotsRequest(
                family=self._reader.family,
                tenant=self._reader.tenant,
                slots=cursors,
                remove=removed[start : start + REQUEST_SLOTS],
            )

    async def _read(self, call: Any) -> None:
        silence: float | None = None  # a node of an older release does not say that a call is alive
        while True:
            async with asyncio.timeout(silence):
                response: Any = await call.read()
            if response is grpc.aio.EOF:
                raise EOFError(f"the node ended the call: {await call.code()}")
            if not response.batches:
                silence = SILENCE_S
            self._nodes.trust(self.incarnation)
            for batch in response.batches:
                await self._reader.receive(self, batch)
