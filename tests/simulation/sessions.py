"""An Orchestration node: the real session machine, voice events and records; an application that queues its call and asks again.

Order of a turn as in `services/orchestration/shard.py`: the machines decide, one fenced write, then the effects.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voice.error.v1.reason_pb2 import Reason
from voice.tenant.v1.routing_pb2 import RouteAnswer, RouteRequest, Target, TargetType
from voice.tlib.v1.envelope_pb2 import EventEnvelope

from mesh.allocation import Slot
from mesh.reservation_token import name
from services.orchestration.effects import Effect, End, Load, Resubmit, Route, Run, Say, Submit, Timer
from services.orchestration.inputs import Begin, CallNews, Due, Input, Loaded, Outcome, Selected, Stepped
from services.orchestration.machine import Machine
from services.orchestration.perform import ROUTE_S
from services.orchestration.record import from_kv, from_record, to_record
from services.orchestration.scxml import Action, StepResult
from services.orchestration.scxml.effects import Taken
from services.orchestration.session import Call, Phase, Session
from services.orchestration.voice import call_of, is_trigger, news_of
from services.sip_cluster import inputs
from services.sip_cluster.calls import Refusal, Told
from tests.simulation.events import THREAD, Entry, QueueReader, Reader
from tests.simulation.slots import Slots
from tests.simulation.store import Answer, Line, SlotData
from tests.simulation.world import SECOND, Process

if TYPE_CHECKING:
    from tests.simulation.platform import Platform

ROUTE_TIMEOUT = int(ROUTE_S * SECOND)
QUEUE_TIMEOUT_S = 20
"""How long the application lets a request wait before it asks again, seconds."""
_HEARD = (Taken("queued", "", ("queued",), 1, 1),)


def application(snapshot: bytes, event: str) -> tuple[StepResult, bytes]:
    """The document of every route point: queue the call; when that fails ask again; end when it was routed or is gone.

    A stand-in for the interpreter (which has its own tests): what it answers depends on its snapshot and the event alone.
    """
    if not snapshot:
        return StepResult(configuration=["wait"]), b"wait"
    if event == "interaction.added" or event == "error.queue.submit":
        number = int(snapshot.partition(b":")[2] or b"0") + 1
        wish = Action(
            "queue", "submit", {"targets": ["?:Voice > 0"], "timeout": QUEUE_TIMEOUT_S}, f"q{number}"
        )
        return StepResult([wish], ["queued"], trace=list(_HEARD)), b"queued:%d" % number
    if event in ("queue.submit.done", "interaction.deleted"):
        return StepResult([], [], True, trace=list(_HEARD)), snapshot
    return StepResult(configuration=["queued"]), snapshot


@dataclass(frozen=True, slots=True)
class ForSession:
    """An input for one session."""

    session_id: str
    item: Input
    stored: Callable[[], None] | None = None
    """Called when what the input changed is stored."""


class Held:
    """A slot of this node: its sessions, and what waits to be taken."""

    def __init__(self, slot: int, epoch: int) -> None:
        self.slot = slot
        self.epoch = epoch
        self.machines: dict[str, Machine] = {}
        self.inputs: list[tuple[Sequence[Entry], int] | ForSession] = []
        self.busy = False
        self.reader: Reader | None = None
        self.answers: QueueReader | None = None


class OrchestrationNode:
    """One node."""

    def __init__(self, platform: Platform, process: Process) -> None:
        self.platform = platform
        self.process = process
        self.world = platform.world
        self.line = Line(process, platform.store)
        self.line.keeps = platform.schedule.moves(process.service)
        self.held: dict[Slot, Held] = {}
        self.slots = Slots(
            process, platform.etcd, platform.keys("orchestration"), self._acquire, self._release
        )

    # -- slots ------------------------------------------------------------------------------------------------

    def _acquire(self, slot: Slot, epoch: int, done: Callable[[bool], None]) -> None:
        def taken(data: SlotData | None) -> None:
            if data is None:
                done(False)
                return
            self.platform.watch.acts("orchestration", slot, epoch)
            self._take_over(int(slot), epoch, data)
            done(True)

        self.line.take_over(slot, epoch, taken)

    def _take_over(self, slot: int, epoch: int, data: SlotData) -> None:
        held = self.held[slot] = Held(slot, epoch)
        for raw in data.hashes.get("sessions", {}).values():
            stored = to_record(pickle.loads(raw))
            session = from_record(type(stored).FromString(stored.SerializeToString()))
            held.machines[session.call.session_id] = Machine(session)
            held.inputs.append(ForSession(session.call.session_id, Begin()))
        cursor = data.offsets.get("thread", 0)
        held.reader = self.platform.streams.journal(THREAD, slot).follow(
            self.process, cursor, lambda entries, at: self._give(held, (entries, at))
        )
        queue = f"route_answers:{slot}"
        held.answers = self.platform.queues.read(
            self.process, queue, lambda ident, payload: self._answered(held, queue, ident, payload)
        )
        self._wake(held)

    def _release(self, slot: Slot, epoch: int, lost: bool, done: Callable[[], None]) -> None:
        self._give_up(slot)
        done()

    def _give_up(self, slot: Slot) -> None:
        held = self.held.pop(slot, None)
        if held is not None:
            for reader in (held.reader, held.answers):
                if reader is not None:
                    reader.close()

    # -- inputs -----------------------------------------------------------------------------------------------

    def _give(self, held: Held, item: tuple[Sequence[Entry], int] | ForSession) -> None:
        held.inputs.append(item)
        self._wake(held)

    def _post(self, held: Held, session_id: str, item: Input) -> None:
        if self.held.get(held.slot) is held:
            self._give(held, ForSession(session_id, item))

    def _answered(self, held: Held, queue: str, ident: str, answer: RouteAnswer) -> None:
        found = not answer.reason
        item = Selected(
            submit_id=answer.request_id,
            reason="" if found else Reason.Name(answer.reason),
            message=answer.message,
            destination=answer.dn,
            agent_id=answer.agent_id,
            token=answer.reservation_token,
            user_data=from_kv(answer.user_data),
        )

        def stored() -> None:
            self.platform.queues.acknowledge(self.process, queue, (ident,))

        self._give(held, ForSession(answer.session_id, item, stored))

    def _wake(self, held: Held) -> None:
        if not held.busy and held.inputs:
            held.busy = True
            self.process.after(0, self._turn, held)

    def _turn(self, held: Held) -> None:
        if self.held.get(held.slot) is not held:
            return
        items, held.inputs = held.inputs, []
        changed: dict[str, Session] = {}
        effects: list[tuple[Session, Effect]] = []
        cursor = -1
        for item in items:
            if isinstance(item, ForSession):
                self._input(held, item.session_id, item.item, changed, effects)
            else:
                entries, cursor = item
                for entry in entries:
                    self._event(held, entry.envelope, changed, effects)
        if "outbox" in self.world.mutations:
            for session, effect in effects:
                self._perform(held, session.call, session, effect)
        self._write(held, items, changed, effects, cursor)

    def _event(
        self,
        held: Held,
        envelope: EventEnvelope,
        changed: dict[str, Session],
        effects: list[tuple[Session, Effect]],
    ) -> None:
        for session_id, machine in list(held.machines.items()):
            call = machine.session.call
            if call.call_thread_id == envelope.call_thread_id:
                news = news_of(envelope, call)
                if news.event is not None or news.gone or news.outcome is not None:
                    self._input(held, session_id, news, changed, effects)
        if is_trigger(envelope):
            call = call_of(
                envelope, self.platform.config.route_point(envelope.tenant, envelope.event.this_dn)
            )
            if call.session_id not in held.machines:
                held.machines[call.session_id] = Machine(Session(call, last_seq=envelope.seq))
                self._input(held, call.session_id, Begin(), changed, effects)

    def _input(
        self,
        held: Held,
        session_id: str,
        item: Input,
        changed: dict[str, Session],
        effects: list[tuple[Session, Effect]],
    ) -> None:
        machine = held.machines.get(session_id)
        if machine is None:
            return
        session = machine.session
        if isinstance(item, CallNews) and item.seq <= session.last_seq:
            return
        effects += [(session, effect) for effect in machine.handle(item, self.world.now)]
        changed[session_id] = session

    def _write(
        self,
        held: Held,
        items: Sequence[Any],
        changed: dict[str, Session],
        effects: list[tuple[Session, Effect]],
        cursor: int,
    ) -> None:
        if self.held.get(held.slot) is not held:
            return
        puts = tuple(
            ("sessions", key, None if session.phase is Phase.OVER else self.line.pack(session))
            for key, session in changed.items()
        )
        offsets = (("thread", cursor),) if cursor >= 0 and "offset" not in self.world.mutations else ()

        def written(answer: Answer) -> None:
            if answer is Answer.STALE:
                if self.held.get(held.slot) is held:
                    self._give_up(held.slot)
            elif answer is Answer.AWAY:
                self.process.after(SECOND // 20, self._write, held, items, changed, effects, cursor)
            else:
                self._written(held, items, changed, effects)

        if puts or offsets:
            self.line.write(held.slot, held.epoch, puts, written, offsets)
        else:
            self._written(held, items, changed, effects)

    def _written(
        self,
        held: Held,
        items: Sequence[Any],
        changed: dict[str, Session],
        effects: list[tuple[Session, Effect]],
    ) -> None:
        if self.held.get(held.slot) is not held:
            return
        for item in items:
            if isinstance(item, ForSession) and item.stored is not None:
                item.stored()
        if "outbox" not in self.world.mutations:
            for session, effect in effects:
                self._perform(held, session.call, session, effect)
        for session in changed.values():
            if session.phase is Phase.OVER:
                held.machines.pop(session.call.session_id, None)
        held.busy = False
        self._wake(held)

    # -- effects ----------------------------------------------------------------------------------------------

    def _perform(self, held: Held, call: Call, session: Session, effect: Effect) -> None:
        match effect:
            case Say() | End():
                pass
            case Load(id=ident, urls=urls):
                self._later(held, call, Loaded(ident, urls[0], "hash", "1"))
            case Run():
                self.process.after(self.world.delay(), self._run, held, session, effect)
            case Timer(id=ident, due_us=due):
                self.process.after(
                    max(0, due - self.world.now), self._post, held, call.session_id, Due(ident)
                )
            case Submit():
                self._submit(held, call, effect)
            case Resubmit():
                self._resubmit(held, call, effect)
            case Route():
                self._route(held, call, effect)
            case _:
                raise AssertionError(f"the application asks for no {type(effect).__name__}")

    def _later(self, held: Held, call: Call, item: Input) -> None:
        self.process.after(self.world.delay(), self._post, held, call.session_id, item)

    def _run(self, held: Held, session: Session, run: Run) -> None:
        if self.held.get(held.slot) is not held:
            return
        event = run.event.name if run.event is not None else ""
        result, snapshot = application(session.snapshot, event)
        self._post(held, session.call.session_id, Stepped(result, snapshot))

    def _submit(self, held: Held, call: Call, submit: Submit) -> None:
        message = RouteRequest(
            request_id=submit.id,
            tenant=call.tenant,
            conn_id=call.conn_id,
            call_thread_id=call.call_thread_id,
            session_id=call.session_id,
            targets=[Target(type=TargetType.TARGET_TYPE_SKILL, expression=t.name) for t in submit.targets],
            priority=submit.priority,
            age_us=submit.age_us,
            timeout_ms=submit.timeout_ms,
            operation=RouteRequest.OPERATION_SUBMIT,
            answer_queue=f"route_answers:{held.slot}",
            excluded_agents=submit.excluded,
        )
        self._enqueue(held, call, submit.id, message)

    def _resubmit(self, held: Held, call: Call, change: Resubmit) -> None:
        cancel = change.priority is None
        message = RouteRequest(
            request_id=change.submit_id,
            tenant=call.tenant,
            session_id=call.session_id,
            call_thread_id=call.call_thread_id,
            priority=change.priority or 0,
            operation=RouteRequest.OPERATION_CANCEL if cancel else RouteRequest.OPERATION_UPDATE,
        )
        self._enqueue(held, call, change.id, message)

    def _enqueue(self, held: Held, call: Call, ident: str, message: RouteRequest) -> None:
        self.platform.queues.enqueue(
            self.process,
            f"route_requests:{call.tenant}",
            ident,
            (self.world.now, message),
            lambda: self._post(held, call.session_id, Outcome(ident)),
        )

    def _route(self, held: Held, call: Call, route: Route) -> None:
        request = inputs.Request(route.id, "orchestration", 0, b"", call.route_point, call.conn_id)
        token = name(route.token) if "token" in self.world.mutations else route.token
        asked = inputs.RouteCall(request, route.destination, agent_id=route.agent_id, reservation_token=token)

        def told(reason: str, outcome: Told | Refusal | None) -> None:
            if isinstance(outcome, Refusal):
                reason = str(outcome.why)
            self._post(held, call.session_id, Outcome(route.id, reason))

        self.platform.execute(self.process, asked, ROUTE_TIMEOUT, told)
