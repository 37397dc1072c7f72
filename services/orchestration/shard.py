"""One slot of call threads: its sessions, one input after the other, one fenced write for all that came together.

Order of work: take every input that is there, let the machines decide, write what changed with the cursor, then perform
the effects. So no effect leaves for a state that was not stored, and each event counts exactly once. Steps of the
interpreter and fetches of applications leave nothing behind: they begin before the write, and changes that led to nothing
else are written together. What
sessions of the slot tell each other (parents and children) is decided within the turn and part of its write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from structlog.typing import FilteringBoundLogger
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.config_objects import Dn
from mesh.config_view import ConfigView
from mesh.rq import SlotEvents
from mesh.store import StoreUnavailable
from mesh.telemetry import ladder
from services.orchestration import digital
from services.orchestration.asleep import Asleep
from services.orchestration.effects import Effect, Inside, Load, Run, Say, Spawn, Timer
from services.orchestration.ending import finish
from services.orchestration.family import child_of, inputs_of
from services.orchestration.inputs import Begin, CallNews, Due, Input, Stepped
from services.orchestration.location import new_key
from services.orchestration.machine import Machine
from services.orchestration.record import from_kv
from services.orchestration.session import Call, Phase, Session
from services.orchestration.store import Change, Store
from services.orchestration.timers import Timers, now_us
from services.orchestration.tracer import Tracer
from services.orchestration.turn import Adopt, Flush, ForSession, Item, Rest, Rewrite, Turn
from services.orchestration.voice import call_of, is_trigger, news_of

__all__ = ["Shard", "now_us"]

FIRST_PAUSE_S = 0.05
"""Pause after a write that Redis did not take, seconds; doubled up to the longest."""
LONGEST_PAUSE_S = 1.0
MAX_WAITING = 20_000
"""Inputs waiting for one slot before its event reader is made to wait."""
SAVE_S = 0.025
"""Longest time that a change which nobody outside can know of is not stored, seconds."""
CURSOR_S = 0.5
"""The same for a cursor that has passed events of no session."""
HARMLESS = (Run, Load, Timer, Say)
"""Effects that may be begun before the state is stored, and again by an heir: they concern nobody outside."""
TURN = 256
"""Inputs decided and written together."""

T = TypeVar("T")


@dataclass
class Shard:
    """The sessions of one slot."""

    slot: int
    epoch: int
    store: Store
    config: ConfigView
    perform: Callable[[Shard, Session, Effect], None]
    busy: Callable[[int, str], bool]
    """Whether effects of a session of the slot are under way."""
    log: FilteringBoundLogger
    started: Callable[[], None]
    """Called for each session that begins."""
    tracer: Tracer
    machines: dict[str, Machine] = field(default_factory=dict)
    _threads: dict[str, list[str]] = field(default_factory=dict)
    _touched: dict[str, int] = field(default_factory=dict)
    _unsaved: Change = field(default_factory=Change)
    _saving: asyncio.TimerHandle | None = None
    _inputs: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _cursor: str = ""

    def __post_init__(self) -> None:
        self.timers = Timers(lambda session_id, effect_id: self.post(session_id, Due(effect_id)))
        self.asleep = Asleep(
            self.slot, self.store, lambda session_id: self.post(session_id, Begin(performed=True))
        )

    async def take_over(self) -> str:
        """Reads what the slot has; gives the cursor to read events from. The sessions go on from their records."""
        sessions, cursor = await self.store.take_over(self.slot, self.epoch)
        await self.asleep.take_over()
        for session in sessions:
            self._adopt(session)
            self.post(session.id, Begin())
        self._cursor = cursor
        return cursor

    def close(self) -> None:
        """Nothing more happens here."""
        self._saved()
        self.timers.close()
        self.asleep.close()

    @property
    def depth(self) -> int:
        """Inputs waiting."""
        return self._inputs.qsize()

    # -- what comes in -----------------------------------------------------------------------------------------

    async def post_events(self, batch: SlotEvents) -> None:
        """Events of the slot; waits while too much is waiting."""
        while self._inputs.qsize() >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()
        self._inputs.put_nowait(batch)

    def post(self, session_id: str, item: Input, stored: Callable[[], None] | None = None) -> None:
        """An input for a session; nothing when the session is not here any more. `stored` is called when what it
        changed is stored."""
        # Outcomes of our own effects are bounded by what is pending: they never wait for room.
        self._inputs.put_nowait(ForSession(session_id, item, stored))

    def start(self, session: Session, stored: Callable[[], None] | None = None) -> None:
        """A session begins that no event asked for, unless it is here already; `stored` is called when it is stored."""
        self._inputs.put_nowait(Adopt(session, stored))

    def rest(self, since_us: int) -> None:
        """Sessions that have rested since then go to sleep."""
        if any(touched <= since_us for touched in self._touched.values()):
            self._inputs.put_nowait(Rest(since_us))

    def rewrite(self) -> None:
        """Redis may have forgotten the last writes."""
        self._inputs.put_nowait(Rewrite())

    async def peek(self, session_id: str) -> Session | None:
        """A session as it is, awake or asleep. Raises StoreUnavailable."""
        machine = self.machines.get(session_id)
        return machine.session if machine else await self.asleep.read(session_id)

    async def sessions(self, limit: int) -> list[Session]:
        """Those awake, and some of those asleep, at most `limit` of these. Raises StoreUnavailable."""
        return [machine.session for machine in self.machines.values()] + await self.asleep.some(limit)

    # -- turns -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            items = [await self._inputs.get()]
            while not self._inputs.empty() and len(items) < TURN:
                items.append(self._inputs.get_nowait())
            self._room.set()
            await self._turn(items)

    async def _turn(self, items: list[Item]) -> None:
        turn = Turn(self._unsaved)
        for item in items:
            match item:
                case ForSession():
                    await self._give(turn, item.session_id, item.item)
                    turn.stored += [item.stored] if item.stored else []
                case Adopt():
                    await self._begin(turn, item.session)
                    turn.stored += [item.stored] if item.stored else []
                case Rest():
                    self._rest(turn, item.since_us)
                case Rewrite():
                    turn.change.awake |= {name: m.session for name, m in self.machines.items()}
                    turn.change.cursor = turn.change.cursor or self._cursor
                    turn.due = True
                case Flush():
                    turn.due = True
                case _:
                    await self._events(turn, item)
        await self._finish(turn)

    async def _finish(self, turn: Turn) -> None:
        """Begins what concerns nobody outside at once; stores, then does the rest. Without a rest, storing waits a little:
        the heir of a node that dies meanwhile decides the same again."""
        change = turn.change
        for session, effect in turn.effects:
            if isinstance(effect, Timer):
                self.timers.add(session.id, effect)
            elif isinstance(effect, HARMLESS):
                self.perform(self, session, effect)
        late = [(s, effect) for s, effect in turn.effects if not isinstance(effect, HARMLESS)]
        if not (late or turn.stored or turn.due or change.asleep or change.woken):
            self._save_later()
            return
        if change:
            await self._patiently(lambda: self.store.write(self.slot, self.epoch, change))
            self._cursor = change.cursor or self._cursor
        self._saved()
        for stored in turn.stored:
            stored()
        for session, effect in late:
            self.perform(self, session, effect)
        self.asleep.wrote(change)
        for session in change.awake.values():
            if session.phase is Phase.OVER:
                self._forget(session.call)

    def _save_later(self) -> None:
        if self._saving is None and self._unsaved:
            wait = SAVE_S if self._unsaved.awake else CURSOR_S
            self._saving = asyncio.get_running_loop().call_later(wait, self._inputs.put_nowait, Flush())

    def _saved(self) -> None:
        self._unsaved = Change()
        if self._saving is not None:
            self._saving.cancel()
        self._saving = None

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks Redis, however long it is away: nothing is decided or done before. StaleEpoch ends the turn."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await ask()
            except StoreUnavailable as error:
                self.log.warning("redis does not answer", slot=self.slot, why=str(error), pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _events(self, turn: Turn, batch: SlotEvents) -> None:
        turn.change.cursor = batch.cursor
        threads = {envelope.call_thread_id for envelope in batch.events}
        for session_id in await self._patiently(lambda: self.asleep.hearing(threads)):
            await self._find(turn, session_id)
        for envelope in batch.events:
            for session_id in list(self._threads.get(envelope.call_thread_id, ())):
                news = news_of(envelope, self.machines[session_id].session.call)
                if news.event is not None or news.gone or news.outcome is not None:
                    await self._give(turn, session_id, news)
            if is_trigger(envelope):
                await self._trigger(turn, envelope, envelope.event.this_dn, call_of)
            elif digital.is_trigger(envelope):
                await self._trigger(turn, envelope, envelope.interaction.queue, digital.call_of)

    async def _trigger(
        self, turn: Turn, envelope: EventEnvelope, this_dn: str, made: Callable[[EventEnvelope, Dn], Call]
    ) -> None:
        route_point = self.config.route_point(envelope.tenant, this_dn)
        if route_point is None or route_point.route_point is None:
            self.log.warning("route request of an unknown DN", dn=this_dn, tenant=envelope.tenant)
            return
        if not route_point.route_point.application_url and not route_point.route_point.default_dns:
            return  # a client's to route, and nobody else's
        try:
            call = replace(made(envelope, route_point), key=new_key())
        except ValueError as error:
            self.log.error("route request refused", dn=this_dn, why=str(error))
            return
        data = from_kv(envelope.interaction.user_data) if call.interaction_id else ()
        await self._begin(turn, Session(call, last_seq=envelope.seq, user_data=data))

    async def _begin(self, turn: Turn, session: Session) -> None:
        if await self._find(turn, session.id) is not None:
            return
        call = session.call
        ladder("session", f"session for {call.route_point}", call_thread_id=call.call_thread_id)
        self.started()
        self._adopt(session)
        await self._give(turn, session.id, Begin())

    async def _give(self, turn: Turn, session_id: str, item: Input) -> None:
        """Lets the session decide, and those that it tells something."""
        waiting: deque[tuple[str, Input]] = deque([(session_id, item)])
        while waiting:
            name, what = waiting.popleft()
            machine = await self._find(turn, name)
            if machine is None:
                continue
            session = machine.session
            if isinstance(what, CallNews) and what.seq <= session.last_seq:
                continue
            if isinstance(what, Stepped):
                event = session.inbox[0] if session.snapshot and session.inbox else None
                self.tracer.stepped(session, event, what.result, now_us())
            if isinstance(what, Due) and what.effect_id not in session.pending:
                continue
            turn.change.awake[name] = session
            self._touched[name] = now_us()
            for effect in self._decided(machine, what):
                if not isinstance(effect, Inside):
                    turn.effects.append((session, effect))
                    continue
                if isinstance(effect, Spawn):
                    self.started()
                    self._adopt(child_of(session, effect))
                waiting += await self._inside(turn, session, effect)

    def _decided(self, machine: Machine, what: Input) -> list[Effect]:
        """What the machine decides. One that breaks ends, and its call goes to the default destination: it must not take
        the turn of its slot with it, events of others among it."""
        try:
            return machine.handle(what, now_us())
        except Exception as error:
            self.log.error("session broke", session=machine.session.id, exc_info=error)
            return finish(machine.session, "failed", f"{type(error).__name__}: {error}")

    async def _inside(self, turn: Turn, session: Session, effect: Inside) -> list[tuple[str, Input]]:
        target = await self._find(turn, effect.session_id)
        # Slots are shared by tenants: a session of another is as good as none.
        there = target is not None and target.session.call.tenant == session.call.tenant
        return inputs_of(session, effect, there=there)

    # -- who is here -------------------------------------------------------------------------------------------

    async def _find(self, turn: Turn, session_id: str) -> Machine | None:
        """A session's machine; one that sleeps is woken."""
        machine = self.machines.get(session_id)
        if machine is not None:
            return machine
        session = turn.change.asleep.pop(session_id, None)
        if session is not None:  # on its way to sleep, and back
            turn.change.awake[session_id] = session
            return self._adopt(session)
        session = await self._patiently(lambda: self.asleep.read(session_id))
        if session is None:
            return None
        machine = self._adopt(session)
        turn.change.woken[session_id] = turn.change.awake[session_id] = session
        turn.effects += [(session, effect) for effect in machine.handle(Begin(performed=True), now_us())]
        return machine

    def _rest(self, turn: Turn, since_us: int) -> None:
        for name, machine in list(self.machines.items()):
            session = machine.session
            rested = self._touched.get(name, 0) <= since_us and name not in turn.change.woken
            if not rested or not session.resting or self.busy(self.slot, name):
                continue
            turn.change.awake.pop(name, None)  # not stored yet: it is with its sleep
            turn.change.asleep[name] = session
            self._forget(session.call)

    def _adopt(self, session: Session) -> Machine:
        call = session.call
        machine = self.machines[call.session_id] = Machine(session)
        self._touched[call.session_id] = now_us()
        if session.parent is None:
            # A child hears of its call by what its parent forwards.
            self._threads.setdefault(call.call_thread_id, []).append(call.session_id)
        return machine

    def _forget(self, call: Call) -> None:
        self._touched.pop(call.session_id, None)
        machine = self.machines.pop(call.session_id, None)
        if machine is None or machine.session.parent is not None:
            return
        others = self._threads[call.call_thread_id]
        others.remove(call.session_id)
        if not others:
            del self._threads[call.call_thread_id]
