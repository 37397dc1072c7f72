"""One reader of slots: its cursors, and the batches that bring them forward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from voice.redis_queue.v1.queue_service_pb2 import ReadSlotsResponse, SlotCursor, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.telemetry import logger
from services.redis_queue import entry_id
from services.redis_queue.entry_id import ORIGIN, EntryId
from services.redis_queue.follower import Follower
from services.redis_queue.store import Store, first_key, slot_key

BATCH_EVENTS: Final = 256
"""Events of one slot in a batch at most."""
MESSAGE_EVENTS: Final = 512
"""Events in one message at most (a batch that is begun may go a little beyond)."""
GATHER_S: Final = 0.002
"""After a message the next one gathers events for so long, seconds: what comes after a quiet moment leaves at once, and many events
cost few messages."""
BEAT_S: Final = 3.0
"""After so long without a message an empty one is sent, seconds: a reader knows by it that it is being served."""
SILENT_EVENTS: Final = 500
"""After so many events of other tenants the cursor is told, so that it does not grow too old."""

_log = logger("slot_feed")


@dataclass(slots=True)
class _Position:
    """Where a reader is in a slot."""

    cursor: EntryId
    ticket: int
    checked: bool
    """Whether the cursor was compared with what is kept."""
    caught_up: bool = False
    """Whether the present end was told."""
    expired: bool = False
    silent: int = 0


class SlotFeed:
    """Serves one ReadSlots call: `add` and `remove` slots, `next` gives messages."""

    def __init__(self, store: Store, follower: Follower, family: StreamFamily.ValueType, tenant: str) -> None:
        self._store = store
        self._follower = follower
        self._family = family
        self._tenant = tenant
        self._slots: dict[int, _Position] = {}
        self._dirty: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_at = 0.0

    async def add(self, cursors: Sequence[SlotCursor]) -> None:
        """Follows slots from their cursors on. ValueError for a text that is no cursor. Raises RedisError."""
        parsed = {c.slot: entry_id.parse(c.cursor) if c.cursor else None for c in cursors}
        fresh = [slot for slot in parsed if slot not in self._listeners]
        by_key = {slot_key(self._family, slot): slot for slot in fresh}
        await self._follower.open_events(list(by_key), lambda key: self._listener(by_key[key]))
        now = await self._now([slot for slot, position in parsed.items() if position is None])
        for cursor in cursors:
            position = parsed[cursor.slot]
            checked = position is None or cursor.cursor == "0"
            start = now[cursor.slot] if position is None else position
            self._slots[cursor.slot] = _Position(start, cursor.ticket, checked)
            self._mark(cursor.slot)

    async def _now(self, slots: Sequence[int]) -> dict[int, EntryId]:
        """Where slots end at present, asked of Redis at once."""
        keys = [slot_key(self._family, slot) for slot in slots]
        last = await self._store.last_entries(keys) if keys else []
        return {
            slot: max(ident, self._follower.tail(key).position)
            for slot, key, ident in zip(slots, keys, last, strict=True)
        }

    def _listener(self, slot: int) -> Callable[[], None]:
        def listener() -> None:
            self._mark(slot)

        self._listeners[slot] = listener
        return listener

    def _mark(self, slot: int) -> None:
        self._dirty[slot] = None
        self._wake.set()

    def remove(self, slots: Sequence[int]) -> None:
        """Follows slots no longer."""
        for slot in slots:
            self._slots.pop(slot, None)
            self._dirty.pop(slot, None)
            listener = self._listeners.pop(slot, None)
            if listener is not None:
                self._follower.close(slot_key(self._family, slot), listener)

    def close(self) -> None:
        """The reader has gone."""
        self.remove(list(self._listeners))

    @property
    def waiting(self) -> int:
        """Slots that have more for the reader."""
        return len(self._dirty)

    async def next(self) -> ReadSlotsResponse:
        """The next message, waiting until there is something to tell, BEAT_S at most: then it is empty. Raises RedisError."""
        loop = asyncio.get_running_loop()
        beat = loop.time() + BEAT_S
        while True:
            try:
                async with asyncio.timeout_at(beat):
                    await self._wake.wait()
            except TimeoutError:
                return ReadSlotsResponse()
            early = self._next_at - loop.time()
            if early > 0:
                await asyncio.sleep(early)
            response = ReadSlotsResponse()
            events = 0
            while self._dirty and events < MESSAGE_EVENTS:
                slot = next(iter(self._dirty))
                del self._dirty[slot]
                events += await self._batch(slot, response)
            if not self._dirty:
                self._wake.clear()
            if response.batches or loop.time() >= beat:
                if events < MESSAGE_EVENTS:
                    self._next_at = loop.time() + GATHER_S
                return response

    async def _batch(self, slot: int, response: ReadSlotsResponse) -> int:
        """Adds what a slot has for the reader, and tells how many events; marks the slot again when there is more."""
        position = self._slots.get(slot)
        if position is not None and not position.checked:
            await self._check(slot, position)
        if position is None or self._slots.get(slot) is not position:
            return 0  # removed or given another cursor while Redis was read
        entries = await self._entries(slot, position)
        if self._slots.get(slot) is not position:
            return 0
        wanted = [e for e in entries if not self._tenant or e.tenant == self._tenant]
        position.silent += len(entries) - len(wanted)
        at_end = position.cursor >= self._follower.tail(slot_key(self._family, slot)).position
        if not at_end:
            self._mark(slot)
        first_end = at_end and not position.caught_up
        if not (wanted or first_end or position.expired or position.silent >= SILENT_EVENTS):
            return 0
        response.batches.add(
            slot=slot,
            events=wanted,
            cursor=entry_id.show(position.cursor),
            caught_up=first_end,
            ticket=position.ticket,
            expired=position.expired,
        )
        position.silent, position.expired = 0, False
        position.caught_up |= first_end
        return len(wanted)

    async def _check(self, slot: int, position: _Position) -> None:
        first = await self._store.first_kept(self._family, slot)
        if self._slots.get(slot) is not position:
            return  # removed or given another cursor meanwhile
        if position.cursor < first:
            _log.warning(
                "cursor expired",
                key=first_key(self._family, slot),
                cursor=entry_id.show(position.cursor),
                first=entry_id.show(first),
            )
            position.expired, position.cursor = True, ORIGIN
        end = self._follower.tail(slot_key(self._family, slot)).position
        if position.cursor > end:  # what is appended from now on has ids behind it (docs/decisions/0071)
            self._follower.beyond.inc()
            _log.warning("the end of a slot was lost", slot=slot, cursor=entry_id.show(position.cursor))
        position.checked = True

    async def _entries(self, slot: int, position: _Position) -> list[EventEnvelope]:
        """The next events of a slot; moves the cursor."""
        key = slot_key(self._family, slot)
        tail = self._follower.tail(key)
        held = tail.after(position.cursor, BATCH_EVENTS)
        if held is None:
            until = tail.start
            held = []
            found = await self._store.entries(key, position.cursor, until, BATCH_EVENTS)
            for ident, raw in found:
                event = _decode(key, ident, raw)
                if event is not None:
                    held.append((ident, event))
            if len(found) < BATCH_EVENTS:
                position.cursor = until
            elif found:
                position.cursor = found[-1][0]
        elif held:
            position.cursor = held[-1][0]
        return [event for _, event in held]


def _decode(key: str, ident: EntryId, raw: bytes) -> EventEnvelope | None:
    try:
        return EventEnvelope.FromString(raw)
    except DecodeError as error:
        _log.error("unreadable entry", stream=key, entry=entry_id.show(ident), error=repr(error))
        return None
