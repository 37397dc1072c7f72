"""A Call State node: the real fold and policy; order of a batch as in `services/call_state/app.py` (docs/decisions/0052)."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voice.agent_state.v1.agent_pb2 import AgentInput

from mesh.allocation import Slot
from services.call_state.events import told
from services.call_state.machine import Outcome, Thread, Told
from services.call_state.policy import agent_subject
from tests.simulation.events import THREAD, Entry, Reader
from tests.simulation.slots import Slots
from tests.simulation.store import Answer, Line, SlotData
from tests.simulation.world import SECOND, Process

if TYPE_CHECKING:
    from tests.simulation.platform import Platform


class SlotState:
    """What this node has of a slot it owns."""

    def __init__(self, slot: int, epoch: int, threads: dict[str, Thread], cursor: int) -> None:
        self.slot = slot
        self.epoch = epoch
        self.threads = threads
        self.cursor = cursor
        self.reader: Reader | None = None
        self.waiting: list[tuple[Sequence[Entry], int]] = []
        self.busy = False


class CallStateNode:
    """One node."""

    def __init__(self, platform: Platform, process: Process) -> None:
        self.platform = platform
        self.process = process
        self.world = platform.world
        self.line = Line(process, platform.store)
        self.line.keeps = platform.schedule.moves(process.service)
        self.states: dict[Slot, SlotState] = {}
        self.slots = Slots(process, platform.etcd, platform.keys("call_state"), self._acquire, self._release)

    def _acquire(self, slot: Slot, epoch: int, done: Callable[[bool], None]) -> None:
        def taken(data: SlotData | None) -> None:
            if data is None:
                done(False)
                return
            self.platform.watch.acts("call_state", slot, epoch)
            number = int(slot)
            threads = {key: pickle.loads(raw) for key, raw in data.hashes.get("threads", {}).items()}
            state = self.states[slot] = SlotState(number, epoch, threads, data.offsets.get("rq", 0))
            state.reader = self.platform.streams.journal(THREAD, number).follow(
                self.process, state.cursor, lambda entries, cursor: self._batch(state, entries, cursor)
            )
            done(True)

        self.line.take_over(slot, epoch, taken)

    def _release(self, slot: Slot, epoch: int, lost: bool, done: Callable[[], None]) -> None:
        self._give_up(slot)
        done()

    def _give_up(self, slot: Slot) -> None:
        state = self.states.pop(slot, None)
        if state is not None and state.reader is not None:
            state.reader.close()

    def _batch(self, state: SlotState, entries: Sequence[Entry], cursor: int) -> None:
        state.waiting.append((entries, cursor))
        if not state.busy:
            self._next(state)

    def _next(self, state: SlotState) -> None:
        if not state.waiting or self.states.get(state.slot) is not state:
            state.busy = False
            return
        state.busy = True
        entries, cursor = state.waiting.pop(0)
        changed: dict[str, Thread] = {}
        agents: list[AgentInput] = []
        for entry in entries:
            self._fold(state, entry, changed, agents)
        state.cursor = cursor
        if agents and "order" not in self.world.mutations:
            self.platform.log.append(self.process, agents, lambda: self._write(state, changed))
            return
        self._write(state, changed)

    def _fold(
        self, state: SlotState, entry: Entry, changed: dict[str, Thread], agents: list[AgentInput]
    ) -> None:
        if self._fold_one(state, entry, changed, agents) is not Outcome.GAP:
            return
        thread = state.threads[entry.envelope.stream_key]
        stream = self.platform.streams.by_key[entry.envelope.stream_key]
        for missing in stream.entries[thread.last_seq : entry.envelope.seq - 1]:
            self._fold_one(state, missing, changed, agents)
        lost = thread.skip(entry.envelope.seq)
        if lost:
            self.world.violated(
                "every event counts once", f"{lost} events of {thread.call_thread_id} are missing"
            )
        self._fold_one(state, entry, changed, agents)

    def _fold_one(
        self, state: SlotState, entry: Entry, changed: dict[str, Thread], agents: list[AgentInput]
    ) -> Outcome:
        envelope = entry.envelope
        key = envelope.stream_key
        thread = state.threads.get(key)
        if thread is None:
            thread = state.threads[key] = Thread(key, envelope.tenant)
        event: Told = entry.told or told(envelope)
        entry.told = event
        outcome = thread.fold(event)
        if outcome is Outcome.FOLDED:
            changed[key] = thread
            subject = agent_subject(event)
            if subject is not None:
                agents.append(
                    AgentInput(
                        input_id=envelope.event_id,
                        tenant=envelope.tenant,
                        subject=subject,
                        time_us=envelope.time_us,
                        call_event=envelope,
                    )
                )
        return outcome

    def _write(self, state: SlotState, changed: dict[str, Thread]) -> None:
        if self.states.get(state.slot) is not state:
            state.busy = False
            return
        puts = tuple(("threads", key, self.line.pack(thread)) for key, thread in changed.items())
        offsets = () if "offset" in self.world.mutations else (("rq", state.cursor),)

        def written(answer: Answer) -> None:
            if answer is Answer.STALE:
                if self.states.get(state.slot) is state:
                    self._give_up(state.slot)
            elif answer is Answer.AWAY:
                self.process.after(SECOND // 10, self._write, state, changed)
            else:
                self._next(state)

        self.line.write(state.slot, state.epoch, puts, written, offsets)
