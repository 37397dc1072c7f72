"""Sessions spread over worker processes: who runs a step, and what a step that does not end may hold up.

QuickJS's own limits are no sandbox: a single native call can run for seconds past all of them. So contexts live in worker
processes, one step at a time each. A step that has used SUSPECT_S of CPU goes on alone: its lane gets another process, and
the sessions that waited go on there from their snapshots. From then on its document runs in a lane apart. A document that is new
here takes its first steps in a lane for such documents: where a mistake is likeliest, it holds up nobody who works.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from structlog.typing import FilteringBoundLogger

from mesh.telemetry.metrics import Metrics
from services.orchestration.process import UNKNOWN, Process, StepFailed, WorkerLost
from services.orchestration.scxml import Compiled, Event, Json, Query, StepResult
from services.orchestration.scxml.effects import event_to_json, result_from_json

__all__ = ["State", "StepFailed", "Workers"]

SUSPECT_S = 0.03
"""CPU time of a step after which its lane goes on without it, seconds. A step of 50 states takes 0.1 ms, a start 2 ms."""
APART_S = 60.0
"""How long the document of such a step runs apart, seconds."""
TRIAL_STEPS = 8
"""Steps that a document has to take without being set apart before it runs among the others."""
KNOWN_DOCUMENTS = 10_000
"""Documents whose steps are counted; those used longest ago give way."""
SPARES = 2
"""Processes that run and wait for lanes that need another."""
TRIES = 3
"""How often a step is tried whose process is lost without its fault."""
IDLE_S = 10.0
"""A context that nobody has used for so long is dropped; the next step restores it (2 ms), seconds."""
Answer = Callable[[Query], Awaitable[tuple[Json, str]]]
"""Answers a query of a step: value, or an error text."""


@dataclass(frozen=True, slots=True)
class State:
    """A session between two steps."""

    session: str
    compiled: Compiled
    snapshot: bytes
    processors: Json


@dataclass
class _Lane:
    """One step after the other, in the process it has at the moment."""

    process: Process
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    patient: bool = False
    """It waits for its steps, however long they take."""
    waiting: int = 0
    """Steps that wait for their turn."""

    async def take(self) -> None:
        """Waits for a turn."""
        self.waiting += 1
        try:
            await self.lock.acquire()
        finally:
            self.waiting -= 1


class _Turn:
    """A step's turn in its lane."""

    def __init__(self, lane: _Lane) -> None:
        self.lane, self.process = lane, lane.process
        self.held = self.running = True

    def leave(self) -> None:
        """The lane goes on; the process stays with the step."""
        self.held = False
        self.lane.lock.release()

    @contextlib.asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[None]:
        """While the host looks for an answer, others take their turns. Raises WorkerLost when the process is another
        one afterwards."""
        if not self.held:
            yield
            return
        self.running = False
        self.leave()
        try:
            yield
        finally:
            await self.lane.take()
            self.held = self.running = True
        if self.lane.process is not self.process:
            raise WorkerLost("its lane has another process by now")


_Work = Callable[[_Turn], Awaitable[tuple[StepResult, bytes]]]


class Workers:
    """Runs steps."""

    def __init__(self, count: int, metrics: Metrics, log: FilteringBoundLogger) -> None:
        self._log = log
        self._kills = metrics.counter(
            "worker_kills_total", "Worker processes killed by the watchdog or found dead"
        )
        self._set_apart = metrics.counter(
            "worker_set_apart_total", "Steps that went on apart from their lane"
        )
        self._seconds = metrics.histogram("step_seconds", "Time of a macrostep, waiting and queries included")
        self._lanes = [_Lane(self._process()) for _ in range(count)]
        self._trial = _Lane(self._process())
        self._apart = _Lane(self._process(), patient=True)
        self._steps: OrderedDict[str, int] = OrderedDict()
        """Steps that a document has taken, TRIAL_STEPS at most."""
        self._suspects: OrderedDict[str, float] = OrderedDict()
        self._spares: list[Process] = [self._process() for _ in range(SPARES)]
        self._work: set[asyncio.Task[Any]] = set()
        metrics.gauge("contexts", "Sessions whose JavaScript context is in a worker process").set_function(
            lambda: float(sum(len(process.sessions) for process in self.processes()))
        )
        metrics.queue("steps", lambda: sum(lane.waiting for lane in (*self._lanes, self._trial, self._apart)))

    def _process(self) -> Process:
        return Process(self._log, self._kills.inc)

    def processes(self) -> list[Process]:
        """All there are at the moment."""
        lanes = (*self._lanes, self._trial, self._apart)
        return [lane.process for lane in lanes] + self._spares

    async def start(self) -> None:
        """Starts every process that steps do not wait for."""
        lanes = (*self._lanes, self._trial)
        await asyncio.gather(*(p.warm() for p in [lane.process for lane in lanes] + self._spares))

    async def stop(self) -> None:
        """Ends every process."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        for process in self.processes():
            await process.kill()

    # -- what callers do ---------------------------------------------------------------------------------------

    async def begin(
        self, session: str, compiled: Compiled, x: Json, params: Json, processors: Json, answer: Answer
    ) -> tuple[StepResult, bytes]:
        """The first step of a session. Raises StepFailed."""
        now = _now_ms()
        fields: dict[str, Json] = {
            "session": session, "key": compiled.source_hash, "now": now, "seed": zlib.crc32(session.encode()) & 0x7FFFFFFF,
            "x": x, "params": params, "io_processors": processors, "keep": True,
        }  # fmt: skip

        async def work(turn: _Turn) -> tuple[StepResult, bytes]:
            process = turn.process
            await process.drop(session)
            await process.load(compiled)
            process.sessions[session] = UNKNOWN
            raw = await process.call("start", **fields)
            return await self._finish(turn, session, raw, now, answer)

        return await self._carry_out(session, compiled, work)

    async def step(self, state: State, event: Event | None, answer: Answer) -> tuple[StepResult, bytes]:
        """One event; None: the session leaves its states and ends. A session that the process does not have in this
        state is restored. Raises StepFailed."""
        session = state.session

        async def work(turn: _Turn) -> tuple[StepResult, bytes]:
            process = turn.process
            now = _now_ms()
            fields: dict[str, Json] = {"session": session, "now": now, "keep": True}
            if process.sessions.get(session) != state.snapshot:
                await process.drop(session)
                await process.load(state.compiled)
                fields["restore"] = {
                    "key": state.compiled.source_hash,
                    "snapshot": state.snapshot.decode(),
                    "io_processors": state.processors,
                }
            process.sessions[session] = UNKNOWN
            if event is None:
                raw = await process.call("terminate", **fields)
            else:
                raw = await process.call("step", event=event_to_json(event), **fields)
            return await self._finish(turn, session, raw, now, answer)

        return await self._carry_out(session, state.compiled, work)

    def forget(self, session: str) -> None:
        """The session is over; its context goes with the next idle ones."""
        for process in self.processes():
            process.forget(session)

    async def rest(self) -> None:
        """Drops contexts that nobody has used for a while, without holding up a step."""
        for spare in [process for process in self._spares if not process.ready]:
            with contextlib.suppress(StepFailed):  # tried again with the next rest
                await spare.warm()
        before = time.monotonic() - IDLE_S
        for lane in (*self._lanes, self._trial, self._apart):
            while not lane.lock.locked():
                async with lane.lock:
                    if not await lane.process.drop_idle(before):
                        break

    # -- lanes -------------------------------------------------------------------------------------------------

    async def _carry_out(self, session: str, compiled: Compiled, work: _Work) -> tuple[StepResult, bytes]:
        """Runs a step in the session's lane. It is never left half done: whoever asked may be cancelled."""
        task = asyncio.create_task(self._in_lane(session, compiled, work))
        self._work.add(task)
        task.add_done_callback(self._done)
        with self._seconds.time():
            return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, StepFailed):
            self._log.error("a step broke", exc_info=error)

    async def _in_lane(self, session: str, compiled: Compiled, work: _Work) -> tuple[StepResult, bytes]:
        """A step has no effect before its result is stored: when somebody killed its process it is done again."""
        for _ in range(TRIES - 1):
            try:
                return await self._once(await self._taken(session, compiled), compiled, work)
            except WorkerLost as error:
                self._log.warning("worker lost in a step, which is done again", why=str(error))
        return await self._once(await self._taken(session, compiled), compiled, work)

    async def _taken(self, session: str, compiled: Compiled) -> _Lane:
        """The session's lane, when it is its turn. While it waited, its document may have been set apart."""
        lane = self._lane_of(session, compiled)
        await lane.take()
        while (present := self._lane_of(session, compiled)) is not lane:
            lane.lock.release()
            lane = present
            await lane.take()
        return lane

    async def _once(self, lane: _Lane, compiled: Compiled, work: _Work) -> tuple[StepResult, bytes]:
        turn = _Turn(lane)
        task = asyncio.ensure_future(self._warmed(turn, work))
        try:
            while not (await asyncio.wait({task}, timeout=SUSPECT_S))[0]:
                suspect = turn.held and turn.running and not lane.patient
                if suspect and turn.process.cpu_of_call() >= SUSPECT_S and self._detach(lane, compiled):
                    turn.leave()
            result = task.result()
            if turn.held:
                self._passed(compiled)
            return result
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            if turn.held:
                lane.lock.release()
            elif lane.process is not turn.process:
                await self._back(turn.process)

    @staticmethod
    async def _warmed(turn: _Turn, work: _Work) -> tuple[StepResult, bytes]:
        await turn.process.warm()
        if turn.lane.patient:
            turn.process.demote()
        return await work(turn)

    def _detach(self, lane: _Lane, compiled: Compiled) -> bool:
        """The lane goes on with another process, and the document runs apart for some time. False while no process is
        ready: waiting for a start would take longer than most steps."""
        self._steps.pop(compiled.source_hash, None)
        self._suspects[compiled.source_hash] = time.monotonic() + APART_S
        self._suspects.move_to_end(compiled.source_hash)
        while len(self._suspects) > 1000:
            self._suspects.popitem(last=False)
        spare = next((process for process in self._spares if process.ready), None)
        if spare is None:
            return False
        self._set_apart.inc()
        self._log.warning(
            "a step runs long and goes on apart", document=compiled.source_hash[:16], url=compiled.url
        )
        self._spares.remove(spare)
        lane.process.demote()
        lane.process = spare
        self._prepare(self._process())
        return True

    def _prepare(self, spare: Process) -> None:
        self._spares.append(spare)
        task = asyncio.create_task(spare.warm())
        self._work.add(task)
        task.add_done_callback(self._done)

    async def _back(self, process: Process) -> None:
        """A process whose long step has ended: what was taken from its priority cannot be given back."""
        await process.kill(planned=True)

    def _passed(self, compiled: Compiled) -> None:
        """A step has ended in its lane."""
        key = compiled.source_hash
        self._steps[key] = min(self._steps.get(key, 0) + 1, TRIAL_STEPS)
        self._steps.move_to_end(key)
        if len(self._steps) > KNOWN_DOCUMENTS:
            self._steps.popitem(last=False)

    def _lane_of(self, session: str, compiled: Compiled) -> _Lane:
        if self._suspects.get(compiled.source_hash, 0.0) > time.monotonic():
            return self._apart
        if self._steps.get(compiled.source_hash, 0) < TRIAL_STEPS:
            return self._trial
        return self._lanes[zlib.crc32(session.encode()) % len(self._lanes)]

    async def _finish(
        self, turn: _Turn, session: str, raw: dict[str, Any], now: float, answer: Answer
    ) -> tuple[StepResult, bytes]:
        process, result = turn.process, result_from_json(raw)
        while result.query is not None:
            async with turn.elsewhere():
                value, problem = await answer(result.query)
            given: dict[str, Json] = {"error": problem} if problem else {"value": value}
            raw = await process.call(
                "answer", session=session, query=result.query.id, now=now, keep=True, **given
            )
            result = result_from_json(raw)
        snapshot: bytes = raw.get("snapshot", "").encode()
        if result.finished:
            process.ended(session)
        else:
            process.note(session, snapshot)
        return result, snapshot


def _now_ms() -> float:
    return time.time_ns() // 1_000_000
