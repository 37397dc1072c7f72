"""Redis as the services use it: fields and offsets of slots behind a fence, and the line of a process to it.

What is stored is the pickled state: the heir that reads it converts it to the contract's record and back. Where no slot of a
service can move in a schedule nobody reads, and nothing is pickled.

The rules are those of the script in `mesh/fence.py`: an epoch below the fence is refused, so is what an earlier connection of
the same writer sent; a write is carried out whole or not at all, and may be repeated.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mesh.allocation import Slot
from mesh.store import BUDGET_S, READ_S
from tests.simulation.world import SECOND, Process, World

BUDGET = int(BUDGET_S * SECOND)
"""How long a write may take before it counts as not done."""
READ = int(READ_S * SECOND)
"""How long a read, or raising a fence, may take."""
LATE_AFTER = 5 * SECOND
"""How late a request of a broken connection may still arrive."""
Put = tuple[str, str, Any]
"""(hash, field, value); the value None removes the field."""


class Answer(Enum):
    """What became of a write."""

    DONE = "done"
    STALE = "another node has the slot"
    AWAY = "no answer in time"


@dataclass(slots=True)
class SlotData:
    """What Redis has of a slot of a service."""

    fence: int = 0
    lines: dict[str, int] = field(default_factory=dict)
    """Writer -> number of its latest connection."""
    hashes: dict[str, dict[str, Any]] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


class Store:
    """One Redis."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.slots: dict[tuple[str, Slot], SlotData] = {}
        self.silent_until = 0
        """Until when Redis answers nobody; what came meanwhile is carried out then."""
        self.refused = 0
        """Writes that a fence refused."""
        self.on_put: Callable[[str, str, bool], None] = lambda name, key, there: None
        """Called for each field that is written or removed."""

    def data(self, service: str, slot: Slot) -> SlotData:
        """The data of a slot."""
        found = self.slots.get((service, slot))
        if found is None:
            found = self.slots[service, slot] = SlotData()
        return found

    def write(
        self,
        service: str,
        slot: Slot,
        epoch: int,
        writer: str,
        line: int,
        puts: tuple[Put, ...],
        offsets: tuple[tuple[str, int], ...],
    ) -> Answer:
        """The fenced write."""
        data = self.data(service, slot)
        known = data.lines.get(writer, 0)
        if epoch < data.fence and "fence" not in self.world.mutations:
            self.refused += 1
            return Answer.STALE
        if epoch == data.fence and line < known and "line" not in self.world.mutations:
            self.refused += 1
            return Answer.AWAY
        if epoch > data.fence:
            data.lines.clear()
        data.fence = max(epoch, data.fence)
        data.lines[writer] = line
        for name, key, value in puts:
            entries = data.hashes.setdefault(name, {})
            self.on_put(name, key, value is not None)
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        data.offsets.update(offsets)
        return Answer.DONE


class Line:
    """The connection of one process to Redis: requests are carried out in order, or the line breaks."""

    def __init__(self, process: Process, store: Store) -> None:
        self._process = process
        self._world = process.world
        self._store = store
        self._writer = process.incarnation
        self._number = 1
        self._busy_until = 0
        self._answers_at = 0
        self.keeps = True
        """Whether what is written may be read by an heir."""

    def pack(self, state: Any) -> bytes:
        """State as it is stored."""
        return pickle.dumps(state, -1) if self.keeps else b""

    def write(
        self,
        slot: Slot,
        epoch: int,
        puts: tuple[Put, ...],
        done: Callable[[Answer], None],
        offsets: tuple[tuple[str, int], ...] = (),
        *,
        budget: int = BUDGET,
    ) -> None:
        """A fenced write; `done(answer)` follows in this process."""
        self._send(lambda line: self._store.write(
            self._process.service, slot, epoch, self._writer, line, puts, offsets
        ), done, budget)  # fmt: skip

    def prove(self, slot: Slot, epoch: int, done: Callable[[Answer], None]) -> None:
        """Whether the slot is still ours."""
        self.write(slot, epoch, (), done)

    def renew(self, slot: Slot, old: int, new: int, done: Callable[[bool | None], None]) -> None:
        """Raises the fence from `old` to `new`; False when somebody else had the slot in between, None for no answer."""
        found: list[int] = []

        def work(line: int) -> Answer:
            found.append(self._store.data(self._process.service, slot).fence)
            return self._store.write(self._process.service, slot, new, self._writer, line, (), ())

        def answered(answer: Answer) -> None:
            if answer is Answer.AWAY:
                done(None)
            else:
                done(answer is Answer.DONE and (found[-1] <= old or found[-1] == new))

        self._send(work, answered, READ)

    def gate(self, slot: Slot, epoch: int, then: Callable[[bool], None]) -> None:
        """Whether an effect for the slot may leave (mesh.gate): at once while the lease is good, else behind a fenced
        write; while that gets no answer either, it waits."""
        if self._process.lease_good() or "deadline" in self._world.mutations:
            then(True)
            return

        def proved(answer: Answer) -> None:
            if answer is Answer.AWAY:
                self._process.after(SECOND // 20, self.gate, slot, epoch, then)
            else:
                then(answer is Answer.DONE)

        self.prove(slot, epoch, proved)

    def take_over(self, slot: Slot, epoch: int, done: Callable[[SlotData | None], None]) -> None:
        """Raises the fence, then reads; None when that failed."""

        def raised(answer: Answer) -> None:
            if answer is Answer.DONE:
                self._ask(slot, done)
            else:
                done(None)

        if "raise" in self._world.mutations:
            self._ask(slot, done)
        else:
            self.write(slot, epoch, (), raised, budget=READ)

    def _ask(self, slot: Slot, done: Callable[[SlotData | None], None]) -> None:
        world = self._world
        sent = world.now

        def found(data: SlotData) -> None:
            done(data if world.now - sent < READ else None)

        world.after(world.delay(), self._read, self._process.starts, slot, found)

    def _read(self, life: int, slot: Slot, done: Callable[[SlotData], None]) -> None:
        if life != self._process.starts:
            return
        data = self._store.data(self._process.service, slot)
        copy = SlotData(
            data.fence, {}, {name: dict(found) for name, found in data.hashes.items()}, dict(data.offsets)
        )
        self._process.after(self._world.delay(), done, copy)

    def _send(self, work: Callable[[int], Answer], done: Callable[[Answer], None], budget: int) -> None:
        world, process = self._world, self._process
        sent = world.now
        when = max(self._busy_until, sent + world.delay(), self._store.silent_until)
        answered = [False]

        def answer(result: Answer) -> None:
            # A process that stood still finds its time up before the answer that has waited for it (`RedisLine`: the
            # timer fails the write in the turn in which the socket is read): it proves nothing any more.
            if not answered[0]:
                answered[0] = True
                done(result if world.now - sent < budget else Answer.AWAY)

        if world.lost():
            # The connection breaks. What was in it may still be carried out, late, beside what a new one sends.
            if world.chance(0.5):
                line = self._number
                world.after(int(world.rng.random() * LATE_AFTER), self._late, work, line)
            self._number += 1
            process.after(budget, answer, Answer.AWAY)
            return
        if not self.keeps:  # nobody will take over: a request and its answer are one thing that happens
            when += world.delay()
        self._busy_until = when
        if when - world.now > budget // 2:
            process.after(budget, answer, Answer.AWAY)
        world.after(
            when - world.now, self._carry_out, process.starts, work, self._number, answer, sent + budget
        )

    def _late(self, work: Callable[[int], Answer], line: int) -> None:
        work(line)

    def _carry_out(
        self,
        life: int,
        work: Callable[[int], Answer],
        line: int,
        answer: Callable[[Answer], None],
        deadline: int,
    ) -> None:
        # What a process sent before it died or stood still is carried out all the same.
        result = work(line)
        process = self._process
        process.writes += 1
        if process.writes in process.on_write:
            process.on_write.pop(process.writes)()
        if not self.keeps:
            answer(result)
        elif life == self._process.starts:
            now = self._world.now
            self._answers_at = max(self._answers_at, now + self._world.delay())  # answers come in order
            self._process.after(max(0, min(self._answers_at, deadline) - now), answer, result)
