"""The slots of this node: load, fold, write, tell agents; and remove what is over.

Order of one batch: fold, append the agents' events to their log, then one fenced write of the changed threads and
the cursor. A crash in between folds the same events again, and the agents' log gets the same entries under the same
ids, which Agent State ignores: every event counts once in either place (docs/decisions/0052).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import redis.asyncio
from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.errors import DomainError
from mesh.gate import Gate
from mesh.identifiers import thread_slot
from mesh.log import LogFull, RequestLog
from mesh.rq import THREAD, Rq, SlotEvents, SlotReader, StreamExpired
from mesh.slots import NotOwner, ReleaseReason, SlotKey
from mesh.store import StaleEpoch, StoreUnavailable
from mesh.telemetry import Metrics, ladder, logger
from services.call_state.events import told
from services.call_state.machine import Call, Outcome, Thread, Told
from services.call_state.policy import agent_subject
from services.call_state.settings import CallStateSettings
from services.call_state.store import Store

RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 1.0
CLOSED_AT_ONCE: Final = 64
"""Streams of threads that are over closed at once."""


@dataclass(slots=True, eq=False)
class SlotState:
    """What this node has of a slot it owns."""

    slot: int
    epoch: int
    threads: dict[str, Thread]
    cursor: str


@dataclass(slots=True)
class _Work:
    """What one batch did to a slot."""

    state: SlotState
    changed: dict[str, Thread] = field(default_factory=dict)
    fresh: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    inputs: list[AgentInput] = field(default_factory=list)


class CallStateApp:
    """Call threads of the slots that this node owns."""

    def __init__(
        self,
        store: Store,
        rq: Rq,
        log: RequestLog,
        gate: Gate,
        settings: CallStateSettings,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._gate = gate
        self._rq = rq
        self._agents = log
        self._settings = settings
        self._log = logger("call_state")
        self._slots: dict[int, SlotState] = {}
        self._reader: SlotReader = rq.read_slots(THREAD)
        self._folding = asyncio.Lock()
        self._events = metrics.counter("events_total", "Events read, by what they did", ["outcome"])
        self._age = metrics.histogram("event_age_seconds", "From an event's time to its fenced write")
        self._to_agents = metrics.counter("agent_events_total", "Events appended to the agents' log")
        self._lost = metrics.counter("events_missing_total", "Events that could not be had any more")
        self._removed = metrics.counter("threads_removed_total", "Threads removed", ["why"])
        metrics.gauge("threads", "Threads of this node's slots").set_function(
            lambda: float(sum(len(state.threads) for state in self._slots.values()))
        )
        metrics.queue("events", lambda: self._reader.held, "Events read and not folded yet")

    # -- slots -------------------------------------------------------------------------------------------------

    async def acquire(self, slot: SlotKey, epoch: int) -> None:
        """The slot is ours: its threads as they are stored, and events from the cursor on."""
        number = int(slot)
        threads, cursor = await self._store.load(number, epoch)
        self._slots[number] = SlotState(number, epoch, threads, cursor)
        self._reader.add(number, cursor)

    async def release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        """The slot is not ours any more. Nothing is to be written: the heir goes on from the stored cursor."""
        self._reader.remove(int(slot))
        self._slots.pop(int(slot), None)

    def slot(self, slot: int) -> SlotState:
        """A slot's state. Raises NotOwner."""
        state = self._slots.get(slot)
        if state is None:
            raise NotOwner("thread", slot)
        return state

    def threads(self) -> Iterable[Thread]:
        """Threads of all slots of this node."""
        return (thread for state in self._slots.values() for thread in state.threads.values())

    # -- events ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Folds events until cancelled."""
        async for first in self._reader:
            async with self._folding:
                await self._process([first, *self._reader.take()])

    async def _process(self, batches: Sequence[SlotEvents]) -> None:
        works: dict[int, _Work] = {}
        for batch in batches:
            state = self._slots.get(batch.slot)
            if state is None:
                continue
            work = works.setdefault(batch.slot, _Work(state))
            for envelope in batch.events:
                if (
                    envelope.WhichOneof("body") != "interaction"
                ):  # a digital interaction's stream is no call thread
                    await self._fold(work, envelope)
            state.cursor = batch.cursor
        await asyncio.gather(*(self._settle(work) for work in works.values()))

    async def _fold(self, work: _Work, envelope: EventEnvelope) -> None:
        outcome = self._fold_one(work, envelope)
        if outcome is not Outcome.GAP:
            return
        thread = work.state.threads[envelope.stream_key]
        for missing in await self._fetch(thread, envelope.seq):
            self._fold_one(work, missing)
        self._skip(thread, envelope.seq)
        self._fold_one(work, envelope)

    def _fold_one(self, work: _Work, envelope: EventEnvelope) -> Outcome:
        key = envelope.stream_key
        thread = work.state.threads.get(key)
        if thread is None:
            thread = work.state.threads[key] = Thread(key, envelope.tenant)
        event = told(envelope)
        calls = len(thread.calls)
        outcome = thread.fold(event)
        self._events.labels(outcome.value).inc()
        if outcome is Outcome.FOLDED:
            work.changed[key] = thread
            work.fresh[key] += thread.calls[calls:]
            self._for_agents(work, event, envelope)
            self._age.observe(max(0.0, time.time() - envelope.time_us / 1e6))
        return outcome

    def _for_agents(self, work: _Work, event: Told, envelope: EventEnvelope) -> None:
        subject = agent_subject(event)
        if subject is not None and event.kind is not None:
            ladder("event", event.kind.name, to=subject, call_thread_id=envelope.call_thread_id)
            work.inputs.append(
                AgentInput(
                    input_id=envelope.event_id,
                    tenant=envelope.tenant,
                    subject=subject,
                    time_us=envelope.time_us,
                    traceparent=envelope.traceparent,
                    call_event=envelope,
                )
            )

    async def _fetch(self, thread: Thread, until: int) -> list[EventEnvelope]:
        """Events of a thread after its last one and before `until`, as far as they are kept."""
        self._log.warning(
            "events are read again", thread=thread.call_thread_id, after=thread.last_seq, until=until
        )
        for from_seq in (thread.last_seq + 1, 0):
            reader = self._rq.read_stream(THREAD, thread.call_thread_id, from_seq, once=True)
            try:
                found = [event async for page in reader for event in page if event.seq < until]
            except StreamExpired:
                continue  # then from the oldest that is kept
            finally:
                await reader.close()
            if found:
                self._skip(thread, found[0].seq)
            return found
        return []

    def _skip(self, thread: Thread, until: int) -> None:
        after = thread.last_seq
        lost = thread.skip(until)
        if lost:
            self._log.error("events are missing", thread=thread.call_thread_id, after=after, until=until)
            self._lost.inc(lost)

    async def _settle(self, work: _Work) -> None:
        """Tells agents, then writes; until both are done or the slot is lost."""
        pause = RETRY_S
        while self._slots.get(work.state.slot) is work.state:
            try:
                await self._tell_agents(work)
                state = work.state
                await self._store.write(state.slot, state.epoch, work.changed.values(), state.cursor)
                await self._index(work.fresh)
            except StaleEpoch:
                await self._give_up(work.state)
            except (StoreUnavailable, LogFull, redis.RedisError, OSError) as error:
                self._log.warning("not written yet", slot=work.state.slot, error=repr(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_LAST_S)
            else:
                return

    async def may(self, state: SlotState) -> bool:
        """Whether something may leave for a slot: it is ours, and the lease is good or a fenced write has just told so.
        Raises StoreUnavailable when both are gone."""
        return self._slots.get(state.slot) is state and await self._gate.passes(state.slot, state.epoch)

    async def may_tell(self, thread: Thread) -> bool:
        """Whether this node may tell events of a thread now."""
        state = self._slots.get(thread_slot(thread.call_thread_id))
        try:
            return state is not None and await self.may(state)
        except StoreUnavailable:
            return False

    async def _tell_agents(self, work: _Work) -> None:
        if not work.inputs:
            return
        if not await self.may(work.state):
            await self._give_up(work.state)
            return
        inputs = work.inputs
        waits = [self._agents.append(entry.tenant, entry.subject, entry) for entry in inputs]
        for result in await asyncio.gather(*waits, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        self._to_agents.inc(len(inputs))
        work.inputs = []

    async def _index(self, fresh: Mapping[str, Sequence[Call]]) -> None:
        calls = {thread: found for thread, found in fresh.items() if found}
        if calls:
            await self._store.index(calls)

    async def rewrite(self) -> None:
        """Redis has come back, or another primary answers: fences and threads are written again (design §6)."""
        async with self._folding:  # a cursor is not written before agents were told of what is behind it
            await asyncio.gather(*(self._rewrite(state) for state in list(self._slots.values())))
        self._log.info("threads written again", slots=len(self._slots))

    async def _rewrite(self, state: SlotState) -> None:
        try:
            await self._store.rewrite(state.slot, state.epoch, state.threads.values(), state.cursor)
        except StaleEpoch:
            await self._give_up(state)

    async def _give_up(self, state: SlotState) -> None:
        """Another node has raised the fence: the slot is its."""
        self._log.info("slot was taken over", slot=state.slot, epoch=state.epoch)
        if self._slots.get(state.slot) is state:
            self._reader.remove(state.slot)
            del self._slots[state.slot]

    # -- what is over ------------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Removes threads that are over, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_s)
            now_us = time.time_ns() // 1000
            for state in list(self._slots.values()):
                await self._sweep_slot(state, now_us)

    async def _sweep_slot(self, state: SlotState, now_us: int) -> None:
        over = {key: why for key, t in state.threads.items() if (why := self._over(t, now_us))}
        if not over or not await self._may_sweep(state):
            return
        for batch in _batches(list(over), CLOSED_AT_ONCE):
            done = await asyncio.gather(*(self._close(key) for key in batch))
            closed = [key for key, ok in zip(batch, done, strict=True) if ok]
            if closed:
                async with (
                    self._folding
                ):  # an event of a thread that is being removed comes before or after, not between
                    await self._remove(state, {key: over[key] for key in closed}, now_us)

    async def _may_sweep(self, state: SlotState) -> bool:
        try:
            return await self.may(state)
        except StoreUnavailable:
            return False

    async def _close(self, key: str) -> bool:
        try:
            await self._rq.close_stream(THREAD, key)
        except DomainError as error:
            self._log.info("stream not closed yet", thread=key, error=error.message)
            return False
        return True

    async def _remove(self, state: SlotState, closed: Mapping[str, str], now_us: int) -> None:
        gone = [thread for key in closed if (thread := state.threads.get(key)) and self._over(thread, now_us)]
        if not gone or self._slots.get(state.slot) is not state:
            return
        try:
            await self._store.remove(state.slot, state.epoch, gone)
        except StaleEpoch:
            await self._give_up(state)
        except (StoreUnavailable, redis.RedisError, OSError) as error:
            self._log.warning("threads not removed yet", slot=state.slot, error=repr(error))
        else:
            for thread in gone:
                state.threads.pop(thread.call_thread_id, None)
                self._removed.labels(closed[thread.call_thread_id]).inc()

    def _over(self, thread: Thread, now_us: int) -> str:
        if thread.ended_us:
            return "ended" if now_us - thread.ended_us >= self._settings.ended_s * 1_000_000 else ""
        return "orphan" if now_us - thread.updated_us >= self._settings.orphan_s * 1_000_000 else ""


def _batches(keys: Sequence[str], size: int) -> list[Sequence[str]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
