"""A client's subscription: the slots of its tenant from its cursor on, filtered, with the cursor to resume from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from voice.tlib.v1.envelope_pb2 import EventEnvelope
from voice.tlib.v1.event_service_pb2 import SubscribeRequest, SubscribeResponse

from mesh.errors import DomainError, Reason, invalid
from mesh.rq import AGENT, THREAD, Rq, SlotEvents, SlotReader
from services.front_end.cursor import MAX_SLOTS, CursorError, Family, Place, decode, encode
from services.front_end.subscription import Filter, for_client

_FAMILIES = {Family.THREAD: THREAD, Family.AGENT: AGENT}
HELD_BATCHES = 64
"""Batches read ahead of a client; beyond that the queue nodes are made to wait."""

Batch = tuple[Family, SlotEvents]


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
    wanted = Filter.of(request)
    readers = {family: rq.read_slots(_FAMILIES[family], tenant=request.tenant) for family in Family}
    for (family, slot), position in at.items():
        readers[family].add(slot, position)
    async with aclosing(_merged(readers)) as batches:
        if request.cursor == "":
            yield await _begin(batches, at, wanted, client)
        else:
            yield SubscribeResponse(cursor=request.cursor)
        async for batch in batches:
            events = _events(batch, at, wanted, client)
            if events:
                yield SubscribeResponse(events=events, cursor=encode(at))


async def _begin(
    batches: AsyncIterator[Batch], at: dict[Place, str], wanted: Filter, client: str
) -> SubscribeResponse:
    """The first message of a subscription from now on: sent when each slot is followed, with what came meanwhile."""
    missing, first = set(at), SubscribeResponse()
    async for item in batches:
        first.events.extend(_events(item, at, wanted, client))
        if item[1].caught_up:
            missing.discard((item[0], item[1].slot))
        if not missing:
            break
    first.cursor = encode(at)
    return first


def _events(item: Batch, at: dict[Place, str], wanted: Filter, client: str) -> list[EventEnvelope]:
    """What of a batch the client gets; the position moves on with it."""
    family, batch = item
    if batch.expired:
        text = "events after this cursor are no longer kept; subscribe afresh and read the present state"
        raise DomainError(Reason.REASON_CURSOR_EXPIRED, text)
    at[family, batch.slot] = batch.cursor
    return [for_client(envelope, client) for envelope in batch.events if wanted.passes(envelope)]


async def _merged(readers: dict[Family, SlotReader]) -> AsyncGenerator[Batch, None]:
    """The batches of several readers as they come, at most HELD_BATCHES ahead of the consumer."""
    queue: asyncio.Queue[Batch] = asyncio.Queue(HELD_BATCHES)

    async def pump(family: Family, reader: SlotReader) -> None:
        async for batch in reader:
            await queue.put((family, batch))

    pumps = [asyncio.create_task(pump(family, reader)) for family, reader in readers.items()]
    item: asyncio.Task[Batch] | None = None
    try:
        while True:
            item = asyncio.create_task(queue.get())
            done, _ = await asyncio.wait({item, *pumps}, return_when=asyncio.FIRST_COMPLETED)
            if item in done:
                yield item.result()
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
