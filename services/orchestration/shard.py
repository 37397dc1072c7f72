"""One slot of call threads: its sessions, one input after the other, one fenced write for all that came together.

Order of work: take every input that is there, let the machines decide, write what changed with the cursor, then perform
the effects. So an effect is never performed for a state that was not stored, and each event counts exactly once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.config_view import ConfigView
from mesh.rq import SlotEvents
from mesh.store import StoreUnavailable
from mesh.telemetry import ladder
from services.orchestration.effects import Effect
from services.orchestration.machine import Begin, Call, CallNews, Input, Machine, Phase, Session
from services.orchestration.store import Store
from services.orchestration.voice import call_of, is_trigger, news_of

FIRST_PAUSE_S = 0.05
"""Pause after a write that Redis did not take, seconds; doubled up to the longest."""
LONGEST_PAUSE_S = 1.0
MAX_WAITING = 20_000
"""Inputs waiting for one slot before its event reader is made to wait."""


def now_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class ForSession:
    """An input for one session."""

    session_id: str
    item: Input
    stored: Callable[[], None] | None = None
    """Called when what the input changed is stored."""


@dataclass
class Shard:
    """The sessions of one slot."""

    slot: int
    epoch: int
    store: Store
    config: ConfigView
    perform: Callable[[Shard, Session, Effect], None]
    log: FilteringBoundLogger
    started: Callable[[], None]
    """Called for each session that begins."""
    machines: dict[str, Machine] = field(default_factory=dict)
    _threads: dict[str, list[str]] = field(default_factory=dict)
    _inputs: asyncio.Queue[SlotEvents | ForSession] = field(default_factory=asyncio.Queue)
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    async def take_over(self) -> str:
        """Reads what the slot has; gives the cursor to read events from. The sessions go on from their records."""
        sessions, cursor = await self.store.take_over(self.slot, self.epoch)
        for session in sessions:
            self._adopt(session)
            self._inputs.put_nowait(ForSession(session.call.session_id, Begin()))
        return cursor

    @property
    def depth(self) -> int:
        """Inputs waiting."""
        return self._inputs.qsize()

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

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            first = await self._inputs.get()
            items = [first]
            while not self._inputs.empty() and len(items) < 256:
                items.append(self._inputs.get_nowait())
            self._room.set()
            await self._turn(items)

    async def _turn(self, items: list[SlotEvents | ForSession]) -> None:
        changed: dict[str, Session] = {}
        effects: list[tuple[Session, Effect]] = []
        cursor = ""
        for item in items:
            if isinstance(item, ForSession):
                self._give(item.session_id, item.item, changed, effects)
                continue
            cursor = item.cursor
            for envelope in item.events:
                self._event(envelope, changed, effects)
        if changed or cursor:
            await self._write(list(changed.values()), cursor)
        for item in items:
            if isinstance(item, ForSession) and item.stored is not None:
                item.stored()
        for session, effect in effects:
            self.perform(self, session, effect)
        for session in changed.values():
            if session.phase is Phase.OVER:
                self._forget(session.call)

    async def _write(self, changed: list[Session], cursor: str) -> None:
        """Stores what was decided, however long Redis is away: nothing is done before. StaleEpoch ends the shard."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.store.write(self.slot, self.epoch, changed, cursor)
                return
            except StoreUnavailable as error:
                self.log.warning("state not stored yet", slot=self.slot, why=str(error), pause_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _event(
        self, envelope: EventEnvelope, changed: dict[str, Session], effects: list[tuple[Session, Effect]]
    ) -> None:
        for session_id in self._threads.get(envelope.call_thread_id, ()):
            call = self.machines[session_id].session.call
            news = news_of(envelope, call)
            if news.event is not None or news.gone:
                self._give(session_id, news, changed, effects)
        if is_trigger(envelope):
            self._trigger(envelope, changed, effects)

    def _trigger(
        self, envelope: EventEnvelope, changed: dict[str, Session], effects: list[tuple[Session, Effect]]
    ) -> None:
        route_point = self.config.route_point(envelope.tenant, envelope.event.this_dn)
        if route_point is None or route_point.route_point is None:
            self.log.warning(
                "route request of an unknown DN", dn=envelope.event.this_dn, tenant=envelope.tenant
            )
            return
        if not route_point.route_point.application_url and not route_point.route_point.default_dns:
            return  # a client's to route, and nobody else's
        try:
            call = call_of(envelope, route_point)
        except ValueError as error:
            self.log.error("route request refused", dn=envelope.event.this_dn, why=str(error))
            return
        if call.session_id in self.machines:
            return
        ladder("session", f"session for {call.route_point}", call_thread_id=call.call_thread_id)
        self.started()
        self._adopt(Session(call, last_seq=envelope.seq))
        self._give(call.session_id, Begin(), changed, effects)

    def _give(
        self, session_id: str, item: Input, changed: dict[str, Session], effects: list[tuple[Session, Effect]]
    ) -> None:
        machine = self.machines.get(session_id)
        if machine is None:
            return
        session = machine.session
        if isinstance(item, CallNews) and item.seq <= session.last_seq:
            return
        effects += [(session, effect) for effect in machine.handle(item, now_us())]
        changed[session_id] = session

    def _adopt(self, session: Session) -> None:
        call = session.call
        self.machines[call.session_id] = Machine(session)
        self._threads.setdefault(call.call_thread_id, []).append(call.session_id)

    def _forget(self, call: Call) -> None:
        if self.machines.pop(call.session_id, None) is None:
            return
        others = self._threads[call.call_thread_id]
        others.remove(call.session_id)
        if not others:
            del self._threads[call.call_thread_id]
