"""A client's subscription: the slots of its tenant from its cursor on, filtered, with the cursor to resume from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse

from mesh.errors import DomainError, Reason, invalid
from mesh.rq import AGENT, THREAD, Rq, SlotEvents, SlotReader
from services.front_end.cursor import MAX_SLOTS, Cursor, CursorError, Family, Place, Positions, decode
from services.front_end.order import Batch, Order, Told
from services.front_end.subscription import Filter, for_client

_FAMILIES: Final = {Family.THREAD: THREAD, Family.AGENT: AGENT}
HELD_BATCHES: Final = 64
"""Batches read ahead of a client; beyond that the queue nodes are made to wait."""

Read = tuple[Family, SlotEvents]


def positions(cursor: str) -> dict[Place, str]:
    """Where each slot is read from. Raises INVALID_ATTRIBUTE for a text that is no cursor."""
    start = "0" if cursor == "0" else ""
    at: dict[Place, str] = {(family, slot): start for family in Family for slot in range(MAX_SLOTS)}
    if cursor not in ("", "0"):
        try:
            at.update(decode(cursor))
        except CursorError as error:
            raise invalid(("cursor", str(error))) from error
    return at


async def follow(rq: Rq, request: SubscribeRequest, client: str) -> AsyncIterator[SubscribeResponse]:
    """The messages of a subscription. The first only tells the cursor, when every slot is being followed."""
    at = positions(request.cursor)
    telling = _Telling(at, Filter.of(request), client)
    readers = {family: rq.read_slots(_FAMILIES[family], tenant=request.tenant) for family in Family}
    for (family, slot), position in at.items():
        readers[family].add(slot, position)
    async with aclosing(_merged(readers, telling.order.due_us)) as batches:
        if request.cursor == "":
            yield await _begin(batches, telling, at)
        else:
            yield SubscribeResponse(cursor=request.cursor)
        async for read in batches:
            response = telling.response(read)
            if response is not None:
                yield response


class _Telling:
    """What a client has been told."""

    def __init__(self, at: dict[Place, str], wanted: Filter, client: str) -> None:
        self.cursor = Cursor(at)
        self.order = Order()
        self._wanted = wanted
        self._client = client

    def response(self, read: Read | None) -> SubscribeResponse | None:
        """The message that follows from a batch, or from time having passed (None)."""
        events = self.events(read)
        return SubscribeResponse(events=events, cursor=self.cursor.text()) if events else None

    def events(self, read: Read | None) -> list[EventEnvelope]:
        """What the client gets of it; the positions move on."""
        told = self._told(read)
        self.cursor.move(told.positions)
        return [for_client(e, self._client) for e in told.events if self._wanted.passes(e)]

    def _told(self, read: Read | None) -> Told:
        now_us = time.time_ns() // 1000
        if read is None:
            return self.order.tick(now_us)
        family, batch = read
        if batch.expired:
            text = "events after this cursor are no longer kept; subscribe afresh and read the present state"
            raise DomainError(Reason.REASON_CURSOR_EXPIRED, text)
        return self.order.take(Batch((family, batch.slot), batch.events, batch.cursor), now_us)


async def _begin(batches: AsyncIterator[Read | None], telling: _Telling, at: Positions) -> SubscribeResponse:
    """The first message of a subscription from now on: sent when each slot is followed, with what came meanwhile."""
    missing, first = set(at), SubscribeResponse()
    async for read in batches:
        first.events.extend(telling.events(read))
        if read is not None and read[1].caught_up:
            missing.discard((read[0], read[1].slot))
        if not missing and telling.cursor.whole:  # a slot that is held back has no position yet
            break
    first.cursor = telling.cursor.text()
    return first


async def _merged(
    readers: dict[Family, SlotReader], due_us: Callable[[], int | None]
) -> AsyncGenerator[Read | None, None]:
    """The batches of several readers as they come, at most HELD_BATCHES ahead of the consumer; None when it is
    `due_us`, UTC microseconds."""
    queue: asyncio.Queue[Read] = asyncio.Queue(HELD_BATCHES)

    async def pump(family: Family, reader: SlotReader) -> None:
        async for batch in reader:
            await queue.put((family, batch))

    pumps = [asyncio.create_task(pump(family, reader)) for family, reader in readers.items()]
    item: asyncio.Task[Read] | None = None
    try:
        while True:
            item = item or asyncio.create_task(queue.get())
            done, _ = await asyncio.wait(
                {item, *pumps}, timeout=_seconds(due_us()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                yield None
                continue
            if item in done:
                read, item = item.result(), None
                yield read
                continue
            for pump_task in done:
                pump_task.result()  # raises what ended the reader
            return
    finally:
        tasks: list[asyncio.Task[Any]] = [*pumps, *([item] if item is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reader in readers.values():
            await reader.close()


def _seconds(until_us: int | None) -> float | None:
    return None if until_us is None else max(0.0, until_us / 1e6 - time.time())
