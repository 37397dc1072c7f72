"""The slots of this node: inputs of the log and of calls into the machines, one fenced write, then the effects.

Whatever happens in a slot in one turn of the loop is written together: changed agents and DNs, the effects that follow,
and the cursor in the log. Effects leave when that write has succeeded and stay pending until they are carried out; an heir
finds them and carries them out again under the same ids (design §6, docs/decisions/0051).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from itertools import count
from typing import Final

from voice.agent_state.v1.agent_pb2 import AgentInput

from mesh.errors import DomainError, Reason
from mesh.gate import Gate
from mesh.identifiers import agent_slot
from mesh.log import LogBatch, RequestLog
from mesh.rq.nodes import detached
from mesh.slots import NotOwner, ReleaseReason, SlotKey
from mesh.store import StaleEpoch, StoreUnavailable
from mesh.telemetry import Metrics, ladder, logger
from services.agent_state.agent import Agent
from services.agent_state.apply import Applier, Verdict
from services.agent_state.effects import Deny, Grant
from services.agent_state.logins import Logins
from services.agent_state.perform import Performer
from services.agent_state.record import pack, pack_desk
from services.agent_state.reservation import Ask
from services.agent_state.slot_state import SlotState, Unsaved
from services.agent_state.store import Store
from services.agent_state.timers import Timers

BATCHES: Final = 256
"""Batches of the log being dealt with at once (those that wait for Config)."""
PERFORMED_S: Final = 0.25
"""Effects that were carried out are forgotten with the next write, or after so many seconds."""
TRIM_S: Final = 5.0
RETRY_S: Final = 0.05
RETRY_LAST_S: Final = 1.0
HAND_OVER_S: Final = 2.0
"""How long a slot that leaves waits for its last write, seconds."""


def now_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


class AgentStateApp:
    """Agents and DNs of the slots that this node owns."""

    def __init__(
        self,
        store: Store,
        log: RequestLog,
        applier: Applier,
        performer: Performer,
        logins: Logins,
        gate: Gate,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._gate = gate
        self._inputs = log
        self._applier = applier
        self._performer = performer
        self._logins = logins
        self._log = logger("agent_state")
        self._slots: dict[int, SlotState] = {}
        self._numbers: defaultdict[int, Iterator[int]] = defaultdict(lambda: count(1))
        self._writers: dict[int, asyncio.Task[None]] = {}
        self._reader = log.reader()
        self._room = asyncio.Semaphore(BATCHES)
        self._batches: set[asyncio.Task[None]] = set()
        self.timers = Timers(self._due)
        self._taken = metrics.counter("inputs_total", "Log entries, by whether they were new", ["new"])
        self._failed = metrics.counter("inputs_failed_total", "Log entries that could not be applied")
        self._age = metrics.histogram("input_age_seconds", "From an entry's time to its fenced write")
        metrics.gauge("agents_logged_in", "Agents with a login session").set_function(
            lambda: float(sum(agent.session.logged_in for agent in self.agents()))
        )
        metrics.queue("batches", lambda: len(self._batches), "Batches of the log being dealt with")

    # -- slots -------------------------------------------------------------------------------------------------

    async def acquire(self, slot: SlotKey, epoch: int) -> None:
        """The slot is ours: what is stored, what is pending, and inputs from the cursor on."""
        number = int(slot)
        loaded = await self._store.load(number, epoch)
        state = SlotState(
            number, epoch, loaded.agents, loaded.desks, loaded.cursor, numbers=self._numbers[number]
        )
        self._slots[number] = state
        self._writers[number] = detached(self._write(state), f"write slot {number}")
        self._performer.perform(loaded.pending, epoch, self._may(state), self._performed(state))
        for agent in state.agents.values():
            self.timers.set(number, agent)
        self._reader.add(number, loaded.cursor)

    async def release(self, slot: SlotKey, epoch: int, reason: ReleaseReason) -> None:
        """The slot is not ours any more; what was asked is asked again at the heir."""
        state = self._slots.pop(int(slot), None)
        self._reader.remove(int(slot))
        if state is None:
            return
        writer = self._writers.pop(int(slot))
        if reason is ReleaseReason.HANDED_OVER:
            # Behind the write that may be under way. What cannot be written in time the heir reads in the log again.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HAND_OVER_S):
                    await self._save(state)
        state.gone()
        self._performer.forget(state.streams())  # its owner finds what is pending
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    def slot(self, tenant: str, agent_id: str) -> SlotState:
        """The slot of an agent. Raises NotOwner."""
        number = agent_slot(tenant, f"agent:{agent_id}")
        state = self._slots.get(number)
        if state is None:
            raise NotOwner("agent", number)
        return state

    @property
    def owned(self) -> Collection[int]:
        """The slots that this node serves."""
        return self._slots.keys()

    def agents(self) -> Iterable[Agent]:
        """Agents of all slots of this node."""
        return (agent for state in self._slots.values() for agent in state.agents.values())

    # -- inputs ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Takes inputs from the log until cancelled."""
        async for batch in self._reader:
            state = self._slots.get(batch.slot)
            if state is None:
                continue
            if not state.lock.locked() and not any(_is_login(entry) for entry in batch.inputs):
                self._apply(state, batch, {})
                continue
            await self._room.acquire()
            await state.lock.acquire()
            task = detached(self._with_logins(state, batch), f"batch of slot {batch.slot}")
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    async def _with_logins(self, state: SlotState, batch: LogBatch) -> None:
        """Asks Config about the logins of a batch, all at once, before the batch is applied."""
        try:
            logins = [entry for entry in batch.inputs if _is_login(entry) and self._is_new(state, entry)]
            may = self._may(state)
            found = await asyncio.gather(
                *(self._logins.begin(entry, _session_id(state, entry), may) for entry in logins)
            )
            if self._slots.get(state.slot) is state:
                self._apply(state, batch, {e.input_id: v for e, v in zip(logins, found, strict=True)})
        finally:
            state.lock.release()
            self._room.release()

    def _apply(self, state: SlotState, batch: LogBatch, verdicts: dict[str, Verdict]) -> None:
        now = now_us()
        for entry in batch.inputs:
            key = f"{entry.tenant}:{entry.subject.removeprefix('agent:')}"
            before = state.agents[key].session.phase if key in state.agents else None
            try:
                new = self._applier.entry(state, entry, verdicts.get(entry.input_id), now)
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                # One entry that cannot be applied must not stop the slot for all other agents.
                self._log.error("entry not applied", input_id=entry.input_id, exc_info=error)
                self._failed.inc()
                new = False
            self._taken.labels("yes" if new else "no").inc()
            self._age.observe(max(0.0, (now - entry.time_us) / 1e6))
            agent = state.agents.get(key)
            if agent is not None:
                self.timers.set(state.slot, agent)
                if agent.session.phase is not before:
                    _show(agent, entry.call_event.call_thread_id)
        state.cursor = batch.cursor
        state.unsaved.moved = True
        state.wake.set()

    def _is_new(self, state: SlotState, entry: AgentInput) -> bool:
        agent = state.agents.get(f"{entry.tenant}:{entry.request.agent_login.agent_id}")
        return agent is None or agent.outcomes.get(entry.input_id) is None

    # -- reservations ------------------------------------------------------------------------------------------

    async def reserve(self, tenant: str, agent_id: str, ask: Ask) -> tuple[Grant | Deny, Agent]:
        """The outcome of a reservation request, when its window has closed and it is written. Raises NotOwner."""
        state = self.slot(tenant, agent_id)
        key = f"{tenant}:{agent_id}"
        agent = state.agents.get(key)
        if agent is None:
            raise DomainError(
                Reason.REASON_AGENT_NOT_LOGGED_IN, f"agent {agent_id} is not logged in", agent_id=agent_id
            )
        waiter: asyncio.Future[Grant | Deny] = state.waiter()
        state.waiters[key, ask.request_id].append(waiter)
        self._applier.ask(state, agent, ask, now_us())
        self.timers.set(state.slot, agent)
        state.wake.set()
        return await waiter, agent

    async def cancel(self, tenant: str, agent_id: str, token: str) -> None:
        """Gives a reservation back. Raises NotOwner."""
        state = self.slot(tenant, agent_id)
        agent = state.agents.get(f"{tenant}:{agent_id}")
        if agent is not None and self._applier.cancel(state, agent, token):
            written: asyncio.Future[None] = state.waiter()
            state.unsaved.then.append(lambda: None if written.done() else written.set_result(None))
            state.wake.set()
            await written

    def _due(self, slot: int, tenant: str, agent_id: str) -> None:
        """A timer of an agent has run out."""
        state = self._slots.get(slot)
        agent = state.agents.get(f"{tenant}:{agent_id}") if state else None
        if state is None or agent is None:
            return
        before = agent.session.phase
        self._applier.tick(state, agent, now_us())
        self.timers.set(slot, agent)
        if agent.session.phase is not before:
            _show(agent, "")
        state.wake.set()

    # -- writing -----------------------------------------------------------------------------------------------

    async def _write(self, state: SlotState) -> None:
        """Writes what happens in a slot, turn by turn."""
        while self._slots.get(state.slot) is state:
            await state.wake.wait()
            state.wake.clear()
            if not state.unsaved.urgent:  # only effects that were carried out: they wait for company
                await asyncio.sleep(PERFORMED_S)
            await self._save(state)

    async def _save(self, state: SlotState) -> None:
        """Writes what is unsaved; again and again until it is done or the slot is lost."""
        pause = RETRY_S
        async with state.saving:
            while state.unsaved.urgent or state.unsaved.performed:
                taken = state.take()
                try:
                    await self._store_taken(state, taken)
                except StaleEpoch:
                    self._lost(state)
                    return
                except StoreUnavailable as error:
                    state.put_back(taken)
                    self._log.warning("not written yet", slot=state.slot, error=str(error))
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_LAST_S)
                else:
                    self._saved(state, taken)

    async def _store_taken(self, state: SlotState, taken: Unsaved) -> None:
        cursor = state.cursor
        await self._store.write(
            state.slot,
            state.epoch,
            agents={key: pack(agent) for key, agent in taken.agents.items()},
            desks={key: pack_desk(desk) for key, desk in taken.desks.items()},
            pending={effect.id: effect.SerializeToString() for effect in taken.effects},
            performed=taken.performed,
            cursor=cursor,
        )
        state.saved = cursor

    async def rewrite(self) -> None:
        """Redis has come back, or another primary answers: fences, agents and DNs are written again (design §6)."""
        await asyncio.gather(*(self._rewrite(state) for state in list(self._slots.values())))
        self._log.info("agents written again", slots=len(self._slots))

    async def _rewrite(self, state: SlotState) -> None:
        try:
            await self._store.raise_fence(state.slot, state.epoch)
        except StaleEpoch:
            self._lost(state)
            return
        state.unsaved.agents.update(state.agents)
        state.unsaved.desks.update(state.desks)
        state.unsaved.moved = True
        state.wake.set()

    async def trim(self) -> None:
        """Lets go what of the log is taken and written, until cancelled: a log takes so many entries and no more."""
        while True:
            await asyncio.sleep(TRIM_S)
            for state in list(self._slots.values()):
                if state.saved and state.saved != state.trimmed:
                    await self._inputs.trim(state.slot, state.saved)
                    state.trimmed = state.saved

    def _saved(self, state: SlotState, taken: Unsaved) -> None:
        for follow in taken.then:
            follow()
        self._performer.perform(taken.effects, state.epoch, self._may(state), self._performed(state))

    def _may(self, state: SlotState) -> Callable[[], Awaitable[bool]]:
        """The slot's gate, for what does not follow a write at once: with lease and Redis both gone nothing is known, so
        nothing leaves until one is back."""

        async def may() -> bool:
            while self._slots.get(state.slot) is state:
                try:
                    return await self._gate.passes(state.slot, state.epoch)
                except StoreUnavailable:
                    await asyncio.sleep(RETRY_S)
            return False

        return may

    def _performed(self, state: SlotState) -> Callable[[str], None]:
        def performed(effect_id: str) -> None:
            state.unsaved.performed.append(effect_id)
            state.wake.set()

        return performed

    def _lost(self, state: SlotState) -> None:
        """Another node has raised the fence: the slot is its."""
        self._log.info("slot was taken over", slot=state.slot, epoch=state.epoch)
        if self._slots.get(state.slot) is state:
            del self._slots[state.slot]
            self._reader.remove(state.slot)
            self._performer.forget(state.streams())
        state.gone()


def _show(agent: Agent, call_thread_id: str) -> None:
    """The agent's new state as a step of the call that brought it about."""
    text = f"agent {agent.session.agent_id} {agent.session.phase.name}"
    ladder("state", text, call_thread_id=call_thread_id)


def _is_login(entry: AgentInput) -> bool:
    return (
        entry.WhichOneof("body") == "request"
        and entry.request.WhichOneof("body") == "agent_login"
        and entry.subject.startswith("agent:")
    )


def _session_id(state: SlotState, entry: AgentInput) -> str:
    """The session of a login: of the one that goes on when it is repeated on the same DN, else a new one whose id
    follows from the request."""
    agent = state.agents.get(f"{entry.tenant}:{entry.request.agent_login.agent_id}")
    if agent is not None and agent.session.dn == entry.request.agent_login.dn:
        return agent.session.session_id
    return f"{entry.request.agent_login.agent_id}.{entry.time_us:x}"
