"""An Agent State node: the real applier, machines and records; batches, fenced writes and effects as in `services/agent_state/app.py`."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from voice.agent_state.v1.agent_pb2 import AgentInput
from voice.record.v1.agent_pb2 import AgentEffect

from mesh.allocation import Slot
from services.agent_state.agent import Agent
from services.agent_state.app import HAND_OVER_S
from services.agent_state.apply import Applier
from services.agent_state.configured import NoAnswer
from services.agent_state.effects import Deny, Grant
from services.agent_state.events import Address
from services.agent_state.machine import LoggedIn
from services.agent_state.record import pack, pack_desk, unpack, unpack_desk
from services.agent_state.reservation import Ask, Rules
from services.agent_state.slot_state import SlotState, Unsaved
from tests.simulation.events import AGENT, Publisher, Reader
from tests.simulation.slots import Slots
from tests.simulation.store import Answer, Line, SlotData
from tests.simulation.world import MS, SECOND, Process

if TYPE_CHECKING:
    from tests.simulation.platform import Platform

RETRY = 50 * MS
HAND_OVER = int(HAND_OVER_S * SECOND)
Decide = Callable[[str, "Grant | None"], None]
"""(reason, grant): NOT_OWNER, the reason of a denial, or "" with the grant."""


class Configured:
    """The configuration: every device is there."""

    def registered(self, tenant: str, dn: str, now_us: int) -> bool:
        """See apply.Configured."""
        return True

    def logout_on_unregister(self, tenant: str, agent_id: str, dn: str) -> bool:
        """See apply.Configured."""
        return False

    def no_answer_action(self, tenant: str, agent_id: str, dn: str) -> NoAnswer:
        """See apply.Configured."""
        return NoAnswer.NONE


class Waiter:
    """Stands for the future of a call that waits for a reservation."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._done = False

    def done(self) -> bool:
        """Whether it has been told."""
        return self._done

    def set_result(self, decided: Grant | Deny) -> None:
        """The outcome, written."""
        self._done = True
        if isinstance(decided, Grant):
            self._decide("", decided)
        else:
            self._decide(decided.reason, None)

    def set_exception(self, error: BaseException) -> None:
        """The slot is somebody else's."""
        self._done = True
        self._decide("REASON_NOT_OWNER", None)


class Held:
    """A slot of this node, with what the shell keeps beside `SlotState`."""

    def __init__(self, state: SlotState) -> None:
        self.state = state
        self.reader: Reader | None = None
        self.cursor = 0
        self.saving = False
        """A write is under way or about to begin: there is one at a time, in a slot that leaves too."""
        self.left: Callable[[], None] | None = None
        """Ends a hand-over; None while the slot is served, and once it is given up."""


class AgentStateNode:
    """One node."""

    def __init__(self, platform: Platform, process: Process) -> None:
        self.platform = platform
        self.process = process
        self.world = platform.world
        self.line = Line(process, platform.store)
        self.line.keeps = platform.schedule.moves(process.service)
        self.publisher = Publisher(process, platform.streams, AGENT)
        self._tokens = 0
        self.rules = Rules(window_us=platform.schedule.window_us)
        self.applier = Applier(self.rules, Configured(), Address("r1", process.incarnation), self._token)
        self.held: dict[Slot, Held] = {}
        self._numbers: defaultdict[int, Iterator[int]] = defaultdict(lambda: count(1))
        self.slots = Slots(process, platform.etcd, platform.keys("agent_state"), self._acquire, self._release)

    def _token(self) -> str:
        self._tokens += 1
        return f"{self.process.incarnation}.{self._tokens}"

    def _numbers_of(self, slot: int) -> Iterator[int]:
        if "numbers" in self.world.mutations:
            return count(1)
        return self._numbers[slot]

    # -- slots ------------------------------------------------------------------------------------------------

    def _acquire(self, slot: Slot, epoch: int, done: Callable[[bool], None]) -> None:
        def taken(data: SlotData | None) -> None:
            if data is None:
                done(False)
                return
            self.platform.watch.acts("agent_state", slot, epoch)
            number = int(slot)
            agents = {
                key: unpack(pack(pickle.loads(raw))) for key, raw in data.hashes.get("agents", {}).items()
            }
            desks = {
                key: unpack_desk(pack_desk(pickle.loads(raw)))
                for key, raw in data.hashes.get("dns", {}).items()
            }
            state = SlotState(number, epoch, agents, desks, "", numbers=self._numbers_of(number))
            held = self.held[slot] = Held(state)
            held.cursor = data.offsets.get("log", 0)
            pending = data.hashes.get("pending", {})
            for _, raw in sorted(pending.items()):
                self._perform(held, AgentEffect.FromString(raw))
            for agent in agents.values():
                self._set_timer(held, agent)
            held.reader = self.platform.log.journal(number).follow(
                self.process, held.cursor, lambda entries, cursor: self._batch(held, entries, cursor)
            )
            done(True)

        self.line.take_over(slot, epoch, taken)

    def _release(self, slot: Slot, epoch: int, lost: bool, done: Callable[[], None]) -> None:
        """What is not written is written before the slot is handed over, behind the write that may be under way; what
        cannot be in time, the heir reads in the log again."""
        held = self.held.get(slot)
        if held is None or lost:
            self._give_up(slot)
            done()
            return

        def left() -> None:
            if held.left is not None:
                held.left = None
                self._gone(held)
                done()

        del self.held[slot]
        self._close(held)
        held.left = left
        self.process.after(HAND_OVER, left)
        if not held.saving:
            held.saving = True
            self._save(held)

    def _give_up(self, slot: Slot) -> None:
        held = self.held.pop(slot, None)
        if held is not None:
            self._close(held)
            self._gone(held)

    def _close(self, held: Held) -> None:
        if held.reader is not None:
            held.reader.close()

    def _gone(self, held: Held) -> None:
        self.publisher.forget(held.state.streams())
        for waiters in held.state.waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(RuntimeError("not the owner"))

    # -- inputs -----------------------------------------------------------------------------------------------

    def _batch(self, held: Held, entries: Sequence[AgentInput], cursor: int) -> None:
        state = held.state
        for entry in entries:
            login = entry.request.agent_login if entry.WhichOneof("body") == "request" else None
            verdict = None
            if login is not None and login.agent_id and entry.subject.startswith("agent:"):
                verdict = LoggedIn(login.dn, session_id=f"{login.agent_id}.{entry.time_us:x}",
                                   wrapup_s=self.platform.schedule.wrapup_s, auto_in=True)  # fmt: skip
            self.applier.entry(state, entry, verdict, self.world.now)
            agent = state.agents.get(f"{entry.tenant}:{entry.subject.removeprefix('agent:')}")
            if agent is not None:
                self._set_timer(held, agent)
        held.cursor = cursor
        state.unsaved.moved = True
        self._wake(held)

    def _set_timer(self, held: Held, agent: Agent) -> None:
        due = agent.due_us
        if due:
            self.process.after(max(0, due - self.world.now), self._due, held, agent, due)

    def _due(self, held: Held, agent: Agent, due: int) -> None:
        if self.held.get(held.state.slot) is held and agent.due_us == due:
            self.applier.tick(held.state, agent, self.world.now)
            self._set_timer(held, agent)
            self._wake(held)

    # -- reservations -----------------------------------------------------------------------------------------

    def reserve(self, tenant: str, agent_id: str, ask: Ask, decide: Decide) -> None:
        """AgentStateService.ReserveAgent."""
        held = self.held.get(self.platform.agent_slot(f"agent:{agent_id}"))
        if held is None:
            decide("REASON_NOT_OWNER", None)
            return
        key = f"{tenant}:{agent_id}"
        agent = held.state.agents.get(key)
        if agent is None:
            decide("REASON_AGENT_NOT_LOGGED_IN", None)
            return
        held.state.waiters[key, ask.request_id].append(Waiter(decide))  # type: ignore[arg-type]
        self.applier.ask(held.state, agent, ask, self.world.now)
        self._set_timer(held, agent)
        self._wake(held)

    def cancel(self, tenant: str, agent_id: str, token: str, done: Callable[[str], None]) -> None:
        """AgentStateService.CancelReservation."""
        held = self.held.get(self.platform.agent_slot(f"agent:{agent_id}"))
        if held is None:
            done("REASON_NOT_OWNER")
            return
        agent = held.state.agents.get(f"{tenant}:{agent_id}")
        if agent is not None and self.applier.cancel(held.state, agent, token):
            self.platform.watch.given_back(agent_id, token)
            held.state.unsaved.then.append(lambda: done(""))
            self._wake(held)
        else:
            done("")

    def agents(self) -> list[Agent]:
        """Agents of all slots of this node."""
        return [agent for held in self.held.values() for agent in held.state.agents.values()]

    # -- writing ----------------------------------------------------------------------------------------------

    def _wake(self, held: Held) -> None:
        if not held.saving:
            held.saving = True
            self.process.after(0, self._save, held)

    def _save(self, held: Held) -> None:
        state = held.state
        served = self.held.get(state.slot) is held
        if not (served or held.left) or not state.unsaved.urgent:
            held.saving = False
            if held.left is not None:
                held.left()
            return
        taken = state.take()

        def written(answer: Answer) -> None:
            if answer is Answer.STALE:
                held.saving = False
                if held.left is not None:
                    held.left()
                elif self.held.get(state.slot) is held:
                    self._give_up(state.slot)
            elif answer is Answer.AWAY:
                state.put_back(taken)
                self.process.after(RETRY, self._save, held)
            else:
                if held.left is not None or self.held.get(state.slot) is held:
                    self._saved(held, taken)
                self._save(held)

        self._write(held, taken, written)

    def _write(self, held: Held, taken: Unsaved, written: Callable[[Answer], None]) -> None:
        state = held.state
        puts: list[tuple[str, str, Any]] = []
        puts += [("agents", key, self.line.pack(agent)) for key, agent in taken.agents.items()]
        puts += [("dns", key, self.line.pack(desk)) for key, desk in taken.desks.items()]
        puts += [("pending", effect.id, effect.SerializeToString()) for effect in taken.effects]
        puts += [("pending", ident, None) for ident in taken.performed]
        if "before" in self.world.mutations:
            for effect in taken.effects:
                self._perform(held, effect)
            for then in taken.then:
                then()
        self.line.write(state.slot, state.epoch, tuple(puts), written, (("log", held.cursor),))

    def _saved(self, held: Held, taken: Unsaved) -> None:
        if "before" in self.world.mutations:
            return
        for follow in taken.then:
            follow()
        for effect in taken.effects:
            self._perform(held, effect)

    # -- effects ----------------------------------------------------------------------------------------------

    def _perform(self, held: Held, effect: AgentEffect) -> None:
        """`perform.py`: each effect once under its id, again until it is done."""
        kind = effect.WhichOneof("effect")
        ident = effect.id

        def done() -> None:
            self._performed(held, ident)

        if kind == "publish":
            effect.publish.epoch = held.state.epoch
            self.publisher.append(effect.publish, lambda stored: done())
        elif kind == "answer":
            outcome = effect.answer.outcome
            self.platform.queues.enqueue(self.process, effect.answer.queue, effect.id, outcome, done)
        elif kind == "forward":
            self.platform.log.append(self.process, [effect.forward], done)
        else:
            self.process.after(self.world.delay(), done)

    def _performed(self, held: Held, ident: str) -> None:
        if self.held.get(held.state.slot) is held:
            held.state.unsaved.performed.append(ident)
