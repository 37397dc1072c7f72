"""Following slots: what the owner of slots reads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from voice.redis_queue.v1.queue_service_pb2 import SlotBatch, StreamFamily
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.rq.metrics import ClientMetrics
from mesh.rq.nodes import Nodes
from mesh.rq.slot_link import SlotLink
from mesh.telemetry import logger

STREAMS = 256
"""Streams of a slot whose last event a reader remembers."""


@dataclass(frozen=True, slots=True)
class SlotEvents:
    """A batch of one slot."""

    slot: int
    events: Sequence[EventEnvelope]
    """In the order of the slot; may be empty when `caught_up` or when only the cursor moved."""
    cursor: str
    """Go on after this batch with this cursor: keep it in the same fenced write as what the batch changed."""
    caught_up: bool = False
    """True once per `add`: what was there has been delivered."""
    expired: bool = False
    """True when events between the cursor asked for and this batch are no longer kept."""


@dataclass(slots=True)
class _Slot:
    ticket: int
    received: str
    """Where a new call goes on."""
    delivered: str
    link: SlotLink | None = None
    caught_up: bool = False
    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Stream -> seq and epoch of the last event given, of the streams that had events lately."""

    def fresh(self, events: Sequence[EventEnvelope]) -> Sequence[EventEnvelope]:
        """The events without those that were given before: what was lost with a Redis primary, and sent again, is in the slot
        behind them. What a new owner tells (a higher epoch) is left to the consumer."""
        found = []
        for event in events:
            seq, epoch = self.last.pop(event.stream_key, (0, 0))
            if event.seq > seq or event.epoch > epoch:
                found.append(event)
                seq, epoch = event.seq, event.epoch
            self.last[event.stream_key] = seq, epoch
        while len(self.last) > STREAMS:
            del self.last[next(iter(self.last))]
        return found


class SlotReader:
    """An asynchronous iterator of SlotEvents over a changing set of slots. Not to be made directly:
    `Rq.read_slots`."""

    def __init__(
        self,
        nodes: Nodes,
        family: StreamFamily.ValueType,
        tenant: str,
        limit: int,
        metrics: ClientMetrics,
        gone: Callable[[SlotReader], None],
    ) -> None:
        self.family = family
        self.tenant = tenant
        self._nodes = nodes
        self._limit = limit
        self._metrics = metrics
        self._gone = gone
        self._log = logger("slot_reader")
        self._slots: dict[int, _Slot] = {}
        self._links: dict[str, SlotLink] = {}
        self._tickets = 0
        self._ready: deque[tuple[_Slot, SlotEvents]] = deque()
        self._held = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closed = False
        nodes.listen(self._reroute)

    def add(self, slot: int, cursor: str) -> None:
        """Follows a slot from a cursor on: one of a batch, "0" for the oldest kept, "" for from now on. For a
        slot that is followed already: goes on from there instead."""
        self._tickets += 1
        before = self._slots.get(slot)
        state = self._slots[slot] = _Slot(self._tickets, cursor, cursor)
        if before is not None and before.link is not None:
            state.link = before.link
            before.link.add(slot)
        else:
            self._assign(slot, state)

    def remove(self, slot: int) -> None:
        """Follows the slot no longer; no batch of it is delivered from now on."""
        state = self._slots.pop(slot, None)
        if state is not None and state.link is not None:
            state.link.remove(slot)

    def cursors(self) -> Mapping[int, str]:
        """Slot -> cursor after what was delivered."""
        return {slot: state.delivered for slot, state in self._slots.items()}

    @property
    def held(self) -> int:
        """Events that wait for the consumer."""
        return self._held

    def __aiter__(self) -> SlotReader:
        return self

    async def __anext__(self) -> SlotEvents:
        """The next batch; waits for one. Ends after `close`."""
        while True:
            batch = self._pop()
            if batch is not None:
                return batch
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    def take(self) -> list[SlotEvents]:
        """All batches that are there now, without waiting: for writing several slots in one turn."""
        batches = []
        while (batch := self._pop()) is not None:
            batches.append(batch)
        return batches

    async def close(self) -> None:
        """Ends the reader."""
        if self._closed:
            return
        self._closed = True
        self._gone(self)
        self._nodes.unlisten(self._reroute)
        self._slots.clear()
        self._ready.clear()
        self._news.set()
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def _pop(self) -> SlotEvents | None:
        while self._ready:
            state, batch = self._ready.popleft()
            self._held -= len(batch.events)
            if self._held < self._limit:
                self._room.set()
            if self._slots.get(batch.slot) is state:  # neither removed nor added afresh since
                state.delivered = batch.cursor
                return batch
        return None

    # -- what links call ---------------------------------------------------------------------------------------

    def wanted(self, link: SlotLink) -> dict[int, tuple[str, int]]:
        """Slot -> (cursor, ticket) of the slots that a link follows."""
        return {s: (state.received, state.ticket) for s, state in self._slots.items() if state.link is link}

    async def receive(self, link: SlotLink, batch: SlotBatch) -> None:
        """A batch from a node; waits while the consumer has enough."""
        while self._held >= self._limit:
            self._room.clear()
            await self._room.wait()
        state = self._slots.get(batch.slot)
        if state is None or state.link is not link or state.ticket != batch.ticket:
            return  # asked for before the slot was removed, moved or given a new cursor
        state.received = batch.cursor
        if batch.expired:
            self._metrics.expired.inc()
            self._log.error("events are no longer kept", slot=batch.slot, cursor=batch.cursor)
        first_end = batch.caught_up and not state.caught_up
        state.caught_up |= batch.caught_up
        fresh = state.fresh(batch.events)
        if len(fresh) < len(batch.events):
            self._metrics.repeats.inc(len(batch.events) - len(fresh))
        self._held += len(fresh)
        events = SlotEvents(batch.slot, fresh, batch.cursor, first_end, batch.expired)
        self._ready.append((state, events))
        self._news.set()

    def failed(self, link: SlotLink) -> None:
        """The link lost its node: others take over if they can."""
        self._metrics.failures.inc()
        self._nodes.suspect(link.incarnation)

    # -- inside ------------------------------------------------------------------------------------------------

    def _reroute(self) -> None:
        for slot, state in self._slots.items():
            self._assign(slot, state)
        for incarnation, link in list(self._links.items()):
            if not self._nodes.alive(incarnation):
                del self._links[incarnation]
                link.abandon()
                for slot, state in self._slots.items():
                    if state.link is link:
                        state.link = None
                        self._assign(slot, state)

    def _assign(self, slot: int, state: _Slot) -> None:
        record = self._nodes.first(self.family, slot)
        if record is None:
            return  # kept until a node comes
        link = self._links.get(record.incarnation)
        if link is None:
            link = self._links[record.incarnation] = SlotLink(self, self._nodes, record)
        if state.link is link:
            return
        if state.link is not None:
            state.link.remove(slot)
        self._tickets += 1
        state.link, state.ticket = link, self._tickets
        link.add(slot)
